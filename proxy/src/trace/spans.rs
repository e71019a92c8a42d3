//! What a request's spans say: one of the proxy's own, and one for each attempt at an endpoint as its child.
//!
//! Names of attributes are those of the conventions for HTTP (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>,
//! stable since 1.23), as far as a proxy knows what they ask for; what nobody else knows is called `foreshade.*`:
//! docs/tracing.md lists them all. Query strings are left out, because they may hold secrets and spans travel far; with
//! them goes `url.full` of an attempt, whose path is its parent's but for what the route makes of it.
//!
//! A worker makes the spans itself, as it writes lines of the access log itself, and only of requests that are marked to be
//! recorded. They wait in a buffer of its own until the next tick, or until there are [`CHUNK_SPANS`]; giving it away never
//! waits ([`super::export`]). Times are told from the end backwards, by one look at the clock of the world, so that the
//! parts of a request fit together whatever that clock does meanwhile.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use foreshade_engine::balance::Side;
use foreshade_engine::cohort::share_below;
use foreshade_engine::moment::Moment;
use foreshade_engine::outcome::Class;
use foreshade_engine::spec::Role;
use http::uri::Authority;

use super::attempts::{Attempt, Attempts};
use super::context::bytes;
use super::export::Lane;
use super::otlp::{Code, Event, KeyValue, Kind, Span, Status, Value};
use super::{Edit, Named, TRACESTATE};
use crate::access_log::{Record, is_failed};
use crate::fields::Fields;

/// Spans that a worker gives away at once: some twenty requests, so that nothing is woken for each of them.
const CHUNK_SPANS: usize = 64;

/// Longest path that a span tells.
const PATH_BYTES_MAX: usize = 1024;

/// The same of other texts that a client chooses.
const TEXT_BYTES_MAX: usize = 256;

/// Longest `tracestate` that is told: what the W3C asks everybody to carry at least. A longer one is left out, because half
/// of it means something else.
const STATE_BYTES_MAX: usize = 512;

/// Source: the conventions, `http.request.method`; RFC 9110 section 9.1, RFC 5789.
const METHODS: [&str; 9] = [
    "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE",
];

/// The flags say whether a parent was made by somebody else, and he was. Source: `SpanFlags`.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// One worker's side of the export.
#[derive(Debug)]
pub struct Spans {
    made: Vec<Span>,
    lane: Lane,
}

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Over<'a> {
    /// As its line in the access log says it.
    pub(crate) record: &'a Record<'a>,
    pub(crate) named: &'a Named,
    /// Its headers, as they came.
    pub(crate) fields: Fields<'a>,
    /// Where it went to a cluster.
    pub(crate) attempts: Option<&'a Attempts>,
    pub(crate) now: Moment,
}

impl Spans {
    pub(super) fn new(lane: Lane) -> Self {
        Self {
            made: Vec::new(),
            lane,
        }
    }

    /// Makes the spans of a request that has ended.
    pub(crate) fn tell(&mut self, over: &Over<'_>) {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = WorldTime {
            now: over.now,
            since_1970,
        };
        let Some(server) = server(over, &time) else {
            return;
        };
        self.made.push(server);
        let all = over.attempts.into_iter().flat_map(Attempts::iter);
        for (resends, attempt) in all.enumerate() {
            self.made.push(client(over, resends, attempt, &time));
        }
        if self.made.len() >= CHUNK_SPANS {
            self.flush();
        }
    }

    /// Gives away what has been made so far. What there is no room for is lost, and counted.
    pub fn flush(&mut self) {
        if !self.made.is_empty() {
            self.lane.give(std::mem::take(&mut self.made));
        }
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        self.flush();
    }
}

/// What a moment is in the time of the world.
#[derive(Clone, Copy, Debug)]
struct WorldTime {
    now: Moment,
    since_1970: Duration,
}

impl WorldTime {
    fn ns(&self, at: Moment) -> u64 {
        self.before(self.now.since(at))
    }

