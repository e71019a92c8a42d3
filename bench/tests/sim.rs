//! The scenarios in virtual time: what they say does not depend on who plays them, and the extremes lie where they should.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use foreshade_bench::scenario::{Scenario, shipped};
use foreshade_bench::sim::translate::{Setup, translate};
use foreshade_bench::sim::{self, Plan, Played, one};
use foreshade_bench::stage::interrupt::Interrupt;

fn shipped(names: &[&str]) -> Vec<Scenario> {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let scenarios = shipped::called(&names, &shipped::all().unwrap()).unwrap();
    scenarios.iter().map(|scenario| scenario.at_rate(400.0)).collect()
}

fn plan(names: &[&str], seeds: u64, threads: usize) -> Plan {
    Plan {
        scenarios: shipped(names),
        seeds,
        setup: Setup::default(),
        baselines: true,
        threads,
    }
}

fn play(plan: &Plan) -> Vec<Played> {
    sim::play(plan, &Interrupt::default(), |_| {})
}

fn told(played: &[Played]) -> Vec<String> {
    let seeds = played.iter().flat_map(|scenario| &scenario.seeds);
    seeds.map(|seed| format!("{seed:?}")).collect()
}

#[test]
fn the_same_seed_gives_the_same_result_whoever_plays_it() {
    let names = ["slow-10x", "killed"];
    let alone = told(&play(&plan(&names, 3, 1)));
    assert_eq!(alone, told(&play(&plan(&names, 3, 3))));
    let scenario = &shipped(&["slow-10x"])[0];
    let again = one(scenario, &translate(scenario, Setup::default()), 2, true);
    assert_eq!(
        alone.iter().filter(|seed| **seed == format!("{again:?}")).count(),
        1
    );
}

#[test]
fn the_product_lies_between_nobody_and_the_oracle() {
    for played in play(&plan(&["slow-10x", "killed", "hang", "errors-50"], 2, 2)) {
        for seed in &played.seeds {
            let harm: Vec<_> = seed.results.iter().map(|result| result.figures.harm).collect();
            let [product, nobody, oracle] = harm[..] else {
                panic!("{} contenders", harm.len());
            };
            let name = &played.scenario.name;
            assert!(
                oracle <= product + 1.0 && product < 0.5 * nobody,
                "{name}: {oracle} {product} {nobody}"
            );
            let avoided = seed.results[0].figures.avoided_harm.unwrap();
            assert!((0.5..=1.01).contains(&avoided), "{name}: {avoided}");
        }
    }
}

#[test]
fn a_run_without_a_fault_harms_nobody_and_moves_nobody() {
    for played in play(&plan(&["healthy-1m"], 2, 2)) {
        for seed in &played.seeds {
            assert!(
                seed.verdicts.iter().all(|verdict| verdict.holds),
                "{:?}",
                seed.verdicts
            );
            assert_eq!(seed.results[0].figures.avoided_harm, None);
            assert_eq!(seed.inside.share_turns, 0);
        }
    }
}

#[test]
fn an_interrupted_play_keeps_what_it_has() {
    let interrupt = Interrupt::default();
    let mut plan = plan(&["slow-10x", "killed"], 2, 1);
    plan.baselines = false;
    let played = sim::play(&plan, &interrupt, |_| interrupt.ask());
    assert!((2..4).contains(&played.iter().map(|scenario| scenario.seeds.len()).sum::<usize>()));
    assert_eq!(played[0].scenario.name, "killed", "in the order of the table");
}
