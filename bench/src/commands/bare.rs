//! `foreshade-bench bare`: the bare pingora-proxy that ours is compared with.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::bare::{self, BareOptions};

/// What to serve.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Where users connect.
    #[arg(long, default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Endpoints, used in turn.
    #[arg(long, required = true, num_args = 1..)]
    upstream: Vec<SocketAddr>,
    /// Threads, each with its own listener and pool.
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

/// Serves until the process ends.
pub fn run(arguments: &Arguments) -> Result<()> {
    let options = BareOptions {
        listen: arguments.listen,
        upstreams: arguments.upstream.clone(),
        workers: arguments.workers,
    };
    bare::run(&options).with_context(|| format!("cannot serve on {}", arguments.listen))
}
