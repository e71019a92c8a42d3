//! Who has a session: found by its client, and ended by how long it has rested.
//!
//! All sessions of a listener may rest for the same time, so the order in which they were touched last is the one in which
//! they end, and a list through them, from the one that has rested longest, is all that has to be kept: each step costs
//! the same, however many there are. Pure: time comes in, and what is done with a session is its owner's.

use std::collections::HashMap;
use std::hash::Hash;

use foreshade_engine::moment::Moment;

/// Most sessions of one socket: more than a machine has ports to reach endpoints from, so others come to an end before.
pub const SESSIONS_MAX: usize = 1 << 17;

/// No place.
const NONE: u32 = u32::MAX;

/// A session, for as long as it lasts: never that of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    index: u32,
    serial: u32,
}

impl From<Id> for u64 {
    fn from(id: Id) -> Self {
        Self::from(id.serial) << 32 | Self::from(id.index)
    }
}

impl From<u64> for Id {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    fn from(bits: u64) -> Self {
        Self {
            index: bits as u32,
            serial: (bits >> 32) as u32,
        }
    }
}

/// Sessions by their clients.
#[derive(Debug)]
pub struct Table<K, V> {
    entries: Vec<Option<Entry<K, V>>>,
    free: Vec<u32>,
    by_key: HashMap<K, u32>,
    oldest: u32,
    newest: u32,
    serial: u32,
    max: usize,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    serial: u32,
    touched: Moment,
    older: u32,
    newer: u32,
}

