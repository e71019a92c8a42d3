//! What is kept of the past: for each probability of the shadow, how many events there were and how many were its own.
//!
//! Integers, because a sum of logarithms would drift, could not be judged again under another tolerance, and could not
//! be compared after a restart. Whoever writes them down and reads them back has lost nothing and won nothing: alpha is
//! spent once per analysis, not once per process.
//!
//! **Bound and merge rule.** There are [`SEGMENTS_MAX`] segments. One more joins the two neighbours whose union loses
//! the fewest nats (events times the distance of their odds). A segment remembers the lowest and the highest weight
//! that it holds; the test for "worse" uses the highest, the test for "not worse" the lowest.
//!
//! *Harmless*: an event's log-likelihood ratio is `x ln(r_j/r_0) - ln(1 + (r_j-1) w) + ln(1 + (r_0-1) w)`, whose
//! derivative by `w` is `-(r_j - r_0) / ((1 + (r_j-1) w)(1 + (r_0-1) w))`: negative for alternatives above the
//! boundary, positive for those below. So evidence computed with a weight that is too high (worse) or too low (not
//! worse) is at most the evidence computed with the true one, on every path and for any history of merges; what never
//! exceeds an e-process crosses `1/alpha` no more often than it. Merging costs detection time and never a guarantee.

use serde::{Deserialize, Serialize};

use super::mixture::Counted;

/// Segments of one tally at most: a rollout has six steps, a risk-driven shift a few dozen shares.
pub const SEGMENTS_MAX: usize = 64;

/// Parts of a weight: it is an integer number of billionths.
const WEIGHT_PARTS: f64 = 1e9;

/// Closer than this to a whole number of parts, a weight is that number: shares are written in decimals.
const ROUNDING: f64 = 1e-3;

/// Parts of an event: a collapsed burst is one event of which each arm has a fraction.
pub const EVENT: u64 = 1_000_000;

/// Why a tally that was written down is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TallyError {
    /// More segments than there can be.
    #[error("{0} segments of weight; {SEGMENTS_MAX} are the most")]
    TooMany(usize),
    /// A weight above one, or a segment that is not after the one before it.
    #[error("the weights of segment {0} are out of order")]
    Order(usize),
    /// More events of the shadow than events.
    #[error("segment {0} has more events of the shadow than events")]
    Events(usize),
}

/// Events under neighbouring weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Lowest weight in here, billionths.
    pub low: u32,
    /// Highest weight in here, billionths.
    pub high: u32,
    /// Events of both arms, millionths.
    pub events: u64,
    /// Those of the shadow, millionths.
    pub shadow: u64,
}

/// Events of one metric, by weight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Segment>", into = "Vec<Segment>")]
pub struct Tally {
    /// By weight, ascending, without overlap.
    segments: Vec<Segment>,
}

/// Between which billionths a weight lies: neighbours where it is known, and as far apart as what is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    low: u32,
    high: u32,
}

impl Weight {
    /// From a probability; none unless it lies strictly between 0 and 1.
    pub fn of(probability: f64) -> Option<Self> {
        Self::between(probability, probability)
    }

    /// From the lowest and the highest that a probability may have been; none where nothing lies strictly between 0 and 1.
    pub fn between(low: f64, high: f64) -> Option<Self> {
        if !(low >= 0.0 && low <= high && high <= 1.0 && high > 0.0 && low < 1.0) {
            return None;
        }
        let ([low, _], [_, high]) = (around(low), around(high));
        Some(Self { low, high })
    }

    /// The lowest that it may have been.
    #[must_use]
    pub fn lowest(self) -> Self {
        Self {
            high: self.low,
            ..self
        }
    }

    /// The highest that it may have been.
    #[must_use]
    pub fn highest(self) -> Self {
        Self {
            low: self.high,
            ..self
        }
    }

    /// Whatever either may have been.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            low: self.low.min(other.low),
            high: self.high.max(other.high),
        }
    }

    /// As a probability, the lowest.
    pub fn value(self) -> f64 {
        f64::from(self.low) / WEIGHT_PARTS
    }
}

