//! Somebody else says whether a request may go on.

use std::io::Write as _;
use std::net::SocketAddr;

use foreshade_tests::proxy::{Proxy, free_address};
use foreshade_tests::recording::{Recording, requests};
use foreshade_tests::wire::Scripted;

use crate::ways::Way;

/// A service that gives this answer to whoever asks.
fn service(answer: &'static str) -> Scripted {
    Scripted::start(move |stream| {
        let _ = stream.write_all(answer.as_bytes());
    })
}

/// One that takes questions and says nothing.
fn silent() -> Scripted {
    Scripted::start(|stream| {
        let _ = std::io::copy(stream, &mut std::io::sink());
    })
}

const YES: &str =
    "HTTP/1.1 200 OK\r\nX-User: anna\r\nX-Other: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

fn proxy(way: Way, endpoint: &Recording, service: SocketAddr, keys: &str) -> Proxy {
    let route = format!(
        "{{ cluster: shop, authorize: {{ address: '{service}', path: '/check?a', answerHeaders: [x-user], {keys} }} }}"
    );
    let routes = ["{ match: { path: { prefix: /open } }, cluster: shop }", &route];
    way.proxy("", &routes, &endpoint.clusters())
}

fn counted(proxy: &mut Proxy, series: &str, count: u32) {
    proxy.wait_until(&format!("aware of {count} {series}"), |proxy| {
        proxy.metric(series) == Some(f64::from(count))
    });
}

fn said(proxy: &mut Proxy, result: &str, count: u32) {
    let series = format!("foreshade_authorization_answers_total{{result=\"{result}\"}}");
    counted(proxy, &series, count);
}

fn refused(proxy: &mut Proxy, reason: &str, count: u32) {
    counted(
        proxy,
        &format!("foreshade_policy_refused_total{{reason=\"{reason}\"}}"),
        count,
    );
}

#[test]
fn a_yes_lets_a_request_on_and_endpoints_hear_what_it_says_from_nobody_else() {
    for way in Way::ALL {
        let (endpoint, service) = (Recording::start(), service(YES));
        let mut proxy = proxy(way, &endpoint, service.address, "");
        let headers = [
            ("authorization", "Bearer abc"),
            ("cookie", "sid=1"),
            ("x-secret", "not shown"),
            ("x-user", "root"),
            ("x_user", "root"),
            ("x-forwarded-uri", "/other"),
        ];
        assert_eq!(
            way.ask(&proxy, "DELETE", "/a/b?c=d", &headers).status,
            200,
            "{way:?}"
        );
        let asked = service.next_head().unwrap().to_lowercase();
        assert!(asked.starts_with("get /check?a http/1.1\r\n"), "{asked}");
        for line in [
            "authorization: bearer abc",
            "cookie: sid=1",
            "x-forwarded-method: delete",
            "x-forwarded-uri: /a/b?c=d",
            "x-forwarded-host: shop.example",
            "x-forwarded-proto: http",
            "x-forwarded-for: 127.0.0.1",
            &format!("host: {}", service.address),
        ] {
            assert!(
                asked.contains(&format!("\r\n{line}\r\n")),
                "{way:?} {line}: {asked}"
            );
        }
        assert!(
            !asked.contains("not shown") && !asked.contains("/other") && !asked.contains("root"),
            "{asked}"
        );
        let arrived = endpoint.take();
        let head = requests(&arrived).0.remove(0).head.to_lowercase();
        assert!(head.contains("\r\nx-user: anna"), "{head}");
        assert!(!head.contains("root") && !head.contains("x-other"), "{head}");
        said(&mut proxy, "allowed", 1);
    }
}

#[test]
fn a_no_is_the_clients_whole_and_no_endpoint_hears_of_it() {
    for way in Way::ALL {
        for (answer, status, header, value, body) in [
            (
                "HTTP/1.1 302 Found\r\nLocation: https://login.example/?a=b\r\nSet-Cookie: state=1\r\nKeep-Alive: x\r\n\
                 Connection: close, x-hop\r\nX-Hop: 1\r\nContent-Length: 5\r\n\r\nlogin",
                302,
                "location",
                "https://login.example/?a=b",
                "login",
            ),
            (
                "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
                401,
                "www-authenticate",
                "Basic",
                "no",
            ),
        ] {
            let (endpoint, service) = (Recording::start(), service(answer));
            let mut proxy = proxy(way, &endpoint, service.address, "onFailure: allow");
            let reply = way.get(&proxy, "/", &[]);
            assert_eq!((reply.status, reply.text().as_str()), (status, body), "{way:?}");
            assert_eq!(reply.header(header), value);
            assert_eq!(reply.header("x-hop"), "", "{:?}", reply.headers);
            assert_ne!(reply.header("keep-alive"), "x");
            assert_eq!(endpoint.take(), b"");
            refused(&mut proxy, "not_authorized", 1);
            said(&mut proxy, "refused", 1);
            assert_eq!(way.get(&proxy, "/open", &[]).status, 200);
        }
    }
}

