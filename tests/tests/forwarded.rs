//! Nobody chooses the address that he is known by, unless he is a proxy that the operator trusts.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::Write;

use foreshade_tests::proxy::Proxy;
use foreshade_tests::wire::{Scripted, exchange};

/// What a client may claim: in the header that is read, in others that endpoints read, in several lines and spellings.
const CLAIMS: &str = "X-Forwarded-For: 203.0.113.1\r\nx-forwarded-for: 203.0.113.2\r\nX-Forwarded-Proto: https\r\n\
                      X-Forwarded-Host: evil.example\r\nX-Forwarded-Port: 1\r\nX_Forwarded_For: 203.0.113.3\r\n\
                      X-Real-IP: 203.0.113.4\r\nForwarded: for=203.0.113.5;proto=https\r\n";

fn well() -> Scripted {
    Scripted::start(|stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwell")
            .unwrap();
    })
}

fn proxy(endpoint: &Scripted, routes: &str, listener: &str) -> Proxy {
    let clusters = format!(
        "clusters:\n  - name: shop\n    health: off\n    endpoints: [{{ name: a, address: \"{}\" }}]\n",
        endpoint.address
    );
    Proxy::start_with_route(&clusters, &format!("{routes}\n    {listener}"))
}

/// The request as the endpoint saw it, in small letters.
fn seen(proxy: &Proxy, endpoint: &Scripted, headers: &str) -> Vec<String> {
    let request = format!("GET / HTTP/1.1\r\nHost: shop.example:81\r\n{headers}Connection: close\r\n\r\n");
    let answer = exchange(proxy.users, request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let head = endpoint.next_head().unwrap().to_ascii_lowercase();
    let claims = |line: &&str| line.starts_with('x') || line.starts_with("forwarded");
    let mut lines: Vec<_> = head.lines().filter(claims).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn what_a_stranger_claims_never_reaches_the_endpoint() {
    let endpoint = well();
    let proxy = proxy(&endpoint, "{ cluster: shop }", "trustedProxies: [10.0.0.0/8]");
    let truth = [
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: shop.example:81",
        "x-forwarded-proto: http",
    ];
    assert_eq!(seen(&proxy, &endpoint, ""), truth);
    assert_eq!(seen(&proxy, &endpoint, CLAIMS), truth);
}

#[test]
fn what_a_trusted_proxy_says_is_continued() {
    let endpoint = well();
    let proxy = proxy(&endpoint, "{ cluster: shop }", "trustedProxies: [127.0.0.0/8]");
    let lines = seen(&proxy, &endpoint, CLAIMS);
    for line in [
        "x-forwarded-for: 203.0.113.1, 203.0.113.2, 127.0.0.1",
        "x-forwarded-host: evil.example",
        "x-forwarded-proto: https",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line}: {lines:?}");
    }
}

#[test]
fn forwarded_is_written_where_it_was_chosen() {
    let endpoint = well();
    let forwarded = "forwarded: forwarded";
    let strict = proxy(&endpoint, "{ cluster: shop }", forwarded);
    assert_eq!(
        seen(&strict, &endpoint, CLAIMS),
        ["forwarded: for=127.0.0.1;proto=http;host=\"shop.example:81\""]
    );
    let trusting = format!("{forwarded}\n    trustedProxies: [127.0.0.1]");
    let trusting = proxy(&endpoint, "{ cluster: shop }", &trusting);
    let lines = seen(&trusting, &endpoint, "Forwarded: for=192.0.2.1;proto=https\r\n");
    assert_eq!(
        lines,
        ["forwarded: for=192.0.2.1;proto=https, for=127.0.0.1;proto=https;host=\"shop.example:81\""]
    );
}

#[test]
fn where_it_is_off_everything_passes_and_means_nothing() {
    let endpoint = well();
    let routes = "{ match: { source: [127.0.0.1] }, cluster: shop }";
    let proxy = proxy(&endpoint, routes, "forwarded: off");
    assert_eq!(seen(&proxy, &endpoint, CLAIMS).len(), CLAIMS.lines().count());
}

#[test]
fn a_rule_for_a_source_is_about_the_user_and_cannot_be_talked_around() {
    let endpoint = well();
    let routes = "{ match: { source: [192.0.2.0/24] }, respond: { status: 403, body: 'not you' } }\n      \
                  - { cluster: shop }";
    let blocked = "X-Forwarded-For: 192.0.2.9\r\n";
    let trusting = proxy(&endpoint, routes, "trustedProxies: [127.0.0.1]");
    let status = |proxy: &Proxy, headers: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n");
        exchange(proxy.users, request.as_bytes())
            .split(' ')
            .nth(1)
            .unwrap()
            .to_owned()
    };
    assert_eq!(status(&trusting, blocked), "403");
    // What stands left of the right-most stranger is what he claims.
    assert_eq!(
        status(&trusting, "X-Forwarded-For: 203.0.113.1, 192.0.2.9\r\n"),
        "403"
    );
    assert_eq!(
        status(&trusting, "X-Forwarded-For: 192.0.2.9, 203.0.113.1\r\n"),
        "200"
    );
    // Its own user is trusted, too: the one before counts.
    assert_eq!(
        status(&trusting, "X-Forwarded-For: 192.0.2.9, 127.0.0.1\r\n"),
        "403"
    );
    let strict = proxy(&endpoint, routes, "trustedProxies: [10.0.0.0/8]");
    assert_eq!(status(&strict, blocked), "200");
}

#[test]
fn the_header_cannot_be_talked_out_of_the_request() {
    let endpoint = well();
    let proxy = proxy(&endpoint, "{ cluster: shop }", "trustedProxies: []");
    // A field that Connection names is one hop's own, and is taken out; not those of this proxy.
    let named = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Real-IP, close\r\nX-Real-IP: 1.1.1.1\r\n\r\n";
    assert!(exchange(proxy.users, named).starts_with("HTTP/1.1 200"));
    let head = endpoint.next_head().unwrap().to_ascii_lowercase();
    assert!(
        head.contains("x-forwarded-for: 127.0.0.1\r\n") && !head.contains("x-real-ip"),
        "{head}"
    );
}
