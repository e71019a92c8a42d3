//! Users whom nobody knows: each request comes on a new connection, so that none is lost only if nobody is turned away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::proxy::PATIENCE;
use crate::wire::exchange;

/// Users on new connections, so many at a time, one request after the other until they are told to stop.
#[derive(Debug)]
pub struct Strangers {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Strangers {
    /// Lets `n` of them ask for `path`.
    pub fn start(users: SocketAddr, n: usize, path: &str) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let threads = (0..n).map(|_| {
            let (stop, asked, request) = (stop.clone(), asked.clone(), request.clone());
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let answer = exchange(users, request.as_bytes());
                    if !answer.starts_with("HTTP/1.1 200") {
                        failed.push(answer);
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                failed
            })
        });
        let threads = threads.collect();
        Self { stop, asked, threads }
    }

    /// Waits until so many more have asked.
    ///
    /// # Panics
    /// When they are not served.
    pub fn more(&self, n: u32) {
        let (begun, asked) = (Instant::now(), self.asked.load(Ordering::Relaxed));
        while self.asked.load(Ordering::Relaxed) < asked + n {
            assert!(begun.elapsed() < PATIENCE, "strangers are not served");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many have asked, and what those got who failed.
    ///
    /// # Panics
    /// When nobody listened.
    pub fn finish(self) -> (u32, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let threads = self.threads.into_iter();
        let failed = threads
            .flat_map(|thread| thread.join().expect("somebody listens"))
            .collect();
        (self.asked.load(Ordering::Relaxed), failed)
    }
}
