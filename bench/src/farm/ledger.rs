//! Which endpoint each write took effect at, so that "no POST reaches two endpoints" can be checked and not just
//! claimed.
//!
//! It is asked two things: which writes took effect more than once, and, of writes that users were told are done,
//! which never took effect. When a write takes effect is `serving`'s to say.
//!
//! Numbers are dense and rising, so a ring of fixed size, indexed by number, replaces a map: one store per write, 16
//! MiB at most. A number that the ring has forgotten cannot be compared; it is counted instead, and accuses nobody.

use serde::{Deserialize, Serialize};

/// Numbers that the ring covers. All requests have one, not only writes, so that at 1200 requests per second, of which
/// 120 write, it is the last 14.5 minutes: more than the longest scenario that is played for real.
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

/// Of writes that users were told are done, those that the ledger does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Never took effect.
    pub missing: Vec<u64>,
    /// So long ago that the ring can no longer tell.
    pub forgotten: u64,
}

/// The ledger of one farm.
#[derive(Debug, Default)]
pub struct Ledger {
    /// At `number % REMEMBERED`. Grows with the numbers up to its full size.
    ring: Vec<Slot>,
    report: LedgerReport,
}

/// A write, or none.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The write's number and one more, so that 0 is none.
    number_plus_1: u64,
    endpoint: u16,
}

impl Slot {
    fn number(self) -> Option<u64> {
        self.number_plus_1.checked_sub(1)
    }
}

impl Ledger {
    /// Notes that write `number` took effect at `endpoint`.
    pub fn note(&mut self, number: u64, endpoint: u16) {
        self.report.writes += 1;
        let index = place(number);
        if self.ring.len() <= index {
            self.ring.resize(index + 1, Slot::default());
        }
        let slot = &mut self.ring[index];
        match slot.number() {
            Some(known) if known == number => {
                self.report.repeats += 1;
                if self.report.kept.len() < REPEATS_KEPT {
                    self.report.kept.push(Repeat {
                        number,
                        first: slot.endpoint,
                        again: endpoint,
                    });
                }
            }
            Some(known) if known > number => self.report.forgotten += 1,
            _ => {
                *slot = Slot {
                    number_plus_1: number.saturating_add(1),
                    endpoint,
                }
            }
        }
    }

    /// Which of these writes never took effect.
    pub fn missing(&self, answered: &[u64]) -> Missing {
        let mut found = Missing::default();
        for number in answered {
            match self.ring.get(place(*number)).and_then(|slot| slot.number()) {
                Some(known) if known == *number => {}
                Some(known) if known > *number => found.forgotten += 1,
                _ => found.missing.push(*number),
            }
        }
        found
    }

    /// What was found so far.
    pub fn report(&self) -> LedgerReport {
        self.report.clone()
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number % REMEMBERED as u64).unwrap_or(0)
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
    fn a_write_that_was_answered_and_never_took_effect_is_found() {
        let mut ledger = Ledger::default();
        let later = 3 + REMEMBERED as u64;
        for number in [0, 7, 8, later] {
            ledger.note(number, 0);
        }
        let missing = ledger.missing(&[0, 7, 9, 3, later, u64::MAX]);
        assert_eq!((missing.missing, missing.forgotten), (vec![9, u64::MAX], 1));
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
