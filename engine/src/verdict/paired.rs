//! The gate of a mirror: both arms answered the same request, so only the pairs on which they disagree say anything.
//!
//! Where exactly one of the two answers is bad, it is the shadow's with probability one half if it is no worse
//! (McNemar): the test of [`super::mixture`] at a weight of one half. Pairs that agree are no evidence, so nothing is
//! learned from easy requests, and nothing has to be known about hard ones.
//!
//! The same test finds fields of an answer that changed: how often does the shadow differ from one primary where
//! another primary does not, and the reverse. There are many fields, so their e-values are compared by
//! [`e_benjamini_hochberg`].

use serde::{Deserialize, Serialize};

use super::Verdict;
use super::mixture::Ratio;
use super::tally::{EVENT, Tally, Weight};

/// How much slower one of two answers has to be before they disagree.
pub const SLACK: f64 = 0.25;

/// What a mirror is asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairedPolicy {
    /// P(ever "worse") of a shadow within the tolerance.
    pub alpha: f64,
    /// P(ever "not worse") of a shadow beyond the margin.
    pub beta: f64,
    /// Ratio of disagreements, against the shadow over against the primary, up to which it is tolerated.
    pub tolerance: f64,
    /// The same, from which on it must not pass.
    pub margin: f64,
}

/// How one pair of answers came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// Both good, both bad, or about as fast.
    Agree,
    /// Only the shadow's is bad.
    AgainstShadow,
    /// Only the primary's is bad.
    AgainstPrimary,
}

/// Judges pairs of answers. Serde: two integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paired {
    against_shadow: u64,
    against_primary: u64,
}

impl Default for PairedPolicy {
    fn default() -> Self {
        Self {
            alpha: 0.01,
            beta: 0.05,
            tolerance: 1.25,
            margin: 2.0,
        }
    }
}

impl PairedPolicy {
    /// Whether it can be followed: what is not a number cannot.
    pub fn is_sound(&self) -> bool {
        let probability = |value: f64| value > 0.0 && value < 1.0;
        probability(self.alpha)
            && probability(self.beta)
            && self.tolerance >= 1.0
            && self.margin > self.tolerance
    }
}

impl Pair {
    /// Of two answers that are good or bad.
    pub fn of(primary_bad: bool, shadow_bad: bool) -> Self {
        match (primary_bad, shadow_bad) {
            (false, true) => Self::AgainstShadow,
            (true, false) => Self::AgainstPrimary,
            _ => Self::Agree,
        }
    }

    /// Of two latencies in one unit. What is not a number agrees with everything.
    pub fn of_latencies(primary: f64, shadow: f64) -> Self {
        Self::of(primary > shadow * (1.0 + SLACK), shadow > primary * (1.0 + SLACK))
    }
}

impl Paired {
    /// Takes a pair.
    pub fn observe(&mut self, pair: Pair) {
        match pair {
            Pair::Agree => {}
            Pair::AgainstShadow => self.against_shadow = self.against_shadow.saturating_add(1),
            Pair::AgainstPrimary => self.against_primary = self.against_primary.saturating_add(1),
        }
    }

    /// Disagreements, `[against the primary, against the shadow]`.
    pub fn disagreements(self) -> [u64; 2] {
        [self.against_primary, self.against_shadow]
    }

    /// Nats of evidence that the shadow is worse than `tolerance`.
    pub fn worse_nats(self, tolerance: f64) -> f64 {
        Ratio::above(tolerance).nats(self.tally().for_worse())
    }

    /// Nats of evidence that it is better than `margin`.
    pub fn pass_nats(self, margin: f64) -> f64 {
        Ratio::below(margin).nats(self.tally().for_not_worse())
    }

    /// The answer now; undecided under a policy that is not sound.
    pub fn verdict(self, policy: &PairedPolicy) -> Verdict {
        if !policy.is_sound() {
            Verdict::Undecided
        } else if self.worse_nats(policy.tolerance) >= -policy.alpha.ln() {
            Verdict::Worse
        } else if self.pass_nats(policy.margin) >= -policy.beta.ln() {
            Verdict::NotWorse
        } else {
            Verdict::Undecided
        }
    }

    fn tally(self) -> Tally {
        let mut tally = Tally::default();
        if let Some(half) = Weight::of(0.5) {
            let events = self.against_shadow.saturating_add(self.against_primary);
            tally.add(
                half,
                events.saturating_mul(EVENT),
                self.against_shadow.saturating_mul(EVENT),
            );
        }
        tally
    }
}

/// Which hypotheses to reject so that at most `alpha` of those rejected are true, on average and under any dependence:
/// the `i` largest of `m` e-values where the `i`th is at least `m / (i alpha)` (Wang & Ramdas, JRSS-B 2022). Takes
/// nats and returns indices, strongest first; what is not a number is not rejected.
pub fn e_benjamini_hochberg(nats: &[f64], alpha: f64) -> Vec<usize> {
    let mut ranked: Vec<(usize, f64)> = nats
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, nats)| !nats.is_nan())
        .collect();
    ranked.sort_by(|one, other| other.1.total_cmp(&one.1));
    let enough = |(index, (_, nats)): (usize, &(usize, f64))| {
        *nats >= (ranked.len() as f64 / ((index + 1) as f64 * alpha)).ln()
    };
    let kept = ranked
        .iter()
        .enumerate()
        .rposition(enough)
        .map_or(0, |last| last + 1);
    ranked.into_iter().take(kept).map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paired(against_shadow: u64, against_primary: u64) -> Paired {
        Paired {
            against_shadow,
            against_primary,
        }
    }

    #[test]
    fn only_disagreement_counts() {
        let mut paired = Paired::default();
        for pair in [
            Pair::of(true, true),
            Pair::of(false, false),
            Pair::of_latencies(10.0, 12.0),
        ] {
            paired.observe(pair);
        }
        assert_eq!(paired, Paired::default());
        paired.observe(Pair::of(false, true));
        paired.observe(Pair::of_latencies(10.0, 13.0));
        paired.observe(Pair::of_latencies(13.0, 10.0));
        paired.observe(Pair::of_latencies(f64::NAN, 10.0));
        assert_eq!(paired.disagreements(), [1, 2]);
    }

    #[test]
    fn three_answers() {
        let policy = PairedPolicy::default();
        assert_eq!(Paired::default().verdict(&policy), Verdict::Undecided);
        assert_eq!(paired(20, 2).verdict(&policy), Verdict::Worse);
        assert_eq!(paired(40, 40).verdict(&policy), Verdict::NotWorse);
        assert_eq!(paired(15, 10).verdict(&policy), Verdict::Undecided);
        let unsound = PairedPolicy {
            margin: f64::NAN,
            ..policy
        };
        assert_eq!(paired(20, 2).verdict(&unsound), Verdict::Undecided);
    }

    #[test]
    fn of_many_fields_few_are_rejected_by_chance() {
        let sure = 1e6f64.ln();
        assert_eq!(e_benjamini_hochberg(&[0.0, sure, f64::NAN, 1.0], 0.05), [1]);
        assert_eq!(e_benjamini_hochberg(&[0.0; 100], 0.05), Vec::<usize>::new());
        // One by one 25 would be too little among ten; five of them together are enough.
        let five = [45f64.ln(); 5].into_iter().chain([0.0; 5]).collect::<Vec<_>>();
        assert_eq!(e_benjamini_hochberg(&five, 0.05).len(), 5);
        assert_eq!(e_benjamini_hochberg(&[], 0.05), Vec::<usize>::new());
    }
}
