//! One number for each of many keys, shared by all workers, in a table that never grows.
//!
//! A limit's state of a key is one number: the moment from which on nothing of its burst is used up (the theoretical
//! arrival time of GCRA, ITU-T I.371). Once that moment has passed, a key is as good as one that was never seen. So a
//! place whose moment has passed is free, nobody has to sweep the table, and what it forgets by itself is nothing.
//!
//! Places lie in sets of [`WAYS`]; a key belongs to one set, by a hash whose seed no client knows, and takes any place in
//! it. A set is two lines of a processor's cache, so a request touches no more than that, and takes no lock. Where all
//! places of a set are in use, whoever has used up least of his burst is forgotten and may begin anew: under an attack of
//! more keys than places the table holds on to those who ask most. That is counted.
//!
//! Two workers may disagree for a moment: take two places for one key, or take one for two keys. What comes of it is a
//! request or a burst more or less, once; no number is ever half written.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rand::Rng as _;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Places of a set.
const WAYS: usize = 8;

/// A table of moments by key.
#[derive(Debug)]
pub(super) struct Buckets {
    sets: Box<[Set]>,
    /// So that nobody outside can choose keys that share a set.
    seed: u64,
}

/// Two lines of a cache.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Set([Place; WAYS]);

#[derive(Debug, Default)]
struct Place {
    /// Hash of the key; 0 for none.
    key: AtomicU64,
    /// Nanoseconds on the proxy's clock.
    due: AtomicU64,
}

/// The number of a key.
#[derive(Debug)]
pub(super) struct Bucket<'a> {
    /// From when on nothing of it is used up, in nanoseconds on the proxy's clock.
    pub(super) due: &'a AtomicU64,
    /// Whether another key that was in use had to be forgotten for it.
    pub(super) forgot: bool,
}

impl Buckets {
    /// A table for so many keys, at least.
    pub(super) fn new(keys: usize) -> Self {
        Self {
            sets: (0..keys.div_ceil(WAYS).max(1)).map(|_| Set::default()).collect(),
            seed: rand::rng().next_u64(),
        }
    }

    /// The bucket of a key. `namespace` tells keys of different kinds apart.
    pub(super) fn of(&self, namespace: u64, key: &[u8], now_ns: u64) -> Option<Bucket<'_>> {
        let hash = xxh3_64_with_seed(key, self.seed.wrapping_add(namespace)).max(1);
        let set = self.set(hash)?;
        if let Some(place) = set.0.iter().find(|place| place.key.load(Relaxed) == hash) {
            return Some(Bucket {
                due: &place.due,
                forgot: false,
            });
        }
        set.take(hash, now_ns)
    }

    fn set(&self, hash: u64) -> Option<&Set> {
        // The high bits choose, evenly for any number of sets.
        let index = (u128::from(hash) * self.sets.len() as u128) >> 64;
        self.sets.get(usize::try_from(index).ok()?)
    }
}

impl Set {
    /// Gives the key a place: a free one, or that of the key that has used up least.
    fn take(&self, hash: u64, now_ns: u64) -> Option<Bucket<'_>> {
        let least = self.0.iter().min_by_key(|place| place.due.load(Relaxed))?;
        let forgot = least.due.load(Relaxed) > now_ns;
        least.key.store(hash, Relaxed);
        if forgot {
            least.due.store(now_ns, Relaxed);
        }
        Some(Bucket {
            due: &least.due,
            forgot,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn use_up(buckets: &Buckets, key: u64, until: u64, now: u64) -> bool {
        let bucket = buckets.of(0, &key.to_le_bytes(), now).unwrap();
        bucket.due.store(until, Relaxed);
        bucket.forgot
    }

    fn due(buckets: &Buckets, key: u64, now: u64) -> u64 {
        buckets.of(0, &key.to_le_bytes(), now).unwrap().due.load(Relaxed)
    }

    #[test]
    fn a_key_finds_its_number_again_and_namespaces_are_apart() {
        let buckets = Buckets::new(1024);
        for key in 0..100 {
            assert!(!use_up(&buckets, key, 1_000 + key, 10));
        }
        for key in 0..100 {
            assert_eq!(due(&buckets, key, 10), 1_000 + key);
        }
        let other = buckets.of(1, &7u64.to_le_bytes(), 10).unwrap();
        assert!(other.due.load(Relaxed) <= 10);
    }

    #[test]
    fn a_place_is_free_when_its_moment_has_passed() {
        let buckets = Buckets::new(WAYS);
        for key in 0..WAYS as u64 {
            assert!(!use_up(&buckets, key, 50, 10));
        }
        for key in 100..100 + WAYS as u64 {
            assert!(!use_up(&buckets, key, 90, 50), "everybody is as good as new");
        }
    }

    #[test]
    fn where_all_places_are_in_use_whoever_used_up_least_is_forgotten() {
        let buckets = Buckets::new(WAYS);
        for key in 0..WAYS as u64 {
            use_up(&buckets, key, 1_000 * (key + 1), 10);
        }
        let newcomer = buckets.of(0, &100u64.to_le_bytes(), 10).unwrap();
        assert!(newcomer.forgot);
        assert_eq!(newcomer.due.load(Relaxed), 10, "he begins with a whole burst");
        for key in 1..WAYS as u64 {
            assert_eq!(due(&buckets, key, 10), 1_000 * (key + 1), "{key}");
        }
    }

    #[test]
    fn those_who_ask_most_are_held_on_to_under_an_attack_of_a_million_keys() {
        let buckets = Buckets::new(4096);
        let heavy = u64::MAX;
        let mut forgotten = 0;
        for key in 0..1_000_000 {
            // Each key asks once; the heavy one is far above its limit all the time.
            forgotten += u32::from(use_up(&buckets, key, 2_000, 1_000));
            if key % 1_000 == 0 {
                use_up(&buckets, heavy, 1_000_000, 1_000);
            }
            assert_eq!(due(&buckets, heavy, 1_000), 1_000_000, "after {key}");
        }
        assert!(forgotten > 900_000, "{forgotten}");
        assert_eq!(
            buckets.sets.len() * WAYS,
            4096,
            "and the table is as large as before"
        );
        assert_eq!(
            (size_of::<Place>(), size_of::<Set>()),
            (16, 16 * WAYS),
            "as the documents say"
        );
    }
}
