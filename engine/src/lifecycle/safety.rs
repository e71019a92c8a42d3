//! What every change of weights has to respect, whoever wants it: asked of the change as a whole, just before it is made.
//!
//! Guards say when the time has come; these rules say what must not be, even then. An operator may waive one of them,
//! by name, with a reason and an end, and each use of that stands in the journal. That both arms add up to 100 % is no
//! rule but a type: a pair keeps one share, and the other arm has the rest.

use std::fmt;

use foreshade_contract::Arm;
use serde::{Deserialize, Serialize};

use super::cause::Obstacle;
use super::points::BasisPoints;
use super::sight::ArmHealth;
use super::view::View;

/// A safety rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SafetyRule {
    /// Arms that are well keep the floor, or get more than they had.
    HealthyFloor,
    /// Traffic never moves while both arms are being taken out of service.
    BothDraining,
    /// No more moves at once towards an unproven arm than the policy allows.
    Delta,
    /// No arm is given more than it carries.
    Capacity,
    /// The severe lane is open whatever else is stopped. Waived, it stays shut: for whoever knows that the fault is not one.
    SevereLane,
}

/// A change of weights: what each arm has before and after, in the order of [`Arm::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) before: [BasisPoints; 2],
    pub(super) after: [BasisPoints; 2],
    /// The arm that gets more has served everybody within this round or the last: no proof is needed.
    pub(super) proven: bool,
}

/// Whether the change may be made; else the first rule against it.
pub(super) fn check(change: &Change, view: &View<'_>) -> Result<(), Obstacle> {
    let rules: [(SafetyRule, Law); 4] = [
        (SafetyRule::BothDraining, both_draining),
        (SafetyRule::HealthyFloor, healthy_floor),
        (SafetyRule::Delta, delta),
        (SafetyRule::Capacity, capacity),
    ];
    let waived = |rule| view.pair.overrides.waives(rule);
    match rules
        .into_iter()
        .find(|(rule, law)| !waived(*rule) && !law(change, view))
    {
        Some((rule, _)) => Err(Obstacle::Unsafe { rule }),
        None => Ok(()),
    }
}

/// Whether the change respects it.
type Law = fn(&Change, &View<'_>) -> bool;

fn both_draining(change: &Change, view: &View<'_>) -> bool {
    let draining = |arm| view.sight.arm(arm).health == ArmHealth::Draining;
    change.before == change.after || !Arm::ALL.into_iter().all(draining)
}

fn healthy_floor(change: &Change, view: &View<'_>) -> bool {
    let well = |weights: [BasisPoints; 2]| -> u16 {
        let arms = Arm::ALL.into_iter().zip(weights);
        arms.filter(|(arm, _)| view.sight.arm(*arm).is_well())
            .map(|(_, weight)| u16::from(weight))
            .sum()
    };
    let after = well(change.after);
    after >= u16::from(view.policy.safety.healthy_floor) || after >= well(change.before)
}

fn delta(change: &Change, view: &View<'_>) -> bool {
    let [before, _] = change.before;
    let [after, _] = change.after;
    change.proven || before.distance(after) <= view.policy.safety.delta_max
}

fn capacity(change: &Change, view: &View<'_>) -> bool {
    let arms = Arm::ALL.into_iter().zip(change.before).zip(change.after);
    arms.into_iter()
        .all(|((arm, before), after)| after <= before || view.carries(arm, after).is_ok())
}

impl fmt::Display for SafetyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HealthyFloor => "healthy-floor",
            Self::BothDraining => "both-draining",
            Self::Delta => "delta",
            Self::Capacity => "capacity",
            Self::SevereLane => "severe-lane",
        })
    }
}
