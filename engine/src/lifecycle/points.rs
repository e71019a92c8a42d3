//! A share as the lifecycle keeps it: whole basis points.
//!
//! Not [`Share`], because a journal has to give back exactly what was written, two arms have to add up to exactly 100 %,
//! and states have to be compared: all three are awkward with floats. 0.01 % is finer than any step that evidence could
//! tell from its neighbour.

use std::fmt;

use foreshade_contract::Share;
use serde::{Deserialize, Serialize};

const WHOLE: u16 = 10_000;

/// A share in steps of 0.01 %, 0 to 100 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct BasisPoints(u16);

/// Why a number is not a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a share has at most {WHOLE} basis points, not {0}")]
pub struct TooMany(u16);

impl BasisPoints {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(WHOLE);

    /// So many percent; what is above 100 becomes 100.
    pub const fn percent(percent: u16) -> Self {
        let points = percent.saturating_mul(100);
        Self(if points > WHOLE { WHOLE } else { points })
    }

    /// What is left for the other arm.
    pub const fn rest(self) -> Self {
        Self(WHOLE - self.0)
    }

    /// How far apart two shares are.
    pub const fn distance(self, other: Self) -> Self {
        Self(self.0.abs_diff(other.0))
    }

    /// As a share.
    pub fn share(self) -> Share {
        Share::clamped(self.fraction())
    }

    /// As a number from 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }

    /// The largest one that is not above this fraction.
    pub fn at_most(fraction: f64) -> Self {
        let points = (Share::clamped(fraction).value() * f64::from(WHOLE) + 1e-6).floor();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a clamped share has 0 to 10,000 basis points"
        )]
        Self(points as u16)
    }
}

impl TryFrom<u16> for BasisPoints {
    type Error = TooMany;

    fn try_from(points: u16) -> Result<Self, TooMany> {
        if points > WHOLE {
            Err(TooMany(points))
        } else {
            Ok(Self(points))
        }
    }
}

impl From<BasisPoints> for u16 {
    fn from(points: BasisPoints) -> Self {
        points.0
    }
}

impl fmt::Display for BasisPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 100.0)?;
        f.write_str("%")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_share_and_its_rest_are_everything(points in 0..=WHOLE) {
            let share = BasisPoints(points);
            prop_assert_eq!(u16::from(share) + u16::from(share.rest()), WHOLE);
            prop_assert_eq!(BasisPoints::at_most(share.fraction()), share);
        }
    }

    #[test]
    fn more_than_everything_is_refused() {
        assert_eq!(BasisPoints::try_from(10_001), Err(TooMany(10_001)));
        assert!(serde_json::from_str::<BasisPoints>("10001").is_err());
        assert_eq!(BasisPoints::percent(5).to_string(), "5%");
        assert_eq!(BasisPoints(25).to_string(), "0.25%");
    }
}
