//! Which controller acts, and what keeps a deposed one from acting.
//!
//! A lease alone is no lock: whoever holds it can be stopped for longer than it lives, and go on as if nothing had
//! happened. So three things hold him, each enough where the others fail:
//!
//! - **His own clock.** He stops acting two thirds of the lease after the last time that the store confirmed it, counted
//!   from when he asked. The store's clock may run up to half as fast again as his.
//! - **The store.** His [`Epoch`] is the revision at which the leader's key came into being. Every write of his compares it
//!   ([`Leadership::txn`]), so one that was deposed writes nothing, whatever he believes.
//! - **Whoever he commands.** Each command carries the epoch, and receivers refuse one older than they know. A command can
//!   be made with an [`Authority`] only, which is given for this moment.
//!
//! See <https://jepsen.io/analyses/etcd-3.4.3> for why the second and the third are not optional.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use foreshade_contract::Epoch;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::store::pause::Pause;
use crate::store::{
    Certainty, Change, Compare, Done, Entry, Event, Invalid, Key, KeyRange, LEASE_TTL_MIN, LeaseId, Notice,
    Op, OpDone, ReadAt, Revision, Store, StoreError, Txn, Value,
};

/// How long the lease of a leader lives, unless it is told otherwise: what a fleet waits for at most when he is gone.
pub const LEADER_TTL: Duration = Duration::from_secs(15);

/// How often the lease is kept alive within its time; two tries can fail before the leader steps down.
const KEEPALIVES_PER_TTL: u32 = 5;

/// Longest name of a candidate, in bytes.
const WHO_BYTES_MAX: usize = 256;

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The name that he gave.
    pub who: String,
    /// His epoch: the revision at which the leader's key came into being, and so greater than all before.
    pub epoch: Epoch,
}

/// Why a leader is none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Deposed {
    /// The store has not confirmed him for too long. He may still hold the key.
    #[error("the store has not confirmed the leader in time")]
    Unconfirmed,
    /// The store has ended his lease.
    #[error("the leader's lease has ended")]
    LeaseEnded,
    /// The key is not his: it was deleted, or somebody else leads.
    #[error("somebody else leads, or nobody does")]
    Replaced,
    /// He went by himself.
    #[error("the leader has resigned")]
    Resigned,
}

/// Why a leader's write failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaderError {
    /// He is not the leader any more. Nothing was written.
    #[error(transparent)]
    Deposed(#[from] Deposed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A candidate.
#[derive(Clone)]
pub struct Campaign {
    store: Arc<dyn Store>,
    key: Key,
    who: Value,
    ttl: Duration,
}

/// A leader, until he is deposed.
///
/// Dropping it ends the keeping alive; the lease then ends by itself. [`Leadership::resign`] does not let anybody wait.
pub struct Leadership {
    inner: Arc<Inner>,
    keeper: AbortHandle,
}

struct Inner {
    store: Arc<dyn Store>,
    key: Key,
    epoch: Epoch,
    lease: LeaseId,
    ttl: Duration,
    standing: watch::Sender<Standing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Until then he may act.
    Leads(Instant),
    Deposed(Deposed),
}

/// Proof that the leader leads at this moment: what a command asks for. It cannot outlive him, and has to be asked again
/// ([`Authority::epoch`]) at each use.
#[derive(Clone, Copy)]
pub struct Authority<'a> {
    leadership: &'a Leadership,
}

/// What came of one attempt.
enum Attempt {
    Won(Leadership),
    /// Somebody else leads, at this revision.
    Lost(Revision),
}

impl Campaign {
    /// A candidate of this name for the leadership under this key.
    ///
    /// # Errors
    /// When the name is longer than 256 bytes, or the lease too short for a step-down before its end.
    pub fn new(store: Arc<dyn Store>, key: Key, who: &str, ttl: Duration) -> Result<Self, StoreError> {
        if who.len() > WHO_BYTES_MAX {
            return Err(Invalid::ValueTooLong(who.len()).into());
        }
        if ttl < LEASE_TTL_MIN {
            return Err(Invalid::Ttl(ttl).into());
        }
        let who = Value::new(who.as_bytes().to_vec())?;
        Ok(Self { store, key, who, ttl })
    }

