//! What a load came to, in memory that does not grow with it: histograms and counts, second by second and by path.
//!
//! Latencies are kept to three digits (HdrHistogram), those of single seconds and paths to two. A second can be summed up
//! when none of its requests can still be under way, so that only as many are open as a deadline is long.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::load::Lag;
use crate::load::record::{Outcome, Record, micros};
use crate::results::{CURVE, Percentile, Second};

/// Longest latency that is told from longer ones, in microseconds: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Seconds that are kept at most: a day.
const SECONDS_MAX: usize = 86_400;

/// A second is summed up this long after the last of its requests had to be over: the engine needs a moment to say so.
const MARGIN: Duration = Duration::from_secs(2);

/// Requests of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub requests: u64,
    /// Of these, how many failed.
    pub failed: u64,
}

impl Counts {
    fn note(&mut self, failed: bool) {
        self.requests += 1;
        self.failed += u64::from(failed);
    }

    /// The part that failed, 0 to 1.
    pub fn failed_part(&self) -> f64 {
        self.failed as f64 / self.requests.max(1) as f64
    }
}

/// Requests for one path.
#[derive(Clone, Debug)]
pub struct PathTally {
    /// How many.
    pub counts: Counts,
    /// In microseconds.
    pub latency: Histogram<u64>,
}

/// What users saw, warm-up left out.
#[derive(Clone, Debug)]
pub struct Tally {
    /// From the intended start to the end of the answer or to the failure, in microseconds.
    pub latency: Histogram<u64>,
    /// From the intended start until the load got round to the request, in microseconds.
    pub lag: Histogram<u64>,
    /// All requests.
    pub all: Counts,
    /// Those that may have had an effect.
    pub writes: Counts,
    /// How they ended.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Requests that were answered as users wish before the load was to end: what the target kept up with.
    pub in_time: u64,
    /// Bytes of all bodies that arrived.
    pub body_bytes: u64,
    /// Requests that found every connection busy and waited for one; their latency counts from their intended start.
    pub waited: u64,
    /// By path of the mix.
    pub paths: Vec<PathTally>,
    /// Latencies since somebody last looked, warm-up included.
    pub(super) recent: Histogram<u64>,
    seconds: Seconds,
    warm_up: Duration,
    length: Duration,
}

#[expect(
    clippy::expect_used,
    reason = "bounds and digits are constants, and a test makes each"
)]
fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, digits).expect("invariant: hdrhistogram takes these bounds")
}

impl Tally {
    /// Of a load with so many paths that counts for `length` after its `warm_up`, where no request takes longer than
    /// `deadline`.
    pub fn new(paths: usize, warm_up: Duration, length: Duration, deadline: Duration) -> Self {
        let path = || PathTally {
            counts: Counts::default(),
            latency: histogram(2),
        };
        Self {
            latency: histogram(3),
            lag: histogram(3),
            all: Counts::default(),
            writes: Counts::default(),
            outcomes: BTreeMap::new(),
            in_time: 0,
            body_bytes: 0,
            waited: 0,
            paths: (0..paths).map(|_| path()).collect(),
            recent: histogram(2),
            seconds: Seconds::new(deadline),
            warm_up,
            length,
        }
    }

    /// Notes one request that has ended, and how late it left.
    pub(crate) fn note(&mut self, record: &Record, lag_us: u64, body_bytes: u64) {
        self.recent.saturating_record(u64::from(record.latency_us));
        let Some(counted_us) = record.intended_us.checked_sub(micros(self.warm_up)) else {
            return;
        };
        let (latency_us, failed) = (u64::from(record.latency_us), record.outcome.failed());
        self.latency.saturating_record(latency_us);
        self.lag.saturating_record(lag_us);
        self.all.note(failed);
        if record.post {
            self.writes.note(failed);
        }
        *self.outcomes.entry(record.outcome).or_default() += 1;
        self.body_bytes += body_bytes;
        self.in_time += u64::from(!failed && counted_us + latency_us <= micros(self.length));
        if let Some(path) = self.paths.get_mut(usize::from(record.path)) {
            path.counts.note(failed);
            path.latency.saturating_record(latency_us);
        }
        self.seconds.note(counted_us, latency_us, failed);
    }

    /// Sums seconds up that are over at `now` since the start.
    pub(crate) fn close_seconds(&mut self, now: Duration) {
        self.seconds.close(now.saturating_sub(self.warm_up));
    }

    /// Second by second, without the warm-up.
    pub fn seconds(&self) -> Vec<Second> {
        let open = self.seconds.open.iter().zip(self.seconds.first_open..);
        let open = open.map(|(second, index)| second.sum_up(index));
        self.seconds.closed.iter().cloned().chain(open).collect()
    }

    /// How late requests left.
    pub fn lag(&self) -> Lag {
        let at = |part| u32::try_from(self.lag.value_at_quantile(part)).unwrap_or(u32::MAX);
        Lag {
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: u32::try_from(self.lag.max()).unwrap_or(u32::MAX),
        }
    }

    /// The latency curve.
    pub fn curve(&self) -> Vec<Percentile> {
        let point = |percentile| Percentile {
            percentile,
            ms: ms(&self.latency, percentile / 100.0),
        };
        CURVE.map(point).to_vec()
    }
}

