//! One run in virtual time, in the form in which runs on real sockets are judged and measured.
//!
//! The same [`Run`] on purpose: a claim or a figure that is computed twice is computed differently one day, and then the
//! simulator and the real run disagree for a reason that is nobody's. What a real run reads from the farm and from the
//! proxy's admin interface is read from the model here. A run ends as a real one does: a little after the traffic is back.

use std::collections::BTreeMap;
use std::time::Duration;

use foreshade_engine::model::load::Draws;
use foreshade_engine::model::record::{EndpointTick, Record as Recorded, Seen, Tick, UserRequest};
use foreshade_engine::model::scenario::Scenario as Modelled;
use foreshade_engine::model::{self, Contender};
use foreshade_engine::moment::Moment;
use foreshade_engine::outcome::Class;

use crate::farm::EndpointCounts;
use crate::farm::ledger::LedgerReport;
use crate::load::record::{Outcome, Record, Records, Span};
use crate::play::{AFTERMATH, SETTLING};
use crate::run::Run;
use crate::scenario::{At, Scenario, site};
use crate::stage::admin::EndpointView;
use crate::stage::timeline::{Sample, Timeline};
use crate::verdict::{BACK, STRAY};

use super::translate::names;

/// How long a user waits at most, as the load generator has it.
const DEADLINE_US: u32 = 10_000_000;

/// Looks at the endpoints per second.
pub(super) const LOOKS_PER_S: usize = 10;

/// Plays `modelled`, which is `scenario` in the model, with what chance gives and returns what happened: as the model has
/// it, and as a run. It ends where `end` says; after the traffic has come back, where it says nothing.
pub fn play(
    scenario: &Scenario,
    modelled: &Modelled,
    draws: &mut Draws,
    (contender, end): (Contender, Option<Moment>),
) -> (Recorded, Run) {
    let mut back = Back::new(scenario, modelled);
    let recorded = model::play(modelled, draws, contender, |record| match end {
        Some(end) => record.looks.last().is_some_and(|look| look.at >= end),
        None => back.is_over(record),
    });
    let run = run(scenario, &recorded);
    (recorded, run)
}

/// Watches for the traffic to be back after a fault, by what the endpoints got in the last second.
struct Back {
    healed: Moment,
    /// From the end of the settling to the onset, in looks.
    usual: (usize, usize),
    /// Each primary with its shadow, as indices.
    pairs: Vec<(usize, Option<usize>)>,
    since: Option<Moment>,
    is_passing: bool,
}

impl Back {
    fn new(scenario: &Scenario, modelled: &Modelled) -> Self {
        let looks = |span: Duration| usize::try_from(span.as_millis() / 100).unwrap_or(0);
        let endpoints = modelled.spec.endpoints.iter().enumerate();
        Self {
            healed: Moment::ZERO + scenario.warm_up + scenario.length,
            usual: (looks(settled(scenario)), looks(scenario.warm_up)),
            pairs: endpoints
                .filter_map(|(index, endpoint)| Some((index, Some(endpoint.shadow()?))))
                .collect(),
            since: None,
            is_passing: !scenario.is_quiet(),
        }
    }

    fn is_over(&mut self, record: &Recorded) -> bool {
        let Some(now) = record.looks.last().map(|look| look.at) else {
            return false;
        };
        if !self.is_passing || now < self.healed + Duration::from_secs(1) {
            // Where nothing is to come back, the fault's end is the run's.
            return !self.is_passing && now >= self.healed;
        }
        if self.since.is_none() && self.is_back(record) {
            self.since = Some(now);
        }
        self.since.is_some_and(|since| now >= since + AFTERMATH)
    }

    fn is_back(&self, record: &Recorded) -> bool {
        let last = record.looks.len();
        let requests = |endpoint: usize, (from, to): (usize, usize)| {
            let at = |index: usize| {
                let look = index.checked_sub(1).and_then(|index| record.looks.get(index));
                look.and_then(|look| look.endpoints.get(endpoint))
                    .map_or(0, |seen| seen.by_path.iter().sum())
            };
            at(to).saturating_sub(at(from)) as f64 / (to - from).max(1) as f64
        };
        let now = (last.saturating_sub(LOOKS_PER_S), last);
        self.pairs.iter().all(|(primary, shadow)| {
            let usual = requests(*primary, self.usual);
            let strayed = shadow.map_or(0.0, |shadow| requests(shadow, now));
            requests(*primary, now) >= BACK * usual && strayed <= STRAY * usual
        })
    }
}

