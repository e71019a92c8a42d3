//! What can be said on the command line of `foreshade`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use foreshade_contract::{Name, PairId};
use foreshade_settings::Scalar;

use crate::config::url::Url;
use crate::operator::simulation::{Ordered, Supposed};
use crate::operator::{Actor, Reason, Rule, Scenario, What};

/// Ask foreshade-controller, and give it orders.
#[derive(Debug, Parser)]
#[command(name = "foreshade", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 well or healthy; 1 degraded or refused; 2 not in time; 3 paused or inconclusive; \
4 the controller cannot be reached or does not lead; 64 wrong usage."
)]
pub struct Arguments {
    #[command(flatten)]
    pub(super) server: Server,
    /// JSON as the API gives it instead of text.
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Where the controller is.
#[derive(Debug, Args)]
pub(super) struct Server {
    /// The controller's API: http://host:port, https://host:port, or unix: and the path of its socket;
    /// http://127.0.0.1:9902 where left out.
    // Not clap's own default: that would stand in every usage line as if it had to be given.
    #[arg(long, global = true, value_name = "URL", env = "FORESHADE_SERVER")]
    pub(super) server: Option<Place>,
    /// File with the token, where the API asks for one.
    #[arg(long, global = true, value_name = "FILE", env = "FORESHADE_TOKEN_FILE")]
    pub(super) token_file: Option<PathBuf>,
}

/// Where an API is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// At a URL.
    Url(Url),
    /// At a socket of this machine.
    Unix(PathBuf),
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) => Ok(Self::Unix(path.strip_prefix("//").unwrap_or(path).into())),
            None => scalar::<Url>(text).map(Self::Url),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// All pairs.
    List {
        /// Go on showing.
        #[arg(long, short)]
        watch: bool,
    },
    /// One pair as a tree: plan, endpoints, evidence, gates.
    Get {
        #[command(flatten)]
        pair: OfPair,
        /// Go on showing.
        #[arg(long, short)]
        watch: bool,
    },
    /// How a pair stands, in one word and an exit code.
    Status {
        #[command(flatten)]
        pair: OfPair,
        /// Wait until it is healthy or degraded.
        #[arg(long, short)]
        watch: bool,
        /// Wait no longer; for ever where left out.
        #[arg(long, short, value_name = "TIME", value_parser = wait, requires = "watch")]
        timeout: Option<Duration>,
    },
    /// Why the judge says what it says.
    Explain {
        #[command(flatten)]
        pair: OfPair,
    },
    /// What became of a pair, the newest first.
    History {
        #[command(flatten)]
        pair: OfPair,
        #[command(flatten)]
        page: Pages,
    },
    /// What happens, as it happens.
    Events {
        /// Only to this pair: cluster/primary.
        #[arg(value_name = "PAIR", value_parser = pair)]
        pair: Option<PairId>,
    },
    /// Go on: begin a shift, end a pause, take the next step, promote what waits for it.
    Promote {
        #[command(flatten)]
        pair: OfPair,
        /// At once and all the way, without waiting for evidence.
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        said: Said,
    },
    /// Back to where the pair came from.
    Abort(Plain),
    /// Keep the share where it is.
    Pause(Plain),
    /// End a pause.
    Resume(Plain),
    /// Try again after a failure, without waiting for the rest to end.
    Retry(Plain),
    /// Take the last promotion back.
    Undo {
        #[command(flatten)]
        pair: OfPair,
        /// Back to the roles that the pair had at this generation, as its history shows it.
        #[arg(long, visible_alias = "to-revision", value_name = "GENERATION")]
        to: Option<u64>,
        #[command(flatten)]
        said: Said,
    },
    /// No automatic change but what protects users.
    Freeze(Plain),
    /// End a freeze.
    Unfreeze(Plain),
    /// Set something by hand, for a while.
    Set {
        /// What.
        #[arg(value_name = "WHAT")]
        what: What,
        #[command(flatten)]
        pair: OfPair,
        /// To what: 5% or 0.05.
        #[arg(value_name = "VALUE", value_parser = fraction)]
        value: f64,
        /// For how long, from 1s to 24h; then the controller decides again.
        #[arg(long, value_name = "TIME", value_parser = ttl)]
        ttl: Duration,
        #[command(flatten)]
        said: Said,
    },
    /// End what was set by hand.
    Clear {
        /// What.
        #[arg(value_name = "WHAT")]
        what: What,
        #[command(flatten)]
        pair: OfPair,
        #[command(flatten)]
        said: Said,
    },
    /// Do not ask a safety rule, for a while.
    Waive {
        /// Which.
        #[arg(value_name = "RULE")]
        rule: Rule,
        #[command(flatten)]
        pair: OfPair,
        /// For how long, from 1s to 24h; then it is asked again.
        #[arg(long, value_name = "TIME", value_parser = ttl)]
        ttl: Duration,
        #[command(flatten)]
        said: Said,
    },
    /// Ask a safety rule again.
    Restore {
        /// Which.
        #[arg(value_name = "RULE")]
        rule: Rule,
        #[command(flatten)]
        pair: OfPair,
        #[command(flatten)]
        said: Said,
    },
    /// What would become of a pair; nothing is changed.
    Simulate {
        #[command(flatten)]
        pair: OfPair,
        /// What is supposed to be so from now on.
        #[arg(long, value_name = "WHAT", default_value = "as-now")]
        suppose: Supposed,
        /// What is ordered at the beginning.
        #[arg(long, value_name = "ORDER")]
        order: Option<Ordered>,
        /// How far to look, from 1s to 2h.
        #[arg(long, value_name = "TIME", value_parser = within, default_value = "10m")]
        within: Duration,
    },
    /// Open or close a gate.
    #[command(subcommand)]
    Gate(Gate),
    /// Rehearse a failure, without touching live traffic.
    #[command(subcommand)]
    Drill(Drill),
    /// Who ordered what, the newest first.
    Audit(Pages),
    /// Show every mistake of a configuration, as foreshade-controller check does.
    Lint {
        /// The configuration.
        #[arg(long, short, value_name = "FILE")]
        file: PathBuf,
    },
    /// Print what a shell needs to complete this command.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// An order that needs no more words.
