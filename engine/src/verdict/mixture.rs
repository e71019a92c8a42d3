//! The two likelihood ratios that every verdict is made of, mixed over a handful of alternatives, in log space.
//!
//! [`Ratio`] asks on which arm events fall: the router drew the shadow with a known probability `w`, so an event is
//! the shadow's with probability `r w / (r w + 1 - w)` where `r` is the ratio of the two arms' event rates, *whatever
//! the base rate does*. [`Level`] asks how many of one arm's requests are events. Both are compared with a boundary,
//! and averaged over a fixed grid beyond it: the average of e-values is an e-value (Vovk & Wang 2021), so the grid
//! costs at most its logarithm and nobody has to guess how bad a regression will be.
//!
//! For every alternative beyond the boundary each factor has a mean of at most one under the hypothesis, and a product
//! of such factors crosses `1/alpha` with probability at most `alpha`, at any time (Ville 1939). Howard, Ramdas,
//! McAuliffe, Sekhon, Ann. Stat. 49(2) 2021; Lindon & Malek, NeurIPS 2022.
//!
//! Nothing counted: every function here returns 0 nats, which is no evidence in either direction.

/// How much worse than tolerable a shadow may turn out to be. Factors of the tolerance.
pub const WORSE: [f64; 8] = [1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];

/// What a good shadow is like, whatever the margin. Ratios; beside them there is one close to the margin.
pub const GOOD: [f64; 4] = [1.2, 1.0, 0.75, 0.5];

/// The ratio closest to a margin that is told apart from it, for shadows that are tolerable and no more. A factor.
const BELOW: f64 = 0.8;

/// How much smaller than a bound the ratio may be, where nothing is known about it. Factors of the bound.
const SMALLER: [f64; 4] = [0.8, 2.0 / 3.0, 0.5, 1.0 / 3.0];

/// How much better than the ceiling a good level is. Factors of the ceiling; the first one is for levels near zero.
pub const LOWER: [f64; 4] = [0.02, 0.1, 0.25, 0.5];

/// How much above the ceiling a level may jump. Factors of its odds.
pub const HIGHER: [f64; 6] = [1.5, 2.0, 3.0, 5.0, 10.0, 100.0];

/// Alternatives in one mixture at most.
const GRID_MAX: usize = 8;

/// The most that an e-value is shown as: JSON has no infinity.
const SHOWN_MAX: f64 = 1e300;

/// Events under one probability of the shadow. Counts may be fractions where bursts were collapsed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counted {
    /// Probability with which the router drew the shadow, 0 to 1.
    pub weight: f64,
    /// Events of both arms.
    pub events: f64,
    /// Those of the shadow.
    pub shadow: f64,
}

/// A test of the ratio of event rates, shadow over primary, against one side of a boundary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    boundary: f64,
    /// Alternatives, as factors of the boundary; as many as there are.
    factors: [f64; GRID_MAX],
    count: usize,
}

/// A test of one arm's share of events against one side of a boundary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    boundary: f64,
    factors: &'static [f64],
}

impl Ratio {
    /// Evidence grows while the ratio is above `tolerance`. The hypothesis: it never is.
    pub fn above(tolerance: f64) -> Self {
        Self::mixed(tolerance, WORSE.into_iter())
    }

    /// Evidence grows while the ratio is that of a good shadow. The hypothesis: it is never below `margin`.
    pub fn below(margin: f64) -> Self {
        let good = GOOD.into_iter().map(|ratio| ratio / margin);
        let distinct = good.filter(|factor| *factor < BELOW - 1e-9);
        Self::mixed(margin, std::iter::once(BELOW).chain(distinct))
    }

    /// Evidence grows while the ratio is below `bound`, wherever that lies. The hypothesis: it never is.
    pub fn under(bound: f64) -> Self {
        Self::mixed(bound, SMALLER.into_iter())
    }

    fn mixed(boundary: f64, grid: impl Iterator<Item = f64>) -> Self {
        let (mut factors, mut count) = ([1.0; GRID_MAX], 0);
        for (place, factor) in factors.iter_mut().zip(grid) {
            *place = factor;
            count += 1;
        }
        Self {
            boundary,
            factors,
            count,
        }
    }

