//! Whole episodes in open loop: the assessments are scripted, the shift answers.

use foreshade_contract::Risk;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::fixture::{Bench, known, term, tick};
use super::*;
use crate::assessment::{ClassRisk, Group, Standing, TickEvidence};
use crate::outcome::RouteClass;

/// A pair whose primary's evidence follows from a script, and from the traffic that it gets.
struct Play {
    bench: Bench,
    shift: Shift,
    rng: StdRng,
    risk: f64,
}

/// How a primary is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Health {
    Well,
    /// This part of its answers fails.
    Failing(f64),
    /// So many times as slow.
    Slow(f64),
    Dead,
}

impl Play {
    fn new(seed: u64) -> Self {
        Self {
            bench: Bench::new(),
            shift: Shift::new(),
            rng: StdRng::seed_from_u64(seed),
            risk: 0.0,
        }
    }

    fn step(&mut self, primary: &Assessment, shadow: &Assessment) -> Shifted {
        self.bench.advance(100);
        self.shift
            .step(&self.bench.sight(primary, shadow), None, &mut self.rng)
    }

    /// One tick of a primary with this health, whose risk rises at once and falls only by good evidence.
    fn live(&mut self, health: Health, shadow: &Assessment) -> Shifted {
        let share = self.shift.share().value();
        let n = stochastic(self.bench.demand_rps * 0.1 * (1.0 - share), &mut self.rng);
        let (raw, evidence) = match health {
            Health::Well => (0.0, tick(n, 0, 1.0)),
            Health::Failing(part) => (
                0.98,
                tick(n, stochastic(f64::from(n) * part, &mut self.rng).min(n), 1.0),
            ),
            Health::Slow(times) => (0.9, tick(n, 0, times)),
            Health::Dead => (0.98, tick(n, n, 1.0)),
        };
        if n > 0 {
            self.risk = if raw > self.risk {
                raw
            } else {
                raw.max(self.risk * (-0.1f64 / 5.0).exp())
            };
        }
        let mut primary = Assessment {
            tick: evidence,
            ..known(self.risk)
        };
        if health == Health::Dead {
            primary.standing = Standing::Dead;
            primary.risk = Risk::clamped(0.98);
            self.risk = 0.98;
        }
        if !matches!(health, Health::Failing(_)) {
            primary.terms = vec![term(Group::Performance, 1.0)];
        }
        primary.slowdown = if let Health::Slow(times) = health {
            times
        } else {
            1.0
        };
        if let Health::Failing(part) = health {
            for term in &mut primary.terms {
                term.observed = part;
            }
        }
        self.step(&primary, shadow)
    }

    /// A shadow that serves its share well.
    fn good_shadow(&mut self) -> Assessment {
        let share = self.shift.share().value();
        Assessment {
            tick: tick(
                stochastic(self.bench.demand_rps * 0.1 * share, &mut self.rng),
                0,
                1.0,
            ),
            ..known(0.0)
        }
    }

    fn run(&mut self, health: Health, seconds: f64) -> Vec<Shifted> {
        (0..ticks(seconds))
            .map(|_| {
                let shadow = self.good_shadow();
                self.live(health, &shadow)
            })
            .collect()
    }
}

/// Rounded up or down by chance, so that it is right on average.
#[expect(clippy::cast_possible_truncation, reason = "small numbers")]
fn stochastic(expected: f64, rng: &mut StdRng) -> u32 {
    (expected + rng.random_range(0.0..1.0)).floor() as u32
}

#[expect(clippy::cast_possible_truncation, reason = "small numbers")]
fn ticks(seconds: f64) -> usize {
    (seconds * 10.0).round() as usize
}

fn shares(steps: &[Shifted]) -> Vec<f64> {
    steps.iter().map(|step| step.decision.share.value()).collect()
}

/// Changes of direction by more than what an unproven contact may take.
fn reversals(shares: &[f64]) -> usize {
    let (mut extreme, mut up, mut count) = (0.0f64, true, 0);
    for share in shares {
        if (up && *share > extreme) || (!up && *share < extreme) {
            extreme = *share;
        } else if (share - extreme).abs() > 0.26 {
            extreme = *share;
            up = !up;
            count += 1;
        }
    }
    count
}

