//! Active probes: asking each endpoint at intervals whether it is there, users or no users.
//!
//! A probe says little (an endpoint can answer it and fail every user) but it says it about endpoints that nobody uses:
//! shadows, and primaries that have been drained. So primaries and shadows are probed alike, each on a schedule of its
//! own that starts at a random place of the interval: probes are spread out, and a fleet of proxies that was started at
//! once does not knock at once.
//!
//! What a row of results means (`rise`, `fall`) is the engine's to decide; here each probe stands for itself. A probe
//! that gets no answer in its time has failed. Results nobody collects are dropped and counted: the prober never waits.
//!
//! The request of HTTP/1.1 is written by hand: one fixed head out, one bounded head back, whose body nobody reads. A client
//! library would pool, follow and buffer, and a probe must do none of that.

mod http2;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foreshade_sys::datagrams::DATAGRAM_BYTES_MAX;
use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::config::{Endpoint, Probe};
use crate::outcome::Failure;
use crate::proxy_protocol::{self, Version};
use crate::recorder::Place;
use crate::tls::handshakes::HandshakeFailure;
use crate::topology::Topology;
use crate::topology::ids::EndpointId;
use crate::upstream::Unreached;
use crate::upstream::connect::To;

/// Longest head of an answer, in bytes. Servers grant 8 KiB by custom; twice that is generous.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Most header lines in it.
const HEADERS_MAX: usize = 128;

/// What one probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    /// Which endpoint was asked.
    pub endpoint: EndpointId,
    /// Whether it answered as it should.
    pub passed: bool,
    /// How long it took to answer, or to fail.
    pub latency: Duration,
}

/// Results that were dropped, because nobody collected them in time. All clones count together.
#[derive(Clone, Debug, Default)]
pub struct Dropped(Arc<AtomicU64>);

