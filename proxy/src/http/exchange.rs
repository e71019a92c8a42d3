//! One request and its answer, as the policy follows them: what both ways to an endpoint share.
//!
//! A request goes to its endpoint by pingora's phases or by the [short way](super::plain). Whichever it is, the same
//! things are asked and told at the same moments, and all of them are here.

use std::os::fd::RawFd;
use std::sync::Arc;

use bytes::Bytes;
use h2::Reason as Reset;
use http::header::{CONTENT_LENGTH, RETRY_AFTER};
use pingora_core::server::ShutdownWatch;
use pingora_error::{BError, Error, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::head;
use super::report::{self, Report};
use crate::client::Client;
use crate::cohort::ATTEMPT_HEADER;
use crate::copying::Copying;
use crate::edit::Facts;
use crate::grpc;
use crate::mirror::Reason;
use crate::orca;
use crate::outcome::Failure;
use crate::policy::compress::Encoder;
use crate::recorder::Place;
use crate::request::RequestView;
use crate::server::local::{self, Local};
use crate::upstream::cut::Cut;
use crate::upstream::dial::Dial;
use crate::upstream::{ELSEWHERE, exchange_failure};
use crate::worker::stream::Terms;
use crate::worker::{Changes, Flow, Next};

use foreshade_engine::failover::REPLAY_BODY_MAX;

/// What is carried from phase to phase.
#[derive(Debug, Default)]
pub struct Exchange {
    pub(super) flow: Option<Flow>,
    pub(super) client: Client,
    /// What the endpoint is asked for, where the route changes it.
    pub(super) target: Option<String>,
    /// Tells, once there is one, which connection the attempt at hand has got.
    pub(super) dial: Option<Arc<Dial>>,
    pub(super) socket: RawFd,
    /// Where the endpoint is asked in HTTP/2: the stream of the attempt at hand.
    pub(super) stream: Option<Stream>,
    /// How the call ended, where the request is one of gRPC and that is known.
    pub(super) ended_as: Option<grpc::Status>,
    /// For what reason the endpoint has broken the stream off, if it did.
    pub(super) reset: Option<Reset>,
    pub(super) reused: bool,
    pub(super) attempts: u32,
    /// The head of an answer has come, and it is the user's to see.
    pub(super) answered: bool,
    /// What the last failure tells the client.
    pub(super) status: u16,
    /// What is to be told of it; `None` where nobody asked to be told.
    pub(super) report: Option<Box<Report>>,
    /// The copy of the request that goes to a mirror beside it.
    pub(super) copying: Copying,
    /// A page stands in for the answer.
    pub(super) replaced: bool,
    /// What compresses the answer; `None` for most.
    pub(super) encoder: Option<Box<Encoder>>,
}

/// A stream to an endpoint, as far as the policy has to know it.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) cut: Arc<Cut>,
    pub(super) terms: Terms,
    /// The request is a call of gRPC, made so.
    pub(super) call: Option<grpc::Call>,
    /// The answer at hand is one of gRPC, and becomes one that a page can read.
    pub(super) web: Option<grpc::web::Call>,
    /// How the call ended will stand behind its messages.
    pub(super) is_owed: bool,
    /// The request has been heard to its end.
    pub(super) whole: bool,
}

impl Drop for Exchange {
    /// A connection task that is dropped in the middle must not leave its request in flight for ever.
    fn drop(&mut self) {
        self.give_up_copy(Reason::ClientGone);
        if let Some(mut flow) = self.flow.take() {
            local::with(|l| {
                l.worker.abandon(&mut flow);
                report::cut(l, self, &flow);
            });
        }
    }
}

impl Exchange {
    /// How the client makes a call of gRPC, where the request is one to an endpoint that knows them.
    pub(super) fn call(&self) -> Option<grpc::Call> {
        self.stream.as_ref()?.call
    }

    /// The client is waited for to send the body.
    pub(super) fn body_awaited(&mut self) {
        if let Some(flow) = self.flow.as_mut() {
            local::with(|l| l.worker.body_awaited(flow));
        }
    }

    /// The body is here, before any endpoint has been asked.
    pub(super) fn body_taken(&mut self) {
        if let Some(flow) = self.flow.as_mut() {
            local::with(|l| l.worker.body_taken(flow));
        }
    }

