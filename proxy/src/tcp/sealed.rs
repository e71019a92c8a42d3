//! Bytes of one direction where TLS is spoken with the endpoint: read into the worker's buffer, and written from it.
//!
//! The same back-pressure as without TLS: nothing is read before what was read last is with the other side's kernel, sealed
//! or opened.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pump::{Broke, Way};
use crate::lend;
use crate::socket::is_silent_end;

impl Way {
    /// Moves what there is. Ready when the direction is done. Who ends without saying so in TLS has broken off, unless it
    /// `may_end_silently`.
    pub(super) fn poll_copied(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        may_end_silently: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broke>> {
        loop {
            if self.done {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_hand_on(to, cx)).map_err(|_| Broke::To)?;
            if self.said {
                // Whoever has gone meanwhile needs no end.
                let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            match ready!(self.poll_take(from, cx)) {
                Ok(0) => self.said = true,
                Ok(_) => {}
                Err(error) if may_end_silently && is_silent_end(&error) => self.said = true,
                Err(_) => return Poll::Ready(Err(Broke::From)),
            }
        }
    }

    /// Hands on what was read before, to the last byte.
    fn poll_hand_on(
        &mut self,
        to: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.left.is_empty() {
            let taken = ready!(Pin::new(&mut *to).poll_write(cx, &self.left))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.moved += taken as u64;
            self.left.drain(..taken);
        }
        // A connection that rests holds no memory.
        self.left = Vec::new();
        Pin::new(to).poll_flush(cx)
    }

    /// Reads once: how much has come; 0 at the end.
    fn poll_take(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        lend::with_buffer(|buffer| {
            let mut came = ReadBuf::new(buffer);
            ready!(Pin::new(from).poll_read(cx, &mut came))?;
            self.left.extend_from_slice(came.filled());
            Poll::Ready(Ok(came.filled().len()))
        })
    }
}
