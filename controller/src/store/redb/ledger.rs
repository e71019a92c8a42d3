//! Writing the tables: what one job does, inside the transaction of its batch.
//!
//! A job is refused before it has written anything, or it is done whole. So jobs can share one transaction of redb, and
//! one sync of the disk, without savepoints.

use redb::{Database, Durability, ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use super::blame;
use super::record::{Head, Place, decode_ttl, encode, encode_ttl};
use super::view::{ATTACHED, CURRENT, HEAD, HEAD_KEY, HISTORY, LEASES, VERSIONS, entry, event, head, now};
use crate::store::error::{Invalid, StoreError};
use crate::store::key::{Entry, Key, LeaseId, Revision, Value};
use crate::store::txn::{Done, Op, OpDone, Txn};
use crate::store::watch::Event;
use crate::store::{LEASES_MAX, check_compaction};

/// Records that one batch looks at to sweep out what was compacted: a few milliseconds.
const SWEEP_RECORDS_MAX: usize = 1000;

/// What is done to the store.
#[derive(Clone, Debug)]
pub(super) enum Job {
    /// A transaction.
    Txn(Txn),
    /// Grants a lease of so many seconds.
    Grant(u64),
    /// Ends a lease.
    End(LeaseId),
    /// Gives up the history before a revision.
    Compact(Revision),
}

/// What it gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The transaction was done.
    Done(Done),
    /// The lease was granted.
    Granted(LeaseId),
    /// The rest is silence.
    Nothing,
}

/// The open tables of a batch.
pub(super) struct Ledger<'t> {
    head_table: Table<'t, &'static str, &'static [u8]>,
    current: Table<'t, &'static [u8], Place>,
    versions: Table<'t, (&'static [u8], u64), u32>,
    history: Table<'t, Place, &'static [u8]>,
    leases: Table<'t, i64, &'static [u8]>,
    attached: Table<'t, (i64, &'static [u8]), ()>,
    /// As it will be after the batch.
    head: Head,
    /// Events of the job so far.
    events: u32,
}

/// A transaction whose commit is on disk when it returns, and that a crash can be recovered from at once.
pub(super) fn begin(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut txn = database.begin_write().map_err(blame)?;
    txn.set_durability(Durability::Immediate).map_err(blame)?;
    txn.set_quick_repair(true);
    Ok(txn)
}

/// Makes a store of an empty database.
pub(super) fn initialise(database: &Database) -> Result<(), StoreError> {
    let txn = begin(database)?;
    {
        let mut table = txn.open_table(HEAD).map_err(blame)?;
        table
            .insert(HEAD_KEY, Head::EMPTY.encode().as_slice())
            .map_err(blame)?;
        // Opened once, so that whoever reads finds them.
        txn.open_table(CURRENT).map_err(blame)?;
        txn.open_table(VERSIONS).map_err(blame)?;
        txn.open_table(HISTORY).map_err(blame)?;
        txn.open_table(LEASES).map_err(blame)?;
        txn.open_table(ATTACHED).map_err(blame)?;
    }
    txn.commit().map_err(blame)
}

impl<'t> Ledger<'t> {
    pub(super) fn open(txn: &'t WriteTransaction) -> Result<Self, StoreError> {
        let head_table = txn.open_table(HEAD).map_err(blame)?;
        let mut head = head(&head_table)?;
        head.commits += 1;
        Ok(Self {
            head_table,
            current: txn.open_table(CURRENT).map_err(blame)?,
            versions: txn.open_table(VERSIONS).map_err(blame)?,
            history: txn.open_table(HISTORY).map_err(blame)?,
            leases: txn.open_table(LEASES).map_err(blame)?,
            attached: txn.open_table(ATTACHED).map_err(blame)?,
            head,
            events: 0,
        })
    }

    /// Writes the head; the batch is complete.
    pub(super) fn close(mut self) -> Result<Head, StoreError> {
        let record = self.head.encode();
        self.head_table
            .insert(HEAD_KEY, record.as_slice())
            .map_err(blame)?;
        Ok(self.head)
    }

