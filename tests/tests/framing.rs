//! What a client sends wrongly is the client's mistake: it gets a 4xx, no endpoint is blamed, and nobody else notices.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::Write;

use foreshade_bench::client;
use foreshade_bench::farm::{Farm, FarmOptions};
use foreshade_tests::proxy::Proxy;
use foreshade_tests::wire::{Scripted, connect, exchange, read_until};

fn proxy(farm: &Farm) -> Proxy {
    let [a, b] = farm.addresses() else {
        panic!("two endpoints")
    };
    Proxy::start_with_route(
        &format!(
            "clusters:\n  - name: shop\n    endpoints:\n      - {{ name: a, address: \"{a}\", shadow: a-standby }}\n    \
             shadows:\n      - {{ name: a-standby, address: \"{b}\" }}\n"
        ),
        "{ match: { path: { prefix: /shop } }, cluster: shop }",
    )
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
}

#[test]
fn malformed_requests_are_refused_and_the_next_one_is_served() {
    let farm = Farm::start(FarmOptions::on_free_ports(&["a", "a-standby"])).unwrap();
    let mut proxy = proxy(&farm);
    let malformed: &[&[u8]] = &[
        b"GET /shop HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /shop HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
        b"GET /shop HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST /shop HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
    ];
    for bytes in malformed {
        let answer = exchange(proxy.users, bytes);
        let refused = (400..500).contains(&status(&answer));
        assert!(
            refused,
            "{:?} was answered {answer:?}",
            String::from_utf8_lossy(bytes)
        );
        assert_eq!(client::request(proxy.users, "GET", "/shop", "").unwrap().0, 200);
    }
    let served = malformed.len() as u64;
    proxy.wait_until("aware of what it served", |p| {
        p.endpoint("a")["counts"]["ok"] == served
    });
    let endpoint = proxy.endpoint("a");
    let counts: Vec<u64> = endpoint["counts"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(|n| n.as_u64())
        .collect();
    assert_eq!(
        counts.iter().sum::<u64>(),
        served,
        "nothing but the good requests counts: {endpoint}"
    );
    assert_eq!(endpoint["share"], 0.0, "{endpoint}");
}

#[test]
fn a_request_without_a_route_gets_404_with_one_line_and_reaches_nobody() {
    let farm = Farm::start(FarmOptions::on_free_ports(&["a", "a-standby"])).unwrap();
    let proxy = proxy(&farm);
    let (status, body) = client::request(proxy.users, "GET", "/shopping", "").unwrap();
    assert_eq!((status, body.lines().count()), (404, 1), "{body}");
    assert_eq!(
        farm.counts()["a"].requests() + farm.counts()["a-standby"].requests(),
        0
    );
}

#[test]
fn connect_is_refused() {
    let farm = Farm::start(FarmOptions::on_free_ports(&["a", "a-standby"])).unwrap();
    let proxy = proxy(&farm);
    assert_eq!(
        status(&exchange(
            proxy.users,
            b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"
        )),
        405
    );
}

#[test]
fn what_belongs_to_one_connection_goes_no_further() {
    let upstream = Scripted::start(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    let proxy = Proxy::start(&format!(
        "clusters:\n  - name: shop\n    endpoints: [{{ name: a, address: \"{}\" }}]\n",
        upstream.address
    ));
    let mut hop_by_hop = vec!["Connection: x-private\r\nX-Private: 1".to_owned()];
    let names = [
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Connection",
    ];
    hop_by_hop.extend(names.map(|name| format!("{name}: x-private")));
    hop_by_hop
        .extend(["TE", "Trailer", "Upgrade", "HTTP2-Settings"].map(|name| format!("{name}: x-private")));
    for lines in hop_by_hop {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Kept: 1\r\n{lines}\r\n\r\n");
        let mut client = connect(proxy.users);
        client.write_all(request.as_bytes()).unwrap();
        let answer = read_until(&mut client, "\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200"), "{lines:?}: {answer}");
        let head = upstream.next_head().unwrap().to_ascii_lowercase();
        assert!(head.contains("x-kept: 1"), "{head}");
        assert!(!head.contains("private"), "{lines:?} came through: {head}");
    }
}
