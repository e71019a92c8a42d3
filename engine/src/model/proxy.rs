//! The proxy's request path in virtual time, out of the same parts as the real one.
//!
//! Per attempt: pick, count it as begun, wait; at its end record the outcome, and where it failed ask the failover
//! table, the table of endpoints for an alternative, and the budget, in this order. An attempt that may be repeated is
//! given up when it has waited longer than its endpoint's attempt timeout *and* somebody else can take it; otherwise
//! it waits on, up to the limit of the route. Nothing here decides anything that the engine decides.
//!
//! What [`crate::ablation`] takes out of the request path is taken out here: the engine is as it is, and is kept from what
//! the part lives from.

#![expect(
    clippy::indexing_slicing,
    reason = "endpoints and workers are those of the scenario; no traffic comes here"
)]

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::Outside;
use super::flight::{Flights, ended};
use super::load::Arrival;
use super::record::{Record, Tick, UserRequest};
use super::scenario::Scenario;
use super::server::{Answer, Ticket};
use crate::ablation::Part;
use crate::balance::{ClusterTable, Loads, Pick, Request, Side, Tried};
use crate::budget::RetryBudget;
use crate::cluster::ClusterEngine;
use crate::cohort::Cohort;
use crate::failover::{ATTEMPTS_MAX_NEVER_SENT, Cost, ServerErrors, Stage, Verdict, verdict};
use crate::in_flight::InFlight;
use crate::moment::Moment;
use crate::observation::Observation;
use crate::outcome::{Class, Outcome, RouteClass};

/// What a worker shares with no other.
struct Worker {
    loads: Loads,
    in_flight: Vec<InFlight>,
    observations: Vec<Observation>,
    budget: RetryBudget,
    /// By endpoint; see [`Part::ConsecutiveFive`].
    rows: Vec<Row>,
}

/// Failures in a row.
#[derive(Clone, Debug, Default)]
struct Row {
    length: usize,
    /// Those that the engine has not been told of.
    untold: Vec<Outcome>,
}

/// Failures in a row that are evidence where single ones are not.
const CONSECUTIVE: usize = 5;

pub(super) struct Proxy {
    /// Its place among the proxies.
    index: u16,
    scenario: Scenario,
    engine: ClusterEngine,
    table: ClusterTable,
    workers: Vec<Worker>,
    /// What all workers saw in this tick, by endpoint.
    merged: Vec<Observation>,
    flights: Flights,
    /// Side of each user at each primary's slot: 0 not seen, 1 primary, 2 shadow.
    sides: Vec<u8>,
    rng: Xoshiro256PlusPlus,
}

impl Proxy {
    pub(super) fn new(index: u16, scenario: &Scenario, seed: u64) -> Self {
        let endpoints = scenario.spec.endpoints.len();
        let worker = || Worker {
            loads: Loads::new(endpoints),
            in_flight: vec![InFlight::default(); endpoints],
            observations: vec![Observation::default(); endpoints],
            budget: RetryBudget::new(scenario.workers, Moment::ZERO),
            rows: vec![Row::default(); endpoints],
        };
        let own_seed = seed ^ 0xD1B5_4A32_D192_ED03 ^ (u64::from(index) << 32);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(own_seed);
        let merged = vec![Observation::default(); endpoints];
        let mut engine = ClusterEngine::new(scenario.spec.clone(), Moment::ZERO);
        engine.ablate(scenario.ablations);
        for (primary, guidance) in &scenario.guidance {
            engine.guide(*primary, *guidance);
        }
        let decision = engine.tick(Moment::ZERO, &merged, Duration::ZERO, &mut rng);
        let seats = scenario.load.users as usize * endpoints;
        Self {
            index,
            table: ClusterTable::new(&scenario.spec, &decision),
            scenario: scenario.clone(),
            engine,
            workers: std::iter::repeat_with(worker)
                .take(scenario.workers.max(1))
                .collect(),
            merged,
            flights: Flights::default(),
            sides: vec![0; seats],
            rng,
        }
    }

    /// A user asks.
    pub(super) fn arrive(&mut self, arrival: Arrival, out: &mut Outside<'_, '_>) {
        let request = out.record.requests.len();
        out.record.requests.push(UserRequest::new(&arrival));
        let worker = arrival.user as usize / self.scenario.proxies.max(1) % self.workers.len();
        let place = self.flights.begin(request, arrival, worker);
        let now = Moment::from_micros(out.now_us);
        let asked = self.asked(&arrival);
        let picked = self
            .table
            .pick(&asked, &self.workers[worker].loads, &mut self.rng, now);
        match picked {
            Some(pick) => {
                self.note_side(&arrival, pick, out.record);
                self.send(place, pick, out);
            }
            None => self.answer(place, Class::ConnectFailed, 0, out),
        }
    }

