//! `foreshade-bench load`: load on one target from the command line, judged by promises where some are given.
//!
//! Ends with 0 when all promises were kept, 3 when one was broken, 130 when somebody ended the load early, and 1 when there
//! was no load at all. Ctrl-C once starts no more requests and waits for those under way; twice waits for nothing. Either
//! way what was measured is printed and written.

mod asked;
mod bar;

use std::fs::File;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};

use self::asked::Asked;
use self::bar::Bar;
use crate::load::reach::reach;
use crate::load::schedule::Arrivals;
use crate::load::slo::Slo;
use crate::load::summary::{self, Circumstances};
use crate::load::{Load, LoadReport, hgrm};
use crate::quantity;
use crate::results::{FORMAT, Provenance};
use crate::{table, terminal};

/// A promise was broken.
const BROKEN: u8 = 3;

/// As shells report a program that ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Between two looks at the load.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What load to make.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// What to load: http://host:port/path, https://host, tcp://host:port, or host:port.
    #[arg(value_name = "TARGET", conflicts_with = "target")]
    url: Option<String>,
    /// The same as an option [default: http://127.0.0.1:8080]
    #[arg(long)]
    target: Option<String>,

    /// Requests per second, whatever is answered [default: 1000; in a closed loop as many as are answered]
    #[arg(long, value_parser = quantity::rate, conflicts_with_all = ["ramp", "steps"])]
    rate: Option<f64>,
    /// From one rate evenly to another, for example 100..1000/30s
    #[arg(long, value_name = "FROM..TO/TIME", value_parser = asked::ramp, conflicts_with = "steps")]
    ramp: Option<(f64, f64, Duration)>,
    /// One rate after another, for example 100,200,400/10s
    #[arg(long, value_name = "RATES/TIME", value_parser = asked::steps)]
    steps: Option<(Vec<f64>, Duration)>,
    /// How requests follow each other.
    #[arg(long, value_enum, default_value = "poisson")]
    arrivals: Arrivals,
    /// A closed loop of this many users, of whom each asks as soon as it is answered. For throughput, not for latency.
    #[arg(long, value_name = "USERS", conflicts_with_all = ["ramp", "steps", "arrivals"])]
    closed: Option<usize>,
    /// For how long, for example 30s, 5m or 30 [default: 10s, or as long as --ramp and --steps take]
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    seconds: Option<Duration>,
    /// Before that, at the first rate, and not counted.
    #[arg(long, value_name = "TIME", value_parser = quantity::duration, default_value = "0s")]
    warm_up: Duration,

    /// A path to ask for, with its weight: --path /a=5 --path /b=1 [default: that of the target]
    #[arg(long = "path", value_name = "PATH[=WEIGHT]", value_parser = asked::path)]
    paths: Vec<(String, f64)>,
    /// The method [default: GET]
    #[arg(long)]
    method: Option<String>,
    /// Part of the requests that are POSTs instead, for example 10%
    #[arg(long, value_name = "SHARE", value_parser = quantity::share)]
    post: Option<f64>,
    /// Size of the body of each request that has one, for example 100B or 100B..4KiB [default: 100B]
    #[arg(long, value_name = "SIZE", value_parser = parse_body)]
    body: Option<RangeInclusive<u32>>,
    /// A header of every request, for example 'accept: text/html'. Repeatable.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = asked::header)]
    headers: Vec<(String, String)>,
    /// So many users, named in the header x-user.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    users: Option<u32>,
    /// Bytes of each answer of a tcp:// target [default: as many as were sent]
    #[arg(long, value_name = "BYTES", value_parser = quantity::bytes)]
    answer_bytes: Option<u32>,

    /// Speak HTTP/2: over TLS by agreement, without it with prior knowledge.
    #[arg(long)]
    http2: bool,
    /// Connections at the same time at most [default: 1024; 4 with --http2; as needed with --closed]
    #[arg(long)]
    connections: Option<usize>,
    /// Requests at the same time on each connection of HTTP/2.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    streams: u16,
    /// A new connection for every request.
    #[arg(long)]
    new_connections: bool,
    /// A user gives up after this.
    #[arg(long, value_name = "TIME", value_parser = quantity::duration, default_value = "10s")]
    deadline: Duration,
    /// Accept any certificate.
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Authorities to trust instead of the system's, as PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Wait so long for a target that does not take connections yet.
    #[arg(long, value_name = "TIME", value_parser = quantity::duration, default_value = "0s")]
    wait: Duration,

    /// Seed of schedule and requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of the first request, in the header x-request-number; two loads on one farm must not share numbers.
    #[arg(long, default_value_t = 1)]
    first_number: u64,
    /// Promises to judge by, for example p99<20ms,errors<0.1%; ends with 3 when one is broken.
    #[arg(long)]
    slo: Option<Slo>,
    /// Write the results as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the latencies as HdrHistogram's plotters read them.
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
}

