//! `foreshade-bench reloads`: many reloads under load, and what users and memory say to it.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::process::{Programs, Scratch};
use crate::reloads::{self, Options, Usage};
use crate::terminal;
use crate::topology::Topology;

/// What to play.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// How many reloads.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(20..=100_000))]
    reloads: u64,
    /// Requests per second on kept connections.
    #[arg(long, default_value_t = 2_000.0)]
    rate: f64,
    /// The configuration; its addresses are changed.
    #[arg(long, default_value = "configs/quickstart.yaml")]
    config: PathBuf,
    /// The proxy; beside this program where absent.
    #[arg(long)]
    proxy: Option<PathBuf>,
}

/// Plays and prints. Fails where a user did.
pub fn run(arguments: &Arguments) -> Result<()> {
    let programs = Programs::find(arguments.proxy.as_deref())?;
    let topology = Topology::load(&arguments.config)?;
    let scratch = Scratch::new("reloads")?;
    let options = Options {
        reloads: usize::try_from(arguments.reloads)?,
        rate: arguments.rate,
    };
    let on_reload = |done: usize, usage: Usage| {
        if done.is_multiple_of(20) {
            terminal::line(&format!("{done:>5} reloads   {}", describe(usage)));
        }
    };
    let report = reloads::run(&programs, &topology, scratch.path(), options, on_reload)?;
    let [warm, last] = report.usage.map(describe);
    let [median, slowest] = report.took.map(|took| took.as_millis());
    for line in [
        format!(
            "kept connections   {} requests, {} failed, p99 {:?}",
            report.requests,
            report.failed.len(),
            report.p99
        ),
        format!(
            "new connections    {} requests, {} failed",
            report.strangers,
            report.strangers_failed.len()
        ),
        format!("a reload took      {median} ms in the median, {slowest} ms at most"),
        format!("after the warm-up  {warm}"),
        format!("at the end         {last}"),
    ] {
        terminal::line(&line);
    }
    let failed: Vec<_> = report
        .failed
        .iter()
        .chain(&report.strangers_failed)
        .take(20)
        .collect();
    ensure!(failed.is_empty(), "users failed: {failed:?}");
    Ok(())
}

fn describe(usage: Usage) -> String {
    format!(
        "{:.1} MiB resident, {} descriptors",
        usage.resident_mib, usage.descriptors
    )
}
