//! What an endpoint tells about itself: the levels that others are held against, and its votes on what is common.
//!
//! Levels are of the tick alone where it has samples enough, because a common cause has to cancel out in the tick in
//! which it begins; otherwise of the last moments. Votes ignore the peers on purpose: they are what "most are worse" is
//! counted from.

use crate::cusum::Batch;
use crate::moment::Moment;

use super::endpoint::{Endpoint, LEARNED};
use super::recent::Sums;

/// Samples in a tick or in the last moment from which on their mean is a level.
const LEVEL_MIN: f64 = 8.0;

/// How long a passed probe is worth mentioning against failing users.
const PROBES_FRESH_S: f64 = 5.0;

/// Standard errors by which a vote for a common cause has to be clear of 1.25.
const VOTE_Z: f64 = 4.0;

/// The share that failed, if twenty more had not: one failure among eight must not excuse the others' failures.
fn known_share(batch: Batch) -> f64 {
    batch.bad / (batch.total + 20.0)
}

impl Endpoint {
    /// Risk that is believed, before this tick is concluded.
    pub fn risk(&self) -> f64 {
        self.memory.risk()
    }

    /// Logarithm of its slowness now, if there is enough to say.
    pub fn slow_level(&self) -> Option<f64> {
        let sums = if self.tick.ln.n >= LEVEL_MIN {
            self.tick.ln
        } else {
            self.now.ln
        };
        (sums.n >= LEVEL_MIN && self.tick.learned >= LEARNED).then(|| sums.mean())
    }

    /// Share of its attempts that fail now, if there is enough to say.
    pub fn bad_level(&self) -> Option<f64> {
        let now = self.now.attempts;
        let tick = self.tick.attempts;
        let in_tick = if tick.total >= LEVEL_MIN {
            known_share(tick)
        } else {
            0.0
        };
        (now.total >= LEVEL_MIN).then(|| known_share(now).max(in_tick))
    }

    /// How many times longer than expected its queue is.
    pub fn queue_level(&self) -> Option<f64> {
        self.queue.ratio().filter(|_| !self.tick.idle)
    }

    /// Slope of its trend.
    pub fn slope(&self) -> Option<f64> {
        self.trend.slope()
    }

    /// Mean logarithm of its latencies in microseconds, if its baseline says that it is a fit example.
    pub fn usual_level(&self) -> Option<f64> {
        (self.is_learned() && self.now.us.n >= LEVEL_MIN).then(|| self.now.us.mean())
    }

    /// Whether latencies are judged by its own baseline.
    pub fn is_learned(&self) -> bool {
        self.tick.learned >= LEARNED
    }

    /// Whether it has traffic to be judged by.
    pub fn has_traffic(&self) -> bool {
        self.now.attempts.total >= 3.0
    }

    /// Whether its newest probe passed, in the last seconds.
    pub fn is_passing(&self, now: Moment) -> bool {
        self.passed.is_some_and(|passed| {
            now.seconds_since(passed) <= PROBES_FRESH_S && self.failed.is_none_or(|failed| failed < passed)
        })
    }

    /// Whether it may hang (`Some(true)`), shows life (`Some(false)`), or says nothing.
    pub fn may_hang(&self, now: Moment) -> Option<bool> {
        if self.tick.hangs || self.stall.is_suspect() {
            return Some(true);
        }
        (self.tick.breaks.total > 0.0 || self.is_passing(now)).then_some(false)
    }

    /// Logarithm by which it is clearly slower than its own baseline, whatever the peers do.
    pub fn clearly_slower(&self) -> Option<f64> {
        if !self.is_learned() {
            return None;
        }
        [self.tick.ln, self.now.ln]
            .iter()
            .filter(|sums| sums.n >= LEVEL_MIN && sums.mean() - VOTE_Z * sums.error() > 1.25f64.ln())
            .map(Sums::mean)
            .reduce(f64::max)
    }

    /// Logarithm of the share that clearly fails more than it used to.
    pub fn clearly_failing(&self) -> Option<f64> {
        let healthy = self.own_bad_share();
        [self.tick.attempts, self.now.attempts]
            .iter()
            .filter(|batch| batch.bounds(VOTE_Z - 1.0).0 > (3.0 * healthy).max(0.005))
            .map(|batch| batch.share().ln())
            .reduce(f64::max)
    }

    /// Classes that are sick alone and seen now, and classes that are seen at all.
    pub fn class_votes(&self) -> impl Iterator<Item = (bool, bool)> {
        self.classes.iter().map(|class| {
            class.as_deref().map_or((false, false), |class| {
                (class.alone, class.attempts.total > 0.0 || class.alone)
            })
        })
    }

    /// Share of attempts that failed in health, over all classes.
    pub(super) fn own_bad_share(&self) -> f64 {
        let mut all = Batch::default();
        for class in self.classes.iter().flatten() {
            let weight = class.baseline.attempts() + 1.0;
            all.add(Batch {
                bad: class.baseline.bad_share() * weight,
                total: weight,
            });
        }
        all.share()
    }
}
