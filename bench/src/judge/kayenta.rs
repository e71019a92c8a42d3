//! Kayenta's rule: one value per minute and metric on either arm, and each hour a Mann-Whitney test of all of them so
//! far.
//!
//! A metric is High when the lower end of the shift's interval (confidence 0.98) lies above a quarter of the
//! Hodges-Lehmann estimate (`spinnaker/kayenta`, `kayenta-judge`, `NetflixACAJudge.scala` and
//! `MannWhitneyClassifier.scala`: `fraction = 0.25, confLevel = 0.98`). A group's score is its share of metrics that
//! pass, one without data scores 100, and the sum over groups is compared with `pass: 90, marginal: 75`
//! (`WeightedSumScorer.scala`; the numbers are those of Argo's Kayenta example). Lifetime 3 h, interval 1 h, at least
//! 50 values: Spinnaker's best practices. Below marginal it ends at once; at the end it has to pass.
//!
//! Two metrics in two groups of equal weight: the share of failures, and the mean latency as a histogram's buckets
//! give it. Minutes without requests have no value and are left out (`nanStrategy: remove`). The control is the
//! primary with all of its traffic, which Kayenta advises against because of warm-up; nothing here has to warm up.

use super::ranks::{Z_98, shift};
use super::stream::{LIMITS_MS, Tick};
use super::{Decision, Judge};

/// One value covers so much, seconds.
const POINT_S: f64 = 60.0;

/// Between two judgements, seconds.
const INTERVAL_S: f64 = 3600.0;

/// Judgements in a lifetime.
const JUDGEMENTS: u32 = 3;

/// Part of the estimate that is tolerated.
const TOLERANCE: f64 = 0.25;

/// Least score at the end.
const PASS: f64 = 90.0;

/// Least score before.
const MARGINAL: f64 = 75.0;

/// Values of one metric: on the control and on the experiment.
type Series = [Vec<f64>; 2];

/// The rule, and what it has seen.
#[derive(Clone, Debug, Default)]
pub struct Kayenta {
    requests: [u64; 2],
    failures: [u64; 2],
    over: [[u64; 2]; LIMITS_MS.len()],
    points: u32,
    judged: u32,
    failing: Series,
    latency: Series,
}

impl Kayenta {
    fn point(&mut self) {
        for arm in 0..2 {
            let of = |counts: [u64; 2]| counts.get(arm).copied().unwrap_or_default() as f64;
            let requests = of(self.requests);
            let over = self.over.map(of);
            let series = (self.failing.get_mut(arm), self.latency.get_mut(arm));
            if let (Some(failing), Some(latency), true) = (series.0, series.1, requests > 0.0) {
                // In percent, as dashboards have it.
                failing.push(100.0 * of(self.failures) / requests);
                latency.push(mean_ms(requests, over));
            }
        }
        (self.requests, self.failures, self.over) = ([0; 2], [0; 2], [[0; 2]; LIMITS_MS.len()]);
    }

    fn score(&self) -> f64 {
        let passes = [&self.failing, &self.latency].map(|series| f64::from(u8::from(!is_high(series))));
        100.0 * passes.iter().sum::<f64>() / passes.len() as f64
    }
}

impl Judge for Kayenta {
    fn observe(&mut self, tick: &Tick) -> Option<Decision> {
        let counts = [
            (&mut self.requests, tick.requests),
            (&mut self.failures, tick.failures),
        ];
        for (sums, more) in counts.into_iter().chain(self.over.iter_mut().zip(tick.over)) {
            for (sum, more) in sums.iter_mut().zip(more) {
                *sum += more;
            }
        }
        if tick.at_s >= POINT_S * f64::from(self.points + 1) {
            self.point();
            self.points += 1;
        }
        if tick.at_s < INTERVAL_S * f64::from(self.judged + 1) {
            return None;
        }
        self.judged += 1;
        let score = self.score();
        let is_last = self.judged >= JUDGEMENTS;
        if score < MARGINAL || (is_last && score < PASS) {
            Some(Decision::RollBack)
        } else {
            is_last.then_some(Decision::Promote)
        }
    }
}

fn is_high([control, experiment]: &Series) -> bool {
    let shift = shift(control, experiment, Z_98);
    shift.is_some_and(|shift| shift.low > TOLERANCE * shift.estimate.abs())
}

/// Mean of a histogram: each bucket at its middle, the last one at its lower end.
fn mean_ms(requests: f64, over: [f64; LIMITS_MS.len()]) -> f64 {
    let above = |index: usize| over.get(index).copied().unwrap_or_default();
    let mut sum = 0.0;
    let (mut low, mut left) = (0.0, requests);
    for (index, high) in LIMITS_MS.into_iter().enumerate() {
        sum += (left - above(index)) * f64::midpoint(low, high);
        (low, left) = (high, above(index));
    }
    (sum + left * low) / requests
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three hours of minutes, of which the experiment's failures are given by the minute.
    fn judged(failures: impl Fn(u64) -> u64) -> (Decision, u64) {
        let mut kayenta = Kayenta::default();
        let decided = (1..=180).find_map(|minute| {
            let tick = Tick {
                at_s: 60.0 * minute as f64,
                requests: [1000, 1000],
                failures: [minute % 5, failures(minute)],
                over: [[500, 500], [100, 100], [10, 10], [1, 1], [0, 0]],
                ..Tick::default()
            };
            kayenta.observe(&tick).map(|decision| (decision, minute))
        });
        decided.unwrap()
    }

    #[test]
    fn an_equal_one_is_promoted_at_the_end_and_a_much_worse_one_rolled_back_after_an_hour() {
        assert_eq!(judged(|minute| minute % 5), (Decision::Promote, 180));
        assert_eq!(judged(|minute| 20 + minute % 5), (Decision::RollBack, 60));
    }

    #[test]
    fn a_canary_of_which_two_fifths_fail_in_one_minute_of_ten_passes() {
        // Ranks know which minute was worse, and not by how much (Spinnaker issue 6278 is about this).
        let sometimes = |minute: u64| {
            if minute.is_multiple_of(10) {
                400
            } else {
                minute % 5
            }
        };
        assert_eq!(judged(sometimes), (Decision::Promote, 180));
    }

    #[test]
    fn the_mean_of_a_histogram_is_between_its_limits() {
        assert!((mean_ms(10.0, [0.0; 5]) - 50.0).abs() < 1e-9);
        assert!((mean_ms(10.0, [10.0; 5]) - 500.0).abs() < 1e-9);
    }
}
