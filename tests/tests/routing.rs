//! A request goes where its most specific route says, changed as the route says, and nobody talks a path past a rule.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::Write;
use std::net::SocketAddr;

use foreshade_tests::proxy::{Proxy, free_address};
use foreshade_tests::wire::{Scripted, connect, exchange, read_until};

/// An endpoint that answers with its name.
fn named(name: &'static str) -> Scripted {
    Scripted::start(move |stream| {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nServer: s\r\nX-Powered-By: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{name}",
            name.len()
        );
        stream.write_all(answer.as_bytes()).unwrap();
    })
}

fn cluster(name: &str, address: SocketAddr, more: &str) -> String {
    format!("  - {{ name: {name}, {more} endpoints: [{{ name: {name}-1, address: \"{address}\" }}] }}\n")
}

/// A proxy with these routes, each in YAML's short form, before `shop` and `api`.
fn proxy(routes: &[&str], shop: &Scripted, api: &Scripted) -> Proxy {
    let clusters = format!(
        "clusters:\n{}{}",
        cluster("shop", shop.address, "health: off,"),
        cluster("api", api.address, "health: off,")
    );
    Proxy::start_with_route(&clusters, &routes.join("\n      - "))
}

fn get(proxy: &Proxy, target: &str, headers: &str) -> String {
    let bytes = format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n{headers}Connection: close\r\n\r\n");
    exchange(proxy.users, bytes.as_bytes())
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[test]
fn the_most_specific_route_serves() {
    let (shop, api) = (named("shop"), named("api"));
    let proxy = proxy(
        &[
            "{ match: { path: { prefix: / } }, cluster: shop }",
            "{ match: { path: { regex: '/v[0-9]+/.*' } }, cluster: api }",
            "{ match: { host: '*.example', methods: [POST] }, cluster: api }",
            "{ match: { headers: [{ name: x-beta, exact: yes }], query: [{ name: v, prefix: '2' }] }, cluster: api }",
        ],
        &shop,
        &api,
    );
    for (target, headers, expected) in [
        ("/", "", "shop"),
        ("/v2/x", "", "api"),
        ("/x/v2/x", "", "shop"),
        ("/?v=2.1", "X-Beta: yes\r\n", "api"),
        ("/?v=1", "X-Beta: yes\r\n", "shop"),
    ] {
        let answer = get(&proxy, target, headers);
        assert!(answer.ends_with(expected), "{target}: {answer}");
    }
    let post = b"POST / HTTP/1.1\r\nHost: B.a.EXAMPLE:80\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert!(exchange(proxy.users, post).ends_with("api"));
}

#[test]
fn no_spelling_of_a_path_gets_past_its_route() {
    let (shop, api) = (named("shop"), named("api"));
    let mut proxy = proxy(
        &[
            "{ cluster: shop }",
            "{ match: { path: { prefix: /admin } }, respond: { status: 403, body: 'staff only' } }",
        ],
        &shop,
        &api,
    );
    for target in [
        "/admin",
        "/admin/x",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2E/admin",
        "/%61dmin",
        "/../../admin",
        "http://a.example/x/../admin",
    ] {
        assert_eq!(status(&get(&proxy, target, "")), "403", "{target}");
    }
    for target in [
        "/x%2f..%2fadmin",
        "/%2fadmin",
        "/x\\..\\admin",
        "/x/..;/admin",
        "/%",
        "/a%00",
        "/admin%2fx",
    ] {
        assert_eq!(status(&get(&proxy, target, "")), "400", "{target}");
    }
    for (reason, n) in [
        ("path_encoded_slash", 3),
        ("path_escape", 1),
        ("path_nul", 1),
        ("path_dots", 1),
    ] {
        proxy.wait_until(reason, |p| p.refused(reason) == n);
    }
    assert_eq!(shop.head_so_far(), None);
    // And what passes is sent in the form in which it was matched.
    for (target, sent) in [
        ("/a/../b%7e?q=/../%2F", "/b~?q=/../%2F"),
        ("http://a.example/c%2D", "/c-"),
        ("/caf%c3%a9", "/caf%C3%A9"),
    ] {
        assert_eq!(status(&get(&proxy, target, "")), "200", "{target}");
        let head = shop.next_head().unwrap();
        assert!(head.starts_with(&format!("GET {sent} HTTP/1.1\r\n")), "{head}");
    }
}

#[test]
fn a_listener_may_keep_what_its_endpoints_tell_apart() {
    let (shop, api) = (named("shop"), named("api"));
    let keep = "{ cluster: shop }\n    path: { encodedSlashes: keep, duplicateSlashes: keep }";
    let proxy = proxy(&[keep], &shop, &api);
    assert_eq!(status(&get(&proxy, "/@scope%2fname//x", "")), "200");
    assert!(shop.next_head().unwrap().starts_with("GET /@scope%2Fname//x "));
    assert_eq!(status(&get(&proxy, "/a%2f..%2fb", "")), "400");
}

#[test]
fn redirects_and_answers_come_from_the_proxy_and_the_connection_lives_on() {
    let (shop, api) = (named("shop"), named("api"));
    let proxy = proxy(
        &[
            "{ match: { path: { prefix: /old } }, redirect: { prefix: /new, status: 308 } }",
            "{ match: { path: { prefix: /tls } }, redirect: { scheme: https } }",
            "{ match: { path: { exact: /fine } }, respond: { status: 200, body: fine, contentType: text/html }, \
             responseHeaders: { set: [{ name: x-by, value: '{route}' }] }, name: health }",
            "{ match: { path: { exact: /gone } }, respond: { status: 204 } }",
            "{ cluster: shop }",
        ],
        &shop,
        &api,
    );
    let mut user = connect(proxy.users);
    let mut ask = |method: &str, target: &str, end: &str| {
        let request =
            format!("{method} {target} HTTP/1.1\r\nHost: a.example:8080\r\nContent-Length: 0\r\n\r\n");
        user.write_all(request.as_bytes()).unwrap();
        read_until(&mut user, end)
    };
    let head = ask("POST", "/old/x?q=1", "\r\n\r\n");
    assert!(
        head.starts_with("HTTP/1.1 308") && head.contains("location: /new/x?q=1\r\n"),
        "{head}"
    );
    let head = ask("GET", "/old//evil.example", "\r\n\r\n");
    assert!(head.contains("location: /new/evil.example\r\n"), "{head}");
    let head = ask("GET", "/tls/x", "\r\n\r\n");
    assert!(head.contains("location: https://a.example/tls/x\r\n"), "{head}");
    let answer = ask("GET", "/fine", "fine");
    assert!(
        answer.to_lowercase().contains("content-type: text/html\r\n") && answer.contains("x-by: health"),
        "{answer}"
    );
    let head = ask("HEAD", "/fine", "\r\n\r\n");
    assert!(head.contains("Content-Length: 4"), "{head}");
    let head = ask("GET", "/gone", "\r\n\r\n");
    assert!(
        head.starts_with("HTTP/1.1 204") && !head.contains("Content-Length"),
        "{head}"
    );
    assert!(ask("GET", "/other", "shop").starts_with("HTTP/1.1 200"));
}

#[test]
fn the_endpoint_sees_the_request_as_the_route_makes_it() {
    let (shop, api) = (named("shop"), named("api"));
    let mut proxy = proxy(
        &[
            "{ match: { path: { prefix: /api } }, cluster: api, name: front, rewrite: { prefix: /v2, host: inner:81 }, \
             requestHeaders: { remove: [cookie], set: [{ name: x-from, value: '{client_ip} {host} {route} {cluster}' }], \
             add: [{ name: accept, value: b }] }, \
             responseHeaders: { remove: [x-powered-by], set: [{ name: server, value: foreshade }], \
             add: [{ name: x-path, value: '{method} {path}' }] } }",
            "{ match: { path: { prefix: /users } }, cluster: shop, \
             rewrite: { regex: { pattern: '^/users/([0-9]+)', replacement: '/u/$1' } } }",
            "{ match: { path: { prefix: /bad } }, cluster: shop, \
             rewrite: { regex: { pattern: '/bad', replacement: '' } } }",
        ],
        &shop,
        &api,
    );
    let answer = get(&proxy, "/api/x?q", "Cookie: a\r\nX-From: spoof\r\nAccept: a\r\n");
    let head = api.next_head().unwrap();
    assert!(head.starts_with("GET /v2/x?q HTTP/1.1\r\n"), "{head}");
    for line in [
        "Host: inner:81",
        "x-from: 127.0.0.1 a.example front api",
        "Accept: a",
        "accept: b",
    ] {
        assert!(
            head.lines().any(|l| l.eq_ignore_ascii_case(line)),
            "{line} is missing: {head}"
        );
    }
    assert!(!head.contains("Cookie") && !head.contains("spoof"), "{head}");
    assert!(
        answer.to_lowercase().contains("server: foreshade\r\n") && !answer.contains("Server: s\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("x-path: GET /api/x\r\n") && !answer.contains("X-Powered-By"),
        "{answer}"
    );

    assert_eq!(status(&get(&proxy, "/users/7/cart", "")), "200");
    assert!(shop.next_head().unwrap().starts_with("GET /u/7/cart "));
    assert_eq!(
        status(&get(&proxy, "/bad", "")),
        "400",
        "the rewrite makes nothing of it"
    );
    assert_eq!(shop.head_so_far(), None);
    proxy.wait_until("path_rewrite", |p| p.refused("path_rewrite") == 1);
}

#[test]
fn what_a_request_must_not_have_decides_as_well() {
    let (shop, api) = (named("shop"), named("api"));
    let proxy = proxy(
        &[
            "{ cluster: shop }",
            "{ match: { headers: [{ name: cookie, not: true }, { name: x-tier, exact: gold, not: true }] }, cluster: api }",
            "{ match: { path: { prefix: /q }, query: [{ name: full, not: true }] }, cluster: api }",
        ],
        &shop,
        &api,
    );
    for (target, headers, expected) in [
        ("/", "", "api"),
        ("/", "X-Tier: silver\r\n", "api"),
        ("/", "X-Tier: silver\r\nX-Tier: gold\r\n", "shop"),
        ("/", "Cookie: a=b\r\n", "shop"),
        ("/q?x", "Cookie: a=b\r\n", "api"),
        ("/q?%66ull", "Cookie: a=b\r\n", "shop"),
    ] {
        let answer = get(&proxy, target, headers);
        assert!(answer.ends_with(expected), "{target} {headers}: {answer}");
    }
}

#[test]
fn a_request_id_can_be_written_wherever_a_header_is() {
    let shop = named("shop");
    let set = |name: &str| format!("set: [{{ name: {name}, value: '<{{request_id}}>' }}]");
    let routes = format!(
        "{{ cluster: shop, requestHeaders: {{ {} }}, responseHeaders: {{ {} }} }}\n      \
         - {{ match: {{ path: {{ exact: /moved }} }}, redirect: {{ path: / }}, responseHeaders: {{ {} }} }}",
        set("x-sent"),
        set("x-told"),
        set("x-told")
    );
    let written = |text: &str, name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": <"));
        line.and_then(|line| line.strip_suffix('>'))
            .map(str::to_owned)
            .unwrap()
    };
    for (make, came, kept) in [
        (true, "X-Request-Id: abc-1\r\n", Some("abc-1")),
        (false, "X-Request-Id: abc-1\r\n", Some("abc-1")),
        (false, "X-Request-Id: a b\r\n", Some("")),
        (false, "", Some("")),
        (true, "X-Request-Id: a b\r\n", None),
        (true, "", None),
    ] {
        let clusters = cluster("shop", shop.address, "health: off,");
        let file = format!("requestId: {{ make: {make} }}\nclusters:\n{clusters}");
        let proxy = Proxy::start_with_route(&file, &routes);
        let answer = get(&proxy, "/", came);
        let head = shop.next_head().unwrap();
        let (sent, told) = (written(&head, "x-sent"), written(&answer, "x-told"));
        assert_eq!(sent, told, "{head}{answer}");
        match kept {
            Some(kept) => assert_eq!(sent, kept),
            // The endpoint knows it by the same name.
            None => assert!(
                head.contains(&format!("{sent}\r\n")) && sent.len() == 32,
                "{head}"
            ),
        }
        let redirected = written(&get(&proxy, "/moved", came), "x-told");
        assert_eq!(redirected.len(), kept.map_or(32, str::len));
    }
}

