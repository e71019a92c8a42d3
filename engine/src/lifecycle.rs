//! The life of a pair: from no shadow to one that has become the primary, and back. One step per tick of the controller.
//!
//! ```text
//! Unassigned -> Provisioning -> Syncing -> Warm                a shadow is chosen, brought up, brought in sync, kept warm
//!   Warm -> Shifting -> Promoting -> Baking -> Committed       users move with the evidence, then the roles change hands
//!   Committed -> Syncing                                       the old primary is the shadow now
//!   Shifting | Promoting | Baking -> RollingBack -> Failed     it was worse, or not done in time; a rest, then Syncing
//!   anything with a standby -> FailedOver -> Baking            what served is gone
//!   anything -> Frozen                                         nothing is safe to do; somebody has to look
//! ```
//!
//! How to read it: each group of states has a room, with a table of transitions on top (`preparing`, `warm`, `shifting`,
//! `promoting`, `baking`, `retreating`); [`table`] prints all of them. What holds in many states is a law with a room of
//! its own. Each tick asks, in this order, and the first to say something is heard:
//!
//! 1. the epoch: a controller that no longer leads does nothing;
//! 2. `severe`: an arm is gone;
//! 3. `rollback`: it is worse, or unwell;
//! 4. `deadline`: it has lasted too long;
//! 5. `obey`: an operator's order;
//! 6. overrides and pauses that end;
//! 7. the table of the state, with its guards (`guards`): gates, evidence, capacity, sync.
//!
//! So nothing that protects users waits for a gate, an order or a number. A step makes one transition at most, which is
//! one record in the journal, and orders that were not reached are handed in again with the next step. Everything that a
//! step decides from is in its arguments, so a journal of inputs replays to the same state.
//!
//! Three numbers order what is said: the epoch fences controllers, the pair's generation its plans, the writer's term
//! those who write. Effects are what is intended and not confirmed (`effect`): kill the controller anywhere, and the next
//! one asks for the same.
//!
//! Source: progressive delivery research, §4; what other tools got wrong is cited where it is prevented.
// Concept: topo-switchover, region-failover

pub mod cause;
pub mod clock;
pub mod command;
pub mod drill;
pub mod effect;
pub mod flap;
pub mod gates;
pub mod group;
pub mod health;
pub mod overrides;
pub mod points;
pub mod policy;
pub mod safety;
pub mod sight;
pub mod simulate;
pub mod state;
pub mod writer;

mod baking;
mod deadline;
mod guards;
mod obey;
mod plan;
mod preparing;
mod promoting;
mod retreating;
mod rollback;
mod rule;
mod severe;
mod shifting;
#[cfg(test)]
mod tests;
mod turn;
mod view;
mod warm;
mod words;

use std::time::Duration;

use foreshade_contract::{Arm, Epoch, Generation, Name, PairId, PairPlan, Round};
use serde::{Deserialize, Serialize};

use self::cause::{Cause, Obstacle};
use self::clock::Clock;
use self::command::{Answer, Answered, Order};
use self::drill::{Drill, DrillReport};
use self::effect::Effect;
use self::flap::Flap;
use self::gates::Gates;
use self::health::Health;
use self::overrides::Overrides;
use self::points::BasisPoints;
use self::policy::Policy;
pub use self::rule::Row;
use self::rule::Rule;
use self::sight::Sight;
use self::state::State;
use self::view::{Company, Seen};
use self::writer::Writer;

