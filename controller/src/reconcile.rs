//! The loop of the leader: once per tick, what is seen of each pair becomes a step, and the step becomes a plan.
//!
//! In this order, and never another: look (`fleet`), judge (`evidence`), decide (`engine::lifecycle`), write down
//! (`journal`), and only then tell anybody. A step that could not be written down has not happened: the pair stays as it
//! was, its orders wait, and the proxies keep the plan that they have. So a full disk stops the changes and not the
//! traffic, and whoever is killed in the middle left nothing behind that the next one does not find.
//!
//! Everything here is one task and owns what it changes. Orders and reports come in by [`Reconciler`]'s methods between two
//! ticks; plans, pages and answers go out as [`Outcome`].

mod drills;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foreshade_contract::plan::{Plan, PlanId};
use foreshade_contract::{Epoch, Generation, Name, PairId, PairPlan};
use foreshade_engine::lifecycle::cause::Obstacle;
use foreshade_engine::lifecycle::command::{Answer, Order};
use foreshade_engine::lifecycle::effect::Effect;
use foreshade_engine::lifecycle::health::Health;
use foreshade_engine::lifecycle::sight::Sight;
use foreshade_engine::lifecycle::{Pair, Transition};
use foreshade_engine::moment::Moment;
use foreshade_engine::verdict::mirror::Explanation as MirrorExplanation;
use foreshade_engine::verdict::{Explanation, PolicyError};

use self::step::Decided;
use crate::evidence::Evidence;
use crate::fleet::{Fleet, Unable};
use crate::journal::{DrillRecord, ENTRIES_MAX, Journal, Kept};
use crate::leader::{LeaderError, Leadership};
use crate::placing::{Choosing, Chosen};
use crate::spec::{PairSpec, Spec};
use crate::webhook;

/// How often the leader looks. Proxies act by themselves within a tenth of a second; what is decided here takes evidence.
pub const TICK: Duration = Duration::from_millis(250);

/// Orders of one pair that wait for their turn. A step takes one at a time, and people give a few in a minute.
pub const ORDERS_MAX: usize = 16;

/// Plans that a pair's acknowledgement is looked up in. Older ones are acknowledged by whoever acknowledged these.
const PUBLISHED_MAX: usize = 32;

/// Everything that the leader leads.
#[derive(Debug)]
pub struct Reconciler {
    epoch: Epoch,
    pairs: BTreeMap<PairId, Tracked>,
    /// Pairs that are stepped together. Each is in exactly one; most are alone.
    units: Vec<Vec<PairId>>,
    /// What the proxies were told last.
    plan: Option<Arc<Plan>>,
    generation: Generation,
    /// Number of the last order that was answered.
    audited: u64,
    /// Number of the last drill.
    drilled: u64,
    /// When the timetables of drills were looked at last.
    consulted: Option<Moment>,
    journal: Journal,
}

/// One pair under the leader's eyes.
#[derive(Debug)]
struct Tracked {
    spec: PairSpec,
    kept: Kept,
    evidence: Evidence,
    choosing: Choosing,
    saved: Moment,
    orders: VecDeque<Order>,
    /// Under which generation of the plan each of its own was published, the latest last.
    published: VecDeque<(Generation, Generation)>,
    /// What hooks of gates have answered.
    gates: BTreeMap<Name, webhook::Answer>,
    /// What the proxies are to be told.
    plan: Option<PairPlan>,
    /// It is not in the plan that they have been told.
    is_changed: bool,
    last: Shown,
}

/// What the last step said, for people.
#[derive(Clone, Debug)]
struct Shown {
    sight: Sight,
    share: Option<f64>,
    unapplied: Option<Unable>,
    waiting: Vec<Obstacle>,
    health: Health,
}

/// When a tick is: what the controller's own clock shows, and the wall.
#[derive(Clone, Copy, Debug)]
pub struct Instant {
    /// Monotonic, for evidence.
    pub now: Moment,
    /// In milliseconds since 1970, for people.
    pub wall_ms: u64,
}

/// What a tick came to, in the order in which it has to be done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For the proxies, where it has changed.
    pub plan: Option<Arc<Plan>>,
    /// What happened.
    pub transitions: Vec<Transition>,
    /// Answers to orders.
    pub answers: Vec<(PairId, Answer)>,
    /// What is intended and not confirmed, besides the plan.
    pub effects: Vec<(PairId, Effect)>,
    /// Something was written down.
    pub wrote: bool,
    /// Why steps could not be written down, and were not taken.
    pub unwritten: Option<String>,
}

