//! The model of a store: everything in maps behind one lock, simple enough to be right by reading.
//!
//! Tests compare the others with it, and whoever tries something out can use it. It forgets everything when it goes.
//! Every version of every key stays until it is compacted, so a read at a revision is a look-up and no replay.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::error::StoreError;
use super::key::{Entry, Key, KeyRange, LeaseId, Revision};
use super::lease::Lessor;
use super::txn::{Done, Op, OpDone, Txn};
use super::watch::{Change, Event, History, LOOK_EVENTS_MAX, Look, PROGRESS_EVERY, Watch, follow};
use super::{
    Found, Lease, Mode, ReadAt, Status, Store, check_compaction, check_limit, check_ttl, revision_to_read,
};

/// A store in memory.
#[derive(Debug)]
pub struct Memory {
    inner: Arc<Inner>,
    progress_every: Duration,
    /// Ends the leases; goes with the store.
    lessor: AbortHandle,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// The latest revision, for watchers.
    tip: watch::Sender<Revision>,
    /// Says that there is a new lease to watch over.
    granted: Notify,
}

#[derive(Debug)]
struct State {
    revision: Revision,
    compacted: Revision,
    /// Every key that was ever there, with what it was from which revision on; nothing: deleted.
    keys: BTreeMap<Key, BTreeMap<Revision, Option<Entry>>>,
    changes: BTreeMap<Revision, Vec<Event>>,
    lessor: Lessor,
    leases: BTreeMap<LeaseId, BTreeSet<Key>>,
    next_lease: i64,
}

impl Memory {
    /// An empty store. Has to be made inside a tokio runtime, which it uses to end leases.
    pub fn new() -> Self {
        Self::with_progress(PROGRESS_EVERY)
    }

    /// An empty store that tells watchers so often how far it has come.
    pub fn with_progress(progress_every: Duration) -> Self {
        let inner = Arc::new(Inner {
            state: Mutex::new(State {
                revision: Revision::FIRST,
                compacted: Revision::NONE,
                keys: BTreeMap::new(),
                changes: BTreeMap::new(),
                lessor: Lessor::default(),
                leases: BTreeMap::new(),
                next_lease: 1,
            }),
            tip: watch::Sender::new(Revision::FIRST),
            granted: Notify::new(),
        });
        let lessor = tokio::spawn(end_leases(Arc::clone(&inner))).abort_handle();
        Self {
            inner,
            progress_every,
            lessor,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.lessor.abort();
    }
}

/// Ends each lease when its time has come.
async fn end_leases(inner: Arc<Inner>) {
    loop {
        let next = inner.write(|state| {
            for id in state.lessor.due(Instant::now()) {
                state.end_lease(id);
            }
            state.lessor.next()
        });
        let granted = inner.granted.notified();
        match next {
            Some(next) => {
                tokio::select! { () = tokio::time::sleep_until(next) => {}, () = granted => {} }
            }
            None => granted.await,
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, revision: Revision) {
        self.tip.send_if_modified(|tip| {
            let newer = *tip < revision;
            *tip = revision.max(*tip);
            newer
        });
    }

    /// Does something under the lock, and tells the watchers.
    fn write<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = act(&mut state);
        let revision = state.revision;
        drop(state);
        self.publish(revision);
        result
    }
}

impl State {
    fn entry(&self, key: &Key, at: Revision) -> Option<&Entry> {
        let versions = self.keys.get(key)?;
        versions.range(..=at).next_back()?.1.as_ref()
    }

    fn read(&self, keys: &KeyRange, at: Revision, limit: usize) -> (Vec<Entry>, bool) {
        let inside = self.keys.keys().filter(|key| keys.contains(key.as_bytes()));
        let mut found = inside.filter_map(|key| self.entry(key, at));
        let entries: Vec<Entry> = found.by_ref().take(limit).cloned().collect();
        (entries, found.next().is_some())
    }

    fn range(&self, keys: &KeyRange, at: ReadAt, limit: usize) -> Result<Found, StoreError> {
        let at = revision_to_read(at, self.revision, self.compacted)?;
        let (entries, more) = self.read(keys, at, limit);
        Ok(Found {
            revision: self.revision,
            entries,
            more,
        })
    }

    fn txn(&mut self, txn: &Txn) -> Result<Done, StoreError> {
        let holds = |c: &super::txn::Compare| c.holds(self.entry(&c.key, self.revision));
        let succeeded = txn.compares.iter().all(holds);
        let branch = if succeeded { &txn.then } else { &txn.otherwise };
        for op in branch {
            if let Op::Put { lease: Some(id), .. } = op
                && !self.leases.contains_key(id)
            {
                return Err(StoreError::LeaseNotFound(*id));
            }
        }
        let new = self.revision.next();
        let mut events = Vec::new();
        let ops = branch.iter().map(|op| self.act(op, new, &mut events)).collect();
        self.record(new, events);
        Ok(Done {
            revision: self.revision,
            succeeded,
            ops,
        })
    }

