//! What would become of a pair, if this were ordered and that were so: the same steps as the controller's, on a copy, in
//! no time at all, with nothing sent.
//!
//! A simulation is as good as what it supposes. What is seen now is taken to stay as it is, except for what is supposed
//! to happen; requests are taken to come as they do, proxies to follow, and gates to say what they have said. It differs
//! from a drill in that it asks nobody for time: a drill lasts as long as the decisions take and proves that they are
//! made, a simulation says at once what they would be. Other pairs of a group are left out.
//!
//! Bounds: [`STEPS_MAX`] steps of a tick each, [`TOLD_MAX`] transitions.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cause::{Obstacle, ms};
use super::command::{Command, Order, Outcome};
use super::drill::Scenario;
use super::policy::Policy;
use super::sight::{Finding, Opinion, Sight};
use super::state::State;
use super::{Mode, Pair, Transition};

/// Most steps: two hours of ticks of a second, which is more than any deadline but that of the longest rest.
pub const STEPS_MAX: usize = 7200;

/// Most transitions that are told. A pair that makes more within two hours goes in circles, and that can be seen by then.
pub const TOLD_MAX: usize = 64;

/// What is supposed to be so from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suppose {
    /// Everything stays as it is seen now; nothing more is learned of the shadow.
    #[default]
    AsNow,
    /// The shadow proves to be as good as what serves.
    ShadowProven,
    /// A failure.
    Failure(Scenario),
}

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// What is supposed.
    pub suppose: Suppose,
    /// What is ordered at the beginning, if anything.
    pub order: Option<Command>,
    /// How far to look.
    pub within: Duration,
}

/// What would become of the pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Foretold {
    /// What the order would be answered; nothing, where none was given or none was reached.
    pub answer: Option<Outcome>,
    /// What would happen, each with the time until then.
    pub told: Vec<(Duration, Transition)>,
    /// The pair at the end.
    pub pair: Pair,
    /// What would stand in the way then.
    pub waiting: Vec<Obstacle>,
    /// How far was looked.
    pub looked: Duration,
}

/// Follows a copy of the pair from what is seen now.
pub fn foretell(pair: &Pair, sight: &Sight, policy: &Policy, now_ms: u64, question: &Question) -> Foretold {
    let mut copy = pair.clone();
    // What the world would have to confirm is taken as given.
    copy.mode = Mode::Drill;
    copy.drill = None;
    let mut sight = sight.clone();
    let served = copy.serving;
    let mut orders: Vec<Order> = question.order.clone().map(supposed).into_iter().collect();
    let mut foretold = Foretold {
        answer: None,
        told: Vec::new(),
        pair: copy,
        waiting: Vec::new(),
        looked: Duration::ZERO,
    };
    let mut bake = Bake::of(pair, &sight);
    for _ in 0..STEPS_MAX {
        sight.bake.requests = bake.pass(&foretold.pair, &sight, policy);
        question
            .suppose
            .put_into(&mut sight, &foretold.pair, policy, served);
        let wall_ms = now_ms.saturating_add(ms(foretold.looked));
        let step = foretold.pair.step(&sight, &orders, policy, wall_ms);
        if let Some(answer) = step.answers.into_iter().next() {
            foretold.answer = Some(answer.outcome);
            orders.clear();
        }
        foretold.pair = step.pair;
        foretold.waiting = step.waiting;
        sight.share = foretold.pair.effective_share().fraction();
        if let Some(transition) = step.transition {
            foretold.told.push((foretold.looked, transition));
        }
        if foretold.told.len() >= TOLD_MAX || foretold.looked >= question.within {
            break;
        }
        foretold.looked = foretold
            .looked
            .saturating_add(policy.times.tick_max)
            .min(question.within);
    }
    foretold.pair.mode = pair.mode;
    foretold
}

/// Requests that what bakes will have served: as many as are asked for now. A quiet pair does not become a busy one by
/// being promoted, and where too few are served the bake ends as it would.
struct Bake(f64);

impl Bake {
    /// What it has served already.
    fn of(pair: &Pair, sight: &Sight) -> Self {
        let baking = pair.state == State::Baking;
        Self(if baking { sight.bake.requests as f64 } else { 0.0 })
    }

    /// A step later.
    fn pass(&mut self, copy: &Pair, sight: &Sight, policy: &Policy) -> u64 {
        self.0 = if copy.state == State::Baking {
            self.0 + sight.demand_rps.max(0.0) * policy.times.tick_max.as_secs_f64()
        } else {
            0.0
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a count from 0 on, which saturates"
        )]
        let counted = self.0 as u64;
        counted
    }
}

/// The order as nobody has given it.
fn supposed(command: Command) -> Order {
    let text = || "a simulation".to_owned();
    Order {
        command,
        actor: text(),
        reason: text(),
        key: text(),
        expected: None,
    }
}

impl Suppose {
    fn put_into(self, sight: &mut Sight, copy: &Pair, policy: &Policy, served: foreshade_contract::Arm) {
        match self {
            Self::AsNow => {}
            Self::ShadowProven => {
                sight.finding = Some(Finding {
                    round: copy.round,
                    opinion: Opinion::NotWorse,
                    step_enough: true,
                    ..Finding::default()
                });
                sight.bake.requests = sight.bake.requests.max(policy.bake_requests);
            }
            Self::Failure(scenario) => scenario.put_into(sight, copy, served, policy),
        }
    }
}