    fn before(&self, back: Duration) -> u64 {
        u64::try_from(self.since_1970.saturating_sub(back).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The proxy's own span: from the first byte of the request to the last of the answer.
fn server(over: &Over<'_>, time: &WorldTime) -> Option<Span> {
    let record = over.record;
    let trace = over.named.trace?;
    let (trace_id, span_id) = trace.ids();
    let parent = over.named.parent.as_ref().map(|digits| bytes::<8>(digits));
    let remote = if parent.is_some() { IS_REMOTE } else { 0 };
    let failed = is_failed(record.status, record.reason);
    Some(Span {
        trace_id: trace_id.to_vec(),
        span_id: span_id.to_vec(),
        trace_state: state(over),
        parent_span_id: parent.map(|id| id.to_vec()).unwrap_or_default(),
        name: name(record.method),
        kind: Kind::Server.into(),
        start_time_unix_nano: time.before(record.times.duration),
        end_time_unix_nano: time.ns(time.now),
        attributes: server_attributes(record, failed),
        events: Vec::new(),
        status: status(failed),
        flags: u32::from(trace.flags()) | HAS_IS_REMOTE | remote,
    })
}

fn server_attributes(record: &Record<'_>, failed: bool) -> Vec<KeyValue> {
    // Room for all that follow: twenty at most.
    let mut known = Vec::with_capacity(20);
    let mut tell = |key: &'static str, value: Value| known.push(KeyValue::new(key, value));
    match known_method(record.method) {
        Some(method) => tell("http.request.method", Value::word(method)),
        None => {
            tell("http.request.method", Value::word("_OTHER"));
            let method = Value::text(record.method, TEXT_BYTES_MAX);
            tell("http.request.method_original", method);
        }
    }
    let path = record.target.split(|b| *b == b'?').next().unwrap_or_default();
    tell("url.path", Value::text(path, PATH_BYTES_MAX));
    tell("url.scheme", Value::word(record.scheme));
    if let Some(version) = version(record.protocol) {
        tell("network.protocol.version", Value::word(version));
    }
    let (host, port) = host_and_port(record.host);
    if !host.is_empty() {
        tell("server.address", Value::text(host.as_bytes(), TEXT_BYTES_MAX));
    }
    if let Some(port) = port {
        tell("server.port", Value::Int(port.into()));
    }
    if let Some(client) = record.client {
        tell("client.address", text(&client.to_canonical()));
    }
    if !record.user_agent.is_empty() {
        tell(
            "user_agent.original",
            Value::text(record.user_agent, TEXT_BYTES_MAX),
        );
    }
    match record.grpc_status {
        // Of a call the record's status is what this one stands for; its answer's is always this.
        Some(code) => {
            tell("http.response.status_code", Value::Int(200));
            tell("rpc.grpc.status_code", Value::Int(code.into()));
        }
        None if record.status > 0 => tell("http.response.status_code", Value::Int(record.status.into())),
        None => {}
    }
    if failed {
        // Of a call the record's status was not told to anybody.
        let why = match record.grpc_status {
            Some(0) => Value::word(record.reason.label()),
            Some(code) => text(&code),
            None => error_type(record.status, record.reason.label()),
        };
        tell("error.type", why);
    }
    tell("foreshade.reason", Value::word(record.reason.label()));
    if !record.detail.is_empty() {
        tell("foreshade.detail", Value::word(record.detail));
    }
    if let Some(served) = &record.served {
        tell("foreshade.cluster", text(served.cluster));
        tell("foreshade.endpoint", text(served.endpoint));
        let is_primary = matches!(served.role, Role::Primary { .. });
        tell(
            "foreshade.side",
            Value::word(if is_primary { "primary" } else { "shadow" }),
        );
        tell("foreshade.attempts", Value::Int(served.attempts.into()));
    }
    if !record.request_id.is_empty() {
        tell(
            "foreshade.request_id",
            Value::text(record.request_id, TEXT_BYTES_MAX),
        );
    }
    known
}

/// The span of one attempt at one endpoint: until the endpoint has nothing more to do with it.
fn client(over: &Over<'_>, resends: usize, attempt: &Attempt, time: &WorldTime) -> Span {
    let (trace_id, span_id) = attempt.span.ids();
    let parent = over.named.trace.as_ref().map(|trace| trace.ids().1);
    let answered_badly = attempt.status.is_some_and(|status| status >= 400);
    let failed = attempt.failure.is_some() || answered_badly;
    let moments = [("request sent", attempt.sent), ("answer begun", attempt.answered)];
    Span {
        trace_id: trace_id.to_vec(),
        span_id: span_id.to_vec(),
        trace_state: state(over),
        parent_span_id: parent.map(|id| id.to_vec()).unwrap_or_default(),
        name: name(over.record.method),
        kind: Kind::Client.into(),
        start_time_unix_nano: time.ns(attempt.started),
        end_time_unix_nano: time.ns(attempt.ended.unwrap_or(time.now)),
        attributes: client_attributes(over.record, resends, attempt, failed),
        events: moments
            .into_iter()
            .filter_map(|(name, at)| {
                Some(Event {
                    time_unix_nano: time.ns(at?),
                    name: Bytes::from_static(name.as_bytes()),
                })
            })
            .collect(),
        status: status(failed),
        flags: u32::from(attempt.span.flags()) | HAS_IS_REMOTE,
    }
}

fn client_attributes(record: &Record<'_>, resends: usize, attempt: &Attempt, failed: bool) -> Vec<KeyValue> {
    // Room for all that follow.
    let mut known = Vec::with_capacity(16);
    let mut tell = |key: &'static str, value: Value| known.push(KeyValue::new(key, value));
    let method = known_method(record.method).unwrap_or("_OTHER");
    tell("http.request.method", Value::word(method));
    if resends > 0 {
        tell(
            "http.request.resend_count",
            Value::Int(i64::try_from(resends).unwrap_or(i64::MAX)),
        );
    }
    let SocketAddrParts { address, port } = parts(attempt.address);
    tell("server.address", address.clone());
    tell("server.port", port.clone());
    tell("network.peer.address", address);
    tell("network.peer.port", port);
    tell(
        "network.protocol.version",
        Value::word(if attempt.http2 { "2" } else { "1.1" }),
    );
    // Of a call it is only what its status stands for.
    let status = attempt.status.filter(|_| record.grpc_status.is_none());
    if let Some(status) = status {
        tell("http.response.status_code", Value::Int(status.into()));
    }
    if failed {
        let outcome = attempt.class.map_or("", Class::label);
        let label = attempt
            .failure
            .map_or(outcome, |failure| failure.consequence().reason);
        let status = status.filter(|_| attempt.failure.is_none());
        tell("error.type", error_type(status.unwrap_or_default(), label));
    }
    tell("foreshade.cluster", text(&attempt.cluster));
    tell("foreshade.endpoint", text(&attempt.endpoint));
    let is_primary = attempt.side == Side::Primary;
    tell(
        "foreshade.side",
        Value::word(if is_primary { "primary" } else { "shadow" }),
    );
    tell("foreshade.pick", Value::word(attempt.why.label()));
    if let Some(class) = attempt.class {
        tell("foreshade.outcome", Value::word(class.label()));
    }
    if let Some(draw) = &attempt.draw {
        tell("foreshade.share", Value::Double(share_below(draw.limit).value()));
        tell(
            "foreshade.cohort",
            Value::Double(share_below(draw.position).value()),
        );
    }
    if let Some(segment) = &attempt.segment {
        tell("foreshade.segment", text(segment));
    }
    known
}

fn name(method: &[u8]) -> Bytes {
    Bytes::from_static(known_method(method).unwrap_or("HTTP").as_bytes())
}

fn known_method(method: &[u8]) -> Option<&'static str> {
    METHODS.into_iter().find(|known| known.as_bytes() == method)
}

fn version(protocol: &str) -> Option<&'static str> {
    match protocol {
        "HTTP/1.0" => Some("1.0"),
        "HTTP/1.1" => Some("1.1"),
        "HTTP/2.0" => Some("2"),
        _ => None,
    }
}

/// What a `Host` names, without the brackets of an address.
fn host_and_port(host: &[u8]) -> (String, Option<u16>) {
    let Ok(authority) = Authority::try_from(host) else {
        return Default::default();
    };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    (name.to_owned(), authority.port_u16())
}

struct SocketAddrParts {
    address: Value,
    port: Value,
}

fn parts(address: SocketAddr) -> SocketAddrParts {
    SocketAddrParts {
        address: text(&address.ip().to_canonical()),
        port: Value::Int(address.port().into()),
    }
}

fn text(text: &(impl ToString + ?Sized)) -> Value {
    Value::Text(Bytes::from(text.to_string()))
}

/// The status, where one was told that means a failure; else why there is none.
fn error_type(status: u16, label: &'static str) -> Value {
    match status {
        400.. => text(&status),
        _ => Value::word(label),
    }
}

fn status(failed: bool) -> Option<Status> {
    failed.then(|| Status {
        code: Code::Error.into(),
    })
}

/// The trace's state, where it goes on with the trace.
fn state(over: &Over<'_>) -> Bytes {
    if over.named.edit != Edit::Parent {
        return Bytes::new();
    }
    let name = TRACESTATE;
    let lines: Vec<&[u8]> = over.fields.all(&name).collect();
    let state = lines.join(&b","[..]);
    match state.len() <= STATE_BYTES_MAX && state.is_ascii() {
        true => state.into(),
        false => Bytes::new(),
    }
}
