//! Endpoints and users of UDP.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::proxy::PATIENCE;

/// How long an answer is waited for before a user asks again.
const AGAIN: Duration = Duration::from_millis(200);

/// Datagrams that an endpoint remembers: a flood must not fill the memory.
const HEARD_MAX: usize = 10_000;

/// An endpoint of UDP. Dropped, it is gone, and whoever asks it is refused.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<VecDeque<Vec<u8>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Answers each datagram with what `script` says, one after the other.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(script: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), script)
    }

    /// The same, at an address.
    ///
    /// # Panics
    /// When it is taken.
    pub fn start_at(
        address: SocketAddr,
        mut script: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind(address).expect("a free port");
        // What many users send at once must not be lost here.
        let _ = SockRef::from(&socket).set_recv_buffer_size(4 << 20);
        let address = socket.local_addr().expect("its address");
        let (stop, heard) = (Arc::<AtomicBool>::default(), Arc::<Mutex<VecDeque<_>>>::default());
        let (stopped, hears) = (stop.clone(), heard.clone());
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("it can be set");
        let thread = std::thread::spawn(move || {
            let mut room = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut room) else {
                    continue;
                };
                let bytes = room.get(..length).unwrap_or_default();
                let mut hears = hears.lock().unwrap_or_else(PoisonError::into_inner);
                if hears.len() < HEARD_MAX {
                    hears.push_back(bytes.to_vec());
                }
                drop(hears);
                for answer in script(bytes) {
                    // Whoever has asked may have gone.
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self {
            address,
            stop,
            heard,
            thread: Some(thread),
        }
    }

    /// Gives back what it is sent.
    ///
    /// # Panics
    /// When no port is free.
    pub fn echo() -> Self {
        Self::start(|bytes| vec![bytes.to_vec()])
    }

    /// Answers with its name before what it was sent.
    ///
    /// # Panics
    /// When no port is free.
    pub fn named(name: &'static str) -> Self {
        Self::start(move |bytes| vec![[name.as_bytes(), bytes].concat()])
    }

    /// What it has heard since it was asked last.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.drain(..).collect()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A user, who hears nobody but whom he asks.
///
/// # Panics
/// When no port is free.
pub fn user(to: SocketAddr) -> UdpSocket {
    user_at(Ipv4Addr::LOCALHOST, to)
}

/// The same, at an address of his own in `127.0.0.0/8`.
///
/// # Panics
/// When no port is free.
pub fn user_at(own: Ipv4Addr, to: SocketAddr) -> UdpSocket {
    let user = UdpSocket::bind((own, 0)).expect("a free port");
    user.connect(to).expect("there is a way");
    user.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    user
}

/// Sends once, and waits for one answer.
///
/// # Panics
/// When there is none.
pub fn ask(user: &UdpSocket, text: &str) -> String {
    user.send(text.as_bytes()).expect("it is sent");
    hear(user)
}

/// Waits for an answer.
///
/// # Panics
/// When there is none.
pub fn hear(user: &UdpSocket) -> String {
    let mut room = vec![0; 65_536];
    let length = user.recv(&mut room).expect("an answer");
    String::from_utf8_lossy(room.get(..length).unwrap_or_default()).into_owned()
}

/// Sends until there is an answer, as clients of UDP do: the answer, and how often it was sent.
///
/// # Panics
/// When nobody ever answers.
pub fn ask_until_answered(user: &UdpSocket, text: &str) -> (String, u32) {
    user.set_read_timeout(Some(AGAIN)).expect("it can be set");
    let (begun, mut sent, mut room) = (Instant::now(), 0, vec![0; 65_536]);
    loop {
        assert!(begun.elapsed() < PATIENCE, "nobody answers {text}");
        sent += 1;
        // It may tell that what was sent before was refused.
        if user.send(text.as_bytes()).is_err() {
            continue;
        }
        if let Ok(length) = user.recv(&mut room) {
            user.set_read_timeout(Some(PATIENCE)).expect("it can be set");
            let bytes = room.get(..length).unwrap_or_default();
            return (String::from_utf8_lossy(bytes).into_owned(), sent);
        }
    }
}
