//! What serving costs: each measure as a ratio to one contender whom everybody knows, with its spread over the rounds.
//!
//! In one round all contenders were measured in turn, so ratios are taken round by round: what slows the machine for a
//! while slows both sides of a ratio. Added latency is a difference already and may be nothing, so it stays in its unit.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::report::axis::Axis;
use crate::report::lanes::{Lane, Lanes, Row};
use crate::report::look::{BARE, Cast, FORESHADE, Who};
use crate::report::numbers::{bytes, milliseconds, number, spread, times};
use crate::report::page::{legend, scrolling};
use crate::report::spread::Spread;
use crate::results::{CompareResults, CompareRow, Measure, Protocol};

/// Whom the others are compared with: the first of these who took part.
const REFERENCES: [&str; 4] = ["nginx", "haproxy", "envoy", BARE];

/// Beyond these factors a ratio gets an arrow.
const RATIO_MOST: f64 = 100.0;

/// The driver that needs no mention.
const DRIVER: &str = "foreshade-bench";

/// What was measured on what: everything about a row but who and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case<'a> {
    pub(crate) measure: Measure,
    is_checked: bool,
    protocol: Protocol,
    body_bytes: Option<u64>,
    posted_bytes: Option<u64>,
    driver: &'a str,
}

impl<'a> Case<'a> {
    fn of(row: &'a CompareRow) -> Self {
        Self {
            measure: row.measure,
            // Cross-checks by other drivers stand below our own figures.
            is_checked: row.driver != DRIVER,
            protocol: row.protocol,
            body_bytes: row.body_bytes,
            posted_bytes: row.posted_bytes,
            driver: &row.driver,
        }
    }

    fn label(&self) -> String {
        let protocol = match self.protocol {
            Protocol::Http1 => "HTTP/1.1",
            Protocol::Https1 => "HTTP/1.1, TLS",
            Protocol::H2c => "HTTP/2",
            Protocol::H2 => "HTTP/2, TLS",
            Protocol::Tcp => "TCP",
        };
        let body = self.body_bytes.map(|count| format!(", {}", bytes(count as f64)));
        let posted = self
            .posted_bytes
            .map(|count| format!(", POST of {}", bytes(count as f64)));
        let driver = self.is_checked.then(|| format!(", by {}", self.driver));
        format!(
            "{protocol}{}{}{}",
            body.unwrap_or_default(),
            posted.unwrap_or_default(),
            driver.unwrap_or_default()
        )
    }
}

/// Rows of the same case belong together.
pub(crate) fn cases(results: &CompareResults) -> BTreeMap<Case<'_>, Vec<&CompareRow>> {
    let mut cases: BTreeMap<Case<'_>, Vec<&CompareRow>> = BTreeMap::new();
    for row in results.rows.iter().filter(|row| !row.rounds.is_empty()) {
        cases.entry(Case::of(row)).or_default().push(row);
    }
    cases
}

/// What a measure is called, how it is written, and which way is better.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) text: fn(f64) -> String,
    pub(crate) less_is_better: bool,
    /// Drawn as it is, and not as a ratio.
    is_difference: bool,
}

pub(crate) fn kind(measure: Measure) -> Kind {
    let (name, text, less_is_better): (_, fn(f64) -> String, _) = match measure {
        Measure::CpuPerRequestUs => ("CPU time per request", microseconds, true),
        Measure::RequestsPerSecond => ("Requests per second, flat out", number, false),
        Measure::AddedP50Us => ("Added latency, median", microseconds, true),
        Measure::AddedP99Us => ("Added latency, 99th percentile", microseconds, true),
        Measure::IdleConnectionBytes => ("Memory per idle connection", bytes, true),
        Measure::ConnectionsPerSecond => ("New connections per second", number, false),
        Measure::BytesPerSecond => ("Bytes of bodies per second", bytes, false),
    };
    Kind {
        name,
        text,
        less_is_better,
        is_difference: matches!(measure, Measure::AddedP50Us | Measure::AddedP99Us),
    }
}

fn microseconds(us: f64) -> String {
    if us.abs() < 1e3 {
        format!("{}\u{a0}µs", number(us))
    } else {
        milliseconds(us / 1e3)
    }
}

/// The contender with whom the others of a file are compared.
pub(crate) fn reference(results: &CompareResults) -> Option<&'static str> {
    let took_part = |name: &&str| results.rows.iter().any(|row| row.contender == **name);
    REFERENCES.into_iter().find(took_part)
}