    /// Begins the next attempt: on the `way` to its place, where there is one.
    pub(super) fn start<W>(
        &mut self,
        way: impl FnOnce(&Local, Place) -> Option<W>,
    ) -> pingora_error::Result<W> {
        let report = self.report.as_deref_mut();
        let started = self.flow.as_mut().and_then(|flow| {
            local::with(|l| {
                let place = l.worker.start(flow)?;
                report::started(flow, report);
                way(l, place)
            })
            .flatten()
        });
        match started {
            Some(way) => {
                self.attempts += 1;
                Ok(way)
            }
            None => {
                let error = Error::explain(ErrorType::HTTPStatus(503), "no endpoint is left to serve");
                Err(self.fail(Failure::NobodyLeft, false, error))
            }
        }
    }

    /// The attempt at hand has got its connection.
    pub(super) fn connected(&mut self, socket: RawFd, reused: bool) {
        (self.socket, self.reused) = (socket, reused);
        if !self.reused {
            local::with(|l| {
                l.sampler.connected(self.socket);
                l.worker.waited();
            });
        }
    }

    /// The head of the request goes out: completes `request`, which will be sent, and waits for the first byte of an answer
    /// from here on.
    pub(super) fn send(
        &mut self,
        session: &mut Session,
        request: &mut RequestHeader,
    ) -> pingora_error::Result<()> {
        if self.attempts > 1 {
            request.insert_header(ATTEMPT_HEADER, self.attempts.to_string())?;
        }
        if let Some(report) = self.report.as_deref() {
            report.sent(request)?;
        }
        let replayable = body_fits(session);
        let came = session.req_header();
        let changes = self.changes(came);
        head::prepare(request, came, &self.client, changes, self.target.as_deref())?;
        if let Some(asks) = self.flow.as_ref().and_then(Flow::asks) {
            asks.apply(request);
        }
        if let Some(flow) = self.flow.as_mut() {
            match &self.stream {
                None => local::sent(flow, self.socket, replayable),
                Some(stream) => {
                    let whole_and_replayable = (stream.whole, is_replayable(session));
                    local::sent_on(flow, &stream.cut, stream.terms, whole_and_replayable);
                }
            }
            if flow.is_mirrored() {
                self.begin_copy(request, !session.is_body_empty());
            }
        }
        Ok(())
    }

    /// The status that the client was told; of a call, what its end stands for.
    pub(super) fn told(&self, status: u16) -> u16 {
        let has_deadline = self
            .stream
            .as_ref()
            .is_some_and(|stream| stream.terms.lasts.is_some());
        self.ended_as.map_or(status, |ended| ended.as_http(has_deadline))
    }

    /// A piece of a body has passed.
    pub(super) fn progress(&mut self, piece: Option<&Bytes>) {
        if let (Some(_), Some(flow)) = (piece, self.flow.as_mut()) {
            local::with(|l| l.worker.progress(flow));
        }
    }

    /// The head of an answer is there: takes note of it, and makes of it what the user sees. [`ELSEWHERE`] where he is not
    /// to see it.
    pub(super) fn answer(
        &mut self,
        session: &mut Session,
        response: &mut ResponseHeader,
        closing: &ShutdownWatch,
    ) -> pingora_error::Result<()> {
        let status = response.status.as_u16();
        if response.status.is_informational() && status != 101 {
            return Ok(());
        }
        let Some(flow) = self.flow.as_mut() else {
            return Ok(());
        };
        let retry_after = status == 503 && response.headers.contains_key(RETRY_AFTER);
        let report = orca::parse(&response.headers);
        if report.is_some() {
            // Meant for us; how loaded an endpoint is concerns nobody outside.
            for name in &orca::HEADERS {
                response.remove_header(name);
            }
        }
        let replayable = is_replayable(session);
        let said = match self.stream.as_mut().filter(|stream| stream.call.is_some()) {
            Some(stream) => said_by(response, stream, &mut self.ended_as),
            None => Some(status),
        };
        let elsewhere = local::watching(|l| {
            let elsewhere = match said {
                Some(status) => l.worker.first_byte(flow, status, retry_after, replayable),
                None => {
                    l.worker.head_alone(flow);
                    false
                }
            };
            l.observe(flow, self.socket, report);
            elsewhere
        });
        self.copy_answer(response);
        if elsewhere == Some(true) {
            self.ended_as = None;
            self.end_copy(Failure::Status(said.unwrap_or(status), retry_after));
            return Error::e_explain(ELSEWHERE, "the answer's status asks for another try");
        }
        self.answered = true;
        if let Some((changes, facts)) = self.changes(session.req_header()) {
            changes.edits.response.apply(response, &facts);
        }
        if let Some(marks) = self.flow.as_ref().and_then(Flow::marks) {
            marks.apply(response);
        }
        if *closing.borrow() {
            session.set_keepalive(None);
        }
        let (Some(report), Some(flow)) = (self.report.as_deref_mut(), &self.flow) else {
            return Ok(());
        };
        report.answers(session, response)?;
        report.times(flow, response)
    }

