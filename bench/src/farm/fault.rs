//! What can be wrong with an endpoint, as data, and what that means for one request.
//!
//! The faults are those that a health check misses (slow, half broken, hanging, one path bad) beside the one that it
//! finds (gone). A fault decides per request and is pure; the sockets are `endpoints`' business.

use std::time::Duration;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// What is wrong with an endpoint. As JSON: `{"kind":"slow","factor":10}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Nothing.
    #[default]
    Ok,
    /// Service times are `factor` times as long.
    Slow {
        /// 1 changes nothing.
        factor: f64,
        /// Only requests whose path starts with this; all where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path_prefix: Option<String>,
    },
    /// A part of the requests is answered with an error, after the usual service time.
    Errors {
        /// 0 to 1.
        share: f64,
        /// Status of the answer.
        #[serde(default = "internal_server_error")]
        status: u16,
    },
    /// Connections are accepted and requests are read, but nothing is answered, not even what was under way. When the
    /// fault is healed, hung connections are closed, as by the restart that usually heals such a process.
    Hang,
    /// The listener is closed and so are open connections; the port is free until the fault is healed.
    Refuse {
        /// Requests under way are lost too (the process was killed). Otherwise they are still answered (it was told
        /// to stop), because no proxy could save a POST that was under way.
        #[serde(default)]
        cut: bool,
    },
    /// Service times grow evenly from 1 to `to` times within `over_ms` and stay there.
    Ramp {
        /// Factor at the end.
        to: f64,
        /// Length of the ramp in milliseconds.
        over_ms: u64,
    },
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Treatment {
    /// Its service time is multiplied by this.
    pub factor: f64,
    /// Status of its answer.
    pub status: u16,
}

fn internal_server_error() -> u16 {
    500
}

impl Fault {
    /// Slow by `factor` on every path.
    pub fn slow(factor: f64) -> Self {
        Self::Slow {
            factor,
            path_prefix: None,
        }
    }

    /// A `share` of the requests fails with status 500.
    pub fn errors(share: f64) -> Self {
        Self::Errors {
            share,
            status: internal_server_error(),
        }
    }

    /// Decides about a request for `path` that arrives when the fault is `age` old.
    pub fn treat(&self, path: &[u8], age: Duration, rng: &mut impl Rng) -> Treatment {
        let mut treatment = Treatment {
            factor: 1.0,
            status: 200,
        };
        match self {
            Self::Ok | Self::Hang | Self::Refuse { .. } => {}
            Self::Slow { factor, path_prefix } => {
                if path_prefix
                    .as_ref()
                    .is_none_or(|prefix| path.starts_with(prefix.as_bytes()))
                {
                    treatment.factor = *factor;
                }
            }
            Self::Errors { share, status } => {
                if rng.random::<f64>() < *share {
                    treatment.status = *status;
                }
            }
            Self::Ramp { to, over_ms } => {
                // A ramp of no length is a step.
                let part = age.as_secs_f64() * 1e3 / (*over_ms).max(1) as f64;
                treatment.factor = 1.0 + (to - 1.0) * part.min(1.0);
            }
        }
        treatment
    }

    /// Says what the numbers must satisfy, where they do not.
    pub fn check(&self) -> Result<(), String> {
        let factor_fits = |factor: f64| (0.0..=1e4).contains(&factor);
        match self {
            Self::Slow { factor, .. } | Self::Ramp { to: factor, .. } if !factor_fits(*factor) => {
                Err(format!("a factor lies between 0 and 10000, not at {factor}"))
            }
            Self::Errors { share, .. } if !(0.0..=1.0).contains(share) => {
                Err(format!("a share lies between 0 and 1, not at {share}"))
            }
            Self::Errors { status, .. } if !(200..=599).contains(status) => Err(format!(
                "an answer's status lies between 200 and 599, not at {status}"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn slowdown(fault: &Fault, path: &str, age_ms: u64) -> f64 {
        let mut rng = StdRng::seed_from_u64(1);
        fault
            .treat(path.as_bytes(), Duration::from_millis(age_ms), &mut rng)
            .factor
    }

    #[test]
    fn a_slow_path_leaves_the_others_alone() {
        let fault = Fault::Slow {
            factor: 20.0,
            path_prefix: Some("/e".into()),
        };
        assert!((slowdown(&fault, "/e/1", 0) - 20.0).abs() < 1e-9);
        assert!((slowdown(&fault, "/a/1", 0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_ramp_grows_evenly_and_then_stays() {
        let fault = Fault::Ramp {
            to: 21.0,
            over_ms: 10_000,
        };
        for (age_ms, factor) in [(0, 1.0), (5_000, 11.0), (10_000, 21.0), (60_000, 21.0)] {
            assert!(
                (slowdown(&fault, "/", age_ms) - factor).abs() < 1e-9,
                "after {age_ms} ms"
            );
        }
    }

    #[test]
    fn errors_come_with_their_share() {
        let mut rng = StdRng::seed_from_u64(1);
        let fault = Fault::errors(0.05);
        let failed = (0..100_000)
            .filter(|_| fault.treat(b"/", Duration::ZERO, &mut rng).status == 500)
            .count();
        assert!((4_700..5_300).contains(&failed), "{failed}");
    }

    #[test]
    fn a_fault_survives_the_wire_and_nonsense_does_not() {
        let fault: Fault = serde_json::from_str(r#"{"kind":"slow","factor":10}"#).unwrap();
        assert_eq!(fault, Fault::slow(10.0));
        assert_eq!(
            serde_json::from_str::<Fault>(r#"{"kind":"refuse"}"#).unwrap(),
            Fault::Refuse { cut: false }
        );
        assert!(serde_json::from_str::<Fault>(r#"{"kind":"slow","speed":10}"#).is_err());
        assert!(Fault::slow(f64::NAN).check().is_err());
        assert!(Fault::errors(1.5).check().is_err());
        assert!(
            Fault::Errors {
                share: 0.5,
                status: 99
            }
            .check()
            .is_err()
        );
    }
}
