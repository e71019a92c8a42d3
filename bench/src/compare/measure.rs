//! How each question is put to one contender, and what the answers mean.
//!
//! *Serving*: a closed loop over keep-alive connections, and the CPU time of all the contender's processes divided by
//! the requests. Who is asked flat out and still is not busy all the time was not the limit: the load or the endpoints
//! were, and the rate is only what it can do *at least*. *Latency*: open loop, from the intended start, at a rate that
//! all sustain, beside the same load on an endpoint without anybody between. *Idle*: many connections that have had
//! one request each, and the memory that came with them.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::case::Bodies;
use super::driver::{Driver, Work};
use crate::closed_loop::{self, AUTHORITY, Asking};
use crate::load::record::{Records, Span};
use crate::load::tls::Tls;
use crate::load::{Load, LoadOptions};
use crate::results::Measure;
use crate::rivals::Running;
use crate::stage::family;
use crate::stage::process::Programs;
use crate::wire;

/// Keep-alive connections while serving is measured.
pub const CONNECTIONS: u32 = 64;

/// Connections that are opened at the same time while their rate is measured.
const OPENED_AT_ONCE: u32 = 16;

/// Idle connections that are counted.
const IDLE_CONNECTIONS: usize = 2_000;

/// Connections before the first reading: what a process takes for its first few is not what each one costs.
const FIRST_CONNECTIONS: usize = 64;

/// What a process may still do after the last request before its memory is read.
const REST: Duration = Duration::from_millis(500);

/// Part of its cores that a contender uses who is the limit himself; the rest is his pauses.
const BUSY_MIN: f64 = 0.95;

/// Latest that the load itself may be, for 99 of 100 requests, without a word.
const LAG_MAX_US: u32 = 1_000;

/// How to ask.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Requests per second while CPU time is measured; flat out where `None`.
    pub rate: Option<f64>,
    /// Requests per second while latency is measured.
    pub latency_rate: f64,
    /// Not counted at the start.
    pub settling: Duration,
    /// Length of one measurement.
    pub length: Duration,
}

/// One value of one contender.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// What it is.
    pub measure: Measure,
    /// In the unit of the measure.
    pub value: f64,
    /// The contender could have done more: the harness was the limit.
    pub at_least: bool,
}

/// CPU time per request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// User time per request in microseconds.
    pub user_us: f64,
    /// System time per request in microseconds.
    pub system_us: f64,
    /// Requests per second meanwhile.
    pub rps: f64,
}

impl Cost {
    /// User and system time per request in microseconds.
    pub fn total_us(&self) -> f64 {
        self.user_us + self.system_us
    }

    /// CPU seconds per second: how many cores were busy.
    pub fn cores_busy(&self) -> f64 {
        self.total_us() * self.rps / 1e6
    }
}

impl Terms {
    /// What is asked of this contender, so many times at once.
    pub(super) fn asking(&self, running: &Running, connections: u32) -> Asking {
        Asking {
            protocol: running.site.protocol,
            connections,
            body_bytes: None,
            posted_bytes: None,
            anew: false,
            rate: None,
            settling: self.settling,
            length: self.length,
        }
    }
}

/// What serving at `target` costs these processes per request.
pub fn cost(
    programs: &Programs,
    processes: &[u32],
    (driver, work): (Driver, &Work),
    folder: &Path,
) -> Result<Cost> {
    let done = driver.ask(programs, work, folder, || family::cpu_time(processes))?;
    ensure!(done.requests > 0, "no request was answered");
    ensure!(
        done.cpu.total_s() > 0.0,
        "the process spent no CPU time; a wrapper around the real one?"
    );
    let per_request = |seconds: f64| seconds * 1e6 / done.requests as f64;
    Ok(Cost {
        user_us: per_request(done.cpu.user_s),
        system_us: per_request(done.cpu.system_s),
        rps: done.requests as f64 / done.seconds,
    })
}

/// CPU time per request; flat out also requests and bytes of bodies per second. `bodies` are the bytes that each answer
/// and each request carries.
pub fn serving(
    programs: &Programs,
    running: &Running,
    (driver, bodies): (Driver, Bodies),
    terms: &Terms,
    folder: &Path,
) -> Result<Vec<Value>> {
    let asking = Asking {
        body_bytes: bodies.answered(),
        posted_bytes: bodies.posted(),
        rate: terms.rate,
        ..terms.asking(running, CONNECTIONS)
    };
    let work = Work {
        target: running.site.listen,
        asking,
    };
    let cost = cost(programs, &running.processes()?, (driver, &work), folder)?;
    let at_least = cost.cores_busy() < BUSY_MIN * running.site.workers as f64;
    let value = |measure, value, at_least| Value {
        measure,
        value,
        at_least,
    };
    let mut values = vec![value(Measure::CpuPerRequestUs, cost.total_us(), false)];
    if terms.rate.is_none() {
        values.push(value(Measure::RequestsPerSecond, cost.rps, at_least));
        values.push(value(
            Measure::BytesPerSecond,
            cost.rps * bodies.bytes() as f64,
            at_least,
        ));
    }
    Ok(values)
}

