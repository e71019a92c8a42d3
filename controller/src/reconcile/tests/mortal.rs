//! A leader's way to the store, which dies with the leader at a chosen write.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use foreshade_contract::Epoch;

use crate::store::{
    Done, Found, KeyRange, Lease, LeaseId, Memory, Op, Operand, ReadAt, Revision, Status, Store, StoreError,
    Txn, Watch,
};

/// When a leader dies, counted in what it writes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dies {
    /// Instead of writing.
    Before(u64),
    /// It has written, and heard nothing of it.
    After(u64),
    /// It has written, and told everybody.
    Told(u64),
}

/// A leader's way to the store: it dies with the leader.
pub(super) struct Mortal {
    pub(super) disk: Arc<Memory>,
    pub(super) fate: Arc<Mutex<Fate>>,
    pub(super) is_dead: Mutex<bool>,
}

/// What is decided about all leaders together.
#[derive(Default)]
pub(super) struct Fate {
    pub(super) writes: u64,
    pub(super) dies: Option<Dies>,
    /// Nothing can be written.
    pub(super) is_full: bool,
    /// The epochs that wrote, in the order of their writes.
    pub(super) writers: Vec<Epoch>,
}

impl Mortal {
    pub(super) fn dead(&self) -> bool {
        *self.is_dead.lock().unwrap()
    }

    fn die(&self) -> StoreError {
        *self.is_dead.lock().unwrap() = true;
        StoreError::OutcomeUnknown("the leader is dead".to_owned())
    }
}

/// The epoch that a write is fenced with, if it is one of the journal.
fn writer(txn: &Txn) -> Option<Epoch> {
    let journal = |op: &Op| matches!(op, Op::Put { key, .. } if key.to_string().contains("/pairs/"));
    let fence = txn.compares().iter().find_map(|compare| match compare.operand {
        Operand::Created(revision) => Some(Epoch(revision.number())),
        _ => None,
    });
    fence.filter(|_| txn.branch(true).iter().any(journal))
}

#[async_trait]
impl Store for Mortal {
    async fn range(&self, keys: KeyRange, at: ReadAt, limit: u32) -> Result<Found, StoreError> {
        self.disk.range(keys, at, limit).await
    }

    async fn txn(&self, txn: Txn) -> Result<Done, StoreError> {
        if self.dead() {
            return Err(self.die());
        }
        let Some(epoch) = writer(&txn) else {
            return self.disk.txn(txn).await;
        };
        let (number, dies) = {
            let mut fate = self.fate.lock().unwrap();
            if fate.is_full {
                return Err(StoreError::Full("the disk is full".to_owned()));
            }
            fate.writes += 1;
            (fate.writes, fate.dies)
        };
        if dies == Some(Dies::Before(number)) {
            return Err(self.die());
        }
        let done = self.disk.txn(txn).await?;
        if done.succeeded {
            self.fate.lock().unwrap().writers.push(epoch);
        }
        if dies == Some(Dies::After(number)) {
            return Err(self.die());
        }
        if dies == Some(Dies::Told(number)) {
            self.die();
        }
        Ok(done)
    }

    fn watch(&self, keys: KeyRange, from: Revision) -> Watch {
        self.disk.watch(keys, from)
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<Lease, StoreError> {
        self.disk.lease_grant(ttl).await
    }

    async fn lease_keepalive(&self, id: LeaseId) -> Result<Duration, StoreError> {
        self.disk.lease_keepalive(id).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), StoreError> {
        self.disk.lease_revoke(id).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.disk.compact(revision).await
    }

    async fn status(&self) -> Result<Status, StoreError> {
        self.disk.status().await
    }
}
