//! `foreshade-bench reloads`: many reloads under load, and what users and memory say to it.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::growth::Growth;
use crate::reloads::{self, Options};
use crate::stage::process::{Programs, Scratch};
use crate::stage::topology::Topology;
use crate::stage::usage::Usage;
use crate::terminal;

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

/// Plays and prints. Fails where a user did, and where the proxy has grown.
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
            report.strangers.asked(),
            report.strangers.failed()
        ),
        format!("a reload took      {median} ms in the median, {slowest} ms at most"),
    ] {
        terminal::line(&line);
    }
    print(&report.growth);
    let mut failed = report.failed;
    failed.extend(report.strangers.words());
    failed.truncate(20);
    ensure!(failed.is_empty(), "users failed: {failed:?}");
    let findings = report.growth.findings(false);
    ensure!(
        findings.is_empty(),
        "the proxy has grown: {}",
        findings.join("; ")
    );
    Ok(())
}

/// Prints what was held against what.
pub(super) fn print(growth: &Growth) {
    let [first, last] = growth.under_load.map(describe);
    let [before, after] = growth.at_rest.map(describe);
    for line in [
        format!("first third        {first}"),
        format!("last third         {last}"),
        format!("before the load    {before}"),
        format!("at rest after it   {after}"),
    ] {
        terminal::line(&line);
    }
}

/// In words.
pub(super) fn describe(usage: Usage) -> String {
    format!(
        "{:.1} MiB resident, {} descriptors, {} threads",
        usage.resident_mib, usage.descriptors, usage.threads
    )
}
