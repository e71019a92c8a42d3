//! How long what was served in one tick took: counts by logarithm of latency, for one route class at one endpoint.
//!
//! The buckets are those of a histogram with one significant digit: single microseconds up to 32, then sixteen per octave,
//! so that a latency is known to 3 %. It is filled on the request path and read, merged and emptied ten times a second,
//! and a tick fills a few of its hundreds of buckets. So it remembers which: nobody walks over the others. Fixed size, no
//! allocation.

use std::time::Duration;

/// Longest latency that is told apart, in microseconds; longer ones count as this one.
pub const LATENCY_MAX_US: u64 = 67_000_000;

/// Bits of a latency that are told apart below its leading one.
const DIGITS: u32 = 4;

/// Buckets up to [`LATENCY_MAX_US`], which lies in the last one.
const BUCKETS: usize = 368;

/// Words with a bit for each bucket.
const WORDS: usize = BUCKETS.div_ceil(64);

/// Counts by latency.
#[derive(Clone, Debug)]
pub struct Latencies {
    counts: [u32; BUCKETS],
    /// A bit for each bucket that holds anything.
    held: [u64; WORDS],
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            held: [0; WORDS],
        }
    }
}

impl Latencies {
    /// Counts one latency in microseconds, 1 at least.
    pub fn record(&mut self, us: u64) {
        self.add(bucket(us.clamp(1, LATENCY_MAX_US)), 1);
    }

    /// Adds what another one holds.
    pub fn merge(&mut self, other: &Self) {
        for at in other.held() {
            self.add(at, other.counts.get(at).copied().unwrap_or(0));
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        for at in self.held() {
            if let Some(count) = self.counts.get_mut(at) {
                *count = 0;
            }
        }
        self.held = [0; WORDS];
    }

    /// What was recorded, from the fastest bucket to the slowest: the middle of the bucket in microseconds, and how many.
    pub fn recorded(&self) -> impl Iterator<Item = (u64, u32)> {
        self.held()
            .map(|at| (middle_us(at), self.counts.get(at).copied().unwrap_or(0)))
    }

    /// The same as times.
    pub fn times(&self) -> impl Iterator<Item = (Duration, u32)> {
        self.recorded().map(|(us, n)| (Duration::from_micros(us), n))
    }

    fn add(&mut self, at: usize, count: u32) {
        if let (Some(slot), Some(word)) = (self.counts.get_mut(at), self.held.get_mut(at / 64)) {
            *slot = slot.saturating_add(count);
            *word |= 1 << (at % 64);
        }
    }

    fn held(&self) -> Held {
        Held {
            words: self.held,
            word: 0,
        }
    }
}

/// The buckets whose bits are set, in their order.
struct Held {
    words: [u64; WORDS],
    word: usize,
}

impl Iterator for Held {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        loop {
            let bits = self.words.get_mut(self.word)?;
            if *bits != 0 {
                let at = self.word * 64 + bits.trailing_zeros() as usize;
                *bits &= *bits - 1;
                return Some(at);
            }
            self.word += 1;
        }
    }
}

/// The bucket of a latency: its octave, and the [`DIGITS`] bits below its leading one.
#[expect(
    clippy::cast_possible_truncation,
    reason = "at most five bits are left of a latency"
)]
fn bucket(us: u64) -> usize {
    let shift = us.max(1).ilog2().saturating_sub(DIGITS);
    ((shift as usize) << DIGITS) + (us >> shift) as usize
}

/// The latency in the middle of a bucket, rounded up.
fn middle_us(at: usize) -> u64 {
    let shift = (at >> DIGITS).saturating_sub(1);
    let least = ((at - (shift << DIGITS)) as u64) << shift;
    least + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    use super::*;

    fn of(latencies: &[u64]) -> Latencies {
        let mut held = Latencies::default();
        latencies.iter().for_each(|us| held.record(*us));
        held
    }

    /// The same by a histogram that others have written.
    fn expected(latencies: &[u64]) -> Vec<(u64, u32)> {
        let mut histogram = Histogram::<u32>::new_with_bounds(1, LATENCY_MAX_US, 1).unwrap();
        for us in latencies {
            histogram.saturating_record((*us).clamp(1, LATENCY_MAX_US));
        }
        let bars = histogram.iter_recorded();
        bars.map(|bar| {
            (
                histogram.median_equivalent(bar.value_iterated_to()),
                bar.count_at_value(),
            )
        })
        .collect()
    }

    fn recorded(latencies: &Latencies) -> Vec<(u64, u32)> {
        latencies.recorded().collect()
    }

    #[test]
    fn the_ends_have_their_buckets() {
        let ends = [0, 1, 31, 32, 33, 66_999_999, LATENCY_MAX_US, u64::MAX];
        assert_eq!(recorded(&of(&ends)), expected(&ends));
        assert_eq!(bucket(LATENCY_MAX_US), BUCKETS - 1);
        assert_eq!(recorded(&Latencies::default()), []);
    }

    proptest! {
        #[test]
        fn buckets_are_those_of_one_significant_digit(us in proptest::collection::vec(1u64..70_000_000, 0..60)) {
            prop_assert_eq!(recorded(&of(&us)), expected(&us));
        }

        #[test]
        fn what_is_merged_is_counted_together_and_what_is_cleared_is_gone(
            a in proptest::collection::vec(1u64..100_000, 0..40),
            b in proptest::collection::vec(1u64..100_000, 0..40),
        ) {
            let mut sum = of(&a);
            sum.merge(&of(&b));
            let both: Vec<u64> = a.iter().chain(&b).copied().collect();
            prop_assert_eq!(recorded(&sum), expected(&both));
            sum.clear();
            prop_assert_eq!(recorded(&sum), []);
            sum.merge(&of(&b));
            prop_assert_eq!(recorded(&sum), expected(&b));
        }
    }
}
