//! Quantities as people write them, on a command line and in files: `500ms`, `4KiB`, `0.1%`, `1000`.
//!
//! One grammar for both, here: a number and a unit, and one table of units. Files ([`written`]) ask for the unit of a
//! duration always; on a command line, where the option's name says it, a bare number is seconds. A message says what
//! was expected and gives an example. All is bounded, so that no sum overflows.

use std::ops::RangeInclusive;
use std::time::Duration;

pub mod written;

pub use self::written::{Part, Time};

/// Units of time and how many nanoseconds each has, the smallest first.
const TIME_UNITS: [(&str, u64); 5] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Other names of units, which are read and never written.
const TIME_ALIASES: [(&str, &str); 2] = [("µs", "us"), ("min", "m")];

/// Longest duration: a day is more than any run lasts.
const HOURS_MAX: f64 = 24.0;

/// More requests per second than one machine makes: such a rate is a slip.
const RATE_MAX: f64 = 2_000_000.0;

/// More requests per second than a scenario's generator makes, beside endpoints and a proxy.
const SCENARIO_RATE_MAX: f64 = 100_000.0;

/// A time: `90s`, `500ms`, `250us`, `2m`, `1h`; seconds where no unit is given.
///
/// # Errors
/// When it is not one, or is longer than a day.
pub fn duration(text: &str) -> Result<Duration, String> {
    span(text)
}

/// A part of a whole, 0 to 1: `10%`.
///
/// # Errors
/// When it is not one.
pub fn share(text: &str) -> Result<f64, String> {
    let share = part(text)
        .ok_or_else(|| format!("{text:?} is not a part; expected a percentage, for example 0.1%"))?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(format!("{text:?} is not between 0% and 100%"))
    }
}

/// Requests per second, above 0: `1000`, `0.5`, `60k`.
///
/// # Errors
/// When it is not one, or more than one machine can make.
pub fn rate(text: &str) -> Result<f64, String> {
    let (digits, unit) = split(text);
    let times = match unit {
        "" => 1.0,
        "k" => 1e3,
        _ => f64::NAN,
    };
    let rate = digits.parse::<f64>().unwrap_or(f64::NAN) * times;
    if rate > RATE_MAX {
        Err(format!(
            "{text:?} requests per second are more than one machine makes ({RATE_MAX})"
        ))
    } else if rate > 0.0 {
        Ok(rate)
    } else {
        Err(format!(
            "{text:?} is not a rate; expected requests per second above 0, for example 1000 or 60k"
        ))
    }
}

/// A size: `100B`, `4KiB`, `1MiB`, `10kB`; bytes where no unit is given.
///
/// # Errors
/// When it is not one, or 4 GiB and more.
pub fn bytes(text: &str) -> Result<u32, String> {
    let (digits, unit) = split(text);
    let unit_bytes = match unit {
        "" | "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "KiB" => 1_024.0,
        "MiB" => 1_048_576.0,
        _ => f64::NAN,
    };
    let bytes = (digits.parse::<f64>().unwrap_or(f64::NAN) * unit_bytes).round();
    if (0.0..f64::from(u32::MAX)).contains(&bytes) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be within bounds"
        )]
        return Ok(bytes as u32);
    }
    Err(format!(
        "{text:?} is not a size; expected for example 100B, 4KiB or 1MiB"
    ))
}

/// One size, or any between two: `100B..4KiB`.
///
/// # Errors
/// When an end is not a size, or the first is the larger one.
pub fn byte_range(text: &str) -> Result<RangeInclusive<u32>, String> {
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let range = bytes(least.trim())?..=bytes(most.trim())?;
    if range.is_empty() {
        return Err(format!("{text:?} begins above its end"));
    }
    Ok(range)
}

