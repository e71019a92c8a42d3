//! Spans: who is reported, as whose child, what stands in them, and a collector that can do no request any harm.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::net::SocketAddr;

use bytes::Bytes;
use foreshade_proxy::trace::otlp::{Delay, Detail, Details, ExportResponse, PartialSuccess, RetryInfo};
use foreshade_tests::collector::{CLIENT, Collector, Reply, SERVER, Span};
use foreshade_tests::http2::{Client, Endpoint};
use foreshade_tests::proxy::{PATIENCE, Proxy, free_address};
use foreshade_tests::wire::{Scripted, exchange};
use http::{HeaderMap, Request, Response};
use prost::Message as _;
use tokio::runtime::Runtime;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// What a test changes in the usual configuration.
#[derive(Clone, Copy, Debug, Default)]
struct Way<'a> {
    /// Of the whole file, as lines.
    top: &'a str,
    /// Of the listener.
    listener: &'a str,
    /// Of the cluster.
    cluster: &'a str,
    /// Of the export.
    export: &'a str,
    /// Instead of `join`.
    mode: &'a str,
}

/// A proxy with these endpoints that tells this collector.
fn proxy(collector: SocketAddr, endpoints: &[SocketAddr], way: Way<'_>) -> Proxy {
    let endpoints: Vec<_> = endpoints
        .iter()
        .zip(["a", "b"])
        .map(|(address, name)| format!("{{ name: {name}, address: \"{address}\" }}"))
        .collect();
    let mode = if way.mode.is_empty() {
        "mode: join"
    } else {
        way.mode
    };
    Proxy::start_with(|users, admin| {
        format!(
            "apiVersion: foreshade/v1\nadmin: {{ address: {admin} }}\nworkers: 1\n{}\
             trace: {{ {mode}, export: {{ endpoint: \"http://{collector}\", delay: 10ms, {} }} }}\n\
             listeners:\n  - name: web\n    address: \"{users}\"\n{}    routes:\n      - {{ match: {{ path: {{ prefix: \
             /shop }} }}, cluster: shop, timeout: 10s }}\n      - {{ match: {{ path: {{ prefix: /closed }} }}, respond: {{ \
             status: 503, body: closed }} }}\nclusters:\n  - name: shop\n    health: off\n{}    endpoints: [{}]\n",
            way.top,
            way.export,
            way.listener,
            way.cluster,
            endpoints.join(", ")
        )
    })
}

/// A request of HTTP/1.1 with these headers, and its answer.
fn get(proxy: &Proxy, path: &str, headers: &str) -> String {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: shop.example:8080\r\n{headers}Connection: close\r\n\r\n");
    exchange(proxy.users, request.as_bytes())
}

fn parent(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{PARENT}-{flags}\r\n")
}

/// Waits until the collector has been told of so many requests, and of their attempts.
fn told(proxy: &mut Proxy, collector: &Collector, requests: usize) -> (Vec<Span>, Vec<Span>) {
    proxy.wait_until("reported", |_| collector.spans_of(SERVER).len() >= requests);
    let told = (collector.spans_of(SERVER), collector.spans_of(CLIENT));
    assert_eq!(told.0.len(), requests, "{told:#?}");
    told
}

fn dropped(proxy: &Proxy, reason: &str) -> u64 {
    proxy.count(&format!(
        "foreshade_trace_spans_dropped_total{{reason=\"{reason}\"}}"
    ))
}

