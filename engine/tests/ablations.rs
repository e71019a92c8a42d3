//! Each part of the engine earns its place: without it, something that users or endpoints feel is clearly worse.
//!
//! One situation per part, played with it and without it, over the same seeds. The margins are wide: what is tested
//! is that a part matters, not how much. `foreshade-bench sim --ablate all` has the figures over all scenarios.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::time::Duration;

use foreshade_engine::ablation::{Ablations, Part};
use foreshade_engine::model;
use foreshade_engine::model::fault::{Fault, Kind, Release};
use foreshade_engine::model::figures::{at, during};
use foreshade_engine::model::record::{Record, SWING};
use foreshade_engine::model::scenario::{HEALED_S, ONSET_S, Scenario};

const SICK: usize = 0;

/// The mean of a measure over some seeds, with the part and without it.
fn with_and_without(scenario: &Scenario, part: Part, measure: impl Fn(&Record) -> f64) -> (f64, f64) {
    let seeds = 1..=6;
    let mean = |ablations: Ablations| {
        let scenario = Scenario {
            ablations,
            ..scenario.clone()
        };
        let values = seeds.clone().map(|seed| measure(&model::run(&scenario, seed)));
        values.sum::<f64>() / 6.0
    };
    (mean(Ablations::default()), mean(Ablations::default().with(part)))
}

fn sick(kind: Kind) -> Fault {
    Fault::new(SICK, kind, ONSET_S, HEALED_S)
}

fn failed(record: &Record) -> f64 {
    record.failed(during()) as f64
}

#[test]
fn counting_five_in_a_row_does_not_see_one_failure_in_twenty() {
    let scenario = Scenario::healthy(HEALED_S).with([sick(Kind::errors(0.05))]);
    let (with, without) = with_and_without(&scenario, Part::ConsecutiveFive, failed);
    assert!(without > 2.0 * with, "{with} -> {without} failed requests");
}

#[test]
fn without_ages_a_hang_among_writes_is_not_seen_before_they_time_out() {
    let mut scenario = Scenario::one_pair(HEALED_S).with([sick(Kind::Hang(Release::Reset))]);
    scenario.load.posts = 1.0;
    // A process that hangs still has its connections accepted.
    scenario.probes = None;
    let (with, without) = with_and_without(&scenario, Part::NoAges, |record| {
        let asked = record.within(during());
        asked.iter().filter(|request| !request.is_served()).count() as f64
    });
    assert!(without > 5.0 * with, "{with} -> {without} lost writes");
}

#[test]
fn without_counting_in_flight_a_hang_is_felt_by_many() {
    let scenario = Scenario::healthy(HEALED_S).with([sick(Kind::Hang(Release::Reset))]);
    let (with, without) = with_and_without(&scenario, Part::NoInFlight, |record| {
        record.worst_p99(during(), Duration::from_secs(1))
    });
    assert!(without > 2.0 * with, "{with} -> {without} ms");
}

#[test]
fn a_mean_takes_a_strong_sign_back_for_a_weak_one_beside_it() {
    let both = [Kind::Slow(1.5), Kind::errors(0.05)];
    let scenario = Scenario::one_pair(HEALED_S).with(both.map(sick));
    let (with, without) = with_and_without(&scenario, Part::MeanRisk, |record| {
        // The hold is over at second 22 or later, and then a few users try it.
        let shifts = record.shift_within(SICK, at(ONSET_S + 6)..at(ONSET_S + 8));
        let shares: Vec<f64> = shifts.map(|(_, shift)| shift.share).collect();
        1.0 - shares.iter().sum::<f64>() / shares.len() as f64
    });
    assert!(
        without > with + 0.1,
        "{with} -> {without} of the traffic is still at the sick endpoint"
    );
}

#[test]
fn without_the_cap_a_small_standby_is_overrun() {
    let mut scenario = Scenario::one_pair(HEALED_S).with([sick(Kind::Slow(10.0))]);
    // 1200 requests per second of 5.7 ms each are 6.8 cores.
    scenario.cores = vec![16.0, 4.0];
    scenario.spec.endpoints[1].capacity_rps = Some(4.0 / 5.666e-3);
    let (with, without) = with_and_without(&scenario, Part::NoCapacity, |record| {
        let rps = |second| record.attempts_per_s(1, at(second)..at(second + 1));
        (ONSET_S..HEALED_S).map(rps).fold(0.0, f64::max) * 5.666e-3 / 4.0
    });
    assert!(
        with < 1.1 && without > with + 0.2,
        "{with} -> {without} of what the standby can carry"
    );
}

#[test]
fn without_hysteresis_an_overload_comes_and_goes() {
    let mut scenario = Scenario::one_pair(60).with([Fault::new(SICK, Kind::Capacity(0.4), ONSET_S, 60)]);
    scenario.load.rps = 0.6 * 16.0 / 5.666e-3;
    let (with, without) = with_and_without(&scenario, Part::NoHysteresis, |record| {
        record.reversals(SICK, at(ONSET_S)..at(60), SWING) as f64
    });
    assert!(without > with + 4.0, "{with} -> {without} turns of the share");
}

#[test]
fn without_the_hash_users_are_thrown_from_side_to_side() {
    let mut scenario = Scenario::healthy(50).with([sick(Kind::Slow(10.0))]);
    // Few users who ask often: sessions.
    scenario.load.users = 300;
    let (with, without) = with_and_without(&scenario, Part::RandomSides, |record| {
        let changes: u64 = record.switches.iter().map(|changes| u64::from(*changes)).sum();
        1000.0 * changes as f64 / record.revisits as f64
    });
    assert!(
        without > 2.0 * with,
        "{with} -> {without} changes of sides in 1000 requests"
    );
}

#[test]
fn without_a_budget_retries_double_the_load_of_what_hangs() {
    let hang = |e| Fault::new(e, Kind::Hang(Release::Reset), ONSET_S, ONSET_S + 10);
    let scenario = Scenario::healthy(HEALED_S).with((0..8).map(hang));
    let (with, without) = with_and_without(&scenario, Part::NoBudget, |record| {
        let span = at(ONSET_S)..at(ONSET_S + 10);
        let attempts = (0..8).map(|e| 10.0 * record.attempts_per_s(e, span.clone()));
        attempts.sum::<f64>() / record.within(span.clone()).len() as f64
    });
    assert!(without > with + 0.15, "{with} -> {without} attempts per request");
}
