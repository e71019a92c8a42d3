//! Bodies stream, both ways, whole and untouched; a pause inside a body is nobody's timeout.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::{Read, Write};
use std::time::Duration;

use foreshade_tests::proxy::Proxy;
use foreshade_tests::wire::{Scripted, connect, read_until};

fn proxy(endpoint: &Scripted) -> Proxy {
    Proxy::start_with_route(
        &format!(
            "clusters:\n  - name: shop\n    health: off\n    endpoints:\n      - {{ name: a, address: \"{}\" }}\n",
            endpoint.address
        ),
        // Shorter than the pause in the body below: it counts until the first byte only.
        "{ match: { path: { prefix: / } }, cluster: shop, timeout: 300ms }",
    )
}

#[test]
fn the_first_bytes_arrive_before_the_last_are_sent_and_a_pause_cuts_nothing() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Arc::new(std::sync::Mutex::new(gone));
    let endpoint = Scripted::start(move |stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
            .unwrap();
        gone.lock().unwrap().recv().unwrap();
        // Longer than the route's timeout and any attempt's.
        std::thread::sleep(Duration::from_millis(600));
        stream.write_all(b"-last").unwrap();
    });
    let proxy = proxy(&endpoint);
    let mut user = connect(proxy.users);
    user.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(read_until(&mut user, "first").starts_with("HTTP/1.1 200"));
    go.send(()).unwrap();
    assert_eq!(read_until(&mut user, "last"), "-last");
}

#[test]
fn an_answer_that_does_not_come_is_a_504_within_the_routes_time() {
    let endpoint = Scripted::start(|stream| {
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let proxy = proxy(&endpoint);
    let mut user = connect(proxy.users);
    user.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(read_until(&mut user, "in time\n").starts_with("HTTP/1.1 504"));
}

#[test]
fn a_large_body_passes_both_ways() {
    let endpoint = Scripted::start(|stream| {
        let mut left = 5_000_000;
        let mut buffer = vec![0; 65536];
        while left > 0 {
            left -= Read::read(stream, &mut buffer).unwrap();
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n")
            .unwrap();
        stream.write_all(&vec![b'y'; 4_999_997]).unwrap();
        stream.write_all(b"end").unwrap();
    });
    let proxy = proxy(&endpoint);
    let mut user = connect(proxy.users);
    let mut sender = user.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        sender
            .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n")
            .unwrap();
        sender.write_all(&vec![b'x'; 5_000_000]).unwrap();
    });
    let head = read_until(&mut user, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut body = vec![0; 5_000_000];
    Read::read_exact(&mut user, &mut body).unwrap();
    assert!(body.ends_with(b"yend"));
    sending.join().unwrap();
}

/// Reads chunks to the last one, and counts their data.
fn chunked_data(stream: &mut std::net::TcpStream) -> usize {
    let mut total = 0;
    loop {
        let line = read_until(stream, "\r\n");
        let size = usize::from_str_radix(line.trim_end(), 16).expect("the size of a chunk");
        let mut data = vec![0; size + 2];
        stream.read_exact(&mut data).unwrap();
        if size == 0 {
            return total;
        }
        total += size;
    }
}

#[test]
fn a_chunked_body_of_which_much_is_here_at_once_arrives_whole() {
    const LARGE: usize = 300_000;
    let endpoint = Scripted::start(|stream| {
        loop {
            // The heads are read by the harness; what follows here is the body of the request before.
            let total = chunked_data(stream);
            let answer = format!("{total}\n");
            let length = answer.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all((head + &answer).as_bytes()).unwrap();
            if !read_until(stream, "\r\n\r\n").starts_with("POST") {
                return;
            }
        }
    });
    for relay in [true, false] {
        let proxy = Proxy::start_with(|users, admin| {
            format!(
                "apiVersion: foreshade/v1\nadmin: {{ address: \"{admin}\" }}\nworkers: 1\nrelay: {relay}\nlisteners: [{{ \
                 name: web, address: \"{users}\", routes: [{{ cluster: shop }}] }}]\nclusters: [{{ name: shop, health: off, \
                 endpoints: [{{ name: a, address: \"{}\" }}] }}]\n",
                endpoint.address
            )
        });
        let mut user = connect(proxy.users);
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let body = |length: usize| format!("{length:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(length));
        // The second one's head comes with a large part of its body, behind the first one's.
        let first = format!("{head}{}", body(LARGE));
        let both = format!("{first}{head}{}", body(LARGE));
        let mut writer = user.try_clone().unwrap();
        let writing = std::thread::spawn(move || writer.write_all(both.as_bytes()).unwrap());
        for _ in 0..2 {
            let answer = read_until(&mut user, "\r\n\r\n");
            assert!(answer.starts_with("HTTP/1.1 200"), "relay: {relay}: {answer}");
            assert_eq!(
                read_until(&mut user, "\n"),
                format!("{LARGE}\n"),
                "relay: {relay}"
            );
        }
        writing.join().unwrap();
    }
}
