//! Plans and their differences as messages.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::{WireError, arm, at_most, encoded, four, name, proto};
use crate::pair::{PairId, Round};
use crate::plan::{Delta, PAIRS_MAX, PairPlan, Plan, PlanError, PlanId};
use crate::units::Share;

/// A plan as bytes: what is sent, and what lies on a proxy's disk.
pub fn encode_plan(plan: &Plan) -> Bytes {
    encoded(&proto::Plan {
        id: Some(plan.id().into()),
        parent: plan.parent().map(Into::into),
        pairs: plan.pairs().iter().map(Into::into).collect(),
    })
}

/// A difference as bytes.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a plan has at most PAIRS_MAX pairs"
)]
pub fn encode_delta(delta: &Delta) -> Bytes {
    encoded(&proto::Delta {
        id: Some(delta.id.into()),
        parent: delta.parent.map(Into::into),
        base: Some(delta.base.into()),
        changed: delta.changed.iter().map(Into::into).collect(),
        removed: delta.removed.iter().map(Into::into).collect(),
        pairs: delta.pairs as u32,
    })
}

/// The plan that these bytes are.
///
/// # Errors
/// When they are none.
pub fn decode_plan(bytes: &[u8]) -> Result<Plan, WireError> {
    proto::Plan::decode(bytes)?.try_into()
}

impl TryFrom<proto::Plan> for Plan {
    type Error = WireError;

    fn try_from(plan: proto::Plan) -> Result<Self, WireError> {
        let id: PlanId = plan.id.ok_or(WireError::Missing("plan.id"))?.into();
        // Before the work of reading them.
        if plan.pairs.len() > PAIRS_MAX {
            return Err(PlanError::TooMany(plan.pairs.len()).into());
        }
        let pairs = plan.pairs.into_iter().map(PairPlan::try_from);
        let parent = plan.parent.map(Into::into);
        Ok(Self::new(id, parent, pairs.collect::<Result<_, _>>()?)?)
    }
}

impl TryFrom<proto::Delta> for Delta {
    type Error = WireError;

    fn try_from(delta: proto::Delta) -> Result<Self, WireError> {
        at_most("delta.changed", PAIRS_MAX, delta.changed.len())?;
        at_most("delta.removed", PAIRS_MAX, delta.removed.len())?;
        let pairs = usize::try_from(delta.pairs).map_err(|_| WireError::Range("delta.pairs"))?;
        let changed = delta.changed.into_iter().map(PairPlan::try_from);
        let removed = delta.removed.into_iter().map(PairId::try_from);
        Ok(Self {
            id: delta.id.ok_or(WireError::Missing("delta.id"))?.into(),
            parent: delta.parent.map(Into::into),
            base: delta.base.ok_or(WireError::Missing("delta.base"))?.into(),
            changed: changed.collect::<Result<_, _>>()?,
            removed: removed.collect::<Result<_, _>>()?,
            pairs,
        })
    }
}

impl From<&PairPlan> for proto::PairPlan {
    fn from(plan: &PairPlan) -> Self {
        let micros = |threshold: Duration| u64::try_from(threshold.as_micros()).unwrap_or(u64::MAX);
        Self {
            pair: Some((&plan.pair).into()),
            shadow: plan.shadow.to_string(),
            round: plan.round.0,
            serving: proto::Arm::from(plan.serving).into(),
            ceiling: plan.ceiling.value(),
            directed: plan.directed.map(Share::value),
            frozen: plan.frozen,
            failover: plan.failover,
            thresholds_us: plan.thresholds.iter().flatten().map(|t| micros(*t)).collect(),
        }
    }
}

impl TryFrom<proto::PairPlan> for PairPlan {
    type Error = WireError;

    fn try_from(plan: proto::PairPlan) -> Result<Self, WireError> {
        let thresholds = four("thresholds_us", &plan.thresholds_us)?;
        Ok(Self {
            pair: plan.pair.ok_or(WireError::Missing("pair"))?.try_into()?,
            shadow: name("shadow", &plan.shadow)?,
            round: Round(plan.round),
            serving: arm("serving", plan.serving)?,
            ceiling: Share::new(plan.ceiling)?,
            directed: plan.directed.map(Share::new).transpose()?,
            frozen: plan.frozen,
            failover: plan.failover,
            thresholds: thresholds.map(|all| all.map(Duration::from_micros)),
        })
    }
}
