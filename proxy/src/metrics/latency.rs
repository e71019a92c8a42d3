//! The latency histogram in its two forms, made of the same recorded counts.
//!
//! What is recorded has buckets a sixteenth of an octave wide ([`Tally::latency`]); each counts by its middle, so a
//! bound of either form is off by 3 % at most. The classic buckets are few and chosen; the native ones are those of
//! schema [`SCHEMA`], an eighth of an octave each, as fine as what is recorded can tell apart, and only those that
//! count something are sent. Source: Prometheus, "Native Histograms", "Schema" and "Buckets".

use std::time::Duration;

use super::exposition::BucketSpan;
use crate::tally::Tally;

/// Upper bounds of the classic buckets, seconds. Two or three per decade, closer where users begin to notice.
pub(super) const BOUNDS_S: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Each bucket ends at 2^(1/8) times the end of the one before.
pub(super) const SCHEMA: i32 = 3;

/// Below counts as zero: half of the microsecond that is the least that can be recorded.
pub(super) const ZERO_THRESHOLD_S: f64 = 0.5e-6;

/// Empty buckets that are sent all the same, because a new span costs more than they do. As Prometheus' own library.
const GAP_MAX: i32 = 2;

/// What both forms need.
#[derive(Debug)]
pub(super) struct Latency {
    pub(super) count: u64,
    pub(super) sum_s: f64,
    /// By [`BOUNDS_S`], each without those before it.
    classic: [u64; BOUNDS_S.len()],
    pub(super) zeros: u64,
    /// By index in the schema, in order.
    native: Vec<(i32, u64)>,
}

impl Latency {
    pub(super) fn of(tally: &Tally) -> Self {
        let mut latency = Self {
            count: tally.latency.len(),
            sum_s: 0.0,
            classic: [0; BOUNDS_S.len()],
            zeros: 0,
            native: Vec::new(),
        };
        for step in tally.latency.iter_recorded() {
            let middle = Duration::from_micros(tally.latency.median_equivalent(step.value_iterated_to()));
            latency.add(middle.as_secs_f64(), step.count_at_value());
        }
        latency
    }

    /// So many samples of this size; sizes come in order.
    fn add(&mut self, seconds: f64, count: u64) {
        self.sum_s += seconds * count as f64;
        let bound = BOUNDS_S.iter().position(|bound| seconds <= *bound);
        if let Some(below) = bound.and_then(|at| self.classic.get_mut(at)) {
            *below += count;
        }
        if seconds <= ZERO_THRESHOLD_S {
            self.zeros += count;
            return;
        }
        let index = index(seconds);
        match self.native.last_mut() {
            Some((last, sum)) if *last == index => *sum += count,
            _ => self.native.push((index, count)),
        }
    }

    /// How many are not above each bound.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let below = self.classic.iter().scan(0, |below, count| {
            *below += count;
            Some(*below)
        });
        BOUNDS_S.into_iter().zip(below)
    }

    /// The native buckets as spans, and each count as the difference to the one before.
    pub(super) fn spans(&self) -> (Vec<BucketSpan>, Vec<i64>) {
        let (mut spans, mut deltas) = (Vec::<BucketSpan>::new(), Vec::new());
        let (mut next, mut before) = (0, 0);
        for (index, count) in &self.native {
            let gap = index - next;
            match spans.last_mut() {
                Some(last) if gap <= GAP_MAX => {
                    for _ in 0..gap {
                        deltas.push(-before);
                        before = 0;
                    }
                    let length = last.length.unwrap_or_default() + gap.unsigned_abs() + 1;
                    last.length = Some(length);
                }
                _ => spans.push(BucketSpan {
                    offset: Some(gap),
                    length: Some(1),
                }),
            }
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            deltas.push(count - before);
            (next, before) = (index + 1, count);
        }
        (spans, deltas)
    }
}

/// The bucket of the schema that holds a size above 0: the one whose end is not below it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the logarithm of what a day has in microseconds is a small number"
)]
fn index(seconds: f64) -> i32 {
    (seconds.log2() * f64::from(1 << SCHEMA)).ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The native buckets as a reader of Prometheus' puts them together: from, to, count.
    fn read(latency: &Latency) -> Vec<(f64, f64, i64)> {
        let (spans, deltas) = latency.spans();
        let (mut index, mut count) = (0, 0);
        let mut deltas = deltas.into_iter();
        let mut buckets = Vec::new();
        for span in spans {
            index += span.offset.unwrap();
            for _ in 0..span.length.unwrap() {
                count += deltas.next().unwrap();
                let end = |index: i32| (f64::from(index) / 8.0).exp2();
                buckets.push((end(index - 1), end(index), count));
                index += 1;
            }
        }
        assert!(deltas.next().is_none());
        buckets
    }

    fn latency(sizes_us: &[u64]) -> Latency {
        let mut tally = Tally::default();
        for us in sizes_us {
            tally.answered(200, Some(Duration::from_micros(*us)));
        }
        Latency::of(&tally)
    }

    #[test]
    fn a_bucket_ends_at_a_power_of_the_eighth_root_of_two() {
        // 1 s is the end of bucket 0, and in it.
        assert_eq!([0.5, 0.95, 1.0, 1.001, 2.0].map(index), [-8, 0, 0, 1, 8]);
        let one = latency(&[1_000]);
        let [(from, to, 1)] = read(&one)[..] else {
            panic!("{one:?}")
        };
        assert!(from < 0.001 && 0.001 < to, "{from} {to}");
    }

    #[test]
    fn buckets_that_are_far_apart_are_spans_of_their_own() {
        let far = latency(&[100, 100, 1_000_000]);
        let (spans, deltas) = far.spans();
        assert_eq!((spans.len(), deltas), (2, vec![2, -1]));
        // Two octaves hold sixteen buckets, and none is left out of a span for a hole of two.
        let near = latency(&[100_000, 125_000, 150_000]);
        let (spans, deltas) = near.spans();
        assert_eq!(spans.len(), 1, "{spans:?} {deltas:?}");
        assert_eq!(latency(&[]).spans(), (vec![], vec![]));
    }

    proptest! {
        #[test]
        fn no_sample_is_lost_in_either_form_and_none_lies_far_from_its_bucket(
            sizes in prop::collection::vec(1u64..60_000_000, 0..200)
        ) {
            let latency = latency(&sizes);
            let buckets = read(&latency);
            let counted: i64 = buckets.iter().map(|(_, _, count)| count).sum();
            prop_assert_eq!(counted as u64 + latency.zeros, sizes.len() as u64);
            prop_assert_eq!(latency.count, sizes.len() as u64);
            for (bound, below) in latency.cumulative() {
                let is_within = |factor: f64| move |us: &&u64| **us as f64 / 1e6 <= bound * factor;
                let within = |factor| sizes.iter().filter(is_within(factor)).count() as u64;
                prop_assert!((within(0.965)..=within(1.035)).contains(&below), "{bound} {below}");
            }
            for us in sizes {
                let seconds = us as f64 / 1e6;
                let is_home = |(from, to, count): &(f64, f64, i64)| {
                    *count > 0 && from * 0.965 <= seconds && seconds <= to * 1.035
                };
                prop_assert!(buckets.iter().any(is_home), "{seconds} {buckets:?}");
            }
        }
    }
}
