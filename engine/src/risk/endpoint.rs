//! One endpoint through a tick: observed, fed to its detectors, concluded.
//!
//! Three steps and not one, because the cluster speaks in between: before feeding it says what the peers have in
//! common with this endpoint, before concluding it says what happened to most of them at once. An idle endpoint costs
//! next to nothing.

use std::time::Duration;

use crate::assessment::TickEvidence;
use crate::baseline::LoadBaseline;
use crate::cusum::{Batch, threshold};
use crate::moment::Moment;
use crate::observation::Observation;
use crate::outcome::{Class, ROUTE_CLASSES};
use crate::spec::HealthPolicy;
use crate::spectrum::{LN_BUCKET, Spectrum, latency_us, position};

use super::class::ClassState;
use super::combine::Finding;
use super::external::Advisories;
use super::gray::{self, Classes};
use super::hard::{RefusalWatch, StallWatch, Vitality, Waiting, stuck, stuck_age};
use super::memory::Memory;
use super::network::NetworkWatch;
use super::performance::{self, Queue, Usual};
use super::recent::{Now, Sums, Window};
use super::resource::ResourceWatch;
use super::trend::TrendWatch;
use super::watch::{FailureWatch, SlowTick, SlowWatch};

/// Healthy samples of all classes before which latency is not judged.
pub(super) const LEARNED: f64 = 200.0;

/// Samples for a p99.9 of the baseline.
const P999_SAMPLES: f64 = 1000.0;

/// Largest part of the traffic whose latency may still be unknown for the p99.9 to be that of all of it.
const UNKNOWN_MAX: f64 = 0.001;

/// Share of failures above which an endpoint is not taken to have been born that way, if its peers are well: the
/// larger of 1 % and four times theirs.
const BORN_BAD: (f64, f64) = (0.01, 4.0);

/// A tick.
#[derive(Clone, Copy, Debug)]
pub struct Tick {
    /// Its end.
    pub now: Moment,
    /// Its length, seconds.
    pub seconds: f64,
    /// Our own loop was late: what looks slow may be us.
    pub void: bool,
}

/// What the other endpoints of the cluster say in this tick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peers {
    /// Logarithm by which they are slower than their baselines, 0 or more.
    pub slow: f64,
    /// Share of their attempts that fail, if they have traffic.
    pub bad: Option<f64>,
    /// How many times longer than expected their queues are.
    pub queue: f64,
    /// Slope of their trends.
    pub slope: f64,
    /// Their latencies in absolute terms.
    pub usual: Option<Usual>,
}

/// What is common to most endpoints in this tick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Commons {
    /// Most became slower: nobody's latency is evidence against him.
    pub slower: bool,
    /// Most began to fail: nobody's failures are evidence against him.
    pub failing: bool,
    /// Most hang.
    pub stall: bool,
    /// Route classes that are sick at most endpoints that serve them.
    pub classes: [bool; ROUTE_CLASSES],
}

/// Some requests of a tick with the same class and nearly the same latency.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub(super) class: usize,
    pub(super) position: f64,
    pub(super) count: f32,
}

/// What is usual for the endpoint as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Typical {
    p99: Duration,
    pub(super) p999: Option<Duration>,
    mean_us: f64,
}

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) classes: Classes,
    pub(super) load: LoadBaseline,
    pub(super) typical: Option<Typical>,
    /// Attempts in health, and those of them that broke.
    pub(super) usual_breaks: Batch,

    pub(super) now: Now,
    pub(super) window: Window,
    second_s: f64,

    pub(super) failures: FailureWatch,
    pub(super) breaks: FailureWatch,
    pub(super) slow: SlowWatch,
    pub(super) queue: Queue,
    pub(super) stall: StallWatch,
    pub(super) refusals: RefusalWatch,
    pub(super) vitality: Vitality,
    pub(super) network: NetworkWatch,
    pub(super) resource: ResourceWatch,
    pub(super) trend: TrendWatch,
    pub(super) advisories: Advisories,
    pub(super) memory: Memory,
    /// Seconds for which slowness has been suspect.
    pub(super) suspect_s: f64,
    pub(super) passed: Option<Moment>,
    pub(super) failed: Option<Moment>,

    pub(super) tick: Observed,
}

