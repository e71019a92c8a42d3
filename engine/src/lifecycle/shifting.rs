//! Users move: Advancing, Holding, Paused.
//!
//! A step is taken when the evidence for it is there, or when what serves is so bad that unproven is better. What is
//! missing is waited for: within the step first, then in Holding. The time of a step goes on while it is held, and once it
//! is over nothing leads back into it, so that a guard that comes and goes cannot stretch a shift. A shift has a bounded
//! number of steps, so every shift ends.
//!
//! A shift that risk began ends where the risk does, and of a primary without users nobody learns that: a share of 100 %
//! that is set would hold a healthy one away from them until a deadline, and then send them all back to it at once,
//! healthy or not. So the last step of such a shift is set for as long as a step lasts at least, and then *released*: the
//! proxies keep users where they are for as long as their own risk says so, try the primary with a few of them, and bring
//! them back on proof (`engine::shift::recovery`). Meanwhile the shift goes on: what those few show is evidence, by which
//! the shadow is promoted if it is there; if the risk is gone first, the pair is warm again; and if neither is known when
//! the hold is over, the rest is left to the proxies as well. Nothing failed then, so nobody has to rest, and users are
//! never put back by a clock. Nor are they sent away again by a stop: in a pause and in a freeze the proxies keep what they
//! have. Where an operator has set the risk by hand, proxies know nothing of it, and the share stays set.
// Concept: endpoint-gradual-shift

use super::cause::{Cause, Obstacle, ms};
use super::guards::{
    CARRIES_ALL, CARRIES_NEXT, COMPANY, CONFIRMED, FLAP_BUDGET, GATE_INCREASE, GATE_PROMOTE, IN_SYNC,
    IN_SYNC_TO_PROMOTE, NOT_BLOCKED, NOT_WORSE, SAFE, STANDBY_FIT, STEP_PROVEN, is_severe,
};
use super::policy::Point;
use super::promoting;
use super::rollback;
use super::rule::{Guard, NOTHING, Rule, When, missing};
use super::state::{Promoting, Retreat, Shifting, State};
use super::view::{Seen, View};
use super::{Pair, Trigger};

const ADVANCING: State = State::Shifting(Shifting::Advancing);
const HOLDING: State = State::Shifting(Shifting::Holding);

pub(super) const RULES: &[Rule] = &[
    no_longer_needed(ADVANCING),
    no_longer_needed(HOLDING),
    promoted(ADVANCING),
    promoted(HOLDING),
    advanced(ADVANCING),
    advanced(HOLDING),
    released(ADVANCING),
    released(HOLDING),
    Rule {
        from: ADVANCING,
        to: HOLDING,
        when: When {
            says: "something other than evidence is missing",
            ask: held,
        },
        guards: &[],
        act: NOTHING,
    },
    Rule {
        from: HOLDING,
        to: ADVANCING,
        when: When {
            says: "only evidence is missing, and the step may last longer",
            ask: cleared,
        },
        guards: &[],
        act: NOTHING,
    },
];

/// What has to hold before the share grows.
pub(super) const ADVANCE: &[&Guard] = &[
    &CONFIRMED,
    &STANDBY_FIT,
    &IN_SYNC,
    &STEP_PROVEN,
    &CARRIES_NEXT,
    &GATE_INCREASE,
    &COMPANY,
    &SAFE,
];

/// What has to hold before the roles change.
pub(super) const PROMOTE: &[&Guard] = &[
    &CONFIRMED,
    &STANDBY_FIT,
    &IN_SYNC_TO_PROMOTE,
    &NOT_WORSE,
    &CARRIES_ALL,
    &NOT_BLOCKED,
    &GATE_PROMOTE,
    &FLAP_BUDGET,
    &COMPANY,
];

const fn no_longer_needed(from: State) -> Rule {
    Rule {
        from,
        to: State::RollingBack(Retreat::Weights),
        when: When {
            says: "the risk that began it is gone, for as long as a direction is kept",
            ask: |view| {
                let Pair { course, .. } = view.pair;
                let gone = course.trigger == Some(Trigger::Risk) && course.calm >= view.policy.flap.dwell;
                gone.then(|| Cause::RiskGone {
                    mark: calm_below(view),
                    for_ms: ms(course.calm),
                })
            },
        },
        guards: &[&rollback::TARGET_FIT, &rollback::TARGET_CARRIES_ALL],
        act: rollback::lead_back,
    }
}

