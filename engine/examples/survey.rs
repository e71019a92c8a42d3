//! Prints every scenario's figures over many seeds, worst and median: `cargo run --release -p foreshade-engine
//! --example survey -- 64 [SCENARIO...] [without PART...]`.
//!
//! Made for whoever tunes the engine: one look shows what a change made better, and where it made something else
//! worse.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::time::Duration;

use foreshade_engine::ablation::{Ablations, Part};
use foreshade_engine::model;
use foreshade_engine::model::audit;
use foreshade_engine::model::figures::Figures;
use foreshade_engine::model::scenario::{NAMES, Scenario};

fn main() {
    let mut args = std::env::args().skip(1);
    let seeds: u64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(16);
    let mut chosen: Vec<String> = args.collect();
    let at = chosen
        .iter()
        .position(|word| word == "without")
        .unwrap_or(chosen.len());
    let without = chosen.split_off(at);
    let parts = without.iter().filter_map(|name| Part::named(name));
    let ablations = parts.fold(Ablations::default(), Ablations::with);
    println!(
        "median|worst   worst p99  back <1.3x s  longest ms  get post fails  \
         clear <5% s  share  return s  turns  thrown %  attempts %  repeats  breaches"
    );
    for name in NAMES {
        if !chosen.is_empty() && !chosen.iter().any(|c| c == name) {
            continue;
        }
        if let Some(mut scenario) = Scenario::named(name) {
            scenario.ablations = ablations;
            survey(name, &scenario, seeds);
        }
    }
}

fn survey(name: &str, scenario: &Scenario, seeds: u64) {
    let (mut figures, mut repeats, mut breaches) = (Vec::new(), 0, Vec::new());
    let (mut thrown, mut attempts) = (0.0_f64, 0.0_f64);
    for seed in 1..=seeds {
        let record = model::run(scenario, seed);
        figures.push(Figures::of(&record, 0));
        let users = f64::from(scenario.load.users);
        let often = record.switches.iter().filter(|switches| **switches > 2).count();
        thrown = thrown.max(100.0 * often as f64 / users);
        attempts = attempts.max(100.0 * record.attempts as f64 / record.requests.len().max(1) as f64);
        repeats += record.repeated_posts;
        let found = audit::breaches(scenario, &record);
        breaches.extend(found.into_iter().map(|b| format!("seed {seed} {b}")));
    }
    let column = |value: &dyn Fn(&Figures) -> f64| {
        let mut values: Vec<f64> = figures.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
        format!(
            "{:.2}|{:.2}",
            at(values.len() / 2),
            at(values.len().saturating_sub(1))
        )
    };
    let seconds = |span: Option<Duration>| span.map_or(f64::INFINITY, |d| d.as_secs_f64());
    println!(
        "{name:12} {:>12} {:>12} {:>14} {:>10} {:>10} {:>10} {:>10} {:>12} {:>10} {thrown:>8.1} {attempts:>8.1} {repeats} {}",
        column(&|f| f.worst_p99),
        column(&|f| seconds(f.back_after)),
        column(&|f| f.longest_get_ms),
        column(&|f| f.failed_gets as f64),
        column(&|f| f.failed_posts as f64),
        column(&|f| seconds(f.clear_after)),
        column(&|f| f.share_max),
        column(&|f| seconds(f.returned_after)),
        column(&|f| f.reversals as f64),
        breaches.len(),
    );
    for breach in breaches.iter().take(3) {
        println!("    {breach}");
    }
}
