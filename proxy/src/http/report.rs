//! What is told of a request: its name, to the endpoint and to the client; and how it went, to the access log.
//!
//! All of it does nothing, at the cost of a look, where the configuration does not ask for it.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{HOST, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use pingora_error::Error;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::exchange::Exchange;
use crate::access_log::{Reason, Record, Trail};
use crate::framing::Refusal;
use crate::outcome::Failure;
use crate::server::http2::ByHttp2;
use crate::server::local::{self, Local};
use crate::server::stream::EdgeStream;
use crate::trace::context::TraceContext;
use crate::trace::{self, Edit, MadeId, Named, Namer, REQUEST_ID, TRACEPARENT, TRACESTATE};
use crate::upstream::{exchange_failure, refusal};
use crate::worker::{Admission, Flow};

/// What is to be told of a request. Made only where somebody is to be told.
#[derive(Debug)]
pub(super) struct Report {
    named: Named,
    trail: Trail,
    tell_client: bool,
    /// The request's head as it came, which shares its bytes with pingora's; empty where there is no log.
    head: Bytes,
    /// What the client has been told so far; 0 for nothing.
    status: u16,
    /// Why it ended, if it went to no cluster.
    unsent: (Reason, &'static str),
}

/// How a request ended.
pub(super) struct Ended<'a> {
    /// `None` where it went to no cluster.
    pub(super) flow: Option<Flow>,
    /// What the client was told; 0 for nothing.
    pub(super) status: u16,
    /// What broke off the conversation.
    pub(super) error: Option<&'a Error>,
}

/// Names a request that has come. Before its route is found, because what a route answers may tell the name.
pub(super) fn named(local: &mut Local, session: &Session) -> Named {
    let namer = local.namer.as_mut();
    namer
        .map(|namer| namer.name(&session.req_header().headers))
        .unwrap_or_default()
}

/// The request's head is there, and it is known what becomes of it.
pub(super) fn arrived(
    local: &Local,
    session: &Session,
    admission: &Result<Admission, Refusal>,
    named: Named,
) -> Option<Box<Report>> {
    if local.namer.is_none() && local.log.is_none() {
        return None;
    }
    let (flow, unsent) = match admission {
        Ok(Admission::Forward(flow)) => (Some(flow), (Reason::Ok, "")),
        Ok(Admission::Answer(answer)) => (None, (Reason::Answered, answer.reason)),
        Ok(Admission::Unrouted) => (None, (Reason::NoRoute, "")),
        Err(why) => (None, (Reason::Rejected, why.label())),
    };
    let now = flow.map_or_else(|| local.worker.clock().now(), Flow::arrived);
    Some(Box::new(Report {
        tell_client: local.namer.as_ref().is_some_and(Namer::tells_the_client),
        named,
        trail: Trail::arrived(begun(session), now),
        head: match local.log {
            Some(_) => raw_head(session),
            None => Bytes::new(),
        },
        status: 0,
        unsent,
    }))
}

/// The head as it came, or as HTTP/1.1 would have said it.
fn raw_head(session: &Session) -> Bytes {
    let client = session.as_downstream();
    match (client.as_http1(), client.as_custom()) {
        (Some(session), _) => session.get_headers_raw_bytes(),
        (None, Some(session)) => session.pseudo_raw_h1_request_header(),
        (None, None) => Bytes::new(),
    }
}

/// An attempt begins: the first one when the request arrived.
pub(super) fn started(local: &Local, flow: &Flow, report: Option<&mut Report>) {
    if let Some(report) = report {
        report.trail.started(match flow.is_first_attempt() {
            true => flow.arrived(),
            false => local.worker.clock().now(),
        });
    }
}

impl Report {
    /// The request goes to an endpoint, and with it its name and trace.
    pub(super) fn sent(&mut self, request: &mut RequestHeader) -> pingora_error::Result<()> {
        if let Some(now) = local::now_if_logged() {
            self.trail.sent(now);
        }
        if let Some(id) = &self.named.made {
            request.insert_header(REQUEST_ID, &id[..])?;
        }
        if let Some(trace) = &self.named.trace {
            request.insert_header(TRACEPARENT, &trace.header()[..])?;
        }
        if matches!(self.named.edit, Edit::ParentAlone | Edit::Drop) {
            request.remove_header(&TRACESTATE);
        }
        if self.named.edit == Edit::Drop {
            request.remove_header(&TRACEPARENT);
        }
        Ok(())
    }

    /// The name that was made for the request.
    pub(super) fn made_id(&self) -> Option<&MadeId> {
        self.named.made.as_ref()
    }

    /// The client is answered: with the request's name, where he is to know it.
    pub(super) fn answers(
        &mut self,
        session: &Session,
        response: &mut ResponseHeader,
    ) -> pingora_error::Result<()> {
        self.status = response.status.as_u16();
        match self.told(session) {
            Some(id) => response.insert_header(REQUEST_ID, id),
            None => Ok(()),
        }
    }

