//! A request that cannot have had an effect goes elsewhere; one that may have stays where it was, whatever it costs.
// Concept: endpoint-failover
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::Write;

use foreshade_bench::client;
use foreshade_tests::proxy::{Proxy, free_address};
use foreshade_tests::wire::{Scripted, exchange};

/// `a` is as the test says, `a-standby` answers.
fn proxy(a: std::net::SocketAddr, standby: &Scripted) -> Proxy {
    Proxy::start(&clusters(a, standby))
}

fn clusters(a: std::net::SocketAddr, standby: &Scripted) -> String {
    format!(
        "clusters:\n  - name: shop\n    health: off\n    endpoints:\n      - {{ name: a, address: \"{a}\", shadow: \
         a-standby }}\n    shadows:\n      - {{ name: a-standby, address: \"{}\" }}\n",
        standby.address
    )
}

fn well() -> Scripted {
    Scripted::start(|stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwell")
            .unwrap();
    })
}

fn status(method: &str, proxy: &Proxy) -> u16 {
    let bytes = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
    exchange(proxy.users, bytes.as_bytes())
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn what_was_never_sent_goes_to_the_shadow_whatever_the_method() {
    let standby = well();
    let proxy = proxy(free_address(), &standby);
    for method in ["GET", "POST", "PATCH"] {
        assert_eq!(status(method, &proxy), 200, "{method}");
    }
}

#[test]
fn a_broken_answer_moves_a_get_and_never_a_post() {
    let standby = well();
    // Hangs up after the whole request has come: it may have acted on it.
    let a = Scripted::start(|_| {});
    let proxy = proxy(a.address, &standby);
    assert_eq!(status("POST", &proxy), 502);
    assert!(a.next_head().unwrap().starts_with("POST"));
    assert_eq!(standby.head_so_far(), None, "the POST reached two endpoints");
    assert_eq!(status("GET", &proxy), 200);
    let second = standby.next_head().unwrap();
    assert!(
        second.starts_with("GET") && second.contains("x-foreshade-attempt: 2"),
        "{second}"
    );
}

#[test]
fn a_post_with_an_idempotency_key_may_move() {
    let standby = well();
    let a = Scripted::start(|_| {});
    let proxy = proxy(a.address, &standby);
    let post = b"POST / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    assert!(exchange(proxy.users, post).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_request_that_another_layer_repeats_is_not_repeated_here() {
    let standby = well();
    let a = Scripted::start(|_| {});
    let proxy = proxy(a.address, &standby);
    let get = b"GET / HTTP/1.1\r\nHost: a\r\nx-foreshade-attempt: 2\r\nConnection: close\r\n\r\n";
    assert!(exchange(proxy.users, get).starts_with("HTTP/1.1 502"));
}

#[test]
fn a_route_that_allows_one_attempt_makes_one() {
    let route = |attempts: u32| format!("{{ cluster: shop, attempts: {attempts} }}");
    for (attempts, refused, broken) in [(1, 502, 502), (2, 200, 200)] {
        let standby = well();
        let hangs_up = Scripted::start(|_| {});
        for (a, expected) in [(free_address(), refused), (hangs_up.address, broken)] {
            let proxy = Proxy::start_with_route(&clusters(a, &standby), &route(attempts));
            assert_eq!(status("GET", &proxy), expected, "{attempts}");
        }
        assert_eq!(standby.head_so_far().is_some(), attempts > 1);
    }
}

#[test]
fn an_answer_that_breaks_off_is_not_glued_to_another_one() {
    let standby = well();
    let a = Scripted::start(|stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            .unwrap();
    });
    let proxy = proxy(a.address, &standby);
    let answer = exchange(proxy.users, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.ends_with("half"), "{answer}");
    assert_eq!(standby.head_so_far(), None);
}

#[test]
fn nobody_left_is_a_503_in_one_line() {
    let proxy = Proxy::start(&format!(
        "clusters:\n  - name: shop\n    health: off\n    endpoints:\n      - {{ name: a, address: \"{}\" }}\n",
        free_address()
    ));
    let (status, body) = client::request(proxy.users, "GET", "/", "").unwrap();
    assert!(matches!(status, 502 | 503), "{status}");
    assert_eq!(body.lines().count(), 1, "{body}");
}

/// Answers every request with a 500.
fn failing() -> Scripted {
    Scripted::start(|stream| {
        stream
            .write_all(b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            .unwrap();
    })
}

#[test]
fn a_500_is_an_answer_unless_the_route_takes_it_for_a_failure() {
    for relay in [true, false] {
        for (says, get) in [("", 500), (", retryOn: [501]", 500), (", retryOn: [500]", 200)] {
            let (a, standby) = (failing(), well());
            let mut proxy = Proxy::start_with(|users, admin| {
                let clusters = clusters(a.address, &standby);
                format!(
                    "apiVersion: foreshade/v1\nadmin: {{ address: {admin} }}\nrelay: {relay}\nlisteners:\n  - name: web\n    \
                     address: {users}\n    routes: [{{ cluster: shop{says} }}]\n{clusters}"
                )
            });
            assert_eq!(status("GET", &proxy), get, "relay {relay}{says}");
            assert_eq!(status("POST", &proxy), 500, "relay {relay}{says}");
            let failovers = "foreshade_failovers_total{cluster=\"shop\",reason=\"status\"}";
            let failed = "foreshade_answers_total{cluster=\"shop\",code_class=\"5xx\"}";
            let moved = u64::from(get == 200);
            // Each worker is asked by a tick, and either may have served either request.
            proxy.wait_until("counted", |proxy| {
                proxy.count(failed) == 2 - moved && proxy.count(failovers) >= moved
            });
            assert_eq!(proxy.count(failovers), moved, "relay {relay}{says}");
        }
    }
}

#[test]
fn the_user_sees_the_last_of_the_answers_that_failed() {
    let (a, standby) = (failing(), failing());
    let route = "{ cluster: shop, retryOn: [500] }";
    let proxy = Proxy::start_with_route(&clusters(a.address, &standby), route);
    assert_eq!(status("GET", &proxy), 500);
    assert!(a.next_head().is_some() && standby.next_head().is_some());
    assert_eq!(a.head_so_far(), None, "twice at one endpoint");
}
