//! One request and its answer: attempts, bytes, and the moments that the policy is told of.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::task::{Poll, ready};

use bytes::{Buf, BytesMut};
use foreshade_engine::failover::REPLAY_BODY_MAX;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Turn;
use super::answer::{Answer, End, Own};
use super::request::Request;
use crate::client::Client;
use crate::fields::{Line, Lines};
use crate::framing::{Body, Framing, Head, Limits};
use crate::outcome::{Failure, sentence};
use crate::server::conn::Conn;
use crate::server::leave::{date, skip_left_over};
use crate::server::local;
use crate::topology::ids::EndpointId;
use crate::upstream::connect::{self, connect};
use crate::worker::{Flow, Next};

/// Read at once of an answer: the head and a small page, then as much as makes a system call worth its price.
const READ_FIRST: usize = 4 * 1024;
const READ_MORE: usize = 64 * 1024;

/// Read at once of a request's body.
const PIECE: usize = 16 * 1024;

/// On what terms the client is served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    /// How much he may ask for.
    pub(crate) limits: &'a Limits,
    /// It is the last request of his connection.
    pub(crate) last: bool,
    /// Turned true, every answer is the last one.
    pub(crate) closing: &'a watch::Receiver<bool>,
}

/// Room to work in.
#[derive(Debug)]
pub(super) struct Buffers<'a> {
    pub(super) lines: &'a mut Vec<Line>,
    pub(super) out: &'a mut Vec<u8>,
    pub(super) body: &'a mut Vec<u8>,
    pub(super) answer: &'a mut BytesMut,
}

/// A request on its way through the relay.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    conn: &'a mut Conn,
    request: Request<'a>,
    client: Client,
    flow: Flow,
    buffers: Buffers<'a>,
    attempts: u32,
    /// The body is short enough to be kept for another attempt.
    keeps_body: bool,
    /// Some of the body has been read.
    took_body: bool,
    /// The client has closed his side; his answer he still gets.
    half_closed: bool,
    /// The status that the client has seen; 0 for none.
    seen: u16,
    /// Bytes of the answer's body that the client has been sent, with their framing.
    delivered: u64,
    /// The policy has been told how it ended.
    concluded: bool,
}

/// A connection to an endpoint, in use.
struct Upstream {
    endpoint: EndpointId,
    tcp: TcpStream,
    socket: RawFd,
    reused: bool,
}

