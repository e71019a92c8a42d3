//! Whether the load itself is the limit: how much of a core its thread used, and how long it waited to be given one.
//!
//! In an open loop lag says as much, but a closed loop has no schedule to fall behind: there, a thread that never rests is
//! the only sign that the target could have been asked more. Both figures are the scheduler's own (`/proc/.../schedstat`,
//! Documentation/scheduler/sched-stats.rst of the kernel); where it does not keep them, nothing is claimed.

use std::time::Duration;

/// Parts of the time that a thread existed, each 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Occupation {
    /// It was running.
    pub busy: f64,
    /// It could have run, but others had its core.
    pub starved: f64,
}

/// A reading of the scheduler's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    running: Duration,
    ready: Duration,
}

impl Occupation {
    /// Reads the counters of the calling thread.
    pub fn read() -> Option<Reading> {
        parse(&std::fs::read_to_string("/proc/thread-self/schedstat").ok()?)
    }

    /// Of the calling thread since a reading that it took so long ago.
    pub fn since(before: Option<Reading>, elapsed: Duration) -> Option<Self> {
        let (before, now) = (before?, Self::read()?);
        let part = |spent: Duration| (spent.as_secs_f64() / elapsed.as_secs_f64().max(1e-9)).min(1.0);
        Some(Self {
            busy: part(now.running.saturating_sub(before.running)),
            starved: part(now.ready.saturating_sub(before.ready)),
        })
    }
}

fn parse(text: &str) -> Option<Reading> {
    let mut fields = text.split_ascii_whitespace();
    let mut nanos = || Some(Duration::from_nanos(fields.next()?.parse().ok()?));
    Some(Reading {
        running: nanos()?,
        ready: nanos()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_are_the_first_two_fields() {
        let reading = parse("2500000000 30 17\n").unwrap();
        assert_eq!(
            (reading.running, reading.ready),
            (Duration::from_millis(2_500), Duration::from_nanos(30))
        );
        assert_eq!(parse("0"), None);
    }

    #[test]
    fn a_part_is_of_the_time_that_passed() {
        let Some(before) = Occupation::read() else { return };
        let all = Occupation::since(Some(before), Duration::from_nanos(1)).unwrap();
        assert!(all.busy <= 1.0 && all.starved <= 1.0);
        assert_eq!(Occupation::since(None, Duration::from_secs(1)), None);
    }
}
