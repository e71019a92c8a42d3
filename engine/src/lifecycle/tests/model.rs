//! All that can happen to a pair, by model checking: every order of ticks, faults, orders, and lost or repeated messages.
//!
//! The pair is the real one, with deadlines of a few ticks and two steps; what does not matter for what comes next (the
//! wall, numbers of generations) is taken out, so that the states are finite. Messages to the writers stay deliverable
//! for ever once sent, in any order: that is loss, delay and repetition in one. Whatever the controller sends was written
//! down before, so that a crash is a message that is not delivered yet.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use foreshade_contract::{Arm, Generation, Risk, Round};
use stateright::{Checker, Model, Property};

use super::super::command::{Answered, Command};
use super::super::effect::Effect;
use super::super::points::BasisPoints;
use super::super::policy::{FlapPolicy, Policy, RollbackPolicy, Steps, Times};
use super::super::sight::{Acks, ArmHealth, Finding, Opinion, Sight, Sync, WriterSight};
use super::super::state::{Promoting, Shifting, State};
use super::super::writer::Term;
use super::super::{Looks, Mode, Pair, Trigger};
use super::fixture::{calm, id, order};

/// No wait of this policy is longer.
const LONGEST: u64 = 3;

/// What an arm knows of who writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Scribe {
    heard: u64,
    writes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Message {
    to: Arm,
    term: u64,
    may_write: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct World {
    pair: Pair,
    followed: bool,
    scribes: [Scribe; 2],
    sent: BTreeSet<Message>,
    seen: WriterSight,
    /// Terms that began with a failover, whose old writer could not be asked.
    emergencies: BTreeSet<u64>,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let pair = &self.pair;
        (pair.state, pair.elapsed, pair.serving, pair.share, pair.writer).hash(hasher);
        (
            pair.rollback_target,
            pair.ponr,
            pair.course,
            pair.resume,
            pair.suspended,
        )
            .hash(hasher);
        (&pair.flap, pair.alert, pair.shadow.is_some()).hash(hasher);
        (self.followed, self.scribes, &self.sent).hash(hasher);
        (self.seen.fenced, self.seen.granted, &self.emergencies).hash(hasher);
    }
}

/// What is seen in a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Weather {
    Calm,
    Worse,
    AtRisk,
    ShadowGone,
    PrimaryGone,
    PrimarySick,
    Lagging,
    Alarm,
    /// What serves is certainly bad, and nothing is shown.
    Severe,
    /// It is well, and nothing is shown.
    Well,
}

#[derive(Clone, Debug, PartialEq)]
enum Event {
    Tick(Weather),
    Order(Command),
    Follow,
    Deliver(Message),
    DeliverAll,
}

/// What is looked at: everything at once would be too much, so two models look at two sides of it.
struct Life {
    policy: Policy,
    weathers: &'static [Weather],
    orders: &'static [Command],
    /// Beyond this term nothing is looked at.
    terms: u64,
    /// Messages arrive one by one in any order; else all or none.
    one_by_one: bool,
}

/// Who writes: every order of messages, over two promotions, or one with its way back, and a failover.
fn writers(reverse: bool) -> Life {
    Life {
        policy: policy(reverse),
        weathers: &[
            Weather::Calm,
            Weather::Alarm,
            Weather::ShadowGone,
            Weather::PrimaryGone,
        ],
        orders: &[Command::Promote { full: true }, Command::Abort],
        terms: 4,
        one_by_one: true,
    }
}

/// Ways back and ends: every fault and every order.
fn ends(reverse: bool) -> Life {
    Life {
        policy: policy(reverse),
        weathers: &[
            Weather::Calm,
            Weather::Worse,
            Weather::AtRisk,
            Weather::ShadowGone,
            Weather::PrimaryGone,
            Weather::PrimarySick,
            Weather::Lagging,
            Weather::Alarm,
        ],
        orders: &[
            Command::Promote { full: true },
            Command::Abort,
            Command::Pause,
            Command::Freeze,
            Command::Unfreeze,
            Command::Undo,
        ],
        terms: 2,
        one_by_one: false,
    }
}

