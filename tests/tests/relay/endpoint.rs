//! The endpoint of both paths: it keeps what it is sent, and answers by number.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foreshade_tests::proxy::PATIENCE;
use foreshade_tests::wire::{find, unchunked};

use crate::answers::{ANSWERS, Answer};

/// `/3/...` gets the answer with the index 3.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    /// Requests that are whole, and whose answers are not yet over.
    busy: Arc<AtomicUsize>,
}

impl Endpoint {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            busy: Arc::default(),
        };
        let serving = endpoint.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        endpoint
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut pending = Vec::new();
        let mut buffer = [0; 65_536];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            pending.extend_from_slice(&buffer[..n]);
            while let Some((head, length)) = whole(&pending) {
                self.busy.fetch_add(1, SeqCst);
                let message: Vec<u8> = pending.drain(..length).collect();
                self.seen.lock().unwrap().extend(message);
                let answer = chosen(&head);
                let written = stream.write_all(said(&head, answer));
                let over = written.is_err() || answer.close;
                if over {
                    let _ = stream.shutdown(Shutdown::Both);
                }
                self.busy.fetch_sub(1, SeqCst);
                if over {
                    return;
                }
            }
        }
    }

    /// What has come since the last call. Not before the endpoint rests: a connection that it is about to close without a
    /// word is closed then, so that no later request can be sent on it.
    pub(crate) fn take(&self) -> Vec<u8> {
        let begun = Instant::now();
        while self.busy.load(SeqCst) > 0 {
            assert!(begun.elapsed() < PATIENCE, "the endpoint does not rest");
            std::thread::sleep(Duration::from_micros(50));
        }
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// What has come so far, and stays.
    pub(crate) fn seen(&self) -> Vec<u8> {
        self.seen.lock().unwrap().clone()
    }
}

/// A HEAD is answered with a head, or what follows would be taken for another answer.
fn said(head: &str, answer: Answer) -> &'static [u8] {
    let mut end = 0;
    while let Some(at) = find(&answer.bytes[end..], b"\r\n\r\n") {
        let announces = answer.bytes[end..].starts_with(b"HTTP/1.1 1");
        end += at + 4;
        if !announces {
            break;
        }
    }
    match end {
        1.. if head.starts_with("HEAD ") => &answer.bytes[..end],
        _ => answer.bytes,
    }
}

fn chosen(head: &str) -> Answer {
    let number = head
        .split('/')
        .nth(1)
        .and_then(|rest| rest.split([' ', '?']).next());
    let number = number.and_then(|number| number.parse::<usize>().ok());
    ANSWERS[number.unwrap_or(0)]
}

/// The head of the first message, and the length of all of it.
fn whole(bytes: &[u8]) -> Option<(String, usize)> {
    let end = find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let field = |name: &str| {
        let line = head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(name))?;
        Some(line[name.len()..].trim().to_owned())
    };
    let body = match (field("transfer-encoding:"), field("content-length:")) {
        (Some(_), _) => unchunked(&bytes[end..])?.1,
        (None, length) => length.map_or(0, |length| length.parse().unwrap()),
    };
    (bytes.len() >= end + body).then_some((head, end + body))
}
