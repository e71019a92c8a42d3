//! Load that is honest about itself: open-loop by default, measured from the intended start of each request.
//!
//! One thread (see [`engine`]) makes all requests of a load, over HTTP/1.1, HTTP/2 or raw TCP. In an open loop a slow
//! answer occupies a connection and never delays anybody else. How late requests left is measured and reported: a
//! harness that lags has no right to a verdict. Figures are always tallied in bounded memory; single records are kept
//! on demand, for scenarios that judge windows of any length.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::LocalOptions;

use crate::load::engine::{Engine, Remains};
use crate::load::line::{Desk, Dialect};
use crate::load::mix::Mix;
use crate::load::occupation::Occupation;
use crate::load::progress::Progress;
use crate::load::record::Record;
use crate::load::request::Requests;
use crate::load::schedule::{Arrivals, Rate};
use crate::load::stream::Dialler;
use crate::load::tally::Tally;
use crate::load::tls::Tls;

pub mod hgrm;
pub mod line;
pub mod mix;
pub mod occupation;
pub mod progress;
pub mod reach;
pub mod record;
pub mod request;
pub mod schedule;
pub mod slo;
pub mod summary;
pub mod tally;
pub mod tls;

mod alarm;
mod answer;
mod engine;
mod http2;
mod stream;

/// What load to make.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where users connect.
    pub target: SocketAddr,
    /// How they speak.
    pub dialect: Dialect,
    /// Encryption, if any.
    pub tls: Option<Tls>,
    /// Requests per second over time, in an open loop.
    pub rate: Rate,
    /// How they follow each other, in an open loop.
    pub arrivals: Arrivals,
    /// A closed loop instead.
    pub closed: Option<Closed>,
    /// Before `length`, at the first rate; not counted in the [`Tally`].
    pub warm_up: Duration,
    /// The load ends by itself after this.
    pub length: Duration,
    /// What is asked.
    pub mix: Mix,
    /// A user gives up after this.
    pub deadline: Duration,
    /// Connections at the same time. A request that finds none free beyond this waits for one, and fails as overrun where
    /// none comes free before its deadline.
    pub connections_max: usize,
    /// Whether a connection serves more than one request.
    pub keep_alive: bool,
    /// Seed of schedule and mix.
    pub seed: u64,
    /// Number of the first request; two loads on one farm must not share numbers.
    pub first_number: u64,
    /// Whether one record per request is kept, 24 bytes each.
    pub records: bool,
}

/// A fixed number of lines, of which each asks when it has been answered: for throughput and cost per request. It says
/// little about latency, for a slow answer delays the next question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Closed {
    /// Requests at the same time.
    pub lines: usize,
    /// Requests per second at most, over all lines; as many as are answered where `None`.
    pub rate: Option<f64>,
}

impl Closed {
    /// Between two requests of a line.
    fn period(&self) -> Duration {
        let period = |rate| Duration::try_from_secs_f64(self.lines as f64 / rate).unwrap_or(Duration::MAX);
        self.rate.map_or(Duration::ZERO, period)
    }
}

impl LoadOptions {
    /// Steady Poisson load over HTTP/1.1 with the default mix, of which every record is kept.
    pub fn steady(target: SocketAddr, rate: f64, length: Duration) -> Self {
        Self {
            target,
            dialect: Dialect::Http1,
            tls: None,
            rate: Rate::Steady(rate),
            arrivals: Arrivals::Poisson,
            closed: None,
            warm_up: Duration::ZERO,
            length,
            mix: Mix::default(),
            deadline: Duration::from_secs(10),
            connections_max: 8_192,
            keep_alive: true,
            seed: 1,
            first_number: 1,
            records: true,
        }
    }
}

/// How late requests left, compared with the schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Half left sooner, in microseconds.
    pub p50_us: u32,
    /// 99 of 100 left sooner.
    pub p99_us: u32,
    /// The latest.
    pub max_us: u32,
}

/// What a load has to say at its end.
#[derive(Debug)]
pub struct LoadReport {
    /// One record per request, in the order in which they ended; none where they were not asked for.
    pub records: Vec<Record>,
    /// How well the load kept its own schedule.
    pub lag: Lag,
    /// Most connections at the same time.
    pub connections_peak: usize,
    /// Everything in figures; absent when the load itself has failed half way.
    pub totals: Option<Totals>,
}

/// A [`Tally`] and how it was come by.
#[derive(Clone, Debug)]
pub struct Totals {
    /// What users saw.
    pub tally: Tally,
    /// Connections opened.
    pub connections_opened: u64,
    /// Most connections at the same time.
    pub connections_peak: usize,
    /// Requests that were still under way when the load was cut off; they are not in the tally.
    pub unfinished: u64,
    /// How busy the load's own thread was, where the kernel says so.
    pub occupation: Option<Occupation>,
    /// From the first intended start after the warm-up until the load ended or was stopped.
    pub lasted: Duration,
}