/// One contender's measure as a multiple of another's, round by round.
pub(crate) fn ratio(row: &CompareRow, reference: &CompareRow) -> Option<Spread> {
    let rounds = row.rounds.iter().zip(&reference.rounds);
    Spread::of(
        rounds
            .filter(|(_, theirs)| **theirs > 0.0)
            .map(|(ours, theirs)| ours / theirs),
    )
}

/// Everything about one file.
pub(crate) fn section(results: &CompareResults, cast: &Cast) -> Markup {
    let cases = cases(results);
    let reference = reference(results);
    let mut measures: Vec<Measure> = cases.keys().map(|case| case.measure).collect();
    measures.dedup();
    let mut names: Vec<&str> = Vec::new();
    for row in &results.rows {
        if !names.contains(&row.contender.as_str()) {
            names.push(&row.contender);
        }
    }
    names.sort_by_key(|name| cast.rank(Who::tuned(name)));
    let shown: Vec<(String, usize)> = names
        .iter()
        .map(|name| (Who::tuned(name).label(), cast.look(name)))
        .collect();
    html! {
        section {
            h2 { "What serving costs" }
            @if cases.is_empty() { p { "Nothing was measured to its end." } } @else {
                p {
                    @if let Some(reference) = reference {
                        "Ratios are to " (Who::tuned(reference).label()) ", taken round by round: in one round everybody was "
                        "measured in turn. "
                    }
                    "Each bar ends at the median of the rounds; the line across its end goes from the 10th to the 90th "
                    "percentile of them, which below ten rounds is from the least to the greatest."
                    @if results.rows.iter().any(|row| row.at_least) {
                        " A hollow marker without a bar is a bound: somebody was not busy all the time and could have done "
                        "more; such a figure is not judged."
                    }
                }
                (legend(&shown))
                div.measures { @for measure in measures { (chart(measure, &cases, reference, cast)) } }
                details.keep { summary { "Numbers behind these bars" } (table(&cases, &names, reference)) }
            }
        }
    }
}

fn chart(
    measure: Measure,
    cases: &BTreeMap<Case<'_>, Vec<&CompareRow>>,
    reference: Option<&str>,
    cast: &Cast,
) -> Markup {
    let kind = kind(measure);
    // Where nobody is there to be compared with, the values stand for themselves.
    let reference = reference.filter(|_| !kind.is_difference);
    let row = |(case, rows): (&Case<'_>, &Vec<&CompareRow>)| {
        let base = rows.iter().find(|row| Some(row.contender.as_str()) == reference);
        let mut rows = rows.clone();
        rows.sort_by_key(|row| cast.rank(Who::tuned(&row.contender)));
        let lanes = rows
            .into_iter()
            .filter(|row| Some(row.contender.as_str()) != reference)
            .map(|row| {
                let (measured, is_bound) = match reference {
                    Some(_) => (
                        base.and_then(|base| ratio(row, base)),
                        row.at_least || base.is_some_and(|base| base.at_least),
                    ),
                    None => (Spread::of(row.rounds.iter().copied()), row.at_least),
                };
                Lane {
                    name: Who::tuned(&row.contender).label(),
                    look: cast.look(&row.contender),
                    spread: measured.filter(|_| !is_bound),
                    hollow: measured.filter(|_| is_bound),
                }
            });
        Row {
            name: html! { (case.label()) },
            words: case.label(),
            lanes: lanes.collect(),
        }
    };
    let rows: Vec<Row> = cases
        .iter()
        .filter(|(case, _)| case.measure == measure)
        .map(row)
        .filter(|row| row.lanes.iter().any(|lane| lane.spread.or(lane.hollow).is_some()))
        .collect();
    if rows.is_empty() {
        return html! {};
    }
    let spreads = rows
        .iter()
        .flat_map(|row| &row.lanes)
        .filter_map(|lane| lane.spread.or(lane.hollow));
    let ends = spreads.flat_map(|spread| [spread.low, spread.high]);
    let better = if kind.less_is_better {
        "less is better"
    } else {
        "more is better"
    };
    let (axis, base, text): (_, _, fn(f64) -> String) = match reference {
        // Room on both sides, so that nobody mistakes a small difference for a large one.
        Some(_) => {
            let ends = ends.map(|end| end.clamp(1.0 / RATIO_MOST, RATIO_MOST));
            (Axis::log(ends.chain([0.5, 2.0])), 1.0, times)
        }
        None => (Axis::linear(ends.chain([0.0])), 0.0, kind.text),
    };
    let lanes = Lanes {
        title: html! {
            strong { (kind.name) }
            @if let Some(reference) = reference { ", as a multiple of " (Who::tuned(reference).label()) "'s" }
            span.better { " · " (better) }
        },
        row_name: "",
        axis,
        base,
        text,
        rows,
    };
    lanes.draw()
}

