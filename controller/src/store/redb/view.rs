//! Reading the tables: what is there now, what was there at a revision, and what happened since one.
//!
//! `current` says where each key was written last, `versions` where each key was written when, `history` holds what was
//! written. A value stands in the file once, in `history`.

use std::ops::Bound;

use redb::{ReadTransaction, ReadableTable, TableDefinition};

use super::blame;
use super::record::{Head, Place, damaged, decode};
use crate::store::error::StoreError;
use crate::store::key::{Entry, KeyRange, Revision};
use crate::store::watch::{Change, Event, LOOK_EVENTS_MAX, Look};
use crate::store::{Found, ReadAt, revision_to_read};

/// The head of the store, under [`HEAD_KEY`]. By its name a file is known to be ours.
pub(super) const HEAD: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("foreshade");
/// The only key of [`HEAD`].
pub(super) const HEAD_KEY: &str = "head";
/// Key to the place of what it is now.
pub(super) const CURRENT: TableDefinition<'static, &[u8], Place> = TableDefinition::new("current");
/// Key and revision to the rest of the place.
pub(super) const VERSIONS: TableDefinition<'static, (&[u8], u64), u32> = TableDefinition::new("versions");
/// Place to the event.
pub(super) const HISTORY: TableDefinition<'static, Place, &[u8]> = TableDefinition::new("history");
/// Lease to its time.
pub(super) const LEASES: TableDefinition<'static, i64, &[u8]> = TableDefinition::new("leases");
/// The keys of each lease.
pub(super) const ATTACHED: TableDefinition<'static, (i64, &[u8]), ()> = TableDefinition::new("attached");

/// Bytes of values that one look into the history collects, more or less.
const LOOK_BYTES_MAX: usize = 4 << 20;

/// The head, as a table has it.
pub(super) fn head(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Head, StoreError> {
    match table.get(HEAD_KEY).map_err(blame)? {
        Some(bytes) => Head::decode(bytes.value()),
        None => Err(damaged("the head".to_owned(), "it is not there")),
    }
}

/// The event at a place.
pub(super) fn event(
    history: &impl ReadableTable<Place, &'static [u8]>,
    place: Place,
) -> Result<Event, StoreError> {
    match history.get(place).map_err(blame)? {
        Some(bytes) => decode(place, bytes.value()),
        None => Err(damaged(
            format!("event {}.{}", place.0, place.1),
            "it is not there",
        )),
    }
}

/// What a key is, by where it was written last.
pub(super) fn entry(
    history: &impl ReadableTable<Place, &'static [u8]>,
    place: Place,
    key: &[u8],
) -> Result<Entry, StoreError> {
    match event(history, place)? {
        Event::Put(entry) if entry.key.as_bytes() == key => Ok(entry),
        _ => Err(damaged(
            format!("event {}.{}", place.0, place.1),
            "it is not what its key says",
        )),
    }
}

/// What is there now, in order; at most `limit`, and whether there is more.
pub(super) fn now(
    current: &impl ReadableTable<&'static [u8], Place>,
    history: &impl ReadableTable<Place, &'static [u8]>,
    keys: &KeyRange,
    limit: usize,
) -> Result<(Vec<Entry>, bool), StoreError> {
    let mut entries = Vec::new();
    for row in current.range::<&[u8]>(bounds(keys)).map_err(blame)? {
        let (key, place) = row.map_err(blame)?;
        if entries.len() == limit {
            return Ok((entries, true));
        }
        entries.push(entry(history, place.value(), key.value())?);
    }
    Ok((entries, false))
}

/// A range of keys, as redb has it.
pub(super) fn bounds(keys: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let end = keys
        .end()
        .map_or(Bound::Unbounded, |end| Bound::Excluded(end.as_ref()));
    (Bound::Included(keys.start().as_ref()), end)
}

/// Answers a read.
pub(super) fn range(
    txn: &ReadTransaction,
    keys: &KeyRange,
    at: ReadAt,
    limit: usize,
) -> Result<Found, StoreError> {
    let head = head(&txn.open_table(HEAD).map_err(blame)?)?;
    let revision = Revision::new(head.revision);
    let history = txn.open_table(HISTORY).map_err(blame)?;
    let asked = revision_to_read(at, revision, Revision::new(head.compacted))?;
    let (entries, more) = if asked == revision {
        now(&txn.open_table(CURRENT).map_err(blame)?, &history, keys, limit)?
    } else {
        let versions = txn.open_table(VERSIONS).map_err(blame)?;
        then(&versions, &history, keys, asked.number(), limit)?
    };
    Ok(Found {
        revision,
        entries,
        more,
    })
}

/// What was there at a revision.
fn then(
    versions: &impl ReadableTable<(&'static [u8], u64), u32>,
    history: &impl ReadableTable<Place, &'static [u8]>,
    keys: &KeyRange,
    at: u64,
    limit: usize,
) -> Result<(Vec<Entry>, bool), StoreError> {
    let mut entries = Vec::new();
    // The versions of a key stand together, oldest first. The last one that is not too young is what it was.
    let mut candidate: Option<(Vec<u8>, Place)> = None;
    let mut settle = |candidate: Option<(Vec<u8>, Place)>| -> Result<bool, StoreError> {
        if let Some((key, place)) = candidate
            && let Event::Put(_) = event(history, place)?
        {
            if entries.len() == limit {
                return Ok(true);
            }
            entries.push(entry(history, place, &key)?);
        }
        Ok(false)
    };
    let from = (keys.start().as_ref(), 0_u64);
    for row in versions.range::<(&[u8], u64)>(from..).map_err(blame)? {
        let (version, index) = row.map_err(blame)?;
        let (key, revision) = version.value();
        if !keys.contains(key) {
            break;
        }
        if revision > at {
            continue;
        }
        let same = candidate.as_ref().is_some_and(|(before, _)| before == key);
        let before = candidate.replace((key.to_vec(), (revision, index.value())));
        if !same && settle(before)? {
            return Ok((entries, true));
        }
    }
    let more = settle(candidate)?;
    Ok((entries, more))
}

/// Answers a look into the history.
pub(super) fn look(txn: &ReadTransaction, keys: &KeyRange, from: Revision) -> Result<Look, StoreError> {
    let head = head(&txn.open_table(HEAD).map_err(blame)?)?;
    let latest = Revision::new(head.revision);
    if from.number() <= head.compacted {
        return Err(StoreError::Compacted {
            first: Revision::new(head.compacted),
        });
    }
    let history = txn.open_table(HISTORY).map_err(blame)?;
    let mut look = Look {
        changes: Vec::new(),
        upto: latest,
    };
    let (mut seen, mut bytes) = (0, 0);
    let mut at = from.number();
    for row in history.range((from.number(), 0)..).map_err(blame)? {
        let (place, record) = row.map_err(blame)?;
        let (place, record) = (place.value(), record.value());
        if place.0 != at && (seen >= LOOK_EVENTS_MAX || bytes >= LOOK_BYTES_MAX) {
            look.upto = Revision::new(at);
            break;
        }
        (at, seen) = (place.0, seen + 1);
        let event = decode(place, record)?;
        if !keys.contains(event.key().as_bytes()) {
            continue;
        }
        bytes += record.len();
        let revision = Revision::new(place.0);
        match look.changes.last_mut() {
            Some(change) if change.revision == revision => change.events.push(event),
            _ => look.changes.push(Change {
                revision,
                events: vec![event],
            }),
        }
    }
    Ok(look)
}
