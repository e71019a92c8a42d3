//! Keeps leases alive: one stream for all of them, opened when it is needed, and again when it broke.
//!
//! Whoever asks waits for etcd's own answer, since a leader may only act on what etcd has confirmed. A member that does
//! not answer is left before the caller's time is up, so that another one can be asked.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Streaming;

use super::link::{Effect, Link, blame, stream_request};
use super::wire::pb;
use crate::store::error::StoreError;
use crate::store::key::LeaseId;

/// Requests that wait for the stream. Beyond it the caller waits, and has a deadline.
const ASKS_MAX: usize = 256;

/// Somebody asks for a lease.
#[derive(Debug)]
pub(super) struct Ask {
    id: LeaseId,
    reply: oneshot::Sender<Result<Duration, StoreError>>,
}

/// What asks the keeper. The keeper ends with the last one.
#[derive(Clone, Debug)]
pub(super) struct Keeper(mpsc::Sender<Ask>);

impl Keeper {
    /// Starts it on this runtime.
    pub(super) fn start(link: Arc<Link>) -> Self {
        let (asks, receiver) = mpsc::channel(ASKS_MAX);
        tokio::spawn(keep(link, receiver));
        Self(asks)
    }

    /// Lets the time of a lease begin anew, and says how long it is.
    pub(super) async fn keep_alive(&self, id: LeaseId, within: Duration) -> Result<Duration, StoreError> {
        let (reply, answer) = oneshot::channel();
        let asking = async {
            self.0
                .send(Ask { id, reply })
                .await
                .map_err(|_| StoreError::Closed)?;
            answer
                .await
                .unwrap_or_else(|_| Err(StoreError::Unavailable("the stream of leases broke".to_owned())))
        };
        let late = |_| StoreError::Unavailable("etcd did not keep the lease in time".to_owned());
        timeout(within, asking).await.map_err(late)?
    }
}

type Waiting = HashMap<i64, VecDeque<oneshot::Sender<Result<Duration, StoreError>>>>;

/// A stream that works, as far as anybody knows.
struct Open {
    turn: usize,
    requests: mpsc::Sender<pb::LeaseKeepAliveRequest>,
    answers: Streaming<pb::LeaseKeepAliveResponse>,
    waiting: Waiting,
    /// Since when an answer is owed.
    owed_since: Option<Instant>,
}

async fn keep(link: Arc<Link>, mut asks: mpsc::Receiver<Ask>) {
    while let Some(ask) = asks.recv().await {
        match open(&link, ask.id).await {
            Ok(mut open) => {
                open.owe(ask);
                open.serve(&link, &mut asks).await;
                // Whoever still waits learns that the stream broke: his end of the channel is dropped.
                link.give_up(open.turn);
            }
            Err(error) => {
                // He may have gone.
                let _ = ask.reply.send(Err(error));
            }
        }
    }
}

/// Opens the stream, with a first request: etcd says nothing, not even that the stream is open, until it has one.
async fn open(link: &Link, first: LeaseId) -> Result<Open, StoreError> {
    let (turn, channel) = link.channel(Instant::now() + link.patience()).await?;
    let (requests, receiver) = mpsc::channel(ASKS_MAX);
    let first = pb::LeaseKeepAliveRequest { id: first.number() };
    let later = stream::unfold(receiver, |mut receiver: mpsc::Receiver<_>| async move {
        let request = receiver.recv().await?;
        Some((request, receiver))
    });
    let requested = stream::once(async move { first }).chain(later);
    let mut client = pb::lease_client::LeaseClient::new(channel);
    let opening = client.lease_keep_alive(stream_request(requested));
    match timeout(link.patience(), opening).await {
        Ok(Ok(response)) => Ok(Open {
            turn,
            requests,
            answers: response.into_inner(),
            waiting: Waiting::new(),
            owed_since: None,
        }),
        failed => {
            link.give_up(turn);
            Err(match failed {
                Ok(Err(status)) => blame(&status, Effect::None),
                _ => StoreError::Unavailable("the stream of leases was not opened in time".to_owned()),
            })
        }
    }
}

impl Open {
    /// Notes that an answer is owed.
    fn owe(&mut self, ask: Ask) {
        let id = ask.id.number();
        self.waiting.entry(id).or_default().push_back(ask.reply);
        self.owed_since.get_or_insert_with(Instant::now);
    }

    /// Sends a request. Says whether the stream still takes any.
    async fn send(&mut self, ask: Ask) -> bool {
        let id = ask.id.number();
        self.owe(ask);
        self.requests.send(pb::LeaseKeepAliveRequest { id }).await.is_ok()
    }

    /// Serves until the stream breaks, or an answer is owed for too long, or nobody can ask any more.
    async fn serve(&mut self, link: &Link, asks: &mut mpsc::Receiver<Ask>) {
        loop {
            let late = self.owed_since.map(|since| since + link.patience());
            tokio::select! {
                ask = asks.recv() => {
                    let Some(ask) = ask else { return };
                    if !self.send(ask).await {
                        return;
                    }
                }
                answer = self.answers.message() => match answer {
                    Ok(Some(answer)) if link.header(answer.header.as_ref()).is_ok() => self.answer(&answer),
                    _ => return,
                },
                () = sleep_until(late.unwrap_or_else(Instant::now)), if late.is_some() => return,
            }
        }
    }

    fn answer(&mut self, answer: &pb::LeaseKeepAliveResponse) {
        // etcd answers in order, so the answer is the first one's who asked for this lease.
        let Some(queue) = self.waiting.get_mut(&answer.id) else {
            return;
        };
        let kept = match (u64::try_from(answer.ttl), LeaseId::new(answer.id)) {
            (Ok(seconds), _) if seconds > 0 => Ok(Duration::from_secs(seconds)),
            (_, Some(id)) => Err(StoreError::LeaseNotFound(id)),
            (_, None) => return,
        };
        if let Some(reply) = queue.pop_front() {
            // He may have gone.
            let _ = reply.send(kept);
        }
        if queue.is_empty() {
            self.waiting.remove(&answer.id);
        }
        self.owed_since = (!self.waiting.is_empty()).then(Instant::now);
    }
}
