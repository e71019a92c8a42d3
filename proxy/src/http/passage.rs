//! The way of a request to an endpoint that is asked in HTTP/2, and of the answer back: whatever the client speaks.
//!
//! Like the [short way](super::plain) it is one loop under pingora's phases, and each step of the policy is the
//! [`Exchange`]'s. Unlike it both directions are open at once and for as long as either side likes, which is what a stream
//! is for: whoever waits in one direction waits in the other, too, and holds up nobody ([`Passage::poll`]). One piece lies
//! here per direction, and neither side is granted room for more than its window before the other has taken it.
//!
//! A call of gRPC is a request like any other but in three things. Its client may rest, and says how long the call may
//! take. Its status stands behind its messages, or [in the last of them](grpc::web). And it is told of failures as gRPC
//! tells of them, even in the middle of an answer, where a plain client can only be cut off.

mod download;
mod upload;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::header::EXPECT;
use http::{HeaderMap, Request};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_error::{BError, Error, ErrorType, Result};
use pingora_proxy::Session;

use self::download::Download;
use self::upload::Upload;
use super::exchange::{Exchange, Stream, body_fits, is_replayable};
use super::head;
use crate::config::Http2;
use crate::grpc;
use crate::outcome::Failure;
use crate::server::http2::ByHttp2;
use crate::server::local;
use crate::upstream::http2::{Lease, Target};
use crate::worker::stream::{Terms, Whose};

/// Serves a request. The policy bounds the attempts.
///
/// # Errors
/// Why there is no answer, or only the beginning of one.
pub(super) async fn serve(
    session: &mut Session,
    exchange: &mut Exchange,
    closing: &ShutdownWatch,
    http2: Http2,
) -> Result<()> {
    let came = session.req_header();
    let call = grpc::Call::of(&came.headers, came.extensions.get::<ByHttp2>().is_some());
    let terms = match call {
        Some(_) => Terms {
            rest: Some(http2.rest),
            lasts: grpc::timeout(&came.headers),
        },
        None => Terms::default(),
    };
    // A call may rest for long, so nobody waits for all of it: nothing bounds its client before an endpoint is asked. Pages
    // have all of theirs when they make it.
    let may_rest = call == Some(grpc::Call::Native);
    let expects = came.headers.contains_key(EXPECT);
    let client = session.as_downstream_mut();
    client.enable_retry_buffering();
    if let (true, Some(client)) = (may_rest, client.as_custom_mut()) {
        client.set_read_timeout(None);
    }
    if expects {
        // Servers of HTTP/2 rarely say it, and clients of HTTP/1.1 wait a while for it.
        client
            .write_continue_response()
            .await
            .map_err(|error| error.into_down())?;
    }
    let stream = |whole| Stream {
        terms,
        call,
        whole,
        ..Stream::default()
    };
    exchange.stream = Some(stream(false));
    let mut upload = Upload::new(session, call.and_then(grpc::Call::web));
    let all_or_some = (!may_rest && body_fits(session), may_rest);
    if let Err(error) = upload.take_first(session, exchange, all_or_some).await {
        return Err(exchange.broke(session, error.into_down()));
    }
    if upload.was_waited_for() {
        exchange.body_taken();
    }
    loop {
        exchange.reset = None;
        exchange.stream = Some(stream(upload.is_heard()));
        match attempt(session, exchange, &mut upload, closing).await {
            Err(error) if error.retry() => upload.begin_again(session)?,
            done => return done,
        }
    }
}

