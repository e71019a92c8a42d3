//! How wide a trial is, so that somebody takes part in it.
//!
//! A trial is a share of users, and its proof is a number of requests. Where requests or users are few, the share that is
//! right for many brings next to none: of twelve users one in twenty is nobody at all, half of the time. So a trial that
//! brings fewer requests than it aims at is doubled every second, up to half of the users; and as long as nobody takes part
//! it goes on to all of them, which concerns nobody. Whoever is in it stays in it, because shares are nested. Where nobody
//! asks at all, nothing says that it is too narrow.

use serde::{Deserialize, Serialize};

use super::Sight;
use crate::assessment::Assessment;

/// Seconds for which a width is left to show what it brings.
const LOOK_S: f64 = 1.0;

/// The most that an unproven endpoint gets of users who are there.
const WIDEST: f64 = 0.5;

/// Requests that were to be expected, and did not come, before it is said that a width has nobody in it: with many users,
/// chance alone brings none of so many one time in twenty.
const MISSED: f64 = 3.0;

/// The part of what was to be expected that is nobody's: requests that had failed elsewhere come as well.
const STRAYS: f64 = 0.1;

/// The width of one trial.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Reach {
    width: f64,
    /// Seconds since it was looked at last, requests that have come in them, and those to be expected, were users many.
    seconds: f64,
    come: f64,
    expected: f64,
    /// Those to be expected while nobody has come.
    missed: f64,
}

impl Reach {
    /// As wide as is right for many users.
    pub(super) fn new(width: f64) -> Self {
        Self {
            width,
            seconds: 0.0,
            come: 0.0,
            expected: 0.0,
            missed: 0.0,
        }
    }

    /// The share of users in it.
    pub(super) fn width(&self) -> f64 {
        self.width
    }

    /// Takes a tick of whoever is tried, in which `share` of the users were with him. Fewer requests than `aim` a second are
    /// too few.
    pub(super) fn step(&mut self, sight: &Sight<'_>, tried: &Assessment, share: f64, aim: f64) {
        self.seconds += sight.dt;
        self.come += f64::from(tried.tick.started.max(tried.tick.total));
        // The demand lags behind where nobody asks any more, and a shadow may serve other primaries as well.
        let asked = sight.primary.tick.started + sight.shadow.tick.started;
        self.expected += share * f64::from(asked).min(sight.demand_rps * sight.dt);
        if self.seconds < LOOK_S - 1e-9 {
            return;
        }
        let empty = self.come < STRAYS * self.expected && tried.in_flight == 0;
        self.missed = if empty { self.missed + self.expected } else { 0.0 };
        if self.missed >= MISSED {
            self.width = (2.0 * self.width).min(1.0);
            self.missed = 0.0;
        } else if self.expected > 0.0 && self.come < aim * self.seconds && self.width < WIDEST {
            self.width = (2.0 * self.width).min(WIDEST);
        }
        (self.seconds, self.come, self.expected) = (0.0, 0.0, 0.0);
    }
}
