//! Reads the whole file once when it is opened, and holds its tables against each other.
//!
//! A control plane's state is a few megabytes, and a wrong plan costs more than the second that this takes. What does not
//! fit together is said and nothing is mended: which of two contradicting tables is right, nobody can know here.

use redb::{Database, ReadableDatabase, ReadableTable, TableHandle};

use super::blame;
use super::ledger::leases;
use super::record::{Head, Place, damaged, decode};
use super::view::{ATTACHED, CURRENT, HEAD, HISTORY, LEASES, VERSIONS, entry, head};
use crate::store::error::StoreError;
use crate::store::key::{LeaseId, Revision};
use crate::store::watch::Event;

/// What an opened store begins with.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) head: Head,
    pub(super) leases: Vec<(LeaseId, u64)>,
}

/// Whether the database is a store of ours, and sound.
///
/// # Errors
/// [`StoreError::Foreign`] for a database of something else, [`StoreError::Corrupt`] for contradictions.
pub(super) fn audit(database: &Database) -> Result<Opened, StoreError> {
    let txn = database.begin_read().map_err(blame)?;
    let ours = txn.list_tables().map_err(blame)?.any(|t| t.name() == HEAD.name());
    if !ours {
        return Err(StoreError::Foreign(
            "the database is another program's".to_owned(),
        ));
    }
    let head = head(&txn.open_table(HEAD).map_err(blame)?)?;
    let history = txn.open_table(HISTORY).map_err(blame)?;
    let versions = txn.open_table(VERSIONS).map_err(blame)?;
    let current = txn.open_table(CURRENT).map_err(blame)?;
    let attached = txn.open_table(ATTACHED).map_err(blame)?;
    let leases = leases(&txn.open_table(LEASES).map_err(blame)?)?;
    check_history(&head, &history, &versions, &current)?;
    check_current(&leases, &history, &current, &attached)?;
    Ok(Opened { head, leases })
}

/// Every event can be read, is known under its key and revision, and is what its key is now, if it was the last.
fn check_history(
    head: &Head,
    history: &impl ReadableTable<Place, &'static [u8]>,
    versions: &impl ReadableTable<(&'static [u8], u64), u32>,
    current: &impl ReadableTable<&'static [u8], Place>,
) -> Result<(), StoreError> {
    let mut last: Place = (0, 0);
    // After what was compacted no revision is missing; at the first one nothing happened.
    let mut expected = head.compacted.max(Revision::FIRST.number());
    for row in history.iter().map_err(blame)? {
        let (place, record) = row.map_err(blame)?;
        let place = place.value();
        let wrong = |what: &str| damaged(format!("event {}.{}", place.0, place.1), what);
        let event = decode(place, record.value())?;
        let version = (event.key().as_bytes(), place.0);
        let index = versions.get(version).map_err(blame)?.map(|index| index.value());
        if index != Some(place.1) {
            return Err(wrong("its key does not lead to it"));
        }
        if place.0 > head.compacted {
            let follows = if place.0 == last.0 {
                place.1 == last.1 + 1
            } else {
                place == (expected + 1, 0)
            };
            if !follows {
                return Err(wrong("what was before it is missing"));
            }
            expected = place.0;
        }
        last = place;
        let now = current
            .get(event.key().as_bytes())
            .map_err(blame)?
            .map(|p| p.value());
        let fits = match (&event, now) {
            (Event::Put(_), Some(now)) => now >= place,
            (Event::Put(_), None) => is_followed(versions, version)?,
            (Event::Deleted(_), Some(now)) => now > place,
            (Event::Deleted(_), None) => true,
        };
        if !fits {
            return Err(wrong("its key is not what it should be now"));
        }
    }
    let same = history.len().map_err(blame)? == versions.len().map_err(blame)?;
    if !same || expected != head.revision {
        return Err(damaged("the history".to_owned(), "its end is missing"));
    }
    Ok(())
}

fn is_followed(
    versions: &impl ReadableTable<(&'static [u8], u64), u32>,
    (key, revision): (&[u8], u64),
) -> Result<bool, StoreError> {
    let later = (key, revision + 1)..=(key, u64::MAX);
    let mut later = versions.range::<(&[u8], u64)>(later).map_err(blame)?;
    Ok(later.next().transpose().map_err(blame)?.is_some())
}

/// Every key leads to what it is now, and is attached to its lease and to no other.
fn check_current(
    leases: &[(LeaseId, u64)],
    history: &impl ReadableTable<Place, &'static [u8]>,
    current: &impl ReadableTable<&'static [u8], Place>,
    attached: &impl ReadableTable<(i64, &'static [u8]), ()>,
) -> Result<(), StoreError> {
    let mut leased = 0;
    for row in current.iter().map_err(blame)? {
        let (key, place) = row.map_err(blame)?;
        let entry = entry(history, place.value(), key.value())?;
        let wrong = |what: &str| damaged(format!("key {}", entry.key), what);
        if entry.created > entry.modified || entry.created < Revision::FIRST.next() {
            return Err(wrong("it was written before it was there"));
        }
        let Some(id) = entry.lease else {
            continue;
        };
        leased += 1;
        let known = leases.iter().any(|(lease, _)| *lease == id);
        let attached = attached.get((id.number(), key.value())).map_err(blame)?;
        if !known || attached.is_none() {
            return Err(wrong("its lease does not know it"));
        }
    }
    if attached.len().map_err(blame)? != leased {
        return Err(damaged(
            "the leases".to_owned(),
            "they hold keys that are not theirs",
        ));
    }
    Ok(())
}
