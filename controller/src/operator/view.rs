//! What operators are shown: the answers of the API, field by field. The command reads what the API writes, by the
//! same types.

use std::fmt;

use foreshade_contract::Arm;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Actor, Reason, Rule, Scenario, What};

/// One of the two sides of a pair, by what the configuration calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The primary.
    Primary,
    /// Its shadow.
    Shadow,
}

impl From<Arm> for Side {
    fn from(arm: Arm) -> Self {
        match arm {
            Arm::Primary => Self::Primary,
            Arm::Shadow => Self::Shadow,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Shadow => "shadow",
        })
    }
}

/// Where a pair stands, in four words for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nothing is under way, and nothing is wrong.
    Healthy,
    /// Something is under way.
    Progressing,
    /// Something is under way and waits for somebody: a pause, a gate, missing evidence.
    Paused,
    /// It was rolled back, failed over, or is frozen.
    Degraded,
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

/// How seriously a pair means it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It moves users.
    Live,
    /// It decides, and moves nobody.
    DryRun,
    /// It rehearses.
    Drill,
}

/// A pair in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PairSummary {
    /// Its name: cluster, slash, primary.
    pub pair: String,
    /// The endpoint that stands by, where there is one.
    pub shadow: Option<String>,
    /// Where it stands, as Shifting.Advancing.
    pub state: String,
    /// The same in four words.
    pub health: Health,
    /// Since when, in milliseconds of Unix time.
    pub since_ms: u64,
    /// Order of its plans; what If-Match wants.
    pub generation: u64,
    /// Its analysis.
    pub round: u64,
    /// Who is the primary now.
    pub serving: Side,
    /// The share that the shadow is to serve, 0 to 1.
    pub share_set: f64,
    /// The share that it serves; absent until proxies have said so.
    pub share_actual: Option<f64>,
    /// Risk of the arm that serves, 0 to 1.
    pub risk: Option<f64>,
    /// How seriously it means it.
    pub mode: Mode,
    /// An operator paused it.
    pub suspended: bool,
    /// Its policy.
    pub policy: String,
    /// Why it stands there, in one sentence.
    pub reason: String,
}

/// A pair with everything that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PairDetail {
    /// As in a list.
    pub summary: PairSummary,
    /// Primary and shadow.
    pub arms: Vec<ArmView>,
    /// How far a shift is; absent where none is under way.
    pub step: Option<StepView>,
    /// Where users would go back to; absent where there is nothing to go back to.
    pub rollback_target: Option<Side>,
    /// Past it, nothing goes back by itself.
    pub point_of_no_return: bool,
    /// Who is asked.
    pub gates: Vec<GateView>,
    /// What is set by hand.
    pub overrides: Vec<OverrideView>,
    /// Safety rules that are waived by hand.
    pub waived: Vec<WaiverView>,
    /// What stands in the way of the next step, each in one sentence.
    pub obstacles: Vec<String>,
    /// Those who carry it out.
    pub proxies: ProxiesView,
    /// A calendar forbids that anything begins until then, in milliseconds of Unix time.
    pub blocked_until_ms: Option<u64>,
    /// It rests until then, in milliseconds of Unix time.
    pub cooldown_until_ms: Option<u64>,
    /// The drill that runs.
    pub drill: Option<u64>,
    /// Drills that begin by themselves.
    #[serde(default)]
    pub timetable: Vec<TimetableView>,
    /// The verdict so far.
    pub analysis: Option<AnalysisBrief>,
    /// What its shadow answered to copies of users' requests; absent where there were none.
    pub mirror: Option<MirrorView>,
    /// How its shadow was chosen; absent where the configuration names it.
    pub placement: Option<PlacementView>,
    /// Proxies that cannot carry the pair out, because their configuration is another one.
    pub unapplied: Option<UnappliedView>,
}

/// A drill that begins by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimetableView {
    /// What is rehearsed.
    pub scenario: Scenario,
    /// Once in so many milliseconds.
    pub every_ms: u64,
    /// When next, in milliseconds of Unix time, if nothing but the calendar stands in the way; absent where the calendar
    /// has no moment for it.
    pub next_ms: Option<u64>,
}