    /// Waits until the leadership is won, however long the store is away.
    ///
    /// # Errors
    /// What does not go away by waiting: another program's contents under the key, no permission.
    pub async fn win(&self) -> Result<Leadership, StoreError> {
        let mut pause = Pause::default();
        loop {
            let tried = match self.attempt().await {
                Ok(Attempt::Won(leadership)) => return Ok(leadership),
                Ok(Attempt::Lost(at)) => self.wait_for_vacancy(at).await,
                Err(error) => Err(error),
            };
            match tried {
                Ok(()) => pause.reset(),
                Err(error) if is_for_good(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "the campaign for leadership waits for the store");
                    pause.wait().await;
                }
            }
        }
    }

    async fn attempt(&self) -> Result<Attempt, StoreError> {
        let found = self
            .store
            .range(KeyRange::key(&self.key), ReadAt::Latest, 1)
            .await?;
        if let Some(entry) = found.entries.first() {
            leader_of(entry)?;
            return Ok(Attempt::Lost(found.revision));
        }
        let asked_at = Instant::now();
        let lease = self.store.lease_grant(self.ttl).await?;
        let put = Op::Put {
            key: self.key.clone(),
            value: self.who.clone(),
            lease: Some(lease.id),
        };
        let txn = Txn::new().when(Compare::absent(self.key.clone())).then(put);
        let epoch = match self.store.txn(txn).await {
            Ok(done) if done.succeeded => Ok(Some(done.revision)),
            Ok(_) => Ok(None),
            Err(StoreError::OutcomeUnknown(_)) => self.settle(lease.id).await,
            Err(error) => Err(error),
        };
        if let Ok(Some(revision)) = epoch {
            return Ok(Attempt::Won(self.lead(epoch_of(revision), lease.id, asked_at)));
        }
        // Also what may still be under way goes with the lease. If this fails, the lease ends by itself.
        let _ = self.store.lease_revoke(lease.id).await;
        epoch.map(|_| Attempt::Lost(found.revision))
    }

    /// Finds out whether a lost answer was a victory.
    async fn settle(&self, lease: LeaseId) -> Result<Option<Revision>, StoreError> {
        let found = self
            .store
            .range(KeyRange::key(&self.key), ReadAt::Latest, 1)
            .await?;
        let ours = found.entries.first().filter(|entry| entry.lease == Some(lease));
        Ok(ours.map(|entry| entry.created))
    }

    fn lead(&self, epoch: Epoch, lease: LeaseId, asked_at: Instant) -> Leadership {
        let inner = Arc::new(Inner {
            store: Arc::clone(&self.store),
            key: self.key.clone(),
            epoch,
            lease,
            ttl: self.ttl,
            standing: watch::Sender::new(Standing::Leads(asked_at + acting_time(self.ttl))),
        });
        let keeper = tokio::spawn(keep(Arc::clone(&inner))).abort_handle();
        Leadership { inner, keeper }
    }

    /// Waits until nobody leads.
    async fn wait_for_vacancy(&self, at: Revision) -> Result<(), StoreError> {
        let mut changes = self.store.watch(KeyRange::key(&self.key), at.next());
        while let Some(notice) = changes.next().await {
            if let Notice::Change(Change { events, .. }) = notice?
                && let Some(Event::Deleted(_)) = events.last()
            {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("the watch ended".to_owned()))
    }
}

/// Who leads now, if anybody does.
///
/// # Errors
/// [`StoreError::Foreign`] and [`StoreError::Corrupt`] for what no candidate of ours has written.
pub async fn current(store: &dyn Store, key: &Key) -> Result<Option<Leader>, StoreError> {
    let found = store.range(KeyRange::key(key), ReadAt::Latest, 1).await?;
    found.entries.first().map(leader_of).transpose()
}

fn leader_of(entry: &Entry) -> Result<Leader, StoreError> {
    if entry.lease.is_none() {
        let key = &entry.key;
        return Err(StoreError::Foreign(format!(
            "{key} is held without a lease, which no controller does; delete it if you know why"
        )));
    }
    let who = std::str::from_utf8(entry.value.as_bytes()).map_err(|error| StoreError::Corrupt {
        place: entry.key.to_string(),
        what: error.to_string(),
    })?;
    Ok(Leader {
        who: who.to_owned(),
        epoch: epoch_of(entry.created),
    })
}

fn epoch_of(created: Revision) -> Epoch {
    Epoch(created.number())
}

/// Whether waiting does not help.
fn is_for_good(error: &StoreError) -> bool {
    // A compacted watch and a lease that ended meanwhile only mean that a step took too long.
    let passing = matches!(error, StoreError::Compacted { .. } | StoreError::LeaseNotFound(_));
    error.certainty() == Certainty::Refused && !passing
}

/// How long a leader acts on one confirmation.
fn acting_time(ttl: Duration) -> Duration {
    ttl * 2 / 3
}

/// Keeps the lease alive, and deposes the leader when that fails for too long.
async fn keep(inner: Arc<Inner>) {
    loop {
        let standing = *inner.standing.borrow();
        let Standing::Leads(until) = standing else {
            break;
        };
        sleep(inner.ttl / KEEPALIVES_PER_TTL).await;
        let asked_at = Instant::now();
        match timeout_at(until, inner.store.lease_keepalive(inner.lease)).await {
            Ok(Ok(_)) => inner.confirm(asked_at + acting_time(inner.ttl)),
            Ok(Err(StoreError::LeaseNotFound(_))) => inner.depose(Deposed::LeaseEnded),
            Ok(Err(error)) if Instant::now() < until => {
                tracing::warn!(%error, epoch = %inner.epoch, "the leader's lease was not kept");
            }
            Ok(Err(_)) | Err(_) => inner.depose(Deposed::Unconfirmed),
        }
    }
    // Whoever comes next need not wait for the end of the lease. If this fails, he has to.
    let _ = inner.store.lease_revoke(inner.lease).await;
}

