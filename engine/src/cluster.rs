//! One cluster's loop: observations in, one decision out, ten times a second.
//!
//! This file ties the sides together and decides little itself: `risk` judges the endpoints, `capacity` and `panic` say
//! what is left, `shift` decides per pair, and what comes out is everything the data plane needs until the next tick.
//! Holds and ramps are counted in the engine's own time, which advances by at most a quarter of a second per tick: when
//! the process was suspended nothing has been observed, so nothing has been waited for either.

mod guidance;
mod heirloom;
mod overrides;
mod reach;
mod readings;
mod reshape;
mod wellness;

use std::time::Duration;

use foreshade_contract::Share;
use rand::Rng;

pub use self::guidance::Guidance;
pub use self::heirloom::{Belief, Heirloom, Moved, Strength};
pub(crate) use self::overrides::OPERATOR;
use self::overrides::Overrides;
pub use self::overrides::{OVERRIDE_MAX, Override, OverrideError, Setting};
use self::reach::{HalfOpen, SlowStart};
use self::wellness::Wellness;
use crate::ablation::{Ablations, Part};
use crate::assessment::{Assessment, ClusterAssessment};
use crate::capacity::{Capacity, fitting};
use crate::decision::{ClusterDecision, EndpointDecision, Mode};
use crate::explain::{Explanation, History};
use crate::failover::attempt_timeout;
use crate::moment::Moment;
use crate::observation::Observation;
use crate::panic::{self, Left, Panic};
use crate::risk::{Advisory, Assessor};
use crate::shift::{Shift, Shifted, Sight};
use crate::spec::{ClusterSpec, EndpointSpec, Role};

/// The most that the engine's time advances in one tick: ticks come every 100 ms, and a late one is no evidence.
const STEP_MAX: Duration = Duration::from_millis(250);

/// Risk from which on an endpoint is spared other endpoints' failed requests.
const FAILOVER_RISK: f64 = 0.5;

/// Users that try an endpoint which nothing but their requests can show to be alive again.
const HALF_OPEN_TRIAL: f64 = 0.05;

/// One cluster's engine.
#[derive(Debug)]
pub struct ClusterEngine {
    spec: ClusterSpec,
    assessor: Assessor,
    assessment: ClusterAssessment,
    members: Vec<Member>,
    overrides: Overrides,
    panic: Panic,
    /// When the last tick was.
    last: Moment,
    /// The engine's own time.
    time: Moment,
    ablations: Ablations,
}

/// What is kept of one endpoint between ticks.
#[derive(Debug)]
struct Member {
    /// For a primary with a shadow.
    shift: Option<Pair>,
    is_shadow: bool,
    capacity: Capacity,
    wellness: Wellness,
    half_open: HalfOpen,
    slow_start: SlowStart,
    history: History,
    /// Whether it may be chosen, as of this tick.
    available: bool,
}

#[derive(Debug)]
struct Pair {
    shadow: usize,
    shift: Shift,
    /// What the controller's plan says.
    guidance: Guidance,
    /// This tick's decision.
    shifted: Option<Shifted>,
}

/// What holds for the whole cluster in one tick.
#[derive(Clone, Copy, Debug)]
struct Tick {
    now: Moment,
    dt: f64,
    demand_rps: f64,
    /// Sum of the primaries' weights.
    weight: f64,
    mode: Mode,
}

impl Member {
    fn new(endpoint: &EndpointSpec, slow_start: SlowStart) -> Self {
        Self {
            shift: endpoint.shadow().map(Pair::new),
            is_shadow: endpoint.role == Role::Shadow,
            capacity: Capacity::new(endpoint.capacity_rps),
            wellness: Wellness::default(),
            half_open: HalfOpen::default(),
            slow_start,
            history: History::default(),
            available: true,
        }
    }
}

impl Pair {
    fn new(shadow: usize) -> Self {
        Self {
            shadow,
            shift: Shift::new(),
            guidance: Guidance::NONE,
            shifted: None,
        }
    }
}

impl ClusterEngine {
    /// An engine that has seen nothing yet.
    pub fn new(spec: ClusterSpec, now: Moment) -> Self {
        let members = spec
            .endpoints
            .iter()
            .map(|endpoint| Member::new(endpoint, SlowStart::default()))
            .collect();
        Self {
            assessor: Assessor::new(&spec, now),
            assessment: ClusterAssessment {
                endpoints: vec![Assessment::unknown(); spec.endpoints.len()],
                common_cause: false,
            },
            overrides: Overrides::new(spec.endpoints.len()),
            panic: Panic::default(),
            members,
            spec,
            last: now,
            time: now,
            ablations: Ablations::default(),
        }
    }

    /// Takes parts out, for a simulation. See [`crate::ablation`].
    pub(crate) fn ablate(&mut self, ablations: Ablations) {
        self.ablations = ablations;
        self.assessor.ablate(ablations);
        if ablations.has(Part::NoHysteresis) {
            let policy = &mut self.spec.shift;
            policy.engage = policy.release;
            (policy.hold, policy.hold_max) = (Duration::ZERO, Duration::ZERO);
            // All of it within a tick.
            policy.return_per_second = 1.0 / crate::model::TICK.as_secs_f64();
        }
    }

