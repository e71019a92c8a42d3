//! The proxy's request path in virtual time, out of the same parts as the real one.
//!
//! Per attempt: pick, count it as begun, wait; at its end record the outcome, and where it failed ask the failover
//! table, the table of endpoints for an alternative, and the budget, in this order. An attempt that may be repeated is
//! given up when it has waited longer than its endpoint's attempt timeout *and* somebody else can take it; otherwise
//! it waits on, up to the limit of the route. Nothing here decides anything that the engine decides.

#![expect(
    clippy::indexing_slicing,
    reason = "endpoints and workers are those of the scenario; no traffic comes here"
)]

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use super::flight::{Flight, Flights};
use super::load::Arrival;
use super::plant::Plant;
use super::record::{Record, Tick, UserRequest};
use super::scenario::Scenario;
use super::server::{Answer, Ticket};
use super::timers::{Timer, Timers};
use crate::balance::{ClusterTable, Loads, Pick, Request, Side, Tried};
use crate::budget::RetryBudget;
use crate::cluster::ClusterEngine;
use crate::cohort::Cohort;
use crate::failover::{ATTEMPTS_MAX_NEVER_SENT, Attempted, Cost, Stage, Verdict, verdict};
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
}

/// What the proxy reaches out to, and where it writes down what happened.
pub(super) struct Outside<'a> {
    pub(super) plant: &'a mut Plant,
    pub(super) timers: &'a mut Timers,
    pub(super) record: &'a mut Record,
    pub(super) now_us: u64,
}

