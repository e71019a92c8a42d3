//! Long random lives: faults, orders, crashes at any point, a rival controller, messages lost, late and repeated, clocks
//! that jump. One seed, one life; the same seed, the same life.

use std::collections::BTreeSet;
use std::time::Duration;

use foreshade_contract::{Arm, Epoch, Generation, Risk};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::command::{Command, Order};
use super::super::drill::Scenario;
use super::super::effect::Effect;
use super::super::overrides::{Setting, What};
use super::super::points::BasisPoints;
use super::super::policy::{Inconclusive, OldPrimary, Policy, RollbackPolicy, Times};
use super::super::sight::{ArmHealth, Finding, Opinion, Sight, Sync, Votes};
use super::super::state::{Shifting, State};
use super::super::writer::Term;
use super::super::{Mode, Pair, Step, Transition};
use super::fixture::{calm, id, order};

const SEEDS: u64 = 256;
const TICKS: usize = 800;
const PROXIES: usize = 3;

/// What a proxy has been told last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    epoch: Epoch,
    generation: Generation,
}

#[derive(Clone, Copy, Debug, Default)]
struct Scribe {
    heard: Term,
    writes: bool,
}

/// A message on its way.
#[derive(Clone, Debug)]
enum Letter {
    Plan { proxy: usize, told: Told },
    Writer { to: Arm, term: Term, may_write: bool },
}

