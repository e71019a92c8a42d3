//! `foreshade-bench bare`: the bare pingora-proxy that ours is compared with.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::bare::oracle::OracleOptions;
use crate::bare::{self, BareOptions};
use crate::farm::EndpointSpec;

/// What to serve.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Where users connect.
    #[arg(long, default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Endpoints, used in turn, as ADDRESS or NAME=ADDRESS.
    #[arg(long, required = true, num_args = 1.., value_parser = parse_upstream)]
    upstream: Vec<EndpointSpec>,
    /// Threads, each with its own listener and pool.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Be an oracle, who is told over HTTP what is wrong: `PUT /taught`, `GET /taught`.
    #[arg(long)]
    control: Option<SocketAddr>,
    /// Who takes over for an oracle, as NAME=ADDRESS. Repeatable.
    #[arg(long, requires = "control", value_parser = parse_upstream)]
    standby: Vec<EndpointSpec>,
    /// Requests that an endpoint works on at once, which an oracle knows.
    #[arg(long, requires = "control", default_value_t = 16)]
    capacity: usize,
}

fn parse_upstream(text: &str) -> Result<EndpointSpec, String> {
    let (name, address) = text.split_once('=').unwrap_or((text, text));
    let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
    Ok(EndpointSpec {
        name: name.to_owned(),
        address,
    })
}

/// Serves until the process ends.
pub fn run(arguments: &Arguments) -> Result<()> {
    let options = BareOptions {
        listen: arguments.listen,
        upstreams: arguments.upstream.clone(),
        workers: arguments.workers,
        oracle: arguments.control.map(|control| OracleOptions {
            control,
            standbys: arguments.standby.clone(),
            capacity: arguments.capacity,
        }),
    };
    bare::run(&options).with_context(|| format!("cannot serve on {}", arguments.listen))
}
