//! Answers of our own, on a connection that lives on where it can.
//!
//! pingora closes the client's connection with every error that it answers, because it does not know what is left of the
//! request. When an endpoint fails, that makes every client connect anew, to a proxy that has trouble enough. We know
//! what is left: so the answer says `keep-alive`, the stream is told so, and the accept loop takes the connection back
//! when pingora drops it, see [`EdgeStream`].

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, EXPECT, SERVER};
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::exchange::Exchange;
use super::report::Report;
use crate::grpc;
use crate::policy::pages::Shown;
use crate::server::conn::Conn;
use crate::server::http2::ByHttp2;
use crate::server::stream::EdgeStream;

/// What a client is told.
pub(super) struct Told {
    /// The status.
    pub(super) status: u16,
    /// In one line.
    pub(super) sentence: &'static str,
    /// What people see instead of the line.
    pub(super) page: Option<Shown>,
    /// How a call ends with it, made so.
    pub(super) as_call: Option<(grpc::Call, grpc::Status)>,
}

/// Answers with a status and one line, or a page, unless the client has seen a part of another answer. `blameless` is a
/// client whose request can be read to its end. `report` names the request, where the client is to know its name.
///
/// # Errors
/// When the client has gone.
pub(super) async fn tell(
    session: &mut Session,
    told: Told,
    blameless: bool,
    report: Option<&mut Report>,
) -> pingora_error::Result<()> {
    if session
        .response_written()
        .is_some_and(|r| !r.status.is_informational())
    {
        return Ok(());
    }
    let Told {
        status,
        sentence,
        page,
        as_call,
    } = told;
    if let Some(ended) = as_call {
        let told = report.as_ref().map_or(Cow::Borrowed(sentence), |report| {
            report.named_in(session, sentence)
        });
        return end_call(
            session,
            ended,
            &format!("foreshade: {told}"),
            &HeaderMap::new(),
            blameless,
            report,
        )
        .await;
    }
    let mut head = ServerSession::generate_error(status);
    // Whose library we use is nobody's business.
    head.remove_header(&SERVER);
    let mut told = Cow::Borrowed(sentence);
    if let Some(report) = report {
        told = report.named_in(session, sentence);
        report.answers(session, &mut head)?;
    }
    let body = match page {
        Some(page) => {
            head.insert_header(CONTENT_TYPE, page.content_type)?;
            page.body
        }
        None => Bytes::from(format!("foreshade: {told}\n")),
    };
    head.set_content_length(body.len())?;
    say(session.as_downstream_mut(), head, body, blameless).await
}

/// How a call of gRPC has to be told of a failure with this status; `None` for what is none. A client of HTTP/2 looks at no
/// status of HTTP. A page does, so that only what is on its way to an endpoint is known to be more than a request.
pub(super) fn as_call(
    session: &Session,
    exchange: &Exchange,
    status: u16,
) -> Option<(grpc::Call, grpc::Status)> {
    let head = session.req_header();
    let by_http2 = head.extensions.get::<ByHttp2>().is_some();
    let is_native = || by_http2 && grpc::is_call(&head.headers);
    let call = exchange
        .call()
        .or_else(|| is_native().then_some(grpc::Call::Native))?;
    (status >= 400).then(|| (call, grpc::Status::of_http(status)))
}

/// Ends a call of which the client has seen nothing yet: all of it in the head. `headers` are those of the answer that
/// another client would have got.
///
/// # Errors
/// When the client has gone.
pub(super) async fn end_call(
    session: &mut Session,
    (call, status): (grpc::Call, grpc::Status),
    message: &str,
    headers: &HeaderMap,
    blameless: bool,
    report: Option<&mut Report>,
) -> pingora_error::Result<()> {
    let mut head = ResponseHeader::build_no_case(200, Some(headers.len() + 4))?;
    for (name, value) in headers.iter().filter(|(name, _)| **name != CONTENT_TYPE) {
        head.append_header(name, value)?;
    }
    head.insert_header(CONTENT_TYPE, call.kind())?;
    status.tell(message, |name, value| {
        // A name and a value that are both checked fit into any head.
        let _ = head.insert_header(name, value);
    });
    if let Some(report) = report {
        report.answers(session, &mut head)?;
    }
    match session.as_downstream_mut().as_custom_mut() {
        Some(client) => client.write_response_header(Box::new(head), true).await,
        None => {
            head.set_content_length(0)?;
            say(session.as_downstream_mut(), head, Bytes::new(), blameless).await
        }
    }
}

/// Answers with a head and a body that fits it, to a client that has seen nothing yet.
///
/// # Errors
/// When the client has gone.
pub(super) async fn say(
    session: &mut ServerSession,
    head: ResponseHeader,
    body: Bytes,
    blameless: bool,
) -> pingora_error::Result<()> {
    if !blameless {
        session.set_keepalive(None);
    } else if is_nearly_read(session) {
        // The accept loop reads the rest.
        session.set_close_on_response_before_downstream_finish(false);
    }
    session.write_response_header(Box::new(head)).await?;
    if body.is_empty() {
        session.finish_body().await?;
    } else {
        session.write_response_body(body, true).await?;
    }
    let last = session.get_keepalive_reuses_remaining() == Some(0);
    if session.get_keepalive().is_some()
        && !last
        && let Some(edge) = session.stream().and_then(EdgeStream::behind)
    {
        edge.live_on();
    }
    Ok(())
}

/// Whether so little of the request is left that reading it costs less than a new connection. A client that waits for
/// `100 Continue` may never send it.
fn is_nearly_read(session: &mut ServerSession) -> bool {
    if session.is_body_done() {
        return true;
    }
    let conn = session
        .stream()
        .and_then(EdgeStream::behind)
        .and_then(EdgeStream::conn);
    conn.is_some_and(Conn::is_nearly_read) && !session.req_header().headers.contains_key(EXPECT)
}