/// Shifts that risk alone begins, with and without proof of anything.
fn risky(reverse: bool) -> Life {
    Life {
        policy: policy(reverse),
        weathers: &[
            Weather::Calm,
            Weather::Severe,
            Weather::Well,
            Weather::ShadowGone,
            Weather::PrimaryGone,
        ],
        orders: &[Command::Abort, Command::Pause, Command::Freeze],
        terms: 1,
        one_by_one: false,
    }
}

fn policy(reverse: bool) -> Policy {
    let seconds = Duration::from_secs;
    let mut policy = Policy {
        steps: Steps::new(vec![BasisPoints::percent(50), BasisPoints::ALL]).unwrap(),
        times: Times {
            provisioning: seconds(2),
            syncing: seconds(2),
            validating: seconds(2),
            step_min: Duration::ZERO,
            step_max: seconds(2),
            hold_max: seconds(2),
            pause_max: seconds(2),
            promoting: seconds(2),
            rolling_back: seconds(2),
            failed_over: seconds(2),
            bake: seconds(1),
            bake_max: seconds(3),
            retain_old: seconds(2),
            drill_max: seconds(1),
            tick_max: seconds(1),
        },
        flap: FlapPolicy {
            changes: 2,
            window: seconds(LONGEST),
            dwell: seconds(1),
            cooldown: seconds(1),
            cooldown_max: seconds(1),
        },
        health_looks: 1,
        ..Policy::default()
    };
    policy.sync.reverse = reverse;
    policy
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            pair: Pair::new(id("a"), Mode::Live),
            followed: true,
            scribes: [
                Scribe {
                    heard: 0,
                    writes: true,
                },
                Scribe::default(),
            ],
            sent: BTreeSet::new(),
            seen: WriterSight::default(),
            emergencies: BTreeSet::new(),
        };
        world.forget_what_does_not_matter();
        world
    }

    fn sight(&self, weather: Weather) -> Sight {
        let mut sight = calm();
        sight.writer = self.seen;
        let followed = Generation(u64::from(self.followed));
        sight.acks = Acks {
            quorum: followed,
            all: followed,
        };
        if let Sync::Known { caught_up, lag, .. } = &mut sight.sync {
            *caught_up = self.seen.fenced.filter(|_| weather != Weather::Lagging);
            if weather == Weather::Lagging {
                *lag = Duration::from_secs(60);
            }
        }
        sight.finding = Some(Finding {
            round: Round(1),
            opinion: match weather {
                Weather::Worse => Opinion::Worse,
                Weather::Lagging | Weather::Severe | Weather::Well => Opinion::Undecided,
                _ => Opinion::NotWorse,
            },
            step_enough: !matches!(
                weather,
                Weather::Worse | Weather::Lagging | Weather::Severe | Weather::Well
            ),
            ..Finding::default()
        });
        match weather {
            Weather::AtRisk | Weather::Severe => sight.arm_mut(self.pair.serving).risk = Some(Risk::ONE),
            Weather::ShadowGone => sight.arm_mut(Arm::Shadow).severe = true,
            Weather::PrimaryGone => sight.arm_mut(Arm::Primary).severe = true,
            Weather::PrimarySick => sight.arm_mut(Arm::Primary).health = ArmHealth::Sick,
            Weather::Alarm => sight.bake.alarm = true,
            Weather::Calm | Weather::Worse | Weather::Lagging | Weather::Well => {}
        }
        sight
    }

    fn tick(&mut self, weather: Weather, command: Option<&Command>, policy: &Policy) {
        let orders: Vec<_> = command
            .map(|command| order(command.clone(), "key"))
            .into_iter()
            .collect();
        let step = self.pair.step(&self.sight(weather), &orders, policy, 1000);
        if step.pair.generation != self.pair.generation {
            self.followed = false;
        }
        if step.pair.state == State::FailedOver && self.pair.state != State::FailedOver {
            self.emergencies.insert(step.pair.writer.term.0);
        }
        self.pair = step.pair;
        for effect in step.effects {
            match effect {
                Effect::Fence { arm, term } => self.send(arm, term, false),
                Effect::Grant { arm, term } => self.send(arm, term, true),
                _ => {}
            }
        }
        self.forget_what_does_not_matter();
    }

    fn send(&mut self, to: Arm, term: Term, may_write: bool) {
        let term = term.0;
        self.sent.insert(Message { to, term, may_write });
    }

    fn deliver(&mut self, message: Message) {
        let [primary, shadow] = &mut self.scribes;
        let scribe = match message.to {
            Arm::Primary => primary,
            Arm::Shadow => shadow,
        };
        if message.term < scribe.heard {
            return;
        }
        scribe.heard = message.term;
        scribe.writes = message.may_write;
        let seen = if message.may_write {
            &mut self.seen.granted
        } else {
            &mut self.seen.fenced
        };
        *seen = (*seen).max(Some(Term(message.term)));
    }

    fn forget_what_does_not_matter(&mut self) {
        let pair = &mut self.pair;
        pair.clock.tick(0, Duration::ZERO);
        pair.since_ms = 0;
        pair.answered = Answered::default();
        pair.generation = Generation(1);
        pair.round = Round(1);
        pair.loss_bound_ms = None;
        pair.flap.failures = pair.flap.failures.min(1);
        // A budget that refills only adds lives that begin anew.
        pair.flap.pass_never(&policy(true).flap);
        // One look is believed, so that no look but the next one matters.
        pair.looks = Looks::default();
        let counts = |counts: bool, most: u64| {
            if counts {
                Duration::from_secs(most)
            } else {
                Duration::ZERO
            }
        };
        let state = pair.state;
        let shifting = matches!(state, State::Shifting(_) | State::Frozen);
        let course = &mut pair.course;
        let spans = [
            (&mut pair.elapsed, counts(!state.is_resting(), LONGEST)),
            (&mut course.on_step, counts(shifting, 2)),
            (&mut course.calm, counts(shifting, 1)),
            (&mut course.waited, counts(matches!(state, State::Warm(_)), 2)),
        ];
        for (span, most) in spans {
            *span = (*span).min(most);
        }
    }

    /// Everything is delivered that could be.
    fn settle(&mut self) {
        self.followed = true;
        for message in self.sent.clone() {
            self.deliver(message);
        }
    }

    /// Whether an abort brings users and writer back, if the world answers.
    fn can_go_back(&self, policy: &Policy) -> bool {
        let Some(target) = self.pair.rollback_target else {
            return true;
        };
        let mut world = self.clone();
        for _ in 0..12 {
            let [primary, shadow] = world.pair.weights();
            let users = if target == Arm::Primary { primary } else { shadow };
            let writer = world.pair.writer;
            if users == BasisPoints::ALL && writer.arm == target && !writer.fenced {
                return true;
            }
            // An order that a deadline came before is given again.
            let abort = Some(&Command::Abort).filter(|_| world.pair.state.is_active());
            world.tick(Weather::Calm, abort, policy);
            world.settle();
        }
        false
    }

    /// Whether users leave an arm that is gone in this very tick.
    fn leaves(&self, weather: Weather, gone: Arm, policy: &Policy) -> bool {
        let mut next = self.clone();
        next.tick(weather, None, policy);
        let to = next.pair.state;
        let (from, serves) = (self.pair.state, self.pair.serving == gone);
        match from {
            // Nobody is at the old primary any more, or nobody will be in a moment.
            State::Promoting(Promoting::Cutover) | State::Baking if !serves => true,
            State::Promoting(Promoting::Flip) if serves => true,
            // The budget of role changes may be spent, or there is nowhere to go.
            _ if serves => matches!(to, State::FailedOver | State::Frozen),
            _ if self.pair.ponr => to == State::Frozen,
            _ => matches!(to, State::RollingBack(_)),
        }
    }

    /// Whether a primary that is well has its users back, if a shift that risk began has taken them all: by proof, which it can
    /// give as long as it has some of them, and without being called failed for the lack of it.
    fn returns(&self, policy: &Policy) -> bool {
        let mut world = self.clone();
        let serving = self.pair.serving;
        let has_all = |pair: &Pair| pair.serving == serving && pair.share == BasisPoints::ZERO;
        for _ in 0..20 {
            let plan = world.pair.plan(policy);
            let is_cut_off = plan.is_some_and(|plan| plan.directed == Some(foreshade_contract::Share::ONE));
            // Who has no users keeps the risk that it had.
            let weather = if is_cut_off {
                Weather::Severe
            } else {
                Weather::Well
            };
            world.tick(weather, None, policy);
            world.settle();
            match world.pair.state {
                State::Warm(_) => return has_all(&world.pair),
                State::Failed | State::Frozen => return false,
                _ => {}
            }
        }
        false
    }

    /// Whether users stay where the proxies have them, if what was released is stopped by an order or by a verdict.
    fn stays(&self, policy: &Policy) -> bool {
        let told = |world: &Self| world.pair.plan(policy).map(|plan| (plan.directed, plan.frozen));
        let frozen_by_verdict = Policy {
            rollback: RollbackPolicy::Freeze,
            ..policy.clone()
        };
        let stops = [
            (Weather::Well, Some(Command::Pause), policy),
            (Weather::Well, Some(Command::Freeze), policy),
            (Weather::Worse, None, &frozen_by_verdict),
        ];
        stops.into_iter().all(|(weather, command, policy)| {
            let mut next = self.clone();
            next.tick(weather, command.as_ref(), policy);
            let is_stopped = matches!(next.pair.state, State::Frozen | State::Shifting(Shifting::Paused));
            !is_stopped || told(&next) == Some((None, true))
        })
    }

    /// Whether what is under way ends, whatever is seen and even if nobody answers.
    fn ends(&self, weathers: &[Weather], policy: &Policy) -> bool {
        let mut world = self.clone();
        let shifting = matches!(self.pair.state, State::Shifting(_));
        // Two steps with a hold each, a pause, and the pause of everything.
        for tick in 0..20 {
            let weather = weathers[tick % weathers.len()];
            world.tick(weather, None, policy);
            let left = if shifting {
                !matches!(world.pair.state, State::Shifting(_))
            } else {
                world.pair.state != self.pair.state
            };
            if left {
                return true;
            }
        }
        false
    }
}

