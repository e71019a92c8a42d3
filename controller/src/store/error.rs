//! What can go wrong with a store, who is to blame, and whether anything was written.

use std::time::Duration;

use super::key::{Key, LeaseId, Revision};
use super::{
    KEY_BYTES_MAX, LEASE_TTL_MAX, LEASE_TTL_MIN, LEASES_MAX, RANGE_KEYS_MAX, REQUEST_BYTES_MAX, TXN_OPS_MAX,
    VALUE_BYTES_MAX,
};

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The request is wrong: the caller's fault, nothing was sent.
    #[error("the request is refused: {0}")]
    Invalid(#[from] Invalid),
    /// The history is gone there: read again, watch from the revision after.
    #[error("the history before revision {first} is compacted")]
    Compacted {
        /// The oldest revision that can be read.
        first: Revision,
    },
    /// The revision has not come yet.
    #[error("the revision has not come yet, the store is at {current}")]
    Future {
        /// Where the store is.
        current: Revision,
    },
    /// The lease has ended, or never was.
    #[error("there is no lease {0}")]
    LeaseNotFound(LeaseId),
    /// The store takes no writes for lack of space. Nothing was written.
    #[error("the store is full and takes no writes: {0}")]
    Full(String),
    /// The store takes no writes, or cannot be reached. Nothing was written.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The answer got lost: it may have been written or not. Read to find out.
    #[error("whether it was written is not known: {0}")]
    OutcomeUnknown(String),
    /// What is stored cannot be what was written.
    #[error("what is stored at {place} is damaged: {what}")]
    Corrupt {
        /// Which table or key.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// What is there is not this store: another program's, a newer version's, another cluster's, or one from a backup.
    #[error("this is not the store that was expected: {0}")]
    Foreign(String),
    /// Another process has it.
    #[error("another process has the store open")]
    InUse,
    /// The store does not let us.
    #[error("the store denies access: {0}")]
    Denied(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A key has at least one byte.
    #[error("a key must not be empty")]
    EmptyKey,
    /// Longer than a key may be.
    #[error("a key has at most {KEY_BYTES_MAX} bytes, this one has {0}")]
    KeyTooLong(usize),
    /// Longer than a value may be.
    #[error("a value has at most {VALUE_BYTES_MAX} bytes, this one has {0}")]
    ValueTooLong(usize),
    /// The range holds no key.
    #[error("the range ends before it begins")]
    EmptyRange,
    /// More comparisons or operations than one transaction may have.
    #[error("a transaction has at most {TXN_OPS_MAX} comparisons and operations, this one has {0}")]
    TooManyOps(usize),
    /// More bytes than one request may have.
    #[error("a request has at most {REQUEST_BYTES_MAX} bytes, this one has {0}")]
    TooLarge(usize),
    /// Two writes of one branch touch this key.
    #[error("two writes of one transaction touch {0}")]
    DuplicateKey(Key),
    /// A read asks for no key, or for too many.
    #[error("a read asks for 1 to {RANGE_KEYS_MAX} keys, this one for {0}")]
    Limit(u32),
    /// Too short or too long for a lease.
    #[error("a lease lives for {LEASE_TTL_MIN:?} to {LEASE_TTL_MAX:?}, this one for {0:?}")]
    Ttl(Duration),
    /// There are as many leases as there may be.
    #[error("there are {LEASES_MAX} leases already")]
    TooManyLeases,
    /// Revisions begin at 1.
    #[error("there is no revision 0")]
    Revision,
    /// The other branch of a leader's transaction only reads, because it is done when he is not the leader any more.
    #[error("a transaction of the leader writes nothing when its comparisons fail")]
    FencedOtherwise,
}

/// What a failed call leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// Nothing was written, and the same call fails again.
    Refused,
    /// Nothing was written; the same call may succeed later.
    Later,
    /// It may have been written.
    Unknown,
}

impl StoreError {
    /// What the failed call leaves behind, and so whether to repeat it.
    pub fn certainty(&self) -> Certainty {
        match self {
            Self::Invalid(_)
            | Self::Compacted { .. }
            | Self::LeaseNotFound(_)
            | Self::Corrupt { .. }
            | Self::Foreign(_)
            | Self::InUse
            | Self::Denied(_)
            | Self::Closed => Certainty::Refused,
            Self::Future { .. } | Self::Full(_) | Self::Unavailable(_) => Certainty::Later,
            Self::OutcomeUnknown(_) => Certainty::Unknown,
        }
    }

    /// For the `reason` of a metric: one word per kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::Compacted { .. } => "compacted",
            Self::Future { .. } => "future",
            Self::LeaseNotFound(_) => "lease",
            Self::Full(_) => "full",
            Self::Unavailable(_) => "unavailable",
            Self::OutcomeUnknown(_) => "unknown",
            Self::Corrupt { .. } => "corrupt",
            Self::Foreign(_) => "foreign",
            Self::InUse => "in_use",
            Self::Denied(_) => "denied",
            Self::Closed => "closed",
        }
    }
}
