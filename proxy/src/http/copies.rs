//! What a request's copy takes note of while the request passes: pingora's phases, translated for a [`Tee`].
//!
//! A request without a copy pays one branch in each phase.

use bytes::Bytes;
use pingora_http::{RequestHeader, ResponseHeader};

use super::exchange::Exchange;
use crate::mirror::{Reason, Tee};
use crate::outcome::Failure;
use crate::server::local;

impl Exchange {
    /// The head goes out to the first endpoint that could be reached: begins the copy, if there is to be one.
    pub(super) fn begin_copy(&mut self, request: &RequestHeader, has_body: bool) {
        let Some(flow) = self.flow.as_mut() else {
            return;
        };
        self.tee = local::with(|l| {
            if request.raw_path_is_utf8() {
                l.copy(flow, request, has_body)
            } else {
                l.worker.unmirrored(flow, Reason::Unsuited);
                None
            }
        })
        .flatten();
    }

    /// A piece of the request's body passes, or its end.
    pub(super) fn copy_request_piece(&mut self, piece: Option<&Bytes>, end: bool) {
        let last = end || piece.is_none();
        self.note(|tee| tee.request_piece(piece, last));
    }

    /// The head of the answer is there.
    pub(super) fn copy_answer(&mut self, answer: &ResponseHeader) {
        self.note(|tee| {
            let now = local::with(|l| l.worker.latest()).unwrap_or_default();
            tee.answer_head(answer.status, &answer.headers, now)
        });
    }

    /// A piece of the answer's body passes, or its end.
    pub(super) fn copy_answer_piece(&mut self, piece: Option<&Bytes>, end: bool) {
        if let (Some(tee), Some(piece)) = (&mut self.tee, piece) {
            tee.answer_piece(piece);
        }
        if end {
            self.copy_answer_end(true);
        }
    }

    /// The answer is over, and `whole` unless something broke.
    pub(super) fn copy_answer_end(&mut self, whole: bool) {
        if whole {
            self.conclude_copy(false);
        } else {
            self.give_up_copy(Reason::PrimaryBroke);
        }
    }

    /// The attempt whose request was copied failed. Whatever follows of this request is not copied again.
    pub(super) fn end_copy(&mut self, failure: Failure) {
        match failure {
            Failure::Refused
            | Failure::ConnectFailed
            | Failure::Reset
            | Failure::ResetUnused
            | Failure::Garbage
            | Failure::AttemptTimeout
            | Failure::RouteTimeout
            | Failure::Status(..)
            | Failure::Truncated => self.conclude_copy(true),
            Failure::ClientGone | Failure::ClientBroke | Failure::ClientSlow | Failure::ClientRefused(_) => {
                self.give_up_copy(Reason::ClientGone);
            }
            Failure::StaleConnection
            | Failure::NobodyLeft
            | Failure::Idle
            | Failure::Lifetime
            | Failure::Internal => {
                self.give_up_copy(Reason::PrimaryBroke);
            }
        }
    }

    /// Nothing more comes of the copy.
    pub(super) fn give_up_copy(&mut self, reason: Reason) {
        if let (Some(_), Some(flow)) = (self.tee.take(), self.flow.as_mut()) {
            local::with(|l| l.worker.unmirrored(flow, reason));
        }
    }

    fn note(&mut self, note: impl FnOnce(&mut Tee) -> Result<(), Reason>) {
        if let Some(Err(reason)) = self.tee.as_deref_mut().map(note) {
            self.give_up_copy(reason);
        }
    }

    fn conclude_copy(&mut self, failed: bool) {
        let concluded = self.tee.take().map(|tee| tee.conclude(failed));
        if let (Some(Err(reason)), Some(flow)) = (concluded, self.flow.as_mut()) {
            local::with(|l| l.worker.unmirrored(flow, reason));
        }
    }
}
