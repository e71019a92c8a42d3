//! From the workers' spans to a collector: OTLP over gRPC, from one thread that may wait for it as long as it likes.
//!
//! A worker gives its spans away by chunks and only ever tries: what there is no room for is lost, and counted. The
//! thread takes what comes at all times, also while it waits for the collector, into a queue with a bound; when that is
//! full, what comes is lost and the older spans are kept, because they tell how it began. A batch goes out when it is
//! full, or when its first span has waited for the configured time.
//!
//! What is tried again and after what time follows the specification (OTLP 1.x, "OTLP/gRPC response" and "OTLP/gRPC
//! throttling"): errors that pass, after a pause that doubles up to [`PAUSE_MAX`] and is drawn at random in its upper
//! half, and not before the time that the collector asks for. A batch is given up after [`RETRY_MAX`], or at once
//! where the collector refuses it for good. The pause holds for the next batch, too, and doubles until the collector
//! takes one: whoever refuses all is not asked a hundred times a second. At the end of the process what waits is sent
//! once, without pauses, and not again.

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
use tokio::sync::Notify;
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

/// Longest pause that is chosen here.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Longest pause that a collector may ask for: a mistake of its must not silence a proxy for good.
const ASKED_MAX: Duration = Duration::from_secs(300);

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
    end: Notify,
}

impl Exporting {
    /// The process ends: what is there now is sent, and nothing is waited for, not even workers that live on.
    pub fn end(&self) {
        self.0.end.notify_one();
    }

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
        overflown: 0,
        rejecting: false,
        pause: PAUSE,
        not_before: None,
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
    /// `None` once all workers have ended, or the process does.
    incoming: Option<mpsc::Receiver<Vec<Span>>>,
    queue: VecDeque<Span>,
    counters: Exporting,
    /// Spans lost since the collector last took some.
    failing: usize,
    /// Spans lost since the queue was full, until half of it is free again.
    overflown: usize,
    /// The collector rejected some of the last batch.
    rejecting: bool,
    /// Longest pause after the next failure.
    pause: Duration,
    /// The batch before was given up, and the collector is left alone until then.
    not_before: Option<Instant>,
}

impl Exporter {
    /// Runs until all workers have ended, and what they left is sent or lost.
    async fn run(mut self) {
        while self.gathered().await {
            if let Some(until) = self.not_before.take() {
                self.rested(until.saturating_duration_since(Instant::now())).await;
            }
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
        // More than may wait never will.
        let enough = self.settings.batch.min(self.settings.queue);
        while self.queue.len() < enough && self.incoming.is_some() {
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
                chunk = next(&mut self.incoming, &self.counters) => self.take(chunk),
                () = is_due => return true,
            }
        }
        !self.queue.is_empty()
    }

    /// Takes a chunk; at the end of all those that are still on their way.
    fn take(&mut self, chunk: Option<Vec<Span>>) {
        if let Some(chunk) = chunk {
            return self.keep(chunk);
        }
        let Some(mut incoming) = self.incoming.take() else {
            return;
        };
        while let Ok(chunk) = incoming.try_recv() {
            self.keep(chunk);
        }
    }

    /// Puts a chunk into the queue, as far as there is room. One line when it is full, one when there is room again.
    fn keep(&mut self, mut chunk: Vec<Span>) {
        let room = self.settings.queue.saturating_sub(self.queue.len());
        let over = chunk.len().saturating_sub(room);
        chunk.truncate(room);
        self.queue.extend(chunk);
        if over == 0 {
            return;
        }
        if self.overflown == 0 {
            let (endpoint, queue) = (&self.settings.endpoint, self.settings.queue);
            tracing::warn!(endpoint, queue, "as many spans wait as may, others are lost");
        }
        self.overflown += over;
        self.counters.lose(over, Lost::Full);
    }

