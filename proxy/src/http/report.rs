//! What is told of a request: its name, to the endpoint and to the client; and how it went, to the access log
//! and in spans.
//!
//! All of it does nothing, at the cost of a look, where the configuration does not ask for it.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, Version};
use pingora_error::Error;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::exchange::Exchange;
use crate::access_log::{Reason, Record};
use crate::fields::Fields;
use crate::framing::Refusal;
use crate::grpc;
use crate::report::{self, Asked, SERVER_TIMING};
use crate::server::http2::ByHttp2;
use crate::server::local::Local;
use crate::server::stream::EdgeStream;
use crate::trace::{Edit, MadeId, Named, REQUEST_ID, TRACEPARENT, TRACESTATE};
use crate::upstream::{exchange_failure, refusal};
use crate::worker::{Admission, Flow};

/// What is to be told of a request. Made only where somebody is to be told.
#[derive(Debug)]
pub(super) struct Report {
    inner: report::Report,
    /// The request's head as it came; empty where nobody will be told. Of HTTP/1.1 it shares its bytes with pingora's, of
    /// HTTP/2 it is written for this.
    head: Bytes,
    /// What the client has been told so far; 0 for nothing.
    status: u16,
}

/// How a request ended.
pub(super) struct Ended<'a> {
    /// `None` where it went to no cluster.
    pub(super) flow: Option<Flow>,
    /// What the client was told; 0 for nothing. Of a call of gRPC, what its status stands for.
    pub(super) status: u16,
    /// What broke off the conversation.
    pub(super) error: Option<&'a Error>,
}

/// Names a request that has come.
pub(super) fn named(local: &mut Local, session: &Session) -> Named {
    report::named(local, &session.req_header().headers)
}

/// The request's head is there, and it is known what becomes of it.
pub(super) fn arrived(
    local: &Local,
    session: &Session,
    admission: &mut Result<Admission, Refusal>,
    named: Named,
) -> Option<Box<Report>> {
    let inner = report::Report::arrived(local, begun(session), admission, named)?;
    Some(Box::new(Report {
        head: match inner.may_be_told(local) {
            true => raw_head(session),
            false => Bytes::new(),
        },
        inner,
        status: 0,
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

/// An attempt begins.
pub(super) fn started(flow: &Flow, report: Option<&mut Report>) {
    if let Some(report) = report {
        report.inner.started(flow);
    }
}

impl Report {
    /// The request goes to an endpoint, and with it its name and trace.
    pub(super) fn sent(&self, request: &mut RequestHeader) -> pingora_error::Result<()> {
        let named = &self.inner.named;
        if let Some(id) = &named.made {
            request.insert_header(REQUEST_ID, &id[..])?;
        }
        if let Some(trace) = named.told() {
            request.insert_header(TRACEPARENT, &trace.header()[..])?;
        }
        if matches!(named.edit, Edit::ParentAlone | Edit::Drop) {
            request.remove_header(&TRACESTATE);
        }
        if named.edit == Edit::Drop {
            request.remove_header(&TRACEPARENT);
        }
        Ok(())
    }

    /// The name that was made for the request.
    pub(super) fn made_id(&self) -> Option<&MadeId> {
        self.inner.named.made.as_ref()
    }

    /// The client is answered: with the request's name, where he is to know it.
    pub(super) fn answers(
        &mut self,
        session: &Session,
        response: &mut ResponseHeader,
    ) -> pingora_error::Result<()> {
        self.status = response.status.as_u16();
        match self.inner.told(came(session)) {
            Some(id) => response.insert_header(REQUEST_ID, id),
            None => Ok(()),
        }
    }

    /// Where the time of the endpoint's answer went, beside what it says itself, where the client is to know it.
    pub(super) fn times(&self, flow: &Flow, response: &mut ResponseHeader) -> pingora_error::Result<()> {
        match self.inner.server_timing(flow) {
            Some(told) => response.append_header(SERVER_TIMING, told).map(drop),
            None => Ok(()),
        }
    }

    /// A sentence of our own, with the request's name where the client is to know it.
    pub(super) fn named_in(&self, session: &Session, sentence: &'static str) -> Cow<'static, str> {
        self.inner.named_in(came(session), sentence)
    }
}

fn came(session: &Session) -> Fields<'_> {
    Fields::from(&session.req_header().headers)
}

/// Writes the request's line.
pub(super) fn log(local: &mut Local, session: &Session, exchange: &mut Exchange, ended: &Ended<'_>) {
    let Some(report) = exchange.report.take() else {
        return;
    };
    let (why, detail) = report.inner.unsent;
    let line = Record {
        client: exchange.client.address,
        scheme: exchange.client.scheme(),
        status: ended.status,
        reason: match &ended.flow {
            Some(flow) => reason(exchange, flow, ended.error),
            None => why,
        },
        grpc_status: exchange.ended_as.map(grpc::Status::code),
        detail: ended.error.and_then(refusal).map_or(detail, Refusal::label),
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
    let line = Record {
        client: exchange.client.address,
        scheme: exchange.client.scheme(),
        status: report.status,
        reason: Reason::of_a_cut(),
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

fn write(local: &mut Local, report: Report, head: &RequestHeader, flow: Option<&Flow>, line: &Record<'_>) {
    // A target in absolute form may carry credentials in front of its host; its path is what is written.
    let target = match head.raw_path() {
        path if path.starts_with(b"/") => path,
        _ => head
            .uri
            .path_and_query()
            .map(|target| target.as_str().as_bytes())
            .unwrap_or_default(),
    };
    let asked = Asked {
        method: head.method.as_str().as_bytes(),
        target,
        protocol: protocol(head),
        fields: Fields::from(&head.headers),
    };
    report.inner.write(local, &asked, flow, line);
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
