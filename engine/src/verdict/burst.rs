//! What many failures in one moment are worth: one event where bursts are collapsed, and an emergency where they go on.
//!
//! **Collapse.** One connection that dies takes two hundred requests of one arm with it. Counted one by one they would
//! be two hundred draws of the router's coin, which was thrown once. So failures within 250 ms count as one event, of
//! which each arm has its fraction. Valid: let the burst's causes fall on the shadow independently with probability
//! `theta`; then the fraction `f` has the mean `theta`, and by Jensen `exp(f ln L_s + (1-f) ln L_p) <= f L_s + (1-f)
//! L_p`, whose mean is that of one event. Not one event per *arm*, as is usual: where failures are frequent every
//! window would then have one of each, and half of all events would seem to be the shadow's, whatever its share.
//!
//! Not covered: causes that befall *endpoints*, however small their share is. Nobody can tell them from a worse
//! endpoint by counting; [`super::JudgePolicy::ticks_min`] asks for three of them.
//!
//! **Severe.** Three ticks in a row in which every request of the shadow fails, ten at least, while nine in ten of the
//! primary's succeed. It is for large shares, where each event carries less than a bit. It is outside of alpha: a
//! healthy shadow does this once in `p^-10` requests, with `p` at most a tenth.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tally::{EVENT, Weight};

/// Ticks in which all fails before it is severe.
pub const SEVERE_TICKS: u32 = 3;

/// Requests that must have failed in them.
pub const SEVERE_REQUESTS: u64 = 10;

/// One primary request in this many may fail in such a tick; else it is something that both have.
const PRIMARY_FAILURES: u64 = 10;

/// A run of ticks in which every request of the shadow failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// How many ticks.
    pub ticks: u32,
    /// Requests of the shadow in them.
    pub requests: u64,
}

impl Outage {
    /// Takes a tick, `[primary, shadow]`. One without traffic of the shadow says nothing.
    pub fn observe(&mut self, requests: [u64; 2], failures: [u64; 2]) {
        let ([primary, shadow], [primary_failed, failed]) = (requests, failures);
        if shadow == 0 {
            return;
        }
        if failed < shadow || primary_failed.saturating_mul(PRIMARY_FAILURES) > primary {
            *self = Self::default();
            return;
        }
        self.ticks = self.ticks.saturating_add(1);
        self.requests = self.requests.saturating_add(shadow);
    }

    /// Whether it has gone on long enough.
    pub fn is_severe(self) -> bool {
        self.ticks >= SEVERE_TICKS && self.requests >= SEVERE_REQUESTS
    }
}

/// Failures that are not yet known to be a burst of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    span: Duration,
    events: [u64; 2],
    weight: Option<Weight>,
    /// Some of it belongs to an earlier step.
    #[serde(default)]
    is_earlier: bool,
}

/// One event made of many, in parts of [`EVENT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collapsed {
    /// Under which weight.
    pub weight: Weight,
    /// The shadow's fraction of it.
    pub shadow: u64,
    /// Some of it belongs to an earlier step.
    pub is_earlier: bool,
}

impl Window {
    /// Takes a tick's failures. Returns what was in here before, if the weight is another one now.
    pub fn observe(&mut self, weight: Weight, span: Duration, events: [u64; 2]) -> Option<Collapsed> {
        let before = match self.weight {
            Some(old) if old != weight => self.close(),
            _ => None,
        };
        self.weight = Some(weight);
        self.span = self.span.saturating_add(span);
        for (sum, more) in self.events.iter_mut().zip(events) {
            *sum = sum.saturating_add(more);
        }
        before
    }

    /// What is in here is no proof of a step that begins now.
    pub fn grow_old(&mut self) {
        self.is_earlier = self.weight.is_some();
    }

    /// What is in here, once it has lasted for `burst`.
    pub fn elapsed(&mut self, burst: Duration) -> Option<Collapsed> {
        (self.span >= burst).then(|| self.close()).flatten()
    }

    fn close(&mut self) -> Option<Collapsed> {
        let Self {
            events,
            weight,
            is_earlier,
            ..
        } = std::mem::take(self);
        let [primary, shadow] = events.map(u128::from);
        let fraction = (shadow * u128::from(EVENT)).checked_div(primary + shadow)?;
        Some(Collapsed {
            weight: weight?,
            shadow: u64::try_from(fraction).unwrap_or(EVENT),
            is_earlier,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(100);
    const BURST: Duration = Duration::from_millis(250);

    #[test]
    fn two_hundred_failures_in_one_moment_are_one_event() {
        let (mut window, weight) = (Window::default(), Weight::of(0.05).unwrap());
        assert_eq!(window.observe(weight, TICK, [0, 200]), None);
        assert_eq!(window.elapsed(BURST), None);
        window.observe(weight, TICK, [50, 0]);
        window.observe(weight, TICK, [0, 0]);
        let whole = window.elapsed(BURST);
        assert_eq!(
            whole,
            Some(Collapsed {
                weight,
                shadow: 800_000,
                is_earlier: false
            })
        );
        assert_eq!(window, Window::default());
    }

    #[test]
    fn a_quiet_window_is_no_event() {
        let (mut window, weight) = (Window::default(), Weight::of(0.05).unwrap());
        window.observe(weight, Duration::from_secs(1), [0, 0]);
        assert_eq!(window.elapsed(BURST), None);
        assert_eq!(window, Window::default());
    }

    #[test]
    fn a_new_share_begins_a_window_of_its_own() {
        let (old, new) = (Weight::of(0.05).unwrap(), Weight::of(0.1).unwrap());
        let mut window = Window::default();
        window.observe(old, TICK, [1, 0]);
        let before = window.observe(new, TICK, [0, 1]);
        assert_eq!(
            before,
            Some(Collapsed {
                weight: old,
                shadow: 0,
                is_earlier: false
            })
        );
        window.observe(new, BURST, [0, 0]);
        assert_eq!(window.elapsed(BURST).unwrap().shadow, EVENT);
    }

    #[test]
    fn an_outage_is_severe_after_three_ticks_and_ten_requests() {
        let mut outage = Outage::default();
        for ticks in 1..=5 {
            outage.observe([100, 3], [1, 3]);
            // Silence neither adds nor takes away.
            outage.observe([100, 0], [1, 0]);
            assert_eq!(outage.is_severe(), ticks >= 4, "{ticks}");
        }
        outage.observe([100, 3], [1, 2]);
        assert_eq!(outage, Outage::default());
    }

    #[test]
    fn an_outage_of_both_is_not_the_shadows() {
        let mut outage = Outage::default();
        for _ in 0..100 {
            outage.observe([100, 50], [20, 50]);
        }
        assert!(!outage.is_severe());
    }
}
