//! Risk and share: the two numbers that the whole product is about, as types that cannot hold nonsense.
//!
//! Both are fractions. They are not interchangeable: a risk is what we believe, a share is what we do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a number is not a fraction.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{what} lies between 0 and 1, not at {value}")]
pub struct UnitError {
    what: &'static str,
    value: f64,
}

/// How likely an endpoint breaks its objective now or within the horizon: 0 (no reason to think so) to 1 (it does).
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Risk(f64);

/// The part of a primary's traffic that its shadow serves: 0 (none) to 1 (all).
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Share(f64);

macro_rules! fraction {
    ($name:ident, $what:literal) => {
        impl $name {
            /// Exactly 0.
            pub const ZERO: Self = Self(0.0);
            /// Exactly 1.
            pub const ONE: Self = Self(1.0);

            /// Checks that `value` is a number from 0 to 1.
            pub fn new(value: f64) -> Result<Self, UnitError> {
                if (0.0..=1.0).contains(&value) {
                    Ok(Self(value))
                } else {
                    Err(UnitError { what: $what, value })
                }
            }

            /// The nearest fraction: below 0 becomes 0, above 1 becomes 1, and what is not a number becomes 0.
            pub fn clamped(value: f64) -> Self {
                if value.is_nan() {
                    Self::ZERO
                } else {
                    Self(value.clamp(0.0, 1.0))
                }
            }

            /// The number, 0 to 1.
            pub fn value(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = UnitError;

            fn try_from(value: f64) -> Result<Self, UnitError> {
                Self::new(value)
            }
        }

        impl From<$name> for f64 {
            fn from(fraction: $name) -> f64 {
                fraction.0
            }
        }
    };
}

fraction!(Risk, "a risk");
fraction!(Share, "a share");

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}%", self.0 * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_fraction_is_refused() {
        for value in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Risk::new(value).is_err());
            assert!(serde_json::from_str::<Share>(&value.to_string()).is_err());
        }
        assert_eq!(Share::clamped(f64::NAN), Share::ZERO);
        assert_eq!(Share::clamped(7.0), Share::ONE);
    }

    #[test]
    fn a_fraction_survives_the_wire() {
        let share = Share::new(0.125).unwrap();
        let text = serde_json::to_string(&share).unwrap();
        assert_eq!(serde_json::from_str::<Share>(&text).unwrap(), share);
    }
}
