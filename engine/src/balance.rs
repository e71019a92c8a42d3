//! Which endpoint an attempt goes to: the hot path, called once per attempt on one immutable table.
//!
//! Balancing chooses among the cluster's *slots*, one per primary. A slot is resolved to its target for this user first:
//! the shadow if the user's cohort lies below the share's threshold, else the primary. Only then are targets compared.
//! So a user who has been shifted competes with the healthy shadow's cost and takes his normal part of it, and a user
//! who has not avoids the sick primary by its risk. Comparing primaries first would send almost nobody to a slot whose
//! primary is sick, and its shadow would stand idle.
//!
//! - `LeastLoad`: power of two choices (Mitzenmacher 2001) on `latency * (in_flight + 1) / (weight * (1 - risk)^2)`, the
//!   latency by endpoint and route class.
//!   One choice in a hundred ignores the cost, so that an endpoint that looks bad keeps producing evidence; only for
//!   requests that may be repeated.
//! - *Trial*: risk does not fall by silence, so a primary that has been drained would never be chosen again. The users
//!   that are its recovery canary see it at the pool's usual cost, whatever its risk and its last latencies.
//! - Cold: what has not been measured costs what the pool costs. Idle: a measurement fades into the pool's cost. Burst:
//!   requests in flight count at once.
//!
//! Everything that can be is computed when the table is built, once per tick; a pick allocates nothing, locks nothing,
//! and costs tens of nanoseconds.
// Concept: endpoint-gradual-shift

mod least_load;
mod loads;
mod ring;
mod slot;
mod stick;
mod turns;

use std::time::Duration;

use rand::Rng;

pub use self::loads::Loads;
use self::ring::Ring;
use self::slot::{Slot, Target};
use self::turns::Turns;
use crate::cohort::Cohort;
use crate::decision::{ClusterDecision, Mode};
use crate::failover::ServerErrors;
use crate::moment::Moment;
use crate::outcome::RouteClass;
use crate::spec::{BalancePolicy, ClusterSpec, Role};

/// What balancing needs to know of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The user's place in every shift.
    pub cohort: Cohort,
    /// The kind of request.
    pub class: RouteClass,
    /// The segment that the user belongs to, an index into `ClusterSpec::segments`.
    pub segment: Option<usize>,
    /// Repeating it does no harm.
    pub repeatable: bool,
    /// Attempts in all that its route allows, the first one included; see [`crate::failover`] for what else bounds them.
    pub attempts_max: u32,
    /// Statuses that its route takes for failures, beside 502, 503 and 504.
    pub retry_on: ServerErrors,
    /// The endpoint whose slot the user is to stay with, by index; balanced where `None`.
    pub stick: Option<usize>,
}

/// Which half of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The primary itself.
    Primary,
    /// The shadow of the primary.
    Shadow,
}

/// Why an endpoint was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// By the balancing policy.
    Balanced,
    /// The user lies within the share of the slot that was balanced to.
    Shifted,
    /// The user stays with the slot that he had.
    Stuck,
    /// Against its cost, to keep evidence coming.
    Explored,
    /// The primary is gone, or has just failed this request.
    FailedOver,
    /// By what is left of it: the cluster is in panic.
    Panic,
}

impl Why {
    /// The label in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Shifted => "shifted",
            Self::Stuck => "stuck",
            Self::Explored => "explored",
            Self::FailedOver => "failed_over",
            Self::Panic => "panic",
        }
    }
}

/// Where an attempt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Index of the endpoint.
    pub endpoint: usize,
    /// Index of the primary whose slot it is.
    pub primary: usize,
    /// Which half of the pair the endpoint is.
    pub side: Side,
    /// Why.
    pub why: Why,
}

/// To which side of a slot a user was drawn. The coin is the user's hash: it knows nothing of how his request will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The threshold below which users are the shadow's: [`crate::cohort::share_below`] says which share that is.
    pub limit: u32,
    /// His place in the order of users, by which he is below it or not.
    pub position: u32,
    /// His side.
    pub side: Side,
}

