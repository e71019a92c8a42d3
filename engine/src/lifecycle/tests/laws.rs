//! The laws that hold in many states: the severe lane, the rollback guard, deadlines, time, turns, the epoch.
// Concept: endpoint-failover, region-failover

use std::time::Duration;

use foreshade_contract::{Arm, Epoch, Generation, Risk};

use super::super::command::Command;
use super::super::health::Health;
use super::super::overrides::Setting;
use super::super::points::BasisPoints;
use super::super::policy::{Gate, Point, Policy, RollbackPolicy, SyncPolicy};
use super::super::safety::SafetyRule;
use super::super::sight::{ArmHealth, Finding, Opinion, Sync, Votes};
use super::super::state::{Promoting, Shifting, State, Warm};
use super::super::{Alert, Mode, Pair};
use super::fixture::{Rig, calm, id, name, order};

const ADVANCING: State = State::Shifting(Shifting::Advancing);
const HOLDING: State = State::Shifting(Shifting::Holding);

/// Every state in which users or the writer are on their way.
const ACTIVE: [State; 6] = [
    ADVANCING,
    State::Promoting(Promoting::Fence),
    State::Promoting(Promoting::CatchUp),
    State::Promoting(Promoting::Flip),
    State::Promoting(Promoting::Cutover),
    State::Baking,
];

#[test]
fn users_leave_a_standby_that_is_gone_in_one_tick_from_every_active_state() {
    for state in ACTIVE {
        let mut rig = Rig::at(state);
        rig.arm(Arm::Shadow).severe = true;
        rig.tick();
        let left = matches!(rig.pair.state, State::RollingBack(_) | State::FailedOver);
        assert!(left, "{state} -> {}", rig.pair.state);
        rig.until(|pair| matches!(pair.state, State::Failed | State::Baking));
        assert_eq!(
            rig.pair.weights(),
            [BasisPoints::ALL, BasisPoints::ZERO],
            "{state}"
        );
        assert_eq!(rig.pair.writer.arm, Arm::Primary, "{state}");
    }
}

#[test]
fn users_leave_a_primary_that_is_gone_in_one_tick_while_the_shadow_is_ready() {
    let ready = [
        State::Warm(Warm::Idle),
        ADVANCING,
        State::Promoting(Promoting::CatchUp),
    ];
    for state in ready {
        let mut rig = Rig::at(state);
        rig.arm(Arm::Primary).down = Votes { down: 2, of: 3 };
        rig.tick();
        assert_eq!(rig.pair.state, State::FailedOver, "{state}");
        assert_eq!(rig.last_cause(), "2 of 3 proxies take the primary for dead");
        assert_eq!(rig.pair.weights(), [BasisPoints::ZERO, BasisPoints::ALL]);
        assert_eq!(rig.pair.loss_bound_ms, Some(50));
        // The old copy is out of date: nothing goes back to it by itself.
        assert!(rig.pair.ponr && rig.pair.rollback_target.is_none());
        rig.arm(Arm::Primary).down = Votes { down: 0, of: 3 };
        rig.until(|pair| pair.state == State::Committed);
        assert_eq!(rig.pair.serving, Arm::Shadow);
    }
}

#[test]
fn one_proxy_that_is_cut_off_moves_nobody() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.arm(Arm::Primary).down = Votes { down: 1, of: 3 };
    rig.ticks(30);
    assert_eq!(rig.pair.state, State::Warm(Warm::Idle));
}

#[test]
fn the_severe_lane_is_open_in_a_pause_shut_in_a_freeze_and_where_an_operator_waives_it() {
    let gone = |prepare: fn(&mut Rig)| {
        let mut rig = Rig::at(ADVANCING);
        prepare(&mut rig);
        rig.arm(Arm::Primary).severe = true;
        rig.ticks(3);
        rig.pair.state
    };
    assert_ne!(
        gone(|rig| rig.done(&Command::Pause)),
        State::Shifting(Shifting::Paused)
    );
    assert_eq!(gone(|rig| rig.done(&Command::Freeze)), State::Frozen);
    let waived = gone(|rig| {
        let setting = Setting::Safety(SafetyRule::SevereLane);
        let until_ms = rig.now_ms + 60_000;
        rig.done(&Command::Override { setting, until_ms });
    });
    assert_eq!(waived, ADVANCING);
}

