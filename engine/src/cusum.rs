//! Is a share worse than it was? A Bernoulli CUSUM, fed once per tick with `bad` of `total`.
//!
//! Page's cumulative sum of log-likelihood ratios, reflected at zero: `S <- max(0, S + ln P(x | sick) / P(x | healthy))`.
//! It is the fastest detector there is for a given rate of false alarms (Lorden, Moustakides), and that rate is at most
//! `exp(-h)` per sample, whatever the traffic looks like. Counting consecutive failures, the usual alternative, needs
//! 3.4 million requests to see 5 % of errors; this needs about 130.
//!
//! What else it keeps: the counts since `S` last left zero, which is the maximum-likelihood estimate of the moment of
//! change, so that an effect is measured on the sick samples and not diluted with healthy ones; and, once it has
//! tripped, the reverse test ("it is healthy again" against "still as bad as measured"), because a sum that climbed
//! during ten bad minutes would otherwise take minutes of good traffic to come down.
//!
//! No samples: nothing changes. A burst: one batch, judged as a whole. Cold start: `S` is zero, and nothing is believed.

use serde::{Deserialize, Serialize};

/// How far above the threshold evidence counts in full, as a factor.
const FULL: f64 = 1.15;

/// Nats of the reverse test at which the change counts as over: one false end of an episode in 20,000.
const RECOVERED: f64 = 10.0;

/// Hours between two false trips of one detector at one endpoint.
const HOURS_BETWEEN_FALSE_TRIPS: f64 = 1000.0;

/// Detectors at one endpoint that share the allowance (Bonferroni).
const DETECTORS: f64 = 20.0;

/// Shares are kept away from 0 and 1 by this much, where logarithms end.
const MARGIN: f64 = 1e-6;

/// Samples of one tick. Fractions are possible where samples are weighted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// Those that were bad.
    pub bad: f64,
    /// All of them.
    pub total: f64,
}

/// The two shares of bad samples that are told apart, `healthy < sick`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hypotheses {
    healthy: f64,
    sick: f64,
}

/// The running sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cusum {
    score: f64,
    since: Batch,
    reverse: f64,
}

/// The score at which evidence begins, for a stream of `samples_per_s`: it grows with the rate, so that false trips per
/// hour, not per sample, are constant.
pub fn threshold(samples_per_s: f64) -> f64 {
    let samples = samples_per_s.clamp(0.1, 1e7) * 3600.0 * HOURS_BETWEEN_FALSE_TRIPS;
    samples.ln() + DETECTORS.ln()
}

/// 0 up to `a`, 1 from `b` on, straight between; 0 for what is not a number.
pub fn ramp(x: f64, a: f64, b: f64) -> f64 {
    let y = (x - a) / (b - a);
    if y.is_nan() { 0.0 } else { y.clamp(0.0, 1.0) }
}

impl Batch {
    /// `bad` of `total` samples.
    pub fn of(bad: u32, total: u32) -> Self {
        Self {
            bad: f64::from(bad),
            total: f64::from(total),
        }
    }

    /// The share that was bad; 0 of nothing.
    pub fn share(self) -> f64 {
        if self.total > 0.0 {
            self.bad / self.total
        } else {
            0.0
        }
    }

    /// Adds another batch.
    pub fn add(&mut self, other: Self) {
        self.bad += other.bad;
        self.total += other.total;
    }

    /// Takes another batch away, as far as it is in here.
    pub fn take(&mut self, other: Self) {
        self.total = (self.total - other.total).max(0.0);
        self.bad = (self.bad - other.bad).clamp(0.0, self.total);
    }

    /// Weighs what is in here by `factor`.
    pub fn decay(&mut self, factor: f64) {
        self.bad *= factor;
        self.total *= factor;
    }

    /// Wilson's bounds of the true share at `z` standard deviations: `(0, 1)` where nothing is known.
    pub fn bounds(self, z: f64) -> (f64, f64) {
        let n = self.total;
        if n <= 0.0 {
            return (0.0, 1.0);
        }
        let p = (self.bad / n).clamp(0.0, 1.0);
        let z2 = z * z / n;
        let centre = p + z2 / 2.0;
        let half = z * ((p * (1.0 - p) + z2 / 4.0) / n).sqrt();
        let scale = 1.0 + z2;
        (
            ((centre - half) / scale).clamp(0.0, 1.0),
            ((centre + half) / scale).clamp(0.0, 1.0),
        )
    }
}

