//! What is normal for one route class at one endpoint, learned from traffic while the endpoint was well.
//!
//! A fading spectrum of latencies and a fading count of failures. The half-life grows with age, from seconds to ten
//! minutes: a first opinion exists after 64 samples, a slow start with cold caches is forgotten within half a minute,
//! and a grown baseline is steady. Whoever calls [`Baseline::learn`] leaves out what was seen at risk, so a fault is
//! never learned; what creeps up below every threshold meets the ceiling: the centre, and the share of failures, rise
//! by 10 % an hour at most, and falls freely (boiling frogs, and Cinnamon's ever drifting target).
//!
//! Idle: time does not pass for a baseline without samples. Burst: only weight. Cold start: no [`Reference`], no verdict.

use serde::{Deserialize, Serialize};

use crate::cusum::Batch;
use crate::observation::{LOAD_OCTAVES, LoadTally};
use crate::spectrum::{LN_BUCKET, Spectrum, latency_us};

/// Samples from which on a class has a reference.
pub const FIT: f64 = 64.0;

/// Longest half-life, seconds.
const HALF_LIFE_S: f64 = 600.0;

/// Shortest half-life, seconds: a start is noisy.
const HALF_LIFE_YOUNG_S: f64 = 5.0;

/// Samples below which nothing fades, so that a quiet class reaches [`FIT`] at all.
const FADING_FROM: f64 = 256.0;

/// Growth of the ceiling, nats per second: 10 % an hour.
const DRIFT: f64 = 0.0953 / 3600.0;

/// Extra growth in a baseline's first half minute, nats per second: the first hundred samples are not the last word.
const DRIFT_YOUNG: f64 = 0.01;

/// Prior failures and attempts: 1 %, with the weight of 200 attempts. Before the own share is known nothing below some
/// per cent is an anomaly.
const PRIOR: Batch = Batch {
    bad: 2.0,
    total: 200.0,
};

/// Samples in an octave of load from which on its mean is believed.
const OCTAVE_FIT: f64 = 30.0;

/// Most that load may excuse, as a logarithm: 4 times.
const LOAD_EXCUSE: f64 = 1.386;

/// A share of samples beyond a position, with a bound instead of an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// Position on the scale of [`crate::spectrum`].
    pub from: f64,
    /// At most this share of healthy samples lies there (1.5 standard deviations above what was counted).
    pub share: f64,
}

/// Age up to which a baseline is young, seconds.
const YOUNG_S: f64 = 60.0;

/// Buckets by which a young baseline's last second has to be faster than all before for these to be halved: a factor of
/// 1.4.
const FASTER: f64 = 4.0;

/// What live samples are held against; a copy, so that it does not move while a tick is judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Whole buckets to add to a position so that the centre comes to [`crate::spectrum::CENTRE`].
    pub shift: i32,
    /// Buckets by which the ceiling keeps the baseline below what was learned; to be added to live positions.
    pub lift: f64,
    /// Mean logarithm of healthy latencies in microseconds, ceiling applied.
    pub ln_us: f64,
    /// Its standard deviation per sample.
    pub deviation: f64,
    /// Arithmetic mean in microseconds, for Little's law.
    pub mean_us: f64,
    /// The slowest twentieth.
    pub near: Tail,
    /// Beyond twice the 99th percentile.
    pub far: Tail,
    /// Healthy samples behind it.
    pub samples: f64,
}

/// The memory of a class's healthy days.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Baseline {
    latency: Spectrum,
    sum: f64,
    squares: f64,
    /// Count and sum of positions since the last refresh.
    news: (f64, f64),
    attempts: Batch,
    age_s: f64,
    /// Seconds of learning since the last refresh.
    pending_s: f64,
    ceiling: Option<f64>,
    bad_ceiling: Option<f64>,
    reference: Option<Reference>,
}

impl Baseline {
    /// Takes a healthy latency.
    pub fn learn_latency(&mut self, position: f64, count: f32) {
        self.latency.add(position, count);
        self.sum += position * f64::from(count);
        self.squares += position * position * f64::from(count);
        self.news.0 += f64::from(count);
        self.news.1 += position * f64::from(count);
    }

    /// Takes a healthy tick's attempts, and renews the reference when a second has been learned or much is new.
    pub fn learn(&mut self, attempts: Batch, seconds: f64) {
        self.attempts.add(attempts);
        self.pending_s += seconds;
        let known = self.reference.map_or(FIT / 1.5, |reference| reference.samples);
        if self.pending_s >= 1.0 || self.latency.total() >= 1.5 * known {
            self.refresh();
        }
    }

    /// What live samples are held against, once there is something.
    pub fn reference(&self) -> Option<&Reference> {
        self.reference.as_ref()
    }

    /// Healthy latencies.
    pub fn latency(&self) -> &Spectrum {
        &self.latency
    }

