//! The command line: `run` serves, `check` shows every mistake of a configuration, `schema` prints its JSON schema,
//! `upgrade` has it replaced while it serves, `explain` says what would become of a request, `password` writes the
//! line of a user.
//!
//! Exit codes: 0 well, 1 the configuration has mistakes, the proxy could not start, or no route takes the request, 2 wrong
//! usage.
#![expect(clippy::print_stderr, reason = "this is what a command line is for")]

use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Answers, Config};
use crate::explain::{self, Question};
use crate::policy::users;
use crate::server;
use crate::upgrade::start::Start;
use crate::upgrade::successor;
use crate::verbosity::Verbosity;

/// foreshade's data plane: a proxy that moves traffic to a warm shadow before users notice that an endpoint is failing.
#[derive(Debug, Parser)]
#[command(name = "foreshade-proxy", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve traffic until SIGTERM or SIGINT, or until a new process has taken over; then finish what is in flight.
    Run {
        /// The configuration.
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
        /// One JSON object per log line instead of text.
        #[arg(long)]
        log_json: bool,
        /// Take the place of the process that waits at this socket: its listening sockets, and what it has learnt.
        #[arg(long, value_name = "SOCKET")]
        take_over: Option<PathBuf>,
    },
    /// Have the running proxy replaced by the program and the configuration that lie there now, without a lost request.
    Upgrade {
        /// The configuration: the one that the running proxy was started with.
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
    },
    /// Show every mistake of a configuration, with its place and a hint.
    Check {
        /// The configuration.
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
    },
    /// Read a password from standard input and print a user's line for a usersFile.
    Password {
        /// The user's name.
        #[arg(long, value_name = "NAME")]
        user: String,
        /// What a hash costs whoever guesses, and this proxy once a minute for each user.
        #[arg(long, value_name = "N", default_value_t = users::ROUNDS)]
        rounds: u32,
    },
    /// Print the JSON schema of the configuration, for editors and pipelines.
    Schema,
    /// Say which route a request would take, why that one, and what would become of it.
    Explain {
        /// The configuration.
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
        /// What is asked for. The port chooses the listener; tcp://:5432, udp://:53 and tls://shop.example ask for what is carried.
        #[arg(long, value_name = "URL")]
        url: String,
        /// With which method.
        #[arg(long, value_name = "METHOD", default_value = "GET")]
        method: String,
        /// With which headers; may be given several times.
        #[arg(long = "header", value_name = "NAME: VALUE")]
        headers: Vec<String>,
        /// Who holds the connection.
        #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
        client: IpAddr,
        /// JSON instead of text.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run {
            config,
            log_json,
            take_over,
        } => run(Start {
            config,
            log_json,
            take_over,
        }),
        Command::Upgrade { config } => upgrade(&config),
        Command::Check { config } => check(&config),
        Command::Password { user, rounds } => password(&user, rounds),
        Command::Schema => say(format_args!("{:#}", config::schema())),
        Command::Explain {
            config,
            url,
            method,
            headers,
            client,
            json,
        } => {
            let question = Question {
                url,
                method,
                headers,
                client,
            };
            explain(&config, &question, json)
        }
    }
}

fn password(user: &str, rounds: u32) -> ExitCode {
    let mut text = String::new();
    // Longer than any password.
    let read = std::io::stdin().take(64 * 1024).read_to_string(&mut text);
    let line = match read {
        Ok(_) => users::line(user, text.lines().next().unwrap_or_default().as_bytes(), rounds),
        Err(_) => Err("standard input holds no text"),
    };
    match line {
        Ok(line) => say(format_args!("{line}")),
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

fn explain(path: &std::path::Path, question: &Question, json: bool) -> ExitCode {
    let Some(config) = load(path) else {
        return ExitCode::FAILURE;
    };
    let explanation = match explain::explain(&config, question) {
        Ok(explanation) => explanation,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let said = if json {
        say(format_args!("{:#}", serde_json::json!(explanation)))
    } else {
        say(format_args!("{explanation}"))
    };
    if explanation.is_routed() {
        said
    } else {
        ExitCode::FAILURE
    }
}

fn run(start: Start) -> ExitCode {
    let Some(config) = load(&start.config) else {
        return ExitCode::FAILURE;
    };
    let verbosity = Verbosity::start(start.log_json);
    match server::run(start, config, verbosity) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}

fn upgrade(path: &std::path::Path) -> ExitCode {
    // Read here, too, because here is who can mend its mistakes.
    let Some(config) = load(path) else {
        return ExitCode::FAILURE;
    };
    let Some(socket) = &config.upgrade_socket else {
        eprintln!(
            "error: {} has no upgrade.socket: without one only a restart is possible",
            path.display()
        );
        return ExitCode::FAILURE;
    };
    match successor::order(socket) {
        Ok(pid) => say(format_args!(
            "upgraded: process {pid} serves, and the one before it finishes what it has begun"
        )),
        Err(error) => fail(error),
    }
}

fn fail(error: impl std::error::Error + Send + Sync + 'static) -> ExitCode {
    eprintln!("error: {:#}", anyhow::Error::from(error));
    ExitCode::FAILURE
}

fn check(path: &std::path::Path) -> ExitCode {
    let Some(config) = load(path) else {
        return ExitCode::FAILURE;
    };
    for warning in config.warnings() {
        eprintln!("{}: warning: {warning}", path.display());
    }
    let endpoints: usize = config.clusters.iter().map(|c| c.endpoints.len()).sum();
    say(format_args!(
        "{}: well ({} listeners, {} clusters, {endpoints} endpoints)",
        path.display(),
        config.listeners.len(),
        config.clusters.len()
    ))
}

/// Prints to standard output. A reader that has seen enough, as `head` does, is no error.
fn say(text: std::fmt::Arguments<'_>) -> ExitCode {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: cannot print: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn load(path: &std::path::Path) -> Option<Config> {
    config::load(path, &Answers::default())
        .inspect_err(|mistakes| eprintln!("{mistakes}"))
        .ok()
}
