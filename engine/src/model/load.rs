//! Who asks for what, and when: open-loop arrivals.
//!
//! Users do not wait for each other: the next request arrives when it arrives, however slow the last one was. (A
//! closed loop of clients would ask less as the endpoint gets slower, and so hide the very fault that is simulated.)
//! Arrivals are a Poisson process whose rate may change over time, drawn by thinning.

use std::f64::consts::TAU;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::moment::Moment;

/// The users of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Requests per second, before the profile.
    pub rps: f64,
    /// How the rate changes over time.
    pub profile: Profile,
    /// Share of requests that must not be repeated.
    pub posts: f64,
    /// Distinct users, asking equally often.
    pub users: u32,
    /// Share of requests by path. Each path is a route class.
    pub paths: Vec<f64>,
    /// How much longer than the median one a request takes, by path; 1 where the path is not listed.
    pub weights: Vec<f64>,
    /// Median of the time that an endpoint works on a request of a path of weight 1.
    pub median: Duration,
    /// Standard deviation of the logarithm of that time.
    pub sigma: f64,
}

/// A factor on the rate of requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Profile {
    /// Always 1.
    Steady,
    /// From `low` to `high` and back within each `period`, as a sine.
    Wave {
        /// Smallest factor.
        low: f64,
        /// Largest factor.
        high: f64,
        /// From one minimum to the next.
        period: Duration,
    },
    /// Each factor for its span, over and over.
    Steps(Vec<(Duration, f64)>),
}

impl Default for Load {
    fn default() -> Self {
        Self {
            rps: 1200.0,
            profile: Profile::Steady,
            posts: 0.1,
            users: 10_000,
            paths: vec![0.4, 0.25, 0.15, 0.1, 0.1],
            weights: Vec::new(),
            // The mix of the requirement: p95 11.4 ms, p99 16 ms, p99.9 23 ms.
            median: Duration::from_millis(5),
            sigma: 0.5,
        }
    }
}

impl Profile {
    /// The factor at `now`.
    pub fn factor(&self, now: Moment) -> f64 {
        match self {
            Self::Steady => 1.0,
            Self::Wave { low, high, period } => {
                let turn = now.seconds_since(Moment::ZERO) / period.as_secs_f64();
                low + (high - low) * (1.0 - (TAU * turn).cos()) / 2.0
            }
            Self::Steps(steps) => {
                let cycle: f64 = steps.iter().map(|(span, _)| span.as_secs_f64()).sum();
                let mut left = now.seconds_since(Moment::ZERO) % cycle;
                for (span, factor) in steps {
                    left -= span.as_secs_f64();
                    if left < 0.0 {
                        return *factor;
                    }
                }
                1.0
            }
        }
    }

    fn max(&self) -> f64 {
        match self {
            Self::Steady => 1.0,
            Self::Wave { high, .. } => *high,
            Self::Steps(steps) => steps.iter().map(|(_, factor)| *factor).fold(0.0, f64::max),
        }
    }
}

/// One request of a user.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) at_us: u64,
    pub(super) user: u32,
    pub(super) path: usize,
    pub(super) post: bool,
}

impl Load {
    /// The first arrival after `after_us`.
    pub(super) fn next(&self, after_us: u64, rng: &mut Xoshiro256PlusPlus) -> Arrival {
        let most = self.rps * self.profile.max();
        let mut at_us = after_us as f64;
        loop {
            at_us += -(1.0 - rng.random::<f64>()).ln() / most * 1e6;
            let at = Moment::from_micros(whole_us(at_us));
            if self.profile == Profile::Steady
                || rng.random::<f64>() * most < self.rps * self.profile.factor(at)
            {
                return Arrival {
                    at_us: at.as_micros(),
                    user: rng.random_range(0..self.users.max(1)),
                    path: self.path(rng.random()),
                    post: rng.random::<f64>() < self.posts,
                };
            }
        }
    }

    fn path(&self, mut chance: f64) -> usize {
        for (path, share) in self.paths.iter().enumerate() {
            chance -= share;
            if chance < 0.0 {
                return path;
            }
        }
        self.paths.len().saturating_sub(1)
    }

    /// How long a healthy endpoint works on a request for `path`, microseconds.
    pub(super) fn work_us(&self, path: usize, chance: &mut Chance<'_>) -> f64 {
        chance.dice.median_us * self.weights.get(path).copied().unwrap_or(1.0) * chance.stretch()
    }
}

/// What chance gives to a load under one seed, drawn as far as anybody has asked for it: who asks for what and when, and
/// a stream of uniform numbers for what happens then. Both are the same whoever stands between users and endpoints, so
/// contenders who play the same seed share them, and what follows from a number is computed once.
#[derive(Debug)]
pub struct Draws {
    pub(super) seed: u64,
    pub(super) arrivals: Arrivals,
    pub(super) dice: Dice,
}

impl Draws {
    /// Those of `load` under `seed`.
    pub fn new(load: &Load, seed: u64) -> Self {
        let rng = |seed| Xoshiro256PlusPlus::seed_from_u64(seed);
        Self {
            seed,
            arrivals: Arrivals {
                load: load.clone(),
                rng: rng(seed),
                drawn: Vec::new(),
            },
            dice: Dice {
                rng: rng(seed ^ 0x9E37_79B9_7F4A_7C15),
                median_us: load.median.as_secs_f64() * 1e6,
                sigma: load.sigma,
                thrown: Vec::new(),
                stretches: Vec::new(),
            },
        }
    }
}

/// The users' requests.
#[derive(Debug)]
pub(super) struct Arrivals {
    load: Load,
    rng: Xoshiro256PlusPlus,
    drawn: Vec<Arrival>,
}

