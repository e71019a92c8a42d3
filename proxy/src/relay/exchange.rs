//! One request and its answer: attempts, bytes, and the moments that the policy is told of.
//!
//! Both directions move at the same time where they have to: an endpoint may answer before it has read the request, and a
//! client may send all of his before he reads. So whoever waits for one side moves the request's body on meanwhile
//! ([`Exchange::poll_upload`]). Most requests are whole with their first write, and never come to that.

mod body;
mod splice;

pub(super) use self::splice::PIPED_BYTES_MIN;

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::answer::{Answer, End, Passing};
use super::own::Own;
use super::request::{self, Telling};
use super::upload::Upload;
use super::{Came, Terms, Turn, chunk};
use crate::access_log::{Reason, Record};
use crate::copying::Copying;
use crate::fields::{Fields, Line, Lines};
use crate::framing::{Body, Refusal};
use crate::mirror;
use crate::outcome::{Failure, sentence};
use crate::policy::pages::Giver;
use crate::server::conn::Conn;
use crate::server::leave::date;
use crate::server::local;
use crate::topology::ids::EndpointId;
use crate::upstream::connect::Socket;
use crate::worker::{Flow, Next};

/// Read at once of an answer: the head and a page, then as much as makes a system call worth its price.
const READ_FIRST: usize = 16 * 1024;
const READ_MORE: usize = 64 * 1024;

/// Room for an answer.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// Where its lines stand.
    lines: Vec<Line>,
    /// What the endpoint has sent.
    answer: BytesMut,
    /// What the client is sent next, before what the endpoint has sent.
    pub(super) out: Vec<u8>,
}

/// A request on its way through the relay.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    conn: &'a mut Conn,
    came: Came<'a>,
    flow: Flow,
    upload: Upload<'a>,
    buffers: &'a mut Buffers,
    terms: Terms<'a>,
    copying: Copying,
    attempts: u32,
    /// The client has closed his side; his answer he still gets.
    half_closed: bool,
    /// The status that the client has seen; 0 for none.
    seen: u16,
    /// Bytes of a body that the client has been sent.
    delivered: u64,
    /// The policy has been told how it ended.
    concluded: bool,
}

/// A connection to an endpoint, in use.
#[derive(Debug)]
struct Upstream {
    endpoint: EndpointId,
    stream: Socket,
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

impl Buffers {
    /// Makes them as good as new, and no larger than `bytes_max` each.
    pub(super) fn clear(&mut self, bytes_max: usize) {
        self.out.clear();
        self.out.shrink_to(bytes_max);
        self.answer.clear();
        if self.answer.capacity() > bytes_max {
            self.answer = BytesMut::new();
        }
    }
}

impl Drop for Exchange<'_> {
    /// A connection's task that is dropped in the middle must not leave its request in flight for ever.
    fn drop(&mut self) {
        if self.concluded {
            return;
        }
        self.copying.give_up(&mut self.flow, mirror::Reason::ClientGone);
        local::with(|l| {
            l.worker.abandon(&mut self.flow);
            let line = Record {
                client: self.came.client.address,
                scheme: self.came.client.scheme(),
                status: self.seen,
                reason: Reason::of_a_cut(),
                ..Record::default()
            };
            self.came.log(l, Some(&self.flow), &line);
        });
    }
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        conn: &'a mut Conn,
        (came, flow): (Came<'a>, Flow),
        upload: Upload<'a>,
        buffers: &'a mut Buffers,
        terms: Terms<'a>,
    ) -> Self {
        Self {
            conn,
            came,
            flow,
            upload,
            buffers,
            terms,
            copying: Copying::default(),
            attempts: 0,
            half_closed: false,
            seen: 0,
            delivered: 0,
            concluded: false,
        }
    }

    /// Serves the request to its end.
    pub(super) async fn run(mut self) -> Turn {
        let mut taken = self.take_body().await;
        loop {
            let done = match taken {
                Ok(()) => self.attempt().await,
                Err(failure) => Err(Broken::Failed(failure)),
            };
            let failure = match done {
                Ok(turn) => return turn,
                Err(Broken::Again) => {
                    local::with(|l| l.worker.end(&mut self.flow));
                    continue;
                }
                Err(Broken::Failed(failure)) => failure,
            };
            self.copying.end(&mut self.flow, failure);
            let replayable = self.upload.is_kept();
            taken = match local::with(|l| l.fail(&mut self.flow, failure, replayable)) {
                Some(Next::Elsewhere) if self.seen == 0 => Ok(()),
                Some(Next::Answer(status)) if status > 0 && self.seen == 0 => {
                    // Boxed: most requests need no room for it.
                    return Box::pin(self.tell(status)).await;
                }
                // What the client has seen cannot be taken back.
                Some(_) | None => {
                    self.conclude(self.seen);
                    return Turn::Broken;
                }
            };
        }
    }

