//! Axes: where a value stands, and which values are written beside the axis.
//!
//! A tick is a number that people count in: 1, 2 or 5 times a power of ten (Heckbert, "Nice numbers for graph labels",
//! Graphics Gems, 1990). Latencies go on a logarithm, since what matters is how many times slower; percentiles go on a
//! logarithm of what is left above them, so that each nine takes the same width and the tail is not squeezed into the
//! last pixel. A single value, or the same value twice, still gets an axis with two ticks.

/// The most ticks that fit beside each other without their labels touching.
const TICKS_MAX: f64 = 6.0;

/// Up to this many powers of ten, a logarithmic axis also has ticks at 2 and 5 times each.
const DECADES_WITH_STEPS: f64 = 2.0;

/// A value on a logarithmic axis that is zero or less stands at its foot, not at minus infinity.
const LOG_LEAST: f64 = 1e-6;

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Equal steps.
    Linear,
    /// Equal factors.
    Log,
    /// Percentiles, 0 to 100: each further nine is a step.
    Nines,
}

/// One axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    scale: Scale,
    /// Ends, as the scale counts: logarithms on a logarithmic axis.
    from: f64,
    to: f64,
    /// Values at which there is a tick, ascending.
    pub(crate) ticks: Vec<f64>,
}

impl Axis {
    /// Equal steps, from and to a round number outside of all `values`.
    pub(crate) fn linear(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = ends(values);
        let step = nice_step(high - low);
        let (from, to) = ((low / step).floor() * step, (high / step).ceil() * step);
        Self::stepped(from, to, step)
    }

    /// Equal steps from `low` to `high` exactly: time, where a round end would leave an empty stretch.
    pub(crate) fn exact(low: f64, high: f64) -> Self {
        let (low, high) = ends([low, high]);
        Self::stepped(low, high, nice_step(high - low))
    }

    fn stepped(from: f64, to: f64, step: f64) -> Self {
        // A hair is allowed for what division leaves over.
        let hair = 1e-9;
        let first = (from / step - hair).ceil();
        let ticks = (0..)
            .map(|turn| first + f64::from(turn))
            .take_while(|count| *count <= to / step + hair)
            // No minus zero, which would be written with its sign.
            .map(|count| count * step + 0.0);
        Self {
            scale: Scale::Linear,
            ticks: ticks.collect(),
            from,
            to,
        }
    }

    /// Equal factors, from and to 1, 2 or 5 times a power of ten outside of all positive `values`.
    pub(crate) fn log(values: impl IntoIterator<Item = f64>) -> Self {
        let positive: Vec<f64> = values.into_iter().filter(|value| *value > LOG_LEAST).collect();
        let low = positive.iter().copied().fold(f64::INFINITY, f64::min);
        let high = positive.iter().copied().fold(LOG_LEAST, f64::max);
        let low = if low.is_finite() { low } else { 1.0 };
        let high = high.max(low);
        let mut steps = steps_of_decades(low, high);
        let within =
            |value: f64, steps: &[f64]| steps.iter().filter(|step| **step <= value * 1.000_001).count();
        // From the last step at or below the least value to the first at or above the greatest.
        let first = within(low, &steps).saturating_sub(1);
        let beyond = within(high * 0.999_998, &steps).max(first + 1);
        steps.truncate(beyond + 1);
        steps.drain(..first);
        let (from, to) = (
            steps.first().copied().unwrap_or(low),
            steps.last().copied().unwrap_or(high),
        );
        if (to / from).log10() > DECADES_WITH_STEPS {
            steps.retain(|step| is_power_of_ten(*step));
        }
        Self {
            scale: Scale::Log,
            ticks: steps,
            from: from.log10(),
            to: to.log10(),
        }
    }

    /// Percentiles up to `last`, beyond which half a nine of room is left for the greatest value.
    pub(crate) fn nines(last: f64) -> Self {
        let to = nines(last.min(99.999_999)) + 0.5;
        let ticks = [0.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.999_9];
        let within = ticks.into_iter().filter(|tick| nines(*tick) <= to - 0.49);
        Self {
            scale: Scale::Nines,
            ticks: within.chain([100.0]).collect(),
            from: 0.0,
            to,
        }
    }

    /// Where `value` stands, from 0 at the start of the axis to 1 at its end. What is beyond an end stands at that end.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let counted = match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(LOG_LEAST).log10(),
            Scale::Nines => nines(value),
        };
        ((counted - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }

    /// Whether `value` lies beyond an end of the axis.
    pub(crate) fn is_off(&self, value: f64) -> bool {
        let counted = match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(LOG_LEAST).log10(),
            Scale::Nines => nines(value),
        };
        // A hair, so that a value on the end counts as on the axis.
        let hair = (self.to - self.from) * 1e-9;
        counted < self.from - hair || counted > self.to + hair
    }
}

/// How many nines a percentile has: 90 one, 99 two. 100 has infinitely many.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile.clamp(0.0, 100.0) / 100.0).log10()
}

/// Least and greatest value, apart from each other even where the values are not.
fn ends(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .into_iter()
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    match (low.is_finite(), high - low > f64::EPSILON * high.abs()) {
        (false, _) => (0.0, 1.0),
        (true, true) => (low, high),
        (true, false) => (low, low + low.abs().max(1.0)),
    }
}

