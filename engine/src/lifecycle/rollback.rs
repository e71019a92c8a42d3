//! When a pair goes back, and where to. Asked in every active state, before any order and any gate.
//!
//! The way back is not "to the primary": it is to the arm that was written down as the target when the shift began or the
//! roles changed, and only while that arm is well and carries something (Flagger #1898: the primary failed after its
//! promotion, and the rollback sent everybody to it). Where there is no way back the pair stays where users are served
//! best, moves nothing, and calls somebody.
//!
//! | phase | healthy copy | going back means |
//! |---|---|---|
//! | Shifting | the old primary | weights; the writer has not moved |
//! | Fence, CatchUp | the old primary | it may write again; weights |
//! | Flip to Baking, the old primary follows | both | the writer goes back through fence and catch-up; weights |
//! | Flip to Baking, it does not follow | the new primary only | nothing: past the point of no return |
//! | Committed | the new primary | `undo`: a planned promotion of the old one, in one step |
//! | FailedOver | the new primary | nothing, until the old one is in sync again |

use super::cause::{Cause, Obstacle};
use super::points::BasisPoints;
use super::policy::RollbackPolicy;
use super::rule::{Act, Guard, Move, NOTHING};
use super::sight::Opinion;
use super::state::{Promoting, Retreat, Shifting, State};
use super::view::{Seen, View};
use super::{Alert, Pair};

pub(super) const TARGET_FIT: Guard = Guard {
    says: "where users go back to is well",
    ask: |view| view.fit(view.pair.rollback_target.unwrap_or(view.pair.serving)),
};

pub(super) const TARGET_CARRIES: Guard = Guard {
    says: "where users go back to carries some of them",
    ask: |view| {
        let target = view.pair.rollback_target.unwrap_or(view.pair.serving);
        if view.carried_by(target) > BasisPoints::ZERO {
            return Ok(());
        }
        view.carries(target, BasisPoints::ALL)
    },
};

pub(super) const TARGET_CARRIES_ALL: Guard = Guard {
    says: "where users go back to carries all of them",
    ask: |view| {
        let target = view.pair.rollback_target.unwrap_or(view.pair.serving);
        view.carries(target, BasisPoints::ALL)
    },
};

/// What the rollback guard wants.
pub(super) enum Wanted {
    /// Nothing.
    Nothing,
    /// A transition.
    Move(Move),
    /// To go back, but it is blocked: nothing else may happen, and somebody is called.
    Stop(Alert, Cause),
}

/// Asks the guard.
pub(super) fn law(view: &View<'_>) -> Wanted {
    if !view.pair.state.is_active() {
        return Wanted::Nothing;
    }
    let Some((cause, is_verdict)) = reason(view) else {
        return Wanted::Nothing;
    };
    if is_verdict && view.policy.rollback == RollbackPolicy::Freeze {
        return Wanted::Move(Move::new(State::Frozen, cause, NOTHING));
    }
    if is_verdict && view.policy.rollback == RollbackPolicy::Manual {
        return match view.pair.state {
            State::Shifting(Shifting::Advancing) => {
                Wanted::Move(Move::new(State::Shifting(Shifting::Holding), cause, NOTHING))
            }
            _ => Wanted::Stop(Alert::Verdict, cause),
        };
    }
    go(view, cause)
}

/// Goes back for this cause, or says why not.
pub(super) fn go(view: &View<'_>, cause: Cause) -> Wanted {
    match way_back(view) {
        Ok((to, act)) => Wanted::Move(Move::new(to, cause, act)),
        Err(None) => Wanted::Move(Move::new(State::Frozen, Cause::NoWayBack, NOTHING)),
        Err(Some(obstacle)) => Wanted::Stop(Alert::RollbackBlocked, Cause::RollbackBlocked { obstacle }),
    }
}

/// Goes back for this cause, and freezes where it cannot: for what must not be waited for any longer.
pub(super) fn go_or_freeze(view: &View<'_>, cause: Cause) -> Move {
    match go(view, cause.clone()) {
        Wanted::Move(transition) => transition,
        Wanted::Stop(_, cause) => Move::new(State::Frozen, cause, NOTHING),
        Wanted::Nothing => Move::new(State::Frozen, cause, NOTHING),
    }
}

