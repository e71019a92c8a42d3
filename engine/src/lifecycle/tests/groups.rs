//! Groups: as one forward, in order back.
// Concept: topo-switchover

use super::super::command::{Command, Order};
use super::super::effect::Effect;
use super::super::group::{Given, Group, GroupError};
use super::super::points::BasisPoints;
use super::super::policy::Policy;
use super::super::sight::{Acks, Finding, Opinion, Sight, Sync};
use super::super::state::{Shifting, State};
use super::super::{Mode, Pair, Step, Transition};
use super::fixture::{TICK_MS, calm, id, order};

struct Rigs {
    group: Group,
    sights: Vec<Sight>,
    opinions: Vec<Opinion>,
    policy: Policy,
    now_ms: u64,
    journal: Vec<Transition>,
}

impl Rigs {
    fn new(names: &[&str]) -> Self {
        let pairs = names.iter().map(|name| Pair::new(id(name), Mode::Live)).collect();
        Self {
            group: Group::new(pairs).unwrap(),
            sights: vec![calm(); names.len()],
            opinions: vec![Opinion::NotWorse; names.len()],
            policy: Policy::default(),
            now_ms: 0,
            journal: Vec::new(),
        }
    }

    fn tick(&mut self, orders: &[Order]) -> Vec<Step> {
        self.now_ms += TICK_MS;
        let members = self
            .group
            .pairs()
            .iter()
            .zip(&mut self.sights)
            .zip(&self.opinions);
        for ((pair, sight), opinion) in members {
            sight.finding = Some(Finding {
                round: pair.round,
                opinion: *opinion,
                step_enough: *opinion == Opinion::NotWorse,
                ..Finding::default()
            });
        }
        let given: Vec<Given<'_>> = self
            .sights
            .iter()
            .enumerate()
            .map(|(index, sight)| Given {
                sight,
                orders: if index == 0 { orders } else { &[] },
                policy: &self.policy,
            })
            .collect();
        let steps = self.group.step(&given, self.now_ms);
        for (sight, step) in self.sights.iter_mut().zip(&steps) {
            follow(sight, &step.effects);
            self.journal.extend(step.transition.clone());
        }
        steps
    }

    fn until(&mut self, is_so: impl Fn(&[Pair]) -> bool) {
        for _ in 0..10_000 {
            if is_so(self.group.pairs()) {
                return;
            }
            self.tick(&[]);
        }
        let states: Vec<String> = self
            .group
            .pairs()
            .iter()
            .map(|pair| pair.state.to_string())
            .collect();
        panic!("stuck in {states:?}");
    }

    fn until_all(&mut self, state: State) {
        self.until(|pairs| pairs.iter().all(|pair| pair.state == state));
    }
}

fn follow(sight: &mut Sight, effects: &[Effect]) {
    for effect in effects {
        match effect {
            Effect::Publish { generation } => {
                sight.acks = Acks {
                    quorum: *generation,
                    all: *generation,
                };
            }
            Effect::Fence { term, .. } => {
                sight.writer.fenced = Some(*term);
                if let Sync::Known { caught_up, .. } = &mut sight.sync {
                    *caught_up = Some(*term);
                }
            }
            Effect::Grant { term, .. } => sight.writer.granted = Some(*term),
            _ => {}
        }
    }
}

fn warm(rigs: &mut Rigs) {
    rigs.until(|pairs| pairs.iter().all(|pair| matches!(pair.state, State::Warm(_))));
}

#[test]
fn one_order_moves_all_and_no_member_is_more_than_a_step_ahead() {
    let mut rigs = Rigs::new(&["a", "b", "c"]);
    warm(&mut rigs);
    rigs.tick(&[order(Command::Promote { full: false }, "go")]);
    for _ in 0..2000 {
        rigs.tick(&[]);
        let pairs = rigs.group.pairs();
        let steps: Vec<usize> = pairs
            .iter()
            .filter(|pair| matches!(pair.state, State::Shifting(_)))
            .map(|pair| pair.course.step)
            .collect();
        if let (Some(most), Some(least)) = (steps.iter().max(), steps.iter().min()) {
            assert!(most - least <= 1, "{steps:?}");
        }
        if pairs.iter().all(|pair| pair.state == State::Committed) {
            return;
        }
    }
    panic!("not committed");
}

#[test]
fn a_member_without_evidence_holds_all() {
    let mut rigs = Rigs::new(&["a", "b"]);
    rigs.opinions[1] = Opinion::Undecided;
    warm(&mut rigs);
    rigs.tick(&[order(Command::Promote { full: false }, "go")]);
    for _ in 0..300 {
        rigs.tick(&[]);
    }
    let steps: Vec<usize> = rigs.group.pairs().iter().map(|pair| pair.course.step).collect();
    assert_eq!(steps, [0, 0]);
}

#[test]
fn one_verdict_brings_all_back_and_the_last_goes_first() {
    let mut rigs = Rigs::new(&["a", "b", "c"]);
    warm(&mut rigs);
    rigs.tick(&[order(Command::Promote { full: false }, "go")]);
    rigs.until(|pairs| pairs.iter().all(|pair| pair.share >= BasisPoints::percent(10)));
    rigs.opinions[0] = Opinion::Worse;
    let from = rigs.journal.len();
    rigs.until_all(State::Failed);
    let emptied: Vec<String> = rigs.journal[from..]
        .iter()
        .filter(|made| made.before[1] > BasisPoints::ZERO && made.after[1] == BasisPoints::ZERO)
        .map(|made| made.pair.primary.to_string())
        .collect();
    assert_eq!(emptied, ["c", "b", "a"]);
    let causes: Vec<String> = rigs.journal[from..]
        .iter()
        .map(|made| made.cause.to_string())
        .collect();
    assert!(
        causes.contains(&"shop/a of the same group rolls back".to_owned()),
        "{causes:?}"
    );
}

#[test]
fn a_member_that_cannot_go_back_keeps_nobody_for_longer_than_its_deadline() {
    let mut rigs = Rigs::new(&["a", "b"]);
    warm(&mut rigs);
    rigs.tick(&[order(Command::Promote { full: false }, "go")]);
    rigs.until(|pairs| {
        pairs
            .iter()
            .all(|pair| pair.state == State::Shifting(Shifting::Advancing))
    });
    rigs.sights[1].arms[0].health = super::super::sight::ArmHealth::Sick;
    rigs.opinions[0] = Opinion::Worse;
    rigs.tick(&[]);
    let since = rigs.now_ms;
    rigs.until(|pairs| pairs[0].share == BasisPoints::ZERO);
    assert!(rigs.now_ms - since <= 12_000, "{}", rigs.now_ms - since);
}

#[test]
fn a_group_has_members_and_each_once() {
    assert_eq!(Group::new(Vec::new()), Err(GroupError::Count(0)));
    let twice = vec![Pair::new(id("a"), Mode::Live), Pair::new(id("a"), Mode::Live)];
    assert_eq!(Group::new(twice.clone()), Err(GroupError::Twice(id("a"))));
    let text = serde_json::to_string(&twice).unwrap();
    assert!(serde_json::from_str::<Group>(&text).is_err());
}
