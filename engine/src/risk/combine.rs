//! From components to one risk: noisy-or over causes, the strongest component inside each.
//!
//! `R = 1 - exp(-sum h)`, `h = -ln(1 - weight * effect * evidence)`. Monotone, bounded, zero where nothing was found; one
//! strong cause is enough and weak ones corroborate; a missing input is a zero. A mean would dilute, a maximum would lose
//! corroboration, a trained model would want labels. Because hazards add up, the list of terms *is* the explanation.

use crate::assessment::{Group, Term};

/// What a component found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Finding {
    /// How large, 0 to 1.
    pub effect: f64,
    /// How certain, 0 to 1.
    pub evidence: f64,
    /// What was seen.
    pub observed: f64,
    /// What it is held against.
    pub baseline: f64,
    /// Samples behind it.
    pub samples: f64,
}

/// The components of one endpoint in one tick.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<(Group, &'static str, Finding)>,
    /// Averaged, in a simulation without the law above.
    averaged: bool,
}

/// How far a cause can be trusted to mean trouble for users.
pub fn weight(group: Group) -> f64 {
    match group {
        // Not 1: a hazard has to stay finite.
        Group::Hard => 0.98,
        Group::Performance => 0.90,
        Group::Gray => 0.85,
        // Loss and jitter that do not show in latency hurt little.
        Group::Network => 0.60,
        // A full endpoint may still serve.
        Group::Resource => 0.50,
        // A forecast prepares; what it may move is capped where shares are decided.
        Group::Trend => 0.60,
        Group::External => super::external::CAP,
    }
}

impl Findings {
    /// Empties the list and keeps its memory.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Averages the causes that found anything from now on; see [`crate::ablation::Part::MeanRisk`].
    pub(crate) fn average(&mut self, averaged: bool) {
        self.averaged = averaged;
    }

    /// Adds a component, if it found anything.
    pub fn add(&mut self, group: Group, component: &'static str, finding: Finding) {
        if finding.effect > 0.0 && finding.evidence > 0.0 {
            self.list.push((group, component, finding));
        }
    }

    /// The terms, strongest first, and the risk they amount to.
    pub fn combine(&self) -> (Vec<Term>, f64) {
        let mut terms: Vec<Term> = self.list.iter().map(term).collect();
        terms.sort_by(|a, b| b.hazard.total_cmp(&a.hazard));
        let mut sum = 0.0;
        let mut counted = [false; Group::ALL.len()];
        for term in &mut terms {
            let seen = counted.get_mut(term.group as usize);
            if seen.is_some_and(|seen| std::mem::replace(seen, true)) {
                term.hazard = 0.0;
            }
            sum += term.hazard;
        }
        if self.averaged {
            sum = average(&mut terms);
        }
        terms.sort_by(|a, b| b.hazard.total_cmp(&a.hazard));
        (terms, -(-sum).exp_m1())
    }
}

/// Makes the hazards those of the mean risk of all causes, and returns their sum.
fn average(terms: &mut [Term]) -> f64 {
    let sick = || terms.iter().filter(|term| term.hazard > 0.0);
    let causes = sick().count().max(1) as f64;
    let mean = sick().map(|term| -(-term.hazard).exp_m1()).sum::<f64>() / causes;
    let (before, after) = (sick().map(|term| term.hazard).sum::<f64>(), -(-mean).ln_1p());
    for term in terms {
        term.hazard *= after / before.max(f64::MIN_POSITIVE);
    }
    after
}

fn term(&(group, component, finding): &(Group, &'static str, Finding)) -> Term {
    Term {
        group,
        component,
        effect: finding.effect,
        evidence: finding.evidence,
        hazard: -(-weight(group) * finding.effect * finding.evidence).ln_1p(),
        observed: finding.observed,
        baseline: finding.baseline,
        samples: finding.samples,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // Concept: endpoint-risk-score
        #[test]
        fn hazards_add_up_to_the_risk(parts in proptest::collection::vec((0usize..7, 0.0f64..1.0, 0.0f64..1.0), 0..20)) {
            let mut findings = Findings::default();
            for (group, effect, evidence) in parts {
                findings.add(Group::ALL[group], "x", Finding { effect, evidence, ..Finding::default() });
            }
            let (terms, risk) = findings.combine();
            let sum: f64 = terms.iter().map(|t| t.hazard).sum();
            prop_assert!((risk - (1.0 - (-sum).exp())).abs() < 1e-9);
            prop_assert!((0.0..1.0).contains(&risk));
            for group in Group::ALL {
                prop_assert!(terms.iter().filter(|t| t.group == group && t.hazard > 0.0).count() <= 1);
            }
            prop_assert!(terms.is_sorted_by(|a, b| a.hazard >= b.hazard));
        }

        #[test]
        fn every_component_only_adds(effect in 0.0f64..1.0, more in 0.0f64..1.0, group in 0usize..7) {
            let mut findings = Findings::default();
            findings.add(Group::Performance, "x", Finding { effect, evidence: 1.0, ..Finding::default() });
            let before = findings.combine().1;
            findings.add(Group::ALL[group], "y", Finding { effect: more, evidence: 1.0, ..Finding::default() });
            prop_assert!(findings.combine().1 >= before);
        }
    }
}
