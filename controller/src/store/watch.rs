//! Watches of the embedded stores: a cursor in the history, and no buffer per watcher.
//!
//! A watcher is a place in the history that the store keeps anyway. It reads on when the store says that there is more,
//! which the store says only once it is on disk, so nobody ever sees what a crash could take back. A slow watcher costs
//! nothing until the history is compacted under it; then it is told so, and nothing is dropped in silence. The obvious
//! other, a queue per watcher, needs a bound, and an answer to what happens beyond it, which would be this one.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::{Invalid, StoreError};
use super::key::{Entry, Key, KeyRange, Revision};

/// Events that one look into the history collects, more or less: a revision is never split.
pub(super) const LOOK_EVENTS_MAX: usize = 1000;

/// How often a watcher of keys that nobody writes is told how far the store has come, unless it is told otherwise.
pub(super) const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Changes as they come. Ends after an error; the error says whether watching from elsewhere makes sense.
pub type Watch = BoxStream<'static, Result<Notice, StoreError>>;

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// All of a revision that concerns the watched keys.
    Change(Change),
    /// Nothing else concerned them up to here: whoever watches again may begin after this revision.
    Progress(Revision),
}

/// What one revision did to the watched keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub revision: Revision,
    /// In the order in which it was done.
    pub events: Vec<Event>,
}

/// What happened to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was written, and is this now.
    Put(Entry),
    /// It was deleted, or went with its lease.
    Deleted(Key),
}

impl Event {
    /// Whose event it is.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Deleted(key) => key,
        }
    }
}

/// What a look into the history found.
#[derive(Debug)]
pub(super) struct Look {
    /// What concerns the keys, oldest first.
    pub(super) changes: Vec<Change>,
    /// Everything up to here has been looked at.
    pub(super) upto: Revision,
}

/// The history of a store.
#[async_trait]
pub(super) trait History: Send + Sync + 'static {
    /// Looks at the revisions from `from` on, up to the latest, but not at too many at once.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when some of them are gone.
    async fn look(self: Arc<Self>, keys: &KeyRange, from: Revision) -> Result<Look, StoreError>;
}

/// Watches a store. It does not keep it open: when the store goes, the watch ends with [`StoreError::Closed`].
pub(super) fn follow<H: History>(
    store: &Arc<H>,
    tip: watch::Receiver<Revision>,
    keys: KeyRange,
    from: Revision,
    progress_every: Duration,
) -> Watch {
    if from == Revision::NONE {
        return refused(Invalid::Revision.into());
    }
    let follower = Follower {
        store: Arc::downgrade(store),
        tip,
        keys,
        // Nothing ever happened at the first revision.
        next: from.max(Revision::FIRST.next()),
        ready: VecDeque::new(),
        told: (from, Instant::now()),
        progress_every,
        over: false,
    };
    stream::unfold(follower, |mut follower| async move {
        let notice = follower.step().await?;
        Some((notice, follower))
    })
    .boxed()
}

/// A watch that only says what was wrong with it.
pub(super) fn refused(error: StoreError) -> Watch {
    stream::once(async { Err(error) }).boxed()
}

struct Follower<H> {
    store: Weak<H>,
    tip: watch::Receiver<Revision>,
    keys: KeyRange,
    /// The first revision that was not looked at.
    next: Revision,
    ready: VecDeque<Notice>,
    /// The first revision of which the watcher was not told, and when it was told something last.
    told: (Revision, Instant),
    progress_every: Duration,
    over: bool,
}

impl<H: History> Follower<H> {
    /// The next notice, or nothing after the last one.
    async fn step(&mut self) -> Option<Result<Notice, StoreError>> {
        loop {
            if let Some(notice) = self.ready.pop_front() {
                let (Notice::Change(Change { revision, .. }) | Notice::Progress(revision)) = &notice;
                self.told = (revision.next(), Instant::now());
                return Some(Ok(notice));
            }
            if self.over {
                return None;
            }
            let latest = *self.tip.borrow_and_update();
            let went = if self.next <= latest {
                self.look().await
            } else {
                self.wait().await
            };
            if let Err(error) = went {
                self.over = true;
                return Some(Err(error));
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let store = self.store.upgrade().ok_or(StoreError::Closed)?;
        let look = store.look(&self.keys, self.next).await?;
        self.next = look.upto.next().max(self.next);
        self.ready.extend(look.changes.into_iter().map(Notice::Change));
        self.tell_progress();
        Ok(())
    }

    /// Waits for the store to go on, or for the time to say how far it has come.
    async fn wait(&mut self) -> Result<(), StoreError> {
        if self.told.0 >= self.next {
            return self.tip.changed().await.map_err(|_| StoreError::Closed);
        }
        let due = self.told.1 + self.progress_every;
        tokio::select! {
            changed = self.tip.changed() => changed.map_err(|_| StoreError::Closed)?,
            () = tokio::time::sleep_until(due) => self.tell_progress(),
        }
        Ok(())
    }

    fn tell_progress(&mut self) {
        let silent = self.ready.is_empty() && self.told.0 < self.next;
        if silent && self.told.1.elapsed() >= self.progress_every {
            let looked_at = Revision::new(self.next.number().saturating_sub(1));
            self.ready.push_back(Notice::Progress(looked_at));
        }
    }
}