/// Why an attempt brought the client nothing.
enum Broken {
    /// It failed.
    Failed(Failure),
    /// It was answered with a status that asks for another try, and there is one.
    Again,
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Drop for Exchange<'_> {
    /// A connection's task that is dropped in the middle must not leave its request in flight for ever.
    fn drop(&mut self) {
        if !self.concluded {
            local::with(|l| l.worker.abandon(&mut self.flow));
        }
    }
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        conn: &'a mut Conn,
        request: Request<'a>,
        client: Client,
        flow: Flow,
        buffers: Buffers<'a>,
    ) -> Self {
        Self {
            conn,
            request,
            client,
            flow,
            buffers,
            attempts: 0,
            keeps_body: false,
            took_body: false,
            half_closed: false,
            seen: 0,
            delivered: 0,
            concluded: false,
        }
    }

    /// Serves the request to its end.
    pub(super) async fn run(mut self, head: &Head, terms: Terms<'_>) -> Turn {
        self.keeps_body = match head.framing {
            Framing::Length(length) => length <= REPLAY_BODY_MAX as u64,
            Framing::None | Framing::Chunked => true,
        };
        let last = terms.last || !head.keep_alive;
        loop {
            let failure = match self.attempt(last, terms.closing).await {
                Ok(turn) => return turn,
                Err(Broken::Again) => {
                    local::with(|l| l.worker.end(&mut self.flow));
                    continue;
                }
                Err(Broken::Failed(failure)) => failure,
            };
            let replayable = self.is_replayable();
            match local::with(|l| l.fail(&mut self.flow, failure, replayable)) {
                Some(Next::Elsewhere) => {}
                Some(Next::Answer(0)) | None => {
                    self.conclude(self.seen);
                    return Turn::Broken;
                }
                Some(Next::Answer(status)) => {
                    // Boxed: most requests need no room for it.
                    return Box::pin(self.tell(status, last, terms)).await;
                }
            }
        }
    }

    /// Whether the request can be sent again with what has been kept of it.
    fn is_replayable(&self) -> bool {
        self.keeps_body || !self.took_body
    }

    /// The policy is told how it ended, with `status`, or 0 where nothing could be said.
    fn conclude(&mut self, status: u16) {
        self.concluded = true;
        local::with(|l| {
            l.worker.delivered(&mut self.flow, self.delivered);
            l.worker.answered(&mut self.flow, status);
        });
    }

    /// One attempt at one endpoint.
    async fn attempt(&mut self, last: bool, closing: &watch::Receiver<bool>) -> Result<Turn, Broken> {
        let mut upstream = self.reach().await?;
        let early = self.send(&mut upstream).await?;
        let answer = self.read_head(&mut upstream, early).await?;
        let replayable = self.is_replayable();
        let report = answer.report(self.lines());
        let again = local::with(|l| {
            let again = l
                .worker
                .first_byte(&mut self.flow, answer.status, answer.retry_after, replayable);
            l.observe(&self.flow, upstream.socket, report);
            again
        });
        if again == Some(true) {
            return Err(Broken::Again);
        }
        let unread = !self.conn.is_between_messages();
        let close = last || unread || answer.end == End::Close || *closing.borrow();
        self.buffers.out.clear();
        let lines = Lines {
            bytes: self.buffers.answer,
            lines: self.buffers.lines,
        };
        answer.write(lines, close, &date(), self.buffers.out);
        self.buffers.answer.advance(answer.length);
        self.seen = answer.status;
        let clean = self.pass_body(&mut upstream, answer.end).await?;
        self.conclude(answer.status);
        if clean && answer.keeps_alive && !unread {
            local::with(|l| l.put_back(upstream.endpoint, upstream.tcp));
        }
        Ok(if close { Turn::Over } else { Turn::Next })
    }

    fn lines(&self) -> Lines<'_> {
        Lines {
            bytes: self.buffers.answer,
            lines: self.buffers.lines,
        }
    }

    /// A connection to the endpoint that the policy chooses: a kept one, or a new one.
    async fn reach(&mut self) -> Result<Upstream, Failure> {
        let way = local::with(|l| {
            let place = l.worker.start(&mut self.flow)?;
            l.way(place)
        });
        let way = way.flatten().ok_or(Failure::NobodyLeft)?;
        self.attempts += 1;
        let reused = way.kept.is_some();
        let tcp = match way.kept {
            Some(tcp) => tcp,
            // Boxed: most attempts find a kept connection, and need no room for what opens one.
            None => Box::pin(connect(way.address, way.connect_timeout))
                .await
                .map_err(|error| connect::failure(&error))?,
        };
        let socket = tcp.as_raw_fd();
        if !reused {
            local::with(|l| {
                l.sampler.connected(socket);
                l.worker.waited();
            });
        }
        Ok(Upstream {
            endpoint: way.endpoint,
            tcp,
            socket,
            reused,
        })
    }

    /// Sends the request. True where the endpoint began to answer before all of it was sent.
    async fn send(&mut self, upstream: &mut Upstream) -> Result<bool, Failure> {
        let out = &mut *self.buffers.out;
        out.clear();
        self.request.write(&self.client, self.attempts, out);
        out.extend_from_slice(self.buffers.body);
        let before = out.len();
        self.conn.take_here(out);
        self.took_body |= out.len() > before;
        if self.keeps_body {
            self.buffers
                .body
                .extend_from_slice(out.get(before..).unwrap_or_default());
        }
        self.buffers.answer.clear();
        local::sent(&mut self.flow, upstream.socket, self.keeps_body);
        if self.write(upstream).await? {
            return Ok(true);
        }
        while !self.conn.is_between_messages() {
            if self.read_piece(upstream).await? || self.write(upstream).await? {
                return Ok(true);
            }
            local::with(|l| l.worker.progress(&mut self.flow));
        }
        Ok(false)
    }

    /// Reads the next piece of the body. True where the endpoint has something to say meanwhile.
    async fn read_piece(&mut self, upstream: &mut Upstream) -> Result<bool, Failure> {
        let (out, answer) = (&mut *self.buffers.out, &mut *self.buffers.answer);
        out.clear();
        out.resize(PIECE, 0);
        let read = poll_fn(|cx| {
            if let Poll::Ready(read) = pin!(upstream.tcp.read_buf(answer)).poll(cx) {
                return Poll::Ready(Ok((0, Some(read))));
            }
            let mut piece = ReadBuf::new(out);
            ready!(Pin::new(&mut *self.conn).poll_read(cx, &mut piece))?;
            Poll::Ready(Ok((piece.filled().len(), None)))
        });
        let read: io::Result<(usize, Option<io::Result<usize>>)> = read.await;
        match read {
            Ok((_, Some(Ok(1..)))) => Ok(true),
            Ok((_, Some(_))) => Err(upstream.failure(self.buffers.answer)),
            Ok((0, None)) | Err(_) => Err(self.client_failure()),
            Ok((length, None)) => {
                self.took_body = true;
                self.buffers.out.truncate(length);
                if self.keeps_body {
                    self.buffers.body.extend_from_slice(self.buffers.out);
                }
                Ok(false)
            }
        }
    }

    /// Writes what is to be written next. True where the endpoint answers instead of taking it.
    async fn write(&mut self, upstream: &mut Upstream) -> Result<bool, Failure> {
        let mut rest = self.buffers.out.as_slice();
        while !rest.is_empty() {
            match upstream.tcp.try_write(rest) {
                Ok(taken) => rest = rest.get(taken..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(read) = upstream.blocked(self.buffers.answer).await {
                        return match read {
                            Ok(1..) => Ok(true),
                            Ok(0) | Err(_) => Err(upstream.failure(self.buffers.answer)),
                        };
                    }
                }
                Err(_) => return Err(upstream.failure(self.buffers.answer)),
            }
        }
        Ok(false)
    }

    /// Reads until the head of the final answer is there; passes on what comes before it.
    async fn read_head(&mut self, upstream: &mut Upstream, mut ready: bool) -> Result<Answer, Failure> {
        loop {
            if !ready {
                self.read_more(upstream, READ_FIRST).await?;
            }
            ready = false;
            let head_only = self.request.wants_head_only();
            match Answer::read(self.buffers.answer, head_only, self.buffers.lines) {
                Ok(None) => {}
                // Nobody has asked for another protocol.
                Ok(Some(Answer { status: 101, .. })) | Err(_) => return Err(Failure::Garbage),
                Ok(Some(interim)) if interim.status < 200 => {
                    self.pass_interim(&interim).await?;
                    ready = !self.buffers.answer.is_empty();
                }
                Ok(Some(answer)) => return Ok(answer),
            }
        }
    }

    /// Passes on an answer that announces another one. Source: RFC 9110 section 15.2.
    async fn pass_interim(&mut self, interim: &Answer) -> Result<(), Failure> {
        self.buffers.out.clear();
        let lines = Lines {
            bytes: self.buffers.answer,
            lines: self.buffers.lines,
        };
        interim.write(lines, false, &date(), self.buffers.out);
        self.buffers.answer.advance(interim.length);
        self.deliver().await
    }

    /// Reads what the endpoint sends next. An end is a failure.
    async fn read_more(&mut self, upstream: &mut Upstream, most: usize) -> Result<(), Failure> {
        match self.read_some(upstream, most).await? {
            Ok(1..) => Ok(()),
            Ok(0) | Err(_) => Err(upstream.failure(self.buffers.answer)),
        }
    }

    /// Reads what the endpoint sends next, and watches the client meanwhile.
    async fn read_some(
        &mut self,
        upstream: &mut Upstream,
        most: usize,
    ) -> Result<io::Result<usize>, Failure> {
        self.buffers.answer.reserve(most);
        let watches = self.conn.is_between_messages();
        let gone = poll_fn(|cx| {
            if let Poll::Ready(read) = pin!(upstream.tcp.read_buf(self.buffers.answer)).poll(cx) {
                return Poll::Ready(Some(read));
            }
            if watches && !self.half_closed {
                let mut byte = [0];
                match Pin::new(&mut *self.conn).poll_read(cx, &mut ReadBuf::new(&mut byte)) {
                    Poll::Ready(Ok(())) => self.half_closed = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(None),
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        });
        gone.await.ok_or(Failure::ClientGone)
    }

    /// Passes the head in `out` and the body on. Whether nothing came behind it.
    async fn pass_body(&mut self, upstream: &mut Upstream, end: End) -> Result<bool, Failure> {
        let mut body = match end {
            End::Framed(framing) => Some(Body::new(framing, None)),
            End::Close => None,
        };
        loop {
            let here = self.buffers.answer.len();
            let taken = match &mut body {
                Some(body) => body.take(self.buffers.answer).map_err(|_| Failure::Truncated)?,
                None => here,
            };
            let piece = self.buffers.answer.get(..taken).unwrap_or_default();
            self.buffers.out.extend_from_slice(piece);
            self.buffers.answer.clear();
            self.deliver().await?;
            self.delivered += taken as u64;
            if body.as_ref().is_some_and(Body::is_done) {
                return Ok(taken == here);
            }
            match self.read_some(upstream, READ_MORE).await? {
                Ok(1..) => {}
                Ok(0) if body.is_none() => return Ok(false),
                Ok(0) | Err(_) => return Err(Failure::Truncated),
            }
            local::with(|l| l.worker.progress(&mut self.flow));
        }
    }

    /// Hands what is in `out` to the client.
    async fn deliver(&mut self) -> Result<(), Failure> {
        let sent = self.conn.send(self.buffers.out).await;
        self.buffers.out.clear();
        sent.map_err(|_| self.client_failure())
    }

    /// What it means that the client's side broke.
    fn client_failure(&self) -> Failure {
        self.conn
            .refusal()
            .map_or(Failure::ClientGone, Failure::ClientRefused)
    }

    /// Tells the client, in one line, why there is no answer. The connection lives on where its next request can be found.
    async fn tell(mut self, status: u16, last: bool, terms: Terms<'_>) -> Turn {
        let refusal = self.conn.refusal();
        let close = last || refusal.is_some() || *terms.closing.borrow() || !self.conn.is_nearly_read();
        let sentence = refusal.map_or_else(|| sentence(status), |refusal| refusal.sentence());
        let own = Own {
            status,
            sentence,
            close,
            head_only: self.request.wants_head_only(),
        };
        // What was to be sent to the endpoint is for nobody now.
        self.buffers.out.clear();
        own.write(&date(), self.buffers.out);
        let told = self.deliver().await;
        self.conclude(status);
        if told.is_err() {
            return Turn::Broken;
        }
        if close || !skip_left_over(self.conn, terms.limits).await {
            return Turn::Over;
        }
        Turn::Next
    }
}

impl Upstream {
    /// Waits until the kernel takes something; whoever takes nothing may be about to say why, and what is read of that
    /// comes back.
    async fn blocked(&mut self, answer: &mut BytesMut) -> Option<io::Result<usize>> {
        poll_fn(|cx| {
            if let Poll::Ready(read) = pin!(self.tcp.read_buf(answer)).poll(cx) {
                return Poll::Ready(Some(read));
            }
            // An error shows with the next write.
            self.tcp.poll_write_ready(cx).map(|_| None)
        })
        .await
    }

    /// What it means that the connection broke before an answer's head was there. `seen` is what came of it.
    fn failure(&self, seen: &BytesMut) -> Failure {
        match self.reused && seen.is_empty() {
            true => Failure::StaleConnection,
            false => Failure::Reset,
        }
    }
}