#[test]
fn a_service_that_fails_refuses_everybody_or_nobody_as_it_is_told() {
    for way in Way::ALL {
        let services = [
            ("unreachable", free_address()),
            (
                "error",
                service("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n").address,
            ),
            ("garbage", service("SSH-2.0-OpenSSH\r\n\r\n").address),
            (
                "broken",
                service("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").address,
            ),
            ("timeout", silent().address),
        ];
        for (result, address) in services {
            for (word, status) in [("refuse", 503), ("allow", 200)] {
                let endpoint = Recording::start();
                let keys = format!("timeout: 300ms, onFailure: {word}");
                let mut proxy = proxy(way, &endpoint, address, &keys);
                let reply = way.get(&proxy, "/", &[("x-user", "root")]);
                assert_eq!(reply.status, status, "{way:?} {result}");
                said(&mut proxy, result, 1);
                if status == 503 {
                    assert_eq!(reply.header("retry-after"), "1");
                    refused(&mut proxy, "authorization_unavailable", 1);
                } else {
                    let head = String::from_utf8(endpoint.take()).unwrap();
                    assert!(
                        !head.contains("root"),
                        "what nobody has said nobody is told: {head}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_slow_service_holds_up_nobody_but_those_who_ask_it() {
    let way = Way::Full;
    let (endpoint, service) = (Recording::start(), silent());
    let mut proxy = proxy(way, &endpoint, service.address, "timeout: 14s, concurrency: 1");
    let mut first = foreshade_tests::wire::connect(proxy.users);
    first.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(service.next_head().is_some(), "it is asked, and says nothing");
    assert_eq!(
        way.get(&proxy, "/", &[]).status,
        503,
        "no second question is asked"
    );
    refused(&mut proxy, "authorization_busy", 1);
    assert_eq!(way.get(&proxy, "/open", &[]).status, 200);
}

#[test]
fn a_yes_is_remembered_where_that_is_asked_for_and_for_the_same_question_only() {
    let way = Way::Http2;
    for (keys, asked) in [("cache: 1h", 3), ("", 4)] {
        let (endpoint, service) = (Recording::start(), service(YES));
        let proxy = proxy(way, &endpoint, service.address, keys);
        for (target, user) in [("/a", "1"), ("/a", "1"), ("/b", "1"), ("/a", "2")] {
            let reply = way.get(&proxy, target, &[("authorization", user)]);
            assert_eq!(reply.status, 200);
            assert!(
                String::from_utf8(endpoint.take())
                    .unwrap()
                    .contains("x-user: anna")
            );
        }
        let questions = std::iter::from_fn(|| service.head_so_far()).count();
        assert_eq!(questions, asked, "{keys}");
    }
    let (endpoint, service) = (
        Recording::start(),
        service("HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    );
    let proxy = proxy(way, &endpoint, service.address, "cache: 1h");
    for _ in 0..2 {
        assert_eq!(way.get(&proxy, "/", &[]).status, 403);
        assert!(service.next_head().is_some(), "a no is not remembered");
    }
}

#[test]
fn questions_share_a_connection() {
    let (endpoint, service) = (Recording::start(), Recording::start());
    let proxy = proxy(Way::Full, &endpoint, service.address, "");
    for _ in 0..6 {
        assert_eq!(Way::Full.get(&proxy, "/", &[]).status, 200);
    }
    let connections = service.take_whole();
    assert!(
        connections.len() < 6,
        "each worker keeps one: {}",
        connections.len()
    );
    let asked: usize = connections.iter().map(|bytes| requests(bytes).0.len()).sum();
    assert_eq!(asked, 6);
}

#[test]
fn listener_and_route_are_both_asked_and_what_is_remembered_holds_for_the_whole_request() {
    for way in Way::ALL {
        let (endpoint, first, second) = (Recording::start(), service(YES), service(YES));
        let listener = format!("authorize: {{ address: '{}', cache: 60s }}", first.address);
        let route = format!(
            "{{ cluster: shop, authorize: {{ address: '{}' }} }}",
            second.address
        );
        let mut proxy = way.proxy(&listener, &[&route], &endpoint.clusters());
        for _ in 0..3 {
            assert_eq!(way.get(&proxy, "/a", &[]).status, 200, "{way:?}");
        }
        // The listener's service once, the route's each time, although each request comes by twice.
        said(&mut proxy, "allowed", 4);
        said(&mut proxy, "cached", 2);
    }
}
