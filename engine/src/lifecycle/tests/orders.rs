//! Orders: once each, only where they mean something, and never a surprise.
// Concept: stats-api

use foreshade_contract::{Arm, Generation};

use super::super::command::{Command, Order, Outcome, Refusal, Verb};
use super::super::health::Health;
use super::super::obey::obey;
use super::super::overrides::{Setting, What};
use super::super::points::BasisPoints;
use super::super::policy::{Gate, MirrorUse, Point, Policy};
use super::super::sight::{ArmHealth, Opinion};
use super::super::state::{Promoting, Retreat, Shifting, State, Warm};
use super::super::view::{Company, Seen};
use super::super::{Alert, Pair, Trigger};
use super::fixture::{Rig, name, order};

const ADVANCING: State = State::Shifting(Shifting::Advancing);
const PAUSED: State = State::Shifting(Shifting::Paused);

#[test]
fn an_abort_with_nothing_to_abort_changes_nothing() {
    for state in [State::Warm(Warm::Idle), State::Committed] {
        let mut rig = Rig::at(state);
        let before = (rig.pair.state, rig.pair.weights(), rig.journal.len());
        assert_eq!(rig.order(&Command::Abort), Outcome::Unchanged);
        assert_eq!((rig.pair.state, rig.pair.weights(), rig.journal.len()), before);
    }
}

#[test]
fn the_same_order_twice_is_obeyed_once_and_answered_twice() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    let freeze = order(Command::Freeze, "one");
    let first = rig.tick_with(std::slice::from_ref(&freeze)).answers;
    rig.done(&Command::Unfreeze);
    let again = rig.tick_with(&[freeze]).answers;
    assert_eq!(first, again);
    assert_eq!(rig.pair.state, State::Warm(Warm::Idle));
}

#[test]
fn an_order_that_a_step_does_not_reach_is_not_answered() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    let both = [order(Command::Freeze, "one"), order(Command::Unfreeze, "two")];
    assert_eq!(rig.tick_with(&both).answers.len(), 1);
    assert_eq!(rig.tick_with(&both).answers.len(), 2);
    assert_eq!(rig.pair.state, State::Warm(Warm::Idle));
}

#[test]
fn what_the_operator_saw_is_compared_when_the_order_is_obeyed() {
    let mut rig = Rig::at(ADVANCING);
    let seen = rig.pair.generation;
    let until_ms = rig.now_ms + 60_000;
    let set = |percent, key| {
        let setting = Setting::Share(BasisPoints::percent(percent));
        Order {
            expected: Some(seen),
            ..order(Command::Override { setting, until_ms }, key)
        }
    };
    let both = [set(33, "one"), set(50, "two")];
    assert_eq!(rig.tick_with(&both).answers[0].outcome, Outcome::Done);
    let stale = Refusal::Stale {
        expected: seen,
        current: rig.pair.generation,
    };
    assert!(rig.pair.generation > seen);
    // The first is known by its key, whatever it expects; the second was given for a share that is no longer so.
    let outcomes = rig
        .tick_with(&both)
        .answers
        .into_iter()
        .map(|answer| answer.outcome);
    assert_eq!(
        outcomes.collect::<Vec<_>>(),
        [Outcome::Done, Outcome::Refused(stale)]
    );
    assert_eq!(rig.pair.weights()[1], BasisPoints::percent(33));
    // Nothing was decided about the second, so it may come again.
    let [_, mut second] = both;
    second.expected = Some(rig.pair.generation);
    assert_eq!(rig.tick_with(&[second]).answers[0].outcome, Outcome::Done);
}

#[test]
fn an_order_needs_who_why_and_which() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    let mut nameless = order(Command::Freeze, "one");
    nameless.actor = " ".to_owned();
    let answers = rig.tick_with(&[nameless]).answers;
    assert_eq!(answers[0].outcome, Outcome::Refused(Refusal::Incomplete));
    assert_eq!(rig.pair.state, State::Warm(Warm::Idle));
}

