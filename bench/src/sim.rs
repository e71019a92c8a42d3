//! The scenarios in virtual time: many seeds instead of one, and what cannot be had on real sockets.
//!
//! The same files as the real run, the same judge and the same figures ([`virtual_run`]); in between the engine's own
//! model ([`mod@translate`]). Three contenders play each seed with the same users: the product, nobody, who reacts to
//! nothing, and an oracle, who knows every fault beforehand; harm that is avoided is counted between the latter two.
//! Seeds are dealt to threads one by one, and what comes of each depends on nothing but its scenario and number.
//!
//! [`ladder`] plays them again with one part of the engine taken out at a time.

pub mod ladder;
pub mod table;
pub mod translate;
pub mod virtual_run;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use foreshade_engine::model::Contender;
use foreshade_engine::model::fault;
use foreshade_engine::model::load::Draws;
use foreshade_engine::model::record::{Look, Record as Recorded, SWING, turns};
use foreshade_engine::model::scenario::Scenario as Modelled;

use self::translate::{Setup, translate};
use self::virtual_run::LOOKS_PER_S;
use crate::claim::judge;
use crate::farm::EndpointCounts;
use crate::figures::{self, avoided, curve, seconds};
use crate::results::{ContenderResult, Figures, ScenarioResult, SeedResult, Setting};
use crate::run::Run;
use crate::scenario::Scenario;
use crate::stage::interrupt::Interrupt;
use crate::verdict::Verdict;

/// Seeds for each scenario at most: a run's record takes megabytes of a file.
pub const SEEDS_MAX: u64 = 100_000;

/// What to play.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In this order.
    pub scenarios: Vec<Scenario>,
    /// Seeds 1 to this one.
    pub seeds: u64,
    /// Beside what the files say.
    pub setup: Setup,
    /// Nobody and the oracle play as well.
    pub baselines: bool,
    /// Threads that play; at least one.
    pub threads: usize,
}

/// One scenario, all seeds.
#[derive(Clone, Debug)]
pub struct Played {
    /// Which.
    pub scenario: Scenario,
    /// By seed, in their order.
    pub seeds: Vec<Seed>,
}

/// One seed of one scenario.
#[derive(Clone, Debug)]
pub struct Seed {
    /// Its number.
    pub seed: u64,
    /// One for each claim of the scenario.
    pub verdicts: Vec<Verdict>,
    /// In the order of [`CONTENDERS`]; the product alone where there are no baselines.
    pub results: Vec<SeedResult>,
    /// What only the model knows.
    pub inside: Inside,
}

/// What a model knows of a run and no real one tells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Inside {
    /// Attempts at endpoints for each request between onset and healing.
    pub amplification: f64,
    /// Changes of sides for each request of a user who had been at the same pair before.
    pub side_changes: f64,
    /// The most that any standby got in a second, as a part of what it can carry.
    pub standby_load: f64,
    /// Turns of the share of the faulty endpoint, beyond there and back, at the proxy where there were most.
    pub share_turns: u64,
}

/// Who plays, and how it is called in the results.
pub const CONTENDERS: [(Contender, &str); 3] = [
    (Contender::Foreshade, "foreshade"),
    (Contender::Nobody, "none"),
    (Contender::Oracle, "oracle"),
];

