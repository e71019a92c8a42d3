//! What was said of questions, for a while: at most so many of them, and each costs the same however many there are.
//!
//! All are good for the same time, so those that end first are those that came first: a queue says which, and whoever comes
//! takes what has ended off its front. Where all places are taken, the oldest gives way, which has least left of its time.

use std::collections::{HashMap, VecDeque};

use foreshade_engine::moment::Moment;

use super::Grant;

/// Most answers that are remembered: about a hundred bytes each, and what endpoints are told.
pub(super) const KNOWN_MAX: usize = 10_000;

/// A question, by its digest.
type Key = [u8; 32];

/// Answers that are remembered.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What was said, and until when it holds.
    said: HashMap<Key, (Moment, Grant)>,
    /// Every answer in the order in which they came; of one that was renewed the older stands there still.
    ends: VecDeque<(Moment, Key)>,
}

impl Known {
    /// What was said, if it still holds.
    pub(super) fn get(&self, key: &[u8], now: Moment) -> Option<Grant> {
        let (until, grant) = self.said.get(key)?;
        (now < *until).then(|| grant.clone())
    }

    /// Remembers what was said.
    pub(super) fn insert(&mut self, key: Key, now: Moment, until: Moment, grant: Grant) {
        if self.said.get(&key).is_some_and(|(known, _)| until <= *known) {
            return;
        }
        while let Some((end, _)) = self.ends.front()
            && (*end <= now || self.ends.len() >= KNOWN_MAX)
        {
            self.forget_first();
        }
        self.said.insert(key, (until, grant));
        self.ends.push_back((until, key));
    }

    fn forget_first(&mut self) {
        let Some((end, key)) = self.ends.pop_front() else {
            return;
        };
        // One that was renewed stands further behind, too.
        if self.said.get(&key).is_some_and(|(until, _)| *until == end) {
            self.said.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn key(n: usize) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        key
    }

    /// One that knows of this many, a second after the other, each for a hundred.
    fn known(count: usize) -> Known {
        let mut known = Known::default();
        for n in 0..count {
            let now = at(n as u64 / 1000);
            known.insert(
                key(n),
                now,
                now + std::time::Duration::from_secs(100),
                Grant::default(),
            );
        }
        known
    }

    #[test]
    fn what_was_said_holds_until_its_end_and_one_who_comes_takes_away_what_has_ended() {
        let mut known = known(3);
        assert!(known.get(&key(1), at(99)).is_some() && known.get(&key(1), at(100)).is_none());
        known.insert(key(1), at(50), at(150), Grant::default());
        known.insert(key(9), at(120), at(220), Grant::default());
        assert!(
            known.get(&key(1), at(120)).is_some(),
            "renewed, and not forgotten with what it was"
        );
        assert_eq!((known.said.len(), known.ends.len()), (2, 2));
    }

    #[test]
    fn where_all_places_are_taken_the_oldest_gives_way() {
        let known = known(KNOWN_MAX + 5);
        assert_eq!((known.said.len(), known.ends.len()), (KNOWN_MAX, KNOWN_MAX));
        assert!(known.get(&key(4), at(0)).is_none() && known.get(&key(5), at(0)).is_some());
    }

    #[test]
    fn the_same_answer_again_takes_no_second_place() {
        let mut known = known(1);
        for _ in 0..KNOWN_MAX * 2 {
            known.insert(key(0), at(0), at(100), Grant::default());
        }
        assert_eq!((known.said.len(), known.ends.len()), (1, 1));
    }
}
