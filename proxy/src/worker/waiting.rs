//! Requests that wait for their first byte, and what becomes of those who have waited long enough.

use std::time::Duration;

use foreshade_engine::balance::{Pick, Request, Tried};
use foreshade_engine::failover::{Attempted, Stage, Verdict, verdict};
use foreshade_engine::moment::Moment;
use rand::rngs::SmallRng;

use super::{ClusterState, Worker};
use crate::table::Snapshot;
use crate::upstream::cut::Line;

/// When an answer that lay there unread is looked for again.
const UNREAD_PAUSE: Duration = Duration::from_millis(20);

/// What a deadline knows of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) cluster: usize,
    pub(super) endpoint: usize,
    pub(super) request: Request,
    pub(super) attempts: u32,
    pub(super) replayable: bool,
    pub(super) limit: Moment,
    /// Decided and paid for when the deadline was reached.
    pub(super) moved: Option<Pick>,
}

impl Worker {
    /// Whether any request waits for its first byte against a deadline.
    pub fn has_deadlines(&self) -> bool {
        !self.deadlines.is_empty()
    }

    /// Looks after the deadlines that have been reached: a request that can go elsewhere gives its connection up, one
    /// that cannot waits on until its route's limit. So does one whose connection `has_bytes`: its endpoint has answered in
    /// time, and it is this worker that is late.
    pub fn sweep(&mut self, has_bytes: impl Fn(&Line) -> bool, mut give_up: impl FnMut(&Line)) {
        let now = self.clock.now();
        let (snapshot, clusters, rng) = (&self.snapshot, &mut self.clusters, &mut self.rng);
        self.deadlines.sweep(now, |entry| {
            let waiting = entry.what;
            if now < waiting.limit {
                if has_bytes(&entry.line) {
                    return Some((now + UNREAD_PAUSE).min(waiting.limit));
                }
                let state = clusters.get_mut(waiting.cluster);
                let pick = state.and_then(|state| elsewhere(&waiting, snapshot, state, rng, now));
                let Some(pick) = pick else {
                    return Some(waiting.limit);
                };
                entry.what.moved = Some(pick);
            }
            give_up(&entry.line);
            None
        });
    }
}

/// Where a request whose first byte is late can go, paid for from the budget. Decided while it still waits, because a
/// connection given up for nothing would make a slow request a failed one.
fn elsewhere(
    waiting: &Waiting,
    snapshot: &Snapshot,
    state: &mut ClusterState,
    rng: &mut SmallRng,
    now: Moment,
) -> Option<Pick> {
    let table = snapshot.clusters.get(waiting.cluster)?;
    let tried = Tried {
        endpoints: &[waiting.endpoint],
        never_sent: false,
        stale: false,
    };
    let pick = table.alternative(&waiting.request, tried, &state.loads, rng, now)?;
    let attempted = Attempted {
        repeatable: waiting.request.repeatable,
        attempts: waiting.attempts,
        attempts_max: waiting.request.attempts_max,
        retry_on: waiting.request.retry_on,
        replayable: waiting.replayable,
        remaining: Some(waiting.limit.since(now)),
        target_typical: table.typical(pick.endpoint),
        retries: table.retries(),
    };
    match verdict(Stage::Sent, &attempted) {
        Verdict::Move { cost } => state.budget.try_spend(cost, now).then_some(pick),
        Verdict::Keep(_) => None,
    }
}
