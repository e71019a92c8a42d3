//! What runs leave behind: the JSON files that `faults`, `compare`, `sim` and `load` write and that `report` draws.
//!
//! One vocabulary for all of them, so that a page can set a simulated run beside a real one, and ours beside a rival's.
//! Units stand in the names. What could not be measured is absent, never zero: a proxy without the feature, a run that
//! never came back. Unknown fields are refused, so a file of another version is an error and not half a page.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of the format. Raised when a reader of the old one would misread the new one.
pub const FORMAT: u32 = 1;

/// Where and how a file was made. No names of machines or people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// [`FORMAT`].
    pub format: u32,
    /// The command line after the program's name, as a reader would type it.
    pub command: String,
    /// Number of cores that the run could use.
    pub cores: usize,
    /// The processor as the kernel names it.
    pub processor: String,
    /// Version of each program that took part, by contender, as it names itself.
    pub versions: BTreeMap<String, String>,
    /// Contenders that were asked for and did not take part, with the reason; scenarios that could not be played, too.
    pub skipped: BTreeMap<String, String>,
}

/// Written by `faults` and by `sim`: what users saw of each contender in each scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultResults {
    /// Where it was made.
    pub provenance: Provenance,
    /// `real` processes, or the engine in `virtual` time.
    pub time: Time,
    /// In the order in which they were played.
    pub scenarios: Vec<ScenarioResult>,
}

/// In which time a run was played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Time {
    /// Real processes on real sockets.
    Real,
    /// The engine and modelled endpoints.
    Virtual,
}

/// One scenario, all contenders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioResult {
    /// Its name, as on the command line.
    pub name: String,
    /// Its number in the table of scenarios, S0 to S14, if it is one of those.
    pub id: Option<String>,
    /// What happens, for people.
    pub story: String,
    /// When the fault comes, in seconds since the start.
    pub onset_s: f64,
    /// When it is healed.
    pub healed_s: f64,
    /// Highest requests per second for each contender; absent in files that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// The promises that foreshade's runs were judged by; what did not hold is in [`Figures::broken`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<String>,
    /// The promises of the scenario that could not be judged at this rate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unjudged: Vec<String>,
    /// By contender.
    pub contenders: Vec<ContenderResult>,
}

/// One contender in one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContenderResult {
    /// `foreshade`, `nginx`, `haproxy`, `envoy`, `none` (nobody reacts) or `oracle` (who knows the fault beforehand).
    pub contender: String,
    /// Its configuration: `tuned` as well as we know how, or as it comes.
    pub setting: Setting,
    /// One entry per seed. `sim` keeps the figures of all seeds, and seconds and percentiles of the first only.
    pub runs: Vec<SeedResult>,
}

/// How a contender was configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// For this very work, as well as its manual allows. For foreshade this is its default.
    Tuned,
    /// As it comes.
    Defaults,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedResult {
    /// Of schedule, mix, service times and faults.
    pub seed: u64,
    /// What it came to.
    pub figures: Figures,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// Users' latency before the onset.
    pub healthy: Vec<Percentile>,
    /// Users' latency from onset to healing.
    pub during: Vec<Percentile>,
}

/// What a run came to. Counts are over the whole run after its warm-up, latencies from onset to healing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Users' requests.
    pub requests: u64,
    /// GETs that failed.
    pub failed_gets: u64,
    /// POSTs that failed.
    pub failed_posts: u64,
    /// Writes that took effect at two endpoints.
    pub posts_twice: u64,
    /// Writes that users were told are done and that never took effect; absent where nobody asked the endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posts_missing: Option<u64>,
    /// Half of the users waited less, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// 999 of 1000.
    pub p999_ms: f64,
    /// Longest wait.
    pub max_ms: f64,
    /// The 99th percentile before the onset.
    pub healthy_p99_ms: f64,
    /// From the onset until the contender shows that it has seen the fault: the first risk at or above the engage
    /// threshold for foreshade, or the moment from which on more than a fifth of the normal traffic to the faulty
    /// endpoint is missing, beyond what chance explains. Absent too where nobody listens at the endpoint, so that
    /// traffic tells nothing.
    pub detect_s: Option<f64>,
    /// From the onset until at most 10 % of its normal traffic reaches the faulty endpoint, for good until it is
    /// healed.
    pub to_90_s: Option<f64>,
    /// From healing until the faulty endpoint has 80 % of its normal traffic again, for good.
    pub recovery_s: Option<f64>,
    /// Turns of the share of traffic at the faulty endpoint by more than a tenth, beyond going away and coming back.
    pub reversals: u64,
    /// Sum over the users' requests of 1 for a failure, else .2 x clamp((latency - healthy p99) / 1 s, 0, 1).
    pub harm: f64,
    /// 1 - (harm - harm of the oracle) / (harm of nobody reacting - harm of the oracle); absent without both, or where
    /// the two do not differ.
    pub avoided_harm: Option<f64>,
    /// Attempts at endpoints per user request.
    pub amplification: Option<f64>,
    /// 99th percentile of how late the load itself was, in milliseconds: what is above 1 casts doubt on the rest.
    pub lag_p99_ms: f64,
    /// Promises of the scenario that did not hold, in words; only foreshade makes any, and only at the scenario's own
    /// rate.
    pub broken: Vec<String>,
}

/// What users saw of requests that were meant to start within one second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Second {
    /// Start of the second, since the start of the run.
    pub at_s: f64,
    /// Requests.
    pub requests: u64,
    /// Of them, how many failed.
    pub failed: u64,
    /// Half waited less, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// Traffic at the faulty endpoint, as a part of its normal traffic; absent where the run has no such endpoint.
    pub faulty_share: Option<f64>,
    /// Highest risk of the faulty endpoint, 0 to 1; only foreshade has one.
    pub risk: Option<f64>,
}

