//! Many reloads under load: whether anybody notices, and whether anything is left behind.
//!
//! Three configurations in turn: the one that is given; one in which a pair has gone, and a cluster with a route of its own
//! has come; one with another listener and its members in another order. So in each round endpoints, clusters, routes
//! and listeners come and go, and something of everything stays. Two kinds of users: open-loop load on kept connections,
//! and strangers who open a connection for each request. Memory is read after each reload, and judged after a few rounds
//! in which the proxy takes what it will need anyway. Descriptors are judged at rest, before the load against after it:
//! under open-loop load their number is that of the connections of the last peak, which both sides keep for a minute.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::client;
use crate::growth::{Growth, thirds};
use crate::load::record::{Records, Span};
use crate::load::{Load, LoadOptions};
use crate::stage::Stage;
use crate::stage::process::Programs;
use crate::stage::topology::Topology;
use crate::stage::usage::{Usage, after_load, before_load, usage};
use crate::strangers::{Strangers, Tally};

/// Reloads before the readings that count.
const WARM_UP: usize = 15;

/// Time between two reloads: the proxy ticks several times under each configuration.
const BETWEEN: Duration = Duration::from_millis(250);

/// What to play.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many reloads; at least [`WARM_UP`] and one.
    pub reloads: usize,
    /// Requests per second on kept connections.
    pub rate: f64,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// Requests on kept connections.
    pub requests: usize,
    /// Of these, those that did not get what they asked for, in words.
    pub failed: Vec<String>,
    /// Requests on connections of their own.
    pub strangers: Arc<Tally>,
    /// 99th percentile of the latency on kept connections.
    pub p99: Duration,
    /// Whether the proxy has grown.
    pub growth: Growth,
    /// From the order to the answer, for the median and the slowest reload.
    pub took: [Duration; 2],
}

/// Plays; calls `on_reload` after each reload.
pub fn run(
    programs: &Programs,
    topology: &Topology,
    folder: &Path,
    options: Options,
    mut on_reload: impl FnMut(usize, Usage),
) -> Result<Report> {
    ensure!(options.reloads > WARM_UP, "fewer reloads than the warm-up takes");
    let stage = Stage::start(programs, topology, folder, 1)?;
    let (users, admin) = (stage.topology.users(), stage.topology.admin());
    let turns = stage.topology.turns();
    let before = before_load(admin)?;
    // Long enough for any machine; it is stopped when the last reload is done.
    let load = Load::start(LoadOptions::steady(
        users,
        options.rate,
        Duration::from_secs(3_600),
    ))?;
    let strangers = Strangers::start(users)?;
    let (mut took, mut readings) = (Vec::new(), Vec::new());
    for (turn, next) in turns.iter().cycle().skip(1).take(options.reloads).enumerate() {
        took.push(reload(admin, folder, next).with_context(|| format!("reload {turn}"))?);
        std::thread::sleep(BETWEEN);
        let usage = usage(admin)?;
        readings.push(usage);
        on_reload(turn + 1, usage);
    }
    load.stop();
    let tally = Arc::clone(strangers.tally());
    drop(strangers);
    let records = load.finish().records;
    // At rest it shall serve what it served at first.
    reload(admin, folder, &stage.topology).context("the last reload")?;
    let after = after_load(admin, before.descriptors)?;
    let failed = records.iter().filter(|r| r.outcome.failed());
    let failed = failed
        .map(|r| format!("{} at {} us", r.outcome, r.intended_us))
        .collect();
    let requests = records.len();
    let whole = Span {
        from_us: 0,
        to_us: u64::MAX,
    };
    let window = Records::from(records)
        .window(whole)
        .context("no request was made")?;
    took.sort_unstable();
    let at = |index: usize| took.get(index).copied().unwrap_or_default();
    Ok(Report {
        requests,
        failed,
        strangers: tally,
        p99: Duration::from_micros(window.p99_us.into()),
        growth: Growth {
            under_load: thirds(readings.get(WARM_UP..).unwrap_or_default()),
            at_rest: [before, after],
        },
        took: [at(took.len() / 2), at(took.len().saturating_sub(1))],
    })
}

/// Has the proxy take `next` over, and says how long that took.
fn reload(admin: SocketAddr, folder: &Path, next: &Topology) -> Result<Duration> {
    std::fs::write(Stage::config_file(folder), next.text()).context("cannot write the configuration")?;
    let asked = Instant::now();
    let (status, answer) = client::request(admin, "POST", "/v1/reload", "")?;
    ensure!(status == 200, "{status} {answer}");
    Ok(asked.elapsed())
}
