//! The second act: an operator orders, and the controller leads: one shadow is promoted, another one is rolled back.
//!
//! Nothing here decides anything. A proxy and a controller run from one file as two processes, orders go through
//! `foreshade`, the operator's command, and what is shown is what that command prints. A step that does not happen in its
//! time ends the act with what the pair waits for: a demo that goes on regardless would prove nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::client;
use crate::demo::{LIVE_DELAY, PICTURE_INTERVAL, SEED};
use crate::farm::fault::Fault;
use crate::load::record::{Record, Records, Span, Window, summarise};
use crate::load::{Lag, Load, LoadOptions};
use crate::scenario::file::RATE;
use crate::scenario::site;
use crate::screen::Event;
use crate::screen::led::Picture;
use crate::stage::interrupt::Interrupt;
use crate::stage::process::{Child, Programs};
use crate::stage::topology::{ControllerAt, Topology};
use crate::stage::{PATIENCE, Stage};
use crate::terminal::Screen;

/// How much slower the primary becomes whose users are led to its shadow.
const SLOWER: f64 = 4.0;

/// The part of its answers that are errors at the shadow that is rolled back.
const ERRORS: f64 = 0.3;

/// Who gives the orders.
const ACTOR: &str = "demo";

/// Where the story of a pair ends, one way or the other.
const ENDS: [&str; 3] = ["Committed", "Failed", "Frozen"];

/// Steps of the story, and one more for the users to outlast them.
const STEPS: u32 = 5;

/// Who plays.
#[derive(Clone, Debug)]
pub struct Cast {
    /// The bench and the proxy.
    pub programs: Programs,
    /// `foreshade-controller`.
    pub controller: PathBuf,
    /// `foreshade`.
    pub operator: PathBuf,
    /// How long each step of the story may take. Each takes some seconds on an idle machine.
    pub patience: Duration,
}

impl Cast {
    /// These, with the controller's programs beside the proxy.
    pub fn find(programs: Programs, patience: Duration) -> Result<Self> {
        let beside = |name: &str| {
            let path = programs.proxy.with_file_name(name);
            ensure!(
                path.is_file(),
                "there is no {}; build it with `cargo build --release -p foreshade-controller`",
                path.display()
            );
            Ok(path)
        };
        Ok(Self {
            controller: beside("foreshade-controller")?,
            operator: beside("foreshade")?,
            patience,
            programs,
        })
    }
}

/// Exit status of `foreshade` where the controller cannot be reached, or does not lead just now.
const AWAY: i32 = 4;

/// The whole act.
#[derive(Clone, Debug)]
pub struct Played {
    /// One order after the other.
    pub told: Vec<Told>,
    /// How well the load kept its schedule.
    pub lag: Lag,
}

/// What came of one order.
#[derive(Clone, Debug)]
pub struct Told {
    /// What was ordered, and why.
    pub title: String,
    /// From the order to its end.
    pub took: Duration,
    /// What became of the requests that were meant to start meanwhile, those included that ended later.
    pub users: Window,
    /// What became of the pair since, one change a line.
    pub history: Vec<String>,
}

/// Plays the act and draws on `screen`. Files go to `folder`.
pub fn play(
    cast: &Cast,
    topology: &Topology,
    folder: &Path,
    interrupt: &Interrupt,
    screen: &mut Screen,
) -> Result<Played> {
    let mut act = Act::begin(cast, topology, folder, interrupt, screen)?;
    let pairs = act.stage.topology.pairs().to_vec();
    let slow = pairs.get(site::faulty(&pairs)).context("no pair")?;
    let other = pairs.get(site::faulty(&pairs) + 1).context("no second pair")?;
    let bad = other.shadow.as_deref().context("no shadow")?;
    for primary in [&slow.primary, &other.primary] {
        act.until(primary, "warm", |pair| pair.state == "Warm.Idle")?;
    }
    act.tell(format!("fault: {} becomes {SLOWER} times slower", slow.primary));
    act.stage.farm.set_faults(&slow.primary, &[Fault::slow(SLOWER)])?;
    let reason = format!("{} is slow", slow.primary);
    let promoted = act.order(&slow.primary, &reason, "promoted", |pair| {
        pair.state == "Committed"
    })?;
    act.tell(format!(
        "fault: {bad} fails {:.0} % of its requests",
        ERRORS * 100.0
    ));
    act.stage.farm.set_faults(bad, &[Fault::errors(ERRORS)])?;
    let rolled_back = act.order(&other.primary, "a new build", "rolled back", |pair| {
        pair.state == "Failed"
    })?;
    act.screen.keep();
    Ok(act.end([promoted, rolled_back]))
}

