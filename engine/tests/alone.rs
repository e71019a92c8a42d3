//! Ten minutes without a word from a controller: a plan lasts. What it set stays set, whoever is the primary stays that, no
//! request fails; and where an endpoint fails meanwhile, the proxy answers within what the plan allows, and undoes it
//! alone.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod seeds;

use std::time::Duration;

use foreshade_contract::Share;
use foreshade_engine::cluster::Guidance;
use foreshade_engine::model::audit;
use foreshade_engine::model::fault::{Fault, Kind};
use foreshade_engine::model::figures::at;
use foreshade_engine::model::load::Load;
use foreshade_engine::model::record::Record;
use foreshade_engine::model::run;
use foreshade_engine::model::scenario::Scenario;
use foreshade_engine::outcome::Class;
use seeds::over;

/// Ten minutes, and the first seconds, in which everybody gets to know everybody.
const LENGTH_S: u64 = 610;

/// From here on everybody knows everybody.
const BEGIN_S: u64 = 10;

/// Endpoint of the pair that the plan speaks of. After a promotion it is the one that the configuration calls the shadow.
const PRIMARY: usize = 0;

/// Two pairs under a load that a debug build gets through in seconds.
fn alone(guidance: Guidance) -> Scenario {
    Scenario {
        load: Load {
            rps: 60.0,
            users: 500,
            ..Load::default()
        },
        guidance: vec![(PRIMARY, guidance)],
        length: Duration::from_secs(LENGTH_S),
        ..Scenario::pairs(2, LENGTH_S)
    }
}

fn shares(record: &Record, from_s: u64, to_s: u64) -> Vec<f64> {
    record
        .shift_within(PRIMARY, at(from_s)..at(to_s))
        .map(|(_, shift)| shift.share)
        .collect()
}

/// Requests that came in time to be answered, and were not, or badly.
fn failed(record: &Record) -> usize {
    let late = at(LENGTH_S - 5);
    let requests = record.requests.iter().filter(|request| request.arrived < late);
    requests.filter(|request| request.end != Some(Class::Ok)).count()
}

#[test]
fn a_plan_lasts_for_ten_minutes_without_a_word_and_no_request_fails() {
    let set = |directed: f64| Guidance {
        directed: Some(Share::clamped(directed)),
        ..Guidance::NONE
    };
    let frozen = Guidance {
        frozen: true,
        ..Guidance::NONE
    };
    // Nothing set, as after a promotion; a step of a shift; everybody moved; frozen.
    let plans = [
        (Guidance::NONE, 0.0),
        (set(0.05), 0.05),
        (set(1.0), 1.0),
        (frozen, 0.0),
    ];
    for (plan, (guidance, share)) in (1..).zip(plans) {
        let scenario = alone(guidance);
        for seed in plan * 100..plan * 100 + 4 {
            let record = run(&scenario, seed);
            let seen = shares(&record, BEGIN_S, LENGTH_S);
            let moved = seen.iter().filter(|seen| (**seen - share).abs() > 1e-9).count();
            assert!(
                seen.len() > 5_000 && moved == 0,
                "seed {seed}, {guidance:?}: {moved} of {} ticks at another share",
                seen.len()
            );
            let failed = failed(&record);
            assert_eq!(failed, 0, "seed {seed}, {guidance:?}");
            // A share that is set is not the engine's, and is all that it may be blamed for here.
            let breaches = audit::breaches(&scenario, &record).into_iter();
            let breaches: Vec<_> = breaches
                .filter(|breach| share == 0.0 || !breach.contains("healthy endpoint 0 is shifted"))
                .collect();
            assert!(breaches.is_empty(), "seed {seed}, {guidance:?}: {breaches:?}");
        }
    }
}

#[test]
fn a_proxy_alone_answers_a_sick_primary_within_its_plan_and_brings_users_back_alone() {
    let guidance = Guidance {
        ceiling: Share::clamped(0.5),
        ..Guidance::NONE
    };
    let fault = Fault::new(PRIMARY, Kind::Slow(10.0), 60, 180);
    let scenario = alone(guidance).with([fault]);
    over(&scenario, 900..904, |record, checks| {
        let most = |from, to| shares(record, from, to).into_iter().fold(0.0, f64::max);
        let during = most(60, 180);
        checks.that((0.2..=0.5 + 1e-9).contains(&during), || format!("{during} moved"));
        let after = most(LENGTH_S - 30, LENGTH_S);
        checks.that(after == 0.0, || format!("{after} is still away"));
    });
}
