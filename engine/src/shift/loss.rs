//! What a user loses at an endpoint, as one number: to hold a shadow against the primary it would relieve.
//!
//! The scale is that of the risk's own hard and performance effects, but not cut off at 1: a shadow that fails 20 %
//! must still lose against a primary that fails 5 %, and win against one that fails 50 %. Errors count by their
//! logarithm between twice the baseline and 10 %, slowness by its logarithm between 1.25 and 3 times.
//!
//! Bounds are one-sided, 95 %. Few samples of a shadow are read with the prior that it is as good as the primary once
//! was, worth twenty samples: it has passed its probes. At least twenty live samples are asked for besides, so the
//! prior never decides alone.

use serde::{Deserialize, Serialize};

use crate::assessment::{Assessment, Group, TickEvidence};

/// One-sided 95 % of the normal distribution.
const Z95: f64 = 1.645;

/// Samples that the prior is worth.
const PRIOR: f64 = 20.0;

/// Components of risk that show in the share of failures and the slowdown themselves.
const SHOWN: [(Group, &str); 4] = [
    (Group::Hard, "errors"),
    (Group::Hard, "connections"),
    (Group::Gray, "disagreement"),
    (Group::Performance, "own_latency"),
];

/// Spread of the logarithm of latency that is assumed at least: that of a quiet service.
const LN_SPREAD_MIN: f64 = 0.5;

/// How well an endpoint did while it was well.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reference {
    /// Share of attempts that failed.
    pub(crate) bad: f64,
    /// Mean logarithm of latency in microseconds, if known.
    pub(crate) ln_us: Option<f64>,
}

/// A loss with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Loss {
    pub(super) lower: f64,
    pub(super) mean: f64,
    pub(super) upper: f64,
}

/// Evidence that has been added up since some moment.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Evidence {
    pub(super) total: f64,
    pub(super) bad: f64,
    served: f64,
    sum_ln_us: f64,
    sum_sq_ln_us: f64,
    sum_ln_ratio: f64,
    sum_sq_ln_ratio: f64,
}

impl Evidence {
    /// Adds a tick.
    pub(super) fn add(&mut self, tick: &TickEvidence) {
        self.total += f64::from(tick.total);
        self.bad += f64::from(tick.bad);
        self.served += f64::from(tick.served);
        self.sum_ln_us += tick.sum_ln_us;
        self.sum_sq_ln_us += tick.sum_sq_ln_us;
        self.sum_ln_ratio += tick.sum_ln_ratio;
        self.sum_sq_ln_ratio += tick.sum_sq_ln_ratio;
    }

    /// Lets all of it count for this part only.
    pub(super) fn fade(&mut self, part: f64) {
        for sum in [
            &mut self.total,
            &mut self.bad,
            &mut self.served,
            &mut self.sum_ln_us,
            &mut self.sum_sq_ln_us,
            &mut self.sum_ln_ratio,
            &mut self.sum_sq_ln_ratio,
        ] {
            *sum *= part;
        }
    }

    /// Attempts that were served.
    pub(super) fn served(&self) -> f64 {
        self.served
    }

    /// Wilson's interval for the share that failed: 0 to 1 where nothing is known.
    pub(super) fn bad_share(&self) -> (f64, f64) {
        if self.total <= 0.0 {
            return (0.0, 1.0);
        }
        let (n, zz) = (self.total, Z95 * Z95);
        let p = (self.bad / n).clamp(0.0, 1.0);
        let center = p + zz / (2.0 * n);
        let half = Z95 * (p * (1.0 - p) / n + zz / (4.0 * n * n)).sqrt();
        let scale = 1.0 + zz / n;
        (
            ((center - half) / scale).max(0.0),
            ((center + half) / scale).min(1.0),
        )
    }

    /// Mean logarithm of the slowdown against the endpoint's own baseline, with its standard error.
    pub(super) fn ln_slowdown(&self) -> Option<(f64, f64)> {
        mean_and_error(self.served, self.sum_ln_ratio, self.sum_sq_ln_ratio)
    }

    /// The loss of a shadow, against what its primary was while it was well.
    pub(super) fn loss(&self, reference: Reference) -> Loss {
        let base = reference.bad.clamp(0.000_1, 0.5);
        let n = PRIOR + self.total;
        let bad = (PRIOR * base + self.bad) / n;
        let bad_error = Z95 * (bad * (1.0 - bad) / (n + 1.0)).sqrt();
        let slow = mean_and_error(self.served, self.sum_ln_us, self.sum_sq_ln_us)
            .zip(reference.ln_us)
            .map_or((0.0, 0.0), |((mean, error), well)| (mean - well, Z95 * error));
        Loss {
            lower: loss(bad - bad_error, slow.0 - slow.1, base),
            mean: loss(bad, slow.0, base),
            upper: loss(bad + bad_error, slow.0 + slow.1, base),
        }
    }
}