    /// The share of attempts that fail in health.
    pub fn bad_share(&self) -> f64 {
        self.posterior().share().min(self.bad_ceiling.unwrap_or(1.0))
    }

    fn posterior(&self) -> Batch {
        let mut attempts = self.attempts;
        attempts.add(PRIOR);
        attempts
    }

    /// Attempts behind [`Baseline::bad_share`].
    pub fn attempts(&self) -> f64 {
        self.attempts.total
    }

    fn refresh(&mut self) {
        let seconds = std::mem::take(&mut self.pending_s);
        self.age_s += seconds;
        let (count, sum) = std::mem::take(&mut self.news);
        if self.latency.total() >= FADING_FROM {
            let half_life = (self.age_s / 2.0).clamp(HALF_LIFE_YOUNG_S, HALF_LIFE_S);
            // Cold caches have warmed up: what was learned before is not health.
            let faster = self.sum / self.latency.total() - sum / count.max(1.0);
            let warmed = self.age_s <= YOUNG_S && count >= FIT && faster >= FASTER;
            let keep = if warmed {
                0.5
            } else {
                (-seconds / half_life).exp2()
            };
            self.latency.decay(keep);
            self.sum *= keep;
            self.squares *= keep;
            self.attempts.decay(keep);
        }
        self.lower_bad_ceiling(seconds);
        let n = self.latency.total();
        if n < FIT {
            return;
        }
        let centre = self.sum / n;
        let deviation = (self.squares / n - centre * centre).max(0.0).sqrt();
        let lift = self.lift(centre, deviation, seconds);
        self.reference = Some(self.reference_at(centre, deviation, lift));
    }

    /// How far the ceiling is below the centre, in buckets, after it has moved.
    fn lift(&mut self, centre: f64, deviation: f64, seconds: f64) -> f64 {
        let slack = 2.0 * deviation / self.latency.total().sqrt() + 0.2;
        let growth = (DRIFT + DRIFT_YOUNG * (-self.age_s / 30.0).exp()) * seconds / LN_BUCKET;
        let ceiling = self
            .ceiling
            .map_or(centre + slack, |old| (old + growth).min(centre + slack));
        self.ceiling = Some(ceiling);
        (centre - ceiling).max(0.0)
    }

    /// Failures that creep in are not learned either.
    fn lower_bad_ceiling(&mut self, seconds: f64) {
        if self.attempts.total < FADING_FROM {
            return;
        }
        let posterior = self.posterior();
        let share = posterior.share();
        let reach = share + 2.0 * (share * (1.0 - share) / posterior.total).sqrt();
        let growth = ((DRIFT + DRIFT_YOUNG * (-self.age_s / 30.0).exp()) * seconds).exp();
        self.bad_ceiling = Some(self.bad_ceiling.map_or(reach, |old| (old * growth).min(reach)));
    }

    #[expect(clippy::cast_possible_truncation, reason = "positions lie between 0 and 208")]
    fn reference_at(&self, centre: f64, deviation: f64, lift: f64) -> Reference {
        let (near, near_share) = self.latency.edge(0.05);
        let far = self.latency.quantile(0.99).unwrap_or(centre).ceil() + 8.0;
        Reference {
            shift: (crate::spectrum::CENTRE - centre).round() as i32,
            lift,
            ln_us: (centre - lift) * LN_BUCKET,
            deviation: deviation * LN_BUCKET,
            mean_us: latency_us(centre - lift) * (0.5 * (deviation * LN_BUCKET).powi(2)).min(3.0).exp(),
            near: self.tail(near, near_share, 0.01),
            far: self.tail(far, self.latency.share_from(far), 0.002),
            samples: self.latency.total(),
        }
    }

    fn tail(&self, from: f64, share: f64, least: f64) -> Tail {
        let n = self.latency.total();
        let beyond = share * n;
        let bound = (beyond + 1.5 * beyond.sqrt() + 1.0) / n;
        Tail {
            from,
            share: bound.clamp(least, 0.5),
        }
    }
}

/// How latency depends on load in health: per octave of in-flight requests at the start, for a whole endpoint.
///
/// It excuses slowness, never speed, and only by what was seen at the same load: an endpoint that becomes slow by
/// itself raises its own in-flight count, so unknown loads are taken for the nearest lower one that is known.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoadBaseline {
    octaves: [Octave; LOAD_OCTAVES],
    age_s: f64,
}

/// Expected logarithms of latency over a mix of loads.
#[derive(Clone, Copy, Debug, Default)]
struct Levels {
    n: f64,
    sum: f64,
    squares: f64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Octave {
    served: f64,
    sum_ln_us: f64,
}

impl Levels {
    fn add(&mut self, level: f64, count: f64) {
        self.n += count;
        self.sum += level * count;
        self.squares += level * level * count;
    }

    fn mean(&self) -> f64 {
        self.sum / self.n
    }

