//! A scenario file in the engine's model: the same faults at the same endpoints at the same moments, in virtual time.
//!
//! The model knows what a fault does to a request and to a queue, the farm what it does to a socket. Where the two
//! are not the same thing, the nearest is taken: a path is a route class, a body has the size that its path asks for,
//! what waits for a core shares those that there are, and a probe asks for a connection only, as the product's
//! default does.

use std::ops::Range;
use std::time::Duration;

use foreshade_engine::ablation::Ablations;
use foreshade_engine::model::fault::{self as model, Failing, Failure, Release};
use foreshade_engine::model::load::{Load, Profile};
use foreshade_engine::model::scenario::{self as virtual_, Probes};
use foreshade_engine::moment::Moment;

use crate::farm::QUEUE;
use crate::farm::fault::{Fault, Kind};
use crate::load::mix::Mix;
use crate::load::schedule::Rate;
use crate::scenario::script::by_endpoint;
use crate::scenario::{Scenario, site};
use crate::stage::topology::Pair;

/// Bytes of a body for which no size is asked.
const BODY_BYTES: u64 = 100;

/// Spans of one fault that are laid out at most: one every 100 ms for an hour.
const SPANS_MAX: usize = 36_000;

/// How many times longer a request takes that hangs among others that do not.
const HUNG: f64 = 1e4;

/// Health checks as the product makes them where its configuration does not say otherwise.
const PROBES: Probes = Probes {
    interval: Duration::from_secs(1),
    timeout: Duration::from_millis(500),
    connect_only: true,
};

/// How a scenario is played beside what its file says.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Proxies that share the endpoints and know nothing of each other.
    pub proxies: usize,
    /// Parts of the engine that are taken out.
    pub ablations: Ablations,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            proxies: 1,
            ablations: Ablations::default(),
        }
    }
}

/// Names of the endpoints in the order of the model's indices: primaries, then standbys.
pub fn names(pairs: &[Pair]) -> Vec<String> {
    let primaries = pairs.iter().map(|pair| pair.primary.clone());
    primaries.chain(site::standbys(pairs)).collect()
}

/// `scenario` for the model. It ends where a real run would at the latest.
pub fn translate(scenario: &Scenario, setup: Setup) -> virtual_::Scenario {
    let pairs = scenario.site.pairs();
    let standbys = site::standbys(&pairs);
    let place = |pair: &Pair| {
        standbys
            .iter()
            .position(|name| Some(name) == pair.shadow.as_ref())
    };
    let shadows: Vec<usize> = pairs.iter().map(|pair| place(pair).unwrap_or(0)).collect();
    let length = scenario.length_max();
    let mut modelled = virtual_::Scenario::site(&shadows, 0);
    modelled.cores = vec![f64::from(scenario.service.cores); modelled.spec.endpoints.len()];
    modelled.slow_keeps_core = true;
    modelled.crowd_max = scenario.service.cores as usize + QUEUE;
    modelled.load = load(scenario);
    modelled.faults = faults(scenario, &pairs);
    modelled.probes = Some(PROBES);
    modelled.proxies = setup.proxies.max(1);
    modelled.ablations = setup.ablations;
    modelled.length = length;
    modelled
}

fn load(scenario: &Scenario) -> Load {
    let (rps, profile) = match scenario.rate {
        Rate::Steady(rps) => (rps, Profile::Steady),
        Rate::Wave { low, high, period } => (
            high,
            Profile::Wave {
                low: low / high,
                high: 1.0,
                period,
            },
        ),
        // Second by second: the model knows no slopes.
        rate @ (Rate::Ramp { .. } | Rate::Steps { .. }) => {
            let whole = scenario.warm_up + scenario.length + scenario.recovery;
            let seconds = (0..whole.as_secs().max(1)).map(Duration::from_secs);
            let rates: Vec<f64> = seconds.map(|second| rate.at(second)).collect();
            let most = rates.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
            let steps = rates.iter().map(|rate| (Duration::from_secs(1), rate / most));
            (most, Profile::Steps(steps.collect()))
        }
    };
    let all: f64 = scenario.paths.iter().map(|(_, weight)| weight).sum();
    Load {
        rps,
        profile,
        posts: scenario.posts,
        users: Mix::default().users,
        paths: scenario.paths.iter().map(|(_, weight)| weight / all).collect(),
        weights: Vec::new(),
        median: scenario.service.median,
        sigma: scenario.service.sigma,
    }
}

/// All faults of all endpoints, each laid out in the spans in which it is there.
fn faults(scenario: &Scenario, pairs: &[Pair]) -> Vec<model::Fault> {
    let (onset, healed) = (scenario.warm_up, scenario.warm_up + scenario.length);
    let end = scenario.length_max() + Duration::from_secs(1);
    let names = names(pairs);
    let mut modelled = Vec::new();
    if let Some(network) = &scenario.network {
        let kind = model::Kind::Network(model::Network {
            delay: network.delay,
            jitter: network.jitter,
            loss: network.loss,
        });
        modelled.push(model::Fault {
            endpoint: site::faulty(pairs),
            from: moment(onset),
            until: moment(healed),
            kind,
            path: None,
            flapping: None,
        });
    }
    for (list, span) in [
        (&scenario.always, Duration::ZERO..end),
        (&scenario.faults, onset..healed),
    ] {
        for (name, faults) in by_endpoint(list, pairs) {
            let Some(endpoint) = names.iter().position(|known| *known == name) else {
                continue;
            };
            for fault in &faults {
                let laid_out = spans(fault, &span)
                    .into_iter()
                    .flat_map(|span| within(fault, span));
                for (kind, span) in laid_out {
                    modelled.extend(on_paths(endpoint, fault, kind, &span, &scenario.paths));
                }
            }
        }
    }
    modelled
}

