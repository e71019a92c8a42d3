//! A closed loop over a fixed number of keep-alive connections while a meter runs: for measuring cost per request, never
//! latency.
//!
//! The [`load`](crate::load) makes it; what is added here is that the meter is read before and after what counts, while all
//! connections are at it, so that the proxy's CPU time divides by the requests done. A connection may also be opened anew
//! for each request, where that is what is measured.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::load::line::Dialect;
use crate::load::mix::Mix;
use crate::load::record::Outcome;
use crate::load::tls::{Tls, Trust};
use crate::load::{Closed, Load, LoadOptions};
use crate::results::Protocol;

/// Streams per connection where several requests share one.
pub const STREAMS: u32 = 8;

/// Who is asked for; certificates are made for it, and nobody checks who has signed them.
pub const AUTHORITY: &str = "shop.example";

/// How long connections stay busy after the measurement.
const OVERTIME: Duration = Duration::from_millis(50);

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Requests answered with 200.
    pub requests: u64,
    /// Requests that failed, or were answered with another status; anything above 0 spoils the measurement.
    pub failed: u64,
}

/// How to ask.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// How to speak. To whoever passes bytes on, HTTP/1.1 is as good as any.
    pub protocol: Protocol,
    /// Requests at the same time: as many connections, or streams on fewer.
    pub connections: u32,
    /// Bytes of each answer's body, as the farm is asked for them; its default where `None`.
    pub body_bytes: Option<u64>,
    /// Bytes of each request's body; requests have none where `None`.
    pub posted_bytes: Option<u64>,
    /// A new connection for each request.
    pub anew: bool,
    /// Requests per second, over all of them; as many as are answered where `None`.
    pub rate: Option<f64>,
    /// Not counted at the start.
    pub settling: Duration,
    /// What counts.
    pub length: Duration,
}

/// Asks `target`. The meter is read before and after what counts, while all connections are at it.
///
/// # Errors
/// When the meter cannot be read, or the load has failed itself.
pub fn run<T>(
    target: SocketAddr,
    asking: &Asking,
    mut read_meter: impl FnMut() -> io::Result<T>,
) -> io::Result<(Done, T, T)> {
    let load = Load::start(options(target, asking)?)?;
    std::thread::sleep(asking.settling);
    let (before, meter_before) = (load.counts().0, read_meter()?);
    std::thread::sleep(asking.length);
    let (after, meter_after) = (load.counts().0, read_meter()?);
    let totals = load
        .finish()
        .totals
        .ok_or_else(|| io::Error::other("the load has failed"))?;
    let tally = totals.tally;
    let as_wished = tally
        .outcomes
        .get(&Outcome::status(200))
        .copied()
        .unwrap_or_default();
    let done = Done {
        requests: after - before,
        failed: tally.all.requests - as_wished,
    };
    Ok((done, meter_before, meter_after))
}

/// Encryption as a user, where the protocol asks for it.
///
/// # Errors
/// When TLS cannot be set up.
pub fn encryption(protocol: Protocol) -> io::Result<Option<Tls>> {
    let http2 = match protocol {
        Protocol::Https1 => false,
        Protocol::H2 => true,
        Protocol::Http1 | Protocol::H2c | Protocol::Tcp => return Ok(None),
    };
    let tls = Tls::new(AUTHORITY, Trust::Anybody, http2).map_err(io::Error::other)?;
    Ok(Some(tls))
}

fn options(target: SocketAddr, asking: &Asking) -> io::Result<LoadOptions> {
    let length = asking.settling + asking.length + OVERTIME;
    let (dialect, per_connection) = match asking.protocol {
        Protocol::H2c | Protocol::H2 => (
            Dialect::Http2 {
                streams: STREAMS as usize,
            },
            STREAMS,
        ),
        Protocol::Http1 | Protocol::Https1 | Protocol::Tcp => (Dialect::Http1, 1),
    };
    let query = asking
        .body_bytes
        .map_or_else(String::new, |bytes| format!("?bytes={bytes}"));
    let posted = u32::try_from(asking.posted_bytes.unwrap_or_default()).map_err(io::Error::other)?;
    Ok(LoadOptions {
        dialect,
        tls: encryption(asking.protocol)?,
        closed: Some(Closed {
            lines: asking.connections as usize,
            rate: asking.rate,
        }),
        connections_max: asking.connections.div_ceil(per_connection) as usize,
        keep_alive: !asking.anew,
        records: false,
        mix: Mix {
            authority: AUTHORITY.to_owned(),
            post_share: if asking.posted_bytes.is_some() { 1.0 } else { 0.0 },
            body_bytes: posted..=posted,
            paths: vec![(format!("/a{query}"), 1.0)],
            ..Mix::default()
        },
        ..LoadOptions::steady(target, 0.0, length)
    })
}