/// From when on the warm-up counts as healthy.
fn settled(scenario: &Scenario) -> Duration {
    SETTLING.min(scenario.warm_up / 2)
}

/// The run that `recorded` was.
fn run(scenario: &Scenario, recorded: &Recorded) -> Run {
    let pairs = scenario.site.pairs();
    let (onset, healed) = (scenario.warm_up, scenario.warm_up + scenario.length);
    let names = names(&pairs);
    let answered = (0..).zip(&recorded.requests).map(record);
    Run {
        records: Records::from(answered.collect::<Vec<_>>()),
        timeline: timeline(recorded, &names, pairs.len()),
        ledger: ledger(recorded),
        faulty: site::faulty(&pairs),
        alone: scenario.is_about_one().then(|| {
            let own = scenario.faults.iter().filter(|(at, _)| *at == At::Faulty);
            own.map(|(_, fault)| fault.clone()).collect()
        }),
        pairs,
        healthy: Span::new(settled(scenario), onset),
        fault: Span::new(onset, healed),
        end_us: recorded.end.as_micros(),
        ..Run::default()
    }
}

fn record((number, request): (u64, &UserRequest)) -> Record {
    let latency_us = u32::try_from(request.latency.as_micros()).unwrap_or(u32::MAX);
    let outcome = match request.end {
        _ if latency_us >= DEADLINE_US => Outcome::DEADLINE,
        // Who still waits at the end has not failed; so it is in a real run, where the load waits for him.
        None | Some(Class::Ok) => Outcome::status(200),
        Some(Class::ClientError) => Outcome::status(400),
        Some(Class::Shed) => Outcome::status(503),
        Some(Class::AppError) => Outcome::status(500),
        Some(Class::Timeout) => Outcome::status(504),
        // The answer had begun.
        Some(Class::Reset | Class::Cancelled) => Outcome::CUT,
        Some(Class::GatewayError | Class::ConnectFailed | Class::Refused) => Outcome::status(502),
    };
    Record {
        intended_us: request.arrived.as_micros(),
        latency_us: latency_us.min(DEADLINE_US),
        outcome,
        path: request.path,
        post: request.post,
        number,
    }
}

fn ledger(recorded: &Recorded) -> LedgerReport {
    let last = recorded.looks.last();
    let seen = last.map_or(0, |look| look.endpoints.iter().map(|seen| seen.posts).sum());
    // What came between the last look and the end has not been counted.
    let answered = recorded
        .requests
        .iter()
        .filter(|request| request.post && request.is_served());
    LedgerReport {
        writes: seen.max(answered.count() as u64),
        repeats: recorded.repeated_posts,
        ..LedgerReport::default()
    }
}

fn timeline(recorded: &Recorded, names: &[String], primaries: usize) -> Timeline {
    let mut ticks = recorded.ticks.iter().peekable();
    let mut last = None;
    let samples = recorded.looks.iter().map(|look| {
        // What the proxy thought at its last tick before the look.
        while let Some(tick) = ticks.next_if(|tick| tick.at <= look.at) {
            last = Some(tick);
        }
        Sample {
            at_us: look.at.as_micros(),
            counts: names
                .iter()
                .cloned()
                .zip(look.endpoints.iter().map(counts))
                .collect::<BTreeMap<_, _>>(),
            views: last.map(|tick| views_of(tick, names, primaries)),
        }
    });
    Timeline(samples.collect())
}

fn counts(seen: &Seen) -> EndpointCounts {
    EndpointCounts {
        by_path: seen.by_path,
        posts: seen.posts,
        errors: seen.errors,
        posts_lost: seen.posts_lost,
        ..EndpointCounts::default()
    }
}

fn views_of(tick: &Tick, names: &[String], primaries: usize) -> Vec<EndpointView> {
    let view = |(index, (endpoint, name)): (usize, (&EndpointTick, &String))| EndpointView {
        name: name.clone(),
        role: if index < primaries { "primary" } else { "shadow" }.to_owned(),
        risk: endpoint.risk,
        share: endpoint.shift.map_or(0.0, |shift| shift.share),
        class_shares: endpoint
            .shift
            .map(|shift| shift.class_share)
            .into_iter()
            .collect(),
        available: Some(endpoint.available),
        ..EndpointView::default()
    };
    tick.endpoints.iter().zip(names).enumerate().map(view).collect()
}
