//! What goes down to one proxy: a welcome, and then always the newest plan, made when there is room to send it.
//!
//! The transport asks for the next message only when most of the one before has left. Nothing waits in between: a proxy
//! that takes a minute for a plan misses those of that minute and gets the newest. Whole plans are large, and a
//! thousand proxies that come back at once want one each; so only [`LARGE_AT_ONCE`] of them are under way together,
//! each for [`LARGE_PATIENCE`] at most: who takes longer still gets his, and no longer keeps others from theirs. They go
//! in pieces to proxies that take these, so that no link keeps a buffer as long as a plan.

use std::sync::Arc;
use std::time::Duration;

use foreshade_contract::report::{Reason, Refused};
use foreshade_contract::wire::proto::{Down, down};
use foreshade_contract::wire::{Downward, Pieces, Welcome};
use foreshade_contract::{Hello, PlanId};
use futures_util::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Status;

use super::Links;
use super::published::Published;
use super::registry::Seat;

/// Messages from this size on count as large.
const LARGE_BYTES: usize = 64 * 1024;

/// Large messages under way at a time: at some megabytes each they take a quarter of a gigabyte at most.
pub(super) const LARGE_AT_ONCE: usize = 64;

/// How long one of them may keep others waiting.
const LARGE_PATIENCE: Duration = Duration::from_secs(2);

/// When a plan that a proxy could not carry out is sent again.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// The downward half of one link.
pub(super) struct Downstream {
    links: Links,
    seat: Arc<Seat>,
    welcome: Option<Welcome>,
    published: watch::Receiver<Option<Arc<Published>>>,
    answers: watch::Receiver<Option<Refused>>,
    /// What the proxy has, or will have when it has taken what was sent.
    base: Option<PlanId>,
    /// The whole plan was sent last, so that sending it again would change nothing.
    whole: bool,
    /// When to send again what could not be carried out.
    again: Option<Instant>,
    /// Whether the proxy takes pieces, and those of the last message that it has not had yet.
    takes_pieces: bool,
    pieces: Option<Pieces>,
    /// Dropped when the next message is asked for: then the one before has left.
    under_way: Option<oneshot::Sender<()>>,
}

impl Downstream {
    /// To the proxy that has said this.
    pub(super) fn new(links: &Links, seat: &Arc<Seat>, hello: &Hello) -> Self {
        Self {
            welcome: Some(Welcome {
                version: links.settings.version.clone(),
                epoch: links.settings.epoch,
            }),
            published: links.board.watch(),
            answers: seat.answer.subscribe(),
            links: links.clone(),
            seat: seat.clone(),
            base: hello.plan,
            whole: false,
            again: None,
            takes_pieces: hello.pieces,
            pieces: None,
            under_way: None,
        }
    }

    /// As the transport wants it.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Down, Status>> + Send {
        stream::unfold(Some(self), |downstream| async {
            let mut downstream = downstream?;
            match downstream.next().await {
                Some(down) => Some((Ok(down), Some(downstream))),
                None => Some((Err(Status::aborted("the link has ended")), None)),
            }
        })
    }

    /// The next message, when there is one. `None` when the link has ended.
    async fn next(&mut self) -> Option<Down> {
        if let Some(piece) = self.pieces.as_mut().and_then(Iterator::next) {
            return Some(piece);
        }
        (self.pieces, self.under_way) = (None, None);
        if let Some(welcome) = self.welcome.take() {
            return Some(Downward::Welcome(welcome).message());
        }
        loop {
            let newest = self.published.borrow_and_update().clone();
            if let Some(newest) = newest.filter(|newest| Some(newest.id()) != self.base) {
                return Some(self.send(&newest).await);
            }
            let again = self.again;
            tokio::select! {
                () = self.seat.ended() => return None,
                // The board lives as long as the links do.
                _ = self.published.changed() => {}
                _ = self.answers.changed() => self.answered(),
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                    (self.again, self.base, self.whole) = (None, None, false);
                }
            }
        }
    }

    async fn send(&mut self, newest: &Published) -> Down {
        let message = self.links.board.message(newest, self.base);
        let bytes = match &message.body {
            Some(down::Body::Plan(bytes) | down::Body::Delta(bytes)) => bytes.len(),
            _ => 0,
        };
        if bytes >= LARGE_BYTES
            && let Ok(permit) = self.links.large.clone().acquire_owned().await
        {
            self.under_way = Some(held(permit));
        }
        self.whole = matches!(message.body, Some(down::Body::Plan(_)));
        (self.base, self.again) = (Some(newest.id()), None);
        self.links.registry.sent(&self.seat, newest.id());
        self.first_piece(message)
    }

    fn first_piece(&mut self, message: Down) -> Down {
        if !self.takes_pieces {
            return message;
        }
        match Pieces::of(message) {
            Ok(pieces) => {
                let pieces = self.pieces.insert(pieces);
                // What is cut is longer than a piece.
                pieces.next().unwrap_or_default()
            }
            Err(message) => message,
        }
    }

    /// The proxy has said what became of what was sent.
    fn answered(&mut self) {
        let Some(refused) = self.answers.borrow_and_update().clone() else {
            return;
        };
        if refused.plan.is_some() && refused.plan != self.base {
            return;
        }
        match refused.reason {
            // The whole plan would be taken.
            Reason::WrongBase | Reason::Malformed | Reason::Other if !self.whole => self.base = None,
            Reason::NotReady => self.again = Some(Instant::now() + AGAIN_AFTER),
            // It would be refused again: the next plan is another one.
            Reason::WrongBase
            | Reason::Malformed
            | Reason::Other
            | Reason::StaleEpoch
            | Reason::StaleGeneration => {}
        }
    }
}

/// Keeps the permit until the message has left, and not for ever.
fn held(permit: OwnedSemaphorePermit) -> oneshot::Sender<()> {
    let (under_way, has_left) = oneshot::channel();
    tokio::spawn(async move {
        let _ = timeout(LARGE_PATIENCE, has_left).await;
        drop(permit);
    });
    under_way
}
