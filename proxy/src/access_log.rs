//! A line per request: who asked for what, how it ended and why, and where its time went.
//!
//! Off the request path by construction. A worker formats its line into a buffer of its own, a few hundred nanoseconds,
//! and ten times a second, or when the buffer is full, hands it to the one thread that writes. The way there holds
//! [`writer::CHUNKS_MAX`] buffers per worker; whatever the disk does, a worker never waits: when the way is full, lines
//! are dropped and counted. Formatting here and not in the writer costs the worker about as much as copying the fields
//! for somebody else to format, and nobody has to take them apart again.
//!
//! Nothing that a client sends can end a line or a field: see [`escape`]. Credentials (`Authorization`, cookies) are
//! never written; query strings are not where the configuration says so. Fields have bounds ([`mod@line`]).

mod escape;
pub(crate) mod line;
mod reason;
mod stamp;
pub mod trail;
pub mod writer;

use std::net::IpAddr;
use std::sync::Arc;

use foreshade_engine::spec::Role;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::config::{AccessLog, Format};
use crate::trace::TraceContext;

use self::line::LINE_BYTES_MAX;
use self::stamp::Stamp;
use self::writer::{CHUNK_BYTES, Lane};

pub use self::reason::Reason;
pub use self::trail::{Times, Trail};
pub use self::writer::{Counts, Writing};

/// Everything that a line can tell. What is not known is empty, `None` or 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// Who asked.
    pub client: Option<IpAddr>,
    /// The scheme that he speaks; empty where nobody knows.
    pub scheme: &'static str,
    /// The host that was asked for.
    pub host: &'a [u8],
    /// The method.
    pub method: &'a [u8],
    /// Path and query, as they came.
    pub target: &'a [u8],
    /// The version of HTTP, as `HTTP/1.1`; `TCP`, `TLS` and `UDP` of what was carried and not read.
    pub protocol: &'static str,
    /// The status that the client was told; 0 for none.
    pub status: u16,
    /// Why the request ended.
    pub reason: Reason,
    /// Which rule it broke, where it was rejected: a word out of a closed set.
    pub detail: &'static str,
    /// Bytes of the request's body.
    pub bytes_in: Option<u64>,
    /// Bytes of the answer's body.
    pub bytes_out: Option<u64>,
    /// How the call of gRPC ended, where it is one.
    pub grpc_status: Option<u8>,
    /// Where its time went.
    pub times: Times,
    /// Who served it, or was the last to be asked.
    pub served: Option<Served<'a>>,
    /// The request's name.
    pub request_id: &'a [u8],
    /// Its trace, with the span of this proxy where it has one.
    pub trace: Option<TraceContext>,
    /// Where the user came from.
    pub referer: &'a [u8],
    /// What the user came with.
    pub user_agent: &'a [u8],
}

/// Who served a request.
#[derive(Clone, Copy, Debug)]
pub struct Served<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// The endpoint's name.
    pub endpoint: &'a str,
    /// On which side of its pair the endpoint is.
    pub role: Role,
    /// How many endpoints were asked.
    pub attempts: u32,
}

impl<'a> Record<'a> {
    /// A request that was refused before it was understood, because it broke the rule `detail`: all that is known of it are
    /// the bytes of its head, which may be anything. What looks like a request line is taken for one.
    pub fn refused(client: Option<IpAddr>, head: &'a [u8], status: u16, detail: &'static str) -> Self {
        let line = head
            .split(|b| *b == b'\r' || *b == b'\n')
            .next()
            .unwrap_or_default();
        let mut words = line.splitn(3, |b| *b == b' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Self {
            client,
            method,
            target,
            status,
            detail,
            reason: Reason::Rejected,
            bytes_in: Some(0),
            bytes_out: Some(0),
            ..Self::default()
        }
    }
}

impl Record<'_> {
    /// Whether clients are told a status: of what is not read they are told nothing.
    fn has_status(&self) -> bool {
        !matches!(self.protocol, "TCP" | "TLS" | "UDP")
    }
}

/// A server's failure, or no whole answer, whoever is to blame. A request that was merely wrong is none, nor is one
/// that its route answered.
pub(crate) fn is_failed(status: u16, reason: Reason) -> bool {
    let broke_off = matches!(reason, Reason::Failed(_) | Reason::Shutdown);
    status == 0 || status >= 500 || (status < 400 && broke_off)
}

/// One worker's side of the access log.
#[derive(Debug)]
pub struct Logger {
    settings: Arc<AccessLog>,
    stamp: Stamp,
    buffer: Vec<u8>,
    lines: u64,
    lane: Lane,
    rng: SmallRng,
}

impl Logger {
    fn new(settings: Arc<AccessLog>, lane: Lane) -> Self {
        Self {
            settings,
            stamp: Stamp::default(),
            buffer: Vec::new(),
            lines: 0,
            lane,
            rng: SmallRng::from_rng(&mut rand::rng()),
        }
    }

    /// Writes a line, if the request is one of those that get one.
    pub fn log(&mut self, record: &Record<'_>) {
        if self.wants(record.status, record.reason) {
            self.write(record);
        }
    }

    /// Whether a request that ended so gets a line. Asked once per request, before its record is made.
    pub fn wants(&mut self, status: u16, reason: Reason) -> bool {
        let settings = &self.settings;
        settings.sample >= 1.0
            || (settings.always_errors && is_failed(status, reason))
            || self.rng.random::<f64>() < settings.sample
    }

    /// Writes a line.
    pub fn write(&mut self, record: &Record<'_>) {
        if self.is_full() {
            self.flush();
            if self.is_full() {
                // The writer is far behind. The older lines are kept: they tell how it began.
                return self.lane.lose(1);
            }
        }
        if self.buffer.capacity() == 0 {
            self.buffer = self.lane.empty_buffer();
        }
        let settings = &self.settings;
        let began = self.stamp.before_now(record.times.duration);
        match settings.format {
            Format::Json => line::json(&mut self.buffer, record, &began, settings.query),
            Format::Combined => line::combined(&mut self.buffer, record, &began, settings.query),
        }
        self.lines += 1;
        if self.is_full() {
            self.flush();
        }
    }

    /// Hands what has been written so far to the writer, if it has room for it.
    pub fn flush(&mut self) {
        if self.lines > 0 {
            let chunk = (std::mem::take(&mut self.buffer), std::mem::take(&mut self.lines));
            if let Err(refused) = self.lane.hand_over(chunk) {
                (self.buffer, self.lines) = refused;
            }
        }
    }

    /// Whether the longest line might not fit.
    fn is_full(&self) -> bool {
        self.buffer.len() + LINE_BYTES_MAX > CHUNK_BYTES
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        self.flush();
        self.lane.lose(self.lines);
    }
}

#[cfg(test)]
mod tests;
