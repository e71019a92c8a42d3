//! How long a healthy endpoint works on a request: four distributions, each for a question that the others do not
//! answer.
//!
//! - *log-normal*: what service times of real servers look like, with a body near the median and a tail that the p99
//!   sees;
//! - *exponential*: what queueing theory can compute, so that a farm with `cores` can be held against Erlang's formula;
//! - *constant*: all that varies is the queue, or the proxy;
//! - *bimodal*: a cache that is hit or missed, or a heavy route among light ones: two ages of requests that one mean
//!   hides.
//!
//! No Pareto: its mean is ruled by draws that no run is long enough to see, so two runs of it cannot be compared.
//! Drawn from a seeded generator, by inversion and by Box-Muller, instead of pulling in a distributions crate for two
//! formulas.

use std::f64::consts::TAU;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::{Rng, RngExt};

use crate::quantity::{Part, Time};

/// Largest spread of a log-normal: above it, the mean lies a thousand times above the median.
const SIGMA_MAX: f64 = 4.0;

/// Longest single service time. What takes longer has hung, and a sum of it stays far from overflowing.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// What the four are called in options.
const FORMS: &str =
    "none, log-normal:MEDIAN:SIGMA, exponential:MEAN, constant:TIME or bimodal:FAST:SLOW:SHARE_OF_SLOW";

/// A distribution of service times. Written as `log-normal:5ms:0.5`, `exponential:5ms`, `constant:5ms`,
/// `bimodal:1ms:20ms:10%` or `none`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ServiceTime {
    /// Log-normal.
    LogNormal {
        /// Half of the requests take less.
        median: Duration,
        /// Standard deviation of the logarithm, 0 to 4; 0.5 puts the p99 at 3.2 times the median.
        sigma: f64,
    },
    /// Exponential.
    Exponential {
        /// 63 % of the requests take less.
        mean: Duration,
    },
    /// Always the same; zero: the endpoint answers at once.
    Constant(Duration),
    /// One of two.
    Bimodal {
        /// What most take.
        fast: Duration,
        /// What the others take.
        slow: Duration,
        /// Part of the others, 0 to 1.
        share: f64,
    },
}

impl Default for ServiceTime {
    /// Median 5 ms, sigma 0.5: a p99 of 16 ms, the work of the comparison with the rivals.
    fn default() -> Self {
        Self::LogNormal {
            median: Duration::from_millis(5),
            sigma: 0.5,
        }
    }
}

impl ServiceTime {
    /// No work at all: for measuring the proxy's own cost.
    pub const NONE: Self = Self::Constant(Duration::ZERO);

    /// Draws one service time.
    pub fn draw(&self, rng: &mut impl Rng) -> Duration {
        // 1 - u lies in (0, 1], so the logarithm is finite.
        let mut minus_log = || -(1.0 - rng.random::<f64>()).ln();
        let (length, factor) = match *self {
            Self::LogNormal { median, sigma } => {
                let radius = (2.0 * minus_log()).sqrt();
                let normal = radius * (TAU * rng.random::<f64>()).cos();
                (median, (sigma * normal).exp())
            }
            Self::Exponential { mean } => (mean, minus_log()),
            Self::Constant(length) => return length,
            Self::Bimodal { fast, slow, share } => {
                return if rng.random::<f64>() < share { slow } else { fast };
            }
        };
        scaled(length, factor)
    }

    /// Its mean: what an endpoint with so many cores can carry is their number divided by this.
    pub fn mean(&self) -> Duration {
        match *self {
            Self::LogNormal { median, sigma } => median.mul_f64((sigma * sigma / 2.0).exp()),
            Self::Exponential { mean } => mean,
            Self::Constant(length) => length,
            Self::Bimodal { fast, slow, share } => fast.mul_f64(1.0 - share) + slow.mul_f64(share),
        }
    }
}

/// `length` times `factor`, at most [`LONGEST`].
pub(super) fn scaled(length: Duration, factor: f64) -> Duration {
    let seconds = length.as_secs_f64() * factor;
    Duration::try_from_secs_f64(seconds).map_or(LONGEST, |length| length.min(LONGEST))
}