#[derive(Debug, Args)]
pub(super) struct Plain {
    #[command(flatten)]
    pub(super) pair: OfPair,
    #[command(flatten)]
    pub(super) said: Said,
}

/// A pair.
#[derive(Debug, Args)]
pub(super) struct OfPair {
    /// The pair: cluster/primary.
    #[arg(value_name = "PAIR", value_parser = pair)]
    pub(super) pair: PairId,
}

/// What every order needs.
#[derive(Debug, Args)]
pub(super) struct Said {
    /// Why. It stands in the audit log.
    #[arg(long, short, value_name = "TEXT", value_parser = reason)]
    pub(super) reason: Reason,
    /// Who says so; you at this machine where left out.
    #[arg(long, value_name = "NAME", env = "FORESHADE_ACTOR", value_parser = actor, hide_env_values = true)]
    pub(super) actor: Option<Actor>,
    /// Only if the pair is still at this generation.
    #[arg(long, value_name = "NUMBER")]
    pub(super) if_generation: Option<u64>,
    /// Only say what would happen.
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// A part of a long list.
#[derive(Debug, Args)]
pub(super) struct Pages {
    /// So many at most.
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(super) limit: u16,
    /// Only what is older than this number.
    #[arg(long, value_name = "NUMBER")]
    pub(super) before: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Gate {
    /// Open it.
    Approve(OfGate),
    /// Close it for this course.
    Deny(OfGate),
}

/// A gate.
#[derive(Debug, Args)]
pub(super) struct OfGate {
    #[command(flatten)]
    pub(super) pair: OfPair,
    /// Name of the gate.
    #[arg(value_name = "GATE")]
    pub(super) gate: Name,
    #[command(flatten)]
    pub(super) said: Said,
}

/// A drill that runs.
#[derive(Clone, Debug)]
pub(super) enum Running {
    /// By its number.
    Id(u64),
    /// By its pair, which has one at a time.
    On(PairId),
}

#[derive(Debug, Subcommand)]
pub(super) enum Drill {
    /// Begin one.
    Start {
        #[command(flatten)]
        pair: OfPair,
        /// What is to fail.
        #[arg(long, value_name = "WHAT")]
        scenario: Scenario,
        #[command(flatten)]
        said: Said,
    },
    /// End one.
    Stop {
        /// Its number, or the pair on which it runs.
        #[arg(value_name = "NUMBER|PAIR", value_parser = drill)]
        drill: Running,
        #[command(flatten)]
        said: Said,
    },
    /// How one went; all of them where left out.
    Report {
        /// Its number.
        id: Option<u64>,
    },
}

fn scalar<T: Scalar>(text: &str) -> Result<T, String> {
    T::parse(text).map_err(|wrong| wrong.sentence(text, &T::expected()))
}

fn pair(text: &str) -> Result<PairId, String> {
    let wrong = || "a pair is written as cluster/primary".to_owned();
    let (cluster, primary) = text.split_once('/').ok_or_else(wrong)?;
    Ok(PairId {
        cluster: cluster.parse().map_err(|_| wrong())?,
        primary: primary.parse().map_err(|_| wrong())?,
    })
}

fn drill(text: &str) -> Result<Running, String> {
    if let Ok(id) = text.parse() {
        return Ok(Running::Id(id));
    }
    let wrong = |_| "a drill is a number, or its pair as cluster/primary".to_owned();
    pair(text).map(Running::On).map_err(wrong)
}

fn reason(text: &str) -> Result<Reason, String> {
    Reason::try_from(text.to_owned()).map_err(|error| error.to_string())
}

fn actor(text: &str) -> Result<Actor, String> {
    Actor::try_from(text.to_owned()).map_err(|error| error.to_string())
}

fn ttl(text: &str) -> Result<Duration, String> {
    foreshade_settings::duration::<1_000, 86_400_000>(text)
}

fn within(text: &str) -> Result<Duration, String> {
    foreshade_settings::duration::<1_000, 7_200_000>(text)
}

fn wait(text: &str) -> Result<Duration, String> {
    foreshade_settings::duration::<0, 604_800_000>(text)
}

/// A fraction, 0 included, which takes everybody back.
fn fraction(text: &str) -> Result<f64, String> {
    let (number, whole) = text
        .strip_suffix('%')
        .map_or((text, 1.0), |number| (number.trim_end(), 100.0));
    let value = number.parse::<f64>().map(|number| number / whole);
    let sound = value.ok().filter(|value| (0.0..=1.0).contains(value));
    sound.ok_or_else(|| format!("{text:?} is no share: from 0% to 100%, as 5% or 0.05"))
}
