//! Why something happened, and why it did not: each with its numbers, and as one sentence (`words`).
//!
//! A cause is taken from the sight that set it off, so the journal tells what was decided from, not a story about it.

use std::time::Duration;

use foreshade_contract::{Arm, Generation, Name, PairId};
use serde::{Deserialize, Serialize};

use super::command::Verb;
use super::drill::DrillEnd;
use super::overrides::What;
use super::points::BasisPoints;
use super::safety::SafetyRule;
use super::sight::ArmHealth;
use super::state::State;
use super::writer::Term;

/// Why something happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "each variant and its numbers are the sentence that `Display` makes of it"
)]
pub enum Cause {
    AlwaysWarm,
    GrowthForeseen,
    Ordered {
        verb: Verb,
    },
    RiskAt {
        risk: f64,
        mark: f64,
    },
    RiskGone {
        mark: f64,
        for_ms: u64,
    },
    PlacementChanged {
        from: Option<Name>,
        to: Name,
    },
    ShadowWell {
        looks: u32,
    },
    ShadowUnwell {
        health: ArmHealth,
        looks: u32,
    },
    NothingToSync,
    InSync {
        lag_ms: u64,
        max_ms: u64,
    },
    OutOfSync {
        obstacle: Obstacle,
    },
    MirrorWanted,
    MirrorUnwanted,
    MirrorWorse,
    MirrorNotWorse,
    StepProven {
        e_worse: f64,
        e_ok: f64,
    },
    SevereRisk {
        risk: f64,
        mark: f64,
    },
    Waived,
    Released,
    Missing {
        obstacle: Obstacle,
    },
    Cleared,
    NotWorse {
        e_ok: f64,
        e_worse: f64,
    },
    Worse {
        e_worse: f64,
        e_ok: f64,
    },
    ArmGone {
        arm: Arm,
        down: u32,
        of: u32,
        severe: bool,
    },
    Inconclusive {
        after_ms: u64,
    },
    Deadline {
        state: State,
        after_ms: u64,
    },
    Fenced {
        term: Term,
    },
    CaughtUp {
        term: Term,
    },
    Granted {
        arm: Arm,
        term: Term,
    },
    Acknowledged {
        generation: Generation,
    },
    BakeAlarm {
        requests: u64,
    },
    Baked {
        requests: u64,
        for_ms: u64,
    },
    Retained {
        for_ms: u64,
    },
    CooledDown {
        for_ms: u64,
        failures: u32,
    },
    Carries {
        share: BasisPoints,
    },
    FlapBudgetSpent {
        changes: usize,
        max: usize,
    },
    RollbackBlocked {
        obstacle: Obstacle,
    },
    RollbackForbidden,
    NoWayBack,
    OverrideEnded {
        what: What,
    },
    SuspensionEnded,
    MemberFell {
        member: PairId,
    },
    CompanyMoves,
    DrillEnded {
        end: DrillEnd,
    },
}

/// Why something did not happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "each variant and its numbers are the sentence that `Display` makes of it"
)]
pub enum Obstacle {
    NoPlacement,
    ArmUnfit {
        arm: Arm,
        health: ArmHealth,
        gone: bool,
    },
    LagUnknown,
    Lag {
        lag_ms: u64,
        max_ms: u64,
    },
    Unverified,
    Incompatible,
    Capacity {
        arm: Arm,
        needs_rps: f64,
        has_rps: f64,
    },
    MirrorWorse,
    MirrorUndecided,
    Blocked {
        window: String,
    },
    GateClosed {
        gate: Name,
    },
    GateDenied {
        gate: Name,
    },
    FlapBudget {
        changes: usize,
        max: usize,
    },
    Dwell {
        left_ms: u64,
    },
    Unconfirmed {
        generation: Generation,
        acknowledged: Generation,
    },
    Evidence {
        e_ok: f64,
        e_worse: f64,
        needed: Option<u64>,
    },
    NoEvidence,
    Unsafe {
        rule: SafetyRule,
    },
    Company,
    CatchingUp {
        term: Term,
    },
    Unfenced {
        term: Term,
    },
    Ungranted {
        term: Term,
    },
    Suspended,
}

/// Whole milliseconds, for a journal.
pub(super) fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl ArmHealth {
    /// In one word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Well => "well",
            Self::Sick => "sick",
            Self::Draining => "draining",
        }
    }
}
