//! `foreshade-bench scenarios`: plays the table of scenarios and judges the product by it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::faults::writable;
use crate::claim::judge;
use crate::faults::of_run;
use crate::play::seat::House;
use crate::play::{Performance, Seat, play};
use crate::results::{self, ContenderResult, FORMAT, FaultResults, ScenarioResult, Setting, Time};
use crate::rivals::Contender;
use crate::run::Run;
use crate::scenario::{Scenario, shipped};
use crate::stage::interrupt::{Interrupt, Interrupted};
use crate::stage::process::{Programs, Scratch};
use crate::stage::topology::Topology;
use crate::table::{self, Provenance, Row};
use crate::terminal;
use crate::verdict::Verdict;

/// Longer scenarios are played only when they are asked for.
const LENGTH_BY_DEFAULT: Duration = Duration::from_secs(120);

/// What to play.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Only these scenarios, as S3,S7 or hang; all but the ten-minute one where absent. Repeatable.
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    only: Vec<String>,
    /// Also the ten-minute one.
    #[arg(long)]
    all: bool,
    /// Play each scenario this many times, with different seeds.
    #[arg(long, default_value_t = 1)]
    repeat: u64,
    /// The configuration; only its addresses are changed.
    #[arg(long, default_value = "configs/quickstart.yaml")]
    config: PathBuf,
    /// The proxy; beside this program where absent.
    #[arg(long)]
    proxy: Option<PathBuf>,
    /// Also write the table to this file.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write everything that was measured to this file, as `faults` does.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print the names of all scenarios and what happens in them, and play none.
    #[arg(long)]
    list: bool,
}

/// Plays and judges. Fails if any claim does.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        for scenario in shipped::all()? {
            terminal::line(&format!("{:<18} {}", scenario.name, scenario.story));
        }
        return Ok(());
    }
    let chosen = choose(arguments)?;
    let outputs = [&arguments.json, &arguments.markdown];
    outputs
        .into_iter()
        .flatten()
        .try_for_each(|path| writable(path))?;
    let hall = Hall {
        programs: Programs::find(arguments.proxy.as_deref())?,
        topology: Topology::load(&arguments.config)?,
        interrupt: Interrupt::watch().context("cannot listen for Ctrl-C")?,
        scratch: Scratch::new("scenarios")?,
    };
    let (mut rows, mut results) = (Vec::new(), Vec::new());
    for scenario in &chosen {
        let runs = match hall.play(scenario, arguments.repeat.max(1)) {
            Err(error) if error.is::<Interrupted>() => break,
            played => played.with_context(|| format!("scenario {}", scenario.name))?,
        };
        let verdicts: Vec<_> = runs.iter().map(|run| verdicts(scenario, run)).collect();
        for row in table::rows(scenario, &verdicts) {
            terminal::line(&table::line(&row));
            rows.push(row);
        }
        results.push(result(scenario, &runs));
    }
    if let Some(file) = &arguments.markdown {
        write(file, &table::markdown(&rows, &Provenance::here()))?;
    }
    if let Some(file) = &arguments.json {
        let results = FaultResults {
            provenance: provenance(),
            time: Time::Real,
            scenarios: results,
        };
        write(file, &serde_json::to_string_pretty(&results)?)?;
    }
    if let Err(interrupted) = hall.interrupt.check() {
        bail!("{interrupted}; what was played until then is kept");
    }
    conclude(&rows)
}

/// Where everything is played.
struct Hall {
    programs: Programs,
    topology: Topology,
    interrupt: Interrupt,
    scratch: Scratch,
}

impl Hall {
    /// Plays a scenario with the seeds from 1 on.
    fn play(&self, scenario: &Scenario, seeds: u64) -> Result<Vec<Run>> {
        let topology = self.topology.for_site(scenario.site)?;
        let one = |seed| {
            let house = House {
                programs: &self.programs,
                scenario,
                seed,
                cable: None,
            };
            let folder = self.scratch.path().join(format!("{}-{seed}", scenario.name));
            one(house, &topology, &folder, &self.interrupt)
        };
        (1..=seeds).map(one).collect()
    }
}

fn verdicts(scenario: &Scenario, run: &Run) -> Vec<Verdict> {
    scenario.claims.iter().map(|claim| judge(claim, run)).collect()
}

/// The runs of foreshade, who has the stage to itself.
fn result(scenario: &Scenario, runs: &[Run]) -> ScenarioResult {
    let seeded = (1..).zip(runs);
    scenario.result(vec![ContenderResult {
        contender: Contender::Foreshade.name().to_owned(),
        setting: Setting::Tuned,
        runs: seeded
            .map(|(seed, run)| of_run(scenario, seed, run, true))
            .collect(),
    }])
}

fn provenance() -> results::Provenance {
    let Provenance {
        command,
        cores,
        processor,
    } = Provenance::here();
    results::Provenance {
        format: FORMAT,
        command,
        cores,
        processor,
        versions: [("foreshade".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
        skipped: [].into(),
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn one(house: House<'_>, topology: &Topology, folder: &Path, interrupt: &Interrupt) -> Result<Run> {
    let mut seat = Seat::configured(house, topology, folder)?;
    let performance = Performance {
        scenario: house.scenario,
        pairs: topology.pairs(),
        seed: house.seed,
        cable: None,
        interrupt,
    };
    let mut runs = play(performance, std::slice::from_mut(&mut seat))?;
    runs.pop().context("nobody played")?
}

fn choose(arguments: &Arguments) -> Result<Vec<Scenario>> {
    let known = shipped::all()?;
    if !arguments.only.is_empty() {
        return Ok(shipped::called(&arguments.only, &known)?);
    }
    // A bad network needs a namespace, for which one's own configuration is not made: `faults` has it.
    let here = |scenario: &Scenario| scenario.network.is_none();
    let short =
        |scenario: &Scenario| here(scenario) && (arguments.all || scenario.length <= LENGTH_BY_DEFAULT);
    Ok(known.into_iter().filter(short).collect())
}

fn conclude(rows: &[Row]) -> Result<()> {
    let failed = rows.iter().filter(|row| !row.holds()).count();
    if failed > 0 {
        bail!("{failed} of {} claims fail", rows.len());
    }
    terminal::line(&format!("all {} claims hold", rows.len()));
    Ok(())
}
