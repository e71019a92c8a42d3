//! Latencies in buckets that are the same everywhere, so that histograms of several proxies add up.
//!
//! Bucket `i` below 16 holds `i` microseconds; from there on each doubling has 16 buckets of equal width, so a bucket is
//! at most 1/16 wide, as a fraction of its value. That is the layout of an HDR histogram with one significant digit, which
//! the workers fill. Sparse, because an endpoint's latencies fill some thirty of the 384 buckets.

use std::collections::BTreeMap;
use std::time::Duration;

/// Buckets per doubling.
const PER_OCTAVE: u64 = 16;

/// How many buckets there are: the last one begins at 130 seconds, and is open to the right.
pub const BUCKETS: u16 = 384;

/// A latency histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Counts by bucket, none of them 0.
    buckets: BTreeMap<u16, u64>,
}

/// Why something is not a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistogramError {
    /// As many counts as buckets, or it cannot be read.
    #[error("a histogram has as many counts as buckets")]
    Lengths,
    /// A bucket that there is not, or one that comes after a higher one.
    #[error("buckets ascend, up to 383; found {0}")]
    Bucket(u32),
    /// A bucket that holds nothing, or more than can be summed.
    #[error("a bucket holds at least one, and all of them less than 2^63 together")]
    Count,
}

/// The bucket of a latency.
fn bucket_of(latency: Duration) -> u16 {
    let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    let bucket = match us.checked_ilog2() {
        Some(octave) if octave >= 4 => {
            let within = (us >> (octave - 4)) & (PER_OCTAVE - 1);
            u64::from(octave - 3) * PER_OCTAVE + within
        }
        _ => us,
    };
    u16::try_from(bucket).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The smallest latency of a bucket.
pub fn bucket_floor(bucket: u16) -> Duration {
    let (octave, within) = (u64::from(bucket) / PER_OCTAVE, u64::from(bucket) % PER_OCTAVE);
    Duration::from_micros(match octave {
        0 => within,
        octave => (PER_OCTAVE + within) << (octave - 1).min(u64::from(BUCKETS)),
    })
}

impl Histogram {
    /// From buckets and their counts.
    ///
    /// # Errors
    /// When they are not a histogram's.
    pub fn new(buckets: &[u32], counts: &[u64]) -> Result<Self, HistogramError> {
        if buckets.len() != counts.len() {
            return Err(HistogramError::Lengths);
        }
        let (mut all, mut last, mut total) = (BTreeMap::new(), None, 0u64);
        for (bucket, count) in buckets.iter().zip(counts) {
            let wrong = HistogramError::Bucket(*bucket);
            let index = u16::try_from(*bucket)
                .ok()
                .filter(|index| *index < BUCKETS)
                .ok_or(wrong)?;
            if last.is_some_and(|last| index <= last) {
                return Err(wrong);
            }
            total = total.checked_add(*count).ok_or(HistogramError::Count)?;
            if *count == 0 || total >= 1 << 63 {
                return Err(HistogramError::Count);
            }
            last = Some(index);
            all.insert(index, *count);
        }
        Ok(Self { buckets: all })
    }

    /// Counts `n` requests that took so long.
    pub fn record(&mut self, latency: Duration, n: u64) {
        if n > 0 {
            let count = self.buckets.entry(bucket_of(latency)).or_default();
            *count = count.saturating_add(n);
        }
    }

    /// Adds another one.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, n) in &other.buckets {
            let count = self.buckets.entry(*bucket).or_default();
            *count = count.saturating_add(*n);
        }
    }

    /// What has been recorded since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let more = self.buckets.iter().filter_map(|(bucket, count)| {
            let more = count.saturating_sub(before.buckets.get(bucket).copied().unwrap_or_default());
            (more > 0).then_some((*bucket, more))
        });
        Self {
            buckets: more.collect(),
        }
    }

    /// Buckets that hold something, and how much.
    pub fn buckets(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        self.buckets.iter().map(|(bucket, count)| (*bucket, *count))
    }

    /// How many requests it holds.
    pub fn total(&self) -> u64 {
        self.buckets
            .values()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The latency that a part `q` of the requests, 0 to 1, did not exceed, to a sixteenth. `None` where there are none.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank lies between 1 and the total"
    )]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let total = self.total();
        let rank = ((q.clamp(0.0, 1.0) * total as f64).ceil() as u64).max(1);
        let mut seen = 0u64;
        let found = self.buckets().find(|(_, count)| {
            seen = seen.saturating_add(*count);
            seen >= rank
        });
        found.map(|(bucket, _)| bucket_floor(bucket + 1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_latency_lies_in_its_bucket_and_the_bucket_is_narrow(us in 0..130_000_000u64) {
            let latency = Duration::from_micros(us);
            let bucket = bucket_of(latency);
            let (floor, next) = (bucket_floor(bucket), bucket_floor(bucket + 1));
            prop_assert!(floor <= latency && latency < next, "{floor:?} {latency:?} {next:?}");
            prop_assert!((next - floor).as_micros() <= u128::from(us / 16).max(1));
        }

        #[test]
        fn histograms_add_up_in_any_order(a in prop::collection::vec(1..90_000_000u64, 0..50),
                                          b in prop::collection::vec(1..90_000_000u64, 0..50)) {
            let of = |all: &[u64]| {
                let mut histogram = Histogram::default();
                all.iter().for_each(|us| histogram.record(Duration::from_micros(*us), 1));
                histogram
            };
            let (mut ab, mut ba) = (of(&a), of(&b));
            ab.merge(&of(&b));
            ba.merge(&of(&a));
            prop_assert_eq!(&ab, &ba);
            prop_assert_eq!(ab.total(), (a.len() + b.len()) as u64);
            prop_assert_eq!(ab, of(&[a, b].concat()));
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        histogram.record(Duration::from_millis(5), 98);
        histogram.record(Duration::from_secs(9), 2);
        let near = |q, ms: f64| {
            let found = histogram.quantile(q).unwrap().as_secs_f64() * 1e3;
            assert!((found / ms - 1.0).abs() <= 1.0 / 16.0, "{found} {ms}");
        };
        near(0.5, 5.0);
        near(0.98, 5.0);
        near(0.99, 9000.0);
        near(1.0, 9000.0);
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        let refused = |buckets: &[u32], counts: &[u64]| Histogram::new(buckets, counts).err();
        assert_eq!(refused(&[1, 7, 383], &[1, 2, 3]), None);
        assert_eq!(refused(&[1], &[]), Some(HistogramError::Lengths));
        assert_eq!(refused(&[7, 7], &[1, 1]), Some(HistogramError::Bucket(7)));
        assert_eq!(refused(&[384], &[1]), Some(HistogramError::Bucket(384)));
        assert_eq!(refused(&[65_536], &[1]), Some(HistogramError::Bucket(65_536)));
        assert_eq!(refused(&[1], &[0]), Some(HistogramError::Count));
        assert_eq!(refused(&[1, 2], &[u64::MAX, 1]), Some(HistogramError::Count));
    }
}