/// The rate of a scenario, if a machine can make it beside all else that plays.
///
/// # Errors
/// What is wrong with it.
pub fn possible(rate: f64) -> Result<f64, String> {
    if rate > 0.0 && rate <= SCENARIO_RATE_MAX {
        return Ok(rate);
    }
    Err(format!(
        "{rate} requests per second are impossible; expected more than 0 and at most {SCENARIO_RATE_MAX}"
    ))
}

/// The rate of a scenario on a command line, as [`rate`] is written.
///
/// # Errors
/// When it is not one, or not [`possible`].
pub fn scenario_rate(text: &str) -> Result<f64, String> {
    // What is no rate at all is told as such, and the bounds are the scenario's.
    match text.trim().parse::<f64>() {
        Ok(rate) => possible(rate),
        Err(_) => rate(text).and_then(possible),
    }
}

/// A number and a unit of time, or seconds.
fn span(text: &str) -> Result<Duration, String> {
    let (digits, unit) = split(text);
    let unit = if unit.is_empty() { "s" } else { unit };
    let alias = TIME_ALIASES.iter().find(|(other, _)| *other == unit);
    let unit = alias.map_or(unit, |(_, known)| known);
    let units = TIME_UNITS.iter();
    let unit_ns = units
        .filter(|(known, _)| *known == unit)
        .map(|(_, unit_ns)| *unit_ns)
        .next();
    let number = digits.parse::<f64>().ok();
    let (Some(number), Some(unit_ns)) = (number, unit_ns) else {
        return Err(format!(
            "{text:?} is not a duration: a number and one of us, ms, s, m, h, for example 500ms, 30s or 2m"
        ));
    };
    let seconds = number * unit_ns as f64 / 1e9;
    if (0.0..=HOURS_MAX * 3_600.0).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(format!(
        "a duration is at least 0s and at most a day, and not {text}"
    ))
}

/// A percentage as a part of 1.
fn part(text: &str) -> Option<f64> {
    let percent = text.trim().strip_suffix('%')?.trim().parse::<f64>().ok()?;
    percent.is_finite().then_some(percent / 100.0)
}

/// The digits, and what follows them.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    (digits, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_people_write_them() {
        for (text, us) in [
            ("250us", 250),
            ("24h", 86_400_000_000),
            ("1.5ms", 1_500),
            ("2", 2_000_000),
            ("90 s", 90_000_000),
            ("2m", 120_000_000),
            ("2min", 120_000_000),
            ("250µs", 250),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_micros(us)), "{text}");
        }
        for (text, expected) in [
            ("100", 100),
            ("100B", 100),
            ("4KiB", 4_096),
            ("1.5kB", 1_500),
            ("1MiB", 1_048_576),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        assert_eq!(byte_range("100B..4KiB"), Ok(100..=4_096));
        assert_eq!(byte_range("64"), Ok(64..=64));
        assert_eq!(
            (share("0.5%"), rate("60k"), rate("0.5"), scenario_rate("1.2k")),
            (Ok(0.005), Ok(60_000.0), Ok(0.5), Ok(1_200.0))
        );
    }

    #[test]
    fn what_is_none_is_refused_with_an_example() {
        let said = [
            duration("soon").map(drop),
            duration("1w").map(drop),
            duration("-1s").map(drop),
            duration("25h").map(drop),
            duration("").map(drop),
            share("0.1").map(drop),
            share("101%").map(drop),
            rate("0").map(drop),
            rate("1e9").map(drop),
            rate("nan").map(drop),
            rate("9000000").map(drop),
            scenario_rate("200k").map(drop),
            scenario_rate("0").map(drop),
            scenario_rate("many").map(drop),
            bytes("5GiB").map(drop),
            byte_range("4KiB..100B").map(drop),
        ];
        for (index, said) in said.iter().enumerate() {
            assert!(said.is_err(), "{index}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_them_panic(text in ".{0,20}") {
            let _ = (duration(&text), share(&text), rate(&text), bytes(&text), byte_range(&text));
        }
    }
}
