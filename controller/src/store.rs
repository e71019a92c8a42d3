//! Where everything lives that must survive: keys with revisions, compare-and-swap, watches and leases, as etcd has them.
//!
//! One trait, three backends. [`Memory`] is the model: simple enough to be right by reading, used by tests and by whoever
//! tries something out. [`Redb`] is the default: one file, every answer on disk before it is given. [`Etcd`] is for more
//! than one controller. The semantics are etcd's, with its limits, because the one that others run cannot be changed; what
//! etcd leaves open is settled here the strict way, and every rule below is a test that runs against all three.
//!
//! # The rules
//!
//! - A transaction that writes makes exactly one revision, and all its keys have it as their `modified`. One that writes
//!   nothing (a failed comparison, a deletion of nothing, only reads) makes none.
//! - The writes of one branch of a transaction touch each key at most once; else it is refused.
//! - `created` is the revision at which a key came into being; a deletion ends it, and `version` begins at 1 again.
//! - A watch from revision `r` gives every change at `r` and after it, in order, once, and never part of a revision. After
//!   a lost connection or a restart it goes on where it was.
//! - After `compact(r)` everything at `r` and later can be read, and watched from `r + 1`. Earlier revisions are refused
//!   with [`StoreError::Compacted`]: read again, and watch from the revision after what was read.
//! - When a lease ends, its keys go in one revision. Its time runs on the store's own monotonic clock, and begins anew when
//!   the store has been restarted: a lease may live longer than promised, never shorter.
//!
//! # What does not belong here
//!
//! Histograms, time series, anything that is written per request. [`VALUE_BYTES_MAX`] keeps the temptation small.

pub mod error;
pub mod etcd;
pub mod key;
mod lease;
pub mod memory;
pub(crate) mod pause;
pub mod redb;
pub mod txn;
pub mod watch;

use std::time::Duration;

use async_trait::async_trait;

pub use self::error::{Certainty, Invalid, StoreError};
pub use self::etcd::{Etcd, EtcdOptions, EtcdTls};
pub use self::key::{Entry, Key, KeyRange, LeaseId, Revision, Value};
pub use self::memory::Memory;
pub use self::redb::Redb;
pub use self::txn::{Compare, Done, Op, OpDone, Operand, Relation, Txn};
pub use self::watch::{Change, Event, Notice, Watch};

/// Longest key, in bytes. Ours are paths of a few names of 63 bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// Longest value, in bytes: a third of what etcd takes in one request, so that a transaction can hold a few.
pub const VALUE_BYTES_MAX: usize = 512 * 1024;

/// Comparisons, and operations of each branch, in one transaction: etcd's `--max-txn-ops`.
pub const TXN_OPS_MAX: usize = 128;

/// Bytes of one request: etcd's `--max-request-bytes`.
pub const REQUEST_BYTES_MAX: usize = 1_536 * 1024;

/// Keys in one answer. Whoever wants more asks again from the last key on, at the revision of the first answer.
pub const RANGE_KEYS_MAX: u32 = 10_000;

/// Shortest lease. etcd raises what is shorter than one and a half of its election timeouts.
pub const LEASE_TTL_MIN: Duration = Duration::from_secs(1);

/// Longest lease. What has to live for longer than a day is no matter of liveness.
pub const LEASE_TTL_MAX: Duration = Duration::from_secs(24 * 3600);

/// Leases at a time: one per controller and a margin.
pub const LEASES_MAX: usize = 1024;

/// At which revision to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAt {
    /// At the latest: whatever was acknowledged before the read began is in it.
    Latest,
    /// At whatever the asked member knows; may be stale. Cheaper where the store is a cluster.
    Local,
    /// At this revision exactly.
    Revision(Revision),
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The revision of the store when it answered; for a read at a revision that one may be older.
    pub revision: Revision,
    /// In order of their keys.
    pub entries: Vec<Entry>,
    /// Whether the limit left some out.
    pub more: bool,
}

/// A lease that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What keys are attached by.
    pub id: LeaseId,
    /// How long it lives without being kept alive: at least what was asked for, in whole seconds.
    pub ttl: Duration,
}

/// Whether a store takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Writable,
    /// It does not, for this reason, and tries by itself to become writable again.
    ReadOnly(String),
}

