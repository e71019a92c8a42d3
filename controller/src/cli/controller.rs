//! `foreshade-controller`: `run` leads pairs, `check` shows every mistake of a configuration, `schema` prints its JSON
//! schema, `openapi` what the API offers.
//!
//! Exit codes: 0 well, 1 the configuration has mistakes, or the controller could not start, 2 wrong usage.
#![expect(clippy::print_stderr, reason = "this is what a command line is for")]

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use tracing_subscriber::EnvFilter;

use super::say;
use crate::api;
use crate::config::{self, Config, PlannedStore};
use crate::serve;

/// Threads: one for the loop and the links, one for whoever asks meanwhile.
const WORKERS: usize = 2;

/// foreshade's control plane: it keeps pairs of primaries and shadows, judges, promotes, and rolls back.
#[derive(Debug, Parser)]
#[command(name = "foreshade-controller", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run until a signal ends it.
    Run {
        /// The configuration. A proxy may read the same file.
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
    },
    /// Show every mistake of a configuration, with its place and a hint.
    Check {
        /// The configuration. A proxy may read the same file.
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print the JSON schema of the configuration, for editors and pipelines.
    Schema,
    /// Print what the HTTP API offers, as OpenAPI 3.1.
    Openapi,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => run(&config),
        Command::Check { config } => check(&config),
        Command::Schema => say(format_args!("{:#}", config::schema())),
        Command::Openapi => say(format_args!("{}", api::openapi())),
    }
}

/// Runs the controller.
fn run(path: &Path) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::FAILURE;
        }
    };
    init_log();
    let served = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(serve::run(&config)).map_err(anyhow::Error::from));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("foreshade-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to standard error, as `RUST_LOG` says; what is worth knowing where it says nothing.
fn init_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are for people: in a file they are noise.
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
}

/// Shows what is wrong with a file, or what is in it.
pub(super) fn check(path: &Path) -> ExitCode {
    match config::load(path) {
        Ok(config) => say(format_args!("{}: well ({})", path.display(), counted(&config))),
        Err(mistakes) => {
            eprintln!("{mistakes}");
            ExitCode::FAILURE
        }
    }
}

fn counted(config: &Config) -> String {
    let store = match &config.store {
        PlannedStore::Embedded(path) => format!("in {}", path.display()),
        PlannedStore::Etcd(etcd) => format!("in etcd, {} endpoints", etcd.endpoints.len()),
    };
    format!(
        "{} pairs, {} policies, state {store}",
        config.pairs.len(),
        config.policies.len()
    )
}
