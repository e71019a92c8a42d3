//! The fast loop: every 100 ms, what the workers saw becomes a new table.
//!
//! One thread, one writer. Each tick it asks every worker for what it has seen, hands the sum to the engine, and publishes
//! the engine's decision. The question carries empty buffers and comes back with full ones, so nothing is allocated per
//! tick, and the time until the answer *is* the worker's event-loop lag: when the proxy itself stalls, the endpoints must
//! not be blamed. A worker that does not answer in time is left out of the tick; its buffers come late and count then.
//!
//! The engine lives here and nowhere else. Operators ask and act through [`Command`]s that are served between two ticks.
//!
//! A new configuration comes as a command, too, whole and checked. It waits for the next tick: that tick's observations
//! are carried over, the engines get their new shape, decide, and what they decide is published together with the
//! configuration. So a reload is an ordinary tick with other endpoints, and nothing is decided twice or in between.

use std::sync::Arc;
use std::time::Duration;

use foreshade_contract::Plan;
use foreshade_engine::cluster::ClusterEngine;
use foreshade_engine::decision::{ClusterDecision, EndpointDecision};
use foreshade_engine::lineage::Lineage;
use foreshade_engine::moment::Moment;
use foreshade_engine::observation::Observation;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::clock::Clock;
use crate::command::Command;
use crate::health::ProbeResult;
use crate::plan::follow::Followed;
use crate::policy::Policed;
use crate::recorder::{Harvest, empty_harvest};
use crate::table::{Snapshot, Table, Trials};
use crate::tally::{Counts, Tally};
use crate::topology::Topology;
use crate::topology::descent::Descent;
use crate::worker::Spoils;

use foreshade_engine::balance::ClusterTable;
use foreshade_engine::outcome::Class;
use foreshade_engine::spec::ClusterSpec;

/// Time between two decisions. Source: `docs/risk.md`, time-scales.
pub const TICK: Duration = Duration::from_millis(100);

/// How long a tick waits for the workers. Far above their usual microseconds, and a fraction of the tick.
const PATIENCE: Duration = Duration::from_millis(40);

/// A worker is asked for what it saw.
#[derive(Debug)]
pub struct Question {
    /// Empty buffers, in exchange.
    pub spare: Spoils,
    /// Where the full ones go.
    pub answers: mpsc::Sender<Spoils>,
}

/// The scorer's ends of its channels.
#[derive(Debug)]
pub struct Inputs {
    /// One per worker, each with room for one question.
    pub workers: Vec<mpsc::Sender<Question>>,
    /// What operators ask.
    pub commands: mpsc::Receiver<Command>,
    /// What the prober found.
    pub probes: mpsc::Receiver<ProbeResult>,
}

/// The fast loop's state.
#[derive(Debug)]
pub struct Scorer {
    clock: Clock,
    pub(crate) topology: Arc<Topology>,
    table: Arc<Table>,
    rng: SmallRng,
    /// By cluster index.
    pub(crate) clusters: Vec<ClusterScore>,
    /// Buffers at rest, to be handed out with the next questions.
    spares: Vec<Spoils>,
    /// What this tick saw, summed over the workers.
    pub(crate) seen: Harvest,
    /// The controller's plan.
    pub(crate) followed: Followed,
    /// The configuration that the next tick takes over, and who waits for it.
    next: Option<(Arc<Topology>, oneshot::Sender<()>)>,
    /// Requests that no route matched, since the start.
    pub(crate) unrouted: u64,
    /// Clients that were refused, by why, since the start.
    pub(crate) refused: Counts,
    /// Requests that their route answered, by why, since the start.
    pub(crate) answered_here: Counts,
    /// What policies did since the start.
    pub(crate) policed: Policed,
    /// How long the slowest worker took to answer in the last tick.
    pub(crate) lag: Duration,
    /// Workers that did not answer in time, since the start.
    pub(crate) late: u64,
}

/// One cluster's engine, and its sums since the start.
#[derive(Debug)]
pub struct ClusterScore {
    /// What the engine was built from.
    pub spec: ClusterSpec,
    /// Risk and shift.
    pub engine: ClusterEngine,
    /// The newest decision.
    pub decision: ClusterDecision,
    /// What users saw, since the start.
    pub total: Tally,
    /// Ends of attempts since the start, by endpoint and class.
    pub counts: Vec<[u64; Class::COUNT]>,
}