/// New connections per second, each with one request.
pub fn connections(running: &Running, terms: &Terms) -> Result<Vec<Value>> {
    let asking = Asking {
        anew: true,
        ..terms.asking(running, OPENED_AT_ONCE)
    };
    let processes = running.processes()?;
    let (done, before, after) =
        closed_loop::run(running.site.listen, &asking, || family::cpu_time(&processes))?;
    ensure!(done.failed == 0, "{} connections failed", done.failed);
    let seconds = terms.length.as_secs_f64();
    let busy = after.since(before).total_s() / seconds;
    Ok(vec![Value {
        measure: Measure::ConnectionsPerSecond,
        value: done.requests as f64 / seconds,
        at_least: busy < BUSY_MIN * running.site.workers as f64,
    }])
}

/// Median and 99th percentile of users' latency in microseconds, and whether the load itself was late.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Half waited less.
    pub p50_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// The load was late by more than it may be.
    pub doubtful: bool,
}

/// Users' latency at `target`.
pub fn latency(target: SocketAddr, terms: &Terms) -> Result<Latency> {
    let length = terms.settling + terms.length;
    let report = Load::start(LoadOptions::steady(target, terms.latency_rate, length))?.finish();
    let window = Records::from(report.records)
        .window(Span::new(terms.settling, length))
        .context("no request was made")?;
    ensure!(
        window.failed == 0,
        "{} of {} requests failed",
        window.failed,
        window.requests
    );
    Ok(Latency {
        p50_us: f64::from(window.p50_us),
        p99_us: f64::from(window.p99_us),
        doubtful: report.lag.p99_us > LAG_MAX_US,
    })
}

impl Latency {
    /// What a contender adds to asking directly.
    pub fn above(&self, direct: &Self) -> Vec<Value> {
        let pairs = [
            (Measure::AddedP50Us, self.p50_us - direct.p50_us),
            (Measure::AddedP99Us, self.p99_us - direct.p99_us),
        ];
        let value = |(measure, value)| Value {
            measure,
            value,
            at_least: false,
        };
        pairs.map(value).to_vec()
    }
}

/// Memory per idle connection, of a process that has served nobody else.
pub fn idle(running: &Running) -> Result<Vec<Value>> {
    let processes = running.processes()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (target, tls) = (
        running.site.listen,
        closed_loop::encryption(running.site.protocol)?,
    );
    let bytes = runtime.block_on(async {
        let mut kept = Vec::with_capacity(FIRST_CONNECTIONS + IDLE_CONNECTIONS);
        let mut readings = [0; 2];
        for (reading, count) in readings.iter_mut().zip([FIRST_CONNECTIONS, IDLE_CONNECTIONS]) {
            for _ in 0..count {
                kept.push(used_once(target, tls.as_ref()).await?);
            }
            tokio::time::sleep(REST).await;
            *reading = family::resident_bytes(&processes)?;
        }
        let [before, after] = readings;
        Ok::<_, io::Error>(after as f64 - before as f64)
    })?;
    Ok(vec![Value {
        measure: Measure::IdleConnectionBytes,
        value: bytes / IDLE_CONNECTIONS as f64,
        at_least: false,
    }])
}

/// A connection that has had one request. What it is does not matter any more; dropping it closes it.
async fn used_once(target: SocketAddr, tls: Option<&Tls>) -> io::Result<Box<dyn Any>> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    match tls {
        None => ask_once(stream).await,
        Some(tls) => {
            let connector = TlsConnector::from(Arc::clone(&tls.config));
            ask_once(connector.connect(tls.name.clone(), stream).await?).await
        }
    }
}

async fn ask_once(mut stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> io::Result<Box<dyn Any>> {
    let request = format!("GET /a HTTP/1.1\r\nhost: {AUTHORITY}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let answer = wire::read_answer(&mut stream, &mut BytesMut::new()).await?;
    if answer.status == 200 {
        Ok(Box::new(stream))
    } else {
        Err(io::Error::other(format!("status {}", answer.status)))
    }
}
