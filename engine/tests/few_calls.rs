//! A service that few ask, or few users: one that is called twenty times a second, or by a dozen machines.
//!
//! A canary is a share of users and its proof is a number of requests. Here the share that is right for many brings next to
//! none, so it has to widen: see `engine/src/shift/reach.rs`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use foreshade_engine::model;
use foreshade_engine::model::fault::{Fault, Kind};
use foreshade_engine::model::figures::at;
use foreshade_engine::model::record::Record;
use foreshade_engine::model::scenario::Scenario;

const FAULT_S: u64 = 60;
const AFTER_S: u64 = 100;
const SEEDS: u64 = 20;

/// When the fault begins: what is usual takes some hundred requests to learn.
fn onset_s(rps: f64) -> u64 {
    if rps < 20.0 { 160 } else { 40 }
}

/// One pair with so few users and requests, whose primary has this fault for a minute.
fn few(users: u32, rps: f64, kind: Kind) -> Scenario {
    let healed_s = onset_s(rps) + FAULT_S;
    let fault = Fault::new(0, kind, onset_s(rps), healed_s);
    let mut scenario = Scenario::one_pair(healed_s + AFTER_S).with([fault]);
    scenario.load.users = users;
    scenario.load.rps = rps;
    scenario
}

/// Seconds from the fault until most users have been moved.
fn moved_after(record: &Record, onset_s: u64) -> Option<f64> {
    record
        .shift_within(0, at(onset_s)..at(onset_s + FAULT_S))
        .find(|(_, shift)| shift.share > 0.5)
        .map(|(when, _)| when.seconds_since(at(onset_s)))
}

/// Whether all of them are back in the end.
fn is_back(record: &Record, onset_s: u64) -> bool {
    let end_s = onset_s + FAULT_S + AFTER_S;
    record
        .shift_within(0, at(end_s - 1)..at(end_s))
        .all(|(_, shift)| shift.share <= 0.0)
}

/// In every seed most users are moved within `seconds`, and all of them come back.
fn all_move(users: u32, rps: f64, kind: Kind, seconds: f64) {
    for seed in 1..=SEEDS {
        let record = model::run(&few(users, rps, kind), seed);
        let moved = moved_after(&record, onset_s(rps));
        let what = format!("{users} users, {rps}/s, {kind:?}, seed {seed}");
        assert!(
            moved.is_some_and(|moved| moved <= seconds),
            "{what}: moved after {moved:?} s"
        );
        assert!(is_back(&record, onset_s(rps)), "{what}: never back");
    }
}

fn faults() -> [Kind; 3] {
    [Kind::Slow(10.0), Kind::Slow(5.0), Kind::errors(0.5)]
}

#[test]
fn twenty_requests_a_second_are_enough() {
    for kind in faults() {
        all_move(10_000, 20.0, kind, 10.0);
    }
}

#[test]
fn of_five_requests_a_second_a_few_are_proof_enough() {
    for kind in faults() {
        all_move(10_000, 5.0, kind, 16.0);
    }
}

#[test]
fn a_dozen_users_are_enough_and_so_is_one() {
    for (users, rps) in [(12, 20.0), (12, 300.0), (1, 20.0), (1, 300.0)] {
        for kind in faults() {
            all_move(users, rps, kind, 12.0);
        }
    }
}

#[test]
fn a_standby_that_is_worse_gets_no_more_of_few_than_finding_out_takes() {
    let pairs = [
        (Kind::errors(0.05), Kind::errors(0.2)),
        (Kind::errors(0.05), Kind::Slow(3.0)),
        (Kind::Slow(3.0), Kind::Slow(10.0)),
    ];
    for (kind, worse) in pairs {
        for (users, rps) in [(1, 20.0), (1, 300.0), (12, 20.0), (12, 300.0)] {
            let part = |seed| {
                let mut scenario = few(users, rps, kind);
                let onset_s = onset_s(rps);
                let healed_s = onset_s + FAULT_S;
                scenario.faults.push(Fault::new(1, worse, 0, healed_s + AFTER_S));
                model::run(&scenario, seed).attempts_per_s(1, at(onset_s)..at(healed_s)) / rps
            };
            let mut parts: Vec<f64> = (1..=SEEDS).map(part).collect();
            parts.sort_by(f64::total_cmp);
            // A standby that fails one in five passes a proof once in a while. One user is all of the traffic at once.
            let most = parts[parts.len() - 2];
            assert!(
                most < 0.15,
                "{users} users, {rps}/s, {kind:?}, {worse:?}: {most:.2} of the minute's requests"
            );
        }
    }
}
