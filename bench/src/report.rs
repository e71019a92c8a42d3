//! The results of the bench as one page that needs nothing else: no network, no script, no font.
//!
//! The page is written for a reader who has ten seconds, and for one who has an hour: first what came out and where
//! foreshade loses, then who is ahead in which scenario, then each scenario with its charts, and behind every chart its
//! numbers. Markup is made by [`maud`], which escapes whatever is not markup in this source; charts are SVG that the
//! style sheet colours, so that one page serves light screens, dark ones and paper.
//!
//! What was not measured is left out, never drawn as zero.

use maud::Markup;

use crate::report::chart::Line;
use crate::report::input::{Input, Results};
use crate::report::look::Cast;
use crate::report::numbers::{number, percent};

pub mod input;

mod care;
mod page;
mod summary;

mod agreement;
mod compare;
mod faults;
mod figures;
mod load;
mod provenance;
mod scenario;

mod standing;

mod series;
mod spread;

mod axis;
mod chart;
mod curve;
mod label;
mod lanes;
mod look;
mod numbers;

/// The whole page, from the results in the order in which they are given.
pub fn html(inputs: &[Input]) -> String {
    let cast = Cast::of(inputs.iter().flat_map(contenders));
    let sections: Vec<Markup> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| section(index, input, &cast))
        .chain(load::together(inputs))
        .chain(agreement::section(inputs))
        .chain([provenance::section(inputs)])
        .collect();
    page::page(&summary::section(inputs, &cast), &sections).into_string()
}

fn section(index: usize, input: &Input, cast: &Cast) -> Markup {
    // Anchors of two files must not meet.
    let prefix = format!("f{index}");
    match &input.results {
        Results::Faults(results) => faults::section(results, cast, &prefix),
        Results::Compare(results) => compare::section(results, cast),
        Results::Load(results) => load::section(results, &prefix),
    }
}

fn contenders(input: &Input) -> Vec<&str> {
    match &input.results {
        Results::Faults(results) => results
            .scenarios
            .iter()
            .flat_map(|scenario| &scenario.contenders)
            .map(|contender| contender.contender.as_str())
            .collect(),
        Results::Compare(results) => results.rows.iter().map(|row| row.contender.as_str()).collect(),
        Results::Load(_) => Vec::new(),
    }
}

/// An anchor of letters, digits and dashes.
fn anchor(prefix: &str, name: &str) -> String {
    let plain = name.chars().map(|letter| match letter {
        letter if letter.is_ascii_alphanumeric() => letter.to_ascii_lowercase(),
        _ => '-',
    });
    format!("{prefix}-{}", plain.collect::<String>())
}

/// What lines show, in words: for each its range.
fn describe_lines(about: &str, lines: &[Line], text: fn(f64) -> String) -> String {
    let ranges = lines.iter().filter_map(|line| {
        let values = || line.points.iter().filter_map(|(_, value)| *value);
        let (low, high) = (values().reduce(f64::min)?, values().reduce(f64::max)?);
        Some(format!("{} from {} to {}", line.name, text(low), text(high)))
    });
    format!("{about}. {}.", ranges.collect::<Vec<_>>().join("; "))
}

/// A whole and its part, as people say it.
fn of_all(part: u64, all: u64) -> String {
    let (part, all) = (part as f64, all as f64);
    match part > 0.0 {
        true => format!(
            "{} of {} ({})",
            number(part),
            number(all),
            percent(part / all.max(1.0))
        ),
        false => format!("0 of {}", number(all)),
    }
}
