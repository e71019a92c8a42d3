//! Whether active probes call an endpoint dead: so many failures in a row kill it, so many passes in a row revive it.
//!
//! Rise and fall counters and nothing more, as HAProxy has proven them for twenty years: a probe is a rare, clean signal,
//! and statistics on three samples would only blur it. One failed probe among passing ones never matters; an endpoint
//! that has never been probed is not dead. Gradual evidence is the business of `risk`.

use serde::{Deserialize, Serialize};

use crate::spec::HealthPolicy;

/// The probes' opinion of one endpoint.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Health {
    policy: HealthPolicy,
    dead: bool,
    /// Results in a row that contradict `dead`.
    streak: u32,
}

/// What a probe changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The endpoint failed `fall` probes in a row.
    Died,
    /// The endpoint passed `rise` probes in a row.
    Revived,
}

impl Health {
    /// An endpoint that is alive until probes say otherwise.
    pub fn new(policy: HealthPolicy) -> Self {
        Self {
            policy,
            dead: false,
            streak: 0,
        }
    }

    /// Judges by another policy from here on. What the probes have said stands.
    pub fn adopt(&mut self, policy: HealthPolicy) {
        self.policy = policy;
    }

    /// Takes the result of one probe.
    pub fn handle(&mut self, passed: bool) -> Option<Change> {
        if passed != self.dead {
            self.streak = 0;
            return None;
        }
        self.streak = self.streak.saturating_add(1);
        let needed = if self.dead {
            self.policy.rise
        } else {
            self.policy.fall
        };
        // A policy of zero could never change its mind at all; one probe is the least that can.
        if self.streak < needed.max(1) {
            return None;
        }
        self.streak = 0;
        self.dead = !self.dead;
        Some(if self.dead { Change::Died } else { Change::Revived })
    }

    /// Whether the probes call it dead.
    pub fn is_dead(&self) -> bool {
        self.dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        Health::new(HealthPolicy { rise: 2, fall: 3 })
    }

    #[test]
    fn it_dies_of_fall_failures_in_a_row_and_of_no_fewer() {
        let mut health = health();
        for passed in [false, false, true, false, false] {
            assert_eq!(health.handle(passed), None);
        }
        assert_eq!(health.handle(false), Some(Change::Died));
        assert!(health.is_dead());
    }

    #[test]
    fn it_revives_by_rise_passes_in_a_row_and_by_no_fewer() {
        let mut health = health();
        for _ in 0..3 {
            health.handle(false);
        }
        for passed in [true, false, true] {
            assert_eq!(health.handle(passed), None);
        }
        assert_eq!(health.handle(true), Some(Change::Revived));
        assert!(!health.is_dead());
    }
}
