//! Everybody who wants something of an edge at once: kept connections that ask again as soon as they are answered, people
//! who go away in the middle, and requests that break the rules of HTTP.
//!
//! A closed loop, so that the proxy is as busy as the machine allows and the number of connections stays the same: what is
//! looked for is what it keeps, and not how long anybody waits. What is asked comes from a seed; there are no numbers and
//! no records, or the bench itself would be what grows.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::load::mix::USER_HEADER;
use crate::strangers::Tally;
use crate::wire;

/// Nobody waits longer for an answer. A healthy one takes milliseconds, one of a sick endpoint a second.
const DEADLINE: Duration = Duration::from_secs(20);

/// Pause after a failure: a proxy that is down must not become a busy loop.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

/// Between two who go away, and between two who break the rules: fifty and twenty per second.
const LEAVING_PACE: Duration = Duration::from_millis(20);
const BREAKING_PACE: Duration = Duration::from_millis(50);

/// Users, all equally active.
const USERS: u32 = 10_000;

/// What is asked, with weights: of everything that an edge does most of what is usual.
const ASKED: [(Ask, f64); 10] = [
    (Ask::Get("/a"), 45.0),
    (Ask::Get("/b/1?x=1"), 20.0),
    (Ask::Get("/c"), 8.0),
    (Ask::Get("/named"), 6.0),
    (Ask::Get("/robots.txt"), 3.0),
    (Ask::Get("/old"), 2.0),
    // A quarter of a mebibyte, which no buffer holds as a whole.
    (Ask::Get("/a?bytes=262144"), 0.5),
    (Ask::Post("/a", 20), 10.0),
    (Ask::Post("/b", 2_000), 5.0),
    (Ask::Post("/c", 60_000), 0.5),
];

/// What breaks the rules, and is refused: RFC 9112 sections 3.2, 5.2, 6.1 and 6.3.
const BROKEN: [&str; 6] = [
    "GET /a HTTP/1.1\r\n\r\n",
    "GET /a HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "GET /a HTTP/1.1\r\nhost: a\r\nx-folded: 1\r\n 2\r\n\r\n",
    "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc",
    "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
];

/// What is sent by those who go away then, some of them after the first bytes of the answer.
const LEFT: [(&str, bool); 6] = [
    ("", false),
    ("GET /a HTTP/1.1\r\nhost: sh", false),
    ("GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n", false),
    ("GET /b HTTP/1.1\r\nhost: shop.example\r\n\r\n", true),
    (
        "GET /a?bytes=1048576 HTTP/1.1\r\nhost: shop.example\r\n\r\n",
        true,
    ),
    (
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 50000\r\n\r\nhalf",
        false,
    ),
];

/// A request that is meant to succeed.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Get(&'static str),
    /// With this many bytes of body.
    Post(&'static str, usize),
}

/// What each kind of people got.
#[derive(Clone, Debug, Default)]
pub(super) struct Tallies {
    /// On kept connections.
    pub(super) kept: Arc<Tally>,
    /// Went away; nothing is expected, so nothing fails.
    pub(super) left: Arc<Tally>,
    /// Broke the rules; failed where they were not refused.
    pub(super) broke: Arc<Tally>,
}

/// A running crowd. Dropping it sends everybody home.
#[derive(Debug)]
pub(super) struct Crowd {
    tallies: Tallies,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Starts asking `users` over this many kept connections.
    pub(super) fn start(users: SocketAddr, connections: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (tallies, stop) = (Tallies::default(), Arc::new(AtomicBool::new(false)));
        let (noted, stopped) = (tallies.clone(), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("crowd".into()).spawn(move || {
            let mut all = tokio::task::JoinSet::new();
            let local = tokio::task::LocalSet::new();
            let person = |tally: &Arc<Tally>| Person {
                users,
                tally: Arc::clone(tally),
                stopped: Arc::clone(&stopped),
            };
            for seed in 0..connections {
                all.spawn_local_on(person(&noted.kept).keep_asking(seed as u64), &local);
            }
            all.spawn_local_on(person(&noted.left).leave(), &local);
            all.spawn_local_on(person(&noted.broke).break_rules(), &local);
            local.block_on(&runtime, async { while all.join_next().await.is_some() {} });
        })?;
        Ok(Self {
            tallies,
            stop,
            thread: Some(thread),
        })
    }

    /// What they got so far.
    pub(super) fn tallies(&self) -> &Tallies {
        &self.tallies
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What they got is in the tallies.
            let _ = thread.join();
        }
    }
}

struct Person {
    users: SocketAddr,
    tally: Arc<Tally>,
    stopped: Arc<AtomicBool>,
}

