//! What is written into the file: events and the head of the store, each with a checksum over itself and its place.
//!
//! redb looks at the checksums of its pages after a crash only, and not at those that a crash could not have touched. So
//! a bit that rots in a value would be served as it is. Each record carries its own, over its place too, so that a record
//! that stands where another one belongs is found as well.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::store::error::StoreError;
use crate::store::key::{Entry, Key, LeaseId, Revision, Value};
use crate::store::watch::Event;

/// Where an event stands: its revision, and which of that revision's it is.
pub(super) type Place = (u64, u32);

/// Bytes of a checksum.
const SUM: usize = 8;

/// The format of the file. Another one is refused, not converted.
const FORMAT: u64 = 1;

const PUT: u8 = 1;
const DELETED: u8 = 2;

/// What the store knows of itself, in one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Counts commits, so that after a failed one it can be seen whether it came through.
    pub(super) commits: u64,
    /// The latest revision.
    pub(super) revision: u64,
    /// Up to here the history is given up.
    pub(super) compacted: u64,
    /// Up to here it has been swept out.
    pub(super) swept: u64,
    /// The id of the next lease.
    pub(super) next_lease: u64,
}

impl Head {
    /// Of an empty store.
    pub(super) const EMPTY: Self = Self {
        commits: 0,
        revision: Revision::FIRST.number(),
        compacted: 0,
        swept: 0,
        next_lease: 1,
    };

    /// Where to sweep, if something was compacted and not swept out.
    pub(super) fn unswept(&self) -> Option<Place> {
        (self.swept < self.compacted).then_some((0, 0))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let fields = [
            FORMAT,
            self.commits,
            self.revision,
            self.compacted,
            self.swept,
            self.next_lease,
        ];
        sealed(fields.iter().flat_map(|n| n.to_le_bytes()).collect(), 0)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let place = || "the head".to_owned();
        let mut fields = Fields::open(bytes, 0).ok_or_else(|| damaged(place(), "its checksum is wrong"))?;
        let format = fields.number();
        if format != Some(FORMAT) {
            let found = format.map_or_else(String::new, |n| n.to_string());
            return Err(StoreError::Foreign(format!(
                "the file is of format {found}, this version reads format {FORMAT}"
            )));
        }
        let read = |fields: &mut Fields<'_>| {
            Some(Self {
                commits: fields.number()?,
                revision: fields.number()?,
                compacted: fields.number()?,
                swept: fields.number()?,
                next_lease: fields.number()?,
            })
        };
        let head = read(&mut fields).ok_or_else(|| damaged(place(), "it is too short"))?;
        if head.revision == 0 || head.compacted > head.revision || head.swept > head.compacted {
            return Err(damaged(place(), "its revisions contradict each other"));
        }
        Ok(head)
    }
}

/// A time of a lease, as a record.
pub(super) fn encode_ttl(id: i64, seconds: u64) -> Vec<u8> {
    sealed(seconds.to_le_bytes().to_vec(), id.cast_unsigned())
}

/// The time of a lease, in seconds.
pub(super) fn decode_ttl(id: i64, bytes: &[u8]) -> Result<u64, StoreError> {
    let fields = Fields::open(bytes, id.cast_unsigned());
    fields
        .and_then(|mut fields| fields.number())
        .ok_or_else(|| damaged(format!("lease {id}"), "its checksum is wrong"))
}

/// An event, as a record.
pub(super) fn encode(place: Place, event: &Event) -> Vec<u8> {
    let mut record = Vec::new();
    match event {
        Event::Put(entry) => {
            record.push(PUT);
            let lease = entry.lease.map_or(0, LeaseId::number).cast_unsigned();
            for number in [entry.created.number(), entry.version, lease] {
                record.extend(number.to_le_bytes());
            }
            put_key(&mut record, &entry.key);
            record.extend(entry.value.as_bytes());
        }
        Event::Deleted(key) => {
            record.push(DELETED);
            put_key(&mut record, key);
        }
    }
    sealed(record, seed(place))
}

