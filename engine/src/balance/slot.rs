//! One endpoint and one primary with its shadow, as the table has them: everything that a pick would otherwise compute.

use std::time::Duration;

use foreshade_contract::Share;

use super::{Pick, Side, Why};
use crate::cohort::{segment_share, threshold};
use crate::decision::{Bound, EndpointDecision, Mode, ShiftDecision};
use crate::outcome::ROUTE_CLASSES;
use crate::panic;

/// Largest factor by which risk raises an endpoint's cost: at a risk of .95 and above. Beyond it no traffic is left that
/// could be kept away, and an infinite cost could not be compared.
const PENALTY_MAX: f64 = 400.0;

/// One endpoint, precomputed.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) available: bool,
    pub(super) accepts_failover: bool,
    /// `(1 - risk)^-2 / weight`.
    pub(super) factor: f64,
    /// `1 / weight`, the configured one: without risk.
    pub(super) factor_on_trial: f64,
    pub(super) weight: f64,
    /// The part of its weight that panic has left it.
    part: f64,
    pub(super) typical_us: f64,
    pub(super) attempt_timeout: Duration,
}

/// One primary with its shadow, precomputed.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) primary: usize,
    pub(super) shadow: Option<usize>,
    /// Its primary's, with the part that panic has left to who serves its users.
    pub(super) weight: f64,
    pub(super) salt: u64,
    /// Positions below are the shadow's; by route class, then segment.
    pub(super) thresholds: Vec<u32>,
    /// Positions below, and not the shadow's, are on trial; by segment.
    pub(super) trial: Vec<u32>,
    /// What does not lie within the share may still go to the shadow when nobody else is left. Not when the shadow is
    /// full: shedding beats spreading the fire.
    pub(super) spills: bool,
    /// Failed requests, and those who find their primary gone, may go to the shadow.
    pub(super) lends: bool,
}

impl Target {
    pub(super) fn new(decided: &EndpointDecision, mode: Mode) -> Self {
        let weight = if decided.weight.is_finite() {
            decided.weight.max(1e-6)
        } else {
            1.0
        };
        let left = 1.0 - decided.risk.value();
        // In panic what is left of each is in its weight already, of which those on trial know nothing.
        let (penalty, part) = match mode {
            Mode::Panic => (1.0, panic::remaining(decided.risk)),
            Mode::Normal | Mode::Frozen => ((1.0 / (left * left)).min(PENALTY_MAX), 1.0),
        };
        Self {
            available: decided.available,
            accepts_failover: decided.accepts_failover,
            factor: penalty / weight,
            factor_on_trial: part / weight,
            weight,
            part,
            typical_us: decided.typical_us,
            attempt_timeout: decided.attempt_timeout,
        }
    }
}

impl Slot {
    pub(super) fn new(
        primary: usize,
        shadow: Option<usize>,
        decided: &EndpointDecision,
        parts: &[Share],
        endpoints: &[Target],
    ) -> Self {
        let segments = || (0..parts.len()).map(Some).chain([None]);
        let shift = decided.shift.as_ref().filter(|_| shadow.is_some());
        let share = shift.map_or(Share::ZERO, |shift| shift.share);
        let by_class = |shift: &ShiftDecision, class: usize| {
            shift
                .class_shares
                .get(class)
                .map_or(share, |own| if *own > share { *own } else { share })
        };
        let edge = Share::clamped(share.value() + decided.trial.value());
        let limits = |share: Share| segments().map(move |s| threshold(segment_share(share, parts, s)));
        let mut thresholds = Vec::with_capacity(ROUTE_CLASSES * (parts.len() + 1));
        thresholds.extend(limits(share));
        let of_all = thresholds.len();
        for class in 0..ROUTE_CLASSES {
            let own = shift.map_or(Share::ZERO, |shift| by_class(shift, class));
            // Mostly no class moves by itself.
            if own == share {
                thresholds.extend_from_within(..of_all);
            } else {
                thresholds.extend(limits(own));
            }
        }
        thresholds.drain(..of_all);
        Self {
            primary,
            shadow,
            weight: weight(
                endpoints.get(primary),
                shadow.and_then(|index| endpoints.get(index)),
                share,
            ),
            salt: shift.map_or(0, |shift| shift.salt),
            thresholds,
            trial: limits(edge).collect(),
            lends: shift.is_none_or(|shift| shift.failover),
            spills: shift.is_none_or(|shift| shift.bound != Bound::ShadowCapacity),
        }
    }

    pub(super) fn can_serve(&self, endpoints: &[Target]) -> bool {
        let available = |index: usize| endpoints.get(index).is_some_and(|target| target.available);
        available(self.primary)
            || self.shadow.is_some_and(available)
            || self.trial.iter().any(|edge| *edge > 0)
    }

    /// The shadow, for what its share does not send there.
    pub(super) fn lent(&self) -> Option<Pick> {
        self.shadow_pick(Why::FailedOver).filter(|_| self.lends)
    }

    pub(super) fn shadow_pick(&self, why: Why) -> Option<Pick> {
        self.shadow.map(|endpoint| Pick {
            endpoint,
            primary: self.primary,
            side: Side::Shadow,
            why,
        })
    }
}

fn weight(primary: Option<&Target>, shadow: Option<&Target>, share: Share) -> f64 {
    let Some(primary) = primary else { return 0.0 };
    let with_shadow = shadow.map_or(primary.part, |shadow| shadow.part);
    let part = primary.part + share.value() * (with_shadow - primary.part);
    primary.weight / primary.part * part
}
