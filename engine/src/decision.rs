//! What the engine decided for a cluster: the hand-over from the controller's loop to the data plane's table.
//!
//! The data plane turns it into one immutable snapshot; nothing in it has to be looked up elsewhere.

use std::borrow::Cow;
use std::time::Duration;

use foreshade_contract::{Risk, Share};
use serde::{Deserialize, Serialize};

use crate::assessment::Group;
use crate::moment::Moment;
use crate::outcome::ROUTE_CLASSES;

/// In which mode the whole cluster is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Shifts go as the evidence says.
    #[default]
    Normal,
    /// Most endpoints got worse together: shares stay as they are.
    Frozen,
    /// Too little healthy capacity is left: everybody serves by what is left of them, nothing is retried.
    Panic,
}

/// Where a shift stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The primary serves everything.
    #[default]
    Normal,
    /// The primary is on its way to trouble; the shadow is warmed.
    Prepare,
    /// A small share tries the shadow.
    Canary,
    /// The share grows.
    Ramp,
    /// The share is where it should be, or as far as it may go.
    Shifted,
    /// The primary is tried again, and traffic returns as it proves itself.
    Return,
    /// The primary is gone; everything moved at once.
    FailOver,
    /// An operator said so.
    Override,
    /// The controller's plan says so.
    Directed,
}

/// What keeps a share from being larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Nothing: it is where the risk wants it.
    #[default]
    None,
    /// What the shadow can carry.
    ShadowCapacity,
    /// The shadow is at risk itself, or no better.
    ShadowRisk,
    /// A forecast may prepare, only evidence may commit.
    Authority,
    /// The operator's limit.
    Policy,
    /// The shadow has not proven itself yet.
    Unproven,
    /// The growth per tick.
    Ramp,
    /// Cluster mode: frozen or panic.
    Mode,
    /// The controller's plan: its ceiling, or that shares stay.
    Plan,
}

impl Mode {
    /// The label in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Frozen => "frozen",
            Self::Panic => "panic",
        }
    }
}

impl Phase {
    /// The label in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Prepare => "prepare",
            Self::Canary => "canary",
            Self::Ramp => "ramp",
            Self::Shifted => "shifted",
            Self::Return => "return",
            Self::FailOver => "fail_over",
            Self::Override => "override",
            Self::Directed => "directed",
        }
    }
}

impl Bound {
    /// The label in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ShadowCapacity => "shadow_capacity",
            Self::ShadowRisk => "shadow_risk",
            Self::Authority => "authority",
            Self::Policy => "policy",
            Self::Unproven => "unproven",
            Self::Ramp => "ramp",
            Self::Mode => "mode",
            Self::Plan => "plan",
        }
    }
}

/// The shift of one primary to its shadow.
#[derive(Clone, Debug, Serialize)]
pub struct ShiftDecision {
    /// Where it stands.
    pub phase: Phase,
    /// Share of the primary's traffic that the shadow serves.
    pub share: Share,
    /// The share that the risk alone asks for.
    pub wanted: Share,
    /// The most that may move now.
    pub cap: Share,
    /// What binds.
    pub bound: Bound,
    /// Whether requests that have failed, or find their primary gone, may go to the shadow.
    pub failover: bool,
    /// Share per route class, never below `share`; larger where a class is sick by itself.
    pub class_shares: [Share; ROUTE_CLASSES],
    /// Constant during an episode of shifting, new for the next: whose turn it is to be first.
    pub salt: u64,
    /// One line: why.
    pub reason: Cow<'static, str>,
}

/// What one endpoint is told to be.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointDecision {
    /// Its risk.
    pub risk: Risk,
    /// The group that adds most to it.
    pub top_group: Option<Group>,
    /// Whether it may be chosen at all. False for the dead, unless panic keeps everybody in.
    pub available: bool,
    /// Weight in balancing: configured weight, slow start and panic applied; above 0 where available.
    pub weight: f64,
    /// How long an attempt at it may wait for its first byte before a request that may be repeated goes elsewhere.
    pub attempt_timeout: Duration,
    /// Whether a failed request may be sent to it: not while it is at risk itself.
    pub accepts_failover: bool,
    /// Typical latency, microseconds: what a new or idle endpoint is assumed to take, so that it never ranks best.
    pub typical_us: f64,
    /// How many users, next in the order after those that its shadow serves, try it although its risk is still held
    /// against it: their requests compete as if it were an average endpoint. It may be chosen for them even when dead.
    pub trial: Share,
    /// For primaries with a shadow.
    pub shift: Option<ShiftDecision>,
}

impl EndpointDecision {
    /// For an endpoint on which nothing has been decided yet.
    pub fn undecided() -> Self {
        Self {
            risk: Risk::ZERO,
            top_group: None,
            available: true,
            weight: 1.0,
            attempt_timeout: Duration::ZERO,
            accepts_failover: true,
            typical_us: 0.0,
            trial: Share::ZERO,
            shift: None,
        }
    }
}

/// A cluster after a tick.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterDecision {
    /// When it was decided.
    pub at: Moment,
    /// The cluster's mode.
    pub mode: Mode,
    /// Whether failed requests may be tried again at all.
    pub retries: bool,
    /// Whether any endpoint that may serve users is not dead. Panic makes nobody alive.
    pub alive: bool,
    /// By endpoint index.
    pub endpoints: Vec<EndpointDecision>,
}
