//! The severe lane: an arm is gone. Asked before everything else, in one tick, whatever gates, pauses and evidence say.
//!
//! Where what serves is gone and the standby is well, everything goes to the standby. Where users are moving to a standby
//! that is gone, they go back. The proxies do the same by themselves within a request; here it becomes the intention, and
//! the roles follow. More than half of the proxies have to agree, so that one that is cut off moves nobody.
//!
//! Two things outrank it: an operator's freeze, and the budget of role changes. Two endpoints that die in turns would
//! otherwise throw the writer back and forth, and lose data each time.
// Concept: endpoint-failover, region-failover

use foreshade_contract::Arm;

use super::cause::{Cause, Obstacle, ms};
use super::guards::{FLAP_BUDGET, LAG_KNOWN, STANDBY_FIT};
use super::points::BasisPoints;
use super::rollback::{self, Wanted};
use super::rule::{Guard, Move, NOTHING, missing};
use super::safety::SafetyRule;
use super::sight::Sync;
use super::state::{Promoting, Retreat, Shifting, State};
use super::view::{Seen, View};
use super::{Course, Pair};

/// What has to hold before everything goes to the standby.
const FAIL_OVER: &[&Guard] = &[&STANDBY_FIT, &LAG_KNOWN];

/// Asks the lane.
pub(super) fn law(view: &View<'_>, waiting: &mut Vec<Obstacle>) -> Wanted {
    if view.pair.overrides.waives(SafetyRule::SevereLane) {
        return Wanted::Nothing;
    }
    if view.serving_sight().is_gone() {
        match serving_gone(view, waiting) {
            Wanted::Nothing => {}
            wanted => return wanted,
        }
    }
    if view.standby_sight().is_gone() && users_move_to_standby(view.pair.state) {
        return match rollback::go(view, gone(view, view.standby())) {
            // Blocked or not, nobody more may move there.
            Wanted::Stop(..) if view.pair.state == State::Shifting(Shifting::Advancing) => {
                let cause = gone(view, view.standby());
                Wanted::Move(Move::new(State::Shifting(Shifting::Holding), cause, NOTHING))
            }
            wanted => wanted,
        };
    }
    Wanted::Nothing
}

fn serving_gone(view: &View<'_>, waiting: &mut Vec<Obstacle>) -> Wanted {
    let cause = gone(view, view.pair.serving);
    let pair = view.pair;
    let may_fail_over = match pair.state {
        State::Warm(_)
        | State::Shifting(_)
        | State::Promoting(Promoting::Fence | Promoting::CatchUp)
        | State::Committed
        | State::RollingBack(Retreat::Weights)
        | State::Failed => true,
        // The standby is what it was promoted from: it takes over if it has followed.
        State::Promoting(Promoting::Cutover) | State::Baking => pair.rollback_target == Some(view.standby()),
        State::Unassigned
        | State::Provisioning
        | State::Syncing
        | State::Promoting(Promoting::Flip)
        | State::RollingBack(Retreat::Fence | Retreat::CatchUp | Retreat::Grant)
        | State::FailedOver
        | State::Frozen
        | State::Retired => false,
    };
    if !may_fail_over {
        let lost = matches!(pair.state, State::Promoting(Promoting::Cutover) | State::Baking);
        return if lost {
            Wanted::Move(Move::new(State::Frozen, Cause::NoWayBack, NOTHING))
        } else {
            Wanted::Nothing
        };
    }
    if let Some(obstacle) = missing(FAIL_OVER, view) {
        waiting.push(obstacle);
        return Wanted::Nothing;
    }
    if (FLAP_BUDGET.ask)(view).is_err() {
        let cause = Cause::FlapBudgetSpent {
            changes: pair.flap.changes(),
            max: view.policy.flap.changes,
        };
        return Wanted::Move(Move::new(State::Frozen, cause, NOTHING));
    }
    Wanted::Move(Move::new(State::FailedOver, cause, fail_over))
}

/// Everything goes to the standby. What the old one had not passed on is lost, and how much that is at most is kept.
fn fail_over(pair: &mut Pair, seen: Seen<'_>) {
    let old = pair.serving;
    pair.serving = old.other();
    pair.share = BasisPoints::ZERO;
    pair.course = Course::default();
    pair.gates.forget_all();
    pair.loss_bound_ms = match seen.sight.sync {
        Sync::Known { lag, .. } if pair.writer.stateful => Some(ms(lag)),
        Sync::Known { .. } | Sync::Unknown | Sync::Nothing => None,
    };
    if pair.writer.stateful {
        pair.writer.seize(pair.serving);
    }
    // What the old one has is out of date from now on, until it is in sync again.
    pair.ponr = pair.writer.stateful;
    pair.rollback_target = (!pair.ponr).then_some(old);
    pair.flap.changed_roles(&seen.policy.flap);
}

fn users_move_to_standby(state: State) -> bool {
    let cut_over = state == State::Promoting(Promoting::Cutover);
    matches!(state, State::Shifting(_) | State::Promoting(_)) && !cut_over
}

fn gone(view: &View<'_>, arm: Arm) -> Cause {
    let seen = view.sight.arm(arm);
    Cause::ArmGone {
        arm,
        down: seen.down.down,
        of: seen.down.of,
        severe: seen.severe,
    }
}
