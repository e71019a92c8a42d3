//! The one place where the proxy reads its clock: monotonic, counted from the start of the process, or from that of the
//! first one where it has taken over from another.

use std::time::{Duration, Instant};

use foreshade_engine::moment::Moment;

/// A monotonic clock with its own origin. All parts of one proxy share one, so that their moments compare.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that shows zero now.
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// A clock that shows `moment` now: that of a process before this one, whose moments compare with those of this one.
    pub fn showing(moment: Moment) -> Self {
        let now = Instant::now();
        let origin = now.checked_sub(Duration::from_micros(moment.as_micros()));
        Self {
            origin: origin.unwrap_or(now),
        }
    }

    /// Time since the start.
    pub fn now(&self) -> Moment {
        Moment::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}
