//! One pair, from start to end.
// Concept: topo-switchover, topo-resync, topo-validate, endpoint-gradual-shift

use std::time::Duration;

use foreshade_contract::{Arm, Risk, Share};

use super::super::command::Command;
use super::super::effect::Effect;
use super::super::health::Health;
use super::super::overrides::Setting;
use super::super::points::BasisPoints;
use super::super::policy::{Inconclusive, MirrorUse, OldPrimary, Policy, RollbackPolicy};
use super::super::sight::{ArmHealth, Opinion, Sync, WriterSight};
use super::super::state::{Promoting, Retreat, Shifting, State, Warm};
use super::super::writer::Term;
use super::fixture::{Rig, name};

const ADVANCING: State = State::Shifting(Shifting::Advancing);
const HOLDING: State = State::Shifting(Shifting::Holding);

#[test]
fn a_pair_is_led_from_nothing_to_committed_and_its_old_primary_becomes_the_shadow() {
    let mut rig = Rig::at(State::Committed);
    assert_eq!(
        rig.trail(),
        [
            "Provisioning",
            "Syncing",
            "Warm.Idle",
            "Shifting.Advancing",
            "Promoting.Fence",
            "Promoting.CatchUp",
            "Promoting.Flip",
            "Promoting.Cutover",
            "Baking",
            "Committed"
        ]
    );
    let shares: Vec<BasisPoints> = rig
        .journal
        .iter()
        .filter(|made| made.to == ADVANCING)
        .map(|made| made.after[1])
        .collect();
    assert_eq!(shares, [1, 5, 10, 25, 50, 100].map(BasisPoints::percent));
    assert_eq!(rig.pair.serving, Arm::Shadow);
    assert_eq!(rig.pair.weights(), [BasisPoints::ZERO, BasisPoints::ALL]);
    assert_eq!(
        (rig.pair.writer.arm, rig.pair.writer.term),
        (Arm::Shadow, Term(1))
    );
    rig.until(|pair| pair.state == State::Warm(Warm::Idle));
    assert_eq!(rig.pair.rollback_target, None);
    assert_eq!(rig.pair.health(), Health::Healthy);
}

#[test]
fn every_record_says_why_with_its_numbers() {
    let rig = Rig::at(State::Committed);
    let causes: Vec<String> = rig.journal.iter().map(|made| made.cause.to_string()).collect();
    for expected in [
        "a shadow is always kept warm",
        "the shadow was well 3 times in a row",
        "the shadow is verified and 50 ms behind, at most 10 s is fine",
        "an operator ordered: promote",
        "the step is proven (E worse 0.30, E not worse 25.00)",
        "the writer has stopped for term 1",
        "the shadow writes since term 1",
        "5000 requests and 10 min without an alarm",
    ] {
        let found = causes.iter().any(|cause| cause == expected);
        assert!(found, "{expected:?} is not in {causes:#?}");
    }
}

#[test]
fn a_record_reads_as_a_line() {
    let mut rig = Rig::at(ADVANCING);
    rig.done(&Command::Abort);
    assert_eq!(
        rig.journal.last().unwrap().to_string(),
        "shop/a Shifting.Advancing -> RollingBack.Weights: an operator ordered: abort (ada: a test); \
         primary 99% -> 100%; shadow 1% -> 0%"
    );
}

#[test]
fn a_shadow_that_does_not_come_up_is_brought_up_anew_after_a_rest() {
    let mut rig = Rig::new(Policy::default());
    rig.arm(Arm::Shadow).health = ArmHealth::Unknown;
    rig.until(|pair| pair.state == State::Failed);
    assert_eq!(rig.last_cause(), "Provisioning was not done within 5 min");
    rig.until(|pair| pair.state == State::Provisioning);
    let shadow = name("a-standby");
    assert!(
        rig.last
            .as_ref()
            .unwrap()
            .effects
            .contains(&Effect::Provision { shadow })
    );
}

#[test]
fn risk_alone_begins_a_shift_and_its_end_brings_users_back_without_a_failure() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.arm(Arm::Primary).risk = Some(Risk::clamped(0.4));
    rig.sight.share = 0.07;
    rig.until(|pair| pair.state == ADVANCING);
    // Nobody is taken back whom the proxies have moved already.
    assert_eq!(rig.pair.share, BasisPoints::percent(10));
    assert_eq!(rig.last_cause(), "risk 0.40 is at or above 0.35");
    rig.arm(Arm::Primary).risk = Some(Risk::clamped(0.1));
    rig.until(|pair| pair.state == State::RollingBack(Retreat::Weights));
    // The proxies bring them back as the primary proves itself.
    let plan = rig.pair.plan(&rig.policy).unwrap();
    assert_eq!((plan.directed, plan.ceiling), (None, Share::ONE));
    rig.until(|pair| pair.state == State::Warm(Warm::Idle));
    assert_eq!(rig.pair.flap.failures(), 0);
    assert!(
        rig.journal
            .iter()
            .any(|made| made.cause.to_string() == "risk has been below 0.15 for 30 s")
    );
}

