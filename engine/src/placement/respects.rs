//! What a candidate is like in each respect: what was found, and how good that is, 0 to 1.
//!
//! What is not known scores in the middle: no better than average, no worse either. A respect for which there is no scale
//! counts for nothing.

use std::time::Duration;

use foreshade_contract::Name;
use serde::Serialize;

use super::globe::Site;
use super::{Candidate, Diversity, Need, PlacementPolicy};

/// The score of what is not known.
const UNKNOWN: f64 = 0.5;

/// Kilometres per millisecond of round trip: light in glass, there and back.
const KM_PER_MS: f64 = 100.0;

/// How much longer cables are than the great circle.
const DETOUR: f64 = 1.5;

/// As much again as is needed is as good as any more.
const CAPACITY_WANTED: f64 = 2.0;

/// In what respect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Respect {
    /// Kilometres to the primary.
    Distance,
    /// How many of zone and region are others than the primary's, of those that count.
    Diversity,
    /// Milliseconds of round trip to the users.
    Latency,
    /// Spare capacity, in multiples of what is needed.
    Capacity,
    /// Cost per hour.
    Cost,
}

/// One respect of one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Term {
    /// Which.
    pub respect: Respect,
    /// What was found, where something was.
    pub found: Option<f64>,
    /// How good that is, 0 to 1.
    pub score: f64,
    /// How much it counts.
    pub weight: f64,
}

/// All respects.
pub(super) fn terms(need: &Need<'_>, candidate: &Candidate, policy: &PlacementPolicy) -> Vec<Term> {
    let weights = policy.weights;
    let term = |respect, found: Option<f64>, weight: f64, score: &dyn Fn(f64) -> f64| {
        // What is no number was not measured.
        let found = found.filter(|found| found.is_finite());
        Term {
            respect,
            found,
            score: found.map_or(UNKNOWN, |found| score(found).clamp(0.0, 1.0)),
            weight: weight.max(0.0),
        }
    };
    let distance = need
        .primary
        .site
        .zip(candidate.place.site)
        .map(|(primary, own)| primary.distance_km(own));
    let wanted_ms = policy.latency_wanted.as_secs_f64() * 1000.0;
    let cost_weight = if policy.cost_max.is_some() {
        weights.cost
    } else {
        0.0
    };
    let diversity = diversity(need, candidate, policy);
    let diversity_weight = if diversity.is_some() {
        weights.diversity
    } else {
        0.0
    };
    vec![
        term(Respect::Distance, distance, weights.distance, &|km| {
            km / policy.distance_wanted_km.max(1.0)
        }),
        term(Respect::Diversity, diversity, diversity_weight, &|share| share),
        term(
            Respect::Latency,
            latency_ms(candidate, policy),
            weights.latency,
            &|ms| wanted_ms / ms.max(wanted_ms).max(1e-9),
        ),
        term(
            Respect::Capacity,
            times_needed(need, candidate, policy),
            weights.capacity,
            &|times| (times - 1.0) / (CAPACITY_WANTED - 1.0),
        ),
        term(Respect::Cost, candidate.cost, cost_weight, &|cost| {
            1.0 - cost / policy.cost_max.unwrap_or(1.0).max(1e-9)
        }),
    ]
}

/// Whether two names are known to be the same: what is not known is not known to be another.
pub(super) fn is_same(a: Option<&Name>, b: Option<&Name>) -> Option<bool> {
    a.zip(b).map(|(a, b)| a == b)
}

/// The part of zone and region that differs, of those that count and are known.
fn diversity(need: &Need<'_>, candidate: &Candidate, policy: &PlacementPolicy) -> Option<f64> {
    let (primary, own) = (need.primary, &candidate.place);
    let pairs = [
        (policy.zone, primary.zone.as_ref(), own.zone.as_ref()),
        (policy.region, primary.region.as_ref(), own.region.as_ref()),
    ];
    let known = pairs
        .into_iter()
        .filter(|(diversity, ..)| *diversity != Diversity::Ignored)
        .filter_map(|(_, a, b)| is_same(a, b));
    let (mut other, mut all) = (0.0, 0.0);
    for same in known {
        all += 1.0;
        other += if same { 0.0 } else { 1.0 };
    }
    (all > 0.0).then_some(other / all)
}

/// Measured, else estimated from where the users are.
fn latency_ms(candidate: &Candidate, policy: &PlacementPolicy) -> Option<f64> {
    if let Some(measured) = candidate.latency {
        return Some(Duration::as_secs_f64(&measured) * 1000.0);
    }
    let own = candidate.place.site?;
    let all: f64 = policy.users.iter().map(|(_, part)| part.max(0.0)).sum();
    let to_users = |(site, part): &(Site, f64)| part.max(0.0) * own.distance_km(*site) * DETOUR / KM_PER_MS;
    let sum: f64 = policy.users.iter().map(to_users).sum();
    (all > 0.0).then(|| sum / all)
}

/// How many times over the demand fits into the part of the spare capacity that it may fill.
fn times_needed(need: &Need<'_>, candidate: &Candidate, policy: &PlacementPolicy) -> Option<f64> {
    let usable = candidate.spare_rps? * policy.fill_max;
    if need.demand_rps <= 0.0 {
        return Some(CAPACITY_WANTED);
    }
    Some(usable / need.demand_rps)
}
