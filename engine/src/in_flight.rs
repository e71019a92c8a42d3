//! Requests that wait for their first byte, by age: how a hang is seen long before any timeout.
//!
//! A request that hangs produces no sample, so a detector of finished requests is blind to it until the timeout. Here
//! each request is counted in the slot of its start; what still stands in an old slot is evidence now. Two additions per
//! request, no timer. A burst only fills one slot; an idle endpoint has empty slots and therefore no evidence.

use std::time::Duration;

use crate::moment::Moment;

/// Width of a slot. A fifth of the tick, so that age is known well within one tick.
pub const SLOT: Duration = Duration::from_micros(SLOT_US);

const SLOT_US: u64 = 20_000;

/// Slots in the ring: ages up to 1.28 s are told apart, older ones share one counter.
pub const SLOTS: usize = 64;

/// The slot in which a request started. Hand it back to [`InFlight::end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started(u64);

/// The waiting requests of one endpoint at one worker.
#[derive(Clone, Debug)]
pub struct InFlight {
    slots: [u32; SLOTS],
    /// Those whose slot the ring has passed.
    older: u32,
    newest: u64,
}

/// Waiting requests by age at one moment, newest slot first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ages {
    by_slot: [u32; SLOTS],
    older: u32,
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            slots: [0; SLOTS],
            older: 0,
            newest: 0,
        }
    }
}

impl Default for Ages {
    fn default() -> Self {
        Self {
            by_slot: [0; SLOTS],
            older: 0,
        }
    }
}

impl InFlight {
    /// A request starts to wait.
    pub fn begin(&mut self, now: Moment) -> Started {
        self.advance(now);
        *self.slot(self.newest) += 1;
        Started(self.newest)
    }

    /// A request got its first byte, failed, or was given up.
    pub fn end(&mut self, started: Started) {
        let counter = if started.0 + SLOTS as u64 > self.newest {
            self.slot(started.0)
        } else {
            &mut self.older
        };
        *counter = counter.saturating_sub(1);
    }

    /// The ages of all waiting requests.
    pub fn ages(&mut self, now: Moment) -> Ages {
        self.advance(now);
        let newest = self.newest;
        let by_slot = std::array::from_fn(|back| match newest.checked_sub(back as u64) {
            Some(slot) => *self.slot(slot),
            None => 0,
        });
        Ages {
            by_slot,
            older: self.older,
        }
    }

    #[expect(clippy::indexing_slicing, reason = "the remainder is below the length")]
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 64")]
    fn slot(&mut self, slot: u64) -> &mut u32 {
        &mut self.slots[(slot % SLOTS as u64) as usize]
    }

    fn advance(&mut self, now: Moment) {
        let slot = now.as_micros() / SLOT_US;
        if slot <= self.newest {
            return;
        }
        let steps = (slot - self.newest).min(SLOTS as u64);
        self.newest = slot;
        // After a pause longer than the ring every slot is passed once, which is enough.
        for back in 0..steps {
            if let Some(passed) = slot.checked_sub(back) {
                self.older += std::mem::take(self.slot(passed));
            }
        }
    }
}

impl Ages {
    /// How many have waited for at least `age`; a slot that `age` cuts is not counted.
    pub fn waiting_at_least(&self, age: Duration) -> u32 {
        let first = usize::try_from(age.as_micros().div_ceil(SLOT.as_micros()))
            .unwrap_or(SLOTS)
            .saturating_add(1);
        self.by_slot.iter().skip(first).sum::<u32>() + self.older
    }

    /// How many wait in all.
    pub fn waiting(&self) -> u32 {
        self.by_slot.iter().sum::<u32>() + self.older
    }

    /// Adds the ages that another worker saw at the same tick.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.by_slot.iter_mut().zip(other.by_slot) {
            *mine += theirs;
        }
        self.older += other.older;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1000;

    #[test]
    fn a_hang_shows_as_age() {
        let mut waiting = InFlight::default();
        for ms in 0..50 {
            waiting.begin(Moment::from_micros(ms * MS));
        }
        let ages = waiting.ages(Moment::from_micros(200 * MS));
        assert_eq!(ages.waiting(), 50);
        assert_eq!(ages.waiting_at_least(Duration::from_millis(140)), 50);
        assert_eq!(ages.waiting_at_least(Duration::from_millis(240)), 0);
    }

    #[test]
    fn what_ended_has_no_age_even_after_the_ring_passed_it() {
        let mut waiting = InFlight::default();
        let old = waiting.begin(Moment::from_micros(0));
        let young = waiting.begin(Moment::from_micros(9_990 * MS));
        assert_eq!(
            waiting
                .ages(Moment::from_micros(10_000 * MS))
                .waiting_at_least(Duration::from_secs(1)),
            1
        );
        waiting.end(old);
        waiting.end(young);
        assert_eq!(waiting.ages(Moment::from_micros(10_000 * MS)), Ages::default());
    }

    #[test]
    fn a_clock_that_stands_still_or_jumps_loses_nothing() {
        let mut waiting = InFlight::default();
        let started = waiting.begin(Moment::from_micros(5_000 * MS));
        assert_eq!(waiting.ages(Moment::from_micros(1_000 * MS)).waiting(), 1);
        assert_eq!(waiting.ages(Moment::from_micros(u64::MAX / 2)).waiting(), 1);
        waiting.end(started);
        assert_eq!(waiting.ages(Moment::from_micros(u64::MAX / 2)).waiting(), 0);
    }
}
