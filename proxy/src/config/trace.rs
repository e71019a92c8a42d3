//! The proxy's part in distributed traces: what becomes of `traceparent`, and who is told of spans.
//!
//! Spans name paths, users' addresses and endpoints, so they are reported nowhere where nothing is said. Whoever reports
//! them has to be seen in the trace, or they would hang beside it: so `export` needs a `mode` that gives requests a span.
//! Whoever writes `mode: pass` beside it has switched tracing off, which a reload can do and leaving out `export` cannot.

use std::path::PathBuf;
use std::time::Duration;

use foreshade_settings::{
    AbsolutePath, Address, At, Count, Lasting, List, Mistake, Mistakes, Part, Scalar, Wrong, choice, millis,
    seconds, section, text,
};
use http::{HeaderName, HeaderValue};

use super::follow::{ControllerTls, TlsKeys, tls};
use super::text::{Content, Header};

/// Spans that are sent at once. More would come near the 4 MiB that a collector takes in one message: a span has a
/// little more than three kilobytes there at most.
const BATCH_MAX: u32 = 1024;

/// Spans that may wait: three hundred megabytes where clients choose the longest texts, and mostly half of it.
const QUEUE_MAX: u32 = 65_536;

/// Where a collector listens for gRPC, if nothing else is said. Source: OTLP specification, "OTLP/gRPC default port".
const PORT: u16 = 4317;

/// The proxy's part in traces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traces {
    /// What is done with `traceparent`.
    pub mode: TraceMode,
    /// The share of traces begun here that are marked to be recorded, above 0 and up to 1.
    pub sampled: f64,
}

/// What is done with `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceMode {
    /// It passes as it came.
    Pass,
    /// A valid one gets a span of the proxy's own; an invalid one is removed.
    Join,
    /// The same, and a request without a valid one begins a trace.
    Start,
}

/// Who is told of spans, and how: OTLP over gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceExport {
    /// The collector's URL: scheme, host and port.
    pub endpoint: String,
    /// What this proxy is called there (`service.name`).
    pub service: String,
    /// What else is true of all of its spans.
    pub attributes: Vec<(String, String)>,
    /// What each message says beside its spans: names and values.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The file with the token that proves who this proxy is.
    pub token_file: Option<PathBuf>,
    /// Whom the proxy believes and what it shows of itself; whom this machine trusts where `None`. Only with https.
    pub tls: Option<ControllerTls>,
    /// How long the collector may take for one message.
    pub timeout: Duration,
    /// How long a span may wait for others.
    pub delay: Duration,
    /// Most spans in one message.
    pub batch: usize,
    /// Most spans that wait.
    pub queue: usize,
}

section! {
    /// The proxy's part in distributed traces.
    TraceKeys "a trace section":
    /// pass leaves traceparent as it came; join gives a valid one a span of this proxy and removes an invalid one;
    /// start does the same and begins a trace where there is none.
    mode "mode": default At<TraceMode> = TraceMode::Pass;
    /// Share of the traces begun here that are marked to be recorded.
    sampled "sampled": default Part = Part(1.0);
    /// Who is told of the spans of traces that are marked to be recorded; nobody where left out, or while mode is pass.
    export "export": optional At<ExportKeys>;
}

section! {
    /// Where spans are reported.
    ExportKeys "a trace export":
    /// The collector, which speaks OTLP over gRPC; port 4317 where left out.
    endpoint "endpoint": required At<Collector>;
    /// What this proxy is called there (service.name).
    service "service": default Content = Content("foreshade-proxy".to_owned());
    /// What else is true of this proxy, told once per message.
    attributes "attributes": list List<Attribute, 0>;
    /// Headers of each message, as a tenant.
    headers "headers": list List<CollectorHeader, 0>;
    /// File with the bearer token that the collector asks for. Others may not read it.
    token_file "tokenFile": optional AbsolutePath;
    /// TLS with authorities of one's own, or a certificate of the proxy's; those that this machine trusts where left out.
    /// Only with https.
    tls "tls": optional At<TlsKeys>;
    /// How long the collector may take for one message.
    timeout "timeout": default Lasting<1, 60_000> = seconds(10);
    /// How long a span may wait for others, to be sent together.
    delay "delay": default Lasting<1, 60_000> = millis(1000);
    /// Most spans in one message.
    batch "batch": default Count<1, BATCH_MAX> = Count(512);
    /// Most spans that wait while the collector is slow or gone. What comes then is dropped, and counted.
    queue "queue": default Count<1, QUEUE_MAX> = Count(4096);
}

