//! Open-loop load over keep-alive connections, measured from the intended start of each request.
//!
//! Two threads. The *pacer* sleeps to the microsecond (the kernel's timer, not tokio's millisecond wheel) and hands due
//! requests over; the *driver*, a single-threaded runtime, makes them. A request takes an idle connection or opens one, so
//! a slow answer occupies a connection and never delays anybody else. How late requests left is measured and reported:
//! a harness that lags has no right to a verdict.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::load::mix::{Draw, Draws, Mix};
use crate::load::pool::Pool;
use crate::load::record::{Outcome, Record, quantile};
use crate::load::schedule::{Arrivals, Rate, Schedule};
use crate::wire;

pub mod mix;
pub mod record;
pub mod schedule;

mod pool;

/// Requests that are due but not yet started; beyond this the machine is too slow and requests fail as overrun.
const DUE_MAX: usize = 65_536;

/// How often finished records become visible to others.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(20);

/// What load to make.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where users connect.
    pub target: SocketAddr,
    /// Requests per second over time.
    pub rate: Rate,
    /// How they follow each other.
    pub arrivals: Arrivals,
    /// The load ends by itself after this.
    pub length: Duration,
    /// What is asked.
    pub mix: Mix,
    /// A user gives up after this.
    pub deadline: Duration,
    /// Connections at the same time; a request that finds none free beyond this fails as overrun.
    pub connections_max: usize,
    /// Seed of schedule and mix.
    pub seed: u64,
    /// Number of the first request; two loads on one farm must not share numbers.
    pub first_number: u64,
}

impl LoadOptions {
    /// Steady Poisson load with the default mix.
    pub fn steady(target: SocketAddr, rate: f64, length: Duration) -> Self {
        Self {
            target,
            rate: Rate::Steady(rate),
            arrivals: Arrivals::Poisson,
            length,
            mix: Mix::default(),
            deadline: Duration::from_secs(10),
            connections_max: 8_192,
            seed: 1,
            first_number: 1,
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
    /// One record per request, in the order in which they ended.
    pub records: Vec<Record>,
    /// How well the load kept its own schedule.
    pub lag: Lag,
    /// Most connections at the same time.
    pub connections_peak: usize,
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    started: Instant,
    shared: Arc<Shared>,
    pacer: JoinHandle<()>,
    driver: JoinHandle<usize>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    published: Mutex<Published>,
}

#[derive(Debug, Default)]
struct Published {
    records: Vec<Record>,
    /// Of each request that left, in microseconds.
    lags: Vec<u32>,
}

/// A request that is due.
struct Due {
    intended: Duration,
    number: u64,
    draw: Draw,
}

impl Load {
    /// Starts at once.
    pub fn start(options: LoadOptions) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared::default());
        let (hand_over, due) = mpsc::channel(DUE_MAX);
        let started = Instant::now();
        let pacing = (options.clone(), Arc::clone(&shared));
        let pacer = std::thread::Builder::new()
            .name("pacer".into())
            .spawn(move || pace(&pacing.0, &pacing.1, started, &hand_over))?;
        let driving = Arc::clone(&shared);
        let driver = std::thread::Builder::new().name("load".into()).spawn(move || {
            let core = Rc::new(Core::new(options, driving, started));
            tokio::task::LocalSet::new().block_on(&runtime, Rc::clone(&core).drive(due));
            core.pool.peak()
        })?;
        Ok(Self {
            started,
            shared,
            pacer,
            driver,
        })
    }

    /// The moment that records count from.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Copies the records from index `from` on to the end of `records`, and returns the index to ask from next time.
    /// Records become visible some 20 ms after their request ended.
    pub fn copy_since(&self, from: usize, records: &mut Vec<Record>) -> usize {
        let published = self
            .shared
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        records.extend_from_slice(published.records.get(from..).unwrap_or_default());
        published.records.len()
    }

    /// Starts no more requests.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the end of the schedule (see [`Load::stop`]) and of all requests, and reports.
    pub fn finish(self) -> LoadReport {
        // A panic of the harness itself: what it has published is still true, and what is missing shows in the counts.
        let _ = self.pacer.join();
        let connections_peak = self.driver.join().unwrap_or_default();
        let mut published = self
            .shared
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut lags = std::mem::take(&mut published.lags);
        let mut lag = |part| quantile(&mut lags, part).unwrap_or_default();
        let lag = Lag {
            p50_us: lag(0.5),
            p99_us: lag(0.99),
            max_us: lag(1.0),
        };
        LoadReport {
            records: std::mem::take(&mut published.records),
            lag,
            connections_peak,
        }
    }
}

