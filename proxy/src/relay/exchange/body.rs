//! An answer's body on its way to the client: as it is framed, or in chunks of our own where its connection ends it.

use bytes::Bytes;

use super::{Exchange, READ_MORE, Upstream, chunk};
use crate::framing::Body;
use crate::outcome::Failure;
use crate::server::local;

impl Exchange<'_> {
    /// Passes the head in `out` and a framed body on. Whether nothing came behind it.
    pub(super) async fn pass_body(
        &mut self,
        upstream: &mut Upstream,
        mut body: Body,
    ) -> Result<bool, Failure> {
        loop {
            let here = self.buffers.answer.len();
            let taken = self.take_piece(&mut body)?;
            self.deliver(upstream, taken).await?;
            self.delivered = body.seen();
            self.buffers.answer.clear();
            if body.is_done() {
                return Ok(taken == here);
            }
            while self.may_be_piped(upstream, &body) && self.pass_piped(upstream, &mut body).await? {}
            if body.is_done() {
                return Ok(true);
            }
            match self.read_some(upstream, READ_MORE).await? {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Failure::Truncated),
            }
            local::with(|l| l.worker.progress(&mut self.flow));
        }
    }

    /// How much of what has come belongs to the body; what copies the request gets its data.
    fn take_piece(&mut self, body: &mut Body) -> Result<usize, Failure> {
        let here = &self.buffers.answer;
        let taken = if self.copying.is_on() {
            let mut data = Vec::with_capacity(here.len());
            let taken = body.take_data(here, |piece| data.extend_from_slice(piece));
            self.copying.answer_piece(&data.into());
            taken
        } else {
            body.take(here)
        };
        taken.map_err(|_| Failure::Truncated)
    }

    /// Passes the head in `out` on, and what comes until the endpoint closes: as chunks. False, as the connection is over.
    pub(super) async fn pass_until_close(&mut self, upstream: &mut Upstream) -> Result<bool, Failure> {
        loop {
            let here = self.buffers.answer.len();
            if here > 0 {
                if self.copying.is_on() {
                    self.copying
                        .answer_piece(&Bytes::copy_from_slice(&self.buffers.answer));
                }
                chunk::open(here, &mut self.buffers.out);
            }
            self.deliver(upstream, here).await?;
            self.delivered += here as u64;
            self.buffers.answer.clear();
            if here > 0 {
                chunk::close(&mut self.buffers.out);
            }
            match self.read_some(upstream, READ_MORE).await? {
                Ok(1..) => {}
                Ok(0) => break,
                Err(_) => return Err(Failure::Truncated),
            }
            local::with(|l| l.worker.progress(&mut self.flow));
        }
        self.buffers.out.extend_from_slice(chunk::LAST);
        self.deliver(upstream, 0).await?;
        Ok(false)
    }
}