    /// An endpoint answered, or broke the connection, or refused it.
    pub(super) fn handle_end(&mut self, ticket: Ticket, answer: Answer, out: &mut Outside<'_, '_>) {
        if self.flights.current(ticket).is_none() {
            return;
        }
        let (class, stage) = ended(answer);
        self.end_attempt(ticket.flight, class, out);
        let next = stage.and_then(|stage| self.next(ticket.flight, stage, out));
        match next {
            Some(pick) => self.send(ticket.flight, pick, out),
            None => {
                let body_us = match answer {
                    Answer::Ok { body_us } => body_us,
                    Answer::Failed(_) | Answer::Refused => 0,
                };
                self.answer(ticket.flight, class, body_us, out);
            }
        }
    }

    /// An attempt has waited long enough, if somebody else can take it.
    pub(super) fn handle_patience(&mut self, ticket: Ticket, out: &mut Outside<'_, '_>) {
        if self.flights.current(ticket).is_none() {
            return;
        }
        if let Some(pick) = self.next(ticket.flight, Stage::Sent, out) {
            self.end_attempt(ticket.flight, Class::Timeout, out);
            self.send(ticket.flight, pick, out);
        }
    }

    /// An attempt has waited for as long as any may.
    pub(super) fn handle_limit(&mut self, ticket: Ticket, out: &mut Outside<'_, '_>) {
        if self.flights.current(ticket).is_some() {
            self.end_attempt(ticket.flight, Class::Timeout, out);
            self.answer(ticket.flight, Class::Timeout, 0, out);
        }
    }

    /// A probe of an endpoint passed or failed.
    pub(super) fn handle_probe(&mut self, endpoint: usize, passed: bool) {
        let probes = &mut self.workers[0].observations[endpoint].probes;
        *(if passed {
            &mut probes.passed
        } else {
            &mut probes.failed
        }) += 1;
    }

    /// The engine's tick: what the workers saw becomes a new table.
    pub(super) fn tick(&mut self, now: Moment, lag: Duration) -> Tick {
        for (endpoint, merged) in self.merged.iter_mut().enumerate() {
            merged.clear();
            for (index, worker) in self.workers.iter_mut().enumerate() {
                let seen = &mut worker.observations[endpoint];
                seen.in_flight = worker.loads.in_flight(endpoint);
                if !self.scenario.ablations.has(Part::NoAges) {
                    seen.ages = worker.in_flight[endpoint].ages(now);
                }
                if index == 0 {
                    std::mem::swap(merged, seen);
                } else {
                    merged.merge(seen);
                    seen.clear();
                }
            }
        }
        let decision = self.engine.tick(now, &self.merged, lag, &mut self.rng);
        self.table = ClusterTable::new(&self.scenario.spec, &decision);
        Tick::new(now, &decision, self.engine.assessment(), &self.merged)
    }

    /// The run is over: what still waits has waited until now.
    pub(super) fn close(&mut self, now: Moment, record: &mut Record) {
        self.flights.close(now, record);
    }

    /// Sends an attempt on its way.
    fn send(&mut self, place: u32, pick: Pick, out: &mut Outside<'_, '_>) {
        let now = Moment::from_micros(out.now_us);
        let (index, flights) = (self.index, &self.flights);
        out.timers.forget(pick.endpoint, |ticket| {
            ticket.proxy == index && flights.is_over(ticket)
        });
        let flight = self.flights.at(place);
        let worker = &mut self.workers[flight.worker];
        let ticket = flight.set_out((self.index, place), pick.endpoint, out.now_us);
        flight.in_flight_at_start = worker.loads.in_flight(pick.endpoint);
        flight.started = Some(worker.in_flight[pick.endpoint].begin(now));
        if !self.scenario.ablations.has(Part::NoInFlight) {
            worker.loads.begin(pick.endpoint);
        }
        worker.observations[pick.endpoint].started += 1;
        out.record.attempts += 1;
        out.timers.limit(out.now_us, ticket);
        let patience = self.table.attempt_timeout(pick.endpoint);
        if let Some(patience) = patience.filter(|_| !flight.arrival.post) {
            out.timers
                .patience((now + patience).as_micros(), pick.endpoint, ticket);
        }
        let arrival = flight.arrival;
        if out
            .plant
            .accept(out.now_us, pick.endpoint, &arrival, ticket, out.timers)
        {
            flight.reached |= 1 << (pick.endpoint % 64);
        }
    }

