//! The snapshot that every request is routed by, and how it reaches the workers.
//!
//! The scorer publishes one immutable snapshot per tick; each worker takes it over between two requests. There is one
//! snapshot for everything that may change together, because two of them would not be atomic: a request could see the new
//! share of one with the old availability of the other, or a route into a cluster that the tables do not have.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use foreshade_contract::Round;
use foreshade_engine::balance::{ClusterTable, Request};

use crate::ledger::{Drawn, Trial};
use crate::recorder::Place;
use crate::topology::Topology;

/// Everything that routing needs and that changes while the proxy runs.
#[derive(Debug)]
pub struct Snapshot {
    /// Routes, clusters and endpoints: what the indices mean.
    pub topology: Arc<Topology>,
    /// By cluster index.
    pub clusters: Vec<ClusterTable>,
    /// Pairs under analysis, by cluster and primary; empty where the plan has none.
    pub trials: Arc<Trials>,
}

/// By cluster and primary; a cluster without any has none at all.
pub type Trials = Vec<Vec<Option<Trial>>>;

impl Snapshot {
    /// To which side a request was drawn at the slot of this primary, where that is under analysis.
    pub fn drawn(&self, cluster: usize, primary: usize, request: &Request) -> Option<Drawn> {
        let trial = self.trial(cluster, primary)?;
        let draw = self.clusters.get(cluster)?.draw(primary, request)?;
        let place = Place {
            cluster,
            endpoint: primary,
        };
        Some(Drawn::new(
            primary,
            self.topology.endpoint_id(place)?,
            draw,
            trial,
        ))
    }

    /// Above which latencies requests drawn at this primary count as over.
    pub fn thresholds(&self, cluster: usize, primary: usize) -> Option<&[Duration; 4]> {
        self.trial(cluster, primary)?.thresholds.as_ref()
    }

    /// The round of the pair that has this primary now.
    pub fn round(&self, cluster: usize, primary: usize) -> Option<Round> {
        self.trial(cluster, primary).map(|trial| trial.round)
    }

    fn trial(&self, cluster: usize, primary: usize) -> Option<&Trial> {
        self.trials.get(cluster)?.get(primary)?.as_ref()
    }
}

/// Where the newest snapshot lies.
#[derive(Debug)]
pub struct Table(ArcSwap<Snapshot>);

impl Table {
    /// A table that starts with `first`.
    pub fn new(first: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(first))
    }

    /// Replaces the snapshot for all requests to come.
    pub fn publish(&self, next: Snapshot) {
        self.0.store(Arc::new(next));
    }

    /// The newest snapshot.
    pub fn newest(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }
}