/// What a shadow answered to copies of users' requests, over all proxies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MirrorView {
    /// The answer so far.
    pub verdict: Verdict,
    /// Over all checks: evidence that the shadow is worse.
    pub worse: Evidence,
    /// Failures, differences, slowness.
    pub checks: Vec<CheckView>,
    /// In one sentence.
    pub sentence: String,
}

/// What copies were checked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckView {
    /// In one word or two: failed, answered otherwise, slower.
    pub check: String,
    /// Copies to the shadow.
    pub copies: u64,
    /// Of them, those that were bad: for failures, that failed where the user's request did not.
    pub bad: u64,
    /// What they are held against: for failures the same requests of users, else copies to another primary.
    pub others: u64,
    /// Of them, those that were bad.
    pub others_bad: u64,
    /// That the shadow is worse.
    pub worse: Evidence,
    /// That it is not.
    pub ok: Evidence,
}

/// How a shadow was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlacementView {
    /// The one that was chosen; absent where every candidate is ruled out.
    pub shadow: Option<String>,
    /// Why, in one sentence.
    pub reason: String,
    /// When it was looked at last, in milliseconds of Unix time.
    pub at_ms: u64,
    /// Candidates, the best first, each in one sentence.
    pub candidates: Vec<String>,
    /// Candidates that are not among them.
    pub further: u32,
}

/// Proxies that cannot carry a pair out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnappliedView {
    /// How many.
    pub proxies: u32,
    /// Why, in the words of one of them.
    pub why: String,
}

/// One of the two endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ArmView {
    /// Its name.
    pub endpoint: String,
    /// What it is configured as.
    pub arm: Side,
    /// Whether it can serve, in one word.
    pub health: String,
    /// Its risk, 0 to 1.
    pub risk: Option<f64>,
    /// What it has served in this round.
    pub requests: u64,
    /// Of them, failed.
    pub failures: u64,
    /// How far its state is behind, in milliseconds; absent where there is nothing to replicate.
    pub lag_ms: Option<u64>,
}

/// How far a shift is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    /// The step, from 1.
    pub index: u32,
    /// Of so many.
    pub of: u32,
    /// Its share.
    pub share: f64,
}

/// Where a gate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateStanding {
    /// Not asked yet.
    Idle,
    /// Something waits for it.
    Waiting,
    /// It lets pass.
    Open,
    /// It was denied for this course.
    Denied,
}

impl fmt::Display for GateStanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "Idle",
            Self::Waiting => "Waiting",
            Self::Open => "Open",
            Self::Denied => "Denied",
        })
    }
}

/// A gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GateView {
    /// Its name.
    pub name: String,
    /// What waits for it: shift, increase or promote.
    pub before: String,
    /// Where it stands.
    pub standing: GateStanding,
    /// What was said last: an operator's word with his name and reason, or the answer of its hook.
    pub said: Option<String>,
    /// A link that opens it, signed and good for a while; only while something waits for it, and only where links are
    /// configured.
    pub link: Option<String>,
}

/// Something that is set by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OverrideView {
    /// What.
    pub what: What,
    /// To what, 0 to 1.
    pub value: f64,
    /// Until when, in milliseconds of Unix time.
    pub until_ms: u64,
    /// Who set it.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// A safety rule that is not asked for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WaiverView {
    /// Which.
    pub rule: Rule,
    /// Until when, in milliseconds of Unix time.
    pub until_ms: u64,
    /// Who waived it.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// Those who carry a plan out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProxiesView {
    /// Connected now.
    pub connected: u32,
    /// Of them, at the present generation.
    pub acknowledged: u32,
    /// Connected, and not heard of lately.
    pub stale: u32,
}

/// The judge's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The shadow is worse than tolerable.
    Worse,
    /// It is not.
    NotWorse,
    /// Neither is known.
    Undecided,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Worse => "Worse",
            Self::NotWorse => "NotWorse",
            Self::Undecided => "Undecided",
        })
    }
}

/// A verdict in one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnalysisBrief {
    /// The answer so far.
    pub verdict: Verdict,
    /// Evidence that the shadow is worse.
    pub worse: Evidence,
    /// Evidence that it is not: that of the metric that has least.
    pub ok: Option<Evidence>,
    /// Requests that are missing, where that can be said.
    pub needed_requests: Option<u64>,
    /// How long they take, in milliseconds.
    pub eta_ms: Option<u64>,
    /// In one sentence.
    pub sentence: String,
}

