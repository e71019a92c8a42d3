//! What a request leaves behind for whoever tells of it: the access log, spans, metrics. Nothing in here decides.

use foreshade_engine::moment::Moment;

use super::failover::attempts;
use super::{Flow, Worker};
use crate::access_log::{Served, Trail};
use crate::clock::Clock;
use crate::outcome::Failure;
use crate::topology::ids::EndpointId;

impl Flow {
    /// When the request was admitted.
    pub fn arrived(&self) -> Moment {
        self.arrived
    }

    /// When nothing kept it from its first attempt any more: what lies before is waiting for its turn.
    pub fn ready(&self) -> Moment {
        self.ready
    }

    /// Whether no other endpoint was asked before.
    pub fn is_first_attempt(&self) -> bool {
        self.tried.len() <= 1
    }

    /// Who was asked last.
    pub fn asked_last(&self) -> Option<EndpointId> {
        self.tried_ids.last().copied()
    }

    /// When the head of the user's answer was there.
    pub fn first_byte(&self) -> Option<Moment> {
        self.first_byte
    }

    /// When things happened to it; its first byte came at `begun`, if anybody looked.
    pub fn trail(&self, begun: Option<Moment>) -> Trail {
        let trail = Trail::arrived(begun, self.arrived);
        match self.started {
            Some(started) => trail.attempted((self.ready, started), self.sent, self.first_byte),
            None => trail,
        }
    }

    /// Whether its client is told where the time went.
    pub fn is_timed(&self) -> bool {
        self.timed
    }

    /// How the last attempt failed, if it did.
    pub fn failure(&self) -> Option<Failure> {
        self.failure
    }
}

impl Worker {
    /// The clock that all parts of this proxy share.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Who served the request, or was the last to be asked; `None` where nobody was, or he is not there any more.
    pub fn served_by(&self, flow: &Flow) -> Option<Served<'_>> {
        self.served_at(flow.asked_last()?, attempts(&flow.tried))
    }

    /// An endpoint that has served, after so many were asked; `None` where it is not there any more.
    pub fn served_at(&self, endpoint: EndpointId, attempts: u32) -> Option<Served<'_>> {
        let place = self.topology.place(endpoint)?;
        let endpoint = self.topology.endpoint(place)?;
        Some(Served {
            cluster: self.topology.cluster(place.cluster)?.name.as_str(),
            endpoint: endpoint.name.as_str(),
            role: endpoint.role,
            attempts,
        })
    }
}
