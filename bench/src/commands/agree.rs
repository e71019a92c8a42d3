//! `foreshade-bench agree`: whether the simulator says the same as real processes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::agreement::Agreement;
use crate::report::input::{self, Results};
use crate::results::{FaultResults, Time};
use crate::terminal;

/// What to compare.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// What `faults --json` wrote.
    #[arg(long, value_name = "FILE.json")]
    faults: PathBuf,
    /// What `sim --json` wrote, best with the same scenarios at the same rate.
    #[arg(long, value_name = "FILE.json")]
    sim: PathBuf,
    /// Also write the table to this file.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// Prints question by question what both say. A disagreement is a finding, and no failure of the command.
pub fn run(arguments: &Arguments) -> Result<()> {
    let real = read(&arguments.faults, Time::Real)?;
    let simulated = read(&arguments.sim, Time::Virtual)?;
    let agreement = Agreement::of(&real, &simulated);
    ensure!(
        !agreement.twins.is_empty(),
        "{} and {} have no scenario in common",
        arguments.faults.display(),
        arguments.sim.display()
    );
    for line in agreement.lines() {
        terminal::line(&line);
    }
    if let Some(file) = &arguments.markdown {
        std::fs::write(file, agreement.markdown())
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn read(file: &Path, time: Time) -> Result<FaultResults> {
    let wanted = match time {
        Time::Real => "faults",
        Time::Virtual => "sim",
    };
    match input::read(file)?.results {
        Results::Faults(results) if results.time == time => Ok(results),
        _ => bail!("{}: is no result of `{wanted}`", file.display()),
    }
}
