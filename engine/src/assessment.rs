//! What is believed of one endpoint after a tick, with the evidence for it: the hand-over from risk to shift.
//!
//! Risk is written by `risk`, read by `shift`, `explain` and the data plane's table. Every number that a decision uses is
//! in here, so that an explanation is the decision and not a story about it.

use std::time::Duration;

use foreshade_contract::Risk;
use serde::Serialize;

use crate::outcome::RouteClass;

/// A cause of risk. Inside a group the strongest component counts, because they see the same cause twice; across groups
/// hazards add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// It fails: errors, refusals, resets, hangs.
    Hard,
    /// It is slow: against its own baseline, against its peers, by its queue.
    Performance,
    /// It fails or is slow for some requests only, or passes probes while users fail.
    Gray,
    /// The way to it is bad: loss, jitter.
    Network,
    /// It says itself that it is full.
    Resource,
    /// It is on its way to trouble.
    Trend,
    /// Somebody told us.
    External,
}

impl Group {
    /// All groups, in reading order.
    pub const ALL: [Self; 7] = [
        Self::Hard,
        Self::Performance,
        Self::Gray,
        Self::Network,
        Self::Resource,
        Self::Trend,
        Self::External,
    ];

    /// The label in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Performance => "performance",
            Self::Gray => "gray",
            Self::Network => "network",
            Self::Resource => "resource",
            Self::Trend => "trend",
            Self::External => "external",
        }
    }
}

/// One component of risk: what was seen, against what, and how much it adds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Term {
    /// The cause it belongs to.
    pub group: Group,
    /// Its name: `errors`, `refused`, `stall`, `own_latency`, `peers`, `queue`, ...
    pub component: &'static str,
    /// How large the difference is, 0 to 1.
    pub effect: f64,
    /// How certain it is that there is a difference, 0 to 1.
    pub evidence: f64,
    /// What it adds to the hazard: `-ln(1 - weight * effect * evidence)`. Zero where another of its group is stronger.
    pub hazard: f64,
    /// What was seen, in the component's unit (see `docs/risk.md`).
    pub observed: f64,
    /// What it is held against.
    pub baseline: f64,
    /// How many samples stand behind it.
    pub samples: f64,
}

/// An interval for the share of attempts that fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct BadShare {
    /// Lower 95 % bound.
    pub lower: f64,
    /// Upper 95 % bound. 1 where nothing is known.
    pub upper: f64,
    /// Attempts behind it.
    pub samples: f64,
}

/// What one tick alone added, so that a canary can be judged on its own traffic and nothing older.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TickEvidence {
    /// Attempts that were answered or failed.
    pub total: u32,
    /// Those that failed.
    pub bad: u32,
    /// Attempts that were served, and so have a latency.
    pub served: u32,
    /// Sum over them of ln(latency / this endpoint's baseline for the route class, normalised for load).
    pub sum_ln_ratio: f64,
    /// Sum over them of the square of the same.
    pub sum_sq_ln_ratio: f64,
    /// Sum over them of ln(latency in microseconds), to hold two endpoints against each other.
    pub sum_ln_us: f64,
    /// Sum over them of the square of the same.
    pub sum_sq_ln_us: f64,
    /// Attempts begun.
    pub started: u32,
    /// Attempts answered with "I am full".
    pub shed: u32,
    /// Probes that passed.
    pub probes_passed: u32,
    /// Probes that failed.
    pub probes_failed: u32,
}

/// A route class that is sick by itself, while the rest of the endpoint is well.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassRisk {
    /// The class.
    pub class: RouteClass,
    /// Its own risk.
    pub risk: Risk,
    /// What this tick showed of it.
    #[serde(skip)]
    pub tick: TickEvidence,
}

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// No evidence for ten seconds, or none ever: never the best, never zero risk.
    Unknown,
    /// Judged on evidence.
    Known,
    /// Gone: refuses, hangs, or fails its probes. Traffic fails over at once.
    Dead,
}

/// What is believed of one endpoint.
#[derive(Clone, Debug, Serialize)]
pub struct Assessment {
    /// Risk of the endpoint as a whole: fast up, slow down, and held while there is no evidence.
    pub risk: Risk,
    /// Risk by this tick's evidence alone.
    pub raw: Risk,
    /// Every component that is not zero, strongest first.
    pub terms: Vec<Term>,
    /// Where it stands.
    pub standing: Standing,
    /// How much traffic stands behind the judgement: n / (n + 30), 0 to 1.
    pub confidence: f64,
    /// Share of attempts that fail, over the last seconds.
    pub bad: BadShare,
    /// Share of attempts that failed while it was healthy.
    pub bad_baseline: f64,
    /// How much slower it serves than its baseline, 1 = as ever. Geometric mean over median and 95th percentile.
    pub slowdown: f64,
    /// Median latency to the first byte over the last seconds, microseconds; 0 where none is known.
    pub p50_us: u64,
    /// 99th percentile of the same.
    pub p99_us: u64,
    /// 99.9th percentile of the latency while it was healthy, once a thousand samples stand behind it.
    pub p999_baseline: Option<Duration>,
    /// Attempts per second begun, over the last seconds.
    pub rps: f64,
    /// Attempts in flight.
    pub in_flight: u32,
    /// Route classes that are sick by themselves; their risk is not in `risk`.
    pub classes: Vec<ClassRisk>,
    /// What this tick added.
    pub tick: TickEvidence,
    /// Whether this tick's performance or hard evidence is raised at all, significant or not: votes for a common cause.
    pub elevated: bool,
    /// Utilisation by its own report, 1 = full, if fresh.
    pub utilization: Option<f64>,
    /// Expected seconds until it is too slow, if it is on its way there.
    pub eta_seconds: Option<f64>,
}

/// A cluster's endpoints after a tick.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterAssessment {
    /// By endpoint index.
    pub endpoints: Vec<Assessment>,
    /// Most endpoints got worse together: the cause is not any one of them, and moving traffic would not help.
    pub common_cause: bool,
}

impl Assessment {
    /// An endpoint of which nothing is known yet.
    pub fn unknown() -> Self {
        Self {
            risk: Risk::ZERO,
            raw: Risk::ZERO,
            terms: Vec::new(),
            standing: Standing::Unknown,
            confidence: 0.0,
            bad: BadShare {
                lower: 0.0,
                upper: 1.0,
                samples: 0.0,
            },
            bad_baseline: 0.0,
            slowdown: 1.0,
            p50_us: 0,
            p99_us: 0,
            p999_baseline: None,
            rps: 0.0,
            in_flight: 0,
            classes: Vec::new(),
            tick: TickEvidence::default(),
            elevated: false,
            utilization: None,
            eta_seconds: None,
        }
    }

    /// The group that adds most to the risk, if any adds something.
    pub fn top_group(&self) -> Option<Group> {
        self.terms.first().filter(|t| t.hazard > 0.0).map(|t| t.group)
    }

    /// Whether it is gone.
    pub fn is_dead(&self) -> bool {
        self.standing == Standing::Dead
    }
}
