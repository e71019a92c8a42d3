//! The demo: one endpoint becomes ten times slower, and users hardly notice.
//!
//! "Without" is measured, not remembered: a second proxy of the same build, with the same configuration but shifting
//! switched off, serves the same load with the same seed to a farm of its own with the same seed, at the same time. What
//! else is switched off is the [`Baseline`], and the demo says which one it was.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::farm::EndpointCounts;
use crate::farm::fault::Fault;
use crate::load::record::{Record, Records, Span, Window, micros, quantile, summarise};
use crate::load::{Load, LoadOptions, LoadReport};
use crate::scenario::file::RATE;
use crate::scenario::site;
use crate::screen::{EndpointLine, Event, Picture, UsersLine};
use crate::stage::interrupt::Interrupt;
use crate::stage::process::Programs;
use crate::stage::timeline::{Sample, Timeline};
use crate::stage::topology::{Pair, Topology};
use crate::stage::{Stage, Watcher};
use crate::terminal::Screen;

pub mod led;

/// When the endpoint becomes slow.
const ONSET: Duration = Duration::from_secs(8);

/// How long it stays so.
const FAULT: Duration = Duration::from_secs(14);

/// How much slower.
const FACTOR: f64 = 10.0;

/// The first seconds do not count as healthy: connections are being opened.
const SETTLING: Duration = Duration::from_secs(3);

/// Between two pictures.
const PICTURE_INTERVAL: Duration = Duration::from_millis(250);

/// The live p99 is that of the second before this: slower requests are still on their way.
const LIVE_DELAY: Duration = Duration::from_millis(300);

/// Looks at the endpoints that cover a little more than the second over which rates are taken.
const LOOKS_PER_RATE: usize = 15;

/// Seed of both sides.
const SEED: u64 = 1;

/// Shortest demo: the endpoint has to be healed before the end.
pub const SECONDS_MIN: u64 = 30;

/// What the other proxy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Baseline {
    /// No shifting, and round robin in place of balancing by load: what most proxies do today.
    RoundRobin,
    /// No shifting, everything else alike. Isolates the shift; but balancing by load alone already avoids one slow
    /// endpoint, as long as the others can carry what it sheds, and endpoints of the farm always can.
    SameBalancing,
}

impl Baseline {
    /// In a few words.
    pub fn label(self) -> &'static str {
        match self {
            Self::RoundRobin => "round robin, no shift",
            Self::SameBalancing => "without shifting",
        }
    }

    fn of(self, topology: &Topology) -> Topology {
        match self {
            Self::RoundRobin => topology.without_shift().with_balance("round-robin"),
            Self::SameBalancing => topology.without_shift(),
        }
    }
}

/// How to play.
#[derive(Clone, Copy, Debug)]
pub struct DemoOptions {
    /// From the first request to the last.
    pub length: Duration,
    /// What the other proxy does.
    pub baseline: Baseline,
}

/// What both kinds of users saw.
#[derive(Debug)]
pub struct Outcome {
    /// Users of the proxy that shifts.
    pub with: Seen,
    /// Users of the proxy that does not.
    pub without: Seen,
}

/// What users saw while the endpoint was slow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// 99th percentile before the fault, in microseconds.
    pub healthy_p99_us: u32,
    /// During the fault.
    pub during: Window,
    /// Requests during the fault that took longer than twice the healthy p99.
    pub slow: usize,
    /// From the onset until the p99 of the last second stayed under 1.3 times the healthy one; `None`: not before the
    /// endpoint was healed.
    pub normal_after: Option<Duration>,
    /// Failed requests of the whole demo.
    pub failed: usize,
    /// How late one in a hundred requests left, in microseconds: the harness's own share in the latencies.
    pub lag_p99_us: u32,
}

/// One proxy with its farm, its users and a watcher.
struct Side {
    stage: Stage,
    load: Load,
    watcher: Watcher,
    records: Vec<Record>,
}

/// Plays the demo and draws on `screen`. Files go to `folder`.
pub fn play(
    programs: &Programs,
    topology: &Topology,
    folder: &Path,
    (options, interrupt): (DemoOptions, &Interrupt),
    screen: &mut Screen,
) -> Result<Outcome> {
    let length = options.length;
    let stages = [
        ("with", topology.clone()),
        ("without", options.baseline.of(topology)),
    ]
    .map(|(name, topology)| Stage::start(programs, &topology, &folder.join(name), SEED));
    let [with, without] = stages;
    let (mut with, mut without) = (Side::start(with?, length)?, Side::start(without?, length)?);
    let mut teller = Teller::new(&with, options);
    let started = with.load.started();
    let onset = ONSET;
    let healed = ONSET + FAULT;
    let (mut is_slow, mut is_healed) = (false, false);
    while started.elapsed() < length {
        interrupt.check()?;
        if !is_slow && started.elapsed() >= onset {
            is_slow = true;
            let name = with.set_faults(&without, &[Fault::slow(FACTOR)])?;
            teller.tell(
                screen,
                started,
                format!("fault: {name} becomes {FACTOR} times slower"),
            );
        }
        if !is_healed && started.elapsed() >= healed {
            is_healed = true;
            let name = with.set_faults(&without, &[])?;
            teller.tell(screen, started, format!("{name} is healed"));
        }
        teller.look(screen, &mut with, &mut without);
        let next = Instant::now() + PICTURE_INTERVAL;
        with.stage.wait_until(next)?;
        without.stage.wait_until(next)?;
    }
    let fault = Span::new(onset, healed);
    Ok(Outcome {
        with: seen(with.finish(), fault),
        without: seen(without.finish(), fault),
    })
}