struct Life {
    rng: StdRng,
    policy: Policy,
    /// What is on disk: the pair as text, which only the leader may replace.
    disk: String,
    leader: Epoch,
    /// A controller that led before, and does not know better.
    rival: Option<(Epoch, Pair)>,
    pair: Pair,
    sight: Sight,
    now_ms: u64,
    proxies: [Told; PROXIES],
    scribes: [Scribe; 2],
    emergencies: BTreeSet<Term>,
    post: Vec<Letter>,
    orders: Vec<Order>,
    keys: u64,
    /// What was written down, to be replayed.
    inputs: Vec<(Sight, Vec<Order>, u64)>,
    journal: Vec<Transition>,
    states: BTreeSet<State>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let policy = random_policy(&mut rng);
        let pair = Pair::new(id("a"), Mode::Live);
        let writes = Scribe {
            heard: Term(0),
            writes: true,
        };
        Self {
            disk: serde_json::to_string(&pair).unwrap(),
            leader: Epoch(1),
            rival: None,
            pair,
            sight: calm(),
            now_ms: 1_000_000_000,
            proxies: [Told::default(); PROXIES],
            scribes: [writes, Scribe::default()],
            emergencies: BTreeSet::new(),
            post: Vec::new(),
            orders: Vec::new(),
            keys: 0,
            inputs: Vec::new(),
            journal: Vec::new(),
            states: BTreeSet::new(),
            policy,
            rng,
        }
    }

    fn chance(&mut self, of: f64) -> bool {
        self.rng.random_bool(of)
    }

    fn live(&mut self) {
        for _ in 0..TICKS {
            self.weather();
            self.deliver();
            self.command();
            self.pass_time();
            if self.chance(0.02) {
                self.crash();
            }
            self.tick();
            self.rival_ticks();
            self.check();
        }
    }

    fn pass_time(&mut self) {
        let jump_ms = self.rng.random_range(1..7_200_000);
        self.now_ms = match self.rng.random_range(0..100) {
            0 => self.now_ms + jump_ms,
            1 => self.now_ms - jump_ms.min(self.now_ms / 2),
            _ => self.now_ms + self.rng.random_range(100..1500),
        };
    }

    /// What is there changes now and then, and mostly gets well again.
    fn weather(&mut self) {
        for arm in Arm::ALL {
            let (roll, well) = (self.rng.random_range(0..1000), self.chance(0.1));
            let seen = self.sight.arm_mut(arm);
            match roll {
                0..6 => seen.severe = true,
                6..12 => seen.down = Votes { down: 2, of: 3 },
                12..18 => seen.health = ArmHealth::Sick,
                18..21 => seen.health = ArmHealth::Draining,
                21..24 => seen.health = ArmHealth::Unknown,
                24..32 => seen.risk = Some(Risk::clamped(f64::from(roll) / 32.0)),
                32..36 => seen.capacity_rps = Some(250.0),
                36 => seen.capacity_rps = None,
                _ if well => *seen = *calm().arm(arm),
                _ => {}
            }
        }
        let known = calm().sync;
        match self.rng.random_range(0..300) {
            0 => self.sight.sync = Sync::Unknown,
            1..3 => {
                if let Sync::Known { lag, .. } = &mut self.sight.sync {
                    *lag = Duration::from_secs(30);
                }
            }
            3..30 => self.sight.sync = known,
            30 => self.sight.bake.alarm = true,
            31..60 => self.sight.bake.alarm = false,
            60 => self.sight.blocked = Some("window".to_owned()),
            61..80 => self.sight.blocked = None,
            _ => {}
        }
        if let Sync::Known { caught_up, .. } = &mut self.sight.sync {
            *caught_up = self.sight.writer.fenced;
        }
        let opinion = match self.rng.random_range(0..100) {
            0 => Opinion::Worse,
            1..40 => Opinion::Undecided,
            _ => Opinion::NotWorse,
        };
        self.sight.finding = Some(Finding {
            round: self.pair.round,
            opinion,
            step_enough: opinion == Opinion::NotWorse,
            ..Finding::default()
        });
    }

    fn command(&mut self) {
        if self.chance(0.04) {
            let command = self.random_command();
            self.keys += 1;
            self.orders.push(order(command, &self.keys.to_string()));
        }
        if self.chance(0.05) {
            // Who is not sure that it arrived sends it again.
            let again = self.orders.last().cloned();
            self.orders.extend(again);
        }
        if self.orders.len() > 6 {
            self.orders.remove(0);
        }
    }

    fn random_command(&mut self) -> Command {
        let until_ms = self.now_ms + self.rng.random_range(1..90_000);
        let share = BasisPoints::percent(self.rng.random_range(0..=100));
        match self.rng.random_range(0..16) {
            0..4 => Command::Promote {
                full: self.chance(0.5),
            },
            4 => Command::Abort,
            5 => Command::Pause,
            6 => Command::Resume,
            7 => Command::Retry,
            8 => Command::Undo,
            9 => Command::Freeze,
            10..13 => Command::Unfreeze,
            13 => Command::Override {
                setting: Setting::Share(share),
                until_ms,
            },
            14 => Command::ClearOverride { what: What::Share },
            _ => Command::Drill {
                scenario: Scenario::PrimaryGone,
            },
        }
    }

    /// The controller dies and reads what is on disk; sometimes another one leads from then on.
    fn crash(&mut self) {
        if self.chance(0.3) {
            self.rival = Some((self.leader, self.pair.clone()));
            self.leader = self.leader.next();
        }
        self.pair = serde_json::from_str(&self.disk).unwrap();
    }

    fn tick(&mut self) {
        let sight = Sight {
            epoch: self.leader,
            acks: self.acks(),
            ..self.sight.clone()
        };
        let step = self.pair.step(&sight, &self.orders, &self.policy, self.now_ms);
        if self.chance(0.02) {
            // It dies before anything is written down: nothing has happened.
            self.pair = serde_json::from_str(&self.disk).unwrap();
            return;
        }
        self.check_step(&sight, &step);
        self.disk = serde_json::to_string(&step.pair).unwrap();
        self.inputs.push((sight, self.orders.clone(), self.now_ms));
        if step.pair.state == State::FailedOver && self.pair.state != State::FailedOver {
            self.emergencies.insert(step.pair.writer.term);
        }
        self.pair = step.pair;
        self.states.insert(self.pair.state);
        self.journal.extend(step.transition);
        if self.chance(0.02) {
            // It dies before anything is sent; the next step asks for the same.
            return;
        }
        self.send(self.leader, &step.effects);
    }

    /// A deposed controller goes on for a while. It cannot write down what it wants, and so it sends nothing; and what it
    /// had sent before is on its way still.
    fn rival_ticks(&mut self) {
        let Some((epoch, pair)) = self.rival.take() else {
            return;
        };
        let sight = Sight {
            epoch,
            ..self.sight.clone()
        };
        let step = pair.step(&sight, &[], &self.policy, self.now_ms);
        let may_write = epoch >= self.leader;
        assert!(!may_write, "there are two leaders");
        // What it wanted of the one on disk would be refused by the pair itself, too.
        let on_disk: Pair = serde_json::from_str(&self.disk).unwrap();
        if on_disk.epoch > epoch {
            let late = on_disk.step(&sight, &[], &self.policy, self.now_ms);
            assert!(late.deposed && late.effects.is_empty() && late.pair == on_disk);
        }
        if self.chance(0.9) {
            self.rival = Some((epoch, step.pair));
        }
    }

    fn acks(&mut self) -> super::super::sight::Acks {
        let mut acknowledged: Vec<Generation> = self.proxies.iter().map(|told| told.generation).collect();
        acknowledged.sort();
        super::super::sight::Acks {
            quorum: acknowledged[PROXIES / 2],
            all: acknowledged[0],
        }
    }

    fn send(&mut self, epoch: Epoch, effects: &[Effect]) {
        for effect in effects {
            match *effect {
                Effect::Publish { generation } => {
                    let told = Told { epoch, generation };
                    self.post
                        .extend((0..PROXIES).map(|proxy| Letter::Plan { proxy, told }));
                }
                Effect::Fence { arm, term } => self.post.push(Letter::Writer {
                    to: arm,
                    term,
                    may_write: false,
                }),
                Effect::Grant { arm, term } => self.post.push(Letter::Writer {
                    to: arm,
                    term,
                    may_write: true,
                }),
                _ => {}
            }
        }
    }

    /// Some letters arrive, some twice, some much later, some never.
    fn deliver(&mut self) {
        let post = std::mem::take(&mut self.post);
        for letter in post {
            match self.rng.random_range(0..10) {
                0 => {}
                1..4 => self.post.push(letter),
                4 => {
                    self.arrive(&letter);
                    self.post.push(letter);
                }
                _ => self.arrive(&letter),
            }
        }
        self.post.truncate(200);
    }

    fn arrive(&mut self, letter: &Letter) {
        match *letter {
            Letter::Plan { proxy, told } => {
                let before = self.proxies[proxy];
                if told > before {
                    self.proxies[proxy] = told;
                }
                assert!(
                    self.proxies[proxy].generation >= before.generation,
                    "a proxy went back"
                );
            }
            Letter::Writer { to, term, may_write } => {
                let scribe = &mut self.scribes[to.index()];
                if term < scribe.heard {
                    return;
                }
                *scribe = Scribe {
                    heard: term,
                    writes: may_write,
                };
                let seen = &mut self.sight.writer;
                let confirmed = if may_write {
                    &mut seen.granted
                } else {
                    &mut seen.fenced
                };
                *confirmed = (*confirmed).max(Some(term));
            }
        }
    }

    fn check_step(&self, sight: &Sight, step: &Step) {
        let pair = &self.pair;
        assert!(step.pair.generation >= pair.generation && step.pair.writer.term >= pair.writer.term);
        let replayed = pair.step(sight, &self.orders, &self.policy, self.now_ms);
        assert_eq!(&replayed, step, "the same inputs came to something else");
        let Some(made) = &step.transition else {
            assert_eq!(
                step.pair.weights(),
                pair.weights(),
                "weights changed without a record"
            );
            return;
        };
        assert!(!made.cause.to_string().is_empty());
        assert!(
            !(pair.ponr && matches!(made.to, State::RollingBack(_))),
            "it went back to old data"
        );
        for arm in Arm::ALL {
            let (before, after) = (made.before[arm.index()], made.after[arm.index()]);
            let carried = sight
                .arm(arm)
                .capacity_rps
                .is_none_or(|has| sight.demand_rps * after.fraction() <= has + 1e-6);
            let ended = matches!(made.cause, super::super::cause::Cause::OverrideEnded { .. });
            let ordered = made
                .order
                .as_ref()
                .is_some_and(|order| matches!(order.command, Command::ClearOverride { .. }));
            let emergency =
                made.to == State::FailedOver || ended || ordered || pair.overrides.share().is_some();
            assert!(
                after <= before || carried || emergency,
                "{arm} was given more than it carries: {made:?}"
            );
        }
    }

    fn check(&self) {
        let pair = &self.pair;
        let [primary, shadow] = pair.weights();
        assert_eq!(u16::from(primary) + u16::from(shadow), 10_000);
        let [a, b] = self.scribes;
        assert!(
            !(a.writes && b.writes && a.heard == b.heard),
            "two writers in term {}",
            a.heard
        );
        let newer = a.heard.max(b.heard);
        assert!(
            !(a.writes && b.writes) || self.emergencies.contains(&newer),
            "two writers without a failover"
        );
        let Some(limit) = pair.state.deadline(&self.policy) else {
            return;
        };
        let spent = match pair.state {
            // An operator may resume a step whose time is over.
            State::Shifting(Shifting::Advancing) => pair.course.on_step.min(pair.elapsed),
            _ => pair.elapsed,
        };
        // A tick to see it, and one in which an alert is raised first.
        let slack = self.policy.times.tick_max * 3;
        assert!(
            spent <= limit + slack || pair.suspended.is_some(),
            "{} for {spent:?}",
            pair.state
        );
    }

    /// The journal of inputs gives the same pair again.
    fn replay(&self) -> Pair {
        let born = Pair::new(id("a"), Mode::Live);
        self.inputs.iter().fold(born, |pair, (sight, orders, now_ms)| {
            pair.step(sight, orders, &self.policy, *now_ms).pair
        })
    }
}

