//! The last moments of an endpoint: half a second for detectors, five seconds for people.

use crate::cusum::Batch;
use crate::spectrum::{Spectrum, latency_us};

use super::watch::Mix;

/// Time constant of what counts as now, seconds: four ticks. Longer would lag behind what grows.
const NOW_S: f64 = 0.4;

/// Seconds of the window for people: long enough for a p99 at 100 requests per second, short enough to watch.
const WINDOW_S: usize = 5;

/// Count, sum and sum of squares.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// How many.
    pub n: f64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub squares: f64,
}

impl Sums {
    /// Adds `count` samples of one value.
    pub fn add(&mut self, value: f64, count: f64) {
        self.n += count;
        self.sum += value * count;
        self.squares += value * value * count;
    }

    /// Adds other sums.
    pub fn merge(&mut self, other: Self) {
        self.n += other.n;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// The mean; 0 of nothing.
    pub fn mean(&self) -> f64 {
        if self.n > 0.0 { self.sum / self.n } else { 0.0 }
    }

    /// The standard error of the mean; infinite below two samples.
    pub fn error(&self) -> f64 {
        if self.n < 2.0 {
            return f64::INFINITY;
        }
        let variance = (self.squares / self.n - self.mean().powi(2)).max(0.0) * self.n / (self.n - 1.0);
        (variance / self.n).sqrt()
    }

    fn decay(&mut self, factor: f64) {
        self.n *= factor;
        self.sum *= factor;
        self.squares *= factor;
    }
}

/// The last moments, fading.
#[derive(Clone, Debug, Default)]
pub struct Now {
    /// Ratios to the baseline, normalised for load.
    pub ratios: Spectrum,
    /// The classes they are of.
    pub mix: Mix,
    /// Logarithms of the same ratios.
    pub ln: Sums,
    /// Logarithms of latencies in microseconds.
    pub us: Sums,
    /// Attempts, and those that failed.
    pub attempts: Batch,
    /// Attempts begun.
    pub started: f64,
    /// Seconds behind all that.
    pub seconds: f64,
}

impl Now {
    /// Lets `seconds` pass.
    pub fn fade(&mut self, seconds: f64) {
        let keep = (-seconds / NOW_S).exp();
        if self.ratios.total() > 1e-3 {
            self.ratios.decay(keep);
            self.mix.decay(keep);
        } else {
            self.ratios.clear();
            self.mix = Mix::default();
        }
        self.ln.decay(keep);
        self.us.decay(keep);
        self.attempts.decay(keep);
        self.started *= keep;
        self.seconds = self.seconds * keep + seconds;
    }

    /// Attempts begun per second.
    pub fn rps(&self) -> f64 {
        if self.seconds > 0.0 {
            self.started / self.seconds
        } else {
            0.0
        }
    }
}

/// One second of the window.
#[derive(Clone, Debug, Default)]
struct Second {
    latency: Spectrum,
    attempts: Batch,
    started: f64,
    seconds: f64,
}

/// The last five seconds, second by second.
#[derive(Clone, Debug, Default)]
pub struct Window {
    seconds: [Second; WINDOW_S],
    newest: usize,
    latency: Spectrum,
    attempts: Batch,
    started: f64,
    span_s: f64,
}

impl Window {
    /// Lets `seconds` pass, to which what is added next belongs.
    pub fn advance(&mut self, seconds: f64) {
        // Ticks are never exactly a tenth of a second: rounding, not a second that is always a tick too long.
        let full = self
            .seconds
            .get(self.newest)
            .is_some_and(|newest| newest.seconds + seconds / 2.0 >= 1.0);
        if full {
            self.newest = (self.newest + 1) % WINDOW_S;
        }
        let Some(newest) = self.seconds.get_mut(self.newest) else {
            return;
        };
        if full {
            if newest.latency.total() > 0.0 {
                self.latency.subtract(&newest.latency);
            }
            self.attempts.take(newest.attempts);
            self.started = (self.started - newest.started).max(0.0);
            self.span_s -= newest.seconds;
            *newest = Second::default();
        }
        newest.seconds += seconds;
        self.span_s += seconds;
    }

    /// Adds served requests at a position.
    pub fn add_latency(&mut self, position: f64, count: f32) {
        self.latency.add(position, count);
        if let Some(newest) = self.seconds.get_mut(self.newest) {
            newest.latency.add(position, count);
        }
    }

    /// Adds a tick's attempts.
    pub fn add(&mut self, attempts: Batch, started: f64) {
        self.attempts.add(attempts);
        self.started += started;
        if let Some(newest) = self.seconds.get_mut(self.newest) {
            newest.attempts.add(attempts);
            newest.started += started;
        }
    }

    /// Attempts that ended, and those of them that failed.
    pub fn attempts(&self) -> Batch {
        self.attempts
    }

    /// Attempts begun per second.
    pub fn rps(&self) -> f64 {
        // Right after a start a tick stands for a second, or three requests would be a rush.
        self.started / self.span_s.max(0.5)
    }

    /// Share of served requests that took longer than a position.
    pub fn share_from(&self, position: f64) -> f64 {
        self.latency.share_from(position)
    }

    /// Latency in whole microseconds below which a share `q` of the served requests lies; 0 where nothing is known.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "latencies lie between 1 and 67 million"
    )]
    pub fn quantile_us(&self, q: f64) -> u64 {
        self.latency
            .quantile(q)
            .map_or(0, |at| latency_us(at).round() as u64)
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "nothing and everything are exact")]
mod tests {
    use super::*;
    use crate::spectrum::position;

    #[test]
    fn the_window_holds_five_seconds_and_no_more() {
        let mut window = Window::default();
        for tick in 0..200 {
            window.advance(0.1);
            window.add(Batch::of(u32::from(tick < 100), 30), 30.0);
            window.add_latency(position(if tick < 100 { 50_000.0 } else { 5000.0 }), 30.0);
        }
        assert!((window.rps() - 300.0).abs() < 5.0, "{}", window.rps());
        assert!((1200.0..=1500.0).contains(&window.attempts().total));
        assert_eq!(window.attempts().bad, 0.0);
        assert!((4500..5500).contains(&window.quantile_us(0.99)));
    }

    #[test]
    fn now_is_gone_in_seconds() {
        let mut now = Now::default();
        now.ln.add(1.0, 100.0);
        now.started = 100.0;
        for _ in 0..50 {
            now.fade(0.1);
        }
        assert!(now.ln.n < 0.1 && now.rps() < 0.1);
    }

    #[test]
    fn an_error_needs_two_samples() {
        let mut sums = Sums::default();
        sums.add(1.0, 1.0);
        assert!(sums.error().is_infinite());
        sums.add(3.0, 1.0);
        assert!((sums.mean() - 2.0).abs() < 1e-9 && (sums.error() - 1.0).abs() < 1e-9);
    }
}