#[test]
fn an_abort_goes_back_from_every_active_state_and_again_is_no_mistake() {
    let active = [
        ADVANCING,
        State::Promoting(Promoting::Fence),
        State::Promoting(Promoting::CatchUp),
        State::Promoting(Promoting::Flip),
        State::Promoting(Promoting::Cutover),
        State::Baking,
    ];
    for state in active {
        let mut rig = Rig::at(state);
        rig.done(&Command::Abort);
        assert!(matches!(rig.pair.state, State::RollingBack(_)), "{state}");
        assert_eq!(rig.order(&Command::Abort), Outcome::Unchanged, "{state}");
        rig.until(|pair| pair.state == State::Failed);
        assert_eq!(rig.pair.weights(), [BasisPoints::ALL, BasisPoints::ZERO]);
        assert_eq!(rig.pair.writer.arm, Arm::Primary);
    }
}

#[test]
fn a_pause_stops_the_share_and_ends_by_itself() {
    let mut rig = Rig::at(ADVANCING);
    rig.done(&Command::Pause);
    let share = rig.pair.share;
    assert_eq!((rig.pair.state, rig.pair.health()), (PAUSED, Health::Paused));
    rig.ticks(600);
    assert_eq!((rig.pair.state, rig.pair.share), (PAUSED, share));
    rig.until(|pair| pair.state != PAUSED);

    let mut rig = Rig::at(State::Baking);
    rig.done(&Command::Pause);
    let since = rig.now_ms;
    rig.until(|pair| pair.suspended.is_none());
    assert_eq!((rig.now_ms - since) / 60_000, 60);
    assert_eq!(rig.last_cause(), "the pause ended by itself");
    assert_eq!(rig.pair.state, State::Baking);
}

#[test]
fn nothing_is_stopped_while_nobody_may_write() {
    let mut rig = Rig::at(State::Promoting(Promoting::CatchUp));
    rig.follows = false;
    for command in [Command::Pause, Command::Freeze] {
        assert_eq!(rig.order(&command), Outcome::Refused(Refusal::WriterStopped));
    }
}

#[test]
fn a_promotion_can_skip_evidence_but_not_guards() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.opinion = None;
    rig.done(&Command::Promote { full: true });
    rig.until(|pair| pair.state == State::Baking);
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.arm(Arm::Shadow).capacity_rps = Some(120.0);
    rig.done(&Command::Promote { full: true });
    rig.until(|pair| pair.state == State::Shifting(Shifting::Holding));
    assert_eq!(rig.pair.share, BasisPoints::percent(10));
    assert_eq!(
        rig.last_cause(),
        "held: the shadow carries 120 requests/s and would need 125"
    );
}

#[test]
fn a_second_promote_waives_the_evidence_of_one_step() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.opinion = None;
    rig.done(&Command::Promote { full: false });
    rig.until(|pair| pair.state == ADVANCING);
    rig.done(&Command::Promote { full: false });
    rig.until(|pair| pair.course.step == 1);
    assert_eq!(rig.last_cause(), "an operator goes on without evidence");
    rig.ticks(60);
    assert_eq!(rig.pair.course.step, 1);
}

#[test]
fn a_freeze_lasts_until_somebody_says_so_and_goes_on_where_it_was() {
    let mut rig = Rig::at(State::Baking);
    rig.done(&Command::Freeze);
    rig.ticks(10_000);
    assert_eq!(
        (rig.pair.state, rig.pair.health()),
        (State::Frozen, Health::Degraded)
    );
    assert_eq!(
        rig.order(&Command::Promote { full: false }),
        Outcome::Refused(Refusal::WrongState {
            verb: Verb::Promote,
            state: State::Frozen
        })
    );
    rig.done(&Command::Unfreeze);
    assert_eq!(rig.pair.state, State::Baking);
    rig.done(&Command::Freeze);
    rig.done(&Command::Abort);
    rig.until(|pair| pair.state == State::Failed);
}