/// At the last step of a shift that nothing but a severe risk began, without any evidence.
fn severe() -> Rig {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.opinion = Some(Opinion::Undecided);
    rig.arm(Arm::Primary).risk = Some(Risk::clamped(0.95));
    rig.until(|pair| pair.state == ADVANCING && pair.share == BasisPoints::ALL);
    rig
}

#[test]
fn everybody_who_was_moved_by_risk_alone_is_left_to_the_proxies_after_a_step() {
    let mut rig = severe();
    let plan = |rig: &Rig| {
        let plan = rig.pair.plan(&rig.policy).unwrap();
        (plan.directed, plan.ceiling)
    };
    rig.ticks(8);
    assert_eq!(plan(&rig), (Some(Share::ONE), Share::ONE));
    // Their own risk may move half, and they keep all.
    rig.policy.ceiling = BasisPoints::percent(50);
    rig.ticks(4);
    assert_eq!(plan(&rig), (None, Share::ONE));
    assert!(rig.pair.state.is_active());
    let released =
        "everybody has moved by risk alone: the proxies try the primary and bring users back on proof";
    let told = rig
        .journal
        .iter()
        .filter(|made| made.cause.to_string() == released);
    assert_eq!(told.count(), 1);
    // What an operator has said of the risk no proxy knows.
    let setting = Setting::Risk(BasisPoints::percent(90));
    rig.done(&Command::Override {
        setting,
        until_ms: rig.now_ms + 600_000,
    });
    assert_eq!(plan(&rig).0, Some(Share::ONE));
}

#[test]
fn a_primary_that_proves_itself_after_a_severe_shift_has_its_users_back_within_a_minute() {
    let mut rig = severe();
    rig.until(|pair| pair.course.released);
    let since = rig.now_ms;
    // A few users find it well.
    rig.arm(Arm::Primary).risk = Some(Risk::clamped(0.05));
    rig.until(|pair| pair.state == State::Warm(Warm::Idle));
    assert!(rig.now_ms - since <= 60_000, "{} ms", rig.now_ms - since);
    assert_eq!(rig.pair.flap.failures(), 0);
    assert_eq!(rig.pair.weights(), [BasisPoints::ALL, BasisPoints::ZERO]);
}

#[test]
fn who_was_brought_back_on_proof_is_not_sent_away_again_by_a_pause_a_freeze_or_a_verdict() {
    let stops: [fn(&mut Rig); 3] = [
        |rig| rig.done(&Command::Pause),
        |rig| rig.done(&Command::Freeze),
        |rig| {
            rig.policy.rollback = RollbackPolicy::Freeze;
            rig.opinion = Some(Opinion::Worse);
            rig.tick();
        },
    ];
    let told = |rig: &Rig| {
        let plan = rig.pair.plan(&rig.policy).unwrap();
        (plan.directed, plan.frozen)
    };
    for (index, stop) in stops.into_iter().enumerate() {
        let mut rig = severe();
        rig.until(|pair| pair.course.released);
        // The proxies have four in five of them back.
        rig.sight.share = 0.2;
        rig.tick();
        assert_eq!(told(&rig), (None, false), "{index}");
        stop(&mut rig);
        let stopped = [State::Shifting(Shifting::Paused), State::Frozen];
        assert!(stopped.contains(&rig.pair.state), "{index}: {}", rig.pair.state);
        assert_eq!(told(&rig), (None, true), "{index}");
        rig.ticks(5);
        assert_eq!(told(&rig), (None, true), "{index}");
        assert_eq!(rig.pair.plan(&rig.policy).unwrap().ceiling, Share::ONE);
        // An operator's number is one.
        let setting = Setting::Share(BasisPoints::percent(60));
        rig.done(&Command::Override {
            setting,
            until_ms: rig.now_ms + 60_000,
        });
        assert_eq!(told(&rig).0, Some(Share::clamped(0.6)), "{index}");
    }
}

#[test]
fn a_freeze_moves_nobody_whom_the_proxies_moved_or_bring_back() {
    let mut warm = Rig::at(State::Warm(Warm::Idle));
    warm.sight.share = 0.3;
    let mut back = severe();
    back.until(|pair| matches!(pair.state, State::RollingBack(_)));
    for mut rig in [warm, back] {
        rig.done(&Command::Freeze);
        let plan = rig.pair.plan(&rig.policy).unwrap();
        assert_eq!((plan.directed, plan.frozen), (None, true));
    }
    // What an order puts back is put back.
    let mut rig = Rig::at(ADVANCING);
    rig.follows = false;
    rig.done(&Command::Abort);
    rig.done(&Command::Freeze);
    let plan = rig.pair.plan(&rig.policy).unwrap();
    assert_eq!((plan.directed, plan.frozen), (Some(Share::ZERO), true));
}

