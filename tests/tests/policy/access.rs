//! Who is let in, by address.

use std::fs;

use foreshade_tests::recording::Recording;
use serde_json::Value;

use crate::stand::Stand;

const ROUTES: [&str; 4] = [
    "{ match: { path: { prefix: /inner } }, cluster: shop, access: { allow: [10.0.0.0/8, 2001:db8::/32] } }",
    "{ match: { path: { prefix: /old } }, redirect: { path: /new }, access: { allow: [10.0.0.0/8] } }",
    "{ match: { path: { exact: /text } }, respond: { status: 200, body: hello }, access: { deny: [10.0.0.0/8] } }",
    "{ match: { path: { prefix: /shop } }, cluster: shop }",
];

fn stand(endpoint: &Recording, relay: bool) -> Stand {
    Stand::start(
        endpoint.address,
        relay,
        "access: { deny: [203.0.113.0/24] }",
        &ROUTES,
    )
}

#[test]
fn a_listeners_list_holds_for_all_that_it_hears_and_a_routes_for_its_own() {
    for relay in [false, true] {
        let endpoint = Recording::start();
        let mut stand = stand(&endpoint, relay);
        for (client, target, status) in [
            ("192.0.2.1", "/shop", 200),
            ("203.0.113.7", "/shop", 403),
            ("::ffff:203.0.113.7", "/shop", 403),
            ("203.0.113.7", "/nowhere", 403),
            ("192.0.2.1", "/nowhere", 404),
            ("10.1.1.1", "/inner", 200),
            ("2001:db8::7", "/inner", 200),
            ("192.0.2.1", "/inner", 403),
            ("2001:db9::7", "/inner/x", 403),
            ("10.1.1.1", "/old", 307),
            ("192.0.2.1", "/old", 403),
            ("192.0.2.1", "/text", 200),
            ("10.1.1.1", "/text", 403),
        ] {
            let answer = stand.ask(client, target);
            assert_eq!(answer.status, status, "{client} {target}, relay {relay}");
            if status == 403 {
                assert_eq!(
                    answer.body,
                    "foreshade: requests from this address are not served here\n"
                );
            }
        }
        stand.refused("address_denied", 7);
        let arrived = String::from_utf8(endpoint.take()).unwrap();
        assert_eq!(arrived.matches("GET /").count(), 3, "{arrived}");
    }
}

#[test]
fn who_is_not_let_in_keeps_his_connection_and_is_told_each_time() {
    use foreshade_tests::wire::{connect, read_until};
    use std::io::Write as _;
    for relay in [false, true] {
        let endpoint = Recording::start();
        let stand = stand(&endpoint, relay);
        let mut user = connect(stand.proxy.users);
        let request = "GET /shop HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";
        for _ in 0..2 {
            user.write_all(request.as_bytes()).unwrap();
            let answer = read_until(&mut user, "not served here\n");
            assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
            assert!(!answer.contains("Connection: close"), "{answer}");
        }
        // The same connection may have other users behind it.
        user.write_all(b"GET /shop HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
            .unwrap();
        assert!(read_until(&mut user, "ok\n").starts_with("HTTP/1.1 200 "));
    }
}

#[test]
fn nobody_chooses_the_address_that_a_list_is_asked_about() {
    let endpoint = Recording::start();
    let proxy = foreshade_tests::proxy::Proxy::start_with_route(
        &endpoint.clusters(),
        "{ cluster: shop, access: { allow: [10.0.0.0/8] } }",
    );
    let claim = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.1.1.1\r\nConnection: close\r\n\r\n";
    let answer = foreshade_tests::wire::exchange(proxy.users, claim.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(endpoint.take(), b"");
}

#[test]
fn the_access_log_tells_that_a_policy_refused_and_which() {
    let endpoint = Recording::start();
    let log = std::env::temp_dir().join(format!("foreshade-policy-{}.log", std::process::id()));
    let file = format!("accessLog: {{ to: {} }}", log.display());
    let mut stand = Stand::start_with(
        endpoint.address,
        true,
        "access: { deny: [203.0.113.0/24] }",
        &ROUTES,
        &file,
    );
    stand.ask("203.0.113.7", "/shop");
    let read = || fs::read_to_string(&log).unwrap_or_default();
    stand
        .proxy
        .wait_until("through with its log", |_| read().lines().count() == 1);
    let line: Value = serde_json::from_str(read().trim_end()).unwrap();
    fs::remove_file(&log).unwrap();
    for (key, value) in [
        ("client", "203.0.113.7"),
        ("reason", "policy"),
        ("detail", "address_denied"),
    ] {
        assert_eq!(line[key], value, "{line}");
    }
    assert_eq!(line["status"], 403, "{line}");
}

#[test]
fn a_reload_changes_who_is_let_in_for_connections_that_there_are() {
    use foreshade_tests::proxy::preamble;
    use foreshade_tests::wire::{connect, read_until};
    use std::io::Write as _;
    let endpoint = Recording::start();
    let stand = stand(&endpoint, false);
    let mut user = connect(stand.proxy.users);
    let mut ask = |end: &str| {
        user.write_all(b"GET /shop HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
            .unwrap();
        read_until(&mut user, end)
    };
    assert!(ask("ok\n").starts_with("HTTP/1.1 200 "));
    let (users, admin) = (stand.proxy.users, stand.proxy.admin);
    let stricter = crate::stand::config(
        users,
        endpoint.address,
        false,
        "access: { allow: [10.0.0.0/8] }",
        &ROUTES,
        "",
    );
    let (status, outcome) = stand.proxy.reload(&format!("{}{stricter}", preamble(admin)));
    assert_eq!(status, 200, "{outcome}");
    assert!(ask("not served here\n").starts_with("HTTP/1.1 403 "));
}
