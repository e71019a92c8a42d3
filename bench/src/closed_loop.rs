//! A closed loop over a fixed number of keep-alive connections: for measuring cost per request, never latency.
//!
//! Each connection asks again as soon as it is answered and its turn has come, so that the proxy's CPU time divides by the
//! requests done. The request is encoded once; the answer is read to its Content-Length.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::wire;

/// How long connections stay busy after the measurement.
const OVERTIME: Duration = Duration::from_millis(50);

const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nhost: shop.example\r\nx-user: u0001\r\naccept: */*\r\n\r\n";

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Requests answered with 200.
    pub requests: u64,
    /// Connections that failed, or answers of another status; anything above 0 spoils the measurement.
    pub failed: u64,
}

/// How to ask.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// Keep-alive connections.
    pub connections: u32,
    /// Requests per second, over all of them; as many as are answered where `None`.
    pub rate: Option<f64>,
    /// Not counted at the start.
    pub settling: Duration,
    /// What counts.
    pub length: Duration,
}

impl Asking {
    /// Between two requests of a connection.
    fn period(&self) -> Duration {
        self.rate.map_or(Duration::ZERO, |rate| {
            Duration::from_secs_f64(f64::from(self.connections) / rate)
        })
    }
}

/// Asks `target`. The meter is read before and after what counts, while all connections are at it.
pub fn run<T>(
    target: SocketAddr,
    asking: &Asking,
    mut read_meter: impl FnMut() -> io::Result<T>,
) -> io::Result<(Done, T, T)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let counters = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let local = tokio::task::LocalSet::new();
    let read = |counters: &(AtomicU64, AtomicU64)| Done {
        requests: counters.0.load(Ordering::Relaxed),
        failed: counters.1.load(Ordering::Relaxed),
    };
    local.block_on(&runtime, async {
        // Busy beyond the second reading of the meter, so that both readings fall into full load.
        let start = Instant::now();
        let until = start + asking.settling + asking.length + OVERTIME;
        let (connections, period) = (asking.connections, asking.period());
        let tasks: Vec<_> = (0..connections)
            .map(|index| {
                let counters = Arc::clone(&counters);
                let turns = Turns {
                    next: start + period * index / connections,
                    period,
                    until,
                };
                tokio::task::spawn_local(async move {
                    if ask(target, &counters.0, turns).await.is_err() {
                        counters.1.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        tokio::time::sleep(asking.settling).await;
        let (before, meter_before) = (read(&counters), read_meter()?);
        tokio::time::sleep(asking.length).await;
        let (after, meter_after) = (read(&counters), read_meter()?);
        for connection in tasks {
            connection.await.map_err(io::Error::other)?;
        }
        let failed = counters.1.load(Ordering::Relaxed);
        let done = Done {
            requests: after.requests - before.requests,
            failed,
        };
        Ok((done, meter_before, meter_after))
    })
}

/// When a connection asks.
struct Turns {
    next: Instant,
    /// Zero where it asks as soon as it is answered.
    period: Duration,
    until: Instant,
}

impl Turns {
    /// Waits for the next one; false when there is none. One that comes late moves those after it: no crowd follows.
    async fn wait(&mut self) -> bool {
        let now = Instant::now();
        if now < self.next {
            tokio::time::sleep_until(self.next.into()).await;
        }
        let turn = self.next.max(now);
        self.next = turn + self.period;
        turn < self.until
    }
}

async fn ask(target: SocketAddr, answered: &AtomicU64, mut turns: Turns) -> io::Result<()> {
    let mut stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(4_096);
    while turns.wait().await {
        stream.write_all(REQUEST).await?;
        let answer = wire::read_answer(&mut stream, &mut buffer).await?;
        if answer.status != 200 || !answer.keep_alive {
            return Err(io::Error::other(format!("status {}", answer.status)));
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
