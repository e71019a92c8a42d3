//! Strangers: users who open a connection for each request, one after another, from a thread of their own; and the tally
//! that those who ask for long keep of what they got.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use crate::client;

/// Time between two requests of the strangers: fifty connections per second.
const PACE: Duration = Duration::from_millis(20);

/// Failures that are kept in words; the others are counted.
const WORDS_MAX: usize = 20;

/// How many requests were made, and how many of them failed.
#[derive(Debug, Default)]
pub struct Tally {
    asked: AtomicU64,
    failed: AtomicU64,
    words: Mutex<Vec<String>>,
}

impl Tally {
    /// Counts a request, and why it failed if it did.
    pub fn note(&self, result: Result<(), String>) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let Err(why) = result else { return };
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() < WORDS_MAX {
            words.push(why);
        }
    }

    /// Requests so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Of these, those that failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// The first failures, in words.
    pub fn words(&self) -> Vec<String> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Users who open a connection for each request. Dropping them lets the last one finish.
#[derive(Debug)]
pub struct Strangers {
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Strangers {
    /// Starts asking.
    pub fn start(users: SocketAddr) -> Result<Self> {
        let (tally, stop) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
        let (noted, stopped) = (Arc::clone(&tally), Arc::clone(&stop));
        let ask = move || {
            while !stopped.load(Ordering::Relaxed) {
                noted.note(match client::request(users, "GET", "/a", "") {
                    Ok((200, _)) => Ok(()),
                    Ok((status, _)) => Err(format!("status {status}")),
                    Err(error) => Err(error.to_string()),
                });
                std::thread::sleep(PACE);
            }
        };
        let thread = std::thread::Builder::new().name("strangers".into()).spawn(ask)?;
        Ok(Self {
            tally,
            stop,
            thread: Some(thread),
        })
    }

    /// What they got so far.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What they have asked is in the tally.
            let _ = thread.join();
        }
    }
}
