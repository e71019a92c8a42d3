//! The command line: which tool of the bench to run. Each subcommand is one module of the library.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use foreshade_bench::commands::{
    agree, bare, compare, demo, endpoints, faults, guard, judge, load, mirror, outage, reloads, report,
    scenarios, sim, soak,
};
use foreshade_bench::terminal;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Faulty endpoints, honest load, and the scenarios that foreshade is judged by.
#[derive(Parser)]
#[command(name = "foreshade-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Watch how an endpoint becomes ten times slower and users hardly notice, and how a controller judges shadows.
    Demo(demo::Arguments),
    /// Serve a farm of endpoints that can be made faulty while they serve.
    Endpoints(endpoints::Arguments),
    /// Load a server, open-loop, and say what its users saw.
    Load(Box<load::Arguments>),
    /// Play the scenarios with real processes, and judge the proxy by its promises.
    Scenarios(scenarios::Arguments),
    /// Play the scenarios in virtual time: the engine and modelled endpoints, many seeds of each.
    Sim(sim::Arguments),
    /// Say where simulated and real runs come to the same conclusions, and where not.
    Agree(agree::Arguments),
    /// Judge canaries by our verdict and by the rules of others, on the same streams of requests.
    Judge(judge::Arguments),
    /// Play the faults against foreshade and its rivals side by side, and measure what users lose.
    Faults(faults::Arguments),
    /// Compare what serving costs with nginx, HAProxy, Envoy and a bare pingora-proxy.
    Compare(compare::Arguments),
    /// Replace the configuration again and again under load, and see whether anybody notices.
    Reloads(reloads::Arguments),
    /// Keep the proxy under full load for long, and see whether it grows.
    Soak(soak::Arguments),
    /// Take the controller and its store away for a while, and see whether anybody notices.
    Outage(outage::Arguments),
    /// Measure what a mirror costs, and what users see of a target that hangs.
    Mirror(mirror::Arguments),
    /// Draw results as one page that needs nothing else.
    Report(report::Arguments),
    /// Serve as a bare pingora-proxy: round robin, and nothing else.
    Bare(bare::Arguments),
    /// End with the parent, whatever happens to it.
    #[command(hide = true)]
    Guard(guard::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Endpoints(arguments) => endpoints::run(&arguments),
        Command::Load(arguments) => {
            return load::run(&arguments).unwrap_or_else(|error| {
                terminal::complain(&format!("{error:#}"));
                ExitCode::FAILURE
            });
        }
        Command::Scenarios(arguments) => scenarios::run(&arguments),
        Command::Sim(arguments) => sim::run(&arguments),
        Command::Agree(arguments) => agree::run(&arguments),
        Command::Judge(arguments) => judge::run(&arguments),
        Command::Faults(arguments) => faults::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Reloads(arguments) => reloads::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Outage(arguments) => outage::run(&arguments),
        Command::Mirror(arguments) => mirror::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Bare(arguments) => bare::run(&arguments),
        Command::Guard(arguments) => guard::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