/// One request that an endpoint answered: its two spans, as every way to an endpoint has to tell of it.
fn is_a_family(server: &Span, client: &Span, seen_by_endpoint: &str) {
    assert_eq!((server.trace.as_str(), client.trace.as_str()), (TRACE, TRACE));
    assert_eq!(server.parent, PARENT);
    assert_eq!(client.parent, server.id);
    // The endpoint's own spans hang below the attempt's.
    assert_eq!(seen_by_endpoint, format!("00-{TRACE}-{}-01", client.id));
    assert_eq!(
        (server.state.as_str(), client.state.as_str()),
        ("a=1,b=2", "a=1,b=2")
    );
    // Sampled; the parent was made by somebody else, and here.
    assert_eq!((server.flags, client.flags), (0x301, 0x101));
    assert_eq!((server.name.as_str(), client.name.as_str()), ("GET", "GET"));
    assert!(!server.failed && !client.failed);
    let (from, to) = server.times;
    let sent_and_answered: Vec<_> = client.events.iter().map(|(_, at)| *at).collect();
    let moments = [
        &[from, client.times.0],
        &sent_and_answered[..],
        &[client.times.1, to],
    ]
    .concat();
    assert!(
        moments.is_sorted() && moments.len() == 6,
        "{moments:?}: {client:#?}"
    );
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/shop/1"),
        ("url.scheme", "http"),
        ("server.address", "shop.example"),
        ("client.address", "127.0.0.1"),
        ("http.response.status_code", "200"),
        ("foreshade.reason", "ok"),
        ("foreshade.cluster", "shop"),
        ("foreshade.endpoint", "a"),
        ("foreshade.side", "primary"),
        ("foreshade.attempts", "1"),
    ] {
        assert_eq!(server.known(key), value, "{key}: {server:#?}");
    }
    for (key, value) in [
        ("http.response.status_code", "200"),
        ("server.address", "127.0.0.1"),
        ("foreshade.endpoint", "a"),
        ("foreshade.pick", "balanced"),
        ("foreshade.outcome", "ok"),
        ("http.request.resend_count", ""),
    ] {
        assert_eq!(client.known(key), value, "{key}: {client:#?}");
    }
    // It may hold a secret.
    assert!(!format!("{server:?}{client:?}").contains("s3cret"));
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut values = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    let value = values.next().unwrap_or_else(|| panic!("no {name} in {head}")).1;
    assert!(values.next().is_none(), "{name} twice in {head}");
    value
}

#[test]
fn a_request_and_its_attempt_are_spans_of_the_callers_trace_whoever_serves_it() {
    let state = "tracestate: a=1\r\ntracestate: b=2\r\nuser-agent: test/1\r\n";
    for top in ["", "relay: false\n"] {
        let collector = Collector::start();
        let endpoint = Scripted::saying("hello");
        let mut proxy = proxy(
            collector.address,
            &[endpoint.address],
            Way {
                top,
                ..Way::default()
            },
        );
        let answer = get(&proxy, "/shop/1?key=s3cret", &(parent("01") + state));
        assert!(answer.ends_with("hello"), "{answer}");
        let head = endpoint.next_head().unwrap();
        let (servers, clients) = told(&mut proxy, &collector, 1);
        is_a_family(&servers[0], &clients[0], header(&head, "traceparent"));
        assert_eq!(servers[0].known("network.protocol.version"), "1.1");
        assert_eq!(servers[0].known("server.port"), "8080");
        assert_eq!(servers[0].known("user_agent.original"), "test/1");
        assert_eq!(clients[0].known("network.protocol.version"), "1.1");
        proxy.wait_until("counted", |p| {
            p.count("foreshade_trace_spans_exported_total") == 2
        });
    }
}

#[test]
fn so_are_those_of_http2_on_either_side() {
    for cluster in ["", "    protocol: http2\n"] {
        let runtime = Runtime::new().unwrap();
        let collector = Collector::start();
        let (seen, seen_by_endpoint) = std::sync::mpsc::channel();
        let http1 = Scripted::saying("hello");
        let http2 = runtime.block_on(Endpoint::start(h2::server::Builder::new(), move |came| {
            let _ = seen.send(came.head.headers["traceparent"].to_str().unwrap().to_owned());
            came.echo(Response::new(()), HeaderMap::new())
        }));
        let (address, speaks_http2) = match cluster {
            "" => (http1.address, false),
            _ => (http2.address, true),
        };
        let listener = "    http2: { enabled: true }\n";
        let way = Way {
            listener,
            cluster,
            ..Way::default()
        };
        let mut proxy = proxy(collector.address, &[address], way);
        runtime.block_on(async {
            let client = Client::connect(proxy.users).await;
            let request = Request::get("http://shop.example/shop/1?key=s3cret")
                .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
                .header("tracestate", "a=1,b=2");
            let answer = client.ask(request.body(()).unwrap(), b"").await.unwrap();
            assert_eq!(answer.head.status, 200);
        });
        let traceparent = match speaks_http2 {
            true => seen_by_endpoint.recv_timeout(PATIENCE).unwrap(),
            false => header(&http1.next_head().unwrap(), "traceparent").to_owned(),
        };
        let (servers, clients) = told(&mut proxy, &collector, 1);
        is_a_family(&servers[0], &clients[0], &traceparent);
        assert_eq!(servers[0].known("network.protocol.version"), "2");
        let version = if speaks_http2 { "2" } else { "1.1" };
        assert_eq!(clients[0].known("network.protocol.version"), version);
    }
}

