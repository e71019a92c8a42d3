//! What a fault must satisfy before an endpoint has it: numbers that mean something, and parts that do not contradict
//! each other.
//!
//! Files and the control refuse what does not, with one of these sentences; a fault that was built in code is held to
//! the same.

use std::time::Duration;

use super::{FACTOR_MAX, Fault, Kind};

/// Largest growth of a leak per second; beyond, it is a step.
const GROWTH_MAX: f64 = 10.0;

/// Fastest drip of a body: above it, the network is slower.
const DRIP_BYTES_PER_S_MAX: u64 = 1_000_000_000;

impl Fault {
    /// Says what must be satisfied, where it is not.
    pub fn check(&self) -> Result<(), String> {
        let between = |what: &str, value: f64, most: f64| match (0.0..=most).contains(&value) {
            true => Ok(()),
            false => Err(format!("{what} lies between 0 and {most}, not at {value}")),
        };
        let lasts = |what: &str, length: Duration| match length.is_zero() {
            true => Err(format!("`{what}` must be longer than 0s")),
            false => Ok(()),
        };
        match self.kind {
            Kind::Slow { factor } => between("a factor", factor, FACTOR_MAX)?,
            Kind::Ramp { to, over } => between("a factor", to, FACTOR_MAX).and(lasts("over", over))?,
            Kind::Leak {
                growth,
                dies_after,
                restarts_after,
            } => between("a growth per second", growth, GROWTH_MAX)
                .and(lasts("dies_after", dies_after))
                .and(lasts("restarts_after", restarts_after))?,
            Kind::Errors { status } if !(400..=599).contains(&status) => {
                return Err(format!(
                    "the status of an error lies between 400 and 599, not at {status}"
                ));
            }
            Kind::EarlyClose { part } if !(0.0..1.0).contains(&part) => {
                return Err(format!(
                    "the part of a body that is cut lies between 0 and less than 1, not at {part}"
                ));
            }
            Kind::SlowBody { bytes_per_s } if !(1..=DRIP_BYTES_PER_S_MAX).contains(&bytes_per_s) => {
                return Err(format!(
                    "a body drips with 1 to {DRIP_BYTES_PER_S_MAX} bytes per second, not with {bytes_per_s}"
                ));
            }
            Kind::Capacity { left } => between("the part of the capacity that is left", left, 1.0)?,
            _ => {}
        }
        between("a share", self.only.share, 1.0)?;
        if self.is_of_process() && !self.only.is_everything() {
            return Err(
                "a fault of the whole process takes no `path_prefix`, `bodies_above` or `share`".to_owned(),
            );
        }
        self.times.check()
    }

    /// Whether it concerns the process and not single requests.
    fn is_of_process(&self) -> bool {
        matches!(
            self.kind,
            Kind::Leak { .. } | Kind::Pause | Kind::Capacity { .. } | Kind::Refuse { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::Only;
    use super::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn nonsense_is_refused_with_what_is_wrong() {
        let mut of_a_path = Fault::from(Kind::Pause).on_path("/e");
        let nonsense = [
            (Fault::slow(f64::NAN), "a factor lies between 0 and 10000"),
            (Fault::errors(1.5), "a share lies between 0 and 1"),
            (Kind::Errors { status: 200 }.into(), "between 400 and 599"),
            (Kind::EarlyClose { part: 1.0 }.into(), "less than 1"),
            (Kind::SlowBody { bytes_per_s: 0 }.into(), "not with 0"),
            (Kind::Capacity { left: 2.0 }.into(), "not at 2"),
            (Kind::Ramp { to: 2.0, over: s(0) }.into(), "`over` must be longer"),
            (of_a_path.clone(), "takes no `path_prefix`"),
        ];
        for (fault, expected) in nonsense {
            let error = fault.check().unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        of_a_path.only = Only::default();
        assert_eq!(of_a_path.check(), Ok(()));
    }
}