impl FromStr for ServiceTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let time = |text: &str| text.parse::<Time>().map(|time| time.0);
        match parts[..] {
            ["none"] => Ok(Self::NONE),
            ["log-normal", median, sigma] => Ok(Self::LogNormal {
                median: time(median)?,
                sigma: number("sigma", sigma, SIGMA_MAX)?,
            }),
            ["exponential", mean] => Ok(Self::Exponential { mean: time(mean)? }),
            ["constant", length] => Ok(Self::Constant(time(length)?)),
            ["bimodal", fast, slow, share] => Ok(Self::Bimodal {
                fast: time(fast)?,
                slow: time(slow)?,
                share: number("the share of slow requests", share, 1.0)?,
            }),
            _ => Err(format!("expected {FORMS}")),
        }
    }
}

fn number(what: &str, text: &str, most: f64) -> Result<f64, String> {
    let Part(value) = text.parse()?;
    match (0.0..=most).contains(&value) {
        true => Ok(value),
        false => Err(format!("{what} lies between 0 and {most}, not at {text}")),
    }
}

impl fmt::Display for ServiceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("none"),
            Self::LogNormal { median, sigma } => write!(f, "log-normal:{}:{sigma}", Time(median)),
            Self::Exponential { mean } => write!(f, "exponential:{}", Time(mean)),
            Self::Constant(length) => write!(f, "constant:{}", Time(length)),
            Self::Bimodal { fast, slow, share } => write!(f, "bimodal:{}:{}:{share}", Time(fast), Time(slow)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const DRAWS: usize = 100_000;

    /// Sorted, in milliseconds.
    fn drawn(text: &str) -> Vec<f64> {
        let service_time: ServiceTime = text.parse().unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        let mut times: Vec<_> = (0..DRAWS)
            .map(|_| service_time.draw(&mut rng).as_secs_f64() * 1e3)
            .collect();
        times.sort_by(f64::total_cmp);
        times
    }

    #[test]
    fn the_default_has_a_median_of_5_ms_and_a_p99_of_16_ms() {
        let times = drawn(&ServiceTime::default().to_string());
        assert!((4.9..5.1).contains(&times[50_000]), "median {}", times[50_000]);
        assert!((15.4..16.6).contains(&times[99_000]), "p99 {}", times[99_000]);
    }

    #[test]
    fn an_exponential_has_the_quantiles_of_theory() {
        let times = drawn("exponential:10ms");
        let median = 10.0 * 2_f64.ln();
        let p99 = 10.0 * 100_f64.ln();
        assert!((times[50_000] / median - 1.0).abs() < 0.02, "{}", times[50_000]);
        assert!((times[99_000] / p99 - 1.0).abs() < 0.05, "{}", times[99_000]);
    }

    #[test]
    fn a_bimodal_has_two_values_in_their_shares() {
        let times = drawn("bimodal:1ms:20ms:10%");
        let slow = times.iter().filter(|ms| **ms > 19.0).count();
        assert!((9_600..10_400).contains(&slow), "{slow}");
        assert!(
            times
                .iter()
                .all(|ms| (ms - 1.0).abs() < 1e-9 || (ms - 20.0).abs() < 1e-9)
        );
    }

    #[test]
    fn the_mean_that_is_said_is_the_mean_that_is_drawn() {
        for text in [
            "none",
            "log-normal:5ms:0.5",
            "exponential:5ms",
            "constant:5ms",
            "bimodal:1ms:20ms:0.1",
        ] {
            let service_time: ServiceTime = text.parse().unwrap();
            assert_eq!(service_time.to_string(), text);
            let said = service_time.mean().as_secs_f64() * 1e3;
            let mean = drawn(text).iter().sum::<f64>() / DRAWS as f64;
            assert!(
                (mean - said).abs() <= 0.02 * said,
                "{text}: said {said}, drawn {mean}"
            );
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_times() {
        let draw = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            (0..10)
                .map(|_| ServiceTime::default().draw(&mut rng))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(9), draw(9));
        assert_ne!(draw(9), draw(8));
    }

    #[test]
    fn what_is_no_distribution_is_refused() {
        for text in [
            "",
            "pareto:1ms:2",
            "log-normal:5ms",
            "log-normal:5:0.5",
            "log-normal:5ms:9",
            "bimodal:1ms:2ms:200%",
            "constant:5ms:1",
        ] {
            assert!(text.parse::<ServiceTime>().is_err(), "{text}");
        }
    }
}