#[test]
fn a_retry_skips_the_rest() {
    let mut rig = Rig::at(ADVANCING);
    rig.done(&Command::Abort);
    rig.until(|pair| pair.state == State::Failed);
    rig.done(&Command::Retry);
    rig.ticks(5);
    assert_eq!(rig.pair.state, State::Warm(Warm::Idle));
    assert_eq!(rig.order(&Command::Retry), Outcome::Unchanged);
}

#[test]
fn gates_are_asked_at_their_point_and_answered_by_name() {
    let gate = |text, point| Gate {
        name: name(text),
        point,
    };
    let policy = Policy {
        gates: vec![gate("change", Point::Shift), gate("qa", Point::Promote)],
        ..Policy::default()
    };
    let mut rig = Rig::at_with(State::Warm(Warm::Idle), policy);
    rig.done(&Command::Promote { full: true });
    rig.ticks(10);
    assert_eq!(rig.pair.state, State::Warm(Warm::Idle));
    let unknown = rig.order(&Command::Approve { gate: name("qa2") });
    assert_eq!(unknown, Outcome::Refused(Refusal::UnknownGate(name("qa2"))));
    rig.done(&Command::Approve { gate: name("change") });
    rig.until(|pair| pair.share == BasisPoints::ALL);
    rig.done(&Command::Deny { gate: name("qa") });
    rig.until(|pair| pair.state == State::Shifting(Shifting::Holding));
    assert_eq!(rig.last_cause(), "held: gate qa was denied");
    rig.done(&Command::Approve { gate: name("qa") });
    rig.until(|pair| pair.state == State::Baking);
}

#[test]
fn what_was_asked_about_one_rollout_is_asked_anew_about_the_next() {
    let gates = vec![Gate {
        name: name("change"),
        point: Point::Shift,
    }];
    let policy = Policy {
        gates,
        ..Policy::default()
    };
    let promote = |full| Command::Promote { full };
    let mut rig = Rig::at_with(State::Warm(Warm::Idle), policy);
    let mut seen = vec![rig.pair.generation];
    for command in [promote(false), Command::Abort, promote(false), promote(true)] {
        rig.done(&command);
        seen.push(rig.pair.generation);
    }
    // Dropped by time.
    rig.until(|pair| pair.course.trigger.is_none());
    seen.push(rig.pair.generation);
    assert!(seen.is_sorted_by(|before, after| before < after), "{seen:?}");
    // What changes nothing is no news, and the next one waits for nobody but its gate.
    rig.done(&promote(false));
    let generation = rig.pair.generation;
    assert_eq!(rig.order(&promote(false)), Outcome::Unchanged);
    rig.ticks(5);
    assert_eq!(rig.pair.generation, generation);
    rig.done(&Command::Approve { gate: name("change") });
    rig.until(|pair| pair.state == ADVANCING);
}

#[test]
fn what_was_ordered_and_has_not_begun_is_under_way_or_waits_for_somebody() {
    let gates = vec![Gate {
        name: name("change"),
        point: Point::Shift,
    }];
    let gated = Policy {
        gates,
        ..Policy::default()
    };
    let health = |rig: &mut Rig| rig.tick().health;
    let mut rig = Rig::at_with(State::Warm(Warm::Idle), gated);
    assert_eq!(health(&mut rig), Health::Healthy);
    rig.done(&Command::Promote { full: false });
    assert_eq!(rig.pair.health(), Health::Progressing);
    assert_eq!(health(&mut rig), Health::Paused);
    rig.done(&Command::Abort);
    assert_eq!(health(&mut rig), Health::Healthy);
    // The same without anybody to wait for.
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.arm(Arm::Shadow).capacity_rps = Some(0.1);
    rig.done(&Command::Promote { full: false });
    assert_eq!(health(&mut rig), Health::Progressing);
}

