//! Why this verdict: for each metric what was counted, both e-values against their limits, the range of the ratio, and
//! how many requests are missing. One sentence says it to whoever is woken by it.
//!
//! The range is a confidence *sequence*: all ratios that neither one-sided test has excluded, each at half of alpha.
//! It holds at every look at once, so a page may show it and be reloaded. An e-value falls strictly as the boundary
//! moves towards the data (its logarithm's derivative by `r` is `-n w (1-w) (f-1) / ((f r w + 1-w)(r w + 1-w))` for
//! alternatives `f r`), so bisection finds its end.
//!
//! What is missing is told under one assumption, that the shadow is as good as the primary is now, and with the present
//! share and traffic. It is no promise: a shadow that is worse than that needs longer, or never gets there.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::burst::Outage;
use super::mixture::{Counted, Level, Ratio, shown};
use super::policy::{Metric, MetricPolicy};
use super::tally::Tally;
use super::{Counts, Judge, Verdict, Weighed, absolute};

/// Ratios beyond this, and below its inverse, are shown as open ends.
const RATIO_END: f64 = 1e4;

/// Halvings of that range: the ends are then exact to a billionth.
const HALVINGS: u32 = 36;

/// An e-value and what it has to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// How much more likely the counts are under the alternatives than at the boundary.
    pub e: f64,
    /// From which on it counts.
    pub limit: f64,
}

/// All ratios that are not excluded, shadow over primary. An end that is absent is open.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RatioRange {
    /// At least this.
    pub low: Option<f64>,
    /// At most this.
    pub high: Option<f64>,
}

/// What is missing for a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Needed {
    /// Requests of both arms, if the shadow is as good as the primary.
    pub requests: u64,
    /// How long they take at the present rate; none where there was none.
    pub eta: Option<Duration>,
}

/// One metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricExplanation {
    /// Which.
    pub metric: Metric,
    /// Events counted since the beginning: on both arms.
    pub n: u64,
    /// Of them on the shadow.
    pub k: u64,
    /// That the shadow is worse than tolerable. Its limit is what it would take without the other metrics.
    pub worse: Evidence,
    /// That it is better than the margin, since the step began; none where no proof is wanted.
    pub ok: Option<Evidence>,
    /// The ratio of event rates, at confidence 1 - alpha.
    pub ratio: RatioRange,
    /// What its proof lacks; none where it lacks nothing, or will never come at this rate.
    pub needed: Option<Needed>,
    /// The same in words.
    pub sentence: String,
}

/// Why a verdict is what it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The answer.
    pub verdict: Verdict,
    /// Over all metrics, that the shadow is worse.
    pub worse: Evidence,
    /// Requests since the beginning, `[primary, shadow]`.
    pub requests: [u64; 2],
    /// Whether metrics that warm up are left out now.
    pub warming: bool,
    /// A run of ticks in which all requests of the shadow failed.
    pub outage: Outage,
    /// Intervals that contradicted themselves and were not counted.
    pub refused: u64,
    /// In the order of the policy.
    pub metrics: Vec<MetricExplanation>,
    /// In one sentence.
    pub sentence: String,
}

impl Evidence {
    pub(super) fn of(nats: f64, limit_nats: f64) -> Self {
        Self {
            e: shown(nats),
            limit: shown(limit_nats),
        }
    }

    /// Whether it suffices.
    pub fn suffices(self) -> bool {
        self.e >= self.limit
    }
}

impl RatioRange {
    /// Of what was counted under the lowest weights and under the highest, at confidence `1 - alpha`, valid at every look.
    pub fn of([lowest, highest]: [&Tally; 2], alpha: f64) -> Self {
        let limit = -(alpha / 2.0).ln();
        // "Above r" is certain for small r, "below r" for large ones; each end is where certainty ends.
        let above = |ratio: f64| Ratio::above(ratio).nats(highest.for_worse()) >= limit;
        let below = |ratio: f64| Ratio::under(ratio).nats(lowest.for_not_worse()) >= limit;
        Self {
            low: edge(above, 1.0 / RATIO_END, RATIO_END),
            high: edge(below, RATIO_END, 1.0 / RATIO_END),
        }
    }
}