    fn factors(&self) -> &[f64] {
        self.factors.get(..self.count).unwrap_or_default()
    }

    /// Nats of evidence: the logarithm of an e-value.
    pub fn nats(self, counted: impl Iterator<Item = Counted>) -> f64 {
        let (mut sums, mut on_shadow) = ([0.0; GRID_MAX], 0.0);
        for counts in counted {
            let odds = 1.0 + (self.boundary - 1.0) * counts.weight;
            for (sum, factor) in sums.iter_mut().zip(self.factors()) {
                let alternative = 1.0 + (self.boundary * factor - 1.0) * counts.weight;
                *sum -= counts.events * (alternative / odds).ln();
            }
            on_shadow += counts.shadow;
        }
        for (sum, factor) in sums.iter_mut().zip(self.factors()) {
            *sum += on_shadow * factor.ln();
        }
        log_mean_exp(sums.iter().take(self.count))
    }
}

impl Level {
    /// Evidence grows while the share of events is below `ceiling`. The hypothesis: it never is.
    pub const fn below(ceiling: f64) -> Self {
        Self {
            boundary: ceiling,
            factors: &LOWER,
        }
    }

    /// Evidence grows while the share of events is above `ceiling`. The hypothesis: it never is.
    pub const fn above(ceiling: f64) -> Self {
        Self {
            boundary: ceiling,
            factors: &HIGHER,
        }
    }

    /// Nats of evidence of `events` among `requests`.
    pub fn nats(self, requests: f64, events: f64) -> f64 {
        let mut sums = [0.0; GRID_MAX];
        for (sum, nats) in sums.iter_mut().zip(self.each(requests, events)) {
            *sum = nats;
        }
        log_mean_exp(sums.iter().take(self.factors.len()))
    }

    /// Nats of evidence for each alternative by itself.
    pub fn each(self, requests: f64, events: f64) -> impl Iterator<Item = f64> {
        self.factors.iter().map(move |factor| {
            let alternative = self.alternative(*factor);
            let hit = (alternative / self.boundary).ln();
            let miss = ((1.0 - alternative) / (1.0 - self.boundary)).ln();
            events * hit + (requests - events) * miss
        })
    }

    /// A share stays a share: above the ceiling it is the odds that grow.
    fn alternative(self, factor: f64) -> f64 {
        if factor < 1.0 {
            return self.boundary * factor;
        }
        let odds = factor * self.boundary / (1.0 - self.boundary);
        odds / (1.0 + odds)
    }
}

/// The logarithm of the mean of the exponentials, without leaving the numbers; 0 of nothing.
pub fn log_mean_exp<'a>(terms: impl Iterator<Item = &'a f64> + Clone) -> f64 {
    log_weighted_sum(terms.map(|term| (1.0, *term))).unwrap_or(0.0)
}

/// The logarithm of the weighted mean of the exponentials; none where nothing has a weight. Weights are not negative.
pub fn log_weighted_sum(terms: impl Iterator<Item = (f64, f64)> + Clone) -> Option<f64> {
    let weighed = terms.filter(|(weight, _)| *weight > 0.0);
    let largest = weighed
        .clone()
        .map(|(_, nats)| nats)
        .fold(f64::NEG_INFINITY, f64::max);
    if largest.is_infinite() {
        return None;
    }
    let (weights, sum) = weighed.fold((0.0, 0.0), |(weights, sum), (weight, nats)| {
        (weights + weight, sum + weight * (nats - largest).exp())
    });
    Some(largest + (sum / weights).ln())
}

