//! How latencies are spread: a fixed array of counts on a logarithmic scale, eight buckets per octave.
//!
//! Not an `hdrhistogram`: that one records on the request path and is exact, this one is what remains of it in the risk
//! model, where histograms are weighted, faded, shifted and mixed every tick. A shift by whole buckets is a
//! multiplication of all latencies, which is how a class of slow requests and a class of fast ones are laid over each
//! other. 856 bytes, no allocation; single precision is enough, since counts only feed shares. Latencies of one service
//! lie within a few octaves, so a spectrum knows between which buckets its samples are, and looks at no others.
//!
//! A bucket is 9 % wide; quantiles are interpolated inside it. Latencies beyond the ends count in the end buckets.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Buckets per doubling of latency.
const PER_OCTAVE: f64 = 8.0;

/// Buckets in all: 26 octaves, 1 microsecond to 67 seconds.
pub const BUCKETS: usize = 208;

/// The bucket of "exactly as ever" in a spectrum of ratios.
pub const CENTRE: f64 = 104.0;

/// Natural logarithm of the ratio between two neighbouring buckets.
pub const LN_BUCKET: f64 = std::f64::consts::LN_2 / PER_OCTAVE;

/// Counts by logarithm of latency (or of a ratio of latencies).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Spectrum {
    counts: [f32; BUCKETS],
    total: f64,
    /// All counts outside are zero. Whole [`LANES`] at both ends.
    held: Range<usize>,
}

/// Counts that are added up side by side, so that additions need not wait for each other.
const LANES: usize = 8;

/// A spectrum as it is handed on: from the first bucket that holds anything to the last.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Written {
    first: usize,
    counts: Vec<f32>,
}

impl From<Spectrum> for Written {
    fn from(spectrum: Spectrum) -> Self {
        let holds = |count: &f32| *count > 0.0;
        let first = spectrum.counts.iter().position(holds).unwrap_or_default();
        let end = spectrum
            .counts
            .iter()
            .rposition(holds)
            .map_or(first, |last| last + 1);
        Self {
            first,
            counts: spectrum.counts.get(first..end).unwrap_or_default().to_vec(),
        }
    }
}

impl From<Written> for Spectrum {
    fn from(written: Written) -> Self {
        let mut spectrum = Self::default();
        spectrum.widen(0..BUCKETS);
        let places = spectrum.counts.iter_mut().skip(written.first);
        for (place, count) in places.zip(written.counts) {
            // What is no count counts nothing.
            *place = if count.is_finite() { count.max(0.0) } else { 0.0 };
        }
        spectrum.total = sum(&spectrum.counts);
        spectrum
    }
}

impl Default for Spectrum {
    fn default() -> Self {
        Self {
            counts: [0.0; BUCKETS],
            total: 0.0,
            held: 0..0,
        }
    }
}

/// Where a latency in microseconds lies on the scale of buckets.
pub fn position(us: f64) -> f64 {
    us.max(1.0).ln() / LN_BUCKET
}

/// The latency in microseconds at a position.
pub fn latency_us(position: f64) -> f64 {
    (position * LN_BUCKET).exp()
}

/// A factor in the precision of the counts.
#[expect(clippy::cast_possible_truncation, reason = "counts have no more digits")]
pub fn single(factor: f64) -> f32 {
    factor as f32
}

fn sum(counts: &[f32]) -> f64 {
    let (eights, rest) = counts.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for eight in eights {
        for (lane, count) in lanes.iter_mut().zip(eight) {
            *lane += count;
        }
    }
    lanes.iter().chain(rest).map(|count| f64::from(*count)).sum()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..BUCKETS, and NaN becomes 0"
)]
fn bucket(position: f64) -> usize {
    position.clamp(0.0, (BUCKETS - 1) as f64) as usize
}

impl Spectrum {
    /// Adds `count` samples at a position.
    pub fn add(&mut self, position: f64, count: f32) {
        let at = bucket(position);
        if let Some(slot) = self.counts.get_mut(at) {
            *slot += count;
            self.total += f64::from(count);
        }
        if !self.held.contains(&at) {
            self.widen(at..at + 1);
        }
    }