fn put_key(record: &mut Vec<u8>, key: &Key) {
    let key = key.as_bytes();
    record.extend((key.len() as u64).to_le_bytes());
    record.extend(key);
}

/// The event of a record.
pub(super) fn decode(place: Place, bytes: &[u8]) -> Result<Event, StoreError> {
    let wrong = |what| damaged(format!("event {}.{}", place.0, place.1), what);
    let mut fields = Fields::open(bytes, seed(place)).ok_or_else(|| wrong("its checksum is wrong"))?;
    let event = match fields.take(1) {
        Some([PUT]) => fields.entry(place.0).map(Event::Put),
        Some([DELETED]) => fields.key().map(Event::Deleted),
        _ => None,
    };
    event.ok_or_else(|| wrong("it is of no known kind or too short"))
}

/// An error about damage.
pub(super) fn damaged(place: String, what: &str) -> StoreError {
    let what = what.to_owned();
    StoreError::Corrupt { place, what }
}

fn seed(place: Place) -> u64 {
    // Revisions do not come near the top 32 bits; an index of an event does not leave the lower ones.
    place.0.rotate_left(32) ^ u64::from(place.1)
}

fn sealed(mut record: Vec<u8>, seed: u64) -> Vec<u8> {
    let sum = xxh3_64_with_seed(&record, seed);
    record.extend(sum.to_le_bytes());
    record
}

/// What is left to read of a record.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Nothing if its checksum is wrong.
    fn open(bytes: &'a [u8], seed: u64) -> Option<Self> {
        let (record, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM)?)?;
        (xxh3_64_with_seed(record, seed).to_le_bytes() == sum).then_some(Self(record))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn key(&mut self) -> Option<Key> {
        let length = usize::try_from(self.number()?).ok()?;
        Key::new(Bytes::copy_from_slice(self.take(length)?)).ok()
    }

    fn entry(&mut self, revision: u64) -> Option<Entry> {
        let (created, version) = (Revision::new(self.number()?), self.number()?);
        let lease = LeaseId::new(self.number()?.cast_signed());
        let key = self.key()?;
        let value = Value::new(Bytes::copy_from_slice(self.0)).ok()?;
        Some(Entry {
            key,
            value,
            created,
            modified: Revision::new(revision),
            version,
            lease,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event::Put(Entry {
            key: Key::try_from("a/b").unwrap(),
            value: Value::new(b"value".to_vec()).unwrap(),
            created: Revision::new(3),
            modified: Revision::new(9),
            version: 4,
            lease: LeaseId::new(7),
        })
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for event in [event(), Event::Deleted(Key::try_from("a").unwrap())] {
            assert_eq!(decode((9, 2), &encode((9, 2), &event)), Ok(event));
        }
        let head = Head {
            commits: 8,
            revision: 9,
            compacted: 5,
            swept: 4,
            next_lease: 3,
        };
        assert_eq!(Head::decode(&head.encode()), Ok(head));
        assert_eq!(decode_ttl(5, &encode_ttl(5, 60)), Ok(60));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let sound = encode((9, 2), &event());
        for bit in 0..sound.len() * 8 {
            let mut rotten = sound.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(decode((9, 2), &rotten), Err(StoreError::Corrupt { .. })),
                "bit {bit}"
            );
        }
        for length in 0..sound.len() {
            assert!(decode((9, 2), &sound[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_record_in_another_place_is_found() {
        assert!(matches!(
            decode((9, 3), &encode((9, 2), &event())),
            Err(StoreError::Corrupt { .. })
        ));
    }

    #[test]
    fn another_format_is_foreign_and_impossible_heads_are_damaged() {
        let newer = sealed(
            [2_u64, 0, 1, 0, 0, 1]
                .iter()
                .flat_map(|n| n.to_le_bytes())
                .collect(),
            0,
        );
        assert!(matches!(Head::decode(&newer), Err(StoreError::Foreign(_))));
        let ahead = Head {
            compacted: 2,
            ..Head::EMPTY
        };
        assert!(matches!(
            Head::decode(&ahead.encode()),
            Err(StoreError::Corrupt { .. })
        ));
    }
}
