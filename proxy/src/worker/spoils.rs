//! What a worker hands to the scorer each tick, by the indices of one configuration.
//!
//! The buffers travel: empty to the worker, full to the scorer, and back. A configuration may be replaced while they are
//! under way, so they know which one they were made for, and what stays in the next one is carried over, not lost.

use std::sync::Arc;

use foreshade_engine::observation::Observation;

use crate::ledger::Ledger;
use crate::policy::Policed;
use crate::recorder::{Harvest, empty_harvest};
use crate::tally::{Counts, Tally};
use crate::topology::Topology;
use crate::topology::descent::Descent;

/// What a worker hands to the scorer each tick.
#[derive(Debug)]
pub struct Spoils {
    /// What the indices mean.
    pub topology: Arc<Topology>,
    /// By cluster and endpoint index.
    pub endpoints: Harvest,
    /// What was counted of pairs under analysis.
    pub ledger: Ledger,
    /// By cluster index.
    pub clusters: Vec<Tally>,
    /// Requests that no route matched.
    pub unrouted: u64,
    /// Clients that were refused, by why.
    pub refused: Counts,
    /// Requests that their route answered, by why.
    pub answered_here: Counts,
    /// What policies did.
    pub policed: Policed,
}

impl Spoils {
    /// Empty buffers for a topology.
    pub fn empty(topology: &Arc<Topology>) -> Self {
        let sizes = topology.sizes();
        Self {
            topology: topology.clone(),
            endpoints: empty_harvest(&sizes),
            ledger: Ledger::new(&sizes),
            clusters: sizes.iter().map(|_| Tally::default()).collect(),
            unrouted: 0,
            refused: Counts::default(),
            answered_here: Counts::default(),
            policed: Policed::default(),
        }
    }

    /// The same figures by the indices of another configuration. Those of who is gone are gone, too.
    pub fn carried(mut self, descent: &Descent, topology: &Arc<Topology>) -> Self {
        self.ledger.reshape(descent);
        Self {
            topology: topology.clone(),
            ledger: self.ledger,
            endpoints: descent.carry(self.endpoints, Observation::default),
            clusters: descent.clusters.carry(self.clusters, |_| Tally::default()),
            unrouted: self.unrouted,
            refused: self.refused,
            answered_here: self.answered_here,
            policed: self.policed,
        }
    }

    /// Empties the buffers and keeps their memory.
    pub fn clear(&mut self) {
        self.endpoints.iter_mut().flatten().for_each(|o| o.clear());
        self.ledger.clear();
        self.clusters.iter_mut().for_each(Tally::clear);
        self.unrouted = 0;
        self.refused.clear();
        self.answered_here.clear();
        self.policed.clear();
    }
}