    /// Does a job. The inner error refuses it, and nothing of it was written; the outer one is trouble with the medium,
    /// and the batch cannot be committed.
    pub(super) fn run(&mut self, job: &Job) -> Result<Result<Answer, StoreError>, StoreError> {
        self.events = 0;
        let answer = match job {
            Job::Txn(txn) => self.txn(txn)?,
            Job::Grant(seconds) => self.grant(*seconds)?,
            Job::End(id) => self.end_lease(*id)?,
            Job::Compact(at) => {
                let (revision, compacted) = (self.head.revision, self.head.compacted);
                check_compaction(*at, Revision::new(revision), Revision::new(compacted)).map(|()| {
                    self.head.compacted = at.number();
                    Answer::Nothing
                })
            }
        };
        if self.events > 0 {
            self.head.revision += 1;
        }
        Ok(answer)
    }

    fn txn(&mut self, txn: &Txn) -> Result<Result<Answer, StoreError>, StoreError> {
        let mut succeeded = true;
        for compare in &txn.compares {
            succeeded = succeeded && compare.holds(self.entry(&compare.key)?.as_ref());
        }
        let branch = if succeeded { &txn.then } else { &txn.otherwise };
        for op in branch {
            if let Op::Put { lease: Some(id), .. } = op
                && self.leases.get(id.number()).map_err(blame)?.is_none()
            {
                return Ok(Err(StoreError::LeaseNotFound(*id)));
            }
        }
        let mut ops = Vec::with_capacity(branch.len());
        for op in branch {
            ops.push(self.act(op)?);
        }
        let written = u64::from(self.events > 0);
        Ok(Ok(Answer::Done(Done {
            revision: Revision::new(self.head.revision + written),
            succeeded,
            ops,
        })))
    }

    fn act(&mut self, op: &Op) -> Result<OpDone, StoreError> {
        match op {
            Op::Put { key, value, lease } => self.put(key, value, *lease).map(|()| OpDone::Put),
            Op::Delete(keys) => {
                let (gone, _) = now(&self.current, &self.history, keys, usize::MAX)?;
                for entry in &gone {
                    self.delete(entry)?;
                }
                Ok(OpDone::Deleted(gone.len() as u64))
            }
            Op::Read { keys, limit } => {
                let limit = usize::try_from(*limit).unwrap_or(usize::MAX);
                let (entries, more) = now(&self.current, &self.history, keys, limit)?;
                Ok(OpDone::Read(entries, more))
            }
        }
    }

    fn entry(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        match self.current.get(key.as_bytes()).map_err(blame)? {
            Some(place) => entry(&self.history, place.value(), key.as_bytes()).map(Some),
            None => Ok(None),
        }
    }

    fn put(&mut self, key: &Key, value: &Value, lease: Option<LeaseId>) -> Result<(), StoreError> {
        let before = self.entry(key)?;
        let modified = Revision::new(self.head.revision).next();
        self.detach(key, before.as_ref().and_then(|e| e.lease))?;
        if let Some(id) = lease {
            let attached = (id.number(), key.as_bytes());
            self.attached.insert(attached, ()).map_err(blame)?;
        }
        let place = self.record(&Event::Put(Entry {
            key: key.clone(),
            value: value.clone(),
            created: before.as_ref().map_or(modified, |e| e.created),
            modified,
            version: before.as_ref().map_or(1, |e| e.version + 1),
            lease,
        }))?;
        self.current.insert(key.as_bytes(), place).map_err(blame)?;
        Ok(())
    }

    fn delete(&mut self, entry: &Entry) -> Result<(), StoreError> {
        self.detach(&entry.key, entry.lease)?;
        self.record(&Event::Deleted(entry.key.clone()))?;
        self.current.remove(entry.key.as_bytes()).map_err(blame)?;
        Ok(())
    }

    fn detach(&mut self, key: &Key, lease: Option<LeaseId>) -> Result<(), StoreError> {
        if let Some(id) = lease {
            self.attached
                .remove((id.number(), key.as_bytes()))
                .map_err(blame)?;
        }
        Ok(())
    }

