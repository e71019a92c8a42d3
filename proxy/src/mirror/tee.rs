//! The worker's end of a copy: it lies beside the user's request, takes note of what passes, and never makes it wait.
//!
//! Of the request it passes on the body, of the endpoint's answer it keeps a fingerprint. Both are handed to the
//! mirror's thread; whoever drops a tee without concluding it gives the copy up, and counts the reason.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foreshade_engine::moment::Moment;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use tokio::sync::oneshot;

use super::feed::Feed;
use super::fingerprint::{Answer, Recording};
use super::limits::Limits;
use super::rule::Reason;

/// What the endpoint that served the user did.
#[derive(Debug)]
pub enum Primary {
    /// It answered.
    Answered(AnswerIn),
    /// It failed.
    Failed,
}

/// An answer, and how long its first byte took.
#[derive(Debug)]
pub struct AnswerIn {
    pub(super) answer: Answer,
    pub(super) latency: Duration,
}

/// A copy in the making.
#[derive(Debug)]
pub struct Tee {
    /// While the request's body is not complete.
    feed: Option<Feed>,
    tell: oneshot::Sender<Primary>,
    recording: Option<(Recording, Duration)>,
    sent: Moment,
    limits: Arc<Limits>,
}

impl Tee {
    pub(super) fn new(
        feed: Option<Feed>,
        tell: oneshot::Sender<Primary>,
        sent: Moment,
        limits: Arc<Limits>,
    ) -> Self {
        Self {
            feed,
            tell,
            recording: None,
            sent,
            limits,
        }
    }

    /// A piece of the request's body passes, or its end.
    ///
    /// # Errors
    /// Why the copy has to be given up.
    pub fn request_piece(&mut self, piece: Option<&Bytes>, last: bool) -> Result<(), Reason> {
        let Some(feed) = &mut self.feed else {
            return Ok(());
        };
        feed.pass(piece, last)?;
        if last {
            self.feed = None;
        }
        Ok(())
    }

    /// The head of the endpoint's answer is there.
    ///
    /// # Errors
    /// Why the copy has to be given up.
    pub fn answer_head(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        now: Moment,
    ) -> Result<(), Reason> {
        let is_stream = headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if is_stream || status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Reason::Stream);
        }
        let latency = now.since(self.sent);
        self.recording = Some((Recording::new(status, headers, &self.limits), latency));
        Ok(())
    }

    /// A piece of the answer's body passes.
    pub fn answer_piece(&mut self, piece: &Bytes) {
        if let Some((recording, _)) = &mut self.recording {
            recording.piece(piece);
        }
    }

    /// The endpoint is done: with its answer, or it `failed`.
    ///
    /// # Errors
    /// Why the copy has to be given up all the same.
    pub fn conclude(self, failed: bool) -> Result<(), Reason> {
        if self.feed.is_some() {
            // The target has not got the whole request either, and there is nothing to compare.
            return Err(Reason::PrimaryBroke);
        }
        let primary = match self.recording {
            _ if failed => Primary::Failed,
            Some((recording, latency)) => Primary::Answered(AnswerIn {
                answer: recording.finish(),
                latency,
            }),
            None => return Err(Reason::PrimaryBroke),
        };
        // A copy that ended early has been counted already.
        let _ = self.tell.send(primary);
        Ok(())
    }
}
