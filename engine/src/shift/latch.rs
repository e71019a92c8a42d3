//! When a shift begins: risk at or above the threshold for two ticks, or an endpoint that is gone.
//!
//! One tick is not enough, because a single burst of bad luck must not move users; two are enough, because risk itself
//! is evidence by then. What ends an episode is not this latch but proof (see `recovery`): risk at a drained endpoint
//! says nothing.

use serde::{Deserialize, Serialize};

use super::Sight;

/// Ticks in a row at or above the threshold.
const TICKS: u32 = 2;

/// Counts ticks above the threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Latch {
    above: u32,
}

impl Latch {
    /// Whether a shift is to be engaged after this tick.
    pub(super) fn step(&mut self, sight: &Sight<'_>) -> bool {
        if sight.primary.is_dead() {
            return true;
        }
        if sight.frozen {
            // Most endpoints rise together: not a reason to move, and not one to remember.
            self.above = 0;
        } else if sight.primary.risk.value() >= sight.policy.engage {
            self.above = self.above.saturating_add(1);
        } else {
            self.above = 0;
        }
        self.above >= TICKS
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Bench, known};
    use super::*;

    #[test]
    fn one_tick_above_the_threshold_moves_nobody_two_do() {
        let bench = Bench::new();
        let mut latch = Latch::default();
        for (risk, engaged) in [
            (0.5, false),
            (0.2, false),
            (0.5, false),
            (0.35, true),
            (0.1, false),
        ] {
            assert_eq!(
                latch.step(&bench.sight(&known(risk), &known(0.0))),
                engaged,
                "{risk}"
            );
        }
    }

    #[test]
    fn the_dead_engage_at_once_even_in_common_cause() {
        let mut bench = Bench::new();
        bench.frozen = true;
        let mut latch = Latch::default();
        let mut dead = known(0.98);
        assert!(!latch.step(&bench.sight(&dead, &known(0.0))));
        assert!(!latch.step(&bench.sight(&dead, &known(0.0))));
        dead.standing = crate::assessment::Standing::Dead;
        assert!(latch.step(&bench.sight(&dead, &known(0.0))));
    }
}
