//! Advisories: somebody outside says that an endpoint is or will be in trouble (a maintenance window, a storm, a cloud's
//! status page).
//!
//! Hearsay may prepare and never commit: each advisory counts at most [`CAP`], fades with its half-life, and is gone at
//! its expiry, which is mandatory, so that a source that dies cannot hold traffic for ever. Sources are kept apart by
//! name; a newer word of the same source replaces its older one. When an endpoint has more than [`ADVISORIES_MAX`], the
//! one that expires first makes room.

use std::time::Duration;

use foreshade_contract::Risk;
use serde::{Deserialize, Serialize};

use crate::moment::Moment;

use super::combine::Finding;

/// The most that one advisory may count.
pub const CAP: f64 = 0.40;

/// Advisories kept per endpoint. More sources than this are not corroboration but noise.
pub const ADVISORIES_MAX: usize = 8;

/// What somebody says of an endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Advisory {
    /// Index of the endpoint in its cluster.
    pub endpoint: usize,
    /// Who says so. One advisory per source and endpoint is kept.
    pub source: String,
    /// Why, for the explanation.
    pub reason: String,
    /// The risk that the source sees.
    pub value: Risk,
    /// How far the source is believed, 0 to 1.
    pub trust: f64,
    /// Time in which the advisory loses half of its weight. Zero: it keeps its weight until it expires.
    pub half_life: Duration,
    /// When it was said.
    pub at: Moment,
    /// When it ends, whatever happens.
    pub expires: Moment,
}

/// The advisories on one endpoint.
#[derive(Debug, Default)]
pub struct Advisories {
    kept: Vec<Advisory>,
}

impl Advisories {
    /// Takes an advisory in place of an older one of the same source.
    pub fn handle(&mut self, advisory: Advisory) {
        self.kept.retain(|kept| kept.source != advisory.source);
        if self.kept.len() >= ADVISORIES_MAX {
            let first = self.kept.iter().enumerate().min_by_key(|(_, kept)| kept.expires);
            if let Some((place, _)) = first {
                self.kept.swap_remove(place);
            }
        }
        self.kept.push(advisory);
    }

    /// Those that are kept.
    pub fn all(&self) -> &[Advisory] {
        &self.kept
    }

    /// The findings that still count; what has expired is dropped.
    pub fn findings(&mut self, now: Moment) -> impl Iterator<Item = Finding> {
        self.kept.retain(|kept| kept.expires > now);
        self.kept.iter().map(move |kept| Finding {
            effect: kept.value.value(),
            evidence: kept.belief(now),
            observed: kept.value.value(),
            baseline: 0.0,
            samples: 1.0,
        })
    }
}

impl Advisory {
    /// How far it is believed by now: its trust, faded.
    fn belief(&self, now: Moment) -> f64 {
        let trust = if self.trust.is_nan() {
            0.0
        } else {
            self.trust.clamp(0.0, 1.0)
        };
        let half_life = self.half_life.as_secs_f64();
        if half_life <= 0.0 {
            return trust;
        }
        trust * (-now.seconds_since(self.at) / half_life).exp2()
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "nothing and everything are exact")]
mod tests {
    use super::*;

    fn second(n: u64) -> Moment {
        Moment::from_micros(n * 1_000_000)
    }

    fn advisory(source: &str, value: f64, expires: u64) -> Advisory {
        Advisory {
            endpoint: 0,
            source: source.into(),
            reason: "storm".into(),
            value: Risk::clamped(value),
            trust: 0.8,
            half_life: Duration::from_secs(60),
            at: second(0),
            expires: second(expires),
        }
    }

    fn total(advisories: &mut Advisories, at: u64) -> f64 {
        advisories
            .findings(second(at))
            .map(|finding| finding.effect * finding.evidence)
            .sum()
    }

    // Concept: endpoint-external
    #[test]
    fn an_advisory_fades_and_ends() {
        let mut advisories = Advisories::default();
        advisories.handle(advisory("weather", 1.0, 120));
        assert!((total(&mut advisories, 0) - 0.8).abs() < 1e-9);
        assert!((total(&mut advisories, 60) - 0.4).abs() < 1e-9);
        assert_eq!(total(&mut advisories, 120), 0.0);
    }

    #[test]
    fn a_source_has_one_word_and_sources_are_bounded() {
        let mut advisories = Advisories::default();
        advisories.handle(advisory("weather", 1.0, 120));
        advisories.handle(advisory("weather", 0.5, 120));
        assert!((total(&mut advisories, 0) - 0.4).abs() < 1e-9);
        for n in 0..100 {
            advisories.handle(advisory(&format!("source {n}"), 0.5, 200 + n));
        }
        assert_eq!(advisories.kept.len(), ADVISORIES_MAX);
    }
}