/// One attempt at one endpoint.
async fn attempt(
    session: &mut Session,
    exchange: &mut Exchange,
    upload: &mut Upload,
    closing: &ShutdownWatch,
) -> Result<()> {
    let (target, pool) =
        exchange.start(|local, place| Some((local.target(place)?, local.streams.clone())))?;
    let lease = match pool.lease(&target).await {
        Ok(lease) => lease,
        Err(failure) => return Err(exchange.fail(failure, is_replayable(session), unreached())),
    };
    exchange.connected(lease.socket(), lease.is_reused());
    let request = match request(session, exchange, &target) {
        Ok(request) => request,
        Err(error) => return Err(exchange.broke(session, error)),
    };
    let (answer, sending) = match lease.send(request, upload.is_empty()) {
        Ok(begun) => begun,
        Err(failure) => return Err(exchange.fail(failure, is_replayable(session), unreached())),
    };
    upload.sent_head();
    let first = Some(upload.first()).filter(|first| !first.is_empty());
    if first.is_some() || upload.is_heard() {
        exchange.copy_request_piece(first, upload.is_heard());
    }
    let number = answer.stream_id().as_u32();
    let mut passage = Passage {
        session,
        exchange,
        closing,
        lease: &lease,
        upload,
        sending,
        download: Download::new(answer),
    };
    match poll_fn(|cx| passage.poll(cx)).await {
        Ok(()) => {
            if let Download::Whole(Some(unread)) = passage.download {
                download::leave(unread, exchange).await;
            }
            Ok(())
        }
        Err(broken) => {
            let download = passage.download;
            let error = failed(session, exchange, &lease, broken, number);
            // Only now: the endpoint hears that it is over.
            drop(download);
            match error.retry() {
                true => Err(error),
                false => Err(told(session, exchange, error).await),
            }
        }
    }
}

/// The head of the request, as the endpoint gets it.
fn request(session: &mut Session, exchange: &mut Exchange, target: &Target) -> Result<Request<()>> {
    let mut request = Box::new(session.req_header().clone());
    head::forget_connection(&mut request);
    exchange.send(session, &mut request)?;
    let call = exchange.call();
    let mut request = head::for_http2(&request, &target.to, call.is_some())?;
    if let Some(call) = call.and_then(grpc::Call::web) {
        call.ask(request.headers_mut());
    }
    Ok(request)
}

/// Why an attempt did not bring the client a whole answer.
enum Broken {
    /// The client is gone, or broke a rule.
    Client(BError),
    /// The answer is not his to see, because the request goes elsewhere.
    Elsewhere(BError),
    /// The stream to the endpoint broke.
    Endpoint(h2::Error),
    /// Its time is over.
    Cut,
}

/// A request and its answer on their way.
struct Passage<'a> {
    session: &'a mut Session,
    exchange: &'a mut Exchange,
    closing: &'a ShutdownWatch,
    lease: &'a Lease,
    upload: &'a mut Upload,
    sending: SendStream<Bytes>,
    download: Download,
}

impl Passage<'_> {
    /// Moves both directions on as far as they go. Ready when the client has the whole answer, whether or not the endpoint
    /// wanted the whole request.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        // An answer that is there counts before all that could still go wrong.
        if let Poll::Ready(done) = self.poll_download(cx) {
            return Poll::Ready(done);
        }
        if let Poll::Ready(Err(broken)) = self.poll_upload(cx) {
            return Poll::Ready(Err(broken));
        }
        if let Poll::Ready(error) = self.poll_gone(cx) {
            return Poll::Ready(Err(Broken::Client(error)));
        }
        match self.exchange.stream.as_ref().map(|stream| stream.cut.poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Err(Broken::Cut)),
            _ => Poll::Pending,
        }
    }

    /// Ready when the client takes his request back while nothing more of it is read.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<BError> {
        let client = self.session.as_downstream_mut();
        // What is left unread of a request of HTTP/1.1 would be taken for the next one.
        if !self.upload.is_heard() && client.as_custom_mut().is_none() {
            return Poll::Pending;
        }
        match pin!(client.read_body_or_idle(true)).poll(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error.into_down()),
            Poll::Ready(Ok(_)) => {
                let error = Error::explain(ErrorType::InternalError, "a body behind the end of the request");
                Poll::Ready(error.into_down())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// It is somebody's turn to speak.
    fn turn(&mut self, whose: Whose) {
        if let Some(flow) = self.exchange.flow.as_mut() {
            local::with(|l| l.worker.turn(flow, whose));
        }
    }
}

