//! Bodies stream, both ways, whole and untouched; a pause inside a body is nobody's timeout.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::Write;
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
            left -= std::io::Read::read(stream, &mut buffer).unwrap();
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
    std::io::Read::read_exact(&mut user, &mut body).unwrap();
    assert!(body.ends_with(b"yend"));
    sending.join().unwrap();
}
