//! Requests on their way: which attempt is the current one, and where each has been.

#![expect(
    clippy::indexing_slicing,
    reason = "places are handed out by this table and never taken away; no traffic comes here"
)]

use std::time::Duration;

use super::Outside;
use super::fault::Failure;
use super::load::Arrival;
use super::record::Record;
use super::server::{Answer, Ticket};
use crate::failover::{ATTEMPTS_MAX_NEVER_SENT, Attempted, ServerErrors, Stage};
use crate::in_flight::Started;
use crate::moment::Moment;
use crate::outcome::Class;

/// A user's request that has not ended, and its current attempt.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// Its place in the record.
    pub(super) request: usize,
    pub(super) arrival: Arrival,
    pub(super) worker: usize,
    /// Number of the current attempt, counted over the life of this place in the table, so that a ticket of an attempt
    /// that was given up never fits another one.
    pub(super) attempt: u16,
    /// Attempts at this request so far.
    pub(super) attempts: u8,
    /// Endpoints that were tried, by attempt.
    pub(super) tried: [usize; ATTEMPTS_MAX_NEVER_SENT as usize],
    /// Endpoints that got at least a byte of it, one bit each.
    pub(super) reached: u64,
    /// Where the current attempt is.
    pub(super) endpoint: usize,
    pub(super) begun_us: u64,
    /// An attempt is under way.
    pub(super) waiting: bool,
    /// Its slot among the ages, where anybody keeps them.
    pub(super) started: Option<Started>,
    pub(super) in_flight_at_start: u32,
}

/// All of them.
#[derive(Default)]
pub(super) struct Flights {
    places: Vec<Flight>,
    free: Vec<u32>,
}

impl Flights {
    /// Gives a request a place.
    pub(super) fn begin(&mut self, request: usize, arrival: Arrival, worker: usize) -> u32 {
        let place = self.free.pop();
        let flight = Flight {
            request,
            arrival,
            worker,
            attempt: place.map_or(0, |p| self.places[p as usize].attempt),
            attempts: 0,
            tried: [0; ATTEMPTS_MAX_NEVER_SENT as usize],
            reached: 0,
            endpoint: 0,
            begun_us: arrival.at_us,
            waiting: false,
            started: None,
            in_flight_at_start: 0,
        };
        match place {
            Some(place) => {
                self.places[place as usize] = flight;
                place
            }
            None => {
                self.places.push(flight);
                u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
            }
        }
    }

    /// The requests that wait at `endpoint`.
    pub(super) fn waiting_at(&self, endpoint: usize) -> Vec<u32> {
        (0u32..)
            .zip(&self.places)
            .filter(|(_, f)| f.waiting && f.endpoint == endpoint)
            .map(|(place, _)| place)
            .collect()
    }

    /// The request at a place.
    pub(super) fn at(&mut self, place: u32) -> &mut Flight {
        &mut self.places[place as usize]
    }

    /// The request whose current attempt `ticket` is; `None` where the attempt was given up.
    pub(super) fn current(&mut self, ticket: Ticket) -> Option<&mut Flight> {
        self.places
            .get_mut(ticket.flight as usize)
            .filter(|f| f.attempt == ticket.attempt && f.waiting)
    }

    /// Whether the attempt whose `ticket` that is has ended or was given up. It stays so: no attempt has its number again.
    pub(super) fn is_over(&self, ticket: Ticket) -> bool {
        let flight = self.places.get(ticket.flight as usize);
        flight.is_none_or(|f| f.attempt != ticket.attempt || !f.waiting)
    }

    /// A request has ended.
    pub(super) fn end(&mut self, place: u32) {
        self.places[place as usize].waiting = false;
        self.free.push(place);
    }

    /// The run is over: what still waits has waited until `now`.
    pub(super) fn close(&self, now: Moment, record: &mut Record) {
        for flight in self.places.iter().filter(|f| f.waiting) {
            let request = &mut record.requests[flight.request];
            request.latency = now.since(request.arrived);
        }
    }
}

impl Flight {
    /// An attempt sets out for `endpoint`; returns its ticket.
    pub(super) fn set_out(&mut self, (proxy, place): (u16, u32), endpoint: usize, now_us: u64) -> Ticket {
        self.attempt = self.attempt.wrapping_add(1);
        if let Some(tried) = self.tried.get_mut(usize::from(self.attempts)) {
            *tried = endpoint;
        }
        self.attempts += 1;
        self.endpoint = endpoint;
        self.begun_us = now_us;
        self.waiting = true;
        Ticket {
            flight: place,
            attempt: self.attempt,
            proxy,
        }
    }

    /// The endpoints that the request was sent to, the last one last.
    pub(super) fn tried(&self) -> &[usize] {
        self.tried
            .get(..usize::from(self.attempts).min(ATTEMPTS_MAX_NEVER_SENT as usize))
            .unwrap_or_default()
    }

    /// What the failover table has to know of it.
    pub(super) fn attempted(&self, retries: bool) -> Attempted {
        Attempted {
            repeatable: !self.arrival.post,
            attempts: u32::from(self.attempts),
            attempts_max: ATTEMPTS_MAX_NEVER_SENT,
            retry_on: ServerErrors::NONE,
            replayable: true,
            remaining: None,
            target_typical: Duration::ZERO,
            retries,
        }
    }

    /// The user gets his answer, or learns that there is none; `body_us` after the first byte of it.
    pub(super) fn answer(&self, end: Class, body_us: u32, out: &mut Outside<'_, '_>) {
        let request = &mut out.record.requests[self.request];
        let body = Duration::from_micros(u64::from(body_us));
        request.latency = Moment::from_micros(out.now_us).since(request.arrived) + body;
        request.end = Some(end);
        request.attempts = self.attempts;
        request.endpoint = u8::try_from(self.endpoint).unwrap_or(u8::MAX);
        if self.arrival.post && self.reached.count_ones() > 1 {
            out.record.repeated_posts += 1;
        }
    }
}

/// What the end of an attempt means to the endpoint, and how far the attempt had come if it failed.
pub(super) fn ended(answer: Answer) -> (Class, Option<Stage>) {
    match answer {
        Answer::Ok { .. } => (Class::Ok, None),
        Answer::Refused => (Class::Refused, Some(Stage::NeverSent)),
        Answer::Failed(Failure::Reset) => (Class::Reset, Some(Stage::Sent)),
        Answer::Failed(Failure::Cut) => (Class::Reset, Some(Stage::BodyStarted)),
        Answer::Failed(Failure::Garbage) => (Class::AppError, Some(Stage::Sent)),
        Answer::Failed(Failure::Status(code)) => {
            let status = Stage::Status {
                code,
                marked_unprocessed: false,
            };
            (Class::of_status(code, false), Some(status))
        }
    }
}
