//! Names for requests, so that one request can be found in the logs of everybody who saw it: `x-request-id`, and the
//! W3C's `traceparent`.
//!
//! Both pass untouched unless the configuration asks for more, because both cost a header per request, and because a
//! span that nobody reports leaves a hole in the trace of those who do. Where a collector is configured, the spans of
//! traces that are marked to be recorded are reported to it ([`spans`], [`export`]); all others stand in the access log
//! and nowhere else. What came is never trusted: a name that is too long or has other characters than a name is not
//! logged, and replaced where names are made. Names are drawn from the worker's own generator, without a system call;
//! they are unique, not secret.

pub mod context;

pub(crate) mod attempts;
pub(crate) mod spans;

pub mod export;
pub mod otlp;

use http::HeaderName;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::config::{Config, RequestIds, TraceMode, Traces};
use crate::fields::{Fields, write_line};

pub use self::context::TraceContext;

/// The name of a request. No standard, but what nginx, Envoy and HAProxy call it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Source: W3C Trace Context, section 3.2.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Source: W3C Trace Context, section 3.3.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longest name that is kept: four times a UUID, so that those who build names out of several still fit.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// A name that was made here: 128 random bits in hexadecimal.
pub type MadeId = [u8; 32];

/// What a worker does to name requests. There is none where the configuration asks for nothing.
#[derive(Debug)]
pub struct Namer {
    ids: RequestIds,
    traces: Traces,
    rng: SmallRng,
}

/// What was found out and made for one request. The header of a kept name stays where it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Named {
    /// The name that was made, because none came or none that could be kept.
    pub made: Option<MadeId>,
    /// The trace, with the span of this proxy.
    pub trace: Option<TraceContext>,
    /// The span that it is a child of, in hexadecimal; `None` where the trace begins here.
    pub parent: Option<[u8; 16]>,
    /// The trace, with the span of the attempt at hand, where attempts have spans of their own.
    pub attempt: Option<TraceContext>,
    /// What to do with the headers on their way to the endpoint.
    pub edit: Edit,
}

/// What to do with the trace's headers on their way to the endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edit {
    /// Nothing.
    #[default]
    Pass,
    /// Write `traceparent`, keep `tracestate`.
    Parent,
    /// Write `traceparent`, drop `tracestate`: it is not valid, or of no valid trace.
    ParentAlone,
    /// Drop both.
    Drop,
}

impl Namer {
    /// `None` where requests keep the names that they bring.
    pub fn new(config: &Config) -> Option<Self> {
        let (ids, traces) = (config.request_ids, config.traces);
        let asked = ids != RequestIds::default() || traces.mode != TraceMode::Pass;
        asked.then(|| Self {
            ids,
            traces,
            rng: SmallRng::from_rng(&mut rand::rng()),
        })
    }

    /// Names a request that came with these headers.
    pub fn name<'a>(&mut self, headers: impl Into<Fields<'a>>) -> Named {
        let headers = headers.into();
        let made = (self.ids.make && request_id(headers).is_none()).then(|| hex(self.rng.random::<u128>()));
        match self.traces.mode {
            TraceMode::Pass => Named {
                made,
                ..Named::default()
            },
            mode => Named {
                made,
                ..self.trace(headers, mode)
            },
        }
    }

    /// Whether the client is told the name.
    pub fn tells_the_client(&self) -> bool {
        self.ids.to_client
    }

    fn trace(&mut self, headers: Fields<'_>, mode: TraceMode) -> Named {
        if let Some(came) = TraceContext::of(headers) {
            return Named {
                trace: Some(came.child(self.not_zero())),
                parent: Some(*came.span_id()),
                edit: match context::is_tracestate(headers) {
                    true => Edit::Parent,
                    false => Edit::ParentAlone,
                },
                ..Named::default()
            };
        }
        let begun = (mode == TraceMode::Start).then(|| {
            let sampled = self.rng.random::<f64>() < self.traces.sampled;
            TraceContext::begin(self.rng.random::<u128>().max(1), self.not_zero(), sampled)
        });
        Named {
            trace: begun,
            edit: match begun {
                Some(_) => Edit::ParentAlone,
                None => Edit::Drop,
            },
            ..Named::default()
        }
    }

    fn not_zero(&mut self) -> u64 {
        self.rng.next_u64().max(1)
    }
}

impl Named {
    /// What the endpoint is told: the span that its own are to be children of.
    pub fn told(&self) -> Option<TraceContext> {
        self.attempt.or(self.trace)
    }

    /// Whether a line of this name that came does not go on to the endpoint, because [`Named::write_lines`] says what is to be
    /// said.
    pub fn replaces(&self, name: &[u8]) -> bool {
        let is = |header: &HeaderName| name.eq_ignore_ascii_case(header.as_str().as_bytes());
        self.made.is_some() && is(&REQUEST_ID)
            || self.edit != Edit::Pass && is(&TRACEPARENT)
            || matches!(self.edit, Edit::ParentAlone | Edit::Drop) && is(&TRACESTATE)
    }

    /// Writes the lines that tell the endpoint, for whoever writes a head line by line.
    pub fn write_lines(&self, out: &mut Vec<u8>) {
        if let Some(id) = &self.made {
            write_line(REQUEST_ID.as_str().as_bytes(), id, out);
        }
        if let Some(trace) = self.told() {
            write_line(TRACEPARENT.as_str().as_bytes(), &trace.header(), out);
        }
    }
}

