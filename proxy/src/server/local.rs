//! What belongs to one worker's thread, found from pingora's phases.
//!
//! pingora demands that a proxy can be sent between threads; a worker never is. Its state therefore lies in a
//! thread-local: no lock, no atomic, and no way to reach another worker's.

use std::cell::RefCell;
use std::os::fd::RawFd;
use std::sync::Arc;

use foreshade_engine::observation::ResourceReport;
use tokio::sync::Notify;

use crate::recorder::Place;
use crate::upstream::Peers;
use crate::upstream::network::Sampler;
use crate::worker::{Flow, Worker};

/// One worker's own things.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) worker: Worker,
    pub(crate) peers: Peers,
    pub(crate) sampler: Sampler,
    /// Wakes the sweeper when the first deadline is armed.
    pub(crate) armed: Arc<Notify>,
}

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

/// Makes this thread a worker.
pub(crate) fn install(local: Local) {
    LOCAL.with(|l| *l.borrow_mut() = Some(local));
}

/// Calls `f` with this thread's worker. `None` on a thread that is none, and while another call is under way: `f` must
/// not call back.
pub(crate) fn with<R>(f: impl FnOnce(&mut Local) -> R) -> Option<R> {
    LOCAL
        .try_with(|l| l.try_borrow_mut().ok()?.as_mut().map(f))
        .ok()
        .flatten()
}

/// The attempt's request goes out: waits for its first byte from here on.
pub(crate) fn sent(flow: &mut Flow, socket: RawFd, replayable: bool) {
    with(|l| {
        let idle = !l.worker.has_deadlines();
        l.worker.sent(flow, socket, replayable);
        if idle {
            l.armed.notify_one();
        }
    });
}

impl Local {
    /// Takes what an answer tells beside itself: how its connection fares, and what the endpoint says of its load.
    pub(crate) fn observe(&mut self, place: Place, socket: RawFd, report: Option<ResourceReport>) {
        if let Some(sample) = self.sampler.sample(place, socket, self.worker.latest()) {
            self.worker.recorder().network(place, &sample);
        }
        if let Some(report) = report {
            self.worker.recorder().resource(place, report);
        }
    }
}
