//! Some hours of some days, in UTC, by the calendar: when nothing may begin by itself, or when a drill may.
//!
//! In UTC, because a machine's time zone is an accident of its installation, and an hour that exists twice a year, or
//! not at all, must not decide about traffic. A window that ends before it begins goes on into the next day, and
//! belongs to the day on which it begins. Dates by Howard Hinnant's algorithms
//! (<https://howardhinnant.github.io/date_algorithms.html>), which are exact for all days.

use foreshade_settings::{Choice, Json, Scalar, Shown, Wrong, patterned, word};

/// Milliseconds of a day. A day of UTC in Unix time has no other length.
const DAY_MS: u64 = 86_400_000;

/// Days that are looked ahead for the end of a closure: longer than any is, unless it has none.
const AHEAD_DAYS_MAX: u64 = 400;

/// The same in milliseconds.
pub const AHEAD_MS_MAX: u64 = AHEAD_DAYS_MAX * DAY_MS;

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Day {
    /// Monday.
    Monday,
    /// Tuesday.
    Tuesday,
    /// Wednesday.
    Wednesday,
    /// Thursday.
    Thursday,
    /// Friday.
    Friday,
    /// Saturday.
    Saturday,
    /// Sunday.
    Sunday,
}

impl Choice for Day {
    const ALL: &'static [(&'static str, Self)] = &[
        ("mon", Self::Monday),
        ("tue", Self::Tuesday),
        ("wed", Self::Wednesday),
        ("thu", Self::Thursday),
        ("fri", Self::Friday),
        ("sat", Self::Saturday),
        ("sun", Self::Sunday),
    ];
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(word(*self))
    }
}

/// A date of the calendar, as days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(pub u64);

impl Scalar for Date {
    fn expected() -> String {
        "a date from 1970-01-01 to 9999-12-31, as 2026-12-24".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let shape = text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        let mut parts = text
            .split('-')
            .map(|part| part.parse::<u64>().unwrap_or_default());
        let (Some(year), Some(month), Some(day), true) = (parts.next(), parts.next(), parts.next(), shape)
        else {
            return Err(Wrong::default());
        };
        if year < 1970 || !(1..=12).contains(&month) || day < 1 {
            return Err(Wrong::because("is no date"));
        }
        let date = days_of(year, month, day);
        if civil(date) != (year, month, day) {
            return Err(Wrong::because("is a day that the month does not have"));
        }
        Ok(Self(date))
    }

    fn schema() -> Json {
        patterned("^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
    }
}

/// Days since the epoch of a date after it.
fn days_of(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).saturating_sub(719_468)
}

/// Year, month and day of so many days since the epoch.
pub fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// A time of the day in minutes, 24:00 included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Clock(pub u64);

impl Scalar for Clock {
    fn expected() -> String {
        "a time of the day in UTC from 00:00 to 24:00, in quotes".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let digits = |part: &str| {
            (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<u64>().ok())
        };
        let parts = text.split_once(':');
        let (Some(Some(hours)), Some(Some(minutes))) = (
            parts.and_then(|(h, _)| digits(h)),
            parts.and_then(|(_, m)| digits(m)),
        ) else {
            return Err(Wrong::default());
        };
        let total: u64 = hours * 60 + minutes;
        if minutes > 59 || total > 24 * 60 {
            return Err(Wrong::because("is no time of the day"));
        }
        Ok(Self(total))
    }

    fn schema() -> Json {
        patterned("^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$")
    }
}

impl Shown for Clock {
    fn shown(&self) -> Json {
        format!("{:02}:{:02}", self.0 / 60, self.0 % 60).into()
    }
}

/// A closure that returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Days of the week on which it begins; with `dates` empty too, every day.
    pub days: Vec<Day>,
    /// Dates on which it begins.
    pub dates: Vec<Date>,
    /// When on that day it begins.
    pub from: Clock,
    /// When it ends: on the next day where it is not after `from`.
    pub to: Clock,
    /// Why.
    pub reason: Option<String>,
}

impl Window {
    /// When the closure that covers this moment ends, in milliseconds of Unix time; `None` where nothing is closed.
    pub fn closed_until(&self, now_ms: u64) -> Option<u64> {
        let today = now_ms / DAY_MS;
        let since_yesterday = today.saturating_sub(1)..=today;
        since_yesterday
            .filter_map(|day| self.of(day))
            .filter(|(from, to)| (*from..*to).contains(&now_ms))
            .map(|(_, to)| to)
            .max()
    }

    /// The closure that begins on a day.
    fn of(&self, day: u64) -> Option<(u64, u64)> {
        let every_day = self.days.is_empty() && self.dates.is_empty();
        if !every_day && !self.days.contains(&day_of_week(day)) && !self.dates.contains(&Date(day)) {
            return None;
        }
        let from = self.from.0 * 60_000;
        let to = self.to.0 * 60_000 + if self.to <= self.from { DAY_MS } else { 0 };
        Some((day * DAY_MS + from, day * DAY_MS + to))
    }
}

/// Which window closes this moment, and until when it does: of several, the one that does so for longest.
pub fn closing(windows: &[Window], now_ms: u64) -> Option<(&Window, u64)> {
    let ends = windows
        .iter()
        .filter_map(|window| Some((window, window.closed_until(now_ms)?)));
    ends.max_by_key(|(_, until)| *until)
}

