//! What has to be done outside, derived from where a pair stands and what has been confirmed.
//!
//! Effects are not kept and not counted off: as long as something is intended and not confirmed it is asked for again,
//! with each step, under the same number. So whoever carries them out may be killed at any point, and whoever takes over
//! asks for the same. Carrying one out twice does nothing.

use foreshade_contract::{Arm, Generation, Name};
use serde::{Deserialize, Serialize};

use super::state::{State, Warm};
use super::view::View;
use super::writer::Term;
use super::{Alert, Mode};

/// Something to be done outside. Each can be repeated without harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Send the plan of this generation to the proxies that have not acknowledged it.
    Publish {
        /// The pair's generation.
        generation: Generation,
    },
    /// Bring this shadow up.
    Provision {
        /// Which.
        shadow: Name,
    },
    /// Let the one arm follow the other's state.
    Replicate {
        /// From which.
        from: Arm,
        /// To which.
        to: Arm,
    },
    /// Copy requests to this arm, and compare.
    Mirror {
        /// Which.
        to: Arm,
    },
    /// This arm has to stop writing. An arm that has heard of a higher term ignores it.
    Fence {
        /// Which.
        arm: Arm,
        /// In which term.
        term: Term,
    },
    /// This arm may write. An arm that has heard of a higher term ignores it.
    Grant {
        /// Which.
        arm: Arm,
        /// In which term.
        term: Term,
    },
    /// Call somebody; once per generation and alert.
    Page {
        /// What for.
        alert: Alert,
        /// The pair's generation.
        generation: Generation,
    },
}

/// All that is intended and not confirmed.
pub(super) fn outstanding(view: &View<'_>) -> Vec<Effect> {
    let pair = view.pair;
    let mut effects = Vec::new();
    if pair.mode != Mode::Live {
        return effects;
    }
    if !view.is_confirmed_by_all() {
        let generation = pair.generation;
        effects.push(Effect::Publish { generation });
    }
    if let (State::Provisioning, Some(shadow)) = (pair.state, &pair.shadow) {
        let shadow = shadow.clone();
        effects.push(Effect::Provision { shadow });
    }
    if matches!(pair.state, State::Warm(Warm::Mirroring | Warm::Validating)) {
        effects.push(Effect::Mirror { to: view.standby() });
    }
    writer(view, &mut effects);
    if let Some(alert) = pair.alert {
        let generation = pair.generation;
        effects.push(Effect::Page { alert, generation });
    }
    effects
}

fn writer(view: &View<'_>, effects: &mut Vec<Effect>) {
    let writer = view.pair.writer;
    if !writer.stateful {
        return;
    }
    let (arm, term) = (writer.arm, writer.term);
    let fenced = view.sight.writer.fenced == Some(term);
    if writer.fenced {
        if !fenced {
            effects.push(Effect::Fence { arm, term });
        }
    } else if term > Term::default() {
        // Who wrote before may have been gone when it had to stop; it has to hear of it when it is back.
        if !fenced {
            effects.push(Effect::Fence {
                arm: arm.other(),
                term,
            });
        }
        if view.sight.writer.granted != Some(term) {
            effects.push(Effect::Grant { arm, term });
        }
    }
    let has_follower = !matches!(
        view.pair.state,
        State::Unassigned | State::Provisioning | State::Retired
    );
    let settled = !matches!(
        view.pair.state,
        State::Baking | State::FailedOver | State::Committed
    );
    if has_follower && (settled || view.policy.sync.reverse) {
        effects.push(Effect::Replicate {
            from: arm,
            to: arm.other(),
        });
    }
}
