//! Is the endpoint gone? Refusals, hangs, failed probes; and what it takes to be back.
//!
//! A dead endpoint loses all its traffic at once, so each way to die needs its own unmistakable sign, and each way back
//! needs proof: passed probes or served requests, never silence. A hang is seen from the age of what waits, not from a
//! timeout: completions dry up (a CUSUM on their Poisson rate, healthy against a quarter of it) while several requests
//! are far older than requests get here. An overloaded endpoint keeps completing what it can, an idle one has nothing
//! waiting: neither is a hang. Requests that hang among others that do not are *stuck*: a share, like failures.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cusum::{Batch, ramp};
use crate::health::Health;
use crate::in_flight::Ages;
use crate::moment::Moment;
use crate::observation::ProbeTally;
use crate::spec::HealthPolicy;

use super::combine::Finding;
use super::watch::failure_effect;

/// Refusals within [`REFUSED_WITHIN`] that prove that nobody listens, if most attempts end so.
const REFUSED: f64 = 3.0;

/// See [`REFUSED`].
const REFUSED_WITHIN: Duration = Duration::from_secs(1);

/// Within which time two refusals prove it, if there was nothing else.
const REFUSED_ONLY_WITHIN: Duration = Duration::from_secs(5);

/// Ticks with ends of attempts that are remembered; five seconds of ticks and a little.
const ENDS_MAX: usize = 64;

/// Nats at which completions have dried up: phi 8, one false alarm in 1e8.
const DRY: f64 = 18.4;

/// Share of the usual completions that is tested for.
const DRY_RATE: f64 = 0.25;

/// Requests that have to wait far too long for a hang, and for being stuck.
const WAITING_MIN: u32 = 4;

/// Time constant of the usual rate of completions, seconds.
const RATE_S: f64 = 3.0;

/// Served requests that bring a dead endpoint back, if there are four times fewer failures among them.
const REVIVING: f64 = 5.0;

/// How long requests wait at most that count as stuck: the length of the ring of ages, less a slot.
const STUCK_MAX: Duration = Duration::from_millis(1240);

/// Shortest wait that counts as stuck: ten p99 of a fast service are still nothing a user notices.
const STUCK_MIN: Duration = Duration::from_millis(200);

/// Share of stuck requests that is never an anomaly.
const STUCK_HEALTHY: f64 = 0.003;

/// What killed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// It failed its probes.
    Probes,
    /// It refuses connections.
    Refused,
    /// It answers nothing.
    Stall,
}

impl Cause {
    /// The component's name in a term.
    pub fn label(self) -> &'static str {
        match self {
            Self::Probes => "probes",
            Self::Refused => "refused",
            Self::Stall => "stall",
        }
    }
}

/// Dead or alive.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Vitality {
    health: Health,
    rise: u32,
    dead: Option<Cause>,
    /// Probes passed in a row, and attempts ended, since it died.
    passes: u32,
    since: Batch,
}

impl Vitality {
    /// Alive, until something says otherwise.
    pub fn new(policy: HealthPolicy) -> Self {
        Self {
            health: Health::new(policy),
            rise: policy.rise.max(1),
            dead: None,
            passes: 0,
            since: Batch::default(),
        }
    }

    /// Judges probes by another policy; `None` where there will be none any more. Whom only probes called dead is then
    /// given the benefit of the doubt, because nothing could ever revive him.
    pub fn adopt(&mut self, policy: Option<HealthPolicy>) {
        match policy {
            Some(policy) => {
                self.health.adopt(policy);
                self.rise = policy.rise.max(1);
            }
            None => {
                self.health = Health::new(HealthPolicy::default());
                self.dead = self.dead.filter(|cause| *cause != Cause::Probes);
            }
        }
    }

    /// Takes a tick: its probes, its served and failed attempts, and whether traffic shows that it is gone.
    pub fn handle(&mut self, probes: ProbeTally, ended: Batch, gone: Option<Cause>) {
        self.probe(probes);
        let gone = gone.or(self.health.is_dead().then_some(Cause::Probes));
        if let Some(cause) = gone {
            self.dead = Some(self.dead.unwrap_or(cause));
            self.passes = 0;
            self.since = Batch::default();
            return;
        }
        let Some(cause) = self.dead else { return };
        self.since.add(ended);
        if self.since.bad > self.since.total / 5.0 {
            self.since = Batch::default();
        }
        // Probes that killed have to revive; where traffic showed the death, traffic may show the life.
        let served = cause != Cause::Probes && self.since.total - self.since.bad >= REVIVING;
        if served || self.passes >= self.rise || cause == Cause::Probes {
            self.dead = None;
        }
    }

    /// What killed it, if it is dead.
    pub fn dead(&self) -> Option<Cause> {
        self.dead
    }

