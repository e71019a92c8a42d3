//! Whether the simulator says the same as real processes do: foreshade's avoided harm in both, scenario by scenario.

use maud::{Markup, html};

use crate::report::input::{Input, Results};
use crate::report::numbers::{percent, spread};
use crate::report::page::scrolling;
use crate::report::scenario;
use crate::report::spread::Spread;
use crate::results::{FaultResults, ScenarioResult, Time};

fn of(inputs: &[Input], time: Time) -> impl Iterator<Item = &FaultResults> {
    inputs.iter().filter_map(move |input| match &input.results {
        Results::Faults(results) if results.time == time => Some(results),
        _ => None,
    })
}

fn avoided(scenario: &ScenarioResult) -> Option<Spread> {
    let ours = scenario
        .contenders
        .iter()
        .find(|contender| contender.who().is_foreshade())?;
    ours.figure(|figures| figures.avoided_harm)
}

/// Both say that foreshade helps, or both say that it does not.
fn agree(real: Spread, simulated: Spread) -> bool {
    (real.median > 0.0) == (simulated.median > 0.0)
}

/// The comparison; absent unless the same scenario was played both ways.
pub(crate) fn section(inputs: &[Input]) -> Option<Markup> {
    let simulated: Vec<&ScenarioResult> = of(inputs, Time::Virtual)
        .flat_map(|results| &results.scenarios)
        .collect();
    let pairs: Vec<(&ScenarioResult, Spread, Spread)> = of(inputs, Time::Real)
        .flat_map(|results| &results.scenarios)
        .filter_map(|real| {
            let twin = simulated.iter().find(|twin| twin.name == real.name)?;
            Some((real, avoided(real)?, avoided(twin)?))
        })
        .collect();
    if pairs.is_empty() {
        return None;
    }
    let agreed = pairs
        .iter()
        .filter(|(_, real, simulated)| agree(*real, *simulated))
        .count();
    let written = |value: Spread| {
        let (median, ends) = spread(value, percent);
        html! { td { (median) @if let Some(ends) = ends { small { (ends) } } } }
    };
    Some(html! {
        section {
            h2 { "Does the simulator agree?" }
            p {
                "On the direction, whether foreshade helps or harms, in " (agreed) " of " (pairs.len())
                " scenarios that were played both ways and in which there was harm to avoid."
            }
            (scrolling(&html! { table.figures {
                thead { tr {
                    th scope="col" { "scenario" }
                    th scope="col" { "real processes" }
                    th scope="col" { "simulated" }
                    th scope="col" { "direction" }
                } }
                tbody { @for (scenario, real, simulated) in &pairs { tr {
                    th scope="row" { (scenario::title(scenario)) }
                    (written(*real))
                    (written(*simulated))
                    td { @if agree(*real, *simulated) { "the same" } @else { strong.behind { "not the same" } } }
                } } }
            } }))
            p.note { "Avoided harm of foreshade; the small numbers are its spread over the seeds." }
        }
    })
}
