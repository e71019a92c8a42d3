//! Spans as OTLP says them: the messages of its protobuf that a proxy needs, numbered as there.
//!
//! Written by hand and not generated, because it is a dozen of a hundred messages, and the crate that has them all
//! brings the whole of a tracing SDK along. What they say is held against the published definitions by receivers that
//! are generated from those: `tests/tests/traces.rs`, `scripts/telemetry`.
//!
//! Source: opentelemetry-proto 1.x, `trace/v1/trace.proto`, `common/v1/common.proto`, `collector/trace/v1`. Texts are
//! held as bytes, which have the same form on the wire, so that those that are always the same are not copied; all are
//! UTF-8.

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

/// Where a collector takes spans.
pub const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// What is exported at once.
#[derive(Clone, PartialEq, Message)]
pub struct ExportRequest {
    /// By who reports.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// What the collector says to it.
#[derive(Clone, PartialEq, Message)]
pub struct ExportResponse {
    /// What it did not take.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

/// What a collector did not take, and why not.
#[derive(Clone, PartialEq, Message)]
pub struct PartialSuccess {
    /// How many spans.
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    /// Why; without rejected spans a warning.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// Spans of one process.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    /// Whose they are.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// By who has made them within it.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

/// Who reports.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    /// What is true of him.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// Spans of one library.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    /// The spans.
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

/// What has made spans.
#[derive(Clone, PartialEq, Message)]
pub struct Scope {
    /// Its name.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// Its version.
    #[prost(bytes = "bytes", tag = "2")]
    pub version: Bytes,
}

/// Something that took a while.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    /// 16 bytes, not all 0.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes, not all 0.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// The W3C's `tracestate`, as it came.
    #[prost(bytes = "bytes", tag = "3")]
    pub trace_state: Bytes,
    /// 8 bytes; empty where the trace begins here.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// Its name, of which there are few.
    #[prost(bytes = "bytes", tag = "5")]
    pub name: Bytes,
    /// On which side of a call.
    #[prost(enumeration = "Kind", tag = "6")]
    pub kind: i32,
    /// Nanoseconds since 1970.
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// The same; not before the start.
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// What is known of it.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// Moments in it.
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<Event>,
    /// Whether it failed.
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
    /// The W3C's flags, and whether the parent was made by somebody else.
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
}

/// On which side of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// Not said.
    Unspecified = 0,
    /// It was asked.
    Server = 2,
    /// It asks.
    Client = 3,
}

/// A moment in a span.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Nanoseconds since 1970.
    #[prost(fixed64, tag = "1")]
    pub time_unix_nano: u64,
    /// What happened.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
}

/// Whether a span failed.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// What the conventions call it.
    #[prost(enumeration = "Code", tag = "3")]
    pub code: i32,
}

/// Whether a span failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Code {
    /// Nobody says that it did.
    Unset = 0,
    /// It did.
    Error = 2,
}

/// One thing that is known.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// What.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// How much, or which.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// A value.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// The value.
    #[prost(oneof = "Value", tags = "1, 3, 4")]
    pub value: Option<Value>,
}

/// A value.
#[derive(Clone, PartialEq, Oneof)]
pub enum Value {
    /// A text.
    #[prost(bytes = "bytes", tag = "1")]
    Text(Bytes),
    /// A whole number.
    #[prost(int64, tag = "3")]
    Int(i64),
    /// A number.
    #[prost(double, tag = "4")]
    Double(f64),
}

/// The details of an error, as gRPC packs them. Source: `google/rpc/status.proto`.
#[derive(Clone, PartialEq, Message)]
pub struct Details {
    /// Of any type each.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Detail>,
}

/// One detail. Source: `google/protobuf/any.proto`.
#[derive(Clone, PartialEq, Message)]
pub struct Detail {
    /// Which message it is.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// When to try again. Source: `google/rpc/error_details.proto`.
#[derive(Clone, PartialEq, Message)]
pub struct RetryInfo {
    /// After so long.
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<Delay>,
}

/// A time. Source: `google/protobuf/duration.proto`.
#[derive(Clone, PartialEq, Message)]
pub struct Delay {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// And so many nanoseconds.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl KeyValue {
    /// One thing that is known.
    pub fn new(key: &'static str, value: Value) -> Self {
        Self::named(Bytes::from_static(key.as_bytes()), value)
    }

    /// The same, under a name that is not known beforehand.
    pub fn named(key: Bytes, value: Value) -> Self {
        Self {
            key,
            value: Some(AnyValue { value: Some(value) }),
        }
    }
}

impl Value {
    /// A word out of a closed set.
    pub fn word(word: &'static str) -> Self {
        Self::Text(Bytes::from_static(word.as_bytes()))
    }

    /// Text that somebody else has written, cut to so many bytes, with marks in the place of what is no text.
    pub fn text(bytes: &[u8], bytes_max: usize) -> Self {
        let mut text = String::from_utf8_lossy(bytes.get(..bytes_max).unwrap_or(bytes)).into_owned();
        // A mark is longer than what it stands for.
        let mut end = bytes_max.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        // Room for marks is three times as much, and spans may wait for long.
        text.shrink_to_fit();
        Self::Text(Bytes::from(text))
    }
}