/// An order that has been carried out, before its users are counted.
struct Done {
    title: String,
    span: Span,
    took: Duration,
    history: Vec<String>,
}

/// A pair as the API shows it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PairView {
    summary: PairSummary,
    obstacles: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct PairSummary {
    state: String,
    share_set: f64,
    reason: String,
}

/// A change of a pair as the API shows it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Change {
    from: String,
    to: String,
    share: f64,
    cause: String,
}

impl Change {
    fn line(&self) -> String {
        format!("{:<20} {:>4.0} %  {}", self.to, self.share * 100.0, self.cause)
    }
}

/// Everybody, and what was told so far. Dropping it ends them all.
struct Act<'a> {
    load: Load,
    controller: Child,
    stage: Stage,
    at: ControllerAt,
    operator: &'a Path,
    patience: Duration,
    interrupt: &'a Interrupt,
    screen: &'a mut Screen,
    records: Vec<Record>,
    events: Vec<Event>,
}

impl<'a> Act<'a> {
    fn begin(
        cast: &'a Cast,
        topology: &Topology,
        folder: &Path,
        interrupt: &'a Interrupt,
        screen: &'a mut Screen,
    ) -> Result<Self> {
        let topology = topology.keeping_files_in(folder);
        let stage = Stage::start(&cast.programs, &topology, folder, SEED)?;
        let at = stage
            .topology
            .controller()
            .context("the file has no controller")?;
        let file = Stage::config_file(folder).into_os_string();
        let arguments = [OsString::from("run"), "--config".into(), file];
        let mut controller =
            Child::start(&cast.programs, "controller", &cast.controller, &arguments, folder)?;
        controller.wait_until(PATIENCE, || {
            client::request(at.api, "GET", "/readyz", "").is_ok_and(|(status, _)| status == 200)
        })?;
        let mut options = LoadOptions::steady(stage.topology.users(), RATE, cast.patience * STEPS);
        options.seed = SEED;
        let load = Load::start(options).context("cannot start the load")?;
        Ok(Self {
            load,
            controller,
            stage,
            at,
            operator: &cast.operator,
            patience: cast.patience,
            interrupt,
            screen,
            records: Vec::new(),
            events: Vec::new(),
        })
    }

    /// Orders a promotion, and waits for what comes of it.
    fn order(
        &mut self,
        primary: &str,
        reason: &str,
        what: &str,
        is: impl Fn(&PairSummary) -> bool,
    ) -> Result<Done> {
        let pair = self.stage.topology.pair_id(primary);
        let title = format!("foreshade promote {pair} --reason \"{reason}\"");
        self.tell(format!("$ {title}"));
        let begun = self.load.started().elapsed();
        self.ask(&["promote", &pair, "--actor", ACTOR, "--reason", reason])?;
        self.until(primary, what, is)?;
        let ended = self.load.started().elapsed();
        let path = format!("/v1/pairs/{pair}/history?limit=50");
        // The newest comes first; what was before the order is another story.
        let changes: Vec<Change> = client::json(self.at.api, "GET", &path, "")?;
        let since = changes
            .iter()
            .take_while(|change| !change.from.starts_with("Syncing"));
        let history: Vec<String> = since.map(Change::line).collect();
        Ok(Done {
            title,
            span: Span::new(begun, ended),
            took: ended.saturating_sub(begun),
            history: history.into_iter().rev().collect(),
        })
    }

    /// Ends the load, while everybody is still there to answer what is under way, and counts what users saw.
    fn end(self, orders: [Done; 2]) -> Played {
        self.load.stop();
        let report = self.load.finish();
        let records = Records::from(report.records);
        let told = orders.map(|order| Told {
            users: seen(records.within(order.span), order.span),
            title: order.title,
            took: order.took,
            history: order.history,
        });
        Played {
            told: told.into(),
            lag: report.lag,
        }
    }

