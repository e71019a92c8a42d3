//! `foreshade-bench soak`: a long run at full load, and whether the proxy has grown by it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::reloads::{describe, print};
use crate::soak::{self, LENGTH_MIN, Options, PAUSE_MAX, Progress};
use crate::stage::process::{Programs, Scratch};
use crate::stage::topology::Topology;
use crate::table::Provenance;
use crate::terminal;

/// What to play.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// How long, in minutes.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// How long, in seconds: to try it out.
    #[arg(long, conflicts_with = "minutes", value_parser = clap::value_parser!(u64).range(LENGTH_MIN.as_secs()..))]
    seconds: Option<u64>,
    /// Kept connections, each of which asks again as soon as it is answered.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    connections: u16,
    /// The configuration; its addresses are changed, and what an edge has is added.
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
    let scratch = Scratch::new("soak")?;
    let options = Options {
        length: Duration::from_secs(arguments.seconds.unwrap_or(arguments.minutes * 60)),
        connections: arguments.connections.into(),
    };
    let here = Provenance::here();
    terminal::line(&format!(
        "Full load for {:?}, 2 workers, {} kept connections; {} cores ({})",
        options.length, options.connections, here.cores, here.processor
    ));
    let report = soak::run(&programs, &topology, scratch.path(), options, line)?;
    let [kept, new, left, broke] = report.kinds;
    let Progress {
        requests,
        failed,
        shifts,
        ..
    } = report.progress;
    for line in [
        format!("requests           {requests}, {failed} failed; {shifts} shifts"),
        format!(
            "of them            {kept} kept, {new} on new connections, {left} went away, {broke} broke the rules"
        ),
        format!("not judged         the first {:?}", report.warm_up),
        format!(
            "longest pause      {:.1} s between two readings",
            report.pause.as_secs_f64()
        ),
    ] {
        terminal::line(&line);
    }
    print(&report.growth);
    ensure!(
        report.pause <= PAUSE_MAX,
        "the machine or the proxy stood still for {:.1} s, so nothing is proven; failures meanwhile: {:?}",
        report.pause.as_secs_f64(),
        report.failures
    );
    ensure!(failed == 0, "users failed: {:?}", report.failures);
    let findings = report.growth.findings(true);
    ensure!(
        findings.is_empty(),
        "the proxy has grown: {}",
        findings.join("; ")
    );
    terminal::line("flat, and nobody failed");
    Ok(())
}

fn line(progress: &Progress) {
    terminal::line(&format!(
        "minute {:>3}   {:>9} requests, {} failed   {}",
        progress.elapsed.as_secs() / 60,
        progress.requests,
        progress.failed,
        describe(progress.usage)
    ));
}