impl Dropped {
    /// How many since the start.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One endpoint's probe.
#[derive(Clone, Debug, PartialEq)]
struct Schedule {
    endpoint: EndpointId,
    to: To,
    probe: Probe,
    /// It is asked in HTTP/2.
    http2: bool,
    /// The header that the endpoint expects first: that it is nobody's connection.
    told: Option<Version>,
    interval: Duration,
    timeout: Duration,
}

/// Probes all endpoints of all clusters that want it, until the sender of configurations is gone. When one replaces
/// another, probes that it leaves as they are keep their rhythm.
// Concept: endpoint-metrics
pub async fn run(
    mut topologies: watch::Receiver<Arc<Topology>>,
    results: mpsc::Sender<ProbeResult>,
    dropped: Dropped,
) {
    // Dropping the set stops every task in it.
    let mut tasks = JoinSet::new();
    let mut running: HashMap<EndpointId, (Schedule, AbortHandle)> = HashMap::new();
    loop {
        let wanted = schedules(&topologies.borrow_and_update().clone());
        running.retain(|_, (schedule, task)| {
            let stays = wanted.contains(schedule);
            if !stays {
                task.abort();
            }
            stays
        });
        for schedule in wanted {
            running.entry(schedule.endpoint).or_insert_with(|| {
                let probing = keep_probing(schedule.clone(), results.clone(), dropped.clone());
                (schedule, tasks.spawn(probing))
            });
        }
        if topologies.changed().await.is_err() {
            return;
        }
    }
}

fn schedules(topology: &Topology) -> Vec<Schedule> {
    let mut schedules = Vec::new();
    for (cluster, config) in topology.config().clusters.iter().enumerate() {
        let Some(check) = &config.health else { continue };
        let of = |(endpoint, e): (usize, &Endpoint)| {
            Some(Schedule {
                endpoint: topology.endpoint_id(Place { cluster, endpoint })?,
                to: To {
                    limit: check.timeout,
                    ..config.to(e)
                },
                probe: check.probe.clone(),
                http2: config.http2.is_some(),
                told: config.proxy_protocol,
                interval: check.interval,
                timeout: check.timeout,
            })
        };
        schedules.extend(config.endpoints.iter().enumerate().filter_map(of));
    }
    schedules
}

async fn keep_probing(schedule: Schedule, results: mpsc::Sender<ProbeResult>, dropped: Dropped) {
    // An interval of zero would be a busy loop, and tokio refuses it.
    let period = schedule.interval.max(Duration::from_millis(1));
    let first = Instant::now() + rand::rng().random_range(Duration::ZERO..period);
    let mut ticks = interval_at(first, period);
    // A probe that takes longer than the interval must not be followed by a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let address = schedule.to.address;
    let (mut passed_before, mut distrusted) = (None, None);
    loop {
        ticks.tick().await;
        let (passed, latency, why) = probe_once(&schedule).await;
        if passed_before.replace(passed) != Some(passed) {
            tracing::debug!(%address, passed, "probe changed its mind");
        }
        // A certificate is in somebody's hands, who wants to know; and it does not come and go with the load.
        if let Some(why) = why.filter(|why| distrusted.replace(*why) != Some(*why)) {
            tracing::warn!(%address, reason = why.label(), "an endpoint fails its TLS handshake");
        }
        if passed && distrusted.take().is_some() {
            tracing::info!(%address, "an endpoint passes its TLS handshake again");
        }
        match results.try_send(ProbeResult {
            endpoint: schedule.endpoint,
            passed,
            latency,
        }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                dropped.0.fetch_add(1, Ordering::Relaxed);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return,
        }
    }
}

/// Whether the probe passed, how long it took, and why there was no TLS if that is why it failed.
async fn probe_once(schedule: &Schedule) -> (bool, Duration, Option<HandshakeFailure>) {
    let asked_at = Instant::now();
    let answer = timeout(schedule.timeout, ask(schedule)).await;
    let latency = asked_at.elapsed();
    match answer {
        Ok(Ok(passed)) => (passed, latency, None),
        Ok(Err(error)) => (false, latency, distrust(&error)),
        Err(_) => (false, latency, None),
    }
}

/// Why the handshake of a probe failed, if that is why it did.
fn distrust(error: &io::Error) -> Option<HandshakeFailure> {
    match error.get_ref()?.downcast_ref()? {
        Unreached(Failure::Handshake(why)) => Some(*why),
        Unreached(_) => None,
    }
}

async fn ask(schedule: &Schedule) -> io::Result<bool> {
    if let Probe::Udp { send, expect } = &schedule.probe {
        return ask_by_datagram(schedule.to.address, send, expect).await;
    }
    let mut greeting = Vec::new();
    if let Some(version) = schedule.told {
        proxy_protocol::write(version, None, &mut greeting);
    }
    let connected = schedule.to.connect(&greeting).await;
    let mut stream = connected.map_err(|failure| io::Error::other(Unreached(failure)))?;
    let Probe::Http { path, host } = &schedule.probe else {
        return match schedule.probe {
            Probe::Grpc { .. } => http2::ask(stream, &schedule.probe, &schedule.to).await,
            Probe::Http { .. } | Probe::Tcp | Probe::Udp { .. } => {
                stream.part();
                Ok(true)
            }
        };
    };
    if schedule.http2 {
        return http2::ask(stream, &schedule.probe, &schedule.to).await;
    }
    let host = host.clone().unwrap_or_else(|| schedule.to.address.to_string());
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: foreshade-probe/{}\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(1024);
    loop {
        match status(&head)? {
            Some(status) => return Ok(status < 400),
            None if head.len() >= HEAD_BYTES_MAX => return Err(io::ErrorKind::InvalidData.into()),
            None => {}
        }
        let room = HEAD_BYTES_MAX.saturating_sub(head.len());
        let read = (&mut stream).take(room as u64).read_buf(&mut head).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The socket hears nobody but the endpoint, and so the first datagram is its answer.
async fn ask_by_datagram(to: SocketAddr, send: &[u8], expect: &[u8]) -> io::Result<bool> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    socket.send(send).await?;
    let mut answer = vec![0; DATAGRAM_BYTES_MAX];
    let length = socket.recv(&mut answer).await?;
    Ok(answer.get(..length).unwrap_or_default().starts_with(expect))
}

/// The status of the final answer in these bytes, if its head is complete. Interim answers (RFC 9110 section 15.2) are
/// skipped; all of them and the final head share the limit in bytes.
fn status(mut bytes: &[u8]) -> io::Result<Option<u16>> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response
            .parse(bytes)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        match (parsed, response.code) {
            (httparse::Status::Complete(length), Some(100..=199)) => {
                bytes = bytes.get(length..).unwrap_or_default()
            }
            (httparse::Status::Complete(_), code) => return Ok(code),
            (httparse::Status::Partial, _) => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