#[test]
fn a_verdict_rolls_back_while_a_gate_is_waited_for() {
    let policy = Policy {
        gates: vec![Gate {
            name: name("qa"),
            point: Point::Increase,
        }],
        ..Policy::default()
    };
    let mut rig = Rig::at_with(HOLDING, policy);
    assert_eq!(rig.last_cause(), "held: gate qa is closed");
    rig.opinion = Some(Opinion::Worse);
    rig.tick();
    assert_eq!(
        rig.last_cause(),
        "the shadow is worse (E worse 120.0, E not worse 0.50)"
    );
    rig.until(|pair| pair.state == State::Failed);
    assert_eq!(rig.pair.weights(), [BasisPoints::ALL, BasisPoints::ZERO]);
}

#[test]
fn what_was_found_in_another_round_is_no_evidence() {
    let mut rig = Rig::at(ADVANCING);
    rig.opinion = None;
    let stale = Finding {
        round: rig.pair.round,
        opinion: Opinion::Worse,
        ..Finding::default()
    };
    rig.pair.round = rig.pair.round.next();
    rig.sight.finding = Some(stale);
    let step = rig.pair.step(&rig.sight, &[], &rig.policy, rig.now_ms + 1);
    assert_eq!(step.pair.state, ADVANCING);
}

#[test]
fn a_rollback_onto_a_sick_primary_is_blocked_and_ends_frozen_where_users_are() {
    let mut rig = Rig::at(ADVANCING);
    rig.arm(Arm::Primary).health = ArmHealth::Sick;
    rig.opinion = Some(Opinion::Worse);
    rig.tick();
    assert_eq!(rig.pair.alert, Some(Alert::RollbackBlocked));
    assert_eq!(rig.last_cause(), "going back is blocked: the primary is sick");
    let share = rig.pair.share;
    rig.until(|pair| pair.state == State::Frozen);
    assert_eq!(rig.pair.share, share);
    assert_eq!(rig.pair.health(), Health::Degraded);
}

#[test]
fn a_primary_that_carries_a_part_gets_that_part_and_more_as_it_can() {
    let mut rig = Rig::at(State::Promoting(Promoting::Fence));
    rig.arm(Arm::Primary).capacity_rps = Some(200.0);
    rig.done(&Command::Abort);
    assert_eq!(rig.pair.share, BasisPoints::percent(60));
    rig.arm(Arm::Primary).capacity_rps = Some(400.0);
    rig.until(|pair| pair.share == BasisPoints::percent(20));
    rig.arm(Arm::Primary).capacity_rps = Some(600.0);
    rig.until(|pair| pair.state == State::Failed);
    assert_eq!(rig.pair.share, BasisPoints::ZERO);
}

#[test]
fn past_the_point_of_no_return_nothing_goes_back_to_old_data() {
    let policy = Policy {
        sync: SyncPolicy {
            reverse: false,
            ..Policy::default().sync
        },
        ..Policy::default()
    };
    let mut rig = Rig::at_with(State::Baking, policy);
    assert!(rig.pair.ponr);
    rig.sight.bake.alarm = true;
    rig.tick();
    assert_eq!(rig.pair.state, State::Frozen);
    assert_eq!(
        rig.last_cause(),
        "past the point of no return, there is nothing to go back to"
    );
    assert_eq!(rig.pair.weights(), [BasisPoints::ZERO, BasisPoints::ALL]);
    // The proxies do not either.
    let plan = rig.pair.plan(&rig.policy).unwrap();
    assert!(plan.frozen && !plan.failover);
}

#[test]
fn an_alarm_while_baking_brings_the_writer_back_before_the_users() {
    let mut rig = Rig::at(State::Baking);
    rig.sight.bake.alarm = true;
    let from = rig.journal.len();
    rig.until(|pair| pair.state == State::Failed);
    let made: Vec<(String, BasisPoints)> = rig.journal[from..]
        .iter()
        .map(|made| (made.to.to_string(), made.after[0]))
        .collect();
    let states: Vec<&str> = made.iter().map(|(state, _)| state.as_str()).collect();
    assert_eq!(
        states,
        [
            "RollingBack.Fence",
            "RollingBack.CatchUp",
            "RollingBack.Grant",
            "RollingBack.Weights",
            "Failed"
        ]
    );
    assert_eq!((made[2].1, made[3].1), (BasisPoints::ZERO, BasisPoints::ALL));
    assert_eq!(
        (rig.pair.writer.arm, rig.pair.serving),
        (Arm::Primary, Arm::Primary)
    );
}

