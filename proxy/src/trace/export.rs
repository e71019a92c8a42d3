//! From the workers' spans to a collector: OTLP over gRPC, from one thread that may wait for it as long as it likes.
//!
//! A worker gives its spans away by chunks and only ever tries: what there is no room for is lost, and counted. The
//! thread takes what comes at all times, also while it waits for the collector, into a queue with a bound; when that is
//! full, what comes is lost and the older spans are kept, because they tell how it began. A batch goes out when it is
//! full, or when its first span has waited for the configured time.
//!
//! What is tried again and after what time follows the specification (OTLP 1.x, "OTLP/gRPC response" and "OTLP/gRPC
//! throttling"): errors that pass, after a pause that doubles up to [`PAUSE_MAX`] and is drawn at random in its upper
//! half, or after the time that the collector asks for. A batch is given up after [`RETRY_MAX`]; at the end of the
//! process what waits is sent once, and not again.

mod send;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep, sleep_until};

use super::otlp::Span;
use super::spans::Spans;
use crate::config::TraceExport;

use self::send::{Answer, Collector};

/// Chunks on their way to the thread, per worker. It takes them at once, unless the machine gives it no time: then
/// these are a second and a half of ticks.
const CHUNKS_MAX: usize = 16;

/// First pause before a batch is sent again.
const PAUSE: Duration = Duration::from_millis(500);

/// Longest pause that is chosen here, and longest that a collector may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// For so long a batch is tried again. Longer than a collector takes to restart; what is older is of little use.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// How long the end of the process waits for spans to be sent.
pub const END_MAX: Duration = Duration::from_secs(5);

/// Why a span was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The thread had no time to take it.
    Behind,
    /// As many waited as may.
    Full,
    /// The collector could not be reached, or did not take it in time.
    Failed,
    /// The collector took the message, and not the span.
    Rejected,
}

impl Lost {
    /// All reasons, with their labels in metrics.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Behind, "behind"),
        (Self::Full, "full"),
        (Self::Failed, "failed"),
        (Self::Rejected, "rejected"),
    ];
}

/// The export, seen from outside: what became of spans since the start.
#[derive(Clone, Debug, Default)]
pub struct Exporting(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    exported: AtomicU64,
    /// In the order of [`Lost::ALL`].
    lost: [AtomicU64; Lost::ALL.len()],
}

impl Exporting {
    /// Spans that a collector has taken.
    pub fn exported(&self) -> u64 {
        self.0.exported.load(Ordering::Relaxed)
    }

    /// Spans that nobody will see, by why.
    pub fn lost(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Lost::ALL
            .iter()
            .map(|(_, label)| *label)
            .zip(self.0.lost.iter().map(count))
    }

    fn sent(&self, spans: usize) {
        self.0.exported.fetch_add(spans as u64, Ordering::Relaxed);
    }

    fn lose(&self, spans: usize, why: Lost) {
        let at = Lost::ALL.iter().position(|(lost, _)| *lost == why);
        if let Some(counter) = at.and_then(|at| self.0.lost.get(at)) {
            counter.fetch_add(spans as u64, Ordering::Relaxed);
        }
    }
}

/// One worker's way to the thread.
#[derive(Debug)]
pub(super) struct Lane {
    way: mpsc::Sender<Vec<Span>>,
    counters: Exporting,
}

impl Lane {
    /// Gives spans away, if there is room on the way.
    pub(super) fn give(&self, spans: Vec<Span>) {
        if let Err(TrySendError::Full(spans) | TrySendError::Closed(spans)) = self.way.try_send(spans) {
            self.counters.lose(spans.len(), Lost::Behind);
        }
    }
}

/// What each worker needs, what the process needs, and the thread. It ends once no worker has a way to it any more.
pub type Started = (Vec<Spans>, Exporting, JoinHandle<io::Result<()>>);

/// Starts the export.
///
/// # Errors
/// When there is no thread to be had.
pub fn start(settings: TraceExport, workers: usize) -> io::Result<Started> {
    let counters = Exporting::default();
    let (way, incoming) = mpsc::channel(CHUNKS_MAX * workers.max(1));
    let exporter = Exporter {
        collector: Collector::new(&settings),
        settings,
        incoming: Some(incoming),
        queue: VecDeque::new(),
        counters: counters.clone(),
        failing: 0,
    };
    let thread = std::thread::Builder::new()
        .name("traces".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(exporter.run());
            Ok(())
        })?;
    let lane = || Lane {
        way: way.clone(),
        counters: counters.clone(),
    };
    let spans = (0..workers).map(|_| Spans::new(lane())).collect();
    Ok((spans, counters, thread))
}

