//! All that is known of a pair at one moment: what a step decides from.
//!
//! What is not known is said so, and never stands for good news: an unknown lag is not a lag of zero, and an arm of which
//! nobody has heard is not well.

use std::time::Duration;

use foreshade_contract::{Arm, Epoch, Generation, Name, Risk, Round};
use serde::{Deserialize, Serialize};

use super::writer::Term;

/// All that is known of a pair now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sight {
    /// The epoch in which this controller leads.
    pub epoch: Epoch,
    /// The shadow that placement would choose; `None` where none fits.
    pub placement: Option<Name>,
    /// The two arms, in the order of [`Arm::ALL`].
    pub arms: [ArmSight; 2],
    /// Requests per second that the pair is asked for: an upper estimate.
    pub demand_rps: f64,
    /// The share that the proxies have moved by themselves.
    pub share: f64,
    /// More load is foreseen than the primary carries.
    pub growth_foreseen: bool,
    /// What there is to replicate, and how far it is.
    pub sync: Sync,
    /// What the judge found, in which round.
    pub finding: Option<Finding>,
    /// What the comparison of mirrored answers says of the shadow.
    pub mirror: Option<Opinion>,
    /// What is seen while baking.
    pub bake: Bake,
    /// How far the proxies have followed this pair's intentions.
    pub acks: Acks,
    /// What has been done about the writer.
    pub writer: WriterSight,
    /// What the hooks of gates answered; a gate without an answer is closed.
    pub gates: Vec<(Name, bool)>,
    /// The window in which nothing planned may begin, if it is one.
    pub blocked: Option<String>,
    /// τ50, τ90, τ99 and τ99.9 of the arm that serves, for the next round.
    pub thresholds: Option<[Duration; 4]>,
}

/// One arm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ArmSight {
    /// Whether it is fit to serve.
    pub health: ArmHealth,
    /// How many proxies take it for dead.
    pub down: Votes,
    /// Nothing gets through to it: connections refused or reset, or nothing but failures for three ticks.
    pub severe: bool,
    /// Its risk.
    pub risk: Option<Risk>,
    /// Requests per second that it can carry, where that is known.
    pub capacity_rps: Option<f64>,
}

/// Whether an arm is fit to serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArmHealth {
    /// Nobody has heard of it.
    #[default]
    Unknown,
    /// It answers probes or requests as it should.
    Well,
    /// It does not.
    Sick,
    /// Its operator takes it out of service.
    Draining,
}

/// How many of those who can see an arm take it for dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Votes {
    /// Proxies that do.
    pub down: u32,
    /// Proxies that were heard of lately.
    pub of: u32,
}

impl Votes {
    /// More than half of them: one proxy that is cut off must not move everybody.
    pub const fn are_enough(self) -> bool {
        self.down.saturating_mul(2) > self.of && self.of > 0
    }
}

/// What there is to replicate between the arms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// There is no state: every answer depends on the request alone.
    #[default]
    Nothing,
    /// There is, and nothing is known of it.
    Unknown,
    /// There is.
    Known {
        /// How far the arm that does not write is behind the one that does.
        lag: Duration,
        /// Its content was compared and is the same.
        verified: bool,
        /// It understands what the other one writes: schema and configuration.
        compatible: bool,
        /// It has, acknowledged by its quorum, all that was written before the fence of this term.
        caught_up: Option<Term>,
    },
}

/// What the judge says of the arm that does not serve yet, against the one that does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opinion {
    /// Worse than tolerated, with the promised certainty.
    Worse,
    /// Not worse than the margin, with the promised certainty.
    NotWorse,
    /// The evidence decides neither.
    #[default]
    Undecided,
}

/// What the judge found, with its numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finding {
    /// The round that it is of; what was found in another round is no evidence in this one.
    pub round: Round,
    /// The answer.
    pub opinion: Opinion,
    /// The evidence in this step's share is enough to take the next one.
    pub step_enough: bool,
    /// Evidence that it is worse; 1/α decides.
    pub e_worse: f64,
    /// Evidence that it is not; 1/β decides.
    pub e_ok: f64,
    /// Requests that are still needed, where that can be said.
    pub needed: Option<u64>,
}

/// What is seen of an arm that has just been promoted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bake {
    /// A detector of change has gone off.
    pub alarm: bool,
    /// Requests that it has served in this round.
    pub requests: u64,
}

/// How far the proxies have followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acks {
    /// The pair's highest generation that a quorum of proxies has acknowledged.
    pub quorum: Generation,
    /// The one that all of them have.
    pub all: Generation,
}

/// What has been confirmed of the writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterSight {
    /// The last term for which the arm that had to stop writing has stopped.
    pub fenced: Option<Term>,
    /// The last term for which the arm that was to write has begun.
    pub granted: Option<Term>,
}

impl Sight {
    /// One of the arms.
    pub fn arm(&self, arm: Arm) -> &ArmSight {
        let [primary, shadow] = &self.arms;
        match arm {
            Arm::Primary => primary,
            Arm::Shadow => shadow,
        }
    }

    /// One of the arms, to be told of.
    pub fn arm_mut(&mut self, arm: Arm) -> &mut ArmSight {
        let [primary, shadow] = &mut self.arms;
        match arm {
            Arm::Primary => primary,
            Arm::Shadow => shadow,
        }
    }
}

impl ArmSight {
    /// It is there and fit.
    pub fn is_well(&self) -> bool {
        self.health == ArmHealth::Well && !self.is_gone()
    }

    /// It serves nobody: most proxies say so, or nothing gets through to it.
    pub fn is_gone(&self) -> bool {
        self.severe || self.down.are_enough()
    }
}