section! {
    /// Something that is true of all spans.
    Attribute "an attribute":
    /// Its name, as deployment.environment.name.
    name "name": required At<Content>;
    /// Its value.
    value "value": required Content;
}

section! {
    /// A header of each message.
    CollectorHeader "a header":
    /// Name of the header.
    name "name": required At<Header>;
    /// Its value.
    value "value": required Content;
}

choice!(TraceMode: "pass" Pass, "join" Join, "start" Start);

text! {
    /// The URL of a collector, whole.
    Collector(String), "a URL without a path, as http://127.0.0.1:4317 or https://collector.example", collector,
    "^https?://[^/\\s]+$"
}

fn collector(text: &str) -> Result<String, Wrong> {
    let Some((scheme, place)) = text.split_once("://") else {
        return Err(Wrong::because("has no scheme").hint(format!("write http://{text}")));
    };
    if !matches!(scheme, "http" | "https") {
        return Err(Wrong::because("has a scheme that no collector speaks here"));
    }
    if let Some((place, path)) = place.split_once('/') {
        let hint = format!("write {scheme}://{place}");
        let why = match path.is_empty() {
            true => "has a slash behind its host",
            false => "has a path, and gRPC has one of its own",
        };
        return Err(Wrong::because(why).hint(hint));
    }
    let has_port = place
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.ends_with(']'));
    let place = match has_port {
        true => place.to_owned(),
        false => format!("{place}:{PORT}"),
    };
    Address::parse(&place)?;
    Ok(format!("{scheme}://{place}"))
}

/// What is done with traces, and who is told of them. `None` where something is wrong, and reported.
pub(super) fn traces(keys: TraceKeys, mistakes: &mut Mistakes) -> Option<(Traces, Option<TraceExport>)> {
    let traces = Traces {
        mode: keys.mode.value,
        sampled: keys.sampled.0,
    };
    let Some(written) = keys.export else {
        return Some((traces, None));
    };
    if traces.mode == TraceMode::Pass && keys.mode.place().is_none() {
        let what = "trace.export: requests have no span of this proxy's that could be reported";
        mistakes.add(
            Mistake::at(written.place(), what)
                .expected("mode: join or mode: start beside it, or mode: pass to report nothing for now")
                .hint("write mode: start".to_owned()),
        );
        return None;
    }
    export(written.value, mistakes).map(|export| (traces, Some(export)))
}

fn export(keys: ExportKeys, mistakes: &mut Mistakes) -> Option<TraceExport> {
    let endpoint = keys.endpoint?;
    let tls = match keys.tls {
        Some(written) if !endpoint.value.0.starts_with("https://") => {
            let what = "trace.export.tls: nothing is spoken with an http URL but plain text";
            mistakes.add(Mistake::at(written.place(), what).expected("an https URL, or no tls section"));
            return None;
        }
        Some(written) => Some(tls(written.value, mistakes)?),
        None => None,
    };
    let headers = keys.headers.items.into_iter();
    let has_token = keys.token_file.is_some();
    Some(TraceExport {
        endpoint: endpoint.value.0,
        service: keys.service.0,
        attributes: attributes(keys.attributes.items, mistakes)?,
        headers: headers
            .map(|pair| header(pair, has_token, mistakes))
            .collect::<Option<_>>()?,
        token_file: keys.token_file.map(|path| path.0),
        tls,
        timeout: keys.timeout.0,
        delay: keys.delay.0,
        batch: usize::try_from(keys.batch.0).ok()?,
        queue: usize::try_from(keys.queue.0).ok()?,
    })
}

/// What else is true of the proxy, each name once. Source: OTLP, `Resource.attributes`: keys must be unique.
fn attributes(pairs: Vec<Attribute>, mistakes: &mut Mistakes) -> Option<Vec<(String, String)>> {
    let mut known = Vec::<(String, String)>::new();
    for pair in pairs {
        let (name, value) = (pair.name?, pair.value?.0);
        if known.iter().any(|(other, _)| *other == name.value.0) {
            let what = format!("trace.export.attributes: {} stands there twice", name.value.0);
            mistakes.add(Mistake::at(name.place(), what).expected("each of them once"));
        }
        known.push((name.value.0, value));
    }
    Some(known)
}

