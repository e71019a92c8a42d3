//! How long a healthy endpoint works on a request: log-normal, because that is what service times of real servers look
//! like, with a body near the median and a tail that the p99 sees.
//!
//! Drawn by Box-Muller from a seeded generator instead of pulling in a distributions crate for one formula.

use std::f64::consts::TAU;
use std::time::Duration;

use rand::{Rng, RngExt};

/// A log-normal distribution of service times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceTime {
    /// Half of the requests take less. Zero: the endpoint answers at once.
    pub median: Duration,
    /// Standard deviation of the logarithm; 0.5 puts the p99 at 3.2 times the median.
    pub sigma: f64,
}

impl Default for ServiceTime {
    /// Median 5 ms, sigma 0.5: a p99 of 16 ms, the work of the comparison with the rivals.
    fn default() -> Self {
        Self {
            median: Duration::from_millis(5),
            sigma: 0.5,
        }
    }
}

impl ServiceTime {
    /// No work at all: for measuring the proxy's own cost.
    pub const NONE: Self = Self {
        median: Duration::ZERO,
        sigma: 0.0,
    };

    /// Draws one service time.
    pub fn draw(&self, rng: &mut impl Rng) -> Duration {
        if self.median.is_zero() {
            return Duration::ZERO;
        }
        // 1 - u lies in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let normal = radius * (TAU * rng.random::<f64>()).cos();
        self.median.mul_f64((self.sigma * normal).exp())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn the_default_has_a_median_of_5_ms_and_a_p99_of_16_ms() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut times: Vec<_> = (0..100_000)
            .map(|_| ServiceTime::default().draw(&mut rng))
            .collect();
        times.sort();
        let ms = |rank: usize| times[rank].as_secs_f64() * 1e3;
        assert!((4.9..5.1).contains(&ms(50_000)), "median {}", ms(50_000));
        assert!((15.4..16.6).contains(&ms(99_000)), "p99 {}", ms(99_000));
    }

    #[test]
    fn the_same_seed_gives_the_same_times() {
        let draw = || {
            let mut rng = StdRng::seed_from_u64(9);
            (0..10)
                .map(|_| ServiceTime::default().draw(&mut rng))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
    }
}