impl Side {
    fn start(stage: Stage, length: Duration) -> Result<Self> {
        let mut options = LoadOptions::steady(stage.topology.users(), RATE, length);
        options.seed = SEED;
        let load = Load::start(options).context("cannot start the load")?;
        let watcher = Watcher::start(stage.farm, Some(stage.admin), load.started())?;
        Ok(Self {
            stage,
            load,
            watcher,
            records: Vec::new(),
        })
    }

    /// Sets the fault on both sides and returns the endpoint's name.
    fn set_faults(&self, other: &Self, faults: &[Fault]) -> Result<String> {
        let pairs = self.stage.topology.pairs();
        let pair = pairs
            .get(site::faulty(pairs))
            .context("the demo needs an endpoint")?;
        self.stage.farm.set_faults(&pair.primary, faults)?;
        other.stage.farm.set_faults(&pair.primary, faults)?;
        Ok(pair.primary.clone())
    }

    fn users(&mut self) -> UsersLine {
        self.load.copy_since(self.records.len(), &mut self.records);
        let to = self.load.started().elapsed().saturating_sub(LIVE_DELAY);
        let span = Span::new(to.saturating_sub(Duration::from_secs(1)), to);
        let recent = self
            .records
            .iter()
            .filter(|record| span.contains(record.intended_us));
        let recent: Vec<_> = recent.copied().collect();
        let failed = self
            .records
            .iter()
            .filter(|record| record.outcome.failed())
            .count();
        UsersLine {
            now: summarise(&recent, span),
            failed,
        }
    }

    /// Ends the load; the stage goes down with `self`.
    fn finish(self) -> LoadReport {
        self.load.stop();
        self.load.finish()
    }
}

/// Turns samples into pictures and events.
struct Teller {
    title: String,
    end_s: f64,
    baseline: &'static str,
    events: Vec<Event>,
    /// By primary: phase and share when they were last told.
    told: Vec<(String, f64)>,
}

impl Teller {
    fn new(with: &Side, options: DemoOptions) -> Self {
        let topology = &with.stage.topology;
        Self {
            title: format!(
                "foreshade demo: {RATE} requests/s to http://{}, admin http://{}",
                topology.users(),
                topology.admin()
            ),
            end_s: options.length.as_secs_f64(),
            baseline: options.baseline.label(),
            events: Vec::new(),
            told: vec![("normal".to_owned(), 0.0); topology.pairs().len()],
        }
    }

    fn tell(&mut self, screen: &mut Screen, started: Instant, text: String) {
        let event = Event {
            at_s: started.elapsed().as_secs_f64(),
            text,
        };
        screen.event(&event);
        self.events.push(event);
    }

    fn look(&mut self, screen: &mut Screen, with: &mut Side, without: &mut Side) {
        let started = with.load.started();
        let Some(endpoints) = endpoint_lines(with) else {
            return;
        };
        for (index, line) in endpoints.iter().enumerate() {
            let Some(told) = self.told.get_mut(index) else {
                continue;
            };
            let (news, now) = (news(told, line), (line.phase.clone(), line.share));
            if let Some(news) = news {
                *told = now;
                let why = with.stage.admin.explain(&line.name).unwrap_or_default().sentence;
                let why = if why.is_empty() { why } else { format!(": {why}") };
                self.tell(screen, started, format!("{}: {news}{why}", line.name));
            }
        }
        screen.draw(&Picture {
            at_s: started.elapsed().as_secs_f64(),
            end_s: self.end_s,
            title: self.title.clone(),
            endpoints,
            with: with.users(),
            without: without.users(),
            baseline: self.baseline,
            events: self.events.clone(),
        });
    }
}

/// What is worth telling about an endpoint whose phase and share were told before.
fn news((phase, share): &(String, f64), line: &EndpointLine) -> Option<String> {
    let percent = line.share * 100.0;
    if *share <= 0.0 && line.share > 0.0 {
        return Some(format!("shift begins with {percent:.1} %"));
    }
    if *share > 0.0 && line.share <= 0.0 {
        return Some("all traffic is back".to_owned());
    }
    // Ramps come and go in tenths of a second; telling each would hide what matters.
    let turned = *phase != line.phase && matches!(line.phase.as_str(), "shifted" | "return" | "fail_over");
    turned.then(|| format!("{} at {percent:.0} %", line.phase.replace('_', " ")))
}