/// An e-value for people: `exp(nats)`, as far as it is a number.
pub fn shown(nats: f64) -> f64 {
    nats.exp().min(SHOWN_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(weight: f64, events: f64, shadow: f64) -> Counted {
        Counted {
            weight,
            events,
            shadow,
        }
    }

    /// The same by multiplying probabilities, event by event.
    fn product(test: Ratio, weight: f64, labels: &[bool]) -> f64 {
        let chance = |ratio: f64, label: bool| {
            let shadow = ratio * weight / (ratio * weight + 1.0 - weight);
            if label { shadow } else { 1.0 - shadow }
        };
        let of = |factor: &f64| -> f64 {
            let each = labels
                .iter()
                .map(|label| chance(test.boundary * factor, *label) / chance(test.boundary, *label));
            each.product()
        };
        test.factors().iter().map(of).sum::<f64>() / test.count as f64
    }

    #[test]
    fn nothing_counted_is_no_evidence() {
        assert!(Ratio::above(1.25).nats(std::iter::empty()).abs() < 1e-12);
        assert!(Ratio::below(1.5).nats(std::iter::once(at(0.05, 0.0, 0.0))).abs() < 1e-12);
        assert!(Level::below(0.01).nats(0.0, 0.0).abs() < 1e-12);
    }

    #[test]
    fn a_billion_events_stay_numbers() {
        for (events, shadow) in [(1e9, 1e9), (1e9, 0.0), (1e9, 5e7)] {
            for test in [Ratio::above(1.25), Ratio::below(1.5)] {
                assert!(test.nats(std::iter::once(at(0.05, events, shadow))).is_finite());
            }
            assert!(Level::below(0.01).nats(events, shadow).is_finite());
            assert!(Level::above(0.7).nats(events, shadow).is_finite());
        }
        assert!(shown(1e9).is_finite());
    }

    #[test]
    fn nobody_shadows_nothing_at_the_ends_of_the_weight() {
        for weight in [0.0, 1.0] {
            let nats = Ratio::above(1.25).nats(std::iter::once(at(weight, 10.0, 10.0)));
            assert!(nats.is_finite());
        }
        // Everything on the shadow says nothing about the ratio.
        assert!(
            Ratio::above(1.25)
                .nats(std::iter::once(at(1.0, 10.0, 10.0)))
                .abs()
                < 1e-9
        );
    }

    proptest! {
        #[test]
        fn counts_say_what_the_product_of_probabilities_says(
            labels in proptest::collection::vec(any::<bool>(), 0..60),
            weight in 0.005f64..0.995,
            boundary in 1.0f64..3.0,
        ) {
            let shadow = labels.iter().filter(|label| **label).count() as f64;
            for test in [Ratio::above(boundary), Ratio::below(boundary)] {
                let nats = test.nats(std::iter::once(at(weight, labels.len() as f64, shadow)));
                prop_assert!((nats - product(test, weight, &labels).ln()).abs() < 1e-8);
            }
        }

        #[test]
        fn one_more_event_is_worth_one_on_average_at_the_boundary(
            events in 0u32..50,
            part in 0.0f64..1.0,
            weight in 0.005f64..0.995,
            boundary in 1.0f64..3.0,
        ) {
            // The defining property of an e-process, at any state: the mean of the next value is the present one.
            let (events, shadow) = (f64::from(events), (f64::from(events) * part).floor());
            let chance = boundary * weight / (boundary * weight + 1.0 - weight);
            for test in [Ratio::above(boundary), Ratio::below(boundary)] {
                let nats = |more: f64, hit: f64| test.nats(std::iter::once(at(weight, events + more, shadow + hit)));
                let next = chance * (nats(1.0, 1.0) - nats(0.0, 0.0)).exp()
                    + (1.0 - chance) * (nats(1.0, 0.0) - nats(0.0, 0.0)).exp();
                prop_assert!((next - 1.0).abs() < 1e-9);
            }
        }

        #[test]
        fn a_bound_on_the_weight_is_a_bound_on_the_evidence(
            events in 0u32..1000,
            part in 0.0f64..1.0,
            weight in 0.005f64..0.9,
            more in 0.0f64..0.1,
            boundary in 1.0f64..3.0,
        ) {
            // What makes merging of segments harmless: see `tally`.
            let shadow = (f64::from(events) * part).floor();
            let with = |test: Ratio, weight| test.nats(std::iter::once(at(weight, f64::from(events), shadow)));
            let (above, below) = (Ratio::above(boundary), Ratio::below(boundary));
            prop_assert!(with(above, weight + more) <= with(above, weight) + 1e-9);
            prop_assert!(with(below, weight) <= with(below, weight + more) + 1e-9);
        }
    }
}