/// One point of a latency curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Percentile {
    /// 0 to 100.
    pub percentile: f64,
    /// In milliseconds.
    pub ms: f64,
}

/// The percentiles at which latency curves are kept.
pub const CURVE: [f64; 15] = [
    0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.75, 99.9, 99.95, 99.99, 100.0,
];

/// Written by `compare`: what serving costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareResults {
    /// Where it was made.
    pub provenance: Provenance,
    /// One per measure, case and contender.
    pub rows: Vec<CompareRow>,
}

/// One measure of one contender in one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareRow {
    /// What was measured.
    pub measure: Measure,
    /// The protocol between users and contender.
    pub protocol: Protocol,
    /// Bytes of each answer's body; absent where bodies do not matter.
    pub body_bytes: Option<u64>,
    /// Bytes of each request's body; absent where requests have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posted_bytes: Option<u64>,
    /// Who made the load: `foreshade-bench`, `wrk` or `h2load`.
    pub driver: String,
    /// As in [`ContenderResult::contender`], and `bare` for a bare pingora-proxy.
    pub contender: String,
    /// One value per round; in one round all contenders were measured in turn.
    pub rounds: Vec<f64>,
    /// The contender was not busy all the time: the load or the endpoints were the limit, and it could have done more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_least: bool,
}

/// What `compare` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// User and system time of all its processes per request, in microseconds.
    CpuPerRequestUs,
    /// Requests per second, flat out.
    RequestsPerSecond,
    /// Median latency above that of asking the endpoint directly, in microseconds, at a rate that all sustain.
    AddedP50Us,
    /// The same of the 99th percentile.
    AddedP99Us,
    /// Resident memory per idle keep-alive connection, in bytes.
    IdleConnectionBytes,
    /// New connections per second, each with one request.
    ConnectionsPerSecond,
    /// Bytes of bodies per second.
    BytesPerSecond,
}

/// How users speak to a contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1 without encryption.
    Http1,
    /// HTTP/1.1 over TLS.
    Https1,
    /// HTTP/2 with prior knowledge.
    H2c,
    /// HTTP/2 over TLS.
    H2,
    /// Bytes.
    Tcp,
}

/// Written by `load`: what users saw of one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadResults {
    /// Where it was made.
    pub provenance: Provenance,
    /// The target as it was named.
    pub target: String,
    /// How users spoke.
    pub protocol: Protocol,
    /// Whether requests followed a schedule, or each other's answers.
    pub pacing: Pacing,
    /// Requests per second that the schedule meant, on average; absent in a closed loop.
    pub intended_rate: Option<f64>,
    /// From the end of the warm-up to the end of the load, in seconds.
    pub lasted_s: f64,
    /// What is not counted, in seconds before that.
    pub warm_up_s: f64,
    /// Whether somebody ended it early.
    pub interrupted: bool,
    /// Requests that have ended. Each counts for the time at which it was meant to start.
    pub requests: u64,
    /// Of these, how many failed: by a status of 400 or above, or without an answer.
    pub failed: u64,
    /// Requests that may have had an effect: those of a method other than GET, HEAD and OPTIONS.
    pub writes: u64,
    /// Of these, how many failed.
    pub failed_writes: u64,
    /// Requests by how they ended: a status, or `no connection`, `cut`, `deadline`, `garbled`, `overrun`.
    pub outcomes: BTreeMap<String, u64>,
    /// Requests that were still under way when the load was cut off; they are counted nowhere else.
    pub unfinished: u64,
    /// Requests per second that were not failed.
    pub rate: f64,
    /// Bytes of the bodies that arrived, per second.
    pub bytes_per_second: f64,
    /// Mean latency in milliseconds, failures included as everywhere.
    pub mean_ms: f64,
    /// From the intended start to the end of the answer, or to the failure.
    pub latency: Vec<Percentile>,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// Path by path, in the order of the command line.
    pub paths: Vec<PathResult>,
    /// What the generator has to say about itself.
    pub generator: Generator,
    /// The promises that the run was judged by.
    pub promises: Vec<Promise>,
}

/// How requests of a load followed each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pacing {
    /// An open loop: independently of each other and of the answers.
    Poisson,
    /// An open loop: evenly, whatever is answered.
    Constant,
    /// A closed loop: when an answer had come. Its latencies omit what a stalled target did to those who were not
    /// asked.
    Closed,
}

/// Requests for one path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathResult {
    /// The path.
    pub path: String,
    /// Requests.
    pub requests: u64,
    /// Of these, how many failed.
    pub failed: u64,
    /// Half waited less, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
}

/// Whether the generator was up to its task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generator {
    /// How late half of the requests left at most, in milliseconds; absent in a closed loop, as are the other two.
    pub lag_p50_ms: Option<f64>,
    /// 99 of 100.
    pub lag_p99_ms: Option<f64>,
    /// The latest.
    pub lag_max_ms: Option<f64>,
    /// Part of the time that its thread was running, 0 to 1; absent where the kernel does not say.
    pub busy: Option<f64>,
    /// Part of the time that others had the core that its thread needed.
    pub starved: Option<f64>,
    /// Requests that found every connection busy and waited for one.
    pub waited: u64,
    /// Most connections at the same time.
    pub connections_peak: u64,
    /// Connections opened.
    pub connections_opened: u64,
    /// Reasons to doubt the figures, in words: the generator, not the target, may be the limit.
    pub doubts: Vec<String>,
}

/// One promise, and whether it was kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// As it was asked for.
    pub promise: String,
    /// What was measured, in the promise's unit.
    pub measured: String,
    /// Whether it holds.
    pub holds: bool,
}
