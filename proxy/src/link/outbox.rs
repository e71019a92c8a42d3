//! What waits to go up: bounded, and never in anybody's way.
//!
//! A controller that reads slowly must not hold the proxy's memory, and a proxy must not wait for it. So there is room for
//! the hello, for one status, of which the newest counts, and for [`REPORTS_MAX`] reports, of which the oldest goes when
//! another one comes: counters are cumulative, so the newer one says more. What was dropped is counted. A report leaves in
//! pieces, so that a controller that a thousand proxies come back to has a piece of each in its hands, and not the whole.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use foreshade_contract::Report;
use foreshade_contract::wire::proto::Up;
use foreshade_contract::wire::{Upward, report_pieces};
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
    /// Each what is left of its pieces.
    reports: VecDeque<VecDeque<Up>>,
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
    pub(super) fn report(&self, report: &Report) -> bool {
        let mut drops = false;
        self.put(|waiting| {
            drops = waiting.reports.len() >= REPORTS_MAX;
            if drops {
                waiting.reports.pop_front();
                waiting.dropped += 1;
            }
            waiting.reports.push_back(report_pieces(report).into());
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

fn next_piece(reports: &mut VecDeque<VecDeque<Up>>) -> Option<Up> {
    let report = reports.front_mut()?;
    let piece = report.pop_front();
    if report.is_empty() {
        reports.pop_front();
    }
    piece
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
            .or_else(|| next_piece(reports))
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
    use foreshade_contract::Status;
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    fn report(sequence: u64) -> Report {
        Report {
            sequence,
            complete: false,
            pairs: Vec::new(),
        }
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
    fn a_long_report_leaves_in_pieces_and_goes_as_one() {
        use foreshade_contract::{Arm, PairReport, Round, Share};
        let pair = |n: u32| PairReport {
            pair: foreshade_contract::PairId {
                cluster: "shop".parse().unwrap(),
                primary: format!("endpoint-{n}").parse().unwrap(),
            },
            round: Round(1),
            serving: Arm::Primary,
            share: Share::ZERO,
            risk: [None; 2],
            health: Default::default(),
            arms: Default::default(),
            segments: Vec::new(),
            latency: Default::default(),
            network: Default::default(),
            mirrored: Default::default(),
        };
        let long = Report {
            pairs: (0..10_000).map(pair).collect(),
            ..report(1)
        };
        let (outbox, mut outgoing) = outbox();
        outbox.report(&long);
        let pieces = sequences(&mut outgoing);
        assert!(
            pieces.len() > 3 && pieces.iter().all(|number| *number == 1),
            "{pieces:?}"
        );
        // Some of it has left when it has to make room.
        outbox.report(&long);
        let first = outgoing.next().now_or_never().flatten().unwrap();
        assert!(matches!(Upward::read(first), Ok(Upward::Report(_))));
        let drops: Vec<bool> = (2..=5).map(|n| outbox.report(&report(n))).collect();
        assert_eq!((drops, outbox.dropped()), (vec![false, false, false, true], 1));
        assert_eq!(sequences(&mut outgoing), [2, 3, 4, 5]);
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
