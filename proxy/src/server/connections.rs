//! How many clients are connected: counted by each worker for itself, summed by whoever asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of all workers.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    workers: Arc<Vec<Arc<Counter>>>,
}

/// One worker's counters: on a cache line of their own, and written by this worker only.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Counter {
    accepted: AtomicU64,
    closed: AtomicU64,
}

/// A connection that counts as open until this is dropped.
#[derive(Debug)]
pub struct Open(Arc<Counter>);

impl Connections {
    /// Counters for so many workers.
    pub fn new(workers: usize) -> Self {
        let workers = (0..workers).map(|_| Arc::default()).collect();
        Self {
            workers: Arc::new(workers),
        }
    }

    /// The counters of one worker.
    pub fn of_worker(&self, index: usize) -> Arc<Counter> {
        self.workers.get(index).cloned().unwrap_or_default()
    }

    /// Connections accepted since the start.
    pub fn accepted(&self) -> u64 {
        self.workers
            .iter()
            .map(|c| c.accepted.load(Ordering::Relaxed))
            .sum()
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        // The closed ones first: one that comes and goes in between may count as open, and none as less than none.
        let closed: u64 = self
            .workers
            .iter()
            .map(|c| c.closed.load(Ordering::Acquire))
            .sum();
        self.accepted().saturating_sub(closed)
    }
}

impl Counter {
    /// A connection has been accepted.
    pub fn accept(self: &Arc<Self>) -> Open {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Open(self.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_open_until_it_is_dropped() {
        let all = Connections::new(2);
        let first = all.of_worker(0).accept();
        let second = all.of_worker(1).accept();
        assert_eq!((all.accepted(), all.open()), (2, 2));
        drop(first);
        assert_eq!((all.accepted(), all.open()), (2, 1));
        drop(second);
        assert_eq!((all.accepted(), all.open()), (2, 0));
    }
}
