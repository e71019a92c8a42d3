//! What passes on a connection of HTTP/2 from its endpoint, read along: that something came, and how far a `GOAWAY` goes.
//!
//! The library forgets the number of the last stream that an endpoint says it will finish, and once the connection is over
//! it gives the streams below that number the same error as those above. Below, a request may have had an effect; above, it
//! has none for certain, and an endpoint that is restarted costs nobody an error. Frames begin with their length, so that
//! reading along is counting. Source: RFC 9113 sections 4.1 and 6.8.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes before the payload of a frame.
const HEADER: usize = 9;

/// The type of the frame that is looked for.
const GOAWAY: u8 = 7;

/// No stream has this number: it has 31 bits.
const NONE: u32 = u32::MAX;

/// What has been seen of a connection.
#[derive(Debug)]
pub(super) struct Seen {
    last_stream: AtomicU32,
    /// Reads that brought something.
    heard: AtomicU64,
    over: AtomicBool,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            last_stream: AtomicU32::new(NONE),
            heard: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }
}

impl Seen {
    /// The last stream that the endpoint will finish, where it has said that it ends.
    pub(super) fn last_stream(&self) -> Option<u32> {
        Some(self.last_stream.load(Ordering::Relaxed)).filter(|last| *last != NONE)
    }

    /// How often something came.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Whether the connection has been closed.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// A connection that is read along.
#[derive(Debug)]
pub(super) struct Watched<T> {
    io: T,
    seen: Arc<Seen>,
    frames: Frames,
}

/// Where in a row of frames the next byte belongs.
#[derive(Debug, Default)]
struct Frames {
    /// What has come of a header, and of the first four bytes behind that of a `GOAWAY`.
    head: arrayvec::ArrayVec<u8, { HEADER + 4 }>,
    /// Bytes of the payload that are still to come.
    left: usize,
}

impl<T> Watched<T> {
    pub(super) fn new(io: T, seen: Arc<Seen>) -> Self {
        Self {
            io,
            seen,
            frames: Frames::default(),
        }
    }
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.seen.over.store(true, Ordering::Relaxed);
    }
}

impl Frames {
    /// Follows what has come. Calls `goaway` with the number in each frame of that kind.
    fn follow(&mut self, mut bytes: &[u8], mut goaway: impl FnMut(u32)) {
        while let Some((first, rest)) = bytes.split_first() {
            let is_wanted = self.head.get(3) == Some(&GOAWAY) && !self.head.is_full();
            if self.head.len() < HEADER || (is_wanted && self.left > 0) {
                if self.head.len() >= HEADER {
                    self.left -= 1;
                }
                let _ = self.head.try_push(*first);
                bytes = rest;
                if let Some([a, b, c]) = self.head.first_chunk().filter(|_| self.head.len() == HEADER) {
                    self.left = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
                }
                if let Some(last) = self.head.get(HEADER..).and_then(|id| id.first_chunk()) {
                    goaway(u32::from_be_bytes(*last) & !(1 << 31));
                }
            } else {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
            }
            if self.head.len() >= HEADER && self.left == 0 {
                self.head.clear();
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let here = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let came = buffer.filled().get(here..).unwrap_or_default();
        let Self { seen, frames, .. } = &mut *self;
        if !came.is_empty() {
            seen.heard.fetch_add(1, Ordering::Relaxed);
            frames.follow(came, |last| seen.last_stream.store(last, Ordering::Relaxed));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 0], payload].concat()
    }

    fn goaway(last: u32, debug: &[u8]) -> Vec<u8> {
        frame(GOAWAY, &[&last.to_be_bytes()[..], &[0, 0, 0, 0], debug].concat())
    }

    proptest! {
        /// Whatever is before, between and behind, and however it is cut.
        #[test]
        fn each_goaway_is_seen_and_nothing_else_is_taken_for_one(
            frames in prop::collection::vec((0u8..12, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
            cuts in prop::collection::vec(1usize..30, 1..20),
        ) {
            let mut bytes = Vec::new();
            let mut sent = Vec::new();
            for (at, (kind, payload)) in frames.iter().enumerate() {
                if *kind == GOAWAY {
                    let last = u32::try_from(at).unwrap();
                    bytes.extend(goaway(last | 1 << 31, payload));
                    sent.push(last);
                } else {
                    bytes.extend(frame(*kind, payload));
                }
            }
            let mut follower = Frames::default();
            let mut seen = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                let (piece, later) = rest.split_at((*cut).min(rest.len()));
                follower.follow(piece, |last| seen.push(last));
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, sent);
        }
    }

    #[test]
    fn a_goaway_that_is_too_short_is_the_librarys_to_refuse() {
        let mut frames = Frames::default();
        let bytes = [frame(GOAWAY, &[0, 0]), goaway(5, b"bye")].concat();
        let mut seen = Vec::new();
        frames.follow(&bytes, |last| seen.push(last));
        assert_eq!(seen, [5]);
    }
}