// Concept: endpoint-gradual-shift
#[test]
fn a_sick_primary_is_left_through_a_canary_and_a_ramp() {
    let mut play = Play::new(1);
    let steps = play.run(Health::Failing(0.2), 6.0);
    let shares = shares(&steps);
    assert!(shares[0] <= 0.05 && shares[1] <= 0.05 + 1e-9);
    let phases: Vec<Phase> = steps.iter().map(|step| step.decision.phase).collect();
    let first = |phase| phases.iter().position(|p| *p == phase).unwrap();
    assert!(first(Phase::Canary) < first(Phase::Ramp) && first(Phase::Ramp) < first(Phase::Shifted));
    assert!(
        first(Phase::Ramp) <= 12,
        "proven within 1.2 s at 25 requests per second"
    );
    assert!(shares[45] > 0.99, "{shares:?}");
}

#[test]
fn a_primary_that_fails_most_requests_is_left_as_soon_as_the_shadow_is_known_not_to() {
    let mut play = Play::new(1);
    let steps = play.run(Health::Failing(0.5), 0.6);
    assert!(
        shares(&steps)
            .iter()
            .all(|share| *share <= 0.05 + 1e-9 || *share >= 1.0)
    );
    assert_eq!(steps.last().unwrap().decision.share, Share::ONE);
    let phase = |wanted| {
        steps
            .iter()
            .position(|step| step.decision.phase == wanted)
            .unwrap()
    };
    assert!(phase(Phase::Canary) < phase(Phase::FailOver) && phase(Phase::FailOver) < phase(Phase::Shifted));
}

// Concept: endpoint-failover
#[test]
fn users_of_a_dead_primary_move_at_once_and_as_far_as_the_shadow_carries() {
    let mut play = Play::new(1);
    let step = play.live(Health::Dead, &known(0.0));
    assert_eq!(
        (step.decision.phase, step.decision.share),
        (Phase::FailOver, Share::ONE)
    );
    let mut play = Play::new(1);
    play.bench.capacity = Share::clamped(0.6);
    let step = play.live(Health::Dead, &known(0.0));
    assert!((step.decision.share.value() - 0.6).abs() < 1e-9);
    assert_eq!(step.decision.bound, Bound::ShadowCapacity);
}

#[test]
fn a_dead_primary_is_left_even_in_common_cause() {
    let mut play = Play::new(1);
    play.bench.frozen = true;
    assert_eq!(play.live(Health::Dead, &known(0.0)).decision.share, Share::ONE);
}

#[test]
fn a_primary_whose_shadow_is_dead_too_keeps_its_users() {
    let mut play = Play::new(1);
    play.bench.shadow_available = false;
    for step in play.run(Health::Failing(1.0), 20.0) {
        assert_eq!(step.decision.share, Share::ZERO);
    }
}

#[test]
fn traffic_is_back_within_thirty_seconds_of_healing() {
    for demand in [100.0, 500.0, 2000.0] {
        for fault in [
            Health::Slow(10.0),
            Health::Failing(0.5),
            Health::Slow(3.0),
            Health::Dead,
        ] {
            for seed in 0..40 {
                let mut play = Play::new(seed);
                play.bench.demand_rps = demand;
                // Probes see what is dead, and nothing else.
                play.bench.probed = true;
                play.run(Health::Well, 2.0);
                play.run(fault, 12.0);
                let steps = play.run(Health::Well, 30.0);
                let last = steps.last().unwrap();
                assert!(
                    last.decision.share.value() <= 0.02,
                    "{fault:?} at {demand} rps, seed {seed}: {} {}",
                    last.decision.share,
                    last.decision.reason
                );
            }
        }
    }
}

#[test]
fn in_panic_a_primary_that_has_healed_is_given_its_users_back() {
    for (in_panic, back) in [(true, true), (false, false)] {
        let mut play = Play::new(1);
        play.bench.probed = true;
        play.run(Health::Dead, 1.0);
        // What is held for a common cause stays; what is held for want of capacity helps against that want.
        (play.bench.frozen, play.bench.in_panic) = (true, in_panic);
        let last = play.run(Health::Well, 30.0).pop().unwrap().decision;
        assert_eq!(last.share == Share::ZERO, back, "{last:?}");
    }
}

#[test]
fn a_contact_that_lasts_since_before_the_healing_is_not_held_back_by_it() {
    let mut play = Play::new(1);
    play.bench.demand_rps = 1200.0;
    play.run(Health::Slow(1.5), 20.0);
    assert!(play.shift.share().value() > 0.9);
    let steps = play.run(Health::Well, 6.0);
    assert!(
        steps.last().unwrap().decision.share.value() < 0.9,
        "{:?}",
        steps.last()
    );
}

