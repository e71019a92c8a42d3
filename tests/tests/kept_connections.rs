//! A client's connection is his: an endpoint's failure does not close it, and what he does with it is respected, halves
//! and pauses and other protocols included.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};

use foreshade_tests::proxy::{Proxy, free_address};
use foreshade_tests::wire::{Scripted, connect, exchange, read_until};

fn proxy(endpoint: SocketAddr) -> Proxy {
    Proxy::start_with_route(
        &format!(
            "clusters:\n  - name: shop\n    health: off\n    endpoints:\n      - {{ name: a, address: \"{endpoint}\" }}\n"
        ),
        "{ match: { path: { prefix: /shop } }, cluster: shop, timeout: 300ms }",
    )
}

/// Sends a request and reads an answer whose body ends a line.
fn ask(user: &mut TcpStream, request: &str, status: u16) {
    user.write_all(request.as_bytes()).unwrap();
    let head = read_until(user, "\r\n\r\n");
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    assert!(head.contains("\r\nConnection: keep-alive\r\n"), "{head}");
    assert!(read_until(user, "\n").starts_with("foreshade: "));
}

const GET: &str = "GET /shop HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_client_of_an_endpoint_that_is_gone_keeps_its_connection() {
    let proxy = proxy(free_address());
    let mut user = connect(proxy.users);
    for _ in 0..3 {
        ask(&mut user, GET, 502);
    }
    ask(&mut user, "GET /other HTTP/1.1\r\nHost: a\r\n\r\n", 404);
    ask(&mut user, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 404);
    ask(&mut user, GET, 502);
}

#[test]
fn so_does_one_whose_body_comes_with_the_head_in_pieces_or_in_chunks() {
    let proxy = proxy(free_address());
    let mut user = connect(proxy.users);
    let head = "POST /shop HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    ask(&mut user, &format!("{head}hello"), 502);
    user.write_all(format!("{head}he").as_bytes()).unwrap();
    ask(&mut user, "llo", 502);
    // Another request, and not a part of the body.
    ask(&mut user, &format!("{head}hello{GET}"), 502);
    assert!(read_until(&mut user, "\n\r\n").starts_with("HTTP/1.1 502"));
    assert!(read_until(&mut user, "\n").starts_with("foreshade: "));
    let chunked =
        "POST /shop HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    user.write_all(chunked.as_bytes()).unwrap();
    assert!(read_until(&mut user, "\n\r\n").starts_with("HTTP/1.1 502"));
}

/// What was said of the connection with one answer does not hold for the next: what stands behind the last one is nobody's.
#[test]
fn behind_an_answer_that_closes_nothing_is_served_whatever_the_one_before_said() {
    let endpoint = Scripted::start(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    let proxy = proxy(endpoint.address);
    let (kept, closing) = (
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.0\r\nHost: a\r\n\r\n",
    );
    let behind = "GET /shop/behind HTTP/1.1\r\nHost: a\r\n\r\n";
    for _ in 0..3 {
        let answers = exchange(proxy.users, format!("{kept}{closing}{behind}").as_bytes());
        assert_eq!(answers.matches("HTTP/1.1 404 ").count(), 2, "{answers}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
    }
    let mut user = connect(proxy.users);
    user.write_all(GET.as_bytes()).unwrap();
    read_until(&mut user, "\r\n\r\n");
    let first = endpoint.next_head().unwrap();
    assert!(first.starts_with("GET /shop HTTP/1.1"), "{first}");
}

#[test]
fn a_client_that_waits_for_a_go_ahead_is_told_of_the_end() {
    let proxy = proxy(free_address());
    let mut user = connect(proxy.users);
    user.write_all(b"POST /shop HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    user.read_to_string(&mut answer).expect("closed, not reset");
    assert!(
        answer.starts_with("HTTP/1.1 502 ") && answer.contains("\r\nConnection: close\r\n"),
        "{answer}"
    );
}

#[test]
fn a_client_of_an_endpoint_that_hangs_keeps_its_connection() {
    let endpoint = Scripted::start(|stream| {
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let proxy = proxy(endpoint.address);
    let mut user = connect(proxy.users);
    ask(&mut user, GET, 504);
    ask(
        &mut user,
        "POST /shop HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        504,
    );
    ask(&mut user, GET, 504);
}

#[test]
fn an_answer_that_breaks_off_ends_the_connection() {
    let endpoint = Scripted::start(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    });
    let proxy = proxy(endpoint.address);
    let mut user = connect(proxy.users);
    user.write_all(GET.repeat(2).as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = user.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.ends_with("half") && answer.matches("HTTP/1.1").count() == 1,
        "{answer}"
    );
}

#[test]
fn a_client_that_has_closed_its_own_side_gets_its_answer() {
    let (endpoint, finish) = Scripted::when_told("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
    let proxy = proxy(endpoint.address);
    let mut user = connect(proxy.users);
    user.write_all(GET.as_bytes()).unwrap();
    user.shutdown(Shutdown::Write).unwrap();
    endpoint.next_head().unwrap();
    finish.send(()).unwrap();
    let mut answer = String::new();
    user.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"),
        "{answer}"
    );
}

#[test]
fn a_go_ahead_passes_and_the_body_follows() {
    let endpoint = Scripted::start(|stream| {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
            .unwrap();
    });
    let proxy = proxy(endpoint.address);
    let mut user = connect(proxy.users);
    user.write_all(b"POST /shop HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    assert_eq!(read_until(&mut user, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    user.write_all(b"hello").unwrap();
    assert!(read_until(&mut user, "done").starts_with("HTTP/1.1 200"));
}

#[test]
fn another_protocol_begins_with_its_101_and_not_before() {
    let (agree, agreed) = mpsc::channel::<()>();
    let agreed = Arc::new(Mutex::new(agreed));
    let endpoint = Scripted::start(move |stream| {
        agreed.lock().unwrap().recv().unwrap();
        stream.set_nonblocking(true).unwrap();
        let early = stream.read(&mut [0; 1]);
        stream.set_nonblocking(false).unwrap();
        assert!(early.is_err(), "bytes came before the protocol was agreed on");
        stream
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            )
            .unwrap();
        let mut word = [0; 5];
        while stream.read_exact(&mut word).is_ok() {
            word.reverse();
            stream.write_all(&word).unwrap();
        }
    });
    let proxy = proxy(endpoint.address);
    let mut user = connect(proxy.users);
    let request = "GET /shop HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly";
    user.write_all(request.as_bytes()).unwrap();
    endpoint.next_head().unwrap();
    agree.send(()).unwrap();
    assert!(read_until(&mut user, "\r\n\r\n").starts_with("HTTP/1.1 101"));
    assert_eq!(read_until(&mut user, "ylrae"), "ylrae");
    user.write_all(b"GET /").unwrap();
    assert_eq!(read_until(&mut user, "TEG"), "/ TEG");
}
