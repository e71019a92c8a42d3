//! SIGTERM loses nothing: readiness fails, requests in flight finish, and the process leaves when they have.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};

use foreshade_bench::client;
use foreshade_tests::proxy::Proxy;
use foreshade_tests::wire::{Scripted, connect, read_until};

#[test]
fn a_request_in_flight_is_finished_before_the_process_leaves() {
    let (finish, finished) = mpsc::channel::<()>();
    let finished = Arc::new(Mutex::new(finished));
    let endpoint = Scripted::start(move |stream| {
        finished.lock().unwrap().recv().unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
            .unwrap();
    });
    let mut proxy = Proxy::start(&format!(
        "clusters:\n  - name: shop\n    health: off\n    endpoints:\n      - {{ name: a, address: \"{}\" }}\n",
        endpoint.address
    ));
    let mut idle = connect(proxy.users);
    let mut user = connect(proxy.users);
    user.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    endpoint.next_head().unwrap();
    proxy.terminate();
    proxy.wait_until("draining", |p| {
        client::request(p.admin, "GET", "/readyz", "").is_ok_and(|(s, _)| s == 503)
    });
    proxy.wait_until("closed to new users", |p| TcpStream::connect(p.users).is_err());
    finish.send(()).unwrap();
    let answer = read_until(&mut user, "done");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.to_ascii_lowercase().contains("connection: close"),
        "{answer}"
    );
    assert_eq!(
        idle.read(&mut [0]).unwrap(),
        0,
        "whoever asks for nothing is let go"
    );
    assert!(proxy.wait().success());
}