impl Arrivals {
    /// The arrival with this index, all earlier ones of which have been asked for.
    pub(super) fn nth(&mut self, index: usize) -> Arrival {
        if let Some(arrival) = self.drawn.get(index) {
            return *arrival;
        }
        let after_us = self.drawn.last().map_or(0, |last| last.at_us);
        let arrival = self.load.next(after_us, &mut self.rng);
        self.drawn.push(arrival);
        arrival
    }
}

/// Uniform numbers in their order, and what log-normal times follow from two of them.
#[derive(Debug)]
pub(super) struct Dice {
    rng: Xoshiro256PlusPlus,
    /// The load's: half of the times are shorter.
    median_us: f64,
    /// The load's: standard deviation of the logarithm of a time.
    sigma: f64,
    thrown: Vec<f64>,
    /// By the index of the first number of two: the times that follow, in medians. Not a number where nobody has asked.
    stretches: Vec<[f64; 2]>,
}

impl Dice {
    /// The number with this index, all earlier ones of which have been asked for.
    fn nth(&mut self, index: usize) -> f64 {
        if let Some(number) = self.thrown.get(index) {
            return *number;
        }
        let number = self.rng.random();
        self.thrown.push(number);
        self.stretches.push([f64::NAN; 2]);
        number
    }

    /// Two log-normal times with a median of 1, of this number and the next, by the method of Box and Muller.
    fn stretches(&mut self, index: usize) -> [f64; 2] {
        if let Some(known) = self.stretches.get(index)
            && !known[0].is_nan()
        {
            return *known;
        }
        let radius = (-2.0 * (1.0 - self.nth(index)).ln()).sqrt();
        let (sine, cosine) = (TAU * self.nth(index + 1)).sin_cos();
        let stretches = [cosine, sine].map(|normal| (self.sigma * (radius * normal)).exp());
        if let Some(place) = self.stretches.get_mut(index) {
            *place = stretches;
        }
        stretches
    }
}

/// One contender's way through the numbers of a seed.
pub(super) struct Chance<'a> {
    dice: &'a mut Dice,
    next: usize,
    /// Log-normal times come in twos.
    second: Option<f64>,
}

impl<'a> Chance<'a> {
    pub(super) fn new(dice: &'a mut Dice) -> Self {
        Self {
            dice,
            next: 0,
            second: None,
        }
    }

    /// A number from 0 to 1, 1 not included.
    pub(super) fn uniform(&mut self) -> f64 {
        self.next += 1;
        self.dice.nth(self.next - 1)
    }

    /// Whether something happens that has this probability.
    pub(super) fn falls(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// A log-normal time, in medians.
    fn stretch(&mut self) -> f64 {
        if let Some(second) = self.second.take() {
            return second;
        }
        let [first, second] = self.dice.stretches(self.next);
        self.next += 2;
        self.second = Some(second);
        first
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, which is what is meant"
)]
fn whole_us(us: f64) -> u64 {
    us.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_times_have_the_quantiles_of_the_requirement() {
        let load = Load::default();
        let mut draws = Draws::new(&load, 1);
        let mut chance = Chance::new(&mut draws.dice);
        let mut drawn: Vec<f64> = (0..200_000).map(|_| load.work_us(0, &mut chance)).collect();
        drawn.sort_by(f64::total_cmp);
        for (rank, expected) in [
            (100_000, 5_000.0),
            (190_000, 11_400.0),
            (198_000, 16_000.0),
            (199_800, 23_400.0),
        ] {
            let at = drawn[rank];
            assert!((at / expected - 1.0).abs() < 0.05, "{rank}: {at}");
        }
    }

    #[test]
    fn whoever_comes_second_gets_what_the_first_one_got() {
        let load = Load::default();
        let mut draws = Draws::new(&load, 3);
        // In another order: what is asked for decides how the numbers are used, never which ones they are.
        let mut play = |falls_after: usize| {
            let mut chance = Chance::new(&mut draws.dice);
            let times: Vec<f64> = (0..falls_after).map(|_| load.work_us(0, &mut chance)).collect();
            (times, chance.uniform())
        };
        let (first, again) = (play(8), play(8));
        assert_eq!(first, again);
        let (fewer, number) = play(4);
        assert_eq!(fewer[..], first.0[..4]);
        assert!((number - first.1).abs() > f64::EPSILON);
        let arrivals: Vec<u64> = (0..50).map(|n| draws.arrivals.nth(n).at_us).collect();
        assert!(arrivals.is_sorted());
        assert!((0..50).all(|n| draws.arrivals.nth(n).at_us == arrivals[n]));
    }

    #[test]
    fn arrivals_follow_the_profile() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
        let load = Load {
            profile: Profile::Steps(vec![
                (Duration::from_secs(10), 1.0),
                (Duration::from_secs(10), 0.25),
            ]),
            ..Load::default()
        };
        let (mut at_us, mut busy, mut calm) = (0, 0, 0);
        while at_us < 20_000_000 {
            at_us = load.next(at_us, &mut rng).at_us;
            *(if at_us < 10_000_000 { &mut busy } else { &mut calm }) += 1;
        }
        assert!((11_500..12_500).contains(&busy), "{busy}");
        assert!((2_800..3_200).contains(&calm), "{calm}");
    }

    #[test]
    fn a_wave_turns_between_its_bounds() {
        let wave = Profile::Wave {
            low: 0.5,
            high: 1.5,
            period: Duration::from_secs(60),
        };
        assert!((wave.factor(Moment::ZERO) - 0.5).abs() < 1e-9);
        assert!((wave.factor(Moment::from_micros(30_000_000)) - 1.5).abs() < 1e-9);
    }
}