impl Model for Life {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        vec![World::new()]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        events.extend(self.weathers.iter().copied().map(Event::Tick));
        events.extend(self.orders.iter().cloned().map(Event::Order));
        events.push(Event::Follow);
        if self.one_by_one {
            events.extend(world.sent.iter().copied().map(Event::Deliver));
        } else {
            events.push(Event::DeliverAll);
        }
    }

    fn next_state(&self, world: &World, event: Event) -> Option<World> {
        let mut next = world.clone();
        match event {
            Event::Tick(weather) => next.tick(weather, None, &self.policy),
            Event::Order(command) => next.tick(Weather::Calm, Some(&command), &self.policy),
            Event::Follow => next.followed = true,
            Event::Deliver(message) => next.deliver(message),
            Event::DeliverAll => next.settle(),
        }
        (next != *world).then_some(next)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.pair.writer.term.0 <= self.terms
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("never two writers in one term", |_, world: &World| {
                let [primary, shadow] = world.scribes;
                !(primary.writes && shadow.writes && primary.heard == shadow.heard)
            }),
            Property::always("never two writers, but after a failover", |_, world: &World| {
                let [primary, shadow] = world.scribes;
                let newer = primary.heard.max(shadow.heard);
                !(primary.writes && shadow.writes) || world.emergencies.contains(&newer)
            }),
            Property::always("both arms add up to everything", |_, world: &World| {
                let [primary, shadow] = world.pair.weights();
                u16::from(primary) + u16::from(shadow) == 10_000
            }),
            Property::always("nobody is left unable to write for good", |_, world: &World| {
                !(world.pair.state.is_resting() && world.pair.writer.fenced)
            }),
            Property::sometimes("it commits", |_, world: &World| {
                world.pair.state == State::Committed
            }),
            Property::sometimes("it fails over", |_, world: &World| {
                world.pair.state == State::FailedOver
            }),
            Property::sometimes("it freezes", |_, world: &World| world.pair.state == State::Frozen),
        ];
        if !self.one_by_one {
            properties.extend([
                Property::always(
                    "before the point of no return there is a way back",
                    |life: &Life, world: &World| {
                        let pair = &world.pair;
                        !pair.state.is_active()
                            || pair.ponr
                            || pair.rollback_target.is_some() && world.can_go_back(&life.policy)
                    },
                ),
                Property::always(
                    "the severe lane is open in every active state",
                    |life: &Life, world: &World| {
                        let gone = [
                            (Weather::PrimaryGone, Arm::Primary),
                            (Weather::ShadowGone, Arm::Shadow),
                        ];
                        let leaves = |(weather, arm)| world.leaves(weather, arm, &life.policy);
                        !world.pair.state.is_active() || gone.into_iter().all(leaves)
                    },
                ),
                Property::always("what is under way ends", |life: &Life, world: &World| {
                    let worst: [&[Weather]; 6] = [
                        &[Weather::Calm],
                        &[Weather::Severe],
                        &[Weather::Severe, Weather::Lagging],
                        &[Weather::Lagging],
                        &[Weather::Lagging, Weather::Calm],
                        &[Weather::PrimarySick],
                    ];
                    world.pair.state.is_resting()
                        || worst.iter().all(|weathers| world.ends(weathers, &life.policy))
                }),
                returning(),
                staying(),
                Property::sometimes("it is paused", |_, world: &World| {
                    world.pair.state == State::Shifting(Shifting::Paused)
                }),
            ]);
        }
        properties
    }
}

