//! Minutes without a controller, or without what it keeps everything in: whether a user fails, and whether anybody is
//! demoted.
//!
//! Real processes: endpoints, a proxy, a controller, and an etcd where that is what goes away. Before that, one pair is
//! promoted and a tenth of the users of another one are led to its shadow by hand: so there is something that could be
//! taken back. Users come in an open loop all the time. The proxy is asked each second who serves what, and all of it
//! has to stay as it was. In the end whoever was killed comes back, and must take nothing back either.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;

use crate::client;
use crate::demo::led::Cast;
use crate::load::{Load, LoadOptions};
use crate::stage::process::{Child, Programs};
use crate::stage::topology::{ControllerAt, Topology};
use crate::stage::{Stage, ports};

/// How long the controller may take to be there, or to be there again: a lease of the one that was killed has to end first.
const RETURN_PATIENCE: Duration = Duration::from_secs(90);

/// How long it may take until there is something to lose: five waits.
const PREPARATION_MAX: Duration = Duration::from_secs(5 * 90);

/// How long users still come when everybody is back.
const AFTERWARDS: Duration = Duration::from_secs(15);

/// From one look at the proxy to the next.
const LOOK: Duration = Duration::from_secs(1);

/// Changes and failures that are told.
const TOLD_MAX: usize = 20;

/// Share of the second pair that is set by hand.
const SHARE: f64 = 0.1;

/// States that a pair comes to only where something is taken back.
const TAKEN_BACK: [&str; 4] = ["RollingBack", "FailedOver", "Failed", "Frozen"];

/// Who goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Gone {
    /// The controller is killed.
    Controller,
    /// The etcd is killed, and the controller lives on without it.
    Etcd,
    /// The etcd is killed, and after half of the time the controller as well.
    Both,
}

/// What to play.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long they are gone.
    pub length: Duration,
    /// Requests per second.
    pub rate: f64,
    /// Who goes away.
    pub gone: Gone,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Requests of users, from before to after.
    pub requests: usize,
    /// Those that failed, in words; the first of them.
    pub failed: Vec<String>,
    /// How many failed.
    pub failed_total: usize,
    /// How often the proxy was asked who serves what.
    pub looks: u64,
    /// What was otherwise than before, each in a line.
    pub changes: Vec<String>,
    /// From the return to a controller that leads.
    pub back_after: Duration,
    /// What became of the two pairs afterwards.
    pub since: Vec<String>,
}

