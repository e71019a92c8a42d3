//! The plan at the scorer: from names to engines, and what is told of the pairs.
//!
//! A plan speaks of names and lasts; engines and tables speak of indices that each configuration makes anew. So it is
//! placed when it comes, and again with each configuration. A pair whose roles are not yet what the plan wants keeps
//! the limits that it had: the reload that swaps them publishes roles and limits in one tick.

use std::collections::HashSet;
use std::sync::Arc;

use foreshade_contract::report::{UNAPPLIED_MAX, Unapplied};
use foreshade_contract::{Arm, Name, PairId, PairPlan, PairReport, Plan, PlanId};
use foreshade_engine::cluster::Guidance;
use foreshade_engine::spec::Role;
use tokio::sync::oneshot;

use super::roles::{Seats, places, seats};
use crate::ledger::books::Sight;
use crate::ledger::{Books, Ledger, Trial};
use crate::mirror::News;
use crate::scorer::Scorer;
use crate::table::Trials;
use crate::topology::Topology;

/// What is told of the pairs under the plan.
#[derive(Debug)]
pub struct Told {
    /// What was seen of them.
    pub pairs: Vec<PairReport>,
    /// Those that cannot be carried out; the first [`UNAPPLIED_MAX`].
    pub unapplied: Vec<Unapplied>,
    /// How many of them there are in all.
    pub unapplied_total: usize,
}

/// The plan, placed in the configuration that runs.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    plan: Option<Arc<Plan>>,
    pairs: Vec<(PairId, Seats)>,
    /// By cluster and endpoint, whose counters it has: an index into `pairs`.
    owners: Vec<Vec<Option<usize>>>,
    trials: Arc<Trials>,
    unapplied: Vec<Unapplied>,
    unapplied_total: usize,
    books: Books,
    /// Requests that were not counted because there was no room for their probability, since the start.
    pub(crate) uncounted: u64,
    /// Told with the next tick.
    waiting: Vec<oneshot::Sender<()>>,
}

impl Followed {
    /// Which plan is in force.
    pub(crate) fn plan_id(&self) -> Option<PlanId> {
        self.plan.as_ref().map(|plan| plan.id())
    }

    /// Pairs under analysis, for the workers.
    pub(crate) fn trials(&self) -> Arc<Trials> {
        self.trials.clone()
    }

    /// Probabilities that were forgotten because a pair had too many, since the start.
    pub(crate) fn forgotten(&self) -> u64 {
        self.books.forgotten
    }

    /// Adds what a worker counted.
    pub(crate) fn add(&mut self, ledger: &Ledger) {
        self.uncounted += ledger.lost;
        for place in ledger.places() {
            let owner = self
                .owners
                .get(place.cluster)
                .and_then(|all| all.get(place.endpoint));
            let owner = owner.copied().flatten().and_then(|index| self.pairs.get(index));
            if let Some((pair, _)) = owner {
                self.books.add(pair, ledger.cells(place));
            }
        }
    }

    /// Adds what the mirror counted to the pairs that it is about. Of an endpoint and a shadow that are none under the plan
    /// the controller does not want to know.
    fn copied(&mut self, mirrored: &News) {
        let Some(plan) = &self.plan else { return };
        for (lane, round, counts) in mirrored {
            let Some(served) = &lane.primary else { continue };
            let sides = [
                (Arm::Shadow, served, &lane.target),
                (Arm::Primary, &lane.target, served),
            ];
            for (arm, primary, shadow) in sides {
                let pair = PairId {
                    cluster: lane.cluster.clone(),
                    primary: primary.clone(),
                };
                if plan.pair(&pair).is_some_and(|plan| plan.shadow == *shadow) {
                    self.books.copied((&pair, *round), arm, counts);
                }
            }
        }
    }

    /// What was asked for is published.
    pub(crate) fn published(&mut self) {
        for waits in self.waiting.drain(..) {
            // He may have given up.
            let _ = waits.send(());
        }
    }

    fn unapplied(&mut self, plan: &PairPlan, why: &str) {
        self.unapplied_total += 1;
        if self.unapplied.len() < UNAPPLIED_MAX {
            self.unapplied.push(Unapplied {
                pair: plan.pair.clone(),
                why: why.to_owned(),
            });
        }
    }

