//! The quantities and words of the format: durations, shares, rates, counts, names, choices.
//!
//! A quantity carries its unit, because a bare `30` has been read as milliseconds by one program and as seconds by the
//! next for as long as there have been configuration files. So a bare number where a duration is wanted is a mistake.
//! Ranges are part of the type: what one key allows stands where the key is declared.

use std::time::Duration;

use foreshade_contract::{Name, NameError};
use serde_json::{Value as Json, json};

use crate::nearest::nearest;
use crate::read::{Scalar, Shown, Wrong};

/// A duration from `MIN` to `MAX` milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Lasting<const MIN: u64, const MAX: u64>(pub Duration);

impl<const MIN: u64, const MAX: u64> Scalar for Lasting<MIN, MAX> {
    fn expected() -> String {
        format!("a duration from {} to {}", written(MIN), written(MAX))
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: f64 = number.parse().map_err(|_| Wrong::default())?;
        let factor = match unit {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "" => {
                return Err(Wrong::because("has no unit").hint(format!("write {number}ms or {number}s")));
            }
            _ if unit.contains(|c: char| c.is_ascii_digit()) => {
                return Err(
                    Wrong::default().hint("write one number with one unit: 90s, not 1m30s".to_owned())
                );
            }
            _ => {
                let fault = format!("has the unknown unit {unit:?}");
                return Err(Wrong::because(fault).hint("the units are ms, s, m and h".to_owned()));
            }
        };
        let range = Duration::from_millis(MIN)..=Duration::from_millis(MAX);
        match Duration::try_from_secs_f64(number * factor) {
            Ok(duration) if range.contains(&duration) => Ok(Self(duration)),
            _ => Err(Wrong::because("is out of range")),
        }
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": r"^([0-9]+\.?[0-9]*|\.[0-9]+)(ms|s|m|h)$" })
    }
}

impl<const MIN: u64, const MAX: u64> Shown for Lasting<MIN, MAX> {
    fn shown(&self) -> Json {
        written(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)).into()
    }
}

/// Milliseconds in the notation of the file.
fn written(ms: u64) -> String {
    match ms {
        0 => "0s".to_owned(),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        _ => format!("{ms}ms"),
    }
}

/// So many seconds.
pub const fn seconds<const MIN: u64, const MAX: u64>(seconds: u64) -> Lasting<MIN, MAX> {
    Lasting(Duration::from_secs(seconds))
}

/// So many milliseconds.
pub const fn millis<const MIN: u64, const MAX: u64>(millis: u64) -> Lasting<MIN, MAX> {
    Lasting(Duration::from_millis(millis))
}

/// A duration in the notation of the file, from `MS_MIN` to `MS_MAX` milliseconds: for whoever else takes durations
/// from people.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn duration<const MS_MIN: u64, const MS_MAX: u64>(text: &str) -> Result<Duration, String> {
    let parsed = <Lasting<MS_MIN, MS_MAX> as Scalar>::parse(text);
    let expected = <Lasting<MS_MIN, MS_MAX> as Scalar>::expected();
    parsed
        .map(|lasting| lasting.0)
        .map_err(|wrong| wrong.sentence(text, &expected))
}

/// A share above 0, up to all. None of it never makes sense where the format asks for one.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Part(pub f64);

impl Scalar for Part {
    fn expected() -> String {
        "a share above 0% up to 100%, as 5% or 0.05".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        fraction(text).map(Self)
    }

    fn schema() -> Json {
        fraction_schema()
    }
}

impl Shown for Part {
    fn shown(&self) -> Json {
        // Twelve digits: what binary fractions add behind them (0.07 * 100 = 7.0000..01) is not meant.
        format!("{}%", (self.0 * 1e12).round() / 1e10).into()
    }
}

/// A risk above 0.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Level(pub f64);

impl Scalar for Level {
    fn expected() -> String {
        "a risk above 0 up to 1, as 0.35 or 35%".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        fraction(text).map(Self)
    }

    fn schema() -> Json {
        fraction_schema()
    }
}

impl Shown for Level {
    fn shown(&self) -> Json {
        self.0.into()
    }
}

fn fraction(text: &str) -> Result<f64, Wrong> {
    let percent = text.strip_suffix('%').map(str::trim_end);
    let number: f64 = percent.unwrap_or(text).parse().map_err(|_| Wrong::default())?;
    let value = if percent.is_some() { number / 100.0 } else { number };
    if value > 0.0 && value <= 1.0 {
        return Ok(value);
    }
    let meant = percent.is_none() && (1.0..=100.0).contains(&value);
    Err(Wrong::because("is out of range").hint(meant.then(|| format!("write {value}%"))))
}

fn fraction_schema() -> Json {
    json!({
        "type": ["number", "string"],
        "exclusiveMinimum": 0,
        "maximum": 1,
        "pattern": r"^([0-9]+\.?[0-9]*|\.[0-9]+) *%$",
    })
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug)]
pub struct Count<const MIN: u32, const MAX: u32>(pub u32);

