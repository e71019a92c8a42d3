//! The request's body on its way to the endpoint: read when there is room for it, and kept as long as it is small.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use pingora_error::{BError, Error, ErrorType, Result};
use pingora_proxy::Session;

use super::super::exchange::Exchange;
use super::{Broken, Passage};
use crate::framing::Refusal;
use crate::grpc::web::{self, Reader};
use crate::server::local;
use crate::worker::stream::Whose;

/// Bytes after which no more of a call is looked for before an endpoint is asked: what is kept for another try has room for
/// them and for the frame that goes beyond.
const FIRST_BYTES_MAX: usize = 32 * 1024;

/// How far the request's body is.
#[derive(Debug)]
pub(super) struct Upload {
    /// What has been heard of it and the endpoint has not been told.
    pending: Bytes,
    /// It has been heard to its end.
    heard: bool,
    /// The endpoint has all of it, or wants no more of it.
    over: bool,
    /// The client was waited for.
    waited: bool,
    /// What reads it, where it is written as pages write calls.
    reader: Option<Reader>,
}

impl Upload {
    /// That of a request, which is a call of gRPC-Web where there is one.
    pub(super) fn new(session: &mut Session, web: Option<web::Call>) -> Self {
        Self {
            pending: Bytes::new(),
            heard: session.as_downstream_mut().is_body_empty(),
            over: false,
            waited: false,
            reader: web.map(web::Call::reader),
        }
    }

    /// Takes `all` of a body that will be kept anyway, so that a client who is slow to send it occupies no endpoint; or
    /// `some`, what is here already of a call: of most that is all, and they are then known to be whole.
    pub(super) async fn take_first(
        &mut self,
        session: &mut Session,
        exchange: &mut Exchange,
        (all, some): (bool, bool),
    ) -> Result<()> {
        let mut taken = 0;
        while !self.heard && (all || (some && taken < FIRST_BYTES_MAX)) {
            let read = poll_fn(
                |cx| match pin!(session.as_downstream_mut().read_request_body()).poll(cx) {
                    Poll::Ready(read) => Poll::Ready(Some(read)),
                    Poll::Pending if all => {
                        if !std::mem::replace(&mut self.waited, true) {
                            exchange.body_awaited();
                        }
                        Poll::Pending
                    }
                    Poll::Pending => Poll::Ready(None),
                },
            );
            match read.await {
                Some(Ok(Some(piece))) => taken += piece.len(),
                Some(Ok(None)) => self.heard = true,
                Some(Err(error)) => return Err(error),
                None => break,
            }
        }
        self.begin_again(session)
    }

    /// Another endpoint is to hear it from its beginning.
    ///
    /// # Errors
    /// It is not written as it says.
    pub(super) fn begin_again(&mut self, session: &Session) -> Result<()> {
        let kept = session.as_downstream().get_retry_buffer().unwrap_or_default();
        if let Some(reader) = &mut self.reader {
            reader.begin_again();
        }
        self.pending = self.read(kept)?;
        self.over = false;
        if self.heard { self.read_all() } else { Ok(()) }
    }

    /// What the endpoint is to be told of a piece.
    fn read(&mut self, piece: Bytes) -> Result<Bytes> {
        match &mut self.reader {
            Some(reader) => reader.read(piece).map_err(refused),
            None => Ok(piece),
        }
    }

    /// Nothing more comes of it.
    fn read_all(&self) -> Result<()> {
        match &self.reader {
            Some(reader) => reader.end().map_err(refused),
            None => Ok(()),
        }
    }

    /// The head has been sent, and with it all there is of the request, where there is no body.
    pub(super) fn sent_head(&mut self) {
        self.over = self.is_empty();
    }

    /// What has been heard of it before the endpoint is told.
    pub(super) fn first(&self) -> &Bytes {
        &self.pending
    }

    /// Whether there is no body.
    pub(super) fn is_empty(&self) -> bool {
        self.heard && self.pending.is_empty()
    }

    /// Whether nothing more will come of it.
    pub(super) fn is_heard(&self) -> bool {
        self.heard
    }

    /// Whether its client was waited for before an endpoint was asked.
    pub(super) fn was_waited_for(&self) -> bool {
        self.waited
    }
}

/// The client's body is none.
fn refused(why: Refusal) -> BError {
    local::with(|l| l.worker.refuse(why));
    let why = std::io::Error::new(std::io::ErrorKind::InvalidData, why);
    Error::because(ErrorType::ReadError, "a body that is none", why).into_down()
}

impl Passage<'_> {
    /// Moves the request on. Ready when the endpoint has all of it, or wants no more of it.
    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.upload.over {
            if !self.upload.pending.is_empty() || self.upload.heard {
                ready!(self.poll_say(cx));
                continue;
            }
            let client = self.session.as_downstream_mut();
            let read = pin!(client.read_request_body()).poll(cx);
            match read {
                Poll::Ready(Ok(Some(piece))) => {
                    self.exchange.copy_request_piece(Some(&piece), false);
                    self.upload.pending = self.upload.read(piece).map_err(Broken::Client)?;
                    self.turn(Whose::Endpoint);
                }
                Poll::Ready(Ok(None)) => {
                    self.exchange.copy_request_piece(None, true);
                    self.upload.heard = true;
                    self.upload.read_all().map_err(Broken::Client)?;
                    self.turn(Whose::Endpoint);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Client(error.into_down()))),
                Poll::Pending => {
                    self.turn(Whose::Client);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Says what has been heard of the request, as far as the endpoint takes it. An endpoint that wants no more of it may
    /// have answered; if it has not, the answer's side knows.
    fn poll_say(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Upload {
            pending, heard, over, ..
        } = &mut *self.upload;
        if !pending.is_empty() {
            self.sending.reserve_capacity(pending.len());
            match ready!(self.sending.poll_capacity(cx)) {
                Some(Ok(room)) => {
                    let piece = pending.split_to(room.min(pending.len()));
                    let end = *heard && pending.is_empty();
                    self.exchange
                        .progress(Some(&piece).filter(|piece| !piece.is_empty()));
                    *over = self.sending.send_data(piece, end).is_err() || end;
                }
                Some(Err(_)) | None => *over = true,
            }
            return Poll::Ready(());
        }
        // Fails only where the stream is gone.
        let _ = self.sending.send_data(Bytes::new(), true);
        *over = true;
        Poll::Ready(())
    }
}
