//! Who says what of which pair: a row for each proxy, with a place for each pair.
//!
//! A thousand proxies see ten thousand pairs, and at almost all of those nothing happens. So a row is one piece of
//! memory that is asked for once and given back at once: kept by pair, ten thousand lists would grow at the same time
//! while a fleet joins, and leave as much memory behind as they take.

use std::collections::BTreeMap;

use super::Number;
use super::voice::Voice;

/// The voices of all proxies.
#[derive(Debug, Default)]
pub(super) struct Voices {
    rows: BTreeMap<Number, Vec<Voice>>,
    pairs: usize,
}

impl Voices {
    /// Room for so many pairs, and nobody has said anything.
    pub(super) fn of(pairs: usize) -> Self {
        Self {
            rows: BTreeMap::new(),
            pairs,
        }
    }

    /// What a proxy says of the pair at a place, to be changed; `None` where there is no such place.
    pub(super) fn voice(&mut self, number: Number, place: usize) -> Option<&mut Voice> {
        let pairs = self.pairs;
        let row = self.rows.entry(number);
        row.or_insert_with(|| vec![Voice::default(); pairs])
            .get_mut(place)
    }

    /// What has been said of the pair at a place, and by whom, in the order of numbers.
    pub(super) fn about(&self, place: usize) -> impl Iterator<Item = (Number, &Voice)> {
        let said = self
            .rows
            .iter()
            .filter_map(move |(number, row)| Some((*number, row.get(place)?)));
        said.filter(|(_, voice)| voice.has_spoken())
    }

    /// A proxy is nobody any more: for each place, whether it had said something there.
    pub(super) fn forget(&mut self, number: Number) -> Vec<bool> {
        let row = self.rows.remove(&number).unwrap_or_default();
        row.iter().map(Voice::has_spoken).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voice_is_small_and_who_has_not_spoken_is_not_there() {
        assert!(size_of::<Voice>() <= 24, "{}", size_of::<Voice>());
        let mut voices = Voices::of(2);
        assert!(voices.voice(Number(1), 0).is_some());
        assert!(voices.voice(Number(1), 2).is_none());
        assert_eq!(voices.about(0).count(), 0);
        assert_eq!(voices.forget(Number(1)), [false, false]);
        assert_eq!(voices.forget(Number(1)), [false; 0]);
    }
}