    /// Takes what has come of the body, and waits for all of it where it will be kept anyway: so a client that is slow to
    /// send it occupies no endpoint, and his time is not taken for the endpoint's.
    async fn take_body(&mut self) -> Result<(), Failure> {
        if self.upload.take_here(self.conn).is_err() {
            return Err(self.client_failure());
        }
        if self.upload.is_whole() || !self.upload.fits() {
            return Ok(());
        }
        while !self.upload.is_whole() {
            let read = poll_fn(|cx| self.upload.poll_piece(self.conn, cx)).await;
            if !matches!(read, Ok(1..)) {
                return Err(self.client_failure());
            }
        }
        local::with(|l| l.worker.body_taken(&mut self.flow));
        Ok(())
    }

    /// The policy is told how it ended, with `status`, or 0 where nothing could be said; and so is the access log.
    fn conclude(&mut self, status: u16) {
        self.concluded = true;
        let refusal = self.conn.refusal();
        let line = Record {
            client: self.came.client.address,
            scheme: self.came.client.scheme(),
            status,
            detail: refusal.map_or("", Refusal::label),
            bytes_in: Some(self.upload.came()),
            bytes_out: Some(self.delivered),
            ..Record::default()
        };
        local::with(|l| {
            l.worker.delivered(&mut self.flow, self.delivered);
            l.worker.answered(&mut self.flow, status);
            let reason = self.flow.failure().map_or(Reason::Ok, Reason::Failed);
            self.came.log(l, Some(&self.flow), &Record { reason, ..line });
        });
    }

    /// One attempt at one endpoint.
    async fn attempt(&mut self) -> Result<Turn, Broken> {
        let mut upstream = self.reach().await?;
        self.begin(&upstream);
        self.send(&mut upstream).await?;
        let answer = self.read_head(&mut upstream).await?;
        if self.answered(&answer, &upstream) {
            return Err(Broken::Again);
        }
        let unread = !self.conn.is_between_messages();
        let close = self.terms.last || unread || *self.terms.closing.borrow();
        self.write_head(&answer, close);
        let clean = match answer.end {
            End::Framed(framing) => self.pass_body(&mut upstream, Body::new(framing, None)).await?,
            End::Close => self.pass_until_close(&mut upstream).await?,
        };
        self.copying.answer_end(&mut self.flow, true);
        self.conclude(answer.status);
        if clean && answer.keeps_alive && self.upload.is_sent() {
            local::with(|l| l.put_back(upstream.endpoint, upstream.stream));
        }
        Ok(if close { Turn::Over } else { Turn::Next })
    }

    /// A connection to the endpoint that the policy chooses: a kept one, or a new one.
    async fn reach(&mut self) -> Result<Upstream, Failure> {
        let way = local::with(|l| {
            let place = l.worker.start(&mut self.flow)?;
            if let Some(report) = &mut self.came.report {
                report.started(&self.flow);
            }
            l.peers.reach(place)
        });
        let way = way.flatten().ok_or(Failure::NobodyLeft)?;
        self.attempts += 1;
        let reused = way.socket.is_ok();
        let stream = match way.socket {
            Ok(kept) => kept,
            // Boxed: most attempts find a kept connection, and need no room for what opens one.
            Err(to) => Box::pin(async move { to.connect(&[]).await }).await?,
        };
        let socket = stream.as_raw_fd();
        if !reused {
            local::with(|l| {
                l.sampler.connected(socket);
                l.worker.waited();
            });
        }
        Ok(Upstream {
            endpoint: way.endpoint,
            stream,
            socket,
            reused,
        })
    }

    /// The request goes out: writes its head, and what has been kept of its body behind it.
    fn begin(&mut self, upstream: &Upstream) {
        let Came {
            request,
            client,
            target,
            ..
        } = &self.came;
        let named = self.came.named();
        let changes = self.flow.changes();
        let telling = Telling {
            client,
            named,
            changes: changes.map(|changes| (changes, changes.facts(&request.view(client, named)))),
            target: target.as_deref(),
            attempt: self.attempts,
        };
        self.upload.begin(|out| request.write(&telling, out));
        local::sent(&mut self.flow, upstream.socket, self.upload.fits());
        if self.flow.is_mirrored() {
            self.begin_copy();
        }
        self.upload.append_kept();
        self.buffers.answer.clear();
    }