pub(super) struct Proxy {
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
    pub(super) fn new(scenario: &Scenario, seed: u64, record: &mut Record) -> Self {
        let endpoints = scenario.spec.endpoints.len();
        let worker = || Worker {
            loads: Loads::new(endpoints),
            in_flight: vec![InFlight::default(); endpoints],
            observations: vec![Observation::default(); endpoints],
            budget: RetryBudget::new(scenario.workers, Moment::ZERO),
        };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0xD1B5_4A32_D192_ED03);
        let merged = vec![Observation::default(); endpoints];
        let mut engine = ClusterEngine::new(scenario.spec.clone(), Moment::ZERO);
        let decision = engine.tick(Moment::ZERO, &merged, Duration::ZERO, &mut rng);
        let seats = scenario.load.users as usize * endpoints;
        record.switches = vec![0; seats];
        Self {
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
    pub(super) fn arrive(&mut self, arrival: Arrival, out: &mut Outside<'_>) {
        let request = out.record.requests.len();
        out.record.requests.push(UserRequest {
            arrived: Moment::from_micros(arrival.at_us),
            latency: Duration::ZERO,
            end: None,
            attempts: 0,
            endpoint: 0,
            path: u8::try_from(arrival.path).unwrap_or(u8::MAX),
            post: arrival.post,
        });
        let worker = arrival.user as usize % self.workers.len();
        let place = self.flights.begin(request, arrival, worker);
        let now = Moment::from_micros(out.now_us);
        let asked = asked(&arrival);
        let picked = self
            .table
            .pick(&asked, &self.workers[worker].loads, &mut self.rng, now);
        match picked {
            Some(pick) => {
                self.note_side(&arrival, pick, out.record);
                self.send(place, pick, out);
            }
            None => self.answer(place, Class::ConnectFailed, out),
        }
    }

    /// An endpoint answered, or broke the connection, or refused it.
    pub(super) fn handle_end(&mut self, ticket: Ticket, answer: Answer, out: &mut Outside<'_>) {
        if self.flights.current(ticket).is_none() {
            return;
        }
        let (class, stage) = match answer {
            Answer::Ok => (Class::Ok, None),
            Answer::Error => {
                let status = Stage::Status {
                    code: 500,
                    marked_unprocessed: false,
                };
                (Class::AppError, Some(status))
            }
            Answer::Reset => (Class::Reset, Some(Stage::Sent)),
            Answer::Refused => (Class::Refused, Some(Stage::NeverSent)),
        };
        self.end_attempt(ticket.flight, class, out);
        let next = stage.and_then(|stage| self.next(ticket.flight, stage, out));
        match next {
            Some(pick) => self.send(ticket.flight, pick, out),
            None => self.answer(ticket.flight, class, out),
        }
    }

    /// An attempt has waited long enough, if somebody else can take it.
    pub(super) fn handle_patience(&mut self, ticket: Ticket, out: &mut Outside<'_>) {
        if self.flights.current(ticket).is_none() {
            return;
        }
        if let Some(pick) = self.next(ticket.flight, Stage::Sent, out) {
            self.end_attempt(ticket.flight, Class::Timeout, out);
            self.send(ticket.flight, pick, out);
        }
    }

    /// An attempt has waited for as long as any may.
    pub(super) fn handle_limit(&mut self, ticket: Ticket, out: &mut Outside<'_>) {
        if self.flights.current(ticket).is_some() {
            self.end_attempt(ticket.flight, Class::Timeout, out);
            self.answer(ticket.flight, Class::Timeout, out);
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
            for worker in &mut self.workers {
                let seen = &mut worker.observations[endpoint];
                seen.in_flight = worker.loads.in_flight(endpoint);
                seen.ages = worker.in_flight[endpoint].ages(now);
                merged.merge(seen);
                seen.clear();
            }
        }
        let decision = self.engine.tick(now, &self.merged, lag, &mut self.rng);
        self.table = ClusterTable::new(&self.scenario.spec, &decision);
        Tick::new(now, &decision, self.engine.assessment(), &self.merged)
    }

    /// The run is over: what still waits has waited until now.
    pub(super) fn close(&mut self, now: Moment, record: &mut Record) {
        for flight in self.flights.waiting() {
            let request = &mut record.requests[flight.request];
            request.latency = now.since(request.arrived);
        }
    }

    /// Sends an attempt on its way.
    fn send(&mut self, place: u32, pick: Pick, out: &mut Outside<'_>) {
        let now = Moment::from_micros(out.now_us);
        let flight = self.flights.at(place);
        let worker = &mut self.workers[flight.worker];
        flight.attempt = flight.attempt.wrapping_add(1);
        if let Some(tried) = flight.tried.get_mut(usize::from(flight.attempts)) {
            *tried = pick.endpoint;
        }
        flight.attempts += 1;
        flight.endpoint = pick.endpoint;
        flight.begun_us = out.now_us;
        flight.in_flight_at_start = worker.loads.in_flight(pick.endpoint);
        flight.started = Some(worker.in_flight[pick.endpoint].begin(now));
        worker.loads.begin(pick.endpoint);
        worker.observations[pick.endpoint].started += 1;
        out.record.attempts += 1;
        let ticket = Ticket {
            flight: place,
            attempt: flight.attempt,
        };
        out.timers.limit(out.now_us, ticket);
        let patience = self.table.attempt_timeout(pick.endpoint);
        if let Some(patience) = patience.filter(|_| !flight.arrival.post) {
            out.timers
                .at((now + patience).as_micros(), Timer::Patience(ticket));
        }
        let path = flight.arrival.path;
        if out
            .plant
            .accept(out.now_us, pick.endpoint, path, ticket, out.timers)
        {
            flight.reached |= 1 << (pick.endpoint % 64);
        }
    }

    /// Counts the end of the current attempt.
    fn end_attempt(&mut self, place: u32, class: Class, out: &Outside<'_>) {
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
        worker.observations[flight.endpoint].record(&outcome);
        if let Some(started) = flight.started.take() {
            worker.in_flight[flight.endpoint].end(started);
        }
        if class.is_served() {
            worker.budget.earn();
        }
    }

    /// Where the request goes after its current attempt failed; `None` where the failure stands.
    fn next(&mut self, place: u32, stage: Stage, out: &mut Outside<'_>) -> Option<Pick> {
        let now = Moment::from_micros(out.now_us);
        let flight = self.flights.at(place);
        let worker = &mut self.workers[flight.worker];
        let attempted = Attempted {
            repeatable: !flight.arrival.post,
            attempts: u32::from(flight.attempts),
            attempts_max: ATTEMPTS_MAX_NEVER_SENT,
            replayable: true,
            remaining: None,
            target_typical: Duration::ZERO,
            retries: self.table.retries(),
        };
        let Verdict::Move { cost } = verdict(stage, &attempted) else {
            return None;
        };
        let tried = Tried {
            endpoints: flight.tried(),
            never_sent: cost == Cost::Half,
        };
        let asked = asked(&flight.arrival);
        let pick = self
            .table
            .alternative(&asked, tried, &worker.loads, &mut self.rng, now)?;
        if !worker.budget.try_spend(cost, now) {
            return None;
        }
        match cost {
            Cost::Full => out.record.retries += 1,
            Cost::Half => out.record.moves += 1,
        }
        Some(pick)
    }

    /// The user gets its answer.
    fn answer(&mut self, place: u32, class: Class, out: &mut Outside<'_>) {
        let flight = self.flights.at(place);
        let request = &mut out.record.requests[flight.request];
        request.latency = Moment::from_micros(out.now_us).since(request.arrived);
        request.end = Some(class);
        request.attempts = flight.attempts;
        request.endpoint = u8::try_from(flight.endpoint).unwrap_or(u8::MAX);
        if flight.arrival.post && flight.reached.count_ones() > 1 {
            out.record.repeated_posts += 1;
        }
        self.flights.end(place);
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
        if before != 0 && before != side {
            record.switches[seat] = record.switches[seat].saturating_add(1);
        }
    }
}

impl Flight {
    /// The endpoints that the request was sent to, the last one last.
    fn tried(&self) -> &[usize] {
        self.tried
            .get(..usize::from(self.attempts).min(ATTEMPTS_MAX_NEVER_SENT as usize))
            .unwrap_or_default()
    }
}

fn asked(arrival: &Arrival) -> Request {
    Request {
        cohort: Cohort::of_key(&arrival.user.to_le_bytes()),
        class: route_class(arrival.path),
        segment: None,
        repeatable: !arrival.post,
        attempts_max: ATTEMPTS_MAX_NEVER_SENT,
    }
}

fn route_class(path: usize) -> RouteClass {
    RouteClass::of_hash(path as u64)
}
