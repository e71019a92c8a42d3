//! What a reader must know before believing the rest: late loads, broken promises, who was left out, and too few seeds.
//!
//! Everything here is found in the results by rule; a page without a doubt says so, and does not just say nothing.

use maud::{Markup, html};

use crate::report::input::{Input, Results};
use crate::report::numbers::milliseconds;
use crate::report::{figures, of_all, scenario};
use crate::results::{ContenderResult, FaultResults, LoadResults, Time};

/// A load that is later than this, for one request in a hundred, has measured itself.
const LAG_MAX_MS: f64 = 1.0;

/// Characters of a reason on the first screen: what a program said at its end may be a page.
const REASON_MAX: usize = 120;

/// What a reader must know before believing any of it.
pub(crate) fn section(inputs: &[Input], faults: Option<&FaultResults>) -> Markup {
    let mut notes: Vec<Markup> = Vec::new();
    for results in inputs.iter().filter_map(|input| match &input.results {
        Results::Faults(results) => Some(results),
        _ => None,
    }) {
        notes.extend(lateness(results));
        notes.extend(promises(results));
    }
    for results in inputs.iter().filter_map(|input| match &input.results {
        Results::Load(results) => Some(results),
        _ => None,
    }) {
        notes.extend(doubts(results));
    }
    let mut skipped: Vec<(&str, &str)> = Vec::new();
    for (who, why) in inputs
        .iter()
        .flat_map(|input| &input.results.provenance().skipped)
    {
        if !skipped.contains(&(who.as_str(), why.as_str())) {
            skipped.push((who, why));
        }
    }
    notes.extend(
        skipped
            .into_iter()
            .map(|(who, why)| html! { "Not measured: " strong { (who) } ", " (briefly(why)) }),
    );
    if faults.is_some_and(|results| results.time == Time::Virtual) {
        notes.push(html! { "The figures on faults above are simulated: the engine in virtual time, with modelled endpoints." });
    }
    let fewest = faults.and_then(|results| {
        let contenders = results.scenarios.iter().flat_map(|scenario| &scenario.contenders);
        contenders.map(|contender| contender.runs.len()).min()
    });
    if let Some(fewest) = fewest.filter(|fewest| *fewest < 3) {
        let seeds = if fewest == 1 { "seed" } else { "seeds" };
        notes.push(
            html! { "Some runs have " (fewest) " " (seeds) " only; chance is not told from skill there." },
        );
    }
    html! {
        section.verdict.care {
            h2 { "To be read with care" }
            @if notes.is_empty() { p { "Every promise was kept, every run was on time, and nobody was left out." } } @else {
                ul { @for note in &notes { li { (note) } } }
            }
        }
    }
}

/// The beginning of a reason; all of it stands where the numbers come from.
fn briefly(why: &str) -> String {
    let line = why.lines().next().unwrap_or_default();
    let short: String = line.chars().take(REASON_MAX).collect();
    let line = if short.len() < line.len() {
        short + "…"
    } else {
        short
    };
    line.trim_end_matches(':').to_owned()
}

fn contenders(results: &FaultResults) -> impl Iterator<Item = (&str, &ContenderResult)> {
    results.scenarios.iter().flat_map(|scenario| {
        let name = scenario.name.as_str();
        scenario.contenders.iter().map(move |contender| (name, contender))
    })
}

fn lateness(results: &FaultResults) -> Option<Markup> {
    let runs = contenders(results).flat_map(|(name, contender)| {
        contender
            .runs
            .iter()
            .map(move |run| (name, contender.who(), run.figures.lag_p99_ms))
    });
    let runs: Vec<_> = runs.collect();
    let late = runs.iter().filter(|(.., lag)| *lag > LAG_MAX_MS);
    let count = late.clone().count();
    let (name, who, lag) = late.max_by(|one, other| one.2.total_cmp(&other.2))?;
    Some(html! {
        "The load itself was more than 1 ms late (p99) in " (of_all(count as u64, runs.len() as u64)) " runs, at worst "
        (milliseconds(*lag)) " (" (name) ", " (who.label()) "); what they say about latency is in doubt."
    })
}

fn promises(results: &FaultResults) -> Vec<Markup> {
    let scenarios = results.scenarios.iter().flat_map(|scenario| {
        let contenders: Vec<&ContenderResult> = scenario.contenders.iter().collect();
        let broken = figures::broken(&contenders);
        broken.into_iter().map(move |promise| (scenario, promise))
    });
    scenarios
        .map(|(scenario, promise)| {
            html! { strong { "Promise broken" } " in " (scenario::title(scenario)) ": " (promise) }
        })
        .collect()
}

fn doubts(results: &LoadResults) -> Vec<Markup> {
    let broken = results.promises.iter().filter(|promise| !promise.holds);
    let broken = broken.map(|promise| {
        html! { strong { "Promise broken" } " by " (results.target) ": " (promise.promise) ", measured " (promise.measured) }
    });
    let doubts = results
        .generator
        .doubts
        .iter()
        .map(|doubt| html! { "The load on " (results.target) " is in doubt: " (doubt) });
    let interrupted = results
        .interrupted
        .then(|| html! { "The load on " (results.target) " was ended early." });
    broken.chain(doubts).chain(interrupted).collect()
}
