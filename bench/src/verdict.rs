//! Whether a run keeps a claim: one module per family of claims.
//!
//! Conventions, the same for all: a p99 is that of all users over the last second (some 1200 requests), so it looks
//! back and notices a recovery late; a share of traffic is counted at the endpoints over half a second that looks
//! forward; "within" counts from just before the fault is set.

use std::time::Duration;

pub(crate) use self::traffic::{BACK, STRAY};

mod failures;
mod latency;
mod traffic;

/// Users' p99 is that of the last second.
const P99_WINDOW: Duration = Duration::from_secs(1);

/// Step of sliding windows.
const STEP: Duration = Duration::from_millis(100);

/// Whether a claim held, and the number that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it held.
    pub holds: bool,
    /// What was measured.
    pub measured: String,
}

impl Verdict {
    fn new(holds: bool, measured: impl Into<String>) -> Self {
        Self {
            holds,
            measured: measured.into(),
        }
    }
}

fn ms(us: u32) -> String {
    format!("{:.1} ms", f64::from(us) / 1e3)
}

fn seconds(us: u64) -> String {
    format!("{:.1} s", us as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use crate::claim::{Claim, judge};
    use crate::run::Run;

    pub(super) fn holds(claim: &Claim, run: &Run) -> bool {
        judge(claim, run).holds
    }
}
