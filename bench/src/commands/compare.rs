//! `foreshade-bench compare`: what serving costs, ours against the rivals.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::compare::case::{Case, Size};
use crate::compare::driver::Driver;
use crate::compare::measure::{CONNECTIONS, Terms};
use crate::compare::{CONTENDERS, CompareOptions, Comparison, summary};
use crate::results::CompareResults;
use crate::rivals::Contender;
use crate::stage::interrupt::Interrupt;
use crate::stage::process::{Programs, Scratch};
use crate::table::Provenance;
use crate::terminal;

/// What to compare.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Every case; what is asked for with --only otherwise, or plain HTTP/1.1.
    #[arg(long, conflicts_with = "only")]
    all: bool,
    /// Cases by name (http1/64B), protocol (h2) or question (latency). Repeatable, or with commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Who takes part. Repeatable, or with commas.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = CONTENDERS)]
    contenders: Vec<Contender>,
    /// Sizes of bodies.
    #[arg(long, value_delimiter = ',', default_values_t = [Size(64), Size(10 << 10), Size(1 << 20)])]
    bodies: Vec<Size>,
    /// How often each case is put to everybody.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds per measurement.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Requests per second while CPU time is measured; flat out where absent.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Requests per second while latency is measured; all have to sustain it.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    latency_rate: u32,
    /// Worker threads or processes of each.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Another load generator that drives the same cases beside ours.
    #[arg(long, value_enum)]
    driver: Option<Driver>,
    /// Folder for flame graphs: where the time of each contender goes while it serves. Needs perf.
    #[arg(long, value_name = "FOLDER")]
    profile: Option<PathBuf>,
    /// Where the results go as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The proxy; beside this program where absent.
    #[arg(long)]
    proxy: Option<PathBuf>,
}

/// Measures, prints, and writes.
pub fn run(arguments: &Arguments) -> Result<()> {
    let options = options(arguments)?;
    let programs = Programs::find(arguments.proxy.as_deref())?;
    let interrupt = Interrupt::watch()?;
    let scratch = Scratch::new("compare")?;
    let here = Provenance::here();
    let load = options
        .terms
        .rate
        .map_or_else(|| "flat out".to_owned(), |rate| format!("{rate} requests/s"));
    terminal::line(&format!(
        "{} rounds of {}s, {} worker(s) each, {CONNECTIONS} connections, {load}; {} cores ({})",
        options.rounds, arguments.seconds, options.workers, here.cores, here.processor
    ));
    let comparison = Comparison {
        programs: &programs,
        options: &options,
        folder: scratch.path(),
        interrupt: &interrupt,
    };
    let results = comparison.run(&mut terminal::line)?;
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&results)?;
        std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    print(&results);
    ensure!(
        !interrupt.is_asked(),
        "interrupted; this is what was found until then"
    );
    Ok(())
}

fn options(arguments: &Arguments) -> Result<CompareOptions> {
    let mut bodies = arguments.bodies.clone();
    bodies.sort_unstable();
    bodies.dedup();
    let every = Case::all(&bodies);
    let is_meant = |case: &Case| match arguments.only.as_slice() {
        [] => arguments.all || case.is_meant_by("http1"),
        words => words.iter().any(|word| case.is_meant_by(word)),
    };
    for word in &arguments.only {
        if !every.iter().any(|case| case.is_meant_by(word)) {
            let names: Vec<_> = every.iter().map(Case::to_string).collect();
            bail!("there is no case {word:?}; there are {}", names.join(", "));
        }
    }
    ensure!(arguments.rounds > 0, "without a round nothing is measured");
    ensure!(arguments.workers > 0, "nobody serves without a worker");
    Ok(CompareOptions {
        contenders: arguments.contenders.clone(),
        cases: every.into_iter().filter(is_meant).collect(),
        rounds: arguments.rounds,
        terms: Terms {
            rate: arguments.rate.map(f64::from),
            latency_rate: f64::from(arguments.latency_rate),
            settling: Duration::from_millis(500),
            length: Duration::from_secs(arguments.seconds),
        },
        second: second(arguments.driver)?,
        workers: arguments.workers,
        profiles: arguments.profile.clone(),
    })
}

fn second(driver: Option<Driver>) -> Result<Option<Driver>> {
    if let Some(why) = driver.and_then(Driver::missing) {
        bail!("{why}");
    }
    Ok(driver)
}

fn print(results: &CompareResults) {
    for line in summary::table(&results.rows).lines() {
        terminal::line(line);
    }
    let agreement = summary::agreement(&results.rows);
    if !agreement.is_empty() {
        terminal::line("\nhow far the load generators agree");
    }
    for line in agreement {
        terminal::line(&format!("  {line}"));
    }
    let at_least = results.rows.iter().any(|row| row.at_least);
    if at_least {
        terminal::line("\n>=  the harness was the limit, and not the contender");
    }
    if !results.provenance.skipped.is_empty() {
        terminal::line("\nskipped");
    }
    for (what, why) in &results.provenance.skipped {
        terminal::line(&format!("  {what}: {why}"));
    }
}
