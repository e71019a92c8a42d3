//! Each tick, what was observed of a cluster's endpoints becomes what is believed of them: a risk per endpoint, with
//! its reasons.
//!
//! Evidence times effect: a component counts only as far as a difference is certain (CUSUM detectors with a constant
//! rate of false alarms per hour) *and* large (measured since the moment of change, at its lower bound). Components of
//! one cause compete, causes add up ([`combine`]). Risk rises at once and falls only by proof ([`memory`]). Everything
//! is held against the endpoint's own healthy days ([`crate::baseline`]), at equal load and mix of requests, less what
//! its peers have in common with it ([`crate::common_cause`]). `docs/risk.md` lists every component with its unit,
//! formula, weight and thresholds.
//!
//! Cold start: nothing is judged by latency before 200 samples; failures are held against a prior and the peers. Idle:
//! risk holds, and after ten seconds the endpoint is unknown. Burst: a tick is one batch. A gap in time, or a late
//! loop of our own, is evidence of nothing.
// Concept: endpoint-risk-score

pub mod class;
pub mod combine;
pub mod conclude;
pub mod endpoint;
pub mod external;
pub mod gray;
pub mod hard;
pub mod heirloom;
pub mod levels;
pub mod memory;
pub mod network;
pub mod performance;
pub mod recent;
pub mod resource;
pub mod trend;
pub mod watch;

use std::time::Duration;

use crate::ablation::{Ablations, Part};
use crate::assessment::ClusterAssessment;
use crate::common_cause::{CommonCause, Reference, Vote};
use crate::lineage::Lineage;
use crate::moment::Moment;
use crate::observation::Observation;
use crate::outcome::ROUTE_CLASSES;
use crate::spec::ClusterSpec;

use self::combine::Findings;
use self::endpoint::{Commons, Endpoint, Peers, Tick};
pub use self::external::Advisory;
use self::performance::Usual;

/// Longest tick that is judged. Beyond it we were suspended or starved, and everybody looks hung.
const TICK_MAX: Duration = Duration::from_secs(1);

/// Lag of our own event loop beyond which latencies may be ours.
const OWN_LAG_MAX: Duration = Duration::from_millis(5);

/// How long latencies stay ours after we were late, in multiples of the lateness: what had waited for us goes out in
/// one burst, and the endpoints queue it.
const BACKLOG: u32 = 2;

/// The most of that: a backlog of ten seconds has been served or given up by then.
const BACKLOG_MAX: Duration = Duration::from_secs(10);

/// Risk from which on an endpoint is no reference for others: it would excuse them.
const SICK: f64 = 0.35;

/// Share of endpoints with a class at which that class is sick everywhere.
const CLASS_SHARE: f64 = 0.6;

/// Judges the endpoints of one cluster.
#[derive(Debug)]
pub struct Assessor {
    endpoints: Vec<Endpoint>,
    last: Moment,
    /// Until when what looks slow may be our own backlog.
    ours_until: Moment,
    slower: CommonCause,
    failing: CommonCause,
    hanging: CommonCause,
    levels: Levels,
    votes: Vec<Vote>,
    peers: Vec<Peers>,
    findings: Findings,
    scratch: Vec<f64>,
    nothing: Observation,
}

/// Where the endpoints stand in this tick, each to be held against the others.
#[derive(Debug, Default)]
struct Levels {
    slow: Reference,
    bad: Reference,
    queue: Reference,
    slope: Reference,
    usual: Reference,
}

impl Assessor {
    /// An assessor that knows nothing yet.
    pub fn new(spec: &ClusterSpec, now: Moment) -> Self {
        let count = spec.endpoints.len();
        Self {
            endpoints: (0..count)
                .map(|index| Endpoint::new(index, spec.health.unwrap_or_default(), now))
                .collect(),
            last: now,
            ours_until: now,
            slower: CommonCause::new(count),
            failing: CommonCause::new(count),
            hanging: CommonCause::new(count),
            levels: Levels::default(),
            votes: Vec::with_capacity(count),
            peers: Vec::with_capacity(count),
            findings: Findings::default(),
            scratch: Vec::new(),
            nothing: Observation::default(),
        }
    }

    /// Takes parts out, for a simulation. See [`crate::ablation`].
    pub(crate) fn ablate(&mut self, ablations: Ablations) {
        self.findings.average(ablations.has(Part::MeanRisk));
    }

    /// Goes on with another set of endpoints. What is believed of those that stay stays, to the bit.
    pub fn reshape(&mut self, spec: &ClusterSpec, lineage: &Lineage) {
        let policy = spec.health.unwrap_or_default();
        let before = std::mem::take(&mut self.endpoints);
        self.endpoints = lineage.carry(before, |index| Endpoint::new(index, policy, self.last));
        for endpoint in &mut self.endpoints {
            endpoint.adopt(spec.health);
        }
        for cause in [&mut self.slower, &mut self.failing, &mut self.hanging] {
            cause.reshape(lineage);
        }
    }

