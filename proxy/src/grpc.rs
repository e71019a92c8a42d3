//! What this proxy knows of gRPC: which requests are calls, how long they may take, and what a status says of an endpoint.
//!
//! A call is a POST of HTTP/2 whose answer has the status 200 whatever became of it; what became of it stands behind the
//! messages, in a trailer, or in the head where there are none. Everything that decides by a status (risk, failover,
//! ledger, counters) therefore gets the status of HTTP that a gRPC status stands for, from one table: a call and a plain
//! request that failed in the same way are then the same to all of them. Messages are never looked into.
//!
//! Pages of browsers make calls [in another form](web), which becomes this one here.
//!
//! Sources: grpc/grpc `doc/PROTOCOL-HTTP2.md`, `doc/statuscodes.md`, `doc/http-grpc-status-mapping.md`.

pub(crate) mod web;

use std::fmt::Write as _;
use std::time::Duration;

use h2::Reason;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::fields::Fields;

/// The type of calls and of their answers; behind it may stand how messages are written.
pub(crate) const CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");

/// How a call ended.
pub(crate) static STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The same in words.
pub(crate) static MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// How long a call may take.
static TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Most digits of a timeout.
const TIMEOUT_DIGITS_MAX: usize = 8;

/// Longest message that is told, before it is escaped: as long as a line of ours.
const MESSAGE_BYTES_MAX: usize = 1024;

/// The codes that are told by this proxy or read by it. Source: `statuscodes.md`.
mod code {
    pub(super) const OK: u8 = 0;
    pub(super) const CANCELLED: u8 = 1;
    pub(super) const UNKNOWN: u8 = 2;
    pub(super) const DEADLINE_EXCEEDED: u8 = 4;
    pub(super) const PERMISSION_DENIED: u8 = 7;
    pub(super) const RESOURCE_EXHAUSTED: u8 = 8;
    pub(super) const UNIMPLEMENTED: u8 = 12;
    pub(super) const INTERNAL: u8 = 13;
    pub(super) const UNAVAILABLE: u8 = 14;
    pub(super) const DATA_LOSS: u8 = 15;
    pub(super) const UNAUTHENTICATED: u8 = 16;
}

/// How a call ended: a code that gRPC knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(u8);

impl Status {
    /// What `trailers`, or a head without any, say; [`Self::MISSING`] where they say nothing that gRPC knows.
    pub(crate) fn of(trailers: &HeaderMap) -> Self {
        let said = trailers
            .get(&STATUS)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        said.filter(|code| *code <= code::UNAUTHENTICATED)
            .map_or(Self::MISSING, Self)
    }

    /// An answer that does not say how it ended is one of a broken server: clients take it for this.
    pub(crate) const MISSING: Self = Self(code::UNKNOWN);

    /// Its number.
    pub fn code(self) -> u8 {
        self.0
    }

    /// The status of HTTP that says the same of the endpoint, by the table in docs/grpc.md. `has_deadline` is a call whose
    /// client said how long it may take: what he then missed by was his to choose.
    pub(crate) fn as_http(self, has_deadline: bool) -> u16 {
        match self.0 {
            code::OK => 200,
            code::CANCELLED => 499,
            code::DEADLINE_EXCEEDED if has_deadline => 499,
            code::DEADLINE_EXCEEDED => 504,
            code::RESOURCE_EXHAUSTED => 429,
            code::UNAVAILABLE => 503,
            code::UNKNOWN | code::INTERNAL | code::DATA_LOSS => 500,
            // Among them UNIMPLEMENTED: what nobody serves is asked for by a client who errs.
            _ => 400,
        }
    }

    /// What a client is told instead of an answer of HTTP with this status that no endpoint gave.
    pub(crate) fn of_http(status: u16) -> Self {
        Self(match status {
            200..=399 => code::UNKNOWN,
            401 => code::UNAUTHENTICATED,
            403 => code::PERMISSION_DENIED,
            404 => code::UNIMPLEMENTED,
            408 | 504 => code::DEADLINE_EXCEEDED,
            413 | 429 | 431 => code::RESOURCE_EXHAUSTED,
            499 => code::CANCELLED,
            400..=498 => code::INTERNAL,
            502 | 503 => code::UNAVAILABLE,
            _ => code::INTERNAL,
        })
    }

    /// What a client is told where an endpoint has broken a stream off for this reason. Source: `PROTOCOL-HTTP2.md`,
    /// "Errors".
    pub(crate) fn of_reset(reason: Reason) -> Self {
        Self(match reason {
            Reason::REFUSED_STREAM => code::UNAVAILABLE,
            Reason::CANCEL => code::CANCELLED,
            Reason::ENHANCE_YOUR_CALM => code::RESOURCE_EXHAUSTED,
            Reason::INADEQUATE_SECURITY => code::PERMISSION_DENIED,
            _ => code::INTERNAL,
        })
    }

    /// What a client is told where the connection to the endpoint broke.
    pub(crate) const BROKE: Self = Self(code::UNAVAILABLE);

