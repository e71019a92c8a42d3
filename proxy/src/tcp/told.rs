//! What is told of a connection that was carried: its line in the access log.

use std::net::SocketAddr;

use foreshade_engine::moment::Moment;

use crate::access_log::{Reason, Record, Trail};
use crate::framing::Refusal;
use crate::proxy_protocol::Ends;
use crate::server::local::{self, Local};
use crate::topology::ids::ListenerId;
use crate::worker::{Flow, SERVED};

/// Whose connection it is, and when things happened.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) listener: ListenerId,
    /// What the protocol is called in the log.
    protocol: &'static str,
    pub(super) ends: Ends,
    /// The server that was asked for.
    pub(super) name: Option<String>,
    pub(super) trail: Trail,
    begun: Option<Moment>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) reason: Reason,
    /// Bytes that went to the endpoint.
    pub(super) up: u64,
    /// Bytes that went to the client.
    pub(super) down: u64,
}

impl Visitor {
    /// Somebody who has just connected.
    pub(super) fn new(listener: ListenerId, protocol: &'static str, peer: SocketAddr) -> Self {
        let begun = local::now_if_logged();
        Self {
            listener,
            protocol,
            ends: Ends {
                client: peer,
                server: peer,
            },
            name: None,
            trail: Trail::begun(begun),
            begun,
        }
    }

    /// He is admitted, and endpoints are asked from here on.
    pub(super) fn admitted(&mut self, at: Moment) {
        if self.begun.is_some() {
            self.trail = Trail::arrived(self.begun, at);
        }
    }

    /// Writes the line of somebody who was refused.
    pub(super) fn tell_refused(&self, refusal: Refusal) {
        local::with(|l| {
            let record = Record {
                detail: refusal.label(),
                ..self.record(
                    l,
                    Ended {
                        reason: Reason::Rejected,
                        up: 0,
                        down: 0,
                    },
                )
            };
            if let Some(log) = &mut l.log {
                log.log(&record);
            }
        });
    }

    /// Writes the line of a connection.
    pub(super) fn tell(&mut self, local: &mut Local, flow: &Flow, ended: Ended) {
        if local.log.is_none() {
            return;
        }
        self.trail.first_byte(flow.first_byte());
        let record = Record {
            served: local.worker.served_by(flow),
            ..self.record(local, ended)
        };
        let status = if ended.reason == Reason::Ok { SERVED } else { 0 };
        if let Some(log) = &mut local.log
            && log.wants(status, ended.reason)
        {
            log.write(&record);
        }
    }

    fn record(&self, local: &Local, ended: Ended) -> Record<'_> {
        Record {
            client: Some(self.ends.client.ip()),
            host: self.name.as_deref().unwrap_or_default().as_bytes(),
            protocol: self.protocol,
            reason: ended.reason,
            bytes_in: Some(ended.up),
            bytes_out: Some(ended.down),
            times: self.trail.times(local.worker.clock().now()),
            ..Record::default()
        }
    }
}