/// What this tick brought.
#[derive(Debug, Default)]
pub struct Observed {
    pub(super) samples: Vec<Sample>,
    pub(super) evidence: TickEvidence,
    /// Attempts of the classes that are judged together.
    pub(super) attempts: Batch,
    /// The same, by the latencies of served ones.
    pub(super) slow: SlowTick,
    /// The share of failures that was to be expected of them.
    pub(super) healthy: f64,
    /// All attempts, and those refused, reset, or not connected.
    pub(super) breaks: Batch,
    /// Logarithms of ratios to the baseline, normalised for load.
    pub(super) ln: Sums,
    /// Logarithm by which load excuses slowness.
    pub(super) excuse: f64,
    /// Healthy samples behind all classes' baselines.
    pub(super) learned: f64,
    pub(super) hangs: bool,
    pub(super) refuses: bool,
    pub(super) stuck: Finding,
    pub(super) idle: bool,
}

impl Endpoint {
    /// An endpoint of which nothing is known. `index` spreads the work that is done once a second over the ticks.
    pub fn new(index: usize, policy: HealthPolicy, now: Moment) -> Self {
        Self {
            classes: Default::default(),
            load: LoadBaseline::default(),
            typical: None,
            usual_breaks: Batch::default(),
            now: Now::default(),
            window: Window::default(),
            second_s: (index % 10) as f64 / 10.0,
            failures: FailureWatch::default(),
            breaks: FailureWatch::default(),
            slow: SlowWatch::default(),
            queue: Queue::default(),
            stall: StallWatch::default(),
            refusals: RefusalWatch::default(),
            vitality: Vitality::new(policy),
            network: NetworkWatch::default(),
            resource: ResourceWatch::default(),
            trend: TrendWatch::default(),
            advisories: Advisories::default(),
            memory: Memory::new(now),
            suspect_s: 0.0,
            passed: None,
            failed: None,
            tick: Observed::default(),
        }
    }

    /// Lives on under another configuration.
    pub(super) fn adopt(&mut self, health: Option<HealthPolicy>) {
        self.vitality.adopt(health);
    }

    /// Step one: takes what was seen, and makes of it what others are held against.
    pub fn observe(&mut self, tick: &Tick, seen: &Observation, scratch: &mut Vec<f64>) {
        self.window.advance(tick.seconds);
        self.now.fade(tick.seconds);
        self.read(tick, seen);
        self.watch_life(tick, seen);
        self.network.handle(&seen.network, tick.seconds);
        let shed = Batch {
            bad: f64::from(seen.count(Class::Shed)),
            total: self.tick.breaks.total,
        };
        self.resource.handle(tick.now, tick.seconds, seen.resource, shed);
        self.second_s += tick.seconds;
        if self.second_s >= 1.0 {
            let seconds = std::mem::take(&mut self.second_s);
            self.refresh();
            let point = performance::trend_point(&self.now, &self.classes);
            self.trend.handle(seconds, point, scratch);
        }
    }

