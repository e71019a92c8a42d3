//! pingora's phases, each in a line or two: the full path.
//!
//! Everything that decides is a call into the [`Worker`](crate::worker::Worker); this file only translates. pingora
//! calls the phases in the order in which they stand here; a request that is [plain] is served to its end in the first of
//! them, and one whose endpoints are asked in HTTP/2 by the [passage]. Trailers are lost on HTTP/1.1, both ways: pingora
//! reads and drops them.

mod answer;
mod copies;
mod encode;
mod exchange;
mod head;
mod passage;
mod plain;
mod report;
mod tell;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::server::ShutdownWatch;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{BError, Error, ErrorSource, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use self::exchange::{Exchange, is_replayable};
use self::tell::{Told, tell};
use crate::client::{Client, Peer};
use crate::framing::Refusal;
use crate::outcome::sentence;
use crate::policy::Cleared;
use crate::policy::pages::Giver;
use crate::request::RequestView;
use crate::server::http2::ByHttp2;
use crate::server::local::{self, Local};
use crate::server::stream::EdgeStream;
use crate::tls::Agreed;
use crate::topology::ids::ListenerId;
use crate::trace::MadeId;
use crate::upstream::{connect_failure, refusal};
use crate::worker::Admission;

/// The full path for one listener of one worker.
#[derive(Debug)]
pub struct EdgeProxy {
    /// Which listener.
    pub listener: ListenerId,
    /// Turns true when the listener is closed: what is answered from then on is the last of its connection.
    pub closing: ShutdownWatch,
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
        let named = local::with(|l| report::named(l, session)).unwrap_or_default();
        let mut admission = self.admit(session, exchange, named.made.as_ref(), Cleared::default());
        while let Some(Ok(Admission::Wait(wait))) = admission {
            // Boxed: most requests need no room for it.
            let cleared = Box::pin(wait.over()).await;
            admission = self.admit(session, exchange, named.made.as_ref(), cleared);
        }
        if let Some(admission) = &mut admission {
            exchange.report = local::with(|l| report::arrived(l, session, admission, named)).flatten();
        }
        let answer = match admission {
            Some(Ok(Admission::Forward(flow))) => {
                let http2 = local::with(|l| l.worker.http2(&flow)).flatten();
                exchange.flow = Some(flow);
                if let Some(http2) = http2 {
                    // Boxed: what goes elsewhere needs no room for it.
                    Box::pin(passage::serve(session, exchange, &self.closing, http2)).await?;
                    return Ok(true);
                }
                if !plain::is_plain(session) {
                    return Ok(false);
                }
                // Boxed: what is not plain needs no room for it.
                Box::pin(plain::serve(session, exchange, &self.closing)).await?;
                return Ok(true);
            }
            Some(Ok(Admission::Answer(answer))) => Ok(answer),
            Some(Err(why)) => Err((why.status(), why.sentence())),
            Some(Ok(Admission::Unrouted | Admission::Wait(_))) | None => Err((404, sentence(404))),
        };
        let status = answer
            .as_ref()
            .map_or_else(|(status, _)| *status, |answer| answer.status);
        let as_call = tell::as_call(session, exchange, status);
        exchange.ended_as = as_call.map(|(_, ended)| ended);
        let report = exchange.report.as_deref_mut();
        // Boxed: most requests go on, and need no room for what answers them here.
        Box::pin(async move {
            match answer {
                Ok(answer) => answer::send(session, answer, report, as_call).await,
                Err((status, sentence)) => {
                    let told = Told {
                        status,
                        sentence,
                        page: local::with(|l| l.worker.page(self.listener, status)).flatten(),
                        as_call,
                    };
                    tell(session, told, true, report).await
                }
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
        let (peer, dial) = exchange.start(|local, place| local.peers.peer(place, headers))?;
        exchange.dial = Some(dial);
        Ok(peer)
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
        if let Some(dial) = exchange.dial.take() {
            exchange.connected(dial.socket(), dial.is_reused());
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Self::CTX,
    ) -> pingora_error::Result<()> {
        exchange.send(session, request)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Self::CTX,
    ) -> pingora_error::Result<()> {
        exchange.progress(body.as_ref());
        exchange.copy_request_piece(body.as_ref(), end);
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Self::CTX,
    ) -> pingora_error::Result<()> {
        exchange.answer(session, response, &self.closing)?;
        // Pieces of the body do not pass through our hands here: it stays as it is, and others may get it otherwise.
        exchange.begin_encoding(session.req_header(), response, true)
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Self::CTX,
    ) -> pingora_error::Result<Option<Duration>> {
        exchange.answer_piece(body.as_ref(), end);
        Ok(None)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: BError,
        exchange: &mut Self::CTX,
        _reused: bool,
    ) -> BError {
        exchange.broke(session, error)
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
            let as_call = tell::as_call(session, exchange, status);
            exchange.ended_as = exchange.ended_as.or(as_call.map(|(_, ended)| ended));
            let page = match &exchange.flow {
                Some(flow) => flow.page(status, Giver::Proxy).cloned(),
                None => local::with(|l| l.worker.page(self.listener, status)).flatten(),
            };
            let told = Told {
                status,
                sentence,
                page,
                as_call,
            };
            let report = exchange.report.as_deref_mut();
            if let Err(error) = tell(session, told, blameless, report).await {
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
        let status = exchange.told(session.response_written().map_or(0, |r| r.status.as_u16()));
        let flow = exchange.flow.take();
        local::with(|l| {
            let ended = flow.map(|mut flow| {
                l.worker.delivered(&mut flow, session.body_bytes_sent() as u64);
                l.worker.answered(&mut flow, status);
                flow
            });
            if exchange.report.is_some() {
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

/// What was agreed on with the client; `None` in the clear.
fn agreed(session: &Session) -> Option<Arc<Agreed>> {
    if let Some(by) = session.req_header().extensions.get::<ByHttp2>() {
        return by.agreed.clone();
    }
    let stream = session.as_downstream().stream()?;
    EdgeStream::behind(stream)?.conn()?.agreed().cloned()
}

impl EdgeProxy {
    /// What becomes of the request; `None` on a thread that is no worker's.
    fn admit(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        made_id: Option<&MadeId>,
        cleared: Cleared,
    ) -> Option<Result<Admission, Refusal>> {
        local::with(|l| self.weigh(l, session, exchange, made_id, cleared))
    }

    /// Brings the request to its normal form, finds out who sent it, and what becomes of it.
    fn weigh(
        &self,
        local: &mut Local,
        session: &mut Session,
        exchange: &mut Exchange,
        made_id: Option<&MadeId>,
        cleared: Cleared,
    ) -> Result<Admission, Refusal> {
        let address = session.client_addr().and_then(|a| a.as_inet()).map(|a| a.ip());
        let tls = agreed(session);
        if let Some(listener) = local.worker.listener(self.listener) {
            let head = session.req_header_mut();
            let peer = Peer {
                address,
                tls: tls.as_deref(),
            };
            exchange.client = Client::behind(&listener.trust, peer, &head.headers);
            head::normalise(head, listener.path).inspect_err(|why| local.worker.refuse(*why))?;
            // Before it is copied for an endpoint.
            head::forget_letters(head);
        }
        let head = session.req_header();
        let view = RequestView {
            made_id,
            tls: tls.as_deref(),
            ..head::view(head, &exchange.client)
        };
        let admission = local.worker.admit_again(self.listener, &view, cleared);
        if let Admission::Forward(flow) = &admission
            && let Some(changes) = flow.changes()
        {
            exchange.target = changes
                .target(view.path, view.query)
                .map_err(|_| Refusal::PathRewrite)
                .inspect_err(|why| local.worker.refuse(*why))?;
        }
        Ok(admission)
    }
}