#[test]
fn what_is_not_marked_to_be_recorded_is_not_reported() {
    for top in ["", "relay: false\n"] {
        let collector = Collector::start();
        let endpoint = Scripted::saying("hello");
        let mut proxy = proxy(
            collector.address,
            &[endpoint.address],
            Way {
                top,
                ..Way::default()
            },
        );
        // A caller that records nothing, and one without a trace, where none is begun.
        for headers in [parent("00"), String::new()] {
            get(&proxy, "/shop/not", &headers);
        }
        let head = endpoint.next_head().unwrap();
        assert!(header(&head, "traceparent").starts_with(&format!("00-{TRACE}-")));
        assert!(header(&head, "traceparent").ends_with("-00"));
        assert!(!endpoint.next_head().unwrap().contains("traceparent"));
        get(&proxy, "/shop/yes", &parent("01"));
        let (servers, clients) = told(&mut proxy, &collector, 1);
        assert_eq!((servers[0].known("url.path"), clients.len()), ("/shop/yes", 1));
    }
}

#[test]
fn a_trace_that_begins_here_has_no_parent_and_is_marked_for_everybody() {
    let collector = Collector::start();
    let endpoint = Scripted::saying("hello");
    let way = Way {
        mode: "mode: start",
        ..Way::default()
    };
    let mut proxy = proxy(collector.address, &[endpoint.address], way);
    get(&proxy, "/shop", "");
    let (servers, clients) = told(&mut proxy, &collector, 1);
    assert_eq!((servers[0].parent.as_str(), servers[0].flags), ("", 0x103));
    let head = endpoint.next_head().unwrap();
    let expected = format!("00-{}-{}-03", servers[0].trace, clients[0].id);
    assert_eq!(header(&head, "traceparent"), expected);
}

#[test]
fn another_attempt_is_another_span_and_the_first_says_how_it_failed() {
    for top in ["", "relay: false\n"] {
        let collector = Collector::start();
        let (bad, good) = (Scripted::start(|_| ()), Scripted::saying("hello"));
        let mut proxy = proxy(
            collector.address,
            &[bad.address, good.address],
            Way {
                top,
                ..Way::default()
            },
        );
        let mut requests = 0;
        // Where a request goes first is a matter of chance.
        let (server, clients) = loop {
            requests += 1;
            assert!(requests < 100, "no request went to the endpoint that breaks off");
            assert!(get(&proxy, "/shop", &parent("01")).ends_with("hello"));
            let (servers, clients) = told(&mut proxy, &collector, requests);
            let server = servers.last().unwrap().clone();
            let of_it: Vec<_> = clients
                .into_iter()
                .filter(|span| span.parent == server.id)
                .collect();
            if of_it.len() == 2 {
                break (server, of_it);
            }
        };
        let [first, second] = &clients[..] else { panic!() };
        assert!(first.failed && !second.failed && !server.failed);
        assert_eq!(
            (first.known("error.type"), first.known("foreshade.outcome")),
            ("reset", "reset")
        );
        assert_eq!(
            (
                first.known("foreshade.endpoint"),
                second.known("foreshade.endpoint")
            ),
            ("a", "b")
        );
        assert_eq!(second.known("http.request.resend_count"), "1");
        assert_eq!(second.known("foreshade.pick"), "failed_over");
        assert_eq!(server.known("foreshade.attempts"), "2");
        // Each endpoint was told of its own attempt.
        for (endpoint, span) in [(&bad, first), (&good, second)] {
            let heads = std::iter::from_fn(|| endpoint.head_so_far());
            let told: Vec<_> = heads
                .map(|head| header(&head, "traceparent").to_owned())
                .collect();
            assert!(told.contains(&format!("00-{TRACE}-{}-01", span.id)), "{told:?}");
        }
    }
}

#[test]
fn what_the_proxy_answers_by_itself_has_a_span_without_attempts() {
    for top in ["", "relay: false\n"] {
        let collector = Collector::start();
        let mut proxy = proxy(
            collector.address,
            &[free_address()],
            Way {
                top,
                ..Way::default()
            },
        );
        get(&proxy, "/closed", &parent("01"));
        get(&proxy, "/nowhere", &parent("01"));
        get(&proxy, "/shop", &parent("01"));
        let (servers, clients) = told(&mut proxy, &collector, 3);
        let said = |key| servers.iter().map(|span| span.known(key)).collect::<Vec<_>>();
        assert_eq!(said("http.response.status_code"), ["503", "404", "502"]);
        assert_eq!(said("foreshade.reason"), ["answered", "no_route", "refused"]);
        // 404 is the caller's fault.
        assert_eq!(said("error.type"), ["503", "", "502"]);
        assert_eq!(
            servers.iter().map(|span| span.failed).collect::<Vec<_>>(),
            [true, false, true]
        );
        assert!(!clients.is_empty() && clients.iter().all(|span| span.parent == servers[2].id));
        assert!(clients.iter().all(|span| span.known("error.type") == "refused"));
    }
}

