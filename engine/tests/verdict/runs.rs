//! Ten thousand rollouts each, where the world is not as simple as a table: shares that chase the evidence, failures
//! that become twenty times as many, bursts, hardly any traffic. Every bound is the promised one plus three standard
//! deviations.

use std::time::Duration;

use foreshade_engine::verdict::bake::{Bake, BakeMetric, BakePolicy};
use foreshade_engine::verdict::{JudgePolicy, Metric, Proof, Verdict};

use crate::chance::Chance;
use crate::world::{Shares, World, at_most, median, only};

const RUNS: u64 = 10_000;
const TICK: Duration = Duration::from_millis(100);

/// The steps that ship.
const STEPS: [f64; 5] = [0.01, 0.05, 0.1, 0.25, 0.5];

/// Counts rollouts in which a verdict was ever given.
fn ever(verdict: Verdict, runs: u64, rollout: impl Fn(u64) -> bool) -> u64 {
    assert_ne!(verdict, Verdict::Undecided);
    (0..runs).filter(|seed| rollout(*seed)).count() as u64
}

/// A share that raises itself where it sees evidence, and lowers itself where it does not: whoever wanted to be wrong
/// would set it like this.
fn chasing(world: &World) -> f64 {
    let nats = world.judge.worse_nats();
    let step = if nats.is_finite() {
        (nats + 3.0).clamp(0.0, 4.0)
    } else {
        1.0
    };
    STEPS[step as usize]
}

#[test]
fn a_tolerable_shadow_is_rolled_back_by_alpha_at_most_while_shares_chase_and_failures_become_twentyfold() {
    let policy = JudgePolicy::default();
    let (calm, stormy) = (Shares::tolerable(0.002), Shares::tolerable(0.04));
    let worse = ever(Verdict::Worse, RUNS, |seed| {
        let mut world = World::new(&policy, seed, TICK);
        (0..100).any(|tick| {
            let weight = chasing(&world);
            let shares = if tick < 50 { &calm } else { &stormy };
            world.tick(1000, weight, shares) == Verdict::Worse
        })
    });
    at_most(policy.alpha, worse, RUNS, "rolled back at the tolerance");
}

#[test]
fn an_equal_shadow_is_rolled_back_by_alpha_at_most_and_is_not_held_up() {
    let policy = JudgePolicy::default();
    let (calm, stormy) = (Shares::equal(0.002), Shares::equal(0.04));
    let (mut worse, mut passed) = (0, 0);
    for seed in 0..RUNS {
        let mut world = World::new(&policy, seed, TICK);
        let mut verdicts = (0..100).map(|tick| {
            let weight = STEPS[world.chance.bits() as usize % STEPS.len()];
            world.tick(1000, weight, if tick < 50 { &calm } else { &stormy })
        });
        let first = verdicts.find(|verdict| *verdict != Verdict::Undecided);
        worse += u64::from(first == Some(Verdict::Worse));
        passed += u64::from(first == Some(Verdict::NotWorse));
    }
    at_most(policy.alpha, worse, RUNS, "rolled back though equal");
    assert!(passed > RUNS * 95 / 100, "only {passed} passed");
}

#[test]
fn the_fraction_of_the_requests_is_as_good_a_weight_as_the_coin() {
    let policy = only(Metric::Failures);
    let shares = Shares::tolerable(0.02);
    let worse = ever(Verdict::Worse, RUNS, |seed| {
        let mut world = World::new(&policy, seed, TICK);
        (0..40).any(|_| {
            // Balanced by load: the fraction drifts, and nobody drew a coin.
            let shadow = 20 + world.chance.bits() % 200;
            world.tick_of([1000, shadow], shadow as f64 / (1000 + shadow) as f64, &shares) == Verdict::Worse
        })
    });
    at_most(policy.alpha, worse, RUNS, "rolled back by fractions");
}