    /// A piece of the answer's body passes, or its end.
    pub(super) fn answer_piece(&mut self, piece: Option<&Bytes>, end: bool) {
        if !end {
            self.progress(piece);
        }
        self.copy_answer_piece(piece, end);
    }

    /// The attempt broke off. The error says whether another one follows.
    pub(super) fn broke(&mut self, session: &Session, mut error: BError) -> BError {
        if *error.etype() == ELSEWHERE {
            // Counted and decided at its first byte; only its connection had to go.
            if let Some(flow) = self.flow.as_mut() {
                local::with(|l| l.worker.end(flow));
            }
            error.set_retry(true);
            return error;
        }
        // Bytes that the client has seen cannot be taken back.
        let seen = session
            .response_written()
            .is_some_and(|r| !r.status.is_informational());
        let failure = exchange_failure(&error, self.reused, self.answered || seen);
        self.fail(failure, is_replayable(session) && !seen, error)
    }

    /// Reports a failed attempt, and marks the error for another one where the policy says so.
    pub(super) fn fail(&mut self, failure: Failure, replayable: bool, mut error: BError) -> BError {
        self.end_copy(failure);
        let next = match self.flow.as_mut() {
            Some(flow) => local::with(|l| l.fail(flow, failure, replayable)),
            None => None,
        };
        self.answered = false;
        self.status = match next {
            Some(Next::Elsewhere) => 0,
            Some(Next::Answer(status)) => status,
            None => 500,
        };
        error.set_retry(next == Some(Next::Elsewhere));
        error
    }

    /// What the route changes on the way, and what its variables stand for; `None` for most.
    fn changes<'a>(&'a self, came: &'a RequestHeader) -> Option<(&'a Changes, Facts<'a>)> {
        let changes = self.flow.as_ref()?.changes()?;
        let view = RequestView {
            made_id: self.report.as_deref().and_then(Report::made_id),
            ..head::view(came, &self.client)
        };
        Some((changes, changes.facts(&view)))
    }
}

/// What the head of a call's answer says of its end, as a status of HTTP; `None` where that stands behind the messages.
fn said_by(head: &ResponseHeader, stream: &mut Stream, ended_as: &mut Option<grpc::Status>) -> Option<u16> {
    // Whoever does not speak gRPC answers as HTTP does.
    if head.status != 200 || !grpc::is_call(&head.headers) {
        return Some(head.status.as_u16());
    }
    stream.is_owed = !head.headers.contains_key(&grpc::STATUS);
    if stream.is_owed {
        return None;
    }
    let status = grpc::Status::of(&head.headers);
    *ended_as = Some(status);
    Some(status.as_http(stream.terms.lasts.is_some()))
}

/// Whether the request can be sent again with what has been kept of it.
pub(super) fn is_replayable(session: &Session) -> bool {
    !session.as_ref().retry_buffer_truncated()
}

/// Whether the request's body will be kept whole, known before it has come.
pub(super) fn body_fits(session: &mut Session) -> bool {
    if session.is_body_empty() {
        return true;
    }
    let length = session
        .req_header()
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|l| l.to_str().ok()?.parse::<usize>().ok());
    length.is_some_and(|l| l <= REPLAY_BODY_MAX)
}