    /// Decides one tick: one observation per endpoint, by index, merged over the workers. `own_lag` is how late the proxy
    /// itself was: what it did not see in time it must not blame on an endpoint.
    pub fn tick(
        &mut self,
        now: Moment,
        observations: &[Observation],
        own_lag: Duration,
        rng: &mut (impl Rng + ?Sized),
    ) -> ClusterDecision {
        let assessment = self.assessor.assess(now, observations, own_lag);
        self.decide(now, assessment, rng)
    }

    /// Takes an advisory from outside.
    pub fn handle_advisory(&mut self, advisory: Advisory) {
        self.assessor.handle_advisory(advisory);
    }

    /// Takes an operator's word. A later one on the same endpoint replaces it.
    pub fn handle_override(&mut self, order: Override) -> Result<(), OverrideError> {
        let endpoint = self.spec.endpoints.get(order.endpoint);
        self.overrides.set(order, endpoint, self.last)
    }

    /// Takes an operator's word back. Says whether there was one.
    pub fn clear_override(&mut self, endpoint: usize) -> bool {
        self.overrides.clear(endpoint)
    }

    /// The operators' words that hold now.
    pub fn overrides(&self) -> impl Iterator<Item = &Override> {
        self.overrides.active(self.last)
    }

    /// Why an endpoint is where it is; `None` for an endpoint that does not exist.
    pub fn explain(&self, endpoint: usize) -> Option<Explanation> {
        let name = self.spec.endpoints.get(endpoint)?.name.clone();
        self.members
            .get(endpoint)
            .map(|member| member.history.explanation(name))
    }

    /// What is believed of the endpoints, as of the last tick.
    pub fn assessment(&self) -> &ClusterAssessment {
        &self.assessment
    }

    /// What the engine was built from.
    pub fn spec(&self) -> &ClusterSpec {
        &self.spec
    }

    /// The deciding side alone, on an assessment from anywhere.
    pub(crate) fn decide(
        &mut self,
        now: Moment,
        mut assessment: ClusterAssessment,
        rng: &mut (impl Rng + ?Sized),
    ) -> ClusterDecision {
        let step = now.since(self.last).min(STEP_MAX);
        self.last = self.last.max(now);
        self.time = self.time + step;
        assessment
            .endpoints
            .resize_with(self.spec.endpoints.len(), Assessment::unknown);
        self.overrides.apply(&mut assessment.endpoints, self.last);
        self.assessment = assessment;
        let mut tick = Tick {
            now: self.time,
            dt: step.as_secs_f64(),
            demand_rps: self.assessment.endpoints.iter().map(|seen| seen.rps).sum(),
            weight: self.primaries().map(|(_, endpoint)| endpoint.weight).sum(),
            mode: Mode::Normal,
        };
        self.learn(&tick);
        tick.mode = self.mode(&tick);
        for member in &mut self.members {
            member.available |= tick.mode == Mode::Panic;
        }
        self.decide_shifts(&tick, rng);
        let decision = self.publish(&tick);
        for ((member, seen), decided) in self
            .members
            .iter_mut()
            .zip(&self.assessment.endpoints)
            .zip(&decision.endpoints)
        {
            member.history.record(decision.at, decision.mode, seen, decided);
        }
        decision
    }

    /// Takes in what the tick says of each endpoint's capacity, wellness and reach.
    fn learn(&mut self, tick: &Tick) {
        for (member, seen) in self.members.iter_mut().zip(&self.assessment.endpoints) {
            member.capacity.step(tick.now, tick.dt, seen, &self.spec.shift);
            member.wellness.step(tick.dt, seen, &self.spec.shift);
            member.half_open.step(tick.now, seen);
            // A shadow is tried by its primaries' canaries; a primary by those on trial.
            member.available = !seen.is_dead() || (member.is_shadow && member.half_open.is_open(tick.now));
        }
    }

    fn mode(&mut self, tick: &Tick) -> Mode {
        let capacity_rps = self
            .members
            .iter()
            .zip(&self.assessment.endpoints)
            .enumerate()
            .map(|(index, (member, seen))| {
                let presumed = self.presumed_rps(index, tick);
                member.capacity.total_rps(presumed) * (1.0 - seen.risk.value())
            })
            .sum();
        let best_risk = self
            .assessment
            .endpoints
            .iter()
            .map(|seen| seen.risk.value())
            .fold(1.0, f64::min);
        let panic = self.panic.step(
            tick.now,
            Left {
                capacity_rps,
                demand_rps: tick.demand_rps,
                best_risk,
            },
        );
        if panic {
            Mode::Panic
        } else if self.assessment.common_cause {
            Mode::Frozen
        } else {
            Mode::Normal
        }
    }

    /// Decides all pairs, those first whose primary is gone: what a shadow can carry is theirs before it is anybody's who
    /// still has a primary.
    fn decide_shifts(&mut self, tick: &Tick, rng: &mut (impl Rng + ?Sized)) {
        for dead in [true, false] {
            for index in 0..self.members.len() {
                if self.seen(index).is_some_and(|seen| seen.is_dead() == dead) {
                    self.decide_shift(index, tick, rng);
                }
            }
        }
    }

