//! Did it become bad after the promotion? Everything is on the shadow now, so there is no arm to compare it with.
//!
//! An e-CUSUM (Shin, Ramdas, Rinaldo, "E-detectors", 2023): `M <- max(M, 1) x L`, where `L` is a tick's likelihood
//! ratio of a share of events above its ceiling. An alarm is `M` beyond a limit `A`: then the mean time between false
//! alarms is at least `A` ticks, whatever the traffic, as long as the share stays below the ceiling. The mean over
//! alternatives and metrics is a detector of the same kind, so there is one limit for all.
//!
//! One bad tick is not enough: `L` counts up to the third root of `A`. A smaller `L` has a smaller mean, so nothing
//! that was promised is lost. A tick without requests changes nothing. A gap is one tick.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mixture::{HIGHER, Level, log_mean_exp, log_weighted_sum, shown};
use super::policy::{METRICS_MAX, Metric};
use super::{Judge, explain::Evidence};
use crate::cusum::Batch;

/// Ticks between two false alarms at least, on average: 11 days of seconds, 28 hours of tenths.
const TICKS_BETWEEN_FALSE_ALARMS: f64 = 1e6;

/// Ticks that an alarm takes at least.
const TICKS_MIN: f64 = 3.0;

/// No ceiling is put below this: one failure in a thousand requests is not a promotion gone wrong.
const CEILING_MIN: f64 = 1e-3;

/// No ceiling is put above this, or nothing could be above it.
const CEILING_MAX: f64 = 0.9;

/// Standard errors by which the primary's own share may have been underestimated.
const Z: f64 = 2.0;

/// What is watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BakePolicy {
    /// Ticks between two false alarms at least, on average.
    pub ticks_between_false_alarms: f64,
    /// In the order in which events are reported.
    pub metrics: Vec<BakeMetric>,
}

/// How one metric is watched.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BakeMetric {
    /// Which.
    pub metric: Metric,
    /// Its part of the false alarms, in proportion to the others.
    pub weight: f64,
    /// Share of requests that may be events.
    pub ceiling: f64,
}

/// Why nothing can be watched.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum BakeError {
    /// A policy, or a state, with a number that is none, or none that makes sense there.
    #[error("{what} cannot be {value}")]
    Number {
        /// Of what.
        what: &'static str,
        /// What was given.
        value: f64,
    },
    /// Too few or too many metrics, or other ones than before.
    #[error("{given} metrics; {wanted} were expected")]
    Metrics {
        /// Given.
        given: usize,
        /// Expected.
        wanted: usize,
    },
    /// More events than requests.
    #[error("more events of {0} than requests")]
    Events(Metric),
}

/// Watches a shadow after its promotion.
#[derive(Clone, Debug, PartialEq)]
pub struct Bake {
    policy: BakePolicy,
    state: BakeState,
}

/// What has to be kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BakeState {
    /// Logarithm of `M` for each alternative of each metric.
    nats: Vec<[f64; HIGHER.len()]>,
    requests: u64,
    alarmed: bool,
}

impl BakePolicy {
    /// From what was learned during the shift: a ceiling at the margin of each metric, above what the primary had at
    /// most. None before the primary served anything.
    pub fn after(judge: &Judge) -> Option<Self> {
        let metrics = judge.each().map(|super::Weighed { counts, policy, .. }| {
            let ([requests, _], [events, _]) = (counts.step_requests, counts.step_events);
            let share = Batch {
                bad: events as f64,
                total: requests as f64,
            };
            let margin = policy.proof.ratio().unwrap_or(2.0 * policy.tolerance);
            let usual = (requests > 0).then(|| margin * share.bounds(Z).1)?;
            let ceiling = usual.max(policy.proof.ceiling().unwrap_or(CEILING_MIN));
            Some(BakeMetric {
                metric: counts.metric,
                weight: policy.weight,
                ceiling: ceiling.clamp(CEILING_MIN, CEILING_MAX),
            })
        });
        Some(Self {
            ticks_between_false_alarms: TICKS_BETWEEN_FALSE_ALARMS,
            metrics: metrics.collect::<Option<_>>()?,
        })
    }

    fn check(&self) -> Result<(), BakeError> {
        let number = |what, value, holds: bool| {
            if holds {
                Ok(())
            } else {
                Err(BakeError::Number { what, value })
            }
        };
        let ticks = self.ticks_between_false_alarms;
        number(
            "ticks between false alarms",
            ticks,
            ticks > 1.0 && ticks.is_finite(),
        )?;
        if self.metrics.is_empty() || self.metrics.len() > METRICS_MAX {
            return Err(BakeError::Metrics {
                given: self.metrics.len(),
                wanted: METRICS_MAX,
            });
        }
        for BakeMetric { weight, ceiling, .. } in &self.metrics {
            number("a weight", *weight, (0.0..=1.0).contains(weight))?;
            number("a ceiling", *ceiling, *ceiling > 0.0 && *ceiling < 1.0)?;
        }
        let weights: f64 = self.metrics.iter().map(|metric| metric.weight).sum();
        number("the sum of weights", weights, weights > 0.0)
    }

    fn limit(&self) -> f64 {
        self.ticks_between_false_alarms.ln()
    }
}

impl Bake {
    /// Begins to watch.
    ///
    /// # Errors
    /// When the policy cannot be followed.
    pub fn new(policy: BakePolicy) -> Result<Self, BakeError> {
        let state = BakeState {
            nats: vec![[0.0; HIGHER.len()]; policy.metrics.len()],
            requests: 0,
            alarmed: false,
        };
        Self::resume(policy, state)
    }