    /// Within a tick failures are taken to come first: the newest word is the better one.
    fn probe(&mut self, probes: ProbeTally) {
        // More probes in a tick than any streak needs say nothing new.
        for _ in 0..probes.failed.min(1000) {
            self.health.handle(false);
            self.passes = 0;
        }
        for _ in 0..probes.passed.min(1000) {
            self.health.handle(true);
            self.passes = self.passes.saturating_add(1);
        }
    }
}

/// Watches for refused connections.
#[derive(Clone, Debug, Default)]
pub struct RefusalWatch {
    ends: VecDeque<(Moment, Batch)>,
}

impl RefusalWatch {
    /// Takes a tick: `bad` refused of `total` attempts that ended. Returns whether nobody listens.
    pub fn handle(&mut self, now: Moment, ends: Batch) -> bool {
        while self.ends.len() >= ENDS_MAX
            || self
                .ends
                .front()
                .is_some_and(|(at, _)| now.since(*at) >= REFUSED_ONLY_WITHIN)
        {
            self.ends.pop_front();
        }
        if ends.total > 0.0 {
            self.ends.push_back((now, ends));
        }
        if ends.bad <= 0.0 {
            return false;
        }
        let (mut second, mut all) = (Batch::default(), Batch::default());
        for (at, ends) in &self.ends {
            all.add(*ends);
            if now.since(*at) < REFUSED_WITHIN {
                second.add(*ends);
            }
        }
        // A tick in which everything was refused outweighs the good ones before it.
        let most = ends.share() > 0.5;
        (second.bad >= REFUSED && most) || (all.bad >= 2.0 && all.bad >= all.total)
    }

    /// Forgets, after a gap in time.
    pub fn reset(&mut self) {
        self.ends.clear();
    }
}

/// What waits at an endpoint after a tick.
#[derive(Clone, Copy, Debug)]
pub struct Waiting<'a> {
    /// Requests by age.
    pub ages: &'a Ages,
    /// 99th percentile of latency in health, if it is known.
    pub p99: Option<Duration>,
    /// Attempts begun in the tick.
    pub started: f64,
    /// Attempts that ended in the tick, however.
    pub ended: f64,
    /// Length of the tick, seconds.
    pub seconds: f64,
}

/// Watches for completions that dry up.
#[derive(Clone, Copy, Debug, Default)]
pub struct StallWatch {
    score: f64,
    rate: f64,
    learned_s: f64,
}

impl StallWatch {
    /// Takes a tick; returns whether the endpoint hangs.
    pub fn handle(&mut self, waiting: &Waiting<'_>) -> bool {
        let usual = self.rate * waiting.seconds;
        // What did not arrive cannot be completed; what arrived in a rush need not be at once.
        let expected = waiting.started.min(usual);
        self.score += (1.0 - DRY_RATE) * expected + DRY_RATE.ln() * waiting.ended;
        self.score = self.score.clamp(0.0, 2.0 * DRY);
        let age = waiting.p99.map_or(Duration::from_secs(1), |p99| {
            (3 * p99).max(Duration::from_millis(60))
        });
        let hangs = self.score >= DRY && waiting.ages.waiting_at_least(age) >= WAITING_MIN;
        if self.score < DRY / 2.0 {
            // The first seconds count as they come, later ones by the time constant.
            self.learned_s = (self.learned_s + waiting.seconds).min(RATE_S);
            self.rate += (waiting.ended / waiting.seconds - self.rate) * waiting.seconds / self.learned_s;
        }
        hangs
    }

    /// Whether it may be about to hang: enough to be counted when the question is whether everybody does.
    pub fn is_suspect(&self) -> bool {
        self.score >= DRY / 2.0
    }

    /// Forgets what is going on, not what is usual.
    pub fn reset(&mut self) {
        self.score = 0.0;
    }
}

/// What stuck requests say. `arrivals_per_s` is the rate over the last seconds, `served_late` the share of served
/// requests that took longer than `age`: who is merely slow is judged as slow.
pub fn stuck(waiting: &Waiting<'_>, arrivals_per_s: f64, served_late: f64) -> Finding {
    let age = stuck_age(waiting.p99);
    let older = waiting.ages.waiting_at_least(age);
    let stuck = f64::from(older.saturating_sub(waiting.ages.waiting_at_least(STUCK_MAX)));
    let arrivals = arrivals_per_s * (STUCK_MAX.saturating_sub(age)).as_secs_f64();
    if older < WAITING_MIN || stuck < 1.0 || waiting.p99.is_none() {
        return Finding::default();
    }
    let of = Batch {
        bad: stuck,
        total: arrivals.max(stuck),
    };
    let healthy = (1.5 * served_late).clamp(STUCK_HEALTHY, 0.9);
    let expected = healthy * of.total;
    let nats = if stuck > expected {
        stuck * (stuck / expected).ln() - (stuck - expected)
    } else {
        0.0
    };
    Finding {
        effect: failure_effect(of.bounds(1.645).0, healthy),
        evidence: ramp(nats, 14.0, 18.0),
        observed: of.share(),
        baseline: healthy,
        samples: of.total,
    }
}

