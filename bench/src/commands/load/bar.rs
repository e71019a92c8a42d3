//! The progress of a load on a terminal: one line on standard error that is drawn over itself.
//!
//! On anything but a terminal nothing is drawn: what is piped away or logged is the result, and not how it came about.

use std::time::Duration;

use crate::load::progress::Progress;
use crate::terminal::Ticker;

/// Cells of the bar.
const CELLS: usize = 24;

/// Draws the progress of one load.
pub(super) struct Bar {
    ticker: Ticker,
    whole: Duration,
}

impl Bar {
    /// Of a load of this length, warm-up included.
    pub(super) fn new(whole: Duration) -> Self {
        Self {
            ticker: Ticker::open(),
            whole,
        }
    }

    pub(super) fn draw(&mut self, elapsed: Duration, progress: &Progress) {
        self.ticker.draw(&line(elapsed, self.whole, progress));
    }

    /// Takes the bar away and says something in its place.
    pub(super) fn say(&mut self, text: &str) {
        self.ticker.say(text);
    }

    /// Takes the bar away.
    pub(super) fn clear(&mut self) {
        self.ticker.clear();
    }
}

fn line(elapsed: Duration, whole: Duration, progress: &Progress) -> String {
    let part = (elapsed.as_secs_f64() / whole.as_secs_f64().max(1e-3)).min(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the number of cells"
    )]
    let full = (part * CELLS as f64) as usize;
    let waiting = match progress.waiting {
        0 => String::new(),
        waiting => format!(", {waiting} waiting"),
    };
    format!(
        "[{}{}] {:>3.0} s/{:.0} s  {:>8.0}/s  p50 {:.2} ms  p99 {:.2}  p99.9 {:.2}  {} failed  {} under way{waiting}",
        "#".repeat(full),
        "-".repeat(CELLS - full),
        elapsed.as_secs_f64(),
        whole.as_secs_f64(),
        progress.rate,
        progress.p50_ms,
        progress.p99_ms,
        progress.p999_ms,
        progress.failed,
        progress.in_flight,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_the_load_is_old() {
        let progress = Progress {
            rate: 999.6,
            p50_ms: 5.0,
            p99_ms: 16.25,
            p999_ms: 20.0,
            failed: 2,
            in_flight: 7,
            ..Progress::default()
        };
        let seconds = Duration::from_secs;
        assert_eq!(
            line(seconds(15), seconds(30), &progress),
            "[############------------]  15 s/30 s      1000/s  p50 5.00 ms  p99 16.25  p99.9 20.00  2 failed  7 under way"
        );
        assert!(line(seconds(40), seconds(30), &progress).starts_with("[########################]"));
        let waiting = Progress {
            waiting: 3,
            ..progress
        };
        assert!(line(seconds(0), seconds(30), &waiting).ends_with("7 under way, 3 waiting"));
    }
}
