//! The detectors that a route class and a whole endpoint have alike: failures, and slowness.
//!
//! Each answers two questions apart, because either alone misleads: is there a difference (evidence, by CUSUM; alone it
//! fires on 1 % at high traffic), and does it matter (effect, measured since the moment of change, at its lower bound;
//! alone it fires on noise at low traffic). Watches of classes can be absorbed into and expelled from the endpoint's one,
//! so that a change of mind about who is sick loses no evidence.

use crate::baseline::Reference;
use crate::cusum::{Batch, Cusum, Hypotheses, ramp};
use crate::outcome::ROUTE_CLASSES;
use crate::spectrum::{LN_BUCKET, Spectrum, single};

use super::combine::Finding;

/// Shares of failures that are tested for, and the multiples of the healthy share where that is more. Three tests and
/// their maximum come close to knowing the true share in advance.
const SICK: [(f64, f64); 3] = [(0.02, 4.0), (0.10, 20.0), (0.50, 100.0)];

/// Share of failures that is never an anomaly.
const HEALTHY_MIN: f64 = 0.001;

/// Share of failures that counts in full, at its lower bound: one request in twenty is that many after a second or two,
/// users have noticed, and nearly all traffic should leave.
const FAILURES_FULL: f64 = 0.035;

/// Standard deviations of the one-sided 95 % bound.
const Z95: f64 = 1.645;

/// Factors of slowness between which the effect grows. Below 1.2 nobody notices and noise lives; at 2.75 the p99 of
/// a usual service is where its p99.99 was.
const SLOWNESS: (f64, f64) = (1.2, 2.75);

/// Shares of samples in the slow tail that mean a shift of the whole. 5 % become 25 % where latency grows by half and is
/// spread little (sigma .5), 12 % where it is spread widely (sigma 1).
const NEAR_SICK: f64 = 0.25;
const MILD_SICK: f64 = 0.12;

/// Share of samples beyond twice the 99th percentile that is tested for.
const FAR_SICK: f64 = 0.03;

/// Shares beyond twice the 99th percentile between which the effect grows: at 1 % the p99 has doubled, at 10 % the p90 has.
const FAR: (f64, f64) = (0.01, 0.10);

/// Standard error of the mean of the logarithms of p50 and p95, in standard deviations of a sample: 1.35 for a normal
/// logarithm, from the asymptotic covariance of two quantiles.
const QUANTILE_ERROR: f64 = 1.35;

/// How much more failures (or slow requests) clump than chance would have it: variance over binomial variance of
/// their counts, learned in health, 1 to 4.
#[derive(Clone, Copy, Debug)]
pub struct Clumps {
    ratio: f64,
    pending: Batch,
}

impl Default for Clumps {
    fn default() -> Self {
        Self {
            ratio: 1.0,
            pending: Batch::default(),
        }
    }
}

impl Clumps {
    /// Takes a healthy tick, in which a share `healthy` was to be expected.
    pub fn learn(&mut self, batch: Batch, healthy: f64) {
        self.pending.add(batch);
        let expected = self.pending.total * healthy;
        if expected < 1.0 {
            return;
        }
        let off = self.pending.bad - expected;
        // One wild second must not blind the detector: ten at most, and a hundredth of it.
        let ratio = (off * off / (expected * (1.0 - healthy))).min(10.0);
        self.ratio += 0.01 * (ratio - self.ratio);
        self.pending = Batch::default();
    }

    fn ratio(&self) -> f64 {
        self.ratio.clamp(1.0, 4.0)
    }
}

/// Watches the share of attempts that fail.
#[derive(Clone, Copy, Debug, Default)]
pub struct FailureWatch {
    tests: [Cusum; SICK.len()],
    clumps: Clumps,
}

