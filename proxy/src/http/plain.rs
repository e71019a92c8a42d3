//! The short way of a plain request to its endpoint and of the answer back.
//!
//! pingora lets both sides of an exchange speak at any time: two halves that hand each other messages through channels,
//! woken once per message. A request without a body has nothing more to say once its head is written, and an answer is
//! read piece by piece and written on. So plain requests, which most are, are served here in one loop; that spares a third
//! of what pingora's own proxying costs, more than the whole policy takes. What is not plain goes pingora's way: bodies,
//! upgrades, old versions, and headers that belong to one connection.
//!
//! Only the choreography is ours. Both messages are read, framed and written by pingora's sessions as on its own way, so
//! that there is one reading of HTTP and not two; and each step of the policy is the [`Exchange`]'s.

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Version};
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::authority::validate_request_authority;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::server::ShutdownWatch;
use pingora_error::{BError, Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::exchange::{Exchange, is_replayable};
use crate::upstream::dial::Lent;
use crate::upstream::{connect_failure, is_hop_by_hop};

/// Whether a request can go the short way.
pub(super) fn is_plain(session: &mut Session) -> bool {
    if !session.is_body_empty() {
        return false;
    }
    let head = session.req_header();
    head.version == Version::HTTP_11
        && head.headers.iter().all(|(name, value)| {
            if *name == CONNECTION {
                return is_about_us(value.as_bytes());
            }
            // `Connection: close` names the header `close`, too.
            !is_hop_by_hop(name) && name != "close"
        })
}

/// Whether a `Connection` says no more than how long it shall live.
fn is_about_us(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
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
    loop {
        match attempt(session, exchange, closing).await {
            Err(error) if error.retry() => {}
            done => return done,
        }
    }
}

async fn attempt(session: &mut Session, exchange: &mut Exchange, closing: &ShutdownWatch) -> Result<()> {
    let (dial, address) = exchange.start(|local, place| local.peers.dial(place))?;
    let lent = match dial.lend(address).await {
        Ok(lent) => lent,
        Err(mut error) => {
            error.as_up();
            return Err(exchange.fail(connect_failure(&error), is_replayable(session), error));
        }
    };
    exchange.connected(&dial);
    let mut endpoint = HttpSession::new(Box::new(lent));
    match converse(session, &mut endpoint, exchange, closing).await {
        Ok(()) => {
            keep(endpoint).await;
            Ok(())
        }
        Err(error) => Err(exchange.broke(session, error)),
    }
}

/// Sends the request and passes the answer on.
async fn converse(
    session: &mut Session,
    endpoint: &mut HttpSession,
    exchange: &mut Exchange,
    closing: &ShutdownWatch,
) -> Result<()> {
    let mut request = Box::new(session.req_header().clone());
    request.remove_header(&CONNECTION);
    exchange.send(session, &mut request)?;
    // A route may have named another host.
    validate_request_authority(&request).map_err(|error| error.into_in())?;
    let sent = endpoint.write_request_header(request).await;
    sent.map_err(|error| error.into_up())?;
    exchange.copy_request_piece(None, true);
    loop {
        // The client is watched while the endpoint is waited for: who has gone needs no answer.
        let task = tokio::select! {
            biased;
            task = endpoint.read_response_task() => task.map_err(|error| error.into_up())?,
            gone = session.as_downstream_mut().read_body_or_idle(true) => {
                gone.map_err(|error| error.into_down())?;
                return Error::e_explain(ErrorType::InternalError, "a body behind the end of the request");
            }
        };
        if pass(task, session, exchange, closing).await? {
            return Ok(());
        }
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
            frame(&session.req_header().method, &mut head, end)?;
            let client = session.as_downstream_mut();
            (client.write_response_header(head).await, end)
        }
        HttpTask::Body(piece, end) => {
            exchange.answer_piece(piece.as_ref(), end);
            let client = session.as_downstream_mut();
            (
                client.write_response_body(piece.unwrap_or_default(), false).await,
                end,
            )
        }
        HttpTask::Done | HttpTask::Trailer(_) => (Ok(()), true),
        HttpTask::Failed(error) => return Err(error.into_up()),
        HttpTask::UpgradedBody(..) => return Err(unasked_upgrade()),
    };
    written.map_err(|error| error.into_down())?;
    if end {
        let finished = session.as_downstream_mut().finish_body().await;
        finished.map_err(|error| error.into_down())?;
    }
    Ok(end)
}

/// Nobody asked for another protocol, or it would not be a plain request.
fn unasked_upgrade() -> BError {
    Error::explain(ErrorType::InvalidHTTPHeader, "an upgrade that nobody asked for").into_up()
}

/// An answer that ends with its connection gets chunks, so that the client's connection can live on.
fn frame(method: &Method, head: &mut ResponseHeader, end: bool) -> Result<()> {
    let has_body = *method != Method::HEAD && !matches!(head.status.as_u16(), 100..=199 | 204 | 304) && !end;
    let is_framed = head.headers.contains_key(TRANSFER_ENCODING) || head.headers.contains_key(CONTENT_LENGTH);
    if has_body && !is_framed {
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
