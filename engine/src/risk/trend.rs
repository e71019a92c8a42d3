//! Is the endpoint on its way to trouble? A robust line through the last minute of its slowdown.
//!
//! One point per second: the logarithm of p90 over its baseline. Theil-Sen for the slope (a third of the points may be
//! nonsense), Mann-Kendall for whether there is one at all, and the *lower* bound of the slope for the time to
//! [`TOO_SLOW`]. What the peers do as well is demand, not sickness, and is taken off the slope. Twelve points are the
//! least; an idle endpoint has no points and no trend; one burst is one point. Sources: Sen 1968, Kendall 1975.
//!
//! A trend may prepare and never commit: what it may move alone is capped where shares are decided.
// Concept: endpoint-forecast

use std::collections::VecDeque;

use crate::cusum::ramp;

use super::combine::Finding;

/// Points kept, and the age in seconds beyond which they count no more.
const POINTS_MAX: usize = 60;

/// Points from which on a line is drawn.
const POINTS_MIN: usize = 12;

/// How many times slower than its baseline an endpoint is too slow.
const TOO_SLOW: f64 = 3.0;

/// How far ahead trouble counts, seconds: enough to warm a shadow, prove it, and ramp up, three times over.
const HORIZON_S: f64 = 45.0;

/// Standard deviations of Mann-Kendall at which a trend begins to be believed (1 %) and is believed (.1 %).
const SIGNIFICANT: (f64, f64) = (2.33, 3.09);

/// Standard deviations of the slope's one-sided 95 % bound.
const Z95: f64 = 1.645;

/// Slopes below this, per second, are not worth a forecast: 0.2 % a second, nine minutes from healthy to too slow.
const SLOPE_MIN: f64 = 0.002;

/// A line through the points.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Line {
    slope: f64,
    lower: f64,
    level: f64,
    significance: f64,
    points: usize,
}

/// Watches where one endpoint's latency is going.
#[derive(Clone, Debug, Default)]
pub struct TrendWatch {
    points: VecDeque<(f64, f64)>,
    clock_s: f64,
    line: Option<Line>,
}

impl TrendWatch {
    /// Takes the point of a second, if there was traffic for one. `scratch` is memory to work in.
    pub fn handle(&mut self, seconds: f64, point: Option<f64>, scratch: &mut Vec<f64>) {
        self.clock_s += seconds;
        while self.points.len() >= POINTS_MAX
            || self
                .points
                .front()
                .is_some_and(|(at, _)| self.clock_s - at > POINTS_MAX as f64)
        {
            self.points.pop_front();
        }
        let Some(point) = point.filter(|point| point.is_finite()) else {
            // An endpoint that is silent is not on its way anywhere that we could see.
            self.line = None;
            return;
        };
        self.points.push_back((self.clock_s, point));
        self.line = (self.points.len() >= POINTS_MIN).then(|| self.draw(scratch));
    }

    /// Growth of the slowdown's logarithm per second, for others to be held against.
    pub fn slope(&self) -> Option<f64> {
        self.line.map(|line| line.slope)
    }

    /// What the trend says, and in how many seconds it will be too slow. `peers` is the slope of the others.
    pub fn finding(&self, peers: f64) -> (Finding, Option<f64>) {
        let Some(line) = self.line else {
            return (Finding::default(), None);
        };
        let slope = line.lower - peers.max(0.0);
        let evidence = ramp(line.significance, SIGNIFICANT.0, SIGNIFICANT.1);
        if slope < SLOPE_MIN || evidence <= 0.0 {
            return (Finding::default(), None);
        }
        let eta = ((TOO_SLOW.ln() - line.level) / slope).max(0.0);
        if eta <= 0.0 {
            // It has arrived; from here on it is judged by what it does.
            return (Finding::default(), Some(0.0));
        }
        let finding = Finding {
            effect: (1.0 - eta / HORIZON_S).max(0.0),
            evidence,
            observed: slope,
            baseline: peers.max(0.0),
            samples: line.points as f64,
        };
        (finding, Some(eta))
    }

    /// Forgets the points, after a gap in time.
    pub fn reset(&mut self) {
        self.points.clear();
        self.line = None;
    }

    fn draw(&self, scratch: &mut Vec<f64>) -> Line {
        scratch.clear();
        let mut concordance = 0.0;
        for (i, (at, y)) in self.points.iter().enumerate() {
            for (earlier, x) in self.points.iter().take(i) {
                scratch.push((y - x) / (at - earlier).max(1e-3));
                concordance += (y - x).signum() * f64::from(u8::from((y - x).abs() > 1e-12));
            }
        }
        let n = self.points.len() as f64;
        let deviation = (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
        let pairs = scratch.len() as f64;
        Line {
            slope: nth(scratch, pairs / 2.0),
            lower: nth(scratch, (pairs - Z95 * deviation) / 2.0),
            level: self.level(),
            significance: (concordance - 1.0) / deviation,
            points: self.points.len(),
        }
    }

    /// Median of the last five points.
    fn level(&self) -> f64 {
        let mut last = [0.0; 5];
        for (slot, (_, y)) in last.iter_mut().zip(self.points.iter().rev()) {
            *slot = *y;
        }
        last.sort_unstable_by(f64::total_cmp);
        last[2]
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the length of the list"
)]
fn nth(values: &mut [f64], place: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else {
        return 0.0;
    };
    let place = place.clamp(0.0, last as f64) as usize;
    *values.select_nth_unstable_by(place, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn after(seconds: usize, slope: f64, seed: u64) -> TrendWatch {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut watch = TrendWatch::default();
        let mut scratch = Vec::new();
        for t in 0..seconds {
            let noise = 0.2 * (rng.random::<f64>() - 0.5);
            watch.handle(1.0, Some(slope * t as f64 + noise), &mut scratch);
        }
        watch
    }

    // Concept: endpoint-forecast
    #[test]
    fn a_leak_is_foreseen_with_its_time() {
        let (finding, eta) = after(25, 0.02, 1).finding(0.0);
        let truth = (TOO_SLOW.ln() - 0.02 * 24.0) / 0.02;
        let eta = eta.unwrap();
        assert!((eta / truth - 1.0).abs() < 0.5, "{eta} instead of {truth}");
        assert!(finding.effect > 0.0 && finding.evidence > 0.9);
    }

    #[test]
    fn what_the_peers_do_as_well_is_demand() {
        assert_eq!(after(40, 0.02, 1).finding(0.02).1, None);
    }

    #[test]
    fn noise_is_going_nowhere() {
        for seed in 0..200 {
            let (finding, _) = after(60, 0.0, seed).finding(0.0);
            assert!(finding.effect * finding.evidence < 0.05, "{finding:?}");
        }
    }

    #[test]
    fn silence_has_no_trend() {
        let mut watch = after(40, 0.02, 1);
        watch.handle(1.0, None, &mut Vec::new());
        assert_eq!(watch.finding(0.0).1, None);
    }
}