impl Loss {
    /// No loss.
    pub(super) const NONE: Self = Self {
        lower: 0.0,
        mean: 0.0,
        upper: 0.0,
    };

    /// The loss of a primary, by its assessment. Risk counts as far as requests do not show what it is due to (a hang,
    /// a long queue, a forecast); what they show is measured on the same scale as at the shadow, or a primary that
    /// fails one in twenty would seem to be worse than anything.
    pub(super) fn of_primary(primary: &Assessment, reference: Reference) -> Self {
        let (lower, upper) = bad_bounds(primary);
        let base = reference.bad.max(primary.bad_baseline).clamp(0.000_1, 0.5);
        let slow = primary.slowdown.max(1.0).ln();
        let unseen: f64 = primary
            .terms
            .iter()
            .filter(|term| !SHOWN.contains(&(term.group, term.component)))
            .map(|term| term.hazard)
            .sum();
        let unseen = -(-unseen).exp_m1();
        Self {
            lower: loss(lower, slow, base).max(0.9 * unseen),
            mean: loss(f64::midpoint(lower, upper), slow, base).max(unseen),
            upper: loss(upper, slow, base).max(unseen),
        }
    }

    /// The larger of each.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            lower: self.lower.max(other.lower),
            mean: self.mean.max(other.mean),
            upper: self.upper.max(other.upper),
        }
    }
}

/// Bounds of the share of a primary's attempts that fail. Where errors are a cause of its risk, their term says what
/// they are since they began; the window of the last seconds would still dilute them with what was before.
pub(super) fn bad_bounds(primary: &Assessment) -> (f64, f64) {
    let errors = primary
        .terms
        .iter()
        .find(|term| term.group == Group::Hard && term.component == "errors" && term.samples > 0.0);
    if let Some(errors) = errors {
        let since = Evidence {
            total: errors.samples,
            bad: errors.observed * errors.samples,
            ..Evidence::default()
        };
        since.bad_share()
    } else if primary.bad.samples > 0.0 {
        (primary.bad.lower, primary.bad.upper)
    } else {
        (0.0, 0.0)
    }
}

fn loss(bad: f64, ln_slowdown: f64, base: f64) -> f64 {
    let floor = (2.0 * base).max(0.002);
    let errors = (bad.max(1e-9) / floor).ln() / (0.10f64.max(2.0 * floor) / floor).ln();
    let slowness = (ln_slowdown - 1.25f64.ln()) / (3.0f64.ln() - 1.25f64.ln());
    0.98 * errors.max(0.0) + 0.90 * slowness.max(0.0)
}

fn mean_and_error(n: f64, sum: f64, sum_sq: f64) -> Option<(f64, f64)> {
    if n < 1.0 {
        return None;
    }
    let mean = sum / n;
    let variance = (sum_sq / n - mean * mean).max(LN_SPREAD_MIN * LN_SPREAD_MIN);
    Some((mean, (variance / n).sqrt()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_scale_is_that_of_risk_and_goes_on_beyond_it() {
        let base = 0.001;
        assert!((loss(0.001, 2.0f64.ln(), base) - 0.48).abs() < 0.01);
        assert!((loss(0.10, 0.0, base) - 0.98).abs() < 0.001);
        assert!(loss(0.20, 0.0, base) > loss(0.05, 0.0, base));
        assert!(loss(0.50, 0.0, base) > loss(0.20, 0.0, base));
        assert!(loss(0.0, -1.0, base).abs() < f64::EPSILON);
    }

    #[test]
    fn a_hundred_and_fifty_clean_samples_prove_two_percent() {
        let mut evidence = Evidence::default();
        assert_eq!(evidence.bad_share(), (0.0, 1.0));
        evidence.total = 149.0;
        assert!(evidence.bad_share().1 < 0.02);
        evidence.total = 59.0;
        assert!(evidence.bad_share().1 < 0.05);
    }

    proptest! {
        #[test]
        fn more_failures_never_lower_a_loss(n in 1u32..500, k in 0u32..499, base in 0.0..0.2f64) {
            let k = k.min(n - 1);
            let with = |bad: u32| Evidence { total: f64::from(n), bad: f64::from(bad), ..Evidence::default() };
            let reference = Reference { bad: base, ln_us: None };
            let (fewer, more) = (with(k).loss(reference), with(k + 1).loss(reference));
            prop_assert!(more.mean >= fewer.mean && more.upper + 0.05 >= fewer.upper);
            prop_assert!(fewer.lower <= fewer.mean && fewer.mean <= fewer.upper);
            prop_assert!(with(k).bad_share().0 <= with(k + 1).bad_share().0);
        }
    }
}
