//! What faults did to users: who is ahead in which scenario, how much harm was avoided, and each scenario by itself.

use maud::{Markup, html};

use crate::report::anchor;
use crate::report::axis::Axis;
use crate::report::figures;
use crate::report::lanes::{Lane, Lanes, Row, bar};
use crate::report::look::{Cast, Who};
use crate::report::numbers::{number, percent, signed, spread};
use crate::report::page::{legend, scrolling};
use crate::report::scenario;
use crate::report::standing::{self, Duel, Standing, harm_per_thousand};
use crate::results::{ContenderResult, FaultResults, ScenarioResult, Time};

/// The avoided harm at which the axis ends on its left: twice the harm of nobody reacting. What is worse gets an arrow.
const AVOIDED_LEAST: f64 = -1.0;

/// Everything about one file.
pub(crate) fn section(results: &FaultResults, cast: &Cast, prefix: &str) -> Markup {
    let heading = match results.time {
        Time::Real => "Faults, real processes",
        Time::Virtual => "Faults, simulated",
    };
    if results.scenarios.is_empty() {
        return html! { section { h2 { (heading) } p { "No scenario was played to its end." } } };
    }
    html! {
        section id=(prefix) {
            h2 { (heading) }
            (versus(results, cast, prefix))
            (avoided(results, cast, prefix))
            (figures::glossary())
            @for scenario in &results.scenarios { (scenario::article(scenario, results.time, cast, prefix)) }
        }
    }
}

fn link(scenario: &ScenarioResult, prefix: &str) -> Markup {
    html! {
        a href={ "#" (anchor(prefix, &scenario.name)) } {
            @if let Some(id) = &scenario.id { span.number { (id) } " " }
            (scenario.name)
        }
    }
}

/// Foreshade against each rival: one row per scenario, one column per rival.
fn versus(results: &FaultResults, cast: &Cast, prefix: &str) -> Markup {
    let duels = standing::duels(results);
    let rivals = standing::rivals(&duels, cast);
    let shown = standing::once_each(rivals.iter().copied());
    let others: Vec<Who<'_>> = rivals
        .iter()
        .copied()
        .filter(|who| !shown.contains(who))
        .collect();
    if rivals.is_empty() {
        return html! {};
    }
    html! {
        h3 { "Foreshade against each rival" }
        p {
            "Bars to the right: foreshade avoided more harm than the rival, in points of avoided harm. Where there was "
            "nothing to avoid, the difference in harm per 1,000 requests is given instead. "
            "The sign says who is ahead seed by seed, by more than one failed request in 10,000 weighs: "
            (sign(Standing::Ahead)) " foreshade, " (sign(Standing::Behind)) " the rival, " (sign(Standing::Level)) " neither."
        }
        (versus_table(results, &duels, &shown, prefix))
        @if !others.is_empty() {
            details {
                summary { "The same against rivals as they come, untuned" }
                (versus_table(results, &duels, &others, prefix))
            }
        }
    }
}

fn versus_table(results: &FaultResults, duels: &[Duel<'_>], rivals: &[Who<'_>], prefix: &str) -> Markup {
    let find = |scenario: &ScenarioResult, rival: Who<'_>| {
        duels
            .iter()
            .find(|duel| duel.rival == rival && std::ptr::eq(duel.scenario, scenario))
    };
    let widest = duels
        .iter()
        .map(|duel| duel.harm.median.abs())
        .fold(0.0_f64, f64::max);
    scrolling(&html! { table.versus {
        thead { tr {
            th scope="col" { "scenario" }
            @for rival in rivals { th scope="col" { "against " (rival.label()) } }
        } }
        tbody { @for scenario in &results.scenarios { tr {
            th scope="row" { (link(scenario, prefix)) small { (scenario.story) } }
            @for rival in rivals {
                @match find(scenario, *rival) {
                    Some(duel) => (cell(duel, widest)),
                    None => td { span.absent { "–" } },
                }
            }
        } } }
    } })
}

fn sign(standing: Standing) -> Markup {
    let (class, sign, words) = match standing {
        Standing::Ahead => ("ahead", "▲", "foreshade is ahead"),
        Standing::Level => ("level", "=", "level"),
        Standing::Behind => ("behind", "▼", "foreshade is behind"),
    };
    html! { span.sign.(class) title=(words) { (sign) } }
}

