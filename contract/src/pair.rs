//! Pairs, and the numbers that order what is said about them.
//!
//! Three counters, because three questions are asked of a message: may its writer still speak ([`Epoch`]), is it newer
//! than what I have ([`Generation`]), and which analysis does it belong to ([`Round`]). One number for all of them would
//! have to be reset by the one and kept by the other. Each is a type, so that none is compared with another.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// A primary and its shadow, known by the primary: a primary has one shadow at a time, and the shadow may change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairId {
    /// The cluster that both serve.
    pub cluster: Name,
    /// The endpoint that the configuration calls the primary. It keeps the pair's name when its shadow is promoted.
    pub primary: Name,
}

impl fmt::Display for PairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster, self.primary)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one that comes next.
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Fencing token of the controller that writes: a proxy that has seen a higher one obeys no lower one.
    Epoch
}

counter! {
    /// Order of plans: strictly growing inside an epoch, a rollback included.
    Generation
}

counter! {
    /// One analysis of one pair. Counters are cumulative per (pair, round, arm), and start at 0 with a new round.
    Round
}

/// One of the two sides of a pair, by what the configuration calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The primary.
    Primary,
    /// Its shadow.
    Shadow,
}

impl Arm {
    /// Both, in the order of every array that holds something per arm.
    pub const ALL: [Self; 2] = [Self::Primary, Self::Shadow];

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::Primary => Self::Shadow,
            Self::Shadow => Self::Primary,
        }
    }

    /// Its place in an array that holds something per arm.
    pub const fn index(self) -> usize {
        match self {
            Self::Primary => 0,
            Self::Shadow => 1,
        }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Shadow => "shadow",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_written_as_cluster_and_primary() {
        let pair = PairId {
            cluster: "shop".parse().unwrap(),
            primary: "a".parse().unwrap(),
        };
        assert_eq!(pair.to_string(), "shop/a");
        let text = serde_json::to_string(&pair).unwrap();
        assert_eq!(serde_json::from_str::<PairId>(&text).unwrap(), pair);
        assert!(serde_json::from_str::<PairId>(r#"{"cluster":"shop","primary":"-"}"#).is_err());
    }

    #[test]
    fn arms_index_the_arrays_that_hold_something_per_arm() {
        for (index, arm) in Arm::ALL.into_iter().enumerate() {
            assert_eq!(arm.index(), index);
            assert_eq!(arm.other().other(), arm);
        }
    }

    #[test]
    fn a_counter_is_a_bare_number_on_the_wire_and_never_wraps() {
        assert_eq!(serde_json::to_string(&Epoch(7)).unwrap(), "7");
        assert_eq!(Generation(u64::MAX).next(), Generation(u64::MAX));
    }
}