impl<const MIN: u32, const MAX: u32> Scalar for Count<MIN, MAX> {
    fn expected() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Wrong::default());
        }
        match text.parse() {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(Wrong::because("is out of range")),
        }
    }

    fn schema() -> Json {
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

impl<const MIN: u32, const MAX: u32> Shown for Count<MIN, MAX> {
    fn shown(&self) -> Json {
        self.0.into()
    }
}

/// A relative weight.
#[derive(Clone, Copy, Debug)]
pub struct Weight(pub f64);

impl Weight {
    const MAX: f64 = 1000.0;
}

impl Scalar for Weight {
    fn expected() -> String {
        format!("a number above 0, at most {}", Self::MAX)
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let number: f64 = text.parse().map_err(|_| Wrong::default())?;
        if number > 0.0 && number <= Self::MAX {
            return Ok(Self(number));
        }
        let drained = (number == 0.0).then(|| "leave it out if it is to get no traffic".to_owned());
        Err(Wrong::because("is out of range").hint(drained))
    }

    fn schema() -> Json {
        json!({ "type": "number", "exclusiveMinimum": 0, "maximum": Self::MAX })
    }
}

impl Shown for Weight {
    fn shown(&self) -> Json {
        self.0.into()
    }
}

/// Requests per second.
#[derive(Clone, Copy, Debug)]
pub struct Rate(pub f64);

impl Rate {
    /// More than any endpoint serves.
    const MAX: f64 = 1e9;
}

impl Scalar for Rate {
    fn expected() -> String {
        "requests per second above 0, as 500rps or 500".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let number = text.strip_suffix("rps").map_or(text, str::trim_end);
        let digits = number
            .find(|c: char| !c.is_ascii_digit() && !"+-.".contains(c))
            .unwrap_or(number.len());
        let (number, unit) = number.split_at(digits);
        let number: f64 = number.parse().map_err(|_| Wrong::default())?;
        if !unit.is_empty() {
            let fault = format!("has the unknown unit {:?}", unit.trim());
            return Err(Wrong::because(fault).hint(format!("write {number}rps")));
        }
        if number > 0.0 && number <= Self::MAX {
            return Ok(Self(number));
        }
        Err(Wrong::because("is out of range"))
    }

    fn schema() -> Json {
        json!({ "type": ["number", "string"], "exclusiveMinimum": 0, "pattern": r"^[0-9]*\.?[0-9]+ *(rps)?$" })
    }
}

/// Yes or no.
impl Scalar for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            "yes" | "on" | "True" | "TRUE" => Err(Wrong::default().hint("write true".to_owned())),
            "no" | "off" | "False" | "FALSE" => Err(Wrong::default().hint("write false".to_owned())),
            _ => Err(Wrong::default()),
        }
    }

    fn schema() -> Json {
        json!({ "type": "boolean" })
    }
}

impl Shown for bool {
    fn shown(&self) -> Json {
        (*self).into()
    }
}

impl Scalar for Name {
    fn expected() -> String {
        "a name of letters, digits, '.', '_' and '-'".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        text.parse().map_err(|error| match error {
            NameError::Empty => Wrong::because("is empty"),
            NameError::TooLong(length) => Wrong::because(format!("has {length} characters")),
            NameError::Character(c) => Wrong::because(format!("has {c:?} where no name has it")),
        })
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$" })
    }
}

/// The name of something that stands elsewhere in the file. What no name could be is simply not found there.
#[derive(Clone, Debug)]
pub struct Reference(pub String);

impl Scalar for Reference {
    fn expected() -> String {
        "a name in this file".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

/// One word out of several, each with its meaning.
pub trait Choice: Copy + 'static {
    /// The words.
    const ALL: &'static [(&'static str, Self)];
    /// Words that will mean something one day.
    const PLANNED: &'static [&'static str] = &[];
}

impl<T: Choice> Scalar for T {
    fn expected() -> String {
        let words: Vec<_> = T::ALL.iter().map(|(word, _)| *word).collect();
        match words.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        if let Some((_, value)) = T::ALL.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        if T::PLANNED.contains(&text) {
            return Err(Wrong::because("is not supported yet"));
        }
        let meant = nearest(text, T::ALL.iter().map(|(word, _)| *word));
        Err(Wrong::default().hint(meant.map(|word| format!("did you mean {word:?}?"))))
    }

    fn schema() -> Json {
        let words: Vec<_> = T::ALL.iter().map(|(word, _)| *word).collect();
        json!({ "enum": words })
    }
}

/// The word for a choice.
pub fn word<T: Choice + PartialEq>(choice: T) -> &'static str {
    T::ALL
        .iter()
        .find(|(_, value)| *value == choice)
        .map_or("", |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    type AnyTime = Lasting<0, 3_600_000>;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (text, ms) in [
            ("250ms", 250),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0s", 0),
        ] {
            assert_eq!(AnyTime::parse(text).unwrap().0, Duration::from_millis(ms));
        }
        for text in [
            "", "ms", "5", "5 s", "-5s", "1m30s", "5sec", "NaNs", "infs", "1e3s", "2h", "1.2.3s",
        ] {
            assert!(AnyTime::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_is_a_percentage_or_a_fraction() {
        for (text, value) in [
            ("5%", 0.05),
            ("5 %", 0.05),
            ("0.05", 0.05),
            ("100%", 1.0),
            ("1", 1.0),
        ] {
            assert!((Part::parse(text).unwrap().0 - value).abs() < 1e-12);
        }
        for text in ["", "%", "101%", "5", "-1%", "NaN", "inf%", "0", "0%", "five"] {
            assert!(Part::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_default_is_shown_in_the_notation_that_is_read() {
        assert_eq!(Part(0.35).shown(), "35%");
        assert_eq!(Part(0.005).shown(), "0.5%");
        for ms in [0, 1, 250, 1000, 90_000, 3_600_000] {
            let text = AnyTime::shown(&Lasting(Duration::from_millis(ms)));
            assert_eq!(
                AnyTime::parse(text.as_str().unwrap()).unwrap().0,
                Duration::from_millis(ms)
            );
        }
    }

    #[test]
    fn a_rate_is_above_zero() {
        assert!((Rate::parse("500rps").unwrap().0 - 500.0).abs() < 1e-9);
        assert!((Rate::parse("0.5").unwrap().0 - 0.5).abs() < 1e-9);
        for text in ["0", "-1rps", "rps", "NaN", "inf", "5rpm", "1e99"] {
            assert!(Rate::parse(text).is_err(), "{text}");
        }
    }
}