    /// A sentence of our own, with the request's name where the client is to know it.
    pub(super) fn named_in(&self, session: &Session, sentence: &'static str) -> Cow<'static, str> {
        match self.told(session) {
            // A name has none but visible characters.
            Some(id) => format!("{sentence} (request {})", String::from_utf8_lossy(id)).into(),
            None => sentence.into(),
        }
    }

    fn told<'a>(&'a self, session: &'a Session) -> Option<&'a [u8]> {
        Some(self.request_id(&session.req_header().headers)).filter(|id| self.tell_client && !id.is_empty())
    }

    /// The name that the endpoint sees, or none.
    fn request_id<'a>(&'a self, headers: &'a HeaderMap) -> &'a [u8] {
        trace::known_as(self.made_id(), Some(headers.into())).unwrap_or_default()
    }
}

/// Writes the request's line.
pub(super) fn log(local: &mut Local, session: &Session, exchange: &mut Exchange, ended: &Ended<'_>) {
    let Some(report) = exchange.report.take() else {
        return;
    };
    let reason = match &ended.flow {
        Some(flow) => reason(exchange, flow, ended.error),
        None => report.unsent.0,
    };
    let line = Record {
        client: exchange.client.address,
        status: ended.status,
        reason,
        detail: ended
            .error
            .and_then(refusal)
            .map_or(report.unsent.1, Refusal::label),
        bytes_in: Some(session.body_bytes_read() as u64),
        bytes_out: Some(session.body_bytes_sent() as u64),
        ..Record::default()
    };
    write(local, *report, session.req_header(), ended.flow.as_ref(), &line);
}

/// Writes the line of a request that was dropped on its way: its grace time is over, or a phase of it panicked.
pub(super) fn cut(local: &mut Local, exchange: &mut Exchange, flow: &Flow) {
    let Some(report) = exchange.report.take() else {
        return;
    };
    let Some(head) = read_again(&report.head) else {
        return;
    };
    let reason = match std::thread::panicking() {
        true => Reason::Failed(Failure::Internal),
        false => Reason::Shutdown,
    };
    let line = Record {
        client: exchange.client.address,
        status: report.status,
        reason,
        ..Record::default()
    };
    write(local, *report, &head, Some(flow), &line);
}

/// A head that was read before, so that all of its lines are sound.
fn read_again(bytes: &[u8]) -> Option<RequestHeader> {
    let mut lines = bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end);
    let mut words = lines.next()?.split(|b| *b == b' ');
    let mut head = RequestHeader::build_no_case(words.next()?, words.next()?, None).ok()?;
    match words.next()? {
        b"HTTP/1.0" => head.set_version(Version::HTTP_10),
        b"HTTP/2.0" => head.set_version(Version::HTTP_2),
        _ => {}
    }
    for line in lines {
        let mut parts = line.splitn(2, |b| *b == b':');
        if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            let name = HeaderName::from_bytes(name).ok()?;
            head.append_header(name, value.trim_ascii()).ok()?;
        }
    }
    Some(head)
}

/// Completes a line by what its head and its report know, and writes it, if it is one of those that are written.
fn write(
    local: &mut Local,
    mut report: Report,
    head: &RequestHeader,
    flow: Option<&Flow>,
    line: &Record<'_>,
) {
    let Local {
        log: Some(log),
        worker,
        ..
    } = local
    else {
        return;
    };
    if !log.wants(line.status, line.reason) {
        return;
    }
    report.trail.first_byte(flow.and_then(Flow::first_byte));
    let header = |name: HeaderName| {
        head.headers
            .get(name)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default()
    };
    // A target in absolute form may carry credentials in front of its host; its path is what is written.
    let target = match head.raw_path() {
        path if path.starts_with(b"/") => path,
        _ => head
            .uri
            .path_and_query()
            .map(|target| target.as_str().as_bytes())
            .unwrap_or_default(),
    };
    log.write(&Record {
        host: header(HOST),
        method: head.method.as_str().as_bytes(),
        target,
        protocol: protocol(head),
        times: report.trail.times(worker.clock().now()),
        served: flow.and_then(|flow| worker.served_by(flow)),
        request_id: report.request_id(&head.headers),
        trace: report.named.trace.or_else(|| TraceContext::of(&head.headers)),
        referer: header(REFERER),
        user_agent: header(USER_AGENT),
        ..*line
    });
}

fn reason(exchange: &Exchange, flow: &Flow, error: Option<&Error>) -> Reason {
    match (flow.failure(), error) {
        (Some(failure), _) => Reason::Failed(failure),
        // Broken off outside of an attempt.
        (None, Some(error)) => Reason::Failed(exchange_failure(error, exchange.reused, exchange.answered)),
        (None, None) => Reason::Ok,
    }
}

fn begun(session: &Session) -> Option<foreshade_engine::moment::Moment> {
    EdgeStream::behind(session.as_downstream().stream()?)?.begun()
}

fn protocol(head: &RequestHeader) -> &'static str {
    // To everybody behind the edge it is a request of HTTP/1.1.
    if head.extensions.get::<ByHttp2>().is_some() {
        return "HTTP/2.0";
    }
    match head.version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_again_as_it_was() {
        let bytes = b"GET /a?b HTTP/1.1\r\nhOST: a.example\r\nX:\t y:z \r\nx:2\r\nEmpty:\r\n\r\n";
        let head = read_again(bytes).unwrap();
        assert_eq!(
            (head.method.as_str(), head.raw_path(), head.version),
            ("GET", &b"/a?b"[..], Version::HTTP_11)
        );
        let fields: Vec<_> = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let expected: [(&str, &[u8]); 4] =
            [("host", b"a.example"), ("x", b"y:z"), ("x", b"2"), ("empty", b"")];
        assert_eq!(fields, expected);
        assert_eq!(
            read_again(b"POST / HTTP/1.0\r\n\r\n").unwrap().version,
            Version::HTTP_10
        );
        assert!(read_again(b"").is_none());
    }
}