/// When it is there, of the time in which it is set.
fn spans(fault: &Fault, set: &Range<Duration>) -> Vec<Range<Duration>> {
    let times = fault.times;
    let mut spans = Vec::new();
    let mut from = set.start + times.after;
    while from < set.end && spans.len() < SPANS_MAX {
        let goes = times
            .lasting
            .map_or(set.end, |lasting| (from + lasting).min(set.end));
        spans.push(from..goes);
        match times.every {
            Some(every) if !every.is_zero() => from += every,
            _ => break,
        }
    }
    spans
}

/// What it is in the model, in a span in which it is there: a ramp that has reached its height is merely slow, and
/// what dies of a leak is gone until it has been started again.
fn within(fault: &Fault, span: Range<Duration>) -> Vec<(model::Kind, Range<Duration>)> {
    let share = fault.only.share;
    let fails = |how| {
        model::Kind::Fails(Failing {
            share,
            how,
            work: 1.0,
        })
    };
    let kind = match fault.kind {
        Kind::Slow { factor } if share < 1.0 => model::Kind::SlowSome(factor, share),
        Kind::Slow { factor } => model::Kind::Slow(factor),
        Kind::Ramp { to, over } => return ramp(to, over, span),
        Kind::Leak {
            growth,
            dies_after,
            restarts_after,
        } => return lives(growth, (dies_after, restarts_after), span),
        Kind::Errors { status } => fails(Failure::Status(status)),
        Kind::Resets => fails(Failure::Reset),
        Kind::Garbage => fails(Failure::Garbage),
        Kind::EarlyClose { .. } => fails(Failure::Cut),
        // Its length depends on the path.
        Kind::SlowBody { .. } => model::Kind::SlowBody(Duration::ZERO),
        // Whoever draws the lot waits for longer than anybody has patience; who does not is served.
        Kind::Hang if share < 1.0 => model::Kind::SlowSome(HUNG, share),
        Kind::Hang => model::Kind::Hang(Release::Reset),
        Kind::Pause => model::Kind::Pause,
        Kind::Capacity { left } => model::Kind::Capacity(left),
        Kind::Refuse { cut: false } => model::Kind::Refuse,
        Kind::Refuse { cut: true } => model::Kind::Die,
    };
    vec![(kind, span)]
}

fn ramp(to: f64, over: Duration, span: Range<Duration>) -> Vec<(model::Kind, Range<Duration>)> {
    let top = (span.start + over).min(span.end);
    let part = (top - span.start).as_secs_f64() / over.as_secs_f64();
    let mut kinds = vec![(model::Kind::Ramp(1.0 + (to - 1.0) * part), span.start..top)];
    if top < span.end {
        kinds.push((model::Kind::Slow(to), top..span.end));
    }
    kinds
}

fn lives(
    growth: f64,
    (dies_after, restarts_after): (Duration, Duration),
    span: Range<Duration>,
) -> Vec<(model::Kind, Range<Duration>)> {
    let mut kinds = Vec::new();
    let mut born = span.start;
    while born < span.end && kinds.len() < SPANS_MAX {
        let dies = (born + dies_after).min(span.end);
        let back = (dies + restarts_after).min(span.end);
        kinds.push((model::Kind::Leak(growth), born..dies));
        if dies < back {
            kinds.push((model::Kind::Die, dies..back));
        }
        born = back;
    }
    kinds
}

/// One fault of every path, or one of each path that it concerns where it does not concern all alike.
fn on_paths(
    endpoint: usize,
    fault: &Fault,
    kind: model::Kind,
    span: &Range<Duration>,
    paths: &[(String, f64)],
) -> Vec<model::Fault> {
    let whole = model::Fault {
        endpoint,
        from: moment(span.start),
        until: moment(span.end),
        kind,
        path: None,
        flapping: None,
    };
    let only = &fault.only;
    let concerned = |path: &str| {
        only.path_prefix
            .as_ref()
            .is_none_or(|prefix| path.starts_with(prefix.as_str()))
            && only.bodies_above.is_none_or(|bytes| body_bytes(path) > bytes)
    };
    let drips = match fault.kind {
        Kind::SlowBody { bytes_per_s } => Some(bytes_per_s),
        _ => None,
    };
    if only.path_prefix.is_none() && only.bodies_above.is_none() && drips.is_none() {
        return vec![whole];
    }
    let there = paths.iter().enumerate().filter(|(_, (path, _))| concerned(path));
    there
        .map(|(index, (path, _))| model::Fault {
            path: Some(index),
            kind: drips.map_or(kind, |bytes_per_s| {
                let seconds = body_bytes(path) as f64 / bytes_per_s.max(1) as f64;
                model::Kind::SlowBody(Duration::from_secs_f64(seconds))
            }),
            ..whole.clone()
        })
        .collect()
}