/// Hands each request over at its intended start.
fn pace(options: &LoadOptions, shared: &Shared, started: Instant, hand_over: &mpsc::Sender<Due>) {
    let mut draws = Draws::new(&options.mix, options.seed);
    let schedule = Schedule::new(options.arrivals, options.rate, options.length, options.seed);
    for (intended, number) in schedule.zip(options.first_number..) {
        let draw = draws.draw();
        if let Some(early) = intended.checked_sub(started.elapsed()) {
            std::thread::sleep(early);
        }
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        if hand_over
            .try_send(Due {
                intended,
                number,
                draw,
            })
            .is_err()
        {
            let record = record(started, intended, draw, Outcome::OVERRUN);
            shared
                .published
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .records
                .push(record);
        }
    }
}

fn record(started: Instant, intended: Duration, draw: Draw, outcome: Outcome) -> Record {
    Record {
        intended_us: record::micros(intended),
        latency_us: u32::try_from(started.elapsed().saturating_sub(intended).as_micros()).unwrap_or(u32::MAX),
        outcome,
        path: draw.path,
        post: draw.post,
    }
}

/// What the tasks of the driver share.
struct Core {
    options: LoadOptions,
    shared: Arc<Shared>,
    started: Instant,
    pool: Pool,
    finished: RefCell<Published>,
    in_flight: Cell<usize>,
}

impl Core {
    fn new(options: LoadOptions, shared: Arc<Shared>, started: Instant) -> Self {
        Self {
            pool: Pool::new(options.target, options.connections_max),
            options,
            shared,
            started,
            finished: RefCell::default(),
            in_flight: Cell::new(0),
        }
    }

    /// Starts what is due until the schedule ends, then waits for what is in flight.
    async fn drive(self: Rc<Self>, mut due: mpsc::Receiver<Due>) {
        let mut publish = tokio::time::interval(PUBLISH_INTERVAL);
        let mut ended = false;
        while !ended || self.in_flight.get() > 0 {
            tokio::select! {
                biased;
                due = due.recv(), if !ended => match due {
                    Some(due) => {
                        self.in_flight.set(self.in_flight.get() + 1);
                        tokio::task::spawn_local(Rc::clone(&self).request(due));
                    }
                    None => ended = true,
                },
                _ = publish.tick() => self.publish(),
            }
        }
        self.publish();
    }

    fn publish(&self) {
        let mut finished = self.finished.borrow_mut();
        let mut published = self
            .shared
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        published.records.append(&mut finished.records);
        published.lags.append(&mut finished.lags);
    }

    async fn request(self: Rc<Self>, due: Due) {
        let lag = self.started.elapsed().saturating_sub(due.intended);
        let left = self.options.deadline.saturating_sub(lag);
        let outcome = tokio::time::timeout(left, self.exchange(&due))
            .await
            .unwrap_or(Outcome::DEADLINE);
        let mut finished = self.finished.borrow_mut();
        finished
            .lags
            .push(u32::try_from(lag.as_micros()).unwrap_or(u32::MAX));
        finished
            .records
            .push(record(self.started, due.intended, due.draw, outcome));
        self.in_flight.set(self.in_flight.get() - 1);
    }

    async fn exchange(&self, due: &Due) -> Outcome {
        let Some(slot) = self.pool.slot() else {
            return Outcome::OVERRUN;
        };
        let Ok(mut connection) = slot.connection().await else {
            return Outcome::CONNECT;
        };
        let path = self
            .options
            .mix
            .paths
            .get(usize::from(due.draw.path))
            .map_or("/", |(path, _)| path);
        mix::encode(&mut connection.request, due.draw, path, due.number);
        if connection.stream.write_all(&connection.request).await.is_err() {
            return Outcome::CUT;
        }
        match wire::read_answer(&mut connection.stream, &mut connection.buffer).await {
            Ok(head) => {
                if head.keep_alive && connection.buffer.is_empty() {
                    slot.keep(connection);
                }
                Outcome::status(head.status)
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Outcome::GARBLED,
            Err(_) => Outcome::CUT,
        }
    }
}
