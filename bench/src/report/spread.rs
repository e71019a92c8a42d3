//! Several runs of the same thing as three numbers: the middle one, and how far the others lie apart.
//!
//! The ends are the 10th and the 90th percentile by nearest rank. Below ten runs these are the least and the greatest
//! value, so five seeds show everything that happened and a thousand do not show their two oddest.

/// Middle and ends of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// One in ten is less.
    pub(crate) low: f64,
    /// Half are less; the mean of the two in the middle where there are two.
    pub(crate) median: f64,
    /// One in ten is more.
    pub(crate) high: f64,
    /// How many values there were.
    pub(crate) runs: usize,
}

impl Spread {
    /// Of all finite values; absent where there is none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_unstable_by(f64::total_cmp);
        let runs = values.len();
        let at = |index: usize| values.get(index).copied();
        Some(Self {
            low: at(rank(runs, 1))?,
            median: f64::midpoint(at(runs.checked_sub(1)? / 2)?, at(runs / 2)?),
            high: at(rank(runs, 9))?,
            runs,
        })
    }
}

/// Index of the value that `tenths` of ten do not exceed.
fn rank(count: usize, tenths: usize) -> usize {
    (count * tenths).div_ceil(10).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_runs_show_their_ends_and_many_do_not_show_their_oddest() {
        let few = Spread::of([3.0, 1.0, 2.0, 9.0]).unwrap();
        assert_eq!((few.low, few.median, few.high, few.runs), (1.0, 2.5, 9.0, 4));
        let many = Spread::of((0..1_000).map(f64::from)).unwrap();
        assert_eq!((many.low, many.median, many.high), (99.0, 499.5, 899.0));
    }

    #[test]
    fn nothing_measured_is_no_spread_and_one_run_is_its_own() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN]), None);
        let one = Spread::of([4.0]).unwrap();
        assert_eq!((one.low, one.median, one.high), (4.0, 4.0, 4.0));
    }
}
