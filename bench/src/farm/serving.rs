//! How an endpoint of the farm serves: accept, hear, work, answer.
//!
//! The healthy case of an answer kept ready is one read and one write, because a farm is also the backend of
//! comparisons of CPU time. Whatever a fault does costs only those who meet it.
//!
//! A write takes effect when the endpoint takes its request on, with a core or a place in the queue, not when it is
//! answered: from then on a second copy would do harm. One that is turned away took no effect.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::{StdRng, Xoshiro256PlusPlus};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::farm::FarmOptions;
use crate::farm::alarm::Alarm;
use crate::farm::cores::Cores;
use crate::farm::endpoint::{Endpoint, Shared, bump, path_index};
use crate::farm::fault::{Asked, Manner, Treatment};
use crate::farm::service_time::{ServiceTime, scaled};
use crate::farm::site::Site;
use crate::farm::talk::{Answer, BODY_BYTES_MAX, Heard, Language, Talk, compose};

/// Open connections per endpoint; more are closed at once and counted.
const CONNECTIONS_MAX: usize = 8_192;

/// Connections that wait to be accepted: those of a pause, at a few hundred per second and some seconds.
const BACKLOG: u32 = 4_096;

/// Pause after a failed accept or bind, so that a full file table or a busy port does not become a busy loop.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// What is answered to whoever finds the queue full.
const TURNED_AWAY: u16 = 503;

/// What the tasks of the farm's own thread share.
pub(crate) struct Core {
    pub(crate) alarm: Alarm,
    service_time: ServiceTime,
    language: Language,
    orca: bool,
    body_bytes: usize,
    seed: u64,
    /// All bodies are its beginning.
    filler: Vec<u8>,
    /// For chances of the moment: errors, and the work of probes.
    rng: RefCell<StdRng>,
}

/// A write that has taken effect and whose sender has not been told.
struct Untold<'a>(Option<&'a Endpoint>);

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        if let Some(endpoint) = self.0 {
            bump(&endpoint.posts_lost);
        }
    }
}

/// Work that stands still while its process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Work {
    left: Duration,
    since: Instant,
}

impl Work {
    fn due(self) -> Instant {
        self.since + self.left
    }

    /// The process stands still from `from` and goes on at `until`.
    fn interrupted(self, from: Instant, until: Instant) -> Self {
        Self {
            left: self
                .left
                .saturating_sub(from.saturating_duration_since(self.since)),
            since: until,
        }
    }
}

impl Core {
    /// Call it within the farm's runtime.
    pub(crate) fn new(options: &FarmOptions) -> io::Result<Self> {
        Ok(Self {
            alarm: Alarm::new()?,
            service_time: options.service_time,
            language: options.language,
            orca: options.orca,
            body_bytes: options.body_bytes,
            seed: options.seed,
            filler: vec![b'x'; BODY_BYTES_MAX],
            rng: RefCell::new(StdRng::seed_from_u64(options.seed)),
        })
    }

    /// Serves at one endpoint for as long as it is polled, and leaves its port while it refuses.
    pub(crate) async fn accept(self: Rc<Self>, site: Rc<Site>, listener: TcpListener) {
        let Ok(address) = listener.local_addr() else {
            return;
        };
        let ready: Rc<[u8]> = self.ready(site.endpoint()).into();
        let mut listener = Some(listener);
        loop {
            let changed = site.changed.notified();
            let condition = site.condition();
            if condition.refuses.is_some() {
                listener = None;
                changed.await;
                continue;
            }
            let Some(open) = &listener else {
                match listen(address) {
                    Ok(reopened) => listener = Some(reopened),
                    // Somebody else took the port meanwhile; it is ours again as soon as they leave.
                    Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
                }
                continue;
            };
            tokio::select! {
                biased;
                () = changed => {}
                accepted = open.accept(), if !condition.paused => match accepted {
                    Ok((stream, _)) => self.clone().welcome(&site, stream, &ready),
                    Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
                },
            }
        }
    }

