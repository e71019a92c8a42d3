//! What a client may ask for is bounded, and so is the time that he may take: each limit over a real socket, and counted.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use foreshade_tests::proxy::Proxy;
use foreshade_tests::recording::{Recording, requests};
use foreshade_tests::wire::{Scripted, connect, exchange, read_until};

/// Sends `start` and then one byte after the other for as long as they are taken, and reads the answer.
fn drip(to: std::net::SocketAddr, start: &str, byte: u8) -> String {
    let mut stream = connect(to);
    stream.write_all(start.as_bytes()).unwrap();
    let mut dripping = stream.try_clone().unwrap();
    let drip = std::thread::spawn(move || {
        while dripping.write_all(&[byte]).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("closed, not reset");
    let _ = stream.shutdown(Shutdown::Both);
    drip.join().unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn refused_once(proxy: &mut Proxy, reason: &str) {
    proxy.wait_until(reason, |p| p.refused(reason) == 1);
}

#[test]
fn heads_are_bounded_in_bytes_in_lines_and_in_their_target() {
    let endpoint = Recording::start();
    let mut proxy = Proxy::start_with_limits(
        &endpoint.clusters(),
        "headerBytes: 2KiB, headers: 5, targetBytes: 100B",
    );
    let too_large = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(2048));
    let too_many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(5));
    let too_long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(100));
    for (request, status, reason) in [
        (&too_large, 431, "head_too_large"),
        (&too_many, 431, "fields_too_many"),
        (&too_long, 414, "target_too_long"),
    ] {
        let answer = exchange(proxy.users, request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        refused_once(&mut proxy, reason);
    }
    let fits = format!(
        "GET /{} HTTP/1.1\r\nHost: a\r\n{}Connection: close\r\n\r\n",
        "a".repeat(99),
        "A: b\r\n".repeat(3)
    );
    assert!(exchange(proxy.users, fits.as_bytes()).starts_with("HTTP/1.1 200"));
}

#[test]
fn bodies_are_bounded_whether_their_length_is_known_or_not() {
    let endpoint = Recording::start();
    let mut proxy = Proxy::start_with_limits(&endpoint.clusters(), "bodyBytes: 10B");
    let known = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world";
    assert!(exchange(proxy.users, known.as_bytes()).starts_with("HTTP/1.1 413 "));
    assert_eq!(endpoint.take(), b"");
    // The first chunk goes through before the second one comes.
    let mut user = connect(proxy.users);
    user.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n")
        .unwrap();
    let mut arrived = Vec::new();
    proxy.wait_until("passing the first chunk on", |_| {
        arrived.extend(endpoint.take());
        arrived.windows(8).any(|w| w == b"12345678")
    });
    user.write_all(b"3\r\nabc\r\n0\r\n\r\n").unwrap();
    let answer = read_until(&mut user, "too large\n");
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("Connection: close"),
        "{answer}"
    );
    assert_eq!(user.read(&mut [0; 9]).expect("closed, not reset"), 0);
    arrived.extend(endpoint.take());
    assert_eq!(requests(&arrived).0, [], "an end never arrives");
    proxy.wait_until("aware of both", |p| p.refused("body_too_large") == 2);
    let fits = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 10\r\n\r\n0123456789";
    assert!(exchange(proxy.users, fits.as_bytes()).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_head_that_trickles_in_is_given_up() {
    let endpoint = Recording::start();
    let mut proxy = Proxy::start_with_limits(&endpoint.clusters(), "headerTimeout: 400ms");
    let answer = drip(proxy.users, "GET / HTTP/1.1\r\nHost: a\r\nA: ", b'b');
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    refused_once(&mut proxy, "head_slow");
    assert_eq!(endpoint.take(), b"");
}

#[test]
fn a_body_that_trickles_in_is_given_up_and_never_ends_at_the_endpoint() {
    let endpoint = Recording::start();
    let mut proxy = Proxy::start_with_limits(&endpoint.clusters(), "bodyTimeout: 400ms, minRate: 1KiB/s");
    let start = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
    let answer = drip(proxy.users, start, b'x');
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("\r\nConnection: close\r\n"),
        "{answer}"
    );
    refused_once(&mut proxy, "body_slow");
    assert_eq!(requests(&endpoint.take()).0, []);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n";
    assert!(drip(proxy.users, chunked, b'x').starts_with("HTTP/1.1 408 "));
    assert_eq!(requests(&endpoint.take()).0, []);
}

#[test]
fn a_client_that_does_not_take_its_answer_is_reset() {
    let endpoint = Scripted::start(|stream| {
        // More than both kernels' buffers hold.
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        let _ = (0..1_000).try_for_each(|_| stream.write_all(&[b'x'; 100_000]));
    });
    let clusters = format!(
        "clusters:\n  - name: shop\n    health: off\n    endpoints:\n      - {{ name: a, address: \"{}\" }}\n",
        endpoint.address
    );
    let mut proxy = Proxy::start_with_limits(&clusters, "answerTimeout: 500ms");
    let mut user = connect(proxy.users);
    user.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    refused_once(&mut proxy, "answer_slow");
    let mut sink = Vec::new();
    user.read_to_end(&mut sink)
        .expect_err("a reset, so that the kernel forgets it");
}

#[test]
fn a_client_that_takes_its_answer_slowly_but_steadily_gets_it() {
    let endpoint = Scripted::start(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n");
        let _ = (0..300).try_for_each(|_| stream.write_all(&[b'x'; 100_000]));
    });
    let clusters = format!(
        "clusters:\n  - name: shop\n    health: off\n    endpoints:\n      - {{ name: a, address: \"{}\" }}\n",
        endpoint.address
    );
    let proxy = Proxy::start_with_limits(&clusters, "answerTimeout: 100ms");
    let mut user = connect(proxy.users);
    user.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    read_until(&mut user, "\r\n\r\n");
    let (mut taken, mut buffer) = (0, vec![0; 1_000_000]);
    while taken < 30_000_000 {
        let n = user.read(&mut buffer).expect("it goes on");
        assert_ne!(n, 0, "after {taken} bytes");
        taken += n;
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(proxy.refused("answer_slow"), 0);
}

/// Whether `stream` is served.
fn is_served(stream: &mut TcpStream) -> bool {
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut start = [0; 12];
    stream.read_exact(&mut start).is_ok() && &start == b"HTTP/1.1 200"
}

#[test]
fn connections_are_bounded_in_all_workers_together() {
    let endpoint = Recording::start();
    let mut proxy = Proxy::start_with_limits(&endpoint.clusters(), "connections: 3");
    let mut users: Vec<_> = (0..3).map(|_| connect(proxy.users)).collect();
    assert!(users.iter_mut().all(is_served));
    let answer = read_until(&mut connect(proxy.users), "connections\n");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    refused_once(&mut proxy, "connections_too_many");
    drop(users.pop());
    proxy.wait_until("letting somebody in again", |p| is_served(&mut connect(p.users)));
}

#[test]
fn connections_of_one_client_are_bounded_unless_its_address_is_private() {
    let endpoint = Recording::start();
    let mut proxy = Proxy::start_with_limits(
        &endpoint.clusters(),
        "connectionsPerClient: 2, exemptPrivate: false",
    );
    let mut users: Vec<_> = (0..2).map(|_| connect(proxy.users)).collect();
    assert!(users.iter_mut().all(is_served));
    let answer = read_until(&mut connect(proxy.users), "this address\n");
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    refused_once(&mut proxy, "client_connections_too_many");
    let exempt = Proxy::start_with_limits(&endpoint.clusters(), "connectionsPerClient: 2");
    let mut users: Vec<_> = (0..5).map(|_| connect(exempt.users)).collect();
    assert!(users.iter_mut().all(is_served));
}

#[test]
fn the_last_request_of_a_connection_is_told_so() {
    let endpoint = Recording::start();
    let proxy = Proxy::start_with_limits(&endpoint.clusters(), "requests: 2");
    let mut user = connect(proxy.users);
    let one = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    user.write_all(one.repeat(3).as_bytes()).unwrap();
    let mut answers = String::new();
    user.read_to_string(&mut answers).expect("closed, not reset");
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    assert_eq!(answers.matches("Connection: keep-alive").count(), 1, "{answers}");
    assert_eq!(answers.matches("Connection: close").count(), 1, "{answers}");
}