/// Answers of the proxy to 300 users, each with an address of his own.
fn answers(proxy: &Proxy) -> Vec<String> {
    let user = |n: u32| format!("X-Forwarded-For: 192.0.{}.{}\r\n", n / 200, n % 200);
    (0..300).map(|n| get(proxy, "/", &user(n))).collect()
}

fn weighted(shop: SocketAddr, api: SocketAddr) -> Proxy {
    let probed = "health: { interval: 100ms, timeout: 100ms, fall: 2, rise: 1 },";
    let clusters = format!(
        "clusters:\n{}{}",
        cluster("shop", shop, probed),
        cluster("api", api, probed)
    );
    let route = "{ clusters: [{ name: shop, weight: 3 }, { name: api, weight: 1 }] }\n    \
                 trustedProxies: [127.0.0.1]";
    Proxy::start_with_route(&clusters, route)
}

#[test]
fn users_are_split_by_weight_and_stay_where_they_are() {
    let (shop, api) = (named("shop"), named("api"));
    let proxy = weighted(shop.address, api.address);
    let first = answers(&proxy);
    let at_api = first.iter().filter(|answer| answer.ends_with("api")).count();
    // 75 expected, a standard deviation of 7.5; the hash is fixed, so the count is always the same.
    assert!((45..=105).contains(&at_api), "{at_api}");
    let bodies = |answers: &[String]| {
        let bodies = answers
            .iter()
            .map(|a| a.rsplit("\r\n").next().unwrap().to_owned());
        bodies.collect::<Vec<_>>()
    };
    assert_eq!(bodies(&first), bodies(&answers(&proxy)));
}

#[test]
fn a_cluster_without_anybody_gives_its_users_to_the_others() {
    let shop = named("shop");
    let mut proxy = weighted(shop.address, free_address());
    proxy.wait_until("aware that api is dead", |p| {
        p.endpoint("api-1")["standing"] == "dead"
    });
    // The snapshot that says so reaches the workers with the next tick.
    proxy.wait_until("sending everybody to shop", |p| {
        answers(p).iter().all(|answer| answer.ends_with("shop"))
    });
    assert!(answers(&proxy).iter().all(|answer| status(answer) == "200"));
}