/// Deadlines of seconds, so that a life of minutes meets all of them.
fn random_policy(rng: &mut StdRng) -> Policy {
    let mut seconds = |most: u64| Duration::from_secs(rng.random_range(2..most));
    let times = Times {
        provisioning: seconds(20),
        syncing: seconds(20),
        validating: seconds(10),
        step_min: seconds(3),
        step_max: seconds(10),
        hold_max: seconds(15),
        pause_max: seconds(20),
        promoting: seconds(10),
        rolling_back: seconds(10),
        failed_over: seconds(10),
        bake: seconds(10),
        bake_max: seconds(30),
        retain_old: seconds(20),
        drill_max: seconds(20),
        tick_max: Duration::from_secs(1),
    };
    let mut policy = Policy {
        times,
        ..Policy::default()
    };
    policy.flap.window = Duration::from_secs(60);
    policy.flap.dwell = Duration::from_secs(3);
    policy.flap.cooldown = Duration::from_secs(5);
    policy.flap.cooldown_max = Duration::from_secs(20);
    policy.sync.reverse = rng.random_bool(0.7);
    policy.on_inconclusive = if rng.random_bool(0.5) {
        Inconclusive::Promote
    } else {
        Inconclusive::Rollback
    };
    policy.old_primary = if rng.random_bool(0.1) {
        OldPrimary::Retire
    } else {
        OldPrimary::Shadow
    };
    policy.rollback = match rng.random_range(0..10) {
        0 => RollbackPolicy::Freeze,
        1 => RollbackPolicy::Manual,
        _ => RollbackPolicy::Auto,
    };
    policy
}

