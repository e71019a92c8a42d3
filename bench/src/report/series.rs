//! Runs with several seeds as one course over time and one latency curve.
//!
//! All seeds of a scenario have the same onset, so the same second is the same moment of the fault in each. Failures are
//! added up over the seeds, since a failure in one run of five is a failure; latencies and shares are the median of the
//! seeds. What no run measured stays absent, and a second that is missing becomes a gap in the line.

use std::collections::BTreeMap;

use crate::report::spread::Spread;
use crate::results::{Percentile, Second, SeedResult};

/// A second that is later than this many usual steps after the one before leaves a gap.
const GAP: f64 = 1.5;

/// One moment of a scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Moment {
    /// Since the onset.
    pub(crate) at_s: f64,
    /// Of all seeds.
    pub(crate) requests: u64,
    /// Of them, how many failed.
    pub(crate) failed: u64,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) share: Option<f64>,
    pub(crate) risk: Option<f64>,
}

impl Moment {
    /// Part of the requests that failed; absent where nobody asked.
    pub(crate) fn failed_part(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.failed as f64 / self.requests as f64)
    }
}

/// The course of all `runs`, with time counted from `onset_s`.
pub(crate) fn moments(runs: &[SeedResult], onset_s: f64) -> Vec<Moment> {
    let mut together: BTreeMap<u64, Vec<&Second>> = BTreeMap::new();
    for second in runs.iter().flat_map(|run| &run.seconds) {
        together.entry(key(second.at_s)).or_default().push(second);
    }
    let moments = together.into_values().filter_map(|seconds| {
        let median = |of: &dyn Fn(&Second) -> Option<f64>| {
            Spread::of(seconds.iter().filter_map(|second| of(second))).map(|spread| spread.median)
        };
        Some(Moment {
            at_s: seconds.first()?.at_s - onset_s,
            requests: seconds.iter().map(|second| second.requests).sum(),
            failed: seconds.iter().map(|second| second.failed).sum(),
            // A second in which nobody asked has no latency, whatever the field says.
            p99_ms: median(&|second| (second.requests > 0).then_some(second.p99_ms)),
            share: median(&|second| second.faulty_share),
            risk: median(&|second| second.risk),
        })
    });
    moments.collect()
}

/// Whole milliseconds: starts of seconds are equal if they are equal to the millisecond.
fn key(at_s: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time since the start of a run; what is out of range saturates"
    )]
    let ms = (at_s * 1e3).round() as u64;
    ms
}

/// At most `most` moments: where there are more, neighbours become one. A p99 is then the worst of them, a share their
/// mean, so that a short peak does not vanish.
pub(crate) fn thin(moments: &[Moment], most: usize) -> Vec<Moment> {
    let together = moments.len().div_ceil(most.max(1)).max(1);
    let merged = moments.chunks(together).filter_map(|chunk| {
        let worst = |of: &dyn Fn(&Moment) -> Option<f64>| chunk.iter().filter_map(of).reduce(f64::max);
        let shares: Vec<f64> = chunk.iter().filter_map(|moment| moment.share).collect();
        Some(Moment {
            at_s: chunk.first()?.at_s,
            requests: chunk.iter().map(|moment| moment.requests).sum(),
            failed: chunk.iter().map(|moment| moment.failed).sum(),
            p99_ms: worst(&|moment| moment.p99_ms),
            share: (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64),
            risk: worst(&|moment| moment.risk),
        })
    });
    merged.collect()
}

/// Points of a line, each in the middle of its time, with a gap wherever a moment has no value or is missing altogether.
pub(crate) fn points(moments: &[Moment], of: impl Fn(&Moment) -> Option<f64>) -> Vec<(f64, Option<f64>)> {
    let steps = moments
        .iter()
        .zip(moments.iter().skip(1))
        .map(|(one, next)| next.at_s - one.at_s);
    // A lonely moment has no next one to tell its length; the bench counts in seconds.
    let step = Spread::of(steps).map_or(1.0, |steps| steps.median);
    let mut points = Vec::with_capacity(moments.len());
    let mut last: Option<f64> = None;
    for moment in moments {
        if let Some(last) = last.filter(|last| moment.at_s - last > GAP * step) {
            points.push((last + step * 1.5, None));
        }
        points.push((moment.at_s + step / 2.0, of(moment)));
        last = Some(moment.at_s);
    }
    points
}

