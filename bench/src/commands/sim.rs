//! `foreshade-bench sim`: plays the scenarios in virtual time, with many seeds.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use foreshade_engine::ablation::{Ablations, Part};

use super::faults::writable;
use crate::quantity::scenario_rate;
use crate::results::{FORMAT, FaultResults, Provenance, Time};
use crate::scenario::{Scenario, file, shipped};
use crate::sim::ladder::{self, Rung};
use crate::sim::table::{self, ClaimRow};
use crate::sim::translate::Setup;
use crate::sim::{self, Plan, Played, SEEDS_MAX};
use crate::stage::interrupt::Interrupt;
use crate::{table as real_table, terminal};

/// Longer scenarios are played only where they are named: a thousand times ten minutes cost as much as all the others.
const LENGTH_MAX: Duration = Duration::from_secs(120);

/// The word for the ladder of all parts.
const EVERY_PART: &str = "all";

/// What to play.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Scenarios by name or number, as S3,S7 or hang. Repeatable.
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    only: Vec<String>,
    /// All scenarios that last two minutes at most.
    #[arg(long)]
    all: bool,
    /// A scenario of your own, from a file. Repeatable.
    #[arg(long, value_name = "FILE")]
    scenario: Vec<PathBuf>,
    /// Seeds of each scenario, from 1 on.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=SEEDS_MAX))]
    seeds: u64,
    /// Highest requests per second of each scenario [default: each scenario's own, at which its promises are made]
    #[arg(long, value_parser = scenario_rate)]
    rate: Option<f64>,
    /// Proxies that share the endpoints and know nothing of each other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    proxies: u16,
    /// Take a part out of the engine; `all` for the ladder: each part by itself, held against the whole. Repeatable.
    #[arg(long, value_delimiter = ',', value_name = "PART,...")]
    ablate: Vec<String>,
    /// Threads; as many as there are cores where absent.
    #[arg(long)]
    threads: Option<usize>,
    /// Also write all figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write the tables to this file.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// Plays, prints and writes. Claims that do not hold are told, and are no failure of the command: a thousand seeds
/// find what happens once in a thousand times.
pub fn run(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let ladder = arguments.ablate.iter().any(|name| name == EVERY_PART);
    let plan = plan(arguments, ladder)?;
    let outputs = [&arguments.json, &arguments.markdown];
    outputs
        .into_iter()
        .flatten()
        .try_for_each(|path| writable(path))?;
    let tell = |played: &Played| table::lines(played).iter().for_each(|line| terminal::line(line));
    let interrupt = Interrupt::watch().context("cannot listen for Ctrl-C")?;
    let played = sim::play(&plan, &interrupt, tell);
    let mut rungs = Vec::new();
    if ladder {
        let tell = |rung: &Rung| terminal::line(&ladder::line(rung));
        rungs = ladder::climb(&plan, &played, &interrupt, tell);
    }
    let here = real_table::Provenance::here();
    if let Some(file) = &arguments.json {
        let results = FaultResults {
            provenance: provenance(&here),
            time: Time::Virtual,
            scenarios: played.iter().map(sim::result).collect(),
        };
        write(file, &serde_json::to_string(&results)?)?;
    }
    if let Some(file) = &arguments.markdown {
        let mut text = table::markdown(&played, &here);
        if ladder {
            text.push_str(&ladder::markdown(&rungs));
        }
        write(file, &text)?;
    }
    let claims: Vec<_> = played.iter().flat_map(ClaimRow::of).collect();
    terminal::line(&format!(
        "{}; {} seeds of each scenario, {:.0} s",
        ClaimRow::summary(&claims),
        plan.seeds,
        started.elapsed().as_secs_f64()
    ));
    match interrupt.check() {
        Ok(()) => Ok(()),
        Err(interrupted) => bail!("{interrupted}; what was played until then is kept"),
    }
}

fn plan(arguments: &Arguments, ladder: bool) -> Result<Plan> {
    let scenarios = choose(arguments)?;
    let scenarios = scenarios
        .iter()
        .map(|scenario| scenario.at_rate(arguments.rate.unwrap_or(scenario.highest_rate())))
        .collect();
    let mut ablations = Ablations::default();
    for name in arguments.ablate.iter().filter(|name| *name != EVERY_PART) {
        let part = Part::named(name).with_context(|| {
            let names: Vec<_> = Part::ALL.iter().map(|part| part.label()).collect();
            format!(
                "the engine has no part {name:?}; there are {}, and {EVERY_PART}",
                names.join(", ")
            )
        })?;
        ablations = ablations.with(part);
    }
    if ladder && ablations != Ablations::default() {
        bail!("`--ablate {EVERY_PART}` takes each part out by itself; name no other part beside it");
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Plan {
        scenarios,
        seeds: arguments.seeds,
        setup: Setup {
            proxies: usize::from(arguments.proxies),
            ablations,
        },
        baselines: true,
        threads: arguments.threads.unwrap_or(cores),
    })
}

fn choose(arguments: &Arguments) -> Result<Vec<Scenario>> {
    let known = shipped::all()?;
    let mut chosen = shipped::called(&arguments.only, &known)?;
    if arguments.all {
        let missing = known.into_iter().filter(|scenario| {
            scenario.length <= LENGTH_MAX && chosen.iter().all(|named| named.name != scenario.name)
        });
        chosen.extend(missing.collect::<Vec<_>>());
    }
    for path in &arguments.scenario {
        chosen.push(file::load(path)?);
    }
    ensure!(
        !chosen.is_empty(),
        "nothing to play: name scenarios with --only, files with --scenario, or ask for --all"
    );
    Ok(chosen)
}

fn provenance(here: &real_table::Provenance) -> Provenance {
    Provenance {
        format: FORMAT,
        command: here.command.clone(),
        cores: here.cores,
        processor: here.processor.clone(),
        versions: [("foreshade".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
        skipped: std::collections::BTreeMap::new(),
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