    /// Begins the copy of the request whose head has just been written.
    fn begin_copy(&mut self) {
        let has_body = self.upload.has_body();
        match request::parts(self.upload.head()) {
            Some(parts) => self.copying.begin(&mut self.flow, &parts, has_body),
            None => self.copying.refuse(&mut self.flow),
        }
        if self.copying.is_on() {
            let kept = Bytes::copy_from_slice(self.upload.kept());
            self.copy_request_piece(&kept);
        }
    }

    fn copy_request_piece(&mut self, piece: &Bytes) {
        let (piece, last) = ((!piece.is_empty()).then_some(piece), self.upload.is_whole());
        self.copying.request_piece(&mut self.flow, piece, last);
    }

    /// Sends the request, unless the endpoint begins to answer before it has all of it.
    async fn send(&mut self, upstream: &mut Upstream) -> Result<(), Failure> {
        let early = poll_fn(|cx| {
            if let Poll::Ready(sent) = self.poll_upload(upstream, cx) {
                return Poll::Ready(sent.map(|()| None));
            }
            let read = ready!(pin!(upstream.stream.read_buf(&mut self.buffers.answer)).poll(cx));
            Poll::Ready(Ok(Some(read)))
        });
        match early.await? {
            None | Some(Ok(1..)) => Ok(()),
            Some(ended) => Err(upstream.failure(&self.buffers.answer, ended.err())),
        }
    }

    /// Moves the request on as far as both sides let it. Ready when there is nothing left to be done.
    fn poll_upload(&mut self, upstream: &mut Upstream, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while !self.upload.is_over() {
            ready!(self.upload.poll_send(&mut upstream.stream, cx));
            if self.upload.is_over() {
                break;
            }
            let read = ready!(self.poll_piece(upstream, cx));
            if !matches!(read, Ok(1..)) {
                return Poll::Ready(Err(self.client_failure()));
            }
            if self.copying.is_on() {
                let piece = Bytes::copy_from_slice(self.upload.data());
                self.copy_request_piece(&piece);
            }
            local::with(|l| l.worker.progress(&mut self.flow));
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next piece of the request's body from the client. Ready with 0 where he has ended his side in the middle.
    fn poll_piece(&mut self, upstream: &Upstream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.copying.is_on()
            && self.upload.may_be_piped(self.conn, &upstream.stream)
            && let Some(came) = ready!(self.upload.poll_pipe(self.conn, cx))
        {
            return Poll::Ready(came);
        }
        self.upload.poll_piece(self.conn, cx)
    }

    /// Reads until the head of the final answer is there; passes on what comes before it.
    async fn read_head(&mut self, upstream: &mut Upstream) -> Result<Answer, Failure> {
        loop {
            let head_only = self.came.request.wants_head_only();
            match Answer::read(&self.buffers.answer, head_only, &mut self.buffers.lines) {
                Ok(None) => match self.read_some(upstream, READ_FIRST).await? {
                    Ok(1..) => {}
                    ended => return Err(upstream.failure(&self.buffers.answer, ended.err())),
                },
                // Nobody has asked for another protocol.
                Ok(Some(Answer { status: 101, .. })) | Err(_) => return Err(Failure::Garbage),
                Ok(Some(interim)) if interim.status < 200 => {
                    self.buffers.out.clear();
                    interim.write_interim(
                        lines(&self.buffers.answer, &self.buffers.lines),
                        &mut self.buffers.out,
                    );
                    self.buffers.answer.advance(interim.length);
                    self.deliver(upstream, 0).await?;
                }
                Ok(Some(answer)) => return Ok(answer),
            }
        }
    }

    /// The head of an answer is there. True where it is not the client's to see, because the request goes elsewhere.
    fn answered(&mut self, answer: &Answer, upstream: &Upstream) -> bool {
        let replayable = self.upload.is_kept();
        let lines = lines(&self.buffers.answer, &self.buffers.lines);
        let report = answer.report(lines);
        let elsewhere = local::with(|l| {
            let elsewhere =
                l.worker
                    .first_byte(&mut self.flow, answer.status, answer.retry_after, replayable);
            l.observe(&self.flow, upstream.socket, report);
            elsewhere
        });
        if self.copying.is_on() {
            let status = StatusCode::from_u16(answer.status).unwrap_or_default();
            self.copying
                .answer(&mut self.flow, status, &answer.headers(lines));
        }
        let elsewhere = elsewhere == Some(true);
        if elsewhere {
            let failure = Failure::Status(answer.status, answer.retry_after);
            self.copying.end(&mut self.flow, failure);
        }
        elsewhere
    }

    /// Writes the head of the answer for the client.
    fn write_head(&mut self, answer: &Answer, close: bool) {
        let Came { request, client, .. } = &self.came;
        let edits = self.flow.changes().map(|changes| {
            let view = request.view(client, self.came.named());
            (&changes.edits.response, changes.facts(&view))
        });
        let lines = lines(&self.buffers.answer, &self.buffers.lines);
        let varies = self
            .flow
            .compressing()
            .is_some_and(|compressing| compressing.by.varies(answer.status, Fields::Lines(lines)));
        let server_timing = self.came.server_timing(&self.flow);
        let passing = Passing {
            close,
            date: &date(),
            edits,
            marks: self.flow.marks(),
            request_id: self.came.told_id(),
            varies,
            server_timing: server_timing.as_ref(),
        };
        self.buffers.out.clear();
        answer.write(lines, &passing, &mut self.buffers.out);
        self.buffers.answer.advance(answer.length);
        self.seen = answer.status;
    }

    /// Reads what the endpoint sends next; moves the request on and watches the client meanwhile.
    async fn read_some(
        &mut self,
        upstream: &mut Upstream,
        most: usize,
    ) -> Result<io::Result<usize>, Failure> {
        self.buffers.answer.reserve(most);
        poll_fn(|cx| {
            if let Poll::Ready(read) = pin!(upstream.stream.read_buf(&mut self.buffers.answer)).poll(cx) {
                return Poll::Ready(Ok(read));
            }
            ready!(self.poll_upload(upstream, cx))?;
            ready!(self.poll_client_gone(cx));
            Poll::Ready(Err(Failure::ClientGone))
        })
        .await
    }

    /// Ready when the client, whose request is whole, has gone. One who has only closed his side waits for his answer.
    fn poll_client_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.half_closed || !self.conn.is_between_messages() {
            return Poll::Pending;
        }
        let mut byte = [0];
        match ready!(Pin::new(&mut *self.conn).poll_read(cx, &mut ReadBuf::new(&mut byte))) {
            Ok(()) => {
                self.half_closed = true;
                Poll::Pending
            }
            Err(_) => Poll::Ready(()),
        }
    }

    /// Hands what is in `out` to the client, and behind it a `piece` of what the endpoint has sent; moves the request on
    /// meanwhile.
    async fn deliver(&mut self, upstream: &mut Upstream, piece: usize) -> Result<(), Failure> {
        let mut sent = 0;
        let done = poll_fn(|cx| {
            loop {
                let out = self.buffers.out.as_slice();
                let head = out.get(sent..).unwrap_or_default();
                let from = sent.saturating_sub(out.len());
                let body = self.buffers.answer.get(from..piece).unwrap_or_default();
                let polled = match head.is_empty() && body.is_empty() {
                    true => self.conn.poll_sent(cx).map_ok(|()| None),
                    false => self.conn.poll_send(cx, [head, body]).map_ok(Some),
                };
                match polled {
                    Poll::Ready(Ok(Some(taken))) => sent += taken,
                    Poll::Ready(Ok(None)) => return Poll::Ready(Ok(())),
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(self.client_failure())),
                    Poll::Pending => {
                        // A client may send all of his request before he reads.
                        ready!(self.poll_upload(upstream, cx))?;
                        return Poll::Pending;
                    }
                }
            }
        });
        done.await?;
        self.buffers.out.clear();
        Ok(())
    }

