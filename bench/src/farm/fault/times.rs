//! When a fault is there: after a while, for a while, again and again.
//!
//! Pure functions of the fault's age, which counts from when it was set. So flapping, a periodic pause and a late
//! onset are one mechanism, the farm and the simulator agree on every edge, and a test needs no clock.

use std::time::Duration;

/// When a fault is there. The default is: from when it is set until it is healed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// It comes this long after it was set.
    pub after: Duration,
    /// It lasts this long; until it is healed where `None`.
    pub lasting: Option<Duration>,
    /// It comes again this long after it last came; once only where `None`.
    pub every: Option<Duration>,
}

impl Times {
    /// How long ago the fault came, if it is there at `age`. It is there in the instant in which it comes, and no
    /// longer in the one in which it goes.
    pub fn active(&self, age: Duration) -> Option<Duration> {
        let since_first = age.checked_sub(self.after)?;
        let since = self
            .every
            .map_or(since_first, |every| remainder(since_first, every));
        self.lasting
            .is_none_or(|lasting| since < lasting)
            .then_some(since)
    }

    /// The first age after `age` at which it comes or goes.
    pub fn next_edge(&self, age: Duration) -> Option<Duration> {
        let Some(since_first) = age.checked_sub(self.after) else {
            return Some(self.after);
        };
        let since = self
            .every
            .map_or(since_first, |every| remainder(since_first, every));
        let came = age.saturating_sub(since);
        let goes = self.lasting.map(|lasting| came.saturating_add(lasting));
        let again = self.every.map(|every| came.saturating_add(every));
        [goes, again].into_iter().flatten().find(|edge| *edge > age)
    }

    /// Says what the times must satisfy, where they do not.
    pub(super) fn check(&self) -> Result<(), String> {
        match (self.lasting, self.every) {
            (Some(Duration::ZERO), _) => Err("`for` 0s is no fault at all".to_owned()),
            (None, Some(_)) => Err("`every` needs `for`: how long it lasts each time".to_owned()),
            (Some(lasting), Some(every)) if lasting > every => Err(format!(
                "a fault that comes every {every:?} cannot last {lasting:?} each time"
            )),
            _ => Ok(()),
        }
    }
}

/// What is left of `duration` after whole periods.
pub(super) fn remainder(duration: Duration, period: Duration) -> Duration {
    let rest_ns = duration.as_nanos().checked_rem(period.as_nanos()).unwrap_or(0);
    Duration::from_nanos(u64::try_from(rest_ns).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Every edge of `times` up to `until`, with whether the fault is there from then on.
    fn edges(times: Times, until: Duration) -> Vec<(u128, bool)> {
        let mut edges = Vec::new();
        let mut age = Duration::ZERO;
        while let Some(edge) = times.next_edge(age).filter(|edge| *edge <= until) {
            assert!(edge > age, "time stands still at {age:?}");
            edges.push((edge.as_millis(), times.active(edge).is_some()));
            age = edge;
        }
        edges
    }

    #[test]
    fn a_fault_without_times_is_there_at_once_and_stays() {
        let times = Times::default();
        assert_eq!(times.active(Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(times.active(ms(5_000)), Some(ms(5_000)));
        assert_eq!(times.next_edge(Duration::ZERO), None);
    }

    #[test]
    fn a_fault_comes_and_goes_on_the_instant() {
        let times = Times {
            after: ms(100),
            lasting: Some(ms(50)),
            every: None,
        };
        assert_eq!(times.active(ms(100) - Duration::from_nanos(1)), None);
        assert_eq!(times.active(ms(100)), Some(Duration::ZERO));
        assert_eq!(times.active(ms(150)), None);
        assert_eq!(edges(times, ms(10_000)), [(100, true), (150, false)]);
    }

    #[test]
    fn a_flapping_fault_has_an_edge_each_time_and_its_age_starts_anew() {
        let times = Times {
            after: ms(1_000),
            lasting: Some(ms(1_000)),
            every: Some(ms(2_500)),
        };
        let expected = [
            (1_000, true),
            (2_000, false),
            (3_500, true),
            (4_500, false),
            (6_000, true),
            (7_000, false),
        ];
        assert_eq!(edges(times, ms(8_000)), expected);
        assert_eq!(times.active(ms(6_300)), Some(ms(300)));
    }

    #[test]
    fn a_fault_that_lasts_as_long_as_its_period_never_goes() {
        let times = Times {
            after: Duration::ZERO,
            lasting: Some(ms(10)),
            every: Some(ms(10)),
        };
        assert!(edges(times, ms(100)).iter().all(|(_, there)| *there));
    }

    #[test]
    fn times_that_contradict_each_other_are_refused() {
        let check = |lasting: Option<u64>, every: Option<u64>| {
            let times = Times {
                after: Duration::ZERO,
                lasting: lasting.map(ms),
                every: every.map(ms),
            };
            times.check().is_ok()
        };
        assert!(check(None, None) && check(Some(1), None) && check(Some(2), Some(2)));
        assert!(!check(Some(0), None) && !check(None, Some(1)) && !check(Some(3), Some(2)));
    }
}
