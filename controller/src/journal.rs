//! What happened to each pair and where it stands, written down before anything is done about it.
//!
//! A pair's state and the record of how it came there are one transaction, so neither is ever without the other; the
//! pairs of a group are one transaction too, so no crash leaves half of a group promoted. Every write is fenced by the
//! leader's epoch. What the judge has counted is kept with the pair: a restart must not begin its error probability anew.
//!
//! Bounds: [`RECORDS_MAX`] records per pair; each new one pushes the oldest out in the same transaction.

use std::collections::{BTreeMap, VecDeque};

use foreshade_contract::{Generation, PairId};
use foreshade_engine::lifecycle::command::{Answer, Order};
use foreshade_engine::lifecycle::drill::{DrillReport, Scenario};
use foreshade_engine::lifecycle::{Pair, Transition};
use foreshade_engine::verdict::State as JudgeState;
use foreshade_engine::verdict::bake::{BakePolicy, BakeState};
use foreshade_engine::verdict::mirror::State as MirrorState;
use serde::{Deserialize, Serialize};

use crate::evidence::Saved;
use crate::leader::{LeaderError, Leadership};
use crate::placing::Chosen;
use crate::store::{Key, KeyRange, Op, RANGE_KEYS_MAX, ReadAt, Store, StoreError, TXN_OPS_MAX, Txn, Value};

/// Records that are kept of one pair: weeks of an ordinary life, hours of an argument.
pub const RECORDS_MAX: u64 = 1000;

/// Orders that are kept of all pairs together.
pub const AUDIT_MAX: u64 = 5000;

/// Drills that are kept of one pair: the last ones, and the last of each failure that is rehearsed.
pub const DRILLS_MAX: usize = 8;

/// Operations of one entry at most: the pair, its record, an order that was answered, and what these push out.
const OPS_PER_ENTRY: usize = 5;

/// Pairs that can be written down together, with the comparison of the leader's epoch: no group may be larger.
pub const ENTRIES_MAX: usize = (TXN_OPS_MAX - 1) / OPS_PER_ENTRY;

/// Where it all is, unless somebody says otherwise.
pub const ROOT: &str = "/foreshade";

/// Where everything is written down: under this beginning of keys, for several controllers may share one etcd.
#[derive(Clone, Debug)]
pub struct Journal {
    root: String,
}

/// All that is kept of one pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Where it stands.
    pub pair: Pair,
    /// What was counted in its present round.
    pub judge: Option<JudgeState>,
    /// What is watched after its promotion.
    pub bake: Option<(BakePolicy, BakeState)>,
    /// What its shadow answered to copies in its present round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorState>,
    /// Records written so far.
    pub records: u64,
    /// Why it stands where it stands, in one sentence.
    pub reason: String,
    /// Its last drills, the newest last.
    pub drills: VecDeque<DrillRecord>,
    /// How its shadow was chosen, where nobody names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Chosen>,
}

/// A drill, from its order to its report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillRecord {
    /// Its number: each is higher than those before, of whatever pair.
    #[serde(default)]
    pub id: u64,
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
    /// What was rehearsed.
    pub scenario: Scenario,
    /// Who ordered it.
    pub actor: String,
    /// When it ended, and what it found.
    pub ended: Option<(u64, DrillReport)>,
}

/// An order and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audited {
    /// Its number; each is higher than those before.
    pub seq: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// To which pair.
    pub pair: PairId,
    /// What was ordered, by whom, and why.
    pub order: Order,
    /// What it was answered.
    pub answer: Answer,
    /// The generation of the pair after it.
    pub generation: Generation,
}

/// What one step of one pair leads to.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// What is kept from here on.
    pub kept: &'a Kept,
    /// What happened, if anything did: the record number [`Kept::records`].
    pub transition: Option<&'a Transition>,
    /// Orders that were answered in it.
    pub audited: &'a [Audited],
}

/// Why what is kept cannot be read. Nothing is changed by that.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something else is written there, or by a newer version.
    #[error("what is kept under {key} cannot be read")]
    Unreadable {
        /// Where.
        key: Key,
        /// Why.
        source: serde_json::Error,
    },
}

impl Kept {
    /// What is known for and against its shadow: kept on disk, and in memory where it is counted. Twice of ten thousand
    /// pairs would be once too often.
    pub fn take_evidence(&mut self) -> Saved {
        (self.judge.take(), self.bake.take(), self.mirror.take())
    }

    /// Of a pair that nothing has happened to yet.
    pub fn new(pair: Pair) -> Self {
        Self {
            pair,
            judge: None,
            bake: None,
            mirror: None,
            records: 0,
            reason: String::new(),
            drills: VecDeque::new(),
            placement: None,
        }
    }
}

impl Journal {
    /// Under this beginning of keys, without a slash at its end.
    pub fn new(root: &str) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The key that the leader holds.
    ///
    /// # Errors
    /// When the beginning is too long.
    pub fn leader(&self) -> Result<Key, StoreError> {
        Ok(Key::try_from(format!("{}/leader", self.root).as_str())?)
    }