/// A quantile (0 to 1) in milliseconds. The histogram's own answer is the highest value that its bucket stands for, which
/// may be above the highest that was seen.
pub fn ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    let value = if quantile > 0.0 {
        histogram.value_at_quantile(quantile).min(histogram.max())
    } else {
        histogram.min()
    };
    value as f64 / 1e3
}

/// A sliding row of seconds.
#[derive(Clone, Debug)]
struct Seconds {
    deadline: Duration,
    closed: Vec<Second>,
    first_open: usize,
    open: VecDeque<OpenSecond>,
}

#[derive(Clone, Debug)]
struct OpenSecond {
    counts: Counts,
    latency: Histogram<u64>,
}

impl Seconds {
    fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            closed: Vec::new(),
            first_open: 0,
            open: VecDeque::new(),
        }
    }

    fn note(&mut self, intended_us: u64, latency_us: u64, failed: bool) {
        let second = usize::try_from(intended_us / 1_000_000).unwrap_or(usize::MAX);
        let Some(index) = second
            .checked_sub(self.first_open)
            .filter(|_| second < SECONDS_MAX)
        else {
            return;
        };
        while self.open.len() <= index {
            self.open.push_back(OpenSecond {
                counts: Counts::default(),
                latency: histogram(2),
            });
        }
        if let Some(second) = self.open.get_mut(index) {
            second.counts.note(failed);
            second.latency.saturating_record(latency_us);
        }
    }

    fn close(&mut self, now: Duration) {
        loop {
            let end = Duration::from_secs(self.first_open as u64 + 1);
            if now < end + self.deadline + MARGIN {
                return;
            }
            let Some(second) = self.open.pop_front() else {
                return;
            };
            self.closed.push(second.sum_up(self.first_open));
            self.first_open += 1;
        }
    }
}

impl OpenSecond {
    fn sum_up(&self, index: usize) -> Second {
        Second {
            at_s: index as f64,
            requests: self.counts.requests,
            failed: self.counts.failed,
            p50_ms: ms(&self.latency, 0.5),
            p99_ms: ms(&self.latency, 0.99),
            faulty_share: None,
            risk: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::tests::get;

    fn tally() -> Tally {
        let second = Duration::from_secs(1);
        Tally::new(1, second, 10 * second, 2 * second)
    }

    #[test]
    fn the_bounds_are_those_that_a_histogram_takes() {
        for digits in [2, 3] {
            assert_eq!(histogram(digits).sigfig(), digits);
            assert!(histogram(digits).high() >= LATENCY_US_MAX);
        }
    }

    #[test]
    fn what_was_meant_for_the_warm_up_does_not_count() {
        let mut tally = tally();
        for (at_ms, status) in [(0, 500), (999, 200), (1_000, 200), (1_999, 503), (3_000, 200)] {
            tally.note(&get(at_ms, 5, status), 7, 100);
        }
        assert_eq!(
            (tally.all.requests, tally.all.failed, tally.body_bytes),
            (3, 1, 300)
        );
        assert_eq!(tally.outcomes.get(&Outcome::status(200)), Some(&2));
        let seconds: Vec<_> = tally
            .seconds()
            .iter()
            .map(|second| (second.requests, second.failed))
            .collect();
        assert_eq!(seconds, [(2, 1), (0, 0), (1, 0)]);
        assert_eq!(
            tally.lag(),
            Lag {
                p50_us: 7,
                p99_us: 7,
                max_us: 7
            }
        );
    }

    #[test]
    fn an_answer_after_the_end_is_none_that_the_target_kept_up_with() {
        let mut tally = tally();
        tally.note(&get(10_000, 1_000, 200), 0, 0);
        tally.note(&get(10_000, 1_001, 200), 0, 0);
        tally.note(&get(10_000, 1, 503), 0, 0);
        assert_eq!((tally.all.requests, tally.in_time), (3, 1));
    }

    #[test]
    fn only_as_many_seconds_are_open_as_a_deadline_is_long() {
        let mut tally = tally();
        for second in 0..100_u64 {
            tally.note(&get(1_000 + second * 1_000, 5, 200), 0, 0);
            tally.close_seconds(Duration::from_secs(second + 1));
            assert!(tally.seconds.open.len() <= 5, "{}", tally.seconds.open.len());
        }
        assert_eq!(tally.seconds().len(), 100);
        assert!(
            tally
                .seconds()
                .iter()
                .all(|second| second.requests == 1 && second.p99_ms > 4.9)
        );
    }

    #[test]
    fn a_curve_never_leaves_what_was_seen() {
        let mut tally = tally();
        for latency_ms in 1..=1_000 {
            tally.note(&get(5_000, latency_ms, 200), 0, 0);
        }
        let curve = tally.curve();
        assert_eq!(curve.len(), CURVE.len());
        let at = |percentile: f64| {
            curve
                .iter()
                .find(|point| (point.percentile - percentile).abs() < 1e-9)
                .unwrap()
                .ms
        };
        assert!(
            (at(50.0) - 500.0).abs() < 1.0 && (at(99.0) - 990.0).abs() < 1.0,
            "{curve:?}"
        );
        assert!((at(0.0) - 1.0).abs() < 1e-2 && at(100.0) <= tally.latency.max() as f64 / 1e3);
    }
}