/// A rollout of forty seconds in which connections that carry twenty requests die, each on the arm that the coin drew
/// for it.
fn dying_connections(policy: &JudgePolicy, seed: u64) -> bool {
    let mut world = World::new(policy, seed, TICK);
    let weight = 0.05;
    (0..400).any(|_| {
        let mut failures = [0, 0];
        if world.chance.happens(0.1) {
            failures[usize::from(world.chance.happens(weight))] += 20;
        }
        world.report([950, 50], weight, &[failures]) == Verdict::Worse
    })
}

#[test]
fn bursts_roll_an_equal_shadow_back_by_alpha_at_most_where_they_are_collapsed() {
    let robust = only(Metric::Failures).robust();
    let worse = ever(Verdict::Worse, RUNS, |seed| dying_connections(&robust, seed));
    at_most(robust.alpha, worse, RUNS, "rolled back by bursts");
    // And this is why: one by one they are no draws of a coin.
    let plain = only(Metric::Failures);
    let worse = ever(Verdict::Worse, 500, |seed| dying_connections(&plain, seed));
    assert!(worse > 50, "{worse} of 500");
}

#[test]
fn bursts_that_both_arms_share_need_no_collapse() {
    let policy = only(Metric::Failures);
    let (calm, storm) = (Shares::tolerable(0.002), Shares::tolerable(0.6));
    let worse = ever(Verdict::Worse, RUNS, |seed| {
        let mut world = World::new(&policy, seed, TICK);
        (0..120).any(|tick| {
            let shares = if tick % 40 < 4 { &storm } else { &calm };
            world.tick(100, 0.1, shares) == Verdict::Worse
        })
    });
    at_most(policy.alpha, worse, RUNS, "rolled back by shared outages");
}

/// Promotions of a shadow that is at the margin of one metric.
fn promoted(policy: &JudgePolicy, shares: &Shares, weight: f64, ticks: u32) -> u64 {
    ever(Verdict::NotWorse, RUNS, |seed| {
        let mut world = World::new(policy, seed, TICK);
        (0..ticks).any(|_| world.tick(1000, weight, shares) == Verdict::NotWorse)
    })
}

#[test]
fn a_shadow_at_a_margin_is_promoted_by_beta_at_most() {
    // Failures: both ways are closed, the ratio and the ceiling, and both exactly at their boundary.
    let failures = only(Metric::Failures);
    let shares = Shares::equal(0.01 / 1.5).with(0, 1.5);
    let (mut either, mut ceiling) = (failures.clone(), failures);
    either.metrics[0].proof = Proof::Either {
        ratio: 1.5,
        ceiling: 0.01,
    };
    at_most(0.05, promoted(&either, &shares, 0.25, 100), RUNS, "failures");
    ceiling.metrics[0].proof = Proof::Ceiling(0.01);
    at_most(
        0.05,
        promoted(&ceiling, &shares, 0.25, 100),
        RUNS,
        "failures by the ceiling alone",
    );
    // All metrics at once: everything is as it should be but the 90th percentile.
    let shares = Shares::equal(0.0).with(2, 2.0);
    at_most(
        0.05,
        promoted(&JudgePolicy::default(), &shares, 0.25, 60),
        RUNS,
        "all metrics",
    );
}

#[test]
fn hardly_any_traffic_means_undecided() {
    let policy = JudgePolicy::default();
    // A request every ten seconds, one in twenty of them to the shadow, for an hour: 18.
    let shares = Shares::equal(0.01);
    let (mut worse, mut undecided) = (0, 0);
    for seed in 0..RUNS {
        let mut world = World::new(&policy, seed, Duration::from_secs(60));
        let last = (0..60).map(|_| world.tick(6, 0.05, &shares)).last();
        worse += u64::from(last == Some(Verdict::Worse));
        undecided += u64::from(last == Some(Verdict::Undecided));
    }
    assert!(worse <= 3, "{worse} rolled back");
    assert!(undecided >= RUNS * 95 / 100, "{undecided} undecided");
}