/// What a request has been through already.
#[derive(Clone, Copy, Debug)]
pub struct Tried<'a> {
    /// Endpoints that it was sent to, the last one last.
    pub endpoints: &'a [usize],
    /// The last failure never reached its endpoint, so that any place will do.
    pub never_sent: bool,
    /// The last one has only given up a connection that it had kept: on a new one it may be as well as ever.
    pub stale: bool,
}

/// One cluster's decision, made ready for picking.
#[derive(Clone, Debug)]
pub struct ClusterTable {
    endpoints: Vec<Target>,
    /// The slots that can serve at all.
    slots: Vec<Slot>,
    chooser: Chooser,
    /// Segments and the rest.
    segments: usize,
    panic: bool,
    /// Whether any endpoint is known to be alive.
    alive: bool,
    retries: bool,
}

#[derive(Clone, Debug)]
enum Chooser {
    LeastLoad,
    Random(Turns),
    InTurn(Turns),
    Hash(Ring),
}

/// A slot resolved for one request.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    pick: Pick,
    on_trial: bool,
}

impl ClusterTable {
    /// The table for one decision. `spec` and `decision` speak of the same endpoints.
    pub fn new(spec: &ClusterSpec, decision: &ClusterDecision) -> Self {
        let endpoints: Vec<Target> = decision
            .endpoints
            .iter()
            .map(|endpoint| Target::new(endpoint, decision.mode))
            .collect();
        let slots: Vec<Slot> = spec
            .endpoints
            .iter()
            .zip(&decision.endpoints)
            .enumerate()
            .filter_map(|(index, (endpoint, decided))| match endpoint.role {
                // Where shifting is off, the shadows stay out of it altogether.
                Role::Primary { shadow } => Some(Slot::new(
                    index,
                    shadow.filter(|_| spec.shift.enabled),
                    decided,
                    &spec.segments,
                    &endpoints,
                )),
                Role::Shadow => None,
            })
            .filter(|slot| slot.can_serve(&endpoints))
            .collect();
        let weights: Vec<f64> = slots.iter().map(|slot| slot.weight).collect();
        let chooser = match spec.balance {
            BalancePolicy::LeastLoad => Chooser::LeastLoad,
            BalancePolicy::WeightedRandom => Chooser::Random(Turns::cumulative(&weights)),
            BalancePolicy::RoundRobin => Chooser::InTurn(Turns::smooth(&weights)),
            BalancePolicy::ConsistentHash => {
                Chooser::Hash(Ring::new(slots.iter().map(|s| s.primary).zip(weights)))
            }
        };
        Self {
            endpoints,
            slots,
            chooser,
            segments: spec.segments.len() + 1,
            panic: decision.mode == Mode::Panic,
            alive: decision.alive,
            retries: decision.retries,
        }
    }

    /// Whether failed requests may be tried again at all.
    pub fn retries(&self) -> bool {
        self.retries
    }

    /// Whether somebody is there to serve this user, for whoever can send him to another cluster instead. Panic keeps even
    /// the dead in, so it is asked who is alive. Users on trial go to the dead as well: without them a cluster that is not
    /// probed would stay dead for good.
    pub fn can_serve(&self, request: &Request) -> bool {
        self.alive && !self.slots.is_empty() || self.slots.iter().any(|slot| self.sides(slot, request).1)
    }

    /// How long an attempt at this endpoint may wait for its first byte, for a request that may be repeated.
    pub fn attempt_timeout(&self, endpoint: usize) -> Option<Duration> {
        self.endpoints.get(endpoint).map(|target| target.attempt_timeout)
    }

    /// Typical latency of an endpoint; zero where none is known.
    pub fn typical(&self, endpoint: usize) -> Duration {
        let us = self
            .endpoints
            .get(endpoint)
            .map_or(0.0, |target| target.typical_us);
        Duration::try_from_secs_f64(us / 1e6).unwrap_or(Duration::ZERO)
    }