fn table(cases: &BTreeMap<Case<'_>, Vec<&CompareRow>>, names: &[&str], reference: Option<&str>) -> Markup {
    let cell = |case: &Case<'_>, rows: &[&CompareRow], name: &str| {
        let kind = kind(case.measure);
        let find = |name: &str| rows.iter().find(|row| row.contender == name);
        let row = find(name);
        let value = row.and_then(|row| Spread::of(row.rounds.iter().copied()));
        let base = reference.filter(|reference| *reference != name && !kind.is_difference);
        let ratio = row
            .zip(base.and_then(find))
            .and_then(|(row, base)| ratio(row, base));
        html! { td {
            @if let Some(value) = value {
                @let (median, ends) = spread(value, kind.text);
                @if row.is_some_and(|row| row.at_least) { "≥ " }
                (median)
                @if let Some(ends) = ends { small { (ends) } }
                @if let Some(ratio) = ratio { small.ratio { (times(ratio.median)) } }
            } @else { span.absent { "–" } }
        } }
    };
    scrolling(&html! {
        table.figures {
            thead { tr {
                th scope="col" { "measure and case" }
                @for name in names { th scope="col" { (Who::tuned(name).label()) } }
            } }
            tbody { @for (case, rows) in cases { tr {
                th scope="row" { (kind(case.measure).name) small { (case.label()) } }
                @for name in names { (cell(case, rows, name)) }
            } } }
        }
    })
}

/// Foreshade's cost against another's, over all cases of a measure.
pub(crate) struct Cost<'a> {
    pub(crate) measure: Measure,
    pub(crate) contender: &'a str,
    /// Geometric mean of the ratios over the cases; mean of the differences for measures that are differences already.
    pub(crate) middle: f64,
    /// In how many cases foreshade is the worse one in all that its spread covers, and of how many.
    pub(crate) behind: usize,
    pub(crate) cases: usize,
}

impl Cost<'_> {
    /// As a reader says it.
    pub(crate) fn words(&self) -> String {
        let kind = kind(self.measure);
        if kind.is_difference {
            format!("{} more than", (kind.text)(self.middle))
        } else {
            times(self.middle)
        }
    }
}

/// Foreshade against everybody else in every measure, as our own driver saw it.
pub(crate) fn costs<'a>(results: &'a CompareResults, cast: &Cast) -> Vec<Cost<'a>> {
    let mut against: BTreeMap<(Measure, &str), Vec<Spread>> = BTreeMap::new();
    for (case, rows) in cases(results) {
        let ours = rows.iter().find(|row| row.contender == FORESHADE);
        let Some(ours) = ours.filter(|ours| !case.is_checked && !ours.at_least) else {
            continue;
        };
        let others = rows.iter().filter(|row| row.contender != FORESHADE);
        // What could have been more says nothing about who is behind.
        for theirs in others.filter(|row| !row.at_least) {
            let spread = if kind(case.measure).is_difference {
                let rounds = ours.rounds.iter().zip(&theirs.rounds);
                Spread::of(rounds.map(|(ours, theirs)| ours - theirs))
            } else {
                ratio(ours, theirs)
            };
            let key = (case.measure, theirs.contender.as_str());
            against.entry(key).or_default().extend(spread);
        }
    }
    against.retain(|_, cases| !cases.is_empty());
    let costs = against.into_iter();
    let mut costs: Vec<Cost<'_>> = costs
        .map(|((measure, contender), cases)| cost(measure, contender, &cases))
        .collect();
    costs.sort_by_key(|cost| (cost.measure, cast.rank(Who::tuned(cost.contender))));
    costs
}