/// A pair and all that has to be remembered of it. Written down after each step, it can be read and gone on with anywhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Which one.
    pub id: PairId,
    /// Its shadow, once one was chosen.
    pub shadow: Option<Name>,
    /// Whether anything is sent.
    pub mode: Mode,
    /// Where it stands.
    pub state: State,
    /// Since when the wall says so, in milliseconds since 1970. To be shown; nothing is decided from it.
    pub since_ms: u64,
    /// How long it has been there, as far as the controller was there too.
    pub elapsed: Duration,
    /// The epoch of the controller that stepped it last.
    pub epoch: Epoch,
    /// Order of its plans, and of what is wanted while it waits: what a gate was asked under one is no answer under another.
    pub generation: Generation,
    /// Its present or last analysis.
    pub round: Round,
    /// The arm that is the primary now.
    pub serving: Arm,
    /// The share of the other one.
    pub share: BasisPoints,
    /// Who may write.
    pub writer: Writer,
    /// Where users go back to, while something is under way.
    pub rollback_target: Option<Arm>,
    /// The old copy is out of date, so there is no going back.
    pub ponr: bool,
    /// The most that the last failover lost.
    pub loss_bound_ms: Option<u64>,
    /// The present shift, or the one that waits.
    pub course: Course,
    /// Where it was frozen.
    pub resume: Option<State>,
    /// How much longer an operator has stopped everything but the severe lane.
    pub suspended: Option<Duration>,
    /// Its turns.
    pub flap: Flap,
    /// What operators have set by hand.
    pub overrides: Overrides,
    /// What they have said to gates.
    pub gates: Gates,
    /// What somebody has to look at.
    pub alert: Option<Alert>,
    /// τ50, τ90, τ99 and τ99.9 of what served before this round.
    pub thresholds: Option<[Duration; 4]>,
    /// The last drill.
    pub last_drill: Option<DrillReport>,
    looks: Looks,
    answered: Answered,
    clock: Clock,
    drill: Option<Box<Drill>>,
}

/// Whether anything is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is.
    #[default]
    Live,
    /// Everything is decided and written down, and nothing is done.
    DryRun,
    /// The copy of a pair in a drill.
    Drill,
}

/// A shift, from the wish for it to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Course {
    /// What wants it.
    pub trigger: Option<Trigger>,
    /// An operator skips evidence and waiting.
    pub full: bool,
    /// An operator skips the evidence of one step.
    pub waiver: bool,
    /// The step that it is at.
    pub step: usize,
    /// Time at this step, on and off hold.
    pub on_step: Duration,
    /// Time for which the risk that began it has been gone.
    pub calm: Duration,
    /// Time for which an order has waited to begin.
    pub waited: Duration,
    /// Users go back because nothing keeps them, not because something failed.
    pub benign: bool,
    /// Everybody has moved, and how many stay is the proxies' to say: see [`shifting`].
    #[serde(default)]
    pub released: bool,
}

/// What wants a shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The risk of what serves.
    Risk,
    /// An operator.
    Rollout,
    /// An operator who wants the old primary back.
    Undo,
    /// Another pair of the same group moves.
    Company,
}

/// What somebody has to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alert {
    /// It should go back, and cannot.
    RollbackBlocked,
    /// A verdict against the shadow, which the policy leaves to an operator.
    Verdict,
    /// Nothing moves until somebody says so.
    Frozen,
    /// What served was gone.
    FailedOver,
    /// Something was not confirmed in time, and it went on without.
    Unconfirmed,
    /// What was ordered waited too long, or was shown to be wrong, and is dropped: until it is ordered again, or aborted.
    GivenUp,
}

/// Looks in a row, none counted further than it takes to believe them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Looks {
    /// At which the standby was well.
    well: u32,
    /// At which it was not.
    unwell: u32,
    /// At which it was out of sync.
    astray: u32,
    /// At which what serves was not well.
    serving_unwell: u32,
}

impl Looks {
    fn forget(&mut self) {
        *self = Self::default();
    }
}

