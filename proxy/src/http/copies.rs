//! pingora's phases, translated for the [copy](crate::copying) of a request.

use bytes::Bytes;
use pingora_http::{RequestHeader, ResponseHeader};

use super::exchange::Exchange;
use crate::mirror::Reason;
use crate::outcome::Failure;

impl Exchange {
    /// The head goes out to the first endpoint that could be reached: begins the copy, if there is to be one.
    pub(super) fn begin_copy(&mut self, request: &RequestHeader, has_body: bool) {
        let is_call = self.call().is_some();
        let Some(flow) = self.flow.as_mut() else {
            return;
        };
        if request.raw_path_is_utf8() && !is_call {
            self.copying.begin(flow, request, has_body);
        } else {
            self.copying.refuse(flow);
        }
    }

    /// A piece of the request's body passes, or its end.
    pub(super) fn copy_request_piece(&mut self, piece: Option<&Bytes>, end: bool) {
        if let Some(flow) = self.flow.as_mut() {
            self.copying.request_piece(flow, piece, end || piece.is_none());
        }
    }

    /// The head of the answer is there.
    pub(super) fn copy_answer(&mut self, answer: &ResponseHeader) {
        if let Some(flow) = self.flow.as_mut() {
            self.copying.answer(flow, answer.status, &answer.headers);
        }
    }

    /// A piece of the answer's body passes, or its end.
    pub(super) fn copy_answer_piece(&mut self, piece: Option<&Bytes>, end: bool) {
        if let Some(piece) = piece {
            self.copying.answer_piece(piece);
        }
        if end {
            self.copy_answer_end(true);
        }
    }

    /// The answer is over, and `whole` unless something broke.
    pub(super) fn copy_answer_end(&mut self, whole: bool) {
        if let Some(flow) = self.flow.as_mut() {
            self.copying.answer_end(flow, whole);
        }
    }

    /// The attempt whose request was copied failed. Whatever follows of this request is not copied again.
    pub(super) fn end_copy(&mut self, failure: Failure) {
        if let Some(flow) = self.flow.as_mut() {
            self.copying.end(flow, failure);
        }
    }

    /// Nothing more comes of the copy.
    pub(super) fn give_up_copy(&mut self, reason: Reason) {
        if let Some(flow) = self.flow.as_mut() {
            self.copying.give_up(flow, reason);
        }
    }
}