/// A header that is not gRPC's own to say, nor that of the token.
fn header(
    pair: CollectorHeader,
    has_token: bool,
    mistakes: &mut Mistakes,
) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = (pair.name?, pair.value?.0);
    let text = name.value.0.as_str();
    let is_own = matches!(
        text,
        "te" | "content-type" | "user-agent" | "host" | "content-length" | "connection"
    ) || text.starts_with("grpc-")
        || text.ends_with("-bin");
    if is_own {
        let what = format!("trace.export.headers: {text} is not for anybody but gRPC to say");
        mistakes.add(Mistake::at(name.place(), what).expected("another header"));
        return None;
    }
    if has_token && text == "authorization" {
        let what = "trace.export.headers: authorization is what tokenFile says";
        mistakes.add(Mistake::at(name.place(), what).expected("one of the two"));
        return None;
    }
    let mut value = HeaderValue::from_str(&value).ok()?;
    // A key, as a rule.
    value.set_sensitive(true);
    Some((name.value.0, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn read(trace: &str) -> Result<Option<TraceExport>, String> {
        let text = format!(
            "apiVersion: foreshade/v1\ntrace: {trace}\n\
             listeners: [{{ name: web, address: 127.0.0.1:80, routes: [{{ cluster: shop }}] }}]\n\
             clusters: [{{ name: shop, endpoints: [{{ name: a, address: 127.0.0.1:9001 }}] }}]\n"
        );
        let read = config::parse(&text, "test").map(|config| config.trace_export);
        read.map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn a_collector_is_enough_and_the_rest_is_as_its_specification_says() {
        let found = read("{ mode: join, export: { endpoint: \"http://127.0.0.1:4317\" } }").unwrap();
        let found = found.unwrap();
        assert_eq!((found.service.as_str(), found.batch), ("foreshade-proxy", 512));
        assert_eq!(found.timeout, Duration::from_secs(10));
        assert!(read("{ mode: join }").unwrap().is_none());
    }

    #[test]
    fn a_collector_is_a_url_without_a_path() {
        for (text, whole) in [
            ("http://127.0.0.1:4317", "http://127.0.0.1:4317"),
            ("https://collector.example", "https://collector.example:4317"),
            ("http://[::1]", "http://[::1]:4317"),
            ("http://[::1]:9", "http://[::1]:9"),
        ] {
            assert_eq!(collector(text).unwrap(), whole);
        }
        for text in [
            "",
            "collector:4317",
            "ftp://collector",
            "http://collector/v1/traces",
            "http://collector/",
            "http://",
            "http://user@collector",
            "http://collector:0",
        ] {
            assert!(collector(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_need_a_mode_that_makes_some_or_one_that_says_not_now() {
        let wrong = read("{ export: { endpoint: \"http://c\" } }").unwrap_err();
        assert!(wrong.contains("no span of this proxy's"), "{wrong}");
        let keys = |mode| format!("{{ mode: {mode}, export: {{ endpoint: \"http://c\" }} }}");
        assert_eq!(read(&keys("pass")), read(&keys("join")));
    }

    #[test]
    fn what_cannot_be_meant_is_a_mistake() {
        for (keys, told) in [
            ("endpoint: \"http://c\", tls: { caFile: /ca }", "an https URL"),
            (
                "endpoint: \"http://c\", headers: [{ name: grpc-timeout, value: 1S }]",
                "but gRPC",
            ),
            ("endpoint: \"http://c\", batch: 5000", "batch"),
            (
                "endpoint: \"http://c\", attributes: [{ name: a, value: x }, { name: a, value: y }]",
                "a stands there twice",
            ),
            (
                "endpoint: \"http://c\", tokenFile: /t, headers: [{ name: Authorization, value: x }]",
                "what tokenFile says",
            ),
            ("service: x", "endpoint"),
        ] {
            let wrong = read(&format!("{{ mode: start, export: {{ {keys} }} }}")).unwrap_err();
            assert!(wrong.contains(told), "{keys}: {wrong}");
        }
        let keys =
            "endpoint: \"https://c\", tls: { caFile: /ca }, headers: [{ name: X-Tenant, value: shop }]";
        let found = read(&format!("{{ mode: start, export: {{ {keys} }} }}"))
            .unwrap()
            .unwrap();
        assert_eq!(
            found.headers,
            [("x-tenant".parse().unwrap(), HeaderValue::from_static("shop"))]
        );
        assert!(found.tls.is_some());
    }
}
