//! One request of an HTTP/2 connection, as pingora sees it.
//!
//! pingora has a session of its own for this; it waits for ever for a client who does not send the rest of his body, and
//! knows no limit for it. A client could so make an endpoint look slow by being slow himself. This one holds each stream
//! to the limits that [`Conn`](crate::server::conn::Conn) holds a connection of HTTP/1.1 to, says who is to blame, and
//! passes informational answers on.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use foreshade_engine::failover::REPLAY_BODY_MAX;
use futures_util::Stream;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Response};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session as Custom;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_error::{BError, Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use super::{Meter, Shared};
use crate::framing::Refusal;
use crate::server::accept::count;
use crate::server::leave::date;
use crate::server::pace::{Floor, Pace};

/// What is about a connection of HTTP/1.1, and means nothing in HTTP/2.
static OF_A_CONNECTION: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// A request and its answer.
pub(super) struct Session {
    head: RequestHeader,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    sending: Option<SendStream<Bytes>>,
    written: Option<Box<ResponseHeader>>,
    /// Parts of the answer that are still to be sent.
    tasks: VecDeque<HttpTask>,
    /// The answer is whole.
    ended: bool,
    received: u64,
    sent: u64,
    /// What has been read of the body, in case it has to be sent again.
    kept: Option<Kept>,
    body_bytes_max: Option<u64>,
    reading: Pace,
    /// Whether the client has to send his request at a pace. Where not, whoever serves it says how long he may rest.
    is_paced: bool,
    writing: Pace,
    floors: (Floor, Floor),
    digest: Arc<Digest>,
    meter: Arc<Meter>,
    /// The client has taken the request back.
    taken_back: bool,
}

/// A body, as long as it is small.
enum Kept {
    Whole(BytesMut),
    TooLarge,
}

impl Session {
    pub(super) fn new<A>(
        (head, body, respond): (Parts, RecvStream, SendResponse<Bytes>),
        shared: &Shared<A>,
    ) -> Self {
        let limits = &shared.limits;
        Self {
            head: RequestHeader::from(head),
            body,
            respond,
            sending: None,
            written: None,
            tasks: VecDeque::new(),
            ended: false,
            received: 0,
            sent: 0,
            kept: None,
            body_bytes_max: limits.body_bytes,
            reading: Pace::default(),
            is_paced: true,
            writing: Pace::default(),
            floors: (
                Floor::new(limits.body_timeout, limits.rate),
                Floor::new(limits.answer_timeout, limits.rate),
            ),
            digest: shared.digest.clone(),
            meter: shared.meter.clone(),
            taken_back: false,
        }
    }

    /// The next piece of the body, or its end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        loop {
            let piece = match self.body.poll_data(cx) {
                Poll::Ready(Some(Ok(piece))) => piece,
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(self.broken(ErrorType::ReadError, error)));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Pending if !self.is_paced => return Poll::Pending,
                Poll::Pending => {
                    let received = self.received;
                    ready!(self.reading.poll_too_slow(cx, &self.floors.0, || received));
                    return Poll::Ready(Err(refused(ErrorType::ReadError, Refusal::BodySlow)));
                }
            };
            self.reading.moved();
            self.received += piece.len() as u64;
            // Fails only where the stream is gone, which the next read tells.
            let _ = self.body.flow_control().release_capacity(piece.len());
            if self.body_bytes_max.is_some_and(|most| self.received > most) {
                return Poll::Ready(Err(refused(ErrorType::ReadError, Refusal::BodyTooLarge)));
            }
            self.keep(&piece);
            // An empty frame is no end of a body, and pingora would take it for one.
            if !piece.is_empty() {
                return Poll::Ready(Ok(Some(piece)));
            }
        }
    }

    fn keep(&mut self, piece: &Bytes) {
        if let Some(Kept::Whole(bytes)) = &mut self.kept {
            match bytes.len() + piece.len() <= REPLAY_BODY_MAX {
                true => bytes.extend_from_slice(piece),
                false => self.kept = Some(Kept::TooLarge),
            }
        }
    }

    /// How much of the answer the client takes now.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        let Some(sending) = &mut self.sending else {
            return Poll::Ready(Err(out_of_order()));
        };
        match sending.poll_capacity(cx) {
            Poll::Ready(Some(Ok(room))) => {
                self.writing.moved();
                Poll::Ready(Ok(room))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(self.broken(ErrorType::WriteError, error))),
            Poll::Ready(None) => {
                self.taken_back = true;
                Poll::Ready(Err(
                    Error::explain(ErrorType::WriteError, "the stream is gone").into_down()
                ))
            }
            Poll::Pending => {
                let sent = self.sent;
                ready!(self.writing.poll_too_slow(cx, &self.floors.1, || sent));
                if let Some(sending) = &mut self.sending {
                    sending.send_reset(Reason::CANCEL);
                }
                self.ended = true;
                Poll::Ready(Err(refused(ErrorType::WriteError, Refusal::AnswerSlow)))
            }
        }
    }

    async fn send(&mut self, mut data: Bytes, end: bool) -> Result<()> {
        poll_fn(|cx| self.poll_send(cx, &mut data, end)).await
    }

    /// Sends as much of `data` as the client takes. Ready when nothing is left of it.
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        while !data.is_empty() {
            if let Some(sending) = &mut self.sending {
                sending.reserve_capacity(data.len());
            }
            let room = ready!(self.poll_room(cx))?;
            let piece = data.split_to(room.min(data.len()));
            self.sent += piece.len() as u64;
            self.say(piece, end && data.is_empty())?;
        }
        Poll::Ready(match end && !self.ended {
            true => self.say(Bytes::new(), true),
            false => Ok(()),
        })
    }

    /// Sends what is queued. Ready when nothing is left of it: true where the answer is whole.
    fn poll_tasks(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        while let Some(task) = self.tasks.pop_front() {
            match task {
                HttpTask::Header(head, end) => self.answer(head, end)?,
                HttpTask::Body(piece, end) => {
                    let mut piece = piece.unwrap_or_default();
                    let sent = self.poll_send(cx, &mut piece, end);
                    if sent.is_pending() {
                        self.tasks.push_front(HttpTask::Body(Some(piece), end));
                    }
                    ready!(sent)?;
                }
                HttpTask::Trailer(Some(trailers)) => self.close(*trailers)?,
                HttpTask::Trailer(None) | HttpTask::Done => {
                    ready!(self.poll_send(cx, &mut Bytes::new(), true))?;
                }
                HttpTask::UpgradedBody(..) => return Poll::Ready(Err(another_protocol())),
                HttpTask::Failed(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(self.ended))
    }

    /// Ends the answer with trailers.
    fn close(&mut self, trailers: HeaderMap) -> Result<()> {
        let Some(sending) = self.sending.as_mut().filter(|_| !self.ended) else {
            return Ok(());
        };
        match sending.send_trailers(trailers) {
            Ok(()) => {
                self.ended = true;
                Ok(())
            }
            Err(error) => Err(self.broken(ErrorType::WriteError, error)),
        }
    }

    /// Hands a piece over for which there is room.
    fn say(&mut self, piece: Bytes, end: bool) -> Result<()> {
        let Some(sending) = &mut self.sending else {
            return Err(out_of_order());
        };
        if piece.is_empty() && !end {
            return Ok(());
        }
        match sending.send_data(piece, end) {
            Ok(()) => {
                self.ended |= end;
                Ok(())
            }
            Err(error) => Err(self.broken(ErrorType::WriteError, error)),
        }
    }

    fn answer(&mut self, mut head: Box<ResponseHeader>, end: bool) -> Result<()> {
        if self.written.is_some() || head.status == 101 {
            return Ok(());
        }
        for name in &OF_A_CONNECTION {
            head.remove_header(name);
        }
        if head.status.is_informational() {
            let informational = Response::from_parts(head.as_owned_parts(), ());
            let sent = self.respond.send_informational(informational);
            return sent.map_err(|error| self.broken(ErrorType::WriteError, error));
        }
        head.insert_header(DATE, date())?;
        let whole = Response::from_parts(head.as_owned_parts(), ());
        match self.respond.send_response(whole, end) {
            Ok(sending) => {
                self.sending = Some(sending);
                self.written = Some(head);
                self.ended = end;
                Ok(())
            }
            Err(error) => Err(self.broken(ErrorType::WriteError, error)),
        }
    }

    /// What it means that the stream broke.
    fn broken(&mut self, kind: ErrorType, error: h2::Error) -> BError {
        self.taken_back |= error.is_reset();
        Error::because(kind, "the client's stream broke", error).into_down()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A client who has had enough of a stream of messages takes it back, and there is no other way to say so.
        let is_heard_enough = !self.is_paced && self.written.is_some();
        let counter = match self.taken_back && !is_heard_enough {
            true => &self.meter.reset,
            false => &self.meter.ended,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a client is told who does not keep to his limits. Counted here: unlike a connection, a stream is asked by nobody
/// afterwards.
fn refused(kind: ErrorType, refusal: Refusal) -> BError {
    count(refusal);
    Error::because(kind, "refused", io::Error::other(refusal)).into_down()
}

fn another_protocol() -> BError {
    Error::explain(ErrorType::InternalError, "another protocol inside of HTTP/2")
}

fn out_of_order() -> BError {
    Error::explain(ErrorType::InternalError, "a body before its head").into_in()
}

#[async_trait]
impl Custom for Session {
    fn req_header(&self) -> &RequestHeader {
        &self.head
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_piece(cx)).await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        // Dropped, the stream tells the client not to send the rest.
        Ok(())
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.answer(head, end)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.answer(Box::new(head.clone()), end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.send(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.close(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut whole = false;
        for task in tasks {
            whole |= match task {
                HttpTask::Header(head, end) => {
                    self.answer(head, end)?;
                    end
                }
                HttpTask::Body(piece, end) => {
                    self.send(piece.unwrap_or_default(), end).await?;
                    end
                }
                HttpTask::Trailer(Some(trailers)) => {
                    self.close(*trailers)?;
                    true
                }
                HttpTask::Trailer(None) | HttpTask::Done => true,
                HttpTask::UpgradedBody(..) => return Err(another_protocol()),
                HttpTask::Failed(error) => return Err(error),
            };
        }
        if whole {
            self.finish().await?;
        }
        Ok(whole)
    }

    fn proxy_tasks_enabled(&self) -> bool {
        true
    }

    fn send_proxy_task(&mut self, task: HttpTask) {
        self.tasks.push_back(task);
    }

    fn has_pending_proxy_tasks(&self) -> bool {
        !self.tasks.is_empty()
    }

    async fn write_proxy_tasks(&mut self) -> Result<bool> {
        poll_fn(|cx| self.poll_tasks(cx)).await
    }

    // Deadlines are the listener's, and always on, but that a client may be granted a rest.

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.is_paced = timeout.is_some();
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, _: Option<Duration>) {}

    fn get_write_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_total_drain_timeout(&mut self, _: Option<Duration>) {}

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
    }

    fn request_summary(&self) -> String {
        format!("{} {}", self.head.method, self.head.uri)
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.written.as_deref()
    }

    async fn shutdown(&mut self, code: u32, _: &str) {
        if !self.ended {
            self.ended = true;
            self.respond.send_reset(match code {
                0 => Reason::INTERNAL_ERROR,
                code => code.into(),
            });
        }
    }

    fn is_body_done(&mut self) -> bool {
        self.is_body_empty() || self.body.is_end_stream()
    }

    async fn finish(&mut self) -> Result<()> {
        match self.ended || self.sending.is_none() {
            // Where there is no head, the stream is reset when it is dropped.
            true => Ok(()),
            false => self.say(Bytes::new(), true),
        }
    }

    fn is_body_empty(&mut self) -> bool {
        let says_so = || {
            let length = self.head.headers.get(CONTENT_LENGTH);
            length.is_some_and(|length| length.as_bytes() == b"0")
        };
        self.received == 0 && (self.body.is_end_stream() || says_so())
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if !no_body_expected && !self.is_body_done() {
            return self.read_body_bytes().await;
        }
        let reset = poll_fn(|cx| match &mut self.sending {
            Some(sending) => sending.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        });
        match reset.await {
            Ok(_) => {
                self.taken_back = true;
                Err(
                    Error::explain(ErrorType::ConnectionClosed, "the client took the request back")
                        .into_down(),
                )
            }
            Err(error) => Err(self.broken(ErrorType::ConnectionClosed, error)),
        }
    }

    fn body_bytes_sent(&self) -> usize {
        usize::try_from(self.sent).unwrap_or(usize::MAX)
    }

    fn body_bytes_read(&self) -> usize {
        usize::try_from(self.received).unwrap_or(usize::MAX)
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        // It is the whole connection's.
        None
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.local_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        let mut text = BytesMut::new();
        text.extend_from_slice(format!("{} ", self.head.method).as_bytes());
        text.extend_from_slice(self.head.raw_path());
        text.extend_from_slice(b" HTTP/2.0\r\n");
        for (name, value) in &self.head.headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                text.extend_from_slice(part);
            }
        }
        text.extend_from_slice(b"\r\n");
        text.freeze()
    }

    fn enable_retry_buffering(&mut self) {
        if self.kept.is_none() {
            self.kept = Some(Kept::Whole(BytesMut::new()));
        }
    }

    fn retry_buffer_truncated(&self) -> bool {
        matches!(self.kept, Some(Kept::TooLarge))
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        match &self.kept {
            Some(Kept::Whole(bytes)) if !bytes.is_empty() => Some(Bytes::copy_from_slice(bytes)),
            _ => None,
        }
    }

    // Messages of protocols that are not HTTP: there are none.

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
