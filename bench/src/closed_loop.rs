//! A closed loop over a fixed number of keep-alive connections: for measuring cost per request, never latency.
//!
//! Each connection asks again as soon as it is answered, so the proxy is always busy and its CPU time divides by the
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

/// Asks `target` over `connections`, first for `settling`, then for `length`, which is what counts. The meter is read
/// before and after that, while all connections are busy.
pub fn run<T>(
    target: SocketAddr,
    connections: usize,
    (settling, length): (Duration, Duration),
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
        let until = Instant::now() + settling + length + OVERTIME;
        let asking: Vec<_> = (0..connections)
            .map(|_| {
                let counters = Arc::clone(&counters);
                tokio::task::spawn_local(async move {
                    if ask(target, &counters.0, until).await.is_err() {
                        counters.1.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        tokio::time::sleep(settling).await;
        let (before, meter_before) = (read(&counters), read_meter()?);
        tokio::time::sleep(length).await;
        let (after, meter_after) = (read(&counters), read_meter()?);
        for connection in asking {
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

async fn ask(target: SocketAddr, answered: &AtomicU64, until: Instant) -> io::Result<()> {
    let mut stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(4_096);
    while Instant::now() < until {
        stream.write_all(REQUEST).await?;
        let answer = wire::read_answer(&mut stream, &mut buffer).await?;
        if answer.status != 200 || !answer.keep_alive {
            return Err(io::Error::other(format!("status {}", answer.status)));
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
