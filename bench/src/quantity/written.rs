//! The quantities of files: durations and parts as types that serde reads and writes.
//!
//! A part may be a plain number here, because JSON that machines write has the number; a duration is a text with its
//! unit in JSON and YAML alike.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{TIME_UNITS, part, span, split};

/// A duration, written as a number and a unit: `250us`, `500ms`, `1.5s`, `2m`, `1h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// A part of a whole, written as a percentage or as a number: `5%`, `0.05`. Not held to 1: a growth may be `150%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Part(pub f64);

/// A duration, as itself.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Time::deserialize(deserializer).map(|time| time.0)
}

/// A share from 0 to 1.
pub(crate) fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let Part(share) = Part::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&share) {
        return Ok(share);
    }
    Err(D::Error::custom(format!(
        "a share lies between 0% and 100%, not at {share}"
    )))
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // `30` means seconds to one reader of a file and milliseconds to the next.
        match split(text) {
            (_, "") => Err(format!(
                "{text:?} has no unit: one of us, ms, s, m, h, as in 1.5s"
            )),
            _ => span(text).map(Self),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        let whole = |(_, unit_ns): &&(&str, u64)| ns.is_multiple_of(u128::from(*unit_ns)) && ns > 0;
        match TIME_UNITS.iter().rev().find(whole) {
            Some((unit, unit_ns)) => write!(f, "{}{unit}", ns / u128::from(*unit_ns)),
            None => write!(f, "{}s", self.0.as_secs_f64()),
        }
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = || text.trim().parse::<f64>().ok().filter(|value| value.is_finite());
        part(text).or_else(plain).map(Self).ok_or_else(|| {
            format!("{text:?} is no part of a whole: a percentage or a number, as in 5% or 0.05")
        })
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, as in 1.5s")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrPercentage;
        impl Visitor<'_> for NumberOrPercentage {
            type Value = Part;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a percentage or a number, as in 5% or 0.05")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Part, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Part, E> {
                Ok(Part(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Part, E> {
                Ok(Part(value as f64))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Part, E> {
                Ok(Part(value as f64))
            }
        }
        deserializer.deserialize_any(NumberOrPercentage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_and_written_with_its_unit() {
        for (text, us, shown) in [
            ("250us", 250, "250us"),
            ("1500ms", 1_500_000, "1500ms"),
            ("1.5s", 1_500_000, "1500ms"),
            ("120s", 120_000_000, "2m"),
            ("0s", 0, "0s"),
            ("24h", 86_400_000_000, "24h"),
            ("2min", 120_000_000, "2m"),
            ("250µs", 250, "250us"),
        ] {
            let time: Time = text.parse().unwrap();
            assert_eq!(time.0, Duration::from_micros(us), "{text}");
            assert_eq!(time.to_string(), shown, "{text}");
            assert_eq!(time.to_string().parse(), Ok(time), "{text}");
        }
    }

    #[test]
    fn a_duration_without_a_unit_or_beyond_a_day_is_refused() {
        for text in ["30", "", "s", "-1s", "25h", "infs", "NaNs", "1d", "1e400s"] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Time>("30").is_err());
    }

    #[test]
    fn a_part_is_a_percentage_or_a_number() {
        for text in ["\"5%\"", "0.05", "\"0.05\""] {
            let part: Part = serde_json::from_str(text).unwrap();
            assert!((part.0 - 0.05).abs() < 1e-12, "{text}");
        }
        assert_eq!(serde_json::from_str::<Part>("1").unwrap(), Part(1.0));
        for text in ["\"five\"", "\"%\"", "\"NaN\"", "true"] {
            assert!(serde_json::from_str::<Part>(text).is_err(), "{text}");
        }
    }
}
