//! Flagger's rule: each minute the canary's success rate and p99 against fixed limits; enough good minutes promote it,
//! enough bad ones roll it back.
//!
//! Numbers of its manual's first example (`fluxcd/flagger`, `docs/gitbook/usage/how-it-works.md`): interval 1 m,
//! threshold 10, maxWeight 50, stepWeight 5, `request-success-rate` at least 99, `request-duration` (P99) at most 500
//! ms. Time to promote is `interval x maxWeight / stepWeight`, to roll back `interval x threshold`
//! (`docs/gitbook/usage/deployment-strategies.md`). Failed checks are never taken back
//! (`pkg/controller/scheduler.go`), and a minute without requests is a failed check ("no values found").

use super::stream::Tick;
use super::{Decision, Judge};

/// Between two checks, seconds.
const INTERVAL_S: f64 = 60.0;

/// Failed checks that roll back.
const THRESHOLD: u32 = 10;

/// Good checks that promote: maxWeight over stepWeight.
const STEPS: u32 = 10;

/// Least share of requests that do not fail.
const SUCCESS_MIN: f64 = 0.99;

/// A p99 below its limit means that no more than this share is beyond it.
const SLOW_MAX: f64 = 0.01;

/// The rule, and what it counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flagger {
    requests: u64,
    failures: u64,
    slow: u64,
    checks: u32,
    good: u32,
    bad: u32,
}

impl Judge for Flagger {
    fn observe(&mut self, tick: &Tick) -> Option<Decision> {
        let ([_, requests], [_, failures]) = (tick.requests, tick.failures);
        let [.., [_, slow]] = tick.over;
        self.requests += requests;
        self.failures += failures;
        self.slow += slow;
        if tick.at_s < INTERVAL_S * f64::from(self.checks + 1) {
            return None;
        }
        let all = self.requests as f64;
        let succeeds = (self.requests - self.failures) as f64 >= SUCCESS_MIN * all;
        let is_good = self.requests > 0 && succeeds && self.slow as f64 <= SLOW_MAX * all;
        *self = Self {
            checks: self.checks + 1,
            good: self.good + u32::from(is_good),
            bad: self.bad + u32::from(!is_good),
            ..Self::default()
        };
        if self.bad >= THRESHOLD {
            Some(Decision::RollBack)
        } else {
            (self.good >= STEPS).then_some(Decision::Promote)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(requests: u64, failures: u64, slow: u64) -> Option<(Decision, u32)> {
        let mut flagger = Flagger::default();
        (1..=60).find_map(|minute| {
            let tick = Tick {
                at_s: 60.0 * f64::from(minute),
                requests: [0, requests],
                failures: [0, failures],
                over: [[0, slow]; 5],
                ..Tick::default()
            };
            flagger.observe(&tick).map(|decision| (decision, minute))
        })
    }

    #[test]
    fn ten_good_minutes_promote_and_ten_bad_ones_roll_back() {
        assert_eq!(minutes(1000, 10, 10), Some((Decision::Promote, 10)));
        assert_eq!(minutes(1000, 11, 0), Some((Decision::RollBack, 10)));
        assert_eq!(minutes(1000, 0, 11), Some((Decision::RollBack, 10)));
    }

    #[test]
    fn silence_is_a_failed_check() {
        assert_eq!(minutes(0, 0, 0), Some((Decision::RollBack, 10)));
    }
}