#[test]
fn in_a_lull_users_come_back_no_faster() {
    let mut play = Play::new(1);
    play.bench.demand_rps = 100.0;
    play.run(Health::Slow(10.0), 12.0);
    let recovers = |play: &Play| {
        play.shift
            .episode
            .as_ref()
            .is_some_and(|episode| episode.recovery.is_some())
    };
    while !recovers(&play) || play.shift.share().value() > 0.8 {
        play.run(Health::Well, 0.1);
    }
    let before = play.shift.share().value();
    play.bench.demand_rps = 4.0;
    let after = play.run(Health::Well, 5.0).last().unwrap().decision.share.value();
    let pace = play.bench.policy.return_per_second;
    assert!(after >= before - 5.0 * pace - 1e-6, "{before} {after}");
}

#[test]
fn a_shadow_that_is_worse_gets_a_canary_for_two_seconds_and_then_nothing() {
    let mut play = Play::new(1);
    let mut at_shadow = 0;
    for n in 0..100 {
        let share = play.shift.share().value();
        let mut shadow = known(0.0);
        let samples = if share > 0.0 { 3 } else { 0 };
        shadow.tick = tick(samples, u32::from(n % 2 == 0).min(samples), 1.0);
        let step = play.live(Health::Failing(0.05), &shadow);
        assert!(step.decision.share.value() <= 0.05 + 1e-9);
        at_shadow += u32::from(step.decision.share.value() > 0.0);
    }
    assert!(at_shadow <= 22, "{at_shadow} ticks");
}

#[test]
fn a_single_contact_with_a_primary_that_is_still_sick_costs_little() {
    let mut play = Play::new(3);
    let steps = play.run(Health::Failing(0.5), 300.0);
    let shares = shares(&steps);
    let exposed: f64 = shares
        .iter()
        .skip(60)
        .map(|share| (1.0 - share) * 0.1 * 500.0 * 0.5)
        .sum();
    assert!(exposed < 60.0, "{exposed} requests failed in five minutes");
    assert!(reversals(&shares) <= 2);
}

#[test]
fn a_contact_is_not_refuted_by_a_slow_answer_or_two() {
    let mut play = Play::new(1);
    play.run(Health::Slow(3.0), 8.0);
    play.bench.advance(10_000);
    for slower in [4.0, 1.0, 1.0] {
        let mut primary = known(0.9);
        // Two answers at four times the usual, as a long tail gives them, and then none.
        primary.tick = tick(2, 0, slower);
        let shadow = play.good_shadow();
        let step = play.step(&primary, &shadow);
        assert!(step.trial > Share::ZERO);
    }
}

#[test]
fn a_contact_is_not_widened_before_the_failures_known_of_would_have_shown() {
    // The answers that bring most back before the twentieth; from some on, failures are too rare to wait for.
    for (part, widened_early) in [(0.05, false), (0.30, true)] {
        let mut play = Play::new(4);
        play.run(Health::Failing(part), 8.0);
        let mut answered = 0;
        let mut most_back: f64 = 0.0;
        while answered < 19 {
            let share = play.shift.share().value();
            // One clean answer in each tick in which anybody is there to be answered.
            let mut primary = known(0.98);
            primary.tick = tick(u32::from(share < 1.0), 0, 1.0);
            primary.terms[0].observed = part;
            answered += primary.tick.total;
            let shadow = play.good_shadow();
            let step = play.step(&primary, &shadow);
            most_back = most_back.max(1.0 - step.decision.share.value());
        }
        let contact = 5.0 / play.bench.demand_rps;
        assert_eq!(most_back > contact, widened_early, "{part}: {most_back}");
    }
}

#[test]
fn a_return_after_a_relapse_waits_longer_and_stops_short() {
    let mut play = Play::new(5);
    play.run(Health::Failing(0.5), 12.0);
    let back = play.run(Health::Well, 14.0);
    let at = back.last().unwrap().decision.share.value();
    assert!((0.1..0.9).contains(&at), "{at}");
    play.run(Health::Failing(0.5), 12.0);
    let again = play.run(Health::Well, 40.0);
    let lowest = shares(&again).into_iter().fold(1.0, f64::min);
    assert!(lowest > 0.5 * at, "{lowest} after a relapse at {at}");
}

