//! SIGTERM loses nothing: readiness fails, requests in flight finish, and the process leaves when they have. Those that the
//! end of the grace time cuts off are in the access log.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};

use foreshade_bench::client;
use foreshade_tests::proxy::Proxy;
use foreshade_tests::wire::{Scripted, connect, read_until};
use serde_json::Value;

#[test]
fn a_request_in_flight_is_finished_before_the_process_leaves() {
    let (endpoint, finish) = Scripted::when_told("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
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

/// What the log says of a request whose endpoint sends `answer` and no more, when the grace time ends.
fn cut_after(answer: &'static str) -> Vec<Value> {
    let (hold, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let endpoint = Scripted::start(move |stream| {
        stream.write_all(answer.as_bytes()).unwrap();
        // Until the test is over.
        let _ = held.lock().unwrap().recv();
    });
    let mut proxy = Proxy::spawn(|p| {
        let (users, admin, folder, address) = (p.users, p.admin, p.folder.display(), endpoint.address);
        format!(
            "apiVersion: foreshade/v1\nadmin: {{ address: {admin} }}\ngrace: 0s\nworkers: 1\n\
             accessLog: {{ to: {folder}/access.log }}\nrequestId: {{ make: true }}\n\
             listeners: [{{ name: web, address: {users}, routes: [{{ cluster: shop }}] }}]\n\
             clusters: [{{ name: shop, health: off, endpoints: [{{ name: a, address: \"{address}\" }}] }}]\n"
        )
    });
    proxy.wait_until("ready", |p| {
        client::request(p.admin, "GET", "/readyz", "").is_ok_and(|(s, _)| s == 200)
    });
    // No request yet, so nothing to tell of.
    let mut begun = connect(proxy.users);
    begun.write_all(b"GET /half HTTP/1.1\r\n").unwrap();
    let mut user = connect(proxy.users);
    let request = "GET /shop/%63art?q=1 HTTP/1.1\r\nhOST: shop.example\r\nUser-Agent:  test \"1\" \r\n\
        Connection: upgrade\r\nUpgrade: websocket\r\n\
        traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
    user.write_all(request.as_bytes()).unwrap();
    let head = endpoint.next_head().unwrap();
    if !answer.is_empty() {
        read_until(&mut user, "\r\n\r\n");
    }
    proxy.terminate();
    assert!(proxy.wait().success());
    drop(hold);
    let log = fs::read_to_string(proxy.folder.join("access.log")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: "));
    assert_eq!(id, lines[0]["request_id"].as_str(), "{head}{log}");
    lines
}

#[test]
fn a_request_that_the_end_of_the_grace_time_cuts_off_has_a_line_that_tells_how_far_it_came() {
    for (answer, status, last_phase) in [
        ("", 0, "wait_ms"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf",
            200,
            "transfer_ms",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            101,
            "transfer_ms",
        ),
    ] {
        let lines = cut_after(answer);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line = &lines[0];
        for (key, value) in [
            ("client", "127.0.0.1"),
            ("host", "shop.example"),
            ("method", "GET"),
            ("target", "/shop/%63art?q=1"),
            ("protocol", "HTTP/1.1"),
            ("reason", "shutdown"),
            ("cluster", "shop"),
            ("endpoint", "a"),
            ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
            ("user_agent", "test \"1\""),
        ] {
            assert_eq!(line[key], value, "{key} in {line}");
        }
        assert_eq!((&line["status"], &line["attempts"]), (&status.into(), &1.into()));
        assert!(line.get(last_phase).is_some(), "{line}");
        assert_eq!(line.get("bytes_out"), None, "it is not known: {line}");
    }
}
