//! What became of a list when its owner got another shape: who stayed, who came, who went.
//!
//! State is kept in lists by index, because a request must find it without searching. When a configuration is replaced,
//! indices change their meaning; this says how, once, so that every list is carried over in the same way. Nobody can be
//! carried over twice: whoever claims a place that was claimed already is a newcomer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Who was where before, and where he is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// By index now; `None` for newcomers.
    before: Vec<Option<usize>>,
    after: HashMap<usize, usize>,
}

impl Lineage {
    /// From the index before of each, by index now.
    pub fn new(before: impl IntoIterator<Item = Option<usize>>) -> Self {
        let mut after = HashMap::new();
        let mut claim = |(now, index): (usize, Option<usize>)| match after.entry(index?) {
            Entry::Vacant(place) => Some(*place.insert_entry(now).key()),
            Entry::Occupied(_) => None,
        };
        let before = before.into_iter().enumerate().map(&mut claim).collect();
        Self { before, after }
    }

    /// How many there are now.
    pub fn len(&self) -> usize {
        self.before.len()
    }

    /// Whether nobody is there now.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty()
    }

    /// Where it was before, by its index now. `None` for newcomers.
    pub fn before(&self, index: usize) -> Option<usize> {
        self.before.get(index).copied().flatten()
    }

    /// Where it is now, by its index before. `None` for who has gone.
    pub fn after(&self, index: usize) -> Option<usize> {
        self.after.get(&index).copied()
    }

    /// Carries a list over: what stays keeps its value, newcomers get a fresh one by their index, the rest is dropped.
    pub fn carry<T>(&self, before: Vec<T>, mut fresh: impl FnMut(usize) -> T) -> Vec<T> {
        let mut before: Vec<Option<T>> = before.into_iter().map(Some).collect();
        let mut taken = |index: Option<usize>| before.get_mut(index?)?.take();
        self.before
            .iter()
            .enumerate()
            .map(|(now, index)| taken(*index).unwrap_or_else(|| fresh(now)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stays_is_carried_over_and_nobody_twice() {
        let lineage = Lineage::new([Some(2), None, Some(0), Some(2), Some(9)]);
        let carried = lineage.carry(vec!["a", "b", "c"], |_| "new");
        assert_eq!(carried, ["c", "new", "a", "new", "new"]);
        assert_eq!((lineage.after(2), lineage.after(1)), (Some(0), None));
        assert_eq!((lineage.before(2), lineage.before(3)), (Some(0), None));
    }
}
