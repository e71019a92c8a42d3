//! The snapshot that every request is routed by, and how it reaches the workers.
//!
//! The scorer publishes one immutable snapshot per tick; each worker takes it over between two requests. There is one
//! snapshot for everything that may change together, because two of them would not be atomic: a request could see the new
//! share of one with the old availability of the other, or a route into a cluster that the tables do not have.

use std::sync::Arc;

use arc_swap::ArcSwap;
use foreshade_engine::balance::ClusterTable;

use crate::topology::Topology;

/// Everything that routing needs and that changes while the proxy runs.
#[derive(Debug)]
pub struct Snapshot {
    /// Routes, clusters and endpoints: what the indices mean.
    pub topology: Arc<Topology>,
    /// By cluster index.
    pub clusters: Vec<ClusterTable>,
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