impl FailureWatch {
    /// Takes a tick's attempts. `healthy` is the share that is to be expected.
    pub fn feed(&mut self, attempts: Batch, healthy: f64, threshold: f64) {
        let healthy = healthy.max(HEALTHY_MIN);
        for (test, (share, multiple)) in self.tests.iter_mut().zip(SICK) {
            let hypotheses = Hypotheses::new(healthy, share.max(multiple * healthy));
            test.feed(attempts, hypotheses, threshold, self.clumps.ratio());
        }
    }

    /// Takes a healthy tick into the notion of what is usual.
    pub fn learn(&mut self, attempts: Batch, healthy: f64) {
        self.clumps.learn(attempts, healthy.max(HEALTHY_MIN));
    }

    /// The strongest of the tests.
    pub fn finding(&self, healthy: f64, threshold: f64) -> Finding {
        let healthy = healthy.max(HEALTHY_MIN);
        let mut strongest = Finding::default();
        for test in &self.tests {
            let evidence = test.evidence(threshold);
            if evidence <= 0.0 {
                continue;
            }
            let since = test.since();
            let effect = failure_effect(since.bounds(Z95).0, healthy);
            if effect * evidence > strongest.effect * strongest.evidence {
                strongest = Finding {
                    effect,
                    evidence,
                    observed: since.share(),
                    baseline: healthy,
                    samples: since.total,
                };
            }
        }
        strongest
    }

    /// Whether one of the tests has found something.
    pub fn is_certain(&self, threshold: f64) -> bool {
        self.tests.iter().any(|test| test.evidence(threshold) > 0.0)
    }

    /// The largest sum of the tests, nats.
    pub fn score(&self) -> f64 {
        self.tests.iter().map(Cusum::score).fold(0.0, f64::max)
    }

    /// Takes over what a class has seen.
    pub fn absorb(&mut self, class: &Self) {
        for (mine, theirs) in self.tests.iter_mut().zip(&class.tests) {
            mine.absorb(theirs);
        }
    }

    /// Forgets what a class has seen.
    pub fn expel(&mut self, class: &Self) {
        for (mine, theirs) in self.tests.iter_mut().zip(&class.tests) {
            mine.expel(theirs);
        }
    }

    /// Forgets what is going on, not what is usual.
    pub fn reset(&mut self) {
        self.tests = Default::default();
    }
}

/// How much it matters that at least a share `lower` fails where `healthy` did.
pub fn failure_effect(lower: f64, healthy: f64) -> f64 {
    let begins = (2.0 * healthy).max(0.002);
    let full = FAILURES_FULL.max(2.5 * begins);
    ramp(lower.max(1e-9).ln(), begins.ln(), full.ln())
}

/// How much it matters to be slower by a factor with the natural logarithm `ln`.
pub fn slowness_effect(ln: f64) -> f64 {
    ramp(ln, SLOWNESS.0.ln(), SLOWNESS.1.ln())
}

/// How many samples of each route class are in a spectrum: what it has to be held against.
#[derive(Clone, Debug, Default)]
pub struct Mix([f32; ROUTE_CLASSES]);

impl Mix {
    /// Adds samples of the class with that index.
    pub fn add(&mut self, class: usize, count: f32) {
        if let Some(slot) = self.0.get_mut(class) {
            *slot += count;
        }
    }

    /// Weighs all by `factor`.
    pub fn decay(&mut self, factor: f64) {
        let factor = single(factor);
        self.0.iter_mut().for_each(|count| *count *= factor);
    }

    /// Samples by class.
    pub fn by_class(&self) -> impl Iterator<Item = f32> {
        self.0.iter().copied()
    }
}

/// Where slow begins, for a tick's mix of classes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlowTick {
    /// Of all served, those in the slowest twentieth of their class's baseline.
    pub near: Batch,
    /// Those beyond twice the 99th percentile.
    pub far: Batch,
    /// Expected number in `near.bad`.
    pub near_expected: f64,
    /// Expected number in `far.bad`.
    pub far_expected: f64,
}

