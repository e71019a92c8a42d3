//! `foreshade-bench mirror`: what a mirror costs, and what users see of a target that hangs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::compare::measure::{CONNECTIONS, Cost};
use crate::compare::summary::{Spread, spread};
use crate::load::record::Window;
use crate::mirror::{self, Both, MirrorOptions};
use crate::stage::process::{Programs, Scratch};
use crate::stage::topology::Topology;
use crate::table::Provenance;
use crate::terminal;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Pairs of measurements.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds per measurement.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Share of the requests that is mirrored.
    #[arg(long, default_value = "10%")]
    share: String,
    /// Requests per second, while users are watched.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// The configuration; it needs shadows, and its addresses are changed.
    #[arg(long, default_value = "configs/quickstart.yaml")]
    config: PathBuf,
    /// The proxy; beside this program where absent.
    #[arg(long)]
    proxy: Option<PathBuf>,
}

/// Measures and prints.
pub fn run(arguments: &Arguments) -> Result<()> {
    let programs = Programs::find(arguments.proxy.as_deref())?;
    // A shift costs something, too, and its shadow gets no copies meanwhile.
    let topology = Topology::load(&arguments.config)?.without_shift();
    let scratch = Scratch::new("mirror")?;
    let options = MirrorOptions {
        rounds: arguments.rounds,
        length: Duration::from_secs(arguments.seconds),
        settling: Duration::from_secs(1),
    };
    let share = arguments.share.as_str();
    let here = Provenance::here();
    terminal::line(&format!(
        "CPU time per request, {share} mirrored, 1 worker, {CONNECTIONS} connections, 100-byte body; {} cores ({})",
        here.cores, here.processor
    ));
    let place = (scratch.path(), share);
    let (rounds, copies) = mirror::cost(&programs, &topology, place, &options, print_cost)?;
    let ratio = |both: &Both<Cost>| both.on.total_us() / both.off.total_us();
    summary("ratio", spread(rounds.iter().map(ratio)));
    terminal::line(&format!(
        "{} copies compared, {} dropped",
        copies.compared, copies.dropped
    ));
    terminal::line(&format!(
        "Users' latency, {share} mirrored to targets that hang, {} requests/s, 5 ms service time",
        arguments.rate
    ));
    let load = (arguments.rate, &options);
    let rounds = mirror::hung(&programs, &topology, place, load, print_window)?;
    let p99 = |window: &Window| f64::from(window.p99_us) / 1e3;
    summary("p99 off, ms", spread(rounds.iter().map(|both| p99(&both.off))));
    summary("p99 on, ms", spread(rounds.iter().map(|both| p99(&both.on))));
    summary(
        "p99 on/off",
        spread(rounds.iter().map(|both| p99(&both.on) / p99(&both.off))),
    );
    Ok(())
}

fn print_cost(round: usize, both: &Both<Cost>) {
    let shown = |cost: &Cost| {
        let (total, user, system) = (cost.total_us(), cost.user_us, cost.system_us);
        format!(
            "{total:>5.1} us (user {user:.1}, system {system:.1}, {:.0}/s)",
            cost.rps
        )
    };
    let ratio = both.on.total_us() / both.off.total_us();
    terminal::line(&format!(
        "round {:>2}   off {}   on {}   ratio {ratio:.3}",
        round + 1,
        shown(&both.off),
        shown(&both.on)
    ));
}

fn print_window(round: usize, both: &Both<Window>) {
    let shown = |window: &Window| {
        let (p50, p99) = (f64::from(window.p50_us) / 1e3, f64::from(window.p99_us) / 1e3);
        format!(
            "p50 {p50:.2} ms, p99 {p99:.2} ms, {} of {} failed",
            window.failed, window.requests
        )
    };
    terminal::line(&format!(
        "round {:>2}   off {}   on {}",
        round + 1,
        shown(&both.off),
        shown(&both.on)
    ));
}

fn summary(what: &str, Spread { median, least, most }: Spread) {
    terminal::line(&format!(
        "{what:<12} median {median:.3}  (from {least:.3} to {most:.3})"
    ));
}
