//! The end of the process: what it waits for, and how long.
//!
//! Stop: readiness fails, accepting ends, requests in flight get the grace time, and the process leaves as soon as the last
//! one is done. Where another process has taken over the order is the same; only who is idle is given a while longer,
//! because nobody is turned away meanwhile.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::work::Ending;
use super::{ServerError, Thread};
use crate::access_log::Writing;
use crate::trace::export::{END_MAX, Exporting};
use crate::upgrade::predecessor::HandedOver;

/// After the grace time a worker has nothing left to do but to write a line for each request that it cuts.
const CUT_MAX: Duration = Duration::from_millis(500);

/// The threads that tell of requests, where there are some: in lines, and in spans.
type Telling = (Option<(Writing, JoinHandle<()>)>, Option<(Exporting, Thread)>);

/// Why the process ends.
#[derive(Debug)]
pub(super) enum Why {
    /// It was told to.
    Told,
    /// Another one serves.
    HandedOver(HandedOver),
}

/// Waits for a signal, for a successor that serves, or for a worker's death.
pub(super) async fn asked_to_stop(
    workers: &[Thread],
    mut handed_over: mpsc::Receiver<HandedOver>,
) -> Result<Why, ServerError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Resources)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Resources)?;
    let mut look = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(Why::Told),
            _ = interrupt.recv() => return Ok(Why::Told),
            Some(done) = handed_over.recv() => return Ok(Why::HandedOver(done)),
            _ = look.tick() => if workers.iter().any(JoinHandle::is_finished) {
                return Err(ServerError::WorkerDied);
            },
        }
    }
}

/// Has the workers end in this way, and waits until all are done, at most the grace time. Then those that are not cut off
/// what they have.
pub(super) async fn drain(workers: &[Thread], ending: Ending, grace: Duration, end: &watch::Sender<Ending>) {
    end.send_replace(ending);
    if !all_end(workers, grace).await {
        tracing::warn!("the grace time is over: requests under way are cut off");
        end.send_replace(Ending::Cuts);
        all_end(workers, CUT_MAX).await;
    }
}

/// Waits until all workers are done, at most so long. Whether they are.
async fn all_end(workers: &[Thread], limit: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + limit;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while !workers.iter().all(JoinHandle::is_finished) {
        if tokio::time::Instant::now() >= deadline {
            return false;
        }
        look.tick().await;
    }
    true
}

/// Waits for the other threads, which end with the last worker, and for the access log's last lines and the last spans.
/// A worker that is still busy after the grace time ends with the process.
pub(super) fn leave(workers: Vec<Thread>, others: [Thread; 2], (access_log, traces): Telling) {
    if workers.iter().all(JoinHandle::is_finished) {
        for thread in workers.into_iter().chain(others) {
            let _ = thread.join();
        }
    }
    if let Some((writing, thread)) = access_log {
        writing.end(thread);
    }
    if let Some((exporting, thread)) = traces {
        exporting.end();
        ended(thread, END_MAX);
    }
}

/// Waits for a thread, at most so long.
fn ended(thread: Thread, limit: Duration) {
    let deadline = Instant::now() + limit;
    while !thread.is_finished() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    if thread.is_finished() {
        let _ = thread.join();
    }
}
