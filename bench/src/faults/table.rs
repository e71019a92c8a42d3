//! The results of `faults` as a table: figures as rows, contenders as columns, on the terminal and as a document.
//!
//! Over several seeds, failures are added up and everything else is the median. A figure that some runs do not have is
//! shown as missing when most do not: a contender that left the faulty endpoint once out of three times has not left
//! it.

use std::fmt::Write;

use crate::faults::label;
use crate::results::{ContenderResult, FaultResults, Figures, ScenarioResult};

/// Where a figure is missing.
const MISSING: &str = "-";

/// Above this, the load was late and the rest is in doubt.
const LAG_DOUBTFUL_MS: f64 = 1.0;

/// One row: what it is called, and what stands in it.
type Row = (&'static str, fn(&ContenderResult) -> String);

const ROWS: [Row; 12] = [
    ("failed GETs", |c| sum(c, |f| f.failed_gets)),
    ("failed POSTs", |c| sum(c, |f| f.failed_posts)),
    ("POSTs twice", |c| sum(c, |f| f.posts_twice)),
    // Of those that users were told are done. Asked of real endpoints only.
    ("POSTs lost", |c| {
        match c.runs.iter().any(|run| run.figures.posts_missing.is_some()) {
            true => sum(c, |f| f.posts_missing.unwrap_or(0)),
            false => MISSING.to_owned(),
        }
    }),
    ("p50 / p99 ms", |c| {
        let p50 = median(c, |f| Some(f.p50_ms));
        format!("{} / {}", shown(p50, 1), shown(median(c, |f| Some(f.p99_ms)), 1))
    }),
    ("p99.9 / max ms", |c| {
        let p999 = median(c, |f| Some(f.p999_ms));
        format!("{} / {}", shown(p999, 0), shown(median(c, |f| Some(f.max_ms)), 0))
    }),
    ("detected s", |c| shown(median(c, |f| f.detect_s), 1)),
    ("left s", |c| shown(median(c, |f| f.to_90_s), 1)),
    ("back s", |c| shown(median(c, |f| f.recovery_s), 1)),
    ("turns", |c| sum(c, |f| f.reversals)),
    ("attempts", |c| shown(median(c, |f| f.amplification), 3)),
    ("harm", |c| shown(median(c, |f| Some(f.harm)), 1)),
];

/// The median over all runs, those without the figure being worse than all others.
fn median(contender: &ContenderResult, figure: fn(&Figures) -> Option<f64>) -> Option<f64> {
    let mut values: Vec<_> = contender
        .runs
        .iter()
        .map(|run| figure(&run.figures).unwrap_or(f64::INFINITY))
        .collect();
    values.sort_by(f64::total_cmp);
    let middle = values.get(values.len().checked_sub(1)? / 2).copied()?;
    middle.is_finite().then_some(middle)
}

fn sum(contender: &ContenderResult, figure: fn(&Figures) -> u64) -> String {
    let sum: u64 = contender.runs.iter().map(|run| figure(&run.figures)).sum();
    sum.to_string()
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| MISSING.to_owned(), |value| format!("{value:.digits$}"))
}

/// How much harm a contender avoided: the median, or nothing where most seeds have none to avoid.
fn avoided(contender: &ContenderResult) -> String {
    let known = contender
        .runs
        .iter()
        .filter(|run| run.figures.avoided_harm.is_some());
    if known.count() * 2 <= contender.runs.len() {
        return MISSING.to_owned();
    }
    let median = median(contender, |f| f.avoided_harm);
    median.map_or_else(|| MISSING.to_owned(), |part| format!("{:.0} %", part * 100.0))
}

