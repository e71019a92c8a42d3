//! What rules a candidate out, which one is taken, and both in words.

use std::fmt;

use foreshade_contract::Name;
use serde::Serialize;

use super::respects::{Respect, Term, is_same};
use super::{Candidate, Diversity, Judged, Need, PlacementPolicy};

/// Why a candidate is ruled out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "each variant and its numbers are the sentence that `Display` makes of it"
)]
pub enum Exclusion {
    Itself,
    ByName,
    Taken { by: Name },
    Unfit,
    TooNear { km: f64, min_km: f64 },
    DistanceUnknown { min_km: f64 },
    SameZone,
    ZoneUnknown,
    SameRegion,
    RegionUnknown,
    TooSlow { ms: f64, max_ms: f64 },
    TooSmall { times_needed: f64 },
    TooDear { cost: f64, max: f64 },
}

/// The first thing that rules it out. What is required and not known rules out too: it cannot be promised.
pub(super) fn exclusion(
    need: &Need<'_>,
    candidate: &Candidate,
    policy: &PlacementPolicy,
    terms: &[Term],
) -> Option<Exclusion> {
    if candidate.name == *need.name {
        return Some(Exclusion::Itself);
    }
    if policy.excluded.contains(&candidate.name) {
        return Some(Exclusion::ByName);
    }
    if let Some(by) = &candidate.taken_by {
        return Some(Exclusion::Taken { by: by.clone() });
    }
    if !candidate.fit {
        return Some(Exclusion::Unfit);
    }
    let found = |respect| {
        let mut of = terms.iter().filter(|term| term.respect == respect);
        of.next().and_then(|term| term.found)
    };
    too_near(found(Respect::Distance), policy.distance_min_km)
        .or_else(|| not_diverse(need, candidate, policy))
        .or_else(|| {
            let max_ms = policy.latency_max?.as_secs_f64() * 1000.0;
            let ms = found(Respect::Latency).filter(|ms| *ms > max_ms)?;
            Some(Exclusion::TooSlow { ms, max_ms })
        })
        .or_else(|| {
            let times_needed = found(Respect::Capacity).filter(|times| *times < 1.0)?;
            Some(Exclusion::TooSmall { times_needed })
        })
        .or_else(|| {
            let max = policy.cost_max?;
            let cost = candidate.cost.filter(|cost| *cost > max)?;
            Some(Exclusion::TooDear { cost, max })
        })
}

fn too_near(distance: Option<f64>, min_km: f64) -> Option<Exclusion> {
    match distance {
        _ if min_km <= 0.0 => None,
        None => Some(Exclusion::DistanceUnknown { min_km }),
        Some(km) if km < min_km => Some(Exclusion::TooNear { km, min_km }),
        Some(_) => None,
    }
}

fn not_diverse(need: &Need<'_>, candidate: &Candidate, policy: &PlacementPolicy) -> Option<Exclusion> {
    let (primary, own) = (need.primary, &candidate.place);
    let zone =
        (policy.zone == Diversity::Required).then(|| is_same(primary.zone.as_ref(), own.zone.as_ref()));
    let region =
        (policy.region == Diversity::Required).then(|| is_same(primary.region.as_ref(), own.region.as_ref()));
    match (zone, region) {
        (Some(Some(true)), _) => Some(Exclusion::SameZone),
        (Some(None), _) => Some(Exclusion::ZoneUnknown),
        (_, Some(Some(true))) => Some(Exclusion::SameRegion),
        (_, Some(None)) => Some(Exclusion::RegionUnknown),
        _ => None,
    }
}

/// Which one is taken, and why. `current` is what is thought of the one that stands: nothing, where none stands, and
/// nothing inside, where it is no candidate any more.
pub(super) fn decide(
    best: Option<&Judged>,
    current: Option<Option<&Judged>>,
    standing: Option<&Name>,
    margin: f64,
) -> (Option<Name>, String) {
    let Some(best) = best else {
        return (None, "every candidate is ruled out".to_owned());
    };
    let take = |reason: String| (Some(best.name.clone()), reason);
    let Some(standing) = standing else {
        return take(format!("{} scores {:.3}, the most", best.name, best.score));
    };
    match current.flatten() {
        None => take(format!(
            "{standing} is no candidate any more; {} scores {:.3}, the most",
            best.name, best.score
        )),
        Some(Judged {
            excluded: Some(why), ..
        }) => take(format!(
            "{standing} is ruled out ({why}); {} scores {:.3}, the most",
            best.name, best.score
        )),
        Some(current) if current.name == best.name => take(format!(
            "{standing} stands and scores {:.3}, the most",
            best.score
        )),
        Some(current) if best.score >= current.score + margin => take(format!(
            "{} scores {:.3} and {standing} {:.3}: better by at least the margin of {margin:.3}",
            best.name, best.score, current.score
        )),
        Some(current) => (
            Some(standing.clone()),
            format!(
                "{standing} stands with {:.3}; {} scores {:.3}, which is not better by the margin of {margin:.3}",
                current.score, best.name, best.score
            ),
        ),
    }
}

/// What is thought of a candidate, in one sentence.
pub(super) fn sentence(
    candidate: &Candidate,
    score: f64,
    excluded: Option<&Exclusion>,
    terms: &[Term],
) -> String {
    if let Some(why) = excluded {
        return format!("{} is ruled out: {why}", candidate.name);
    }
    let parts: Vec<String> = terms
        .iter()
        .filter(|term| term.weight > 0.0)
        .map(Term::to_string)
        .collect();
    format!("{} scores {score:.3}: {}", candidate.name, parts.join(", "))
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Itself => f.write_str("it is the primary itself"),
            Self::ByName => f.write_str("the policy excludes it by name"),
            Self::Taken { by } => write!(f, "it is the shadow of {by} already"),
            Self::Unfit => f.write_str("it is not there, or at risk itself"),
            Self::TooNear { km, min_km } => write!(
                f,
                "{km:.0} km from the primary, at least {min_km:.0} are required"
            ),
            Self::DistanceUnknown { min_km } => {
                write!(
                    f,
                    "its distance is not known, and at least {min_km:.0} km are required"
                )
            }
            Self::SameZone => f.write_str("it is in the primary's zone"),
            Self::ZoneUnknown => f.write_str("it is not known to be in another zone"),
            Self::SameRegion => f.write_str("it is in the primary's region"),
            Self::RegionUnknown => f.write_str("it is not known to be in another region"),
            Self::TooSlow { ms, max_ms } => {
                write!(f, "{ms:.0} ms from the users, at most {max_ms:.0} are allowed")
            }
            Self::TooSmall { times_needed } => {
                write!(f, "its spare capacity is {times_needed:.2} times what is needed")
            }
            Self::TooDear { cost, max } => {
                write!(f, "it costs {cost:.2} per hour, at most {max:.2} are allowed")
            }
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = match self.respect {
            Respect::Distance => ("distance", " km"),
            Respect::Diversity => ("diversity", ""),
            Respect::Latency => ("latency", " ms"),
            Respect::Capacity => ("capacity", " times what is needed"),
            Respect::Cost => ("cost", " per hour"),
        };
        match self.found {
            Some(found) if found >= 100.0 => write!(f, "{name} {found:.0}{unit}")?,
            Some(found) => write!(f, "{name} {found:.2}{unit}")?,
            None => write!(f, "{name} unknown")?,
        }
        write!(f, " ({:.2})", self.score)
    }
}
