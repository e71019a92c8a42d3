//! When requests are meant to start: a pure schedule, fixed before the first answer comes back.
//!
//! Open loop: users do not wait for each other, so a slow answer must not delay the next request, and latency counts
//! from the moment that the schedule names (otherwise the harness would hide exactly the requests that suffer most,
//! "coordinated omission", Gil Tene, "How NOT to Measure Latency").

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
}

/// Rates below this are treated as this: a schedule never stops before its end.
const RATE_MIN: f64 = 0.1;

impl Rate {
    /// Requests per second at `elapsed` since the start.
    pub fn at(&self, elapsed: Duration) -> f64 {
        let rate = match self {
            Self::Steady(rate) => *rate,
            Self::Wave { low, high, period } => {
                let turn = elapsed.as_secs_f64() / period.as_secs_f64().max(1e-3);
                low + (high - low) * (1.0 - (TAU * turn).cos()) / 2.0
            }
        };
        rate.max(RATE_MIN)
    }
}

/// Iterator over intended starts, as time since the start of the load.
#[derive(Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    rate: Rate,
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
            next: Duration::ZERO,
            end: length,
            rng: StdRng::seed_from_u64(seed),
        }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let intended = self.next;
        if intended >= self.end {
            return None;
        }
        let mean_s = 1.0 / self.rate.at(intended);
        let gap_s = match self.arrivals {
            Arrivals::Constant => mean_s,
            // 1 - u lies in (0, 1], so the logarithm is finite.
            Arrivals::Poisson => -(1.0 - self.rng.random::<f64>()).ln() * mean_s,
        };
        self.next += Duration::from_secs_f64(gap_s);
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
}
