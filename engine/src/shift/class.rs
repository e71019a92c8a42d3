//! The shift of one route class that is sick by itself, while the rest of its endpoint is well.
//!
//! A path that fails must not take all users of its endpoint with it, and must not be left to fail either. Its law is
//! the shift's in small: latch, canary for two seconds, doubling, hold, and the same [`recovery`] by
//! contact and proof, on the class's own evidence. One thing is simpler: balancing does not avoid the endpoint for a
//! class's sake, so what returns needs no trial to be served.

use std::time::Duration;

use foreshade_contract::{Risk, Share};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::Sight;
use super::memory::Memory;
use super::ramp;
use super::recovery::{self, Progress, Recovery};
use crate::assessment::{Assessment, TickEvidence};
use crate::moment::Moment;
use crate::outcome::RouteClass;

/// Ticks in a row at or above the threshold.
const TICKS: u32 = 2;

/// How long a class's canary lasts.
const CANARY: Duration = Duration::from_secs(2);

/// Time constant of the demand for a class, which is learned while all of it is at the primary.
const DEMAND_S: f64 = 5.0;

/// The shift of one class.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ClassShift {
    class: RouteClass,
    above: u32,
    share: f64,
    /// Its worst, since it was engaged.
    worst: Risk,
    /// Requests per second of the class, and over how many seconds they were counted.
    demand_rps: f64,
    counted_s: f64,
    memory: Memory,
    hold: Duration,
    contacts_failed: u32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Stage {
    Idle,
    Moving { since: Moment, contact_at: Moment },
    Recovering(Recovery),
    Returning,
}

impl ClassShift {
    pub(super) fn new(class: RouteClass) -> Self {
        Self {
            class,
            above: 0,
            share: 0.0,
            worst: Risk::ZERO,
            demand_rps: 0.0,
            counted_s: 0.0,
            memory: Memory::default(),
            hold: Duration::ZERO,
            contacts_failed: 0,
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
        let primary = self.of_class(sight.primary);
        let sight = &Sight {
            primary: &primary,
            demand_rps: self.demand_rps,
            ..*sight
        };
        self.count_demand(sight);
        self.above = if primary.risk.value() >= sight.policy.engage && !sight.frozen {
            self.above.saturating_add(1)
        } else {
            0
        };
        if sight.frozen {
            self.share = self.share.min(cap.value());
            return;
        }
        let (engaged, well) = (self.above >= TICKS, primary.risk.value() < sight.policy.release);
        self.stage = match self.stage {
            Stage::Idle if engaged => {
                self.memory.engaged(sight.now);
                (self.worst, self.contacts_failed) = (primary.risk, 0);
                self.moving(sight, rng)
            }
            Stage::Idle => Stage::Idle,
            // It is no longer sick alone: it is well, or all of its endpoint is not.
            Stage::Moving { .. } | Stage::Recovering(_) if well => Stage::Returning,
            Stage::Moving { since, contact_at } => {
                if primary.risk > self.worst {
                    self.worst = primary.risk;
                }
                self.grow(sight, since);
                if recovery::may_contact(sight, contact_at) {
                    Stage::Recovering(Recovery::open(sight, self.share, 0.0, None))
                } else {
                    self.stage
                }
            }
            Stage::Recovering(recovery) => self.recover(recovery, sight, rng),
            Stage::Returning if engaged => {
                self.memory.relapsed(sight.now, self.share);
                self.moving(sight, rng)
            }
            Stage::Returning => {
                self.share = (self.share - sight.policy.return_per_second * sight.dt).max(0.0);
                if self.share > 0.0 {
                    Stage::Returning
                } else {
                    self.released(sight.now)
                }
            }
        };
        self.share = self.share.min(cap.value());
    }

    /// The endpoint as this class sees it: what it knows of the class, and what holds for all of it.
    fn of_class(&self, endpoint: &Assessment) -> Assessment {
        let sick = endpoint.classes.iter().find(|sick| sick.class == self.class);
        Assessment {
            risk: sick.map_or(Risk::ZERO, |sick| sick.risk),
            standing: endpoint.standing,
            tick: sick.map_or_else(TickEvidence::default, |sick| sick.tick),
            ..Assessment::unknown()
        }
    }

    /// What goes elsewhere is not seen here, so only what is asked while nothing does tells the demand.
    fn count_demand(&mut self, sight: &Sight<'_>) {
        if self.share > 0.0 || sight.dt <= 0.0 {
            return;
        }
        self.counted_s = (self.counted_s + sight.dt).min(DEMAND_S);
        let rps = f64::from(sight.primary.tick.total) / sight.dt;
        self.demand_rps += (rps - self.demand_rps) * sight.dt / self.counted_s;
    }

    fn recover(&mut self, mut recovery: Recovery, sight: &Sight<'_>, rng: &mut (impl Rng + ?Sized)) -> Stage {
        let floor = self.memory.floor(sight.now, sight.policy).min(self.share);
        // The demand is that of before the shift: nobody is missed who may just not ask any more.
        let sight = &Sight {
            demand_rps: 0.0,
            ..*sight
        };
        let (progress, share) = recovery.step(sight, self.share, floor, self.memory.caution(sight.now));
        self.share = share;
        match progress {
            Progress::Going => Stage::Recovering(recovery),
            Progress::Done => self.released(sight.now),
            Progress::Failed => {
                let wait = recovery::next_contact(self.hold, self.contacts_failed, sight.policy.hold_max);
                self.contacts_failed = self.contacts_failed.saturating_add(1);
                Stage::Moving {
                    since: sight.now,
                    contact_at: sight.now + wait,
                }
            }
            Progress::Relapsed => {
                self.memory.relapsed(sight.now, self.share);
                self.moving(sight, rng)
            }
        }
    }

    fn released(&mut self, now: Moment) -> Stage {
        self.memory.released(now);
        Stage::Idle
    }

    fn moving(&mut self, sight: &Sight<'_>, rng: &mut (impl Rng + ?Sized)) -> Stage {
        self.hold = self.memory.hold(sight.now, sight.policy, rng);
        Stage::Moving {
            since: sight.now,
            contact_at: sight.now + self.hold,
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
