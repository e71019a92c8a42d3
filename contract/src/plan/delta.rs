//! What makes one plan out of another: what is sent to a proxy that has the other one.
//!
//! A change of one pair in 10,000 is some hundred bytes then, and not a megabyte for each of 1,000 proxies. It says how
//! many pairs come out, so that a base that is not what it was taken for is noticed.

use std::collections::BTreeMap;

use super::{PairPlan, Plan, PlanError, PlanId};
use crate::pair::PairId;

/// The difference between two plans.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    /// Which plan comes out.
    pub id: PlanId,
    /// The plan that this one was made from.
    pub parent: Option<PlanId>,
    /// The plan that the changes apply to.
    pub base: PlanId,
    /// Pairs that are new, or other than before.
    pub changed: Vec<PairPlan>,
    /// Pairs that it does not have any more.
    pub removed: Vec<PairId>,
    /// How many pairs it has then.
    pub pairs: usize,
}

/// Why a delta gives no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// It applies to another plan.
    #[error("the delta applies to the plan {base}, and {found} is in force")]
    Base {
        /// To which.
        base: PlanId,
        /// What it was applied to.
        found: PlanId,
    },
    /// Another number of pairs comes out than it says.
    #[error("the delta should give {expected} pairs, and gives {found}")]
    Count {
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// What comes out is no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl Plan {
    /// What makes this plan out of `base`.
    pub fn since(&self, base: &Self) -> Delta {
        let changed = self.pairs.iter().filter(|now| base.pair(&now.pair) != Some(*now));
        let removed = base
            .pairs
            .iter()
            .filter(|before| self.pair(&before.pair).is_none());
        Delta {
            id: self.id,
            parent: self.parent,
            base: base.id,
            changed: changed.cloned().collect(),
            removed: removed.map(|before| before.pair.clone()).collect(),
            pairs: self.pairs.len(),
        }
    }

    /// The plan that comes out of this one.
    ///
    /// # Errors
    /// When the delta is not one of this plan, or what comes out is no plan.
    pub fn with(&self, delta: Delta) -> Result<Self, DeltaError> {
        if delta.base != self.id {
            let (base, found) = (delta.base, self.id);
            return Err(DeltaError::Base { base, found });
        }
        let mut pairs: BTreeMap<PairId, PairPlan> =
            self.pairs.iter().map(|p| (p.pair.clone(), p.clone())).collect();
        for gone in &delta.removed {
            pairs.remove(gone);
        }
        pairs.extend(delta.changed.into_iter().map(|p| (p.pair.clone(), p)));
        if pairs.len() != delta.pairs {
            let (expected, found) = (delta.pairs, pairs.len());
            return Err(DeltaError::Count { expected, found });
        }
        Ok(Self::new(delta.id, delta.parent, pairs.into_values().collect())?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{pair, plan};
    use super::*;
    use crate::pair::Round;

    fn pairs() -> impl Strategy<Value = Vec<PairPlan>> {
        prop::collection::btree_map(0..40u8, 0..3u64, 0..30).prop_map(|pairs| {
            let made = pairs.into_iter().map(|(name, round)| PairPlan {
                round: Round(round),
                ..pair(&format!("e{name}"))
            });
            made.collect()
        })
    }

    proptest! {
        #[test]
        fn a_delta_makes_the_one_plan_of_the_other(before in pairs(), after in pairs()) {
            let (before, after) = (plan(1, before), plan(2, after));
            let delta = after.since(&before);
            prop_assert!(delta.changed.len() <= after.pairs().len());
            prop_assert_eq!(before.with(delta).unwrap(), after);
        }
    }

    #[test]
    fn a_change_of_one_pair_is_one_pair() {
        let before = plan(1, vec![pair("a"), pair("b"), pair("c")]);
        let frozen = PairPlan {
            frozen: true,
            ..pair("b")
        };
        let delta = plan(2, vec![pair("a"), frozen.clone()]).since(&before);
        assert_eq!(
            (delta.changed, delta.removed),
            (vec![frozen], vec![pair("c").pair])
        );
    }

    #[test]
    fn a_delta_to_another_plan_gives_none() {
        let before = plan(1, vec![pair("a")]);
        let other = plan(3, vec![pair("a"), pair("b")]);
        let delta = plan(4, vec![pair("b")]).since(&other);
        let base = other.id();
        assert_eq!(
            before.with(delta.clone()),
            Err(DeltaError::Base {
                base,
                found: before.id()
            })
        );
        // The same number, and not the same plan.
        let taken_for = plan(3, vec![pair("a"), pair("b"), pair("c")]);
        assert_eq!(
            taken_for.with(delta),
            Err(DeltaError::Count {
                expected: 1,
                found: 2
            })
        );
    }
}