    /// Reads attempts and latencies.
    fn read(&mut self, tick: &Tick, seen: &Observation) {
        let observed = &mut self.tick;
        observed.samples.clear();
        observed.ln = Sums::default();
        observed.evidence = TickEvidence {
            started: seen.started,
            shed: seen.count(Class::Shed),
            probes_passed: seen.probes.passed,
            probes_failed: seen.probes.failed,
            ..TickEvidence::default()
        };
        observed.excuse = self.load.excuse(&seen.loads);
        observed.learned = learned(&self.classes);
        let judged = 1.0 - if tick.void { timed_out(seen) } else { 0.0 };
        let (mut attempts, mut together) = (Batch::default(), Batch::default());
        for (index, (tally, class)) in seen.classes.iter().zip(&mut self.classes).enumerate() {
            let tally = tally.as_deref().filter(|tally| tally.total > 0);
            let Some(tally) = tally else {
                if let Some(class) = class {
                    class.attempts = Batch::default();
                    class.tick = SlowTick::default();
                }
                continue;
            };
            let class = class.get_or_insert_with(|| Box::new(ClassState::new(tick.now)));
            let (bad, total) = (f64::from(tally.bad.min(tally.total)), f64::from(tally.total));
            class.attempts = Batch {
                bad: bad * judged,
                total: total - bad * (1.0 - judged),
            };
            attempts.add(class.attempts);
            if !class.alone {
                together.add(class.attempts);
            }
            observed.evidence.total += whole(class.attempts.total);
            observed.evidence.bad += whole(class.attempts.bad);
            observed
                .samples
                .extend(tally.latency.recorded().map(|(us, count)| Sample {
                    class: index,
                    position: position(us as f64),
                    count: count as f32,
                }));
        }
        let [refused, reset, unconnected] =
            [Class::Refused, Class::Reset, Class::ConnectFailed].map(|class| f64::from(seen.count(class)));
        // What a class that is sick alone resets says nothing about the endpoint's connections.
        let apart = attempts.bad - together.bad;
        observed.breaks = Batch {
            bad: refused + unconnected + (reset - apart).max(0.0),
            total: attempts.total,
        };
        observed.idle = seen.started == 0 && attempts.total <= 0.0 && seen.ages.waiting() == 0;
        self.window.add(attempts, f64::from(seen.started));
        self.now.attempts.add(together);
        observed.attempts = together;
        self.now.started += f64::from(seen.started);
        self.read_latencies(tick);
    }

    fn read_latencies(&mut self, tick: &Tick) {
        let observed = &mut self.tick;
        let judged = observed.learned >= LEARNED;
        for sample in &observed.samples {
            let count = f64::from(sample.count);
            self.window.add_latency(sample.position, sample.count);
            if tick.void {
                continue;
            }
            let ln_us = sample.position * LN_BUCKET;
            self.now.us.add(ln_us, count);
            observed.evidence.sum_ln_us += ln_us * count;
            observed.evidence.sum_sq_ln_us += ln_us * ln_us * count;
            let Some(class) = self.classes.get(sample.class).and_then(Option::as_deref) else {
                continue;
            };
            let Some(reference) = class.baseline.reference() else {
                continue;
            };
            let ln = ln_us - reference.ln_us - observed.excuse;
            observed.evidence.sum_ln_ratio += ln * count;
            observed.evidence.sum_sq_ln_ratio += ln * ln * count;
            if judged && !class.alone {
                observed.ln.add(ln, count);
                let at = sample.position + reference.lift - observed.excuse / LN_BUCKET;
                self.now.ratios.add(at + f64::from(reference.shift), sample.count);
                self.now.mix.add(sample.class, sample.count);
            }
        }
        if !tick.void {
            observed.evidence.served = whole(observed.samples.iter().map(|s| f64::from(s.count)).sum());
        }
        self.now.ln.merge(observed.ln);
    }

    /// Looks for signs that it is gone, and at what waits.
    fn watch_life(&mut self, tick: &Tick, seen: &Observation) {
        if seen.probes.failed > 0 {
            self.failed = Some(tick.now);
        }
        if seen.probes.passed > 0 {
            self.passed = Some(tick.now);
        }
        let refused = Batch {
            bad: f64::from(seen.count(Class::Refused)),
            total: self.tick.breaks.total,
        };
        self.tick.refuses = self.refusals.handle(tick.now, refused);
        if tick.void {
            return;
        }
        let ended = self.tick.breaks.total + f64::from(seen.count(Class::Cancelled));
        let rps = self.now.rps().max(self.window.rps());
        self.queue.handle(
            f64::from(seen.ages.waiting()),
            rps,
            self.typical.map(|typical| typical.mean_us),
        );
        let waiting = Waiting {
            ages: &seen.ages,
            p99: self.typical.map(|typical| typical.p99),
            started: f64::from(seen.started),
            ended,
            seconds: tick.seconds,
        };
        self.tick.hangs = self.stall.handle(&waiting);
        let late = position(stuck_age(waiting.p99).as_micros() as f64);
        self.tick.stuck = stuck(&waiting, self.window.rps(), self.window.share_from(late));
    }