#[test]
fn a_shadow_that_proves_itself_after_a_severe_shift_is_promoted() {
    let mut rig = severe();
    rig.until(|pair| pair.course.released);
    rig.opinion = Some(Opinion::NotWorse);
    rig.until(|pair| matches!(pair.state, State::Promoting(_)));
    let plan = rig.pair.plan(&rig.policy).unwrap();
    assert_eq!(plan.directed, Some(Share::ONE));
    rig.until(|pair| pair.state == State::Committed);
}

#[test]
fn a_severe_shift_of_which_nothing_becomes_known_ends_with_the_proxies_and_puts_nobody_back() {
    let mut rig = severe();
    let since = rig.now_ms;
    rig.until(|pair| matches!(pair.state, State::RollingBack(_)));
    let longest = rig.policy.times.step_max + rig.policy.times.hold_max + Duration::from_secs(30);
    assert!(u128::from(rig.now_ms - since) <= longest.as_millis());
    let told = |rig: &Rig| rig.pair.plan(&rig.policy).unwrap().directed;
    assert_eq!(told(&rig), None);
    rig.until(|pair| pair.state == State::Warm(Warm::Idle));
    assert_eq!((told(&rig), rig.pair.flap.failures()), (None, 0));
}

#[test]
fn a_shift_takes_over_from_the_proxies_however_many_they_have_moved() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.arm(Arm::Primary).risk = Some(Risk::clamped(0.74));
    rig.sight.share = 0.84;
    rig.until(|pair| pair.state == ADVANCING);
    assert_eq!(rig.pair.share, BasisPoints::ALL);
}

#[test]
fn severe_risk_takes_steps_without_waiting_for_evidence_but_promotes_only_with_it() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.opinion = Some(Opinion::Undecided);
    rig.arm(Arm::Primary).risk = Some(Risk::clamped(0.9));
    rig.until(|pair| pair.share == BasisPoints::ALL);
    assert!(rig.journal.len() < 15, "{:?}", rig.trail());
    rig.ticks(20);
    assert_eq!(rig.pair.state, ADVANCING);
    rig.opinion = Some(Opinion::NotWorse);
    rig.until(|pair| pair.state == State::Baking);
}

#[test]
fn no_evidence_holds_and_a_hold_ends_as_the_policy_says() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.opinion = None;
    rig.done(&Command::Promote { full: false });
    rig.until(|pair| pair.state == HOLDING);
    assert_eq!(rig.pair.health(), Health::Paused);
    rig.until(|pair| pair.state == State::Failed);
    assert_eq!(rig.pair.weights(), [BasisPoints::ALL, BasisPoints::ZERO]);

    let mut rig = Rig::at_with(
        State::Warm(Warm::Idle),
        Policy {
            on_inconclusive: Inconclusive::Promote,
            ..Policy::default()
        },
    );
    rig.opinion = None;
    rig.done(&Command::Promote { full: false });
    rig.until(|pair| pair.state == State::Baking);
}

#[test]
fn a_guard_that_comes_and_goes_does_not_stretch_a_hold() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.opinion = None;
    rig.done(&Command::Promote { full: false });
    rig.until(|pair| pair.state == ADVANCING);
    for seconds in 0.. {
        let lag = Duration::from_secs(if seconds % 2 == 0 { 60 } else { 0 });
        if let Sync::Known { lag: seen, .. } = &mut rig.sight.sync {
            *seen = lag;
        }
        rig.tick();
        if !matches!(rig.pair.state, State::Shifting(_)) {
            break;
        }
        let most = rig.policy.times.step_max + rig.policy.times.hold_max + Duration::from_secs(3);
        assert!(
            Duration::from_secs(seconds) < most,
            "{} after {seconds} s",
            rig.pair.state
        );
    }
}

#[test]
fn required_mirroring_validates_before_the_first_user_moves() {
    let policy = Policy {
        mirror: MirrorUse::Required,
        ..Policy::default()
    };
    let mut rig = Rig::at_with(State::Warm(Warm::Mirroring), policy);
    assert!(rig.tick().effects.contains(&Effect::Mirror { to: Arm::Shadow }));
    rig.done(&Command::Promote { full: false });
    rig.until(|pair| pair.state == State::Warm(Warm::Validating));
    rig.sight.mirror = Some(Opinion::Worse);
    rig.tick();
    assert_eq!(rig.pair.state, State::Warm(Warm::Mirroring));
    assert_eq!(rig.last_cause(), "the shadow answers mirrored requests worse");
    rig.sight.mirror = Some(Opinion::NotWorse);
    rig.done(&Command::Promote { full: false });
    rig.until(|pair| pair.state == ADVANCING);
}