/// Whether there is a verdict that the policy leaves to an operator.
pub(super) fn is_left_to_operator(view: &View<'_>) -> bool {
    view.policy.rollback != RollbackPolicy::Auto && matches!(reason(view), Some((_, true)))
}

/// How the way back begins; nothing, where there is none; else what blocks it.
pub(super) fn way_back(view: &View<'_>) -> Result<(State, Act), Option<Obstacle>> {
    let target = view.pair.rollback_target.ok_or(None)?;
    for guard in [&TARGET_FIT, &TARGET_CARRIES] {
        (guard.ask)(view).map_err(Some)?;
    }
    let writer = view.pair.writer;
    let is_benign = matches!(view.company.fallen, Some((_, true))) && (TARGET_CARRIES_ALL.ask)(view).is_ok();
    let (stage, act): (_, Act) = match (writer.stateful, writer.arm == target, writer.fenced) {
        (true, false, false) => (Retreat::Fence, |pair, _| pair.writer.fence()),
        // The new one has been told to stop already; it went back before, and was stopped.
        (true, false, true) => (Retreat::Fence, NOTHING),
        // The old one has been told to stop, and may go on.
        (true, true, true) => (Retreat::Grant, |pair, seen| {
            if let Some(target) = pair.rollback_target {
                pair.writer.seize(target);
            }
            put_back(pair, seen);
        }),
        _ if is_benign => (Retreat::Weights, lead_back),
        _ => (Retreat::Weights, put_back),
    };
    Ok((State::RollingBack(stage), act))
}

/// Users go back to the target, as many as it carries. What its capacity does not allow stays where it is.
pub(super) fn put_back(pair: &mut Pair, seen: Seen<'_>) {
    let Some(target) = pair.rollback_target else {
        return;
    };
    if pair.serving != target {
        pair.serving = target;
        pair.share = pair.share.rest();
        pair.flap.changed_roles(&seen.policy.flap);
    } else {
        pair.flap.turned(&seen.policy.flap);
    }
    if !seen.company.goes_first {
        let least = floor(&View::new(pair, seen));
        pair.share = pair.share.min(least);
    }
}

/// Users go back because nothing keeps them: no failure, and no rest after it. How fast is left to the proxies.
pub(super) fn lead_back(pair: &mut Pair, seen: Seen<'_>) {
    put_back(pair, seen);
    pair.share = BasisPoints::ZERO;
    pair.flap.returned(&seen.policy.flap);
    pair.course.benign = true;
}

/// The share that cannot go back yet, because the target would not carry it.
pub(super) fn floor(view: &View<'_>) -> BasisPoints {
    let target = view.pair.rollback_target.unwrap_or(view.pair.serving);
    view.carried_by(target).rest()
}

/// Why to go back, and whether that is a verdict of the judge's.
fn reason(view: &View<'_>) -> Option<(Cause, bool)> {
    if let Some((member, _)) = view.company.fallen {
        let member = member.clone();
        return Some((Cause::MemberFell { member }, false));
    }
    let (e_worse, e_ok) = view
        .finding()
        .map_or((0.0, 0.0), |found| (found.e_worse, found.e_ok));
    if view.pair.state != State::Baking && view.opinion() == Opinion::Worse {
        return Some((Cause::Worse { e_worse, e_ok }, true));
    }
    if view.pair.state == State::Baking && view.sight.bake.alarm {
        let requests = view.sight.bake.requests;
        return Some((Cause::BakeAlarm { requests }, true));
    }
    // Before the cutover the standby is who users move to, after it the one that serves.
    let before = !matches!(
        view.pair.state,
        State::Baking | State::Promoting(Promoting::Cutover)
    );
    let (looks, health) = if before {
        (view.pair.looks.unwell, view.standby_sight().health)
    } else {
        (view.pair.looks.serving_unwell, view.serving_sight().health)
    };
    (looks >= view.policy.health_looks).then_some((Cause::ShadowUnwell { health, looks }, false))
}
