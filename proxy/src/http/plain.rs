//! The short way of a plain request to its endpoint and of the answer back.
//!
//! pingora lets both sides of an exchange speak at any time: two halves that hand each other messages through channels,
//! woken once per message. A request that has been said whole needs no half of its own: it is written, and an answer is
//! read piece by piece and written on. So plain requests, which most are, are served here in one loop; that spares a third
//! of what pingora's own proxying costs, more than the whole policy takes. What is not plain goes pingora's way: large
//! bodies and those of unknown length, upgrades, old versions, and headers that belong to one connection.
//!
//! A body that would be kept for another try anyway is taken whole before an endpoint is asked. So a client that is slow to
//! send it occupies no endpoint, and what an endpoint takes to answer is not mistaken for what the client takes to ask.
//!
//! Only the choreography is ours. Both messages are read, framed and written by pingora's sessions as on its own way, so
//! that there is one reading of HTTP and not two; and each step of the policy is the [`Exchange`]'s.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{Method, Version};
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::authority::validate_request_authority;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::server::ShutdownWatch;
use pingora_error::{BError, Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::time::timeout;

use super::exchange::{Exchange, body_fits, is_replayable};
use crate::upstream::dial::Lent;
use crate::upstream::is_hop_by_hop;

/// Bytes of a body in whose place the client got a page, and time for them: longer, and another connection is cheaper.
const UNWANTED_BYTES_MAX: usize = 64 * 1024;
pub(super) const UNWANTED_TIME: Duration = Duration::from_millis(100);

/// Whether a request can go the short way.
pub(super) fn is_plain(session: &mut Session) -> bool {
    if !body_fits(session) {
        return false;
    }
    let head = session.req_header();
    head.version == Version::HTTP_11
        && head.headers.iter().all(|(name, value)| {
            if *name == CONNECTION {
                return is_about_us(value.as_bytes());
            }
            // `Connection: close` names the header `close`, too. Who expects a word before he sends a body gets it there.
            !is_hop_by_hop(name) && name != "close" && *name != EXPECT
        })
}

/// Whether a `Connection` says no more than how long it shall live.
fn is_about_us(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
}

/// Takes the body of a plain request.
///
/// # Errors
/// The client is slow, gone, or what he sends is refused.
async fn take_body(session: &mut Session, exchange: &mut Exchange) -> Result<Bytes> {
    let mut taking = pin!(take_pieces(session));
    let here = poll_fn(|cx| Poll::Ready(taking.as_mut().poll(cx))).await;
    if here.is_pending() {
        exchange.body_awaited();
    }
    next(here, taking).await
}

async fn take_pieces(session: &mut Session) -> Result<Bytes> {
    let client = session.as_downstream_mut();
    let Some(first) = client.read_request_body().await? else {
        return Ok(Bytes::new());
    };
    let Some(second) = client.read_request_body().await? else {
        return Ok(first);
    };
    let mut body = BytesMut::from(first);
    body.extend_from_slice(&second);
    while let Some(piece) = client.read_request_body().await? {
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// Serves a plain request. The policy bounds the attempts.
///
/// # Errors
/// Why there is no answer, or only the beginning of one.
pub(super) async fn serve(
    session: &mut Session,
    exchange: &mut Exchange,
    closing: &ShutdownWatch,
) -> Result<()> {
    let body = match take_body(session, exchange).await {
        Ok(body) => body,
        Err(error) => return Err(exchange.broke(session, error.into_down())),
    };
    if !body.is_empty() {
        exchange.body_taken();
    }
    loop {
        match attempt(session, &body, exchange, closing).await {
            Err(error) if error.retry() => {}
            done => return done,
        }
    }
}

async fn attempt(
    session: &mut Session,
    body: &Bytes,
    exchange: &mut Exchange,
    closing: &ShutdownWatch,
) -> Result<()> {
    let dial = exchange.start(|local, place| local.peers.dial(place))?;
    let lent = match dial.lend().await {
        Ok(lent) => lent,
        Err(failure) => {
            let error = Error::explain(ErrorType::ConnectError, "no connection to the endpoint");
            return Err(exchange.fail(failure, is_replayable(session), error.into_up()));
        }
    };
    exchange.connected(dial.socket(), dial.is_reused());
    let mut endpoint = HttpSession::new(Box::new(lent));
    let served = match say(session, body, &mut endpoint, exchange).await {
        Ok(whole) => hear(session, &mut endpoint, exchange, closing)
            .await
            .map(|all| whole && all),
        Err(error) => Err(error),
    };
    match served {
        Ok(true) => {
            keep(endpoint).await;
            Ok(())
        }
        Ok(false) => Ok(()),
        Err(error) => Err(exchange.broke(session, error)),
    }
}

/// Sends the request. False where the endpoint has not taken all of it: it may have answered and closed before it has read
/// the body, so there may be an answer, and it counts; but its connection cannot serve again.
async fn say(
    session: &mut Session,
    body: &Bytes,
    endpoint: &mut HttpSession,
    exchange: &mut Exchange,
) -> Result<bool> {
    let mut request = Box::new(session.req_header().clone());
    request.remove_header(&CONNECTION);
    exchange.send(session, &mut request)?;
    // A route may have named another host.
    validate_request_authority(&request).map_err(|error| error.into_in())?;
    let sent = endpoint.write_request_header(request).await;
    sent.map_err(|error| error.into_up())?;
    let whole =
        body.is_empty() || (endpoint.write_body(body).await.is_ok() && endpoint.finish_body().await.is_ok());
    exchange.copy_request_piece((!body.is_empty()).then_some(body), true);
    Ok(whole)
}

/// Passes the answer on. False where the client has all of it, and the endpoint has not said all.
async fn hear(
    session: &mut Session,
    endpoint: &mut HttpSession,
    exchange: &mut Exchange,
    closing: &ShutdownWatch,
) -> Result<bool> {
    loop {
        let task = hear_next(session, endpoint, exchange).await?;
        let is_begun = matches!(task, HttpTask::Header(_, false));
        if pass(task, session, exchange, closing).await? {
            // A page stands in for a body that is still to come.
            return Ok(!is_begun || is_over(endpoint, exchange).await);
        }
    }
}

/// The next part of the answer.
async fn hear_next(
    session: &mut Session,
    endpoint: &mut HttpSession,
    exchange: &mut Exchange,
) -> Result<HttpTask> {
    let mut reading = pin!(endpoint.read_response_task());
    let mut here = Poll::Pending;
    if exchange.holds_back() {
        here = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await;
        if here.is_pending() {
            // Nothing more is at hand: what the client could have is not kept from him.
            let piece = exchange.flushed()?;
            let written = session
                .as_downstream_mut()
                .write_response_body(piece, false)
                .await;
            written.map_err(|error| error.into_down())?;
        }
    }
    // The client is watched while the endpoint is waited for: who has gone needs no answer.
    tokio::select! {
        biased;
        task = next(here, reading) => task.map_err(|error| error.into_up()),
        gone = session.as_downstream_mut().read_body_or_idle(true) => {
            gone.map_err(|error| error.into_down())?;
            Error::e_explain(ErrorType::InternalError, "a body behind the end of the request")
        }
    }
}

/// Reads what is left of a body that no client gets, so that its connection can serve again and a mirror can compare it.
/// Whatever breaks there is nobody's trouble any more. False where it does not end soon.
async fn is_over(endpoint: &mut HttpSession, exchange: &mut Exchange) -> bool {
    let reading = async {
        let mut bytes = 0;
        while bytes <= UNWANTED_BYTES_MAX {
            match endpoint.read_response_task().await {
                Ok(HttpTask::Body(piece, end)) => {
                    bytes += piece.as_ref().map_or(0, Bytes::len);
                    exchange.answer_piece(piece.as_ref(), end);
                    if end {
                        return true;
                    }
                }
                Ok(HttpTask::Done | HttpTask::Trailer(_)) => return true,
                _ => return false,
            }
        }
        false
    };
    let is_over = timeout(UNWANTED_TIME, reading).await.unwrap_or(false);
    if !is_over {
        exchange.copy_answer_end(false);
    }
    is_over
}

/// What is here already, or what comes.
async fn next<T>(here: Poll<Result<T>>, coming: impl Future<Output = Result<T>>) -> Result<T> {
    match here {
        Poll::Ready(here) => here,
        Poll::Pending => coming.await,
    }
}

/// Passes a part of the answer on. True for its last.
async fn pass(
    task: HttpTask,
    session: &mut Session,
    exchange: &mut Exchange,
    closing: &ShutdownWatch,
) -> Result<bool> {
    let (written, end) = match task {
        HttpTask::Header(mut head, end) => {
            // Before it counts as an answer that the client sees.
            if head.status == 101 {
                return Err(unasked_upgrade());
            }
            exchange.answer(session, &mut head, closing)?;
            let page = exchange.replace(&mut head);
            exchange.begin_encoding(session.req_header(), &mut head, end)?;
            let method = &session.req_header().method;
            frame(method, &mut head, end)?;
            let page = page.filter(|_| *method != Method::HEAD);
            let client = session.as_downstream_mut();
            let written = client.write_response_header(head).await;
            match (written, page) {
                // The client has all that he gets, whatever the endpoint still says.
                (Ok(()), Some(page)) => (client.write_response_body(page, false).await, true),
                (written, _) => (written, end),
            }
        }
        HttpTask::Body(piece, end) => {
            exchange.answer_piece(piece.as_ref(), end);
            let piece = exchange.encoded(piece.unwrap_or_default())?;
            let client = session.as_downstream_mut();
            (client.write_response_body(piece, false).await, end)
        }
        HttpTask::Done | HttpTask::Trailer(_) => (Ok(()), true),
        HttpTask::Failed(error) => return Err(error.into_up()),
        HttpTask::UpgradedBody(..) => return Err(unasked_upgrade()),
    };
    written.map_err(|error| error.into_down())?;
    if end {
        let last = exchange.encoded_end(None)?;
        let client = session.as_downstream_mut();
        let written = client.write_response_body(last, false).await;
        written.map_err(|error| error.into_down())?;
        let finished = client.finish_body().await;
        finished.map_err(|error| error.into_down())?;
    }
    Ok(end)
}

/// Nobody asked for another protocol, or it would not be a plain request.
fn unasked_upgrade() -> BError {
    Error::explain(ErrorType::InvalidHTTPHeader, "an upgrade that nobody asked for").into_up()
}

/// An answer that does not say where it ends gets chunks, or a length of nothing at its `end`, so that the client's
/// connection can live on.
pub(super) fn frame(method: &Method, head: &mut ResponseHeader, end: bool) -> Result<()> {
    let has_body = *method != Method::HEAD && !matches!(head.status.as_u16(), 100..=199 | 204 | 304);
    let is_framed = head.headers.contains_key(TRANSFER_ENCODING) || head.headers.contains_key(CONTENT_LENGTH);
    if !has_body || is_framed {
        return Ok(());
    }
    if end {
        head.insert_header(CONTENT_LENGTH, 0)?;
    } else {
        // Older versions know no chunks.
        head.set_version(Version::HTTP_11);
        head.insert_header(TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}

/// Lets the connection serve again, if the answer allows it.
async fn keep(mut endpoint: HttpSession) {
    endpoint.respect_keepalive();
    let stream = endpoint.reuse().await;
    if let Some(mut lent) = stream.and_then(|stream| stream.into_any().downcast::<Lent>().ok()) {
        lent.rest();
    }
}
