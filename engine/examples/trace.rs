//! Prints one simulated run, a line per tick: `cargo run --release -p foreshade-engine --example trace -- slow10 7`.
//!
//! Made for whoever tunes the engine: what the users felt (p99 of the last second), what was believed of the sick
//! endpoint and its shadow (risk, hazards by group), and what was done about it (share, phase, cap and what binds),
//! side by side.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use foreshade_engine::assessment::Group;
use foreshade_engine::model;
use foreshade_engine::model::record::{EndpointTick, Record};
use foreshade_engine::model::scenario::{NAMES, Scenario};
use foreshade_engine::moment::Moment;

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let Some(scenario) = Scenario::named(&name) else {
        println!(
            "usage: trace SCENARIO [SEED] [PRIMARY] [FROM_S] [TO_S]\nscenarios: {}",
            NAMES.join(" ")
        );
        return;
    };
    let mut number = |default: u64| args.next().and_then(|a| a.parse().ok()).unwrap_or(default);
    let (seed, primary, from_s, to_s) = (number(1), number(0), number(0), number(u64::MAX));
    let primary = usize::try_from(primary).unwrap_or(0);
    let record = model::run(&scenario, seed);
    let pairs = scenario.spec.endpoints.len() / 2;
    println!(
        "   t  mode    p50/p99 ms fail | primary R/raw/class slow rps bad infl why \
         | share cls trial cap phase bound | shadow R/raw slow rps bad why"
    );
    for (at, tick) in record.ticks.iter().map(|t| (t.at.seconds_since(Moment::ZERO), t)) {
        if at < from_s as f64 || at > to_s as f64 {
            continue;
        }
        let (Some(one), Some(other)) = (tick.endpoints.get(primary), tick.endpoints.get(primary + pairs))
        else {
            continue;
        };
        println!(
            "{at:6.1} {:?}{} {} | {} {} | {} | {}",
            tick.mode,
            if tick.common_cause { "*" } else { "" },
            users(&record, tick.at),
            endpoint(one),
            why(one),
            shift(one),
            format_args!("{} {}", endpoint(other), why(other)),
        );
    }
    println!(
        "{} requests, {} attempts, {} retries, {} moves, {} repeated posts, most switches of a user {}",
        record.requests.len(),
        record.attempts,
        record.retries,
        record.moves,
        record.repeated_posts,
        record.switches.iter().max().unwrap_or(&0),
    );
}

/// What users felt in the second before `at`.
fn users(record: &Record, at: Moment) -> String {
    let from = Moment::from_micros(at.as_micros().saturating_sub(1_000_000));
    let ms = |quantile| record.latency_ms(from..at, quantile).unwrap_or(0.0);
    let now = Moment::from_micros(at.as_micros().saturating_sub(100_000));
    format!("{:4.1}/{:6.1} {:3}", ms(0.5), ms(0.99), record.failed(now..at))
}

fn endpoint(e: &EndpointTick) -> String {
    format!(
        "{:.2}/{:.2}/{:.2} x{:4.2} {:4} {:3} {:3}{}",
        e.risk,
        e.raw,
        e.class_risk,
        e.slowdown,
        e.started * 10,
        e.bad,
        e.in_flight,
        if e.available { "" } else { "!" },
    )
}

/// The groups that add to the risk, by their first letters.
fn why(e: &EndpointTick) -> String {
    let groups = Group::ALL
        .iter()
        .zip(e.hazards)
        .filter(|(_, hazard)| *hazard > 0.005);
    let text: String = groups
        .map(|(group, hazard)| format!("{}{hazard:.1}", group.label().get(..1).unwrap_or_default()))
        .collect();
    format!("{text:10}")
}

fn shift(e: &EndpointTick) -> String {
    e.shift.map_or_else(String::new, |s| {
        format!(
            "{:.3} {:.2} {:.2} {:.2} {:?} {:?}",
            s.share, s.class_share, e.trial, s.cap, s.phase, s.bound
        )
    })
}