    fn pairs(&self) -> String {
        format!("{}/pairs/", self.root)
    }

    fn records_of(&self, pair: &PairId) -> String {
        format!("{}/records/{pair}/", self.root)
    }

    fn audits(&self) -> String {
        format!("{}/audit/", self.root)
    }

    /// Everything that is kept, by pair.
    ///
    /// # Errors
    /// When the store fails, or one entry cannot be read: a controller that guesses is worse than one that does not start.
    pub async fn load(&self, store: &dyn Store) -> Result<BTreeMap<PairId, Kept>, JournalError> {
        let mut kept = BTreeMap::new();
        let prefix = Key::try_from(self.pairs().as_str()).map_err(StoreError::from)?;
        let (mut range, mut at) = (KeyRange::prefix(&prefix), ReadAt::Latest);
        loop {
            let found = store.range(range.clone(), at, RANGE_KEYS_MAX).await?;
            for entry in &found.entries {
                let read: Kept = parse(&entry.key, &entry.value)?;
                kept.insert(read.pair.id.clone(), read);
            }
            let next = found.entries.last().and_then(|last| range.after(&last.key));
            match next.filter(|_| found.more) {
                Some(next) => (range, at) = (next, ReadAt::Revision(found.revision)),
                None => return Ok(kept),
            }
        }
    }

    /// The records of one pair with their numbers, the oldest first.
    ///
    /// # Errors
    /// When the store fails, or a record cannot be read.
    pub async fn records(
        &self,
        store: &dyn Store,
        pair: &PairId,
    ) -> Result<Vec<(u64, Transition)>, JournalError> {
        let found = all_under(store, &self.records_of(pair)).await?;
        let numbered = found
            .iter()
            .map(|entry| Ok((number_of(&entry.key), parse(&entry.key, &entry.value)?)));
        numbered.collect()
    }

    /// Who ordered what, the oldest first.
    ///
    /// # Errors
    /// When the store fails, or an entry cannot be read.
    pub async fn audit(&self, store: &dyn Store) -> Result<Vec<Audited>, JournalError> {
        let found = all_under(store, &self.audits()).await?;
        found
            .iter()
            .map(|entry| parse(&entry.key, &entry.value))
            .collect()
    }

    /// Writes what belongs together: all of it, or nothing.
    ///
    /// # Errors
    /// When the leader was deposed or the store failed; then nothing that was meant may be done.
    pub async fn write(&self, leadership: &Leadership, entries: &[Entry<'_>]) -> Result<(), LeaderError> {
        let mut txn = Txn::new();
        for entry in entries {
            let id = &entry.kept.pair.id;
            txn = txn.then(put(&format!("{}{id}", self.pairs()), entry.kept)?);
            if let Some(transition) = entry.transition {
                let record = |number: u64| format!("{}{number:020}", self.records_of(id));
                txn = txn.then(put(&record(entry.kept.records), transition)?);
                if let Some(oldest) = entry.kept.records.checked_sub(RECORDS_MAX) {
                    let oldest = Key::try_from(record(oldest).as_str()).map_err(StoreError::from)?;
                    txn = txn.then(Op::Delete(KeyRange::key(&oldest)));
                }
            }
            for audited in entry.audited {
                let key = |seq: u64| format!("{}{seq:020}", self.audits());
                txn = txn.then(put(&key(audited.seq), audited)?);
                if let Some(oldest) = audited.seq.checked_sub(AUDIT_MAX) {
                    let oldest = Key::try_from(key(oldest).as_str()).map_err(StoreError::from)?;
                    txn = txn.then(Op::Delete(KeyRange::key(&oldest)));
                }
            }
        }
        leadership.txn(txn).await.map(drop)
    }
}

async fn all_under(store: &dyn Store, prefix: &str) -> Result<Vec<crate::store::Entry>, JournalError> {
    let prefix = Key::try_from(prefix).map_err(StoreError::from)?;
    // Bounded by what is kept, which is less than a range may have.
    Ok(store
        .range(KeyRange::prefix(&prefix), ReadAt::Latest, RANGE_KEYS_MAX)
        .await?
        .entries)
}

fn number_of(key: &Key) -> u64 {
    let text = String::from_utf8_lossy(key.as_bytes());
    text.rsplit('/')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

fn put(key: &str, value: &impl Serialize) -> Result<Op, StoreError> {
    let text = serde_json::to_vec(value).map_err(|error| StoreError::Corrupt {
        place: key.to_owned(),
        what: error.to_string(),
    })?;
    Ok(Op::Put {
        key: Key::try_from(key)?,
        value: Value::new(text)?,
        lease: None,
    })
}

fn parse<T: for<'a> Deserialize<'a>>(key: &Key, value: &Value) -> Result<T, JournalError> {
    serde_json::from_slice(value.as_bytes()).map_err(|source| JournalError::Unreadable {
        key: key.clone(),
        source,
    })
}