// Invariant 5.
#[test]
fn silence_is_not_recovery() {
    let mut play = Play::new(1);
    play.run(Health::Failing(0.5), 6.0);
    let mut silent = known(0.98);
    silent.terms.clear();
    // Nobody asks any more. Requests that are missed would be another matter: then the contact has nobody in it.
    play.bench.demand_rps = 0.0;
    for _ in 0..6000 {
        let step = play.step(&silent, &known(0.0));
        let reached = step.decision.share.value() + step.trial.value();
        assert!(reached >= 1.0 - 1e-9 && step.trial.value() <= 0.05 + 1e-9);
    }
}

#[test]
fn what_was_said_of_a_shadow_before_shares_were_held_moves_nobody_who_has_failed_over() {
    let mut play = Play::new(1);
    let failing = Assessment {
        tick: tick(10, 6, 1.0),
        ..known(0.0)
    };
    for _ in 0..50 {
        play.live(Health::Failing(0.05), &failing);
    }
    assert!(play.shift.canary.is_given_up());
    let well = known(0.0);
    let dead = play.live(Health::Dead, &well).decision;
    assert_eq!((dead.phase, dead.share), (Phase::FailOver, Share::ONE));
    play.bench.frozen = true;
    for _ in 0..20 {
        let held = play.live(Health::Failing(0.5), &well).decision;
        assert_eq!((held.bound, held.share), (Bound::Mode, Share::ONE));
    }
}

// Invariant 5.
#[test]
fn a_healthy_pair_never_moves() {
    let mut play = Play::new(1);
    for step in play.run(Health::Well, 600.0) {
        assert_eq!(
            (step.decision.share, step.decision.phase),
            (Share::ZERO, Phase::Normal)
        );
        assert_eq!(step.trial, Share::ZERO);
    }
}

// Invariant 10.
#[test]
fn a_step_of_risk_gives_one_rise_and_one_fall() {
    for fault in [Health::Slow(3.0), Health::Failing(1.0), Health::Failing(0.05)] {
        for seed in 0..20 {
            let mut play = Play::new(seed);
            let mut steps = play.run(Health::Well, 5.0);
            steps.extend(play.run(fault, 30.0));
            steps.extend(play.run(Health::Well, 60.0));
            let shares = shares(&steps);
            assert_eq!(reversals(&shares), 1, "{fault:?} {seed}");
            assert!(shares.last().unwrap().abs() < f64::EPSILON, "{fault:?} {seed}");
        }
    }
}

// Invariant 11.
#[test]
fn flapping_moves_users_ever_more_seldom() {
    let (total, hold, hold_max) = (1800.0, 10.0, 300.0f64);
    let bound = 2.0 * ((hold_max / hold).log2() + 2.0) + 2.0 * total / hold_max;
    for period in [2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0] {
        for seed in 0..5 {
            let mut play = Play::new(seed);
            let mut steps = Vec::new();
            for _ in 0..ticks(total / period) / 10 {
                steps.extend(play.run(Health::Failing(0.5), period / 2.0));
                steps.extend(play.run(Health::Well, period / 2.0));
            }
            let count = reversals(&shares(&steps));
            assert!(
                count as f64 <= bound,
                "period {period}, seed {seed}: {count} reversals"
            );
        }
    }
}

// Invariant 13.
#[test]
fn a_common_cause_changes_no_share() {
    let mut play = Play::new(1);
    play.bench.frozen = true;
    for step in play.run(Health::Slow(10.0), 60.0) {
        assert_eq!(step.decision.share, Share::ZERO);
    }
    let mut play = Play::new(1);
    let before = play.run(Health::Slow(10.0), 5.0).last().unwrap().decision.share;
    play.bench.frozen = true;
    for step in play.run(Health::Slow(10.0), 60.0) {
        assert_eq!((step.decision.share, step.decision.bound), (before, Bound::Mode));
    }
}

// Concept: endpoint-forecast, endpoint-external
#[test]
fn a_forecast_prepares_and_does_not_commit() {
    for (group, most) in [(Group::Trend, 0.25), (Group::External, 0.05)] {
        let mut play = Play::new(1);
        let mut foreseen = known(0.45);
        foreseen.terms = vec![term(group, 0.6)];
        for _ in 0..600 {
            let shadow = play.good_shadow();
            let step = play.step(&foreseen, &shadow);
            assert!(step.decision.share.value() <= most + 1e-9);
        }
        assert!((play.shift.share().value() - most).abs() < 1e-6, "{group:?}");
    }
}

