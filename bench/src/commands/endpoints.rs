//! `foreshade-bench endpoints`: a farm in a process of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::farm::fault::Fault;
use crate::farm::service_time::ServiceTime;
use crate::farm::talk::Language;
use crate::farm::{EndpointSpec, Farm, FarmOptions, QUEUE};
use crate::terminal;

/// What a fault may be, for `--help`.
const FAULTS: &str = "\
Faults, on the command line, in a file and over --control (there as JSON):
  kind: slow        factor: 10                   service times are that many times as long
  kind: ramp        to: 20, over: 12s            they grow evenly from 1 to that factor, and stay
  kind: leak        growth: 2%                   they grow per second, compounding, until the process dies of memory
                    dies_after: 60s, restarts_after: 2s
  kind: errors      status: 500                  answered with an error
  kind: resets                                   the connection is reset in place of an answer
  kind: garbage                                  the answer is not HTTP
  kind: early_close part: 50%                    the connection ends in the middle of the body
  kind: slow_body   bytes_per_s: 1000            the body drips
  kind: hang                                     requests are read and never answered
  kind: pause                                    the whole process stands still, and goes on
  kind: capacity    left: 50%                    so many of its --cores are left
  kind: refuse      cut: false                   nobody listens; with cut, requests under way are lost
All but leak, pause, capacity and refuse may concern some requests only:
  path_prefix: /e, bodies_above: 65536, share: 5%
Every fault may come and go; flapping is `for` with `every`:
  after: 30s, for: 500ms, every: 10s

Control:
  POST /fault/NAME      replace what is wrong with an endpoint: one fault, or a list; one that is there goes on as it was
  DELETE /fault/NAME    heal
  GET /faults           what is wrong with whom
  GET /counts           what each endpoint has done
  GET /ledger           writes that took effect, and which of them twice
  POST /ledger/missing  of these request numbers, [7,8,9], which never took effect
  DELETE /ledger        begin anew

Requests are told apart by their number in the header x-request-number; `load` sends it. `?bytes=N` asks for a body
of N bytes.

Examples:
  foreshade-bench endpoints --count 2 --fault 'b={kind: pause, for: 500ms, every: 10s}'
  foreshade-bench endpoints --cores 16 --queue 64 --orca --control 127.0.0.1:9000
  curl -d '{\"kind\":\"slow\",\"factor\":10}' http://127.0.0.1:9000/fault/a";

/// What farm to serve.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = FAULTS)]
pub struct Arguments {
    /// Port of the first endpoint, `a`; the others (`b`, `c`, ...) follow.
    #[arg(long, default_value_t = 9001)]
    base: u16,
    /// How many endpoints.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(0..=26))]
    count: u16,
    /// Port of the first standby, `a-standby`; one for each endpoint. None where absent.
    #[arg(long)]
    standby_base: Option<u16>,
    /// An endpoint as NAME=ADDRESS, in place of `--base` and `--count`. Repeatable.
    #[arg(long = "endpoint", value_name = "NAME=ADDRESS", value_parser = parse_endpoint)]
    endpoints: Vec<EndpointSpec>,
    /// Where to take faults over HTTP; see below.
    #[arg(long)]
    control: Option<SocketAddr>,
    /// What the endpoints speak: http, or over plain TCP echo (gives back what it reads) or send (a line with a
    /// number is answered with so many bytes).
    #[arg(long, default_value = "http")]
    speak: Language,
    /// Work per request: none, log-normal:MEDIAN:SIGMA, exponential:MEAN, constant:TIME or
    /// bimodal:FAST:SLOW:SHARE_OF_SLOW.
    #[arg(long, default_value_t = ServiceTime::default())]
    service: ServiceTime,
    /// Median of a log-normal service time in microseconds, sigma 0.5; 0 answers at once. Short for `--service`.
    #[arg(long, conflicts_with = "service")]
    median_us: Option<u64>,
    /// Requests that each endpoint works on at once; all there are where absent.
    #[arg(long)]
    cores: Option<usize>,
    /// Requests that wait for one of the cores; more are answered with 503 at once.
    #[arg(long, default_value_t = QUEUE, requires = "cores")]
    queue: usize,
    /// Say in every answer how busy the cores are: an ORCA load report in the header endpoint-load-metrics.
    #[arg(long)]
    orca: bool,
    /// Bytes of each answer's body.
    #[arg(long, default_value_t = 100)]
    body_bytes: usize,
    /// A fault from the start, as NAME={kind: ..., ...}; its times count from the start. Repeatable.
    #[arg(long = "fault", value_name = "NAME=FAULT", value_parser = parse_fault)]
    faults: Vec<(String, Fault)>,
    /// The same from a YAML file: a map from names to lists of faults.
    #[arg(long, value_name = "FILE")]
    faults_file: Option<PathBuf>,
    /// Seed of service times and errors.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn parse_endpoint(text: &str) -> Result<EndpointSpec, String> {
    let (name, address) = text
        .split_once('=')
        .ok_or("expected NAME=ADDRESS, for example a=127.0.0.1:9001")?;
    let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
    Ok(EndpointSpec {
        name: name.to_owned(),
        address,
    })
}