fn cell(duel: &Duel<'_>, widest: f64) -> Markup {
    // Points of avoided harm, else harm; the bar goes right where it is good for foreshade.
    let (part, text, ends) = match duel.avoided {
        Some(avoided) => {
            let points = |value: f64| signed((value * 100.0).round());
            let (median, ends) = spread(avoided, points);
            (avoided.median, median, ends)
        }
        None => {
            let (median, ends) = spread(duel.harm, |harm| signed((harm * 100.0).round() / 100.0));
            (
                -duel.harm.median / widest.max(f64::MIN_POSITIVE),
                format!("{median} harm"),
                ends,
            )
        }
    };
    let class = match duel.standing {
        Standing::Ahead => "ahead",
        Standing::Level => "level",
        Standing::Behind => "behind",
    };
    html! {
        td {
            div.duel title=[ends.map(|ends| format!("{ends}, over the seeds"))] {
                (sign(duel.standing))
                span.value { (text) }
                div.track { (bar(class, 0.5, 0.5 + part.clamp(-1.0, 1.0) / 2.0)) }
            }
        }
    }
}

/// Avoided harm of everybody in every scenario.
fn avoided(results: &FaultResults, cast: &Cast, prefix: &str) -> Markup {
    let all: Vec<Who<'_>> = standing::everybody(results, cast)
        .into_iter()
        .filter(|who| !who.is_yardstick())
        .collect();
    let shown = standing::once_each(all.iter().copied());
    let of = |scenario: &ScenarioResult, who: Who<'_>| {
        let found = scenario
            .contenders
            .iter()
            .find(|contender| contender.who() == who);
        found.and_then(|contender| contender.figure(|figures| figures.avoided_harm))
    };
    let lane = |scenario: &ScenarioResult, who: &Who<'_>| {
        let other = all
            .iter()
            .find(|other| other.contender == who.contender && *other != who);
        Lane {
            name: who.label(),
            look: cast.look(who.contender),
            spread: of(scenario, *who),
            hollow: other.and_then(|other| of(scenario, *other)),
        }
    };
    let rows: Vec<Row> = results
        .scenarios
        .iter()
        .filter(|scenario| all.iter().any(|who| of(scenario, *who).is_some()))
        .map(|scenario| Row {
            name: link(scenario, prefix),
            words: scenario::title(scenario),
            lanes: shown.iter().map(|who| lane(scenario, who)).collect(),
        })
        .collect();
    let lanes = rows.iter().flat_map(|row| &row.lanes);
    let least = lanes
        .filter_map(|lane| lane.spread)
        .map(|spread| spread.low.max(AVOIDED_LEAST))
        .fold(0.0_f64, f64::min);
    let chart = Lanes {
        title: html! { "Avoided harm: 0 % is nobody reacting, 100 % is the oracle" },
        row_name: "",
        axis: Axis::linear([least, 1.0]),
        base: 0.0,
        text: percent,
        rows,
    };
    let names: Vec<(String, usize)> = shown
        .iter()
        .map(|who| (who.label(), cast.look(who.contender)))
        .collect();
    html! {
        @if !chart.rows.is_empty() {
            h3 { "Avoided harm" }
            p {
                "Harm counts 1 for a failed request and up to 0.2 for one that waits a second longer than the healthy "
                "99th percentile. The bar ends at the median of the seeds; the line across its end goes from the 10th to "
                "the 90th percentile of them, which below ten seeds is from the least to the greatest."
                @if all.len() > shown.len() { " Hollow markers are the rivals as they come, untuned." }
            }
            (legend(&names))
            (chart.draw())
        }
        details { summary { "Numbers behind these bars" } (harm_table(results, cast)) }
    }
}

fn harm_table(results: &FaultResults, cast: &Cast) -> Markup {
    let all = standing::everybody(results, cast);
    let written = |contender: Option<&ContenderResult>| {
        let avoided = contender.and_then(|contender| contender.figure(|figures| figures.avoided_harm));
        let harm = contender.and_then(|contender| contender.figure(harm_per_thousand));
        html! {
            td {
                @if let Some(avoided) = avoided {
                    @let (median, ends) = spread(avoided, percent);
                    (median)
                    @if let Some(ends) = ends { small { (ends) } }
                } @else { "–" }
                @if let Some(harm) = harm { small { (number(harm.median)) " harm" } }
            }
        }
    };
    scrolling(&html! {
        table.figures {
            caption { "Avoided harm with its spread, and harm per 1,000 requests" }
            thead { tr {
                th scope="col" { "scenario" }
                @for who in &all { th scope="col" { (who.label()) } }
            } }
            tbody { @for scenario in &results.scenarios { tr {
                th scope="row" { (scenario::title(scenario)) small { (scenario.story) } }
                @for who in &all {
                    (written(scenario.contenders.iter().find(|contender| contender.who() == *who)))
                }
            } } }
        }
    })
}
