//! What users ask in a scenario file: how often, and for which paths.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};

use crate::farm::{PATHS_COUNTED, path_index};
use crate::load::schedule::Rate;
use crate::quantity::{Part, Time, possible};

/// Paths of one scenario; the endpoints count five apart.
const PATHS_MAX: usize = 32;

/// A path that endpoints count apart, by its place in their counts.
pub(crate) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let text = String::deserialize(deserializer)?;
    match path_index(text.as_bytes()) {
        index if index < PATHS_COUNTED - 1 => Ok(index),
        _ => Err(D::Error::custom(format!(
            "requests for {text:?} are not counted apart; those for /a to /e are"
        ))),
    }
}

/// Paths with their weights, in the order of the file.
pub(crate) fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, f64)>, D::Error> {
    deserializer.deserialize_map(Paths)
}

struct Paths;

impl<'de> Visitor<'de> for Paths {
    type Value = Vec<(String, f64)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("paths with their weights, as { /a: 60%, /b: 40% }")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut paths = Vec::new();
        while let Some((path, Part(weight))) = map.next_entry::<String, Part>()? {
            if !path.starts_with('/') || path.contains(char::is_whitespace) {
                return Err(A::Error::custom(format!("{path:?} is no path; it starts with /")));
            }
            if !(weight > 0.0 && weight.is_finite()) {
                return Err(A::Error::custom(format!("the weight of {path} is above 0")));
            }
            if paths.len() == PATHS_MAX {
                return Err(A::Error::custom(format!("there are more than {PATHS_MAX} paths")));
            }
            paths.push((path, weight));
        }
        match paths.is_empty() {
            true => Err(A::Error::custom("there is no path that users could ask for")),
            false => Ok(paths),
        }
    }
}

/// Requests per second: a number, or a wave with its `low`, `high` and `period`.
pub(crate) fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
    deserializer.deserialize_any(Rates)
}

struct Rates;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wave {
    low: f64,
    high: f64,
    period: Time,
}

impl<'de> Visitor<'de> for Rates {
    type Value = Rate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("requests per second, as 1200 or { low: 300, high: 1200, period: 2m }")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Rate, E> {
        self.visit_f64(number as f64)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Rate, E> {
        self.visit_f64(number as f64)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Rate, E> {
        possible(number).map(Rate::Steady).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rate, A::Error> {
        let Wave { low, high, period } = Wave::deserialize(MapAccessDeserializer::new(map))?;
        let low = possible(low).map_err(A::Error::custom)?;
        let high = possible(high).map_err(A::Error::custom)?;
        if low > high {
            return Err(A::Error::custom("a wave's low lies above its high"));
        }
        if period.0 < Duration::from_secs(1) {
            return Err(A::Error::custom("a wave's period is at least 1s"));
        }
        Ok(Rate::Wave {
            low,
            high,
            period: period.0,
        })
    }
}
