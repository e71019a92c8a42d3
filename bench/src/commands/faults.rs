//! `foreshade-bench faults`: foreshade and its rivals in the same scenarios at the same time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::faults::{Cast, RATE, compete, lasts_at_most, table};
use crate::quantity::scenario_rate;
use crate::results::{FORMAT, FaultResults, Provenance, Time};
use crate::rivals::Contender;
use crate::scenario::{Scenario, file, shipped};
use crate::stage::interrupt::Interrupt;
use crate::stage::process::{Programs, Scratch};
use crate::table::Provenance as Here;
use crate::terminal;

/// What to play, and who.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub struct Arguments {
    /// The table of faults: every scenario that has a number, S0 to S14.
    #[arg(long, group = "what")]
    all: bool,
    /// These scenarios, by name or number, as S3,S7 or hang.
    #[arg(long, group = "what", value_delimiter = ',', value_name = "NAME,...")]
    only: Vec<String>,
    /// A scenario of your own; bench/scenarios has examples. Repeatable.
    #[arg(long, group = "what", value_name = "FILE")]
    scenario: Vec<PathBuf>,
    /// Print the names of all scenarios and what happens in them, and play none.
    #[arg(long, group = "what")]
    list: bool,
    /// Who takes part. `none` notices nothing, `oracle` knows the fault beforehand.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME,...",
        default_value = "foreshade,nginx,haproxy,envoy,none,oracle"
    )]
    contenders: Vec<Contender>,
    /// Rivals also as they come, beside tuned.
    #[arg(long)]
    defaults: bool,
    /// Play each scenario this many times, with different seeds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Highest requests per second for each contender.
    #[arg(long, default_value_t = RATE, value_parser = scenario_rate)]
    rate: f64,
    /// foreshade's program; beside this one where absent.
    #[arg(long)]
    proxy: Option<PathBuf>,
    /// Write everything that was measured to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables to this file.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Keep configurations and logs in this folder.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

/// Plays, prints a table per scenario, and writes what was asked for. Losing is no failure; measuring nothing is.
pub fn run(arguments: &Arguments) -> Result<()> {
    let known = shipped::all()?;
    if arguments.list {
        for Scenario { name, id, story, .. } in &known {
            terminal::line(&format!(
                "{:<4}{name:<20}{story}",
                id.as_deref().unwrap_or_default()
            ));
        }
        return Ok(());
    }
    let scenarios = choose(arguments, &known)?;
    let outputs = [&arguments.json, &arguments.markdown];
    outputs
        .into_iter()
        .flatten()
        .try_for_each(|path| writable(path))?;
    let programs = Programs::find(arguments.proxy.as_deref())?;
    let interrupt = Interrupt::watch().context("cannot listen for Ctrl-C")?;
    let mut cast = Cast::find(&arguments.contenders, arguments.defaults, &programs);
    for (name, why) in &cast.skipped {
        terminal::note(&format!("skipped: {name}: {why}"));
    }
    ensure!(!cast.entrants.is_empty(), "none of the contenders can take part");
    terminal::line(&programme(&scenarios, arguments.seeds, cast.entrants.len()));
    let told: BTreeSet<String> = cast.skipped.keys().cloned().collect();
    let scratch = Scratch::new("faults")?;
    let folder = arguments.keep.as_deref().unwrap_or(scratch.path());
    let played = compete(
        &scenarios,
        arguments.seeds,
        &mut cast,
        (&programs, folder, &interrupt),
        |result| {
            for line in table::lines(result) {
                terminal::line(&line);
            }
        },
    )?;
    for (name, why) in cast.skipped.iter().filter(|(name, _)| !told.contains(*name)) {
        terminal::note(&format!("skipped: {name}: {why}"));
    }
    let results = FaultResults {
        provenance: provenance(&cast),
        time: Time::Real,
        scenarios: played,
    };
    write(arguments, &results)?;
    match (interrupt.check(), results.scenarios.is_empty()) {
        (Err(interrupted), _) => bail!("{interrupted}; what was played until then is kept"),
        (Ok(()), true) => bail!("nothing could be played"),
        (Ok(()), false) => Ok(()),
    }
}

/// What is going to be played, and how long that takes.
fn programme(scenarios: &[Scenario], seeds: u64, contenders: usize) -> String {
    let minutes = lasts_at_most(scenarios, seeds, contenders).as_secs().div_ceil(60);
    format!(
        "{} scenarios, seeds 1 to {seeds}, {contenders} contenders at the same time: at most {minutes} min",
        scenarios.len()
    )
}

fn choose(arguments: &Arguments, known: &[Scenario]) -> Result<Vec<Scenario>> {
    let mut chosen = shipped::called(&arguments.only, known)?;
    if arguments.all {
        let numbered = known.iter().filter(|scenario| scenario.id.is_some());
        let missing = numbered.filter(|scenario| arguments.only.iter().all(|word| !scenario.is_called(word)));
        chosen.extend(missing.cloned().collect::<Vec<_>>());
    }
    for path in &arguments.scenario {
        chosen.push(file::load(path)?);
    }
    Ok(chosen
        .iter()
        .map(|scenario| scenario.at_rate(arguments.rate))
        .collect())
}

/// Finds out before the run whether its results can be written after it.
pub(super) fn writable(path: &Path) -> Result<()> {
    let is_new = !path.exists();
    let mut options = std::fs::OpenOptions::new();
    let opened = options.create(true).append(true).open(path);
    opened.with_context(|| format!("cannot write {}", path.display()))?;
    if is_new {
        // An empty file would say that something came of it.
        std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

fn provenance(cast: &Cast) -> Provenance {
    let Here {
        command,
        cores,
        processor,
    } = Here::here();
    Provenance {
        format: FORMAT,
        command,
        cores,
        processor,
        versions: cast.versions(),
        skipped: cast.skipped.clone(),
    }
}

fn write(arguments: &Arguments, results: &FaultResults) -> Result<()> {
    let mut files = Vec::new();
    if let Some(path) = &arguments.json {
        files.push((path, serde_json::to_string_pretty(results)?));
    }
    if let Some(path) = &arguments.markdown {
        files.push((path, table::markdown(results)));
    }
    for (path, text) in files {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
