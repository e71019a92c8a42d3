//! What a request's copy for a mirror takes note of while the request passes, whichever engine serves it.
//!
//! A request without a copy pays one branch at each step.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::mirror::{Reason, Tee};
use crate::outcome::Failure;
use crate::server::local;
use crate::worker::Flow;

/// The copy of one request, while there is one.
#[derive(Debug, Default)]
pub(crate) struct Copying(Option<Box<Tee>>);

impl Copying {
    /// Whether a copy is being made.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The head goes out to the first endpoint that could be reached: begins the copy, if there is to be one.
    pub(crate) fn begin(&mut self, flow: &mut Flow, request: &http::request::Parts, has_body: bool) {
        self.0 = local::with(|l| l.copy(flow, request, has_body)).flatten();
    }

    /// The request cannot be copied.
    pub(crate) fn refuse(&mut self, flow: &mut Flow) {
        local::with(|l| l.worker.unmirrored(flow, Reason::Unsuited));
    }

    /// A piece of the request's body passes, or its end.
    pub(crate) fn request_piece(&mut self, flow: &mut Flow, piece: Option<&Bytes>, last: bool) {
        self.note(flow, |tee| tee.request_piece(piece, last));
    }

    /// The head of the answer is there.
    pub(crate) fn answer(&mut self, flow: &mut Flow, status: StatusCode, headers: &HeaderMap) {
        self.note(flow, |tee| {
            let now = local::with(|l| l.worker.latest()).unwrap_or_default();
            tee.answer_head(status, headers, now)
        });
    }

    /// A piece of the answer's body passes.
    pub(crate) fn answer_piece(&mut self, piece: &Bytes) {
        if let Some(tee) = &mut self.0 {
            tee.answer_piece(piece);
        }
    }

    /// The answer is over, and `whole` unless something broke.
    pub(crate) fn answer_end(&mut self, flow: &mut Flow, whole: bool) {
        if whole {
            self.conclude(flow, false);
        } else {
            self.give_up(flow, Reason::PrimaryBroke);
        }
    }

    /// The attempt whose request was copied failed. Whatever follows of this request is not copied again.
    pub(crate) fn end(&mut self, flow: &mut Flow, failure: Failure) {
        match failure {
            Failure::Refused
            | Failure::ConnectFailed
            | Failure::Handshake(_)
            | Failure::Reset
            | Failure::ResetUnused
            | Failure::RefusedStream
            | Failure::GoneAway
            | Failure::NoStream
            | Failure::Deadline
            | Failure::Garbage
            | Failure::AttemptTimeout
            | Failure::RouteTimeout
            | Failure::Status(..)
            | Failure::Truncated => self.conclude(flow, true),
            Failure::ClientGone | Failure::ClientBroke | Failure::ClientSlow | Failure::ClientRefused(_) => {
                self.give_up(flow, Reason::ClientGone);
            }
            Failure::StaleConnection
            | Failure::NobodyLeft
            | Failure::Idle
            | Failure::Lifetime
            | Failure::Internal => {
                self.give_up(flow, Reason::PrimaryBroke);
            }
        }
    }

    /// Nothing more comes of the copy.
    pub(crate) fn give_up(&mut self, flow: &mut Flow, reason: Reason) {
        if self.0.take().is_some() {
            local::with(|l| l.worker.unmirrored(flow, reason));
        }
    }

    fn note(&mut self, flow: &mut Flow, note: impl FnOnce(&mut Tee) -> Result<(), Reason>) {
        if let Some(Err(reason)) = self.0.as_deref_mut().map(note) {
            self.give_up(flow, reason);
        }
    }

    fn conclude(&mut self, flow: &mut Flow, failed: bool) {
        if let Some(Err(reason)) = self.0.take().map(|tee| tee.conclude(failed)) {
            local::with(|l| l.worker.unmirrored(flow, reason));
        }
    }
}
