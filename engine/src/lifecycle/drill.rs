//! A rehearsal: the same code on a copy of the pair, with a failure put into what it sees, and nothing sent.
//!
//! What is true of the rehearsal is true of the real thing, because it is the real thing: the copy goes through the same
//! tables and laws. What the world would have to answer is taken as given, so the time that a drill reports is how long
//! the decisions take, and the lag it reports is the real one at that moment. The pair itself is not touched; where it
//! starts to move for real, the drill is over.
// Concept: region-drill

use std::time::Duration;

use foreshade_contract::{Arm, Risk};
use serde::{Deserialize, Serialize};

use super::cause::ms;
use super::policy::Policy;
use super::sight::{Finding, Opinion, Sight, Sync};
use super::state::State;
use super::view::Seen;
use super::{Mode, Pair};

/// Most states of a trail: more than any scenario goes through.
const TRAIL_MAX: usize = 64;

/// A failure to rehearse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// What serves is gone: everything has to go to the standby.
    PrimaryGone,
    /// What serves is at severe risk and the standby is not: it has to be promoted.
    PrimaryAtRisk,
    /// What serves is at risk and the standby is worse: users have to go back.
    ShadowWorse,
}

impl Scenario {
    /// Puts the failure of the arm that `served` into what is seen.
    pub(super) fn put_into(self, sight: &mut Sight, copy: &Pair, served: Arm, policy: &Policy) {
        let (risk, opinion) = match self {
            Self::PrimaryGone => {
                sight.arm_mut(served).severe = true;
                return;
            }
            Self::PrimaryAtRisk => (Risk::ONE, Opinion::NotWorse),
            Self::ShadowWorse => (policy.risk.shift_at, Opinion::Worse),
        };
        sight.arm_mut(served).risk = Some(risk);
        sight.finding = Some(Finding {
            round: copy.round,
            opinion,
            step_enough: opinion == Opinion::NotWorse,
            ..Finding::default()
        });
    }
}

/// How a drill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillEnd {
    /// What had to happen happened.
    Succeeded,
    /// It did not, in time.
    Failed,
    /// Something real happened, or an operator ended it.
    Interrupted,
}

/// What a drill found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillReport {
    /// What was rehearsed.
    pub scenario: Scenario,
    /// How it ended.
    pub end: DrillEnd,
    /// From the failure to its end: the recovery time, as far as decisions make it.
    pub took_ms: u64,
    /// How far the standby was behind when the failure was put in: what would have been lost at most.
    pub lag_ms: Option<u64>,
    /// The states that the copy went through.
    pub trail: Vec<State>,
}

/// A drill under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    scenario: Scenario,
    copy: Pair,
    left: Duration,
    ran: Duration,
    lag_ms: Option<u64>,
    /// The arm that served when it began.
    served: Arm,
    trail: Vec<State>,
}

impl Drill {
    pub(super) fn new(pair: &Pair, scenario: Scenario, policy: &Policy) -> Self {
        let mut copy = pair.clone();
        copy.mode = Mode::Drill;
        copy.last_drill = None;
        copy.flap.rested();
        Self {
            scenario,
            served: pair.serving,
            trail: vec![pair.state],
            copy,
            left: policy.times.drill_max,
            ran: Duration::ZERO,
            lag_ms: None,
        }
    }

    /// One tick of it; its report, once it has ended.
    pub(super) fn step(&mut self, pair: &Pair, dt: Duration, seen: Seen<'_>) -> Option<DrillReport> {
        if !matches!(pair.state, State::Warm(_)) {
            return Some(self.report(DrillEnd::Interrupted));
        }
        if let (None, Sync::Known { lag, .. }) = (self.lag_ms, seen.sight.sync) {
            self.lag_ms = Some(ms(lag));
        }
        let sight = self.pretend(seen);
        let step = self.copy.step(&sight, &[], seen.policy, seen.now_ms);
        self.copy = step.pair;
        if step.transition.is_some() && self.trail.len() < TRAIL_MAX {
            self.trail.push(self.copy.state);
        }
        self.ran = self.ran.saturating_add(dt);
        self.left = self.left.saturating_sub(dt);
        if self.is_reached() {
            return Some(self.report(DrillEnd::Succeeded));
        }
        self.left.is_zero().then(|| self.report(DrillEnd::Failed))
    }

    pub(super) fn interrupted(&self) -> DrillReport {
        self.report(DrillEnd::Interrupted)
    }

    /// What the copy sees: the truth, and the failure. Nobody is asked for a rehearsal.
    fn pretend(&self, seen: Seen<'_>) -> Sight {
        let mut sight = seen.sight.clone();
        let gates = seen.policy.gates.iter();
        sight.gates = gates.map(|gate| (gate.name.clone(), true)).collect();
        self.scenario
            .put_into(&mut sight, &self.copy, self.served, seen.policy);
        sight
    }

    fn is_reached(&self) -> bool {
        match self.scenario {
            Scenario::PrimaryGone | Scenario::PrimaryAtRisk => {
                self.copy.state == State::Baking && self.copy.serving != self.served
            }
            Scenario::ShadowWorse => self.copy.state == State::Failed && self.copy.serving == self.served,
        }
    }

    fn report(&self, end: DrillEnd) -> DrillReport {
        DrillReport {
            scenario: self.scenario,
            end,
            took_ms: ms(self.ran),
            lag_ms: self.lag_ms,
            trail: self.trail.clone(),
        }
    }
}
