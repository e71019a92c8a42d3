//! The invariants of the loop that need a situation of their own; the others are checked at every tick of every run.
//!
//! Numbers are those of the risk design (4.9). Steps and square waves are faults whose size does not depend on the
//! load, so that what is tested is the controller and not the queue; the loss of capacity is the opposite.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod seeds;

use std::cell::Cell;
use std::time::Duration;

use foreshade_engine::decision::{Mode, Phase};
use foreshade_engine::model::fault::{Fault, Kind, Release};
use foreshade_engine::model::figures::at;
use foreshade_engine::model::load::{Load, Profile};
use foreshade_engine::model::record::SWING;
use foreshade_engine::model::scenario::{HEALED_S, ONSET_S, Scenario};
use seeds::over;

const SICK: usize = 0;

/// One pair at a third of the usual rate, for long runs.
fn calm_pair(length_s: u64) -> Scenario {
    Scenario {
        load: Load {
            rps: 400.0,
            ..Load::default()
        },
        ..Scenario::one_pair(length_s)
    }
}

// Invariant 10.
// Where a step is so small that the shift hardly pays (2.5 times), a return is now and then tried too early: 1 of 150 runs
// went and came twice, and 2 of the 100 of this test. So none may be left shifted, and three may turn more than once.
#[test]
fn a_step_gives_one_rise_and_one_fall() {
    let more = Cell::new(0);
    for (seed, factor) in [(1, 2.5), (2, 3.0), (3, 5.0), (4, 10.0), (5, 30.0)] {
        let fault = Fault::new(SICK, Kind::Slow(factor), ONSET_S, HEALED_S);
        let scenario = calm_pair(80).with([fault]);
        over(&scenario, seed * 100..seed * 100 + 20, |record, checks| {
            let reversals = record.reversals(SICK, at(0)..at(80), SWING);
            checks.that((1..=3).contains(&reversals), || {
                format!("x{factor}: {reversals} reversals")
            });
            more.set(more.get() + usize::from(reversals > 1));
            let left = record
                .shift_within(SICK, at(79)..at(80))
                .map(|(_, s)| s.share)
                .fold(0.0, f64::max);
            checks.that(left == 0.0, || format!("x{factor}: {left} is still shifted"));
        });
    }
    assert!(
        more.get() <= 3,
        "{} of 100 runs turned more than once",
        more.get()
    );
}

// Invariant 11: within 310 s a hold that doubles from 10 s allows for six cycles.
#[test]
fn a_square_wave_of_any_period_is_not_followed() {
    for (seed, period_s) in [(1, 1), (2, 3), (3, 7), (4, 15), (5, 30), (6, 50)] {
        let fault = Fault::new(SICK, Kind::Slow(10.0), ONSET_S, 312).flapping(Duration::from_secs(period_s));
        let scenario = calm_pair(322).with([fault]);
        over(&scenario, seed * 1000..seed * 1000 + 2, |record, checks| {
            let reversals = record.reversals(SICK, at(ONSET_S)..at(322), SWING);
            checks.that(reversals <= 15, || format!("{period_s} s: {reversals} reversals"));
        });
    }
}

// Invariant 12. A server of 16 cores at 60 % loses all but x of them. Feasible is a shift that leaves the primary no
// more than its cores can do; sensible is one that fills them to 80 %, as the policy does. The share of the second to
// the fifth minute has to lie between the two, or little above. Over 84 runs it lay .1 above the sensible one at most in
// 64 of them, .13 in 81, and .15 in all but one. The design hopes for two turns in five minutes: 78 of the runs make no
// more, the others three. Where a server shares its cores, the way from "as ever" to "overloaded" is shorter than the two
// seconds in which latency is judged, and what was found at one moment's load may be too much at the next.
#[test]
fn a_loss_of_capacity_ends_near_the_least_feasible_shift() {
    for (seed, left) in [
        (1, 0.1),
        (2, 0.25),
        (3, 0.4),
        (4, 0.5),
        (5, 0.65),
        (6, 0.75),
        (7, 0.95),
    ] {
        let mut scenario =
            Scenario::one_pair(312).with([Fault::new(SICK, Kind::Capacity(left), ONSET_S, 312)]);
        // 16 cores / 5.67 ms are 2824 requests per second.
        scenario.load.rps = 0.6 * 16.0 / 5.666e-3;
        over(&scenario, seed * 10_000..seed * 10_000 + 3, |record, checks| {
            let feasible = (1.0_f64 - left / 0.6).max(0.0);
            let sensible = (1.0_f64 - 0.8 * left / 0.6).max(0.0);
            let shares: Vec<f64> = record
                .shift_within(SICK, at(60)..at(312))
                .map(|(_, s)| s.share)
                .collect();
            let share = shares.iter().sum::<f64>() / shares.len() as f64;
            checks.that((feasible - 0.02..=sensible + 0.15).contains(&share), || {
                format!("x = {left}: {share:.2} instead of {feasible:.2} to {sensible:.2}")
            });
            let reversals = record.reversals(SICK, at(ONSET_S)..at(312), SWING);
            checks.that(reversals <= 3, || format!("x = {left}: {reversals} reversals"));
            let failed = record.failed(at(ONSET_S)..at(312));
            checks.that(failed == 0, || format!("x = {left}: {failed} requests failed"));
        });
    }
}

