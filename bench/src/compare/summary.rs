//! From values of rounds to a table: medians, their spread, and ratios to nginx.
//!
//! A ratio is taken within each round, between two measurements that were made one right after the other, and only
//! then is the median taken: a machine's speed drifts more from minute to minute than contenders differ. Where nginx
//! did not take part, the first contender of the case is what others are held against.

use std::fmt::Write;

use super::case::{Size, protocol_name};
use crate::results::{CompareRow, Measure};
use crate::rivals::Contender;

/// Median of some numbers, and the smallest and largest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// In the middle.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

/// Zeros where there are no numbers.
pub fn spread(values: impl IntoIterator<Item = f64>) -> Spread {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    Spread {
        median: f64::midpoint(at(values.len().saturating_sub(1) / 2), at(values.len() / 2)),
        least: at(0),
        most: at(values.len().saturating_sub(1)),
    }
}

/// The ratios of two contenders round by round; none where the other one is not above zero.
pub fn ratios(values: &[f64], to: &[f64]) -> Option<Spread> {
    let pairs: Vec<_> = values.iter().zip(to).collect();
    let comparable = !pairs.is_empty() && pairs.iter().all(|(_, to)| **to > 0.0);
    comparable.then(|| spread(pairs.into_iter().map(|(value, to)| value / to)))
}

/// What is measured, with its unit.
fn title(measure: Measure) -> &'static str {
    match measure {
        Measure::CpuPerRequestUs => "CPU time per request, us",
        Measure::RequestsPerSecond => "requests per second",
        Measure::AddedP50Us => "added latency, median, us",
        Measure::AddedP99Us => "added latency, 99th percentile, us",
        Measure::IdleConnectionBytes => "memory per idle connection, KiB",
        Measure::ConnectionsPerSecond => "new connections per second",
        Measure::BytesPerSecond => "bytes of bodies per second, MB",
    }
}

/// What values are divided by, so that people can read them.
fn scale(measure: Measure) -> f64 {
    match measure {
        Measure::IdleConnectionBytes => 1024.0,
        Measure::BytesPerSecond => 1e6,
        _ => 1.0,
    }
}

/// Whether the same was asked, by whomever.
fn is_same_work(one: &CompareRow, other: &CompareRow) -> bool {
    (one.protocol, one.body_bytes, one.posted_bytes) == (other.protocol, other.body_bytes, other.posted_bytes)
}

/// Its protocol and bodies.
fn work(row: &CompareRow) -> String {
    let body = row.body_bytes.map(|bytes| format!(", {}", Size(bytes)));
    let posted = row.posted_bytes.map(|bytes| format!(", POST of {}", Size(bytes)));
    let parts = [body, posted].map(Option::unwrap_or_default);
    format!("{}{}", protocol_name(row.protocol), parts.concat())
}

fn is_same_case(one: &CompareRow, other: &CompareRow) -> bool {
    (one.measure, &one.driver) == (other.measure, &other.driver) && is_same_work(one, other)
}

/// The table, one block for each measure of each case.
pub fn table(rows: &[CompareRow]) -> String {
    let mut text = String::new();
    let mut titled: Option<&CompareRow> = None;
    // Writing to a string cannot fail.
    for row in rows {
        if titled.is_none_or(|last| !is_same_case(last, row)) {
            let driver = if row.driver == "foreshade-bench" {
                String::new()
            } else {
                format!(", by {}", row.driver)
            };
            let what = format!("{}, {}{driver}", title(row.measure), work(row));
            let _ = writeln!(
                text,
                "\n{what:<58} {:>9} {:>21}   {}",
                "median",
                "spread",
                yardstick(rows, row)
            );
            titled = Some(row);
        }
        let _ = writeln!(text, "{}", line(rows, row));
    }
    text
}

/// Who the others of a case are held against.
fn reference<'a>(rows: &'a [CompareRow], of: &CompareRow) -> Option<&'a CompareRow> {
    let mut case = rows.iter().filter(|row| is_same_case(row, of));
    let nginx = case.clone().find(|row| row.contender == Contender::Nginx.name());
    nginx.or_else(|| case.next())
}

fn yardstick(rows: &[CompareRow], of: &CompareRow) -> String {
    reference(rows, of).map_or_else(String::new, |row| format!("ratio to {}", row.contender))
}

