//! What a judge is asked: error probabilities, metrics, tolerances and margins. The defaults are what ships.
//!
//! A metric has two boundaries, and between them an indifference zone in which no answer is wrong: up to the
//! *tolerance* a shadow must not be rolled back (a slowdown of 2 % is found in any traffic that is dense enough, and
//! does not matter), from the *margin* on it must not be promoted. One number for both would have to be decided on no
//! difference at all.
//!
//! Failures have a second way to be promoted: where they are rare the ratio has nothing to count, so a shadow whose
//! share of failures lies below a *ceiling* passes as well. Either is enough, so each gets half of beta. The ceiling
//! that ships is a thousandth: one that lies above what the primary has would wave through what the ratio is about to
//! find.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Metrics of one judge at most. Beyond that the share of alpha that each has is not worth having.
pub const METRICS_MAX: usize = 16;

/// P(ever rolled back) of a shadow within every tolerance.
const ALPHA: f64 = 0.01;

/// P(ever promoted) of a shadow beyond any margin.
const BETA: f64 = 0.05;

/// Share of failures that nobody minds. Whoever has a looser objective gets faster promotions by saying so: at one
/// percent 358 requests of the shadow are enough, here ten times as many.
const CEILING: f64 = 1e-3;

/// Ticks with events of the shadow before they are believed: what one broken connection takes with it is over in one.
pub(super) const TICKS_MIN: u32 = 3;

/// How long a burst of one cause lasts, where bursts are collapsed.
const BURST: Duration = Duration::from_millis(250);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Requests that failed: no connection, reset, timeout, 5xx.
    Failures,
    /// Requests slower than the primary's median before the analysis.
    OverP50,
    /// Slower than its 90th percentile.
    OverP90,
    /// Slower than its 99th percentile.
    OverP99,
    /// Slower than its 99.9th percentile.
    OverP999,
}

/// What has to be shown before a metric lets a shadow be promoted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// That events are less than this many times as frequent as on the primary.
    Ratio(f64),
    /// That the share of events is below this, whatever the primary does.
    Ceiling(f64),
    /// One of the two; each gets half of beta.
    Either {
        /// As in [`Proof::Ratio`].
        ratio: f64,
        /// As in [`Proof::Ceiling`].
        ceiling: f64,
    },
    /// Nothing: the metric can roll back, and does not hold up.
    Nothing,
}

/// How one metric is judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricPolicy {
    /// Which.
    pub metric: Metric,
    /// Part of alpha that it may spend. Only its proportion to the others counts; 0 can never roll back.
    pub weight: f64,
    /// Ratio up to which a shadow is tolerated; 1 or more.
    pub tolerance: f64,
    /// What has to be shown before a promotion.
    pub proof: Proof,
    /// Whether it is left out while the shadow warms up.
    pub warms_up: bool,
}

/// While a step is this young, metrics that warm up are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUp {
    /// Over after this long,
    pub span: Duration,
    /// or after as many requests of the shadow, whichever comes first.
    pub requests: u64,
}

/// What a judge is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JudgePolicy {
    /// P(ever answering "worse") of a shadow that is within every tolerance.
    pub alpha: f64,
    /// P(ever answering "not worse") of a shadow that is beyond the margin of any metric.
    pub beta: f64,
    /// In the order in which events are reported.
    pub metrics: Vec<MetricPolicy>,
    /// At the beginning, and after each step.
    pub warm_up: WarmUp,
    /// Ticks with events of the shadow before a metric can roll back.
    pub ticks_min: u32,
    /// Failures within this span are one event. Zero takes each by itself; [`JudgePolicy::robust`] sets it.
    pub burst: Duration,
}