fn unreached() -> BError {
    Error::explain(ErrorType::ConnectError, "no stream to the endpoint").into_up()
}

/// Reports a failed attempt. The error says whether another one follows.
fn failed(
    session: &mut Session,
    exchange: &mut Exchange,
    lease: &Lease,
    broken: Broken,
    number: u32,
) -> BError {
    let seen = session
        .response_written()
        .is_some_and(|head| !head.status.is_informational());
    let (failure, error) = match broken {
        Broken::Client(error) | Broken::Elsewhere(error) => return exchange.broke(session, error),
        Broken::Endpoint(error) => {
            let failure = match exchange.answered || seen {
                true => Failure::Truncated,
                false => lease.failure(&error, number),
            };
            let reset = error.reason().filter(|_| error.is_reset() && error.is_remote());
            exchange.reset = reset.filter(|reason| *reason != Reason::REFUSED_STREAM);
            (
                failure,
                Error::because(ErrorType::H2Error, "the endpoint's stream broke", error),
            )
        }
        Broken::Cut => {
            if !exchange.answered {
                lease.give_up();
            }
            let failure = match exchange.answered {
                true => Failure::Truncated,
                false => Failure::RouteTimeout,
            };
            (
                failure,
                Error::explain(ErrorType::ReadTimedout, "the stream's time is over"),
            )
        }
    };
    let replayable = is_replayable(session) && !seen;
    exchange.fail(failure, replayable, error.into_up())
}

/// Ends the answer of a client who has seen its beginning: a call in good order, with the reason; anything else by a reset,
/// so that it is not taken for whole.
async fn told(session: &mut Session, exchange: &mut Exchange, error: BError) -> BError {
    let failure = exchange.flow.as_ref().and_then(|flow| flow.failure());
    if matches!(failure, Some(Failure::ClientGone)) {
        return error;
    }
    let late = matches!(failure, Some(Failure::Idle | Failure::Deadline));
    if late && exchange.status == 0 {
        exchange.status = 504;
    }
    let seen = session
        .response_written()
        .is_some_and(|head| !head.status.is_informational());
    if !seen {
        return error;
    }
    let is_native = exchange.call() == Some(grpc::Call::Native);
    let client = session.as_downstream_mut();
    // The client may have gone, and then there is nobody to tell.
    if let Some(web) = exchange.stream.as_ref().and_then(|stream| stream.web) {
        let end = web.write_trailers(&broken_off(exchange, late));
        let _ = end_body(client, end).await;
    } else if let Some(client) = client.as_custom_mut() {
        if is_native {
            let _ = client.write_trailers(broken_off(exchange, late)).await;
        } else {
            let reason = exchange.reset.unwrap_or(Reason::INTERNAL_ERROR);
            client.shutdown(reason.into(), "the answer broke off").await;
        }
    }
    error
}

/// The trailers of a call that broke off, as `late` or otherwise.
fn broken_off(exchange: &mut Exchange, late: bool) -> HeaderMap {
    let status = match exchange.reset {
        Some(reason) => grpc::Status::of_reset(reason),
        None if late => grpc::Status::LATE,
        None if exchange.status > 0 => grpc::Status::of_http(exchange.status),
        None => grpc::Status::BROKE,
    };
    exchange.ended_as = Some(status);
    let mut trailers = HeaderMap::new();
    status.tell("foreshade: the answer broke off", |name, value| {
        trailers.insert(name.clone(), value);
    });
    trailers
}

/// Ends a body, behind what is on its way to the client.
async fn end_body(client: &mut ServerSession, last: Bytes) -> Result<()> {
    if client.has_pending_downstream_proxy_tasks() {
        client.write_downstream_proxy_tasks().await?;
    }
    client.write_response_body(last, true).await
}
