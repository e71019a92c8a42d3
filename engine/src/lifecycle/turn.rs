//! One step: time passes, the laws are asked in their order, and at most one transition is made.

use std::time::Duration;

use foreshade_contract::PairPlan;

use super::cause::{Cause, Obstacle};
use super::command::{Answer, Order, Outcome};
use super::effect::outstanding;
use super::points::BasisPoints;
use super::rollback::Wanted;
use super::rule::{Move, first};
use super::sight::{ArmHealth, Sync};
use super::state::{Retreat, Shifting, State};
use super::view::{Seen, View};
use super::{
    Alert, Pair, ROOMS, Step, Transition, Trigger, deadline, obey, overrides, rollback, severe, shifting,
};

/// A step that is being made.
struct Turn<'a> {
    pair: Pair,
    seen: Seen<'a>,
    before: Before,
    answers: Vec<Answer>,
    waiting: Vec<Obstacle>,
}

/// How it was when the step began.
struct Before {
    state: State,
    weights: [BasisPoints; 2],
    plan: Option<PairPlan>,
    wanted: (Option<Trigger>, bool),
}

/// Why a transition is made, and on whose order.
struct Why {
    cause: Cause,
    order: Option<Order>,
}

/// Makes a step.
pub(super) fn take(pair: &Pair, orders: &[Order], seen: Seen<'_>) -> Step {
    if seen.sight.epoch < pair.epoch {
        return deposed(pair, seen);
    }
    let mut turn = Turn {
        pair: pair.clone(),
        seen,
        before: Before {
            state: pair.state,
            weights: pair.weights(),
            plan: pair.plan(seen.policy),
            wanted: wanted(pair),
        },
        answers: Vec::new(),
        waiting: Vec::new(),
    };
    turn.pair.epoch = seen.sight.epoch;
    let dt = turn.pair.clock.tick(seen.now_ms, seen.policy.times.tick_max);
    turn.pass(dt);
    let why = turn.decide(orders, dt);
    // What is wanted of a pair that waits is not in its plan, and counts all the same: what was asked, linked and answered
    // about one rollout is not to be taken for the next one.
    let is_wanted_anew = wanted(&turn.pair) != turn.before.wanted && !turn.pair.state.is_active();
    if is_wanted_anew || turn.pair.plan(seen.policy) != turn.before.plan {
        turn.pair.generation = turn.pair.generation.next();
    }
    let transition = why.map(|why| turn.record(why));
    let Turn {
        pair,
        answers,
        waiting,
        ..
    } = turn;
    let view = View::new(&pair, seen);
    Step {
        effects: outstanding(&view),
        plan: pair.plan(seen.policy),
        health: pair.health_before(&waiting),
        transition,
        answers,
        waiting,
        deposed: false,
        pair,
    }
}

/// What is wanted of it, and whether without evidence.
fn wanted(pair: &Pair) -> (Option<Trigger>, bool) {
    (pair.course.trigger, pair.course.full)
}

/// Another controller leads: this one says nothing any more.
fn deposed(pair: &Pair, seen: Seen<'_>) -> Step {
    Step {
        pair: pair.clone(),
        transition: None,
        effects: Vec::new(),
        plan: pair.plan(seen.policy),
        answers: Vec::new(),
        waiting: Vec::new(),
        health: pair.health(),
        deposed: true,
    }
}