    fn act(&mut self, op: &Op, new: Revision, events: &mut Vec<Event>) -> OpDone {
        match op {
            Op::Put { key, value, lease } => {
                let before = self.entry(key, new).cloned();
                let entry = Entry {
                    key: key.clone(),
                    value: value.clone(),
                    created: before.as_ref().map_or(new, |e| e.created),
                    modified: new,
                    version: before.as_ref().map_or(1, |e| e.version + 1),
                    lease: *lease,
                };
                self.detach(key, before.and_then(|e| e.lease));
                if let Some(attached) = lease.and_then(|id| self.leases.get_mut(&id)) {
                    attached.insert(key.clone());
                }
                events.push(Event::Put(entry.clone()));
                self.keys.entry(key.clone()).or_default().insert(new, Some(entry));
                OpDone::Put
            }
            Op::Delete(keys) => {
                let (gone, _) = self.read(keys, new, usize::MAX);
                for entry in &gone {
                    self.delete(entry, new, events);
                }
                OpDone::Deleted(gone.len() as u64)
            }
            Op::Read { keys, limit } => {
                let (entries, more) = self.read(keys, new, *limit as usize);
                OpDone::Read(entries, more)
            }
        }
    }

    fn delete(&mut self, entry: &Entry, new: Revision, events: &mut Vec<Event>) {
        self.detach(&entry.key, entry.lease);
        self.keys.entry(entry.key.clone()).or_default().insert(new, None);
        events.push(Event::Deleted(entry.key.clone()));
    }

    fn detach(&mut self, key: &Key, lease: Option<LeaseId>) {
        if let Some(attached) = lease.and_then(|id| self.leases.get_mut(&id)) {
            attached.remove(key);
        }
    }

    /// Makes a revision of what happened, unless nothing did.
    fn record(&mut self, new: Revision, events: Vec<Event>) {
        if !events.is_empty() {
            self.revision = new;
            self.changes.insert(new, events);
        }
    }

    fn end_lease(&mut self, id: LeaseId) {
        let keys = self.leases.remove(&id).unwrap_or_default();
        self.lessor.forget(id);
        let (new, mut events) = (self.revision.next(), Vec::new());
        for key in keys {
            if let Some(entry) = self.entry(&key, self.revision).cloned() {
                self.delete(&entry, new, &mut events);
            }
        }
        self.record(new, events);
    }

    fn compact(&mut self, at: Revision) -> Result<(), StoreError> {
        check_compaction(at, self.revision, self.compacted)?;
        self.compacted = at;
        self.changes = self.changes.split_off(&at.next());
        for versions in self.keys.values_mut() {
            // What the key was at `at` stays, as long as it was anything.
            let kept = versions.range(..=at).next_back().map(|(r, e)| (*r, e.clone()));
            *versions = versions.split_off(&at.next());
            if let Some((revision, Some(entry))) = kept {
                versions.insert(revision, Some(entry));
            }
        }
        self.keys.retain(|_, versions| !versions.is_empty());
        Ok(())
    }
}

#[async_trait]
impl History for Inner {
    async fn look(self: Arc<Self>, keys: &KeyRange, from: Revision) -> Result<Look, StoreError> {
        let state = self.state();
        if from <= state.compacted {
            return Err(StoreError::Compacted {
                first: state.compacted,
            });
        }
        let (mut changes, mut seen, mut upto) = (Vec::new(), 0, state.revision);
        for (revision, all) in state.changes.range((Bound::Included(from), Bound::Unbounded)) {
            let concern = |event: &&Event| keys.contains(event.key().as_bytes());
            let events: Vec<Event> = all.iter().filter(concern).cloned().collect();
            if !events.is_empty() {
                let revision = *revision;
                changes.push(Change { revision, events });
            }
            seen += all.len();
            if seen >= LOOK_EVENTS_MAX {
                upto = *revision;
                break;
            }
        }
        Ok(Look { changes, upto })
    }
}

#[async_trait]
impl Store for Memory {
    async fn range(&self, keys: KeyRange, at: ReadAt, limit: u32) -> Result<Found, StoreError> {
        let limit = check_limit(limit)?;
        self.inner.state().range(&keys, at, limit)
    }

    async fn txn(&self, txn: Txn) -> Result<Done, StoreError> {
        txn.check()?;
        self.inner.write(|state| state.txn(&txn))
    }

    fn watch(&self, keys: KeyRange, from: Revision) -> Watch {
        let tip = self.inner.tip.subscribe();
        follow(&self.inner, tip, keys, from, self.progress_every)
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<Lease, StoreError> {
        let ttl = check_ttl(ttl)?;
        let id = self.inner.write(|state| {
            state.lessor.check_room()?;
            // Never zero: it counts up from one.
            let id = LeaseId::new(state.next_lease).ok_or(StoreError::Closed)?;
            state.next_lease += 1;
            state.leases.insert(id, BTreeSet::new());
            state.lessor.begin(id, ttl, Instant::now());
            Ok::<_, StoreError>(id)
        })?;
        self.inner.granted.notify_one();
        Ok(Lease { id, ttl })
    }

    async fn lease_keepalive(&self, id: LeaseId) -> Result<Duration, StoreError> {
        self.inner.state().lessor.keep_alive(id, Instant::now())
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), StoreError> {
        self.inner.write(|state| {
            if !state.leases.contains_key(&id) {
                return Err(StoreError::LeaseNotFound(id));
            }
            state.end_lease(id);
            Ok(())
        })
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.write(|state| state.compact(revision))
    }

    async fn status(&self) -> Result<Status, StoreError> {
        let state = self.inner.state();
        let versions = state.keys.values().flat_map(BTreeMap::values).flatten();
        Ok(Status {
            revision: state.revision,
            compacted: state.compacted,
            term: 0,
            led: true,
            bytes: versions
                .map(|e| (e.key.as_bytes().len() + e.value.as_bytes().len()) as u64)
                .sum(),
            mode: Mode::Writable,
            engine: "memory".to_owned(),
        })
    }
}
