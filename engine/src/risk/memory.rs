//! How long a risk is believed: fast up, slow down, and down only by proof.
//!
//! Every good sample (a served request, or a tenth of a passed probe) buys 0.4 s of fading with a time constant of 5 s,
//! of which two seconds can be saved up: from 2.5 good requests per second on risk fades at full speed, with fewer it
//! fades as slowly as they come, and in silence it holds. A drained endpoint must not look well for having no traffic;
//! that alone would make the whole loop swing. After ten minutes of silence nothing that was known is worth much: risk
//! goes to the prior of the unknown, which is neither zero nor best.

use serde::{Deserialize, Serialize};

use crate::moment::Moment;

/// Risk of an endpoint of which nothing is known.
pub const PRIOR: f64 = 0.10;

/// Time constant of the way down, seconds.
const FADE_S: f64 = 5.0;

/// Seconds of fading that one good sample buys: five of them two seconds.
const SECONDS_PER_SAMPLE: f64 = 0.4;

/// Most that can be saved up, seconds.
const SAVED_S: f64 = 2.0;

/// Silence after which an endpoint counts as unknown, seconds.
const UNKNOWN_S: f64 = 10.0;

/// Silence after which its risk is no longer held, seconds.
const HOLD_S: f64 = 600.0;

/// Time constant of the way to the prior, seconds.
const FORGET_S: f64 = 60.0;

/// The risk that is believed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Memory {
    risk: f64,
    credit_s: f64,
    heard: Option<Moment>,
    born: Moment,
}

/// What a tick brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct News {
    /// Risk by this tick's evidence.
    pub raw: f64,
    /// Good samples.
    pub good: f64,
    /// Whether there was any sample at all.
    pub any: bool,
}

impl Memory {
    /// Nothing is known.
    pub fn new(now: Moment) -> Self {
        Self {
            risk: PRIOR,
            credit_s: 0.0,
            heard: None,
            born: now,
        }
    }

    /// Takes a tick of `seconds`.
    pub fn handle(&mut self, now: Moment, seconds: f64, news: News) {
        if news.any {
            self.heard = Some(now);
        }
        self.credit_s = (self.credit_s + news.good * SECONDS_PER_SAMPLE).min(SAVED_S);
        let spent = self.credit_s.min(seconds);
        self.credit_s -= spent;
        let mut kept = self.risk * (-spent / FADE_S).exp();
        if self.is_unknown(now) && (kept < PRIOR || self.is_stale(now)) {
            kept += (PRIOR - kept) * (1.0 - (-seconds / FORGET_S).exp());
        }
        self.risk = if news.raw > kept { news.raw } else { kept };
        if self.risk < 1e-4 {
            self.risk = 0.0;
        }
    }

    /// The risk that is believed.
    pub fn risk(&self) -> f64 {
        self.risk
    }

    /// Whether there was no evidence for ten seconds, or none ever.
    pub fn is_unknown(&self, now: Moment) -> bool {
        self.heard
            .is_none_or(|heard| now.seconds_since(heard) > UNKNOWN_S)
    }

    /// Whether the silence is so long that nothing is worth keeping.
    pub fn is_stale(&self, now: Moment) -> bool {
        now.seconds_since(self.heard.unwrap_or(self.born)) > HOLD_S
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(n: u64) -> Moment {
        Moment::from_micros(n * 100_000)
    }

    fn sick() -> Memory {
        let mut memory = Memory::new(tick(0));
        memory.handle(
            tick(1),
            0.1,
            News {
                raw: 0.9,
                good: 0.0,
                any: true,
            },
        );
        memory
    }

    // Concept: endpoint-risk-score
    #[test]
    fn silence_holds_risk_for_ten_minutes_and_then_forgets_it() {
        let mut memory = sick();
        for n in 2..5990 {
            memory.handle(tick(n), 0.1, News::default());
            assert!((memory.risk() - 0.9).abs() < 1e-9);
        }
        assert!(memory.is_unknown(tick(5990)));
        for n in 5990..12_000 {
            memory.handle(tick(n), 0.1, News::default());
        }
        assert!((memory.risk() - PRIOR).abs() < 0.01);
    }

    #[test]
    fn good_samples_fade_risk_as_fast_as_they_come() {
        let seconds_to = |good_per_tick: f64| {
            let mut memory = sick();
            let mut n = 2;
            while memory.risk() > 0.15 {
                let news = News {
                    raw: 0.0,
                    good: good_per_tick,
                    any: true,
                };
                memory.handle(tick(n), 0.1, news);
                n += 1;
            }
            n / 10
        };
        assert!((8..=10).contains(&seconds_to(3.0)));
        assert!((20..=24).contains(&seconds_to(0.1)));
    }

    #[test]
    fn the_unknown_is_neither_zero_nor_risky() {
        let mut memory = Memory::new(tick(0));
        assert!(memory.is_unknown(tick(0)));
        for n in 1..1000 {
            memory.handle(tick(n), 0.1, News::default());
        }
        assert!((memory.risk() - PRIOR).abs() < 1e-9);
    }
}
