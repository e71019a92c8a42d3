//! A shadow that could take over: Idle, Mirroring, Validating. Here begins every shift, and only here.
//!
//! Who begins it, in order of precedence: an operator, then the risk of what serves. A forecast prepares a shadow and
//! begins nothing: only evidence may commit. What an operator has ordered waits for its guards, and is dropped when it
//! has waited for as long as anything may be held.
// Concept: topo-validate, endpoint-gradual-shift

use super::cause::{Cause, ms};
use super::command::Verb;
use super::guards::{
    CARRIES_NEXT, COMPANY, CONFIRMED, FLAP_BUDGET, GATE_SHIFT, IN_SYNC, MIRROR, NOT_BLOCKED, RESTED, SAFE,
    STANDBY_FIT, first_step, is_severe,
};
use super::policy::MirrorUse;
use super::preparing::{PLACED_ELSEWHERE, assign};
use super::rule::{Guard, NOTHING, Rule, When};
use super::sight::Opinion;
use super::state::{Shifting, State, Warm};
use super::view::{Seen, View};
use super::{Alert, Course, Pair, Trigger};

const IDLE: State = State::Warm(Warm::Idle);
const MIRRORING: State = State::Warm(Warm::Mirroring);
const VALIDATING: State = State::Warm(Warm::Validating);

pub(super) const RULES: &[Rule] = &[
    lost(IDLE),
    lost(MIRRORING),
    lost(VALIDATING),
    replaced(IDLE),
    replaced(MIRRORING),
    given_up(IDLE),
    given_up(MIRRORING),
    Rule {
        from: VALIDATING,
        to: MIRRORING,
        when: When {
            says: "mirrored answers are worse, or no shift is wanted any more",
            ask: not_to_be_validated,
        },
        guards: &[],
        act: give_up,
    },
    begun(IDLE),
    begun(VALIDATING),
    begun(MIRRORING),
    Rule {
        from: MIRRORING,
        to: VALIDATING,
        when: When {
            says: "a shift is wanted, and mirrored answers have not decided",
            ask: to_be_validated,
        },
        guards: &[],
        act: NOTHING,
    },
    Rule {
        from: IDLE,
        to: MIRRORING,
        when: When {
            says: "the policy wants requests mirrored",
            ask: |view| (view.policy.mirror != MirrorUse::Off).then_some(Cause::MirrorWanted),
        },
        guards: &[],
        act: NOTHING,
    },
    Rule {
        from: MIRRORING,
        to: IDLE,
        when: When {
            says: "the policy wants no requests mirrored any more",
            ask: |view| (view.policy.mirror == MirrorUse::Off).then_some(Cause::MirrorUnwanted),
        },
        guards: &[],
        act: NOTHING,
    },
];

/// What has to hold before the first user moves.
const START: &[&Guard] = &[
    &CONFIRMED,
    &STANDBY_FIT,
    &IN_SYNC,
    &CARRIES_NEXT,
    &MIRROR,
    &NOT_BLOCKED,
    &GATE_SHIFT,
    &FLAP_BUDGET,
    &RESTED,
    &COMPANY,
    &SAFE,
];

const fn begun(from: State) -> Rule {
    Rule {
        from,
        to: State::Shifting(Shifting::Advancing),
        when: When {
            says: "an operator or the risk of what serves wants it",
            ask: wanted,
        },
        guards: START,
        act: begin,
    }
}

const fn lost(from: State) -> Rule {
    Rule {
        from,
        to: State::Syncing,
        when: When {
            says: "the shadow was unwell or out of sync several times in a row",
            ask: astray,
        },
        guards: &[],
        act: |pair, _| pair.looks.forget(),
    }
}

const fn replaced(from: State) -> Rule {
    Rule {
        from,
        to: State::Provisioning,
        when: PLACED_ELSEWHERE,
        guards: &[],
        act: assign,
    }
}

const fn given_up(from: State) -> Rule {
    Rule {
        from,
        to: from,
        when: When {
            says: "what was ordered has waited too long",
            ask: |view| {
                let waited = view.pair.course.waited;
                let over = view.pair.course.trigger.is_some() && waited >= view.policy.times.hold_max;
                over.then_some(Cause::Inconclusive { after_ms: ms(waited) })
            },
        },
        guards: &[],
        act: give_up,
    }
}

/// Why a shift should begin, if it should.
pub(super) fn wanted(view: &View<'_>) -> Option<Cause> {
    if let Some(cause) = ordered(view) {
        return Some(cause);
    }
    let (risk, mark) = (view.risk(), view.policy.risk.shift_at);
    (view.policy.automatic && risk >= mark).then_some(Cause::RiskAt {
        risk: risk.value(),
        mark: mark.value(),
    })
}

/// What somebody has ordered, and waits to begin.
pub(super) fn ordered(view: &View<'_>) -> Option<Cause> {
    match view.pair.course.trigger? {
        Trigger::Risk => None,
        Trigger::Rollout => Some(Cause::Ordered { verb: Verb::Promote }),
        Trigger::Undo => Some(Cause::Ordered { verb: Verb::Undo }),
        Trigger::Company => Some(Cause::CompanyMoves),
    }
}

/// A new analysis begins, and the first users move.
pub(super) fn begin(pair: &mut Pair, seen: Seen<'_>) {
    let view = View::new(pair, seen);
    let step = first_step(&view);
    pair.course = Course {
        trigger: Some(pair.course.trigger.unwrap_or(Trigger::Risk)),
        full: pair.course.full,
        step,
        ..Course::default()
    };
    pair.share = seen.policy.steps.share(step);
    pair.new_round(seen);
    pair.rollback_target = Some(pair.serving);
    pair.ponr = false;
    pair.loss_bound_ms = None;
    pair.flap.turned(&seen.policy.flap);
}

/// Nothing is wanted any more. Whoever has ordered it has to be told that it will not be: nobody is at the shadow, and
/// nothing else would say that somebody should have been.
pub(super) fn give_up(pair: &mut Pair, seen: Seen<'_>) {
    if pair.course.trigger.is_some() {
        pair.alert = Some(Alert::GivenUp);
    }
    pair.course = Course::default();
    pair.gates.forget_all();
    pair.flap.turned(&seen.policy.flap);
}

fn astray(view: &View<'_>) -> Option<Cause> {
    let looks = view.policy.health_looks;
    if view.pair.looks.unwell >= looks {
        return Some(Cause::ShadowUnwell {
            health: view.standby_sight().health,
            looks,
        });
    }
    let obstacle = view.in_sync(view.policy.sync.lag_warm).err();
    let long = view.pair.looks.astray >= looks;
    obstacle
        .filter(|_| long)
        .map(|obstacle| Cause::OutOfSync { obstacle })
}

fn to_be_validated(view: &View<'_>) -> Option<Cause> {
    let undecided = matches!(view.sight.mirror, None | Some(Opinion::Undecided));
    let needed = view.policy.mirror == MirrorUse::Required && undecided && !is_severe(view);
    wanted(view).filter(|_| needed)
}

fn not_to_be_validated(view: &View<'_>) -> Option<Cause> {
    if view.sight.mirror == Some(Opinion::Worse) {
        return Some(Cause::MirrorWorse);
    }
    if view.policy.mirror != MirrorUse::Required {
        return Some(Cause::MirrorUnwanted);
    }
    let mark = view.policy.risk.shift_at.value();
    wanted(view).is_none().then(|| Cause::RiskGone {
        mark,
        for_ms: ms(view.pair.elapsed),
    })
}
