//! Argo Rollouts' rule: an analysis in the background compares the canary's success rate with a fixed limit while the
//! steps wait out their pauses.
//!
//! Numbers of its manual (`argoproj/argo-rollouts`, `docs/features/analysis.md`, "Background Analysis"): interval 5 m,
//! `successCondition: result >= 0.95`, `failureLimit: 3`; four steps with pauses of 10 m. A run fails when failures
//! *exceed* the limit (`utils/analysis`, `analysis/analysis.go`: the fourth one), whatever the text beside the example
//! says. A query without requests has no value and is an error; more than `consecutiveErrorLimit` (4) of them in a row
//! end it.

use super::stream::Tick;
use super::{Decision, Judge};

/// Between two measurements, seconds.
const INTERVAL_S: f64 = 300.0;

/// Least share of requests that do not fail.
const SUCCESS_MIN: f64 = 0.95;

/// Failures that are tolerated.
const FAILURE_LIMIT: u32 = 3;

/// Errors in a row that are tolerated.
const ERROR_LIMIT: u32 = 4;

/// When all pauses are over, seconds.
const PAUSES_S: f64 = 4.0 * 600.0;

/// The rule, and what it counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Argo {
    requests: u64,
    failures: u64,
    measured: u32,
    failed: u32,
    errors: u32,
}

impl Judge for Argo {
    fn observe(&mut self, tick: &Tick) -> Option<Decision> {
        let ([_, requests], [_, failures]) = (tick.requests, tick.failures);
        self.requests += requests;
        self.failures += failures;
        if tick.at_s < INTERVAL_S * f64::from(self.measured + 1) {
            return None;
        }
        let succeeds = (self.requests - self.failures) as f64 >= SUCCESS_MIN * self.requests as f64;
        let errors = if self.requests == 0 { self.errors + 1 } else { 0 };
        *self = Self {
            requests: 0,
            failures: 0,
            measured: self.measured + 1,
            failed: self.failed + u32::from(!succeeds),
            errors,
        };
        if self.failed > FAILURE_LIMIT || self.errors > ERROR_LIMIT {
            Some(Decision::RollBack)
        } else {
            (tick.at_s >= PAUSES_S).then_some(Decision::Promote)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(requests: u64, failures: u64) -> Option<(Decision, u32)> {
        let mut argo = Argo::default();
        (1..=20).find_map(|measured| {
            let tick = Tick {
                at_s: 300.0 * f64::from(measured),
                requests: [0, requests],
                failures: [0, failures],
                ..Tick::default()
            };
            argo.observe(&tick).map(|decision| (decision, measured))
        })
    }

    #[test]
    fn the_fourth_failure_rolls_back_and_forty_minutes_promote() {
        assert_eq!(decided(100, 6), Some((Decision::RollBack, 4)));
        assert_eq!(decided(100, 5), Some((Decision::Promote, 8)));
    }

    #[test]
    fn the_fifth_error_in_a_row_ends_it() {
        assert_eq!(decided(0, 0), Some((Decision::RollBack, 5)));
    }
}
