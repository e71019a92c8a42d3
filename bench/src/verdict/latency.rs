//! Claims about how long users wait, and about the harness that measures it.

use std::time::Duration;

use super::{P99_WINDOW, STEP, Verdict, ms, seconds};
use crate::load::record::{Outcome, Span, Window, micros};
use crate::run::Run;

/// A harness that was later than this for one request in a hundred has measured itself.
const LAG_MAX: Duration = Duration::from_millis(5);

impl Run {
    fn healthy_p99(&self) -> Option<u32> {
        self.records.window(self.healthy).map(|window| window.p99_us)
    }

    /// Windows over the last second, ending within `span`.
    fn p99s(&self, span: Span) -> impl Iterator<Item = Window> + '_ {
        self.records.sliding(span, P99_WINDOW, STEP)
    }

    pub(crate) fn p99_back(&self, times: f64, within: Duration) -> Verdict {
        let Some(healthy) = self.healthy_p99() else {
            return Verdict::new(false, "nothing measured");
        };
        let limit = f64::from(healthy) * times;
        // The window after the last one above is the first of the lasting recovery.
        let (mut peak, mut back_us) = (0, 0);
        for window in self.p99s(self.fault) {
            peak = peak.max(window.p99_us);
            if f64::from(window.p99_us) >= limit {
                back_us = window.span.to_us + micros(STEP) - self.fault.from_us;
            }
        }
        let context = format!("(peak {}, healthy {})", ms(peak), ms(healthy));
        if self.fault.from_us + back_us > self.fault.to_us {
            return Verdict::new(false, format!("not before the fault ended {context}"));
        }
        Verdict::new(
            back_us <= micros(within),
            format!("{} {context}", seconds(back_us)),
        )
    }

    pub(crate) fn p99_never_above(&self, times: f64) -> Verdict {
        let span = Span {
            from_us: self.fault.from_us,
            to_us: self.end_us,
        };
        let peak = self.p99s(span).map(|window| window.p99_us).max();
        let (Some(healthy), Some(peak)) = (self.healthy_p99(), peak) else {
            return Verdict::new(false, "nothing measured");
        };
        let factor = f64::from(peak) / f64::from(healthy.max(1));
        Verdict::new(
            factor <= times,
            format!("{factor:.2} x (peak {}, healthy {})", ms(peak), ms(healthy)),
        )
    }

    pub(crate) fn no_get_longer_than(&self, limit: Duration) -> Verdict {
        let gets = self
            .records
            .within(self.whole())
            .iter()
            .filter(|record| !record.post);
        match gets.map(|record| record.latency_us).max() {
            Some(longest) => Verdict::new(
                u64::from(longest) <= micros(limit),
                format!("at most {}", ms(longest)),
            ),
            None => Verdict::new(false, "nothing measured"),
        }
    }

    pub(crate) fn harness_on_time(&self) -> Verdict {
        let overrun = self
            .records
            .all()
            .iter()
            .filter(|record| record.outcome == Outcome::OVERRUN)
            .count();
        let holds = overrun == 0 && u64::from(self.lag.p99_us) <= micros(LAG_MAX);
        Verdict::new(
            holds,
            format!("p99 {} late, {overrun} not sent", ms(self.lag.p99_us)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::holds;
    use super::*;
    use crate::claim::{Claim, judge};
    use crate::run::tests::{played, steady};

    #[test]
    fn a_p99_is_back_when_the_last_second_was_good_and_not_before() {
        let slow_until = |end_ms| move |ms| if (10_000..end_ms).contains(&ms) { 50 } else { 10 };
        let run = played(slow_until(12_000), steady);
        let back = |ms| Claim::P99Back {
            times: 1.3,
            within: Duration::from_millis(ms),
        };
        assert!(holds(&back(3_100), &run));
        assert!(
            !holds(&back(2_500), &run),
            "two bad seconds and the second that still remembers them"
        );
    }

    #[test]
    fn a_p99_that_comes_back_and_leaves_again_is_not_back() {
        let run = played(
            |ms| {
                if (10_000..11_000).contains(&ms) || ms == 20_000 {
                    50
                } else {
                    10
                }
            },
            steady,
        );
        let back = Claim::P99Back {
            times: 1.3,
            within: Duration::from_secs(4),
        };
        assert!(holds(&back, &run), "one slow request in a thousand is not a p99");
        let again = played(|ms| if (20_000..20_100).contains(&ms) { 50 } else { 10 }, steady);
        assert!(!holds(&back, &again));
    }

    #[test]
    fn a_fault_that_users_feel_to_its_end_is_said_so() {
        let run = played(|ms| if ms >= 10_000 { 50 } else { 10 }, steady);
        let verdict = judge(
            &Claim::P99Back {
                times: 1.3,
                within: Duration::from_secs(60),
            },
            &run,
        );
        assert!(
            !verdict.holds && verdict.measured.starts_with("not before the fault ended"),
            "{verdict:?}"
        );
        assert!(!holds(&Claim::P99NeverAbove { times: 2.0 }, &run));
        assert!(holds(&Claim::P99NeverAbove { times: 5.0 }, &run));
    }

    #[test]
    fn a_harness_that_lags_gives_no_good_verdict() {
        let mut run = played(|_| 10, steady);
        assert!(holds(&Claim::HarnessOnTime, &run));
        run.lag.p99_us = 20_000;
        assert!(!holds(&Claim::HarnessOnTime, &run));
    }
}