impl SlowTick {
    /// Adds `count` samples at a position, of which `reference` is the baseline.
    pub fn add(&mut self, reference: &Reference, position: f64, count: f64) {
        let near = if position >= reference.near.from {
            count
        } else {
            0.0
        };
        let far = if position >= reference.far.from {
            count
        } else {
            0.0
        };
        self.near.add(Batch {
            bad: near,
            total: count,
        });
        self.far.add(Batch {
            bad: far,
            total: count,
        });
        self.near_expected += count * reference.near.share;
        self.far_expected += count * reference.far.share;
    }

    /// The share that is to be expected in the slowest twentieth.
    pub fn near_healthy(&self) -> f64 {
        self.near_expected / self.near.total.max(1.0)
    }
}

/// Watches the latency of what is served, against the baseline of each class.
#[derive(Clone, Debug, Default)]
pub struct SlowWatch {
    near: Cusum,
    mild: Cusum,
    far: Cusum,
    clumps: Clumps,
    /// Ratios to the baseline since the moment of change.
    since: Spectrum,
    mix: Mix,
}

impl SlowWatch {
    /// Takes a tick's counts; returns whether its samples belong to a change and are to be added one by one.
    pub fn feed(&mut self, tick: &SlowTick, threshold: f64) -> bool {
        if tick.near.total <= 0.0 {
            return false;
        }
        let near = tick.near_healthy();
        let far = tick.far_expected / tick.far.total;
        let clumps = self.clumps.ratio();
        let was_quiet = self.near.score() <= 0.0;
        self.mild.feed(
            tick.near,
            Hypotheses::new(near, MILD_SICK.max(2.0 * near)),
            threshold,
            clumps,
        );
        self.near.feed(
            tick.near,
            Hypotheses::new(near, NEAR_SICK.max(3.0 * near)),
            threshold,
            clumps,
        );
        self.far.feed(
            tick.far,
            Hypotheses::new(far, FAR_SICK.max(6.0 * far)),
            threshold,
            clumps,
        );
        // A strong change restarts the measurement that a mild one, or chance, had begun.
        let begins = was_quiet && self.near.score() > 0.0 && self.mild.evidence(threshold) <= 0.0;
        if begins || self.score() <= 0.0 {
            self.since.clear();
            self.mix = Mix::default();
        }
        self.score() > 0.0
    }

    /// Adds samples of a tick for which [`SlowWatch::feed`] said so, as ratios to the baseline.
    pub fn add(&mut self, class: usize, ratio: f64, count: f32) {
        self.since.add(ratio, count);
        self.mix.add(class, count);
    }

    /// Takes a healthy tick into the notion of what is usual.
    pub fn learn(&mut self, tick: &SlowTick) {
        if tick.near.total > 0.0 {
            self.clumps.learn(tick.near, tick.near_healthy());
        }
    }

    /// Evidence that the whole is slower.
    pub fn evidence(&self, threshold: f64) -> f64 {
        self.near.evidence(threshold).max(self.mild.evidence(threshold))
    }

    /// The larger sum of the tests on the whole, nats.
    pub fn score(&self) -> f64 {
        self.near.score().max(self.mild.score())
    }

    /// The sum of the test on the far tail, nats.
    pub fn far_score(&self) -> f64 {
        self.far.score()
    }

    /// Ratios to the baseline since the moment of change, and the classes they are of.
    pub fn since(&self) -> (&Spectrum, &Mix) {
        (&self.since, &self.mix)
    }

    /// What the far tail says: a few requests that take for ever, while median and p95 stand still.
    pub fn far_finding(&self, threshold: f64) -> Finding {
        let evidence = self.far.evidence(threshold);
        if evidence <= 0.0 {
            return Finding::default();
        }
        let since = self.far.since();
        Finding {
            effect: ramp(since.bounds(Z95).0.max(1e-9).ln(), FAR.0.ln(), FAR.1.ln()),
            evidence,
            observed: since.share(),
            baseline: FAR.0,
            samples: since.total,
        }
    }