    fn deviation(&self) -> f64 {
        (self.squares / self.n - self.mean().powi(2)).max(0.0).sqrt()
    }
}

impl LoadBaseline {
    /// The logarithm by which this tick's loads let one expect a higher latency, 0 to ln 4: by how much their mean is up, and
    /// how much wider they are spread, because slowness is measured at the 95th percentile, too.
    pub fn excuse(&self, loads: &[LoadTally; LOAD_OCTAVES]) -> f64 {
        let (mut usual, mut live) = (Levels::default(), Levels::default());
        let mut known = None;
        for (octave, tally) in self.octaves.iter().zip(loads) {
            if octave.served >= OCTAVE_FIT {
                known = Some(octave.sum_ln_us / octave.served);
            }
            // Loads below every known one say nothing, and have nothing to excuse.
            if let Some(level) = known {
                usual.add(level, octave.served);
                live.add(level, f64::from(tally.served));
            }
        }
        if live.n <= 0.0 || usual.n <= 0.0 {
            return 0.0;
        }
        let wider = (live.deviation() - usual.deviation()).max(0.0);
        (live.mean() - usual.mean() + wider).clamp(0.0, LOAD_EXCUSE)
    }

    /// Takes a healthy tick.
    pub fn learn(&mut self, loads: &[LoadTally; LOAD_OCTAVES], seconds: f64) {
        self.age_s += seconds;
        // As a class's baseline: a cold start must not become what high load looks like.
        let half_life = (self.age_s / 4.0).clamp(HALF_LIFE_YOUNG_S, HALF_LIFE_S);
        let keep = (-seconds / half_life).exp2();
        for (octave, tally) in self.octaves.iter_mut().zip(loads) {
            octave.served = octave.served * keep + f64::from(tally.served);
            octave.sum_ln_us = octave.sum_ln_us * keep + tally.sum_ln_us;
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "nothing and everything are exact")]
mod tests {
    use super::*;
    use crate::spectrum::position;

    fn second_of(baseline: &mut Baseline, us: f64) {
        for i in 0..100 {
            baseline.learn_latency(position(us * (1.0 + f64::from(i) / 100.0)), 1.0);
        }
        baseline.learn(Batch::of(0, 100), 1.0);
    }

    fn level(baseline: &Baseline) -> f64 {
        baseline.reference().unwrap().ln_us.exp()
    }

    #[test]
    fn a_first_opinion_takes_a_second() {
        let mut baseline = Baseline::default();
        assert!(baseline.reference().is_none());
        second_of(&mut baseline, 5000.0);
        assert!((5000.0..9500.0).contains(&level(&baseline)));
    }

    #[test]
    fn it_rises_by_a_tenth_an_hour_and_falls_freely() {
        let mut baseline = Baseline::default();
        for _ in 0..300 {
            second_of(&mut baseline, 5000.0);
        }
        let before = level(&baseline);
        for _ in 0..1800 {
            second_of(&mut baseline, 15_000.0);
        }
        assert!(level(&baseline) / before < 1.10, "{}", level(&baseline) / before);
        for _ in 0..1800 {
            second_of(&mut baseline, 2500.0);
        }
        assert!(level(&baseline) / before < 0.7);
    }

    #[test]
    fn a_slow_start_is_forgotten_in_half_a_minute() {
        let mut baseline = Baseline::default();
        for _ in 0..4 {
            second_of(&mut baseline, 50_000.0);
        }
        for _ in 0..30 {
            second_of(&mut baseline, 5000.0);
        }
        let near = latency_us(baseline.reference().unwrap().near.from);
        assert!(near < 13_000.0, "{near}");
    }

    #[test]
    fn the_bound_on_a_tail_is_wide_while_samples_are_few() {
        let mut baseline = Baseline::default();
        second_of(&mut baseline, 5000.0);
        let early = baseline.reference().unwrap().near.share;
        for _ in 0..100 {
            second_of(&mut baseline, 5000.0);
        }
        assert!(baseline.reference().unwrap().near.share < early);
    }

    #[test]
    fn load_excuses_what_was_seen_at_that_load_and_no_more() {
        let mut load = LoadBaseline::default();
        let mut loads = [LoadTally::default(); LOAD_OCTAVES];
        loads[0] = LoadTally {
            served: 900,
            sum_ln_us: 900.0 * 8.0,
        };
        loads[3] = LoadTally {
            served: 300,
            sum_ln_us: 300.0 * 9.0,
        };
        load.learn(&loads, 1.0);
        let at = |octave: usize| {
            let mut loads = [LoadTally::default(); LOAD_OCTAVES];
            loads[octave].served = 30;
            load.excuse(&loads)
        };
        assert_eq!(at(0), 0.0);
        assert!((at(3) - 0.75).abs() < 1e-9);
        assert!((at(7) - 0.75).abs() < 1e-9, "an unknown load is not extrapolated");
    }
}
