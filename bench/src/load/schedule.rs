//! When requests are meant to start: a pure schedule, fixed before the first answer comes back.
//!
//! Open loop: users do not wait for each other, so a slow answer must not delay the next request, and latency counts
//! from the moment that the schedule names (otherwise the harness would hide exactly the requests that suffer most,
//! "coordinated omission", Gil Tene, "How NOT to Measure Latency").
//!
//! Where the rate changes, the next start is where the integral of the rate has grown by one (evenly) or by a draw from
//! Exp(1) (Poisson; "time rescaling"), and not one present gap ahead: a ramp from zero would never leave the ground, and a
//! step would be taken a gap too late.

use std::f64::consts::TAU;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly.
    Constant,
    /// Independently of each other, as many users do.
    Poisson,
}

/// How many requests per second, over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Always the same.
    Steady(f64),
    /// A sine from `low` (at the start) over `high` (after half a period) back to `low`.
    Wave {
        /// Lowest rate.
        low: f64,
        /// Highest rate.
        high: f64,
        /// From low to low.
        period: Duration,
    },
    /// Evenly from one rate to another, which then stays.
    Ramp {
        /// At the start.
        from: f64,
        /// At the end of `length` and from then on.
        to: f64,
        /// How long the change takes.
        length: Duration,
    },
    /// One rate after another; the last one stays.
    Steps {
        /// The rates.
        rates: StepRates,
        /// How long each lasts.
        each: Duration,
    },
}

/// The rates of [`Rate::Steps`], at most [`StepRates::MAX`] of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRates {
    rates: [f64; Self::MAX],
    count: usize,
}

impl StepRates {
    /// More steps than anybody looks at one by one.
    pub const MAX: usize = 20;

    /// `None` for no rates, and for too many.
    pub fn new(steps: &[f64]) -> Option<Self> {
        let mut rates = [0.0; Self::MAX];
        rates.get_mut(..steps.len())?.copy_from_slice(steps);
        let count = steps.len();
        (count > 0).then_some(Self { rates, count })
    }

    /// In their order; never empty.
    pub fn all(&self) -> &[f64] {
        self.rates.get(..self.count).unwrap_or_default()
    }
}

impl Rate {
    /// Requests per second at `elapsed` since the start.
    pub fn at(&self, elapsed: Duration) -> f64 {
        let elapsed_s = elapsed.as_secs_f64();
        match self {
            Self::Steady(rate) => *rate,
            Self::Wave { low, high, period } => {
                low + (high - low) * (1.0 - (TAU * elapsed_s / seconds(*period)).cos()) / 2.0
            }
            Self::Ramp { from, to, length } => from + (to - from) * (elapsed_s / seconds(*length)).min(1.0),
            Self::Steps { rates, each } => {
                let ended = (elapsed_s / seconds(*each)).floor();
                let mut left = rates.all().iter().enumerate();
                let last = left.rfind(|(index, _)| *index as f64 <= ended);
                last.map_or(0.0, |(_, rate)| *rate)
            }
        }
    }

    /// Requests per second on average, from the start until `length`.
    pub fn mean(&self, length: Duration) -> f64 {
        self.due_until(length.as_secs_f64()) / seconds(length)
    }

    /// Requests that are due, on average, from the start until `elapsed_s`: the integral of the rate.
    fn due_until(&self, elapsed_s: f64) -> f64 {
        match self {
            Self::Steady(rate) => rate * elapsed_s,
            Self::Wave { low, high, period } => {
                let turn = TAU / seconds(*period);
                low * elapsed_s + (high - low) / 2.0 * (elapsed_s - (turn * elapsed_s).sin() / turn)
            }
            Self::Ramp { from, to, length } => {
                let changing_s = elapsed_s.min(seconds(*length));
                let slope = (to - from) / seconds(*length);
                from * changing_s + slope * changing_s * changing_s / 2.0 + to * (elapsed_s - changing_s)
            }
            Self::Steps { rates, each } => {
                let each_s = seconds(*each);
                let last = rates.all().len() - 1;
                let due = |(index, rate): (usize, &f64)| {
                    let since_s = (elapsed_s - index as f64 * each_s).max(0.0);
                    rate * if index == last {
                        since_s
                    } else {
                        since_s.min(each_s)
                    }
                };
                rates.all().iter().enumerate().map(due).sum()
            }
        }
    }
}