/// The latency curve of all `runs`: at each percentile the median of the seeds.
pub(crate) fn curve(runs: &[SeedResult], of: impl Fn(&SeedResult) -> &[Percentile]) -> Vec<(f64, f64)> {
    let mut at: BTreeMap<u64, (f64, Vec<f64>)> = BTreeMap::new();
    for point in runs.iter().flat_map(&of) {
        // To a millionth, as finely as anybody counts nines.
        at.entry(key(point.percentile * 1e3))
            .or_insert((point.percentile, Vec::new()))
            .1
            .push(point.ms);
    }
    at.into_values()
        .filter_map(|(percentile, ms)| Some((percentile, Spread::of(ms)?.median)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Figures;

    fn second(at_s: f64, requests: u64, failed: u64, p99_ms: f64) -> Second {
        Second {
            at_s,
            requests,
            failed,
            p50_ms: 1.0,
            p99_ms,
            faulty_share: None,
            risk: None,
        }
    }

    fn run(seconds: Vec<Second>) -> SeedResult {
        SeedResult {
            seed: 1,
            figures: Figures::default(),
            seconds,
            healthy: Vec::new(),
            during: Vec::new(),
        }
    }

    #[test]
    fn failures_of_seeds_add_up_and_their_latencies_meet_in_the_middle() {
        let runs = [10.0, 20.0, 90.0].map(|p99| run(vec![second(3.0, 100, u64::from(p99 > 50.0), p99)]));
        let moments = moments(&runs, 2.0);
        assert_eq!(moments.len(), 1);
        assert!((moments[0].at_s - 1.0).abs() < 1e-9);
        assert_eq!(moments[0].p99_ms, Some(20.0));
        assert_eq!((moments[0].requests, moments[0].failed), (300, 1));
    }

    #[test]
    fn a_second_in_which_nobody_asked_is_a_gap_and_not_a_zero() {
        let runs = [run(vec![
            second(0.0, 5, 0, 7.0),
            second(1.0, 0, 0, 0.0),
            second(2.0, 5, 0, 8.0),
        ])];
        let moments = moments(&runs, 0.0);
        let p99 = points(&moments, |moment| moment.p99_ms);
        assert_eq!(p99, [(0.5, Some(7.0)), (1.5, None), (2.5, Some(8.0))]);
        assert_eq!(moments[1].failed_part(), None);
    }

    #[test]
    fn a_second_that_is_missing_is_a_gap() {
        let runs = [run([0.0, 1.0, 2.0, 6.0, 7.0]
            .map(|at_s| second(at_s, 1, 0, 1.0))
            .to_vec())];
        let points = points(&moments(&runs, 0.0), |moment| moment.p99_ms);
        let gaps: Vec<f64> = points
            .iter()
            .filter(|(_, value)| value.is_none())
            .map(|(at, _)| *at)
            .collect();
        assert_eq!((points.len(), gaps), (6, vec![3.5]));
    }

    #[test]
    fn a_long_run_keeps_its_peaks() {
        let seconds =
            (0..10_000).map(|at| second(f64::from(at), 10, 0, if at == 5_000 { 900.0 } else { 5.0 }));
        let all = moments(&[run(seconds.collect())], 0.0);
        let few = thin(&all, 240);
        assert!(few.len() <= 240);
        assert!(few.iter().any(|moment| moment.p99_ms == Some(900.0)));
        assert_eq!(few.iter().map(|moment| moment.requests).sum::<u64>(), 100_000);
        assert_eq!(thin(&all[..100], 240), all[..100]);
    }
}