    /// What a client is told whose call has rested, or lasted, for too long.
    pub(crate) const LATE: Self = Self(code::DEADLINE_EXCEEDED);

    /// Says it, in a head or in trailers.
    pub(crate) fn tell(self, message: &str, mut say: impl FnMut(&HeaderName, HeaderValue)) {
        say(&STATUS, HeaderValue::from(u16::from(self.0)));
        if let Ok(message) = HeaderValue::from_str(&escaped(message)) {
            say(&MESSAGE, message);
        }
    }
}

/// How a client makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// In frames of HTTP/2.
    Native,
    /// As a page does, in whichever version of HTTP.
    Web(web::Call),
}

impl Call {
    /// What a request is that came with these headers; `None` for one that is no call.
    pub(crate) fn of(headers: &HeaderMap, by_http2: bool) -> Option<Self> {
        match by_http2 && is_call(headers) {
            true => Some(Self::Native),
            false => web::Call::of(headers).map(Self::Web),
        }
    }

    /// Where it is made as a page does.
    pub(crate) fn web(self) -> Option<web::Call> {
        match self {
            Self::Native => None,
            Self::Web(call) => Some(call),
        }
    }

    /// The type of an answer by which it ends.
    pub(crate) fn kind(self) -> HeaderValue {
        self.web().map_or(CONTENT, |call| call.kind(None))
    }
}

/// Whether a request, or an answer, is of gRPC.
pub(crate) fn is_call<'a>(headers: impl Into<Fields<'a>>) -> bool {
    let plain = CONTENT;
    let Some(kind) = headers.into().get(&CONTENT_TYPE) else {
        return false;
    };
    let rest = kind
        .get(..plain.len())
        .filter(|kind| kind.eq_ignore_ascii_case(plain.as_bytes()));
    // Not gRPC-Web, which is written otherwise.
    rest.is_some() && matches!(kind.get(plain.len()), None | Some(b'+' | b';' | b' '))
}

/// How long the client lets a call take; `None` where he does not say, or nothing sensible.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(&TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > TIMEOUT_DIGITS_MAX || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(3600 * count),
        "M" => Duration::from_secs(60 * count),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// A message as a header says it: what is not plain text is escaped as in a URL. Source: `PROTOCOL-HTTP2.md`,
/// "Status-Message".
fn escaped(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for byte in message.trim_end().bytes().take(MESSAGE_BYTES_MAX) {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreshade_engine::outcome::Class;

    fn headers(name: &HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name.clone(), HeaderValue::from_static(value))])
    }

    #[test]
    fn calls_are_told_from_what_only_looks_like_them() {
        for (kind, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/GRPC; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcs", false),
            ("application/json", false),
            ("application/grp", false),
        ] {
            assert_eq!(is_call(&headers(&CONTENT_TYPE, kind)), is, "{kind}");
        }
        assert!(!is_call(&HeaderMap::new()));
    }

    #[test]
    fn timeouts_are_read_as_they_are_written() {
        for (written, time) in [
            ("1S", Some(Duration::from_secs(1))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("2M", Some(Duration::from_secs(120))),
            ("3H", Some(Duration::from_secs(10_800))),
            ("7u", Some(Duration::from_micros(7))),
            ("0m", Some(Duration::ZERO)),
            ("999999999m", None),
            ("-1S", None),
            ("1", None),
            ("S", None),
            ("1s", None),
            ("", None),
        ] {
            assert_eq!(timeout(&headers(&TIMEOUT, written)), time, "{written:?}");
        }
    }

    /// The same table as in the document.
    #[test]
    fn what_a_status_says_of_an_endpoint_stands_in_the_document() {
        let document = include_str!("../../docs/grpc.md");
        let names = [
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        ];
        for (code, name) in (0..).zip(names) {
            let status = Status(code).as_http(false);
            let class = Class::of_status(status, false).label();
            let row = format!("| {code} `{name}` | {status} | `{class}` |");
            assert!(document.contains(&row), "docs/grpc.md has no row {row}");
        }
    }

    #[test]
    fn a_deadline_that_the_client_chose_is_not_held_against_the_endpoint() {
        let late = Status(code::DEADLINE_EXCEEDED);
        assert!(Class::of_status(late.as_http(false), false).is_bad());
        assert!(!Class::of_status(late.as_http(true), false).is_bad());
    }

    #[test]
    fn what_says_no_status_is_unknown_and_the_endpoints_fault() {
        for said in ["", "17", "-1", "zero", "256"] {
            assert_eq!(Status::of(&headers(&STATUS, said)), Status::MISSING, "{said}");
        }
        assert_eq!(Status::of(&HeaderMap::new()), Status::MISSING);
        assert_eq!(Status::of(&headers(&STATUS, "14")).code(), 14);
        assert!(Class::of_status(Status::MISSING.as_http(false), false).is_bad());
    }

    #[test]
    fn a_message_is_one_line_of_plain_text() {
        assert_eq!(escaped("foreshade: 100% gone\n"), "foreshade: 100%25 gone");
        assert_eq!(escaped("h\u{e9}\r\n a"), "h%C3%A9%0D%0A a");
    }
}
