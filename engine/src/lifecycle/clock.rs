//! Time in a state, counted in ticks that the controller was there for.
//!
//! The caller's clock is a wall clock, and those jump. So deadlines are not moments but sums: each step adds the time
//! since the step before, at least nothing and at most one tick. A clock that steps back costs one tick, one that steps
//! forward gains one, and an hour in which the controller was down is one tick: it has seen nothing in it, so nothing
//! may be concluded from it. What an operator set until a moment is the exception (see `overrides`), because people mean
//! the wall.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The time of one pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Clock {
    /// The wall at the last step, in milliseconds since 1970.
    last_ms: Option<u64>,
}

impl Clock {
    /// The wall shows `now_ms`: how much has passed.
    pub(super) fn tick(&mut self, now_ms: u64, tick_max: Duration) -> Duration {
        let since = self.last_ms.map_or(0, |last| now_ms.saturating_sub(last));
        self.last_ms = Some(now_ms);
        Duration::from_millis(since).min(tick_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_in_either_direction_is_one_tick_at_most() {
        let mut clock = Clock::default();
        let tick = Duration::from_secs(1);
        let hour = 3_600_000;
        let mut passed = |now_ms| clock.tick(now_ms, tick).as_millis();
        assert_eq!(passed(10 * hour), 0);
        assert_eq!(passed(10 * hour + 100), 100);
        assert_eq!(passed(11 * hour), 1000);
        assert_eq!(passed(9 * hour), 0);
        assert_eq!(passed(9 * hour + 100), 100);
    }
}
