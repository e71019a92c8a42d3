//! `foreshade-bench scenarios`: plays the table of scenarios and judges the product by it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::claim::judge;
use crate::scenario::play;
use crate::scenarios::{self, Scenario};
use crate::stage::process::{Programs, Scratch};
use crate::stage::topology::Topology;
use crate::table::{self, Provenance, Row};
use crate::terminal;

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
        for scenario in scenarios::all() {
            terminal::line(&format!("{:<18} {}", scenario.name, scenario.story));
        }
        return Ok(());
    }
    let chosen = choose(arguments)?;
    let programs = Programs::find(arguments.proxy.as_deref())?;
    let topology = Topology::load(&arguments.config)?;
    let scratch = Scratch::new("scenarios")?;
    let mut rows = Vec::new();
    for scenario in &chosen {
        let mut runs = Vec::new();
        for turn in 0..arguments.repeat.max(1) {
            let folder = scratch.path().join(format!("{}-{turn}", scenario.name));
            let run = play(scenario, &programs, &topology, &folder, 1 + turn)
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

fn choose(arguments: &Arguments) -> Result<Vec<Scenario>> {
    let known = scenarios::all();
    if let Some(unknown) = arguments
        .only
        .iter()
        .find(|name| known.iter().all(|scenario| scenario.name != **name))
    {
        let names: Vec<_> = known.iter().map(|scenario| scenario.name).collect();
        bail!("there is no scenario {unknown:?}; there are {}", names.join(", "));
    }
    let only = |scenario: &Scenario| arguments.only.iter().any(|name| name == scenario.name);
    let short = |scenario: &Scenario| arguments.all || scenario.length <= scenarios::LENGTH_BY_DEFAULT;
    let chosen = known
        .into_iter()
        .filter(|scenario| match arguments.only.is_empty() {
            true => short(scenario),
            false => only(scenario),
        });
    Ok(chosen.collect())
}

fn conclude(rows: &[Row]) -> Result<()> {
    let failed = rows.iter().filter(|row| !row.holds()).count();
    if failed > 0 {
        bail!("{failed} of {} claims fail", rows.len());
    }
    terminal::line(&format!("all {} claims hold", rows.len()));
    Ok(())
}