impl ClusterScore {
    /// Of a cluster that nobody knows yet.
    fn new(spec: ClusterSpec, now: Moment, rng: &mut SmallRng) -> Self {
        let mut engine = ClusterEngine::new(spec.clone(), now);
        let nothing = vec![Observation::default(); spec.endpoints.len()];
        let decision = engine.tick(now, &nothing, Duration::ZERO, rng);
        Self {
            engine,
            decision,
            total: Tally::default(),
            counts: vec![[0; Class::COUNT]; spec.endpoints.len()],
            spec,
        }
    }

    /// The same cluster with another configuration.
    fn reshaped(mut self, spec: ClusterSpec, lineage: &Lineage) -> Self {
        for order in self.engine.reshape(spec.clone(), lineage) {
            let endpoint = self.spec.endpoints.get(order.endpoint).map(|e| e.name.as_str());
            let (cluster, reason) = (spec.name.as_str(), &order.reason);
            tracing::warn!(
                cluster,
                endpoint,
                reason,
                "override ended: what it was about is gone"
            );
        }
        let decided = std::mem::take(&mut self.decision.endpoints);
        self.decision.endpoints = lineage.carry(decided, |_| EndpointDecision::undecided());
        self.counts = lineage.carry(self.counts, |_| [0; Class::COUNT]);
        self.spec = spec;
        self
    }
}

impl Scorer {
    /// A scorer and the first table, from engines that know nothing yet.
    pub fn new(clock: Clock, topology: Arc<Topology>) -> (Self, Arc<Table>) {
        let mut rng = SmallRng::from_rng(&mut rand::rng());
        let now = clock.now();
        let clusters: Vec<_> = topology
            .specs()
            .into_iter()
            .map(|spec| ClusterScore::new(spec, now, &mut rng))
            .collect();
        let table = Arc::new(Table::new(snapshot(&topology, &clusters, Arc::default())));
        let seen = empty_harvest(&topology.sizes());
        let scorer = Self {
            clock,
            topology,
            table: table.clone(),
            rng,
            clusters,
            spares: Vec::new(),
            seen,
            followed: Followed::default(),
            next: None,
            unrouted: 0,
            refused: Counts::default(),
            answered_here: Counts::default(),
            policed: Policed::default(),
            lag: Duration::ZERO,
            late: 0,
        };
        (scorer, table)
    }

