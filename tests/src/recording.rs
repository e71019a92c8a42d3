//! An endpoint that keeps every byte it is sent, and reads them by a reading of its own: strict, and not the proxy's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use crate::wire::{find, unchunked};

/// Answers every whole request with `ok`. Lives until the process ends.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Connection>>>,
}

/// What came on one connection, and how much of it was taken.
#[derive(Debug, Default)]
struct Connection {
    bytes: Vec<u8>,
    taken: usize,
}

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Request line and headers, without the empty line.
    pub head: String,
    /// What followed, without its coding.
    pub body: Vec<u8>,
}

impl Received {
    /// Its first line.
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

impl Recording {
    /// Starts to listen.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let recording = Self {
            address,
            seen: seen.clone(),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = seen.clone();
                std::thread::spawn(move || record(stream, &seen));
            }
        });
        recording
    }

    /// The clusters of a configuration in which this is the only endpoint.
    pub fn clusters(&self) -> String {
        format!(
            "clusters:\n  - name: shop\n    health: off\n    endpoints:\n      - {{ name: a, address: \"{}\" }}\n",
            self.address
        )
    }

    /// All bytes since the last call, of all connections.
    pub fn take(&self) -> Vec<u8> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter_mut().flat_map(Connection::news).copied().collect()
    }

    /// Of each connection, what came since the last call, if anything did.
    pub fn take_each(&self) -> Vec<Vec<u8>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let news = seen.iter_mut().map(|connection| connection.news().to_vec());
        news.filter(|bytes| !bytes.is_empty()).collect()
    }

    /// Of each connection on which something came since the last call, all that ever came: what was cut off on one says
    /// nothing of how another begins, and what follows it on the same one is read as its continuation.
    pub fn take_whole(&self) -> Vec<Vec<u8>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter_mut()
            .filter_map(|connection| (!connection.news().is_empty()).then(|| connection.bytes.clone()))
            .collect()
    }
}

impl Connection {
    fn news(&mut self) -> &[u8] {
        let before = std::mem::replace(&mut self.taken, self.bytes.len());
        &self.bytes[before..]
    }
}

fn record(mut stream: TcpStream, seen: &Mutex<Vec<Connection>>) {
    let index = {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(Connection::default());
        seen.len() - 1
    };
    let mut pending = Vec::new();
    let mut buffer = [0; 65536];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        pending.extend_from_slice(&buffer[..n]);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen[index].bytes.extend_from_slice(&buffer[..n]);
        drop(seen);
        while let Some((_, length)) = first(&pending) {
            pending.drain(..length);
            if stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
                .is_err()
            {
                return;
            }
        }
    }
}

/// The requests in `bytes`, and what is left behind the last whole one.
pub fn requests(mut bytes: &[u8]) -> (Vec<Received>, &[u8]) {
    let mut all = Vec::new();
    while let Some((received, length)) = first(bytes) {
        all.push(received);
        bytes = &bytes[length..];
    }
    (all, bytes)
}

/// The first whole request and its length.
fn first(bytes: &[u8]) -> Option<(Received, usize)> {
    let end = find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end - 4]).into_owned();
    let value = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let mut values = lines
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.to_owned());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} is there twice:\n{head}");
        value
    };
    let rest = &bytes[end..];
    let (body, length) = match (value("transfer-encoding"), value("content-length")) {
        (Some(coding), None) => {
            assert_eq!(coding, "chunked", "{head}");
            unchunked(rest)?
        }
        (None, length) => {
            let length: usize = length.map_or(0, |l| l.parse().expect("a number"));
            (rest.get(..length)?.to_vec(), length)
        }
        both => panic!("two framings, {both:?}:\n{head}"),
    };
    Some((Received { head, body }, end + length))
}