const fn promoted(from: State) -> Rule {
    Rule {
        from,
        to: State::Promoting(Promoting::Fence),
        when: When {
            says: "the last step is done",
            ask: |view| (is_last(view) && is_due(view)).then(|| proof(view)),
        },
        guards: PROMOTE,
        act: promoting::begin,
    }
}

const fn advanced(from: State) -> Rule {
    Rule {
        from,
        to: ADVANCING,
        when: When {
            says: "a step is done, and it was not the last",
            ask: |view| (!is_last(view) && is_due(view)).then(|| proof(view)),
        },
        guards: ADVANCE,
        act: advance,
    }
}

const fn released(from: State) -> Rule {
    Rule {
        from,
        to: from,
        when: When {
            says: "everybody has moved by risk alone, and only a primary with some users can show that it is well",
            ask: |view| {
                let Pair {
                    course, overrides, ..
                } = view.pair;
                let by_risk = course.trigger == Some(Trigger::Risk) && overrides.risk().is_none();
                let is_due = course.on_step >= view.policy.times.step_min;
                (by_risk && is_last(view) && is_due && !course.released).then_some(Cause::Released)
            },
        },
        guards: &[&CONFIRMED],
        act: |pair, _| pair.course.released = true,
    }
}

/// Takes the next step.
pub(super) fn advance(pair: &mut Pair, seen: Seen<'_>) {
    let course = &mut pair.course;
    course.step = course.step.saturating_add(1);
    course.on_step = std::time::Duration::ZERO;
    course.waiver = false;
    pair.share = seen.policy.steps.share(course.step);
    pair.gates.forget(Point::Increase, seen.policy);
}

pub(super) fn is_last(view: &View<'_>) -> bool {
    view.pair.course.step >= view.policy.steps.last()
}

/// The shortest time of a step is over, or does not count.
fn is_due(view: &View<'_>) -> bool {
    let course = view.pair.course;
    course.full || course.on_step >= view.policy.times.step_min || is_severe(view)
}

/// Below which risk there is no need any more.
pub(super) fn calm_below(view: &View<'_>) -> f64 {
    view.policy.risk.shift_at.value() - view.policy.risk.hysteresis
}

fn proof(view: &View<'_>) -> Cause {
    let finding = view.finding();
    let (e_worse, e_ok) = finding.map_or((0.0, 0.0), |finding| (finding.e_worse, finding.e_ok));
    match finding {
        Some(_) if is_last(view) => Cause::NotWorse { e_ok, e_worse },
        Some(finding) if finding.step_enough => Cause::StepProven { e_worse, e_ok },
        _ if is_severe(view) => Cause::SevereRisk {
            risk: view.risk().value(),
            mark: view.policy.risk.severe_at.value(),
        },
        _ => Cause::Waived,
    }
}

/// What is missing for what would come next, evidence and acknowledgements aside: those take the time they take.
fn obstacle(view: &View<'_>) -> Option<Obstacle> {
    let next = if is_last(view) { PROMOTE } else { ADVANCE };
    let patient = |guard: &&&Guard| {
        let takes_time = [&STEP_PROVEN, &NOT_WORSE, &CONFIRMED];
        !takes_time.iter().any(|other| other.says == guard.says)
    };
    let guards: Vec<&Guard> = next.iter().filter(patient).copied().collect();
    missing(&guards, view)
}

/// All that its next move needs is there, evidence included.
pub(super) fn is_ready(view: &View<'_>) -> bool {
    let next = if is_last(view) { PROMOTE } else { ADVANCE };
    is_due(view) && missing(next, view).is_none()
}

fn held(view: &View<'_>) -> Option<Cause> {
    obstacle(view)
        .filter(|_| is_due(view))
        .map(|obstacle| Cause::Missing { obstacle })
}

fn cleared(view: &View<'_>) -> Option<Cause> {
    let time_left = view.pair.course.on_step < view.policy.times.step_max;
    (time_left && obstacle(view).is_none()).then_some(Cause::Cleared)
}