fn endpoint_lines(side: &Side) -> Option<Vec<EndpointLine>> {
    let timeline = side.watcher.recent(LOOKS_PER_RATE);
    let sample = timeline.0.last()?;
    let last = Span {
        from_us: sample.at_us.saturating_sub(1_000_000),
        to_us: sample.at_us,
    };
    let line = |pair: &Pair| endpoint_line(&pair.primary, pair.shadow.as_deref(), &timeline, (sample, last));
    Some(side.stage.topology.pairs().iter().map(line).collect())
}

fn endpoint_line(
    primary: &str,
    shadow: Option<&str>,
    timeline: &Timeline,
    (sample, last): (&Sample, Span),
) -> EndpointLine {
    let view = sample
        .views
        .iter()
        .flatten()
        .find(|view| view.name == primary)
        .cloned()
        .unwrap_or_default();
    EndpointLine {
        name: primary.to_owned(),
        risk: view.risk,
        share: view.share_max(),
        phase: view.phase,
        rps: timeline.rate(primary, last),
        shadow_rps: shadow.map_or(0.0, |shadow| {
            timeline.requests(shadow, last, EndpointCounts::requests)
        }),
        p99_ms: view.p99_us / 1e3,
        errors: sample.counts.get(primary).map_or(0, |counts| counts.errors),
    }
}

/// Sums up what users saw while the endpoint was slow.
fn seen(report: LoadReport, fault: Span) -> Seen {
    let records = Records::from(report.records);
    let nothing = Window {
        span: fault,
        requests: 0,
        failed: 0,
        p50_us: 0,
        p99_us: 0,
    };
    let healthy = Span {
        from_us: micros(SETTLING),
        to_us: fault.from_us,
    };
    let second = Duration::from_secs(1);
    // The median of the seconds: on a busy machine one bad second must not pass for health.
    let mut seconds: Vec<u32> = records
        .sliding(healthy, second, second)
        .map(|window| window.p99_us)
        .collect();
    let healthy_p99_us = quantile(&mut seconds, 0.5).unwrap_or(0);
    let too_slow = |record: &&Record| record.latency_us > 2 * healthy_p99_us;
    let windows = records.sliding(fault, second, Duration::from_millis(100));
    let above = windows
        .filter(|window| f64::from(window.p99_us) >= 1.3 * f64::from(healthy_p99_us))
        .last();
    let normal_us = above.map_or(0, |last| last.span.to_us + 100_000 - fault.from_us);
    Seen {
        healthy_p99_us,
        during: records.window(fault).unwrap_or(nothing),
        slow: records.within(fault).iter().filter(too_slow).count(),
        normal_after: (fault.from_us + normal_us <= fault.to_us).then(|| Duration::from_micros(normal_us)),
        failed: records
            .all()
            .iter()
            .filter(|record| record.outcome.failed())
            .count(),
        lag_p99_us: report.lag.p99_us,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Lag;
    use crate::load::record::tests::get;

    #[test]
    fn the_summary_tells_when_users_were_back_to_normal() {
        let fault = Span::new(ONSET, ONSET + FAULT);
        let report = |slow_until_ms| LoadReport {
            records: (0..30_000)
                .map(|ms| {
                    get(
                        ms,
                        if (8_000..slow_until_ms).contains(&ms) {
                            100
                        } else {
                            10
                        },
                        200,
                    )
                })
                .collect(),
            lag: Lag::default(),
            totals: None,
            connections_peak: 1,
        };
        let quick = seen(report(9_000), fault);
        assert_eq!(
            (quick.slow, quick.healthy_p99_us, quick.failed),
            (1_000, 10_000, 0)
        );
        assert_eq!(quick.normal_after, Some(Duration::from_millis(2_000)));
        assert_eq!(seen(report(25_000), fault).normal_after, None);
    }

    #[test]
    fn a_shift_is_told_when_it_begins_turns_and_ends() {
        let line = |phase: &str, share| EndpointLine {
            phase: phase.into(),
            share,
            ..Default::default()
        };
        let told = |phase: &str, share| (phase.to_owned(), share);
        assert_eq!(
            news(&told("normal", 0.0), &line("canary", 0.05)).unwrap(),
            "shift begins with 5.0 %"
        );
        assert_eq!(news(&told("canary", 0.05), &line("ramp", 0.1)), None);
        assert_eq!(
            news(&told("ramp", 0.4), &line("shifted", 0.8)).unwrap(),
            "shifted at 80 %"
        );
        assert_eq!(
            news(&told("return", 0.1), &line("normal", 0.0)).unwrap(),
            "all traffic is back"
        );
        assert_eq!(news(&told("normal", 0.0), &line("normal", 0.0)), None);
    }
}