#[test]
fn an_order_is_under_way_before_there_is_a_shadow() {
    let mut rig = Rig::new(Policy {
        always_warm: false,
        ..Policy::default()
    });
    rig.sight.placement = None;
    assert_eq!(rig.tick().health, Health::Healthy);
    rig.done(&Command::Promote { full: false });
    assert_eq!(rig.pair.state, State::Unassigned);
    assert_eq!(rig.tick().health, Health::Progressing);
}

#[test]
fn an_order_that_is_given_up_is_no_success_until_it_is_given_again_or_aborted() {
    let gates = vec![Gate {
        name: name("change"),
        point: Point::Shift,
    }];
    let policy = Policy {
        gates,
        ..Policy::default()
    };
    let promote = Command::Promote { full: false };
    let given_up = (Some(Alert::GivenUp), Health::Degraded);
    let told = |rig: &mut Rig| {
        let health = rig.tick().health;
        (rig.pair.alert, health)
    };
    let mut rig = Rig::at_with(State::Warm(Warm::Idle), policy);
    rig.done(&promote);
    rig.until(|pair| pair.course.trigger.is_none());
    assert_eq!(
        (rig.pair.state, told(&mut rig)),
        (State::Warm(Warm::Idle), given_up)
    );
    rig.ticks(600);
    assert_eq!(told(&mut rig), given_up);
    // Also where the shadow has to be brought in sync meanwhile.
    rig.arm(Arm::Shadow).health = ArmHealth::Sick;
    rig.until(|pair| pair.state == State::Syncing);
    assert_eq!(told(&mut rig), given_up);
    rig.arm(Arm::Shadow).health = ArmHealth::Well;
    rig.until(|pair| pair.state == State::Warm(Warm::Idle));
    rig.done(&promote);
    assert_eq!(told(&mut rig), (None, Health::Paused));
    rig.until(|pair| pair.course.trigger.is_none());
    rig.done(&Command::Abort);
    assert_eq!(told(&mut rig), (None, Health::Healthy));
    assert_eq!(rig.order(&Command::Abort), Outcome::Unchanged);

    // What copies of requests have shown to be worse is not promoted either.
    let mut rig = Rig::at_with(
        State::Warm(Warm::Mirroring),
        Policy {
            mirror: MirrorUse::Required,
            ..Policy::default()
        },
    );
    rig.done(&promote);
    rig.until(|pair| pair.state == State::Warm(Warm::Validating));
    rig.sight.mirror = Some(Opinion::Worse);
    rig.tick();
    assert_eq!(told(&mut rig), given_up);

    // Nor is what cannot be undone any more.
    let mut rig = Rig::at(State::Committed);
    rig.arm(Arm::Primary).health = ArmHealth::Sick;
    rig.done(&Command::Undo);
    rig.until(|pair| pair.state == State::Syncing);
    assert_eq!(told(&mut rig), given_up);
}

#[test]
fn an_overridden_share_is_what_the_proxies_are_told_until_it_ends() {
    let mut rig = Rig::at(ADVANCING);
    let setting = Setting::Share(BasisPoints::percent(33));
    let until_ms = rig.now_ms + 30_000;
    rig.done(&Command::Override { setting, until_ms });
    assert_eq!(rig.pair.state, PAUSED);
    assert_eq!(rig.pair.weights()[1], BasisPoints::percent(33));
    let generation = rig.pair.generation;
    rig.until(|pair| pair.overrides.share().is_none());
    assert_eq!(rig.now_ms, until_ms);
    assert_eq!(rig.last_cause(), "the override of the share ended");
    assert!(rig.pair.generation > generation);
    assert_eq!(rig.pair.weights()[1], BasisPoints::percent(1));
    let what = What::Share;
    assert_eq!(rig.order(&Command::ClearOverride { what }), Outcome::Unchanged);
    let until_ms = rig.now_ms;
    let late = rig.order(&Command::Override { setting, until_ms });
    assert_eq!(late, Outcome::Refused(Refusal::Until));
}