    /// Does `work`, and takes meanwhile what comes.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                chunk = next(&mut self.incoming, &self.counters) => self.take(chunk),
            }
        }
    }

    /// Waits so long, and takes meanwhile what comes. False where the workers have ended: then nobody waits.
    async fn rested(&mut self, pause: Duration) -> bool {
        let mut pause = pin!(sleep(pause));
        while self.incoming.is_some() {
            tokio::select! {
                () = &mut pause => return true,
                chunk = next(&mut self.incoming, &self.counters) => self.take(chunk),
            }
        }
        false
    }

    /// Has the collector take a batch, or gives it up. Whether there is a collector that says yes or no.
    async fn deliver(&mut self, batch: Vec<Span>) -> bool {
        let spans = batch.len();
        let begun = Instant::now();
        loop {
            let sending = self.collector.send(batch.clone());
            let (passes, asked, error) = match self.meanwhile(sending).await {
                Answer::Taken { rejected, message } => {
                    self.taken(spans, rejected, &message);
                    return true;
                }
                Answer::Refused(error) => (false, None, error),
                Answer::Later(asked, error) => (true, asked, error),
            };
            self.collector.forget();
            let wait = self.backed_off(asked);
            let in_vain = !passes || begun.elapsed() + wait > RETRY_MAX;
            if in_vain || !self.rested(wait).await {
                self.not_before = Some(Instant::now() + wait);
                self.failed(spans, &error);
                return !passes;
            }
            tracing::debug!(
                endpoint = self.settings.endpoint,
                error,
                spans,
                "spans are sent again"
            );
        }
    }

    /// How long the collector is left alone after it has failed: no shorter than it asks for, and no shorter than a
    /// pause that doubles until it takes something. A time of 0 is no leave to ask without end.
    fn backed_off(&mut self, asked: Option<Duration>) -> Duration {
        let drawn = rand::rng().random_range(self.pause / 2..=self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        asked.unwrap_or_default().min(ASKED_MAX).max(drawn)
    }

    fn taken(&mut self, spans: usize, rejected: usize, message: &str) {
        self.pause = PAUSE;
        let rejected = rejected.min(spans);
        self.counters.sent(spans - rejected);
        if rejected > 0 {
            self.counters.lose(rejected, Lost::Rejected);
        }
        let before = std::mem::replace(&mut self.rejecting, rejected > 0);
        if self.rejecting && !before {
            tracing::warn!(spans = rejected, message, "the collector rejects spans");
        } else if !message.is_empty() {
            tracing::debug!(message, "the collector warns");
        }
        if self.failing > 0 {
            tracing::info!(lost = self.failing, "the collector takes spans again");
            self.failing = 0;
        }
        if self.overflown > 0 && self.queue.len() <= self.settings.queue / 2 {
            tracing::info!(lost = self.overflown, "there is room for spans again");
            self.overflown = 0;
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

/// The next chunk; `None` at the end of all, or of the process. Never, once that was said.
async fn next(incoming: &mut Option<mpsc::Receiver<Vec<Span>>>, exporting: &Exporting) -> Option<Vec<Span>> {
    match incoming {
        Some(incoming) => tokio::select! {
            chunk = incoming.recv() => chunk,
            () = exporting.0.end.notified() => None,
        },
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn exporter(keys: &str) -> (mpsc::Sender<Vec<Span>>, Exporter) {
        let text = format!(
            "apiVersion: foreshade/v1\n\
             trace: {{ mode: start, export: {{ endpoint: \"http://127.0.0.1:1\", {keys} }} }}\n\
             listeners: [{{ name: web, address: 127.0.0.1:80, routes: [{{ cluster: shop }}] }}]\n\
             clusters: [{{ name: shop, endpoints: [{{ name: a, address: 127.0.0.1:9001 }}] }}]\n"
        );
        let config = config::parse(&text, "test").expect("the test's configuration is well");
        let settings = config.trace_export.expect("it has one");
        let (way, incoming) = mpsc::channel(CHUNKS_MAX);
        let exporter = Exporter {
            collector: Collector::new(&settings),
            settings,
            incoming: Some(incoming),
            queue: VecDeque::new(),
            counters: Exporting::default(),
            failing: 0,
            overflown: 0,
            rejecting: false,
            pause: PAUSE,
            not_before: None,
        };
        (way, exporter)
    }

    fn lost(exporter: &Exporter, why: &str) -> u64 {
        let mut all = exporter.counters.lost();
        all.find(|(label, _)| *label == why).expect("a reason").1
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_is_shorter_than_a_batch_is_sent_when_it_is_full() {
        let (way, mut exporter) = exporter("queue: 4, delay: 60s");
        let begun = Instant::now();
        way.try_send(vec![Span::default(); 6]).unwrap();
        assert!(exporter.gathered().await);
        assert_eq!((exporter.queue.len(), begun.elapsed()), (4, Duration::ZERO));
        assert_eq!((lost(&exporter, "full"), exporter.overflown), (2, 2));
        exporter.queue.clear();
        exporter.taken(4, 0, "");
        assert_eq!(exporter.overflown, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_process_waits_for_no_worker() {
        let (way, mut exporter) = exporter("delay: 60s");
        let begun = Instant::now();
        way.try_send(vec![Span::default()]).unwrap();
        exporter.counters.end();
        assert!(exporter.gathered().await);
        assert_eq!((exporter.queue.len(), begun.elapsed()), (1, Duration::ZERO));
        assert!(!exporter.rested(PAUSE_MAX).await && way.is_closed());
    }

    #[test]
    fn a_collector_is_left_alone_for_as_long_as_it_asks_and_longer_each_time() {
        let (_way, mut exporter) = exporter("");
        let of = |ms| Duration::from_millis(ms);
        assert!((of(250)..=of(500)).contains(&exporter.backed_off(Some(Duration::ZERO))));
        assert!((of(500)..=of(1000)).contains(&exporter.backed_off(None)));
        assert_eq!(exporter.backed_off(Some(of(40_000))), of(40_000));
        assert_eq!(exporter.backed_off(Some(Duration::MAX)), ASKED_MAX);
        for _ in 0..10 {
            exporter.backed_off(None);
        }
        assert!((PAUSE_MAX / 2..=PAUSE_MAX).contains(&exporter.backed_off(None)));
        exporter.taken(1, 1, "");
        assert!(exporter.backed_off(None) <= PAUSE);
    }
}
