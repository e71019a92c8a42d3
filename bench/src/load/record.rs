//! What users saw: one small record per request, and sliding windows over them.
//!
//! Raw records instead of histograms per interval: a claim such as "the p99 is back within 4 s" needs windows that end
//! at any moment, and exact quantiles. A record takes 24 bytes, so an hour at 1200 requests per second is 100 MB.

use std::fmt;
use std::time::Duration;

/// How a request ended: a status, or one of the codes below 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outcome(u16);

impl Outcome {
    /// No connection could be established.
    pub const CONNECT: Self = Self(1);
    /// The connection ended before the answer did.
    pub const CUT: Self = Self(2);
    /// The user gave up.
    pub const DEADLINE: Self = Self(3);
    /// The answer could not be understood.
    pub const GARBLED: Self = Self(4);
    /// The load itself had no connection or no time left for it: the measurement, not the proxy, is at fault.
    pub const OVERRUN: Self = Self(5);

    /// The outcome of an answer.
    pub fn status(status: u16) -> Self {
        Self(status.max(100))
    }

    /// Whether the user did not get what was asked for.
    pub fn failed(self) -> bool {
        !(100..400).contains(&self.0)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::CONNECT => f.write_str("no connection"),
            Self::CUT => f.write_str("cut"),
            Self::DEADLINE => f.write_str("deadline"),
            Self::GARBLED => f.write_str("garbled"),
            Self::OVERRUN => f.write_str("overrun"),
            Self(status) => write!(f, "{status}"),
        }
    }
}

/// One request as its user saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it was meant to start, in microseconds since the start of the load.
    pub intended_us: u64,
    /// From the intended start to the end of the answer, or to the failure.
    pub latency_us: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Index of its path in the mix.
    pub path: u8,
    /// It may have had an effect: a POST, otherwise a GET.
    pub post: bool,
    /// The number under which endpoints know it.
    pub number: u64,
}

/// A stretch of time, in microseconds since the start of the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First microsecond.
    pub from_us: u64,
    /// First microsecond after it.
    pub to_us: u64,
}

impl Span {
    /// From `from` to `to`.
    pub fn new(from: Duration, to: Duration) -> Self {
        Self {
            from_us: micros(from),
            to_us: micros(to),
        }
    }

    /// Whether a moment lies in it.
    pub fn contains(&self, at_us: u64) -> bool {
        (self.from_us..self.to_us).contains(&at_us)
    }
}

/// What users saw within a span.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// The requests that were meant to start within it.
    pub span: Span,
    /// How many.
    pub requests: usize,
    /// How many failed.
    pub failed: usize,
    /// Half took less, failures included.
    pub p50_us: u32,
    /// 99 of 100 took less, failures included.
    pub p99_us: u32,
}

/// Whole microseconds of a duration.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Records of one run, in the order of their intended starts.
#[derive(Clone, Debug, Default)]
pub struct Records(Vec<Record>);

impl From<Vec<Record>> for Records {
    fn from(mut records: Vec<Record>) -> Self {
        records.sort_unstable_by_key(|record| record.intended_us);
        Self(records)
    }
}

impl Records {
    /// The records that were meant to start within `span`.
    pub fn within(&self, span: Span) -> &[Record] {
        let from = self.0.partition_point(|record| record.intended_us < span.from_us);
        let to = self.0.partition_point(|record| record.intended_us < span.to_us);
        self.0.get(from..to).unwrap_or_default()
    }

    /// All records.
    pub fn all(&self) -> &[Record] {
        &self.0
    }

    /// The numbers of the writes that users were told are done.
    pub fn acknowledged(&self) -> Vec<u64> {
        let done = self
            .0
            .iter()
            .filter(|record| record.post && !record.outcome.failed());
        done.map(|record| record.number).collect()
    }

    /// What users saw within `span`; `None` where nothing was asked.
    pub fn window(&self, span: Span) -> Option<Window> {
        summarise(self.within(span), span)
    }

    /// Windows of `length` that end within `span`, one every `step`. Empty windows are left out.
    pub fn sliding(&self, span: Span, length: Duration, step: Duration) -> impl Iterator<Item = Window> + '_ {
        let (length_us, step_us) = (micros(length), micros(step).max(1));
        let ends = (0..)
            .map(move |turn| span.from_us + turn * step_us)
            .take_while(move |end| *end <= span.to_us);
        ends.filter_map(move |end| {
            self.window(Span {
                from_us: end.saturating_sub(length_us),
                to_us: end,
            })
        })
    }
}