/// Bytes of the answer that a path asks for.
fn body_bytes(path: &str) -> u64 {
    let asked = path
        .split_once("?bytes=")
        .and_then(|(_, bytes)| bytes.parse().ok());
    asked.unwrap_or(BODY_BYTES)
}

fn moment(since_start: Duration) -> Moment {
    Moment::ZERO + since_start
}

#[cfg(test)]
mod tests {
    use foreshade_engine::model::fault::Kind as Modelled;

    use super::*;
    use crate::scenario::{file, shipped};

    fn of(text: &str) -> Vec<model::Fault> {
        let scenario = file::parse("x", "x.yaml", text).unwrap();
        translate(&scenario, Setup::default()).faults
    }

    fn spans_s(faults: &[model::Fault]) -> Vec<(f64, f64)> {
        let s = |moment: Moment| moment.seconds_since(Moment::ZERO);
        faults
            .iter()
            .map(|fault| (s(fault.from), s(fault.until)))
            .collect()
    }

    #[test]
    fn every_scenario_of_the_folder_has_a_place_in_the_model() {
        for scenario in shipped::all().unwrap() {
            let modelled = translate(&scenario, Setup::default());
            let endpoints = modelled.spec.endpoints.len();
            assert_eq!(modelled.cores.len(), endpoints, "{}", scenario.name);
            assert_eq!(
                names(&scenario.site.pairs()).len(),
                endpoints,
                "{}",
                scenario.name
            );
            let nothing = scenario.is_quiet() && scenario.always.is_empty();
            assert_eq!(modelled.faults.is_empty(), nothing, "{}", scenario.name);
            assert!((modelled.load.paths.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            for fault in &modelled.faults {
                assert!(
                    fault.endpoint < endpoints && fault.from < fault.until,
                    "{}: {fault:?}",
                    scenario.name
                );
            }
        }
    }

    #[test]
    fn a_fault_that_repeats_is_laid_out_and_ends_with_the_scenario() {
        let faults = of("{story: x, warm_up: 10s, length: 5s,
            faults: [{at: faulty, kind: hang, after: 1s, for: 1s, every: 2s}]}");
        assert_eq!(spans_s(&faults), [(11.0, 12.0), (13.0, 14.0)]);
        assert!(faults.iter().all(|fault| fault.endpoint == 1));
    }

    #[test]
    fn a_ramp_that_has_reached_its_height_is_merely_slow() {
        let faults = of("{story: x, warm_up: 10s, length: 6s,
            faults: [{at: faulty, kind: ramp, to: 9, over: 4s}]}");
        assert_eq!(spans_s(&faults), [(10.0, 14.0), (14.0, 16.0)]);
        assert_eq!(
            faults.iter().map(|fault| fault.kind).collect::<Vec<_>>(),
            [Modelled::Ramp(9.0), Modelled::Slow(9.0)]
        );
        let cut =
            of("{story: x, warm_up: 10s, length: 2s, faults: [{at: faulty, kind: ramp, to: 9, over: 4s}]}");
        assert_eq!(
            cut.iter().map(|fault| fault.kind).collect::<Vec<_>>(),
            [Modelled::Ramp(5.0)]
        );
    }

    #[test]
    fn what_leaks_dies_and_leaks_again() {
        let faults = of("{story: x, warm_up: 10s, length: 10s,
            faults: [{at: faulty, kind: leak, growth: 50%, dies_after: 5s, restarts_after: 2s}]}");
        assert_eq!(spans_s(&faults), [(10.0, 15.0), (15.0, 17.0), (17.0, 20.0)]);
        assert_eq!(faults[1].kind, Modelled::Die);
    }

    #[test]
    fn a_fault_of_some_requests_is_one_of_their_paths() {
        let text = |only: &str| {
            format!(
                "{{story: x, paths: {{/a: 90%, \"/e?bytes=80000\": 10%}},
                faults: [{{at: faulty, kind: resets, {only}}}]}}"
            )
        };
        for only in ["path_prefix: /e", "bodies_above: 65536"] {
            let faults = of(&text(only));
            assert_eq!(
                faults.iter().map(|fault| fault.path).collect::<Vec<_>>(),
                [Some(1)],
                "{only}"
            );
        }
        assert_eq!(of(&text("share: 50%"))[0].path, None);
    }

    #[test]
    fn a_shared_standby_is_one_endpoint() {
        let scenario = file::parse("x", "x.yaml", "{story: x, site: pool}").unwrap();
        let modelled = translate(&scenario, Setup::default());
        let shadows: Vec<_> = modelled
            .spec
            .endpoints
            .iter()
            .filter_map(|endpoint| endpoint.shadow())
            .collect();
        assert_eq!(shadows, [4, 4, 5, 5]);
    }
}