    /// Goes on from what was written down.
    ///
    /// # Errors
    /// When the policy cannot be followed, or the state is not one of it.
    pub fn resume(policy: BakePolicy, state: BakeState) -> Result<Self, BakeError> {
        policy.check()?;
        let (given, wanted) = (state.nats.len(), policy.metrics.len());
        if given != wanted {
            return Err(BakeError::Metrics { given, wanted });
        }
        if let Some(value) = state.nats.iter().flatten().find(|nats| !nats.is_finite()) {
            return Err(BakeError::Number {
                what: "evidence",
                value: *value,
            });
        }
        Ok(Self { policy, state })
    }

    /// What is watched.
    pub fn policy(&self) -> &BakePolicy {
        &self.policy
    }

    /// All that has to be kept.
    pub fn state(&self) -> &BakeState {
        &self.state
    }

    /// Takes a tick: requests of the shadow, and those of them that were events, for each metric.
    ///
    /// # Errors
    /// When it contradicts itself; then nothing of it is counted.
    pub fn observe(&mut self, requests: u64, events: &[u64]) -> Result<(), BakeError> {
        let (given, wanted) = (events.len(), self.policy.metrics.len());
        if given != wanted {
            return Err(BakeError::Metrics { given, wanted });
        }
        let excess = events
            .iter()
            .zip(&self.policy.metrics)
            .find(|(events, _)| **events > requests);
        if let Some((_, policy)) = excess {
            return Err(BakeError::Events(policy.metric));
        }
        if requests == 0 {
            return Ok(());
        }
        let most = self.policy.limit() / TICKS_MIN;
        let metrics = self.state.nats.iter_mut().zip(&self.policy.metrics).zip(events);
        for ((nats, policy), events) in metrics {
            let each = Level::above(policy.ceiling).each(requests as f64, *events as f64);
            for (nats, more) in nats.iter_mut().zip(each) {
                *nats = nats.max(0.0) + more.min(most);
            }
        }
        self.state.requests = self.state.requests.saturating_add(requests);
        self.state.alarmed |= self.nats() >= self.policy.limit();
        Ok(())
    }

    /// Whether it became bad. An alarm stays.
    pub fn alarm(&self) -> bool {
        self.state.alarmed
    }

    /// Requests watched.
    pub fn requests(&self) -> u64 {
        self.state.requests
    }

    /// The evidence now, and where an alarm is.
    pub fn evidence(&self) -> Evidence {
        Evidence {
            e: shown(self.nats()),
            limit: self.policy.ticks_between_false_alarms,
        }
    }

    fn nats(&self) -> f64 {
        let metrics = self.state.nats.iter().zip(&self.policy.metrics);
        let each = metrics.map(|(nats, policy)| (policy.weight, log_mean_exp(nats.iter())));
        log_weighted_sum(each).unwrap_or(0.0)
    }

    /// Time between two false alarms at least, on average, at a tick of this length.
    pub fn between_false_alarms(&self, tick: Duration) -> Duration {
        let seconds = tick.as_secs_f64() * self.policy.ticks_between_false_alarms;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(ticks: f64) -> BakePolicy {
        BakePolicy {
            ticks_between_false_alarms: ticks,
            metrics: vec![
                BakeMetric {
                    metric: Metric::Failures,
                    weight: 0.5,
                    ceiling: 0.01,
                },
                BakeMetric {
                    metric: Metric::OverP90,
                    weight: 0.5,
                    ceiling: 0.2,
                },
            ],
        }
    }

    #[test]
    fn an_outage_after_a_good_hour_is_found_in_ticks() {
        let mut bake = Bake::new(policy(1e6)).unwrap();
        for _ in 0..36_000 {
            bake.observe(100, &[0, 10]).unwrap();
        }
        assert!(!bake.alarm());
        let mut ticks = 0;
        while !bake.alarm() {
            bake.observe(100, &[100, 10]).unwrap();
            ticks += 1;
        }
        assert!((3..=5).contains(&ticks), "{ticks}");
    }

    #[test]
    fn one_bad_tick_is_no_alarm() {
        let mut bake = Bake::new(policy(1e6)).unwrap();
        bake.observe(100_000, &[100_000, 100_000]).unwrap();
        bake.observe(100, &[0, 10]).unwrap();
        assert!(!bake.alarm());
    }

    #[test]
    fn silence_is_no_evidence() {
        let mut bake = Bake::new(policy(1e6)).unwrap();
        bake.observe(100, &[3, 10]).unwrap();
        let before = bake.clone();
        bake.observe(0, &[0, 0]).unwrap();
        assert_eq!(bake, before);
    }

    #[test]
    fn what_contradicts_itself_changes_nothing() {
        let mut bake = Bake::new(policy(1e6)).unwrap();
        let before = bake.clone();
        assert_eq!(bake.observe(1, &[2, 0]), Err(BakeError::Events(Metric::Failures)));
        assert!(bake.observe(1, &[1]).is_err());
        assert_eq!(bake, before);
        assert!(Bake::new(policy(f64::NAN)).is_err());
        let mut broken = policy(1e6);
        broken.metrics[0].ceiling = f64::NAN;
        assert!(Bake::new(broken).is_err());
    }

    #[test]
    fn a_restart_forgets_nothing() {
        let mut bake = Bake::new(policy(1e6)).unwrap();
        bake.observe(100, &[3, 30]).unwrap();
        let text = serde_json::to_string(bake.state()).unwrap();
        let mut again = Bake::resume(policy(1e6), serde_json::from_str(&text).unwrap()).unwrap();
        for bake in [&mut bake, &mut again] {
            bake.observe(100, &[2, 25]).unwrap();
        }
        assert!((bake.nats() - again.nats()).abs() < 1e-9);
    }
}
