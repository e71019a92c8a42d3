//! The rest of a large answer, from socket to socket within the kernel.
//!
//! What is copied costs two passes over its bytes, and the cache that others need. A body whose length is known need not
//! be, if nobody has to see it on its way: not where TLS is spoken on either side, nor while a mirror copies it, nor before
//! the request is whole. What comes behind the body stays in the kernel, where the pool finds it.

use std::future::poll_fn;
use std::task::{Poll, ready};

use super::{Exchange, Upstream};
use crate::framing::Body;
use crate::lend::{Pipe, is_to_wait};
use crate::outcome::Failure;
use crate::server::local;

/// A body of which less is left is copied: it is here with the next read, and a pipe takes two calls.
pub(in crate::relay) const PIPED_BYTES_MIN: u64 = 64 * 1024;

impl Exchange<'_> {
    /// Whether what is left of an answer's body may go through a pipe.
    pub(super) fn may_be_piped(&self, upstream: &Upstream, body: &Body) -> bool {
        let is_large = body.left().is_some_and(|left| left >= PIPED_BYTES_MIN);
        let is_in_the_clear = upstream.stream.agreed().is_none() && self.conn.agreed().is_none();
        is_large && is_in_the_clear && !self.copying.is_on() && self.upload.is_over()
    }

    /// Waits for more of the body, and passes that on. False where the worker has no pipe to lend: then it is copied.
    pub(super) async fn pass_piped(&mut self, upstream: &Upstream, body: &mut Body) -> Result<bool, Failure> {
        let endpoint = upstream.stream.tcp();
        let waited = poll_fn(|cx| {
            if let Poll::Ready(waited) = endpoint.poll_read_ready(cx) {
                return Poll::Ready(waited.map_err(|_| Failure::Truncated));
            }
            ready!(self.poll_client_gone(cx));
            Poll::Ready(Err(Failure::ClientGone))
        });
        waited.await?;
        let Some(mut pipe) = Pipe::borrow() else {
            return Ok(false);
        };
        let most = usize::try_from(body.left().unwrap_or_default()).unwrap_or(usize::MAX);
        match pipe.try_fill(endpoint, most) {
            Ok(came @ 1..) => body.pass(came as u64),
            Err(error) if is_to_wait(&error) => {
                pipe.give_back();
                return Ok(true);
            }
            Ok(0) | Err(_) => return Err(Failure::Truncated),
        }
        local::with(|l| l.worker.progress(&mut self.flow));
        while !pipe.is_empty() {
            let sent = poll_fn(|cx| self.conn.poll_send_pipe(cx, &mut pipe)).await;
            self.delivered += sent.map_err(|_| self.client_failure())? as u64;
        }
        pipe.give_back();
        Ok(true)
    }
}
