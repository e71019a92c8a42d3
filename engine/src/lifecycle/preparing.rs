//! From no shadow to one that could take over: Unassigned, Provisioning, Syncing.
//!
//! What was well once may have been lucky, so a shadow is believed after several looks in a row. A deadline ends each of
//! the two waits in Failed, from where it is tried again after a rest.
// Concept: endpoint-provisioning, topo-resync

use super::Pair;
use super::cause::{Cause, ms};
use super::guards::{IN_SYNC, PLACED, STANDBY_FIT, STANDBY_SILENT};
use super::rule::{NOTHING, Rule, When};
use super::state::{State, Warm};
use super::view::{Seen, View};
use super::warm::ordered;

pub(super) const RULES: &[Rule] = &[
    Rule {
        from: State::Unassigned,
        to: State::Provisioning,
        when: When {
            says: "a shadow is needed",
            ask: needed,
        },
        guards: &[&PLACED],
        act: assign,
    },
    Rule {
        from: State::Provisioning,
        to: State::Provisioning,
        when: PLACED_ELSEWHERE,
        guards: &[],
        act: assign,
    },
    Rule {
        from: State::Provisioning,
        to: State::Syncing,
        when: When {
            says: "the shadow was well several times in a row",
            ask: believed,
        },
        guards: &[],
        act: NOTHING,
    },
    Rule {
        from: State::Syncing,
        to: State::Provisioning,
        when: PLACED_ELSEWHERE,
        guards: &[],
        act: assign,
    },
    Rule {
        from: State::Syncing,
        to: State::Warm(Warm::Idle),
        when: When {
            says: "it is in sync, or there is nothing to replicate",
            ask: in_sync,
        },
        guards: &[&STANDBY_FIT, &STANDBY_SILENT, &IN_SYNC],
        act: NOTHING,
    },
];

/// A better shadow was found, by the margin that placement asks for. Only while the configured primary serves: after a
/// promotion the standby is the old primary, and that is no choice of placement's.
pub(super) const PLACED_ELSEWHERE: When = When {
    says: "placement chose another shadow",
    ask: |view| {
        let to = view.sight.placement.as_ref()?;
        let other =
            view.standby() == foreshade_contract::Arm::Shadow && view.pair.shadow.as_ref() != Some(to);
        other.then(|| Cause::PlacementChanged {
            from: view.pair.shadow.clone(),
            to: to.clone(),
        })
    },
};

/// Takes what placement chose. What was counted and seen of the one before is another round's: nothing of it is taken for
/// the new one's.
pub(super) fn assign(pair: &mut Pair, seen: Seen<'_>) {
    pair.shadow.clone_from(&seen.sight.placement);
    pair.looks.forget();
    pair.new_round(seen);
}

fn needed(view: &View<'_>) -> Option<Cause> {
    let risk = view.risk();
    let mark = view.policy.risk.prepare_at;
    if let Some(cause) = ordered(view) {
        return Some(cause);
    }
    if view.policy.always_warm {
        return Some(Cause::AlwaysWarm);
    }
    if risk >= mark {
        return Some(Cause::RiskAt {
            risk: risk.value(),
            mark: mark.value(),
        });
    }
    view.sight.growth_foreseen.then_some(Cause::GrowthForeseen)
}

fn believed(view: &View<'_>) -> Option<Cause> {
    let looks = view.pair.looks.well;
    (looks >= view.policy.health_looks).then_some(Cause::ShadowWell { looks })
}

fn in_sync(view: &View<'_>) -> Option<Cause> {
    let max = view.policy.sync.lag_warm;
    match view.in_sync(max) {
        Ok(None) => Some(Cause::NothingToSync),
        Ok(Some(lag)) => Some(Cause::InSync {
            lag_ms: ms(lag),
            max_ms: ms(max),
        }),
        // It is set off all the same, so that what it waits for can be told.
        Err(_) => Some(Cause::InSync {
            lag_ms: u64::MAX,
            max_ms: ms(max),
        }),
    }
}