/// The least of 1, 2 and 5 times a power of ten of which at most [`TICKS_MAX`] fit into `span`.
fn nice_step(span: f64) -> f64 {
    let raw = span / TICKS_MAX;
    let decade = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * decade >= raw);
    factor.unwrap_or(10.0) * decade
}

/// 1, 2 and 5 times each power of ten, from at or below `low` to above `high`.
fn steps_of_decades(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().floor(), high.log10().ceil());
    (0..)
        .map(|turn| first + f64::from(turn))
        .take_while(|decade| *decade <= last)
        .flat_map(|decade| [1.0, 2.0, 5.0].map(|factor| factor * 10_f64.powf(decade)))
        .collect()
}

fn is_power_of_ten(value: f64) -> bool {
    (value.log10() - value.log10().round()).abs() < 1e-9
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_nice(value: f64) -> bool {
        let decade = 10_f64.powf((value.log10() + 1e-9).floor());
        [1.0, 2.0, 5.0]
            .iter()
            .any(|factor| (value / decade - factor).abs() < 1e-6)
    }

    fn apart(low: f64, width: f64) -> bool {
        width > low.abs() * 1e-6
    }

    proptest! {
        #[test]
        fn a_linear_axis_holds_its_values_between_equal_nice_steps(low in -1e6..1e6_f64, width in 1e-3..1e6_f64) {
            prop_assume!(apart(low, width));
            let axis = Axis::linear([low + width, low]);
            prop_assert!(!axis.is_off(low) && !axis.is_off(low + width));
            prop_assert!((2..=8).contains(&axis.ticks.len()), "{:?}", axis.ticks);
            let steps: Vec<f64> = axis.ticks.windows(2).map(|pair| pair[1] - pair[0]).collect();
            for step in &steps {
                prop_assert!((step - steps[0]).abs() <= steps[0] * 1e-6 + low.abs() * 1e-9);
            }
            prop_assert!(axis.place(axis.ticks[0]).abs() < 1e-6);
            prop_assert!((axis.place(axis.ticks[axis.ticks.len() - 1]) - 1.0).abs() < 1e-6);
        }

        #[test]
        fn an_exact_axis_ends_at_its_values_and_ticks_within(low in -1e4..1e4_f64, width in 1e-2..1e4_f64) {
            prop_assume!(apart(low, width));
            let axis = Axis::exact(low, low + width);
            prop_assert!(axis.place(low).abs() < 1e-9 && (axis.place(low + width) - 1.0).abs() < 1e-9);
            prop_assert!((1..=7).contains(&axis.ticks.len()), "{:?}", axis.ticks);
            prop_assert!(axis.ticks.iter().all(|tick| !axis.is_off(*tick)));
        }

        #[test]
        fn a_log_axis_holds_its_values_and_ticks_at_nice_numbers(low in 1e-3..1e5_f64, factor in 1.0..1e6_f64) {
            let axis = Axis::log([low * factor, low]);
            prop_assert!(!axis.is_off(low) && !axis.is_off(low * factor), "{axis:?}");
            prop_assert!((2..=10).contains(&axis.ticks.len()), "{:?}", axis.ticks);
            prop_assert!(axis.ticks.iter().all(|tick| is_nice(*tick)), "{:?}", axis.ticks);
            prop_assert!(axis.ticks.is_sorted());
        }

        #[test]
        fn a_greater_value_never_stands_lower(a in 0.0..100.0_f64, b in 0.0..100.0_f64) {
            let (low, high) = (a.min(b), a.max(b));
            for axis in [Axis::linear([0.0, 100.0]), Axis::log([1.0, 100.0]), Axis::nines(99.99)] {
                let (low, high) = (axis.place(low), axis.place(high));
                prop_assert!(low <= high && (0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
            }
        }
    }

    #[test]
    fn ticks_are_what_people_count_in() {
        assert_eq!(Axis::linear([0.0, 9.3]).ticks, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(Axis::linear([-0.4, 1.0]).ticks, [-0.5, 0.0, 0.5, 1.0]);
        assert_eq!(
            Axis::log([3.0, 180.0]).ticks,
            [2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]
        );
        assert_eq!(Axis::log([3.0, 1_800.0]).ticks, [10.0, 100.0, 1_000.0]);
        assert_eq!(Axis::nines(99.99).ticks, [0.0, 90.0, 99.0, 99.9, 99.99, 100.0]);
    }

    #[test]
    fn each_nine_is_a_step_of_the_same_width() {
        let axis = Axis::nines(99.99);
        let places = [0.0, 90.0, 99.0, 99.9, 99.99].map(|percentile| axis.place(percentile));
        for pair in places.windows(2) {
            assert!((pair[1] - pair[0] - 1.0 / 4.5).abs() < 1e-6, "{places:?}");
        }
        assert!((axis.place(100.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn an_axis_exists_without_values_and_with_one() {
        assert_eq!(Axis::linear([]).ticks.len(), 6);
        assert!(Axis::linear([7.0]).ticks.len() >= 2);
        assert!(Axis::linear([0.0, 0.0]).ticks.len() >= 2);
        assert!(Axis::log([]).ticks.len() >= 2);
        assert!(Axis::log([10.0]).ticks.len() >= 2);
        assert!((0.0..=1.0).contains(&Axis::log([0.0, 5.0]).place(0.0)));
    }
}
