//! Gates: points at which somebody has to agree, by hand or by a hook.
//!
//! An operator's word holds against the hook's, and both hold for one course only. Nothing that protects users waits for
//! a gate: the severe lane and the rollback guard are asked before (Flagger #1801: eighteen failed checks, no rollback,
//! because a gate was being waited for).

use std::collections::BTreeMap;

use foreshade_contract::Name;
use serde::{Deserialize, Serialize};

use super::cause::Obstacle;
use super::policy::{Point, Policy};
use super::sight::Sight;

/// What operators have said to the gates of the present course. Bounded by the gates of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gates(BTreeMap<Name, bool>);

impl Gates {
    /// Whether an operator has approved it (`true`), denied it, or said nothing.
    pub fn said(&self, gate: &Name) -> Option<bool> {
        self.0.get(gate).copied()
    }

    pub(super) fn say(&mut self, gate: Name, open: bool) {
        self.0.insert(gate, open);
    }

    /// The gates of a point are asked anew.
    pub(super) fn forget(&mut self, point: Point, policy: &Policy) {
        for gate in policy.gates.iter().filter(|gate| gate.point == point) {
            self.0.remove(&gate.name);
        }
    }

    /// A course is over; the next one is asked anew.
    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }

    /// Whether all gates of this point are open; else the first one that is not.
    pub(super) fn open(&self, point: Point, sight: &Sight, policy: &Policy) -> Result<(), Obstacle> {
        for gate in policy.gates.iter().filter(|gate| gate.point == point) {
            let hook = || sight.gates.iter().any(|(name, open)| *name == gate.name && *open);
            let gate = gate.name.clone();
            match self.said(&gate) {
                Some(true) => {}
                Some(false) => return Err(Obstacle::GateDenied { gate }),
                None if hook() => {}
                None => return Err(Obstacle::GateClosed { gate }),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::Gate;
    use super::*;

    #[test]
    fn an_operators_word_holds_against_the_hook_and_for_one_course() {
        let name: Name = "qa".parse().unwrap();
        let policy = Policy {
            gates: vec![Gate {
                name: name.clone(),
                point: Point::Promote,
            }],
            ..Policy::default()
        };
        let mut sight = Sight::default();
        let mut gates = Gates::default();
        assert!(gates.open(Point::Shift, &sight, &policy).is_ok());
        assert!(gates.open(Point::Promote, &sight, &policy).is_err());
        sight.gates.push((name.clone(), true));
        assert!(gates.open(Point::Promote, &sight, &policy).is_ok());
        gates.say(name.clone(), false);
        assert!(gates.open(Point::Promote, &sight, &policy).is_err());
        sight.gates.clear();
        gates.say(name, true);
        assert!(gates.open(Point::Promote, &sight, &policy).is_ok());
        gates.forget_all();
        assert!(gates.open(Point::Promote, &sight, &policy).is_err());
    }
}