impl fmt::Display for RatioRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.low, self.high) {
            (Some(low), Some(high)) => write!(f, "{low:.2} to {high:.2} times"),
            (Some(low), None) => write!(f, "at least {low:.2} times"),
            (None, Some(high)) => write!(f, "at most {high:.2} times"),
            (None, None) => f.write_str("any number of times"),
        }
    }
}

/// Where `holds` stops to hold on the way from `from` to `to`; none where it does not hold at the start.
fn edge(holds: impl Fn(f64) -> bool, from: f64, to: f64) -> Option<f64> {
    if !holds(from) {
        return None;
    }
    let (mut inside, mut outside) = (from.ln(), to.ln());
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(inside, outside);
        if holds(middle.exp()) {
            inside = middle;
        } else {
            outside = middle;
        }
    }
    Some(inside.exp())
}

impl Needed {
    fn of(requests: u64, per_second: f64) -> Self {
        let eta = Duration::try_from_secs_f64(requests as f64 / per_second).ok();
        Self { requests, eta }
    }
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "about {} more requests", self.requests)?;
        match self.eta.map(|eta| eta.as_secs()) {
            Some(seconds) if seconds >= 7200 => write!(f, " ({} h)", seconds / 3600),
            Some(seconds) if seconds >= 120 => write!(f, " ({} min)", seconds / 60),
            Some(seconds) => write!(f, " ({} s)", seconds.max(1)),
            None => Ok(()),
        }
    }
}

impl Judge {
    /// Why the verdict is what it is.
    pub fn explain(&self) -> Explanation {
        let verdict = self.verdict();
        let metrics: Vec<_> = self.each().map(|weighed| self.explain_metric(weighed)).collect();
        let state = self.state();
        Explanation {
            verdict,
            worse: Evidence::of(self.worse_nats(), self.policy().worse_limit()),
            requests: state.requests,
            warming: self.is_warming(),
            outage: state.outage,
            refused: state.refused,
            sentence: self.sentence(verdict, &metrics),
            metrics,
        }
    }

    fn explain_metric(&self, weighed: Weighed<'_>) -> MetricExplanation {
        let Weighed {
            counts,
            policy,
            worse_nats,
        } = weighed;
        let limit = self.policy().worse_limit() - (policy.weight / self.policy().weights()).ln();
        let worse = Evidence::of(worse_nats, limit);
        let ok = counts
            .pass_nats(policy)
            .map(|nats| Evidence::of(nats, self.policy().pass_limit()));
        let ratio = RatioRange::of([&counts.whole_least, &counts.whole], self.policy().alpha);
        let lacks = ok.is_some_and(|ok| !ok.suffices());
        let needed = lacks.then(|| self.needed(counts, policy)).flatten();
        let [primary, shadow] = counts.events;
        let (n, k) = (primary.saturating_add(shadow), shadow);
        let state = if worse.suffices() {
            format!("worse than the {} times that are tolerated", policy.tolerance)
        } else if let Some(needed) = needed {
            format!("{needed} if the shadow is as good as its primary")
        } else if lacks {
            "no proof in sight at this rate".to_owned()
        } else if ok.is_some() && worse.e > 1.0 {
            "good enough so far, but leaning towards worse".to_owned()
        } else if ok.is_some() {
            "shown to be good enough".to_owned()
        } else {
            "no proof is asked for".to_owned()
        };
        let sentence = format!(
            "{}: {k} of {n} on the shadow, {ratio} the primary's rate: {state}",
            counts.metric
        );
        MetricExplanation {
            metric: counts.metric,
            n,
            k,
            worse,
            ok,
            ratio,
            needed,
            sentence,
        }
    }

    /// Requests until a metric's proof is complete, if the shadow is as good as the primary has been in this step.
    fn needed(&self, counts: &Counts, policy: &MetricPolicy) -> Option<Needed> {
        let state = self.state();
        let weight = state.weight?.value();
        let [primary, shadow] = counts.step_requests.map(|count| count as f64);
        let [primary_events, shadow_events] = counts.step_events.map(|count| count as f64);
        let rate = if primary > 0.0 {
            primary_events / primary
        } else {
            0.0
        };
        let nats = |requests: f64| {
            let more = Counted {
                weight,
                events: requests * rate,
                shadow: requests * rate * weight,
            };
            let ratio =
                |margin| Ratio::below(margin).nats(counts.step.for_not_worse().chain(std::iter::once(more)));
            let level = |ceiling| {
                let requests = shadow + requests * weight;
                Level::below(ceiling).nats(requests, more.shadow + shadow_events)
            };
            absolute::proof_nats(policy.proof, ratio, level).unwrap_or(0.0)
        };
        let requests = absolute::requests_until(self.policy().pass_limit(), nats)?;
        let [primary, shadow] = state.step_requests.map(|count| count as f64);
        Some(Needed::of(
            requests,
            (primary + shadow) / state.step_age.as_secs_f64(),
        ))
    }

