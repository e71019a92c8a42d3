//! `foreshade-bench load`: open-loop load from the command line, one line per second and a summary.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::load::record::{Records, Span, Window};
use crate::load::schedule::Arrivals;
use crate::load::{Load, LoadOptions, LoadReport};
use crate::terminal;

/// What load to make.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Where users connect.
    #[arg(long, default_value = "127.0.0.1:8080")]
    target: SocketAddr,
    /// Requests per second.
    #[arg(long, default_value_t = 1_200.0)]
    rate: f64,
    /// For how long.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Evenly spaced instead of Poisson arrivals.
    #[arg(long)]
    even: bool,
    /// Seed of schedule and requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the load to its end.
pub fn run(arguments: &Arguments) -> Result<()> {
    let length = Duration::from_secs(arguments.seconds);
    let mut options = LoadOptions::steady(arguments.target, arguments.rate, length);
    options.seed = arguments.seed;
    if arguments.even {
        options.arrivals = Arrivals::Constant;
    }
    let report = Load::start(options).context("cannot start the load")?.finish();
    print(report, arguments.seconds);
    Ok(())
}

fn print(report: LoadReport, seconds: u64) {
    let records = Records::from(report.records);
    let second = |second| Span::new(Duration::from_secs(second), Duration::from_secs(second + 1));
    for window in (0..seconds).filter_map(|at| records.window(second(at))) {
        terminal::line(&describe(
            &format!("{:>3} s", window.span.from_us / 1_000_000),
            &window,
        ));
    }
    if let Some(whole) = records.window(Span {
        from_us: 0,
        to_us: u64::MAX,
    }) {
        terminal::line(&describe("  all", &whole));
    }
    let lag = report.lag;
    terminal::line(&format!(
        "requests left {} us after their time (p50; p99 {} us, at most {} us), over {} connections",
        lag.p50_us, lag.p99_us, lag.max_us, report.connections_peak
    ));
}

fn describe(label: &str, window: &Window) -> String {
    format!(
        "{label}  {:>6} requests  {:>5} failed  p50 {:>6.1} ms  p99 {:>6.1} ms",
        window.requests,
        window.failed,
        f64::from(window.p50_us) / 1e3,
        f64::from(window.p99_us) / 1e3,
    )
}