    /// Counts the end of the current attempt.
    fn end_attempt(&mut self, place: u32, class: Class, out: &Outside<'_, '_>) {
        let flight = self.flights.at(place);
        let worker = &mut self.workers[flight.worker];
        let outcome = Outcome {
            class,
            latency: Duration::from_micros(out.now_us.saturating_sub(flight.begun_us)),
            route_class: route_class(flight.arrival.path),
            in_flight_at_start: flight.in_flight_at_start,
        };
        let now = Moment::from_micros(out.now_us);
        worker.loads.end(flight.endpoint, &outcome, now);
        if self.scenario.ablations.has(Part::ConsecutiveFive) {
            worker.tell_in_a_row(flight.endpoint, &outcome);
        } else {
            worker.observations[flight.endpoint].record(&outcome);
        }
        flight.waiting = false;
        if let Some(started) = flight.started.take() {
            worker.in_flight[flight.endpoint].end(started);
        }
        if class.is_served() {
            worker.budget.earn();
        }
    }

    /// Where the request goes after its current attempt failed; `None` where the failure stands.
    fn next(&mut self, place: u32, stage: Stage, out: &mut Outside<'_, '_>) -> Option<Pick> {
        let now = Moment::from_micros(out.now_us);
        let flight = self.flights.at(place);
        let worker = &mut self.workers[flight.worker];
        let Verdict::Move { cost } = verdict(stage, &flight.attempted(self.table.retries())) else {
            return None;
        };
        let tried = Tried {
            endpoints: flight.tried(),
            never_sent: cost == Cost::Half,
            stale: false,
        };
        let asked = request(
            &flight.arrival,
            Cohort::of_key(&flight.arrival.user.to_le_bytes()),
        );
        let pick = self
            .table
            .alternative(&asked, tried, &worker.loads, &mut self.rng, now)?;
        if !self.scenario.ablations.has(Part::NoBudget) && !worker.budget.try_spend(cost, now) {
            return None;
        }
        match cost {
            Cost::Full => out.record.retries += 1,
            Cost::Half => out.record.moves += 1,
        }
        Some(pick)
    }

    /// The user gets its answer.
    fn answer(&mut self, place: u32, class: Class, body_us: u32, out: &mut Outside<'_, '_>) {
        self.flights.at(place).answer(class, body_us, out);
        self.flights.end(place);
    }

    /// A request as balancing sees it.
    fn asked(&mut self, arrival: &Arrival) -> Request {
        let cohort = if self.scenario.ablations.has(Part::RandomSides) {
            Cohort::of_hash(self.rng.random())
        } else {
            Cohort::of_key(&arrival.user.to_le_bytes())
        };
        request(arrival, cohort)
    }

    /// Counts users who change sides, the first path's only: a path that is sick by itself has a share of its own.
    fn note_side(&mut self, arrival: &Arrival, pick: Pick, record: &mut Record) {
        if arrival.path != 0 {
            return;
        }
        let seat = arrival.user as usize * self.scenario.spec.endpoints.len() + pick.primary;
        let side = match pick.side {
            Side::Primary => 1,
            Side::Shadow => 2,
        };
        let before = std::mem::replace(&mut self.sides[seat], side);
        record.revisits += u64::from(before != 0);
        if before != 0 && before != side {
            record.switches[seat] = record.switches[seat].saturating_add(1);
        }
    }
}

impl Worker {
    /// Tells of failures from the fifth in a row on; a shorter row is never told of.
    fn tell_in_a_row(&mut self, endpoint: usize, outcome: &Outcome) {
        let row = &mut self.rows[endpoint];
        if outcome.class.is_bad() {
            row.length += 1;
            row.untold.push(*outcome);
            if row.length < CONSECUTIVE {
                return;
            }
            for failure in row.untold.drain(..) {
                self.observations[endpoint].record(&failure);
            }
        } else {
            *row = Row::default();
            self.observations[endpoint].record(outcome);
        }
    }
}

fn request(arrival: &Arrival, cohort: Cohort) -> Request {
    Request {
        cohort,
        class: route_class(arrival.path),
        segment: None,
        repeatable: !arrival.post,
        attempts_max: ATTEMPTS_MAX_NEVER_SENT,
        retry_on: ServerErrors::NONE,
        stick: None,
    }
}

fn route_class(path: usize) -> RouteClass {
    RouteClass::of_hash(path as u64)
}
