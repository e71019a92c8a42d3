//! How far and how fast a share grows.

use std::time::Duration;

use foreshade_contract::{Risk, Share};

use crate::spec::ShiftPolicy;

/// Time in which a share doubles at low risk; a quarter of it at full risk.
const DOUBLING: Duration = Duration::from_secs(2);

/// How much better than the primary the shadow must be for more traffic to move.
pub(super) const BENEFIT: f64 = 0.10;

/// The share that a risk asks for: nothing at `release`, everything at `full`, straight in between.
pub(super) fn wanted(risk: Risk, policy: &ShiftPolicy) -> Share {
    Share::clamped(urgency(risk, policy))
}

/// The largest step up within `dt` seconds, for a proven shadow: doubling, faster with risk, from the canary's size
/// on.
pub(super) fn growth(share: Share, risk: Risk, dt: f64, policy: &ShiftPolicy) -> f64 {
    let doubling = DOUBLING.as_secs_f64() * 0.25f64.powf(urgency(risk, policy));
    let from = share.value().max(policy.canary.value());
    from * ((dt / doubling).exp2() - 1.0) + (from - share.value())
}

/// Whether more may move: the shadow is clearly better than the primary was at its worst.
pub(super) fn is_worth_it(shadow: Risk, primary_worst: Risk) -> bool {
    shadow.value() < primary_worst.value() - BENEFIT
}

fn urgency(risk: Risk, policy: &ShiftPolicy) -> f64 {
    let span = (policy.full - policy.release).max(1e-9);
    ((risk.value() - policy.release) / span).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // Invariants 3 and 4.
        #[test]
        fn the_wanted_share_rises_with_risk_and_not_steeper_than_the_policy(a in 0.0..=1.0f64, b in 0.0..=1.0f64) {
            let policy = ShiftPolicy::default();
            let (low, high) = (a.min(b), a.max(b));
            let step = wanted(Risk::clamped(high), &policy).value() - wanted(Risk::clamped(low), &policy).value();
            prop_assert!(step >= 0.0);
            prop_assert!(step <= (high - low) / (policy.full - policy.release) + 1e-12);
        }
    }

    #[test]
    fn a_proven_shadow_takes_over_in_two_to_nine_seconds() {
        let policy = ShiftPolicy::default();
        for (risk, low, high) in [(0.98, 1.8, 2.6), (0.15, 8.0, 9.0)] {
            let (mut share, mut seconds) = (policy.canary.value(), 0.0);
            while share < 1.0 {
                share += growth(Share::clamped(share), Risk::clamped(risk), 0.1, &policy);
                seconds += 0.1;
            }
            assert!((low..high).contains(&seconds), "{risk}: {seconds}");
        }
    }

    #[test]
    fn the_documented_risks_want_the_documented_shares() {
        let policy = ShiftPolicy::default();
        for (risk, share) in [(0.15, 0.0), (0.48, 0.47), (0.74, 0.84), (0.90, 1.0)] {
            assert!(
                (wanted(Risk::clamped(risk), &policy).value() - share).abs() < 0.01,
                "{risk}"
            );
        }
    }
}
