//! Bytes on a socket, sent and read as they are: for requests that no client library would send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::proxy::PATIENCE;

/// Sends `bytes` on a new connection and reads until the other side closes.
///
/// # Panics
/// When nobody listens.
pub fn exchange(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(to);
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A connection that gives up only where something is broken.
///
/// # Panics
/// When nobody listens.
pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("somebody listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout can be set");
    stream
}

/// Reads from `stream` until what was read ends with `end`.
///
/// # Panics
/// When the stream ends before.
pub fn read_until(stream: &mut impl Read, end: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(end.as_bytes()) {
        let n = stream.read(&mut byte).expect("bytes come");
        assert_ne!(
            n,
            0,
            "the stream ended after {:?}",
            String::from_utf8_lossy(&text)
        );
        text.extend_from_slice(&byte);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Where `what` begins.
pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The data of a chunked body, and its length with all that frames it; `None` where it has no end.
pub fn unchunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = find(bytes.get(at..)?, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[at..at + line]).ok()?, 16).ok()?;
        at += line + 2;
        let chunk = bytes.get(at..at + size + 2)?;
        body.extend_from_slice(chunk.strip_suffix(b"\r\n")?);
        at += size + 2;
        if size == 0 {
            return Some((body, at));
        }
    }
}

/// An endpoint that does with each connection what the test says. Lives until the process ends.
#[derive(Debug)]
pub struct Scripted {
    /// Where it listens.
    pub address: SocketAddr,
    heads: mpsc::Receiver<String>,
}

impl Scripted {
    /// Calls `script` for each connection, on a thread of its own, once the head of a request has come.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(script: impl Fn(&mut TcpStream) + Send + Sync + Clone + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), script)
    }

    /// The same, at an address.
    ///
    /// # Panics
    /// When it is taken.
    pub fn start_at(
        address: SocketAddr,
        script: impl Fn(&mut TcpStream) + Send + Sync + Clone + 'static,
    ) -> Self {
        let (seen, heads) = mpsc::channel();
        let address = serving_at(address, move |stream| serve(stream, &script, &seen));
        Self { address, heads }
    }

    /// Answers each connection's first request with this, and closes it.
    ///
    /// # Panics
    /// When no port is free.
    pub fn saying(answer: &'static str) -> Self {
        let length = answer.len();
        let answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}");
        Self::start(move |stream| {
            // The proxy may have gone.
            let _ = stream.write_all(answer.as_bytes());
        })
    }

    /// Answers each request with these bytes once it is told to.
    ///
    /// # Panics
    /// When no port is free.
    pub fn when_told(answer: &'static str) -> (Self, mpsc::Sender<()>) {
        let (tell, told) = mpsc::channel();
        let told = Arc::new(Mutex::new(told));
        let endpoint = Self::start(move |stream| {
            // The test may be over, and the proxy gone.
            if told.lock().is_ok_and(|told| told.recv().is_ok()) {
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        (endpoint, tell)
    }

    /// The head of the next request that came, if one comes soon.
    pub fn next_head(&self) -> Option<String> {
        self.heads.recv_timeout(PATIENCE).ok()
    }

    /// The head of a request that has come already.
    pub fn head_so_far(&self) -> Option<String> {
        self.heads.recv_timeout(Duration::ZERO).ok()
    }
}

/// An endpoint of any protocol: calls `script` for each connection, on a thread of its own. Lives until the process ends.
///
/// # Panics
/// When no port is free.
pub fn serving(script: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    serving_at(SocketAddr::from(([127, 0, 0, 1], 0)), script)
}

fn serving_at(address: SocketAddr, script: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind(address).expect("a free port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = script.clone();
            std::thread::spawn(move || script(stream));
        }
    });
    address
}

/// Ends a connection as a crash does: with a reset.
///
/// # Panics
/// When the socket is gone already.
pub fn reset(stream: TcpStream) {
    let socket = socket2::Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).expect("it is open still");
}

fn serve(mut stream: TcpStream, script: &impl Fn(&mut TcpStream), seen: &mpsc::Sender<String>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.extend_from_slice(&byte),
            // A probe, or a client that went away.
            _ => return,
        }
    }
    // The test may be over.
    let _ = seen.send(String::from_utf8_lossy(&head).into_owned());
    script(&mut stream);
}
