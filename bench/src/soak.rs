//! A long run at full load: whether the proxy keeps what it should have given back.
//!
//! The configuration is that of an edge ([`Topology::as_edge`]): whatever may hold memory or a descriptor is switched on.
//! The load is bounded and mixed (a `crowd` and [`strangers`](crate::strangers)), and one endpoint after another becomes
//! slow and heals, so that traffic is on its way to shadows or back for most of the time. Once a minute the access log
//! is removed and opened anew, as after logrotate. Judged by [`crate::growth`]: under load, and at rest after it.

mod crowd;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use self::crowd::{Crowd, Tallies};
use crate::farm::fault::Fault;
use crate::growth::{Growth, thirds};
use crate::stage::Stage;
use crate::stage::process::Programs;
use crate::stage::topology::Topology;
use crate::stage::usage::{Usage, after_load, before_load, usage};
use crate::strangers::{Strangers, Tally};

/// Shortest run: one sickness fits in.
pub const LENGTH_MIN: Duration = Duration::from_secs(30);

/// Not judged at the start, but no more than a quarter: what is needed anyway is taken then, and each of four shadows,
/// which take connections and memory when they are needed first, has had its turn.
const WARM_UP: Duration = Duration::from_secs(240);

/// Between two readings.
const READING_INTERVAL: Duration = Duration::from_secs(1);

/// Longest time between two readings. On a machine that gives a process no time at all for longer than that, deadlines
/// pass that the proxy has not missed; and a proxy that says nothing for so long has not passed, either.
pub const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Between two lines, and between two changes of the access log.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// One endpoint is sick once in this time,
const SICK_EVERY: Duration = Duration::from_secs(60);

/// from this on,
const SICK_FROM: Duration = Duration::from_secs(5);

/// and until this.
const SICK_TO: Duration = Duration::from_secs(25);

/// How much slower it is then.
const SICK_FACTOR: f64 = 10.0;

/// A shadow that serves more than this of its primary's traffic has been shifted to.
const SHIFTED: f64 = 0.2;

/// What to play.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// At least [`LENGTH_MIN`].
    pub length: Duration,
    /// Kept connections, each of which asks again as soon as it is answered.
    pub connections: usize,
}

/// How it goes, since the start.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// How long it has been going.
    pub elapsed: Duration,
    /// Requests of all kinds.
    pub requests: u64,
    /// Of these, those that did not get what they should have got.
    pub failed: u64,
    /// Shifts of a primary's traffic to its shadow.
    pub shifts: u64,
    /// What the proxy uses now.
    pub usage: Usage,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// At the end.
    pub progress: Progress,
    /// Requests on kept connections, on new ones, of people who went away, and that broke the rules.
    pub kinds: [u64; 4],
    /// The first failures, in words.
    pub failures: Vec<String>,
    /// What was not judged.
    pub warm_up: Duration,
    /// The longest time between two readings: beyond [`PAUSE_MAX`] the machine stood still, and there is no judgement.
    pub pause: Duration,
    /// Whether the proxy has grown.
    pub growth: Growth,
}

/// Plays; calls `on_line` once a minute.
pub fn run(
    programs: &Programs,
    topology: &Topology,
    folder: &Path,
    options: Options,
    mut on_line: impl FnMut(&Progress),
) -> Result<Report> {
    ensure!(options.length >= LENGTH_MIN, "shorter than {LENGTH_MIN:?}");
    let log = folder.join("access.log");
    let topology = topology.on_free_ports()?.as_edge(&log);
    let mut stage = Stage::start_here(programs, topology, folder, 1)?;
    let (users, admin) = (stage.topology.users(), stage.topology.admin());
    let before = before_load(admin)?;
    let crowd = Crowd::start(users, options.connections)?;
    let strangers = Strangers::start(users)?;
    let mut watch = Watch::new(Everybody::new(crowd.tallies(), strangers.tally()), options.length);
    while watch.elapsed() < options.length {
        stage.wait_until(watch.next_reading())?;
        watch.read(&stage)?;
        if watch.line_is_due() {
            on_line(&watch.progress());
            open_anew(&log, stage.proxy())?;
        }
    }
    // What is missing at the end is a pause, too.
    watch.pause = watch.pause.max(watch.read_at.elapsed());
    ensure!(!watch.readings.is_empty(), "the proxy has told nothing of itself");
    drop(crowd);
    drop(strangers);
    let progress = watch.progress();
    let after = after_load(admin, before.descriptors)?;
    Ok(Report {
        progress,
        kinds: watch.everybody.kinds(),
        failures: watch.everybody.failures(),
        warm_up: watch.warm_up,
        pause: watch.pause,
        growth: Growth {
            under_load: thirds(&watch.readings),
            at_rest: [before, after],
        },
    })
}