#[test]
fn an_attempt_at_a_shadow_says_so_and_why() {
    let collector = Collector::start();
    let (primary, shadow) = (Scripted::saying("primary"), Scripted::saying("shadow"));
    let cluster = format!(
        "    shadows: [{{ name: standby, address: \"{}\" }}]\n",
        shadow.address
    );
    let mut proxy = Proxy::start_with(|users, admin| {
        format!(
            "apiVersion: foreshade/v1\nadmin: {{ address: {admin} }}\nworkers: 1\n\
             trace: {{ mode: start, export: {{ endpoint: \"http://{}\", delay: 10ms }} }}\n\
             listeners: [{{ name: web, address: \"{users}\", routes: [{{ cluster: shop }}] }}]\n\
             clusters:\n  - name: shop\n    health: off\n{cluster}    endpoints: [{{ name: a, address: \"{}\", shadow: standby \
             }}]\n",
            collector.address, primary.address
        )
    });
    let order = r#"{ "endpoint": "a", "share": 1, "reason": "test", "ttl": "1h" }"#;
    let length = order.len();
    let request = format!(
        "POST /v1/overrides HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: \
         close\r\n\r\n{order}"
    );
    let answer = exchange(proxy.admin, request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    proxy.wait_until("shifted", |p| get(p, "/", "").ends_with("shadow"));
    proxy.wait_until("reported", |_| {
        let clients = collector.spans_of(CLIENT);
        clients.iter().any(|span| {
            span.known("foreshade.side") == "shadow"
                && span.known("foreshade.endpoint") == "standby"
                && span.known("foreshade.share") == "1"
                && span.known("foreshade.pick") == "shifted"
                && (0.0..1.0).contains(&span.known("foreshade.cohort").parse::<f64>().unwrap())
        })
    });
}

#[test]
fn a_collector_that_is_dead_or_silent_costs_no_request_and_what_is_lost_is_counted() {
    let silent = Collector::replying(|_| Reply::Silence);
    for address in [free_address(), silent.address] {
        let endpoint = Scripted::saying("hello");
        let way = Way {
            export: "queue: 4, batch: 2, ",
            ..Way::default()
        };
        let mut proxy = proxy(address, &[endpoint.address], way);
        for _ in 0..40 {
            assert!(get(&proxy, "/shop", &parent("01")).ends_with("hello"));
        }
        // Two are on their way, and four wait.
        proxy.wait_until("through with them", |p| dropped(p, "full") == 80 - 2 - 4);
        assert_eq!(proxy.count("foreshade_trace_spans_exported_total"), 0);
        proxy.terminate();
        assert!(proxy.wait().success());
    }
}

#[test]
fn what_passes_is_sent_again_and_what_does_not_is_given_up() {
    let retry = |seconds| {
        let info = RetryInfo {
            retry_delay: Some(Delay { seconds, nanos: 0 }),
        };
        let detail = Detail {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
            value: info.encode_to_vec(),
        };
        Details {
            details: vec![detail],
        }
        .encode_to_vec()
    };
    let (unavailable, exhausted, invalid) = (14, 8, 3);
    for (code, details, arrives) in [
        (unavailable, Vec::new(), true),
        (unavailable, retry(0), true),
        (exhausted, retry(0), true),
        (exhausted, Vec::new(), false),
        (invalid, Vec::new(), false),
    ] {
        let collector = Collector::replying(move |nth| match nth {
            0 => Reply::Refuse(code, details.clone()),
            _ => Reply::Take(ExportResponse::default()),
        });
        let endpoint = Scripted::saying("hello");
        let mut proxy = proxy(collector.address, &[endpoint.address], Way::default());
        get(&proxy, "/shop", &parent("01"));
        let (exported, failed) = if arrives { (2, 0) } else { (0, 2) };
        proxy.wait_until("through with them", |p| {
            p.count("foreshade_trace_spans_exported_total") == exported && dropped(p, "failed") == failed
        });
        let messages = collector.messages();
        assert_eq!(messages.len(), if arrives { 2 } else { 1 }, "{code}");
        assert!(messages.iter().all(|message| message.spans == messages[0].spans));
        // The way is as good as before.
        get(&proxy, "/shop", &parent("01"));
        proxy.wait_until("reported", |p| {
            p.count("foreshade_trace_spans_exported_total") == exported + 2
        });
    }
}

#[test]
fn spans_that_a_collector_rejects_are_counted() {
    let partial_success = Some(PartialSuccess {
        rejected_spans: 1,
        error_message: "too old".to_owned(),
    });
    let collector = Collector::replying(move |_| {
        Reply::Take(ExportResponse {
            partial_success: partial_success.clone(),
        })
    });
    let endpoint = Scripted::saying("hello");
    let mut proxy = proxy(collector.address, &[endpoint.address], Way::default());
    get(&proxy, "/shop", &parent("01"));
    proxy.wait_until("counted", |p| {
        dropped(p, "rejected") == 1 && p.count("foreshade_trace_spans_exported_total") == 1
    });
}

#[test]
fn the_end_of_the_process_loses_no_span() {
    let collector = Collector::start();
    let endpoint = Scripted::saying("hello");
    let mut proxy = Proxy::start_with(|users, admin| {
        format!(
            "apiVersion: foreshade/v1\nadmin: {{ address: {admin} }}\n\
             trace: {{ mode: start, export: {{ endpoint: \"http://{}\", delay: 60s, batch: 3 }} }}\n\
             listeners: [{{ name: web, address: \"{users}\", routes: [{{ cluster: shop }}] }}]\n\
             clusters: [{{ name: shop, health: off, endpoints: [{{ name: a, address: \"{}\" }}] }}]\n",
            collector.address, endpoint.address
        )
    });
    for _ in 0..10 {
        get(&proxy, "/", "");
    }
    proxy.terminate();
    assert!(proxy.wait().success());
    assert_eq!(collector.spans().len(), 20);
    assert!(
        collector
            .messages()
            .iter()
            .all(|message| message.spans.len() <= 3)
    );
}

#[test]
fn a_message_says_who_reports_and_what_the_configuration_adds() {
    let collector = Collector::start();
    let endpoint = Scripted::saying("hello");
    let export = "service: edge, attributes: [{ name: deployment.environment.name, value: test }], headers: [{ name: \
                  X-Tenant, value: shop }], ";
    let mut proxy = proxy(
        collector.address,
        &[endpoint.address],
        Way {
            export,
            ..Way::default()
        },
    );
    get(&proxy, "/shop", &parent("01"));
    told(&mut proxy, &collector, 1);
    let message = collector.messages().remove(0);
    assert_eq!(message.headers["x-tenant"], "shop");
    assert!(
        message.headers["user-agent"]
            .to_str()
            .unwrap()
            .starts_with("foreshade-proxy/")
    );
    assert!(message.headers.contains_key("grpc-timeout"));
    let said = |key: &str| message.resource.get(key).map(String::as_str);
    assert_eq!(said("service.name"), Some("edge"));
    assert_eq!(said("deployment.environment.name"), Some("test"));
    assert!(said("service.version").is_some() && said("process.pid").is_some());
}

#[test]
fn what_a_client_sends_is_cut_and_is_text_whatever_it_was() {
    let collector = Collector::start();
    let endpoint = Scripted::saying("hello");
    let mut proxy = proxy(collector.address, &[endpoint.address], Way::default());
    let long = "x".repeat(4000);
    let request = [
        format!(
            "FANCY /shop/{long} HTTP/1.1\r\nHost: a\r\n{}User-Agent: ",
            parent("01")
        )
        .as_bytes(),
        &[0xff; 600],
        b"\r\nConnection: close\r\n\r\n",
    ]
    .concat();
    exchange(proxy.users, &request);
    let (servers, clients) = told(&mut proxy, &collector, 1);
    let server = &servers[0];
    assert_eq!((server.name.as_str(), clients[0].name.as_str()), ("HTTP", "HTTP"));
    assert_eq!(server.known("http.request.method"), "_OTHER");
    assert_eq!(server.known("http.request.method_original"), "FANCY");
    assert_eq!(server.known("url.path").len(), 1024);
    assert_eq!(
        Bytes::from(server.known("user_agent.original").to_owned()).len(),
        255
    );
    assert!(
        server
            .known("user_agent.original")
            .chars()
            .all(|c| c == char::REPLACEMENT_CHARACTER)
    );
}