/// The numbers of parts around a probability from 0 to 1.
fn around(probability: f64) -> [u32; 2] {
    let parts = probability * WEIGHT_PARTS;
    let nearest = parts.round();
    if (parts - nearest).abs() < ROUNDING {
        [whole(nearest); 2]
    } else {
        [whole(parts.floor()), whole(parts.ceil())]
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "0 to a billion, by the check that comes before it"
)]
fn whole(parts: f64) -> u32 {
    parts as u32
}

impl Segment {
    fn counted(self, weight: u32) -> Counted {
        Counted {
            weight: f64::from(weight) / WEIGHT_PARTS,
            events: self.events as f64 / EVENT as f64,
            shadow: self.shadow as f64 / EVENT as f64,
        }
    }

    fn log_odds(parts: u32) -> f64 {
        let weight = f64::from(parts).clamp(1.0, WEIGHT_PARTS - 1.0) / WEIGHT_PARTS;
        (weight / (1.0 - weight)).ln()
    }

    /// What it would cost to be one with the next segment, nats.
    fn loss(self, next: Self) -> f64 {
        self.events.saturating_add(next.events) as f64
            * (Self::log_odds(next.high) - Self::log_odds(self.low))
    }

    fn union(self, next: Self) -> Self {
        Self {
            low: self.low.min(next.low),
            high: self.high.max(next.high),
            events: self.events.saturating_add(next.events),
            shadow: self.shadow.saturating_add(next.shadow),
        }
    }
}

impl Tally {
    /// Adds events, in [`EVENT`]s, that were routed under `weight`.
    pub fn add(&mut self, weight: Weight, events: u64, shadow: u64) {
        if events == 0 {
            return;
        }
        let more = Segment {
            low: weight.low,
            high: weight.high,
            events,
            shadow: shadow.min(events),
        };
        let at = self.segments.partition_point(|segment| segment.high < more.low);
        match self.segments.get_mut(at) {
            // One that is a billionth wide meets one segment only, or touches two in one point. Of one that is wider, the
            // judge adds either end by itself.
            Some(segment) if segment.low <= more.high => *segment = segment.union(more),
            _ => self.segments.insert(at, more),
        }
        self.settle(at);
    }

    /// Merges what overlaps after segment `at` has grown, and the cheapest neighbours where there are too many.
    fn settle(&mut self, at: usize) {
        if let Some((one, next)) = self.neighbours(at).filter(|(one, next)| next.low <= one.high) {
            self.join(at, one.union(next));
        }
        if self.segments.len() > SEGMENTS_MAX {
            let pairs = self.segments.iter().zip(self.segments.iter().skip(1));
            let losses = pairs
                .enumerate()
                .map(|(index, (one, next))| (index, one.loss(*next)));
            let cheapest = losses.min_by(|one, other| one.1.total_cmp(&other.1));
            let cheapest = cheapest.map_or(0, |(index, _)| index);
            if let Some((one, next)) = self.neighbours(cheapest) {
                self.join(cheapest, one.union(next));
            }
        }
    }

    fn neighbours(&self, at: usize) -> Option<(Segment, Segment)> {
        self.segments
            .get(at)
            .copied()
            .zip(self.segments.get(at + 1).copied())
    }

    fn join(&mut self, at: usize, union: Segment) {
        self.segments.remove(at + 1);
        if let Some(segment) = self.segments.get_mut(at) {
            *segment = union;
        }
    }

    /// For the test that the shadow is worse: each event under the highest weight that it may have had.
    pub fn for_worse(&self) -> impl Iterator<Item = Counted> + Clone {
        self.segments.iter().map(|segment| segment.counted(segment.high))
    }

    /// For the test that the shadow is not worse: each event under the lowest weight that it may have had.
    pub fn for_not_worse(&self) -> impl Iterator<Item = Counted> + Clone {
        self.segments.iter().map(|segment| segment.counted(segment.low))
    }

    /// The segments, by weight.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

impl TryFrom<Vec<Segment>> for Tally {
    type Error = TallyError;