#[test]
fn an_overridden_risk_begins_a_shift() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    let setting = Setting::Risk(BasisPoints::percent(50));
    let until_ms = rig.now_ms + 3_600_000;
    rig.done(&Command::Override { setting, until_ms });
    rig.until(|pair| pair.state == ADVANCING);
    assert_eq!(rig.last_cause(), "risk 0.50 is at or above 0.35");
}

fn to(serving: Arm) -> Command {
    let generation = Generation(7);
    Command::UndoTo { generation, serving }
}

#[test]
fn an_undo_to_an_arm_stops_what_leads_away_from_it_and_nothing_else() {
    let leading_away = [
        ADVANCING,
        State::Promoting(Promoting::Fence),
        State::Promoting(Promoting::CatchUp),
        State::Promoting(Promoting::Flip),
        State::Promoting(Promoting::Cutover),
        State::Baking,
    ];
    for state in leading_away {
        let mut rig = Rig::at(state);
        assert_eq!(rig.order(&to(Arm::Shadow)), Outcome::Unchanged, "{state}");
        assert!(!matches!(rig.pair.state, State::RollingBack(_)), "{state}");
        let mut rig = Rig::at(state);
        rig.done(&to(Arm::Primary));
        assert!(matches!(rig.pair.state, State::RollingBack(_)), "{state}");
    }
}

#[test]
fn an_undo_to_an_arm_takes_back_what_only_waits_to_lead_away_from_it() {
    let trigger = |pair: &Pair| pair.course.trigger;
    let mut warm_again = Rig::at(State::Committed);
    warm_again.until(|pair| matches!(pair.state, State::Warm(_)));
    let mut syncing = Rig::new(Policy::default());
    syncing.until(|pair| pair.state == State::Syncing);
    let cases = [
        (Rig::at(State::Warm(Warm::Idle)), Arm::Primary, Trigger::Rollout),
        (syncing, Arm::Primary, Trigger::Rollout),
        (warm_again, Arm::Shadow, Trigger::Rollout),
        (Rig::at(State::Committed), Arm::Shadow, Trigger::Undo),
    ];
    for (mut rig, serving, wanted) in cases {
        let state = rig.pair.state;
        assert_eq!(rig.pair.serving, serving, "{state}");
        assert_eq!(rig.order(&to(serving)), Outcome::Unchanged, "{state}");
        rig.done(&to(serving.other()));
        assert_eq!(trigger(&rig.pair), Some(wanted), "{state}");
        rig.done(&to(serving));
        assert_eq!((trigger(&rig.pair), rig.pair.serving), (None, serving), "{state}");
    }
}

#[test]
fn an_undo_to_an_arm_is_refused_where_nobody_can_say_what_it_means() {
    let elsewhere = [
        State::Unassigned,
        State::Provisioning,
        State::RollingBack(Retreat::Fence),
        State::RollingBack(Retreat::CatchUp),
        State::RollingBack(Retreat::Grant),
        State::RollingBack(Retreat::Weights),
        State::FailedOver,
        State::Failed,
        State::Frozen,
        State::Retired,
    ];
    let rig = Rig::at(ADVANCING);
    for (state, serving) in elsewhere
        .into_iter()
        .flat_map(|state| Arm::ALL.map(|arm| (state, arm)))
    {
        let mut pair = rig.pair.clone();
        pair.state = state;
        let seen = Seen {
            sight: &rig.sight,
            policy: &rig.policy,
            now_ms: rig.now_ms,
            company: Company::default(),
        };
        let verb = Verb::Undo;
        assert_eq!(
            obey(&mut pair, &order(to(serving), "one"), seen),
            Err(Refusal::WrongState { verb, state })
        );
    }
}