/// Which window closes this moment, and until when all of them together do.
pub fn closed(windows: &[Window], now_ms: u64) -> Option<(&Window, u64)> {
    let (window, mut until) = closing(windows, now_ms)?;
    // Where one ends, the next may have begun; a calendar that never opens ends the search.
    while let Some((_, later)) = closing(windows, until).filter(|_| until < now_ms + AHEAD_MS_MAX) {
        until = later;
    }
    Some((window, until))
}

/// Whether this moment lies in one of these windows. Without windows there is nothing to wait for.
pub fn is_open(windows: &[Window], now_ms: u64) -> bool {
    windows.is_empty() || closing(windows, now_ms).is_some()
}

/// The first moment from here on that [is open](is_open); `None` where none is any more.
pub fn opening(windows: &[Window], from_ms: u64) -> Option<u64> {
    if is_open(windows, from_ms) {
        return Some(from_ms);
    }
    let today = from_ms / DAY_MS;
    (today..today + AHEAD_DAYS_MAX).find_map(|day| {
        let begin = windows.iter().filter_map(|window| window.of(day));
        begin.map(|(from, _)| from).filter(|from| *from >= from_ms).min()
    })
}

fn day_of_week(day: u64) -> Day {
    match (day + 3) % 7 {
        0 => Day::Monday,
        1 => Day::Tuesday,
        2 => Day::Wednesday,
        3 => Day::Thursday,
        4 => Day::Friday,
        5 => Day::Saturday,
        _ => Day::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE_MS: u64 = 60_000;

    fn date(text: &str) -> u64 {
        Date::parse(text).unwrap().0
    }

    fn at(text: &str, clock: &str) -> u64 {
        date(text) * DAY_MS + Clock::parse(clock).unwrap().0 * MINUTE_MS
    }

    fn window(days: &[Day], dates: &[&str], from: &str, to: &str) -> Window {
        Window {
            days: days.to_vec(),
            dates: dates.iter().map(|text| Date(date(text))).collect(),
            from: Clock::parse(from).unwrap(),
            to: Clock::parse(to).unwrap(),
            reason: None,
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // date -u -d 2026-11-26 +%s, divided by 86400, and so on.
        for (text, days) in [
            ("1970-01-01", 0),
            ("2000-02-29", 11_016),
            ("2026-11-26", 20_783),
            ("2100-03-01", 47_541),
        ] {
            assert_eq!(date(text), days, "{text}");
        }
        for text in [
            "2026-02-29",
            "2100-02-29",
            "2026-13-01",
            "2026-04-31",
            "1969-12-31",
            "2026-1-1",
            "24.12.2026",
            "",
        ] {
            assert!(Date::parse(text).is_err(), "{text}");
        }
        assert_eq!(day_of_week(date("2026-11-26")), Day::Thursday);
    }

    #[test]
    fn a_time_of_the_day_has_two_digits_twice() {
        for text in ["00:00", "23:59", "24:00"] {
            assert!(Clock::parse(text).is_ok(), "{text}");
        }
        for text in ["24:01", "1:00", "12:60", "12", "-1:00", "12:3a", ""] {
            assert!(Clock::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_window_that_ends_before_it_begins_goes_on_into_the_next_day() {
        let weekend = window(&[Day::Friday], &[], "22:00", "06:00");
        for (day, clock, closed) in [
            ("2026-11-27", "21:59", false),
            ("2026-11-27", "22:00", true),
            ("2026-11-28", "05:59", true),
            ("2026-11-28", "06:00", false),
            ("2026-11-26", "23:00", false),
        ] {
            let until = weekend.closed_until(at(day, clock));
            assert_eq!(until, closed.then(|| at("2026-11-28", "06:00")), "{day} {clock}");
        }
    }

    #[test]
    fn windows_that_follow_each_other_close_as_one() {
        let days = [
            window(&[], &["2026-12-24"], "00:00", "24:00"),
            window(&[], &["2026-12-25"], "00:00", "12:00"),
        ];
        let (_, until) = closed(&days, at("2026-12-24", "10:00")).unwrap();
        assert_eq!(until, at("2026-12-25", "12:00"));
        assert!(closed(&days, at("2026-12-25", "12:00")).is_none());
    }

    #[test]
    fn a_calendar_that_never_opens_is_no_endless_search() {
        let always = [window(&[], &[], "00:00", "24:00")];
        let now = at("2026-11-26", "12:00");
        let (_, until) = closed(&always, now).unwrap();
        assert!(until >= now + AHEAD_DAYS_MAX * DAY_MS);
    }

    proptest! {
        #[test]
        fn a_date_and_its_days_are_each_others(days in 0u64..2_900_000) {
            let (year, month, day) = civil(days);
            prop_assert_eq!(days_of(year, month, day), days);
            prop_assert_eq!(civil(days + 1) > (year, month, day), true);
        }

        #[test]
        fn a_closure_covers_the_moment_and_ends_after_it(
            day in 20_000u64..21_000, minute in 0u64..1440, from in 0u64..1440, to in 0u64..=1440,
        ) {
            let window = Window { days: vec![], dates: vec![], from: Clock(from), to: Clock(to), reason: None };
            let now = day * DAY_MS + minute * MINUTE_MS;
            let inside = if from < to { (from..to).contains(&minute) } else { minute >= from || minute < to };
            prop_assert_eq!(window.closed_until(now).is_some(), inside);
            prop_assert!(window.closed_until(now).is_none_or(|until| until > now && until <= now + DAY_MS));
        }
    }
}