/// Plays all of `plan`. `told` hears of each scenario that is done, in the order of the plan. After an interruption,
/// what was played until then is returned.
pub fn play(plan: &Plan, interrupt: &Interrupt, mut told: impl FnMut(&Played)) -> Vec<Played> {
    let modelled = plan
        .scenarios
        .iter()
        .map(|scenario| translate(scenario, plan.setup));
    let modelled: Vec<Modelled> = modelled.collect();
    let seeds = usize::try_from(plan.seeds.clamp(1, SEEDS_MAX)).unwrap_or(usize::MAX);
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut played: Vec<Played> = Vec::new();
    let mut open: Vec<Vec<Seed>> = vec![Vec::new(); plan.scenarios.len()];
    thread::scope(|scope| {
        for _ in 0..plan.threads.max(1) {
            let (sender, next, modelled) = (sender.clone(), &next, &modelled);
            scope.spawn(move || {
                while interrupt.check().is_ok() {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    let (index, seed) = (turn / seeds, turn as u64 % seeds as u64 + 1);
                    let scenario = plan.scenarios.get(index).zip(modelled.get(index));
                    let Some((scenario, modelled)) = scenario else {
                        return;
                    };
                    if sender
                        .send((index, one(scenario, modelled, seed, plan.baselines)))
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (index, seed) in receiver {
            if let Some(seeds) = open.get_mut(index) {
                seeds.push(seed);
            }
            // Threads end a scenario in any order, and are told of in the plan's.
            while let Some(done) = open.get_mut(played.len()).filter(|done| done.len() == seeds) {
                played.extend(Played::of(plan, played.len(), std::mem::take(done)));
                played.last().into_iter().for_each(&mut told);
            }
        }
    });
    for (index, seeds) in open
        .into_iter()
        .enumerate()
        .filter(|(_, seeds)| !seeds.is_empty())
    {
        played.extend(Played::of(plan, index, seeds));
    }
    played
}

impl Played {
    fn of(plan: &Plan, index: usize, mut seeds: Vec<Seed>) -> Option<Self> {
        seeds.sort_by_key(|seed| seed.seed);
        let scenario = plan.scenarios.get(index)?.clone();
        Some(Self { scenario, seeds })
    }
}

/// Plays one seed of one scenario with the product, and with the others if `baselines`.
pub fn one(scenario: &Scenario, modelled: &Modelled, seed: u64, baselines: bool) -> Seed {
    let mut draws = Draws::new(&modelled.load, seed);
    let mut play = |contender, end| virtual_run::play(scenario, modelled, &mut draws, (contender, end));
    let (recorded, run) = play(Contender::Foreshade, None);
    let verdicts: Vec<Verdict> = scenario.claims.iter().map(|claim| judge(claim, &run)).collect();
    let measured = |run: &Run| SeedResult {
        seed,
        figures: figures::of(run),
        // The first seed stands for all where single runs are drawn.
        seconds: if seed == 1 { seconds(run) } else { Vec::new() },
        healthy: if seed == 1 {
            curve(run, run.healthy)
        } else {
            Vec::new()
        },
        during: if seed == 1 {
            curve(run, run.fault)
        } else {
            Vec::new()
        },
    };
    let mut product = measured(&run);
    product.figures.broken = scenario
        .claims
        .iter()
        .zip(&verdicts)
        .filter(|(_, verdict)| !verdict.holds)
        .map(|(claim, verdict)| format!("{claim}: {}", verdict.measured))
        .collect();
    let mut results = vec![product];
    if baselines {
        results.extend(
            [Contender::Nobody, Contender::Oracle]
                .map(|contender| measured(&play(contender, Some(recorded.end)).1)),
        );
    }
    if let [_, nobody, oracle] = results.as_slice() {
        let (nobody, oracle) = (nobody.figures.harm, oracle.figures.harm);
        for result in &mut results {
            result.figures.avoided_harm = avoided(result.figures.harm, nobody, oracle);
        }
    }
    Seed {
        seed,
        verdicts,
        results,
        inside: Inside::of(scenario, modelled, &recorded, &run),
    }
}

impl Seed {
    /// What the product came to.
    pub fn product(&self) -> Figures {
        self.results
            .first()
            .map_or_else(Figures::default, |result| result.figures.clone())
    }
}

impl Inside {
    fn of(scenario: &Scenario, modelled: &Modelled, recorded: &Recorded, run: &Run) -> Self {
        let asked = run.records.within(run.fault).len().max(1) as f64;
        let names = translate::names(&run.pairs);
        let attempts: f64 = names
            .iter()
            .map(|name| run.timeline.requests(name, run.fault, EndpointCounts::requests))
            .sum();
        let changes: u64 = recorded.switches.iter().map(|changes| u64::from(*changes)).sum();
        Self {
            amplification: attempts / asked,
            side_changes: changes as f64 / recorded.revisits.max(1) as f64,
            standby_load: standby_load(scenario, modelled, recorded, run.pairs.len()),
            share_turns: share_turns(recorded, run.faulty),
        }
    }
}

/// The largest part of its capacity that any standby got within a second.
fn standby_load(scenario: &Scenario, modelled: &Modelled, recorded: &Recorded, primaries: usize) -> f64 {
    let sigma = scenario.service.sigma;
    let mean_s = scenario.service.median.as_secs_f64() * (sigma * sigma / 2.0).exp();
    let requests = |look: &Look, endpoint: usize| -> u64 {
        let seen = look.endpoints.get(endpoint);
        seen.map_or(0, |seen| seen.by_path.iter().sum())
    };
    let mut most = 0.0_f64;
    for (early, late) in recorded.looks.iter().zip(recorded.looks.iter().skip(LOOKS_PER_S)) {
        for (endpoint, cores) in modelled.cores.iter().enumerate().skip(primaries) {
            let left = fault::condition(&modelled.faults, endpoint, None, late.at).capacity;
            let got = requests(late, endpoint).saturating_sub(requests(early, endpoint));
            most = most.max(got as f64 * mean_s / (cores * left.max(1e-3)));
        }
    }
    most
}

/// Turns of the share at the proxy where there were most, beyond there and back.
fn share_turns(recorded: &Recorded, primary: usize) -> u64 {
    let proxies = std::iter::once(&recorded.ticks).chain(&recorded.other_ticks);
    let most = proxies.map(|ticks| turns(ticks, primary, SWING)).max();
    most.unwrap_or(0).saturating_sub(1) as u64
}

/// The results of one scenario in the form in which they are kept.
pub fn result(played: &Played) -> ScenarioResult {
    let contender = |(index, (_, name)): (usize, &(Contender, &str))| ContenderResult {
        contender: (*name).to_owned(),
        setting: Setting::Tuned,
        runs: played
            .seeds
            .iter()
            .filter_map(|seed| seed.results.get(index).cloned())
            .collect(),
    };
    let contenders = CONTENDERS.iter().enumerate().map(contender);
    let took_part = contenders.filter(|contender| !contender.runs.is_empty());
    played.scenario.result(took_part.collect())
}
