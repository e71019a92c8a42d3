//! `foreshade-bench judge`: our verdict and the rules of others on the same streams of requests.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::faults::writable;
use crate::judge::table::{self, JudgeResults, ScenarioResult};
use crate::judge::{self, Plan, Played, RUNS_MAX};
use crate::results::{FORMAT, Provenance};
use crate::stage::interrupt::Interrupt;
use crate::{quantity, table as real_table, terminal};

/// What to play.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Scenarios by name; all of them where there are none. Repeatable.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Runs of each scenario.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=RUNS_MAX))]
    runs: u64,
    /// Seed of the first run; the others follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of the requests that the canary gets.
    #[arg(long, default_value = "5%", value_parser = share)]
    share: f64,
    /// How long a judge may take, at most a day. Kayenta's rule takes three hours.
    #[arg(long, default_value = "181m", value_parser = quantity::duration)]
    horizon: Duration,
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

/// Plays, prints and writes. A judge that is wrong is told, and is no failure of the command.
pub fn run(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let outputs = [&arguments.json, &arguments.markdown];
    outputs
        .into_iter()
        .flatten()
        .try_for_each(|path| writable(path))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let plan = Plan {
        scenarios: judge::called(&arguments.only).map_err(anyhow::Error::msg)?,
        runs: arguments.runs,
        seed: arguments.seed,
        share: arguments.share,
        horizon: arguments.horizon,
        threads: arguments.threads.unwrap_or(cores),
    };
    let interrupt = Interrupt::watch().context("cannot listen for Ctrl-C")?;
    table::head().lines().for_each(terminal::line);
    let tell = |played: &Played| terminal::line(&table::line(played));
    let played = judge::play(&plan, &interrupt, tell);
    let here = real_table::Provenance::here();
    if let Some(file) = &arguments.json {
        let results = JudgeResults {
            provenance: provenance(&here),
            runs: plan.runs,
            seed: plan.seed,
            share: plan.share,
            horizon_s: plan.horizon.as_secs_f64(),
            scenarios: played.iter().map(ScenarioResult::of).collect(),
        };
        write(file, &serde_json::to_string(&results)?)?;
    }
    if let Some(file) = &arguments.markdown {
        write(file, &table::markdown(&plan, &played, &here))?;
    }
    terminal::line(&format!(
        "{} scenarios; {:.0} s",
        played.len(),
        started.elapsed().as_secs_f64()
    ));
    match interrupt.check() {
        Ok(()) => Ok(()),
        Err(interrupted) => bail!("{interrupted}; what was played until then is kept"),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = quantity::share(text)?;
    if (0.005..=0.995).contains(&share) {
        Ok(share)
    } else {
        Err("a canary gets 0.5% to 99.5%, or there is nothing to compare it with".to_owned())
    }
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