/// One transition: a record of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// Which pair.
    pub pair: PairId,
    /// The epoch of the controller that made it.
    pub epoch: Epoch,
    /// The generation of the plan that it leads to.
    pub generation: Generation,
    /// The analysis that it belongs to.
    pub round: Round,
    /// Where it started.
    pub from: State,
    /// Where it ended: at the same state, where only something about it changed.
    pub to: State,
    /// Why, with numbers.
    pub cause: Cause,
    /// Who ordered it, where somebody did.
    pub order: Option<Order>,
    /// What the arms served before, in the order of [`Arm::ALL`].
    pub before: [BasisPoints; 2],
    /// What they serve after.
    pub after: [BasisPoints; 2],
    /// Where users go back to from here.
    pub rollback_target: Option<Arm>,
    /// There is no going back from here.
    pub ponr: bool,
    /// When, by the wall, in milliseconds since 1970.
    pub at_ms: u64,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The pair from here on.
    pub pair: Pair,
    /// What happened to it. It has to be written down, with the pair, before any effect is carried out.
    pub transition: Option<Transition>,
    /// What is intended and not confirmed.
    pub effects: Vec<Effect>,
    /// What the proxies are told; nothing, before there has been a shadow.
    pub plan: Option<PairPlan>,
    /// Answers to orders, in their order. An order without one is handed in again with the next step.
    pub answers: Vec<Answer>,
    /// What stands in the way of what would come next.
    pub waiting: Vec<Obstacle>,
    /// In one word.
    pub health: Health,
    /// The caller no longer leads: nothing was done, and nothing may be.
    pub deposed: bool,
}

impl Pair {
    /// A pair that nothing has happened to yet.
    pub fn new(id: PairId, mode: Mode) -> Self {
        Self {
            id,
            shadow: None,
            mode,
            state: State::Unassigned,
            since_ms: 0,
            elapsed: Duration::ZERO,
            epoch: Epoch::default(),
            generation: Generation::default(),
            round: Round::default(),
            serving: Arm::Primary,
            share: BasisPoints::ZERO,
            writer: Writer::default(),
            rollback_target: None,
            ponr: false,
            loss_bound_ms: None,
            course: Course::default(),
            resume: None,
            suspended: None,
            flap: Flap::default(),
            overrides: Overrides::default(),
            gates: Gates::default(),
            alert: None,
            thresholds: None,
            last_drill: None,
            looks: Looks::default(),
            answered: Answered::default(),
            clock: Clock::default(),
            drill: None,
        }
    }

    /// One tick: what is seen, what was ordered, and what the wall shows, in milliseconds since 1970.
    pub fn step(&self, sight: &Sight, orders: &[Order], policy: &Policy, now_ms: u64) -> Step {
        self.step_in(sight, orders, policy, now_ms, Company::default())
    }

    fn step_in(
        &self,
        sight: &Sight,
        orders: &[Order],
        policy: &Policy,
        now_ms: u64,
        company: Company<'_>,
    ) -> Step {
        let seen = Seen {
            sight,
            policy,
            now_ms,
            company,
        };
        turn::take(self, orders, seen)
    }

    /// What each arm serves, in the order of [`Arm::ALL`]. Together they are everything.
    pub fn weights(&self) -> [BasisPoints; 2] {
        Self::weights_of(self.serving, self.effective_share())
    }

    fn weights_of(serving: Arm, share: BasisPoints) -> [BasisPoints; 2] {
        match serving {
            Arm::Primary => [share.rest(), share],
            Arm::Shadow => [share, share.rest()],
        }
    }

    /// Evidence is counted from zero, against how the one that serves does now.
    fn new_round(&mut self, seen: Seen<'_>) {
        self.round = self.round.next();
        self.thresholds = seen.sight.thresholds;
    }
}

/// Every transition that a table holds, room by room. Those that laws make in many states stand in their rooms.
pub fn table() -> Vec<Row> {
    rules().map(Row::from).collect()
}

fn rules() -> impl Iterator<Item = &'static Rule> {
    ROOMS.iter().flat_map(|room| room.iter())
}

const ROOMS: [&[Rule]; 6] = [
    preparing::RULES,
    warm::RULES,
    shifting::RULES,
    promoting::RULES,
    baking::RULES,
    retreating::RULES,
];
