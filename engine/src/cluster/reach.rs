//! When an endpoint that was taken for dead is tried again, and how gently one that has come back is loaded.
//!
//! Probes are how the dead come back. Where there are none, only a request can show it; so a dead endpoint without probes
//! is opened to a few users for a moment, seldom. (A primary with a shadow has a contact for that, see `shift`.) And who
//! was away comes back with cold caches and no connections: its weight grows over the cluster's slow start.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::assessment::Assessment;
use crate::moment::Moment;

/// Without a probe for this long an endpoint counts as not probed.
const PROBED: Duration = Duration::from_secs(10);

/// How long the dead are left alone before the first try.
const WAIT: Duration = Duration::from_secs(10);

/// Longest time between two tries.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long a try is open.
const OPEN: Duration = Duration::from_secs(2);

/// Part of its weight with which an endpoint comes back.
const FIRST_WEIGHT: f64 = 0.1;

/// Tries of a dead endpoint that nobody probes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct HalfOpen {
    probed_at: Option<Moment>,
    next: Option<Try>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Try {
    at: Moment,
    wait: Duration,
}

impl HalfOpen {
    /// Takes a tick.
    pub(super) fn step(&mut self, now: Moment, seen: &Assessment) {
        if seen.tick.probes_passed + seen.tick.probes_failed > 0 {
            self.probed_at = Some(now);
        }
        self.next = match self.next {
            _ if !seen.is_dead() || self.is_probed(now) => None,
            None => Some(Try {
                at: now + WAIT,
                wait: WAIT,
            }),
            Some(tried) if now >= tried.at + OPEN => {
                let wait = (tried.wait * 2).min(WAIT_MAX);
                Some(Try { at: now + wait, wait })
            }
            waiting => waiting,
        };
    }

    /// Whether probes of the endpoint come in.
    pub(super) fn is_probed(&self, now: Moment) -> bool {
        self.probed_at.is_some_and(|at| now.since(at) < PROBED)
    }

    /// Whether it may be tried now.
    pub(super) fn is_open(&self, now: Moment) -> bool {
        self.next.is_some_and(|tried| now >= tried.at)
    }
}

/// The weight of an endpoint that has come back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlowStart {
    away: bool,
    since: Option<Moment>,
}

impl SlowStart {
    /// For an endpoint that joins others: it has cold caches and no connections.
    pub(super) fn newcomer() -> Self {
        Self {
            away: true,
            since: None,
        }
    }

    /// The part of its weight that it has now. Where `gradual` says that its traffic returns by shares anyway, it has all.
    pub(super) fn step(&mut self, now: Moment, available: bool, gradual: bool, span: Duration) -> f64 {
        if !available {
            self.away = true;
            return 1.0;
        }
        if self.away {
            self.away = false;
            self.since = (!gradual).then_some(now);
        }
        let Some(since) = self.since else {
            return 1.0;
        };
        let done = now.seconds_since(since) / span.as_secs_f64().max(1e-3);
        if done >= 1.0 {
            self.since = None;
        }
        done.clamp(FIRST_WEIGHT, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assessment::Standing;
    use crate::shift::fixture::known;

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    fn dead() -> Assessment {
        let mut dead = known(0.98);
        dead.standing = Standing::Dead;
        dead
    }

    #[test]
    fn the_dead_that_nobody_probes_are_tried_seldom_and_briefly() {
        let mut half_open = HalfOpen::default();
        let open: Vec<u64> = (0..100)
            .filter(|second| {
                half_open.step(at(*second), &dead());
                half_open.is_open(at(*second))
            })
            .collect();
        assert_eq!(open, [10, 11, 32, 33, 74, 75]);
    }

    #[test]
    fn the_dead_that_are_probed_wait_for_their_probes() {
        let mut half_open = HalfOpen::default();
        let mut probed = dead();
        probed.tick.probes_failed = 1;
        for second in 0..100 {
            half_open.step(at(second), &probed);
            assert!(!half_open.is_open(at(second)));
        }
    }

    #[test]
    fn who_comes_back_starts_slowly_and_who_never_left_does_not() {
        let span = Duration::from_secs(10);
        let mut start = SlowStart::default();
        assert!((start.step(at(0), true, false, span) - 1.0).abs() < 1e-9);
        start.step(at(1), false, false, span);
        let weights: Vec<f64> = [2, 7, 12, 13]
            .into_iter()
            .map(|s| start.step(at(s), true, false, span))
            .collect();
        for (weight, expected) in weights.iter().zip([0.1, 0.5, 1.0, 1.0]) {
            assert!((weight - expected).abs() < 1e-9, "{weights:?}");
        }
        start.step(at(20), false, false, span);
        assert!((start.step(at(21), true, true, span) - 1.0).abs() < 1e-9);
    }
}