// Concept: endpoint-gradual-shift (class by class)
#[test]
fn a_sick_route_class_moves_alone_and_comes_back() {
    let mut play = Play::new(1);
    let class = RouteClass::of_hash(3);
    let mut gray = known(0.0);
    gray.classes = vec![ClassRisk {
        class,
        risk: Risk::clamped(0.9),
        tick: TickEvidence::default(),
    }];
    let mut of_class = Vec::new();
    for n in 0..600 {
        if n == 120 {
            gray.classes.clear();
        }
        let step = play.step(&gray, &known(0.0));
        assert_eq!(step.decision.share, Share::ZERO);
        let others = step
            .decision
            .class_shares
            .iter()
            .enumerate()
            .filter(|(c, _)| *c != class.index());
        assert!(others.clone().all(|(_, share)| *share == Share::ZERO));
        of_class.push(step.decision.class_shares[class.index()].value());
    }
    assert!(of_class[19] <= 0.05 + 1e-9 && of_class[60] > 0.99);
    assert!(of_class[599].abs() < f64::EPSILON);
    assert_eq!(reversals(&of_class), 1);
}

// Concept: endpoint-gradual-shift (class by class)
#[test]
fn a_class_returns_on_what_its_contact_shows_and_not_when_its_risk_has_faded() {
    let mut play = Play::new(1);
    let class = RouteClass::of_hash(3);
    let mut gray = known(0.0);
    let seen = |tick| ClassRisk {
        class,
        risk: Risk::clamped(0.9),
        tick,
    };
    let mut run = |play: &mut Play, ticks, tick: &dyn Fn() -> TickEvidence| {
        let mut share = Share::ZERO;
        for _ in 0..ticks {
            gray.classes = vec![seen(tick())];
            share = play.step(&gray, &known(0.0)).decision.class_shares[class.index()];
        }
        share.value()
    };
    assert!(run(&mut play, 60, &|| tick(3, 2, 1.0)) > 0.99);
    // Silence proves nothing, however long it lasts.
    assert!(run(&mut play, 300, &TickEvidence::default) > 0.4);
    // Neither do failures, and they end the contact.
    assert!(run(&mut play, 30, &|| tick(3, 2, 1.0)) > 0.99);
    assert!(run(&mut play, 400, &|| tick(3, 0, 1.0)) < 0.01);
}

#[test]
fn an_operator_moves_whom_he_wants_and_letting_go_brings_them_back_slowly() {
    let mut play = Play::new(1);
    let well = known(0.0);
    play.bench.advance(100);
    let step = play.shift.step(
        &play.bench.sight(&well, &well),
        Some(Share::clamped(0.4)),
        &mut play.rng,
    );
    assert_eq!(
        (step.decision.phase, step.decision.share),
        (Phase::Override, Share::clamped(0.4))
    );
    let steps = play.run(Health::Well, 10.0);
    assert!((0.3..0.4).contains(&steps[5].decision.share.value()));
    assert_eq!(steps[99].decision.share, Share::ZERO);
}

/// A tick in which a plan sets this share, or none.
fn planned(play: &mut Play, primary: &Assessment, directed: Option<f64>) -> Shifted {
    play.bench.advance(100);
    let well = known(0.0);
    let mut sight = play.bench.sight(primary, &well);
    sight.guidance.directed = directed.map(Share::clamped);
    play.shift.step(&sight, None, &mut play.rng)
}

#[test]
fn a_shadow_is_trusted_without_a_canary_only_where_the_primary_has_next_to_nobody_left() {
    for (share, is_trusted) in [(0.1, false), (0.5, false), (0.9, false), (1.0, true)] {
        let mut play = Play::new(1);
        let sick = known(0.9);
        for _ in 0..5 {
            planned(&mut play, &sick, Some(share));
        }
        let steps: Vec<Shifted> = (0..15).map(|_| planned(&mut play, &sick, None)).collect();
        // Nobody is put back while the canary looks, and without a word for the shadow nobody follows.
        assert!(
            shares(&steps).iter().all(|now| (now - share).abs() < 1e-9),
            "{share}: {:?}",
            shares(&steps)
        );
        let is_tried = steps[0].decision.phase == Phase::Canary;
        assert_eq!(is_tried, !is_trusted, "{share}: {:?}", steps[0].decision.phase);
    }
}