    /// Shows the pair until it is so.
    fn until(&mut self, primary: &str, what: &str, is: impl Fn(&PairSummary) -> bool) -> Result<()> {
        let pair = self.stage.topology.pair_id(primary);
        let path = format!("/v1/pairs/{pair}");
        let begun = Instant::now();
        let mut told = PairSummary::default();
        loop {
            self.interrupt.check()?;
            self.controller.check()?;
            let PairView { summary, obstacles } = match client::json(self.at.api, "GET", &path, "") {
                Ok(view) => view,
                // On a machine that stands still a controller gives its lease up, and takes it again.
                Err(_) if begun.elapsed() < self.patience => {
                    self.stage.wait_until(Instant::now() + PICTURE_INTERVAL)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if (&summary.state, summary.share_set) != (&told.state, told.share_set) {
                let share = summary.share_set * 100.0;
                self.tell(format!(
                    "{pair} {}, {share:.0} %: {}",
                    summary.state, summary.reason
                ));
                told = summary.clone();
            }
            self.look(&pair, &summary);
            if is(&summary) {
                return Ok(());
            }
            let is_over = ENDS.contains(&summary.state.as_str());
            if is_over || begun.elapsed() > self.patience {
                bail!(
                    "{pair} is not {what} after {:.0?} of {:?}: it is {}, because {}; what stands in the way: {}",
                    begun.elapsed(),
                    self.patience,
                    summary.state,
                    summary.reason,
                    if obstacles.is_empty() {
                        "nothing".to_owned()
                    } else {
                        obstacles.join("; ")
                    }
                );
            }
            self.stage.wait_until(Instant::now() + PICTURE_INTERVAL)?;
        }
    }

    fn tell(&mut self, text: String) {
        let event = Event {
            at_s: self.load.started().elapsed().as_secs_f64(),
            text,
        };
        self.screen.event(&event);
        self.events.push(event);
    }

    fn look(&mut self, pair: &str, summary: &PairSummary) {
        self.listen();
        let to = self.load.started().elapsed().saturating_sub(LIVE_DELAY);
        let now = self.users(Span::new(to.saturating_sub(Duration::from_secs(1)), to));
        let failed = self.records.iter().filter(|record| record.outcome.failed());
        let picture = Picture {
            at_s: self.load.started().elapsed().as_secs_f64(),
            users: self.stage.topology.users(),
            api: self.at.api,
            pair: pair.to_owned(),
            state: format!("{}, {:.0} % set", summary.state, summary.share_set * 100.0),
            now,
            failed: failed.count(),
            events: &self.events,
        };
        let (operator, api) = (self.operator, self.at.api);
        // A look that fails is a gap; whether the controller lives is asked elsewhere.
        let tree = || run(operator, api, &["get", pair]).unwrap_or_default();
        self.screen.show(|| picture.lines(&tree()), || picture.line());
    }

    /// Takes in what users have seen by now.
    fn listen(&mut self) {
        self.load.copy_since(self.records.len(), &mut self.records);
    }

    fn users(&self, span: Span) -> Window {
        let within = self
            .records
            .iter()
            .filter(|record| span.contains(record.intended_us));
        let within: Vec<_> = within.copied().collect();
        seen(&within, span)
    }

    /// Gives an order. A controller that does not lead just now is asked again: on a machine that stands still it gives
    /// its lease up, and takes it again.
    fn ask(&mut self, words: &[&str]) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.interrupt.check()?;
            self.controller.check()?;
            match run(self.operator, self.at.api, words) {
                Err(error) if is_away(&error) && begun.elapsed() < self.patience => {
                    self.stage.wait_until(Instant::now() + PICTURE_INTERVAL)?;
                }
                told => return told.map(drop),
            }
        }
    }
}

/// What users saw in these requests of `span`.
fn seen(records: &[Record], span: Span) -> Window {
    summarise(records, span).unwrap_or(Window {
        span,
        requests: 0,
        failed: 0,
        p50_us: 0,
        p99_us: 0,
    })
}

/// The operator's command was not carried out.
#[derive(Debug, thiserror::Error)]
#[error("foreshade {words}: {said}")]
struct Refused {
    words: String,
    code: Option<i32>,
    said: String,
}

fn is_away(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| refused.code == Some(AWAY))
}

/// Runs the operator's command, and returns what it prints.
fn run(operator: &Path, api: std::net::SocketAddr, words: &[&str]) -> Result<String> {
    let output = std::process::Command::new(operator)
        .arg(format!("--server=http://{api}"))
        .args(words)
        .stdin(std::process::Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", operator.display()))?;
    if !output.status.success() {
        return Err(Refused {
            words: words.join(" "),
            code: output.status.code(),
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }
        .into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_that_does_not_lead_just_now_is_told_from_one_that_refuses() {
        let nowhere = ([127, 0, 0, 1], 1).into();
        let refused = run(Path::new("false"), nowhere, &["promote", "shop/a"]).unwrap_err();
        assert!(
            refused.to_string().starts_with("foreshade promote shop/a: "),
            "{refused}"
        );
        assert!(!is_away(&refused));
        let away = Refused {
            words: String::new(),
            code: Some(AWAY),
            said: String::new(),
        };
        assert!(is_away(&away.into()));
        assert!(!is_away(&anyhow::anyhow!("cannot start foreshade")));
    }
}
