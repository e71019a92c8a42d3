//! `foreshade-bench demo`: a minute in which an endpoint becomes ten times slower and users hardly notice.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::demo::{self, Baseline, DemoOptions, Outcome, SECONDS_MIN, Seen};
use crate::stage::process::{Programs, Scratch};
use crate::stage::topology::Topology;
use crate::terminal::{self, Screen};

/// What to show.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The configuration; its addresses are changed where they are taken.
    #[arg(long, default_value = "configs/quickstart.yaml")]
    config: PathBuf,
    /// Length of the demo.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(SECONDS_MIN..=3600))]
    seconds: u64,
    /// What the other proxy does, in which nothing is shifted.
    #[arg(long, value_enum, default_value_t = Baseline::RoundRobin)]
    baseline: Baseline,
    /// The proxy; beside this program where absent.
    #[arg(long)]
    proxy: Option<PathBuf>,
}

/// Shows the demo and sums it up.
pub fn run(arguments: &Arguments) -> Result<()> {
    let programs = Programs::find(arguments.proxy.as_deref())?;
    let topology = Topology::load(&arguments.config)?;
    let scratch = Scratch::new("demo")?;
    let options = DemoOptions {
        length: Duration::from_secs(arguments.seconds),
        baseline: arguments.baseline,
    };
    let mut screen = Screen::open();
    let outcome =
        demo::play(&programs, &topology, scratch.path(), options, &mut screen).context("the demo")?;
    summary(&outcome, arguments.baseline)
        .iter()
        .for_each(|line| terminal::line(line));
    Ok(())
}

fn summary(Outcome { with, without }: &Outcome, baseline: Baseline) -> Vec<String> {
    let row =
        |what: &str, of: &dyn Fn(&Seen) -> String| format!("{what:<40} {:>16} {:>24}", of(with), of(without));
    let ms = |us: u32| format!("{:.1} ms", f64::from(us) / 1e3);
    vec![
        String::new(),
        format!("{:<40} {:>16} {:>24}", "what users saw", "with foreshade", baseline.label()),
        row("p99 while everything was healthy", &|seen| ms(seen.healthy_p99_us)),
        row("p99 while one endpoint was slow", &|seen| ms(seen.during.p99_us)),
        row("requests meanwhile", &|seen| seen.during.requests.to_string()),
        row("  of them over twice the healthy p99", &|seen| seen.slow.to_string()),
        row("p99 back under 1.3 times healthy after", &|seen| match seen.normal_after {
            Some(after) => format!("{:.1} s", after.as_secs_f64()),
            None => "not until healed".to_owned(),
        }),
        row("failed requests", &|seen| seen.failed.to_string()),
        row("left late by the harness itself, p99", &|seen| ms(seen.lag_p99_us)),
        String::new(),
        match baseline {
            Baseline::RoundRobin => {
                "At the same time, same build, load and fault; the other proxy has `shift: { enabled: false }` and \
                 `balance: round-robin`. Try also --baseline same-balancing."
            }
            Baseline::SameBalancing => {
                "At the same time, same build, load and fault; the other proxy has `shift: { enabled: false }` and \
                 balances alike."
            }
        }
        .to_owned(),
    ]
}
