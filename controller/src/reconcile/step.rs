//! One step of pairs that are led together: decided from what is seen, written down as one, and only then taken over.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use foreshade_contract::{Epoch, Generation, Name, PairId};
use foreshade_engine::lifecycle::command::{Answer, Command, Order};
use foreshade_engine::lifecycle::group::{Given, Group};
use foreshade_engine::lifecycle::sight::{Acks, Sight, Sync};
use foreshade_engine::lifecycle::{Pair, Step};

use super::{Instant, Outcome, Shown, Tracked};
use crate::fleet::{Fleet, PairView};
use crate::journal::{Audited, DRILLS_MAX, DrillRecord, Entry, Journal, Kept};
use crate::leader::{LeaderError, Leadership};
use crate::placing::Seen;
use crate::webhook::Answer::Open;

/// How often evidence is written down while it grows: what a crash can cost of it.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// A step that may be taken once it is written down.
#[derive(Debug)]
pub(super) struct Decided {
    id: PairId,
    step: Step,
    sight: Sight,
    /// The orders that the step answers.
    answered: Vec<Order>,
    at: Instant,
    /// What has to be written down, if anything.
    kept: Option<Kept>,
}

/// Decides for each pair of a unit. Nothing is changed by it but what is known, and the last number that a drill was given.
pub(super) fn decide(
    (pairs, drilled): (&mut BTreeMap<PairId, Tracked>, &mut u64),
    unit: &[PairId],
    (epoch, followed): (Epoch, (Generation, Generation)),
    fleet: &mut Fleet,
    at: Instant,
) -> Vec<Decided> {
    let mut sights = Vec::with_capacity(unit.len());
    for id in unit {
        let taken = taken(pairs, id, at);
        let Some(tracked) = pairs.get_mut(id) else {
            continue;
        };
        let (shadow, round) = (tracked.kept.pair.shadow.as_ref(), tracked.kept.pair.round);
        let view = fleet.look(id, shadow, round, at.now);
        let placement = tracked.placement(&view, &taken, at);
        tracked.evidence.learn(&tracked.kept.pair, &view.batches, at.now);
        tracked
            .evidence
            .compare(&tracked.kept.pair, &view.mirrored, at.now);
        tracked.last.share = view.share;
        tracked.last.unapplied.clone_from(&view.unapplied);
        let mut sight = tracked.sight(&view, (epoch, followed), at.wall_ms);
        sight.placement = placement;
        sight.thresholds = fleet.thresholds(id, tracked.kept.pair.serving);
        sights.push((id, sight));
    }
    let steps = steps(pairs, &sights, at.wall_ms);
    let decided = sights.into_iter().zip(steps).filter_map(|((id, sight), step)| {
        let tracked = pairs.get_mut(id)?;
        Some(tracked.decide(step, sight, at, drilled))
    });
    decided.collect()
}

/// Standbys that are the shadows of others of the same cluster, or are to be; asked for where this pair is about to choose.
fn taken(pairs: &BTreeMap<PairId, Tracked>, id: &PairId, at: Instant) -> Vec<(Name, PairId)> {
    let asks = |tracked: &&Tracked| tracked.spec.ground.is_some() && tracked.choosing.is_due(at.now);
    if pairs.get(id).filter(asks).is_none() {
        return Vec::new();
    }
    // Pairs are in the order of their clusters: those before it and those after it, as far as its own reaches.
    let is_neighbour = |(other, _): &(&PairId, &Tracked)| other.cluster == id.cluster;
    let before = pairs.range(..id).rev().take_while(is_neighbour);
    let after = pairs.range((Excluded(id), Unbounded)).take_while(is_neighbour);
    let taken = before.chain(after).flat_map(|(other, tracked)| {
        let chosen = tracked
            .choosing
            .chosen()
            .and_then(|chosen| chosen.shadow.as_ref());
        let has = [
            tracked.spec.shadow.as_ref(),
            tracked.kept.pair.shadow.as_ref(),
            chosen,
        ];
        has.into_iter()
            .flatten()
            .map(|name| (name.clone(), other.clone()))
    });
    taken.collect()
}

