//! Connections to endpoints: kept where a second request can follow, and only there; closed when they come of age.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use foreshade_tests::proxy::Proxy;
use foreshade_tests::wire::{Scripted, connect, exchange, read_until};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone";

fn proxy(endpoint: SocketAddr, more: &str) -> Proxy {
    proxy_of(endpoint, true, more)
}

/// One worker, so that all requests find the same connections.
fn proxy_of(endpoint: SocketAddr, relay: bool, more: &str) -> Proxy {
    Proxy::start_with(|users, admin| {
        format!(
            "apiVersion: foreshade/v1\nadmin: {{ address: \"{admin}\" }}\nworkers: 1\nrelay: {relay}\nlisteners: [{{ \
             name: web, address: \"{users}\", routes: [{{ cluster: shop }}] }}]\nclusters: [{{ name: shop, health: off, \
             {more} endpoints: [{{ name: a, address: \"{endpoint}\" }}] }}]\n"
        )
    })
}

fn is_done(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200") && answer.ends_with("done")
}

/// An endpoint that answers every request of a connection, and counts its connections.
fn answering(answer: &'static str) -> (Scripted, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let endpoint = Scripted::start(move |stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        loop {
            if stream.write_all(answer.as_bytes()).is_err() || next_head(stream).is_none() {
                return;
            }
        }
    });
    (endpoint, connections)
}

/// Reads to the end of the next head. `None` when the connection has ended.
fn next_head(stream: &mut TcpStream) -> Option<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(())
}

#[test]
fn users_who_come_one_after_another_share_one_connection() {
    let (endpoint, connections) = answering(ANSWER);
    let proxy = proxy(endpoint.address, "");
    for _ in 0..20 {
        assert!(is_done(&exchange(proxy.users, GET.as_bytes())));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

/// An endpoint that keeps each connection after its first answer, and gives it up when the next request has come.
#[test]
fn a_kept_connection_that_ends_under_a_request_costs_nobody_his_answer() {
    let heads = Arc::new(AtomicUsize::new(0));
    let counted = heads.clone();
    let endpoint = Scripted::start(move |stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        stream.write_all(ANSWER.as_bytes()).unwrap();
        if next_head(stream).is_some() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    for relay in [false, true] {
        let proxy = proxy_of(endpoint.address, relay, "");
        let before = heads.load(Ordering::SeqCst);
        // Several connections are kept, and each of them ends with its next request.
        let mut users: Vec<TcpStream> = (0..3).map(|_| connect(proxy.users)).collect();
        for user in &mut users {
            user.write_all(GET.as_bytes()).unwrap();
        }
        for user in &mut users {
            let mut answer = String::new();
            user.read_to_string(&mut answer).unwrap();
            assert!(is_done(&answer), "relay: {relay}");
        }
        let asked = heads.load(Ordering::SeqCst) - before;
        assert!(is_done(&exchange(proxy.users, GET.as_bytes())), "relay: {relay}");
        assert_eq!(
            heads.load(Ordering::SeqCst) - before,
            asked + 2,
            "on a new connection"
        );
        // It may have had an effect, and is not sent twice.
        assert!(
            exchange(proxy.users, POST.as_bytes()).starts_with("HTTP/1.1 502"),
            "relay: {relay}"
        );
        assert_eq!(heads.load(Ordering::SeqCst) - before, asked + 3);
    }
}

#[test]
fn an_endpoint_that_wants_no_second_request_gets_none() {
    let (endpoint, connections) =
        answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone");
    let proxy = proxy(endpoint.address, "");
    for _ in 0..5 {
        assert!(is_done(&exchange(proxy.users, GET.as_bytes())));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 5);
}

/// A POST is never sent twice, so one that met a connection that has ended would fail.
#[test]
fn a_connection_that_ended_while_it_was_idle_is_not_used() {
    let (end, may_end) = mpsc::channel::<()>();
    let (ended, has_ended) = mpsc::channel::<()>();
    let may_end = Arc::new(Mutex::new(may_end));
    let endpoint = Scripted::start(move |stream| {
        stream.write_all(ANSWER.as_bytes()).unwrap();
        if may_end.lock().unwrap().recv().is_ok() {
            stream.shutdown(Shutdown::Both).unwrap();
            let _ = ended.send(());
        }
    });
    let proxy = proxy(endpoint.address, "");
    assert!(is_done(&exchange(proxy.users, GET.as_bytes())));
    end.send(()).unwrap();
    has_ended.recv().unwrap();
    // On loopback the end is there before anything that is sent after it.
    assert!(is_done(&exchange(proxy.users, POST.as_bytes())));
}

#[test]
fn bytes_that_nobody_asked_for_are_nobodys_answer() {
    let (endpoint, connections) = answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndoneHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong",
    );
    let proxy = proxy(endpoint.address, "");
    for _ in 0..5 {
        assert!(is_done(&exchange(proxy.users, GET.as_bytes())));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 5);
}

#[test]
fn an_answer_that_comes_before_the_request_is_whole_ends_its_connection() {
    let (endpoint, connections) = answering(ANSWER);
    let proxy = proxy(endpoint.address, "");
    let mut user = connect(proxy.users);
    // More than is taken whole before an endpoint is asked.
    user.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\nhalf")
        .unwrap();
    assert!(is_done(&read_until(&mut user, "done")));
    drop(user);
    assert!(is_done(&exchange(proxy.users, GET.as_bytes())));
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[test]
fn an_idle_connection_is_closed_when_its_time_is_over() {
    let (closed, is_closed) = mpsc::channel();
    let endpoint = Scripted::start(move |stream| {
        stream.write_all(ANSWER.as_bytes()).unwrap();
        let _ = closed.send(stream.read(&mut [0]).unwrap());
    });
    let proxy = proxy(endpoint.address, "idleTimeout: 300ms,");
    assert!(is_done(&exchange(proxy.users, GET.as_bytes())));
    let read = is_closed.recv_timeout(Duration::from_secs(20));
    assert_eq!(read, Ok(0), "an end, and no byte");
}
