//! What a run left behind, and whether it keeps a claim.
//!
//! Pure: a run is records, samples and a ledger. Conventions, the same for all claims: a p99 is that of all users over the
//! last second (some 1200 requests), so it looks back and notices a recovery late; a share of traffic is counted at the
//! endpoints over half a second that looks forward; "within" counts from just before the fault is set.

use std::time::Duration;

use crate::farm::EndpointCounts;
use crate::farm::ledger::LedgerReport;
use crate::load::Lag;
use crate::load::record::{Outcome, Record, Records, Span, Window, micros};
use crate::stage::timeline::Timeline;
use crate::stage::topology::Pair;

/// Users' p99 is that of the last second.
const P99_WINDOW: Duration = Duration::from_secs(1);

/// A share of traffic is counted over this.
const TRAFFIC_WINDOW: Duration = Duration::from_millis(500);

/// Step of sliding windows.
const STEP: Duration = Duration::from_millis(100);

/// Traffic is back once an endpoint carries this part of what it carried before; half a second of Poisson arrivals
/// scatters by some 8 %, and its share of a balanced whole moves a little.
const BACK: f64 = 0.8;

/// What may reach a standby without anything having been shifted: single requests that failed and were tried again.
const STRAY: f64 = 0.01;

/// Under this part of a fair share an endpoint counts as starved. At the lowest load of the scenarios, 75 requests per
/// second and endpoint, chance alone stays above it for longer than the scenario lasts (5 standard deviations).
const STARVED: f64 = 0.4;

/// A harness that was later than this for one request in a hundred has measured itself.
const LAG_MAX: Duration = Duration::from_millis(5);

/// Everything a run left behind.
#[derive(Debug, Default)]
pub struct Run {
    /// What users saw.
    pub records: Records,
    /// What was seen of endpoints and proxy.
    pub timeline: Timeline,
    /// What took effect.
    pub ledger: LedgerReport,
    /// How well the load kept its schedule.
    pub lag: Lag,
    /// All primaries.
    pub pairs: Vec<Pair>,
    /// Index in `pairs` of the endpoint that the claims are about.
    pub faulty: usize,
    /// The end of the warm-up: what everything is compared with.
    pub healthy: Span,
    /// From just before the fault was set until it was healed.
    pub fault: Span,
    /// End of the load.
    pub end_us: u64,
}

/// Whether a claim held, and the number that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it held.
    pub holds: bool,
    /// What was measured.
    pub measured: String,
}

impl Verdict {
    fn new(holds: bool, measured: impl Into<String>) -> Self {
        Self {
            holds,
            measured: measured.into(),
        }
    }
}

fn ms(us: u32) -> String {
    format!("{:.1} ms", f64::from(us) / 1e3)
}

fn seconds(us: u64) -> String {
    format!("{:.1} s", us as f64 / 1e6)
}

impl Run {
    /// From the end of the warm-up to the end of the load: what claims without a span of their own cover.
    fn whole(&self) -> Span {
        Span {
            from_us: self.healthy.from_us,
            to_us: self.end_us,
        }
    }

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
        let peak = self
            .p99s(self.fault)
            .map(|window| window.p99_us)
            .max()
            .unwrap_or_default();
        let above = self
            .p99s(self.fault)
            .filter(|window| f64::from(window.p99_us) >= limit);
        // The window after the last one above is the first of the lasting recovery.
        let back_us = above
            .last()
            .map_or(0, |last| last.span.to_us + micros(STEP) - self.fault.from_us);
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

