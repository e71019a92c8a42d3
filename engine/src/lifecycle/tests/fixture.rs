//! A pair in a small world that answers: proxies that follow, arms that stop and begin to write, a clock of one second.

use std::time::Duration;

use foreshade_contract::{Arm, Epoch, Name, PairId, Risk};

use super::super::command::{Answer, Command, Order, Outcome};
use super::super::effect::Effect;
use super::super::policy::Policy;
use super::super::sight::{Acks, ArmHealth, ArmSight, Bake, Finding, Opinion, Sight, Sync};
use super::super::state::State;
use super::super::{Mode, Pair, Step, Transition};

pub(super) const TICK_MS: u64 = 1000;

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(super) fn id(primary: &str) -> PairId {
    PairId {
        cluster: name("shop"),
        primary: name(primary),
    }
}

/// Both arms well, the shadow in sync, nothing wrong.
pub(super) fn calm() -> Sight {
    let well = ArmSight {
        health: ArmHealth::Well,
        risk: Some(Risk::ZERO),
        capacity_rps: Some(1000.0),
        ..ArmSight::default()
    };
    Sight {
        epoch: Epoch(1),
        placement: Some(name("a-standby")),
        arms: [well; 2],
        demand_rps: 500.0,
        bake: Bake {
            alarm: false,
            requests: 5000,
        },
        sync: Sync::Known {
            lag: Duration::from_millis(50),
            verified: true,
            compatible: true,
            caught_up: None,
        },
        ..Sight::default()
    }
}

pub(super) fn order(command: Command, key: &str) -> Order {
    Order {
        command,
        actor: "ada".to_owned(),
        reason: "a test".to_owned(),
        key: key.to_owned(),
        expected: None,
    }
}

/// A pair and its world.
pub(super) struct Rig {
    pub(super) pair: Pair,
    pub(super) policy: Policy,
    pub(super) sight: Sight,
    pub(super) now_ms: u64,
    pub(super) journal: Vec<Transition>,
    /// The proxies acknowledge, and the writers obey.
    pub(super) follows: bool,
    /// What the judge says of the present round, if anything.
    pub(super) opinion: Option<Opinion>,
    pub(super) last: Option<Step>,
    keys: u64,
}

impl Rig {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            pair: Pair::new(id("a"), Mode::Live),
            policy,
            sight: calm(),
            now_ms: 1_700_000_000_000,
            journal: Vec::new(),
            follows: true,
            opinion: None,
            last: None,
            keys: 0,
        }
    }

    /// Its state has been reached already.
    pub(super) fn at(state: State) -> Self {
        Self::at_with(state, Policy::default())
    }

    /// Led to this state, by what leads there.
    pub(super) fn at_with(state: State, policy: Policy) -> Self {
        let mut rig = Self::new(policy);
        rig.opinion = Some(Opinion::NotWorse);
        rig.until(|pair| matches!(pair.state, State::Warm(_)));
        if matches!(state, State::Warm(_)) {
            rig.until(|pair| pair.state == state);
        } else {
            rig.done(&Command::Promote { full: false });
            rig.until(|pair| pair.state == state);
        }
        rig
    }

    pub(super) fn tick(&mut self) -> Step {
        self.tick_with(&[])
    }

    pub(super) fn tick_with(&mut self, orders: &[Order]) -> Step {
        self.sight.finding = self.opinion.map(|opinion| Finding {
            round: self.pair.round,
            opinion,
            step_enough: opinion == Opinion::NotWorse,
            e_worse: if opinion == Opinion::Worse { 120.0 } else { 0.3 },
            e_ok: if opinion == Opinion::NotWorse { 25.0 } else { 0.5 },
            needed: Some(140),
        });
        self.now_ms += TICK_MS;
        let step = self.pair.step(&self.sight, orders, &self.policy, self.now_ms);
        self.pair = step.pair.clone();
        self.journal.extend(step.transition.clone());
        if self.follows {
            self.follow(&step.effects);
        }
        self.last = Some(step.clone());
        step
    }

    fn follow(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Publish { generation } => {
                    self.sight.acks = Acks {
                        quorum: *generation,
                        all: *generation,
                    };
                }
                Effect::Fence { term, .. } => {
                    self.sight.writer.fenced = Some(*term);
                    if let Sync::Known { caught_up, .. } = &mut self.sight.sync {
                        *caught_up = Some(*term);
                    }
                }
                Effect::Grant { term, .. } => self.sight.writer.granted = Some(*term),
                _ => {}
            }
        }
    }

    /// Gives an order in a tick of its own.
    pub(super) fn order(&mut self, command: &Command) -> Outcome {
        self.keys += 1;
        let key = format!("key-{}", self.keys);
        for _ in 0..3 {
            let answers = self.tick_with(&[order(command.clone(), &key)]).answers;
            if let [Answer { outcome, .. }] = answers.as_slice() {
                return outcome.clone();
            }
        }
        panic!("{command:?} was not answered in {}", self.pair.state);
    }

    pub(super) fn done(&mut self, command: &Command) {
        let outcome = self.order(command);
        assert_eq!(outcome, Outcome::Done, "{command:?} in {}", self.pair.state);
    }

    pub(super) fn ticks(&mut self, count: usize) {
        for _ in 0..count {
            self.tick();
        }
    }

    /// Until this is so; a day at most.
    pub(super) fn until(&mut self, is_so: impl Fn(&Pair) -> bool) {
        for _ in 0..86_400 {
            if is_so(&self.pair) {
                return;
            }
            self.tick();
        }
        panic!(
            "stuck in {} ({:?})",
            self.pair.state,
            self.last.as_ref().map(|step| &step.waiting)
        );
    }

    pub(super) fn arm(&mut self, arm: Arm) -> &mut ArmSight {
        self.sight.arm_mut(arm)
    }

    /// The states that it went through, each once in a row.
    pub(super) fn trail(&self) -> Vec<String> {
        let mut trail: Vec<String> = self.journal.iter().map(|made| made.to.to_string()).collect();
        trail.dedup();
        trail
    }

    pub(super) fn last_cause(&self) -> String {
        self.journal
            .last()
            .map(|made| made.cause.to_string())
            .unwrap_or_default()
    }
}
