//! Drills: the real decisions, and not a single user moved.
// Concept: region-drill

use foreshade_contract::{Arm, Risk};

use super::super::command::{Command, Outcome, Refusal};
use super::super::drill::{DrillEnd, Scenario};
use super::super::state::{State, Warm};
use super::fixture::Rig;

#[test]
fn every_scenario_is_rehearsed_to_its_end_without_touching_the_pair() {
    for scenario in [
        Scenario::PrimaryGone,
        Scenario::PrimaryAtRisk,
        Scenario::ShadowWorse,
    ] {
        let mut rig = Rig::at(State::Warm(Warm::Idle));
        let before = (rig.pair.plan(&rig.policy), rig.pair.generation, rig.pair.writer);
        rig.done(&Command::Drill { scenario });
        while rig.pair.last_drill.is_none() {
            let step = rig.tick();
            assert_eq!(
                step.effects
                    .iter()
                    .filter(|effect| format!("{effect:?}").contains("Grant"))
                    .count(),
                0
            );
            assert_eq!((step.plan, rig.pair.generation, rig.pair.writer), before);
        }
        let report = rig.pair.last_drill.clone().unwrap();
        assert_eq!(
            report.end,
            DrillEnd::Succeeded,
            "{scenario:?}: {:?}",
            report.trail
        );
        assert_eq!(report.lag_ms, Some(50));
        assert!(report.trail.len() > 2);
        assert_eq!(rig.pair.state, State::Warm(Warm::Idle));
        assert_eq!(rig.last_cause(), "the drill ended: Succeeded");
    }
}

#[test]
fn the_real_thing_interrupts_a_drill() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    rig.done(&Command::Drill {
        scenario: Scenario::PrimaryAtRisk,
    });
    rig.tick();
    rig.arm(Arm::Primary).severe = true;
    rig.tick();
    assert_eq!(rig.pair.state, State::FailedOver);
    assert_eq!(rig.pair.last_drill.as_ref().unwrap().end, DrillEnd::Interrupted);
}

#[test]
fn a_drill_that_cannot_succeed_fails_at_its_end() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    // Its own evidence would be enough, but the standby does not carry the demand.
    rig.arm(Arm::Shadow).capacity_rps = Some(100.0);
    rig.done(&Command::Drill {
        scenario: Scenario::PrimaryAtRisk,
    });
    rig.until(|pair| pair.last_drill.is_some());
    let report = rig.pair.last_drill.clone().unwrap();
    assert_eq!((report.end, report.took_ms), (DrillEnd::Failed, 1_800_000));
}

#[test]
fn one_drill_at_a_time_and_only_while_nothing_moves() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    let scenario = Scenario::PrimaryAtRisk;
    rig.done(&Command::Drill { scenario });
    assert_eq!(
        rig.order(&Command::Drill { scenario }),
        Outcome::Refused(Refusal::DrillUnderWay)
    );
    rig.done(&Command::CancelDrill);
    assert_eq!(rig.order(&Command::CancelDrill), Outcome::Unchanged);
    rig.arm(Arm::Primary).risk = Some(Risk::ONE);
    rig.until(|pair| pair.state.is_active());
    assert!(matches!(
        rig.order(&Command::Drill { scenario }),
        Outcome::Refused(_)
    ));
}