impl Turn<'_> {
    fn view(&self) -> View<'_> {
        View::new(&self.pair, self.seen)
    }

    /// Time passes, and what is counted in looks is looked at.
    fn pass(&mut self, dt: Duration) {
        let view = self.view();
        let calm = view.risk().value() < shifting::calm_below(&view);
        let [standby, serving] = [view.standby_sight(), view.serving_sight()];
        let unwell = |health| matches!(health, ArmHealth::Sick | ArmHealth::Draining);
        let looks = [
            standby.is_well(),
            unwell(standby.health) || standby.is_gone(),
            view.in_sync(view.policy.sync.lag_warm).is_err(),
            unwell(serving.health) || serving.is_gone(),
        ];
        let pair = &mut self.pair;
        if pair.state.is_active() && pair.thresholds.is_none() {
            // What serves had served too little when the round began. That it has now says nothing about the other arm, so
            // what is counted from here on is as good as what was counted from the beginning.
            pair.thresholds = self.seen.sight.thresholds;
        }
        let counts = &mut pair.looks;
        let counters = [
            &mut counts.well,
            &mut counts.unwell,
            &mut counts.astray,
            &mut counts.serving_unwell,
        ];
        for (counter, look) in counters.into_iter().zip(looks) {
            *counter = if look {
                counter.saturating_add(1).min(self.seen.policy.health_looks)
            } else {
                0
            };
        }
        pair.writer.stateful |= self.seen.sight.sync != Sync::Nothing;
        pair.flap.pass(dt);
        pair.overrides.pass(dt);
        if let Some(left) = &mut pair.suspended {
            // A pause stops the time of what is paused.
            *left = left.saturating_sub(dt);
            return;
        }
        pair.elapsed = pair.elapsed.saturating_add(dt);
        let course = &mut pair.course;
        course.calm = if calm {
            course.calm.saturating_add(dt)
        } else {
            Duration::ZERO
        };
        match pair.state {
            State::Shifting(Shifting::Advancing | Shifting::Holding) => {
                course.on_step = course.on_step.saturating_add(dt);
            }
            State::Warm(_) if course.trigger.is_some() => course.waited = course.waited.saturating_add(dt),
            _ => {}
        }
    }

    /// Asks the laws in their order; the first that says something is heard.
    fn decide(&mut self, orders: &[Order], dt: Duration) -> Option<Why> {
        if !matches!(self.pair.state, State::Frozen | State::Retired) {
            let mut waiting = std::mem::take(&mut self.waiting);
            let severe = severe::law(&self.view(), &mut waiting);
            self.waiting = waiting;
            let suspended = self.pair.suspended.is_some();
            let wanted = match severe {
                Wanted::Nothing if suspended => Wanted::Nothing,
                Wanted::Nothing => rollback::law(&self.view()),
                severe => severe,
            };
            match wanted {
                Wanted::Move(transition) => return Some(self.go(transition)),
                Wanted::Stop(alert, cause) => return self.stop(alert, cause, orders),
                Wanted::Nothing => self.all_clear(),
            }
            if let Some(transition) = deadline::law(&self.view()).filter(|_| !suspended) {
                return Some(self.go(transition));
            }
        }
        if let Some(why) = self.obey(orders).or_else(|| self.expire()) {
            return Some(why);
        }
        if self.pair.suspended.is_some() {
            self.waiting.push(Obstacle::Suspended);
            return None;
        }
        self.advance().or_else(|| self.rehearse(dt))
    }

    /// Users should go back and cannot: nothing else is done, save what an operator orders or a deadline ends.
    fn stop(&mut self, alert: Alert, cause: Cause, orders: &[Order]) -> Option<Why> {
        if self.pair.alert != Some(alert) {
            self.pair.alert = Some(alert);
            return Some(Why { cause, order: None });
        }
        if let Cause::RollbackBlocked { obstacle } = cause {
            self.waiting.push(obstacle);
        }
        if let Some(transition) = deadline::law(&self.view()) {
            return Some(self.go(transition));
        }
        self.obey(orders).or_else(|| self.expire())
    }

    /// What was called for is no longer so.
    fn all_clear(&mut self) {
        if matches!(self.pair.alert, Some(Alert::RollbackBlocked | Alert::Verdict)) {
            self.pair.alert = None;
        }
    }

    fn obey(&mut self, orders: &[Order]) -> Option<Why> {
        for order in orders {
            if let Some(answer) = self.pair.answered.to(&order.key) {
                self.answers.push(answer.clone());
                continue;
            }
            if let Some(answer) = obey::stale(&self.pair, order) {
                self.answers.push(answer);
                continue;
            }
            let obeyed = obey::obey(&mut self.pair, order, self.seen);
            let (outcome, to) = match obeyed {
                Ok(Some(to)) => (Outcome::Done, Some(to)),
                Ok(None) => (Outcome::Unchanged, None),
                Err(refusal) => (Outcome::Refused(refusal), None),
            };
            let key = order.key.clone();
            let answer = Answer { key, outcome };
            self.pair.answered.remember(answer.clone());
            self.answers.push(answer);
            if let Some(to) = to {
                self.enter(to);
                let verb = order.command.verb();
                let order = Some(order.clone());
                return Some(Why {
                    cause: Cause::Ordered { verb },
                    order,
                });
            }
        }
        None
    }

    /// What was set for a while, and is over.
    fn expire(&mut self) -> Option<Why> {
        let over = self.pair.suspended.is_some_and(|left| left.is_zero());
        let cause = if over {
            self.pair.suspended = None;
            Cause::SuspensionEnded
        } else {
            let what = self.pair.overrides.ended(self.seen.now_ms)?;
            self.pair.overrides.clear(what);
            Cause::OverrideEnded { what }
        };
        Some(Why { cause, order: None })
    }

    /// The table of the state.
    fn advance(&mut self) -> Option<Why> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let view = self.view();
        let next = ROOMS.iter().find_map(|room| first(room, &view, &mut waiting));
        self.waiting = waiting;
        next.map(|transition| self.go(transition))
    }

    fn rehearse(&mut self, dt: Duration) -> Option<Why> {
        let mut drill = self.pair.drill.take()?;
        let Some(report) = drill.step(&self.pair, dt, self.seen) else {
            self.pair.drill = Some(drill);
            return None;
        };
        let end = report.end;
        self.pair.last_drill = Some(report);
        let cause = Cause::DrillEnded { end };
        Some(Why { cause, order: None })
    }

    fn go(&mut self, transition: Move) -> Why {
        (transition.act)(&mut self.pair, self.seen);
        self.enter(transition.to);
        Why {
            cause: transition.cause,
            order: None,
        }
    }

    /// What entering a state means, whoever led there.
    fn enter(&mut self, to: State) {
        let pair = &mut self.pair;
        let from = self.before.state;
        if to == from {
            return;
        }
        pair.state = to;
        pair.since_ms = self.seen.now_ms;
        pair.elapsed = Duration::ZERO;
        pair.resume = (to == State::Frozen).then_some(from);
        pair.alert = match to {
            State::Frozen => Some(Alert::Frozen),
            State::FailedOver => Some(Alert::FailedOver),
            // It goes on without a word from those it waited for.
            State::Baking if !View::new(pair, self.seen).is_confirmed() => Some(Alert::Unconfirmed),
            State::Failed if from == State::RollingBack(Retreat::Weights) => {
                let confirmed = View::new(pair, self.seen).is_confirmed();
                (!confirmed).then_some(Alert::Unconfirmed)
            }
            // It stays so until somebody orders something again, or something begins.
            _ => pair
                .alert
                .filter(|alert| *alert == Alert::GivenUp && !to.is_active()),
        };
        if to == State::Frozen && pair.writer.fenced {
            // Nobody may be left unable to write for as long as nobody looks.
            pair.writer.seize(pair.writer.arm);
        }
        if matches!(
            to,
            State::Promoting(_) | State::RollingBack(_) | State::FailedOver
        ) {
            // What an operator has set for a calmer moment does not hold against this.
            pair.overrides.clear(overrides::What::Share);
            pair.suspended = None;
        }
        if let (Some(drill), false) = (&pair.drill, matches!(to, State::Warm(_))) {
            pair.last_drill = Some(drill.interrupted());
            pair.drill = None;
        }
    }

    fn record(&mut self, why: Why) -> Transition {
        let pair = &mut self.pair;
        Transition {
            pair: pair.id.clone(),
            epoch: pair.epoch,
            generation: pair.generation,
            round: pair.round,
            from: self.before.state,
            to: pair.state,
            cause: why.cause,
            order: why.order,
            before: self.before.weights,
            after: pair.weights(),
            rollback_target: pair.rollback_target,
            ponr: pair.ponr,
            at_ms: self.seen.now_ms,
        }
    }
}
