//! The time of day in a line: UTC, read once per line, and taken apart once per second.
//!
//! A line carries the time at which its request began, but is written when it has ended: so requests that took long stand
//! behind shorter ones that began later. The calendar is Howard Hinnant's `civil_from_days`
//! (<https://howardhinnant.github.io/date_algorithms.html>): proleptic Gregorian, no leap seconds, as Unix counts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment, written both ways.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamped {
    /// RFC 3339: `2026-11-20T14:15:31`, without fraction and zone.
    pub(super) rfc3339: [u8; 19],
    /// The combined format's: `20/Nov/2026:14:15:31 +0000`.
    pub(super) combined: [u8; 26],
    /// Milliseconds of the second.
    pub(super) ms: u16,
}

/// Remembers the last second, which most lines share with the line before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stamp {
    last: Option<(u64, Stamped)>,
}

impl Stamp {
    /// The moment that lies so far back.
    pub(super) fn before_now(&mut self, back: Duration) -> Stamped {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.at(now.saturating_sub(back))
    }

    fn at(&mut self, since_1970: Duration) -> Stamped {
        let second = since_1970.as_secs();
        let ms = u16::try_from(since_1970.subsec_millis()).unwrap_or_default();
        match self.last {
            Some((last, stamped)) if last == second => Stamped { ms, ..stamped },
            _ => {
                let stamped = written(second, ms);
                self.last = Some((second, stamped));
                stamped
            }
        }
    }
}

fn written(second: u64, ms: u16) -> Stamped {
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let (year, month, day) = civil(second / 86_400);
    let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
    let mut stamped = Stamped {
        rfc3339: *b"0000-00-00T00:00:00",
        combined: *b"00/Jan/0000:00:00:00 +0000",
        ms,
    };
    for (at, value) in [
        (0, year / 100),
        (2, year % 100),
        (5, month),
        (8, day),
        (11, hour),
        (14, minute),
        (17, second),
    ] {
        two_digits(&mut stamped.rfc3339, at, value);
    }
    for (at, value) in [
        (0, day),
        (7, year / 100),
        (9, year % 100),
        (12, hour),
        (15, minute),
        (18, second),
    ] {
        two_digits(&mut stamped.combined, at, value);
    }
    let names = MONTHS
        .chunks_exact(3)
        .nth(usize::try_from(month - 1).unwrap_or_default());
    for (place, letter) in stamped.combined.iter_mut().skip(3).zip(names.unwrap_or_default()) {
        *place = *letter;
    }
    stamped
}

fn two_digits(text: &mut [u8], at: usize, value: u64) {
    let digits = [value / 10 % 10, value % 10];
    for (place, digit) in text.iter_mut().skip(at).zip(digits) {
        *place = b'0' + u8::try_from(digit).unwrap_or_default();
    }
}

/// Year, month (1 to 12) and day (1 to 31) of a day since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_written_both_ways() {
        // date -u -d @N
        for (second, rfc3339, combined) in [
            (0, "1970-01-01T00:00:00", "01/Jan/1970:00:00:00 +0000"),
            (951_782_400, "2000-02-29T00:00:00", "29/Feb/2000:00:00:00 +0000"),
            (1_709_251_199, "2024-02-29T23:59:59", "29/Feb/2024:23:59:59 +0000"),
            (1_795_184_131, "2026-11-20T14:15:31", "20/Nov/2026:14:15:31 +0000"),
            (4_107_542_399, "2100-02-28T23:59:59", "28/Feb/2100:23:59:59 +0000"),
            (4_107_542_400, "2100-03-01T00:00:00", "01/Mar/2100:00:00:00 +0000"),
        ] {
            let stamped = written(second, 0);
            assert_eq!(std::str::from_utf8(&stamped.rfc3339).unwrap(), rfc3339);
            assert_eq!(std::str::from_utf8(&stamped.combined).unwrap(), combined);
        }
    }

    #[test]
    fn a_remembered_second_tells_its_own_milliseconds() {
        let mut stamp = Stamp::default();
        let at = |stamp: &mut Stamp, ms| stamp.at(Duration::from_millis(ms));
        let (first, second, back) = (at(&mut stamp, 1001), at(&mut stamp, 1999), at(&mut stamp, 7));
        assert_eq!((first.ms, second.ms, back.ms), (1, 999, 7));
        assert_eq!(first.rfc3339, second.rfc3339);
        assert_ne!(first.rfc3339, back.rfc3339);
    }

    #[test]
    fn days_follow_each_other_for_three_centuries() {
        let mut before = civil(0);
        for day in 1..110_000 {
            let (year, month, date) = civil(day);
            let next = match before {
                (y, m, d) if (year, month) == (y, m) => date == d + 1,
                (y, m, d) => date == 1 && d >= 28 && (year, month) == (y + m / 12, m % 12 + 1),
            };
            assert!(next, "{before:?} then {:?}", civil(day));
            before = (year, month, date);
        }
    }
}
