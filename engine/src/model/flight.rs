//! Requests on their way: which attempt is the current one, and where each has been.

#![expect(
    clippy::indexing_slicing,
    reason = "places are handed out by this table and never taken away; no traffic comes here"
)]

use super::load::Arrival;
use super::server::Ticket;
use crate::failover::ATTEMPTS_MAX_NEVER_SENT;
use crate::in_flight::Started;

/// A user's request that has not ended, and its current attempt.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// Its place in the record.
    pub(super) request: usize,
    pub(super) arrival: Arrival,
    pub(super) worker: usize,
    /// Number of the current attempt, counted over the life of this place in the table, so that a ticket of an attempt
    /// that was given up never fits another one.
    pub(super) attempt: u32,
    /// Attempts at this request so far.
    pub(super) attempts: u8,
    /// Endpoints that were tried, by attempt.
    pub(super) tried: [usize; ATTEMPTS_MAX_NEVER_SENT as usize],
    /// Endpoints that got at least a byte of it, one bit each.
    pub(super) reached: u64,
    /// Where the current attempt is.
    pub(super) endpoint: usize,
    pub(super) begun_us: u64,
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

    /// The request at a place.
    pub(super) fn at(&mut self, place: u32) -> &mut Flight {
        &mut self.places[place as usize]
    }

    /// The request whose current attempt `ticket` is; `None` where the attempt was given up.
    pub(super) fn current(&mut self, ticket: Ticket) -> Option<&mut Flight> {
        self.places
            .get_mut(ticket.flight as usize)
            .filter(|f| f.attempt == ticket.attempt && f.started.is_some())
    }

    /// A request has ended.
    pub(super) fn end(&mut self, place: u32) {
        self.places[place as usize].started = None;
        self.free.push(place);
    }

    /// The places of the requests that have not ended.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Flight> {
        self.places.iter().filter(|f| f.started.is_some())
    }
}