    /// Samples in here.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// Adds another spectrum, moved by whole buckets and weighted. What is moved beyond an end counts in the end's bucket.
    pub fn add_shifted(&mut self, other: &Self, buckets: i32, weight: f64) {
        let factor = single(weight);
        let moved = usize::try_from(buckets.unsigned_abs()).map_or(BUCKETS, |moved| moved.min(BUCKETS));
        let up = buckets >= 0;
        // Where in the other one what stays within the scale begins and ends.
        let within = if up { 0..BUCKETS - moved } else { moved..BUCKETS };
        let kept = other.held.start.max(within.start)..other.held.end.min(within.end);
        let to = |at: usize| if up { at + moved } else { at - moved };
        if !kept.is_empty() {
            let there = to(kept.start)..to(kept.end);
            let theirs = other.counts.get(kept).unwrap_or_default();
            let mine = self.counts.get_mut(there.clone()).unwrap_or_default();
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine += theirs * factor;
            }
            self.widen(there);
        }
        let (beyond, end) = if up {
            (within.end..BUCKETS, BUCKETS - 1)
        } else {
            (0..within.start, 0)
        };
        if other.held.start < beyond.end && beyond.start < other.held.end {
            let beyond = sum(other.counts.get(beyond).unwrap_or_default());
            if let Some(slot) = self.counts.get_mut(end) {
                *slot += single(beyond) * factor;
            }
            self.widen(end..end + 1);
        }
        self.total += other.total * weight;
    }

    /// Adds another spectrum.
    pub fn merge(&mut self, other: &Self) {
        self.widen(other.held.clone());
        for (mine, theirs) in self.of_mut(&other.held).iter_mut().zip(other.of(&other.held)) {
            *mine += theirs;
        }
        self.total += other.total;
    }

    /// Takes another spectrum away, as far as it is in here.
    pub fn subtract(&mut self, other: &Self) {
        for (mine, theirs) in self.of_mut(&other.held).iter_mut().zip(other.of(&other.held)) {
            *mine = (*mine - theirs).max(0.0);
        }
        self.recount();
    }

    /// Weighs all samples by `factor`.
    pub fn decay(&mut self, factor: f64) {
        let factor = single(factor);
        let held = self.held.clone();
        self.of_mut(&held).iter_mut().for_each(|count| *count *= factor);
        self.recount();
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.of_mut(&held).fill(0.0);
        self.total = 0.0;
    }

    /// The position below which a share `q` of the samples lies.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.total <= 0.0 {
            return None;
        }
        let target = q * self.total;
        let mut below = 0.0;
        let mut last = 0.0;
        for (index, count) in self.counted().filter(|(_, count)| *count > 0.0) {
            let count = f64::from(count);
            if below + count >= target {
                return Some(index as f64 + ((target - below) / count).clamp(0.0, 1.0));
            }
            below += count;
            last = index as f64 + 1.0;
        }
        Some(last)
    }

    /// The first bucket from which on at most a share `most` of the samples lies, and the share that does.
    pub fn edge(&self, most: f64) -> (f64, f64) {
        let mut beyond = 0.0;
        for (index, count) in self.counted().rev() {
            let next = beyond + f64::from(count);
            if next > most * self.total {
                return (index as f64 + 1.0, beyond / self.total.max(1.0));
            }
            beyond = next;
        }
        (0.0, 0.0)
    }

    /// Share of the samples in the buckets from `position` on.
    pub fn share_from(&self, position: f64) -> f64 {
        let from = bucket(position.ceil());
        if self.total <= 0.0 || from >= self.held.end {
            return 0.0;
        }
        sum(self.counts.get(from..).unwrap_or_default()) / self.total
    }

    /// Mean and standard deviation of the positions.
    pub fn moments(&self) -> (f64, f64) {
        let (mut sum, mut squares) = (0.0, 0.0);
        for (index, count) in self.counted().filter(|(_, count)| *count > 0.0) {
            let at = index as f64 + 0.5;
            sum += f64::from(count) * at;
            squares += f64::from(count) * at * at;
        }
        let n = self.total.max(f64::MIN_POSITIVE);
        let mean = sum / n;
        (mean, (squares / n - mean * mean).max(0.0).sqrt())
    }

    fn recount(&mut self) {
        self.total = sum(self.of(&self.held));
    }

    /// The counts that may not be zero, with their buckets.
    fn counted(&self) -> impl DoubleEndedIterator<Item = (usize, f32)> {
        self.held.clone().zip(self.of(&self.held).iter().copied())
    }

    fn of(&self, buckets: &Range<usize>) -> &[f32] {
        self.counts.get(buckets.clone()).unwrap_or_default()
    }

    fn of_mut(&mut self, buckets: &Range<usize>) -> &mut [f32] {
        self.counts.get_mut(buckets.clone()).unwrap_or_default()
    }

    /// These buckets may not be zero either from here on.
    fn widen(&mut self, buckets: Range<usize>) {
        if buckets.is_empty() {
            return;
        }
        let (start, end) = (buckets.start / LANES * LANES, buckets.end.next_multiple_of(LANES));
        self.held = if self.held.is_empty() {
            start..end
        } else {
            self.held.start.min(start)..self.held.end.max(end)
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(latencies: &[f64]) -> Spectrum {
        let mut spectrum = Spectrum::default();
        for &us in latencies {
            spectrum.add(position(us), 1.0);
        }
        spectrum
    }

    #[test]
    fn quantiles_are_interpolated_to_within_a_bucket() {
        let all: Vec<f64> = (1000..2000).map(f64::from).collect();
        let spectrum = of(&all);
        for (q, us) in [(0.5, 1500.0), (0.95, 1950.0), (0.1, 1100.0)] {
            let found = latency_us(spectrum.quantile(q).unwrap());
            assert!((found / us - 1.0).abs() < 0.03, "{q}: {found}");
        }
        assert_eq!(Spectrum::default().quantile(0.5), None);
    }

    #[test]
    fn the_edge_leaves_exactly_its_share_beyond() {
        let all: Vec<f64> = (1..=1000).map(|n| 1.02f64.powi(n / 2)).collect();
        let spectrum = of(&all);
        let (edge, share) = spectrum.edge(0.05);
        assert!(share <= 0.05 && share > 0.0);
        assert!((spectrum.share_from(edge) - share).abs() < 1e-9);
    }

    #[test]
    fn what_is_shifted_beyond_an_end_stays_there() {
        for (buckets, at) in [(500, 0.99e8), (-500, 0.5)] {
            let mut shifted = Spectrum::default();
            shifted.add_shifted(&of(&[1000.0, 3000.0]), buckets, 1.0);
            assert!((shifted.total() - 2.0).abs() < 1e-9);
            assert!(
                (shifted.share_from(position(at) - 1.0) - 1.0).abs() < 1e-6,
                "{buckets}"
            );
        }
    }

    #[test]
    fn a_shift_multiplies_latencies() {
        let mut shifted = Spectrum::default();
        shifted.add_shifted(&of(&[1000.0, 3000.0]), 8, 2.0);
        assert!((shifted.total() - 4.0).abs() < 1e-9);
        assert!(shifted.share_from(position(1800.0)) > 0.99);
    }

    proptest! {
        #[test]
        fn what_was_merged_can_be_subtracted(a in proptest::collection::vec(1.0f64..1e8, 0..50),
                                             b in proptest::collection::vec(1.0f64..1e8, 0..50)) {
            let mut sum = of(&a);
            sum.merge(&of(&b));
            prop_assert!((sum.total() - (a.len() + b.len()) as f64).abs() < 1e-6);
            sum.subtract(&of(&b));
            prop_assert_eq!(sum.quantile(0.5), of(&a).quantile(0.5));
        }

        #[test]
        fn quantiles_rise(a in proptest::collection::vec(1.0f64..1e8, 1..50), q in 0.0f64..0.5, more in 0.0f64..0.5) {
            let spectrum = of(&a);
            prop_assert!(spectrum.quantile(q) <= spectrum.quantile(q + more));
        }
    }
}
