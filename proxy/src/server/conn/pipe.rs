//! Bodies in the clear that nobody has to see: through a pipe, and counted all the same.

use std::io;
use std::task::{Context, Poll};

use super::{Conn, Message};
use crate::lend::Pipe;

impl Conn {
    /// Hands what a pipe holds to the kernel, past what is gathered: in the clear, where nobody has to see it.
    ///
    /// # Errors
    /// When the connection is broken, or its client does not take it.
    pub(crate) fn poll_send_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        let polled = pipe.poll_drain(self.socket.tcp(), cx);
        self.paced(cx, polled)
    }

    /// How much of the message's body is still to be read from the socket, if that is known, and if it is in the clear: so
    /// much may go through a pipe.
    pub(crate) fn left_in_the_clear(&self) -> Option<u64> {
        match &self.message {
            Message::Body(body) if self.mine == 0 && self.agreed().is_none() => body.left(),
            Message::Body(_) | Message::Raw | Message::Frames => None,
        }
    }

    /// Waits for more of the message's body.
    ///
    /// # Errors
    /// When the connection is broken, or its client is too slow.
    pub(crate) fn poll_body_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.socket.tcp().poll_read_ready(cx) {
            Poll::Ready(ready) => Poll::Ready(ready),
            Poll::Pending => self.poll_body_slow(cx).map(Err),
        }
    }

    /// Moves more of the message's body into a pipe, which must be empty. 0 where the client has ended his side.
    ///
    /// # Errors
    /// When the connection is broken; [`io::ErrorKind::WouldBlock`] where nothing has come.
    pub(crate) fn try_fill(&mut self, pipe: &mut Pipe) -> io::Result<usize> {
        let left = self.left_in_the_clear().unwrap_or_default();
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let came = pipe.try_fill(self.socket.tcp(), most)?;
        self.received += came as u64;
        self.reading.moved();
        if let Message::Body(body) = &mut self.message {
            body.pass(came as u64);
        }
        Ok(came)
    }
}