#[test]
fn random_lives_keep_every_promise_and_replay_to_the_same_end() {
    let mut states = BTreeSet::new();
    let mut transitions = 0;
    for seed in 0..SEEDS {
        let mut life = Life::new(seed);
        life.live();
        assert_eq!(
            life.replay(),
            serde_json::from_str(&life.disk).unwrap(),
            "seed {seed}"
        );
        states.extend(life.states.iter().copied());
        transitions += life.journal.len();
    }
    let missed: Vec<String> = State::ALL
        .into_iter()
        .filter(|state| !states.contains(state))
        .map(|state| state.to_string())
        .collect();
    // Nothing is mirrored in these lives.
    assert_eq!(missed, ["Warm.Mirroring", "Warm.Validating"]);
    assert!(transitions > 10_000, "{transitions}");
}

#[test]
fn the_same_seed_is_the_same_life() {
    let live = |seed| {
        let mut life = Life::new(seed);
        life.live();
        (life.disk, life.journal)
    };
    assert_eq!(live(7), live(7));
    assert_ne!(live(7).0, live(8).0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // From wherever a life has led, an abort is obeyed once, and a second one changes nothing more.
    #[test]
    fn an_abort_is_idempotent_wherever_it_comes(seed in 1000u64..100_000, ticks in 1usize..400) {
        let mut life = Life::new(seed);
        for _ in 0..ticks {
            life.weather();
            life.deliver();
            life.command();
            life.pass_time();
            life.tick();
        }
        life.sight = Sight { writer: life.sight.writer, ..calm() };
        let sight = Sight { epoch: life.leader, acks: life.acks(), ..life.sight.clone() };
        let abort = |pair: &Pair, key: &str| {
            // The wall stands still, so that nothing but the order happens.
            let step = pair.step(&sight, &[order(Command::Abort, key)], &life.policy, life.now_ms);
            (step.answers.first().map(|answer| answer.outcome.clone()), step.pair)
        };
        let (first, after) = abort(&life.pair, "first");
        let (second, last) = abort(&after, "second");
        if first == Some(super::super::command::Outcome::Done) && second.is_some() {
            prop_assert_eq!(second, Some(super::super::command::Outcome::Unchanged));
            prop_assert_eq!((after.state.is_active(), after.weights()), (false, last.weights()));
        }
    }

    #[test]
    fn a_pair_survives_being_written_down(seed in 1000u64..100_000, ticks in 1usize..400) {
        let mut life = Life::new(seed);
        for _ in 0..ticks {
            life.weather();
            life.deliver();
            life.command();
            life.pass_time();
            life.tick();
        }
        let text = serde_json::to_string(&life.pair).unwrap();
        prop_assert_eq!(serde_json::from_str::<Pair>(&text).unwrap(), life.pair);
        let [primary, shadow] = serde_json::from_str::<Pair>(&text).unwrap().weights();
        prop_assert_eq!(primary.rest(), shadow);
    }
}
