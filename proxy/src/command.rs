//! What operators ask of the scorer and tell it: the only way from the admin interface to the engine.

use std::sync::Arc;
use std::time::Duration;

use foreshade_contract::{Plan, Risk};
use foreshade_engine::assessment::Assessment;
use foreshade_engine::cluster::{ClusterEngine, Override, Setting};
use foreshade_engine::decision::{EndpointDecision, Mode};
use foreshade_engine::explain::Explanation;
use foreshade_engine::outcome::Class;
use foreshade_engine::risk::Advisory;
use tokio::sync::oneshot;

use crate::mirror::News;
use crate::plan::follow::Told;
use crate::policy::Policed;
use crate::scorer::Scorer;
use crate::tally::{Counts, Tally};
use crate::topology::Topology;
use crate::topology::ids::EndpointId;
use crate::upgrade::words::State;

/// A question or an order. A dropped answer channel means that nobody waits any more.
#[derive(Debug)]
pub enum Command {
    /// Show everything.
    View(oneshot::Sender<View>),
    /// Explain one endpoint.
    Explain(EndpointId, oneshot::Sender<Option<Explanation>>),
    /// Somebody warns of an endpoint.
    Advise(Advice, oneshot::Sender<Result<(), String>>),
    /// An operator overrules the engine.
    Override(Order, oneshot::Sender<Result<(), String>>),
    /// An operator takes an override back.
    ClearOverride(EndpointId, oneshot::Sender<Result<(), String>>),
    /// Follow a plan, or none, from the next tick on. Answered when it is published.
    Follow(Option<Arc<Plan>>, oneshot::Sender<()>),
    /// Tell what was seen of the pairs under the plan: all of it, or what has changed since it was told last.
    Tell {
        /// All of it.
        complete: bool,
        /// What the mirror has counted since it was told last.
        mirrored: News,
        /// Where to.
        to: oneshot::Sender<Told>,
    },
    /// Say that the scorer lives.
    Answer(oneshot::Sender<()>),
    /// Tell a successor what is known.
    Bequeath(oneshot::Sender<State>),
    /// Take another configuration over, with the next tick. Answered when it is published.
    Adopt(Arc<Topology>, oneshot::Sender<()>),
}

/// A warning about an endpoint.
#[derive(Clone, Debug)]
pub struct Advice {
    /// Which endpoint.
    pub endpoint: EndpointId,
    /// Who warns.
    pub source: String,
    /// Of what.
    pub reason: String,
    /// How bad it would be.
    pub value: Risk,
    /// How far the source is trusted, 0 to 1.
    pub trust: f64,
    /// After this time it counts half.
    pub half_life: Duration,
    /// After this time it counts nothing.
    pub ttl: Duration,
}

/// An override of share or risk.
#[derive(Clone, Debug)]
pub struct Order {
    /// Which endpoint.
    pub endpoint: EndpointId,
    /// What is set.
    pub setting: Setting,
    /// Why.
    pub reason: String,
    /// After this time the engine decides again.
    pub ttl: Duration,
}

/// All clusters as the scorer sees them, at one tick.
#[derive(Clone, Debug)]
pub struct View {
    /// What the indices mean.
    pub topology: Arc<Topology>,
    /// By cluster index.
    pub clusters: Vec<ClusterView>,
    /// Requests that no route matched.
    pub unrouted: u64,
    /// Clients that were refused, by why.
    pub refused: Counts,
    /// Requests that were answered here, by why.
    pub answered_here: Counts,
    /// What policies did.
    pub policed: Policed,
    /// How long the slowest worker took to answer in the last tick.
    pub lag: Duration,
    /// Workers that missed a tick.
    pub late: u64,
    /// Requests that were not counted for a pair under analysis, for want of room.
    pub uncounted: u64,
    /// Probabilities that were forgotten because a pair had too many.
    pub forgotten: u64,
}

/// One cluster.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// Its mode.
    pub mode: Mode,
    /// What users saw since the start.
    pub total: Tally,
    /// By endpoint index.
    pub endpoints: Vec<EndpointView>,
}

