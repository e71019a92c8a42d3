//! The body of a request on its way: read from the client in pieces, kept for another attempt while it is short, and
//! written to the endpoint.
//!
//! Chunks are taken apart and made anew, one for each piece that has come: their extensions and the trailers stay behind,
//! as on the full path, so that nobody behind this proxy can read them in another way than it has.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use foreshade_engine::failover::REPLAY_BODY_MAX;
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::chunk;
use super::exchange::PIPED_BYTES_MIN;
use crate::framing::{Body, Framing};
use crate::lend::{Pipe, is_to_wait};
use crate::server::conn::Conn;
use crate::upstream::connect::Socket;

/// Read at once: as much as makes a system call worth its price.
const PIECE: usize = 64 * 1024;

/// Room for a body.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Data that has come, while it is kept for another attempt.
    kept: Vec<u8>,
    /// What the endpoint is sent next.
    out: Vec<u8>,
    /// Data out of chunks.
    plain: Vec<u8>,
}

/// A body on its way.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    room: &'a mut Room,
    /// Of `out`, what the endpoint has taken.
    taken: usize,
    /// Takes the chunks apart, where there are any.
    chunks: Option<Body>,
    framing: Framing,
    /// All data that has come is kept.
    keeps: bool,
    /// How much data has come.
    came: u64,
    /// There is no more to be read.
    whole: bool,
    /// There is no more to be done: all is sent, or nobody takes it.
    over: bool,
    /// The endpoint has taken all of it.
    sent: bool,
    /// What the endpoint is sent next, of what nobody had to see.
    pipe: Option<Pipe>,
}

impl Room {
    /// Makes it as good as new, and no larger than `bytes_max` each.
    pub(super) fn clear(&mut self, bytes_max: usize) {
        for buffer in [&mut self.kept, &mut self.out, &mut self.plain] {
            buffer.clear();
            buffer.shrink_to(bytes_max);
        }
    }
}

impl<'a> Upload<'a> {
    /// A body so framed, of which nothing has been taken.
    pub(super) fn new(room: &'a mut Room, framing: Framing) -> Self {
        Self {
            room,
            taken: 0,
            chunks: (framing == Framing::Chunked).then(|| Body::new(framing, None)),
            framing,
            keeps: true,
            came: 0,
            whole: false,
            over: true,
            sent: false,
            pipe: None,
        }
    }

    /// Takes what has come with the head.
    ///
    /// # Errors
    /// Where it is no body; that has been checked before.
    pub(super) fn take_here(&mut self, conn: &mut Conn) -> io::Result<()> {
        self.room.out.clear();
        conn.take_here(&mut self.room.out);
        self.keep(conn)
    }

    /// Whether it is known to be short enough to be kept whole.
    pub(super) fn fits(&self) -> bool {
        match self.framing {
            Framing::None => true,
            Framing::Length(length) => length <= REPLAY_BODY_MAX as u64,
            Framing::Chunked => false,
        }
    }

    /// Whether all that has come can be sent once more.
    pub(super) fn is_kept(&self) -> bool {
        self.keeps
    }

    /// How much data has come.
    pub(super) fn came(&self) -> u64 {
        self.came
    }

    /// Whether all of it has come.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the endpoint has taken the whole request.
    pub(super) fn is_sent(&self) -> bool {
        self.sent
    }

    /// Whether there is any.
    pub(super) fn has_body(&self) -> bool {
        !matches!(self.framing, Framing::None | Framing::Length(0))
    }

    /// The data of the piece that came last.
    pub(super) fn data(&self) -> &[u8] {
        if self.chunks.is_some() {
            &self.room.plain
        } else {
            &self.room.out
        }
    }

    /// All data that is kept.
    pub(super) fn kept(&self) -> &[u8] {
        &self.room.kept
    }

    /// The head, once it is written.
    pub(super) fn head(&self) -> &[u8] {
        &self.room.out
    }

    /// Begins to send the request: the head that `write` writes. [`Self::append_kept`] has to follow.
    pub(super) fn begin(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.room.out.clear();
        self.taken = 0;
        (self.over, self.sent) = (false, false);
        write(&mut self.room.out);
    }

    /// What has been kept of the body goes out behind the head.
    pub(super) fn append_kept(&mut self) {
        let Room { kept, out, .. } = &mut *self.room;
        frame(out, kept, self.chunks.is_some(), self.whole);
    }

