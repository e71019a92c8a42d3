//! The fast loop: every 100 ms, what the workers saw becomes a new table.
//!
//! One thread, one writer. Each tick it asks every worker for what it has seen, hands the sum to the engine, and publishes
//! the engine's decision. The question carries empty buffers and comes back with full ones, so nothing is allocated per
//! tick, and the time until the answer *is* the worker's event-loop lag: when the proxy itself stalls, the endpoints must
//! not be blamed. A worker that does not answer in time is left out of the tick; its buffers come late and count then.
//!
//! The engine lives here and nowhere else. Operators ask and act through [`Command`]s that are served between two ticks.

use std::sync::Arc;
use std::time::Duration;

use foreshade_engine::cluster::ClusterEngine;
use foreshade_engine::decision::ClusterDecision;
use foreshade_engine::observation::Observation;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::clock::Clock;
use crate::command::Command;
use crate::health::ProbeResult;
use crate::table::{Snapshot, Table};
use crate::tally::Tally;
use crate::topology::Topology;
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
    seen: Spoils,
    /// Requests that no route matched, since the start.
    pub(crate) unrouted: u64,
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

impl Scorer {
    /// A scorer and the first table, from engines that know nothing yet.
    pub fn new(clock: Clock, topology: Arc<Topology>) -> (Self, Arc<Table>) {
        let mut rng = SmallRng::from_rng(&mut rand::rng());
        let now = clock.now();
        let clusters: Vec<_> = topology
            .specs()
            .into_iter()
            .map(|spec| {
                let mut engine = ClusterEngine::new(spec.clone(), now);
                let nothing = vec![Observation::default(); spec.endpoints.len()];
                let decision = engine.tick(now, &nothing, Duration::ZERO, &mut rng);
                let counts = vec![[0; Class::COUNT]; spec.endpoints.len()];
                ClusterScore {
                    spec,
                    engine,
                    decision,
                    total: Tally::default(),
                    counts,
                }
            })
            .collect();
        let table = Arc::new(Table::new(snapshot(&clusters)));
        let seen = Spoils::empty(&topology);
        let scorer = Self {
            clock,
            topology,
            table: table.clone(),
            rng,
            clusters,
            spares: Vec::new(),
            seen,
            unrouted: 0,
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

    fn add(&mut self, mut spoils: Spoils) {
        for (mine, theirs) in self
            .seen
            .endpoints
            .iter_mut()
            .flatten()
            .zip(spoils.endpoints.iter().flatten())
        {
            mine.merge(theirs);
        }
        for (mine, theirs) in self.clusters.iter_mut().zip(&spoils.clusters) {
            mine.total.merge(theirs);
        }
        self.unrouted += spoils.unrouted;
        spoils.clear();
        self.spares.push(spoils);
    }

    fn note(&mut self, probe: &ProbeResult) {
        let seen = self
            .seen
            .endpoints
            .get_mut(probe.place.cluster)
            .and_then(|c| c.get_mut(probe.place.endpoint));
        if let Some(seen) = seen {
            seen.probes.passed += u32::from(probe.passed);
            seen.probes.failed += u32::from(!probe.passed);
        }
    }

    /// Decides on what was seen and publishes it.
    fn tick(&mut self) {
        let now = self.clock.now();
        for (score, seen) in self.clusters.iter_mut().zip(&mut self.seen.endpoints) {
            let decision = score.engine.tick(now, seen, self.lag, &mut self.rng);
            announce(&score.spec, &score.decision, &decision);
            score.decision = decision;
            for (counts, seen) in score.counts.iter_mut().zip(seen.iter_mut()) {
                for (count, n) in counts.iter_mut().zip(seen.counts) {
                    *count += u64::from(n);
                }
                seen.clear();
            }
        }
        self.table.publish(snapshot(&self.clusters));
    }

    /// Now, by the proxy's clock.
    pub(crate) fn now(&self) -> foreshade_engine::moment::Moment {
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

fn snapshot(clusters: &[ClusterScore]) -> Snapshot {
    Snapshot {
        clusters: clusters
            .iter()
            .map(|c| ClusterTable::new(&c.spec, &c.decision))
            .collect(),
    }
}
