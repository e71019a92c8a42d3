//! What a controller intends: for a pair, and for all of them.
//!
//! Always the full intention, never a difference: a proxy that has missed ten plans and gets the eleventh is right.
//! Differences travel ([`Delta`]), but only as compression: what counts is the plan that comes out.

mod delta;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::delta::{Delta, DeltaError};
use crate::name::Name;
use crate::pair::{Arm, Epoch, Generation, PairId, Round};
use crate::units::Share;

/// Most pairs of a plan: more than one controller is built for (10,000), and few enough that a plan of the longest names
/// (some 280 bytes each) stays within a third of the longest message.
pub const PAIRS_MAX: usize = 16_384;

/// Longest threshold of latency. No route waits longer.
pub const THRESHOLD_MAX: Duration = Duration::from_secs(3600);

/// Which plan. Ordered as plans are: by epoch first, so that a controller that has been replaced cannot go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanId {
    /// Fencing token of the controller that wrote it.
    pub epoch: Epoch,
    /// Its place in the order of this epoch's plans.
    pub generation: Generation,
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.generation)
    }
}

/// The full intention for all pairs, each of them once.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    id: PlanId,
    parent: Option<PlanId>,
    /// In the order of the pairs.
    pairs: Vec<PairPlan>,
}

/// Why something is not a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// More pairs than a plan may have.
    #[error("a plan has at most {PAIRS_MAX} pairs, this one has {0}")]
    TooMany(usize),
    /// A pair is in it twice.
    #[error("the pair {0} is in the plan twice")]
    Twice(PairId),
    /// A primary cannot take over from itself.
    #[error("the primary of {0} is its own shadow")]
    OwnShadow(PairId),
    /// Thresholds that are not in order, zero, or beyond every limit.
    #[error("the thresholds of {0} lie above 0, up to an hour, and none below the one before it")]
    Thresholds(PairId),
}

impl Plan {
    /// A plan, if it can be one. The pairs may come in any order.
    ///
    /// # Errors
    /// When there are too many pairs, one comes twice, or one makes no sense by itself.
    pub fn new(id: PlanId, parent: Option<PlanId>, mut pairs: Vec<PairPlan>) -> Result<Self, PlanError> {
        if pairs.len() > PAIRS_MAX {
            return Err(PlanError::TooMany(pairs.len()));
        }
        pairs.sort_by(|a, b| a.pair.cmp(&b.pair));
        for pair in &pairs {
            pair.check()?;
        }
        let twice = pairs
            .iter()
            .zip(pairs.iter().skip(1))
            .find(|(a, b)| a.pair == b.pair);
        match twice {
            Some((pair, _)) => Err(PlanError::Twice(pair.pair.clone())),
            None => Ok(Self { id, parent, pairs }),
        }
    }

    /// Which plan it is.
    pub fn id(&self) -> PlanId {
        self.id
    }

    /// The plan that it was made from; `None` for the first one.
    pub fn parent(&self) -> Option<PlanId> {
        self.parent
    }

    /// All pairs, in their order.
    pub fn pairs(&self) -> &[PairPlan] {
        &self.pairs
    }

    /// What it intends for a pair.
    pub fn pair(&self, id: &PairId) -> Option<&PairPlan> {
        let at = self.pairs.binary_search_by(|plan| plan.pair.cmp(id)).ok()?;
        self.pairs.get(at)
    }
}

/// The intention for one pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairPlan {
    /// The pair.
    pub pair: PairId,
    /// Its shadow now.
    pub shadow: Name,
    /// The analysis that counters are kept for.
    pub round: Round,
    /// Which of the two is the primary now: the shadow after a promotion.
    pub serving: Arm,
    /// The most that the proxy's own risk may shift.
    pub ceiling: Share,
    /// The share that the controller sets; the proxy's hard failover stays above it.
    pub directed: Option<Share>,
    /// No automatic shift but failover.
    pub frozen: bool,
    /// Whether the proxy may fail over by itself.
    pub failover: bool,
    /// τ50, τ90, τ99 and τ99.9 of the primary before this round: what the counters of slow requests count above.
    pub thresholds: Option<[Duration; 4]>,
}

