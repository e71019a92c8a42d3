//! What happens when a state has lasted too long. Every state that waits for something has an end, and it stands here.
//!
//! The time of a step goes on through Advancing and Holding, so that a guard that comes and goes cannot make it last for
//! ever.

use std::time::Duration;

use super::baking::{commit, settle};
use super::cause::{Cause, ms};
use super::guards::{NOT_WORSE, STEP_PROVEN};
use super::policy::{Inconclusive, OldPrimary};
use super::retreating::{carries_more, fail};
use super::rollback::{TARGET_CARRIES_ALL, go_or_freeze, is_left_to_operator, lead_back, put_back, way_back};
use super::rule::{Guard, Move, NOTHING};
use super::shifting::{ADVANCE, PROMOTE, advance, is_last};
use super::sight::Opinion;
use super::state::{Promoting, Retreat, Shifting, State, Warm};
use super::view::View;
use super::{Pair, Trigger, promoting, warm};

/// Asks whether the state has lasted too long.
pub(super) fn law(view: &View<'_>) -> Option<Move> {
    let limit = view.pair.state.deadline(view.policy)?;
    let spent = spent(view.pair);
    if spent < limit {
        return None;
    }
    let state = view.pair.state;
    let after_ms = ms(spent);
    Some(end(view, Cause::Deadline { state, after_ms }, after_ms))
}

/// What counts towards the deadline of the present state.
fn spent(pair: &Pair) -> Duration {
    match pair.state {
        State::Shifting(Shifting::Advancing) => pair.course.on_step,
        _ => pair.elapsed,
    }
}

fn end(view: &View<'_>, cause: Cause, after_ms: u64) -> Move {
    let holding = State::Shifting(Shifting::Holding);
    match view.pair.state {
        State::Provisioning | State::Syncing => Move::new(State::Failed, cause, fail),
        State::Warm(_) => Move::new(
            State::Warm(Warm::Mirroring),
            Cause::Inconclusive { after_ms },
            warm::give_up,
        ),
        State::Shifting(Shifting::Advancing | Shifting::Paused) => Move::new(holding, cause, NOTHING),
        State::Shifting(Shifting::Holding) => end_of_hold(view, Cause::Inconclusive { after_ms }),
        State::Promoting(Promoting::Fence | Promoting::CatchUp | Promoting::Flip) => {
            go_or_freeze(view, cause)
        }
        // Some proxies are silent; those that speak have followed or will, and forward is where users are.
        State::Promoting(Promoting::Cutover) | State::FailedOver => {
            Move::new(State::Baking, cause, |pair, seen| pair.new_round(seen))
        }
        State::Baking => end_of_bake(view, after_ms),
        State::Committed => {
            let for_ms = after_ms;
            let to = match view.policy.old_primary {
                OldPrimary::Shadow => State::Syncing,
                OldPrimary::Retire => State::Retired,
            };
            Move::new(to, Cause::Retained { for_ms }, settle)
        }
        State::RollingBack(Retreat::Weights) => end_of_rollback(view, cause),
        State::RollingBack(_) => Move::new(State::Frozen, cause, NOTHING),
        // These have no deadline, so that they never come here.
        State::Unassigned | State::Failed | State::Frozen | State::Retired => {
            Move::new(State::Frozen, cause, NOTHING)
        }
    }
}

/// Nothing was decided: as the policy says, where everything but evidence is there; else back, or where risk alone had
/// begun it, as far as the proxies find the primary well.
fn end_of_hold(view: &View<'_>, cause: Cause) -> Move {
    if is_left_to_operator(view) {
        return Move::new(State::Frozen, cause, NOTHING);
    }
    let guards = if is_last(view) { PROMOTE } else { ADVANCE };
    let is_evidence = |guard: &Guard| [STEP_PROVEN.says, NOT_WORSE.says].contains(&guard.says);
    let rest_holds = guards
        .iter()
        .filter(|guard| !is_evidence(guard))
        .all(|guard| (guard.ask)(view).is_ok());
    let promote = view.policy.on_inconclusive == Inconclusive::Promote && view.opinion() != Opinion::Worse;
    let by_risk = view.pair.course.trigger == Some(Trigger::Risk) && (TARGET_CARRIES_ALL.ask)(view).is_ok();
    match (promote && rest_holds, is_last(view)) {
        // It was not shown to be wrong to leave, and not to be right to come back: the proxies go on alone, from where users
        // are. Put back by a clock, they would all be at a primary that is as bad as it was.
        (false, _) if by_risk => Move::new(State::RollingBack(Retreat::Weights), cause, lead_back),
        (false, _) => go_or_freeze(view, cause),
        (true, false) => Move::new(State::Shifting(Shifting::Advancing), cause, advance),
        (true, true) => Move::new(State::Promoting(Promoting::Fence), cause, promoting::begin),
    }
}

/// Too few requests to say that it is well, and no alarm either.
fn end_of_bake(view: &View<'_>, after_ms: u64) -> Move {
    let cause = Cause::Inconclusive { after_ms };
    if is_left_to_operator(view) {
        return Move::new(State::Frozen, cause, NOTHING);
    }
    let back = view.policy.on_inconclusive == Inconclusive::Rollback;
    match way_back(view) {
        Ok((to, act)) if back => Move::new(to, cause, act),
        Ok(_) | Err(_) => Move::new(State::Committed, cause, commit),
    }
}

/// Not all are back, or not all proxies have said so.
fn end_of_rollback(view: &View<'_>, cause: Cause) -> Move {
    if carries_more(view).is_some() {
        // It was not its turn in the group; a member that hangs must not keep users where they do not belong.
        return Move::new(view.pair.state, cause, |pair, seen| {
            let mut seen = seen;
            seen.company.goes_first = false;
            put_back(pair, seen);
        });
    }
    if view.pair.share > super::points::BasisPoints::ZERO {
        return Move::new(State::Frozen, cause, NOTHING);
    }
    Move::new(State::Failed, cause, fail)
}
