//! The one place where the proxy reads its clock: monotonic, counted from the start of the process.

use std::time::Instant;

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

    /// Time since the start.
    pub fn now(&self) -> Moment {
        Moment::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}