    /// Judges one tick: one observation per endpoint, by index, merged over the workers. `own_lag` is how late our own
    /// event loop was; above 5 ms latencies of this tick are evidence of nothing. After a gap of more than a second,
    /// or a clock that did not advance, what is going on is forgotten and nothing is judged.
    pub fn assess(
        &mut self,
        now: Moment,
        observations: &[Observation],
        own_lag: Duration,
    ) -> ClusterAssessment {
        let passed = now.since(self.last);
        self.last = now;
        let late = own_lag.max(passed.saturating_sub(TICK_MAX));
        if late > OWN_LAG_MAX {
            self.ours_until = self.ours_until.max(now + (late * BACKLOG).min(BACKLOG_MAX));
        }
        let tick = Tick {
            now,
            seconds: passed.as_secs_f64(),
            void: own_lag > OWN_LAG_MAX || now < self.ours_until,
        };
        if passed.is_zero() || passed > TICK_MAX {
            return self.resume(&tick, observations);
        }
        for (index, endpoint) in self.endpoints.iter_mut().enumerate() {
            let seen = observations.get(index).unwrap_or(&self.nothing);
            endpoint.observe(&tick, seen, &mut self.scratch);
        }
        self.ask_peers();
        let mut commons = self.vote(now);
        for (endpoint, peers) in self.endpoints.iter_mut().zip(&self.peers) {
            endpoint.feed(&tick, peers, &commons);
        }
        commons.classes = self.common_classes();
        let mut endpoints = Vec::with_capacity(self.endpoints.len());
        for (index, (endpoint, peers)) in self.endpoints.iter_mut().zip(&self.peers).enumerate() {
            let seen = observations.get(index).unwrap_or(&self.nothing);
            endpoints.push(endpoint.conclude(&tick, seen, (peers, &commons), &mut self.findings));
        }
        ClusterAssessment {
            endpoints,
            common_cause: commons.slower || commons.failing || commons.stall,
        }
    }

    /// Takes an advisory from outside. One for an endpoint that does not exist is dropped.
    // Concept: endpoint-external
    pub fn handle_advisory(&mut self, advisory: Advisory) {
        if let Some(endpoint) = self.endpoints.get_mut(advisory.endpoint) {
            endpoint.handle_advisory(advisory);
        }
    }

    /// After a gap in time.
    fn resume(&mut self, tick: &Tick, observations: &[Observation]) -> ClusterAssessment {
        for cause in [&mut self.slower, &mut self.failing, &mut self.hanging] {
            cause.reset();
        }
        let nothing = &self.nothing;
        let held = |(index, endpoint): (usize, &mut Endpoint)| {
            endpoint.reset();
            endpoint.held(tick, observations.get(index).unwrap_or(nothing))
        };
        ClusterAssessment {
            endpoints: self.endpoints.iter_mut().enumerate().map(held).collect(),
            common_cause: false,
        }
    }

    /// Holds every endpoint against the others that are not known to be sick.
    fn ask_peers(&mut self) {
        let levels = &mut self.levels;
        let well = || self.endpoints.iter().filter(|endpoint| endpoint.risk() < SICK);
        levels.slow.fill(well().filter_map(Endpoint::slow_level));
        levels.bad.fill(well().filter_map(Endpoint::bad_level));
        levels.queue.fill(well().filter_map(Endpoint::queue_level));
        levels.slope.fill(well().filter_map(Endpoint::slope));
        levels.usual.fill(well().filter_map(Endpoint::usual_level));
        self.peers.clear();
        for endpoint in &self.endpoints {
            // Who is no reference for others has no place to be left out of.
            let own = |level: Option<f64>| level.filter(|_| endpoint.risk() < SICK);
            self.peers.push(Peers {
                slow: levels
                    .slow
                    .without(own(endpoint.slow_level()))
                    .unwrap_or(0.0)
                    .max(0.0),
                bad: levels.bad.without(own(endpoint.bad_level())),
                queue: levels.queue.without(own(endpoint.queue_level())).unwrap_or(1.0),
                slope: levels.slope.without(own(endpoint.slope())).unwrap_or(0.0),
                usual: (!endpoint.is_learned()).then(|| levels.usual()).flatten(),
            });
        }
    }

    /// What happened to most at once.
    fn vote(&mut self, now: Moment) -> Commons {
        let mut poll = |cause: &mut CommonCause, vote: &dyn Fn(&Endpoint) -> Vote| {
            self.votes.clear();
            self.votes.extend(self.endpoints.iter().map(vote));
            cause.handle(now, &self.votes)
        };
        let slower = poll(&mut self.slower, &|endpoint| Vote {
            counts: endpoint.has_traffic(),
            worse_by: endpoint.clearly_slower(),
        });
        let failing = poll(&mut self.failing, &|endpoint| Vote {
            counts: endpoint.has_traffic(),
            worse_by: endpoint.clearly_failing(),
        });
        // A standby that passes its probes is proof that not everything hangs.
        let stall = poll(&mut self.hanging, &|endpoint| Vote {
            counts: endpoint.may_hang(now).is_some(),
            worse_by: endpoint.may_hang(now).filter(|hangs| *hangs).map(|_| 0.0),
        });
        Commons {
            slower,
            failing,
            stall,
            ..Commons::default()
        }
    }

    /// Route classes that are sick at most of the endpoints that serve them, and at two at least.
    fn common_classes(&self) -> [bool; ROUTE_CLASSES] {
        let mut counts = [(0u32, 0u32); ROUTE_CLASSES];
        for endpoint in &self.endpoints {
            for (count, (sick, seen)) in counts.iter_mut().zip(endpoint.class_votes()) {
                count.0 += u32::from(sick);
                count.1 += u32::from(seen);
            }
        }
        counts.map(|(sick, seen)| sick >= 2 && f64::from(sick) >= CLASS_SHARE * f64::from(seen))
    }
}

impl Levels {
    fn usual(&self) -> Option<Usual> {
        let middle = self.usual.without(None)?;
        Some(Usual {
            middle,
            deviation: self.usual.deviation(middle),
            peers: self.usual.others(None),
        })
    }
}

#[cfg(test)]
#[expect(
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    reason = "nothing and everything are exact; virtual microseconds are small"
)]
mod tests;