    /// Places the plan in a configuration. What becomes of pairs that have no place in it is told, and nothing else.
    fn place(&mut self, topology: &Topology) {
        let sizes = topology.sizes();
        let mut trials: Trials = sizes.iter().map(|n| vec![None; *n]).collect();
        self.owners = sizes.iter().map(|n| vec![None; *n]).collect();
        (self.pairs, self.unapplied, self.unapplied_total) = (Vec::new(), Vec::new(), 0);
        let plan = self.plan.clone();
        let clusters = places(topology.config());
        for pair in plan.iter().flat_map(|plan| plan.pairs()) {
            let seats = match seats(topology.config(), &clusters, pair) {
                Ok(seats) => seats,
                Err(why) => {
                    self.unapplied(pair, why);
                    continue;
                }
            };
            if topology.cluster(seats.cluster).is_some_and(|c| !c.shift.enabled) {
                self.unapplied(pair, "the cluster's configuration has shifting switched off");
            }
            let index = self.pairs.len();
            // What was begun before roles were swapped is counted where the primary was.
            let primary_before = seats.of(seats.serving.other());
            for (endpoint, is_now) in [(seats.primary(), true), (primary_before, false)] {
                let owner = self
                    .owners
                    .get_mut(seats.cluster)
                    .and_then(|all| all.get_mut(endpoint));
                if let Some(owner) = owner.filter(|owner| is_now || owner.is_none()) {
                    *owner = Some(index);
                }
            }
            let trial = trials
                .get_mut(seats.cluster)
                .and_then(|all| all.get_mut(seats.primary()));
            if let Some(trial) = trial {
                *trial = Some(Trial {
                    round: pair.round,
                    serving: pair.serving,
                    thresholds: pair.thresholds,
                });
            }
            self.pairs.push((pair.pair.clone(), seats));
        }
        self.trials = Arc::new(trials);
    }
}

impl Scorer {
    /// Follows a plan, or none, from the next tick on. `published` is told then.
    pub(crate) fn follow(&mut self, plan: Option<Arc<Plan>>, published: oneshot::Sender<()>) {
        self.followed.waiting.push(published);
        let pairs = plan.as_ref().map(|plan| plan.pairs()).unwrap_or_default();
        self.followed.books.open(pairs);
        self.followed.plan = plan;
        self.guide();
    }

    /// Places the plan in the configuration that runs, and tells the engines what it says.
    pub(crate) fn guide(&mut self) {
        self.followed.place(&self.topology);
        let Some(plan) = self.followed.plan.clone() else {
            self.free(|_, _| false);
            return;
        };
        let planned = plan.pairs().iter().flat_map(|pair| {
            let cluster = &pair.pair.cluster;
            [(cluster, &pair.pair.primary), (cluster, &pair.shadow)]
        });
        let planned: HashSet<_> = planned.collect();
        self.free(|cluster, endpoint| planned.contains(&(cluster, endpoint)));
        for (pair, seats) in &self.followed.pairs {
            let (Some(said), Some(score)) = (plan.pair(pair), self.clusters.get_mut(seats.cluster)) else {
                continue;
            };
            let guidance = Guidance {
                ceiling: said.ceiling,
                directed: said.directed,
                frozen: said.frozen,
                failover: said.failover,
            };
            score.engine.guide(seats.primary(), guidance);
        }
    }

    /// Takes limits away from all primaries that no plan speaks of.
    fn free(&mut self, is_planned: impl Fn(&Name, &Name) -> bool) {
        for score in &mut self.clusters {
            for (index, endpoint) in score.spec.endpoints.iter().enumerate() {
                let is_primary = matches!(endpoint.role, Role::Primary { .. });
                if is_primary && !is_planned(&score.spec.name, &endpoint.name) {
                    score.engine.guide(index, Guidance::NONE);
                }
            }
        }
    }

    /// Writes down what this tick has brought to the pairs under the plan.
    pub(crate) fn keep_books(&mut self) {
        let Self {
            followed,
            clusters,
            seen,
            ..
        } = self;
        for (pair, seats) in &followed.pairs {
            let (Some(score), Some(seen)) = (clusters.get(seats.cluster), seen.get(seats.cluster)) else {
                continue;
            };
            let decided = score.decision.endpoints.get(seats.primary());
            let shift = decided.and_then(|decided| decided.shift.as_ref());
            let believed = &score.engine.assessment().endpoints;
            let [primary, shadow] = seats.arms.map(|index| {
                Some(Sight {
                    believed: believed.get(index)?,
                    seen: seen.get(index)?,
                })
            });
            if let (Some(shift), Some(primary), Some(shadow)) = (shift, primary, shadow) {
                followed
                    .books
                    .tick(pair, seats.serving, shift.share, [primary, shadow]);
            }
        }
    }

    /// What is to be told of the pairs, with what the mirror has to say: all of it, or what has changed since it was told last.
    pub(crate) fn tell(&mut self, complete: bool, mirrored: &News) -> Told {
        self.followed.copied(mirrored);
        Told {
            pairs: self.followed.books.told(complete),
            unapplied: self.followed.unapplied.clone(),
            unapplied_total: self.followed.unapplied_total,
        }
    }
}
