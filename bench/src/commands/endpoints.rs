//! `foreshade-bench endpoints`: a farm in a process of its own.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::farm::service_time::ServiceTime;
use crate::farm::{EndpointSpec, Farm, FarmOptions};
use crate::terminal;

/// What farm to serve.
#[derive(Clone, Debug, clap::Args)]
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
    /// Where to take faults over HTTP: `POST /fault/{name}`, `DELETE /fault/{name}`, `GET /counts`, `GET /ledger`.
    #[arg(long)]
    control: Option<SocketAddr>,
    /// Median of the log-normal service time in microseconds; 0 answers at once.
    #[arg(long, default_value_t = 5_000)]
    median_us: u64,
    /// Standard deviation of the logarithm of the service time.
    #[arg(long, default_value_t = 0.5)]
    sigma: f64,
    /// Bytes of each answer's body.
    #[arg(long, default_value_t = 100)]
    body_bytes: usize,
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

/// Serves until the process ends.
pub fn run(arguments: &Arguments) -> Result<()> {
    let options = FarmOptions {
        endpoints: specs(arguments)?,
        control: arguments.control,
        service_time: ServiceTime {
            median: Duration::from_micros(arguments.median_us),
            sigma: arguments.sigma,
        },
        body_bytes: arguments.body_bytes,
        seed: arguments.seed,
    };
    let names: Vec<_> = options
        .endpoints
        .iter()
        .map(|spec| format!("{}={}", spec.name, spec.address))
        .collect();
    let farm = Farm::start(options).context("cannot open the endpoints' sockets")?;
    terminal::line(&format!("serving {}", names.join(" ")));
    farm.join();
    Ok(())
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