fn line(rows: &[CompareRow], row: &CompareRow) -> String {
    let scale = scale(row.measure);
    let Spread { median, least, most } = spread(row.rounds.iter().map(|value| value / scale));
    let digits = if most < 100.0 { 1 } else { 0 };
    let at_least = if row.at_least { ">=" } else { "" };
    let shown = format!("{at_least}{median:.digits$}");
    let range = format!("{least:.digits$} to {most:.digits$}");
    let ratio = reference(rows, row).and_then(|to| ratios(&row.rounds, &to.rounds));
    // What was added to nothing has no ratio worth reading.
    let ratio = ratio.map_or_else(
        || "-".to_owned(),
        |ratio| format!("{:.2}  ({:.2} to {:.2})", ratio.median, ratio.least, ratio.most),
    );
    format!("  {:<56} {shown:>9} {range:>21}   {ratio}", row.contender)
}

/// How far two drivers agree about each contender: lines for whoever reads the table.
pub fn agreement(rows: &[CompareRow]) -> Vec<String> {
    // Bytes are requests by another unit.
    let ours = |row: &&CompareRow| row.driver == "foreshade-bench" && row.measure != Measure::BytesPerSecond;
    let other = |own: &CompareRow| {
        rows.iter().find(|row| {
            row.driver != own.driver
                && row.contender == own.contender
                && row.measure == own.measure
                && is_same_work(row, own)
        })
    };
    let compared = rows
        .iter()
        .filter(ours)
        .filter_map(|own| Some((own, other(own)?)));
    let words = |(own, other): (&CompareRow, &CompareRow)| {
        let ratio = ratios(&other.rounds, &own.rounds)?;
        Some(format!(
            "{}, {}, {}: {} says {:.2} times what foreshade-bench says ({:.2} to {:.2})",
            title(own.measure),
            work(own),
            own.contender,
            other.driver,
            ratio.median,
            ratio.least,
            ratio.most
        ))
    };
    compared.filter_map(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Protocol;

    fn row(contender: &str, driver: &str, rounds: &[f64]) -> CompareRow {
        CompareRow {
            measure: Measure::CpuPerRequestUs,
            protocol: Protocol::Http1,
            body_bytes: Some(64),
            posted_bytes: None,
            driver: driver.into(),
            contender: contender.into(),
            rounds: rounds.to_vec(),
            at_least: false,
        }
    }

    #[test]
    fn a_spread_has_the_median_between_its_ends() {
        let of = |values: &[f64]| {
            let Spread { median, least, most } = spread(values.iter().copied());
            (median, least, most)
        };
        assert_eq!(of(&[3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), (2.5, 1.0, 4.0));
        assert_eq!(of(&[]), (0.0, 0.0, 0.0));
    }

    #[test]
    fn a_ratio_is_one_of_rounds_and_not_of_medians() {
        // The machine became twice as slow: the medians' ratio would be 1.
        let ratio = ratios(&[10.0, 20.0, 20.0], &[20.0, 40.0, 10.0]).unwrap();
        assert_eq!((ratio.median, ratio.least, ratio.most), (0.5, 0.5, 2.0));
        assert_eq!(ratios(&[1.0], &[0.0]), None);
        assert_eq!(ratios(&[1.0], &[-3.0]), None);
        assert_eq!(ratios(&[], &[]), None);
    }

    #[test]
    fn a_table_holds_everybody_against_nginx() {
        let mut rows = vec![
            row("foreshade", "foreshade-bench", &[26.0, 24.0, 25.0]),
            row("nginx", "foreshade-bench", &[12.0, 13.0, 12.5]),
        ];
        let mut rps = row("nginx", "foreshade-bench", &[38_000.0]);
        rps.measure = Measure::RequestsPerSecond;
        rps.at_least = true;
        rows.push(rps);
        insta::assert_snapshot!(table(&rows));
    }

    #[test]
    fn two_drivers_agree_by_contender() {
        let rows = [
            row("nginx", "foreshade-bench", &[10.0, 20.0]),
            row("nginx", "wrk", &[11.0, 18.0]),
            row("haproxy", "foreshade-bench", &[10.0]),
        ];
        let said = agreement(&rows);
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("nginx: wrk says 1.00 times"), "{said:?}");
    }
}
