//! Bodies of megabytes: whatever carries them, not a byte is lost, repeated or somebody else's. On either path.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use foreshade_tests::proxy::PATIENCE;
use foreshade_tests::wire::{Scripted, read_until};

use crate::both_directions::{MIB, ask, proxy};

/// No two stretches of it are alike, at any distance that a buffer has.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..=250).cycle().take(bytes).collect()
}

fn head(bytes: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n")
}

/// Sends each body back once it is here, on one connection after the other request. Counts connections.
fn keeping(bytes: usize, behind: &'static str) -> (Scripted, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let endpoint = Scripted::start(move |stream| {
        count.fetch_add(1, Ordering::Relaxed);
        let mut body = vec![0; bytes];
        while stream.read_exact(&mut body).is_ok() {
            let _ = stream.write_all(head(bytes).as_bytes());
            let _ = stream.write_all(&body);
            let _ = stream.write_all(behind.as_bytes());
            if behind.is_empty() && !next_head(stream) {
                return;
            }
        }
    });
    (endpoint, connections)
}

/// Reads a head, if there is one more.
fn next_head(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => seen.extend_from_slice(&byte),
            _ => return false,
        }
    }
    true
}

fn there_and_back(stream: &mut TcpStream, body: &[u8]) {
    let mut writer = stream.try_clone().unwrap();
    let sent = body.to_vec();
    let writing = std::thread::spawn(move || writer.write_all(&sent));
    assert!(read_until(stream, "\r\n\r\n").starts_with("HTTP/1.1 200 "));
    let mut got = vec![0; body.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == body, "other bytes came back");
    writing.join().unwrap().unwrap();
}

#[test]
fn large_bodies_come_back_as_they_were_and_both_connections_go_on() {
    for relay in [true, false] {
        let (endpoint, connections) = keeping(3 * MIB + 1, "");
        let proxy = proxy(relay, &endpoint);
        let body = pattern(3 * MIB + 1);
        let asked = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = ask(proxy.users, &asked);
        there_and_back(&mut stream, &body);
        for _ in 0..3 {
            stream.write_all(asked.as_bytes()).unwrap();
            there_and_back(&mut stream, &body);
        }
        assert_eq!(connections.load(Ordering::Relaxed), 1, "relay {relay}");
    }
}

/// Pipes that a process has open.
fn pipes(pid: u32) -> usize {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let leads_to = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_link(entry.ok()?.path()).ok();
    open.filter_map(leads_to)
        .filter(|to| to.to_string_lossy().starts_with("pipe:"))
        .count()
}

#[test]
fn a_large_answer_and_a_large_body_do_not_leave_the_kernel() {
    let endpoint = Scripted::start(|stream| {
        // A body of this length is not read, another request has none.
        let _ = stream.write_all(head(64 * MIB).as_bytes());
        let _ = stream.write_all(&vec![b'y'; 64 * MIB]);
        let _ = stream.peek(&mut [0]);
    });
    for asked in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            64 * MIB
        ),
    ] {
        let mut proxy = proxy(true, &endpoint);
        let pid = proxy.process().id();
        let before = pipes(pid);
        let stream = ask(proxy.users, &asked);
        let mut writer = stream.try_clone().unwrap();
        // Ends with the proxy, if not before.
        std::thread::spawn(move || {
            asked
                .starts_with("POST")
                .then(|| writer.write_all(&vec![b'x'; 64 * MIB]))
        });
        // Nobody takes what was sent, so what is on the way stays there.
        proxy.wait_until("a pipe is lent", |_| pipes(pid) > before);
        stream.shutdown(Shutdown::Both).unwrap();
    }
}

#[test]
fn what_comes_behind_a_large_answer_is_nobodys() {
    for relay in [true, false] {
        let (endpoint, connections) = keeping(MIB, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        let proxy = proxy(relay, &endpoint);
        let body = pattern(MIB);
        let asked = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {MIB}\r\n\r\n");
        let mut stream = ask(proxy.users, &asked);
        there_and_back(&mut stream, &body);
        stream.write_all(asked.as_bytes()).unwrap();
        there_and_back(&mut stream, &body);
        assert_eq!(
            connections.load(Ordering::Relaxed),
            2,
            "relay {relay}: such a connection is not used again"
        );
    }
}

#[test]
fn a_large_answer_that_breaks_off_is_not_taken_for_whole() {
    for relay in [true, false] {
        let endpoint = Scripted::start(|stream| {
            let _ = stream.write_all(head(4 * MIB).as_bytes());
            let _ = stream.write_all(&pattern(2 * MIB));
        });
        let mut proxy = proxy(relay, &endpoint);
        let mut stream = ask(proxy.users, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 200 "));
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        assert!(got == pattern(2 * MIB)[..got.len()], "relay {relay}");
        let counted = "foreshade_endpoint_attempts_total{cluster=\"shop\",endpoint=\"a\",class=\"reset\"}";
        proxy.wait_until("the cut is the endpoint's", |proxy| proxy.count(counted) == 1);
    }
}

#[test]
fn a_client_that_goes_in_the_middle_of_a_large_answer_ends_it_at_the_endpoint() {
    for relay in [true, false] {
        let (tell, told) = mpsc::channel();
        let endpoint = Scripted::start(move |stream| {
            let _ = stream.write_all(head(1024 * MIB).as_bytes());
            let piece = vec![b'x'; MIB];
            let written = (0..1024).take_while(|_| stream.write_all(&piece).is_ok()).count();
            let _ = tell.send(written);
        });
        let proxy = proxy(relay, &endpoint);
        let mut stream = ask(proxy.users, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.read_exact(&mut vec![0; MIB]).unwrap();
        drop(stream);
        let written = told.recv_timeout(PATIENCE).expect("the endpoint is told");
        assert!(written < 1024, "relay {relay}: the endpoint wrote all of it");
    }
}

#[test]
fn a_client_that_goes_in_the_middle_of_a_large_body_ends_it_at_the_endpoint() {
    for relay in [true, false] {
        let (tell, told) = mpsc::channel();
        let endpoint = Scripted::start(move |stream| {
            let read = std::io::copy(stream, &mut std::io::sink());
            let _ = tell.send(read.unwrap_or_default());
        });
        let proxy = proxy(relay, &endpoint);
        let asked = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            4 * MIB
        );
        let mut stream = ask(proxy.users, &asked);
        stream.write_all(&pattern(2 * MIB)).unwrap();
        drop(stream);
        let read = told.recv_timeout(PATIENCE).expect("the endpoint is told");
        assert!(read <= 2 * MIB as u64, "relay {relay}: {read}");
    }
}
