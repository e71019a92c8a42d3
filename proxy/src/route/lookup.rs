//! Text to value, for tables that are built once and asked for every request.
//!
//! Sorted by hash, and searched by halves: a table of 500 hosts takes nine steps over eight bytes each, and one comparison
//! of text. A `HashMap` with its keyed hash would cost more than the search; nobody outside chooses what is in the table,
//! so there is no flood of collisions to fear, and a collision costs one more comparison.

use xxhash_rust::xxh3::xxh3_64;

/// The table.
#[derive(Clone, Debug)]
pub(super) struct Lookup<T> {
    /// By hash.
    entries: Vec<Entry<T>>,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    hash: u64,
    key: Box<str>,
    value: T,
}

impl<T> Default for Lookup<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T> Lookup<T> {
    /// Whether there is nothing to find.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key.
    pub(super) fn find(&self, key: &str) -> Option<&T> {
        if self.entries.is_empty() {
            return None;
        }
        let at = self.position(key).ok()?;
        self.entries.get(at).map(|entry| &entry.value)
    }

    /// The value of a key, put there first if need be.
    pub(super) fn or_insert_with(&mut self, key: &str, value: impl FnOnce() -> T) -> Option<&mut T> {
        let at = match self.position(key) {
            Ok(at) => at,
            Err(at) => {
                let entry = Entry {
                    hash: xxh3_64(key.as_bytes()),
                    key: key.into(),
                    value: value(),
                };
                self.entries.insert(at, entry);
                at
            }
        };
        self.entries.get_mut(at).map(|entry| &mut entry.value)
    }

    /// Where a key is, or would be.
    fn position(&self, key: &str) -> Result<usize, usize> {
        let hash = xxh3_64(key.as_bytes());
        let first = self.entries.partition_point(|entry| entry.hash < hash);
        let same = self.entries.iter().skip(first).take_while(|e| e.hash == hash);
        same.enumerate()
            .find(|(_, entry)| &*entry.key == key)
            .map(|(offset, _)| first + offset)
            .ok_or(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_value_and_no_other_key_has_one() {
        let mut table = Lookup::default();
        for n in 0..1000 {
            *table.or_insert_with(&format!("host-{n}"), || 0).unwrap() += n;
        }
        *table.or_insert_with("host-7", || 0).unwrap() += 1;
        assert_eq!(table.find("host-7"), Some(&8));
        assert!(
            (0..1000)
                .filter(|n| *n != 7)
                .all(|n| table.find(&format!("host-{n}")) == Some(&n))
        );
        assert_eq!(table.find("host-1000"), None);
        assert_eq!(Lookup::<()>::default().find(""), None);
    }
}