    /// Runs until the workers are gone.
    pub async fn run(mut self, mut inputs: Inputs) {
        self.spares
            .extend(inputs.workers.iter().map(|_| Spoils::empty(&self.topology)));
        // Room for every worker's answer and the late ones of the tick before.
        let (answers, mut answered) = mpsc::channel(2 * inputs.workers.len());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => {
                    if !self.gather(&inputs.workers, &answers, &mut answered).await {
                        return;
                    }
                    self.tick();
                }
                Some(command) = inputs.commands.recv() => self.serve(command),
                Some(probe) = inputs.probes.recv() => self.note(&probe),
            }
        }
    }

    /// Asks all workers and sums up what they answer in time. False once all of them are gone.
    async fn gather(
        &mut self,
        workers: &[mpsc::Sender<Question>],
        answers: &mpsc::Sender<Spoils>,
        answered: &mut mpsc::Receiver<Spoils>,
    ) -> bool {
        let asked_at = Instant::now();
        let mut expected = 0;
        for worker in workers {
            let Some(spare) = self.spares.pop() else { break };
            match worker.try_send(Question {
                spare,
                answers: answers.clone(),
            }) {
                Ok(()) => expected += 1,
                Err(mpsc::error::TrySendError::Full(q)) => self.spares.push(q.spare),
                Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        }
        if workers.iter().all(|w| w.is_closed()) {
            return false;
        }
        let deadline = asked_at + PATIENCE;
        while expected > 0 {
            let Ok(Some(spoils)) = timeout_at(deadline, answered.recv()).await else {
                break;
            };
            self.add(spoils);
            expected -= 1;
        }
        // Answers to an earlier question that came late.
        while let Ok(spoils) = answered.try_recv() {
            self.add(spoils);
        }
        self.late += expected;
        self.lag = asked_at.elapsed();
        true
    }

    /// Adds what a worker saw, and keeps the buffers for the next question.
    fn add(&mut self, mut spoils: Spoils) {
        if spoils.topology.generation() != self.topology.generation() {
            // Seen under a configuration before. What stayed keeps what was seen of it.
            let descent = Descent::between(&spoils.topology, &self.topology);
            spoils = spoils.carried(&descent, &self.topology);
        }
        for (mine, theirs) in self
            .seen
            .iter_mut()
            .flatten()
            .zip(spoils.endpoints.iter().flatten())
        {
            mine.merge(theirs);
        }
        for (mine, theirs) in self.clusters.iter_mut().zip(&spoils.clusters) {
            mine.total.merge(theirs);
        }
        self.followed.add(&spoils.ledger);
        self.unrouted += spoils.unrouted;
        self.refused.merge(&spoils.refused);
        self.answered_here.merge(&spoils.answered_here);
        self.policed.merge(&spoils.policed);
        spoils.clear();
        self.spares.push(spoils);
    }

    fn note(&mut self, probe: &ProbeResult) {
        // The probe of an endpoint that is gone by now says nothing about anybody else.
        let place = self.topology.place(probe.endpoint);
        let seen = place.and_then(|place| self.seen.get_mut(place.cluster)?.get_mut(place.endpoint));
        if let Some(seen) = seen {
            seen.probes.passed += u32::from(probe.passed);
            seen.probes.failed += u32::from(!probe.passed);
        }
    }

    /// A configuration for the next tick. `adopted` is told when it is published.
    pub(crate) fn prepare(&mut self, topology: Arc<Topology>, adopted: oneshot::Sender<()>) {
        self.next = Some((topology, adopted));
    }

    /// Takes another configuration over. What stays goes on, with everything that was counted and learnt of it.
    fn adopt(&mut self, topology: Arc<Topology>) {
        let descent = Descent::between(&self.topology, &topology);
        let now = self.clock.now();
        let before = std::mem::take(&mut self.clusters).into_iter().map(Some).collect();
        self.clusters = descent
            .clusters
            .carry(before, |_| None)
            .into_iter()
            .zip(&descent.endpoints)
            .zip(topology.specs())
            .map(|((score, lineage), spec)| match score {
                Some(score) => score.reshaped(spec, lineage),
                None => ClusterScore::new(spec, now, &mut self.rng),
            })
            .collect();
        self.seen = descent.carry(std::mem::take(&mut self.seen), Observation::default);
        for spare in &mut self.spares {
            *spare = Spoils::empty(&topology);
        }
        self.topology = topology;
        self.guide();
    }

    /// Begins with the plan that was kept, before anybody is served.
    pub fn begin_with(&mut self, plan: Arc<Plan>) {
        // Nobody waits for it.
        self.follow(Some(plan), oneshot::channel().0);
        self.tick();
    }

    /// Decides on what was seen and publishes it.
    pub(crate) fn tick(&mut self) {
        let adopted = self.next.take().map(|(topology, adopted)| {
            self.adopt(topology);
            adopted
        });
        let now = self.clock.now();
        for (score, seen) in self.clusters.iter_mut().zip(&self.seen) {
            let decision = score.engine.tick(now, seen, self.lag, &mut self.rng);
            announce(&score.spec, &score.decision, &decision);
            score.decision = decision;
        }
        self.keep_books();
        for (score, seen) in self.clusters.iter_mut().zip(&mut self.seen) {
            for (counts, seen) in score.counts.iter_mut().zip(seen.iter_mut()) {
                for (count, n) in counts.iter_mut().zip(seen.counts) {
                    *count += u64::from(n);
                }
                seen.clear();
            }
        }
        let trials = self.followed.trials();
        self.table
            .publish(snapshot(&self.topology, &self.clusters, trials));
        self.followed.published();
        if let Some(adopted) = adopted {
            // Whoever asked for it may have given up.
            let _ = adopted.send(());
        }
    }

    /// Now, by the proxy's clock.
    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }
}

