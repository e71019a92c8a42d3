//! What waits to go up: bounded, and never in anybody's way.
//!
//! A controller that reads slowly must not hold the proxy's memory, and a proxy must not wait for it. So there is room for
//! the hello, for one status, of which the newest counts, and for [`REPORTS_MAX`] reports, of which the oldest goes when
//! another one comes: counters are cumulative, so the newer one says more. What was dropped is counted.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use foreshade_contract::wire::Upward;
use foreshade_contract::wire::proto::Up;
use futures_util::Stream;

/// Reports that may wait. One is on its way while the next is made; a few more bridge a pause of the network.
pub(super) const REPORTS_MAX: usize = 4;

/// Where messages are put. Dropping it ends the stream, after what waits.
#[derive(Debug)]
pub(super) struct Outbox(Arc<Mutex<Waiting>>);

/// Where they are taken, in the order: hello, status, reports.
#[derive(Debug)]
pub(super) struct Outgoing(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    hello: Option<Up>,
    status: Option<Up>,
    reports: VecDeque<Up>,
    dropped: u64,
    closed: bool,
    taker: Option<Waker>,
}

/// An empty one.
pub(super) fn outbox() -> (Outbox, Outgoing) {
    let waiting = Arc::<Mutex<Waiting>>::default();
    (Outbox(waiting.clone()), Outgoing(waiting))
}

/// Held for a few instructions, by the link's own thread alone.
fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    /// Who speaks.
    pub(super) fn hello(&self, hello: &Upward) {
        self.put(|waiting| waiting.hello = Some(hello.message()));
    }

    /// What became of plans, instead of what was said of them and has not left yet.
    pub(super) fn status(&self, status: &Upward) {
        self.put(|waiting| waiting.status = Some(status.message()));
    }

    /// What was seen. Whether another report was dropped for it.
    pub(super) fn report(&self, report: &Upward) -> bool {
        let mut drops = false;
        self.put(|waiting| {
            drops = waiting.reports.len() >= REPORTS_MAX;
            if drops {
                waiting.reports.pop_front();
                waiting.dropped += 1;
            }
            waiting.reports.push_back(report.message());
        });
        drops
    }

    /// How many were dropped since this was asked last.
    pub(super) fn dropped(&self) -> u64 {
        std::mem::take(&mut lock(&self.0).dropped)
    }

    fn put(&self, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = lock(&self.0);
        change(&mut waiting);
        if let Some(taker) = waiting.taker.take() {
            drop(waiting);
            taker.wake();
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.put(|waiting| waiting.closed = true);
    }
}

impl Stream for Outgoing {
    type Item = Up;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Up>> {
        let mut waiting = lock(&self.0);
        let Waiting {
            hello,
            status,
            reports,
            ..
        } = &mut *waiting;
        if let Some(next) = hello
            .take()
            .or_else(|| status.take())
            .or_else(|| reports.pop_front())
        {
            return Poll::Ready(Some(next));
        }
        if waiting.closed {
            return Poll::Ready(None);
        }
        waiting.taker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use foreshade_contract::{Report, Status};
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    fn report(sequence: u64) -> Upward {
        Upward::Report(Report {
            sequence,
            complete: false,
            pairs: Vec::new(),
        })
    }

    fn sequences(outgoing: &mut Outgoing) -> Vec<u64> {
        let taken = std::iter::from_fn(|| outgoing.next().now_or_never().flatten());
        let read = taken.map(|up| match Upward::read(up) {
            Ok(Upward::Report(report)) => report.sequence,
            other => panic!("{other:?}"),
        });
        read.collect()
    }

    #[test]
    fn the_oldest_reports_go_when_there_are_too_many_and_are_counted() {
        let (outbox, mut outgoing) = outbox();
        let drops: Vec<bool> = (1..=6).map(|n| outbox.report(&report(n))).collect();
        assert_eq!(drops, [false, false, false, false, true, true]);
        assert_eq!((outbox.dropped(), outbox.dropped()), (2, 0));
        assert_eq!(sequences(&mut outgoing), [3, 4, 5, 6]);
    }

    #[test]
    fn the_newest_status_overtakes_reports_and_replaces_the_one_before() {
        let (outbox, mut outgoing) = outbox();
        outbox.report(&report(1));
        for persisted in [false, true] {
            outbox.status(&Upward::Status(Status {
                persisted,
                ..Status::default()
            }));
        }
        let first = outgoing.next().now_or_never().flatten().unwrap();
        assert!(matches!(
            Upward::read(first),
            Ok(Upward::Status(Status { persisted: true, .. }))
        ));
        assert_eq!(sequences(&mut outgoing), [1]);
        drop(outbox);
        assert_eq!(outgoing.next().now_or_never(), Some(None));
    }
}
