//! The body of a copied request, from the worker to the target: a bounded queue that never makes the worker wait.
//!
//! An end that is not marked as one is a cut: the copy is broken off on its connection, so that the target never takes a
//! part of a request for the whole. Where the length is known it is announced as it was, else the body is chunked.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::limits::{Held, Limits};
use super::rule::{Reason, Rule};

/// Pieces that may wait for a target. A piece has 64 KiB at most, the worker's read buffer, so this is 2 MiB: what a
/// target may fall behind the endpoint.
const PIECES_MAX: usize = 32;

#[derive(Debug)]
struct Piece {
    bytes: Option<Held>,
    last: bool,
}

/// The worker's end.
#[derive(Debug)]
pub(super) struct Feed {
    pieces: mpsc::Sender<Piece>,
    limits: Arc<Limits>,
    passed: u64,
    bytes_max: u64,
}

/// The mirror's end.
#[derive(Debug)]
pub(super) struct Pieces {
    pieces: mpsc::Receiver<Piece>,
    length: Option<u64>,
}

/// Both ends, if there is a body.
pub(super) fn channel(
    has_body: bool,
    length: Option<u64>,
    rule: &Rule,
    limits: &Arc<Limits>,
) -> (Option<Feed>, Option<Pieces>) {
    if !has_body {
        return (None, None);
    }
    let (to, pieces) = mpsc::channel(PIECES_MAX);
    let feed = Feed {
        pieces: to,
        limits: limits.clone(),
        passed: 0,
        bytes_max: rule.policy().body_bytes_max,
    };
    (Some(feed), Some(Pieces { pieces, length }))
}

impl Feed {
    /// Passes a piece on.
    ///
    /// # Errors
    /// Why the copy has to be given up.
    pub(super) fn pass(&mut self, piece: Option<&Bytes>, last: bool) -> Result<(), Reason> {
        let bytes = match piece.filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => {
                self.passed = self.passed.saturating_add(bytes.len() as u64);
                if self.passed > self.bytes_max {
                    return Err(Reason::TooLarge);
                }
                Some(Held::new(bytes.clone(), &self.limits).ok_or(Reason::Memory)?)
            }
            None => None,
        };
        if bytes.is_none() && !last {
            return Ok(());
        }
        match self.pieces.try_send(Piece { bytes, last }) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Reason::Overflow),
            // The target has had enough: it answered, or broke. The mirror's thread knows which.
            Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }
}

/// The body broke off because the copy was given up.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the copy was given up")]
pub(super) struct Cut;

/// Since when a copy waits for its target. Clones tell the same.
#[derive(Clone, Debug)]
pub(super) struct Waiting(Arc<Mutex<Option<Instant>>>);

impl Waiting {
    pub(super) fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Some(now))))
    }

    /// `None` while it waits for the next piece of the user's body.
    pub(super) fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

/// A copy's body, as the HTTP client wants it.
#[derive(Debug)]
pub(super) struct CopyBody {
    pieces: Option<Pieces>,
    waiting: Waiting,
}

impl CopyBody {
    /// A body of these pieces; an empty one where there are none.
    pub(super) fn new(pieces: Option<Pieces>, waiting: Waiting) -> Self {
        Self { pieces, waiting }
    }
}

impl Body for CopyBody {
    type Data = Held;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Held>, Cut>>> {
        loop {
            let Some(pieces) = &mut self.pieces else {
                return Poll::Ready(None);
            };
            let Poll::Ready(piece) = pieces.pieces.poll_recv(context) else {
                // The target has taken everything that there is.
                self.waiting.set(None);
                return Poll::Pending;
            };
            let Some(piece) = piece else {
                return Poll::Ready(Some(Err(Cut)));
            };
            if piece.last {
                self.pieces = None;
            }
            self.waiting.set(Some(Instant::now()));
            if let Some(bytes) = piece.bytes {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.pieces {
            None => SizeHint::with_exact(0),
            Some(pieces) => pieces.length.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::tests::policy;
    use super::*;

    fn both() -> (Feed, CopyBody) {
        let limits = Arc::new(Limits::default());
        let mut policy = policy();
        policy.body_bytes_max = 100;
        let (feed, pieces) = channel(true, None, &Rule::new(policy), &limits);
        let body = CopyBody::new(pieces, Waiting::new(Instant::now()));
        (feed.unwrap(), body)
    }

    #[tokio::test]
    async fn a_user_who_pauses_inside_a_body_is_not_the_targets_fault() {
        let (mut feed, mut body) = both();
        let polled = std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut body).poll_frame(context)));
        assert!(polled.await.is_pending());
        assert_eq!(body.waiting.since(), None);
        feed.pass(Some(&Bytes::from_static(b"abc")), false).unwrap();
        next(&mut body).await;
        assert!(body.waiting.since().is_some());
    }

    async fn next(body: &mut CopyBody) -> Option<Result<usize, Cut>> {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        Some(frame.map(|frame| bytes::Buf::remaining(&frame.into_data().unwrap())))
    }

    #[tokio::test]
    async fn a_marked_end_is_an_end_and_any_other_is_a_cut() {
        let (mut feed, mut body) = both();
        feed.pass(Some(&Bytes::from_static(b"abc")), false).unwrap();
        feed.pass(Some(&Bytes::new()), false).unwrap();
        feed.pass(None, true).unwrap();
        assert_eq!(next(&mut body).await.unwrap().unwrap(), 3);
        assert!(next(&mut body).await.is_none());

        let (mut feed, mut body) = both();
        feed.pass(Some(&Bytes::from_static(b"abc")), false).unwrap();
        drop(feed);
        assert_eq!(next(&mut body).await.unwrap().unwrap(), 3);
        assert!(next(&mut body).await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_target_that_takes_nothing_costs_the_copy_and_holds_nothing_afterwards() {
        let (mut feed, body) = both();
        let piece = Bytes::from_static(b"x");
        let given_up = (0..100).find_map(|_| feed.pass(Some(&piece), false).err());
        assert_eq!(given_up, Some(Reason::Overflow));
        let limits = feed.limits.clone();
        assert_eq!(limits.held(), PIECES_MAX);
        drop((feed, body));
        assert_eq!(limits.held(), 0);
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_is_given_up_where_it_becomes_too_long() {
        let (mut feed, mut body) = both();
        feed.pass(Some(&Bytes::from(vec![0; 100])), false).unwrap();
        assert_eq!(
            feed.pass(Some(&Bytes::from_static(b"x")), true),
            Err(Reason::TooLarge)
        );
        assert_eq!(next(&mut body).await.unwrap().unwrap(), 100);
    }
}
