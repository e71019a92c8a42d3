//! Which endpoint should be a primary's shadow: candidates held against a policy, each with the reason for its place.
//!
//! First what rules a candidate out (too near, same zone, too slow, too small, too dear, excluded, not fit), then a score:
//! a weighted mean of how well it does in each respect, 0 to 1. Every respect is scored on a scale that the policy fixes,
//! not on the spread among the candidates, so that a candidate that comes or goes changes nobody else's score.
//!
//! A shadow that stands is only replaced by one that is better by a margin, or when it is ruled out itself: bringing a
//! shadow up and in sync costs minutes, and one that changes with every measurement is never warm. Equal scores are
//! decided by name, so the choice does not depend on the order in which candidates are told.
//!
//! Distance is along the great circle (haversine, mean radius 6371.0 km: within 0.5 % of the ellipsoid, far below what a
//! policy can mean by "far enough"). Where no latency to the users was measured it is estimated from distance at 100 km
//! per millisecond of round trip (light in glass, both ways), times 1.5 for the way cables go.
// Concept: endpoint-shadow-choice

mod explain;
pub mod globe;
mod respects;

use std::time::Duration;

use foreshade_contract::Name;
use serde::{Deserialize, Serialize};

pub use self::explain::Exclusion;
pub use self::globe::{Site, SiteError};
pub use self::respects::{Respect, Term};

/// Most candidates of one choice; more are not looked at, and the choice says how many.
pub const CANDIDATES_MAX: usize = 1000;

/// Where an endpoint stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// On the globe, where that is known.
    pub site: Option<Site>,
    /// Its zone: what fails together through power, network or cooling.
    pub zone: Option<Name>,
    /// Its region: what fails together through weather or a bad rollout.
    pub region: Option<Name>,
}

/// An endpoint that could be a shadow.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub name: Name,
    /// Where it stands.
    pub place: Place,
    /// Round trip to the users, where it was measured.
    pub latency: Option<Duration>,
    /// Requests per second that it could take over, beyond what it serves already.
    pub spare_rps: Option<f64>,
    /// What it costs per hour, in whatever currency the policy thinks.
    pub cost: Option<f64>,
    /// It is there and not at risk itself.
    pub fit: bool,
    /// Whose shadow it is already, where it has to be one alone.
    pub taken_by: Option<Name>,
}

/// What a shadow has to be like.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacementPolicy {
    /// No nearer than this: what floods the one must not flood the other.
    pub distance_min_km: f64,
    /// Farther than this is no better.
    pub distance_wanted_km: f64,
    /// Whether the zone has to be another one.
    pub zone: Diversity,
    /// Whether the region has to be another one.
    pub region: Diversity,
    /// No slower to the users than this.
    pub latency_max: Option<Duration>,
    /// Faster to the users than this is no better.
    pub latency_wanted: Duration,
    /// Part of its spare capacity that the primary's demand may fill.
    pub fill_max: f64,
    /// No dearer than this per hour. It is also the scale on which cost is scored; without it cost counts for nothing.
    pub cost_max: Option<f64>,
    /// Never these.
    pub excluded: Vec<Name>,
    /// Where the users are, and how many of them, in parts of any whole.
    pub users: Vec<(Site, f64)>,
    /// How much each respect counts.
    pub weights: Weights,
    /// How much better another one has to be than the one that stands.
    pub margin: f64,
}

/// Whether something has to be another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Diversity {
    /// It has to.
    Required,
    /// It is better if it is.
    Preferred,
    /// It does not matter.
    Ignored,
}

/// How much each respect counts, relative to the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Distance to the primary.
    pub distance: f64,
    /// Another zone, another region.
    pub diversity: f64,
    /// Latency to the users.
    pub latency: f64,
    /// Capacity beyond what is needed.
    pub capacity: f64,
    /// Cost.
    pub cost: f64,
}

/// What a shadow is needed for.
#[derive(Clone, Debug, PartialEq)]
pub struct Need<'a> {
    /// Where the primary stands.
    pub primary: &'a Place,
    /// The primary's own name: it is no shadow of itself.
    pub name: &'a Name,
    /// Requests per second that it serves: an upper estimate.
    pub demand_rps: f64,
    /// The shadow that stands.
    pub current: Option<&'a Name>,
}

/// A choice, with how it came about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// The shadow; nobody, where every candidate is ruled out.
    pub shadow: Option<Name>,
    /// It is another one than stands.
    pub changed: bool,
    /// Why, in one sentence.
    pub reason: String,
    /// Every candidate, the best first, those that are ruled out last.
    pub judged: Vec<Judged>,
    /// Candidates that were not looked at, because there were too many.
    pub dropped: usize,
}

/// A candidate, and what is thought of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// Which one.
    pub name: Name,
    /// 0 to 1; 0 where it is ruled out.
    pub score: f64,
    /// Why it is ruled out, if it is.
    pub excluded: Option<Exclusion>,
    /// What it is like in each respect.
    pub terms: Vec<Term>,
    /// All of that in one sentence.
    pub sentence: String,
}

impl Default for PlacementPolicy {
    fn default() -> Self {
        Self {
            distance_min_km: 0.0,
            // Beyond the reach of one storm or one grid.
            distance_wanted_km: 500.0,
            zone: Diversity::Preferred,
            region: Diversity::Preferred,
            latency_max: None,
            latency_wanted: Duration::from_millis(20),
            // As the cap of a shift: see `ShiftPolicy`.
            fill_max: 0.8,
            cost_max: None,
            excluded: Vec::new(),
            users: Vec::new(),
            weights: Weights::default(),
            margin: 0.10,
        }
    }
}

impl Default for Weights {
    fn default() -> Self {
        // What keeps both from failing together counts half, what users notice every day the other half.
        Self {
            distance: 0.25,
            diversity: 0.25,
            latency: 0.25,
            capacity: 0.15,
            cost: 0.10,
        }
    }
}

/// Chooses.
pub fn choose(need: &Need<'_>, candidates: &[Candidate], policy: &PlacementPolicy) -> Choice {
    let looked_at = candidates.iter().take(CANDIDATES_MAX);
    let mut judged: Vec<Judged> = looked_at
        .map(|candidate| judge(need, candidate, policy))
        .collect();
    judged.sort_by(|a, b| {
        let fit_first = a.excluded.is_some().cmp(&b.excluded.is_some());
        fit_first
            .then_with(|| b.score.total_cmp(&a.score))
            .then_with(|| a.name.cmp(&b.name))
    });
    let best = judged.iter().find(|judged| judged.excluded.is_none());
    let current = need
        .current
        .map(|name| judged.iter().find(|judged| judged.name == *name));
    let (shadow, reason) = explain::decide(best, current, need.current, policy.margin);
    Choice {
        changed: shadow.as_ref() != need.current,
        shadow,
        reason,
        judged,
        dropped: candidates.len().saturating_sub(CANDIDATES_MAX),
    }
}

fn judge(need: &Need<'_>, candidate: &Candidate, policy: &PlacementPolicy) -> Judged {
    let terms = respects::terms(need, candidate, policy);
    let excluded = explain::exclusion(need, candidate, policy, &terms);
    let weight: f64 = terms.iter().map(|term| term.weight).sum();
    let sum: f64 = terms.iter().map(|term| term.weight * term.score).sum();
    let score = if excluded.is_none() && weight > 0.0 {
        sum / weight
    } else {
        0.0
    };
    Judged {
        name: candidate.name.clone(),
        sentence: explain::sentence(candidate, score, excluded.as_ref(), &terms),
        score,
        excluded,
        terms,
    }
}

#[cfg(test)]
mod tests;
