//! How many clients are connected, and how their handshakes went: counted by each worker for itself, summed by whoever
//! asks.

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
    handshakes: [AtomicU64; Handshake::ALL.len()],
    failed: [AtomicU64; Failed::ALL.len()],
}

/// A handshake of TLS that was completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// TLS 1.2, from the beginning.
    Tls12,
    /// TLS 1.2, by a ticket.
    Tls12Resumed,
    /// TLS 1.3, from the beginning.
    Tls13,
    /// TLS 1.3, by a ticket.
    Tls13Resumed,
}

impl Handshake {
    /// All of them, in order: version, and whether it was resumed.
    pub const ALL: [(Self, &'static str, &'static str); 4] = [
        (Self::Tls12, "1.2", "false"),
        (Self::Tls12Resumed, "1.2", "true"),
        (Self::Tls13, "1.3", "false"),
        (Self::Tls13Resumed, "1.3", "true"),
    ];
}

/// Why a handshake of TLS came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It took longer than a head may.
    Slow,
    /// The client has gone.
    Gone,
    /// Too many were under way.
    TooMany,
    /// He asked for a name that no certificate bears, where that is refused.
    NameUnknown,
    /// No version, suite or protocol in common.
    Incompatible,
    /// He showed no certificate where one is required.
    CertificateMissing,
    /// His certificate is not vouched for, or its time is over.
    CertificateInvalid,
    /// He did not like what he was shown.
    Alerted,
    /// It was no TLS, or broken.
    Malformed,
}

impl Failed {
    /// All of them, in order, with their labels.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Slow, "slow"),
        (Self::Gone, "gone"),
        (Self::TooMany, "too_many"),
        (Self::NameUnknown, "name_unknown"),
        (Self::Incompatible, "incompatible"),
        (Self::CertificateMissing, "certificate_missing"),
        (Self::CertificateInvalid, "certificate_invalid"),
        (Self::Alerted, "alerted"),
        (Self::Malformed, "malformed"),
    ];
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

    /// Handshakes that were completed since the start: version, whether it was resumed, and how many.
    pub fn handshakes(&self) -> Vec<(&'static str, &'static str, u64)> {
        let all = Handshake::ALL.into_iter();
        all.map(|(kind, version, resumed)| {
            let of = |worker: &Arc<Counter>| load(worker.handshakes.get(kind as usize));
            (version, resumed, self.workers.iter().map(of).sum())
        })
        .collect()
    }

    /// Handshakes that came to nothing since the start: why, and how many.
    pub fn failed(&self) -> Vec<(&'static str, u64)> {
        let all = Failed::ALL.into_iter();
        all.map(|(why, label)| {
            let of = |worker: &Arc<Counter>| load(worker.failed.get(why as usize));
            (label, self.workers.iter().map(of).sum())
        })
        .collect()
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

    /// A handshake has ended.
    pub fn shake(&self, ended: Result<Handshake, Failed>) {
        let counter = match ended {
            Ok(kind) => self.handshakes.get(kind as usize),
            Err(why) => self.failed.get(why as usize),
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn load(counter: Option<&AtomicU64>) -> u64 {
    counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
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

    #[test]
    fn handshakes_are_counted_under_their_own_labels() {
        let all = Connections::new(2);
        for (worker, (kind, version, resumed)) in Handshake::ALL.into_iter().enumerate() {
            all.of_worker(worker % 2).shake(Ok(kind));
            assert!(all.handshakes().contains(&(version, resumed, 1)));
        }
        for (why, label) in Failed::ALL {
            all.of_worker(0).shake(Err(why));
            assert!(all.failed().contains(&(label, 1)));
        }
    }
}