    /// Whether a shadow is there and serves no user of any primary: only then has it room for anything else.
    pub fn is_idle(&self, shadow: usize) -> bool {
        let mut slots = self.slots.iter().filter(|slot| slot.shadow == Some(shadow));
        self.is_available(shadow) && slots.all(|slot| slot.thresholds.iter().all(|limit| *limit == 0))
    }

    /// Chooses an endpoint for a first attempt. `None` when nothing is left that may serve it: answer 503.
    pub fn pick(
        &self,
        request: &Request,
        loads: &Loads,
        rng: &mut (impl Rng + ?Sized),
        now: Moment,
    ) -> Option<Pick> {
        if let Some(pick) = self.stuck(request) {
            return Some(pick);
        }
        let chosen = match &self.chooser {
            Chooser::LeastLoad => self.least_load(request, loads, rng, now),
            Chooser::Random(turns) => self.slot_or_next(turns.at(rng.next_u32()), request),
            Chooser::InTurn(turns) => self.slot_or_next(turns.turn(loads.next_turn()), request),
            Chooser::Hash(ring) => self.by_hash(ring, request, loads),
        };
        let mut pick = match chosen {
            Some(candidate) => candidate.pick,
            None => self.last_resort()?,
        };
        if self.panic && pick.why == Why::Balanced {
            pick.why = Why::Panic;
        }
        Some(pick)
    }

    /// Chooses another endpoint for a request that failed: the failed primary's shadow, else the cheapest of the others
    /// that are well enough to take it, else, for what no endpoint has seen, the cheapest of all. One that was tried, only
    /// where nobody else is left and nothing but its connection failed.
    pub fn alternative(
        &self,
        request: &Request,
        tried: Tried<'_>,
        loads: &Loads,
        rng: &mut (impl Rng + ?Sized),
        now: Moment,
    ) -> Option<Pick> {
        let fresh = |endpoint: usize| !tried.endpoints.contains(&endpoint) && self.is_available(endpoint);
        let accepts = |endpoint: usize| self.endpoints.get(endpoint).is_some_and(|t| t.accepts_failover);
        let last = tried.endpoints.last().copied();
        let own_shadow = self
            .slots
            .iter()
            .find(|slot| Some(slot.primary) == last)
            .and_then(Slot::lent)
            .filter(|pick| fresh(pick.endpoint) && accepts(pick.endpoint));
        if own_shadow.is_some() {
            return own_shadow;
        }
        let start = index_below(rng.next_u32(), self.slots.len());
        let mut best: Option<(bool, f64, Pick)> = None;
        for offset in 0..self.slots.len() {
            // From a random start, so that equal costs do not send every worker's failures to the same place.
            let Some(candidate) = self.resolve((start + offset) % self.slots.len(), request) else {
                continue;
            };
            let mut pick = candidate.pick;
            pick.why = Why::FailedOver;
            let unwilling = !accepts(pick.endpoint);
            if !fresh(pick.endpoint) || (unwilling && !tried.never_sent) {
                continue;
            }
            let cost = self.cost(candidate, request.class, loads, now);
            if best.is_none_or(|(unwilling_best, least, _)| (unwilling, cost) < (unwilling_best, least)) {
                best = Some((unwilling, cost, pick));
            }
        }
        let shadows = || {
            self.slots
                .iter()
                .filter_map(Slot::lent)
                .find(|pick| fresh(pick.endpoint) && (accepts(pick.endpoint) || tried.never_sent))
        };
        let again = || tried.stale.then(|| self.again(last?)).flatten();
        best.map(|(.., pick)| pick).or_else(shadows).or_else(again)
    }

    /// An endpoint once more.
    fn again(&self, endpoint: usize) -> Option<Pick> {
        let of_slot = |slot: &Slot| {
            let shadow = || {
                slot.shadow_pick(Why::FailedOver)
                    .filter(|pick| pick.endpoint == endpoint)
            };
            let primary = Pick {
                endpoint,
                primary: slot.primary,
                side: Side::Primary,
                why: Why::FailedOver,
            };
            (slot.primary == endpoint).then_some(primary).or_else(shadow)
        };
        self.slots
            .iter()
            .find_map(of_slot)
            .filter(|_| self.is_available(endpoint))
    }

