//! What is told of a request, whichever engine serves it: its name, to the endpoint and to the client; and how it went, to
//! the access log, and in spans.
//!
//! All of it does nothing, at the cost of a look, where the configuration does not ask for it.

use std::borrow::Cow;

use foreshade_engine::moment::Moment;
use http::header::{HOST, REFERER, USER_AGENT};
use http::{HeaderName, HeaderValue};

use crate::access_log::line::milliseconds;
use crate::access_log::{Reason, Record, Trail};
use crate::fields::Fields;
use crate::framing::Refusal;
use crate::server::local::Local;
use crate::trace::context::TraceContext;
use crate::trace::spans::Over;
use crate::trace::{self, Named, Namer};
use crate::worker::{Admission, Flow};

/// Where the time went. Source: W3C Server Timing, section 2.
pub(crate) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What is to be told of a request. Made only where somebody is to be told.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) named: Named,
    /// When the first byte was there, if anybody looked, and the head.
    begun: Option<Moment>,
    arrived: Moment,
    tell_client: bool,
    /// Its spans are reported.
    traced: bool,
    /// Its client is told where the time went.
    timed: bool,
    /// Why it ended, if it went to no cluster: the word, and which rule it broke.
    pub(crate) unsent: (Reason, &'static str),
}

/// A request, as its line tells of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) protocol: &'static str,
    pub(crate) fields: Fields<'a>,
}

/// Names a request that has come. Before its route is found, because what a route answers may tell the name.
pub(crate) fn named<'a>(local: &mut Local, headers: impl Into<Fields<'a>>) -> Named {
    let namer = local.namer.as_mut();
    namer.map(|namer| namer.name(headers)).unwrap_or_default()
}

impl Report {
    /// The request's head is there, its first byte since `begun`, and it is known what becomes of it.
    pub(crate) fn arrived(
        local: &Local,
        begun: Option<Moment>,
        admission: &mut Result<Admission, Refusal>,
        named: Named,
    ) -> Option<Self> {
        let timed = matches!(admission, Ok(Admission::Forward(flow)) if flow.is_timed());
        if local.namer.is_none() && local.log.is_none() && !timed {
            return None;
        }
        let sampled = named.trace.filter(TraceContext::is_sampled);
        let traced = sampled.filter(|_| local.spans.is_some());
        if let (Ok(Admission::Forward(flow)), Some(span)) = (&mut *admission, traced) {
            flow.trace(span);
        }
        let (flow, unsent) = match &*admission {
            Ok(Admission::Forward(flow)) => (Some(flow), (Reason::Ok, flow.fault())),
            Ok(Admission::Answer(answer)) if answer.refused => (None, (Reason::Policy, answer.reason)),
            Ok(Admission::Answer(answer)) => (None, (Reason::Answered, answer.reason)),
            Ok(Admission::Unrouted | Admission::Wait(_)) => (None, (Reason::NoRoute, "")),
            Err(why) => (None, (Reason::Rejected, why.label())),
        };
        let now = flow.map_or_else(|| local.worker.clock().now(), Flow::arrived);
        Some(Self {
            tell_client: local.namer.as_ref().is_some_and(Namer::tells_the_client),
            named,
            begun,
            arrived: now,
            traced: traced.is_some(),
            timed,
            unsent,
        })
    }

    /// An attempt has begun, which may have a span of its own.
    pub(crate) fn started(&mut self, flow: &Flow) {
        self.named.attempt = flow.traced().and_then(|traced| Some(traced.last()?.span));
    }

    /// Whether anybody may be told how it went.
    pub(crate) fn may_be_told(&self, local: &Local) -> bool {
        self.traced || local.log.is_some()
    }

    /// What the client is told of where the time of an endpoint's answer went, whose head is there; `None` where he is told
    /// nothing.
    pub(crate) fn server_timing(&self, flow: &Flow) -> Option<HeaderValue> {
        let at = flow.first_byte().filter(|_| self.timed)?;
        let mut told = Vec::with_capacity(96);
        for (name, time) in flow.trail(self.begun).until_answered(at) {
            let Some(time) = time else { continue };
            if !told.is_empty() {
                told.extend_from_slice(b", ");
            }
            told.extend_from_slice(name.as_bytes());
            told.extend_from_slice(b";dur=");
            milliseconds(&mut told, time);
        }
        HeaderValue::from_maybe_shared(bytes::Bytes::from(told)).ok()
    }

    /// The name that the endpoint sees of a request that came with these headers; empty where it has none.
    pub(crate) fn request_id<'a>(&'a self, came: Fields<'a>) -> &'a [u8] {
        trace::known_as(self.named.made.as_ref(), Some(came)).unwrap_or_default()
    }

    /// The same, where the client is to know it.
    pub(crate) fn told<'a>(&'a self, came: Fields<'a>) -> Option<&'a [u8]> {
        Some(self.request_id(came)).filter(|id| self.tell_client && !id.is_empty())
    }

    /// A sentence of our own, with the request's name where the client is to know it.
    pub(crate) fn named_in(&self, came: Fields<'_>, sentence: &'static str) -> Cow<'static, str> {
        match self.told(came) {
            // A name has none but visible characters.
            Some(id) => format!("{sentence} (request {})", String::from_utf8_lossy(id)).into(),
            None => sentence.into(),
        }
    }

    /// Completes a line by what the request and its report know, and writes it, if it is one of those that are written; makes
    /// its spans, if it is one of those that are reported.
    pub(crate) fn write(self, local: &mut Local, asked: &Asked<'_>, flow: Option<&Flow>, line: &Record<'_>) {
        let Local {
            log, spans, worker, ..
        } = local;
        let log = log
            .as_mut()
            .and_then(|log| log.wants(line.status, line.reason).then_some(log));
        let spans = spans.as_mut().filter(|_| self.traced);
        if log.is_none() && spans.is_none() {
            return;
        }
        let trail = match flow {
            Some(flow) => flow.trail(self.begun),
            None => Trail::arrived(self.begun, self.arrived),
        };
        let fields = asked.fields;
        let header = |name: &HeaderName| fields.get(name).unwrap_or_default();
        let now = worker.clock().now();
        let record = Record {
            host: header(&HOST),
            method: asked.method,
            target: asked.target,
            protocol: asked.protocol,
            times: trail.times(now),
            served: flow.and_then(|flow| worker.served_by(flow)),
            request_id: self.request_id(fields),
            trace: self.named.trace.or_else(|| TraceContext::of(fields)),
            referer: header(&REFERER),
            user_agent: header(&USER_AGENT),
            ..*line
        };
        if let Some(log) = log {
            log.write(&record);
        }
        if let Some(spans) = spans {
            spans.tell(&Over {
                record: &record,
                named: &self.named,
                fields,
                attempts: flow.and_then(Flow::traced),
                now,
            });
        }
    }
}