    /// At most `allowed` of the selected requests failed.
    pub(crate) fn fails(&self, select: impl Fn(&Record) -> bool, allowed: u64) -> Verdict {
        let asked: Vec<_> = self
            .records
            .within(self.whole())
            .iter()
            .filter(|record| select(record))
            .collect();
        let failed: Vec<_> = asked.iter().filter(|record| record.outcome.failed()).collect();
        let mut measured = format!("{} of {}", failed.len(), asked.len());
        if let Some(first) = failed.first() {
            let at_s = (first.intended_us as f64 - self.fault.from_us as f64) / 1e6;
            let method = if first.post { "POST" } else { "GET" };
            measured += &format!(" (first: {method}, {}, {at_s:+.2} s)", first.outcome);
        }
        Verdict::new(!asked.is_empty() && failed.len() as u64 <= allowed, measured)
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

    pub(crate) fn only_lost_posts_fail(&self) -> Verdict {
        let lost: u64 = self
            .timeline
            .0
            .last()
            .map_or(0, |last| last.counts.values().map(|c| c.posts_lost).sum());
        let gets = self.fails(|record| !record.post, 0);
        let posts = self.fails(|record| record.post, lost);
        let measured = format!("GET {}, POST {}, {lost} lost", gets.measured, posts.measured);
        Verdict::new(gets.holds && posts.holds, measured)
    }

    fn faulty_pair(&self) -> (&str, Option<&str>) {
        self.pairs
            .get(self.faulty)
            .map_or(("", None), |pair| (&pair.primary, pair.shadow.as_deref()))
    }

    pub(crate) fn traffic_under(&self, share: f64, within: Duration) -> Verdict {
        let (primary, _) = self.faulty_pair();
        let usual = self.timeline.rate(primary, self.healthy);
        if usual <= 0.0 {
            return Verdict::new(false, "it had no traffic to begin with");
        }
        let part = |span| self.timeline.rate(primary, span) / usual;
        let over = Timeline::spans(self.fault, TRAFFIC_WINDOW)
            .filter(|span| part(*span) >= share)
            .last();
        let under_us = over.map_or(0, |span| span.from_us + micros(STEP) - self.fault.from_us);
        if self.fault.from_us + under_us + micros(TRAFFIC_WINDOW) > self.fault.to_us {
            let last = Span {
                from_us: self.fault.to_us - micros(P99_WINDOW),
                ..self.fault
            };
            return Verdict::new(false, format!("still {:.0} % in the end", part(last) * 100.0));
        }
        Verdict::new(under_us <= micros(within), seconds(under_us))
    }

    pub(crate) fn only_path_moves(&self, path: usize) -> Verdict {
        let (primary, shadow) = self.faulty_pair();
        let late = Span {
            from_us: self.fault.to_us.saturating_sub(4_000_000),
            ..self.fault
        };
        let of_path = |counts: &EndpointCounts| counts.by_path.get(path).copied().unwrap_or(0);
        let of_others = |counts: &EndpointCounts| counts.requests() - of_path(counts);
        // Against an endpoint's fair part of all requests of a kind, because a request may leave for the standby or for
        // another primary, as balancing finds best.
        let left = |span, select: &dyn Fn(&EndpointCounts) -> u64| {
            let at = |name: &str| self.timeline.requests(name, span, select);
            let shadows = self.pairs.iter().filter_map(|pair| pair.shadow.as_deref());
            let all: f64 = self
                .pairs
                .iter()
                .map(|pair| pair.primary.as_str())
                .chain(shadows)
                .map(at)
                .sum();
            1.0 - at(primary) * self.pairs.len() as f64 / all.max(1.0)
        };
        let (that, others) = (left(late, &of_path), left(self.fault, &of_others));
        let standby = shadow.map_or(0.0, |shadow| {
            self.timeline.requests(shadow, self.fault, of_others)
        });
        let measured = format!(
            "{:.0} % of that path left, {:.0} % of the others, {standby:.0} of them for the standby",
            that * 100.0,
            others * 100.0
        );
        let stray = STRAY
            * self
                .timeline
                .requests(primary, self.fault, EndpointCounts::requests);
        Verdict::new(
            that >= 0.5 && others <= 1.0 - STARVED && standby <= 2.0 * stray,
            measured,
        )
    }

    pub(crate) fn no_shift(&self) -> Verdict {
        let whole = self.whole();
        if self.timeline.views(whole).next().is_none() {
            return Verdict::new(false, "the proxy showed no endpoints");
        }
        let share = self
            .timeline
            .views(whole)
            .map(|view| view.share_max())
            .fold(0.0, f64::max);
        let requests = |name: &str| self.timeline.requests(name, whole, EndpointCounts::requests);
        let shadows: f64 = self
            .pairs
            .iter()
            .filter_map(|pair| pair.shadow.as_deref())
            .map(requests)
            .sum();
        let all = shadows + self.pairs.iter().map(|pair| requests(&pair.primary)).sum::<f64>();
        let measured = format!(
            "share at most {:.1} %, {shadows:.0} requests on standbys",
            share * 100.0
        );
        Verdict::new(share <= 0.0 && shadows <= STRAY * all, measured)
    }

    pub(crate) fn no_ejection(&self) -> Verdict {
        let out = self
            .timeline
            .views(self.whole())
            .find(|view| view.role == "primary" && view.available == Some(false));
        if let Some(out) = out {
            return Verdict::new(false, format!("{} was left out", out.name));
        }
        // Fair is relative to the others at the same time, since the load may vary.
        let least = Timeline::spans(self.whole(), P99_WINDOW).filter_map(|span| {
            let rates: Vec<_> = self
                .pairs
                .iter()
                .map(|pair| self.timeline.rate(&pair.primary, span))
                .collect();
            let mean = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
            (mean > 0.0).then(|| rates.iter().copied().fold(f64::INFINITY, f64::min) / mean)
        });
        let least = least.fold(f64::INFINITY, f64::min);
        Verdict::new(
            least.is_finite() && least >= STARVED,
            format!("never under {:.0} % of a fair part", least * 100.0),
        )
    }

    pub(crate) fn canary_at_most(&self, share: f64, lasting: Duration) -> Verdict {
        let (primary, _) = self.faulty_pair();
        let views = self
            .timeline
            .views(self.fault)
            .filter(|view| view.name == primary);
        let seen = views.map(|view| view.share_max()).fold(0.0, f64::max);
        let shifted: Vec<u64> = self
            .timeline
            .within(self.fault)
            .filter(|sample| {
                let views = sample.views.iter().flatten();
                views
                    .filter(|view| view.name == primary)
                    .any(|view| view.share_max() > 0.0)
            })
            .map(|sample| sample.at_us)
            .collect();
        let lasted_us = match (shifted.first(), shifted.last()) {
            (Some(first), Some(last)) => last - first,
            _ => 0,
        };
        // Two samples of slack: the first and the last share lie somewhere between two looks. Requests that fail at the
        // primary and go to its standby one by one are no canary, and not counted.
        let holds = seen <= share + 1e-9 && lasted_us <= micros(lasting) + 2 * micros(STEP);
        Verdict::new(
            holds,
            format!("at most {:.1} %, for {}", seen * 100.0, seconds(lasted_us)),
        )
    }

    /// When, after the end of the fault, traffic was first back. `None`: not yet.
    pub fn back_us(&self) -> Option<u64> {
        let after = Span {
            from_us: self.fault.to_us,
            to_us: self.timeline.0.last()?.at_us,
        };
        let back = |span: &Span| {
            self.pairs.iter().all(|pair| {
                let usual = self.timeline.rate(&pair.primary, self.healthy);
                let now = self.timeline.rate(&pair.primary, *span);
                let strayed = pair
                    .shadow
                    .as_deref()
                    .map_or(0.0, |shadow| self.timeline.rate(shadow, *span));
                now >= BACK * usual && strayed <= STRAY * usual
            })
        };
        let first = Timeline::spans(after, P99_WINDOW).find(back)?;
        Some(first.from_us - after.from_us)
    }

    pub(crate) fn back_within(&self, limit: Duration) -> Verdict {
        match self.back_us() {
            Some(back_us) => Verdict::new(back_us <= micros(limit), seconds(back_us)),
            None => Verdict::new(
                false,
                format!("not after {}", seconds(self.end_us - self.fault.to_us)),
            ),
        }
    }

    pub(crate) fn no_post_twice(&self) -> Verdict {
        let answered = self
            .records
            .all()
            .iter()
            .filter(|record| record.post && !record.outcome.failed())
            .count();
        let ledger = &self.ledger;
        let holds = ledger.repeats == 0 && ledger.forgotten == 0 && ledger.writes >= answered as u64;
        let mut measured = format!("{} of {} twice", ledger.repeats, ledger.writes);
        if let Some(repeat) = ledger.kept.first() {
            measured += &format!(" (first: number {})", repeat.number);
        }
        if ledger.writes < answered as u64 {
            measured += &format!(", {} answered without effect", answered as u64 - ledger.writes);
        }
        Verdict::new(holds, measured)
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
    use super::*;
    use crate::claim::{Claim, judge};
    use crate::load::record::tests::get;
    use crate::stage::admin::EndpointView;
    use crate::stage::timeline::Sample;

    const HEALTHY: Span = Span {
        from_us: 3_000_000,
        to_us: 10_000_000,
    };
    const FAULT: Span = Span {
        from_us: 10_000_000,
        to_us: 22_000_000,
    };
    const END_US: u64 = 40_000_000;

    /// A run in which users see `latency_ms(at_ms)`, a GET each millisecond, and in which the primary `b` and its
    /// shadow `s` serve `rates(at_ms)` requests per second while `a` serves 100.
    fn played(latency_ms: impl Fn(u64) -> u32, rates: impl Fn(u64) -> (u64, u64)) -> Run {
        let records: Vec<_> = (0..END_US / 1_000)
            .map(|ms| get(ms, latency_ms(ms), 200))
            .collect();
        let mut done = [0, 0, 0];
        let samples = (0..=END_US / 100_000).map(|tick| {
            let counted = |requests: u64| EndpointCounts {
                by_path: [requests, 0, 0, 0, 0, 0],
                ..Default::default()
            };
            let counts = ["a", "b", "s"]
                .iter()
                .zip(done)
                .map(|(name, done)| ((*name).to_owned(), counted(done)));
            let (primary, shadow) = rates(tick * 100);
            let share = shadow as f64 / (primary + shadow).max(1) as f64;
            let view = EndpointView {
                name: "b".into(),
                role: "primary".into(),
                share,
                ..Default::default()
            };
            let sample = Sample {
                at_us: tick * 100_000,
                counts: counts.collect(),
                views: Some(vec![view]),
            };
            done = [done[0] + 10, done[1] + primary / 10, done[2] + shadow / 10];
            sample
        });
        let pairs = vec![
            Pair {
                primary: "a".into(),
                shadow: None,
            },
            Pair {
                primary: "b".into(),
                shadow: Some("s".into()),
            },
        ];
        Run {
            timeline: Timeline(samples.collect()),
            records: Records::from(records),
            pairs,
            faulty: 1,
            healthy: HEALTHY,
            fault: FAULT,
            end_us: END_US,
            ..Run::default()
        }
    }

    fn steady(_: u64) -> (u64, u64) {
        (100, 0)
    }

    fn holds(claim: &Claim, run: &Run) -> bool {
        judge(claim, run).holds
    }

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
    fn traffic_counts_as_gone_from_the_moment_that_it_stays_away() {
        let run = played(
            |_| 10,
            |ms| {
                if (10_800..22_000).contains(&ms) {
                    (0, 100)
                } else {
                    (100, 0)
                }
            },
        );
        let under = |ms| Claim::TrafficUnder {
            share: 0.05,
            within: Duration::from_millis(ms),
        };
        assert!(holds(&under(1_000), &run));
        assert!(!holds(&under(500), &run));
        let never = played(|_| 10, steady);
        assert_eq!(judge(&under(1_000), &never).measured, "still 100 % in the end");
    }

    #[test]
    fn traffic_is_back_when_the_primary_has_it_and_the_shadow_does_not() {
        let run = played(
            |_| 10,
            |ms| match ms {
                0..10_000 => (100, 0),
                10_000..30_000 => (0, 100),
                30_000..32_000 => (90, 10),
                _ => (100, 0),
            },
        );
        assert!(holds(&Claim::BackWithin(Duration::from_secs(11)), &run));
        assert!(!holds(&Claim::BackWithin(Duration::from_secs(9)), &run));
    }

    #[test]
    fn a_shift_is_seen_at_the_endpoints_and_in_the_share() {
        assert!(holds(&Claim::NoShift, &played(|_| 10, steady)));
        assert!(!holds(
            &Claim::NoShift,
            &played(|_| 10, |ms| if ms > 30_000 { (90, 10) } else { (100, 0) })
        ));
        let mut blind = played(|_| 10, steady);
        blind.timeline.0.iter_mut().for_each(|sample| sample.views = None);
        assert!(
            !holds(&Claim::NoShift, &blind),
            "what was not seen is not claimed"
        );
    }

    #[test]
    fn an_endpoint_that_is_starved_counts_as_ejected() {
        assert!(holds(&Claim::NoEjection, &played(|_| 10, steady)));
        assert!(!holds(
            &Claim::NoEjection,
            &played(|_| 10, |ms| if ms > 30_000 { (10, 0) } else { (100, 0) })
        ));
    }

    #[test]
    fn a_canary_has_a_size_and_an_end() {
        let canary = |until_ms| {
            move |ms| {
                if (12_000..until_ms).contains(&ms) {
                    (190, 10)
                } else {
                    (200, 0)
                }
            }
        };
        let claim = Claim::CanaryAtMost {
            share: 0.05,
            lasting: Duration::from_secs(2),
        };
        assert!(holds(&claim, &played(|_| 10, canary(13_500))));
        assert!(!holds(&claim, &played(|_| 10, canary(15_000))));
        assert!(!holds(
            &claim,
            &played(
                |_| 10,
                |ms| if (12_000..13_000).contains(&ms) {
                    (80, 20)
                } else {
                    (100, 0)
                }
            )
        ));
    }

    #[test]
    fn failures_count_by_method() {
        let mut run = played(|_| 10, steady);
        let mut records = run.records.all().to_vec();
        records[12_000].outcome = Outcome::CUT;
        records[12_000].post = true;
        run.records = Records::from(records);
        assert!(holds(&Claim::NoGetFails, &run));
        assert!(!holds(&Claim::NothingFails, &run));
        assert!(!holds(&Claim::OnlyLostPostsFail, &run), "the endpoint lost none");
        let last = run.timeline.0.last_mut().unwrap();
        last.counts.get_mut("b").unwrap().posts_lost = 1;
        assert!(holds(&Claim::OnlyLostPostsFail, &run));
    }

    #[test]
    fn a_post_without_effect_is_as_bad_as_one_with_two() {
        let mut run = played(|_| 10, steady);
        assert!(holds(&Claim::NoPostTwice, &run));
        run.ledger = LedgerReport {
            writes: 2,
            repeats: 1,
            ..Default::default()
        };
        assert!(!holds(&Claim::NoPostTwice, &run));
        run.ledger = LedgerReport::default();
        let mut records = run.records.all().to_vec();
        records[0].post = true;
        run.records = Records::from(records);
        assert!(!holds(&Claim::NoPostTwice, &run));
    }

    #[test]
    fn a_harness_that_lags_gives_no_good_verdict() {
        let mut run = played(|_| 10, steady);
        assert!(holds(&Claim::HarnessOnTime, &run));
        run.lag.p99_us = 20_000;
        assert!(!holds(&Claim::HarnessOnTime, &run));
    }

    #[test]
    fn only_the_sick_path_may_move() {
        let mut run = played(|_| 10, steady);
        let sick = |run: &mut Run, path: usize| {
            for (tick, sample) in run.timeline.0.iter_mut().enumerate() {
                let primary = [9 * tick as u64, 0, 0, 0, (tick as u64).min(110), 0];
                sample.counts.get_mut("b").unwrap().by_path = primary;
                let mut shadow = [0; 6];
                shadow[path] = (tick as u64).saturating_sub(110);
                sample.counts.get_mut("s").unwrap().by_path = shadow;
            }
        };
        sick(&mut run, 4);
        assert!(holds(&Claim::OnlyPathMoves(4), &run));
        sick(&mut run, 0);
        assert!(!holds(&Claim::OnlyPathMoves(4), &run));
    }
}
