//! Numbers as people read them: three digits that count, the unit that keeps the number short, a true minus sign.

use crate::report::spread::Spread;

/// Between a number and its unit, where a line must not break.
const GLUE: char = '\u{a0}';

/// Three digits that count, thousands apart.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1e15 || (size > 0.0 && size < 1e-4) {
        return format!("{value:.2e}");
    }
    let decimals = match size {
        size if size < 0.1 => 4,
        size if size < 0.995 => 3,
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{size:.decimals$}");
    let text = match text.split_once('.') {
        Some((whole, part)) => match part.trim_end_matches('0') {
            "" => whole.to_owned(),
            part => format!("{whole}.{part}"),
        },
        None => thousands(&text),
    };
    if value < 0.0 && text != "0" {
        format!("\u{2212}{text}")
    } else {
        text
    }
}

fn thousands(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with its sign, for differences.
pub(crate) fn signed(value: f64) -> String {
    let text = number(value);
    if value > 0.0 && text != "0" {
        format!("+{text}")
    } else {
        text
    }
}

/// Milliseconds, as microseconds or seconds where that is shorter.
pub(crate) fn milliseconds(ms: f64) -> String {
    match ms.abs() {
        size if size >= 999.5 => format!("{}{GLUE}s", number(ms / 1e3)),
        size if size < 0.1 && size > 0.0 => format!("{}{GLUE}µs", number(ms * 1e3)),
        _ => format!("{}{GLUE}ms", number(ms)),
    }
}

/// Seconds, as milliseconds or minutes where that is shorter.
pub(crate) fn seconds(s: f64) -> String {
    match s.abs() {
        size if size >= 7_200.0 => format!("{}{GLUE}h", number(s / 3_600.0)),
        size if size >= 600.0 => format!("{}{GLUE}min", number(s / 60.0)),
        size if size >= 1.0 || size <= 0.0 => format!("{}{GLUE}s", number(s)),
        _ => milliseconds(s * 1e3),
    }
}

/// A part of one, in percent, to a tenth of a percent.
pub(crate) fn percent(part: f64) -> String {
    let rounded = (part * 1e3).round() / 10.0;
    // Whatever is not all of it must not be called all of it, and what is not nothing must not be called nothing.
    let rounded = match part {
        part if part < 1.0 && rounded >= 100.0 => 99.9,
        part if part > 0.0 && rounded < 0.1 => return format!("{}{GLUE}%", number(part * 100.0)),
        _ => rounded,
    };
    format!("{}{GLUE}%", number(rounded))
}

/// A part of one in whole percent, for sentences; near all and near nothing a tenth makes the difference.
pub(crate) fn about(part: f64) -> String {
    if part.abs() < 0.02 || (part - 1.0).abs() < 0.02 {
        percent(part)
    } else {
        percent((part * 100.0).round() / 100.0)
    }
}

/// A percentile on the axis of a latency curve.
pub(crate) fn percentile(percentile: f64) -> String {
    match percentile {
        percentile if percentile < 100.0 => format!("{percentile}"),
        _ => "max".to_owned(),
    }
}

/// How many times as much, to a hundredth: ratios are compared with one another, and with 1.
pub(crate) fn times(ratio: f64) -> String {
    match ratio.abs() {
        size if size < 10.0 => format!("{ratio:.2}{GLUE}×"),
        _ => format!("{}{GLUE}×", number(ratio)),
    }
}

/// Bytes, in powers of 1024.
pub(crate) fn bytes(count: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = count;
    let mut units = units.into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if scaled.abs() < 1024.0 {
            break;
        }
        (scaled, unit) = (scaled / 1024.0, larger);
    }
    format!("{}{GLUE}{unit}", number(scaled))
}

/// Middle and ends of several runs; the middle alone where there was one run, or all came to the same.
pub(crate) fn spread(spread: Spread, write: impl Fn(f64) -> String) -> (String, Option<String>) {
    let (low, high) = (write(spread.low), write(spread.high));
    let ends = (spread.runs > 1 && low != high).then(|| format!("{low} to {high}"));
    (write(spread.median), ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        let written: Vec<String> = [
            0.0,
            0.00123,
            0.1234,
            0.9999,
            1.0,
            1.235,
            12.34,
            123.4,
            1234.5,
            9_876_543.0,
            -0.5,
            -0.000_000_1,
        ]
        .into_iter()
        .map(number)
        .collect();
        assert_eq!(
            written.join(" "),
            "0 0.0012 0.123 1 1 1.24 12.3 123 1,234 9,876,543 −0.5 -1.00e-7"
        );
        assert_eq!(
            (signed(0.5), signed(-0.5), signed(0.0)),
            ("+0.5".into(), "−0.5".into(), "0".into())
        );
    }

    #[test]
    fn units_keep_numbers_short() {
        let plain = |text: String| text.replace(GLUE, " ");
        let written = [0.02, 0.5, 16.04, 250.0, 999.7, 12_345.0].map(|ms| plain(milliseconds(ms)));
        assert_eq!(written, ["20 µs", "0.5 ms", "16 ms", "250 ms", "1 s", "12.3 s"]);
        let written = [0.0, 0.015, 2.5, 90.0, 900.0, 86_400.0].map(|s| plain(seconds(s)));
        assert_eq!(written, ["0 s", "15 ms", "2.5 s", "90 s", "15 min", "24 h"]);
        let written = [64.0, 1_536.0, 1_048_576.0].map(|count| plain(bytes(count)));
        assert_eq!(written, ["64 B", "1.5 KiB", "1 MiB"]);
    }

    #[test]
    fn a_percentage_is_not_rounded_to_all_or_nothing() {
        let plain = |part| percent(part).replace(GLUE, " ");
        assert_eq!(
            [1.0, 0.999_9, 0.5, 0.0].map(plain),
            ["100 %", "99.9 %", "50 %", "0 %"]
        );
        assert_eq!([0.000_1, -0.25].map(plain), ["0.01 %", "−25 %"]);
    }

    #[test]
    fn a_spread_is_written_where_there_is_one() {
        let of = |values: &[f64]| spread(Spread::of(values.iter().copied()).unwrap(), number);
        assert_eq!(of(&[1.0, 2.0, 3.0]), ("2".into(), Some("1 to 3".into())));
        assert_eq!(of(&[2.0]), ("2".into(), None));
        assert_eq!(of(&[2.0, 2.0]), ("2".into(), None));
    }
}
