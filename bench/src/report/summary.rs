//! The first screen: what came out, where foreshade loses, and what not to believe, for a reader who has ten seconds.
//!
//! Losses stand beside the gains and in the same size, and are found by the same rule ([`standing`]); nothing on this
//! screen is written by hand.

use maud::{Markup, html};

use crate::report::compare::{self, Cost};
use crate::report::input::{Input, Results};
use crate::report::lanes::bar;
use crate::report::look::{Cast, FORESHADE, Who};
use crate::report::numbers::{about, number, signed, times};
use crate::report::page::swatch;
use crate::report::standing::{self, Duel, Standing};
use crate::report::{care, load, scenario};
use crate::results::{CompareResults, FaultResults, Measure, Time};

/// The results that the first screen speaks of: real processes before simulated ones.
struct Main<'a> {
    faults: Option<&'a FaultResults>,
    compare: Option<&'a CompareResults>,
}

impl<'a> Main<'a> {
    fn of(inputs: &'a [Input]) -> Self {
        let faults = || {
            inputs.iter().filter_map(|input| match &input.results {
                Results::Faults(results) if !results.scenarios.is_empty() => Some(results),
                _ => None,
            })
        };
        Self {
            faults: faults()
                .find(|results| results.time == Time::Real)
                .or_else(|| faults().next()),
            compare: inputs.iter().find_map(|input| match &input.results {
                Results::Compare(results) if !results.rows.is_empty() => Some(results),
                _ => None,
            }),
        }
    }
}

/// The whole first screen.
pub(crate) fn section(inputs: &[Input], cast: &Cast) -> Markup {
    let main = Main::of(inputs);
    let costs = main
        .compare
        .map(|results| compare::costs(results, cast))
        .unwrap_or_default();
    let duels = main.faults.map(standing::duels).unwrap_or_default();
    html! {
        @for sentence in lead(&main, &duels, &costs, cast) { p.lead { (sentence) } }
        @for input in inputs {
            @if let Results::Load(results) = &input.results { p.lead { (load::lead(results)) } }
        }
        div.tiles {
            @if let Some(results) = main.faults {
                (avoided_tile(results, cast))
                @if !duels.is_empty() { (duels_tile(&duels, cast)) }
                (failed_tile(results, cast))
            }
            @if let Some(results) = main.compare { (cost_tile(results, cast)) }
        }
        div.verdicts {
            @if !duels.is_empty() || !costs.is_empty() { (behind(&duels, &costs, cast)) }
            (care::section(inputs, main.faults))
        }
    }
}

fn lead(main: &Main<'_>, duels: &[Duel<'_>], costs: &[Cost<'_>], cast: &Cast) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(results) = main.faults {
        sentences.extend(lead_on_faults(results, duels, cast));
    }
    let against = compare_reference(main.compare);
    let ratio = |measure| {
        let cost = costs
            .iter()
            .find(|cost| cost.measure == measure && Some(cost.contender) == against);
        cost.map(|cost| times(cost.middle))
    };
    let (cpu, rate) = (ratio(Measure::CpuPerRequestUs), ratio(Measure::RequestsPerSecond));
    let what: Vec<String> = [
        cpu.map(|cpu| format!("takes {cpu} the CPU time per request")),
        rate.map(|rate| format!("serves {rate} the requests per second")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let Some(against) = against.filter(|_| !what.is_empty()) {
        sentences.push(format!("Foreshade {} of {against}.", what.join(" and ")));
    }
    sentences
}

fn compare_reference(results: Option<&CompareResults>) -> Option<&'static str> {
    results.and_then(compare::reference)
}

