//! Answers that no endpoint has given.

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::report::Report;
use super::tell::{end_call, say};
use crate::grpc;
use crate::route::answer::Answer;

/// Sends what a route answers by itself, with the request's name where the client is to know it; to a call, that it has
/// ended so. The connection lives on.
pub(super) async fn send(
    session: &mut Session,
    answer: Answer,
    report: Option<&mut Report>,
    as_call: Option<(grpc::Call, grpc::Status)>,
) -> Result<()> {
    if let Some(ended) = as_call {
        let message = String::from_utf8_lossy(&answer.body);
        return end_call(session, ended, &message, &answer.headers, true, report).await;
    }
    let answer = answer.shown();
    let mut head = ResponseHeader::build_no_case(answer.status, Some(answer.headers.len() + 3))?;
    for (name, value) in &answer.headers {
        head.append_header(name, value)?;
    }
    // RFC 9110 section 8.6: neither has a length.
    let bare = matches!(answer.status, 204 | 304);
    if !bare {
        head.insert_header(CONTENT_LENGTH, answer.body.len())?;
    }
    if let Some(report) = report {
        report.answers(session, &mut head)?;
    }
    let body = if bare { Bytes::new() } else { answer.body };
    say(session.as_downstream_mut(), head, body, true).await
}