    /// Whether what comes next of the body may go through a pipe to an endpoint, if nobody else has to see it: none of it
    /// is kept, it is large, and nobody speaks TLS.
    pub(super) fn may_be_piped(&self, conn: &Conn, endpoint: &Socket) -> bool {
        let left = conn.left_in_the_clear().unwrap_or_default();
        !self.keeps && self.chunks.is_none() && endpoint.agreed().is_none() && left >= PIPED_BYTES_MIN
    }

    /// Moves the next piece into a pipe, and it is sent next. Ready with 0 where the client has ended his side in the
    /// middle; `None` where the worker has no pipe to lend.
    pub(super) fn poll_pipe(
        &mut self,
        conn: &mut Conn,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<usize>>> {
        loop {
            if let Err(error) = ready!(conn.poll_body_ready(cx)) {
                return Poll::Ready(Some(Err(error)));
            }
            let Some(mut pipe) = Pipe::borrow() else {
                return Poll::Ready(None);
            };
            match conn.try_fill(&mut pipe) {
                Err(error) if is_to_wait(&error) => pipe.give_back(),
                came => {
                    self.pipe = Some(pipe);
                    self.came += *came.as_ref().unwrap_or(&0) as u64;
                    self.whole = conn.is_between_messages();
                    return Poll::Ready(Some(came));
                }
            }
        }
    }

    /// Reads the next piece, which is sent next. Ready with 0 where the client has ended his side in the middle.
    pub(super) fn poll_piece(&mut self, conn: &mut Conn, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let out = &mut self.room.out;
        out.clear();
        self.taken = 0;
        out.reserve(PIECE);
        let read = ready!(pin!(conn.read_buf(out)).poll(cx))?;
        self.keep(conn)?;
        Poll::Ready(Ok(read))
    }

    /// Takes what has just been read into `out`: keeps its data, and frames it anew where it is chunked.
    fn keep(&mut self, conn: &Conn) -> io::Result<()> {
        let Room { kept, out, plain } = &mut *self.room;
        self.whole = conn.is_between_messages();
        let data = match &mut self.chunks {
            None => &mut *out,
            Some(body) => {
                plain.clear();
                body.take_data(out, |data| plain.extend_from_slice(data))
                    .map_err(io::Error::other)?;
                &mut *plain
            }
        };
        self.came += data.len() as u64;
        let fits = match self.framing {
            Framing::Length(length) => length <= REPLAY_BODY_MAX as u64 || kept.is_empty(),
            // What comes before there is a head for it to follow is kept, however long: nobody else has it.
            Framing::None | Framing::Chunked => kept.is_empty() || kept.len() + data.len() <= REPLAY_BODY_MAX,
        };
        self.keeps &= fits;
        if self.keeps {
            kept.extend_from_slice(data);
        } else {
            kept.clear();
        }
        if self.chunks.is_some() {
            out.clear();
            frame(out, plain, true, self.whole);
        }
        Ok(())
    }

    /// Writes what is to be sent next. Whoever takes no more of it may have said why, so it is no failure: what can be read
    /// of him tells.
    pub(super) fn poll_send(&mut self, endpoint: &mut Socket, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(rest @ [_, ..]) = self.room.out.get(self.taken..) {
            match ready!(Pin::new(&mut *endpoint).poll_write(cx, rest)) {
                Ok(taken @ 1..) => self.taken += taken,
                Ok(0) | Err(_) => {
                    self.take_no_more();
                    return Poll::Ready(());
                }
            }
        }
        while let Some(pipe) = self.pipe.as_mut().filter(|pipe| !pipe.is_empty()) {
            if ready!(pipe.poll_drain(endpoint.tcp(), cx)).is_err() {
                self.take_no_more();
                return Poll::Ready(());
            }
        }
        if let Some(pipe) = self.pipe.take() {
            pipe.give_back();
        }
        // What TLS has sealed is not yet with the kernel.
        if ready!(Pin::new(&mut *endpoint).poll_flush(cx)).is_err() {
            self.take_no_more();
            return Poll::Ready(());
        }
        (self.over, self.sent) = (self.whole, self.whole);
        Poll::Ready(())
    }

    /// The endpoint takes no more.
    fn take_no_more(&mut self) {
        self.over = true;
        self.room.out.clear();
        self.pipe = None;
    }
}

/// Appends data of a body as it is framed, and with the `last` of it its end.
fn frame(out: &mut Vec<u8>, data: &[u8], chunked: bool, last: bool) {
    if !chunked {
        out.extend_from_slice(data);
        return;
    }
    if !data.is_empty() {
        chunk::open(data.len(), out);
        out.extend_from_slice(data);
        chunk::close(out);
    }
    if last {
        out.extend_from_slice(chunk::LAST);
    }
}
