//! `foreshade-bench demo`: an endpoint becomes ten times slower and users hardly notice; then a controller promotes one
//! shadow and rolls another one back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::demo::led::{self, Cast, Played, Told};
use crate::demo::{self, Baseline, DemoOptions, Outcome, SECONDS_MIN, Seen};
use crate::stage::interrupt::Interrupt;
use crate::stage::process::{Programs, Scratch};
use crate::stage::topology::Topology;
use crate::terminal::{self, Screen};

/// What to show.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Which act; both where left out.
    #[arg(long, value_enum)]
    act: Option<ActName>,
    /// The configuration of the first act; its addresses are changed where they are taken.
    #[arg(long, default_value = "configs/quickstart.yaml")]
    config: PathBuf,
    /// The one file for proxy and controller of the second act; the same goes for its addresses.
    #[arg(long, default_value = "configs/demo.yaml")]
    controller_config: PathBuf,
    /// Length of the first act. The second one ends by itself.
    #[arg(long, default_value_t = 55, value_parser = clap::value_parser!(u64).range(SECONDS_MIN..=3600))]
    seconds: u64,
    /// How many seconds each step of the second act may take; then the demo fails, and says what stood in the way.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience: u64,
    /// What the other proxy does, in which nothing is shifted.
    #[arg(long, value_enum, default_value_t = Baseline::RoundRobin)]
    baseline: Baseline,
    /// The proxy; beside this program where absent. The controller and its command have to be beside the proxy.
    #[arg(long)]
    proxy: Option<PathBuf>,
}

/// The acts of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ActName {
    /// A proxy alone: an endpoint becomes slow, its users are shifted and led back.
    Shift,
    /// A controller leads: one shadow is promoted, another one is rolled back.
    Controller,
}

/// Shows the demo and sums it up.
pub fn run(arguments: &Arguments) -> Result<()> {
    let programs = Programs::find(arguments.proxy.as_deref())?;
    let is_on = |act| arguments.act.is_none_or(|only| only == act);
    // What is missing is said now, and not after the first act.
    let cast = is_on(ActName::Controller)
        .then(|| Cast::find(programs.clone(), Duration::from_secs(arguments.patience)))
        .transpose()?;
    let interrupt = Interrupt::watch().context("cannot listen for Ctrl-C")?;
    let scratch = Scratch::new("demo")?;
    let mut screen = Screen::open();
    let played = acts(
        (arguments, is_on(ActName::Shift)),
        (&programs, cast.as_ref()),
        (scratch.path(), &interrupt),
        &mut screen,
    );
    // Ctrl-C goes to the children, too: whatever failed then failed because of it.
    interrupt.check()?;
    played
}

fn acts(
    (arguments, is_shifting): (&Arguments, bool),
    (programs, cast): (&Programs, Option<&Cast>),
    (folder, interrupt): (&Path, &Interrupt),
    screen: &mut Screen,
) -> Result<()> {
    let say = |lines: Vec<String>| lines.iter().for_each(|line| terminal::line(line));
    if is_shifting {
        let topology = Topology::load(&arguments.config)?;
        let options = DemoOptions {
            length: Duration::from_secs(arguments.seconds),
            baseline: arguments.baseline,
        };
        say(vec![
            "An endpoint becomes ten times slower; the proxy alone.".into(),
            String::new(),
        ]);
        let outcome = demo::play(
            programs,
            &topology,
            &folder.join("shift"),
            (options, interrupt),
            screen,
        )
        .context("the shift")?;
        screen.keep();
        say(summary(&outcome, arguments.baseline));
    }
    if let Some(cast) = cast {
        let topology = Topology::load(&arguments.controller_config)?;
        say(vec![
            String::new(),
            "Now a controller leads: one shadow is promoted, another one is rolled back.".into(),
            String::new(),
        ]);
        let played = led::play(cast, &topology, &folder.join("controller"), interrupt, screen)
            .context("the controller")?;
        say(led_summary(&played));
    }
    Ok(())
}

/// What was ordered, what became of it, and what it cost users.
fn led_summary(Played { told, lag }: &Played) -> Vec<String> {
    let mut lines = Vec::new();
    for Told {
        title,
        took,
        users,
        history,
    } in told
    {
        lines.push(String::new());
        lines.push(format!("$ {title}"));
        lines.push(format!(
            "  {:.0} s; {} of {} requests failed meanwhile; what became of it:",
            took.as_secs_f64(),
            users.failed,
            users.requests
        ));
        lines.extend(history.iter().map(|line| format!("  {line}")));
    }
    lines.push(String::new());
    lines.push(format!(
        "Requests left late by the harness itself: p99 {:.1} ms.",
        f64::from(lag.p99_us) / 1e3
    ));
    lines
}

fn summary(Outcome { with, without }: &Outcome, baseline: Baseline) -> Vec<String> {
    let row =
        |what: &str, of: &dyn Fn(&Seen) -> String| format!("{what:<40} {:>16} {:>24}", of(with), of(without));
    let ms = |us: u32| format!("{:.1} ms", f64::from(us) / 1e3);
    vec![
        String::new(),
        format!("{:<40} {:>16} {:>24}", "what users saw", "with foreshade", baseline.label()),
        row("p99 while everything was healthy", &|seen| ms(seen.healthy_p99_us)),
        row("p99 while one endpoint was slow", &|seen| ms(seen.during.p99_us)),
        row("requests meanwhile", &|seen| seen.during.requests.to_string()),
        row("  of them over twice the healthy p99", &|seen| seen.slow.to_string()),
        row("p99 back under 1.3 times healthy after", &|seen| match seen.normal_after {
            Some(after) => format!("{:.1} s", after.as_secs_f64()),
            None => "not until healed".to_owned(),
        }),
        row("failed requests", &|seen| seen.failed.to_string()),
        row("left late by the harness itself, p99", &|seen| ms(seen.lag_p99_us)),
        String::new(),
        match baseline {
            Baseline::RoundRobin => {
                "At the same time, same build, load and fault; the other proxy has `shift: { enabled: false }` and \
                 `balance: round-robin`. Try also --baseline same-balancing."
            }
            Baseline::SameBalancing => {
                "At the same time, same build, load and fault; the other proxy has `shift: { enabled: false }` and \
                 balances alike."
            }
        }
        .to_owned(),
    ]
}
