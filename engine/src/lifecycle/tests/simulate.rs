//! Simulations: what would happen is what does happen, and asking changes nothing.

use std::time::Duration;

use super::super::command::{Command, Outcome};
use super::super::drill::Scenario;
use super::super::policy::{Gate, Point, Policy};
use super::super::sight::Opinion;
use super::super::simulate::{Foretold, Question, STEPS_MAX, Suppose, TOLD_MAX, foretell};
use super::super::state::{Shifting, State, Warm};
use super::fixture::{Rig, name};

impl Rig {
    fn foretold(&self, suppose: Suppose, order: Option<Command>, within_s: u64) -> Foretold {
        let question = Question {
            suppose,
            order,
            within: Duration::from_secs(within_s),
        };
        foretell(&self.pair, &self.sight, &self.policy, self.now_ms, &question)
    }
}

fn states(foretold: &Foretold) -> Vec<State> {
    foretold.told.iter().map(|(_, made)| made.to).collect()
}

#[test]
fn a_promotion_that_is_foretold_goes_as_it_is_foretold() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    let before = rig.pair.clone();
    let promote = Command::Promote { full: false };
    let foretold = rig.foretold(Suppose::ShadowProven, Some(promote.clone()), 3600);
    assert_eq!(rig.pair, before);
    assert_eq!(foretold.answer, Some(Outcome::Done));
    assert!(
        states(&foretold).contains(&State::Committed),
        "{:?}",
        states(&foretold)
    );

    rig.opinion = Some(Opinion::NotWorse);
    let begun = rig.journal.len();
    rig.done(&promote);
    rig.until(|pair| pair.state == State::Committed);
    let went: Vec<State> = rig.journal[begun..].iter().map(|made| made.to).collect();
    let same = states(&foretold);
    let committed = same.iter().position(|state| *state == State::Committed).unwrap();
    assert_eq!(same[..=committed], went[..]);
}

#[test]
fn what_is_supposed_decides_what_is_foretold() {
    let rig = Rig::at(State::Warm(Warm::Idle));
    let calm = rig.foretold(Suppose::AsNow, None, 600);
    assert_eq!(
        (states(&calm), calm.pair.state),
        (vec![], State::Warm(Warm::Idle))
    );
    let gone = rig.foretold(Suppose::Failure(Scenario::PrimaryGone), None, 600);
    assert_eq!(states(&gone).first(), Some(&State::FailedOver));
    assert_eq!(gone.told[0].0, Duration::ZERO);
    let worse = rig.foretold(Suppose::Failure(Scenario::ShadowWorse), None, 600);
    assert!(states(&worse).contains(&State::Failed), "{:?}", states(&worse));
}

#[test]
fn a_quiet_pair_is_not_foretold_to_commit_and_a_busy_one_is() {
    let mut rig = Rig::at(State::Warm(Warm::Idle));
    let promote = Command::Promote { full: true };
    let committed = |rig: &Rig| {
        let foretold = rig.foretold(Suppose::AsNow, Some(promote.clone()), 7200);
        let went = states(&foretold);
        assert!(went.contains(&State::Baking), "{went:?}");
        went.contains(&State::Committed)
    };
    assert!(committed(&rig));
    rig.sight.demand_rps = 0.01;
    assert!(!committed(&rig));
    // As it goes.
    rig.opinion = None;
    rig.sight.bake.requests = 0;
    rig.done(&promote);
    rig.until(|pair| pair.state == State::Baking);
    rig.until(|pair| pair.state != State::Baking);
    assert!(
        matches!(rig.pair.state, State::RollingBack(_)),
        "{}",
        rig.pair.state
    );
}

#[test]
fn a_gate_that_nobody_has_opened_stands_in_the_way() {
    let gates = vec![Gate {
        name: name("qa"),
        point: Point::Shift,
    }];
    let policy = Policy {
        gates,
        ..Policy::default()
    };
    let rig = Rig::at_with(State::Warm(Warm::Idle), policy);
    let foretold = rig.foretold(Suppose::ShadowProven, Some(Command::Promote { full: false }), 60);
    assert_eq!(foretold.pair.state, State::Warm(Warm::Idle));
    assert!(
        foretold
            .waiting
            .iter()
            .any(|obstacle| obstacle.to_string().contains("qa")),
        "{:?}",
        foretold.waiting
    );
}

#[test]
fn an_order_that_would_be_refused_is_refused_here() {
    let rig = Rig::at(State::Shifting(Shifting::Advancing));
    let drill = Command::Drill {
        scenario: Scenario::PrimaryGone,
    };
    let foretold = rig.foretold(Suppose::AsNow, Some(drill), 0);
    assert!(
        matches!(foretold.answer, Some(Outcome::Refused(_))),
        "{foretold:?}"
    );
    assert_eq!(foretold.looked, Duration::ZERO);
}

#[test]
fn it_ends_however_far_it_is_to_look() {
    let rig = Rig::at(State::Warm(Warm::Idle));
    let far = rig.foretold(Suppose::AsNow, None, u64::MAX / 2);
    assert_eq!(
        far.looked,
        rig.policy.times.tick_max * u32::try_from(STEPS_MAX).unwrap()
    );
    let circles = rig.foretold(Suppose::Failure(Scenario::ShadowWorse), None, u64::MAX / 2);
    assert!(circles.told.len() <= TOLD_MAX);
}