impl Inner {
    fn confirm(&self, until: Instant) {
        self.standing.send_if_modified(|standing| match standing {
            // Later than its end it cannot be mended: somebody may have been told that he is deposed.
            Standing::Leads(before) if Instant::now() < *before => {
                *before = until.max(*before);
                true
            }
            Standing::Leads(_) => {
                *standing = Standing::Deposed(Deposed::Unconfirmed);
                true
            }
            Standing::Deposed(_) => false,
        });
    }

    fn depose(&self, why: Deposed) {
        self.standing.send_if_modified(|standing| {
            let leads = matches!(standing, Standing::Leads(_));
            if leads {
                tracing::warn!(epoch = %self.epoch, reason = %why, "the leader steps down");
                *standing = Standing::Deposed(why);
            }
            leads
        });
    }

    fn check(&self) -> Result<Epoch, Deposed> {
        let standing = *self.standing.borrow();
        match standing {
            Standing::Leads(until) if Instant::now() < until => Ok(self.epoch),
            Standing::Leads(_) => {
                self.depose(Deposed::Unconfirmed);
                Err(Deposed::Unconfirmed)
            }
            Standing::Deposed(why) => Err(why),
        }
    }
}

impl Leadership {
    /// The epoch, also after the end; for logs. Commands take it from an [`Authority`].
    pub fn epoch(&self) -> Epoch {
        self.inner.epoch
    }

    /// Proof that he leads now.
    ///
    /// # Errors
    /// Why he does not.
    pub fn authority(&self) -> Result<Authority<'_>, Deposed> {
        self.inner.check().map(|_| Authority { leadership: self })
    }

    /// Waits until he is deposed.
    pub async fn deposed(&self) -> Deposed {
        let mut standing = self.inner.standing.subscribe();
        loop {
            let until = match *standing.borrow_and_update() {
                Standing::Leads(until) => until,
                Standing::Deposed(why) => return why,
            };
            tokio::select! {
                () = sleep_until(until) => if let Err(why) = self.inner.check() { return why },
                changed = standing.changed() => if changed.is_err() { return Deposed::Resigned },
            }
        }
    }

    /// A write that is done only if he leads: the store compares his epoch with everything else.
    ///
    /// What is done otherwise may only read, because it is done too when he does not lead any more.
    ///
    /// # Errors
    /// [`LeaderError::Deposed`] if he does not lead: nothing was written, and nothing will be.
    pub async fn txn(&self, txn: Txn) -> Result<Done, LeaderError> {
        self.inner.check()?;
        let Txn {
            mut compares,
            then,
            otherwise,
        } = txn;
        if otherwise.iter().any(Op::writes) {
            return Err(StoreError::from(Invalid::FencedOtherwise).into());
        }
        let (key, epoch) = (&self.inner.key, Revision::new(self.inner.epoch.0));
        compares.push(Compare::created(key.clone(), epoch));
        let fence = Op::read(key);
        let fenced = Txn {
            compares,
            then,
            otherwise: std::iter::once(fence).chain(otherwise).collect(),
        };
        let mut done = self.inner.store.txn(fenced).await?;
        if done.succeeded {
            return Ok(done);
        }
        let held = match done.ops.first() {
            Some(OpDone::Read(entries, _)) => entries.first().is_some_and(|entry| entry.created == epoch),
            _ => false,
        };
        if !held {
            self.inner.depose(Deposed::Replaced);
            return Err(Deposed::Replaced.into());
        }
        done.ops.remove(0);
        Ok(done)
    }

    /// Steps down at once: the next one need not wait for the lease.
    ///
    /// # Errors
    /// When the store could not be told; the lease then ends by itself.
    pub async fn resign(self) -> Result<(), StoreError> {
        self.keeper.abort();
        self.inner.depose(Deposed::Resigned);
        match self.inner.store.lease_revoke(self.inner.lease).await {
            Err(StoreError::LeaseNotFound(_)) => Ok(()),
            other => other,
        }
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leadership")
            .field("epoch", &self.inner.epoch)
            .field("standing", &*self.inner.standing.borrow())
            .finish_non_exhaustive()
    }
}

impl Authority<'_> {
    /// The epoch that a command carries, if he still leads.
    ///
    /// # Errors
    /// Why he does not.
    pub fn epoch(&self) -> Result<Epoch, Deposed> {
        self.leadership.inner.check()
    }
}
