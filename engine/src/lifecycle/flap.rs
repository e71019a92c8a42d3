//! What keeps a pair from going back and forth: a pause between directions, a rest after failures, a budget of changes.
//!
//! Hysteresis alone does not: a fault that comes and goes every minute crosses both marks every minute. So a direction
//! is kept for a while, each failure doubles the rest before the next try, and a pair that has changed roles too often
//! within an hour is left alone until somebody has looked at it.
//!
//! Everything is a count-down of time that the controller was there for, so that a clock that jumps cannot refill a budget.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::FlapPolicy;

/// Most role changes that are remembered. A budget can only be smaller.
pub const CHANGES_MAX: usize = 16;

/// What a pair remembers of its turns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flap {
    /// For each role change, how long it still counts. Oldest first.
    changes: Vec<Duration>,
    /// How long the direction must still be kept.
    dwell: Duration,
    /// How long it must still rest.
    cooldown: Duration,
    /// Failures since something was committed.
    pub(super) failures: u32,
    /// Times that users went back for no failure, and how long that still counts.
    returns: u32,
    returns_count: Duration,
}

impl Flap {
    pub(super) fn pass(&mut self, dt: Duration) {
        self.dwell = self.dwell.saturating_sub(dt);
        self.cooldown = self.cooldown.saturating_sub(dt);
        for left in &mut self.changes {
            *left = left.saturating_sub(dt);
        }
        self.changes.retain(|left| !left.is_zero());
        self.returns_count = self.returns_count.saturating_sub(dt);
        if self.returns_count.is_zero() {
            self.returns = 0;
        }
    }

    /// Role changes that still count.
    pub fn changes(&self) -> usize {
        self.changes.len()
    }

    /// How long the direction must still be kept.
    pub fn dwell_left(&self) -> Duration {
        self.dwell
    }

    /// How long it must still rest.
    pub fn cooldown_left(&self) -> Duration {
        self.cooldown
    }

    /// Failures since something was committed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the roles may change once more.
    pub(super) fn may_change_roles(&self, policy: &FlapPolicy) -> bool {
        self.changes.len() < policy.changes.min(CHANGES_MAX)
    }

    pub(super) fn changed_roles(&mut self, policy: &FlapPolicy) {
        if self.changes.len() >= CHANGES_MAX {
            self.changes.remove(0);
        }
        self.changes.push(policy.window);
        self.turned(policy);
    }

    /// Traffic turned around.
    pub(super) fn turned(&mut self, policy: &FlapPolicy) {
        self.dwell = policy.dwell;
    }

    /// Users went back because what had moved them was gone. The next time comes twice as late: a risk that comes and goes
    /// is followed less and less.
    pub(super) fn returned(&mut self, policy: &FlapPolicy) {
        self.dwell = doubled(policy.dwell, self.returns).min(policy.cooldown_max);
        self.returns = self.returns.saturating_add(1);
        self.returns_count = policy.window.saturating_add(self.dwell);
    }

    /// Something failed: the rest doubles with each failure.
    pub(super) fn failed(&mut self, policy: &FlapPolicy) {
        self.cooldown = doubled(policy.cooldown, self.failures).min(policy.cooldown_max);
        self.failures = self.failures.saturating_add(1);
    }

    /// An operator wants to go on at once.
    pub(super) fn rested(&mut self) {
        self.cooldown = Duration::ZERO;
        self.dwell = Duration::ZERO;
    }

    /// Something was committed.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// Doubled so many times.
fn doubled(span: Duration, times: u32) -> Duration {
    // 2^31 times the shortest is longer than any longest.
    span.saturating_mul(2u32.saturating_pow(times.min(31)))
}

#[cfg(test)]
impl Flap {
    /// For model checking: no change is forgotten.
    pub(super) fn pass_never(&mut self, policy: &FlapPolicy) {
        self.changes.fill(policy.window);
        self.returns = 0;
        self.returns_count = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_rest_up_to_the_longest() {
        let policy = FlapPolicy::default();
        let mut flap = Flap::default();
        let rests: Vec<u64> = (0..40)
            .map(|_| {
                flap.failed(&policy);
                flap.cooldown_left().as_secs()
            })
            .collect();
        assert_eq!(rests[..4], [300, 600, 1200, 2400]);
        assert_eq!(rests[39], 6 * 3600);
        flap.succeeded();
        flap.failed(&policy);
        assert_eq!(flap.cooldown_left().as_secs(), 300);
    }

    #[test]
    fn the_budget_of_role_changes_refills_after_its_window() {
        let policy = FlapPolicy::default();
        let mut flap = Flap::default();
        for _ in 0..3 {
            assert!(flap.may_change_roles(&policy));
            flap.changed_roles(&policy);
        }
        assert!(!flap.may_change_roles(&policy));
        flap.pass(policy.window);
        assert!(flap.may_change_roles(&policy));
    }
}