// Invariant 5, its second half: silence is not recovery.
#[test]
fn when_the_evidence_goes_away_the_shift_stays() {
    let mut scenario = calm_pair(90).with([Fault::new(SICK, Kind::Slow(10.0), ONSET_S, 90)]);
    scenario.probes = None;
    scenario.load.profile = Profile::Steps(vec![
        (Duration::from_secs(ONSET_S + 8), 1.0),
        (Duration::from_secs(90), 0.0),
    ]);
    over(&scenario, 1..5, |record, checks| {
        let share = |s: u64| {
            let ticks = record.shift_within(SICK, at(s)..at(s + 1));
            ticks.map(|(_, shift)| shift.share).last().unwrap_or(0.0)
        };
        let (before, after) = (share(ONSET_S + 7), share(88));
        // A first contact (a few users) may have been opened just before; nothing may follow from it.
        checks.that(before > 0.8 && after >= before - 0.05, || {
            format!("{before} became {after}")
        });
        let risk = record.endpoint_within(SICK, at(88)..at(90)).map(|(_, e)| e.risk);
        let least = risk.fold(1.0, f64::min);
        checks.that(least > 0.35, || format!("risk fell to {least}"));
    });
}

// Invariant 6: what the operator says a standby can carry is not exceeded, even by a failover.
#[test]
fn a_small_standby_is_never_given_more_than_it_can_carry() {
    for (seed, kind) in [(1, Kind::Slow(10.0)), (2, Kind::Refuse), (3, Kind::errors(0.5))] {
        let mut scenario = calm_pair(40).with([Fault::new(SICK, kind, ONSET_S, 40)]);
        scenario.spec.endpoints[1].capacity_rps = Some(100.0);
        over(&scenario, seed * 10..seed * 10 + 3, |record, checks| {
            // 80 rps may be shifted; failovers of single requests come on top, bounded by the retry budget.
            for second in ONSET_S + 2..39 {
                let rps = record.attempts_per_s(1, at(second)..at(second + 1));
                checks.that(rps <= 100.0 * 1.2 + 40.0, || {
                    format!("{kind:?}: {rps} rps at {second}")
                });
            }
            let share = record
                .shift_within(SICK, at(ONSET_S)..at(40))
                .map(|(_, s)| s.share);
            let most = share.fold(0.0, f64::max);
            checks.that(most <= 0.8 * 100.0 / 400.0 * 1.15, || {
                format!("{kind:?}: share {most}")
            });
        });
    }
}

// Invariant 18.
#[test]
fn a_proxy_that_stood_still_blames_nobody() {
    for (seed, ms) in [(1, 300), (2, 1500), (3, 5000), (4, 20_000)] {
        let mut scenario = Scenario::healthy(60);
        scenario.suspended = Some((at(15), Duration::from_millis(ms)));
        over(&scenario, seed * 10..seed * 10 + 3, |record, checks| {
            for endpoint in 0..4 {
                let moved = record
                    .shift_within(endpoint, at(0)..at(60))
                    .find(|(_, s)| s.class_share > 0.0 || s.phase == Phase::FailOver);
                checks.that(moved.is_none(), || format!("{ms} ms: {endpoint} {moved:?}"));
            }
        });
    }
}

// Invariant 14, where it is needed most: everything hangs, and every retry would only add to it.
#[test]
fn when_everything_hangs_nobody_storms() {
    let hang = |e| Fault::new(e, Kind::Hang(Release::Reset), ONSET_S, ONSET_S + 10);
    let scenario = Scenario::healthy(40).with((0..8).map(hang));
    over(&scenario, 1..5, |record, checks| {
        let asked = record.within(at(ONSET_S)..at(ONSET_S + 10)).len() as f64;
        let attempts: f64 = (0..8)
            .map(|e| record.attempts_per_s(e, at(ONSET_S)..at(ONSET_S + 10)) * 10.0)
            .sum();
        checks.that(attempts <= asked * 1.1 + 200.0, || {
            format!("{attempts} attempts at {asked}")
        });
        let after = record.within(at(35)..at(40));
        let served = after.iter().filter(|r| r.is_served()).count();
        checks.that(served * 100 >= after.len() * 99, || {
            format!("{served} of {} are served after it is over", after.len())
        });
    });
}

// Primary and standby together can serve 980 of 1200 requests per second at the very best, and the standby alone 700.
#[test]
fn where_not_all_can_be_served_the_standby_serves_what_it_can() {
    let scenario = Scenario::named("small_standby").unwrap();
    over(&scenario, 1..9, |record, checks| {
        let during = at(ONSET_S + 3)..at(HEALED_S);
        let asked = record.within(during.clone());
        let served = asked.iter().filter(|request| request.is_served()).count();
        let part = served as f64 / asked.len() as f64;
        checks.that(part > 0.55, || format!("{:.0} % are served", part * 100.0));
        let shadow = record.attempts_per_s(1, during);
        checks.that(shadow < 770.0, || {
            format!("the standby is asked for {shadow} per second")
        });
    });
}

// Invariant 15.
#[test]
fn in_panic_everybody_serves_by_what_is_left() {
    let sick = |e| Fault::new(e, Kind::errors(0.6), ONSET_S, 40);
    let scenario = Scenario::healthy(60).with((0..8).map(sick));
    over(&scenario, 1..5, |record, checks| {
        let during = at(ONSET_S + 5)..at(40);
        let calm = record
            .ticks_within(during.clone())
            .iter()
            .filter(|t| t.mode == Mode::Normal)
            .count();
        checks.that(calm == 0, || format!("{calm} ticks of normal operation"));
        for endpoint in 0..4 {
            let rps = record.attempts_per_s(endpoint, during.clone());
            checks.that(rps > 15.0, || format!("{endpoint} serves {rps}"));
        }
    });
}
