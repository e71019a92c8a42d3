//! Whether a process that serves for long grows: a rule for readings that are noisy and should be flat.
//!
//! The readings after the warm-up are cut into thirds, and the median of the last is held against that of the first. Not
//! two single readings, which a stall of the machine moves as much as a leak does; no fitted line, because memory that is
//! taken once, in a step, is no leak, and an allowance says so more plainly than a slope. What the median of thirds
//! cannot see is left to the descriptors at rest, where the expected growth is none at all.

use crate::compare::summary::spread;
use crate::stage::usage::Usage;

/// Growth of memory that is no finding, as a part of what was used before: the allocator's own noise.
const RESIDENT_PART: f64 = 0.05;

/// And beside it, in MiB: a small process has noise, too.
const RESIDENT_MIB: f64 = 2.0;

/// Growth of descriptors under load that is no finding, as a part: connections are kept for a minute after a stall.
const DESCRIPTORS_PART: f64 = 0.05;

/// And beside it. One descriptor lost in 10,000 requests is 60 a minute at 10,000 requests per second.
const DESCRIPTORS: f64 = 64.0;

/// More descriptors at rest than before the load that are no finding: a probe or two may be under way. One descriptor
/// lost in 10,000 requests is more as soon as 90,000 requests were made.
const DESCRIPTORS_AT_REST: f64 = 8.0;

/// What a run has shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Medians of the first and the last third of the readings under load.
    pub under_load: [Usage; 2],
    /// Before the load, and after it.
    pub at_rest: [Usage; 2],
}

/// Medians of the first and the last third; zeros where there are no readings.
pub fn thirds(readings: &[Usage]) -> [Usage; 2] {
    let third = readings.len().div_ceil(3);
    let from = readings.len().saturating_sub(third);
    [0..third, from..readings.len()].map(|range| median(readings.get(range).unwrap_or_default()))
}

fn median(readings: &[Usage]) -> Usage {
    let middle = |of: fn(&Usage) -> f64| spread(readings.iter().map(of)).median;
    Usage {
        resident_mib: middle(|u| u.resident_mib),
        descriptors: middle(|u| u.descriptors),
        threads: middle(|u| u.threads),
    }
}

impl Growth {
    /// What has grown beyond its allowance, in words. Of descriptors under load, only where as many are in use at any time.
    pub fn findings(&self, steady_load: bool) -> Vec<String> {
        let [first, last] = self.under_load;
        let [before, after] = self.at_rest;
        let resident = first.resident_mib * (1.0 + RESIDENT_PART) + RESIDENT_MIB;
        let descriptors = first.descriptors * (1.0 + DESCRIPTORS_PART) + DESCRIPTORS;
        let rules = [
            (true, "MiB resident under load", last.resident_mib, resident),
            (
                steady_load,
                "descriptors under load",
                last.descriptors,
                descriptors,
            ),
            (true, "threads under load", last.threads, first.threads),
            (
                true,
                "descriptors at rest",
                after.descriptors,
                before.descriptors + DESCRIPTORS_AT_REST,
            ),
        ];
        let broken = rules
            .into_iter()
            .filter(|(applies, _, found, most)| *applies && found > most);
        broken
            .map(|(_, what, found, most)| format!("{found:.1} {what}, {most:.1} at most allowed"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings of twenty minutes, one every five seconds: noise of a few per cent, and what `leak` says of the hour.
    fn readings(leak: impl Fn(f64) -> Usage) -> Vec<Usage> {
        let reading = |index: u32| {
            let noise = f64::from(index * 37 % 11) / 10.0 - 0.5;
            let leaked = leak(f64::from(index) * 5.0 / 3_600.0);
            Usage {
                resident_mib: 50.0 + 4.0 * noise + leaked.resident_mib,
                descriptors: 400.0 + 100.0 * noise + leaked.descriptors,
                threads: 8.0 + leaked.threads,
            }
        };
        (0..240).map(reading).collect()
    }

    fn findings(leak: impl Fn(f64) -> Usage) -> Vec<String> {
        let growth = Growth {
            under_load: thirds(&readings(leak)),
            at_rest: [Usage::default(); 2],
        };
        growth.findings(true)
    }

    #[test]
    fn what_is_noisy_and_flat_has_not_grown() {
        assert_eq!(findings(|_| Usage::default()), [""; 0]);
    }

    #[test]
    fn memory_that_leaks_half_a_mib_a_minute_is_found() {
        let found = findings(|hours| Usage {
            resident_mib: 30.0 * hours,
            ..Usage::default()
        });
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("MiB resident under load"), "{found:?}");
    }

    #[test]
    fn memory_that_is_taken_once_is_no_leak() {
        let step = |hours: f64| Usage {
            resident_mib: if hours > 0.2 { 3.0 } else { 0.0 },
            ..Usage::default()
        };
        assert_eq!(findings(step), [""; 0]);
    }

    #[test]
    fn a_descriptor_lost_in_ten_thousand_requests_is_found_under_a_steady_load() {
        // 5,000 requests per second.
        let found = findings(|hours| Usage {
            descriptors: hours * 3_600.0 * 5_000.0 / 10_000.0,
            ..Usage::default()
        });
        assert!(found[0].contains("descriptors under load"), "{found:?}");
    }

    #[test]
    fn a_descriptor_lost_in_ten_thousand_requests_is_found_at_rest_after_a_hundred_thousand() {
        let with = |descriptors| Usage {
            descriptors,
            ..Usage::default()
        };
        let growth = |after| Growth {
            under_load: [with(400.0), with(900.0)],
            at_rest: [with(26.0), with(after)],
        };
        assert_eq!(
            growth(27.0).findings(false),
            [""; 0],
            "a load of peaks is not judged"
        );
        let found = growth(36.0).findings(false);
        assert_eq!(found, ["36.0 descriptors at rest, 34.0 at most allowed"]);
    }

    #[test]
    fn a_thread_that_stays_behind_is_found() {
        let found = findings(|hours| Usage {
            threads: (hours * 10.0).floor(),
            ..Usage::default()
        });
        assert!(found[0].contains("threads"), "{found:?}");
    }

    #[test]
    fn thirds_of_few_readings_are_the_readings() {
        let [a, b] = [1.0, 2.0].map(|threads| Usage {
            threads,
            ..Usage::default()
        });
        assert_eq!(thirds(&[a, b]), [a, b]);
        assert_eq!(thirds(&[a]), [a, a]);
        assert_eq!(thirds(&[]), [Usage::default(); 2]);
    }
}
