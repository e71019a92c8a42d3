//! Where every number comes from: command, machine, versions, and who was asked for and did not take part.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::report::input::{Input, Results};
use crate::results::Time;

/// One entry per file.
pub(crate) fn section(inputs: &[Input]) -> Markup {
    html! {
        section.provenance {
            h2 { "Where these numbers come from" }
            @for input in inputs { (entry(input)) }
        }
    }
}

fn entry(input: &Input) -> Markup {
    let provenance = input.results.provenance();
    let kind = match &input.results {
        Results::Faults(results) if results.time == Time::Virtual => "faults in virtual time",
        Results::Faults(_) => "faults with real processes",
        Results::Compare(_) => "cost of serving",
        Results::Load(_) => "one load",
    };
    // Some results have the program's name in their command line, and some do not.
    let command = provenance
        .command
        .strip_prefix("foreshade-bench ")
        .unwrap_or(&provenance.command);
    html! {
        h3 { code { (input.name) } ": " (kind) }
        dl {
            dt { "command" }
            dd { code { "foreshade-bench " (command) } }
            dt { "machine" }
            dd { (provenance.cores) " cores of " (provenance.processor) }
            (pairs("versions", &provenance.versions))
            (pairs("skipped", &provenance.skipped))
        }
    }
}

fn pairs(name: &str, pairs: &BTreeMap<String, String>) -> Markup {
    html! {
        @if !pairs.is_empty() {
            dt { (name) }
            @for (who, what) in pairs { dd { strong { (who) } " " (what) } }
        }
    }
}
