//! One word for how a pair is, in the words that operators know from Argo Rollouts.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cause::Obstacle;
use super::state::{Retreat, Shifting, State};
use super::{Pair, Trigger};

/// How a pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Health {
    /// Nothing is under way, and nothing is wrong.
    Healthy,
    /// Something is under way.
    Progressing,
    /// It waits for evidence or for somebody.
    Paused,
    /// It went wrong, or somebody has to look.
    Degraded,
}

impl Pair {
    /// How it is.
    pub fn health(&self) -> Health {
        if self.alert.is_some() {
            return Health::Degraded;
        }
        match self.state {
            State::Failed | State::Frozen | State::FailedOver => Health::Degraded,
            State::RollingBack(Retreat::Weights) if self.course.benign => Health::Progressing,
            State::RollingBack(_) => Health::Degraded,
            _ if self.suspended.is_some() => Health::Paused,
            State::Shifting(Shifting::Holding | Shifting::Paused) => Health::Paused,
            State::Provisioning
            | State::Syncing
            | State::Shifting(Shifting::Advancing)
            | State::Promoting(_)
            | State::Baking => Health::Progressing,
            // What was ordered and has not begun is under way: whoever waits for its end must not take this for it.
            State::Unassigned | State::Warm(_) if self.course.trigger.is_some() => Health::Progressing,
            State::Committed if self.course.trigger == Some(Trigger::Undo) => Health::Progressing,
            State::Unassigned | State::Warm(_) | State::Committed | State::Retired => Health::Healthy,
        }
    }

    /// The same, where it is known what stands in the way: a shift that somebody has to let begin waits for him.
    pub(super) fn health_before(&self, waiting: &[Obstacle]) -> Health {
        let is_somebodys = |obstacle: &Obstacle| {
            matches!(
                obstacle,
                Obstacle::GateClosed { .. } | Obstacle::GateDenied { .. } | Obstacle::Blocked { .. }
            )
        };
        match self.health() {
            Health::Progressing if !self.state.is_active() && waiting.iter().any(is_somebodys) => {
                Health::Paused
            }
            health => health,
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "Healthy",
            Self::Progressing => "Progressing",
            Self::Paused => "Paused",
            Self::Degraded => "Degraded",
        })
    }
}