    fn record(&mut self, event: &Event) -> Result<Place, StoreError> {
        let place = (self.head.revision + 1, self.events);
        let record = encode(place, event);
        self.history.insert(place, record.as_slice()).map_err(blame)?;
        let version = (event.key().as_bytes(), place.0);
        self.versions.insert(version, place.1).map_err(blame)?;
        self.events += 1;
        Ok(place)
    }

    fn grant(&mut self, seconds: u64) -> Result<Result<Answer, StoreError>, StoreError> {
        if self.leases.len().map_err(blame)? >= LEASES_MAX as u64 {
            return Ok(Err(Invalid::TooManyLeases.into()));
        }
        let number = i64::try_from(self.head.next_lease).ok();
        let Some(id) = number.and_then(LeaseId::new) else {
            return Ok(Err(Invalid::TooManyLeases.into()));
        };
        self.head.next_lease += 1;
        let record = encode_ttl(id.number(), seconds);
        self.leases
            .insert(id.number(), record.as_slice())
            .map_err(blame)?;
        Ok(Ok(Answer::Granted(id)))
    }

    fn end_lease(&mut self, id: LeaseId) -> Result<Result<Answer, StoreError>, StoreError> {
        let number = id.number();
        if self.leases.remove(number).map_err(blame)?.is_none() {
            return Ok(Err(StoreError::LeaseNotFound(id)));
        }
        let mut keys = Vec::new();
        let from = (number, [].as_slice());
        for row in self.attached.range::<(i64, &[u8])>(from..).map_err(blame)? {
            let (row, _) = row.map_err(blame)?;
            let (lease, key) = row.value();
            if lease != number {
                break;
            }
            keys.push(Key::new(key.to_vec())?);
        }
        for key in keys {
            match self.entry(&key)? {
                Some(entry) => self.delete(&entry)?,
                None => self.detach(&key, Some(id))?,
            }
        }
        Ok(Ok(Answer::Nothing))
    }

    /// Sweeps out some of what was compacted, from a place on; says where to go on, or nothing when it is done.
    pub(super) fn sweep(&mut self, from: Place) -> Result<Option<Place>, StoreError> {
        let end = (self.head.compacted + 1, 0);
        let mut superseded = Vec::new();
        let mut next = None;
        for (looked_at, row) in self.history.range(from..end).map_err(blame)?.enumerate() {
            let place = row.map_err(blame)?.0.value();
            if looked_at == SWEEP_RECORDS_MAX {
                next = Some(place);
                break;
            }
            let event = event(&self.history, place)?;
            if self.is_superseded(place, &event)? {
                superseded.push((place, event));
            }
        }
        for (place, event) in superseded {
            self.history.remove(place).map_err(blame)?;
            self.versions
                .remove((event.key().as_bytes(), place.0))
                .map_err(blame)?;
        }
        if next.is_none() {
            self.head.swept = self.head.compacted;
        }
        Ok(next)
    }

    /// Whether no read at or after the compacted revision can find it: a deletion, or written again until then.
    fn is_superseded(&self, place: Place, event: &Event) -> Result<bool, StoreError> {
        let Event::Put(entry) = event else {
            return Ok(true);
        };
        if place.0 >= self.head.compacted {
            return Ok(false);
        }
        let key = entry.key.as_bytes();
        let later = (key, place.0 + 1)..=(key, self.head.compacted);
        let mut again = self.versions.range::<(&[u8], u64)>(later).map_err(blame)?;
        Ok(again.next().transpose().map_err(blame)?.is_some())
    }
}

/// The leases of a store, with their times in seconds.
pub(super) fn leases(
    table: &impl ReadableTable<i64, &'static [u8]>,
) -> Result<Vec<(LeaseId, u64)>, StoreError> {
    let mut leases = Vec::new();
    for row in table.iter().map_err(blame)? {
        let (number, record) = row.map_err(blame)?;
        let (number, seconds) = (number.value(), decode_ttl(number.value(), record.value())?);
        leases.extend(LeaseId::new(number).map(|id| (id, seconds)));
    }
    Ok(leases)
}
