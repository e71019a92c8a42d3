//! How a load goes while it runs: what a person wants to see of it twice a second.
//!
//! Percentiles are those since the last picture and not of the whole run: who watches wants to see a change when it comes.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::load::tally::{Tally, ms};

/// Between two pictures.
const PICTURE_INTERVAL: Duration = Duration::from_millis(500);

/// One picture.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// When it was taken, since the start of the load.
    pub at: Duration,
    /// Requests that have ended, warm-up left out.
    pub requests: u64,
    /// Of these, how many failed.
    pub failed: u64,
    /// Requests per second that ended since the last picture.
    pub rate: f64,
    /// Median latency since the last picture, in milliseconds.
    pub p50_ms: f64,
    /// Of 99 of 100.
    pub p99_ms: f64,
    /// Of 999 of 1000.
    pub p999_ms: f64,
    /// Requests under way.
    pub in_flight: usize,
    /// Requests that wait for a connection.
    pub waiting: usize,
}

impl Progress {
    /// Takes a new picture when it is time to.
    pub(super) fn update(&mut self, now: Duration, tally: &mut Tally, (in_flight, waiting): (usize, usize)) {
        let since = now.saturating_sub(self.at);
        if since < PICTURE_INTERVAL {
            return;
        }
        let recent: &mut Histogram<u64> = &mut tally.recent;
        *self = Self {
            at: now,
            requests: tally.all.requests,
            failed: tally.all.failed,
            rate: recent.len() as f64 / since.as_secs_f64(),
            p50_ms: ms(recent, 0.5),
            p99_ms: ms(recent, 0.99),
            p999_ms: ms(recent, 0.999),
            in_flight,
            waiting,
        };
        recent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::tests::get;

    #[test]
    fn a_picture_shows_what_has_happened_since_the_last() {
        let mut tally = Tally::new(1, Duration::ZERO, Duration::from_secs(9), Duration::from_secs(1));
        let mut progress = Progress::default();
        for _ in 0..100 {
            tally.note(&get(0, 9, 200), 0, 0);
        }
        progress.update(Duration::from_millis(499), &mut tally, (0, 0));
        assert_eq!(progress.requests, 0, "too early");
        progress.update(Duration::from_millis(500), &mut tally, (3, 4));
        assert_eq!(
            (progress.requests, progress.in_flight, progress.waiting),
            (100, 3, 4)
        );
        assert!((progress.rate - 200.0).abs() < 1e-6 && progress.p50_ms > 8.9);
        tally.note(&get(600, 1, 500), 0, 0);
        progress.update(Duration::from_secs(1), &mut tally, (0, 0));
        assert_eq!((progress.requests, progress.failed), (101, 1));
        assert!(progress.p99_ms < 1.1, "{progress:?}");
    }
}