/// Medians of the failures and of the seconds until a shadow with `ratio` times the failures is found, with 1000
/// requests per second of which a twentieth goes to the shadow.
fn until_found(ratio: f64, tick: Duration, runs: u64) -> (f64, f64) {
    let shares = Shares::equal(0.002).with(0, ratio);
    let requests = (1000.0 * tick.as_secs_f64()) as u64;
    let found = (0..runs).map(|seed| {
        let mut world = World::new(&JudgePolicy::default(), seed, tick);
        let ticks = (1..100_000).find(|_| world.tick(requests, 0.05, &shares) == Verdict::Worse);
        (
            world.events(0) as f64,
            f64::from(ticks.unwrap()) * tick.as_secs_f64(),
        )
    });
    let (events, seconds) = found.unzip();
    (median(events), median(seconds))
}

#[test]
fn regressions_are_found_after_as_many_failures_as_in_the_table() {
    for (ratio, tick, runs, expected) in [
        (2.0, Duration::from_secs(1), 1000, 769.0),
        (3.0, Duration::from_millis(500), 2000, 174.0),
        (10.0, TICK, RUNS, 18.0),
    ] {
        let (failures, seconds) = until_found(ratio, tick, runs);
        println!(
            "{ratio} times the failures: found after {failures} failures, {seconds:.1} s; {expected} in the table"
        );
        assert!(
            (failures / expected - 1.0).abs() <= 0.1,
            "{ratio}: {failures} instead of {expected}"
        );
        assert!(ratio < 10.0 || seconds < 10.0, "{ratio}: {seconds} s");
    }
}

#[test]
fn a_total_failure_is_found_within_a_second() {
    let (_, seconds) = until_found(500.0, TICK, RUNS);
    assert!(seconds < 1.0, "{seconds} s");
}

#[test]
fn a_tenfold_failure_rate_is_found_in_twelve_seconds_where_bursts_are_collapsed() {
    let policy = JudgePolicy::default().robust();
    let shares = Shares::equal(0.002).with(0, 10.0);
    let seconds = (0..2000).map(|seed| {
        let mut world = World::new(&policy, seed, TICK);
        let ticks = (1..10_000).find(|_| world.tick(100, 0.05, &shares) == Verdict::Worse);
        f64::from(ticks.unwrap()) * TICK.as_secs_f64()
    });
    // Six seconds where each failure is counted by itself; two that fall into one window are one.
    let seconds = median(seconds.collect());
    assert!(seconds < 12.0, "{seconds} s");
}

/// Ticks until a baked shadow raises an alarm, at most `most`.
fn until_alarm(between: f64, failures: f64, most: u64, seed: u64) -> u64 {
    let metric = |metric, ceiling| BakeMetric {
        metric,
        weight: 0.5,
        ceiling,
    };
    let policy = BakePolicy {
        ticks_between_false_alarms: between,
        metrics: vec![metric(Metric::Failures, 0.01), metric(Metric::OverP90, 0.2)],
    };
    let (mut bake, mut chance) = (Bake::new(policy).unwrap(), Chance::seeded(seed));
    let ticks = (1..=most).find(|_| {
        let events = [chance.count(100, failures), chance.count(100, 0.2)];
        bake.observe(100, &events).unwrap();
        bake.alarm()
    });
    ticks.unwrap_or(most)
}

#[test]
fn a_baked_shadow_at_its_ceilings_alarms_as_rarely_as_promised() {
    let runs = 1000;
    let ticks: u64 = (0..runs).map(|seed| until_alarm(200.0, 0.01, 2000, seed)).sum();
    let mean = ticks as f64 / runs as f64;
    // Cut off at ten times of what is promised, so the true mean is longer still.
    assert!(mean >= 200.0, "{mean}");
}

#[test]
fn a_baked_shadow_that_begins_to_fail_is_found_in_seconds() {
    for (failures, expected) in [(0.05, 20.0), (0.2, 5.0), (1.0, 5.0)] {
        let ticks = (0..1000).map(|seed| until_alarm(1e6, failures, 1000, seed) as f64);
        let ticks = median(ticks.collect());
        assert!((3.0..=expected).contains(&ticks), "{failures}: {ticks} ticks");
    }
}
