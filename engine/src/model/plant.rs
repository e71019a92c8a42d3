//! All endpoints of a cluster: their queues, and how each is at the moment.

#![expect(
    clippy::indexing_slicing,
    reason = "endpoints are those of the scenario that the plant was made for; no traffic comes here"
)]

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use super::fault::{self, Condition, Fault, Kind, Release};
use super::load::Load;
use super::scenario::Scenario;
use super::server::{Answer, Job, Server, Ticket};
use super::timers::{Timer, Timers};
use crate::moment::Moment;

/// Microseconds until a refusal is back: a round trip in one zone.
const REFUSAL_US: u64 = 200;

/// What failing costs, as a part of what serving costs.
const FAILURE_WORK: f64 = 0.2;

/// Microseconds of work for a probe.
const PROBE_US: f64 = 1_000.0;

pub(super) struct Plant {
    servers: Vec<Server>,
    /// When each endpoint's next request ends. Kept, because it is asked at every event and changes at few.
    due_us: Vec<u64>,
    faults: Vec<Fault>,
    /// Without a fault of one path or a ramp, an endpoint meets all requests alike until the next edge.
    conditions: Vec<Option<Condition>>,
    load: Load,
    rng: Xoshiro256PlusPlus,
}

impl Plant {
    pub(super) fn new(scenario: &Scenario, seed: u64) -> Self {
        let mut plant = Self {
            servers: scenario.cores.iter().map(|cores| Server::new(*cores)).collect(),
            due_us: vec![u64::MAX; scenario.cores.len()],
            faults: scenario.faults.clone(),
            conditions: vec![None; scenario.cores.len()],
            load: scenario.load.clone(),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x9E37_79B9_7F4A_7C15),
        };
        for endpoint in 0..scenario.cores.len() {
            plant.conditions[endpoint] = plant.lasting_condition(endpoint, Moment::ZERO);
        }
        plant
    }

    /// When the next request ends, and at which endpoint.
    pub(super) fn due(&self) -> (u64, usize) {
        let mut first = (u64::MAX, 0);
        for (endpoint, at) in self.due_us.iter().enumerate() {
            if *at < first.0 {
                first = (*at, endpoint);
            }
        }
        first
    }

    /// Ends the work that is due. Returns what is over with it.
    pub(super) fn finish(
        &mut self,
        now_us: u64,
        endpoint: usize,
        timers: &mut Timers,
    ) -> Option<(Ticket, Answer)> {
        let job = self.servers[endpoint].finish(now_us);
        self.due_us[endpoint] = self.servers[endpoint].due();
        let Job {
            ticket,
            answer,
            wait_us,
        } = job?;
        if wait_us > 0 {
            timers.at(now_us + wait_us, Timer::End(ticket, answer));
            return None;
        }
        Some((ticket, answer))
    }

    /// A request reaches an endpoint. Returns whether the endpoint took it: a refused one never got there.
    pub(super) fn accept(
        &mut self,
        now_us: u64,
        endpoint: usize,
        path: usize,
        ticket: Ticket,
        timers: &mut Timers,
    ) -> bool {
        let condition = self.condition(endpoint, path, now_us);
        if condition.refuse {
            timers.at(now_us + REFUSAL_US, Timer::End(ticket, Answer::Refused));
            return false;
        }
        let server = &mut self.servers[endpoint];
        if condition.hang.is_some() {
            server.hang(ticket);
            return true;
        }
        let fails = condition.errors > 0.0 && self.rng.random::<f64>() < condition.errors;
        let mut work_us = self.load.work_us(path, &mut self.rng);
        let mut job = Job {
            ticket,
            answer: Answer::Ok,
            wait_us: whole_us(work_us * (condition.slow - 1.0)),
        };
        if fails {
            work_us *= FAILURE_WORK;
            job.answer = Answer::Error;
        }
        server.accept(now_us, work_us, job);
        self.due_us[endpoint] = server.due();
        true
    }

    /// How long an answer to a probe takes, microseconds; `None` where there is none, `Some(Err)` where it is refused.
    pub(super) fn probe(&self, now_us: u64, endpoint: usize) -> Option<Result<u64, u64>> {
        let condition = fault::condition(&self.faults, endpoint, None, Moment::from_micros(now_us));
        if condition.refuse {
            return Some(Err(REFUSAL_US));
        }
        let answered = Some(Ok(whole_us(PROBE_US * condition.slow)));
        answered.filter(|_| condition.hang.is_none() && condition.capacity > 0.0)
    }

    /// A fault of an endpoint came or went.
    pub(super) fn edge(&mut self, now_us: u64, endpoint: usize, timers: &mut Timers) {
        let now = Moment::from_micros(now_us);
        self.conditions[endpoint] = self.lasting_condition(endpoint, now);
        let condition = fault::condition(&self.faults, endpoint, None, now);
        self.servers[endpoint].set_capacity(now_us, condition.capacity);
        if condition.hang.is_none() {
            let how = self.hang_ended(endpoint, now);
            let (load, rng) = (&self.load, &mut self.rng);
            self.servers[endpoint].release(
                now_us,
                how,
                || load.work_us(0, rng),
                |ticket| timers.at(now_us, Timer::End(ticket, Answer::Reset)),
            );
        }
        self.due_us[endpoint] = self.servers[endpoint].due();
    }

    fn condition(&self, endpoint: usize, path: usize, now_us: u64) -> Condition {
        self.conditions[endpoint].unwrap_or_else(|| {
            fault::condition(&self.faults, endpoint, Some(path), Moment::from_micros(now_us))
        })
    }

    /// The condition until the next edge, if every request meets the same until then.
    fn lasting_condition(&self, endpoint: usize, now: Moment) -> Option<Condition> {
        let changes = |f: &Fault| f.path.is_some() || matches!(f.kind, Kind::Ramp(_));
        let of_it = |f: &&Fault| f.endpoint == endpoint && f.is_active(now);
        let lasts = !self.faults.iter().filter(of_it).any(changes);
        lasts.then(|| fault::condition(&self.faults, endpoint, None, now))
    }

    /// What becomes of what hangs at `endpoint`, by the hang that ended last.
    fn hang_ended(&self, endpoint: usize, now: Moment) -> Release {
        let hangs = self
            .faults
            .iter()
            .filter(|f| f.endpoint == endpoint && f.from <= now);
        hangs
            .filter_map(|f| match f.kind {
                Kind::Hang(release) => Some((f.from, release)),
                _ => None,
            })
            .max_by_key(|(from, _)| *from)
            .map_or(Release::Answered, |(_, release)| release)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, which is what is meant"
)]
fn whole_us(us: f64) -> u64 {
    us.round() as u64
}
