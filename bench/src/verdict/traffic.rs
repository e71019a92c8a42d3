//! Claims about where traffic goes: what moves, what stays, and what comes back.

use std::time::Duration;

use super::{P99_WINDOW, STEP, Verdict, seconds};
use crate::farm::EndpointCounts;
use crate::load::record::{Span, micros};
use crate::run::Run;
use crate::stage::timeline::Timeline;

/// A share of traffic is counted over this.
const TRAFFIC_WINDOW: Duration = Duration::from_millis(500);

/// Traffic is back once an endpoint carries this part of what it carried before; half a second of Poisson arrivals
/// scatters by some 8 %, and its share of a balanced whole moves a little.
pub(crate) const BACK: f64 = 0.8;

/// What may reach a standby without anything having been shifted: single requests that failed and were tried again.
pub(crate) const STRAY: f64 = 0.01;

/// Under this part of a fair share an endpoint counts as starved. At the lowest load of the scenarios, 75 requests per
/// second and endpoint, chance alone stays above it for longer than the scenario lasts (5 standard deviations).
const STARVED: f64 = 0.4;

impl Run {
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
}

#[cfg(test)]
mod tests {
    use super::super::tests::holds;
    use super::*;
    use crate::claim::{Claim, judge};
    use crate::run::tests::{played, steady};

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
