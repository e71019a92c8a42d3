//! Pages for errors: what people see changes, and nothing else.

use std::future::poll_fn;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use foreshade_tests::http2::{Came, Client, Endpoint};
use foreshade_tests::proxy::{PATIENCE, free_address};
use foreshade_tests::wire::{Scripted, connect, exchange, read_until};

use h2::Reason;
use h2::server::Builder;
use http::{Request, Response};
use tokio::runtime::Runtime;

use crate::ways::Way;

/// A file with a page, for as long as the test lasts.
struct File(PathBuf);

impl File {
    fn new(test: &str, page: &str) -> Self {
        let path = std::env::temp_dir().join(format!("foreshade-page-{}-{test}", std::process::id()));
        std::fs::write(&path, page).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn clusters(endpoint: SocketAddr) -> String {
    format!(
        "clusters:\n  - name: shop\n    health: off\n    endpoints: [{{ name: a, address: \"{endpoint}\" }}]\n"
    )
}

const LISTENER: &str = "limits: { bodyBytes: 10B }\n\
    errorPages:\n\
    \x20 - { statuses: [404], body: '<h1>Nothing here</h1>' }\n\
    \x20 - { statuses: [4xx, 5xx], body: '{\"error\":true}', contentType: application/json }";

#[test]
fn what_the_proxy_answers_itself_has_the_page_of_its_status() {
    // Nobody listens there.
    let endpoint = free_address();
    let file = File::new("own", "<h1>Later</h1>");
    let shop = format!(
        "{{ match: {{ path: {{ prefix: /shop }} }}, cluster: shop, errorPages: [{{ statuses: [502], file: {} }}] }}",
        file.0.display()
    );
    let routes = [
        shop.as_str(),
        "{ match: { path: { prefix: /limited } }, cluster: shop, rateLimits: [{ name: a, rate: 0.001rps, burst: 1 }] }",
        "{ match: { path: { prefix: /closed } }, cluster: shop, maintenance: { body: 'own words' } }",
        "{ match: { path: { prefix: /inside } }, cluster: shop, access: { allow: [192.0.2.1] } }",
        "{ match: { path: { prefix: /gone } }, respond: { status: 404, body: 'own words' } }",
    ];
    let json = (r#"{"error":true}"#, "application/json");
    let html = "text/html; charset=utf-8";
    for way in Way::ALL {
        let mut proxy = way.proxy(LISTENER, &routes, &clusters(endpoint));
        for (target, status, (body, kind)) in [
            ("/nowhere", 404, ("<h1>Nothing here</h1>", html)),
            ("/%zz", 400, json),
            ("/shop", 502, ("<h1>Later</h1>", html)),
            ("/inside", 403, json),
            ("/closed", 503, ("own words", "text/plain; charset=utf-8")),
            ("/gone", 404, ("own words", "text/plain; charset=utf-8")),
        ] {
            let reply = way.get(&proxy, target, &[]);
            assert_eq!(
                (reply.status, reply.text().as_str()),
                (status, body),
                "{way:?} {target}"
            );
            assert_eq!(reply.header("content-type"), kind, "{way:?} {target}");
            assert_eq!(
                reply.header("content-length"),
                body.len().to_string(),
                "{way:?} {target}"
            );
            if status != 404 && target != "/closed" {
                assert_eq!(
                    reply.header("cache-control"),
                    "private, no-store",
                    "{way:?} {target}"
                );
            }
        }
        assert_eq!(way.get(&proxy, "/limited", &[]).status, 502);
        let limited = way.get(&proxy, "/limited", &[]);
        assert_eq!((limited.status, limited.text().as_str()), (429, json.0));
        assert!(
            !limited.header("retry-after").is_empty(),
            "when to come back is told still"
        );
        let series = "foreshade_policy_refused_total{reason=\"rate_limited\"}";
        proxy.wait_until("aware of it", |p| p.metric(series) == Some(1.0));
    }
}

#[test]
fn a_body_that_is_too_large_and_a_head_get_the_page_and_connections_live_on() {
    let proxy = Way::Relay.proxy(
        LISTENER,
        &["{ match: { path: { prefix: /a } }, cluster: shop }"],
        &clusters(free_address()),
    );
    let large = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n";
    let told = exchange(proxy.users, large.as_bytes());
    assert!(told.starts_with("HTTP/1.1 413 "), "{told}");
    assert!(
        told.contains("Content-Type: application/json\r\n") && told.ends_with("{\"error\":true}"),
        "{told}"
    );
    let reply = Way::Http2.proxy(LISTENER, &["{ cluster: shop }"], &clusters(free_address()));
    Runtime::new().unwrap().block_on(async {
        let client = Client::connect(reply.users).await;
        let request = Request::post("http://shop.example/a").header("content-length", "11");
        let told = client
            .ask(request.body(()).unwrap(), b"hello world")
            .await
            .unwrap();
        assert_eq!(
            (told.head.status.as_u16(), told.body.as_slice()),
            (413, &b"{\"error\":true}"[..])
        );
    });
    let mut user = connect(proxy.users);
    for _ in 0..2 {
        user.write_all(b"HEAD /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        let head = read_until(&mut user, "\r\n\r\n").to_lowercase();
        assert!(
            head.starts_with("http/1.1 404 ") && head.contains("\r\ncontent-length: 21\r\n"),
            "{head}"
        );
    }
    user.write_all(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    read_until(&mut user, "\r\n\r\n<h1>Nothing here</h1>");
}

/// An endpoint that fails with a status and a body of its own, on a connection that lives on.
fn failing(head: &'static str, body: &'static str) -> SocketAddr {
    let endpoint = Scripted::start(move |stream| {
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {head}\r\nContent-Type: text/plain\r\nETag: \"e\"\r\nSet-Cookie: a=b\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let _ = stream.write_all(answer.as_bytes());
        let mut stream = stream.try_clone().unwrap();
        // The next request on it, or its end.
        let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
        let _ = stream.write_all(answer.as_bytes());
    });
    endpoint.address
}

#[test]
fn an_endpoints_error_is_replaced_where_that_is_asked_for_and_its_meaning_stays() {
    let routes = [
        "{ match: { path: { prefix: /kept } }, cluster: shop }",
        "{ match: { path: { prefix: /both } }, cluster: shop, \
         errorPages: [{ statuses: [500], of: both, body: '<p>ours</p>' }] }",
        "{ match: { path: { prefix: /small } }, cluster: shop, compression: { minLength: 1B }, \
         errorPages: [{ statuses: [5xx], of: endpoints, body: '<p>ours</p>' }] }",
    ];
    for (head, body) in [
        (
            "500 Internal Server Error\r\nRetry-After: 7",
            "theirs, and longer than the page that stands in for it",
        ),
        ("500 Internal Server Error\r\nRetry-After: 7", ""),
    ] {
        let endpoint = failing(head, body);
        for way in Way::ALL {
            let proxy = way.proxy(LISTENER, &routes, &clusters(endpoint));
            let kept = way.get(&proxy, "/kept", &[]);
            assert_eq!(
                (kept.text().as_str(), kept.header("etag").as_str()),
                (body, "\"e\""),
                "{way:?}"
            );
            for (target, encoding) in [("/both", ""), ("/small", "gzip")] {
                let asks: &[(&str, &str)] = if encoding.is_empty() {
                    &[]
                } else {
                    &[("accept-encoding", encoding)]
                };
                let reply = way.get(&proxy, target, asks);
                assert_eq!(
                    (reply.status, reply.text().as_str()),
                    (500, "<p>ours</p>"),
                    "{way:?} {target}"
                );
                let told = [
                    "content-type",
                    "retry-after",
                    "set-cookie",
                    "etag",
                    "content-length",
                    "content-encoding",
                ];
                let told = told.map(|name| reply.header(name));
                assert_eq!(
                    told,
                    ["text/html; charset=utf-8", "7", "a=b", "", "11", ""],
                    "{way:?} {target}"
                );
                let head = way.ask(&proxy, "HEAD", target, &[]);
                assert_eq!((head.status, head.body.len()), (500, 0), "{way:?} {target}");
                assert_eq!(head.header("content-length"), "11", "{way:?} {target}");
            }
        }
    }
}

#[test]
fn a_page_is_whole_at_once_whatever_the_endpoint_still_says() {
    let runtime = Runtime::new().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let endpoint = runtime.block_on(Endpoint::start(Builder::new(), move |mut came: Came| {
        let tell = tell.clone();
        async move {
            let failed = Response::builder().status(500).body(()).unwrap();
            let mut sending = came.respond.send_response(failed, false).unwrap();
            // It stops behind its head.
            let reset = poll_fn(|cx| sending.poll_reset(cx)).await;
            let _ = tell.send(reset.ok());
        }
    }));
    let http1 = Scripted::start(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\n");
        // Until the proxy has gone.
        let _ = std::io::Read::read(stream, &mut [0]);
    });
    let route = "{ cluster: shop, errorPages: [{ statuses: [500], of: endpoints, body: '<p>ours</p>' }] }";
    for (address, protocol) in [(endpoint.address, "http2"), (http1.address, "http1")] {
        let clusters = format!("{}    protocol: {protocol}\n", clusters(address));
        for way in Way::ALL {
            let proxy = way.proxy("", &[route], &clusters);
            for (method, body) in [("GET", "<p>ours</p>"), ("HEAD", "")] {
                let reply = way.ask(&proxy, method, "/", &[]);
                assert_eq!(
                    (reply.status, reply.text().as_str()),
                    (500, body),
                    "{way:?} {protocol}"
                );
                assert_eq!(
                    reply.header("content-length"),
                    "11",
                    "{way:?} {protocol} {method}"
                );
                if protocol == "http2" {
                    let reset = told.recv_timeout(PATIENCE).unwrap();
                    assert_eq!(reset, Some(Reason::CANCEL), "{way:?} {method}");
                }
            }
        }
    }
}

#[test]
fn a_file_that_changes_is_read_again_and_one_that_is_missing_is_a_mistake() {
    let file = File::new("reload", "before");
    let listener = format!("errorPages: [{{ statuses: [404], file: {} }}]", file.0.display());
    let mut proxy = Way::Relay.proxy(
        &listener,
        &["{ match: { path: { prefix: /a } }, cluster: shop }"],
        &clusters(free_address()),
    );
    assert_eq!(Way::Relay.get(&proxy, "/", &[]).text(), "before");
    std::fs::write(&file.0, "after, and longer").unwrap();
    proxy.wait_until("aware of the file", |p| {
        Way::Relay.get(p, "/", &[]).text() == "after, and longer"
    });
    std::fs::remove_file(&file.0).unwrap();
    let text = std::fs::read_to_string(proxy.folder.join("foreshade.yaml")).unwrap();
    let (status, said) = proxy.reload(&format!("{text}# changed\n"));
    assert_eq!(status, 422, "{said}");
    assert!(said.to_string().contains("cannot be read"), "{said}");
    assert_eq!(
        Way::Relay.get(&proxy, "/", &[]).text(),
        "after, and longer",
        "the last good one holds"
    );
}
