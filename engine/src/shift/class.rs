//! The shift of one route class that is sick by itself, while the rest of its endpoint is well.
//!
//! A path that fails must not take all users of its endpoint with it, and must not be left to fail either. Its law is
//! the shift's in small: latch, canary for two seconds, doubling, hold, and a contact before the return. Two things
//! are simpler. Balancing does not avoid the endpoint for a class's sake, so what returns needs no trial to be served.
//! And evidence is not kept apart per class and contact, so the class's own risk is what a contact is judged by.

use std::time::Duration;

use foreshade_contract::{Risk, Share};
use rand::Rng;

use super::Sight;
use super::memory::Memory;
use super::ramp;
use crate::assessment::Assessment;
use crate::moment::Moment;
use crate::outcome::RouteClass;

/// Ticks in a row at or above the threshold.
const TICKS: u32 = 2;

/// How long a class's canary lasts.
const CANARY: Duration = Duration::from_secs(2);

/// How long a contact may take to show that the class is well.
const CONTACT: Duration = Duration::from_secs(10);

/// The shift of one class.
#[derive(Clone, Debug)]
pub(super) struct ClassShift {
    class: RouteClass,
    above: u32,
    share: f64,
    worst: Risk,
    memory: Memory,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Idle,
    Moving { since: Moment, contact_at: Moment },
    Contact { since: Moment, from: f64 },
    Returning,
}

impl ClassShift {
    pub(super) fn new(class: RouteClass) -> Self {
        Self {
            class,
            above: 0,
            share: 0.0,
            worst: Risk::ZERO,
            memory: Memory::default(),
            stage: Stage::Idle,
        }
    }

    pub(super) fn class(&self) -> RouteClass {
        self.class
    }

    pub(super) fn share(&self) -> Share {
        Share::clamped(self.share)
    }

    /// Whether there is nothing left to remember.
    pub(super) fn is_idle(&self, now: Moment) -> bool {
        matches!(self.stage, Stage::Idle) && self.above == 0 && self.memory.is_blank(now)
    }

    /// Takes a tick.
    pub(super) fn step(&mut self, sight: &Sight<'_>, cap: Share, rng: &mut (impl Rng + ?Sized)) {
        let risk = risk_of(sight.primary, self.class);
        let policy = sight.policy;
        self.above = if risk.value() >= policy.engage && !sight.frozen {
            self.above.saturating_add(1)
        } else {
            0
        };
        let engaged = self.above >= TICKS;
        if sight.frozen {
            self.share = self.share.min(cap.value());
            return;
        }
        self.stage = match self.stage {
            Stage::Idle if engaged => {
                self.memory.engaged(sight.now);
                self.worst = risk;
                self.moving(sight, rng)
            }
            Stage::Idle => Stage::Idle,
            Stage::Moving { since, contact_at } => {
                if risk > self.worst {
                    self.worst = risk;
                }
                self.grow(sight, since);
                if sight.now < contact_at {
                    self.stage
                } else {
                    let from = self.share;
                    self.share = (from - policy.canary.value()).max(0.0);
                    Stage::Contact {
                        since: sight.now,
                        from,
                    }
                }
            }
            Stage::Contact { .. } if risk.value() < policy.release => Stage::Returning,
            Stage::Contact { since, from } if sight.now.since(since) >= CONTACT => {
                self.share = from;
                self.memory.relapsed(sight.now, from);
                self.moving(sight, rng)
            }
            Stage::Contact { .. } => self.stage,
            Stage::Returning if engaged => {
                self.memory.relapsed(sight.now, self.share);
                self.moving(sight, rng)
            }
            Stage::Returning => {
                self.share = (self.share - policy.return_per_second * sight.dt).max(0.0);
                if self.share > 0.0 {
                    Stage::Returning
                } else {
                    self.memory.released(sight.now);
                    Stage::Idle
                }
            }
        };
        self.share = self.share.min(cap.value());
    }

    fn moving(&self, sight: &Sight<'_>, rng: &mut (impl Rng + ?Sized)) -> Stage {
        Stage::Moving {
            since: sight.now,
            contact_at: sight.now + self.memory.hold(sight.now, sight.policy, rng),
        }
    }

    fn grow(&mut self, sight: &Sight<'_>, since: Moment) {
        let shadow = risk_of(sight.shadow, self.class);
        let shadow = if sight.shadow.risk > shadow {
            sight.shadow.risk
        } else {
            shadow
        };
        if !ramp::is_worth_it(shadow, self.worst) {
            // The shadow has the same illness: moving this class helps nobody.
            if shadow > self.worst {
                self.share *= 0.5;
            }
            return;
        }
        let wanted = ramp::wanted(self.worst, sight.policy).value();
        let target = if sight.now.since(since) < CANARY {
            wanted.min(sight.policy.canary.value())
        } else {
            wanted
        };
        let step = ramp::growth(self.share(), self.worst, sight.dt, sight.policy);
        self.share = self.share.max(target.min(self.share + step));
    }
}

fn risk_of(endpoint: &Assessment, class: RouteClass) -> Risk {
    endpoint
        .classes
        .iter()
        .find(|sick| sick.class == class)
        .map_or(Risk::ZERO, |sick| sick.risk)
}