/// Who serves what: name, role, its shadow, and the share of that, in thousandths.
type Roles = Vec<(String, String, Option<String>, i64)>;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PairView {
    summary: Summary,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Summary {
    state: String,
    serving: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Change {
    seq: u64,
    to: String,
    cause: String,
}

/// Everybody who may go away, and the rest. Dropping it ends them all.
struct Site<'a> {
    cast: &'a Cast,
    folder: &'a Path,
    stage: Stage,
    at: ControllerAt,
    etcd: Option<([SocketAddr; 2], Option<Child>)>,
    controller: Option<Child>,
}

/// Plays; says what happens in `tell`.
pub fn run(
    cast: &Cast,
    topology: &Topology,
    folder: &Path,
    options: Options,
    mut tell: impl FnMut(String),
) -> Result<Report> {
    let mut site = Site::begin(cast, topology, folder, options.gone)?;
    // Longer than it takes in the worst case; it is stopped when everything is seen.
    let whole = PREPARATION_MAX + options.length + RETURN_PATIENCE + AFTERWARDS;
    let load = Load::start(LoadOptions::steady(
        site.stage.topology.users(),
        options.rate,
        whole,
    ))?;
    let pairs = site.prepare()?;
    let [promoted, shared] = &pairs;
    tell(format!(
        "{promoted} is promoted, {shared} has {SHARE} of its users at its shadow"
    ));
    let before = site.roles()?;
    let seen: Vec<u64> = pairs
        .iter()
        .map(|pair| site.newest(pair))
        .collect::<Result<_>>()?;
    let mut watch = Watch {
        before,
        looks: 0,
        changes: Vec::new(),
    };
    site.take_away(options.gone != Gone::Controller, options.gone == Gone::Controller);
    let half = options.length / 2;
    watch.look(&mut site, half, &mut tell)?;
    if options.gone == Gone::Both {
        site.take_away(false, true);
    }
    watch.look(&mut site, options.length - half, &mut tell)?;
    let begun = Instant::now();
    site.bring_back()?;
    let back_after = begun.elapsed();
    watch.look(&mut site, AFTERWARDS, &mut tell)?;
    load.stop();
    let records = load.finish().records;
    let failed = records.iter().filter(|record| record.outcome.failed());
    let since = pairs.iter().zip(seen).map(|(pair, seen)| site.since(pair, seen));
    let since: Vec<Vec<String>> = since.collect::<Result<_>>()?;
    site.check(&pairs)?;
    Ok(Report {
        requests: records.len(),
        failed_total: failed.clone().count(),
        failed: failed
            .take(TOLD_MAX)
            .map(|record| format!("{} at {} us", record.outcome, record.intended_us))
            .collect(),
        looks: watch.looks,
        changes: watch.changes,
        back_after,
        since: since.concat(),
    })
}

/// What was seen of the proxy.
struct Watch {
    before: Roles,
    looks: u64,
    changes: Vec<String>,
}

impl Watch {
    fn look(&mut self, site: &mut Site<'_>, length: Duration, tell: &mut impl FnMut(String)) -> Result<()> {
        let (begun, mut minute) = (Instant::now(), 0);
        while begun.elapsed() < length {
            site.stage.wait_until(Instant::now() + LOOK)?;
            let now = site.roles()?;
            self.looks += 1;
            if now != self.before && self.changes.len() < TOLD_MAX {
                let changed = now.iter().zip(&self.before).filter(|(now, before)| now != before);
                let changed: Vec<_> = changed
                    .map(|(now, before)| format!("{before:?} to {now:?}"))
                    .collect();
                self.changes.push(changed.join(", "));
            }
            if begun.elapsed().as_secs() / 60 > minute {
                minute = begun.elapsed().as_secs() / 60;
                tell(format!(
                    "{minute} min: {} looks, {} changes",
                    self.looks,
                    self.changes.len()
                ));
            }
        }
        Ok(())
    }
}

impl<'a> Site<'a> {
    fn begin(cast: &'a Cast, topology: &Topology, folder: &'a Path, gone: Gone) -> Result<Self> {
        let mut topology = topology.keeping_files_in(folder);
        let etcd = (gone != Gone::Controller).then(|| ports::free(2)).transpose()?;
        let etcd = etcd.and_then(|ports| <[SocketAddr; 2]>::try_from(ports).ok());
        if let Some([clients, _]) = etcd {
            let store = json!({ "etcd": { "endpoints": [format!("http://{clients}")], "lease": "3s" } });
            topology = topology.with_store(store);
        }
        let stage = Stage::start(&cast.programs, &topology, folder, 1)?;
        let at = stage
            .topology
            .controller()
            .context("the file has no controller")?;
        let mut site = Self {
            cast,
            folder,
            stage,
            at,
            etcd: etcd.map(|addresses| (addresses, None)),
            controller: None,
        };
        site.bring_back()?;
        Ok(site)
    }

    /// Starts whoever is not there, and waits until the controller leads.
    fn bring_back(&mut self) -> Result<()> {
        if let Some((addresses, etcd @ None)) = &mut self.etcd {
            *etcd = Some(start_etcd(&self.cast.programs, *addresses, self.folder)?);
        }
        let controller = match self.controller.take() {
            Some(controller) => controller,
            None => {
                let file = Stage::config_file(self.folder).into_os_string();
                let arguments = [OsString::from("run"), "--config".into(), file];
                let program: &PathBuf = &self.cast.controller;
                Child::start(
                    &self.cast.programs,
                    "controller",
                    program,
                    &arguments,
                    self.folder,
                )?
            }
        };
        let api = self.at.api;
        self.controller
            .insert(controller)
            .wait_until(RETURN_PATIENCE, || {
                client::request(api, "GET", "/readyz", "").is_ok_and(|(status, _)| status == 200)
            })
    }

    fn take_away(&mut self, etcd: bool, controller: bool) {
        if let Some((_, running)) = self.etcd.as_mut().filter(|_| etcd) {
            drop(running.take());
        }
        if controller {
            drop(self.controller.take());
        }
    }

    /// Promotes one pair, and sets the share of another, while users come.
    fn prepare(&self) -> Result<[String; 2]> {
        let pairs = self.stage.topology.pairs();
        let id = |at: usize| {
            let pair = pairs.get(at).context("the configuration needs two pairs")?;
            Ok::<_, anyhow::Error>(self.stage.topology.pair_id(&pair.primary))
        };
        let [first, second] = [id(0)?, id(1)?];
        for pair in [&first, &second] {
            self.until(pair, "warm", |summary| summary.state == "Warm.Idle")?;
        }
        self.order(&first, &["promote", &first, "--full"])?;
        self.until(&first, "promoted", |summary| {
            summary.serving == "shadow" && ["Baking", "Committed"].contains(&summary.state.as_str())
        })?;
        let share = format!("{}%", SHARE * 100.0);
        self.order(&second, &["set", "weight", &second, &share, "--ttl", "2h"])?;
        self.until(&second, "at its share", |_| {
            let roles = self.roles().unwrap_or_default();
            roles.iter().any(|(.., share)| *share == 100)
        })?;
        // While it is watched it may still be taken back, as by too few requests, and that would be no fault of an outage.
        self.until(&first, "final", |summary| summary.state == "Committed")?;
        Ok([first, second])
    }

    fn order(&self, pair: &str, words: &[&str]) -> Result<()> {
        let mut command = std::process::Command::new(&self.cast.operator);
        command
            .env("FORESHADE_SERVER", format!("http://{}", self.at.api))
            .args(words)
            .args(["--actor", "outage", "--reason", "something to lose"])
            .stdout(std::process::Stdio::null());
        let status = command.status().context("cannot run foreshade")?;
        ensure!(status.success(), "{words:?} of {pair}: {status}");
        Ok(())
    }

    fn until(&self, pair: &str, what: &str, is: impl Fn(&Summary) -> bool) -> Result<()> {
        let begun = Instant::now();
        loop {
            let view: Result<PairView> = client::json(self.at.api, "GET", &format!("/v1/pairs/{pair}"), "");
            let state = match view {
                Ok(view) if is(&view.summary) => return Ok(()),
                Ok(view) => view.summary.state,
                Err(error) => error.to_string(),
            };
            ensure!(
                begun.elapsed() < RETURN_PATIENCE,
                "{pair} is not {what} after {RETURN_PATIENCE:?}: {state}"
            );
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    fn roles(&self) -> Result<Roles> {
        let endpoints = self.stage.admin.endpoints()?.into_iter();
        #[expect(clippy::cast_possible_truncation, reason = "a share is 0 to 1")]
        let roles = endpoints.map(|endpoint| {
            let share = (endpoint.share_max() * 1000.0).round() as i64;
            (endpoint.name, endpoint.role, endpoint.shadow, share)
        });
        Ok(roles.collect())
    }

    fn history(&self, pair: &str) -> Result<Vec<Change>> {
        client::json(
            self.at.api,
            "GET",
            &format!("/v1/pairs/{pair}/history?limit=50"),
            "",
        )
    }

    /// Number of the newest change of a pair.
    fn newest(&self, pair: &str) -> Result<u64> {
        Ok(self.history(pair)?.first().map_or(0, |change| change.seq))
    }

    /// What became of a pair after this change.
    fn since(&self, pair: &str, seen: u64) -> Result<Vec<String>> {
        let history = self.history(pair)?;
        let since = history.iter().filter(|change| change.seq > seen);
        Ok(since
            .map(|change| format!("{pair} {}: {}", change.to, change.cause))
            .collect())
    }

    /// Nothing was taken back.
    fn check(&self, [first, second]: &[String; 2]) -> Result<()> {
        for pair in [first, second] {
            let view: PairView = client::json(self.at.api, "GET", &format!("/v1/pairs/{pair}"), "")?;
            let Summary { state, serving } = view.summary;
            let is_taken_back = TAKEN_BACK.iter().any(|taken| state.starts_with(taken));
            let is_demoted = pair == first && serving != "shadow";
            ensure!(
                !is_taken_back && !is_demoted,
                "{pair} is {state}, and the {serving} serves"
            );
        }
        Ok(())
    }
}

/// An etcd of one member on what lies in the folder.
fn start_etcd(programs: &Programs, [clients, peers]: [SocketAddr; 2], folder: &Path) -> Result<Child> {
    let (clients, peers) = (format!("http://{clients}"), format!("http://{peers}"));
    let member = format!("m={peers}");
    let words = [
        ("--name", "m"),
        ("--initial-cluster", &member),
        ("--listen-client-urls", &clients),
        ("--advertise-client-urls", &clients),
        ("--listen-peer-urls", &peers),
        ("--initial-advertise-peer-urls", &peers),
        ("--log-level", "error"),
    ];
    let mut arguments = vec![OsString::from("--data-dir"), folder.join("etcd").into_os_string()];
    arguments.extend(
        words
            .iter()
            .flat_map(|(key, value)| [OsString::from(key), value.into()]),
    );
    Child::start(programs, "etcd", Path::new("etcd"), &arguments, folder)
        .context("it takes an etcd; on Debian: apt-get install etcd-server")
}
