//! What happened during a run, on one clock: samples of the farm's counters and of the proxy's admin interface.
//!
//! Where traffic really went is read at the endpoints, not at the proxy: a proxy that believes its own numbers could
//! be wrong about them. All moments are microseconds since the start of the load.

use crate::farm::{EndpointCounts, FarmCounts};
use crate::load::record::{Span, micros};
use crate::stage::admin::EndpointView;
use std::time::Duration;

/// One look at everything.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// When.
    pub at_us: u64,
    /// What the endpoints had done by then.
    pub counts: FarmCounts,
    /// What the proxy thought; `None` where it did not answer.
    pub views: Option<Vec<EndpointView>>,
}

/// Samples in the order of their time.
#[derive(Clone, Debug, Default)]
pub struct Timeline(pub Vec<Sample>);

impl Timeline {
    /// Requests that reached `endpoint` within `span`, of those that `select` picks, interpolated between samples.
    pub fn requests(&self, endpoint: &str, span: Span, select: impl Fn(&EndpointCounts) -> u64) -> f64 {
        let until = |at_us| self.count_at(endpoint, at_us, &select);
        (until(span.to_us) - until(span.from_us)).max(0.0)
    }

    fn count_at(&self, endpoint: &str, at_us: u64, select: &impl Fn(&EndpointCounts) -> u64) -> f64 {
        let count = |sample: &Sample| sample.counts.get(endpoint).map_or(0, select) as f64;
        let next = self.0.partition_point(|sample| sample.at_us <= at_us);
        let before = next.checked_sub(1).and_then(|index| self.0.get(index));
        match (before, self.0.get(next)) {
            (Some(before), Some(after)) => {
                let part = (at_us - before.at_us) as f64 / (after.at_us - before.at_us).max(1) as f64;
                count(before) + part * (count(after) - count(before))
            }
            (Some(last), None) => count(last),
            (None, _) => 0.0,
        }
    }

    /// Requests per second that reached `endpoint` within `span`.
    pub fn rate(&self, endpoint: &str, span: Span) -> f64 {
        let seconds = span.to_us.saturating_sub(span.from_us).max(1) as f64 / 1e6;
        self.requests(endpoint, span, EndpointCounts::requests) / seconds
    }

    /// Spans of `length` that lie within `span`, one every 100 ms.
    pub fn spans(span: Span, length: Duration) -> impl Iterator<Item = Span> {
        let length_us = micros(length);
        let starts = (0..).map(move |turn| span.from_us + turn * 100_000);
        let spans = starts.map(move |from_us| Span {
            from_us,
            to_us: from_us + length_us,
        });
        spans.take_while(move |inner| inner.to_us <= span.to_us)
    }

    /// Samples within `span`.
    pub fn within(&self, span: Span) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter(move |sample| span.contains(sample.at_us))
    }

    /// All views of all endpoints within `span`.
    pub fn views(&self, span: Span) -> impl Iterator<Item = &EndpointView> {
        self.within(span).flat_map(|sample| sample.views.iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten samples per second of an endpoint `a` that serves `rate(second)` requests per second.
    fn timeline(rate: impl Fn(u64) -> u64) -> Timeline {
        let mut counts = EndpointCounts::default();
        let samples = (0..100).map(|tick| {
            let sample = Sample {
                at_us: tick * 100_000,
                counts: [("a".to_owned(), counts.clone())].into(),
                views: None,
            };
            counts.by_path[0] += rate(tick / 10) / 10;
            sample
        });
        Timeline(samples.collect())
    }

    #[test]
    fn a_rate_is_that_of_its_span() {
        let timeline = timeline(|second| if second < 5 { 100 } else { 300 });
        let rate = |from, to| {
            timeline.rate(
                "a",
                Span {
                    from_us: from,
                    to_us: to,
                },
            )
        };
        assert!((rate(1_000_000, 2_000_000) - 100.0).abs() < 1e-6);
        assert!((rate(4_500_000, 5_500_000) - 200.0).abs() < 1e-6);
        assert!((rate(6_050_000, 6_150_000) - 300.0).abs() < 1e-6);
        let second = Span {
            from_us: 0,
            to_us: 1_000_000,
        };
        assert!(timeline.rate("nobody", second).abs() < 1e-9);
    }

    #[test]
    fn spans_stay_inside() {
        let span = Span {
            from_us: 0,
            to_us: 1_000_000,
        };
        let spans: Vec<_> = Timeline::spans(span, Duration::from_millis(500)).collect();
        assert_eq!(spans.len(), 6);
        assert_eq!(
            spans[5],
            Span {
                from_us: 500_000,
                to_us: 1_000_000
            }
        );
    }
}