#[test]
fn what_there_is_to_replicate_is_waited_for_and_what_is_unknown_is_not_taken_for_nothing() {
    let mut rig = Rig::at(State::Promoting(Promoting::CatchUp));
    rig.follows = false;
    // The replication falls silent: that is not the absence of state.
    rig.sight.sync = Sync::Nothing;
    rig.ticks(20);
    assert_eq!(rig.pair.state, State::Promoting(Promoting::CatchUp));
    rig.sight.sync = Sync::Known {
        lag: Duration::ZERO,
        verified: true,
        compatible: true,
        // Left over from another promotion.
        caught_up: Some(Term(0)),
    };
    rig.ticks(20);
    assert_eq!(rig.pair.state, State::Promoting(Promoting::CatchUp));
    if let Sync::Known { caught_up, .. } = &mut rig.sight.sync {
        *caught_up = Some(rig.pair.writer.term);
    }
    rig.tick();
    assert_eq!(rig.pair.state, State::Promoting(Promoting::Flip));
}

#[test]
fn a_promotion_that_hangs_unfences_the_old_writer() {
    let mut rig = Rig::at(State::Promoting(Promoting::Fence));
    rig.follows = false;
    rig.sight.writer = WriterSight::default();
    rig.until(|pair| pair.state == State::RollingBack(Retreat::Grant));
    assert_eq!(
        (rig.pair.writer.arm, rig.pair.writer.term),
        (Arm::Primary, Term(2))
    );
    assert_eq!(rig.pair.weights(), [BasisPoints::ALL, BasisPoints::ZERO]);
    let effects = rig.tick().effects;
    let (arm, term) = (Arm::Primary, Term(2));
    assert!(effects.contains(&Effect::Grant { arm, term }));
    rig.follows = true;
    rig.until(|pair| pair.state == State::Failed);
}

#[test]
fn undo_within_the_time_that_the_old_primary_is_kept_takes_one_step() {
    let mut rig = Rig::at(State::Committed);
    rig.ticks(60);
    let before = rig.journal.len();
    rig.done(&Command::Undo);
    rig.until(|pair| pair.state == State::Baking);
    assert_eq!(rig.pair.serving, Arm::Primary);
    let trail: Vec<String> = rig.journal[before..]
        .iter()
        .map(|made| made.to.to_string())
        .collect();
    assert_eq!(trail[1], "Shifting.Advancing");
    assert_eq!(trail[2], "Promoting.Fence");
}

#[test]
fn an_old_primary_that_is_not_wanted_as_a_shadow_retires() {
    let policy = Policy {
        old_primary: OldPrimary::Retire,
        ..Policy::default()
    };
    let mut rig = Rig::at_with(State::Committed, policy);
    rig.until(|pair| pair.state == State::Retired);
    assert_eq!(rig.last_cause(), "the old primary was kept for 30 min");
}

#[test]
fn another_placement_is_taken_while_nothing_moves() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.sight.placement = Some(name("b-standby"));
    rig.tick();
    assert_eq!(rig.pair.state, State::Provisioning);
    assert_eq!(rig.last_cause(), "b-standby is a better shadow than a-standby");
    let shadow = name("b-standby");
    assert!(
        rig.last
            .as_ref()
            .unwrap()
            .effects
            .contains(&Effect::Provision { shadow })
    );
    let mut rig = Rig::at(ADVANCING);
    rig.sight.placement = Some(name("b-standby"));
    rig.ticks(5);
    assert_eq!(rig.pair.shadow, Some(name("a-standby")));
}

#[test]
fn the_plan_follows_the_state() {
    let plan = |state| {
        let rig = Rig::at(state);
        rig.pair.plan(&rig.policy).unwrap()
    };
    let warm = plan(State::Warm(Warm::Idle));
    assert_eq!(
        (warm.directed, warm.ceiling, warm.failover),
        (None, Share::ONE, true)
    );
    let shifting = plan(ADVANCING);
    assert_eq!(
        (shifting.directed, shifting.serving),
        (Some(Share::clamped(0.01)), Arm::Primary)
    );
    let before = plan(State::Promoting(Promoting::Flip));
    let after = plan(State::Promoting(Promoting::Cutover));
    // The same users at the same arm, said from the other side.
    assert_eq!(
        (before.serving, before.directed),
        (Arm::Primary, Some(Share::ONE))
    );
    assert_eq!((after.serving, after.directed), (Arm::Shadow, Some(Share::ZERO)));
    let mut rig = Rig::at(ADVANCING);
    rig.done(&Command::Freeze);
    let frozen = rig.pair.plan(&rig.policy).unwrap();
    assert!(frozen.frozen && frozen.directed == Some(Share::clamped(0.01)));
    assert_eq!(rig.pair.round, shifting.round);
}