    fn sentence(&self, verdict: Verdict, metrics: &[MetricExplanation]) -> String {
        let outage = self.state().outage;
        let leading = |(one, _): &(&MetricExplanation, f64), (other, _): &(&MetricExplanation, f64)| {
            (one.worse.e / one.worse.limit).total_cmp(&(other.worse.e / other.worse.limit))
        };
        let alpha = self.policy().alpha * 100.0;
        let beta = self.policy().beta * 100.0;
        match verdict {
            Verdict::Worse if outage.is_severe() => format!(
                "the shadow is worse: all of its last {} requests failed, in {} ticks",
                outage.requests, outage.ticks
            ),
            Verdict::Worse => {
                let metrics = metrics.iter().map(|metric| (metric, 0.0));
                let what = metrics
                    .max_by(leading)
                    .map_or("", |(metric, _)| metric.sentence.as_str());
                format!("the shadow is worse ({what}); said of a good one with probability {alpha} % at most")
            }
            Verdict::NotWorse => {
                format!(
                    "the shadow is not worse in any metric; said of a bad one with probability {beta} % at most"
                )
            }
            Verdict::Undecided => {
                let waits = |metric: &&MetricExplanation| {
                    metric.ok.is_some_and(|ok| !ok.suffices() || metric.worse.e > 1.0)
                };
                let lacking = metrics.iter().filter(waits);
                let never =
                    |metric: &MetricExplanation| metric.needed.map_or(u64::MAX, |needed| needed.requests);
                let slowest = lacking.max_by_key(|metric| never(metric));
                let what = slowest.map_or("no metric can prove it", |metric| metric.sentence.as_str());
                format!("undecided: {what}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::{EVENT, Weight};
    use super::*;

    fn tally(events: u64, shadow: u64) -> Tally {
        let mut tally = Tally::default();
        tally.add(Weight::of(0.1).unwrap(), events * EVENT, shadow * EVENT);
        tally
    }

    #[test]
    fn the_range_holds_the_ratio_and_shrinks() {
        let mut width = f64::INFINITY;
        for events in [40, 400, 4000] {
            let range = RatioRange::of([&tally(events, events / 10); 2], 0.01);
            let (low, high) = (range.low.unwrap_or(0.0), range.high.unwrap());
            assert!(low < 1.0 && 1.0 < high, "{range}");
            assert!(high - low < width);
            width = high - low;
        }
    }

    #[test]
    fn an_end_of_which_nothing_is_known_is_open() {
        let open = RatioRange {
            low: None,
            high: None,
        };
        assert_eq!(RatioRange::of([&Tally::default(); 2], 0.01), open);
        let only_shadow = RatioRange::of([&tally(20, 20); 2], 0.01);
        assert!(
            only_shadow.low.unwrap() > 10.0 && only_shadow.high.is_none(),
            "{only_shadow}"
        );
        let never_shadow = RatioRange::of([&tally(200, 0); 2], 0.01);
        assert!(
            never_shadow.low.is_none() && never_shadow.high.unwrap() < 1.0,
            "{never_shadow}"
        );
    }

    #[test]
    fn what_lies_outside_is_what_the_tests_exclude() {
        let tally = tally(500, 120);
        let range = RatioRange::of([&tally; 2], 0.01);
        let limit = 200f64.ln();
        let (low, high) = (range.low.unwrap(), range.high.unwrap());
        assert!(Ratio::above(low * 0.999).nats(tally.for_worse()) >= limit);
        assert!(Ratio::above(low * 1.001).nats(tally.for_worse()) < limit);
        assert!(Ratio::under(high * 1.001).nats(tally.for_not_worse()) >= limit);
        assert!(Ratio::under(high * 0.999).nats(tally.for_not_worse()) < limit);
    }
}