impl Person {
    fn goes_on(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed)
    }

    async fn keep_asking(self, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        while self.goes_on() {
            if let Err(error) = self.converse(&mut rng).await {
                self.tally.note(Err(error.to_string()));
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    }

    /// One connection, until it is closed by agreement.
    async fn converse(&self, rng: &mut StdRng) -> io::Result<()> {
        let mut stream = connect(self.users).await?;
        let mut buffer = BytesMut::with_capacity(4_096);
        let mut request = Vec::new();
        while self.goes_on() {
            let ask = draw(rng);
            encode(&mut request, ask, rng.random_range(0..USERS));
            let exchange = async {
                stream.write_all(&request).await?;
                wire::read_answer(&mut stream, &mut buffer).await
            };
            let wrong = |what: String| io::Error::other(format!("{ask:?}: {what}"));
            let answer = timeout(DEADLINE, exchange)
                .await
                .map_err(|_| wrong("deadline".into()))?;
            let answer = answer.map_err(|error| wrong(error.to_string()))?;
            if answer.status >= 400 {
                return Err(wrong(format!("status {}", answer.status)));
            }
            self.tally.note(Ok(()));
            if !answer.keep_alive {
                break;
            }
        }
        Ok(())
    }

    async fn leave(self) {
        for (sent, reads) in LEFT.iter().cycle() {
            if !self.goes_on() {
                return;
            }
            // However that ends: nobody is there to be told.
            let _ = timeout(DEADLINE, async {
                let mut stream = connect(self.users).await?;
                stream.write_all(sent.as_bytes()).await?;
                if *reads {
                    stream.read_exact(&mut [0; 64]).await?;
                }
                io::Result::Ok(())
            })
            .await;
            self.tally.note(Ok(()));
            tokio::time::sleep(LEAVING_PACE).await;
        }
    }

    async fn break_rules(self) {
        for sent in BROKEN.iter().cycle() {
            if !self.goes_on() {
                return;
            }
            let answer = timeout(DEADLINE, async {
                let mut stream = connect(self.users).await?;
                stream.write_all(sent.as_bytes()).await?;
                wire::read_answer(&mut stream, &mut BytesMut::new()).await
            });
            self.tally.note(match answer.await {
                Ok(Ok(answer)) if (400..=499).contains(&answer.status) => Ok(()),
                Ok(Ok(answer)) => Err(format!("{sent:?}: status {}", answer.status)),
                Ok(Err(error)) => Err(format!("{sent:?}: {error}")),
                Err(_) => Err(format!("{sent:?}: deadline")),
            });
            tokio::time::sleep(BREAKING_PACE).await;
        }
    }
}

async fn connect(users: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(users).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn draw(rng: &mut StdRng) -> Ask {
    let whole: f64 = ASKED.iter().map(|(_, weight)| weight).sum();
    let mut at = rng.random::<f64>() * whole;
    let drawn = ASKED.iter().find(|(_, weight)| {
        at -= weight;
        at < 0.0
    });
    drawn.map_or(Ask::Get("/a"), |(ask, _)| *ask)
}

fn encode(out: &mut Vec<u8>, ask: Ask, user: u32) {
    use std::io::Write;
    let (method, path, bytes) = match ask {
        Ask::Get(path) => ("GET", path, 0),
        Ask::Post(path, bytes) => ("POST", path, bytes),
    };
    out.clear();
    // Writing to a vector cannot fail.
    let _ = write!(
        out,
        "{method} {path} HTTP/1.1\r\nhost: shop.example\r\n{USER_HEADER}: u{user:04}\r\naccept: */*\r\nx-debug: 1\r\n\
         x-forwarded-for: 198.51.100.{}\r\n",
        user % 256,
    );
    if let Ask::Post(..) = ask {
        let _ = write!(out, "content-length: {bytes}\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.resize(out.len() + bytes, b'x');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_asked_as_often_as_it_weighs() {
        let mut rng = StdRng::seed_from_u64(1);
        let drawn: Vec<_> = (0..100_000).map(|_| draw(&mut rng)).collect();
        let count = |wanted: Ask| {
            let wanted = format!("{wanted:?}");
            drawn.iter().filter(|ask| format!("{ask:?}") == wanted).count()
        };
        for (ask, weight) in ASKED {
            let (found, expected) = (count(ask) as f64, weight * 1_000.0);
            assert!(
                (found - expected).abs() < expected * 0.25,
                "{ask:?}: {found} of {expected}"
            );
        }
    }

    #[test]
    fn an_endpoint_can_read_whatever_is_meant_to_succeed() {
        for (ask, _) in ASKED {
            let mut bytes = Vec::new();
            encode(&mut bytes, ask, 7);
            let request = wire::parse_request(&bytes).unwrap().unwrap();
            assert_eq!(request.body.end, bytes.len(), "{ask:?}");
            assert_eq!(request.post, matches!(ask, Ask::Post(..)));
        }
    }
}