    fn welcome(self: Rc<Self>, site: &Rc<Site>, stream: TcpStream, ready: &Rc<[u8]>) {
        bump(&site.endpoint().connections);
        if site.connections() >= CONNECTIONS_MAX {
            bump(&site.endpoint().connections_refused);
            return;
        }
        let (site_of_it, ready) = (Rc::clone(site), Rc::clone(ready));
        site.keep(|number, busy| {
            tokio::task::spawn_local(async move {
                // Forgotten when the task ends, and when it is ended.
                let _kept = site_of_it.until_dropped(number);
                // A peer that breaks the protocol or goes away loses its connection, that is all.
                let _ = self.converse(&site_of_it, stream, &busy, &ready).await;
            })
            .abort_handle()
        });
    }

    async fn converse(
        &self,
        site: &Site,
        stream: TcpStream,
        busy: &Cell<bool>,
        ready: &[u8],
    ) -> io::Result<()> {
        let mut talk = Talk::new(stream)?;
        while let Some(heard) = talk.hear(self.language).await? {
            // Before the look at the condition, which may end what is idle.
            busy.set(true);
            if site.condition().paused {
                site.wait_until(|condition| !condition.paused).await;
            }
            if !self.serve(site, &mut talk, heard, ready).await? {
                return Ok(());
            }
            busy.set(false);
        }
        Ok(())
    }

    /// Serves one request. Returns whether the connection stays open.
    async fn serve(&self, site: &Site, talk: &mut Talk, heard: Heard, ready: &[u8]) -> io::Result<bool> {
        let endpoint = site.endpoint();
        count(endpoint, heard, talk.path());
        let asked = Asked {
            path: talk.path(),
            body_bytes: heard.body_bytes.max(heard.asked_bytes.unwrap_or(self.body_bytes)) as u64,
        };
        let Treatment {
            factor,
            mut status,
            mut manner,
        } = site.treat(asked, &mut *self.rng.borrow_mut());
        // What hangs needs no core: a process that is stuck does not say that it is full.
        let place = (manner != Manner::Never).then(|| site.cores.claim());
        let mut untold = Untold(None);
        if let Some(None) = place {
            (status, manner) = (TURNED_AWAY, Manner::Whole);
            bump(&endpoint.turned_away);
        } else {
            untold.0 = note(site, heard);
        }
        if let Some(Some(mut place)) = place {
            place.reach().await;
            self.work(site, self.length(heard, factor)).await;
        }
        let condition = site.condition();
        if condition.hangs_all {
            manner = Manner::Never;
        }
        if matches!(manner, Manner::Whole | Manner::Drip(_)) {
            untold.0 = None;
        }
        if status >= 400 && heard.number.is_some() {
            bump(&endpoint.errors);
        }
        let usual = status == 200 && manner == Manner::Whole && heard.asked_bytes.is_none() && !self.orca;
        let answer = Answer {
            status,
            manner,
            body: &self.filler[..heard.asked_bytes.unwrap_or(self.body_bytes)],
            ready: usual.then_some(ready),
            last: condition.refuses.is_some(),
            utilisation: self.orca.then(|| site.cores.utilisation()),
        };
        talk.say((self.language, heard), answer, (site, &self.alarm))
            .await
    }

    /// How long a request is worked on. One with a number takes equally long wherever and whenever it arrives, so
    /// that proxies can be compared request by request.
    fn length(&self, heard: Heard, factor: f64) -> Duration {
        if self.service_time == ServiceTime::NONE {
            return Duration::ZERO;
        }
        let length = match heard.number {
            Some(number) => {
                // The generator's own seeding mixes all bits; this only keeps neighbours and seeds apart.
                let seed = self.seed.rotate_left(32) ^ number;
                self.service_time
                    .draw(&mut Xoshiro256PlusPlus::seed_from_u64(seed))
            }
            None => self.service_time.draw(&mut *self.rng.borrow_mut()),
        };
        scaled(length, factor)
    }

