//! The answer on its way to the client: its head, its body piece by piece, and what stands behind it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use h2::client::ResponseFuture;
use http::response::Parts;
use http::{HeaderMap, Method, Response, Version};
use pingora_core::protocols::http::HttpTask;
use pingora_http::ResponseHeader;
use tokio::time::timeout;

use super::super::exchange::Exchange;
use super::super::plain::{UNWANTED_TIME, frame};
use super::{Broken, Passage};
use crate::grpc;
use crate::server::http2::ByHttp2;
use crate::server::local;

/// How far the answer is.
pub(super) enum Download {
    /// Its head is waited for.
    Head(ResponseFuture),
    /// Its body passes; so many bytes of it lie here, for which the endpoint is granted no new room yet.
    Body(RecvStream, usize),
    /// Its body has passed, and what stands behind it is waited for.
    Behind(RecvStream),
    /// The client has all that he gets. A body that a page stands in for has not been read.
    Whole(Option<RecvStream>),
}

impl Download {
    pub(super) fn new(answer: ResponseFuture) -> Self {
        Self::Head(answer)
    }
}

impl Passage<'_> {
    /// Moves the answer on. Ready when the client has all of it.
    pub(super) fn poll_download(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            ready!(self.poll_deliver(cx))?;
            match &mut self.download {
                Download::Head(answer) => {
                    if let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(cx) {
                        self.hand_over(HttpTask::Header(Box::new(head(interim.into_parts().0)), false));
                        continue;
                    }
                    let answer = ready!(Pin::new(answer).poll(cx)).map_err(Broken::Endpoint)?;
                    self.begin(answer)?;
                }
                Download::Body(body, here) => {
                    // What lay here has been taken. Fails only where the stream is gone, which the next read tells.
                    let _ = body.flow_control().release_capacity(std::mem::take(here));
                    match body.poll_data(cx) {
                        Poll::Pending if self.exchange.holds_back() => {
                            // Nothing more is at hand: what the client could have is not kept from him.
                            let piece = self.exchange.flushed().map_err(Broken::Client)?;
                            self.hand_over_piece(piece);
                        }
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Some(Ok(piece))) => self.pass(piece)?,
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Broken::Endpoint(error))),
                        Poll::Ready(None) => {
                            if let Download::Body(body, _) =
                                std::mem::replace(&mut self.download, Download::Whole(None))
                            {
                                self.download = Download::Behind(body);
                            }
                        }
                    }
                }
                Download::Behind(body) => {
                    let trailers = ready!(body.poll_trailers(cx)).map_err(Broken::Endpoint)?;
                    self.finish(trailers)?;
                }
                Download::Whole(_) => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Delivers what the client is to get next. Ready when he has it.
    fn poll_deliver(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let client = self.session.as_downstream_mut();
        if !client.has_pending_downstream_proxy_tasks() {
            return Poll::Ready(Ok(()));
        }
        let written = ready!(pin!(client.write_downstream_proxy_tasks()).poll(cx));
        Poll::Ready(match written {
            Ok(_) => Ok(()),
            Err(error) => Err(Broken::Client(error.into_down())),
        })
    }

    fn hand_over(&mut self, task: HttpTask) {
        self.session.as_downstream_mut().send_downstream_proxy_task(task);
    }

    /// The head of the answer is there.
    fn begin(&mut self, answer: Response<RecvStream>) -> Result<(), Broken> {
        let (parts, body) = answer.into_parts();
        let mut head = head(parts);
        let end = body.is_end_stream();
        self.exchange.socket = self.lease.socket();
        let shown = self.exchange.answer(self.session, &mut head, self.closing);
        shown.map_err(|error| Broken::Elsewhere(error.into_up()))?;
        let page = self.exchange.replace(&mut head);
        let came = self.session.req_header();
        let page = page.filter(|_| came.method != Method::HEAD);
        let encoding = self.exchange.begin_encoding(came, &mut head, end);
        encoding.map_err(Broken::Client)?;
        match came.version {
            // Its frames say where it ends.
            _ if came.extensions.get::<ByHttp2>().is_some() => {}
            // It ends with the connection.
            Version::HTTP_10 => self.session.set_keepalive(None),
            _ => frame(&came.method, &mut head, end).map_err(Broken::Client)?,
        }
        // The client has all that he gets, whatever the endpoint still says.
        let is_all = end || self.exchange.replaced;
        self.hand_over(HttpTask::Header(Box::new(head), is_all && page.is_none()));
        if let Some(page) = page {
            self.hand_over(HttpTask::Body(Some(page), true));
        }
        if !is_all {
            self.download = Download::Body(body, 0);
            return Ok(());
        }
        if end {
            // A call that ends with its head says there how.
            self.conclude(None);
            self.exchange.answer_piece(None, true);
        }
        self.download = Download::Whole(Some(body).filter(|_| !end));
        Ok(())
    }

    fn hand_over_piece(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.hand_over(HttpTask::Body(Some(piece), false));
        }
    }

    fn pass(&mut self, piece: Bytes) -> Result<(), Broken> {
        if let Download::Body(_, here) = &mut self.download {
            *here = piece.len();
        }
        if !piece.is_empty() {
            self.exchange.answer_piece(Some(&piece), false);
            let piece = self.exchange.encoded(piece).map_err(Broken::Client)?;
            self.hand_over_piece(piece);
        }
        Ok(())
    }

    /// Nothing more will come.
    fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), Broken> {
        self.conclude(trailers.as_ref());
        self.exchange.answer_piece(None, true);
        let last = self
            .exchange
            .encoded_end(trailers.as_ref())
            .map_err(Broken::Client)?;
        self.hand_over_piece(last);
        let trailers = trailers.filter(|_| self.exchange.shows_trailers());
        self.hand_over(HttpTask::Trailer(trailers.map(Box::new)));
        self.download = Download::Whole(None);
        Ok(())
    }

    /// Takes note of how a call ended, unless its head has said so.
    fn conclude(&mut self, trailers: Option<&HeaderMap>) {
        let Some(stream) = self.exchange.stream.as_ref().filter(|stream| stream.is_owed) else {
            return;
        };
        let status = trailers.map_or(grpc::Status::MISSING, grpc::Status::of);
        let as_http = status.as_http(stream.terms.lasts.is_some());
        self.exchange.ended_as = Some(status);
        if let Some(flow) = self.exchange.flow.as_mut() {
            local::with(|l| l.worker.concluded(flow, as_http));
        }
    }
}

/// Reads what is left of a body that no client gets, if it comes soon: so a mirror can compare it, and an endpoint that
/// fails is not told with each request that its answer is unwanted, for which some close the connection. No more comes than
/// its window.
pub(super) async fn leave(mut body: RecvStream, exchange: &mut Exchange) {
    let reading = async {
        while let Some(piece) = body.data().await {
            let Ok(piece) = piece else { return false };
            exchange.answer_piece(Some(&piece), false);
        }
        exchange.answer_piece(None, true);
        true
    };
    if !timeout(UNWANTED_TIME, reading).await.unwrap_or(false) {
        exchange.copy_answer_end(false);
    }
}

/// To everybody behind the edge it is an answer of HTTP/1.1.
fn head(mut parts: Parts) -> ResponseHeader {
    parts.version = Version::HTTP_11;
    ResponseHeader::from(parts)
}