/// Why a policy cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// An error probability that is none.
    #[error("{what} lies between 0 and 1, not at {value}")]
    Probability {
        /// Alpha or beta.
        what: &'static str,
        /// What was given.
        value: f64,
    },
    /// Too few or too many metrics.
    #[error("{0} metrics; there are 1 to {METRICS_MAX}")]
    Metrics(usize),
    /// Two metrics of one name.
    #[error("{0} is judged twice")]
    Twice(Metric),
    /// A weight that is none, or none at all.
    #[error("{metric}: the weights of metrics are not negative, and one is more than 0; this one is {value}")]
    Weight {
        /// Of which metric.
        metric: Metric,
        /// What was given.
        value: f64,
    },
    /// A tolerance below one.
    #[error("{metric}: a tolerance is 1 or more and at most 1000, not {value}")]
    Tolerance {
        /// Of which metric.
        metric: Metric,
        /// What was given.
        value: f64,
    },
    /// A margin inside the tolerance.
    #[error("{metric}: the margin lies above the tolerance and is at most 1000, not {value}")]
    Margin {
        /// Of which metric.
        metric: Metric,
        /// What was given.
        value: f64,
    },
    /// A ceiling that is no share.
    #[error("{metric}: a ceiling lies between 0 and 1, not at {value}")]
    Ceiling {
        /// Of which metric.
        metric: Metric,
        /// What was given.
        value: f64,
    },
}

/// Ratios beyond this are told apart from each other by nobody.
const RATIO_MAX: f64 = 1000.0;

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failures => "failures",
            Self::OverP50 => "slower than p50",
            Self::OverP90 => "slower than p90",
            Self::OverP99 => "slower than p99",
            Self::OverP999 => "slower than p99.9",
        })
    }
}

impl MetricPolicy {
    /// What ships for a metric.
    pub const fn shipped(metric: Metric) -> Self {
        let (weight, tolerance, proof) = match metric {
            Metric::Failures => {
                let either = Proof::Either {
                    ratio: 1.5,
                    ceiling: CEILING,
                };
                (0.4, 1.25, either)
            }
            Metric::OverP50 => (0.1, 1.2, Proof::Ratio(1.4)),
            Metric::OverP90 => (0.2, 1.5, Proof::Ratio(2.0)),
            Metric::OverP99 => (0.2, 2.0, Proof::Ratio(3.0)),
            // One request in a thousand: waiting for proof of it would hold up whoever has little traffic.
            Metric::OverP999 => (0.1, 2.5, Proof::Nothing),
        };
        Self {
            metric,
            weight,
            tolerance,
            proof,
            // Cold caches make slow. A failure is a failure from the first request on.
            warms_up: !matches!(metric, Metric::Failures),
        }
    }

    fn check(self) -> Result<(), PolicyError> {
        let Self {
            metric,
            weight,
            tolerance,
            proof,
            ..
        } = self;
        if !(0.0..=1.0).contains(&weight) {
            return Err(PolicyError::Weight {
                metric,
                value: weight,
            });
        }
        if !(1.0..=RATIO_MAX).contains(&tolerance) {
            return Err(PolicyError::Tolerance {
                metric,
                value: tolerance,
            });
        }
        let value = proof.ratio().unwrap_or(RATIO_MAX);
        if !(value > tolerance && value <= RATIO_MAX) {
            return Err(PolicyError::Margin { metric, value });
        }
        let value = proof.ceiling().unwrap_or(0.5);
        if !(value > 0.0 && value < 1.0) {
            return Err(PolicyError::Ceiling { metric, value });
        }
        Ok(())
    }
}

impl Proof {
    /// The ratio that has to be excluded, if any.
    pub fn ratio(self) -> Option<f64> {
        match self {
            Self::Ratio(ratio) | Self::Either { ratio, .. } => Some(ratio),
            Self::Ceiling(_) | Self::Nothing => None,
        }
    }

    /// The share of events that has to be excluded, if any.
    pub fn ceiling(self) -> Option<f64> {
        match self {
            Self::Ceiling(ceiling) | Self::Either { ceiling, .. } => Some(ceiling),
            Self::Ratio(_) | Self::Nothing => None,
        }
    }
}