impl Hypotheses {
    /// Healthy up to `healthy`, sick from `sick` on; where they meet or cross, `sick` gives way.
    pub fn new(healthy: f64, sick: f64) -> Self {
        let healthy = healthy.clamp(MARGIN, 1.0 - 4.0 * MARGIN);
        let least = healthy + (1.0 - healthy) * 0.1;
        Self {
            healthy,
            sick: sick.clamp(least, 1.0 - MARGIN),
        }
    }

    /// Nats for sick over healthy in a batch.
    pub fn log_ratio(self, batch: Batch) -> f64 {
        let bad = (self.sick / self.healthy).ln();
        let good = ((1.0 - self.sick) / (1.0 - self.healthy)).ln();
        batch.bad * bad + (batch.total - batch.bad) * good
    }
}

impl Cusum {
    /// Takes a tick's samples. `dispersion` (1 or more) is how much more the bad ones clump than chance would have it.
    pub fn feed(&mut self, batch: Batch, hypotheses: Hypotheses, threshold: f64, dispersion: f64) {
        if batch.total <= 0.0 {
            return;
        }
        if self.score <= 0.0 && batch.bad <= 0.0 {
            // Good samples alone lead nowhere but to zero: as most ticks are, and without a logarithm.
            *self = Self::default();
            return;
        }
        if self.score >= threshold && self.has_recovered(batch, hypotheses) {
            *self = Self::default();
            return;
        }
        let gain = hypotheses.log_ratio(batch) / dispersion.max(1.0);
        self.score = (self.score + gain).min(2.0 * threshold);
        if self.score <= 0.0 {
            *self = Self::default();
        } else {
            self.since.add(batch);
        }
    }

    /// The reverse test: against the share that was measured, not against the one that was tested for.
    fn has_recovered(&mut self, batch: Batch, hypotheses: Hypotheses) -> bool {
        let between = (hypotheses.healthy + hypotheses.sick) / 2.0;
        let measured = self.since.share().clamp(between, 0.95f64.max(between));
        let back = Hypotheses {
            healthy: hypotheses.healthy,
            sick: measured,
        };
        self.reverse = (self.reverse - back.log_ratio(batch)).max(0.0);
        self.reverse >= RECOVERED
    }

    /// The sum, nats.
    pub fn score(&self) -> f64 {
        self.score
    }

    /// How certain it is that there was a change: 0 below the threshold, 1 from 1.15 times of it on.
    pub fn evidence(&self, threshold: f64) -> f64 {
        ramp(self.score, threshold, FULL * threshold)
    }

    /// Samples since the estimated moment of change.
    pub fn since(&self) -> Batch {
        self.since
    }

    /// Takes over what another detector has seen of other samples.
    pub fn absorb(&mut self, other: &Self) {
        self.score += other.score;
        self.since.add(other.since);
    }

