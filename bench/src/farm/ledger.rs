//! Which endpoint each write took effect at, so that "no POST reaches two endpoints" can be checked and not just claimed.
//!
//! A write takes effect when its whole request has arrived, not when it is answered: that is the moment after which a
//! second copy would do harm. Numbers are dense and rising, so a ring of fixed size, indexed by number, replaces a map:
//! one store per write, 16 MiB at most. A number that the ring has forgotten cannot be compared; it is counted instead.

use serde::{Deserialize, Serialize};

/// Writes that the ring remembers: an hour and more at 200 writes per second.
pub const REMEMBERED: usize = 1 << 20;

/// Repeats that are kept one by one; the rest is only counted.
const REPEATS_KEPT: usize = 32;

/// A write that took effect more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeat {
    /// The request's number.
    pub number: u64,
    /// Index of the endpoint that had it first.
    pub first: u16,
    /// Index of the endpoint that had it again; may be the same one.
    pub again: u16,
}

/// What a ledger found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerReport {
    /// Writes that took effect, repeats included.
    pub writes: u64,
    /// Writes that took effect again.
    pub repeats: u64,
    /// Writes that arrived so late that the ring could no longer tell.
    pub forgotten: u64,
    /// The first repeats, for looking into.
    pub kept: Vec<Repeat>,
}

/// The ledger of one farm.
#[derive(Debug, Default)]
pub struct Ledger {
    /// At `number % REMEMBERED`: the number and its endpoint. Grows with the numbers up to its full size.
    ring: Vec<Option<(u64, u16)>>,
    report: LedgerReport,
}

impl Ledger {
    /// Notes that write `number` took effect at `endpoint`.
    pub fn note(&mut self, number: u64, endpoint: u16) {
        self.report.writes += 1;
        let index = usize::try_from(number % REMEMBERED as u64).unwrap_or(0);
        if self.ring.len() <= index {
            self.ring.resize(index + 1, None);
        }
        let Some(slot) = self.ring.get_mut(index) else {
            return;
        };
        match *slot {
            Some((known, first)) if known == number => {
                self.report.repeats += 1;
                if self.report.kept.len() < REPEATS_KEPT {
                    self.report.kept.push(Repeat {
                        number,
                        first,
                        again: endpoint,
                    });
                }
            }
            Some((known, _)) if known > number => self.report.forgotten += 1,
            _ => *slot = Some((number, endpoint)),
        }
    }

    /// What was found so far.
    pub fn report(&self) -> LedgerReport {
        self.report.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_takes_effect_twice_is_found() {
        let mut ledger = Ledger::default();
        ledger.note(7, 0);
        ledger.note(8, 0);
        ledger.note(7, 1);
        let report = ledger.report();
        assert_eq!((report.writes, report.repeats), (3, 1));
        assert_eq!(
            report.kept,
            [Repeat {
                number: 7,
                first: 0,
                again: 1
            }]
        );
    }

    #[test]
    fn memory_is_bounded_and_what_is_forgotten_is_counted() {
        let mut ledger = Ledger::default();
        let later = 5 + REMEMBERED as u64;
        for number in [5, later, later * 1_000, 5] {
            ledger.note(number, 0);
        }
        assert!(ledger.ring.len() <= REMEMBERED);
        assert_eq!(ledger.report().repeats, 0);
        assert_eq!(ledger.report().forgotten, 1);
    }

    #[test]
    fn many_repeats_are_counted_but_not_all_kept() {
        let mut ledger = Ledger::default();
        for _ in 0..=100 {
            ledger.note(1, 0);
        }
        assert_eq!(ledger.report().repeats, 100);
        assert_eq!(ledger.report().kept.len(), REPEATS_KEPT);
    }
}