/// One event per decision that changed something, with what it was made from. `/v1/explain` tells the same at length.
fn announce(spec: &ClusterSpec, before: &ClusterDecision, after: &ClusterDecision) {
    let cluster = spec.name.as_str();
    if before.mode != after.mode {
        tracing::info!(
            cluster,
            from = before.mode.label(),
            to = after.mode.label(),
            "mode changed"
        );
    }
    for ((endpoint, before), after) in spec.endpoints.iter().zip(&before.endpoints).zip(&after.endpoints) {
        let name = endpoint.name.as_str();
        if before.available != after.available {
            let risk = after.risk.value();
            tracing::info!(
                cluster,
                endpoint = name,
                available = after.available,
                risk,
                "availability changed"
            );
        }
        if let (Some(before), Some(shift)) = (&before.shift, &after.shift)
            && before.phase != shift.phase
        {
            let (risk, share, bound) = (after.risk.value(), shift.share.value(), shift.bound.label());
            let (phase, reason) = (shift.phase.label(), &shift.reason);
            tracing::info!(cluster, endpoint = name, phase, share, risk, bound, %reason, "shift changed");
        }
    }
}

fn snapshot(topology: &Arc<Topology>, clusters: &[ClusterScore], trials: Arc<Trials>) -> Snapshot {
    Snapshot {
        topology: topology.clone(),
        trials,
        clusters: clusters
            .iter()
            .map(|c| ClusterTable::new(&c.spec, &c.decision))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use foreshade_engine::outcome::{Outcome, RouteClass};

    fn topology(endpoints: &str) -> config::Config {
        let text = format!(
            "apiVersion: foreshade/v1\nlisteners:\n  - name: web\n    address: 127.0.0.1:8080\n    routes: [{{ match: \
             {{ path: {{ prefix: / }} }}, cluster: shop }}]\nclusters:\n  - {{ name: shop, endpoints: [{endpoints}] }}\n"
        );
        config::parse(&text, "test").unwrap()
    }

    const A: &str = "{ name: a, address: 127.0.0.1:9001 }";
    const B: &str = "{ name: b, address: 127.0.0.1:9002 }";

    /// One attempt at the endpoint at this index was served, and one user answered.
    fn spoils(topology: &Arc<Topology>, endpoint: usize) -> Spoils {
        let mut spoils = Spoils::empty(topology);
        spoils.endpoints[0][endpoint].record(&Outcome {
            class: Class::Ok,
            latency: Duration::from_millis(3),
            route_class: RouteClass::default(),
            in_flight_at_start: 0,
        });
        spoils.clusters[0].answered(200, None);
        spoils
    }

    #[test]
    fn counters_go_on_across_configurations_whenever_their_figures_come() {
        let first = Topology::new(topology(&format!("{A}, {B}")));
        let (mut scorer, table) = Scorer::new(Clock::start(), first.clone());
        scorer.add(spoils(&first, 1));
        scorer.tick();
        let second = first.next(topology(&format!("{B}, {A}")));
        let (adopted, mut published) = oneshot::channel();
        scorer.prepare(second.clone(), adopted);
        // Seen before the configuration is taken over, and collected in the same tick.
        scorer.add(spoils(&first, 1));
        scorer.tick();
        assert!(published.try_recv().is_ok());
        assert_eq!(table.newest().topology.generation(), 2);
        // A worker that was late by a configuration, and one that was not.
        scorer.add(spoils(&first, 1));
        scorer.add(spoils(&second, 0));
        scorer.tick();
        let ok = |score: &ClusterScore, endpoint: usize| score.counts[endpoint].iter().sum::<u64>();
        let [shop] = &scorer.clusters[..] else {
            panic!("one cluster")
        };
        assert_eq!((ok(shop, 0), ok(shop, 1)), (4, 0), "b is the first now");
        assert_eq!(shop.total.answers[2], 4);
    }

    #[test]
    fn a_probe_of_an_endpoint_that_is_gone_says_nothing_of_another() {
        let first = Topology::new(topology(&format!("{A}, {B}")));
        let (mut scorer, _table) = Scorer::new(Clock::start(), first.clone());
        let id = |endpoint| {
            first
                .endpoint_id(crate::recorder::Place { cluster: 0, endpoint })
                .unwrap()
        };
        scorer.prepare(first.next(topology(B)), oneshot::channel().0);
        scorer.tick();
        for endpoint in [0, 1] {
            scorer.note(&ProbeResult {
                endpoint: id(endpoint),
                passed: false,
                latency: Duration::ZERO,
            });
        }
        assert_eq!(scorer.seen[0][0].probes.failed, 1, "that of b alone");
    }
}
