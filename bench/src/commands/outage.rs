//! `foreshade-bench outage`: minutes without a controller or its store, and whether anybody is harmed by that.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::demo::led::Cast;
use crate::outage::{self, Gone, Options, Report};
use crate::stage::process::{Programs, Scratch};
use crate::stage::topology::Topology;
use crate::terminal;

/// What to play.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// How long they are gone, in seconds.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(10..=86_400))]
    seconds: u64,
    /// Requests per second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Who goes away. Without an etcd on this machine only the controller can.
    #[arg(long, value_enum, default_value_t = Gone::Both)]
    gone: Gone,
    /// The one file for proxy and controller; its addresses are changed.
    #[arg(long, default_value = "configs/demo.yaml")]
    config: PathBuf,
    /// The proxy; beside this program where absent. The controller and its command have to be beside the proxy.
    #[arg(long)]
    proxy: Option<PathBuf>,
}

/// Plays and prints. Fails where a user did, and where anything was otherwise than before.
pub fn run(arguments: &Arguments) -> Result<()> {
    let programs = Programs::find(arguments.proxy.as_deref())?;
    let cast = Cast::find(programs, Duration::from_secs(60))?;
    let topology = Topology::load(&arguments.config)?;
    let scratch = Scratch::new("outage")?;
    let options = Options {
        length: Duration::from_secs(arguments.seconds),
        rate: arguments.rate,
        gone: arguments.gone,
    };
    let report = outage::run(&cast, &topology, scratch.path(), options, |line| {
        terminal::line(&line)
    })?;
    let Report {
        requests,
        failed,
        failed_total,
        looks,
        changes,
        back_after,
        since,
    } = report;
    for line in [
        format!("gone               {:?}, for {:?}", options.gone, options.length),
        format!("requests           {requests}, {failed_total} failed"),
        format!(
            "looks at the proxy {looks}, {} otherwise than before",
            changes.len()
        ),
        format!("leads again after  {:.1} s", back_after.as_secs_f64()),
        format!("changes of pairs   {}", since.len()),
    ] {
        terminal::line(&line);
    }
    since
        .iter()
        .for_each(|change| terminal::line(&format!("  {change}")));
    ensure!(failed_total == 0, "users failed: {failed:?}");
    ensure!(changes.is_empty(), "who serves what has changed: {changes:?}");
    terminal::line("nobody failed, and nobody was demoted");
    Ok(())
}