/// Title, columns and rows of one scenario.
struct Grid {
    title: String,
    columns: Vec<String>,
    rows: Vec<(&'static str, Vec<String>)>,
}

fn grid(scenario: &ScenarioResult) -> Grid {
    let contenders = &scenario.contenders;
    let id = scenario
        .id
        .as_ref()
        .map_or_else(String::new, |id| format!("{id} "));
    let cells = |cell: fn(&ContenderResult) -> String| contenders.iter().map(cell).collect();
    let mut rows: Vec<_> = ROWS.iter().map(|(name, cell)| (*name, cells(*cell))).collect();
    rows.push(("avoided harm", cells(avoided)));
    Grid {
        title: format!("{id}{}: {}", scenario.name, scenario.story),
        columns: contenders
            .iter()
            .map(|c| label(&c.contender, c.setting))
            .collect(),
        rows,
    }
}

/// What casts doubt on a scenario's figures, or what foreshade promised and did not keep.
fn remarks(scenario: &ScenarioResult) -> Vec<String> {
    let mut remarks = Vec::new();
    if let (Some(rate), false) = (scenario.rate, scenario.unjudged.is_empty()) {
        remarks.push(format!(
            "not judged, as they are made at another rate than {rate}: {}",
            scenario.unjudged.join("; ")
        ));
    }
    for contender in &scenario.contenders {
        for run in &contender.runs {
            let lag = run.figures.lag_p99_ms;
            let name = label(&contender.contender, contender.setting);
            if lag > LAG_DOUBTFUL_MS {
                remarks.push(format!(
                    "in doubt: the load of {name} was {lag:.1} ms late (p99, seed {})",
                    run.seed
                ));
            }
            let broken = run.figures.broken.iter();
            remarks
                .extend(broken.map(|broken| format!("{name} broke a promise (seed {}): {broken}", run.seed)));
        }
    }
    remarks
}

/// One scenario for the terminal.
pub fn lines(scenario: &ScenarioResult) -> Vec<String> {
    let grid = grid(scenario);
    let width = |index: usize, column: &String| {
        let cells = grid.rows.iter().filter_map(|(_, cells)| cells.get(index));
        cells.map(String::len).chain([column.len()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = grid
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| width(index, column))
        .collect();
    let line = |name: &str, cells: &[String]| {
        let mut line = format!("  {name:<15}");
        for (cell, width) in cells.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(line, "  {cell:>width$}");
        }
        line
    };
    let mut lines = vec![grid.title.clone(), line("", &grid.columns)];
    lines.extend(grid.rows.iter().map(|(name, cells)| line(name, cells)));
    lines.extend(remarks(scenario).into_iter().map(|remark| format!("  {remark}")));
    lines
}

/// The document.
pub fn markdown(results: &FaultResults) -> String {
    let provenance = &results.provenance;
    let mut text = String::new();
    let versions: Vec<_> = provenance
        .versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "# Faults\n\nWritten by `{}` on {} cores ({}), which all loads, endpoints and contenders share. {}.\n\n\
         All contenders of a scenario play at the same time, each with endpoints and users of its own, and with the \
         same requests at the same moments. Failures are added up over the seeds, all else is the median. Latencies \
         are those from onset to healing. *none* notices nothing; *oracle* knows the fault beforehand. Harm is 1 per \
         failed request and 0.2 per \
         second of waiting beyond the healthy p99; harm avoided is measured between those two.\n",
        provenance.command,
        provenance.cores,
        provenance.processor,
        versions.join(", "),
    );
    for (name, why) in &provenance.skipped {
        let _ = write!(
            text,
            "\nSkipped: {name}: {}\n",
            why.lines().next().unwrap_or_default()
        );
    }
    for scenario in &results.scenarios {
        text.push_str(&section(scenario));
        for remark in remarks(scenario) {
            let _ = write!(text, "\n- {remark}");
        }
    }
    text
}

/// One scenario of a document, without remarks.
pub fn section(scenario: &ScenarioResult) -> String {
    let grid = grid(scenario);
    let mut text = format!(
        "\n## {}\n\n| | {} |\n|---|{}\n",
        grid.title,
        grid.columns.join(" | "),
        "---:|".repeat(grid.columns.len())
    );
    for (name, cells) in &grid.rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{SeedResult, Setting};

    fn contender(name: &str, figures: Vec<Figures>) -> ContenderResult {
        let run = |(seed, figures)| SeedResult {
            seed,
            figures,
            seconds: Vec::new(),
            healthy: Vec::new(),
            during: Vec::new(),
        };
        ContenderResult {
            contender: name.to_owned(),
            setting: Setting::Tuned,
            runs: (1..).zip(figures).map(run).collect(),
        }
    }

    fn left(to_90_s: Option<f64>, failed_gets: u64) -> Figures {
        Figures {
            to_90_s,
            failed_gets,
            ..Figures::default()
        }
    }

    fn scenario() -> ScenarioResult {
        let ours = contender(
            "foreshade",
            vec![left(Some(0.2), 0), left(Some(0.4), 1), left(Some(0.3), 0)],
        );
        let theirs = contender("nginx", vec![left(Some(0.2), 7), left(None, 8), left(None, 9)]);
        ScenarioResult {
            name: "hang".to_owned(),
            id: Some("S2".to_owned()),
            story: "it hangs".to_owned(),
            onset_s: 10.0,
            healed_s: 22.0,
            rate: None,
            claims: Vec::new(),
            unjudged: Vec::new(),
            contenders: vec![ours, theirs],
        }
    }

    #[test]
    fn contenders_are_columns_failures_are_sums_and_all_else_is_the_median() {
        let lines = lines(&scenario());
        assert_eq!(lines[0], "S2 hang: it hangs");
        let words = |name: &str| {
            let line = lines
                .iter()
                .find(|line| line.trim_start().starts_with(name))
                .unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(words("foreshade"), ["foreshade", "nginx"]);
        assert_eq!(words("failed GETs")[2..], ["1", "24"]);
        assert_eq!(
            words("left s")[2..],
            ["0.3", "-"],
            "once out of three times is not"
        );
        assert_eq!(words("avoided harm")[2..], ["-", "-"]);
    }

    #[test]
    fn a_late_load_and_a_broken_promise_are_said() {
        let mut scenario = scenario();
        scenario.contenders[1].runs[2].figures.lag_p99_ms = 3.0;
        scenario.contenders[0].runs[0].figures.broken = vec!["no GET fails: 1 of 9".to_owned()];
        assert_eq!(
            remarks(&scenario),
            [
                "foreshade broke a promise (seed 1): no GET fails: 1 of 9",
                "in doubt: the load of nginx was 3.0 ms late (p99, seed 3)"
            ]
        );
    }
}