#[test]
fn the_policy_may_freeze_or_call_somebody_instead() {
    let policy = |rollback| Policy {
        rollback,
        ..Policy::default()
    };
    let mut rig = Rig::at_with(ADVANCING, policy(RollbackPolicy::Freeze));
    rig.opinion = Some(Opinion::Worse);
    rig.tick();
    assert_eq!(rig.pair.state, State::Frozen);
    let mut rig = Rig::at_with(ADVANCING, policy(RollbackPolicy::Manual));
    rig.opinion = Some(Opinion::Worse);
    rig.ticks(2);
    assert_eq!((rig.pair.state, rig.pair.alert), (HOLDING, Some(Alert::Verdict)));
    rig.done(&Command::Abort);
    rig.until(|pair| pair.state == State::Failed);
}

#[test]
fn failures_rest_twice_as_long_each_time_and_a_commit_forgives() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    let mut rests = Vec::new();
    for _ in 0..3 {
        rig.done(&Command::Promote { full: false });
        rig.until(|pair| pair.state == ADVANCING);
        rig.done(&Command::Abort);
        rig.until(|pair| pair.state == State::Failed);
        let since = rig.now_ms;
        rig.until(|pair| pair.state == State::Warm(Warm::Idle));
        rests.push((rig.now_ms - since) / 300_000);
    }
    assert_eq!(rests, [1, 2, 4]);
    rig.done(&Command::Promote { full: true });
    rig.until(|pair| pair.state == State::Committed);
    assert_eq!(rig.pair.flap.failures(), 0);
}

#[test]
fn a_risk_that_comes_and_goes_is_followed_less_and_less() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    let mut shifts = Vec::new();
    // Two minutes of it, two minutes without.
    for second in 0u64..7200 {
        let risk = if second % 240 < 120 { 0.5 } else { 0.0 };
        rig.arm(Arm::Primary).risk = Some(Risk::clamped(risk));
        rig.opinion = Some(Opinion::Undecided);
        rig.tick();
        let began = rig
            .journal
            .last()
            .is_some_and(|made| made.at_ms == rig.now_ms && made.to == ADVANCING);
        if began {
            shifts.push(second / 240);
        }
    }
    assert!(shifts.len() <= 8, "{shifts:?}");
    let first: Vec<u64> = shifts.iter().take(3).copied().collect();
    assert_eq!(first, [0, 1, 2]);
}

#[test]
fn endpoints_that_die_in_turns_are_frozen_after_three_changes() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.sight.sync = Sync::Nothing;
    rig.pair.writer.stateful = false;
    for turn in 0..20 {
        let [dead, well] = if turn % 2 == 0 {
            Arm::ALL
        } else {
            [Arm::Shadow, Arm::Primary]
        };
        rig.arm(dead).severe = true;
        rig.arm(well).severe = false;
        rig.ticks(20);
    }
    assert_eq!(rig.pair.state, State::Frozen);
    let changed = rig
        .journal
        .iter()
        .filter(|made| made.to == State::FailedOver)
        .count();
    assert_eq!(changed, 3);
    assert!(
        rig.journal
            .iter()
            .any(|made| made.cause.to_string().starts_with("the roles changed 3 times"))
    );
}

#[test]
fn a_clock_that_jumps_neither_fires_nor_stretches_a_deadline() {
    let mut rig = Rig::at(ADVANCING);
    rig.opinion = None;
    let on_step = rig.pair.course.on_step;
    rig.now_ms += 24 * 3_600_000;
    rig.tick();
    assert_eq!(rig.pair.state, ADVANCING);
    rig.now_ms -= 48 * 3_600_000;
    rig.tick();
    assert_eq!(rig.pair.course.on_step, on_step + Duration::from_secs(1));
    let since = rig.now_ms;
    rig.until(|pair| pair.state == HOLDING);
    let took = Duration::from_millis(rig.now_ms - since);
    assert!(
        rig.policy.times.step_max - took <= Duration::from_secs(2),
        "{took:?}"
    );
}

#[test]
fn a_controller_of_an_old_epoch_changes_nothing() {
    let mut rig = Rig::at(ADVANCING);
    rig.sight.epoch = Epoch(2);
    rig.tick();
    let before = rig.pair.clone();
    rig.sight.epoch = Epoch(1);
    rig.arm(Arm::Primary).severe = true;
    let step = rig.tick_with(&[order(Command::Abort, "late")]);
    assert!(step.deposed && step.effects.is_empty() && step.answers.is_empty());
    assert_eq!(step.pair, before);
}

