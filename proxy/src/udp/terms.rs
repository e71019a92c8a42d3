//! On what terms a listener of datagrams serves now: a reload may have changed them since the last turn.

use std::sync::Arc;
use std::time::Duration;

use foreshade_engine::moment::Moment;

use super::session::Session;
use crate::config::{Datagrams, Protocol};
use crate::framing::Limits;
use crate::server::door::Door;
use crate::server::local;
use crate::topology::ids::ListenerId;

/// On what terms a listener serves now.
#[derive(Debug)]
pub(super) struct Terms<'a> {
    pub(super) now: Moment,
    pub(super) door: &'a Arc<Door>,
    pub(super) limits: Limits,
    pub(super) datagrams: Datagrams,
    pub(super) idle: Duration,
    lifetime: Option<Duration>,
}

impl<'a> Terms<'a> {
    pub(super) fn now(listener: ListenerId, door: &'a Arc<Door>) -> Self {
        let mut terms = Self {
            now: Moment::ZERO,
            door,
            limits: Limits::default(),
            datagrams: Datagrams::default(),
            idle: Duration::ZERO,
            lifetime: None,
        };
        local::with(|l| {
            terms.now = l.worker.clock().now();
            // Of a listener that is gone nothing is waited for.
            let Some(listener) = l.worker.listener(listener) else {
                return;
            };
            terms.limits = listener.limits.clone();
            (terms.idle, terms.lifetime) = (listener.idle_timeout, listener.lifetime);
            if let Protocol::Udp { datagrams, .. } = listener.protocol {
                terms.datagrams = datagrams;
            }
        });
        terms
    }

    /// Whether a session has lived for as long as one may.
    pub(super) fn is_over(&self, session: &Session) -> bool {
        self.lifetime.is_some_and(|life| session.begun + life <= self.now)
    }
}