    /// Forgets what another detector has seen of a part of the same samples.
    pub fn expel(&mut self, other: &Self) {
        self.score -= other.score;
        self.since.take(other.since);
        self.reverse = 0.0;
        if self.score <= 0.0 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "nothing and everything are exact")]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const PAPER: Hypotheses = Hypotheses {
        healthy: 0.001,
        sick: 0.05,
    };

    fn mean_delay(true_share: f64, h: f64) -> f64 {
        let mut rng = StdRng::seed_from_u64(7);
        let runs = 400;
        let mut samples = 0u32;
        for _ in 0..runs {
            let mut cusum = Cusum::default();
            while cusum.score() < h {
                cusum.feed(
                    Batch::of(u32::from(rng.random_bool(true_share)), 1),
                    PAPER,
                    1e9,
                    1.0,
                );
                samples += 1;
            }
        }
        f64::from(samples) / f64::from(runs)
    }

    #[test]
    fn delays_are_those_of_the_literature() {
        // True share of errors, threshold, samples until the trip: research table 1.14.
        for (share, h, expected) in [
            (1.0, 18.4, 5.0),
            (0.5, 18.4, 10.0),
            (0.2, 18.4, 25.0),
            (0.1, 18.4, 53.0),
            (0.05, 18.4, 125.0),
            (0.02, 18.4, 636.0),
            (0.05, 22.0, 149.0),
        ] {
            let delay = mean_delay(share, h);
            assert!(
                (delay / expected - 1.0).abs() < 0.15,
                "{share}: {delay} instead of {expected}"
            );
        }
    }

    #[test]
    fn false_alarms_stay_under_their_bound() {
        let mut rng = StdRng::seed_from_u64(11);
        let h = 1000f64.ln();
        let (mut cusum, mut alarms, samples) = (Cusum::default(), 0, 2_000_000);
        for _ in 0..samples {
            cusum.feed(Batch::of(u32::from(rng.random_bool(0.001)), 1), PAPER, 1e9, 1.0);
            if cusum.score() >= h {
                alarms += 1;
                cusum = Cusum::default();
            }
        }
        assert!(alarms <= samples / 1000, "{alarms}");
    }

    #[test]
    fn an_episode_ends_soon_after_the_samples_are_good_again() {
        let h = threshold(300.0);
        let mut cusum = Cusum::default();
        for _ in 0..600 {
            cusum.feed(Batch::of(15, 30), Hypotheses::new(0.001, 0.02), h, 1.0);
        }
        assert_eq!(cusum.evidence(h), 1.0);
        cusum.feed(Batch::of(0, 15), Hypotheses::new(0.001, 0.02), h, 1.0);
        assert_eq!(cusum.score(), 0.0);
    }

    #[test]
    fn an_episode_of_five_percent_is_not_ended_by_luck() {
        let mut rng = StdRng::seed_from_u64(3);
        let h = threshold(300.0);
        let mut cusum = Cusum::default();
        let mut certain = 0;
        for tick in 0..6000 {
            let bad = (0..30).filter(|_| rng.random_bool(0.05)).count();
            cusum.feed(
                Batch::of(u32::try_from(bad).unwrap(), 30),
                Hypotheses::new(0.001, 0.1),
                h,
                1.0,
            );
            certain += u32::from(tick >= 100 && cusum.evidence(h) >= 1.0);
        }
        assert!(certain > 5800, "{certain}");
    }

    #[test]
    fn what_is_absorbed_can_be_expelled() {
        let (mut whole, mut part) = (Cusum::default(), Cusum::default());
        whole.feed(Batch::of(2, 10), PAPER, 20.0, 1.0);
        part.feed(Batch::of(3, 5), PAPER, 20.0, 1.0);
        let before = whole;
        whole.absorb(&part);
        assert_eq!(whole.since(), Batch::of(5, 15));
        whole.expel(&part);
        assert!((whole.score() - before.score()).abs() < 1e-9);
        assert_eq!(whole.since(), before.since());
    }

    proptest! {
        #[test]
        fn more_bad_samples_never_mean_less(
            history in proptest::collection::vec((0u32..20, 20u32..40), 0..50),
            (bad, total) in (0u32..30, 30u32..60),
            healthy in 0.0f64..0.3,
        ) {
            let hypotheses = Hypotheses::new(healthy, 0.1);
            let mut less = Cusum::default();
            for (bad, total) in history {
                less.feed(Batch::of(bad, total), hypotheses, 20.0, 1.0);
            }
            let mut more = less;
            less.feed(Batch::of(bad, total), hypotheses, 20.0, 1.0);
            more.feed(Batch::of(bad + 1, total), hypotheses, 20.0, 1.0);
            prop_assert!(more.score() >= less.score());
        }

        #[test]
        fn bounds_hold_the_share(bad in 0u32..100, more in 0u32..100) {
            let batch = Batch::of(bad, bad + more);
            let (lower, upper) = batch.bounds(1.96);
            prop_assert!((0.0..=1.0).contains(&lower) && (0.0..=1.0).contains(&upper));
            prop_assert!(lower <= batch.share() + 1e-12);
            prop_assert!(upper >= batch.share() - 1e-12);
        }
    }
}