impl<K: Copy + Eq + Hash, V> Table<K, V> {
    /// An empty table for so many sessions.
    pub fn new(max: usize) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            oldest: NONE,
            newest: NONE,
            serial: 0,
            max: max.min(SESSIONS_MAX),
        }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The session of a client.
    pub fn find(&self, key: &K) -> Option<Id> {
        let index = *self.by_key.get(key)?;
        let serial = self.at(index)?.serial;
        Some(Id { index, serial })
    }

    /// A session that has not ended.
    pub fn get(&mut self, id: Id) -> Option<&mut V> {
        let entry = self.entries.get_mut(id.index as usize)?.as_mut()?;
        (entry.serial == id.serial).then_some(&mut entry.value)
    }

    /// Begins a session. The value comes back where its client has one, or there are too many.
    ///
    /// # Errors
    /// The value.
    pub fn insert(&mut self, key: K, value: V, now: Moment) -> Result<Id, V> {
        if self.len() >= self.max || self.by_key.contains_key(&key) {
            return Err(value);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).unwrap_or(NONE)
        });
        self.serial = self.serial.wrapping_add(1);
        let entry = Entry {
            key,
            value,
            serial: self.serial,
            touched: now,
            older: NONE,
            newer: NONE,
        };
        if let Some(place) = self.entries.get_mut(index as usize) {
            *place = Some(entry);
        }
        self.by_key.insert(key, index);
        self.link(index);
        Ok(Id {
            index,
            serial: self.serial,
        })
    }

    /// Something has happened in a session: it rests from now on.
    pub fn touch(&mut self, id: Id, now: Moment) {
        if self.get(id).is_none() {
            return;
        }
        self.unlink(id.index);
        if let Some(entry) = self.at_mut(id.index) {
            entry.touched = entry.touched.max(now);
        }
        self.link(id.index);
    }

    /// Ends a session.
    pub fn remove(&mut self, id: Id) -> Option<V> {
        self.get(id)?;
        self.unlink(id.index);
        let entry = self.entries.get_mut(id.index as usize)?.take()?;
        self.by_key.remove(&entry.key);
        self.free.push(id.index);
        Some(entry.value)
    }

    /// The session that has rested longest, and since when it rests.
    pub fn oldest(&self) -> Option<(Id, Moment)> {
        let entry = self.at(self.oldest)?;
        let id = Id {
            index: self.oldest,
            serial: entry.serial,
        };
        Some((id, entry.touched))
    }

    /// All sessions, the one that has rested longest first, and since when each rests.
    pub fn iter(&self) -> impl Iterator<Item = (Id, Moment, &V)> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let (index, entry) = (next, self.at(next)?);
            next = entry.newer;
            let serial = entry.serial;
            Some((Id { index, serial }, entry.touched, &entry.value))
        })
    }

    fn at(&self, index: u32) -> Option<&Entry<K, V>> {
        self.entries.get(index as usize)?.as_ref()
    }

    fn at_mut(&mut self, index: u32) -> Option<&mut Entry<K, V>> {
        self.entries.get_mut(index as usize)?.as_mut()
    }

    /// Puts an entry at the end of the list.
    fn link(&mut self, index: u32) {
        let before = std::mem::replace(&mut self.newest, index);
        if let Some(entry) = self.at_mut(index) {
            (entry.older, entry.newer) = (before, NONE);
        }
        match self.at_mut(before) {
            Some(entry) => entry.newer = index,
            None => self.oldest = index,
        }
    }

    /// Takes an entry out of the list.
    fn unlink(&mut self, index: u32) {
        let Some((older, newer)) = self.at(index).map(|entry| (entry.older, entry.newer)) else {
            return;
        };
        match self.at_mut(older) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        match self.at_mut(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 8;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8),
        Touch(u8),
        Remove(u8),
        /// Ends all that have rested for so long.
        Expire(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<(Step, u64)>> {
        let step = prop_oneof![
            3 => (0..12_u8).prop_map(Step::Insert),
            3 => (0..12_u8).prop_map(Step::Touch),
            1 => (0..12_u8).prop_map(Step::Remove),
            1 => (0..40_u64).prop_map(Step::Expire),
        ];
        prop::collection::vec((step, 0..10_u64), 0..200)
    }

    proptest! {
        /// Held against a list that is sorted by hand.
        #[test]
        fn a_table_is_bounded_and_ends_who_has_rested_longest(steps in steps()) {
            let mut table = Table::new(MAX);
            let mut model: Vec<(u8, Moment)> = Vec::new();
            let mut ended: Vec<Id> = Vec::new();
            let mut now = Moment::ZERO;
            for (step, later) in steps {
                now = Moment::from_micros(now.as_micros() + later);
                match step {
                    Step::Insert(key) => {
                        let known = model.iter().any(|(k, _)| *k == key);
                        let inserted = table.insert(key, key, now);
                        prop_assert_eq!(inserted.is_ok(), !known && model.len() < MAX);
                        if let Ok(id) = inserted {
                            prop_assert!(!ended.contains(&id), "an id is never that of another");
                            prop_assert_eq!(Id::from(u64::from(id)), id);
                            model.push((key, now));
                        }
                    }
                    Step::Touch(key) => {
                        if let Some(id) = table.find(&key) {
                            table.touch(id, now);
                            model.retain(|(k, _)| *k != key);
                            model.push((key, now));
                        }
                    }
                    Step::Remove(key) => {
                        if let Some(id) = table.find(&key) {
                            prop_assert_eq!(table.remove(id), Some(key));
                            prop_assert_eq!(table.remove(id), None);
                            ended.push(id);
                            model.retain(|(k, _)| *k != key);
                        }
                    }
                    Step::Expire(rest) => {
                        let is_over = |touched: Moment| now.as_micros() - touched.as_micros() >= rest;
                        while let Some((id, touched)) = table.oldest().filter(|(_, t)| is_over(*t)) {
                            prop_assert_eq!(model.first().map(|(_, t)| *t), Some(touched));
                            table.remove(id);
                            ended.push(id);
                            model.remove(0);
                        }
                        prop_assert!(!model.iter().any(|(_, touched)| is_over(*touched)));
                    }
                }
                prop_assert!(table.len() <= MAX && table.entries.len() <= MAX);
                prop_assert!(ended.iter().all(|id| table.get(*id).is_none()));
                let listed: Vec<_> = table.iter().map(|(_, touched, key)| (*key, touched)).collect();
                prop_assert_eq!(&listed, &model);
                prop_assert!(model.iter().all(|(key, _)| table.find(key).is_some()));
            }
        }
    }
}
