//! pingora's phases, each in a line or two: the full path.
//!
//! Everything that decides is a call into the [`Worker`](crate::worker::Worker); this file only translates. pingora
//! calls the phases in the order in which they stand here. Trailers are lost on HTTP/1.1, both ways: pingora reads and
//! drops them.

mod answer;
mod copies;
mod head;
mod report;
mod tell;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, RETRY_AFTER};
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::server::ShutdownWatch;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{BError, Error, ErrorSource, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use self::tell::tell;
use crate::client::Client;
use crate::cohort::ATTEMPT_HEADER;
use crate::edit::Facts;
use crate::framing::Refusal;
use crate::mirror::{Reason, Tee};
use crate::orca;
use crate::outcome::Failure;
use crate::request::RequestView;
use crate::server::local::{self, Local};
use crate::topology::ids::ListenerId;
use crate::trace::MadeId;
use crate::upstream::dial::Dial;
use crate::upstream::{ELSEWHERE, connect_failure, exchange_failure, refusal};
use crate::worker::{Admission, Changes, Flow, Next};

use self::report::Report;

use foreshade_engine::failover::REPLAY_BODY_MAX;

/// The full path for one listener of one worker.
#[derive(Debug)]
pub struct EdgeProxy {
    /// Which listener.
    pub listener: ListenerId,
    /// Turns true when the listener is closed: what is answered from then on is the last of its connection.
    pub closing: ShutdownWatch,
}

/// What pingora carries for us from phase to phase.
#[derive(Debug, Default)]
pub struct Exchange {
    flow: Option<Flow>,
    client: Client,
    /// What the endpoint is asked for, where the route changes it.
    target: Option<String>,
    /// Tells, once there is one, which connection the attempt at hand has got.
    dial: Option<Arc<Dial>>,
    socket: RawFd,
    reused: bool,
    attempts: u32,
    /// The head of an answer has come, and it is the user's to see.
    answered: bool,
    /// What the last failure tells the client.
    status: u16,
    /// What is to be told of it; `None` where nobody asked to be told.
    report: Option<Box<Report>>,
    /// The copy of the request that goes to a mirror beside it.
    tee: Option<Box<Tee>>,
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
    /// A piece of a body has passed.
    fn progress(&mut self, piece: &Option<Bytes>) {
        if let (Some(_), Some(flow)) = (piece, self.flow.as_mut()) {
            local::with(|l| l.worker.progress(flow));
        }
    }

    /// What the route changes on the way, and what its variables stand for; `None` for most.
    fn changes<'a>(&'a self, came: &'a RequestHeader) -> Option<(&'a Changes, Facts<'a>)> {
        let changes = self.flow.as_ref()?.changes()?;
        let made_id = self.report.as_deref().and_then(Report::made_id);
        Some((changes, head::facts(came, &self.client, changes, made_id)))
    }

    /// Reports a failed attempt, and marks the error for another one where the policy says so.
    fn fail(&mut self, failure: Failure, replayable: bool, mut error: BError) -> BError {
        self.end_copy(failure);
        let next = match self.flow.as_mut() {
            Some(flow) => local::with(|l| l.worker.fail(flow, failure, replayable)),
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
}

#[async_trait]
impl ProxyHttp for EdgeProxy {
    /// Boxed, because pingora's futures hold it in several places, and are copied whole for each request.
    type CTX = Box<Exchange>;

    fn new_ctx(&self) -> Self::CTX {
        Box::default()
    }

    /// None: the default adds a compression module, which costs three allocations per request even when it is off.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(
        &self,
        session: &mut Session,
        exchange: &mut Self::CTX,
    ) -> pingora_error::Result<bool> {
        // A client that has closed its own side still wants its answer; one that is gone shows when that is written.
        session.set_abort_on_close(false);
        let admission = local::with(|l| {
            let named = report::named(l, session);
            let admission = self.admit(l, session, exchange, named.made.as_ref());
            exchange.report = report::arrived(l, session, &admission, named);
            admission
        });
        let answer = match admission {
            Some(Ok(Admission::Forward(flow))) => {
                exchange.flow = Some(flow);
                return Ok(false);
            }
            Some(Ok(Admission::Answer(answer))) => Ok(answer),
            Some(Err(why)) => Err((why.status(), why.sentence())),
            Some(Ok(Admission::Unrouted)) | None => Err((404, "no route for this request")),
        };
        let report = exchange.report.as_deref_mut();
        // Boxed: most requests go on, and need no room for what answers them here.
        Box::pin(async move {
            match answer {
                Ok(answer) => answer::send(session, answer, report).await,
                Err((status, sentence)) => tell(session, status, sentence, true, report).await,
            }
        })
        .await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        exchange: &mut Self::CTX,
    ) -> pingora_error::Result<Box<HttpPeer>> {
        let headers = &session.req_header().headers;
        let started = exchange.flow.as_mut().and_then(|flow| {
            local::with(|l| {
                let place = l.worker.start(flow)?;
                report::started(l, flow, exchange.report.as_deref_mut());
                l.peers.peer(place, headers)
            })
            .flatten()
        });
        match started {
            Some((peer, dial)) => {
                exchange.attempts += 1;
                exchange.dial = Some(dial);
                Ok(peer)
            }
            None => {
                let error = Error::explain(ErrorType::HTTPStatus(503), "no endpoint is left to serve");
                Err(exchange.fail(Failure::NobodyLeft, false, error))
            }
        }
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        exchange: &mut Self::CTX,
        error: BError,
    ) -> BError {
        exchange.fail(connect_failure(&error), is_replayable(session), error)
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        _socket: RawFd,
        _digest: Option<&Digest>,
        exchange: &mut Self::CTX,
    ) -> pingora_error::Result<()> {
        let Some(dial) = exchange.dial.take() else {
            return Ok(());
        };
        exchange.socket = dial.socket();
        exchange.reused = dial.is_reused();
        if !exchange.reused {
            local::with(|l| {
                l.sampler.connected(exchange.socket);
                l.worker.waited();
            });
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Self::CTX,
    ) -> pingora_error::Result<()> {
        if exchange.attempts > 1 {
            request.insert_header(ATTEMPT_HEADER, exchange.attempts.to_string())?;
        }
        if let Some(report) = exchange.report.as_deref_mut() {
            report.sent(request)?;
        }
        let replayable = body_fits(session);
        let came = session.req_header();
        let changes = exchange.changes(came);
        head::prepare(
            request,
            came,
            &exchange.client,
            changes,
            exchange.target.as_deref(),
        )?;
        if let Some(flow) = exchange.flow.as_mut() {
            local::sent(flow, exchange.socket, replayable);
            if flow.is_mirrored() {
                exchange.begin_copy(request, !session.is_body_empty());
            }
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Self::CTX,
    ) -> pingora_error::Result<()> {
        exchange.progress(body);
        exchange.copy_request_piece(body.as_ref(), end);
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Self::CTX,
    ) -> pingora_error::Result<()> {
        let status = response.status.as_u16();
        if response.status.is_informational() && status != 101 {
            return Ok(());
        }
        let Some(flow) = exchange.flow.as_mut() else {
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
        let elsewhere = local::with(|l| {
            let elsewhere = l.worker.first_byte(flow, status, retry_after, replayable);
            l.observe(flow, exchange.socket, report);
            elsewhere
        });
        exchange.copy_answer(response);
        if elsewhere == Some(true) {
            exchange.end_copy(Failure::Status(status, retry_after));
            return Error::e_explain(ELSEWHERE, "the answer's status asks for another try");
        }
        exchange.answered = true;
        if let Some((changes, facts)) = exchange.changes(session.req_header()) {
            changes.edits.response.apply(response, &facts);
        }
        if *self.closing.borrow() {
            session.set_keepalive(None);
        }
        match exchange.report.as_deref_mut() {
            Some(report) => report.answers(session, response),
            None => Ok(()),
        }
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Self::CTX,
    ) -> pingora_error::Result<Option<Duration>> {
        if !end {
            exchange.progress(body);
        }
        exchange.copy_answer_piece(body.as_ref(), end);
        Ok(None)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: BError,
        exchange: &mut Self::CTX,
        _reused: bool,
    ) -> BError {
        if *error.etype() == ELSEWHERE {
            // Counted and decided at its first byte; only its connection had to go.
            if let Some(flow) = exchange.flow.as_mut() {
                local::with(|l| l.worker.end(flow));
            }
            error.set_retry(true);
            return error;
        }
        // Bytes that the client has seen cannot be taken back.
        let seen = session
            .response_written()
            .is_some_and(|r| !r.status.is_informational());
        let failure = exchange_failure(&error, exchange.reused, exchange.answered || seen);
        exchange.fail(failure, is_replayable(session) && !seen, error)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Self::CTX,
    ) -> FailToProxy {
        let status = match exchange.status {
            // Before any attempt: the request itself was refused.
            0 if exchange.attempts == 0 => match error.etype() {
                ErrorType::HTTPStatus(code) => *code,
                ErrorType::InvalidHTTPHeader => 400,
                _ => 0,
            },
            status => status,
        };
        if status > 0 {
            let sentence = refusal(error).map_or_else(|| sentence(status), Refusal::sentence);
            let blameless = *error.esource() != ErrorSource::Downstream;
            let report = exchange.report.as_deref_mut();
            if let Err(error) = tell(session, status, sentence, blameless, report).await {
                tracing::debug!(%error, status, "the client went away before it could be told");
            }
        }
        FailToProxy {
            error_code: status,
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut Self::CTX) {
        exchange.copy_answer_end(error.is_none());
        let status = session.response_written().map_or(0, |r| r.status.as_u16());
        let flow = exchange.flow.take();
        local::with(|l| {
            let ended = flow.map(|mut flow| {
                l.worker.answered(&mut flow, status);
                flow
            });
            if l.log.is_some() {
                report::log(
                    l,
                    session,
                    exchange,
                    &report::Ended {
                        flow: ended,
                        status,
                        error,
                    },
                );
            }
        });
    }

    /// During an incident a line per failed request is one more load; failures are counted by reason instead.
    fn suppress_error_log(&self, _session: &Session, _exchange: &Self::CTX, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _exchange: &Self::CTX,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

impl EdgeProxy {
    /// Brings the request to its normal form, finds out who sent it, and what becomes of it.
    fn admit(
        &self,
        local: &mut Local,
        session: &mut Session,
        exchange: &mut Exchange,
        made_id: Option<&MadeId>,
    ) -> Result<Admission, Refusal> {
        let peer = session.client_addr().and_then(|a| a.as_inet()).map(|a| a.ip());
        if let Some(listener) = local.worker.listener(self.listener) {
            let head = session.req_header_mut();
            exchange.client = Client::of(&listener.trust, peer, &head.headers);
            head::normalise(head, listener.path).inspect_err(|why| local.worker.refuse(*why))?;
            // Before it is copied for an endpoint.
            head::forget_letters(head);
        }
        let head = session.req_header();
        let view = RequestView {
            made_id,
            ..head::view(head, &exchange.client)
        };
        let admission = local.worker.admit(self.listener, &view);
        if let Admission::Forward(flow) = &admission
            && let Some(changes) = flow.changes()
        {
            exchange.target = head::rewritten(head, changes)
                .map_err(|_| Refusal::PathRewrite)
                .inspect_err(|why| local.worker.refuse(*why))?;
        }
        Ok(admission)
    }
}

/// Whether the request can be sent again with what has been kept of it.
fn is_replayable(session: &Session) -> bool {
    !session.as_ref().retry_buffer_truncated()
}

/// Whether the request's body will be kept whole, known before it has come.
fn body_fits(session: &mut Session) -> bool {
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

fn sentence(status: u16) -> &'static str {
    match status {
        400 => "the request breaks the rules of HTTP",
        408 => "the request did not arrive in time",
        502 => "the endpoint did not answer",
        503 => "no endpoint is left to serve this request",
        504 => "the endpoint did not answer in time",
        _ => "the request could not be served",
    }
}