/// The age from which on a waiting request is stuck, if it is not to be mistaken for a slow one.
pub fn stuck_age(p99: Option<Duration>) -> Duration {
    p99.map_or(STUCK_MAX, |p99| (10 * p99).clamp(STUCK_MIN, STUCK_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::in_flight::InFlight;

    fn tick(n: u64) -> Moment {
        Moment::from_micros(n * 100_000)
    }

    fn alive() -> Vitality {
        Vitality::new(HealthPolicy { rise: 2, fall: 3 })
    }

    fn probes(passed: u32, failed: u32) -> ProbeTally {
        ProbeTally { passed, failed }
    }

    #[test]
    fn the_dead_come_back_by_proof_and_not_by_silence() {
        let mut vitality = alive();
        vitality.handle(probes(0, 0), Batch::of(3, 3), Some(Cause::Refused));
        for _ in 0..10_000 {
            vitality.handle(probes(0, 0), Batch::default(), None);
        }
        assert_eq!(vitality.dead(), Some(Cause::Refused));
        let mut by_probes = vitality;
        by_probes.handle(probes(1, 0), Batch::default(), None);
        assert!(by_probes.dead().is_some());
        by_probes.handle(probes(1, 0), Batch::default(), None);
        assert_eq!(by_probes.dead(), None);
        vitality.handle(probes(0, 0), Batch::of(3, 6), None);
        assert!(
            vitality.dead().is_some(),
            "as many failures as answers are no proof"
        );
        vitality.handle(probes(0, 0), Batch::of(0, 5), None);
        assert_eq!(vitality.dead(), None);
    }

    #[test]
    fn what_probes_killed_only_probes_revive() {
        let mut vitality = alive();
        vitality.handle(probes(0, 3), Batch::default(), None);
        assert_eq!(vitality.dead(), Some(Cause::Probes));
        vitality.handle(probes(0, 0), Batch::of(0, 100), None);
        assert_eq!(vitality.dead(), Some(Cause::Probes));
        vitality.handle(probes(2, 0), Batch::default(), None);
        assert_eq!(vitality.dead(), None);
    }

    #[test]
    fn refusals_prove_it_when_they_are_most() {
        let mut watch = RefusalWatch::default();
        assert!(!watch.handle(tick(0), Batch::of(3, 300)));
        assert!(watch.handle(tick(1), Batch::of(30, 30)));
        let mut quiet = RefusalWatch::default();
        assert!(!quiet.handle(tick(0), Batch::of(1, 1)));
        assert!(quiet.handle(tick(10), Batch::of(1, 1)));
    }

    fn ticks_to_hang(per_tick: u64) -> Option<u64> {
        let mut in_flight = InFlight::default();
        let mut watch = StallWatch::default();
        for n in 0..300u64 {
            let start = |k: u64| Moment::from_micros(n * 100_000 + k * 100_000 / per_tick);
            let hangs = n >= 100;
            for k in 0..per_tick {
                let started = in_flight.begin(start(k));
                if !hangs {
                    in_flight.end(started);
                }
            }
            let ages = in_flight.ages(tick(n + 1));
            let waiting = Waiting {
                ages: &ages,
                p99: Some(Duration::from_millis(16)),
                started: per_tick as f64,
                ended: if hangs { 0.0 } else { per_tick as f64 },
                seconds: 0.1,
            };
            if watch.handle(&waiting) {
                return Some(n - 99);
            }
        }
        None
    }

    // Concept: endpoint-failover
    #[test]
    fn a_hang_shows_in_the_first_tick_at_300_per_second() {
        assert_eq!(ticks_to_hang(30), Some(1));
        assert!(ticks_to_hang(5).unwrap() <= 6);
    }

    #[test]
    fn overload_is_not_a_hang() {
        let mut in_flight = InFlight::default();
        let mut watch = StallWatch::default();
        for n in 0..200u64 {
            let arrivals = if n < 100 { 30 } else { 300 };
            for k in 0..arrivals {
                let started = in_flight.begin(Moment::from_micros(n * 100_000 + k));
                if k < 30 {
                    in_flight.end(started);
                }
            }
            let ages = in_flight.ages(tick(n + 1));
            let waiting = Waiting {
                ages: &ages,
                p99: Some(Duration::from_millis(16)),
                started: arrivals as f64,
                ended: 30.0,
                seconds: 0.1,
            };
            assert!(!watch.handle(&waiting), "tick {n}");
        }
    }
}
