//! How fast an endpoint is while it is well: what its shadow is held against.
//!
//! A shadow that has never served has no baseline of its own, so its latency is compared with the primary's on the same
//! traffic. An average over a minute of good samples, that stands still while the endpoint is at risk: the few slow ones
//! that slip in before the risk rises do not matter in it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::assessment::Assessment;
use crate::spec::ShiftPolicy;

/// Half-life of the average.
const HALF_LIFE: Duration = Duration::from_secs(60);

/// Samples without which nothing is said.
const SAMPLES_MIN: f64 = 20.0;

/// Decayed sums of the latency's logarithm.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Wellness {
    served: f64,
    sum_ln_us: f64,
}

impl Wellness {
    /// Takes a tick.
    pub(super) fn step(&mut self, dt: f64, seen: &Assessment, policy: &ShiftPolicy) {
        if seen.tick.served == 0 || seen.risk.value() >= policy.release {
            return;
        }
        let kept = (-dt / HALF_LIFE.as_secs_f64()).exp2();
        self.served = self.served * kept + f64::from(seen.tick.served);
        self.sum_ln_us = self.sum_ln_us * kept + seen.tick.sum_ln_us;
    }

    /// Mean logarithm of its latency in microseconds while it was well.
    pub(super) fn ln_us(&self) -> Option<f64> {
        (self.served >= SAMPLES_MIN).then(|| self.sum_ln_us / self.served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shift::fixture::{LN_US, known, tick};

    #[test]
    fn what_is_slow_does_not_become_the_standard() {
        let policy = ShiftPolicy::default();
        let mut wellness = Wellness::default();
        assert_eq!(wellness.ln_us(), None);
        let mut seen = known(0.0);
        for n in 0..1000 {
            // Two seconds pass until the risk is seen.
            seen.tick = tick(10, 0, if n < 300 { 1.0 } else { 10.0 });
            seen.risk = known(if n < 302 { 0.0 } else { 0.9 }).risk;
            wellness.step(0.1, &seen, &policy);
        }
        assert!((wellness.ln_us().unwrap() - LN_US).abs() < 0.05);
    }
}