#[test]
fn a_tick_in_which_a_plan_takes_over_from_a_return_counts_once() {
    let mut play = Play::new(1);
    let (ill, well) = (known(0.5), known(0.0));
    let sight = play.bench.sight(&ill, &well);
    let mut episode = Episode::new(&sight, std::time::Duration::ZERO);
    episode.died = true;
    episode.recovery = Some(Recovery::unchallenged(&sight, 0.2));
    play.shift.episode = Some(episode);
    play.shift.share = 0.2;
    let mut once = Latch::default();
    once.step(&sight);
    let step = planned(&mut play, &ill, Some(0.5));
    assert_eq!(step.decision.phase, Phase::Directed);
    assert_eq!(play.shift.latch, once);
}

#[test]
fn with_shifting_switched_off_nothing_moves() {
    let mut play = Play::new(1);
    play.bench.policy.enabled = false;
    for step in play.run(Health::Dead, 5.0) {
        assert_eq!((step.decision.share, step.trial), (Share::ZERO, Share::ZERO));
    }
}

#[test]
fn the_salt_is_constant_in_an_episode_and_new_for_the_next() {
    let mut play = Play::new(1);
    let salts = |steps: &[Shifted]| {
        let mut salts: Vec<u64> = steps
            .iter()
            .filter(|step| step.decision.share.value() > 0.0)
            .map(|step| step.decision.salt)
            .collect();
        salts.dedup();
        salts
    };
    let mut steps = play.run(Health::Failing(0.5), 12.0);
    steps.extend(play.run(Health::Well, 60.0));
    let first = salts(&steps);
    assert_eq!(first.len(), 1);
    let second = salts(&play.run(Health::Failing(0.5), 5.0));
    assert_eq!(second.len(), 1);
    assert_ne!(first, second);
}

#[derive(Clone, Debug)]
struct Script {
    risk: f64,
    shadow_risk: f64,
    dead: bool,
    bad: u32,
    total: u32,
    capacity: f64,
    shadow_available: bool,
}

fn script() -> impl Strategy<Value = Vec<Script>> {
    let tick = (
        0.0..=1.0f64,
        0.0..=1.0f64,
        0u32..40,
        0u32..40,
        0.0..=1.0f64,
        0u32..100,
    )
        .prop_map(|(risk, shadow_risk, bad, total, capacity, odd)| Script {
            risk,
            shadow_risk,
            dead: odd < 3,
            bad: bad.min(total),
            total,
            capacity: if odd < 10 { 0.0 } else { capacity },
            shadow_available: odd % 20 != 19,
        });
    // Each value stays for a while, so that latches and proofs come about.
    prop::collection::vec((tick, 1usize..60), 1..40)
        .prop_map(|runs| runs.into_iter().flat_map(|(tick, n)| vec![tick; n]).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    // Invariants 1, 2, 6 and 7, under any evidence.
    #[test]
    fn the_laws_hold_under_any_evidence(script in script(), seed: u64) {
        let mut play = Play::new(seed);
        let mut before = 0.0;
        let mut worst = 0.0f64;
        let mut failed_before = 0;
        for tick_of in script {
            let mut primary = Assessment { tick: tick(tick_of.total, tick_of.bad, 1.0), ..known(tick_of.risk) };
            if tick_of.dead {
                primary.standing = Standing::Dead;
            }
            let shadow = Assessment { tick: tick(tick_of.total, 0, 1.0), ..known(tick_of.shadow_risk) };
            play.bench.capacity = Share::clamped(tick_of.capacity);
            play.bench.shadow_available = tick_of.shadow_available;
            let step = play.step(&primary, &shadow).decision;
            let share = step.share.value();
            worst = if play.shift.episode.is_some() { worst.max(tick_of.risk) } else { 0.0 };
            prop_assert!((0.0..=1.0).contains(&share));
            prop_assert!(share <= step.cap.value() + 1e-12);
            if tick_of.capacity <= 0.0 {
                prop_assert!(share <= 0.0);
            }
            for class in step.class_shares {
                prop_assert!(class.value() >= share);
            }
            // A contact that failed restores what it had taken.
            let failures = play.shift.episode.as_ref().map_or(0, |episode| episode.contacts_failed);
            let failed = failures != failed_before;
            failed_before = failures;
            if step.phase != Phase::FailOver && !failed {
                let growth = ramp::growth(Share::clamped(before), Risk::ONE, 0.1, &play.bench.policy);
                prop_assert!(share <= before + growth + 1e-9, "{before} -> {share}");
                if tick_of.shadow_risk >= worst - 0.1 {
                    prop_assert!(share <= before + 1e-12, "{before} -> {share}");
                }
            }
            before = share;
        }
    }
}
