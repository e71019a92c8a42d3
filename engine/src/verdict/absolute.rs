//! The route for what is rare: instead of comparing, show that the shadow's own share of failures is below a ceiling.
//!
//! Where one request in a hundred thousand fails the ratio waits for days for its 600 events. The shadow's own
//! requests are evidence as well: 358 in a row without a failure exclude one percent at beta 5 % (299 would be the
//! rule of three, which holds for one look only). How many it takes is told beforehand ([`clean_requests`]).
//!
//! Where either way will do, the two e-values are averaged: a shadow that fails both hypotheses passes with probability
//! beta at most. Taking the larger one would pass it with twice that. Bursts are never collapsed here: that would make
//! failures fewer, and requests not.

use super::mixture::{Level, log_weighted_sum};
use super::policy::Proof;

/// More requests than this are never.
const REQUESTS_MAX: f64 = 1e12;

/// Nats of the proof that is asked for, of the evidence on the ratio and on the level; none where none is.
pub(super) fn proof_nats(
    proof: Proof,
    ratio: impl Fn(f64) -> f64,
    level: impl Fn(f64) -> f64,
) -> Option<f64> {
    match proof {
        Proof::Nothing => None,
        Proof::Ratio(margin) => Some(ratio(margin)),
        Proof::Ceiling(ceiling) => Some(level(ceiling)),
        Proof::Either {
            ratio: margin,
            ceiling,
        } => {
            let both = [(0.5, ratio(margin)), (0.5, level(ceiling))];
            log_weighted_sum(both.into_iter())
        }
    }
}

/// Requests without any failure that show at error probability `beta` that fewer than `ceiling` fail; none if they
/// would take for ever.
pub fn clean_requests(ceiling: f64, beta: f64) -> Option<u64> {
    requests_until(-beta.ln(), |requests| Level::below(ceiling).nats(requests, 0.0))
}

/// The fewest requests at which `nats` reaches `limit`; none where it does not.
#[expect(clippy::cast_possible_truncation, reason = "between 0 and a million million")]
pub(super) fn requests_until(limit: f64, nats: impl Fn(f64) -> f64) -> Option<u64> {
    let reached = |requests: f64| nats(requests) >= limit;
    let mut high = 1.0;
    while !reached(high) {
        high *= 2.0;
        if high > REQUESTS_MAX {
            return None;
        }
    }
    let mut low = 0.0;
    while high - low > 1.0 {
        let middle = ((low + high) / 2.0_f64).floor();
        if reached(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_is_told_beforehand_is_the_table() {
        // Research §3.4; a thousandth at beta 1 % comes to 5398 by these sums, where the table was cut off at 5397.
        for (ceiling, beta, requests) in [(0.01, 0.05, 358), (0.001, 0.05, 3591), (0.01, 0.01, 538)] {
            assert_eq!(clean_requests(ceiling, beta), Some(requests), "{ceiling} {beta}");
        }
        assert!(clean_requests(0.001, 0.01).unwrap().abs_diff(5397) <= 1);
    }

    #[test]
    fn what_is_never_reached_is_never() {
        assert_eq!(clean_requests(1e-13, 0.05), None);
        assert_eq!(requests_until(1.0, |_| f64::NAN), None);
    }

    #[test]
    fn either_is_the_mean_and_not_the_larger() {
        let either = Proof::Either {
            ratio: 1.5,
            ceiling: 0.01,
        };
        let nats = proof_nats(either, |_| 40f64.ln(), |_| f64::NEG_INFINITY).unwrap();
        assert!((nats - 20f64.ln()).abs() < 1e-12);
        assert_eq!(proof_nats(Proof::Nothing, |_| 9.0, |_| 9.0), None);
    }
}