    async fn work(&self, site: &Site, length: Duration) {
        if length.is_zero() {
            return;
        }
        let mut work = Work {
            left: length,
            since: Instant::now(),
        };
        loop {
            tokio::select! {
                biased;
                () = site.wait_until(|condition| condition.paused) => {
                    let from = Instant::now();
                    site.wait_until(|condition| !condition.paused).await;
                    work = work.interrupted(from, Instant::now());
                }
                () = self.alarm.sleep_until(work.due()) => return,
            }
        }
    }

    /// The answer that nearly every request gets.
    fn ready(&self, endpoint: &Endpoint) -> Vec<u8> {
        if self.language != Language::Http {
            return Vec::new();
        }
        let answer = Answer {
            status: 200,
            manner: Manner::Whole,
            body: &self.filler[..self.body_bytes],
            ready: None,
            last: false,
            utilisation: None,
        };
        let mut out = Vec::new();
        compose(&mut out, endpoint.name(), &answer, false);
        out.extend_from_slice(answer.body);
        out
    }
}

fn count(endpoint: &Endpoint, heard: Heard, path: &[u8]) {
    if heard.number.is_none() {
        return;
    }
    bump(&endpoint.by_path[path_index(path)]);
    if heard.post {
        bump(&endpoint.posts);
    }
}

/// Notes that a request was taken on. If it is a write, it has taken effect here.
fn note(site: &Site, heard: Heard) -> Option<&Endpoint> {
    let number = heard.number.filter(|_| heard.post)?;
    site.ledger()
        .note(number, u16::try_from(site.index).unwrap_or(u16::MAX));
    Some(site.endpoint())
}

/// An endpoint that nobody has connected to yet.
pub(crate) fn site(shared: &std::sync::Arc<Shared>, index: usize, options: &FarmOptions) -> Site {
    Site::new(
        std::sync::Arc::clone(shared),
        index,
        Cores::new(options.cores, options.queue),
    )
}

/// Opens a listener; call it within a runtime.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // The port must be free again at once after `refuse`, whatever lingers in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_takes_equally_long_wherever_and_whenever_it_arrives() {
        let lengths = |seed, numbers: &[u64]| {
            let mut options = FarmOptions::on_free_ports(&["a"]);
            options.seed = seed;
            let core = Core::new(&options).unwrap();
            let length = |number: &u64| core.length(Heard::numbered(*number), 1.0);
            numbers.iter().map(length).collect::<Vec<_>>()
        };
        let mut backwards = lengths(1, &[3, 2, 1]);
        backwards.reverse();
        assert_eq!(lengths(1, &[1, 2, 3]), backwards);
        assert_ne!(lengths(1, &[1, 2, 3]), lengths(2, &[1, 2, 3]));
        // Neighbouring numbers are as independent as any: their median is the distribution's.
        let mut many = lengths(1, &(0..10_001).collect::<Vec<_>>());
        many.sort();
        let median_ms = many[5_000].as_secs_f64() * 1e3;
        assert!((4.85..5.15).contains(&median_ms), "{median_ms}");
    }

    #[test]
    fn work_is_as_much_later_as_its_process_stood_still() {
        let ms = Duration::from_millis;
        let start = Instant::now();
        let work = Work {
            left: ms(10),
            since: start,
        };
        let work = work.interrupted(start + ms(4), start + ms(504));
        assert_eq!(work.due(), start + ms(510));
        let work = work.interrupted(start + ms(505), start + ms(605));
        assert_eq!(work.due(), start + ms(610));
        // Over at the very moment at which the process stops: done when it goes on.
        let late = work.interrupted(start + ms(610), start + ms(700));
        assert_eq!(late.due(), start + ms(700));
    }
}