/// One pair, for whoever asks.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// Where it stands.
    pub pair: &'a Pair,
    /// How it is led.
    pub spec: &'a PairSpec,
    /// What was seen of it at the last tick.
    pub sight: &'a Sight,
    /// The share that the arm that does not serve has; nothing where no proxy was heard.
    pub share: Option<f64>,
    /// What stands in the way of what would come next.
    pub waiting: &'a [Obstacle],
    /// In one word.
    pub health: Health,
    /// Why it stands where it stands.
    pub reason: &'a str,
    /// Its drills, the newest last.
    pub drills: &'a VecDeque<DrillRecord>,
    /// How its shadow was chosen, where the configuration names none.
    pub placement: Option<&'a Chosen>,
    /// Proxies that cannot carry it out.
    pub unapplied: Option<&'a Unable>,
    /// What hooks of gates have answered since its last transition.
    pub gates: &'a BTreeMap<Name, webhook::Answer>,
}

/// Why an order was not even taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is no such pair.
    #[error("there is no such pair")]
    Unknown,
    /// Too many wait already.
    #[error("{ORDERS_MAX} orders wait for this pair already")]
    Full,
}

impl Reconciler {
    /// Takes over what is kept, for the pairs that are configured. What is kept of other pairs stays in the store.
    ///
    /// # Errors
    /// When a policy cannot be followed.
    pub fn new(
        spec: &Spec,
        journal: &Journal,
        (mut kept, audited): (BTreeMap<PairId, Kept>, u64),
        epoch: Epoch,
    ) -> Result<Self, PolicyError> {
        let drills = kept.values().flat_map(|kept| &kept.drills);
        let drilled = drills.map(|drill| drill.id).max().unwrap_or_default();
        let mut pairs = BTreeMap::new();
        for pair in &spec.pairs {
            let kept = kept
                .remove(&pair.id)
                .unwrap_or_else(|| Kept::new(Pair::new(pair.id.clone(), pair.mode)));
            pairs.insert(pair.id.clone(), Tracked::new(pair.clone(), kept)?);
        }
        let mut units: Vec<Vec<PairId>> = spec.groups.clone();
        let alone = |id: &&PairId| !spec.groups.iter().flatten().any(|member| member == *id);
        let singles: Vec<_> = pairs.keys().filter(alone).map(|id| vec![id.clone()]).collect();
        units.extend(singles);
        Ok(Self {
            epoch,
            pairs,
            units,
            plan: None,
            generation: Generation::default(),
            audited,
            drilled,
            consulted: None,
            journal: journal.clone(),
        })
    }

    /// Gives an order; it is answered by a later [`Outcome`].
    ///
    /// # Errors
    /// When there is no such pair, or too many orders wait for it.
    pub fn order(&mut self, pair: &PairId, order: Order) -> Result<(), OrderError> {
        let tracked = self.pairs.get_mut(pair).ok_or(OrderError::Unknown)?;
        if tracked.orders.len() >= ORDERS_MAX {
            return Err(OrderError::Full);
        }
        tracked.orders.push_back(order);
        Ok(())
    }

    /// What would come of an order, as things stand; nothing is changed by it.
    pub fn rehearse(&self, pair: &PairId, order: Order, wall_ms: u64) -> Option<(Pair, Option<Answer>)> {
        let tracked = self.pairs.get(pair)?;
        let step = tracked
            .kept
            .pair
            .step(&tracked.last.sight, &[order], &tracked.spec.policy, wall_ms);
        Some((step.pair, step.answers.into_iter().next()))
    }

    /// Forgets an order that has not been reached yet.
    pub fn forget(&mut self, pair: &PairId, key: &str) {
        if let Some(tracked) = self.pairs.get_mut(pair) {
            tracked.orders.retain(|order| order.key != key);
        }
    }

    /// The hook of a gate has answered.
    pub fn gate(&mut self, pair: &PairId, gate: &Name, answer: webhook::Answer) {
        if let Some(tracked) = self.pairs.get_mut(pair) {
            tracked.gates.insert(gate.clone(), answer);
        }
    }