impl Default for WarmUp {
    fn default() -> Self {
        Self {
            span: Duration::from_secs(30),
            requests: 200,
        }
    }
}

impl Default for JudgePolicy {
    fn default() -> Self {
        let all = [
            Metric::Failures,
            Metric::OverP50,
            Metric::OverP90,
            Metric::OverP99,
            Metric::OverP999,
        ];
        Self {
            alpha: ALPHA,
            beta: BETA,
            metrics: all.map(MetricPolicy::shipped).to_vec(),
            warm_up: WarmUp::default(),
            ticks_min: TICKS_MIN,
            burst: Duration::ZERO,
        }
    }
}

impl JudgePolicy {
    /// The same, with failures that come in one burst counted as one.
    #[must_use]
    pub fn robust(mut self) -> Self {
        self.burst = BURST;
        self
    }

    /// Whether it can be followed.
    ///
    /// # Errors
    /// With the first thing that is wrong.
    pub fn check(&self) -> Result<(), PolicyError> {
        for (what, value) in [("alpha", self.alpha), ("beta", self.beta)] {
            if !(value > 0.0 && value < 1.0) {
                return Err(PolicyError::Probability { what, value });
            }
        }
        if self.metrics.is_empty() || self.metrics.len() > METRICS_MAX {
            return Err(PolicyError::Metrics(self.metrics.len()));
        }
        for (index, policy) in self.metrics.iter().enumerate() {
            policy.check()?;
            if self
                .metrics
                .iter()
                .take(index)
                .any(|other| other.metric == policy.metric)
            {
                return Err(PolicyError::Twice(policy.metric));
            }
        }
        match self.metrics.first() {
            Some(first) if self.weights() <= 0.0 => Err(PolicyError::Weight {
                metric: first.metric,
                value: first.weight,
            }),
            _ => Ok(()),
        }
    }

    /// Sum of the metrics' weights.
    pub(super) fn weights(&self) -> f64 {
        self.metrics.iter().map(|policy| policy.weight).sum()
    }

    /// Nats at which the shadow is worse.
    pub(super) fn worse_limit(&self) -> f64 {
        -self.alpha.ln()
    }

    /// Nats at which a metric lets the shadow pass.
    pub(super) fn pass_limit(&self) -> f64 {
        -self.beta.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl Fn(&mut JudgePolicy)) -> Result<(), PolicyError> {
        let mut policy = JudgePolicy::default();
        change(&mut policy);
        policy.check()
    }

    #[test]
    fn what_ships_can_be_followed() {
        assert_eq!(JudgePolicy::default().check(), Ok(()));
        assert_eq!(JudgePolicy::default().robust().check(), Ok(()));
    }

    #[test]
    fn what_is_no_number_is_refused_wherever_it_stands() {
        let nan = f64::NAN;
        assert!(with(|policy| policy.alpha = nan).is_err());
        assert!(with(|policy| policy.beta = nan).is_err());
        assert!(with(|policy| policy.metrics[0].weight = nan).is_err());
        assert!(with(|policy| policy.metrics[0].tolerance = nan).is_err());
        for proof in [Proof::Ratio(nan), Proof::Ceiling(nan)] {
            assert!(with(|policy| policy.metrics[0].proof = proof).is_err());
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        assert!(with(|policy| policy.alpha = 0.0).is_err());
        assert!(with(|policy| policy.metrics.clear()).is_err());
        assert!(with(|policy| policy.metrics[1].metric = Metric::Failures).is_err());
        assert!(with(|policy| policy.metrics[0].proof = Proof::Ratio(1.25)).is_err());
        assert!(with(|policy| policy.metrics[0].proof = Proof::Ceiling(1.0)).is_err());
        assert!(with(|policy| policy.metrics.iter_mut().for_each(|metric| metric.weight = 0.0)).is_err());
    }

    #[test]
    fn a_policy_survives_the_journal() {
        let policy = JudgePolicy::default().robust();
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<JudgePolicy>(&text).unwrap(), policy);
    }
}
