//! When too little is left: nobody is kept out, nothing is repeated, and nothing more is moved but to who is well: to a
//! shadow, or back to a primary that proves itself. One that has healed and idles is what is missing.
//!
//! With most endpoints in trouble, avoiding them sends everything to the few that are left, and they follow. Envoy's panic
//! threshold counts healthy hosts; here it is capacity against demand, because two of ten hosts may carry the night's
//! traffic and nine of ten not the noon's. A cluster where even the best is at high risk is in panic at any load.
//!
//! Leaving it takes more than entering it: seven tenths instead of five, for ten seconds.

use std::time::Duration;

use foreshade_contract::Risk;

use crate::moment::Moment;

/// Healthy capacity below this part of demand is panic.
const ENTER: f64 = 0.5;

/// Healthy capacity above this part of demand may end it.
const LEAVE: f64 = 0.7;

/// Risk of the best endpoint at which a cluster is in panic.
const BEST_RISK: f64 = 0.7;

/// How long it has to look better.
const CALM: Duration = Duration::from_secs(10);

/// Demand below which capacity is no question, in requests per second.
const DEMAND_MIN: f64 = 1.0;

/// What is left of an endpoint's weight in panic, however bad it looks: the look may be wrong.
const FLOOR: f64 = 0.05;

/// Whether a cluster is in panic.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Panic {
    active: bool,
    calm_since: Option<Moment>,
}

/// What is left of a cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    /// Sum of capacity times (1 - risk), requests per second.
    pub(crate) capacity_rps: f64,
    /// Requests per second asked for.
    pub(crate) demand_rps: f64,
    /// The lowest risk of all endpoints.
    pub(crate) best_risk: f64,
}

impl Panic {
    /// Takes a tick, and says whether the cluster is in panic.
    pub(crate) fn step(&mut self, now: Moment, left: Left) -> bool {
        let covers = |part: f64| left.demand_rps < DEMAND_MIN || left.capacity_rps >= part * left.demand_rps;
        if !covers(ENTER) || left.best_risk >= BEST_RISK {
            self.active = true;
            self.calm_since = None;
        } else if self.active && covers(LEAVE) {
            let since = *self.calm_since.get_or_insert(now);
            self.active = now.since(since) < CALM;
        } else {
            self.calm_since = None;
        }
        self.active
    }
}

/// The part of an endpoint's weight that is left to it in panic.
pub(crate) fn remaining(risk: Risk) -> f64 {
    (1.0 - risk.value()).max(FLOOR)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn left(part: f64) -> Left {
        Left {
            capacity_rps: part * 100.0,
            demand_rps: 100.0,
            best_risk: 0.0,
        }
    }

    #[test]
    fn it_enters_at_half_and_leaves_after_ten_calm_seconds() {
        let mut panic = Panic::default();
        let at = |s: u64| Moment::ZERO + Duration::from_secs(s);
        assert!(!panic.step(at(0), left(0.51)));
        assert!(panic.step(at(1), left(0.49)));
        assert!(panic.step(at(2), left(0.6)));
        assert!(panic.step(at(3), left(0.8)));
        assert!(panic.step(at(12), left(0.8)));
        assert!(!panic.step(at(13), left(0.8)));
    }

    #[test]
    fn where_the_best_is_bad_the_load_does_not_matter() {
        let idle = Left {
            capacity_rps: 10.0,
            demand_rps: 0.0,
            best_risk: 0.75,
        };
        assert!(Panic::default().step(Moment::ZERO, idle));
        assert!(!Panic::default().step(
            Moment::ZERO,
            Left {
                best_risk: 0.1,
                ..idle
            }
        ));
    }

    proptest! {
        // Invariant 15.
        #[test]
        fn nobody_loses_all_of_his_weight(risk in 0.0..=1.0f64) {
            prop_assert!(remaining(Risk::clamped(risk)) >= 0.05);
        }
    }
}