    /// The rounds that reports are expected of.
    pub fn rounds(&self) -> impl Iterator<Item = (PairId, foreshade_contract::Round)> + '_ {
        self.pairs
            .iter()
            .map(|(id, tracked)| (id.clone(), tracked.kept.pair.round))
    }

    /// One pair.
    pub fn view(&self, id: &PairId) -> Option<View<'_>> {
        let tracked = self.pairs.get(id)?;
        Some(View {
            pair: &tracked.kept.pair,
            spec: &tracked.spec,
            sight: &tracked.last.sight,
            share: tracked.last.share,
            waiting: &tracked.last.waiting,
            health: tracked.last.health,
            reason: &tracked.kept.reason,
            drills: &tracked.kept.drills,
            placement: tracked.spec.ground.as_ref().and(tracked.choosing.chosen()),
            unapplied: tracked.last.unapplied.as_ref(),
            gates: &tracked.gates,
        })
    }

    /// The plan that was made last; none of this epoch, before the first.
    pub fn plan_id(&self) -> PlanId {
        PlanId {
            epoch: self.epoch,
            generation: self.generation,
        }
    }

    /// Pairs for which something stands in the way.
    pub fn waiting(&self) -> impl Iterator<Item = View<'_>> {
        let waits = self
            .pairs
            .iter()
            .filter(|(_, tracked)| !tracked.last.waiting.is_empty());
        waits.filter_map(|(id, _)| self.view(id))
    }

    /// Every pair, in order.
    pub fn views(&self) -> impl Iterator<Item = View<'_>> {
        self.pairs.keys().filter_map(|id| self.view(id))
    }

    /// What the judge has to say of a pair.
    pub fn explain(&self, id: &PairId) -> Option<Explanation> {
        self.pairs.get(id).map(|tracked| tracked.evidence.explain())
    }

    /// What mirrors have to say of it; nothing where they have seen nothing.
    pub fn explain_mirror(&self, id: &PairId) -> Option<MirrorExplanation> {
        self.pairs.get(id)?.evidence.explain_mirror()
    }

    /// One tick.
    ///
    /// # Errors
    /// When the leader was deposed. A store that fails otherwise is no error: what could not be written has not happened, and
    /// is tried again.
    pub async fn tick(
        &mut self,
        leadership: &Leadership,
        fleet: &mut Fleet,
        at: Instant,
    ) -> Result<Outcome, LeaderError> {
        self.consult_timetables(at);
        let followed = fleet.followed(self.epoch);
        let mut outcome = Outcome::default();
        let mut together: Vec<Decided> = Vec::new();
        for unit in &self.units {
            let known = (&mut self.pairs, &mut self.drilled);
            let decided = step::decide(known, unit, (self.epoch, followed), fleet, at);
            if !decided.iter().any(Decided::is_news) {
                step::adopt(&mut self.pairs, decided, &mut outcome);
                continue;
            }
            if together.len() + decided.len() > ENTRIES_MAX {
                let full = std::mem::take(&mut together);
                step::commit(
                    (&mut self.pairs, &mut self.audited),
                    &self.journal,
                    full,
                    leadership,
                    &mut outcome,
                )
                .await?;
            }
            together.extend(decided);
        }
        step::commit(
            (&mut self.pairs, &mut self.audited),
            &self.journal,
            together,
            leadership,
            &mut outcome,
        )
        .await?;
        outcome.plan = self.publish();
        Ok(outcome)
    }

    /// The plan, where it differs from the last one. Pairs whose own generation has moved on without it are covered by it.
    fn publish(&mut self) -> Option<Arc<Plan>> {
        let is_new = self.plan.is_none() || self.pairs.values().any(|tracked| tracked.is_changed);
        let mut plan = None;
        if is_new {
            let generation = self.generation.next();
            let id = PlanId {
                epoch: self.epoch,
                generation,
            };
            let pairs = self
                .pairs
                .values()
                .filter_map(|tracked| tracked.plan.clone())
                .collect();
            match Plan::new(id, self.plan.as_deref().map(Plan::id), pairs) {
                Ok(new) => {
                    let new = Arc::new(new);
                    self.generation = generation;
                    self.plan = Some(new.clone());
                    plan = Some(new);
                }
                Err(error) => {
                    tracing::error!(%error, "there is no plan that says all this; the last one stays");
                    return None;
                }
            }
        }
        for tracked in self.pairs.values_mut() {
            tracked.published(self.generation);
        }
        plan
    }
}

impl Tracked {
    fn new(spec: PairSpec, mut kept: Kept) -> Result<Self, PolicyError> {
        let saved = kept.take_evidence();
        let evidence = Evidence::resume(&spec.judge, &kept.pair, saved)?;
        let (plan, health) = (kept.pair.plan(&spec.policy), kept.pair.health());
        // What was chosen for a pair that names its shadow now is its shadow no longer, and keeps nobody else from it.
        let chosen = spec.ground.as_ref().and(kept.placement.clone());
        Ok(Self {
            spec,
            choosing: Choosing::resume(chosen),
            kept,
            evidence,
            saved: Moment::default(),
            orders: VecDeque::new(),
            published: VecDeque::new(),
            gates: BTreeMap::new(),
            plan,
            is_changed: true,
            last: Shown {
                sight: Sight::default(),
                share: None,
                unapplied: None,
                waiting: Vec::new(),
                health,
            },
        })
    }

    /// The plan that is in force has this pair's present intention in it.
    fn published(&mut self, generation: Generation) {
        self.is_changed = false;
        let own = self.kept.pair.generation;
        if self.published.back().is_none_or(|(_, last)| *last != own) {
            if self.published.len() >= PUBLISHED_MAX {
                self.published.pop_front();
            }
            self.published.push_back((generation, own));
        }
    }

    /// The pair's own generation that is followed by whoever follows this one of the plan.
    fn followed(&self, plan: Generation) -> Generation {
        let known = self
            .published
            .iter()
            .rev()
            .find(|(published, _)| *published <= plan);
        known.map_or(Generation::default(), |(_, own)| *own)
    }
}