struct Exporter {
    settings: TraceExport,
    collector: Collector,
    /// `None` once all workers have ended.
    incoming: Option<mpsc::Receiver<Vec<Span>>>,
    queue: VecDeque<Span>,
    counters: Exporting,
    /// Spans lost since the collector last took some.
    failing: usize,
}

impl Exporter {
    /// Runs until all workers have ended, and what they left is sent or lost.
    async fn run(mut self) {
        while self.gathered().await {
            let size = self.queue.len().min(self.settings.batch);
            let batch: Vec<Span> = self.queue.drain(..size).collect();
            if !self.deliver(batch).await && self.incoming.is_none() {
                // Nobody is there to hear the rest, and the process is not kept waiting for him.
                self.lose(self.queue.len(), Lost::Failed);
                return;
            }
        }
    }

    /// Waits for a batch. False where nothing is left and nothing will come.
    async fn gathered(&mut self) -> bool {
        let mut due = None;
        while self.queue.len() < self.settings.batch && self.incoming.is_some() {
            if !self.queue.is_empty() && due.is_none() {
                due = Some(Instant::now() + self.settings.delay);
            }
            let is_due = async move {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                chunk = next(&mut self.incoming) => self.take(chunk),
                () = is_due => return true,
            }
        }
        !self.queue.is_empty()
    }

    /// Puts a chunk into the queue, as far as there is room.
    fn take(&mut self, chunk: Option<Vec<Span>>) {
        let Some(mut chunk) = chunk else {
            self.incoming = None;
            return;
        };
        let room = self.settings.queue.saturating_sub(self.queue.len());
        let over = chunk.len().saturating_sub(room);
        chunk.truncate(room);
        self.queue.extend(chunk);
        if over > 0 {
            self.counters.lose(over, Lost::Full);
        }
    }

    /// Does `work`, and takes meanwhile what comes.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                chunk = next(&mut self.incoming) => self.take(chunk),
            }
        }
    }

    /// Waits so long, and takes meanwhile what comes. False where the workers have ended: then nobody waits.
    async fn rested(&mut self, pause: Duration) -> bool {
        let mut pause = pin!(sleep(pause));
        while self.incoming.is_some() {
            tokio::select! {
                () = &mut pause => return true,
                chunk = next(&mut self.incoming) => self.take(chunk),
            }
        }
        false
    }

    /// Has the collector take a batch, or gives it up. Whether it has.
    async fn deliver(&mut self, batch: Vec<Span>) -> bool {
        let spans = batch.len();
        let begun = Instant::now();
        let mut pause = PAUSE;
        loop {
            let sending = self.collector.send(batch.clone());
            let (asked, error) = match self.meanwhile(sending).await {
                Answer::Taken { rejected, message } => {
                    self.taken(spans, rejected, &message);
                    return true;
                }
                Answer::Refused(error) => {
                    self.collector.forget();
                    self.failed(spans, &error);
                    return false;
                }
                Answer::Later(asked, error) => (asked, error),
            };
            self.collector.forget();
            let drawn = rand::rng().random_range(pause / 2..=pause);
            let wait = asked.unwrap_or(drawn).min(PAUSE_MAX);
            pause = (pause * 2).min(PAUSE_MAX);
            let in_vain = begun.elapsed() + wait > RETRY_MAX;
            if in_vain || !self.rested(wait).await {
                self.failed(spans, &error);
                return false;
            }
            tracing::debug!(
                endpoint = self.settings.endpoint,
                error,
                spans,
                "spans are sent again"
            );
        }
    }

    fn taken(&mut self, spans: usize, rejected: usize, message: &str) {
        let rejected = rejected.min(spans);
        self.counters.sent(spans - rejected);
        if rejected > 0 {
            self.counters.lose(rejected, Lost::Rejected);
            tracing::warn!(spans = rejected, message, "the collector rejected spans");
        } else if !message.is_empty() {
            tracing::debug!(message, "the collector warns");
        }
        if self.failing > 0 {
            tracing::info!(lost = self.failing, "the collector takes spans again");
            self.failing = 0;
        }
    }

    /// One line when it begins to fail, one when it works again.
    fn failed(&mut self, spans: usize, error: &str) {
        if self.failing == 0 {
            let endpoint = &self.settings.endpoint;
            tracing::warn!(
                endpoint,
                error,
                spans,
                "the collector does not take spans, they are lost"
            );
        }
        self.lose(spans, Lost::Failed);
    }

    fn lose(&mut self, spans: usize, why: Lost) {
        self.failing += spans;
        self.counters.lose(spans, why);
    }
}

/// The next chunk; `None` at the end of all. Never, once that was said.
async fn next(incoming: &mut Option<mpsc::Receiver<Vec<Span>>>) -> Option<Vec<Span>> {
    match incoming {
        Some(incoming) => incoming.recv().await,
        None => std::future::pending().await,
    }
}
