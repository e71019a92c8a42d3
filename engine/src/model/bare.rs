//! The two that a proxy is held against: one that knows nothing, and one that knows everything.
//!
//! *Nobody* sends requests to the primaries in turn, whatever happens, and lets every failure stand: what users would see
//! without any reaction. *The oracle* knows each fault in the instant in which it comes, and how busy everybody is. A
//! request whose primary is well goes there in turn as well; any other goes where it costs its user least, standbys
//! included. What has set out and can be repeated without harm is sent again at once when its endpoint stops answering. It
//! loses what no knowledge could save: what was being worked on and must not be repeated.

#![expect(
    clippy::indexing_slicing,
    reason = "endpoints are those of the scenario; no traffic comes here"
)]

use super::Outside;
use super::flight::{Flights, ended};
use super::load::Arrival;
use super::record::{Record, UserRequest};
use super::scenario::Scenario;
use super::server::{Answer, Ticket};
use crate::failover::{Stage, Verdict, verdict};
use crate::moment::Moment;
use crate::outcome::Class;
use crate::spec::Role;

pub(super) struct Bare {
    knows: bool,
    /// Indices of the primaries.
    primaries: Vec<usize>,
    endpoints: usize,
    turn: usize,
    flights: Flights,
}

impl Bare {
    pub(super) fn new(scenario: &Scenario, knows: bool) -> Self {
        let endpoints = &scenario.spec.endpoints;
        let primaries = endpoints.iter().enumerate();
        Self {
            knows,
            primaries: primaries
                .filter(|(_, endpoint)| matches!(endpoint.role, Role::Primary { .. }))
                .map(|(index, _)| index)
                .collect(),
            endpoints: endpoints.len(),
            turn: 0,
            flights: Flights::default(),
        }
    }

    /// A user asks.
    pub(super) fn arrive(&mut self, arrival: Arrival, out: &mut Outside<'_, '_>) {
        let request = out.record.requests.len();
        out.record.requests.push(UserRequest::new(&arrival));
        let place = self.flights.begin(request, arrival, 0);
        self.turn = (self.turn + 1) % self.primaries.len().max(1);
        let turn = self.primaries[self.turn];
        let endpoint = if self.knows && !out.plant.is_well(turn) {
            self.cheapest(&arrival, &[], out).unwrap_or(turn)
        } else {
            turn
        };
        self.send(place, endpoint, out);
    }

    /// An endpoint answered, or broke the connection, or refused it.
    pub(super) fn handle_end(&mut self, ticket: Ticket, answer: Answer, out: &mut Outside<'_, '_>) {
        let Some(flight) = self.flights.current(ticket) else {
            return;
        };
        let (class, stage) = ended(answer);
        flight.waiting = false;
        if let Some(endpoint) = stage.and_then(|stage| self.elsewhere(ticket.flight, stage, out)) {
            self.send(ticket.flight, endpoint, out);
            return;
        }
        let body_us = match answer {
            Answer::Ok { body_us } => body_us,
            Answer::Failed(_) | Answer::Refused => 0,
        };
        self.flights.at(ticket.flight).answer(class, body_us, out);
        self.flights.end(ticket.flight);
    }

    /// An attempt has waited for as long as any may.
    pub(super) fn handle_limit(&mut self, ticket: Ticket, out: &mut Outside<'_, '_>) {
        if let Some(flight) = self.flights.current(ticket) {
            flight.answer(Class::Timeout, 0, out);
            self.flights.end(ticket.flight);
        }
    }

    /// A fault of an endpoint came or went: who knows does not wait for an endpoint that has stopped answering.
    pub(super) fn handle_edge(&mut self, endpoint: usize, out: &mut Outside<'_, '_>) {
        let stopped = self.knows && out.plant.price_us(out.now_us, endpoint, 0).is_none();
        let left = if stopped {
            self.flights.waiting_at(endpoint)
        } else {
            Vec::new()
        };
        for place in left {
            if let Some(elsewhere) = self.elsewhere(place, Stage::Sent, out) {
                self.send(place, elsewhere, out);
            }
        }
    }

    /// The run is over: what still waits has waited until now.
    pub(super) fn close(&mut self, now: Moment, record: &mut Record) {
        self.flights.close(now, record);
    }

    fn send(&mut self, place: u32, endpoint: usize, out: &mut Outside<'_, '_>) {
        let flights = &self.flights;
        out.timers.forget(endpoint, |ticket| flights.is_over(ticket));
        let flight = self.flights.at(place);
        let ticket = flight.set_out((0, place), endpoint, out.now_us);
        out.record.attempts += 1;
        out.timers.limit(out.now_us, ticket);
        let arrival = flight.arrival;
        if out
            .plant
            .accept(out.now_us, endpoint, &arrival, ticket, out.timers)
        {
            flight.reached |= 1 << (endpoint % 64);
        }
    }

    /// Where a request that failed may go instead, for who knows.
    fn elsewhere(&mut self, place: u32, stage: Stage, out: &mut Outside<'_, '_>) -> Option<usize> {
        let flight = self.flights.at(place);
        let moves = matches!(verdict(stage, &flight.attempted(true)), Verdict::Move { .. });
        if !self.knows || !moves {
            return None;
        }
        let (arrival, tried) = (flight.arrival, flight.tried().to_vec());
        let endpoint = self.cheapest(&arrival, &tried, out)?;
        out.record.retries += 1;
        Some(endpoint)
    }

    /// The endpoint that costs the user least, of those not tried; among equals the one whose turn it is.
    fn cheapest(&self, arrival: &Arrival, tried: &[usize], out: &Outside<'_, '_>) -> Option<usize> {
        let in_turn = (0..self.endpoints).map(|offset| (self.turn + offset) % self.endpoints);
        let priced = in_turn
            .filter(|endpoint| !tried.contains(endpoint))
            .filter_map(|endpoint| Some((out.plant.price_us(out.now_us, endpoint, arrival.path)?, endpoint)));
        let cheapest = priced.min_by(|(a, _), (b, _)| a.total_cmp(b));
        cheapest.map(|(_, endpoint)| endpoint)
    }
}