/// Never zero, so that it may divide.
fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64().max(1e-3)
}

/// Iterator over intended starts, as time since the start of the load.
#[derive(Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    rate: Rate,
    /// Before the rate begins to change: its first value holds.
    warm_up: Duration,
    next: Duration,
    end: Duration,
    rng: StdRng,
}

impl Schedule {
    /// A schedule that ends before `length`.
    pub fn new(arrivals: Arrivals, rate: Rate, length: Duration, seed: u64) -> Self {
        Self {
            arrivals,
            rate,
            warm_up: Duration::ZERO,
            next: Duration::ZERO,
            end: length,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// The same after a time at its first rate.
    #[must_use]
    pub fn after(mut self, warm_up: Duration) -> Self {
        self.warm_up = warm_up;
        self.end += warm_up;
        self
    }

    /// When the next request is due, if there is one.
    pub fn next_at(&self) -> Option<Duration> {
        (self.next < self.end).then_some(self.next)
    }

    fn due_until(&self, at_s: f64) -> f64 {
        let warm_up_s = self.warm_up.as_secs_f64();
        self.rate.at(Duration::ZERO) * at_s.min(warm_up_s) + self.rate.due_until((at_s - warm_up_s).max(0.0))
    }

    /// When `requests` more than until now are due; the end, if that is never.
    fn later_by(&self, requests: f64) -> Duration {
        if let Rate::Steady(rate) = self.rate {
            let gap = Duration::try_from_secs_f64(requests / rate).unwrap_or(Duration::MAX);
            return self.next.saturating_add(gap);
        }
        let (mut low_s, mut high_s) = (self.next.as_secs_f64(), self.end.as_secs_f64());
        let wanted = self.due_until(low_s) + requests;
        if self.due_until(high_s) < wanted {
            return self.end;
        }
        // Seldom further than twice the present gap; halving a whole day down to the nanosecond takes three times as long.
        let near_s = low_s + 2.0 * requests / self.rate.at(self.next.saturating_sub(self.warm_up));
        if near_s < high_s && self.due_until(near_s) >= wanted {
            high_s = near_s;
        }
        for _ in 0..50 {
            let middle_s = f64::midpoint(low_s, high_s);
            if self.due_until(middle_s) < wanted {
                low_s = middle_s;
            } else {
                high_s = middle_s;
            }
            if high_s - low_s < 1e-9 {
                break;
            }
        }
        Duration::from_secs_f64(high_s)
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let intended = self.next_at()?;
        let requests = match self.arrivals {
            Arrivals::Constant => 1.0,
            // 1 - u lies in (0, 1], so the logarithm is finite.
            Arrivals::Poisson => -(1.0 - self.rng.random::<f64>()).ln(),
        };
        self.next = self.later_by(requests);
        Some(intended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn constant_arrivals_are_even() {
        let starts: Vec<_> = Schedule::new(Arrivals::Constant, Rate::Steady(1_000.0), SECOND, 1).collect();
        assert_eq!(starts.len(), 1_000);
        assert!(
            starts
                .windows(2)
                .all(|pair| pair[1] - pair[0] == Duration::from_millis(1))
        );
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_independent_users() {
        let starts: Vec<_> =
            Schedule::new(Arrivals::Poisson, Rate::Steady(1_000.0), 50 * SECOND, 1).collect();
        assert!((49_000..51_000).contains(&starts.len()), "{}", starts.len());
        let mut per_second = [0.0_f64; 50];
        for start in starts {
            per_second[usize::try_from(start.as_secs()).unwrap()] += 1.0;
        }
        // The variance of a Poisson count is its mean; an even schedule would have none.
        let variance = per_second
            .iter()
            .map(|count| (count - 1_000.0).powi(2))
            .sum::<f64>()
            / 50.0;
        assert!((500.0..2_000.0).contains(&variance), "{variance}");
    }

    #[test]
    fn a_wave_swings_between_its_bounds() {
        let rate = Rate::Wave {
            low: 100.0,
            high: 300.0,
            period: 10 * SECOND,
        };
        let starts: Vec<_> = Schedule::new(Arrivals::Constant, rate, 10 * SECOND, 1).collect();
        assert!((1_980..2_020).contains(&starts.len()), "{}", starts.len());
        assert!((rate.at(Duration::ZERO) - 100.0).abs() < 1e-9);
        assert!((rate.at(5 * SECOND) - 300.0).abs() < 1e-9);
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        let starts =
            |seed| Schedule::new(Arrivals::Poisson, Rate::Steady(500.0), SECOND, seed).collect::<Vec<_>>();
        assert_eq!(starts(3), starts(3));
        assert_ne!(starts(3), starts(4));
    }

    fn count(rate: Rate, length: Duration) -> usize {
        Schedule::new(Arrivals::Constant, rate, length, 1).count()
    }

    #[test]
    fn a_ramp_is_a_triangle_and_leaves_the_ground() {
        let ramp = |from, to| Rate::Ramp {
            from,
            to,
            length: 10 * SECOND,
        };
        assert!(count(ramp(0.0, 1_000.0), 10 * SECOND).abs_diff(5_000) <= 1);
        assert!(count(ramp(1_000.0, 0.0), 10 * SECOND).abs_diff(5_000) <= 1);
        // What it came to stays.
        assert!(count(ramp(100.0, 300.0), 20 * SECOND).abs_diff(2_000 + 3_000) <= 1);
    }

    #[test]
    fn a_step_is_taken_on_time() {
        let rates = StepRates::new(&[100.0, 0.0, 400.0]).unwrap();
        let rate = Rate::Steps { rates, each: SECOND };
        let starts: Vec<_> = Schedule::new(Arrivals::Constant, rate, 4 * SECOND, 1).collect();
        let within = |from, to| {
            starts
                .iter()
                .filter(|at| (from..to).contains(&at.as_secs()))
                .count()
        };
        assert!(within(0, 1).abs_diff(100) <= 1 && within(1, 2) <= 1);
        assert!(within(2, 3).abs_diff(400) <= 1 && within(3, 4).abs_diff(400) <= 1);
        assert!((rate.at(SECOND) - 0.0).abs() < 1e-9 && (rate.at(9 * SECOND) - 400.0).abs() < 1e-9);
    }

    #[test]
    fn every_shape_has_the_rate_that_it_names_within_one_percent() {
        let rates = StepRates::new(&[2_000.0, 8_000.0]).unwrap();
        let shapes = [
            (Rate::Steady(5_000.0), 50_000.0),
            (
                Rate::Steps {
                    rates,
                    each: 5 * SECOND,
                },
                50_000.0,
            ),
            (
                Rate::Ramp {
                    from: 0.0,
                    to: 10_000.0,
                    length: 10 * SECOND,
                },
                50_000.0,
            ),
            (
                Rate::Wave {
                    low: 0.0,
                    high: 10_000.0,
                    period: 5 * SECOND,
                },
                50_000.0,
            ),
        ];
        for (rate, expected) in shapes {
            for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
                let starts = Schedule::new(arrivals, rate, 10 * SECOND, 1).count() as f64;
                assert!(
                    (starts / expected - 1.0).abs() < 0.01,
                    "{rate:?} {arrivals:?}: {starts}"
                );
            }
        }
    }

    #[test]
    fn a_warm_up_goes_before_the_first_change() {
        let rate = Rate::Ramp {
            from: 100.0,
            to: 1_100.0,
            length: SECOND,
        };
        let starts: Vec<_> = Schedule::new(Arrivals::Constant, rate, SECOND, 1)
            .after(2 * SECOND)
            .collect();
        let warm = starts.iter().filter(|at| **at < 2 * SECOND).count();
        assert!(
            warm.abs_diff(200) <= 1 && (starts.len() - warm).abs_diff(600) <= 1,
            "{warm} {}",
            starts.len()
        );
    }

    #[test]
    fn a_rate_of_nothing_ends_at_once() {
        assert!(count(Rate::Steady(0.0), SECOND) <= 1);
        assert!(StepRates::new(&[]).is_none() && StepRates::new(&[1.0; 21]).is_none());
    }

    proptest::proptest! {
        #[test]
        fn starts_never_go_back_and_never_leave_the_load(
            from in 0.0..2_000.0_f64, to in 0.0..2_000.0_f64, length_ms in 1..3_000_u64, seed in 0..8_u64,
        ) {
            let rate = Rate::Ramp { from, to, length: Duration::from_millis(length_ms) };
            let starts: Vec<_> = Schedule::new(Arrivals::Poisson, rate, SECOND, seed).collect();
            proptest::prop_assert!(starts.is_sorted() && starts.iter().all(|at| *at < SECOND));
        }
    }
}
