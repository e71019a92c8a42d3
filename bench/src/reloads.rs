//! Many reloads under load: whether anybody notices, and whether anything is left behind.
//!
//! Three configurations in turn: the one that is given; one in which a pair has gone, and a cluster with a route of its own
//! has come; one with another listener and its members in another order. So in each round endpoints, clusters, routes
//! and listeners come and go, and something of everything stays. Two kinds of users: open-loop load on kept connections,
//! and strangers who open a connection for each request. Memory and descriptors are read from the proxy's own metrics,
//! after a few rounds in which it takes what it will need anyway, and at the end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::client;
use crate::load::{Load, LoadOptions};
use crate::process::Programs;
use crate::record::{Records, Span};
use crate::stage::Stage;
use crate::topology::Topology;

/// Reloads before memory is read for the first time.
const WARM_UP: usize = 15;

/// Time between two reloads: the proxy ticks several times under each configuration.
const BETWEEN: Duration = Duration::from_millis(250);

/// Time between two requests of the strangers: fifty connections per second.
const STRANGERS_PACE: Duration = Duration::from_millis(20);

/// What to play.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many reloads; at least [`WARM_UP`] and one.
    pub reloads: usize,
    /// Requests per second on kept connections.
    pub rate: f64,
}

/// What the proxy uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Resident memory.
    pub resident_mib: f64,
    /// Open descriptors.
    pub descriptors: f64,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// Requests on kept connections.
    pub requests: usize,
    /// Of these, those that did not get what they asked for, in words.
    pub failed: Vec<String>,
    /// Requests on connections of their own.
    pub strangers: usize,
    /// Of these, those that failed, in words.
    pub strangers_failed: Vec<String>,
    /// 99th percentile of the latency on kept connections.
    pub p99: Duration,
    /// After the warm-up, and at the end.
    pub usage: [Usage; 2],
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
    // Long enough for any machine; it is stopped when the last reload is done.
    let load = Load::start(LoadOptions::steady(
        users,
        options.rate,
        Duration::from_secs(3_600),
    ))?;
    let strangers = Strangers::start(users)?;
    let (mut took, mut warm) = (Vec::new(), None);
    for (turn, next) in turns.iter().cycle().skip(1).take(options.reloads).enumerate() {
        std::fs::write(Stage::config_file(folder), next.text()).context("cannot write the configuration")?;
        let asked = Instant::now();
        let (status, answer) = client::request(admin, "POST", "/v1/reload", "")?;
        ensure!(status == 200, "reload {turn}: {status} {answer}");
        took.push(asked.elapsed());
        std::thread::sleep(BETWEEN);
        let usage = usage(admin)?;
        if turn == WARM_UP {
            warm = Some(usage);
        }
        on_reload(turn + 1, usage);
    }
    let last = usage(admin)?;
    load.stop();
    let (strangers, strangers_failed) = strangers.finish();
    let records = load.finish().records;
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
        strangers,
        strangers_failed,
        p99: Duration::from_micros(window.p99_us.into()),
        usage: [warm.unwrap_or(last), last],
        took: [at(took.len() / 2), at(took.len().saturating_sub(1))],
    })
}

fn usage(admin: SocketAddr) -> Result<Usage> {
    let (_, page) = client::request(admin, "GET", "/metrics", "")?;
    let value = |name: &str| {
        let sample = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        sample
            .and_then(|s| s.parse::<f64>().ok())
            .with_context(|| format!("no {name}"))
    };
    Ok(Usage {
        resident_mib: value("process_resident_memory_bytes")? / f64::from(1 << 20),
        descriptors: value("process_open_fds")?,
    })
}

/// Users who open a connection for each request.
struct Strangers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Vec<String>)>,
}

impl Strangers {
    fn start(users: SocketAddr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let ask = move || {
            let (mut asked, mut failed) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                asked += 1;
                match client::request(users, "GET", "/a", "") {
                    Ok((200, _)) => {}
                    Ok((status, _)) => failed.push(format!("status {status}")),
                    Err(error) => failed.push(error.to_string()),
                }
                std::thread::sleep(STRANGERS_PACE);
            }
            (asked, failed)
        };
        let thread = std::thread::Builder::new().name("strangers".into()).spawn(ask)?;
        Ok(Self { stop, thread })
    }

    fn finish(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .unwrap_or_else(|_| (0, vec!["the thread of the strangers died".to_owned()]))
    }
}
