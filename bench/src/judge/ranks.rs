//! Mann-Whitney on two samples: the Hodges-Lehmann shift and its confidence interval.
//!
//! Kayenta solves for the shift at which the rank sum, with its normal approximation and continuity correction,
//! reaches a quantile (`kayenta-mannwhitney`, `MannWhitney.scala`, after R's `wilcox.test`). The rank sum is a step
//! function of the shift that falls at each difference of two values, so the solution is one of the ordered
//! differences; it is taken directly, without the solver's tolerance.

/// Quantile of the normal distribution for a confidence of 0.98: one percent on either side.
pub const Z_98: f64 = 2.326_347_874;

/// A shift of the second sample against the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// Its estimate: the median of all differences.
    pub estimate: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The shift between two samples at confidence `z`; none where one is empty.
pub fn shift(control: &[f64], experiment: &[f64], z: f64) -> Option<Shift> {
    let pairs = experiment
        .iter()
        .flat_map(|value| control.iter().map(move |other| value - other));
    let mut differences: Vec<f64> = pairs.collect();
    let (n, m) = (control.len() as f64, experiment.len() as f64);
    let last = differences.len().checked_sub(1)?;
    let centre = n * m / 2.0;
    let deviation = (n * m * (n + m + 1.0) / 12.0).sqrt();
    let index = position(centre - z * deviation - 0.5);
    let mut ranked = |index: usize| *differences.select_nth_unstable_by(index, f64::total_cmp).1;
    Some(Shift {
        estimate: f64::midpoint(ranked(last / 2), ranked(last - last / 2)),
        low: ranked(index.min(last)),
        high: ranked(last.saturating_sub(index)),
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "between 0 and the number of differences"
)]
fn position(rank: f64) -> usize {
    rank.max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_estimated_by_the_median_of_differences() {
        let control: Vec<f64> = (0..60).map(f64::from).collect();
        let experiment: Vec<f64> = control.iter().map(|value| value + 30.0).collect();
        let shift = shift(&control, &experiment, Z_98).unwrap();
        assert!((shift.estimate - 30.0).abs() < 1e-9);
        assert!(
            shift.low < 30.0 && shift.low > 20.0 && shift.high > 30.0 && shift.high < 40.0,
            "{shift:?}"
        );
    }

    #[test]
    fn it_agrees_with_the_asymptotic_interval_of_r() {
        // By hand: n = m = 5, so all 25 differences; index floor(12.5 - 2.326 * sqrt(25 * 11 / 12) - 0.5) = 0.
        let (control, experiment) = ([1.0, 2.0, 3.0, 4.0, 5.0], [2.5, 3.5, 4.5, 5.5, 9.0]);
        let shift = shift(&control, &experiment, Z_98).unwrap();
        assert!(
            (shift.low + 2.5).abs() < 1e-9 && (shift.high - 8.0).abs() < 1e-9,
            "{shift:?}"
        );
        assert!((shift.estimate - 1.5).abs() < 1e-9, "{shift:?}");
    }

    #[test]
    fn of_nothing_there_is_no_shift() {
        assert_eq!(shift(&[], &[1.0], Z_98), None);
        assert_eq!(shift(&[1.0], &[], Z_98), None);
    }
}