impl PairPlan {
    fn check(&self) -> Result<(), PlanError> {
        if self.shadow == self.pair.primary {
            return Err(PlanError::OwnShadow(self.pair.clone()));
        }
        let Some(thresholds) = self.thresholds else {
            return Ok(());
        };
        let in_range = thresholds
            .iter()
            .all(|threshold| (Duration::from_micros(1)..=THRESHOLD_MAX).contains(threshold));
        if in_range && thresholds.is_sorted() {
            Ok(())
        } else {
            Err(PlanError::Thresholds(self.pair.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn pair(primary: &str) -> PairPlan {
        PairPlan {
            pair: PairId {
                cluster: "shop".parse().unwrap(),
                primary: primary.parse().unwrap(),
            },
            shadow: format!("{primary}-standby").parse().unwrap(),
            round: Round(1),
            serving: Arm::Primary,
            ceiling: Share::ONE,
            directed: None,
            frozen: false,
            failover: true,
            thresholds: None,
        }
    }

    pub(super) fn plan(generation: u64, pairs: Vec<PairPlan>) -> Plan {
        let id = PlanId {
            epoch: Epoch(1),
            generation: Generation(generation),
        };
        Plan::new(id, None, pairs).unwrap()
    }

    #[test]
    fn a_plan_has_each_pair_once_and_finds_it() {
        let sorted = plan(1, vec![pair("b"), pair("a")]);
        assert_eq!(sorted.pairs()[0].pair.primary.as_str(), "a");
        assert_eq!(sorted.pair(&pair("b").pair), Some(&pair("b")));
        assert_eq!(sorted.pair(&pair("c").pair), None);
        let refused = |pairs| Plan::new(PlanId::default(), None, pairs).unwrap_err();
        assert_eq!(
            refused(vec![pair("a"), pair("b"), pair("a")]),
            PlanError::Twice(pair("a").pair)
        );
        assert_eq!(
            refused(vec![pair("a"); PAIRS_MAX + 1]),
            PlanError::TooMany(PAIRS_MAX + 1)
        );
    }

    #[test]
    fn a_pair_that_makes_no_sense_by_itself_is_refused() {
        let refused = |change: fn(&mut PairPlan)| {
            let mut pair = pair("a");
            change(&mut pair);
            Plan::new(PlanId::default(), None, vec![pair]).err()
        };
        let id = pair("a").pair;
        assert_eq!(
            refused(|p| p.shadow = p.pair.primary.clone()),
            Some(PlanError::OwnShadow(id.clone()))
        );
        let thresholds = Some(PlanError::Thresholds(id));
        assert_eq!(
            refused(|p| p.thresholds = Some([1, 2, 2, 3].map(Duration::from_millis))),
            None
        );
        assert_eq!(
            refused(|p| p.thresholds = Some([2, 1, 3, 4].map(Duration::from_millis))),
            thresholds
        );
        assert_eq!(
            refused(|p| p.thresholds = Some([0, 1, 3, 4].map(Duration::from_millis))),
            thresholds
        );
        assert_eq!(
            refused(|p| p.thresholds = Some([1, 2, 3, 3601].map(Duration::from_secs))),
            thresholds
        );
    }

    #[test]
    fn an_epoch_weighs_more_than_any_generation() {
        let id = |epoch, generation| PlanId {
            epoch: Epoch(epoch),
            generation: Generation(generation),
        };
        assert!(id(2, 1) > id(1, 9) && id(1, 9) > id(1, 8));
        assert_eq!(id(2, 7).to_string(), "2/7");
    }

    #[test]
    fn a_plan_survives_the_wire_and_refuses_what_it_does_not_know() {
        let plan = PairPlan {
            pair: PairId {
                cluster: "shop".parse().unwrap(),
                primary: "a".parse().unwrap(),
            },
            shadow: "a-standby".parse().unwrap(),
            round: Round(3),
            serving: Arm::Primary,
            ceiling: Share::ONE,
            directed: Some(Share::clamped(0.05)),
            frozen: false,
            failover: true,
            thresholds: Some([5, 9, 20, 80].map(Duration::from_millis)),
        };
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<PairPlan>(&text).unwrap(), plan);
        let more = text.replacen('{', r#"{"weight":1,"#, 1);
        assert!(serde_json::from_str::<PairPlan>(&more).is_err());
        let outside = text.replace("0.05", "1.05");
        assert!(serde_json::from_str::<PairPlan>(&outside).is_err());
    }
}
