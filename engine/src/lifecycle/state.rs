//! Where a pair stands: the states, what each one means for the traffic, and how long a pair may stay in it.
//!
//! A state is a name and nothing more. What a state needs to remember stands in the pair, so that a table of transitions
//! can be read as one, and a journal has a word for each end of a transition.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::Policy;

/// Where a pair stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has no shadow, and needs none yet.
    #[default]
    Unassigned,
    /// A shadow was chosen and is being brought up.
    Provisioning,
    /// The shadow is up and catches up with the primary's state.
    Syncing,
    /// The shadow could take over.
    Warm(Warm),
    /// Users move to it, step by step.
    Shifting(Shifting),
    /// The roles change hands.
    Promoting(Promoting),
    /// The shadow serves everybody and is watched; the old primary is kept.
    Baking,
    /// The shadow is the primary now; the old one is kept a while, for a quick undo.
    Committed,
    /// Users, and the writer if it has moved, go back to where they came from.
    RollingBack(Retreat),
    /// The primary was gone, so the shadow serves everybody.
    FailedOver,
    /// A shift was rolled back or a shadow did not come up; it rests before the next try.
    Failed,
    /// Nothing moves until an operator says so.
    Frozen,
    /// The pair is no longer kept.
    Retired,
}

/// What a warm shadow does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Warm {
    /// It follows.
    Idle,
    /// It answers copies of requests, which no user sees.
    Mirroring,
    /// A shift is wanted, and waits for what the copies say.
    Validating,
}

/// How a shift goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shifting {
    /// The share grows with the evidence.
    Advancing,
    /// Something is missing; the share stays.
    Holding,
    /// An operator stopped it; the share stays.
    Paused,
}

/// How roles change hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promoting {
    /// The old writer stops writing.
    Fence,
    /// The shadow takes in what was written until then.
    CatchUp,
    /// The shadow becomes the writer.
    Flip,
    /// All traffic goes to it, and every proxy is told.
    Cutover,
}

/// How a pair goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retreat {
    /// The new writer stops writing.
    Fence,
    /// The old one takes in what was written at the new one.
    CatchUp,
    /// The old one becomes the writer again.
    Grant,
    /// All traffic goes back to it.
    Weights,
}

/// How long a pair has been in one state. Only time in which the controller ran counts: see [`super::clock`].
pub type InState = Duration;

impl State {
    /// Every state there is, in the order in which a pair meets them.
    pub const ALL: [Self; 23] = [
        Self::Unassigned,
        Self::Provisioning,
        Self::Syncing,
        Self::Warm(Warm::Idle),
        Self::Warm(Warm::Mirroring),
        Self::Warm(Warm::Validating),
        Self::Shifting(Shifting::Advancing),
        Self::Shifting(Shifting::Holding),
        Self::Shifting(Shifting::Paused),
        Self::Promoting(Promoting::Fence),
        Self::Promoting(Promoting::CatchUp),
        Self::Promoting(Promoting::Flip),
        Self::Promoting(Promoting::Cutover),
        Self::Baking,
        Self::Committed,
        Self::RollingBack(Retreat::Fence),
        Self::RollingBack(Retreat::CatchUp),
        Self::RollingBack(Retreat::Grant),
        Self::RollingBack(Retreat::Weights),
        Self::FailedOver,
        Self::Failed,
        Self::Frozen,
        Self::Retired,
    ];

    /// Users or the writer are on their way to the shadow, or have just arrived: what the severe lane and the rollback
    /// guard watch.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Shifting(_) | Self::Promoting(_) | Self::Baking)
    }

    /// Nothing is under way, so nothing has to end: the only states without a deadline.
    pub const fn is_resting(self) -> bool {
        matches!(
            self,
            Self::Unassigned | Self::Warm(Warm::Idle | Warm::Mirroring) | Self::Frozen | Self::Retired
        )
    }

    /// The shadow has been verified, and has not failed since.
    pub const fn is_shadow_ready(self) -> bool {
        !matches!(
            self,
            Self::Unassigned | Self::Provisioning | Self::Syncing | Self::Failed | Self::Retired
        )
    }

    /// How long a pair may stay, where that is bounded. What happens then stands in [`super::deadline`].
    pub fn deadline(self, policy: &Policy) -> Option<InState> {
        let times = &policy.times;
        Some(match self {
            Self::Unassigned
            | Self::Warm(Warm::Idle | Warm::Mirroring)
            | Self::Frozen
            | Self::Retired
            // Its way out is the cooldown, which grows; see `retreating`.
            | Self::Failed => return None,
            Self::Provisioning => times.provisioning,
            Self::Syncing => times.syncing,
            Self::Warm(Warm::Validating) => times.validating,
            Self::Shifting(Shifting::Advancing) => times.step_max,
            Self::Shifting(Shifting::Holding) => times.hold_max,
            Self::Shifting(Shifting::Paused) => times.pause_max,
            Self::Promoting(_) => times.promoting,
            Self::Baking => times.bake_max,
            Self::Committed => times.retain_old,
            Self::RollingBack(_) => times.rolling_back,
            Self::FailedOver => times.failed_over,
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unassigned => "Unassigned",
            Self::Provisioning => "Provisioning",
            Self::Syncing => "Syncing",
            Self::Warm(Warm::Idle) => "Warm.Idle",
            Self::Warm(Warm::Mirroring) => "Warm.Mirroring",
            Self::Warm(Warm::Validating) => "Warm.Validating",
            Self::Shifting(Shifting::Advancing) => "Shifting.Advancing",
            Self::Shifting(Shifting::Holding) => "Shifting.Holding",
            Self::Shifting(Shifting::Paused) => "Shifting.Paused",
            Self::Promoting(Promoting::Fence) => "Promoting.Fence",
            Self::Promoting(Promoting::CatchUp) => "Promoting.CatchUp",
            Self::Promoting(Promoting::Flip) => "Promoting.Flip",
            Self::Promoting(Promoting::Cutover) => "Promoting.Cutover",
            Self::Baking => "Baking",
            Self::Committed => "Committed",
            Self::RollingBack(Retreat::Fence) => "RollingBack.Fence",
            Self::RollingBack(Retreat::CatchUp) => "RollingBack.CatchUp",
            Self::RollingBack(Retreat::Grant) => "RollingBack.Grant",
            Self::RollingBack(Retreat::Weights) => "RollingBack.Weights",
            Self::FailedOver => "FailedOver",
            Self::Failed => "Failed",
            Self::Frozen => "Frozen",
            Self::Retired => "Retired",
        })
    }
}
