//! Whether a field differs because of the target, or differs by itself.
//!
//! The idea is Diffy's (Twitter, 2015): answers carry times, numbers of requests and names of hosts, so two *good*
//! answers differ, too, and only what differs more often against the target than among primaries says something about the
//! target. A small share of the copies therefore goes to a primary. Diffy compares the two rates with fixed thresholds;
//! here the difference has to be larger than chance explains, so that the first few comparisons cannot condemn a field,
//! and a rare regression is found in time. That a field differs nearly always is no sign of noise: so does a broken one.
//!
//! The interval is Wilson's (1927), which holds for small numbers and for rates near 0 and 1.

use serde::Serialize;

/// Width of the intervals in standard deviations: 99 of 100 hold the truth. Each field asks anew with every copy, so the
/// usual 95 would be wrong too often.
const Z: f64 = 2.576;

/// What is known of a field that has differed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It differs more often than among primaries: because of the target.
    Differs,
    /// It has not been compared among primaries often enough to tell.
    Unclear,
    /// It differs among primaries, too, and no less than against the target.
    Noise,
}

/// How often something happened out of how many times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) happened: u64,
    pub(super) of: u64,
}

impl Rate {
    /// Where the true rate lies.
    fn interval(self) -> (f64, f64) {
        if self.of == 0 {
            return (0.0, 1.0);
        }
        let n = self.of as f64;
        let rate = (self.happened as f64 / n).min(1.0);
        let middle = rate + Z * Z / (2.0 * n);
        let half = Z * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        (
            ((middle - half) / scale).max(0.0),
            ((middle + half) / scale).min(1.0),
        )
    }
}

/// Judges a field by how often it differed against the target and among primaries.
pub(super) fn verdict(target: Rate, primaries: Rate) -> Verdict {
    let (least, _) = target.interval();
    let (_, most) = primaries.interval();
    if least > most {
        Verdict::Differs
    } else if primaries.happened > 0 {
        Verdict::Noise
    } else {
        Verdict::Unclear
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(happened: u64, of: u64) -> Rate {
        Rate { happened, of }
    }

    #[test]
    fn what_differs_among_primaries_as_often_is_noise() {
        for (target, primaries) in [
            (rate(1000, 1000), rate(20, 20)),
            (rate(500, 1000), rate(9, 20)),
            (rate(3, 1000), rate(1, 300)),
            (rate(1, 1), rate(1, 1)),
        ] {
            assert_eq!(
                verdict(target, primaries),
                Verdict::Noise,
                "{target:?} {primaries:?}"
            );
        }
    }

    #[test]
    fn what_differs_always_and_never_among_primaries_is_the_targets() {
        assert_eq!(verdict(rate(1000, 1000), rate(0, 30)), Verdict::Differs);
        assert_eq!(verdict(rate(1000, 1000), rate(3, 100)), Verdict::Differs);
        assert_eq!(verdict(rate(20, 1000), rate(0, 2000)), Verdict::Differs);
    }

    #[test]
    fn without_comparisons_among_primaries_nothing_is_known() {
        assert_eq!(verdict(rate(1000, 1000), rate(0, 0)), Verdict::Unclear);
        assert_eq!(verdict(rate(10, 1000), rate(0, 100)), Verdict::Unclear);
    }

    #[test]
    fn an_interval_holds_its_rate_and_narrows() {
        let mut width = 1.0;
        for n in [10, 100, 1000, 10_000] {
            let (least, most) = rate(n / 10, n).interval();
            assert!(least < 0.1 && 0.1 < most && most - least < width);
            width = most - least;
        }
    }
}