#[test]
fn nothing_goes_on_before_the_proxies_have_followed() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.done(&Command::Promote { full: true });
    rig.until(|pair| pair.state == ADVANCING);
    rig.follows = false;
    rig.sight.acks.quorum = Generation(rig.pair.generation.0 - 1);
    rig.ticks(60);
    assert_eq!((rig.pair.state, rig.pair.course.step), (ADVANCING, 0));
    assert!(
        rig.last.as_ref().unwrap().waiting[0]
            .to_string()
            .starts_with("the proxies follow generation")
    );
}

#[test]
fn a_blocked_window_stops_what_is_planned_and_not_what_protects() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.sight.blocked = Some("black-friday".to_owned());
    rig.done(&Command::Promote { full: false });
    rig.ticks(60);
    assert_eq!(rig.pair.state, State::Warm(Warm::Idle));
    let waiting = &rig.last.as_ref().unwrap().waiting;
    assert_eq!(waiting[0].to_string(), "blocked by the window black-friday");
    rig.arm(Arm::Primary).severe = true;
    rig.tick();
    assert_eq!(rig.pair.state, State::FailedOver);
}

#[test]
fn an_order_that_waits_too_long_is_dropped() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.sight.blocked = Some("night".to_owned());
    rig.done(&Command::Promote { full: false });
    rig.until(|pair| pair.course.trigger.is_none());
    assert_eq!(rig.last_cause(), "nothing was decided within 30 min");
}

#[test]
fn each_safety_rule_forbids_a_change_and_can_be_waived_by_name() {
    let refused = |prepare: fn(&mut Rig), percent: u16| {
        let mut rig = Rig::at(State::Warm(Warm::Idle));
        rig.follows = false;
        prepare(&mut rig);
        let until_ms = rig.now_ms + 60_000;
        let setting = Setting::Share(BasisPoints::percent(percent));
        format!("{:?}", rig.order(&Command::Override { setting, until_ms }))
    };
    assert_eq!(refused(|_| {}, 40), "Done");
    assert!(refused(|_| {}, 60).contains("Delta"));
    assert!(refused(|rig| rig.arm(Arm::Shadow).capacity_rps = Some(100.0), 40).contains("Capacity"));
    assert!(refused(|rig| rig.arm(Arm::Shadow).health = ArmHealth::Unknown, 51).contains("HealthyFloor"));
    let draining: fn(&mut Rig) = |rig| {
        for arm in Arm::ALL {
            rig.arm(arm).health = ArmHealth::Draining;
        }
    };
    assert!(refused(draining, 10).contains("BothDraining"));
    let waived: fn(&mut Rig) = |rig| {
        let setting = Setting::Safety(SafetyRule::Delta);
        let until_ms = rig.now_ms + 60_000;
        rig.done(&Command::Override { setting, until_ms });
    };
    assert_eq!(refused(waived, 60), "Done");
}

#[test]
fn a_dry_run_decides_everything_and_sends_nothing() {
    let mut live = Rig::new(Policy::default());
    let mut dry = Rig::new(Policy::default());
    dry.pair = Pair::new(id("a"), Mode::DryRun);
    dry.follows = false;
    for rig in [&mut live, &mut dry] {
        rig.opinion = Some(Opinion::NotWorse);
        rig.until(|pair| matches!(pair.state, State::Warm(_)));
        rig.arm(Arm::Primary).risk = Some(Risk::clamped(0.5));
        rig.until(|pair| pair.state == State::Baking);
    }
    assert_eq!(dry.trail(), live.trail());
    let step = dry.tick();
    assert_eq!(step.effects, []);
    assert_eq!(step.plan.unwrap().directed, None);
}

#[test]
fn the_sight_of_nothing_is_no_reason_for_anything() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    let nothing = super::super::sight::Sight {
        epoch: Epoch(1),
        placement: calm().placement,
        ..super::super::sight::Sight::default()
    };
    rig.sight = nothing;
    rig.follows = false;
    rig.ticks(120);
    assert!(!rig.pair.state.is_active(), "{}", rig.pair.state);
    assert_eq!(rig.pair.weights(), [BasisPoints::ALL, BasisPoints::ZERO]);
}
