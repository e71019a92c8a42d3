//! The most that may move now, whatever the risk asks for.
//!
//! Caps protect the shadow and the users' trust: what the shadow can carry, whether it is at risk itself, how much a
//! forecast or a rumour may do, and what the operator allows. The smallest one binds and is named. A cap grows slowly
//! and falls fast, but not at once, so that one bad tick does not throw all users back; only a shadow that is gone or
//! can carry nothing takes none.

use foreshade_contract::{Risk, Share};
use serde::{Deserialize, Serialize};

use super::Sight;
use crate::assessment::{Assessment, Group};
use crate::cluster::OPERATOR;
use crate::decision::Bound;

/// What hearsay alone may move.
const AUTHORITY_EXTERNAL: f64 = 0.05;

/// What a forecast alone may move.
const AUTHORITY_TREND: f64 = 0.25;

/// Evidence (effect times certainty) from which a group may commit everything.
const COMMITTING: f64 = 0.1;

/// Growth of a cap per second.
const UP_PER_SECOND: f64 = 0.10;

/// What is left of a cap after a tick in which the shadow could carry less.
const DOWN_CAPACITY: f64 = 0.7;

/// What is left of a cap after a tick in which the shadow was at risk.
const DOWN_RISK: f64 = 0.5;

/// The largest share that this assessment's causes may move by themselves.
pub(super) fn authority(primary: &Assessment) -> Share {
    let mut authority: f64 = 0.0;
    for term in &primary.terms {
        authority = authority.max(match term.group {
            _ if term.hazard <= 0.0 => 0.0,
            // An operator's word is not hearsay.
            Group::External if term.component == OPERATOR => 1.0,
            Group::External => AUTHORITY_EXTERNAL,
            Group::Trend => AUTHORITY_TREND,
            Group::Hard | Group::Performance | Group::Gray | Group::Network | Group::Resource => {
                if term.effect * term.evidence >= COMMITTING {
                    1.0
                } else {
                    0.0
                }
            }
        });
    }
    if primary.is_dead() {
        authority = 1.0;
    }
    Share::clamped(authority)
}

/// What bounds a share beside the shadow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// What the causes of the risk may move by themselves.
    pub(super) authority: Share,
    /// What the controller's plan allows.
    pub(super) ceiling: Share,
}

/// The cap of one shift, smoothed over time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Cap {
    /// `None` before the first tick of an episode.
    value: Option<f64>,
    /// The shadow's own part, halved while it is worse than the primary was.
    by_risk: f64,
    bound: Bound,
}

impl Cap {
    pub(super) fn new() -> Self {
        Self {
            value: None,
            by_risk: 1.0,
            bound: Bound::None,
        }
    }

    /// The cap and what it is due to.
    pub(super) fn step(&mut self, sight: &Sight<'_>, limits: Limits, worst: Risk) -> (Share, Bound) {
        if !sight.is_held() {
            // What hits most endpoints hits the shadow too; moving its users back would help nobody.
            self.by_risk = by_shadow_risk(sight, worst, self.by_risk);
        }
        let shadow = self.smooth(sight);
        let limits = [
            (limits.authority.value(), Bound::Authority),
            (limits.ceiling.value(), Bound::Plan),
            (sight.policy.share_max.value(), Bound::Policy),
        ];
        let (cap, bound) =
            limits.into_iter().fold(
                (shadow, self.bound),
                |least, next| if next.0 < least.0 { next } else { least },
            );
        (Share::clamped(cap), bound)
    }

    /// What the shadow allows, growing slowly and falling fast. Authority and policy are not the shadow's to grow
    /// into: what evidence commits may move at once.
    fn smooth(&mut self, sight: &Sight<'_>) -> f64 {
        let capacity = sight.capacity.value();
        let (raw, bound, falls) = if self.by_risk < capacity {
            (self.by_risk, Bound::ShadowRisk, DOWN_RISK)
        } else if capacity < 1.0 {
            (capacity, Bound::ShadowCapacity, DOWN_CAPACITY)
        } else {
            (1.0, Bound::None, 0.0)
        };
        let value = match self.value {
            // Its first tick, or nothing left to be gentle about.
            None => raw,
            Some(_) if raw <= 0.0 => raw,
            Some(before) if raw >= before => raw.min(before + UP_PER_SECOND * sight.dt),
            Some(before) => raw.max(before * falls),
        };
        // On its way up a cap is still bound by what had pulled it down.
        if value >= raw || self.value.is_none_or(|before| raw <= before) {
            self.bound = bound;
        }
        self.value = Some(value);
        value
    }
}

/// 1 while the shadow is well; what it has left while it is not; halved per tick while it is worse than the primary
/// was.
fn by_shadow_risk(sight: &Sight<'_>, worst: Risk, before: f64) -> f64 {
    let risk = sight.shadow.risk;
    if !sight.shadow_available {
        // Where both are gone it makes no difference, and moving back and forth would.
        return if sight.primary.is_dead() { before } else { 0.0 };
    }
    if risk.value() < sight.policy.engage {
        1.0
    } else if risk > worst {
        (before * DOWN_RISK).min(1.0 - risk.value())
    } else {
        1.0 - risk.value()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Bench, known, term};
    use super::*;

    const WIDE: Limits = Limits {
        authority: Share::ONE,
        ceiling: Share::ONE,
    };

    #[test]
    fn a_forecast_may_prepare_and_only_evidence_may_commit() {
        let mut primary = known(0.4);
        for (group, expected) in [
            (Group::External, 0.05),
            (Group::Trend, 0.25),
            (Group::Hard, 1.0),
            (Group::Resource, 1.0),
        ] {
            primary.terms = vec![term(group, 0.5)];
            assert!((authority(&primary).value() - expected).abs() < 1e-9, "{group:?}");
        }
    }

    #[test]
    fn a_shadow_that_is_gone_takes_nobody_and_at_once() {
        let mut bench = Bench::new();
        let mut cap = Cap::new();
        bench.shadow_available = false;
        let (value, bound) = cap.step(&bench.sight(&known(0.9), &known(0.9)), WIDE, Risk::clamped(0.9));
        assert_eq!((value, bound), (Share::ZERO, Bound::ShadowRisk));
    }

    #[test]
    fn a_cap_falls_fast_and_grows_slowly() {
        let mut bench = Bench::new();
        let mut cap = Cap::new();
        let worst = Risk::clamped(0.9);
        let mut step = |bench: &Bench| {
            cap.step(&bench.sight(&known(0.9), &known(0.0)), WIDE, worst)
                .0
                .value()
        };
        step(&bench);
        bench.capacity = Share::clamped(0.2);
        assert!((step(&bench) - 0.7).abs() < 1e-9);
        for _ in 0..10 {
            step(&bench);
        }
        bench.capacity = Share::ONE;
        let after: f64 = (0..10).map(|_| step(&bench)).last().unwrap();
        assert!((after - 0.3).abs() < 1e-6, "{after}");
        bench.capacity = Share::ZERO;
        assert!(step(&bench).abs() < f64::EPSILON);
    }

    #[test]
    fn a_shadow_worse_than_the_primary_is_left_within_a_second() {
        let bench = Bench::new();
        let mut cap = Cap::new();
        let mut value = 1.0;
        for _ in 0..10 {
            value = cap
                .step(&bench.sight(&known(0.5), &known(0.8)), WIDE, Risk::clamped(0.6))
                .0
                .value();
        }
        assert!(value < 0.01, "{value}");
    }
}
