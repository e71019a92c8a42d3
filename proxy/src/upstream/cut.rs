//! What a deadline gives up: a connection that carries nothing else, or one stream of many.
//!
//! A connection is shut down, and whoever reads it sees it end. That would end the other streams of a connection of HTTP/2
//! along with the late one, so the one who serves it is told instead.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// What is given up when a deadline is reached.
#[derive(Clone, Debug)]
pub enum Line {
    /// A connection that carries one request at a time.
    Socket(RawFd),
    /// A stream of a connection that carries others, too.
    Stream(Arc<Cut>),
}

impl From<RawFd> for Line {
    fn from(socket: RawFd) -> Self {
        Self::Socket(socket)
    }
}

/// Tells the one who serves a stream that it is given up.
#[derive(Debug, Default)]
pub struct Cut {
    made: AtomicBool,
    waits: AtomicWaker,
}

impl Cut {
    /// Gives the stream up.
    pub fn make(&self) {
        self.made.store(true, Ordering::Relaxed);
        self.waits.wake();
    }

    /// Ready once the stream is given up.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.waits.register(cx.waker());
        match self.made.load(Ordering::Relaxed) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// What was late has come after all.
    pub fn forget(&self) {
        self.made.store(false, Ordering::Relaxed);
    }
}