fn cost<'a>(measure: Measure, contender: &'a str, cases: &[Spread]) -> Cost<'a> {
    let kind = kind(measure);
    let even = if kind.is_difference { 0.0 } else { 1.0 };
    let is_behind = |spread: &&Spread| {
        if kind.less_is_better {
            spread.low > even
        } else {
            spread.high < even
        }
    };
    let count = cases.len() as f64;
    let medians = cases.iter().map(|spread| spread.median);
    Cost {
        measure,
        contender,
        middle: if kind.is_difference {
            medians.sum::<f64>() / count
        } else {
            let logs = medians.map(|median| median.max(f64::MIN_POSITIVE).ln());
            (logs.sum::<f64>() / count).exp()
        },
        behind: cases.iter().filter(is_behind).count(),
        cases: cases.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(measure: Measure, contender: &str, rounds: &[f64]) -> CompareRow {
        CompareRow {
            measure,
            protocol: Protocol::Http1,
            body_bytes: Some(100),
            posted_bytes: None,
            driver: DRIVER.into(),
            contender: contender.into(),
            rounds: rounds.to_vec(),
            at_least: false,
        }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let ours = row(Measure::CpuPerRequestUs, "foreshade", &[11.0, 22.0, 33.0]);
        let theirs = row(Measure::CpuPerRequestUs, "nginx", &[10.0, 20.0, 30.0]);
        let ratio = ratio(&ours, &theirs).unwrap();
        assert!((ratio.low - 1.1).abs() < 1e-9 && (ratio.high - 1.1).abs() < 1e-9);
    }

    #[test]
    fn a_reference_that_measured_nothing_gives_no_ratio() {
        let ours = row(Measure::CpuPerRequestUs, "foreshade", &[11.0]);
        assert_eq!(
            ratio(&ours, &row(Measure::CpuPerRequestUs, "nginx", &[0.0])),
            None
        );
        assert_eq!(ratio(&ours, &row(Measure::CpuPerRequestUs, "nginx", &[])), None);
    }

    fn results(rows: Vec<CompareRow>) -> CompareResults {
        let provenance = crate::results::Provenance {
            format: 1,
            command: String::new(),
            cores: 2,
            processor: String::new(),
            versions: BTreeMap::new(),
            skipped: BTreeMap::new(),
        };
        CompareResults { provenance, rows }
    }

    #[test]
    fn who_is_behind_depends_on_which_way_is_better() {
        let results = results(vec![
            row(Measure::CpuPerRequestUs, "foreshade", &[12.0, 12.5]),
            row(Measure::CpuPerRequestUs, "nginx", &[10.0, 10.0]),
            row(Measure::RequestsPerSecond, "foreshade", &[200.0, 210.0]),
            row(Measure::RequestsPerSecond, "nginx", &[100.0, 100.0]),
            row(Measure::AddedP50Us, "foreshade", &[30.0, 31.0]),
            row(Measure::AddedP50Us, "nginx", &[20.0, 21.0]),
        ]);
        let costs = costs(&results, &Cast::default());
        let words: Vec<String> = costs
            .iter()
            .map(|cost| {
                format!(
                    "{} behind in {}",
                    cost.words().replace('\u{a0}', " "),
                    cost.behind
                )
            })
            .collect();
        assert_eq!(
            words,
            [
                "1.23 × behind in 1",
                "2.05 × behind in 0",
                "10 µs more than behind in 1"
            ]
        );
    }

    #[test]
    fn what_could_have_been_more_is_not_judged() {
        let mut theirs = row(Measure::RequestsPerSecond, "nginx", &[300.0]);
        theirs.at_least = true;
        let results = results(vec![
            row(Measure::RequestsPerSecond, "foreshade", &[200.0]),
            theirs,
        ]);
        assert!(costs(&results, &Cast::default()).is_empty());
        let page = section(&results, &Cast::default()).into_string();
        assert!(
            page.contains("≥ 300") && page.contains("class=\"hollow\"") && !page.contains("class=\"stem\"")
        );
    }

    #[test]
    fn cases_say_what_was_asked_and_by_whom() {
        let mut checked = row(Measure::RequestsPerSecond, "nginx", &[1.0]);
        checked.driver = "wrk".into();
        checked.protocol = Protocol::Https1;
        checked.body_bytes = Some(65_536);
        let label = Case::of(&checked).label().replace('\u{a0}', " ");
        assert_eq!(label, "HTTP/1.1, TLS, 64 KiB, by wrk");
    }
}