fn parse_fault(text: &str) -> Result<(String, Fault), String> {
    let (name, fault) = text
        .split_once('=')
        .ok_or("expected NAME=FAULT, for example a={kind: slow, factor: 10}")?;
    let fault = serde_saphyr::from_str(fault).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), fault))
}

/// Serves until the process ends.
pub fn run(arguments: &Arguments) -> Result<()> {
    let options = FarmOptions {
        endpoints: specs(arguments)?,
        control: arguments.control,
        language: arguments.speak,
        service_time: service_time(arguments),
        cores: arguments.cores,
        queue: arguments.queue,
        body_bytes: arguments.body_bytes,
        orca: arguments.orca,
        faults: faults(arguments)?,
        seed: arguments.seed,
    };
    let names: Vec<_> = options.endpoints.iter().map(|spec| spec.name.clone()).collect();
    let farm = Farm::start(options).context("cannot start the farm")?;
    // The addresses as they are: port 0 has become a real one.
    let served = names.iter().zip(farm.addresses());
    let served: Vec<_> = served
        .map(|(name, address)| format!("{name}={address}"))
        .collect();
    terminal::line(&format!("serving {}", served.join(" ")));
    if let Some(control) = farm.control_address() {
        terminal::line(&format!("control http://{control}"));
    }
    farm.join().context("the farm has ended")
}

fn service_time(arguments: &Arguments) -> ServiceTime {
    match arguments.median_us {
        None => arguments.service,
        Some(0) => ServiceTime::NONE,
        Some(median_us) => ServiceTime::LogNormal {
            median: Duration::from_micros(median_us),
            sigma: 0.5,
        },
    }
}

/// Those of the file and those of the options, together.
fn faults(arguments: &Arguments) -> Result<Vec<(String, Vec<Fault>)>> {
    let mut faults = match &arguments.faults_file {
        Some(file) => read_faults(file)?,
        None => BTreeMap::new(),
    };
    for (name, fault) in &arguments.faults {
        faults.entry(name.clone()).or_default().push(fault.clone());
    }
    Ok(faults.into_iter().collect())
}

fn read_faults(file: &Path) -> Result<BTreeMap<String, Vec<Fault>>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_saphyr::from_str(&text).map_err(|error| anyhow!("{}: {error}", file.display()))
}

fn specs(arguments: &Arguments) -> Result<Vec<EndpointSpec>> {
    if !arguments.endpoints.is_empty() {
        return Ok(arguments.endpoints.clone());
    }
    let mut specs = Vec::new();
    for (base, suffix) in [(Some(arguments.base), ""), (arguments.standby_base, "-standby")] {
        let Some(base) = base else { continue };
        for (index, letter) in (0..arguments.count).zip('a'..='z') {
            let port = base.checked_add(index).context("the ports end at 65535")?;
            specs.push(EndpointSpec {
                name: format!("{letter}{suffix}"),
                address: SocketAddr::from(([127, 0, 0, 1], port)),
            });
        }
    }
    Ok(specs)
}