fn steps(pairs: &BTreeMap<PairId, Tracked>, sights: &[(&PairId, Sight)], wall_ms: u64) -> Vec<Step> {
    let members: Vec<_> = sights
        .iter()
        .filter_map(|(id, sight)| Some((pairs.get(*id)?, sight)))
        .collect();
    let orders: Vec<Vec<_>> = members
        .iter()
        .map(|(tracked, _)| tracked.orders.iter().cloned().collect())
        .collect();
    if let ([(tracked, sight)], [orders]) = (members.as_slice(), orders.as_slice()) {
        return vec![
            tracked
                .kept
                .pair
                .step(sight, orders, &tracked.spec.policy, wall_ms),
        ];
    }
    let given: Vec<_> = members
        .iter()
        .zip(&orders)
        .map(|((tracked, sight), orders)| Given {
            sight,
            orders,
            policy: &tracked.spec.policy,
        })
        .collect();
    let all: Vec<Pair> = members
        .iter()
        .map(|(tracked, _)| tracked.kept.pair.clone())
        .collect();
    // A configuration with a group that is none was refused when it was read.
    Group::new(all)
        .map(|mut group| group.step(&given, wall_ms))
        .unwrap_or_default()
}

/// Writes down what belongs together, and takes it over. Where the store fails nothing of it has happened: nobody was told,
/// so if it was written after all, the next write under the same numbers takes its place.
pub(super) async fn commit(
    (pairs, audited): (&mut BTreeMap<PairId, Tracked>, &mut u64),
    journal: &Journal,
    decided: Vec<Decided>,
    leadership: &Leadership,
    outcome: &mut Outcome,
) -> Result<(), LeaderError> {
    if decided.is_empty() {
        return Ok(());
    }
    let mut last = *audited;
    let orders: Vec<Vec<Audited>> = decided.iter().map(|decided| decided.audited(&mut last)).collect();
    let written = decided.iter().zip(&orders);
    let entries: Vec<_> = written
        .filter_map(|(decided, orders)| {
            Some(Entry {
                kept: decided.kept.as_ref()?,
                transition: decided.step.transition.as_ref(),
                audited: orders,
            })
        })
        .collect();
    match journal.write(leadership, &entries).await {
        Ok(()) => {
            *audited = last;
            outcome.wrote = true;
            adopt(pairs, decided, outcome);
            Ok(())
        }
        Err(LeaderError::Store(error)) => {
            tracing::warn!(%error, pairs = decided.len(), "what was decided could not be written down, so it waits");
            outcome.unwritten = Some(error.to_string());
            Ok(())
        }
        Err(deposed) => Err(deposed),
    }
}

/// Takes steps over.
pub(super) fn adopt(pairs: &mut BTreeMap<PairId, Tracked>, decided: Vec<Decided>, outcome: &mut Outcome) {
    for decided in decided {
        let Decided {
            id,
            step,
            sight,
            at,
            kept,
            ..
        } = decided;
        let Some(tracked) = pairs.get_mut(&id) else {
            continue;
        };
        tracked
            .orders
            .retain(|order| !step.answers.iter().any(|answer| answer.key == order.key));
        match kept {
            Some(mut kept) => {
                drop(kept.take_evidence());
                tracked.kept = kept;
                tracked.saved = at.now;
                tracked.evidence.saved();
            }
            None => tracked.kept.pair = step.pair,
        }
        if step.transition.is_some() {
            // What gates were asked about is past.
            tracked.gates.clear();
        }
        if tracked.plan != step.plan {
            tracked.is_changed = true;
            tracked.plan = step.plan;
        }
        outcome.transitions.extend(step.transition);
        outcome
            .answers
            .extend(step.answers.into_iter().map(|answer| (id.clone(), answer)));
        outcome
            .effects
            .extend(step.effects.iter().cloned().map(|effect| (id.clone(), effect)));
        tracked.last = Shown {
            sight,
            share: tracked.last.share,
            unapplied: tracked.last.unapplied.take(),
            waiting: step.waiting,
            health: step.health,
        };
    }
}

impl Decided {
    /// Whether it has to be written down.
    pub(super) fn is_news(&self) -> bool {
        self.kept.is_some()
    }

    /// The orders that were answered, numbered on from `last`.
    fn audited(&self, last: &mut u64) -> Vec<Audited> {
        let orders = self.step.answers.iter().zip(&self.answered);
        orders
            .map(|(answer, order)| {
                *last += 1;
                Audited {
                    seq: *last,
                    at_ms: self.at.wall_ms,
                    pair: self.id.clone(),
                    order: order.clone(),
                    answer: answer.clone(),
                    generation: self.step.pair.generation,
                }
            })
            .collect()
    }
}

impl Tracked {
    /// The shadow that the pair is to have: the one that is configured, or the one that is chosen.
    fn placement(&mut self, view: &PairView, taken: &[(Name, PairId)], at: Instant) -> Option<Name> {
        let Some(ground) = &self.spec.ground else {
            return self.spec.shadow.clone();
        };
        let pair = &self.kept.pair;
        self.choosing.shadow(
            ground,
            &Seen {
                pair,
                view,
                taken,
                at,
            },
        )
    }

