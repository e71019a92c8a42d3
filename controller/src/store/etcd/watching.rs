//! A watch on etcd that outlives its connection: it goes on behind the last complete revision.
//!
//! etcd is asked for one revision before the wanted one, and what comes of it is dropped: versions up to 3.5 answer a watch
//! from exactly the compacted revision although its deletions are gone, and this asks for the answer that tells. Large
//! answers come in fragments; a revision is given on when it is complete.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, timeout};
use tonic::{Status, Streaming};

use super::link::{ANSWER_BYTES_MAX, Effect, Link, blame, stream_request};
use super::wire::{self, pb};
use crate::store::error::{Invalid, StoreError};
use crate::store::key::{KeyRange, Revision};
use crate::store::pause::Pause;
use crate::store::watch::{Change, Notice, Watch, refused};

/// Watches keys.
pub(super) fn watch(link: Arc<Link>, keys: KeyRange, from: Revision) -> Watch {
    if from == Revision::NONE {
        return refused(Invalid::Revision.into());
    }
    let watcher = Watcher {
        link,
        keys,
        // Nothing ever happened at the first revision.
        next: from.max(Revision::FIRST.next()),
        connection: None,
        partial: None,
        ready: VecDeque::new(),
        pause: Pause::default(),
        over: false,
    };
    stream::unfold(watcher, |mut watcher| async move {
        let notice = watcher.step().await?;
        Some((notice, watcher))
    })
    .boxed()
}

struct Watcher {
    link: Arc<Link>,
    keys: KeyRange,
    /// The first revision that was not given on.
    next: Revision,
    /// The stream, and whose turn it was when it was opened.
    connection: Option<(usize, Streaming<pb::WatchResponse>)>,
    /// What has come of a revision that may not be complete.
    partial: Option<Change>,
    ready: VecDeque<Notice>,
    pause: Pause,
    over: bool,
}

impl Watcher {
    /// The next notice, or nothing after the last one.
    async fn step(&mut self) -> Option<Result<Notice, StoreError>> {
        loop {
            if let Some(notice) = self.ready.pop_front() {
                return Some(Ok(notice));
            }
            if self.over {
                return None;
            }
            if let Err(error) = self.advance().await {
                self.over = true;
                return Some(Err(error));
            }
        }
    }

    /// Receives one answer, or opens the stream again. An error is for good.
    async fn advance(&mut self) -> Result<(), StoreError> {
        let Some((turn, stream)) = &mut self.connection else {
            return self.connect().await;
        };
        match stream.message().await {
            Ok(Some(response)) => self.take(response),
            Ok(None) => {
                self.connection = None;
                Ok(())
            }
            Err(status) => {
                self.link.give_up(*turn);
                self.connection = None;
                passing(&status)
            }
        }
    }

    async fn connect(&mut self) -> Result<(), StoreError> {
        self.partial = None;
        let opened = self.open().await;
        match opened {
            Ok(connection) => {
                self.connection = Some(connection);
                Ok(())
            }
            Err(StoreError::Unavailable(error)) => {
                tracing::debug!(%error, "the watch cannot be opened yet");
                self.pause.wait().await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn open(&self) -> Result<(usize, Streaming<pb::WatchResponse>), StoreError> {
        let (turn, channel) = self.link.channel(Instant::now() + self.link.deadline()).await?;
        let (key, range_end) = wire::range(&self.keys);
        let before = self.next.number().saturating_sub(1).max(1);
        let create = pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: wire::signed(before),
            progress_notify: true,
            fragment: true,
        };
        let create = pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
        };
        // The stream stays open as long as its end is not reached, which is never.
        let requests = stream::once(async { create }).chain(stream::pending());
        let mut client =
            pb::watch_client::WatchClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let opening = client.watch(stream_request(requests));
        match timeout(self.link.patience(), opening).await {
            Ok(Ok(response)) => Ok((turn, response.into_inner())),
            Ok(Err(status)) => {
                self.link.give_up(turn);
                Err(blame(&status, Effect::None))
            }
            Err(_) => {
                self.link.give_up(turn);
                Err(StoreError::Unavailable(
                    "the watch was not opened in time".to_owned(),
                ))
            }
        }
    }

    fn take(&mut self, response: pb::WatchResponse) -> Result<(), StoreError> {
        let revision = self.link.header(response.header.as_ref())?;
        if response.compact_revision != 0 {
            let first = Revision::new(wire::unsigned(response.compact_revision)?);
            return Err(StoreError::Compacted { first });
        }
        if response.canceled {
            // A member without a leader, or one that stops: the others may know more.
            tracing::debug!(reason = %response.cancel_reason, "etcd ended the watch");
            if let Some((turn, _)) = self.connection.take() {
                self.link.give_up(turn);
            }
            return Ok(());
        }
        self.pause.reset();
        if response.created {
            return Ok(());
        }
        if response.events.is_empty() && !response.fragment {
            self.finish();
            if self.next <= revision {
                self.ready.push_back(Notice::Progress(revision));
                self.next = revision.next();
            }
            return Ok(());
        }
        for event in response.events {
            let (revision, event) = wire::event(event)?;
            if revision < self.next {
                continue;
            }
            match &mut self.partial {
                Some(change) if change.revision == revision => change.events.push(event),
                _ => {
                    self.finish();
                    let events = vec![event];
                    self.partial = Some(Change { revision, events });
                }
            }
        }
        if !response.fragment {
            self.finish();
        }
        Ok(())
    }

    /// Gives the revision on that has come: it is complete.
    fn finish(&mut self) {
        if let Some(change) = self.partial.take() {
            self.next = change.revision.next();
            self.ready.push_back(Notice::Change(change));
        }
    }
}

/// An error that ends a connection, or one that ends the watch.
fn passing(status: &Status) -> Result<(), StoreError> {
    match blame(status, Effect::None) {
        StoreError::Unavailable(error) => {
            tracing::debug!(%error, "the watch lost its connection");
            Ok(())
        }
        error => Err(error),
    }
}
