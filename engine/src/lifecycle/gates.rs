//! Gates: points at which somebody has to agree, by hand or by a hook.
//!
//! An operator's word holds against the hook's, and both hold for one course only. Nothing that protects users waits for
//! a gate: the severe lane and the rollback guard are asked before (Flagger #1801: eighteen failed checks, no rollback,
//! because a gate was being waited for).

use std::collections::BTreeMap;

use foreshade_contract::Name;
use serde::{Deserialize, Serialize};

use super::cause::Obstacle;
use super::command::Order;
use super::policy::{Point, Policy};
use super::sight::Sight;

/// What operators have said to the gates of the present course. Bounded by the gates of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gates(BTreeMap<Name, Word>);

/// An operator's word.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Word {
    /// Approved, or denied.
    pub open: bool,
    /// Who said so; empty where that was not written down yet.
    pub actor: String,
    /// Why; the same.
    pub reason: String,
}

/// As it is written down, now and before it had an author.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Bare(bool),
    Whole {
        open: bool,
        actor: String,
        reason: String,
    },
}

impl From<Written> for Word {
    fn from(written: Written) -> Self {
        let (open, actor, reason) = match written {
            Written::Bare(open) => (open, String::new(), String::new()),
            Written::Whole { open, actor, reason } => (open, actor, reason),
        };
        Self { open, actor, reason }
    }
}

impl Gates {
    /// Whether an operator has approved it (`true`), denied it, or said nothing.
    pub fn said(&self, gate: &Name) -> Option<bool> {
        self.word(gate).map(|word| word.open)
    }

    /// What an operator has said to it, if anything.
    pub fn word(&self, gate: &Name) -> Option<&Word> {
        self.0.get(gate)
    }

    pub(super) fn say(&mut self, gate: Name, open: bool, by: &Order) {
        let word = Word {
            open,
            actor: by.actor.clone(),
            reason: by.reason.clone(),
        };
        self.0.insert(gate, word);
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
    use super::super::command::Command;
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
        let by = Order {
            command: Command::Deny { gate: name.clone() },
            actor: "ada".to_owned(),
            reason: "a test".to_owned(),
            key: "one".to_owned(),
            expected: None,
        };
        gates.say(name.clone(), false, &by);
        assert_eq!(gates.word(&name).map(|word| word.actor.as_str()), Some("ada"));
        assert!(gates.open(Point::Promote, &sight, &policy).is_err());
        sight.gates.clear();
        gates.say(name, true, &by);
        assert!(gates.open(Point::Promote, &sight, &policy).is_ok());
        gates.forget_all();
        assert!(gates.open(Point::Promote, &sight, &policy).is_err());
    }

    #[test]
    fn a_word_that_was_written_down_without_its_author_is_still_read() {
        let read: Gates = serde_json::from_str(r#"{"qa":true}"#).unwrap();
        let qa: Name = "qa".parse().unwrap();
        assert_eq!(read.said(&qa), Some(true));
        let again: Gates = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(again, read);
    }
}