    fn decide_shift(&mut self, index: usize, tick: &Tick, rng: &mut (impl Rng + ?Sized)) {
        let Some(shadow_index) = self.shadow_of(index) else {
            return;
        };
        let demand_rps = self.demand_of(index, tick);
        let taken = self.taken_rps(index, shadow_index, tick);
        let presumed = self.presumed_rps(shadow_index, tick);
        let reference = self.reference(index);
        let Some(shadow) = self.members.get_mut(shadow_index) else {
            return;
        };
        let room = shadow.capacity.room_rps(presumed, &self.spec.shift);
        let granted = shadow.capacity.granted_rps(&self.spec.shift);
        let shadow_available = shadow.available;
        let (Some(primary), Some(shadow), Some(member)) = (
            self.assessment.endpoints.get(index),
            self.assessment.endpoints.get(shadow_index),
            self.members.get_mut(index),
        ) else {
            return;
        };
        let Some(pair) = &mut member.shift else { return };
        let sight = Sight {
            now: tick.now,
            dt: tick.dt,
            primary,
            shadow,
            shadow_available,
            probed: member.half_open.is_probed(tick.now),
            reference,
            demand_rps,
            capacity: if self.ablations.has(Part::NoCapacity) {
                Share::ONE
            } else {
                fitting(room, taken, demand_rps)
            },
            granted: granted.map_or(Share::ONE, |granted| fitting(granted, taken, demand_rps)),
            ablations: self.ablations,
            frozen: tick.mode != Mode::Normal || pair.guidance.frozen,
            in_panic: tick.mode == Mode::Panic && !pair.guidance.frozen,
            guidance: pair.guidance,
            policy: &self.spec.shift,
        };
        let forced = self.overrides.share_of(index, self.last);
        pair.shifted = Some(pair.shift.step(&sight, forced, rng));
    }

    fn publish(&mut self, tick: &Tick) -> ClusterDecision {
        let stretch = self.common_slowdown();
        let typical_us = self.typical_us();
        let p999 = self
            .assessment
            .endpoints
            .iter()
            .filter_map(|seen| seen.p999_baseline)
            .max();
        let mut endpoints = Vec::with_capacity(self.members.len());
        for ((member, seen), spec) in self
            .members
            .iter_mut()
            .zip(&self.assessment.endpoints)
            .zip(&self.spec.endpoints)
        {
            let pair = member.shift.as_ref();
            let recovering = pair.is_some_and(|pair| pair.shift.is_recovering());
            let ramp = member
                .slow_start
                .step(tick.now, member.available, recovering, self.spec.slow_start);
            let shifted = pair.and_then(|pair| pair.shifted.as_ref());
            let by_shift = shifted.map_or(Share::ZERO, |shifted| shifted.trial);
            let part = match tick.mode {
                Mode::Panic => panic::remaining(seen.risk),
                Mode::Normal | Mode::Frozen => ramp,
            };
            let half_open = seen.is_dead() && member.half_open.is_open(tick.now);
            endpoints.push(EndpointDecision {
                risk: seen.risk,
                top_group: seen.top_group(),
                available: member.available,
                weight: spec.weight * part,
                // An endpoint without a baseline of its own is given the most patient one of the others.
                attempt_timeout: attempt_timeout(
                    seen.p999_baseline.or(p999),
                    self.spec.attempt_timeout,
                    stretch,
                ),
                accepts_failover: member.available && !half_open && seen.risk.value() < FAILOVER_RISK,
                typical_us,
                trial: if half_open && !(self.spec.shift.enabled && shifted.is_some()) {
                    Share::clamped(HALF_OPEN_TRIAL)
                } else {
                    by_shift
                },
                shift: shifted.map(|shifted| shifted.decision.clone()),
            });
        }
        ClusterDecision {
            at: self.last,
            mode: tick.mode,
            retries: tick.mode != Mode::Panic,
            alive: self.is_alive(),
            endpoints,
        }
    }

    fn primaries(&self) -> impl Iterator<Item = (usize, &EndpointSpec)> {
        self.spec
            .endpoints
            .iter()
            .enumerate()
            .filter(|(_, endpoint)| matches!(endpoint.role, Role::Primary { .. }))
    }

    /// Whether an endpoint that may serve users is not dead: a primary, or its shadow where shifting is on.
    fn is_alive(&self) -> bool {
        let is_up = |index: usize| self.seen(index).is_some_and(|seen| !seen.is_dead());
        let shadow = |index: usize| self.shadow_of(index).filter(|_| self.spec.shift.enabled);
        self.primaries()
            .any(|(index, _)| is_up(index) || shadow(index).is_some_and(is_up))
    }

    fn seen(&self, index: usize) -> Option<&Assessment> {
        self.assessment.endpoints.get(index)
    }

    fn shadow_of(&self, index: usize) -> Option<usize> {
        let pair = self.members.get(index)?.shift.as_ref()?;
        Some(pair.shadow)
    }
}

#[cfg(test)]
mod tests;
