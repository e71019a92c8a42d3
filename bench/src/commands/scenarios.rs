//! `foreshade-bench scenarios`: plays the table of scenarios and judges the product by it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::claim::judge;
use crate::play::seat::House;
use crate::play::{Performance, Seat, play};
use crate::run::Run;
use crate::scenario::{Scenario, shipped};
use crate::stage::interrupt::Interrupt;
use crate::stage::process::{Programs, Scratch};
use crate::stage::topology::Topology;
use crate::table::{self, Provenance, Row};
use crate::terminal;

/// Longer scenarios are played only when they are asked for.
const LENGTH_BY_DEFAULT: Duration = Duration::from_secs(120);

/// What to play.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Only these scenarios; all but the ten-minute one where absent. Repeatable.
    #[arg(long, value_name = "NAME")]
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
    let programs = Programs::find(arguments.proxy.as_deref())?;
    let topology = Topology::load(&arguments.config)?;
    let interrupt = Interrupt::watch().context("cannot listen for Ctrl-C")?;
    let scratch = Scratch::new("scenarios")?;
    let mut rows = Vec::new();
    for scenario in &chosen {
        let topology = topology.for_site(scenario.site)?;
        let mut runs = Vec::new();
        for turn in 0..arguments.repeat.max(1) {
            let house = House {
                programs: &programs,
                scenario,
                seed: 1 + turn,
                cable: None,
            };
            let folder = scratch.path().join(format!("{}-{turn}", scenario.name));
            let run = one(house, &topology, &folder, &interrupt)
                .with_context(|| format!("scenario {}", scenario.name))?;
            runs.push(scenario.claims.iter().map(|claim| judge(claim, &run)).collect());
        }
        for row in table::rows(scenario, &runs) {
            terminal::line(&table::line(&row));
            rows.push(row);
        }
    }
    if let Some(file) = &arguments.markdown {
        let text = table::markdown(&rows, &Provenance::here());
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    conclude(&rows)
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
