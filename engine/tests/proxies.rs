//! Several proxies in front of the same endpoints, each with its own view, its own engine and its own part of the users.
//!
//! They share nothing, so what one moves the others do not know of. What has to hold all the same: a standby that several
//! primaries share at several proxies is not overrun, and the proxies do not swing in step.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::time::Duration;

use foreshade_engine::model;
use foreshade_engine::model::fault::{Fault, Kind};
use foreshade_engine::model::figures::at;
use foreshade_engine::model::record::{Record, SWING, turns};
use foreshade_engine::model::scenario::{HEALED_S, ONSET_S, Scenario};

const SICK: usize = 1;

/// Four primaries, two of them for each of two standbys, each of which can carry a third more than one primary gets.
fn pool(proxies: usize) -> Scenario {
    let mut scenario = Scenario::site(&[0, 0, 1, 1], 60);
    scenario.proxies = proxies;
    // 300 requests per second of 22.7 ms each keep 6.8 cores busy.
    scenario.load.median = Duration::from_millis(20);
    scenario.cores = vec![14.0, 14.0, 14.0, 14.0, 9.0, 9.0];
    scenario
}

/// The most that a standby got in any second, as a part of what it can carry.
fn fullest(scenario: &Scenario, record: &Record, standby: usize) -> f64 {
    let mean_s = scenario.load.median.as_secs_f64() * (scenario.load.sigma.powi(2) / 2.0).exp();
    let got = |(early, late): (&model::record::Look, &model::record::Look)| {
        let count = |look: &model::record::Look| look.endpoints[standby].by_path.iter().sum::<u64>();
        (count(late) - count(early)) as f64 * mean_s / scenario.cores[standby]
    };
    let seconds = record.looks.iter().zip(record.looks.iter().skip(10));
    seconds.map(got).fold(0.0, f64::max)
}

#[test]
fn eight_proxies_do_not_overrun_a_shared_standby() {
    // Both primaries of one standby fall ill at once: together they are more than it can carry.
    let sick = |endpoint| Fault::new(endpoint, Kind::Slow(10.0), ONSET_S, HEALED_S);
    let scenario = pool(8).with([sick(0), sick(1)]);
    for seed in 1..=4 {
        let record = model::run(&scenario, seed);
        let full = fullest(&scenario, &record, 4);
        assert!(
            full > 0.3 && full < 1.25,
            "seed {seed}: {full:.2} of what the standby can carry"
        );
        let failed = record.failed(at(ONSET_S)..at(60));
        assert_eq!(failed, 0, "seed {seed}");
    }
}

#[test]
fn eight_proxies_get_over_a_slow_endpoint_and_do_not_swing() {
    let scenario = pool(8).with([Fault::new(SICK, Kind::Slow(10.0), ONSET_S, HEALED_S)]);
    for seed in 1..=4 {
        let record = model::run(&scenario, seed);
        let healed = usize::try_from(HEALED_S).unwrap() * 10;
        let left = record.looks[healed - 20..healed].iter();
        let counts: Vec<u64> = left
            .map(|look| look.endpoints[SICK].by_path.iter().sum())
            .collect();
        let rps = (counts[19] - counts[0]) as f64 / 1.9;
        assert!(
            rps < 60.0,
            "seed {seed}: {rps} requests per second are still there"
        );
        for ticks in std::iter::once(&record.ticks).chain(&record.other_ticks) {
            // There, back, and one try that came too early.
            assert!(turns(ticks, SICK, SWING) <= 3, "seed {seed}");
        }
    }
}