/// One endpoint.
#[derive(Clone, Debug)]
pub struct EndpointView {
    /// What is believed of it.
    pub assessment: Assessment,
    /// What was decided.
    pub decision: EndpointDecision,
    /// Ends of attempts since the start, by class.
    pub counts: [u64; Class::COUNT],
}

impl Scorer {
    /// Serves one command. An answer that nobody waits for is dropped.
    pub(crate) fn serve(&mut self, command: Command) {
        match command {
            Command::View(to) => drop(to.send(self.view())),
            Command::Explain(endpoint, to) => drop(to.send(self.explain(endpoint))),
            Command::Advise(advice, to) => drop(to.send(self.advise(advice))),
            Command::Override(order, to) => drop(to.send(self.overrule(order))),
            Command::ClearOverride(endpoint, to) => drop(to.send(self.clear_override(endpoint))),
            Command::Follow(plan, to) => self.follow(plan, to),
            Command::Tell {
                complete,
                mirrored,
                to,
            } => drop(to.send(self.tell(complete, &mirrored))),
            Command::Answer(to) => drop(to.send(())),
            Command::Bequeath(to) => drop(to.send(self.bequeath())),
            Command::Adopt(topology, to) => self.prepare(topology, to),
        }
    }

    fn view(&self) -> View {
        let clusters = self.clusters.iter().map(|score| {
            let parts = score
                .engine
                .assessment()
                .endpoints
                .iter()
                .zip(&score.decision.endpoints)
                .zip(&score.counts);
            ClusterView {
                mode: score.decision.mode,
                total: score.total.clone(),
                endpoints: parts
                    .map(|((assessment, decision), counts)| EndpointView {
                        assessment: assessment.clone(),
                        decision: decision.clone(),
                        counts: *counts,
                    })
                    .collect(),
            }
        });
        View {
            topology: self.topology.clone(),
            clusters: clusters.collect(),
            unrouted: self.unrouted,
            refused: self.refused.clone(),
            answered_here: self.answered_here.clone(),
            policed: self.policed.clone(),
            lag: self.lag,
            late: self.late,
            uncounted: self.followed.uncounted,
            forgotten: self.followed.forgotten(),
        }
    }

    fn explain(&self, endpoint: EndpointId) -> Option<Explanation> {
        let place = self.topology.place(endpoint)?;
        self.clusters.get(place.cluster)?.engine.explain(place.endpoint)
    }

    // Concept: endpoint-external
    fn advise(&mut self, advice: Advice) -> Result<(), String> {
        let now = self.now();
        let (engine, endpoint) = self.engine_of(advice.endpoint)?;
        engine.handle_advisory(Advisory {
            endpoint,
            source: advice.source,
            reason: advice.reason,
            value: advice.value,
            trust: advice.trust,
            half_life: advice.half_life,
            at: now,
            expires: now + advice.ttl,
        });
        Ok(())
    }

    fn overrule(&mut self, order: Order) -> Result<(), String> {
        let now = self.now();
        let (engine, endpoint) = self.engine_of(order.endpoint)?;
        let order = Override {
            endpoint,
            setting: order.setting,
            reason: order.reason,
            expires: now + order.ttl,
        };
        engine.handle_override(order).map_err(|e| e.to_string())
    }

    fn clear_override(&mut self, endpoint: EndpointId) -> Result<(), String> {
        let (engine, endpoint) = self.engine_of(endpoint)?;
        if engine.clear_override(endpoint) {
            Ok(())
        } else {
            Err("no override is set".to_owned())
        }
    }

    /// The engine of an endpoint's cluster, and its index in there.
    fn engine_of(&mut self, endpoint: EndpointId) -> Result<(&mut ClusterEngine, usize), String> {
        let gone = "the endpoint has just gone: the configuration was replaced";
        let place = self.topology.place(endpoint).ok_or(gone)?;
        let score = self.clusters.get_mut(place.cluster).ok_or(gone)?;
        Ok((&mut score.engine, place.endpoint))
    }
}
