//! The leases of an embedded store: when each one ends, by a clock that is an argument.
//!
//! Their time is not stored. A store that was down cannot know for how long, so after a restart each lease has its whole
//! time again: its owner loses nothing, and whoever waits for it waits longer, which is the safe side.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::LEASES_MAX;
use super::error::{Invalid, StoreError};
use super::key::LeaseId;

/// Leases, and when they end.
#[derive(Debug, Default)]
pub(super) struct Lessor {
    leases: BTreeMap<LeaseId, Term>,
}

#[derive(Debug)]
struct Term {
    ttl: Duration,
    until: Instant,
    /// It has ended; its keys are about to go. Nothing brings it back.
    ended: bool,
}

impl Lessor {
    /// Whether one more may be granted.
    pub(super) fn check_room(&self) -> Result<(), StoreError> {
        if self.leases.len() >= LEASES_MAX {
            return Err(Invalid::TooManyLeases.into());
        }
        Ok(())
    }

    /// Lets the time of a new lease begin.
    pub(super) fn begin(&mut self, id: LeaseId, ttl: Duration, now: Instant) {
        let until = now + ttl;
        let ended = false;
        self.leases.insert(id, Term { ttl, until, ended });
    }

    /// Lets its time begin anew.
    pub(super) fn keep_alive(&mut self, id: LeaseId, now: Instant) -> Result<Duration, StoreError> {
        match self.leases.get_mut(&id) {
            // Past its end it is gone, even if nobody has come to take its keys yet.
            Some(term) if !term.ended && now < term.until => {
                term.until = now + term.ttl;
                Ok(term.ttl)
            }
            _ => Err(StoreError::LeaseNotFound(id)),
        }
    }

    /// Forgets it: its keys are gone.
    pub(super) fn forget(&mut self, id: LeaseId) {
        self.leases.remove(&id);
    }

    /// Which have ended, and whose keys have to go. Again each time, until they are forgotten.
    pub(super) fn due(&mut self, now: Instant) -> Vec<LeaseId> {
        let due = self.leases.iter_mut().filter(|(_, term)| term.until <= now);
        due.map(|(id, term)| {
            term.ended = true;
            *id
        })
        .collect()
    }

    /// When the next one ends.
    pub(super) fn next(&self) -> Option<Instant> {
        self.leases.values().map(|term| term.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_is_kept_alive_lives_and_one_that_is_not_ends_for_good() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let (kept, left) = (LeaseId::new(1).unwrap(), LeaseId::new(2).unwrap());
        let mut lessor = Lessor::default();
        lessor.begin(kept, 3 * second, start);
        lessor.begin(left, 3 * second, start);
        assert_eq!(lessor.keep_alive(kept, start + 2 * second), Ok(3 * second));
        assert_eq!(lessor.next(), Some(start + 3 * second));
        assert_eq!(lessor.due(start + 3 * second), [left]);
        assert_eq!(
            lessor.keep_alive(left, start + second),
            Err(StoreError::LeaseNotFound(left))
        );
        assert_eq!(lessor.due(start + 4 * second), [left], "until its keys are gone");
        lessor.forget(left);
        assert_eq!(lessor.due(start + 4 * second), []);
        assert_eq!(
            lessor.keep_alive(kept, start + 5 * second),
            Err(StoreError::LeaseNotFound(kept)),
            "at its end, before anybody has come for it"
        );
    }

    #[test]
    fn there_is_a_most_of_them() {
        let mut lessor = Lessor::default();
        for id in 1..=LEASES_MAX {
            assert_eq!(lessor.check_room(), Ok(()));
            let id = LeaseId::new(i64::try_from(id).unwrap()).unwrap();
            lessor.begin(id, Duration::from_secs(1), Instant::now());
        }
        assert_eq!(lessor.check_room(), Err(Invalid::TooManyLeases.into()));
    }
}
