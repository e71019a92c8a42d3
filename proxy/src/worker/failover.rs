//! Whether a request whose attempt failed goes elsewhere: the engine says whether it may, the budget whether it is paid.

use arrayvec::ArrayVec;
use foreshade_engine::balance::Tried;
use foreshade_engine::failover::{Attempted, Keep, Stage, Verdict, verdict};
use foreshade_engine::moment::Moment;

use super::{Flow, TRIED_MAX, Worker};

impl Worker {
    /// Decides whether the request goes elsewhere, pays for it, and remembers where.
    pub(super) fn move_on(
        &mut self,
        flow: &mut Flow,
        stage: Stage,
        reason: &'static str,
        replayable: bool,
        now: Moment,
    ) -> bool {
        let (Some(table), Some(state)) = (
            self.snapshot.clusters.get(flow.cluster),
            self.clusters.get_mut(flow.cluster),
        ) else {
            return false;
        };
        let tried = Tried {
            endpoints: &flow.tried,
            never_sent: matches!(
                stage,
                Stage::NeverSent | Stage::StaleConnection { written: false }
            ),
            stale: matches!(stage, Stage::StaleConnection { .. }),
        };
        let Some(pick) = table.alternative(&flow.request, tried, &state.loads, &mut self.rng, now) else {
            state.tally.kept.add("nobody_left", 1);
            return false;
        };
        let attempted = Attempted {
            repeatable: flow.request.repeatable,
            attempts: attempts(&flow.tried),
            attempts_max: flow.request.attempts_max,
            retry_on: flow.request.retry_on,
            replayable,
            remaining: Some(flow.limit.since(now)),
            target_typical: table.typical(pick.endpoint),
            retries: table.retries(),
        };
        match verdict(stage, &attempted) {
            Verdict::Move { cost } if state.budget.try_spend(cost, now) => {
                flow.next = Some(pick);
                state.tally.moved.add(reason, 1);
                self.retried(flow);
                true
            }
            Verdict::Move { .. } => {
                state.tally.kept.add("budget", 1);
                false
            }
            Verdict::Keep(Keep::Final) => false,
            Verdict::Keep(keep) => {
                state.tally.kept.add(keep.label(), 1);
                false
            }
        }
    }
}

pub(super) fn attempts(tried: &ArrayVec<usize, TRIED_MAX>) -> u32 {
    u32::try_from(tried.len()).unwrap_or(u32::MAX)
}