    /// Takes over what a class has seen.
    pub fn absorb(&mut self, class: &Self) {
        self.near.absorb(&class.near);
        self.mild.absorb(&class.mild);
        self.far.absorb(&class.far);
        self.since.merge(&class.since);
        for (mine, theirs) in self.mix.0.iter_mut().zip(&class.mix.0) {
            *mine += theirs;
        }
    }

    /// Forgets what a class has seen.
    pub fn expel(&mut self, class: &Self) {
        self.near.expel(&class.near);
        self.mild.expel(&class.mild);
        self.far.expel(&class.far);
        if self.score() <= 0.0 {
            self.since.clear();
            self.mix = Mix::default();
            return;
        }
        self.since.subtract(&class.since);
        for (mine, theirs) in self.mix.0.iter_mut().zip(&class.mix.0) {
            *mine = (*mine - theirs).max(0.0);
        }
    }

    /// Forgets what is going on, not what is usual.
    pub fn reset(&mut self) {
        self.near = Cusum::default();
        self.mild = Cusum::default();
        self.far = Cusum::default();
        self.since.clear();
        self.mix = Mix::default();
    }
}

/// How much slower than its baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowdown {
    /// Logarithm of the geometric mean of the ratios at p50 and p95.
    pub ln: f64,
    /// Its standard error.
    pub error: f64,
    /// Samples behind it.
    pub samples: f64,
}

/// A baseline for a mix of classes: what the spectrum of ratios would look like in health.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Ratios to the centre of each class.
    pub ratios: Spectrum,
    /// Mean standard deviation of a sample's logarithm.
    pub deviation: f64,
    /// Healthy samples behind it.
    pub samples: f64,
}

impl Slowdown {
    /// Holds ratios against what is expected of them, from five samples on.
    pub fn between(live: &Spectrum, expected: &Expected) -> Option<Self> {
        if live.total() < 5.0 {
            return None;
        }
        let mut ln = 0.0;
        for q in [0.50, 0.95] {
            ln += (live.quantile(q)? - expected.ratios.quantile(q)?) * LN_BUCKET / 2.0;
        }
        let spread = (1.0 / live.total() + 1.0 / expected.samples.max(1.0)).sqrt();
        Some(Self {
            ln,
            error: QUANTILE_ERROR * expected.deviation * spread,
            samples: live.total(),
        })
    }

    /// What it is at least, by `z` standard errors.
    pub fn lower(&self, z: f64) -> f64 {
        self.ln - z * self.error
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "nothing and everything are exact")]
mod tests {
    use super::*;
    use crate::cusum::threshold;

    #[test]
    fn the_effect_of_failures_grows_with_their_share() {
        let at = |share: f64| failure_effect(share, 0.001);
        assert_eq!(at(0.002), 0.0);
        assert!(at(0.01) > 0.3 && at(0.01) < at(0.03));
        assert_eq!(at(0.04), 1.0);
    }

    #[test]
    fn clumps_raise_the_bar_and_no_clumps_do_not() {
        let (mut clumped, mut fine) = (Clumps::default(), Clumps::default());
        for n in 0..4000 {
            clumped.learn(Batch::of(if n % 10 == 0 { 15 } else { 0 }, 30), 0.05);
            fine.learn(Batch::of(1 + n % 2, 30), 0.05);
        }
        assert!(clumped.ratio() > 2.0);
        assert_eq!(fine.ratio(), 1.0);
    }

    #[test]
    fn a_watch_remembers_only_the_change() {
        let h = threshold(300.0);
        let mut watch = FailureWatch::default();
        for _ in 0..100 {
            watch.feed(Batch::of(0, 30), 0.001, h);
        }
        watch.feed(Batch::of(15, 30), 0.001, h);
        let finding = watch.finding(0.001, h);
        assert_eq!((finding.evidence, finding.effect), (1.0, 1.0));
        assert!((finding.observed - 0.5).abs() < 1e-9, "{finding:?}");
    }
}