/// A type of its own for clap, which would take a range of values for many values.
fn parse_body(text: &str) -> Result<RangeInclusive<u32>, String> {
    quantity::byte_range(text)
}

impl ValueEnum for Arrivals {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Poisson, Self::Constant]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(match self {
            Self::Poisson => clap::builder::PossibleValue::new("poisson").help("As of independent users"),
            Self::Constant => clap::builder::PossibleValue::new("constant").help("Evenly"),
        })
    }
}

/// Makes the load, and says what came of it.
///
/// # Errors
/// When there was no load: an impossible one, a target that cannot be reached, a file that cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let asked = Asked::new(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(load(arguments, asked))
}

async fn load(arguments: &Arguments, mut asked: Asked) -> Result<ExitCode> {
    let options = &mut asked.options;
    options.target = reach(&asked.server, options.tls.as_ref(), arguments.wait)
        .await
        .with_context(|| format!("cannot reach {}", asked.target))?;
    // Opened beforehand: an hour of load must not end in a folder that does not exist.
    let json = arguments.json.as_deref().map(create).transpose()?;
    let hgrm = arguments.hgrm.as_deref().map(create).transpose()?;
    let (report, interrupted) = watch(asked.options.clone()).await?;
    let totals = report.totals.context("the load itself has failed")?;
    let promises = arguments.slo.clone().unwrap_or_default().judge(&totals);
    let kept = promises.iter().all(|promise| promise.holds);
    let results = summary::results(
        &totals,
        Circumstances {
            provenance: provenance(),
            target: &asked.target,
            protocol: asked.protocol,
            options: &asked.options,
            interrupted,
            promises,
        },
    );
    terminal::line(&summary::table(&results));
    if let Some((mut file, path)) = json {
        let text = serde_json::to_string_pretty(&results)?;
        writeln!(file, "{text}").with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some((mut file, path)) = hgrm {
        let text = hgrm::text(&totals.tally.latency);
        file.write_all(text.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(match (interrupted, kept) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (false, false) => ExitCode::from(BROKEN),
        (false, true) => ExitCode::SUCCESS,
    })
}

/// Shows the load while it runs, and has it end early when somebody asks for that.
async fn watch(options: crate::load::LoadOptions) -> Result<(LoadReport, bool)> {
    let mut bar = Bar::new(options.warm_up + options.length);
    // Before the load, so that there is no moment at which Ctrl-C would lose what was measured.
    let mut interrupts = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let load = Load::start(options).context("cannot start the load")?;
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let mut interrupted = false;
    while !load.ended() {
        tokio::select! {
            _ = looks.tick() => bar.draw(load.started().elapsed(), &load.progress()),
            _ = interrupts.recv() => {
                if interrupted {
                    load.cut();
                } else {
                    load.stop();
                    bar.say("ends early: waiting for requests under way; Ctrl-C again waits for nothing");
                }
                interrupted = true;
            }
        }
    }
    bar.clear();
    Ok((load.finish(), interrupted))
}

fn create(path: &Path) -> Result<(File, &Path)> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok((file, path))
}

fn provenance() -> Provenance {
    let here = table::Provenance::here();
    Provenance {
        format: FORMAT,
        command: here.command,
        cores: here.cores,
        processor: here.processor,
        versions: [("foreshade-bench".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
        skipped: Default::default(),
    }
}