impl Totals {
    /// Requests per second that were answered as users wish while the load went on.
    pub fn rate(&self) -> f64 {
        self.tally.in_time as f64 / self.lasted.as_secs_f64().max(1e-3)
    }

    #[cfg(test)]
    pub(crate) fn of(tally: Tally) -> Self {
        Self {
            tally,
            connections_opened: 0,
            connections_peak: 0,
            unfinished: 0,
            occupation: None,
            lasted: Duration::ZERO,
        }
    }
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    started: Instant,
    shared: Arc<Shared>,
    thread: JoinHandle<io::Result<Totals>>,
}

/// What the thread of a load shares with those who watch it.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    cut: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
    published: Mutex<Published>,
}

#[derive(Debug, Default)]
struct Published {
    records: Vec<Record>,
    progress: Progress,
}

impl Load {
    /// Starts at once.
    ///
    /// # Errors
    /// When the mix cannot be asked, or the system gives no thread.
    pub fn start(options: LoadOptions) -> io::Result<Self> {
        let scheme = if options.tls.is_some() {
            http::uri::Scheme::HTTPS
        } else {
            http::uri::Scheme::HTTP
        };
        let requests = Requests::new(&options.mix, &scheme).map_err(io::Error::other)?;
        let shared = Arc::new(Shared::default());
        let driving = Arc::clone(&shared);
        let (begin, begun) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("load".into())
            .spawn(move || drive(options, requests, driving, &begin))?;
        let Ok(started) = begun.recv() else {
            let never = || io::Error::other("the load's thread has failed");
            return Err(thread.join().ok().and_then(Result::err).unwrap_or_else(never));
        };
        Ok(Self {
            started,
            shared,
            thread,
        })
    }

    /// The moment that records count from.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Copies the records from index `from` on to the end of `records`, and returns the index to ask from next time.
    /// Records become visible some 20 ms after their request ended.
    pub fn copy_since(&self, from: usize, records: &mut Vec<Record>) -> usize {
        let published = self.published();
        records.extend_from_slice(published.records.get(from..).unwrap_or_default());
        published.records.len()
    }

    /// How it goes, some 20 ms ago.
    pub fn progress(&self) -> Progress {
        self.published().progress.clone()
    }

    /// Requests that were answered as users wish, and those that failed, up to this moment and with the warm-up.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.shared.answered.load(Ordering::Relaxed),
            self.shared.failed.load(Ordering::Relaxed),
        )
    }

    /// Whether the load has ended, so that [`Load::finish`] returns at once.
    pub fn ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Starts no more requests.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Ends without waiting for what is under way.
    pub fn cut(&self) {
        self.stop();
        self.shared.cut.store(true, Ordering::Relaxed);
    }

    fn published(&self) -> std::sync::MutexGuard<'_, Published> {
        self.shared
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of the schedule (see [`Load::stop`]) and of all requests, and reports.
    pub fn finish(self) -> LoadReport {
        // A panic of the harness itself: what it has published is still true, and what is missing shows in the counts.
        let totals = self.thread.join().ok().and_then(Result::ok);
        let mut published = self
            .shared
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        LoadReport {
            records: std::mem::take(&mut published.records),
            lag: totals
                .as_ref()
                .map(|totals| totals.tally.lag())
                .unwrap_or_default(),
            connections_peak: totals.as_ref().map_or(0, |totals| totals.connections_peak),
            totals,
        }
    }
}

/// All that the thread of a load does. Says when the first request is due, once nothing is left to be prepared.
fn drive(
    options: LoadOptions,
    requests: Requests,
    shared: Arc<Shared>,
    begin: &SyncSender<Instant>,
) -> io::Result<Totals> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    let dialler = Dialler::new(options.target, options.tls.clone());
    let mut desk = Desk::new(dialler, requests, options.dialect, options.connections_max);
    desk.keep_alive = options.keep_alive;
    let (warm_up, length) = (options.warm_up, options.length);
    let occupied = Occupation::read();
    let engine = Rc::new(Engine::new(options, shared, desk));
    let started = engine.started();
    // Whoever started the load waits for this.
    let _ = begin.send(started);
    runtime.block_on(Rc::clone(&engine).run())?;
    let lasted = started.elapsed();
    let Remains {
        tally,
        connections_peak,
        connections_opened,
        unfinished,
    } = engine.remains();
    Ok(Totals {
        tally,
        connections_opened,
        connections_peak,
        unfinished,
        occupation: Occupation::since(occupied, lasted),
        lasted: lasted.saturating_sub(warm_up).min(length),
    })
}