/// An e-value and what it has to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// How much more likely the counts are if it is so than if it is not.
    pub e: f64,
    /// From here on it counts.
    pub limit: f64,
}

/// What the judge says, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Analysis {
    /// In one line.
    pub brief: AnalysisBrief,
    /// Requests on primary and shadow since it began.
    pub requests: Vec<u64>,
    /// Metrics of latency are left out for now: the shadow warms up.
    pub warming: bool,
    /// Each metric.
    pub metrics: Vec<MetricView>,
}

/// One metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricView {
    /// Which.
    pub metric: String,
    /// Events on both arms.
    pub events: u64,
    /// Of them on the shadow.
    pub on_shadow: u64,
    /// That the shadow is worse than tolerable.
    pub worse: Evidence,
    /// That it is better than the margin; absent where no proof is wanted.
    pub ok: Option<Evidence>,
    /// The ratio of event rates is at least this; absent where nothing is known.
    pub ratio_low: Option<f64>,
    /// And at most this.
    pub ratio_high: Option<f64>,
    /// Requests that are missing.
    pub needed_requests: Option<u64>,
    /// How long they take, in milliseconds.
    pub eta_ms: Option<u64>,
    /// In one sentence.
    pub sentence: String,
}

/// Something that became of a pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Its number in the journal; each is higher than those before.
    pub seq: u64,
    /// When, in milliseconds of Unix time.
    pub at_ms: u64,
    /// Where the pair stood.
    pub from: String,
    /// Where it stands since.
    pub to: String,
    /// The generation of the plan that came of it.
    pub generation: u64,
    /// The share that the shadow is to serve since.
    pub share: f64,
    /// Why, in one sentence.
    pub cause: String,
    /// Who ordered it, where somebody did.
    pub actor: Option<String>,
}

/// What came of an order, or would come of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// The pair.
    pub pair: String,
    /// What was ordered.
    pub command: String,
    /// Whether anything changes by it; an abort where nothing is under way changes nothing.
    pub changed: bool,
    /// Nothing was done: this is only what would happen.
    pub dry_run: bool,
    /// Where the pair stands after it.
    pub state: String,
    /// Its generation after it.
    pub generation: u64,
    /// The drill that was begun.
    pub drill: Option<u64>,
    /// In one sentence.
    pub sentence: String,
}

/// How a drill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrillResult {
    /// It runs.
    Running,
    /// The pair did what it should.
    Succeeded,
    /// It did not.
    Failed,
    /// It was ended: by an operator, by its end, or because something real happened.
    Interrupted,
}

impl fmt::Display for DrillResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Interrupted => "Interrupted",
        })
    }
}

/// A drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Drill {
    /// Its number.
    pub id: u64,
    /// The pair.
    pub pair: String,
    /// What failed in it.
    pub scenario: Scenario,
    /// How it ended.
    pub result: DrillResult,
    /// When it began, in milliseconds of Unix time.
    pub started_ms: u64,
    /// When it ended.
    pub ended_ms: Option<u64>,
    /// When it ends whatever happens.
    pub until_ms: u64,
    /// How long it took until users were served again: the recovery time objective, measured.
    pub rto_ms: Option<u64>,
    /// How much would have been lost: the recovery point objective, measured as lag.
    pub rpo_ms: Option<u64>,
    /// Who began it.
    pub actor: String,
    /// What happened, line by line.
    pub report: Vec<String>,
}

/// An order in the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its number; each is higher than those before.
    pub seq: u64,
    /// When, in milliseconds of Unix time.
    pub at_ms: u64,
    /// The pair.
    pub pair: String,
    /// What was ordered.
    pub command: String,
    /// With which particulars: what was set and to what, which gate, which failure.
    pub with: Option<String>,
    /// Who said so.
    pub actor: Actor,
    /// Why.
    pub reason: Reason,
    /// Its idempotency key.
    pub key: String,
    /// The generation of the pair after it.
    pub generation: u64,
    /// What came of it, in one sentence.
    pub outcome: String,
}
