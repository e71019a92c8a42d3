//! Transactions: comparisons, and what is done when all of them hold, or else.

use super::error::{Invalid, StoreError};
use super::key::{Entry, Key, KeyRange, LeaseId, Revision, Value};
use super::{REQUEST_BYTES_MAX, TXN_OPS_MAX, check_limit};

/// What a comparison or an operation may take in a request beside its keys and values, with room to spare.
const OVERHEAD_BYTES: usize = 64;

/// A transaction. Made step by step: `Txn::new().when(..).then(..).otherwise(..)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub(crate) compares: Vec<Compare>,
    pub(crate) then: Vec<Op>,
    pub(crate) otherwise: Vec<Op>,
}

/// A comparison of one property of one key. A key that is not there has zeros, no lease, and no value: with a value
/// nothing about it is true, not even that it differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Whose.
    pub key: Key,
    /// How the property relates to the operand.
    pub relation: Relation,
    /// Which property, and with what it is compared.
    pub operand: Operand,
}

/// How a property relates to an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They are the same.
    Equal,
    /// They differ.
    NotEqual,
    /// The property is the smaller one.
    Less,
    /// The property is the greater one.
    Greater,
}

/// A property of a key, and with what it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// When it came into being.
    Created(Revision),
    /// When it was written last.
    Modified(Revision),
    /// How often it was written.
    Version(u64),
    /// Its lease.
    Lease(Option<LeaseId>),
    /// Its value, in the order of bytes.
    Value(Value),
}

/// One operation. They are done in order, and see what was done before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a key.
    Put {
        /// Which.
        key: Key,
        /// Its new value.
        value: Value,
        /// With which lease it goes. Without, it stays, also if it had one before.
        lease: Option<LeaseId>,
    },
    /// Deletes all keys of a range.
    Delete(KeyRange),
    /// Reads keys of a range, in order.
    Read {
        /// Which.
        keys: KeyRange,
        /// At most so many.
        limit: u32,
    },
}

/// A transaction that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The revision of the store after it: its own, if it wrote.
    pub revision: Revision,
    /// Whether the comparisons held.
    pub succeeded: bool,
    /// What its operations gave, in their order.
    pub ops: Vec<OpDone>,
}

/// What an operation gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpDone {
    /// It is written.
    Put,
    /// So many keys were deleted.
    Deleted(u64),
    /// These were found, and whether there are more.
    Read(Vec<Entry>, bool),
}

impl Txn {
    /// Without comparisons, which hold then.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a comparison.
    #[must_use]
    pub fn when(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// Adds what is done when all comparisons hold.
    #[must_use]
    pub fn then(mut self, op: Op) -> Self {
        self.then.push(op);
        self
    }

    /// Adds what is done when one does not.
    #[must_use]
    pub fn otherwise(mut self, op: Op) -> Self {
        self.otherwise.push(op);
        self
    }

    /// Its comparisons.
    pub fn compares(&self) -> &[Compare] {
        &self.compares
    }

    /// What is done when the comparisons hold, or when they do not.
    pub fn branch(&self, succeeded: bool) -> &[Op] {
        if succeeded { &self.then } else { &self.otherwise }
    }

    /// What every backend asks of a transaction before it looks at it.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        for length in [self.compares.len(), self.then.len(), self.otherwise.len()] {
            if length > TXN_OPS_MAX {
                return Err(Invalid::TooManyOps(length).into());
            }
        }
        let compares: usize = self.compares.iter().map(Compare::len).sum();
        let ops: usize = self.then.iter().chain(&self.otherwise).map(Op::len).sum();
        if compares + ops > REQUEST_BYTES_MAX {
            return Err(Invalid::TooLarge(compares + ops).into());
        }
        for branch in [&self.then, &self.otherwise] {
            check_branch(branch)?;
        }
        Ok(())
    }
}

fn check_branch(ops: &[Op]) -> Result<(), StoreError> {
    // At most 128 against 128.
    let mut written: Vec<KeyRange> = Vec::new();
    for op in ops {
        let range = match op {
            Op::Read { limit, .. } => {
                check_limit(*limit)?;
                continue;
            }
            Op::Put { key, .. } => KeyRange::key(key),
            Op::Delete(range) => range.clone(),
        };
        if let Some(other) = written.iter().find(|other| other.overlaps(&range)) {
            let first = range.start().max(other.start());
            return Err(
                Invalid::DuplicateKey(Key::new(first.clone()).or_else(|_| Key::new(vec![0]))?).into(),
            );
        }
        written.push(range);
    }
    Ok(())
}

impl Compare {
    /// The key is not there.
    pub fn absent(key: Key) -> Self {
        Self::created(key, Revision::NONE)
    }

    /// The key came into being at this revision.
    pub fn created(key: Key, revision: Revision) -> Self {
        Self::equal(key, Operand::Created(revision))
    }

    /// The key was written last at this revision.
    pub fn modified(key: Key, revision: Revision) -> Self {
        Self::equal(key, Operand::Modified(revision))
    }

    /// The property is the same.
    pub fn equal(key: Key, operand: Operand) -> Self {
        Self {
            key,
            relation: Relation::Equal,
            operand,
        }
    }

    /// Whether it holds for the key as it is.
    pub(crate) fn holds(&self, entry: Option<&Entry>) -> bool {
        let order = match &self.operand {
            Operand::Created(than) => entry.map_or(Revision::NONE, |e| e.created).cmp(than),
            Operand::Modified(than) => entry.map_or(Revision::NONE, |e| e.modified).cmp(than),
            Operand::Version(than) => entry.map_or(0, |e| e.version).cmp(than),
            Operand::Lease(than) => {
                let number = |lease: Option<LeaseId>| lease.map_or(0, LeaseId::number);
                number(entry.and_then(|e| e.lease)).cmp(&number(*than))
            }
            Operand::Value(than) => match entry {
                Some(entry) => entry.value.cmp(than),
                None => return false,
            },
        };
        match self.relation {
            Relation::Equal => order.is_eq(),
            Relation::NotEqual => order.is_ne(),
            Relation::Less => order.is_lt(),
            Relation::Greater => order.is_gt(),
        }
    }

    fn len(&self) -> usize {
        let value = match &self.operand {
            Operand::Value(value) => value.as_bytes().len(),
            _ => 0,
        };
        OVERHEAD_BYTES + self.key.as_bytes().len() + value
    }
}

impl Op {
    /// Writes a key without a lease.
    pub fn put(key: Key, value: Value) -> Self {
        let lease = None;
        Self::Put { key, value, lease }
    }

    /// Deletes one key.
    pub fn delete(key: &Key) -> Self {
        Self::Delete(KeyRange::key(key))
    }

    /// Reads one key.
    pub fn read(key: &Key) -> Self {
        let keys = KeyRange::key(key);
        Self::Read { keys, limit: 1 }
    }

    /// Whether it may change anything.
    pub fn writes(&self) -> bool {
        !matches!(self, Self::Read { .. })
    }

    fn len(&self) -> usize {
        OVERHEAD_BYTES
            + match self {
                Self::Put { key, value, .. } => key.as_bytes().len() + value.as_bytes().len(),
                Self::Delete(keys) | Self::Read { keys, .. } => keys.len(),
            }
    }
}