/// What a shift that risk began owes its primary.
fn returning() -> Property<Life> {
    Property::always(
        "a healthy primary gets its users back",
        |life: &Life, world: &World| {
            let pair = &world.pair;
            let by_risk = pair.course.trigger == Some(Trigger::Risk);
            let goes_on = matches!(pair.state, State::Shifting(_));
            // Who has been told to promote without proof does so.
            !(by_risk && goes_on && !pair.course.full) || world.returns(&life.policy)
        },
    )
}

/// What a stop owes users whom nobody but the proxies moves.
fn staying() -> Property<Life> {
    Property::always(
        "a stop moves nobody whom the proxies have brought back",
        |life: &Life, world: &World| {
            let is_shifting = matches!(world.pair.state, State::Shifting(_));
            let plan = world.pair.plan(&life.policy);
            let is_released = is_shifting && plan.is_some_and(|plan| plan.directed.is_none());
            !is_released || world.stays(&life.policy)
        },
    )
}

fn check(life: Life) {
    let checker = life.checker().threads(2).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn whatever_arrives_in_whatever_order_there_is_one_writer() {
    for reverse in [true, false] {
        check(writers(reverse));
    }
}

#[test]
fn whatever_happens_there_is_a_way_back_and_an_end() {
    for reverse in [true, false] {
        check(ends(reverse));
    }
}

#[test]
fn whatever_risk_begins_ends_and_a_healthy_primary_gets_its_users_back() {
    for reverse in [true, false] {
        check(risky(reverse));
    }
}
