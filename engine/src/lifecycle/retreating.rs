//! Back to where users came from: RollingBack, and the rest after it in Failed.
//!
//! Where the writer has not moved, users go back at once. Where it has, it comes back first: the new one stops, the old
//! one takes in what it missed, begins again, and users follow. A target that cannot carry everybody gets as many as it
//! can, and more as it can (Argo Rollouts #3020: a fast rollback onto a stable set that had been scaled down).

use std::time::Duration;

use foreshade_contract::Arm;

use super::cause::{Cause, ms};
use super::guards::TURN;
use super::points::BasisPoints;
use super::rollback::{TARGET_FIT, floor, put_back};
use super::rule::{NOTHING, Rule, When};
use super::state::{Retreat, State, Warm};
use super::view::{Seen, View};
use super::{Course, Pair};

const WEIGHTS: State = State::RollingBack(Retreat::Weights);

pub(super) const RULES: &[Rule] = &[
    Rule {
        from: State::RollingBack(Retreat::Fence),
        to: State::RollingBack(Retreat::CatchUp),
        when: When {
            says: "the new writer has stopped",
            ask: |view| {
                let term = view.pair.writer.term;
                view.is_fenced().then_some(Cause::Fenced { term })
            },
        },
        guards: &[],
        act: NOTHING,
    },
    Rule {
        from: State::RollingBack(Retreat::CatchUp),
        to: State::RollingBack(Retreat::Grant),
        when: When {
            says: "the old one has taken in what it missed",
            ask: |view| {
                let term = view.pair.writer.term;
                view.is_caught_up().then_some(Cause::CaughtUp { term })
            },
        },
        guards: &[],
        act: |pair, _| {
            if let Some(target) = pair.rollback_target {
                pair.writer.grant(target);
            }
        },
    },
    Rule {
        from: State::RollingBack(Retreat::Grant),
        to: WEIGHTS,
        when: When {
            says: "the old one writes again",
            ask: |view| {
                let (arm, term) = (view.pair.writer.arm, view.pair.writer.term);
                view.is_granted().then_some(Cause::Granted { arm, term })
            },
        },
        guards: &[],
        act: put_back,
    },
    Rule {
        from: WEIGHTS,
        to: WEIGHTS,
        when: When {
            says: "where users go back to carries more of them",
            ask: carries_more,
        },
        guards: &[&TARGET_FIT, &TURN],
        act: |pair, seen| {
            put_back(pair, seen);
            // Each part that has gone back earns the rest its time.
            pair.elapsed = Duration::ZERO;
        },
    },
    Rule {
        from: WEIGHTS,
        to: State::Warm(Warm::Idle),
        when: When {
            says: "a quorum of proxies follows, and nothing had failed",
            ask: |view| is_back(view, true),
        },
        guards: &[],
        act: |pair, _| {
            pair.course = Course::default();
            pair.gates.forget_all();
            pair.rollback_target = None;
        },
    },
    Rule {
        from: WEIGHTS,
        to: State::Failed,
        when: When {
            says: "a quorum of proxies follows",
            ask: |view| is_back(view, false),
        },
        guards: &[],
        act: fail,
    },
    after_rest(
        State::Provisioning,
        "it has rested, and its shadow is brought up anew",
    ),
    after_rest(
        State::Syncing,
        "it has rested, and its standby is the old primary",
    ),
    after_rest(State::Unassigned, "it has rested, and has no shadow"),
];

const fn after_rest(to: State, says: &'static str) -> Rule {
    Rule {
        from: State::Failed,
        to,
        when: When {
            says,
            ask: match to {
                State::Provisioning => |view| rested(view, State::Provisioning),
                State::Syncing => |view| rested(view, State::Syncing),
                _ => |view| rested(view, State::Unassigned),
            },
        },
        guards: &[],
        act: again,
    }
}

/// Where it goes on after its rest: a shadow that failed may have to be brought up anew; the old primary is there.
pub(super) fn goes_on_in(pair: &Pair) -> State {
    match (&pair.shadow, pair.serving) {
        (None, _) => State::Unassigned,
        (Some(_), Arm::Primary) => State::Provisioning,
        (Some(_), Arm::Shadow) => State::Syncing,
    }
}

/// It rests, longer with each failure.
pub(super) fn fail(pair: &mut Pair, seen: Seen<'_>) {
    pair.flap.failed(&seen.policy.flap);
    pair.course = Course::default();
    pair.gates.forget_all();
    pair.rollback_target = None;
}

/// It is tried again.
pub(super) fn again(pair: &mut Pair, _: Seen<'_>) {
    pair.looks.forget();
}

/// Where more of the users fit than have gone back.
pub(super) fn carries_more(view: &View<'_>) -> Option<Cause> {
    let share = floor(view);
    (share < view.pair.share).then_some(Cause::Carries { share })
}

fn is_back(view: &View<'_>, benign: bool) -> Option<Cause> {
    let back = view.pair.share == BasisPoints::ZERO && view.is_confirmed();
    let generation = view.pair.generation;
    (back && view.pair.course.benign == benign).then_some(Cause::Acknowledged { generation })
}

fn rested(view: &View<'_>, to: State) -> Option<Cause> {
    let flap = &view.pair.flap;
    let over = flap.cooldown_left() == Duration::ZERO && goes_on_in(view.pair) == to;
    over.then(|| Cause::CooledDown {
        for_ms: ms(view.pair.elapsed),
        failures: flap.failures(),
    })
}