    /// All that is known of the pair now.
    fn sight(
        &self,
        view: &PairView,
        (epoch, (quorum, all)): (Epoch, (Generation, Generation)),
        wall_ms: u64,
    ) -> Sight {
        Sight {
            epoch,
            arms: view.arms,
            demand_rps: view.demand_rps,
            share: view.share.unwrap_or_default(),
            // Replicated state and forecasts are not this version's.
            sync: Sync::Nothing,
            growth_foreseen: false,
            finding: Some(self.evidence.finding()),
            mirror: self.evidence.mirror(),
            bake: self.evidence.bake(),
            acks: Acks {
                quorum: self.followed(quorum),
                all: self.followed(all),
            },
            gates: self
                .gates
                .iter()
                .map(|(gate, answer)| (gate.clone(), *answer == Open))
                .collect(),
            blocked: self.spec.blocked(wall_ms),
            ..Sight::default()
        }
    }

    fn decide(&self, step: Step, sight: Sight, at: Instant, drilled: &mut u64) -> Decided {
        let is_due = self.evidence.is_unsaved() && at.now.since(self.saved) >= SAVE_EVERY;
        let is_reported = step.pair.is_drilling() != self.kept.pair.is_drilling();
        let is_said = step.transition.is_some() || !step.answers.is_empty() || is_reported;
        let is_news = !step.deposed && (is_said || is_due || step.plan != self.plan);
        let find = |answer: &Answer| self.orders.iter().find(|order| order.key == answer.key).cloned();
        let answered: Vec<_> = step.answers.iter().filter_map(find).collect();
        Decided {
            id: self.kept.pair.id.clone(),
            kept: is_news.then(|| self.kept_after(&step, at.wall_ms, drilled)),
            step,
            sight,
            answered,
            at,
        }
    }

    /// What is written down of a step.
    fn kept_after(&self, step: &Step, wall_ms: u64, drilled: &mut u64) -> Kept {
        let (judge, bake, mirror) = self.evidence.save(&step.pair);
        let mut kept = Kept {
            pair: step.pair.clone(),
            judge,
            bake,
            mirror,
            records: self.kept.records + u64::from(step.transition.is_some()),
            reason: self.kept.reason.clone(),
            drills: self.kept.drills.clone(),
            placement: self.choosing.chosen().cloned(),
        };
        if let Some(transition) = &step.transition {
            kept.reason = transition.cause.to_string();
        }
        note_drills(&mut kept, &self.kept.pair, step, wall_ms, drilled);
        kept
    }
}

/// Keeps what drills there were. One begins where there was none, and ends where there is none any more: an order that was
/// obeyed before is answered again without a drill, and two drills may end in the same words.
fn note_drills(kept: &mut Kept, before: &Pair, step: &Step, wall_ms: u64, drilled: &mut u64) {
    match (before.is_drilling(), step.pair.is_drilling()) {
        (false, true) => {
            let order = step.transition.as_ref().and_then(|made| made.order.as_ref());
            let Some((Command::Drill { scenario }, order)) = order.map(|order| (&order.command, order))
            else {
                return;
            };
            // The time is a number that goes on where the pairs are new and the store is not; two of a tick differ.
            *drilled = wall_ms.max(drilled.saturating_add(1));
            kept.drills.push_back(DrillRecord {
                id: *drilled,
                started_ms: wall_ms,
                scenario: *scenario,
                actor: order.actor.clone(),
                ended: None,
            });
            if kept.drills.len() > DRILLS_MAX {
                forget_one(&mut kept.drills);
            }
        }
        (true, false) => {
            if let (Some(report), Some(last)) = (&step.pair.last_drill, kept.drills.back_mut()) {
                last.ended.get_or_insert_with(|| (wall_ms, report.clone()));
            }
        }
        (false, false) | (true, true) => {}
    }
}

/// Forgets the oldest drill that is not the last one of its failure, for timetables ask when that was. There are more
/// records than failures.
fn forget_one(drills: &mut VecDeque<DrillRecord>) {
    let is_repeated = |(at, drill): &(usize, &DrillRecord)| {
        let mut later = drills.iter().skip(at + 1);
        later.any(|later| later.scenario == drill.scenario)
    };
    let repeated = drills.iter().enumerate().find(is_repeated);
    let at = repeated.map_or(0, |(at, _)| at);
    drills.remove(at);
}