/// How a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The latest revision.
    pub revision: Revision,
    /// Up to here the history is gone; [`Revision::NONE`] if nothing was compacted.
    pub compacted: Revision,
    /// The term of its consensus; 0 where there is only one.
    pub term: u64,
    /// Whether it has a leader of its own, so that it can decide anything.
    pub led: bool,
    /// Bytes that it takes where it keeps them.
    pub bytes: u64,
    /// Whether it takes writes.
    pub mode: Mode,
    /// What it is, for people: `redb`, `etcd 3.5.26`.
    pub engine: String,
}

/// A store. See the [rules](self#the-rules).
///
/// Every call ends within a bound: the embedded ones wait for the disk, [`Etcd`] has a deadline. A call that is dropped may
/// still take effect.
#[async_trait]
pub trait Store: Send + Sync {
    /// Reads keys in order, at most `limit` of them (1 to [`RANGE_KEYS_MAX`]).
    ///
    /// # Errors
    /// [`StoreError::Compacted`] and [`StoreError::Future`] for a revision that is gone or has not come.
    async fn range(&self, keys: KeyRange, at: ReadAt, limit: u32) -> Result<Found, StoreError>;

    /// Compares, and then does one branch or the other, all of it or nothing.
    ///
    /// # Errors
    /// What is wrong with the transaction, before anything is sent; [`StoreError::LeaseNotFound`] with one of its leases
    /// (etcd does not say which); whatever keeps the store from writing. Only [`StoreError::OutcomeUnknown`] leaves open
    /// whether it was done.
    async fn txn(&self, txn: Txn) -> Result<Done, StoreError>;

    /// Changes of these keys at `from` and after it. `from` may lie in the future. The stream ends after an error; a lost
    /// connection is none.
    fn watch(&self, keys: KeyRange, from: Revision) -> Watch;

    /// A new lease, of at least `ttl`.
    ///
    /// # Errors
    /// [`Invalid::Ttl`] outside [`LEASE_TTL_MIN`] to [`LEASE_TTL_MAX`], and whatever keeps the store from writing.
    async fn lease_grant(&self, ttl: Duration) -> Result<Lease, StoreError>;

    /// Lets the time of a lease begin anew, and says how long it is.
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`] if it has ended.
    async fn lease_keepalive(&self, id: LeaseId) -> Result<Duration, StoreError>;

    /// Ends a lease; its keys go in one revision.
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`] if it had ended before.
    async fn lease_revoke(&self, id: LeaseId) -> Result<(), StoreError>;

    /// Forgets what was before `revision`; at `revision` everything can still be read.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] if that was done already, [`StoreError::Future`] for a revision that has not come.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;

    /// How it is.
    ///
    /// # Errors
    /// Whatever keeps it from answering.
    async fn status(&self) -> Result<Status, StoreError>;
}

/// Checks the limit of a read.
fn check_limit(limit: u32) -> Result<usize, StoreError> {
    if limit == 0 || limit > RANGE_KEYS_MAX {
        return Err(Invalid::Limit(limit).into());
    }
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Checks the time of a lease, and rounds it up to whole seconds, as etcd has them.
fn check_ttl(ttl: Duration) -> Result<Duration, StoreError> {
    if !(LEASE_TTL_MIN..=LEASE_TTL_MAX).contains(&ttl) {
        return Err(Invalid::Ttl(ttl).into());
    }
    Ok(Duration::from_secs(
        ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0),
    ))
}

/// Which revision to read, of a store that is at `current` and has its history from `compacted` on.
fn revision_to_read(at: ReadAt, current: Revision, compacted: Revision) -> Result<Revision, StoreError> {
    match at {
        ReadAt::Latest | ReadAt::Local => Ok(current),
        ReadAt::Revision(Revision::NONE) => Err(Invalid::Revision.into()),
        ReadAt::Revision(at) if at > current => Err(StoreError::Future { current }),
        ReadAt::Revision(at) if at < compacted => Err(StoreError::Compacted { first: compacted }),
        ReadAt::Revision(at) => Ok(at),
    }
}

/// Whether such a store can be compacted there.
fn check_compaction(at: Revision, current: Revision, compacted: Revision) -> Result<(), StoreError> {
    match at {
        Revision::NONE => Err(Invalid::Revision.into()),
        at if at > current => Err(StoreError::Future { current }),
        at if at <= compacted => Err(StoreError::Compacted { first: compacted }),
        _ => Ok(()),
    }
}
