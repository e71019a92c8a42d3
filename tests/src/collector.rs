//! A collector of traces, as far as a test has to look into one: gRPC over HTTP/2, and what it was told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut as _, Bytes, BytesMut};
use foreshade_proxy::trace::otlp::{self, EXPORT, ExportRequest, ExportResponse, KeyValue, Value};
use h2::server::Builder;
use http::{HeaderMap, HeaderValue, Response};
use prost::Message as _;
use tokio::runtime::Runtime;

use crate::http2::{Came, Endpoint, next, send};

/// What a collector says to a message.
#[derive(Clone, Debug)]
pub enum Reply {
    /// It takes it, and says this.
    Take(ExportResponse),
    /// It does not, with this status of gRPC and these details.
    Refuse(u32, Vec<u8>),
    /// Nothing.
    Silence,
}

/// A message that has come.
#[derive(Clone, Debug)]
pub struct Message {
    /// What it said beside its spans.
    pub headers: HeaderMap,
    /// What is true of who reports.
    pub resource: BTreeMap<String, String>,
    /// Its spans.
    pub spans: Vec<Span>,
}

/// A span, in a form that can be compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// In hexadecimal.
    pub trace: String,
    /// In hexadecimal.
    pub id: String,
    /// In hexadecimal; empty where it has none.
    pub parent: String,
    /// The W3C's state.
    pub state: String,
    /// Its name.
    pub name: String,
    /// 2 of who is asked, 3 of who asks.
    pub kind: i32,
    /// Whether it failed.
    pub failed: bool,
    /// Flags.
    pub flags: u32,
    /// Nanoseconds since 1970: from and to.
    pub times: (u64, u64),
    /// What is known of it, in text.
    pub known: BTreeMap<String, String>,
    /// Moments, by name.
    pub events: Vec<(String, u64)>,
}

impl Span {
    /// One thing that is known of it; empty where it is not.
    pub fn known(&self, key: &str) -> &str {
        self.known.get(key).map(String::as_str).unwrap_or_default()
    }
}

/// A collector; ends when it is dropped.
#[derive(Debug)]
pub struct Collector {
    /// Where it listens.
    pub address: SocketAddr,
    messages: Arc<Mutex<Vec<Message>>>,
    _runtime: Runtime,
}

impl Collector {
    /// Takes everything.
    pub fn start() -> Self {
        Self::replying(|_| Reply::Take(ExportResponse::default()))
    }

    /// Says to each message, counted from 0, what the test says.
    ///
    /// # Panics
    /// When it cannot start.
    pub fn replying(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let messages = Arc::<Mutex<Vec<Message>>>::default();
        let (own, reply) = (messages.clone(), Arc::new(reply));
        let endpoint = runtime.block_on(Endpoint::start(Builder::new(), move |came| {
            let (messages, reply) = (own.clone(), reply.clone());
            async move {
                let (message, came) = message(came).await;
                let nth = {
                    let mut messages = messages.lock().unwrap_or_else(PoisonError::into_inner);
                    messages.push(message);
                    messages.len() - 1
                };
                answer(came, reply(nth)).await;
            }
        }));
        Self {
            address: endpoint.address,
            messages,
            _runtime: runtime,
        }
    }

    /// All messages so far.
    pub fn messages(&self) -> Vec<Message> {
        self.messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// All spans so far, those of messages that were refused among them.
    pub fn spans(&self) -> Vec<Span> {
        self.messages()
            .into_iter()
            .flat_map(|message| message.spans)
            .collect()
    }

    /// Those on this side.
    pub fn spans_of(&self, kind: i32) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| span.kind == kind);
        spans
    }
}

/// The kinds of spans that a proxy makes.
pub const SERVER: i32 = otlp::Kind::Server as i32;
/// The same, of attempts.
pub const CLIENT: i32 = otlp::Kind::Client as i32;

async fn message(mut came: Came) -> (Message, Came) {
    assert_eq!(came.head.uri.path(), EXPORT);
    let mut body = BytesMut::new();
    while let Some(piece) = next(&mut came.body).await {
        body.extend_from_slice(&piece.expect("the message is whole"));
    }
    // Not compressed, and as long as it says.
    let (frame, rest) = body.split_at(5);
    assert_eq!(frame[0], 0);
    assert_eq!(
        rest.len(),
        u32::from_be_bytes([frame[1], frame[2], frame[3], frame[4]]) as usize
    );
    let request = ExportRequest::decode(rest).expect("it is a request");
    let message = Message {
        headers: came.head.headers.clone(),
        resource: request
            .resource_spans
            .iter()
            .filter_map(|spans| spans.resource.as_ref())
            .flat_map(|resource| known(&resource.attributes))
            .collect(),
        spans: request
            .resource_spans
            .into_iter()
            .flat_map(|spans| spans.scope_spans)
            .flat_map(|spans| spans.spans)
            .map(|span| read(&span))
            .collect(),
    };
    (message, came)
}

async fn answer(mut came: Came, reply: Reply) {
    let (code, details, response) = match reply {
        Reply::Take(response) => (0, Vec::new(), Some(response)),
        Reply::Refuse(code, details) => (code, details, None),
        Reply::Silence => return std::future::pending().await,
    };
    let head = Response::builder()
        .header("content-type", "application/grpc")
        .body(());
    let Ok(mut sending) = came.respond.send_response(head.expect("a head"), false) else {
        return;
    };
    if let Some(response) = response {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(response.encoded_len()).expect("it is short"));
        response.encode(&mut frame).expect("there is room");
        send(&mut sending, frame.freeze(), false).await;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(code));
    if !details.is_empty() {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(details);
        trailers.insert(
            "grpc-status-details-bin",
            HeaderValue::from_str(&text).expect("it is text"),
        );
    }
    // Whoever asked may have gone.
    let _ = sending.send_trailers(trailers);
}

fn read(span: &otlp::Span) -> Span {
    Span {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        state: text(&span.trace_state),
        name: text(&span.name),
        kind: span.kind,
        failed: span
            .status
            .as_ref()
            .is_some_and(|status| status.code == otlp::Code::Error as i32),
        flags: span.flags,
        times: (span.start_time_unix_nano, span.end_time_unix_nano),
        known: known(&span.attributes),
        events: span
            .events
            .iter()
            .map(|event| (text(&event.name), event.time_unix_nano))
            .collect(),
    }
}

fn known(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let value = |pair: &KeyValue| match pair.value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(Value::Text(bytes)) => text(bytes),
        Some(Value::Int(number)) => number.to_string(),
        Some(Value::Double(number)) => number.to_string(),
        None => String::new(),
    };
    let all: BTreeMap<_, _> = attributes
        .iter()
        .map(|pair| (text(&pair.key), value(pair)))
        .collect();
    assert_eq!(
        all.len(),
        attributes.len(),
        "a key stands there twice: {attributes:?}"
    );
    all
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).expect("texts are UTF-8")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
