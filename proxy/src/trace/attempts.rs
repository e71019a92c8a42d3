//! What is remembered of a request's attempts, from the moment at which each begins, where its spans are reported.
//!
//! The worker's own steps fill it in, the same for every way to an endpoint, so that a span and a counter cannot disagree.
//! Most requests have none of this: it is one pointer that is empty.

use std::net::SocketAddr;

use arrayvec::ArrayVec;
use foreshade_contract::Name;
use foreshade_engine::balance::{Draw, Side, Why};
use foreshade_engine::failover::ATTEMPTS_MAX_NEVER_SENT;
use foreshade_engine::moment::Moment;
use foreshade_engine::outcome::Class;

use super::TraceContext;
use crate::outcome::Failure;

/// As many as a request can have.
const ATTEMPTS_MAX: usize = ATTEMPTS_MAX_NEVER_SENT as usize;

/// The attempts of one request.
#[derive(Debug)]
pub(crate) struct Attempts {
    /// The proxy's span, whose children they are.
    pub(crate) trace: TraceContext,
    all: ArrayVec<Attempt, ATTEMPTS_MAX>,
}

/// One attempt.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Its own span, which the endpoint is told of as its parent.
    pub(crate) span: TraceContext,
    pub(crate) cluster: Name,
    pub(crate) endpoint: Name,
    pub(crate) address: SocketAddr,
    /// The endpoint is asked in HTTP/2.
    pub(crate) http2: bool,
    pub(crate) side: Side,
    pub(crate) why: Why,
    /// Where its user stands in the shift of this slot; `None` where that has no shadow.
    pub(crate) draw: Option<Draw>,
    /// The segment of users that he belongs to.
    pub(crate) segment: Option<Name>,
    pub(crate) started: Moment,
    /// The request's head went out.
    pub(crate) sent: Option<Moment>,
    /// An answer's head was there.
    pub(crate) answered: Option<Moment>,
    pub(crate) ended: Option<Moment>,
    pub(crate) status: Option<u16>,
    pub(crate) class: Option<Class>,
    pub(crate) failure: Option<Failure>,
}

impl Attempts {
    /// Of a request that has no attempt yet, and whose own span this is.
    pub(crate) fn of(trace: TraceContext) -> Self {
        Self {
            trace,
            all: ArrayVec::new(),
        }
    }

    /// Another one begins.
    pub(crate) fn begin(&mut self, attempt: Attempt) {
        // Full only where the worker would not have begun it.
        let _ = self.all.try_push(attempt);
    }

    /// The one at hand, or the last one.
    pub(crate) fn last(&self) -> Option<&Attempt> {
        self.all.last()
    }

    /// The same, while it has not ended.
    pub(crate) fn current(&mut self) -> Option<&mut Attempt> {
        self.all.last_mut().filter(|attempt| attempt.ended.is_none())
    }

    /// All of them, in their order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Attempt> {
        self.all.iter()
    }
}