/// The name that a request brings, if it is one: letters, digits and a few signs that mean nothing to a shell, a query or
/// a log. A request that brings several names brings none.
pub fn request_id<'a>(headers: impl Into<Fields<'a>>) -> Option<&'a [u8]> {
    let id = headers.into().only(&REQUEST_ID)?;
    let sound = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
    ((1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(sound)).then_some(id)
}

/// The name that the endpoint sees: the one that was made, else the one that came, else none.
pub fn known_as<'a>(made: Option<&'a MadeId>, came: Option<Fields<'a>>) -> Option<&'a [u8]> {
    made.map(|id| &id[..]).or_else(|| request_id(came?))
}

/// Sixteen bytes in hexadecimal.
fn hex(number: u128) -> MadeId {
    let mut text = MadeId::default();
    context::write_hex(&number.to_be_bytes(), &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    fn namer(ids: RequestIds, mode: TraceMode) -> Namer {
        let traces = Traces { mode, sampled: 1.0 };
        let rng = SmallRng::seed_from_u64(1);
        Namer { ids, traces, rng }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    const MAKE: RequestIds = RequestIds {
        make: true,
        to_client: false,
    };
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_well_formed_name_is_kept_and_any_other_is_replaced() {
        let mut namer = namer(MAKE, TraceMode::Pass);
        let long = "x".repeat(REQUEST_ID_BYTES_MAX + 1);
        for (lines, kept) in [
            (vec![("x-request-id", "4bf92f35-77b3_4da6.a:3+/=@")], true),
            (vec![("x-request-id", &long[1..])], true),
            (vec![("x-request-id", long.as_str())], false),
            (vec![("x-request-id", "")], false),
            (vec![("x-request-id", "a b")], false),
            (vec![("x-request-id", "a\"b")], false),
            (vec![("x-request-id", "\u{e9}")], false),
            (vec![("x-request-id", "a"), ("x-request-id", "a")], false),
            (vec![], false),
        ] {
            let headers = headers(&lines);
            assert_eq!(request_id(&headers).is_some(), kept, "{lines:?}");
            assert_eq!(namer.name(&headers).made.is_none(), kept, "{lines:?}");
        }
    }

    #[test]
    fn made_names_are_lower_case_hexadecimal_and_differ() {
        let mut namer = namer(MAKE, TraceMode::Pass);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let id = namer.name(&HeaderMap::new()).made.unwrap();
            assert!(
                id.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)),
                "{id:?}"
            );
            assert!(seen.insert(id));
        }
    }

    #[test]
    fn nothing_is_done_where_nothing_was_asked_for() {
        let named =
            namer(RequestIds::default(), TraceMode::Pass).name(&headers(&[("traceparent", "broken")]));
        assert!(named.made.is_none() && named.trace.is_none());
        assert_eq!(named.edit, Edit::Pass);
    }

    #[test]
    fn a_valid_trace_goes_on_in_a_span_of_our_own() {
        for mode in [TraceMode::Join, TraceMode::Start] {
            let came = TraceContext::of(&headers(&[("traceparent", PARENT)])).unwrap();
            let named = namer(MAKE, mode).name(&headers(&[("traceparent", PARENT), ("tracestate", "a=1")]));
            let trace = named.trace.unwrap();
            assert_eq!(trace.trace_id(), came.trace_id());
            assert_ne!(trace.span_id(), came.span_id());
            assert_eq!(named.parent.as_ref(), Some(came.span_id()));
            assert!(trace.is_sampled());
            assert_eq!(named.edit, Edit::Parent);
        }
    }

    #[test]
    fn the_state_of_a_trace_does_not_outlive_the_trace_or_its_own_errors() {
        let broken = headers(&[("traceparent", "00-broken"), ("tracestate", "a=1")]);
        assert_eq!(namer(MAKE, TraceMode::Join).name(&broken).edit, Edit::Drop);
        let begun = namer(MAKE, TraceMode::Start).name(&broken);
        assert_eq!(begun.edit, Edit::ParentAlone);
        assert!(begun.trace.is_some());
        let state = headers(&[("traceparent", PARENT), ("tracestate", "broken")]);
        assert_eq!(namer(MAKE, TraceMode::Join).name(&state).edit, Edit::ParentAlone);
    }

    #[test]
    fn only_the_share_that_is_asked_for_is_marked_to_be_recorded() {
        let mut namer = namer(MAKE, TraceMode::Start);
        namer.traces.sampled = 0.25;
        let marked = (0..4000).filter(|_| namer.name(&HeaderMap::new()).trace.unwrap().is_sampled());
        let marked = marked.count();
        assert!((900..1100).contains(&marked), "{marked}");
    }

    proptest! {
        #[test]
        fn a_kept_name_has_nothing_that_a_log_or_a_shell_reads(value in prop::collection::vec(0x20u8..=0xff, 0..200)) {
            let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, value);
            if let Some(id) = request_id(&headers) {
                prop_assert!(id.len() <= REQUEST_ID_BYTES_MAX && id.is_ascii());
                let dangerous = b" \"'\\`$;&|<>(){}[]*?!#%,\x7f";
                prop_assert!(!id.iter().any(|b| dangerous.contains(b)));
            }
        }
    }
}
