//! What can be chosen from on the command line, each with the word of the API that it stands for.

use clap::ValueEnum;

use crate::operator::simulation::{Ordered, Supposed};
use crate::operator::{Rule, Scenario, What};

/// What can be set by hand.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Settable {
    /// The share that the shadow serves.
    #[value(alias = "share")]
    Weight,
    /// The most that the proxies may shift by themselves.
    Ceiling,
    /// The least risk of the arm that serves.
    Risk,
}

impl From<Settable> for What {
    fn from(what: Settable) -> Self {
        match what {
            Settable::Weight => Self::Share,
            Settable::Ceiling => Self::Ceiling,
            Settable::Risk => Self::Risk,
        }
    }
}

/// A safety rule.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Waivable {
    /// Arms that are well keep the floor, or get more than they had.
    HealthyFloor,
    /// Traffic never moves while both arms are being taken out of service.
    BothDraining,
    /// No more moves at once towards an unproven arm than the policy allows.
    Delta,
    /// No arm is given more than it carries.
    Capacity,
    /// Users leave an arm that is gone at once, whatever else is stopped.
    SevereLane,
}

impl From<Waivable> for Rule {
    fn from(rule: Waivable) -> Self {
        match rule {
            Waivable::HealthyFloor => Self::HealthyFloor,
            Waivable::BothDraining => Self::BothDraining,
            Waivable::Delta => Self::Delta,
            Waivable::Capacity => Self::Capacity,
            Waivable::SevereLane => Self::SevereLane,
        }
    }
}

/// What can be supposed in a simulation.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Supposing {
    /// Everything stays as it is seen now; nothing more is learned of the shadow.
    AsNow,
    /// The shadow proves to be as good as what serves.
    ShadowProven,
    /// What serves is gone.
    PrimaryGone,
    /// What serves is at severe risk, and the standby is not.
    PrimaryAtRisk,
    /// What serves is at risk, and the standby is worse.
    ShadowWorse,
}

impl From<Supposing> for Supposed {
    fn from(supposing: Supposing) -> Self {
        match supposing {
            Supposing::AsNow => Self::AsNow,
            Supposing::ShadowProven => Self::ShadowProven,
            Supposing::PrimaryGone => Self::PrimaryGone,
            Supposing::PrimaryAtRisk => Self::PrimaryAtRisk,
            Supposing::ShadowWorse => Self::ShadowWorse,
        }
    }
}

/// What can be ordered in a simulation.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Orderable {
    Promote,
    PromoteFull,
    Abort,
    Pause,
    Resume,
    Retry,
    Undo,
    Freeze,
    Unfreeze,
}

impl From<Orderable> for Ordered {
    fn from(order: Orderable) -> Self {
        match order {
            Orderable::Promote => Self::Promote,
            Orderable::PromoteFull => Self::PromoteFull,
            Orderable::Abort => Self::Abort,
            Orderable::Pause => Self::Pause,
            Orderable::Resume => Self::Resume,
            Orderable::Retry => Self::Retry,
            Orderable::Undo => Self::Undo,
            Orderable::Freeze => Self::Freeze,
            Orderable::Unfreeze => Self::Unfreeze,
        }
    }
}

/// What can fail in a drill.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Failing {
    /// What serves is gone: everything has to go to the standby.
    PrimaryGone,
    /// What serves is at severe risk: the standby has to be promoted.
    PrimaryAtRisk,
    /// What serves is at risk and the standby is worse: users have to go back.
    ShadowWorse,
}

impl From<Failing> for Scenario {
    fn from(failing: Failing) -> Self {
        match failing {
            Failing::PrimaryGone => Self::PrimaryGone,
            Failing::PrimaryAtRisk => Self::PrimaryAtRisk,
            Failing::ShadowWorse => Self::ShadowWorse,
        }
    }
}