    /// Which side of a primary's slot a user was drawn to, and with which probability: before anybody asks who is there to
    /// serve him. `None` where the primary has no slot with a shadow.
    pub fn draw(&self, primary: usize, request: &Request) -> Option<Draw> {
        let slot = self.slots.iter().find(|slot| slot.primary == primary)?;
        slot.shadow?;
        let limit = self.limit(slot, request);
        let position = request.cohort.position(slot.salt);
        Some(Draw {
            limit,
            position,
            side: if position < limit {
                Side::Shadow
            } else {
                Side::Primary
            },
        })
    }

    /// Positions below are the shadow's, for requests like this one.
    fn limit(&self, slot: &Slot, request: &Request) -> u32 {
        let at = request.class.index() * self.segments + self.segment(request);
        slot.thresholds.get(at).copied().unwrap_or(0)
    }

    fn segment(&self, request: &Request) -> usize {
        request
            .segment
            .map_or(self.segments - 1, |s| s.min(self.segments - 1))
    }

    /// Where a user stands towards a slot: whether its shadow serves him, and whether he is on trial with its primary.
    fn sides(&self, slot: &Slot, request: &Request) -> (bool, bool) {
        let position = request.cohort.position(slot.salt);
        let limit = self.limit(slot, request);
        let edge = slot.trial.get(self.segment(request)).copied().unwrap_or(0);
        (position < limit, position >= limit && position < edge)
    }

    /// The target of a slot for this user, if it has one.
    fn resolve(&self, slot: usize, request: &Request) -> Option<Candidate> {
        let slot = self.slots.get(slot)?;
        let (shifted, on_trial) = self.sides(slot, request);
        if shifted {
            let dead = !self.is_available(slot.primary);
            let why = if dead { Why::FailedOver } else { Why::Shifted };
            let shifted = slot
                .shadow_pick(why)
                .filter(|pick| self.is_available(pick.endpoint));
            if let Some(pick) = shifted {
                return Some(Candidate {
                    pick,
                    on_trial: false,
                });
            }
        }
        (on_trial || self.is_available(slot.primary)).then_some(Candidate {
            pick: Pick {
                endpoint: slot.primary,
                primary: slot.primary,
                side: Side::Primary,
                why: Why::Balanced,
            },
            on_trial,
        })
    }

    /// The slot's target, or the next slot's that has one.
    fn slot_or_next(&self, slot: usize, request: &Request) -> Option<Candidate> {
        (0..self.slots.len()).find_map(|offset| self.resolve((slot + offset) % self.slots.len(), request))
    }

    /// No slot has a target for this user: a shadow with room left for those who did not fit its share.
    fn last_resort(&self) -> Option<Pick> {
        self.slots
            .iter()
            .filter(|slot| slot.spills)
            .filter_map(Slot::lent)
            .find(|pick| self.is_available(pick.endpoint))
    }

    fn cost(&self, candidate: Candidate, class: RouteClass, loads: &Loads, now: Moment) -> f64 {
        let Some(target) = self.endpoints.get(candidate.pick.endpoint) else {
            return f64::MAX;
        };
        let (us, factor) = if candidate.on_trial {
            (loads.pool_us(class, target.typical_us), target.factor_on_trial)
        } else {
            let us = loads.latency_us(candidate.pick.endpoint, class, target.typical_us, now);
            (us, target.factor)
        };
        us * f64::from(loads.in_flight(candidate.pick.endpoint) + 1) * factor
    }

    /// Whether an endpoint may be chosen at all.
    pub fn is_available(&self, endpoint: usize) -> bool {
        self.endpoints
            .get(endpoint)
            .is_some_and(|target| target.available)
    }
}

/// An index below `len`, uniform in `random`. Zero where `len` is.
fn index_below(random: u32, len: usize) -> usize {
    ((u64::from(random) * len as u64) >> 32) as usize
}

#[cfg(test)]
mod tests;
