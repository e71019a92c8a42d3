//! What the engine is told of a cluster before any traffic: its endpoints, who shadows whom, and the policy numbers.
//!
//! Every number has one default that has to serve every fault; the scenarios and simulations run on these defaults and
//! nothing else. Each default names its argument.

use std::time::Duration;

use foreshade_contract::{Name, Share};
use serde::{Deserialize, Serialize};

/// One endpoint of a cluster, primary or shadow.
#[derive(Clone, Debug)]
pub struct EndpointSpec {
    /// Its name, unique in the cluster.
    pub name: Name,
    /// What it is for.
    pub role: Role,
    /// Relative weight in balancing, above 0. 1 is usual.
    pub weight: f64,
    /// Requests per second that it can carry, where the operator knows.
    pub capacity_rps: Option<f64>,
    /// Region, for segments of a shift.
    pub region: Option<Name>,
}

impl EndpointSpec {
    /// Index of its shadow, if it is a primary that has one.
    pub fn shadow(&self) -> Option<usize> {
        match self.role {
            Role::Primary { shadow } => shadow,
            Role::Shadow => None,
        }
    }
}

/// What an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves users.
    Primary {
        /// Index of its shadow among the cluster's endpoints, if it has one.
        shadow: Option<usize>,
    },
    /// Stands by for one or several primaries.
    Shadow,
}

/// A cluster as the engine sees it. Endpoints keep their index until the engine is given another shape.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// The cluster's name.
    pub name: Name,
    /// Primaries and shadows.
    pub endpoints: Vec<EndpointSpec>,
    /// How shifts go.
    pub shift: ShiftPolicy,
    /// How long one attempt may wait for its first byte where nothing better is known; the route's own limit.
    pub attempt_timeout: Duration,
    /// How to choose among primaries.
    pub balance: BalancePolicy,
    /// How probes make an endpoint dead or alive; `None` where nobody probes.
    pub health: Option<HealthPolicy>,
    /// Ramp of a new or returning endpoint.
    pub slow_start: Duration,
    /// The ordered segments of a shift, by how much of its way each takes. Whoever belongs to none comes last.
    pub segments: Vec<Share>,
}

/// How to choose among primaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BalancePolicy {
    /// Power of two choices on latency, load and risk.
    #[default]
    LeastLoad,
    /// At random, by weight.
    WeightedRandom,
    /// In turn, by weight.
    RoundRobin,
    /// By the cohort, with bounded load.
    ConsistentHash,
}

/// How probes make an endpoint dead or alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthPolicy {
    /// Passes in a row until a dead endpoint lives again.
    pub rise: u32,
    /// Failures in a row until an endpoint is dead.
    pub fall: u32,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        // What HAProxy has proven for twenty years.
        Self { rise: 2, fall: 3 }
    }
}

/// Numbers of the shift controller. Sources: `docs/concepts.md`.
#[derive(Clone, Debug, PartialEq)]
pub struct ShiftPolicy {
    /// Whether traffic may move at all. Off: risk is computed and shown, nothing moves.
    pub enabled: bool,
    /// Risk at which a shift is engaged, after two ticks.
    pub engage: f64,
    /// Risk below which an engaged shift may be released.
    pub release: f64,
    /// Risk at which all traffic is wanted on the shadow.
    pub full: f64,
    /// Largest share that may ever move.
    pub share_max: Share,
    /// Share of the canary, while the shadow is unproven. It widens where that brings too few requests.
    pub canary: Share,
    /// First hold before a return is tried; doubled per relapse.
    pub hold: Duration,
    /// Longest hold.
    pub hold_max: Duration,
    /// Share per second that returns to the primary once it has proven itself.
    pub return_per_second: f64,
    /// Part of a shadow's capacity that a shift may fill.
    pub capacity_fill: f64,
}

impl Default for ShiftPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            // A doubling of latency gives about .48, noise stays under .15: .35 lies clear of both.
            engage: 0.35,
            release: 0.15,
            full: 0.85,
            share_max: Share::ONE,
            // Small enough that a bad shadow hurts one user in twenty for two seconds at most.
            canary: Share::clamped(0.05),
            hold: Duration::from_secs(10),
            hold_max: Duration::from_secs(300),
            return_per_second: 0.05,
            capacity_fill: 0.8,
        }
    }
}