fn lead_on_faults(results: &FaultResults, duels: &[Duel<'_>], cast: &Cast) -> Option<String> {
    let (ours, count) = standing::mean_avoided(results, Who::tuned(FORESHADE))?;
    let rivals = standing::everybody(results, cast)
        .into_iter()
        .filter(|who| !who.is_yardstick() && !who.is_foreshade());
    let best = rivals
        .filter_map(|who| Some((who, standing::mean_avoided(results, who)?.0)))
        .max_by(|one, other| one.1.total_cmp(&other.1));
    let place = match results.time {
        Time::Real => "",
        Time::Virtual => "In simulation, ",
    };
    let capital = if place.is_empty() {
        "Foreshade"
    } else {
        "foreshade"
    };
    let rival = best.map(|(who, mean)| format!("; {}, the best rival, avoids {}", who.label(), about(mean)));
    let behind = duels.iter().filter(|duel| duel.standing == Standing::Behind);
    let mut lost: Vec<&str> = behind.map(|duel| duel.scenario.name.as_str()).collect();
    lost.dedup();
    let played = results.scenarios.len();
    let losses = match (duels.is_empty(), lost.len()) {
        (true, _) => String::new(),
        (false, 0) => format!(" No rival is ahead of it in any of {played} scenarios."),
        (false, lost) => format!(" Some rival is ahead of it in {lost} of {played} scenarios."),
    };
    Some(format!(
        "{place}{capital} avoids {} of the harm that can be avoided, on average over {count} scenarios{}.{losses}",
        about(ours),
        rival.unwrap_or_default(),
    ))
}

/// One line of a tile: who, a bar, a number.
struct Entry {
    name: String,
    look: usize,
    part: Option<f64>,
    number: String,
}

fn tile(title: &str, note: &Markup, entries: &[Entry]) -> Markup {
    html! {
        section.tile {
            h2 { (title) }
            p.note { (note) }
            table.entries { tbody { @for entry in entries { tr {
                th scope="row" { (swatch(entry.look)) (entry.name) }
                @if let Some(part) = entry.part { td.track { (bar(&format!("k{}", entry.look), 0.0, part)) } }
                td.number { (entry.number) }
            } } } }
        }
    }
}

fn avoided_tile(results: &FaultResults, cast: &Cast) -> Markup {
    let all = standing::once_each(standing::everybody(results, cast));
    let means: Vec<(Who<'_>, f64, usize)> = all
        .into_iter()
        .filter(|who| !who.is_yardstick())
        .filter_map(|who| {
            let (mean, count) = standing::mean_avoided(results, who)?;
            Some((who, mean, count))
        })
        .collect();
    let most = means.iter().map(|(.., count)| *count).max().unwrap_or_default();
    let entries: Vec<Entry> = means
        .iter()
        .map(|(who, mean, count)| Entry {
            name: who.label(),
            look: cast.look(who.contender),
            part: Some(*mean),
            number: match count {
                count if *count == most => about(*mean),
                count => format!("{} in {count}", about(*mean)),
            },
        })
        .collect();
    let note = html! { "mean of " (most) " scenarios; no action is 0 %, the oracle 100 %" };
    tile("Harm avoided", &note, &entries)
}

fn duels_tile(duels: &[Duel<'_>], cast: &Cast) -> Markup {
    let rivals = standing::once_each(standing::rivals(duels, cast));
    let count = |rival: Who<'_>, standing| {
        let matching = duels
            .iter()
            .filter(|duel| duel.rival == rival && duel.standing == standing);
        matching.count()
    };
    html! {
        section.tile {
            h2 { "Foreshade is …" }
            p.note { "scenarios, judged seed by seed" }
            table.entries {
                thead { tr {
                    th scope="col" { "against" }
                    th.number scope="col" { "ahead" }
                    th.number scope="col" { "level" }
                    th.number scope="col" { "behind" }
                } }
                tbody { @for rival in &rivals { tr {
                    th scope="row" { (swatch(cast.look(rival.contender))) (rival.label()) }
                    td.number { (count(*rival, Standing::Ahead)) }
                    td.number { (count(*rival, Standing::Level)) }
                    @let behind = count(*rival, Standing::Behind);
                    td.number { @if behind > 0 { strong.behind { (behind) } } @else { "0" } }
                } } }
            }
        }
    }
}

fn failed_tile(results: &FaultResults, cast: &Cast) -> Markup {
    let totals = |who: Who<'_>| {
        let contenders = results.scenarios.iter().flat_map(|scenario| &scenario.contenders);
        let runs = contenders
            .filter(|contender| contender.who() == who)
            .flat_map(|contender| &contender.runs);
        runs.fold((0, 0, 0), |(requests, failed, twice), run| {
            let figures = &run.figures;
            (
                requests + figures.requests,
                failed + figures.failed_gets + figures.failed_posts,
                twice + figures.posts_twice,
            )
        })
    };
    let all: Vec<(Who<'_>, f64, u64)> = standing::once_each(standing::everybody(results, cast))
        .into_iter()
        .filter_map(|who| match totals(who) {
            (0, ..) => None,
            (requests, failed, twice) => Some((who, failed as f64 / requests as f64 * 1e4, twice)),
        })
        .collect();
    html! {
        section.tile {
            h2 { "Failed for users" }
            p.note { "per 10,000 requests of all scenarios, and writes that took effect twice" }
            table.entries {
                thead { tr {
                    th scope="col" {}
                    th.number scope="col" { "failed" }
                    th.number scope="col" { "written twice" }
                } }
                tbody { @for (who, failed, twice) in &all { tr {
                    th scope="row" { (swatch(cast.look(who.contender))) (who.label()) }
                    td.number { (number(*failed)) }
                    td.number { (number(*twice as f64)) }
                } } }
            }
        }
    }
}

fn cost_tile(results: &CompareResults, cast: &Cast) -> Markup {
    let costs = compare::costs(results, cast);
    let mut names: Vec<&str> = costs.iter().map(|cost| cost.contender).collect();
    names.sort_by_key(|name| cast.rank(Who::tuned(name)));
    names.dedup();
    let cell = |name: &str, measure: Measure| {
        let cost = costs
            .iter()
            .find(|cost| cost.contender == name && cost.measure == measure);
        html! { td.number { @match cost {
            Some(cost) => @if cost.behind > 0 { strong.behind { (cost.words()) } } @else { (cost.words()) },
            None => span.absent { "–" },
        } } }
    };
    html! {
        section.tile {
            h2 { "Foreshade's cost" }
            p.note { "as a multiple of another's, geometric mean of the cases; orange where it is worse beyond its spread" }
            table.entries {
                thead { tr {
                    th scope="col" { "against" }
                    th.number scope="col" { "CPU" }
                    th.number scope="col" { "requests/s" }
                } }
                tbody { @for name in &names { tr {
                    th scope="row" { (swatch(cast.look(name))) (Who::tuned(name).label()) }
                    (cell(name, Measure::CpuPerRequestUs))
                    (cell(name, Measure::RequestsPerSecond))
                } } }
            }
        }
    }
}

/// Every scenario and every measure in which foreshade loses, by rival and by measure.
fn behind(duels: &[Duel<'_>], costs: &[Cost<'_>], cast: &Cast) -> Markup {
    let winners: Vec<(Who<'_>, Vec<&Duel<'_>>)> = standing::rivals(duels, cast)
        .into_iter()
        .map(|rival| {
            let lost = duels
                .iter()
                .filter(|duel| duel.rival == rival && duel.standing == Standing::Behind);
            (rival, lost.collect())
        })
        .filter(|(_, lost): &(_, Vec<_>)| !lost.is_empty())
        .collect();
    let mut measures: Vec<Measure> = costs
        .iter()
        .filter(|cost| cost.behind > 0)
        .map(|cost| cost.measure)
        .collect();
    measures.dedup();
    html! {
        section.verdict.losses {
            h2 { "Where foreshade is behind" }
            @if winners.is_empty() && measures.is_empty() {
                p { "Nowhere in these results, beyond what chance explains." }
            }
            ul {
                @for (rival, lost) in &winners {
                    li {
                        strong { "Against " (rival.label()) } ", in harm per 1,000 requests: "
                        @for (index, duel) in lost.iter().enumerate() {
                            @if index > 0 { ", " }
                            (scenario::title(duel.scenario)) " (" (signed((duel.harm.median * 100.0).round() / 100.0)) ")"
                        }
                    }
                }
                @for measure in &measures {
                    li {
                        strong { (compare::kind(*measure).name) } ": "
                        @let worse = costs.iter().filter(|cost| cost.measure == *measure && cost.behind > 0);
                        @for (index, cost) in worse.enumerate() {
                            @if index > 0 { ", " }
                            (cost.words()) " " (Who::tuned(cost.contender).label())
                            @if cost.behind < cost.cases { " (worse in " (cost.behind) " of " (cost.cases) " cases)" }
                        }
                    }
                }
            }
        }
    }
}
