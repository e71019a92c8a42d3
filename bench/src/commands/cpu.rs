//! `foreshade-bench cpu`: CPU time per request, ours against bare pingora-proxy.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::cpu::{self, CONNECTIONS, Cost, CpuOptions, Round, spread};
use crate::stage::process::{Programs, Scratch};
use crate::stage::topology::Topology;
use crate::table::Provenance;
use crate::terminal;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Pairs of measurements.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds per measurement.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Requests per second for each, below what they can; 0 for as many as each can, which favours the faster one.
    #[arg(long, default_value_t = 10_000)]
    rate: u32,
    /// The configuration of ours; addresses and the number of workers are changed.
    #[arg(long, default_value = "configs/quickstart.yaml")]
    config: PathBuf,
    /// The proxy; beside this program where absent.
    #[arg(long)]
    proxy: Option<PathBuf>,
}

/// Measures and prints.
pub fn run(arguments: &Arguments) -> Result<()> {
    let programs = Programs::find(arguments.proxy.as_deref())?;
    let topology = Topology::load(&arguments.config)?;
    let scratch = Scratch::new("cpu")?;
    let options = CpuOptions {
        rounds: arguments.rounds,
        length: Duration::from_secs(arguments.seconds),
        settling: Duration::from_secs(1),
        rate: (arguments.rate > 0).then(|| f64::from(arguments.rate)),
    };
    let here = Provenance::here();
    terminal::line(&format!(
        "CPU time per request, 1 worker, {CONNECTIONS} connections, 100-byte body; {} cores ({})",
        here.cores, here.processor
    ));
    let on_round = |round: usize, measured: &Round| {
        let ratio = measured.ours.total_us() / measured.bare.total_us();
        terminal::line(&format!(
            "round {:>2}   foreshade-proxy {}   bare pingora-proxy {}   ratio {ratio:.3}",
            round + 1,
            describe(&measured.ours),
            describe(&measured.bare),
        ));
    };
    let rounds = cpu::measure(&programs, &topology, scratch.path(), &options, on_round)?;
    let summary = |what: &str, (median, least, most): (f64, f64, f64)| {
        terminal::line(&format!(
            "{what:<20} median {median:.3}  (from {least:.3} to {most:.3})"
        ));
    };
    summary(
        "foreshade-proxy, us",
        spread(rounds.iter().map(|round| round.ours.total_us())),
    );
    summary(
        "bare, us",
        spread(rounds.iter().map(|round| round.bare.total_us())),
    );
    summary(
        "ratio",
        spread(
            rounds
                .iter()
                .map(|round| round.ours.total_us() / round.bare.total_us()),
        ),
    );
    Ok(())
}

fn describe(cost: &Cost) -> String {
    format!(
        "{:>5.1} us (user {:.1}, system {:.1}, {:.0}/s)",
        cost.total_us(),
        cost.user_us,
        cost.system_us,
        cost.rps
    )
}