    fn try_from(segments: Vec<Segment>) -> Result<Self, TallyError> {
        if segments.len() > SEGMENTS_MAX {
            return Err(TallyError::TooMany(segments.len()));
        }
        let mut least = 0;
        for (index, segment) in segments.iter().enumerate() {
            let ordered = least <= segment.low && segment.low <= segment.high;
            if !ordered || f64::from(segment.high) > WEIGHT_PARTS {
                return Err(TallyError::Order(index));
            }
            if segment.shadow > segment.events {
                return Err(TallyError::Events(index));
            }
            least = segment.high + 1;
        }
        Ok(Self { segments })
    }
}

impl From<Tally> for Vec<Segment> {
    fn from(tally: Tally) -> Self {
        tally.segments
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::mixture::Ratio;
    use super::*;

    fn weight(probability: f64) -> Weight {
        Weight::of(probability).unwrap()
    }

    #[test]
    fn what_is_no_weight_is_refused() {
        for probability in [0.0, 1.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Weight::of(probability), None);
        }
        assert!((weight(0.05).value() - 0.05).abs() < 1e-12);
    }

    #[test]
    fn a_tally_that_is_not_one_is_refused() {
        let segment = |low, high, events, shadow| Segment {
            low,
            high,
            events,
            shadow,
        };
        let read = |segments: Vec<Segment>| Tally::try_from(segments).unwrap_err();
        assert_eq!(read(vec![segment(5, 4, 1, 1)]), TallyError::Order(0));
        assert_eq!(
            read(vec![segment(1, 4, 1, 1), segment(4, 5, 1, 1)]),
            TallyError::Order(1)
        );
        assert_eq!(read(vec![segment(1, u32::MAX, 1, 1)]), TallyError::Order(0));
        assert_eq!(read(vec![segment(1, 4, 1, 2)]), TallyError::Events(0));
        assert_eq!(read(vec![segment(1, 1, 1, 1); 65]), TallyError::TooMany(65));
    }

    proptest! {
        #[test]
        fn segments_stay_few_ordered_and_complete(
            added in proptest::collection::vec((0.001f64..0.999, 0u64..50, 0u64..50), 0..300),
        ) {
            let mut tally = Tally::default();
            for (probability, shadow, primary) in &added {
                tally.add(weight(*probability), shadow + primary, *shadow);
            }
            let events: u64 = added.iter().map(|(_, shadow, primary)| shadow + primary).sum();
            prop_assert_eq!(tally.segments().iter().map(|segment| segment.events).sum::<u64>(), events);
            // What is written down is read back: order and bounds hold.
            let text = serde_json::to_string(&tally).unwrap();
            prop_assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally);
        }

        #[test]
        fn merging_never_adds_evidence(
            added in proptest::collection::vec((0.005f64..0.9, 0u64..9, 0u64..9), 1..300),
        ) {
            let mut tally = Tally::default();
            for (probability, shadow, primary) in &added {
                tally.add(weight(*probability), (shadow + primary) * EVENT, shadow * EVENT);
            }
            let exact = added.iter().map(|(weight, shadow, primary)| Counted {
                weight: *weight,
                events: (shadow + primary) as f64,
                shadow: *shadow as f64,
            });
            let (above, below) = (Ratio::above(1.25), Ratio::below(1.5));
            prop_assert!(above.nats(tally.for_worse()) <= above.nats(exact.clone()) + 1e-5);
            prop_assert!(below.nats(tally.for_not_worse()) <= below.nats(exact) + 1e-5);
        }
    }

    #[test]
    fn merging_costs_little() {
        // A share that moves every tick, ten thousand of them: a tenth of the evidence at most is lost.
        let mut tally = Tally::default();
        let mut exact = Vec::new();
        for tick in 0..10_000u32 {
            let probability = 0.05 + 0.45 * (f64::from(tick) / 500.0).sin().abs();
            let shadow = u64::from(tick % 3 == 0);
            tally.add(weight(probability), EVENT, shadow * EVENT);
            exact.push(Counted {
                weight: probability,
                events: 1.0,
                shadow: shadow as f64,
            });
        }
        let test = Ratio::below(3.0);
        let (kept, all) = (test.nats(tally.for_not_worse()), test.nats(exact.iter().copied()));
        assert!(kept > 0.9 * all, "{kept} of {all}");
    }
}