/// Count, failures and quantiles of some records, which need not be in order.
pub fn summarise(records: &[Record], span: Span) -> Option<Window> {
    let mut latencies: Vec<u32> = records.iter().map(|record| record.latency_us).collect();
    let failed = records.iter().filter(|record| record.outcome.failed()).count();
    let p99_us = quantile(&mut latencies, 0.99)?;
    // What is left of the p99 by now is the smaller part, and the median is in it.
    let (low, _) = latencies.split_at_mut(rank(0.99, records.len()) + 1);
    let (_, p50_us, _) = low.select_nth_unstable(rank(0.5, records.len()));
    let p50_us = *p50_us;
    Some(Window {
        span,
        requests: records.len(),
        failed,
        p50_us,
        p99_us,
    })
}

/// The smallest value that at least `part` (0 to 1) of the values do not exceed. Reorders them.
pub fn quantile(values: &mut [u32], part: f64) -> Option<u32> {
    if values.is_empty() {
        return None;
    }
    let rank = rank(part, values.len());
    let (_, value, _) = values.select_nth_unstable(rank);
    Some(*value)
}

/// The place of a quantile among `count` values in their order.
fn rank(part: f64, count: usize) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank between 0 and the number of values"
    )]
    let rank = (part * count as f64).ceil() as usize;
    rank.saturating_sub(1).min(count.saturating_sub(1))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record of a GET for the first path.
    pub(crate) fn get(intended_ms: u64, latency_ms: u32, status: u16) -> Record {
        Record {
            intended_us: intended_ms * 1_000,
            latency_us: latency_ms * 1_000,
            outcome: Outcome::status(status),
            path: 0,
            post: false,
            number: intended_ms,
        }
    }

    #[test]
    fn a_p99_is_the_value_that_one_in_a_hundred_exceeds() {
        let mut values: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(quantile(&mut values, 0.99), Some(99));
        assert_eq!(quantile(&mut values, 0.5), Some(50));
        assert_eq!(quantile(&mut values, 1.0), Some(100));
        assert_eq!(quantile(&mut [7], 0.99), Some(7));
        assert_eq!(quantile(&mut [], 0.99), None);
    }

    #[test]
    fn a_window_holds_what_was_meant_to_start_in_it_however_late_it_ended() {
        let records = Records::from(vec![get(1_500, 9_000, 200), get(500, 1, 200), get(1_000, 2, 500)]);
        let window = records
            .window(Span::new(Duration::from_secs(1), Duration::from_secs(2)))
            .unwrap();
        assert_eq!((window.requests, window.failed, window.p99_us), (2, 1, 9_000_000));
    }

    #[test]
    fn windows_slide_by_their_step_and_end_with_the_span() {
        let records = Records::from((0..5_000).map(|ms| get(ms, 1, 200)).collect::<Vec<_>>());
        let span = Span::new(Duration::from_secs(1), Duration::from_secs(2));
        let windows: Vec<_> = records
            .sliding(span, Duration::from_secs(1), Duration::from_millis(250))
            .collect();
        assert_eq!(windows.len(), 5);
        assert!(windows.iter().all(|window| window.requests == 1_000));
        let mixed: Vec<_> = (0..100)
            .map(|ms: u32| get(ms.into(), ms * 37 % 100 + 1, 200))
            .collect();
        let window = Records::from(mixed)
            .window(Span::new(Duration::ZERO, Duration::from_secs(1)))
            .unwrap();
        assert_eq!((window.p50_us, window.p99_us), (50_000, 99_000));
        assert_eq!(windows[4].span.to_us, 2_000_000);
    }

    #[test]
    fn only_answers_below_400_are_what_the_user_asked_for() {
        assert!(!Outcome::status(200).failed() && !Outcome::status(302).failed());
        assert!(Outcome::status(404).failed() && Outcome::status(503).failed());
        assert!(Outcome::CUT.failed() && Outcome::DEADLINE.failed() && Outcome::OVERRUN.failed());
    }
}
