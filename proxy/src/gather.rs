//! Small writes that leave together.
//!
//! HTTP engines write a message in pieces: a head, the size of a chunk, its bytes. On a socket without Nagle's algorithm
//! each would be a system call and a segment of its own. Here they wait for each other until a flush or until
//! [`BYTES_MAX`]; what is as large as that goes straight through. Nothing is held between two flushes.

use std::io;
use std::task::{Poll, ready};

/// Writes gather up to this many bytes: a head and a small page; more would only delay the first byte.
pub(crate) const BYTES_MAX: usize = 16 * 1024;

/// What most messages fit in. Growing in steps would copy.
const BYTES_USUAL: usize = 2 * 1024;

/// What waits to be written.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    bytes: Vec<u8>,
    /// How much of it the kernel has taken already.
    sent: usize,
}

impl Gather {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether these bytes find room beside those that wait.
    pub(crate) fn has_room_for(&self, bytes: &[u8]) -> bool {
        self.bytes.len() + bytes.len() <= BYTES_MAX
    }

    /// Lets these bytes wait.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        if self.bytes.is_empty() {
            self.bytes.reserve(bytes.len().max(BYTES_USUAL));
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Hands everything to `write`, which says how much the kernel has taken, and then holds no buffer.
    ///
    /// # Errors
    /// Those of `write`, and [`io::ErrorKind::WriteZero`] where it takes nothing.
    pub(crate) fn poll_drain(
        &mut self,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(write(rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.sent += taken,
            }
        }
        *self = Self::default();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_not_take_stays_and_leaves_in_order() {
        let mut gather = Gather::default();
        gather.put(b"head ");
        gather.put(b"body");
        let (mut out, mut calls) = (Vec::new(), 0);
        let mut write = |rest: &[u8]| {
            calls += 1;
            if calls == 3 {
                return Poll::Pending;
            }
            out.extend_from_slice(rest.get(..2).unwrap_or(rest));
            Poll::Ready(Ok(rest.len().min(2)))
        };
        assert!(gather.poll_drain(&mut write).is_pending());
        assert!(!gather.is_empty());
        assert!(matches!(gather.poll_drain(&mut write), Poll::Ready(Ok(()))));
        assert_eq!(out, b"head body");
        assert_eq!(gather.bytes.capacity(), 0, "an idle connection holds no buffer");
    }

    #[test]
    fn a_kernel_that_takes_nothing_is_an_error_and_not_a_loop() {
        let mut gather = Gather::default();
        gather.put(b"x");
        let polled = gather.poll_drain(|_| Poll::Ready(Ok(0)));
        assert!(matches!(polled, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::WriteZero));
    }

    #[test]
    fn room_ends_where_the_first_byte_would_be_late() {
        let mut gather = Gather::default();
        assert!(gather.has_room_for(&[0; BYTES_MAX]));
        gather.put(b"x");
        assert!(!gather.has_room_for(&[0; BYTES_MAX]));
    }
}