    /// Once a second: what is usual for all classes together.
    pub(super) fn refresh(&mut self) {
        let mut all = Spectrum::default();
        let mut mean = Sums::default();
        let (mut slowest, mut unknown) = (0.0f64, 0.0);
        for class in self.classes.iter().flatten() {
            let latency = class.baseline.latency();
            if let Some(reference) = class.baseline.reference() {
                all.merge(latency);
                mean.add(reference.mean_us, reference.samples);
                let q = if latency.total() >= P999_SAMPLES {
                    0.999
                } else {
                    1.0
                };
                slowest = slowest.max(latency.quantile(q).unwrap_or(0.0));
            } else {
                unknown += class.baseline.attempts();
            }
        }
        // A timeout by the others' latency would give up every request of a slow class that is not known yet, and call
        // it failing.
        let is_known = unknown <= UNKNOWN_MAX * all.total();
        let at = |q| {
            all.quantile(q)
                .map(|at| Duration::from_secs_f64(latency_us(at) / 1e6))
        };
        self.typical = at(0.99).filter(|_| all.total() >= LEARNED).map(|p99| Typical {
            p99,
            p999: (is_known && all.total() >= P999_SAMPLES)
                .then(|| Duration::from_secs_f64(latency_us(slowest) / 1e6)),
            mean_us: mean.mean(),
        });
    }

    /// Step two: feeds the detectors, in the light of what the peers do.
    pub fn feed(&mut self, tick: &Tick, peers: &Peers, commons: &Commons) {
        if self.tick.idle {
            self.tick.slow = SlowTick::default();
            return;
        }
        let threshold = threshold(self.window.rps());
        if !commons.failing {
            self.feed_failures(peers, threshold);
            let breaks = self.usual_break_share().max(0.5 * peers.bad.unwrap_or(0.0));
            self.breaks.feed(self.tick.breaks, breaks, threshold);
        }
        if tick.void || commons.slower || self.tick.learned < LEARNED {
            self.tick.slow = SlowTick::default();
        } else {
            self.feed_latencies(peers, threshold);
        }
        gray::settle(
            &mut self.classes,
            tick.seconds,
            [&mut self.failures, &mut self.breaks],
            &mut self.slow,
        );
    }

    // What is over for the endpoint, here and for latencies, is over for each class that was sick with it: a class that is
    // seldom asked would keep its evidence until long after, and be blamed for it alone.
    fn feed_failures(&mut self, peers: &Peers, threshold: f64) {
        let together = self.tick.attempts;
        let mut expected = 0.0;
        for class in self
            .classes
            .iter_mut()
            .flatten()
            .filter(|class| class.attempts.total > 0.0)
        {
            let healthy = healthy_share(class, peers.bad);
            class.failures.feed(class.attempts, healthy, threshold);
            if !class.alone {
                expected += healthy * class.attempts.total;
            }
        }
        if together.total > 0.0 {
            self.tick.healthy = expected / together.total;
            let was_failing = self.failures.is_certain(threshold);
            self.failures.feed(together, self.tick.healthy, threshold);
            if was_failing && self.failures.score() <= 0.0 {
                for class in self.classes.iter_mut().flatten().filter(|class| !class.alone) {
                    class.failures.reset();
                }
            }
        }
    }

