//! Results as a full evening would leave them, made up: shapes and sizes of real ones, and no measurement at all.

#![allow(
    clippy::cast_possible_truncation,
    clippy::too_many_lines,
    reason = "made up counts of some hundred requests, and one story told from its start to its end"
)]

use std::collections::BTreeMap;

use foreshade_bench::results::{
    CURVE, CompareResults, CompareRow, ContenderResult, FORMAT, FaultResults, Figures, Generator,
    LoadResults, Measure, Pacing, PathResult, Percentile, Promise, Protocol, Provenance, ScenarioResult,
    Second, SeedResult, Setting, Time,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const ONSET_S: f64 = 10.0;
const HEALED_S: f64 = 22.0;
const END_S: u32 = 45;

/// Number, name, story, how much slower the faulty endpoint is, and the part of its requests that fails.
const SCENARIOS: [(&str, &str, &str, f64, f64); 22] = [
    ("S0", "healthy-10m", "nothing happens", 1.0, 0.0),
    ("S1", "refused", "one endpoint refuses connections", 1.0, 1.0),
    ("S2", "hang", "one endpoint accepts and never answers", 400.0, 0.6),
    ("S3", "slow-10x", "one endpoint ten times slower", 10.0, 0.0),
    ("S4", "slow-2x", "one endpoint twice as slow", 2.0, 0.0),
    (
        "S5",
        "leak",
        "one endpoint slower by two percent each second, until it dies",
        20.0,
        0.1,
    ),
    (
        "S6",
        "pauses",
        "one endpoint pauses for half a second every two seconds",
        40.0,
        0.0,
    ),
    (
        "S7",
        "errors-5",
        "5 % of the answers of one endpoint are errors",
        1.0,
        0.05,
    ),
    (
        "S8",
        "errors-50",
        "50 % of the answers of one endpoint are errors",
        1.0,
        0.5,
    ),
    ("S9", "one-path", "one path of one endpoint fails", 1.0, 0.05),
    (
        "S10",
        "lossy-network",
        "the way to one endpoint loses 5 % and jitters by 50 ms",
        6.0,
        0.01,
    ),
    (
        "S11",
        "half-capacity",
        "one endpoint loses half of its capacity",
        5.0,
        0.0,
    ),
    (
        "S12",
        "common-cause",
        "all primaries lose 80 % of their capacity",
        30.0,
        0.3,
    ),
    (
        "S13",
        "flapping",
        "one endpoint fails for a second, every two seconds",
        1.0,
        0.5,
    ),
    (
        "S14",
        "worse-standby",
        "one endpoint has 5 % errors, its standby 20 %",
        1.0,
        0.05,
    ),
    ("", "slow-3x", "one endpoint three times slower", 3.0, 0.0),
    (
        "",
        "ramp-20x",
        "one endpoint gets slower and slower, up to twenty times",
        20.0,
        0.0,
    ),
    (
        "",
        "one-path-20x",
        "one path of one endpoint twenty times slower",
        20.0,
        0.0,
    ),
    ("", "killed", "one endpoint is killed and comes back", 1.0, 0.9),
    ("", "garbage", "one endpoint answers garbage", 1.0, 0.7),
    (
        "",
        "early-close",
        "one endpoint closes before its answer ends",
        1.0,
        0.4,
    ),
    (
        "",
        "slow-body",
        "one endpoint sends its bodies drop by drop",
        60.0,
        0.0,
    ),
];

/// Name, setting, after how many seconds it reacts to errors and to slowness (never: 99), part of traffic that stays.
const CONTENDERS: [(&str, Setting, f64, f64, f64); 9] = [
    ("foreshade", Setting::Tuned, 0.2, 1.0, 0.03),
    ("nginx", Setting::Tuned, 0.5, 99.0, 0.1),
    ("nginx", Setting::Defaults, 3.0, 99.0, 0.3),
    ("haproxy", Setting::Tuned, 0.4, 99.0, 0.0),
    ("haproxy", Setting::Defaults, 4.0, 99.0, 0.2),
    ("envoy", Setting::Tuned, 0.2, 2.5, 0.25),
    ("envoy", Setting::Defaults, 5.0, 99.0, 0.5),
    ("none", Setting::Tuned, 99.0, 99.0, 1.0),
    ("oracle", Setting::Tuned, 0.0, 0.0, 0.0),
];

/// Every scenario, every contender, five seeds.
pub(crate) fn faults(time: Time, seeds: u64) -> FaultResults {
    let scenarios = SCENARIOS.iter().enumerate();
    FaultResults {
        provenance: provenance("faults --all --defaults"),
        time,
        scenarios: scenarios
            .map(|(index, sketch)| scenario(index as u64, *sketch, time, seeds))
            .collect(),
    }
}

fn provenance(command: &str) -> Provenance {
    let versions = [
        ("foreshade", "foreshade-proxy 0.1.0"),
        ("nginx", "nginx/1.26.3"),
        ("haproxy", "HAProxy version 3.0.11-1"),
        ("envoy", "1.35.0/RELEASE/BoringSSL"),
    ];
    Provenance {
        format: FORMAT,
        command: command.to_owned(),
        cores: 2,
        processor: "made up".to_owned(),
        versions: versions
            .map(|(who, version)| (who.to_owned(), version.to_owned()))
            .into(),
        skipped: BTreeMap::from([("linkerd".to_owned(), "not installed".to_owned())]),
    }
}

fn scenario(
    index: u64,
    (id, name, story, factor, errors): (&str, &str, &str, f64, f64),
    time: Time,
    seeds: u64,
) -> ScenarioResult {
    let play = |seed| CONTENDERS.map(|contender| run(contender, (factor, errors), index * 1_000 + seed));
    let mut runs: Vec<[SeedResult; 9]> = (1..=seeds).map(play).collect();
    for (number, played) in runs.iter_mut().enumerate() {
        let (none, oracle) = (played[7].figures.harm, played[8].figures.harm);
        for run in played.iter_mut() {
            let part = 1.0 - (run.figures.harm - oracle) / (none - oracle);
            run.figures.avoided_harm = (none - oracle > 1.0).then_some(part);
            run.seed = number as u64 + 1;
            if time == Time::Virtual && number > 0 {
                (run.seconds, run.healthy, run.during) = (Vec::new(), Vec::new(), Vec::new());
            }
        }
        if name == "slow-2x" && number == 1 {
            played[0].figures.broken =
                vec!["the p99 is back under 1.3 × healthy within 4 s: 5.2 s".to_owned()];
        }
    }
    let contender = |(at, (name, setting, ..)): (usize, &(&str, Setting, f64, f64, f64))| ContenderResult {
        contender: (*name).to_owned(),
        setting: *setting,
        runs: runs.iter().map(|played| played[at].clone()).collect(),
    };
    ScenarioResult {
        name: name.to_owned(),
        id: (!id.is_empty()).then(|| id.to_owned()),
        story: story.to_owned(),
        onset_s: ONSET_S,
        healed_s: HEALED_S,
        rate: None,
        claims: Vec::new(),
        unjudged: Vec::new(),
        contenders: CONTENDERS.iter().enumerate().map(contender).collect(),
    }
}

fn run(
    (name, _, on_errors, on_slowness, stays): (&str, Setting, f64, f64, f64),
    (factor, errors): (f64, f64),
    seed: u64,
) -> SeedResult {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut noise = move || 1.0 + 0.08 * (chance.random::<f64>() + chance.random::<f64>() - 1.0);
    let reacts = if errors > 0.3 { on_errors } else { on_slowness } * noise();
    let mut figures = Figures {
        lag_p99_ms: 0.2 * noise().powi(8),
        amplification: Some(1.0 + 0.02 * noise()),
        healthy_p99_ms: 16.0 * noise(),
        max_ms: 60.0,
        ..Figures::default()
    };
    let mut seconds = Vec::new();
    for at in 0..END_S {
        let at_s = f64::from(at);
        let since = at_s - ONSET_S;
        let is_faulty = (ONSET_S..HEALED_S).contains(&at_s) && (factor > 1.0 || errors > 0.0);
        let is_returning = (HEALED_S..HEALED_S + 6.0).contains(&at_s) && reacts < 90.0 && name != "oracle";
        let share = if is_faulty && since >= reacts {
            stays
        } else if is_returning {
            (at_s - HEALED_S) / 6.0
        } else {
            1.0
        } * noise();
        let ill = if is_faulty { share * 0.25 } else { 0.0 };
        let requests = 400;
        let failed = if name == "oracle" {
            0.0
        } else {
            400.0 * ill * errors * if stays < 1.0 { 0.3 } else { 1.0 }
        };
        let p99_ms = if ill > 0.01 {
            (16.0 * factor).max(16.0 + errors * 80.0)
        } else {
            16.0
        } * noise();
        figures.requests += requests;
        figures.failed_gets += (failed * 0.9) as u64;
        figures.failed_posts += (failed * 0.1) as u64;
        figures.harm += failed + 400.0 * ill * 0.2 * ((p99_ms - 16.0) / 1e3).clamp(0.0, 1.0);
        figures.p99_ms = figures
            .p99_ms
            .max(if is_faulty && since > 2.0 { p99_ms } else { 16.0 });
        seconds.push(Second {
            at_s,
            requests,
            failed: failed as u64,
            p50_ms: 5.0 * noise(),
            p99_ms,
            faulty_share: Some(share),
            risk: (name == "foreshade").then(|| {
                if is_faulty && since >= reacts {
                    0.9 * noise()
                } else {
                    0.04
                }
            }),
        });
    }
    (figures.p50_ms, figures.p999_ms) = (5.0 * noise(), figures.p99_ms * 1.8);
    (figures.detect_s, figures.to_90_s) = match reacts {
        reacts if reacts < 12.0 => (Some(reacts), (stays <= 0.1).then_some(reacts * 1.8)),
        _ => (None, None),
    };
    figures.recovery_s = figures.detect_s.map(|_| 5.2 * noise());
    let ill = if stays < 1.0 && reacts < 12.0 {
        0.25 * stays + 0.02
    } else {
        0.25
    };
    SeedResult {
        seed,
        figures,
        seconds,
        healthy: curve(0.0, 1.0),
        during: curve(ill, factor.max(1.0 + errors * 3.0)),
    }
}

fn curve(ill: f64, factor: f64) -> Vec<Percentile> {
    let point = |percentile: f64| {
        let above = (1.0 - percentile / 100.0).max(5e-6);
        let healthy = 5.0 * (1.0 / above).powf(0.24) * 0.72;
        let ms = if above < ill {
            (healthy * factor * (1.0 - above / ill)).max(healthy)
        } else {
            healthy
        };
        Percentile { percentile, ms }
    };
    CURVE.into_iter().map(point).collect()
}

/// A minute of steady load with one second in which the target stood still.
pub(crate) fn load(target: &str, slower: f64) -> LoadResults {
    let second = |at: u32| Second {
        at_s: f64::from(at),
        requests: 2_000,
        failed: if at == 30 { 12 } else { 0 },
        p50_ms: 1.2 * slower,
        p99_ms: if at == 30 {
            900.0
        } else {
            4.0 * slower + f64::from(at % 3)
        },
        faulty_share: None,
        risk: None,
    };
    LoadResults {
        provenance: provenance("load --rate 2000 --seconds 60 --slo p99<20ms"),
        target: target.to_owned(),
        protocol: Protocol::Http1,
        pacing: Pacing::Poisson,
        intended_rate: Some(2_000.0),
        lasted_s: 60.0,
        warm_up_s: 2.0,
        interrupted: false,
        requests: 120_000,
        failed: 12,
        writes: 12_000,
        failed_writes: 1,
        outcomes: [("200", 119_988), ("503", 12)]
            .map(|(outcome, count)| (outcome.to_owned(), count))
            .into(),
        unfinished: 0,
        rate: 1_999.8,
        bytes_per_second: 2e5,
        mean_ms: 1.4 * slower,
        latency: curve(0.0, 1.0)
            .into_iter()
            .map(|point| Percentile {
                ms: point.ms * slower,
                ..point
            })
            .collect(),
        seconds: (0..60).map(second).collect(),
        paths: vec![PathResult {
            path: "/api?q=<b>".to_owned(),
            requests: 120_000,
            failed: 12,
            p50_ms: 1.2 * slower,
            p99_ms: 4.0 * slower,
        }],
        generator: Generator {
            lag_p50_ms: Some(0.05),
            lag_p99_ms: Some(1.4),
            lag_max_ms: Some(9.0),
            busy: Some(0.3),
            starved: None,
            waited: 0,
            connections_peak: 64,
            connections_opened: 64,
            doubts: vec!["requests left 1.4 ms late at the 99th percentile".to_owned()],
        },
        promises: vec![Promise {
            promise: "p99<20ms".to_owned(),
            measured: "5.1 ms".to_owned(),
            holds: true,
        }],
    }
}

/// Every measure, five rounds.
pub(crate) fn compare() -> CompareResults {
    let contenders = [
        ("foreshade", 1.1),
        ("nginx", 1.0),
        ("haproxy", 0.92),
        ("envoy", 2.3),
        ("bare", 1.02),
    ];
    let measures = [
        (Measure::CpuPerRequestUs, 28.0, true),
        (Measure::RequestsPerSecond, 34_000.0, false),
        (Measure::AddedP50Us, 42.0, true),
        (Measure::AddedP99Us, 120.0, true),
        (Measure::IdleConnectionBytes, 9_000.0, true),
        (Measure::ConnectionsPerSecond, 12_000.0, false),
        (Measure::BytesPerSecond, 2.1e9, false),
    ];
    let cases = [
        (Protocol::Http1, Some(64), "foreshade-bench"),
        (Protocol::Http1, Some(1_024), "foreshade-bench"),
        (Protocol::Http1, Some(65_536), "foreshade-bench"),
        (Protocol::Http1, Some(1 << 20), "foreshade-bench"),
        (Protocol::H2, Some(1_024), "foreshade-bench"),
        (Protocol::Http1, Some(1_024), "wrk"),
    ];
    let mut chance = StdRng::seed_from_u64(7);
    let mut rows = Vec::new();
    for (measure, usual, less_is_better) in measures {
        for (protocol, body_bytes, driver) in cases {
            for (contender, factor) in contenders {
                if protocol == Protocol::H2 && ["foreshade", "bare"].contains(&contender) {
                    continue;
                }
                let factor: f64 = if less_is_better { factor } else { 1.0 / factor };
                let rounds = (0..5).map(|_| usual * factor * (1.0 + 0.1 * (chance.random::<f64>() - 0.5)));
                rows.push(CompareRow {
                    measure,
                    protocol,
                    body_bytes,
                    posted_bytes: None,
                    driver: driver.to_owned(),
                    contender: contender.to_owned(),
                    rounds: rounds.collect(),
                    at_least: contender == "bare" && measure == Measure::ConnectionsPerSecond,
                });
            }
        }
    }
    CompareResults {
        provenance: provenance("compare --all"),
        rows,
    }
}