    /// What it means that the client's side broke.
    fn client_failure(&self) -> Failure {
        let refusal = self.conn.refusal();
        refusal.map_or(Failure::ClientGone, Failure::ClientRefused)
    }

    /// Tells the client, in one line, why there is no answer.
    async fn tell(mut self, status: u16) -> Turn {
        let refusal = self.conn.refusal();
        let sentence = refusal.map_or_else(|| sentence(status), Refusal::sentence);
        let page = self.flow.page(status, Giver::Proxy).cloned();
        let own = Own::failure(status, &self.came.named_in(sentence), page);
        let told = self
            .came
            .tell(&own, self.conn, &mut self.buffers.out, &self.terms)
            .await;
        self.delivered = told.body;
        self.conclude(status);
        told.settle(self.conn, self.terms.limits).await
    }
}

impl Upstream {
    /// What it means that the connection broke before an answer's head was there. `seen` is what came of it.
    fn failure(&self, seen: &BytesMut, error: Option<io::Error>) -> Failure {
        match (self.reused, seen.is_empty()) {
            (true, true) => Failure::StaleConnection,
            (false, true) => error
                .and_then(|error| self.stream.was_refused(&error))
                .unwrap_or(Failure::Reset),
            (_, false) => Failure::Reset,
        }
    }
}

fn lines<'a>(bytes: &'a BytesMut, lines: &'a [Line]) -> Lines<'a> {
    Lines { bytes, lines }
}
