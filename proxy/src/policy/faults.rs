//! Faults that are made on purpose, to see in a drill what becomes of users and of those who watch: a part of a route's
//! requests waits, or is answered with an error.
//!
//! No endpoint hears of an aborted request, and a delayed one reaches its endpoint late and no differently: so neither says
//! anything of an endpoint, and nothing is shifted by a drill of this kind. That is what makes it safe to leave a drill
//! running by mistake, and why it is told of wherever somebody looks: at the start and by `check`, in `/v1/config`, in the
//! access log and in metrics of its own.
//!
//! Who is hit is not drawn at random but counted out: the n-th request by the n-th multiple of the golden ratio (a Weyl
//! sequence), so that a share is met within a request or two from the beginning, and no two drills differ by luck.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use foreshade_contract::Share;
use foreshade_engine::cohort::threshold;
use http::HeaderName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Denial, Reason};
use crate::request::RequestView;

/// Most requests of a route that wait for a drill's sake at a time. More go on at once, and are counted.
const DELAYED_MAX: usize = 1024;

/// The golden ratio's part of 2^32: of all steps it spreads any number of points most evenly. Source: Knuth, TAOCP 6.4.
const STEP: u32 = 0x9e37_79b9;

/// Half a step: so that the first request is hit only by a share of a third and more.
const START: u32 = STEP / 2;

/// What is done to requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// So long a part of them waits.
    pub delay: Option<(Duration, Share)>,
    /// With this status a part of them is answered.
    pub abort: Option<(u16, Share)>,
    /// Only to those that have this header.
    pub header: Option<HeaderName>,
}

/// Makes faults. Shared by all workers.
#[derive(Debug)]
pub struct Faults {
    settings: Settings,
    delays: AtomicU32,
    aborts: AtomicU32,
    room: Arc<Semaphore>,
}

/// What is done to one request.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It waits.
    Delay(Delay),
    /// It would wait, if there were not so many who do.
    Crowded,
    /// Nothing, or nothing yet.
    None,
}

/// A request that waits for a drill's sake.
#[derive(Debug)]
pub struct Delay {
    time: Duration,
    _room: OwnedSemaphorePermit,
}

impl Delay {
    /// Waits.
    pub(crate) async fn over(self) {
        tokio::time::sleep(self.time).await;
    }
}

impl Faults {
    /// Nobody has been hit yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            delays: AtomicU32::new(START),
            // Half a turn away: small shares hit different requests.
            aborts: AtomicU32::new(START.wrapping_add(1 << 31)),
            room: Arc::new(Semaphore::new(DELAYED_MAX)),
        }
    }

    /// Whether a request waits first.
    pub(crate) fn delays(&self, view: &RequestView<'_>) -> Fault {
        let Some((time, share)) = self.settings.delay.filter(|_| self.is_meant(view)) else {
            return Fault::None;
        };
        if !hits(&self.delays, share) {
            return Fault::None;
        }
        match self.room.clone().try_acquire_owned() {
            Ok(room) => Fault::Delay(Delay { time, _room: room }),
            Err(_) => Fault::Crowded,
        }
    }

    /// What a request is answered with instead of being served.
    pub(crate) fn aborts(&self, view: &RequestView<'_>) -> Option<Denial> {
        let (status, share) = self.settings.abort.filter(|_| self.is_meant(view))?;
        hits(&self.aborts, share).then(|| Denial {
            status,
            ..Denial::of(Reason::FaultAbort)
        })
    }

    fn is_meant(&self, view: &RequestView<'_>) -> bool {
        let header = self.settings.header.as_ref();
        header.is_none_or(|name| view.headers.contains(name))
    }

    /// In a line.
    pub fn in_words(&self) -> String {
        let percent = |share: Share| (share.value() * 1e8).round() / 1e6;
        let delay = self.settings.delay.iter();
        let delay = delay.map(|(time, share)| format!("{}% wait for {time:?}", percent(*share)));
        let abort = self.settings.abort.iter();
        let abort = abort.map(|(status, share)| format!("{}% are answered with {status}", percent(*share)));
        let what: Vec<_> = delay.chain(abort).collect();
        let whose = match &self.settings.header {
            Some(name) => format!(" of those with {name}"),
            None => String::new(),
        };
        format!("faults on purpose: {}{whose}", what.join(", "))
    }
}

/// Whether it is the next one's turn.
fn hits(turns: &AtomicU32, share: Share) -> bool {
    turns.fetch_add(STEP, Relaxed) < threshold(share) || share == Share::ONE
}

impl PartialEq for Faults {
    /// Equal where they do the same, whoever has been hit.
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn faults(abort: f64) -> Faults {
        Faults::new(Settings {
            delay: None,
            abort: Some((503, Share::clamped(abort))),
            header: None,
        })
    }

    #[test]
    fn a_share_is_met_from_the_beginning() {
        let headers = HeaderMap::new();
        let view = RequestView::of("GET", &headers);
        for (share, hit) in [(0.01, 10), (0.25, 250), (0.5, 500), (1.0, 1000)] {
            let faults = faults(share);
            let hits = (0..1000).filter(|_| faults.aborts(&view).is_some()).count();
            assert!(hits.abs_diff(hit) <= 2, "{share}: {hits}");
        }
    }

    #[test]
    fn so_many_wait_at_a_time_and_no_more() {
        let headers = HeaderMap::new();
        let view = RequestView::of("GET", &headers);
        let faults = Faults::new(Settings {
            delay: Some((Duration::from_secs(1), Share::ONE)),
            abort: None,
            header: None,
        });
        let waiting: Vec<_> = (0..DELAYED_MAX).map(|_| faults.delays(&view)).collect();
        assert!(waiting.iter().all(|fault| matches!(fault, Fault::Delay(_))));
        assert!(matches!(faults.delays(&view), Fault::Crowded));
        drop(waiting);
        assert!(matches!(faults.delays(&view), Fault::Delay(_)));
    }
}
