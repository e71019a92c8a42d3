//! What bytes pass through on their way from one socket to another, where nobody has to read them: one buffer per worker,
//! and pipes.
//!
//! What is small is copied: a read into the buffer and a write out of it, in one go, so that nobody has to keep it. What is
//! large never leaves the kernel: `splice` moves pages from a socket into a pipe and from there into the other socket, two
//! system calls for as much as the pipe holds and no copy. A pipe costs two descriptors; so it is lent to a direction that
//! fills whole buffers, or a body that is known to, and comes back as soon as that has nothing more to move.

use std::cell::{Cell, RefCell};
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// The buffer. Whoever fills it in one read is large.
pub(crate) const COPY_BYTES: usize = 32 * 1024;

/// What a pipe has to hold.
const PIPE_BYTES: usize = 256 * 1024;

/// Pipes of one worker, in use and kept: they bound the memory that the kernel spends on them, and the descriptors.
/// Directions that find none copy.
const PIPES_MAX: u32 = 128;

/// Pipes that are kept for who comes next.
const PIPES_KEPT_MAX: usize = 16;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static KEPT: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    static COUNT: Cell<u32> = const { Cell::new(0) };
}

/// Calls `f` with the worker's buffer, which must not be asked for again inside.
pub(crate) fn with_buffer<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    BUFFER.with(|buffer| match buffer.try_borrow_mut() {
        Ok(mut buffer) => {
            buffer.resize(COPY_BYTES, 0);
            f(&mut buffer)
        }
        Err(_) => f(&mut vec![0; COPY_BYTES]),
    })
}

/// A pipe, and how many bytes are in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
    held: usize,
}

impl Pipe {
    /// An empty pipe, if the worker has one to lend.
    pub(crate) fn borrow() -> Option<Self> {
        let kept = KEPT.with(|kept| kept.borrow_mut().pop());
        kept.or_else(Self::open)
    }

    fn open() -> Option<Self> {
        if COUNT.get() >= PIPES_MAX {
            return None;
        }
        let (reader, writer) = io::pipe().ok()?;
        // Whoever may have no more of them gets one of two pages, and copying is faster than that.
        let wanted = i32::try_from(PIPE_BYTES).unwrap_or(i32::MAX);
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(wanted)).ok()?;
        COUNT.set(COUNT.get() + 1);
        Some(Self {
            reader,
            writer,
            held: 0,
        })
    }

    /// Gives it back. One with bytes in it is closed, so that they cannot come to somebody else.
    pub(crate) fn give_back(self) {
        KEPT.with(|kept| {
            let mut kept = kept.borrow_mut();
            if self.held == 0 && kept.len() < PIPES_KEPT_MAX {
                kept.push(self);
            }
        });
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves at most `most` bytes from a socket into the pipe, which must be empty. 0 at the end of what the socket has to
    /// say.
    ///
    /// # Errors
    /// Those of the socket; [`io::ErrorKind::WouldBlock`] where there is nothing yet, and then the runtime knows.
    pub(crate) fn try_fill(&mut self, from: &TcpStream, most: usize) -> io::Result<usize> {
        from.try_io(Interest::READABLE, || {
            let moved = splice(from, None, &self.writer, None, most.min(PIPE_BYTES), flags())?;
            self.held += moved;
            Ok(moved)
        })
    }

    /// Moves bytes from the pipe, which must hold some, into a socket, once that takes any. Says how many, which are some.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn poll_drain(&mut self, to: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || self.drain(to)) {
                Err(error) if is_to_wait(&error) => {}
                drained => return Poll::Ready(drained),
            }
        }
    }

    fn drain(&mut self, to: impl AsFd) -> io::Result<usize> {
        match splice(&self.reader, None, to, None, self.held, flags())? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            moved => {
                self.held = self.held.saturating_sub(moved);
                Ok(moved)
            }
        }
    }
}

/// Whether it was only too early.
pub(crate) fn is_to_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // At the end of the thread nobody counts any more.
        let _ = COUNT.try_with(|count| count.set(count.get().saturating_sub(1)));
    }
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_lent_again_and_there_are_only_so_many() {
        let lent: Vec<_> = std::iter::from_fn(Pipe::borrow).take(1000).collect();
        assert_eq!(lent.len(), PIPES_MAX as usize);
        lent.into_iter().for_each(Pipe::give_back);
        assert_eq!(COUNT.get() as usize, PIPES_KEPT_MAX, "the others are closed");
        let again = Pipe::borrow().unwrap();
        assert_eq!(COUNT.get() as usize, PIPES_KEPT_MAX);
        drop(again);
    }

    #[test]
    fn a_pipe_with_bytes_in_it_is_not_lent_again() {
        let mut pipe = Pipe::borrow().unwrap();
        pipe.held = 1;
        let before = COUNT.get();
        pipe.give_back();
        assert_eq!(COUNT.get(), before - 1);
    }
}