    fn feed_latencies(&mut self, peers: &Peers, threshold: f64) {
        let excuse = (self.tick.excuse + peers.slow) / LN_BUCKET;
        let mut together = SlowTick::default();
        for class in self.classes.iter_mut().flatten() {
            class.tick = SlowTick::default();
        }
        for sample in &self.tick.samples {
            let Some(class) = self.classes.get_mut(sample.class).and_then(Option::as_deref_mut) else {
                continue;
            };
            let Some(reference) = class.baseline.reference() else {
                continue;
            };
            let at = sample.position + reference.lift - excuse;
            class.tick.add(reference, at, f64::from(sample.count));
            if !class.alone {
                together.add(reference, at, f64::from(sample.count));
            }
        }
        self.tick.slow = together;
        let was_slow = self.slow.evidence(threshold) > 0.0;
        let changed = self.slow.feed(&together, threshold);
        let is_over = was_slow && self.slow.score() <= 0.0;
        let mut changed_classes = [false; ROUTE_CLASSES];
        for (changed, class) in changed_classes.iter_mut().zip(&mut self.classes) {
            if let Some(class) = class {
                if is_over && !class.alone {
                    class.slow.reset();
                }
                *changed = class.slow.feed(&class.tick, threshold);
            }
        }
        for sample in &self.tick.samples {
            let Some(class) = self.classes.get_mut(sample.class).and_then(Option::as_deref_mut) else {
                continue;
            };
            let Some(reference) = class.baseline.reference() else {
                continue;
            };
            let ratio = sample.position + reference.lift - excuse + f64::from(reference.shift);
            if changed_classes.get(sample.class).is_some_and(|changed| *changed) {
                class.slow.add(sample.class, ratio, sample.count);
            }
            if changed && !class.alone {
                self.slow.add(sample.class, ratio, sample.count);
            }
        }
    }

    pub(super) fn usual_break_share(&self) -> f64 {
        // Prior: one in two thousand, with the weight of two hundred.
        (self.usual_breaks.bad + 0.1) / (self.usual_breaks.total + 200.0)
    }

    /// Forgets what is going on, after a gap in time; what is usual, and what is believed, stays.
    pub fn reset(&mut self) {
        for class in self.classes.iter_mut().flatten() {
            class.reset();
        }
        self.now = Now::default();
        self.window = Window::default();
        self.failures.reset();
        self.breaks.reset();
        self.slow.reset();
        self.queue.reset();
        self.stall.reset();
        self.refusals.reset();
        self.trend.reset();
        self.tick = Observed::default();
    }

    /// Takes an advisory.
    pub fn handle_advisory(&mut self, advisory: super::Advisory) {
        self.advisories.handle(advisory);
    }
}

impl Observed {
    /// All attempts of the tick.
    pub(super) fn all(&self) -> Batch {
        Batch::of(self.evidence.bad.min(self.evidence.total), self.evidence.total)
    }
}

/// The part of a tick's failures that are timeouts: where our own loop was late they are slowness, and may be ours.
fn timed_out(seen: &Observation) -> f64 {
    let bad: u32 = Class::ALL
        .iter()
        .filter(|class| class.is_bad())
        .map(|class| seen.count(*class))
        .sum();
    f64::from(seen.count(Class::Timeout)) / f64::from(bad.max(1))
}

/// The share of failures that is to be expected of a class.
fn healthy_share(class: &ClassState, peers: Option<f64>) -> f64 {
    let own = class.baseline.bad_share();
    match peers {
        Some(peers) => own.min(BORN_BAD.0.max(BORN_BAD.1 * peers)).max(peers),
        None => own,
    }
}

fn learned(classes: &Classes) -> f64 {
    classes
        .iter()
        .flatten()
        .filter_map(|class| class.baseline.reference())
        .map(|reference| reference.samples)
        .sum()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of one tick, summed exactly"
)]
pub(super) fn whole(count: f64) -> u32 {
    count.round() as u32
}