/// Does what logrotate does, and drops what was written: twenty minutes of it would fill a small disk.
fn open_anew(log: &Path, proxy: u32) -> Result<()> {
    std::fs::remove_file(log).context("cannot remove the access log")?;
    let id = i32::try_from(proxy).context("a process id")?;
    kill(Pid::from_raw(id), Signal::SIGUSR1).context("cannot ask the proxy for a new access log")
}

/// All who ask.
struct Everybody([Arc<Tally>; 4]);

impl Everybody {
    fn new(crowd: &Tallies, strangers: &Arc<Tally>) -> Self {
        Self([&crowd.kept, strangers, &crowd.left, &crowd.broke].map(Arc::clone))
    }

    fn kinds(&self) -> [u64; 4] {
        self.0.each_ref().map(|tally| tally.asked())
    }

    fn failed(&self) -> u64 {
        self.0.iter().map(|tally| tally.failed()).sum()
    }

    fn failures(&self) -> Vec<String> {
        self.0.iter().flat_map(|tally| tally.words()).collect()
    }
}

/// What is seen of a run while it lasts.
struct Watch {
    everybody: Everybody,
    started: Instant,
    warm_up: Duration,
    read_at: Instant,
    pause: Duration,
    /// Those after the warm-up.
    readings: Vec<Usage>,
    latest: Usage,
    looks: u32,
    lines: u32,
    shifts: u64,
    /// Primaries whose traffic is on its shadow.
    shifted: Vec<String>,
}

impl Watch {
    fn new(everybody: Everybody, length: Duration) -> Self {
        Self {
            everybody,
            started: Instant::now(),
            warm_up: WARM_UP.min(length / 4),
            read_at: Instant::now(),
            pause: Duration::ZERO,
            readings: Vec::new(),
            latest: Usage::default(),
            looks: 0,
            lines: 0,
            shifts: 0,
            shifted: Vec::new(),
        }
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn next_reading(&self) -> Instant {
        self.started + READING_INTERVAL * (self.looks + 1)
    }

    /// Takes a reading, and makes endpoints sick and well as the time demands.
    fn read(&mut self, stage: &Stage) -> Result<()> {
        self.looks += 1;
        // A reading that fails is missing, and shows as a pause: a dead proxy is noticed by the stage.
        if let Ok(latest) = usage(stage.topology.admin()) {
            self.latest = latest;
            self.pause = self.pause.max(self.read_at.elapsed());
            self.read_at = Instant::now();
            if self.elapsed() >= self.warm_up {
                self.readings.push(latest);
            }
            self.count_shifts(stage);
        }
        let now = READING_INTERVAL * self.looks;
        let turn = now.as_secs() / SICK_EVERY.as_secs();
        let into = now - SICK_EVERY * u32::try_from(turn).unwrap_or(u32::MAX);
        let pairs = stage.topology.pairs();
        let Some(sick) = pairs
            .iter()
            .cycle()
            .nth(usize::try_from(turn)? % pairs.len().max(1))
        else {
            return Ok(());
        };
        if into == SICK_FROM {
            stage
                .farm
                .set_faults(&sick.primary, &[Fault::slow(SICK_FACTOR)])?;
        } else if into == SICK_TO {
            stage.farm.heal(&sick.primary)?;
        }
        Ok(())
    }

    fn count_shifts(&mut self, stage: &Stage) {
        let Ok(views) = stage.admin.endpoints() else {
            return;
        };
        let shifted = views.into_iter().filter(|view| view.share_max() > SHIFTED);
        let shifted: Vec<_> = shifted.map(|view| view.name).collect();
        let new = shifted.iter().filter(|name| !self.shifted.contains(name));
        self.shifts += new.count() as u64;
        self.shifted = shifted;
    }

    /// Whether a minute is over that has no line yet.
    fn line_is_due(&mut self) -> bool {
        let due = self.elapsed() >= LINE_INTERVAL * (self.lines + 1);
        self.lines += u32::from(due);
        due
    }

    fn progress(&self) -> Progress {
        Progress {
            elapsed: self.elapsed(),
            requests: self.everybody.kinds().iter().sum(),
            failed: self.everybody.failed(),
            shifts: self.shifts,
            usage: self.latest,
        }
    }
}
