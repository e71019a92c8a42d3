//! Who has no link: for how long, and for whom that has been too long.

use std::collections::{BTreeMap, BTreeSet};

use foreshade_engine::moment::Moment;

use super::{Number, STALE};

/// Proxies without a link.
#[derive(Debug, Default)]
pub(super) struct Absent {
    /// Since when.
    silent: BTreeMap<Number, Moment>,
    /// Those of them whose voices do not count any more, as of `looked`.
    stale: BTreeSet<Number>,
    looked: Moment,
    changes: u64,
}

impl Absent {
    /// Its link is down.
    pub(super) fn left(&mut self, number: Number, now: Moment) {
        self.silent.insert(number, now);
        self.looked = Moment::default();
    }

    /// It has been heard again, or is nobody any more.
    pub(super) fn is_back(&mut self, number: Number) {
        self.silent.remove(&number);
        self.changes += u64::from(self.stale.remove(&number));
    }

    /// Makes up for the time that has passed. How often the answer of [`is_stale`](Self::is_stale) has changed for anybody
    /// so far.
    pub(super) fn changes(&mut self, now: Moment) -> u64 {
        if self.looked != now {
            self.looked = now;
            let stale = self.silent.iter().filter(|(_, since)| now.since(**since) > STALE);
            let stale: BTreeSet<_> = stale.map(|(number, _)| *number).collect();
            self.changes += u64::from(stale != self.stale);
            self.stale = stale;
        }
        self.changes
    }

    /// Whether its voices do not count any more.
    pub(super) fn is_stale(&self, number: Number) -> bool {
        self.stale.contains(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn each_change_of_who_counts_is_a_change_and_nothing_else_is() {
        let (mut absent, one, two) = (Absent::default(), Number(1), Number(2));
        let none = absent.changes(at(100));
        absent.left(one, at(100));
        absent.left(two, at(104));
        assert_eq!(absent.changes(at(105)), none, "a reconnect takes as long");
        let first = absent.changes(at(106));
        assert!(first > none && absent.is_stale(one) && !absent.is_stale(two));
        assert_eq!(absent.changes(at(107)), first);
        absent.is_back(two);
        assert_eq!(absent.changes(at(120)), first, "nobody had missed it");
        absent.is_back(one);
        assert!(absent.changes(at(120)) > first && !absent.is_stale(one));
        // Gone again: not stale until its time is over once more.
        absent.left(one, at(121));
        let back = absent.changes(at(122));
        assert!(!absent.is_stale(one));
        assert!(absent.changes(at(127)) > back);
    }
}
