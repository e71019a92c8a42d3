//! What all copies of this process may hold together: places and bytes.
//!
//! Two atomics, shared by the workers and the mirror's thread, and touched for copied requests only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::{Buf, Bytes};

/// Bytes of bodies that copies hold at a time: what waits for a target, and answers kept for comparison. Enough for the
/// default concurrency with bodies of usual size, small beside what the process uses anyway.
pub const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Copies under way at a time, over all rules. Beside their bodies each holds a task, a socket, and its buffers.
const COPIES_MAX: usize = 1024;

/// What is used up.
#[derive(Debug, Default)]
pub(super) struct Limits {
    held: AtomicUsize,
    copies: AtomicUsize,
}

impl Limits {
    /// One more copy is under way; false where none may be.
    pub(super) fn begin(&self) -> bool {
        let room = |used: usize| (used < COPIES_MAX).then_some(used + 1);
        self.copies.fetch_update(Relaxed, Relaxed, room).is_ok()
    }

    /// A copy has ended.
    pub(super) fn end(&self) {
        self.copies.fetch_sub(1, Relaxed);
    }

    /// Copies under way.
    pub(super) fn under_way(&self) -> usize {
        self.copies.load(Relaxed)
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.held.load(Relaxed)
    }
}

/// Bytes that count as held until they are dropped. They are shared with whoever else has them, not copied: what counts is
/// that they could not be freed.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Bytes,
    size: usize,
    limits: Arc<Limits>,
}

impl Held {
    /// Holds the bytes, if there is room for them.
    pub(super) fn new(bytes: Bytes, limits: &Arc<Limits>) -> Option<Self> {
        let size = bytes.len();
        let room = |used: usize| used.checked_add(size).filter(|sum| *sum <= HELD_BYTES_MAX);
        limits.held.fetch_update(Relaxed, Relaxed, room).ok()?;
        Some(Self {
            bytes,
            size,
            limits: limits.clone(),
        })
    }
}

impl Buf for Held {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.limits.held.fetch_sub(self.size, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_held_up_to_the_limit_until_they_are_dropped() {
        let limits = Arc::new(Limits::default());
        let piece = Bytes::from(vec![0; HELD_BYTES_MAX / 2]);
        let mut first = Held::new(piece.clone(), &limits).unwrap();
        let _second = Held::new(piece.clone(), &limits).unwrap();
        assert!(Held::new(Bytes::from_static(b"x"), &limits).is_none());
        // Sent is not freed: the whole piece is in memory until its last byte is gone.
        first.advance(1000);
        assert_eq!(limits.held(), HELD_BYTES_MAX);
        drop(first);
        assert!(Held::new(piece, &limits).is_some());
    }
}
