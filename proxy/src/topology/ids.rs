//! Who is who from one configuration to the next.
//!
//! What people call a thing is what it is: a cluster is its name. An endpoint is its name *and* its address, because
//! another machine under the old name has none of the old one's history. A listener is its address, and what loop serves
//! its socket: the socket is what matters, and calling it otherwise must not close it.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::config::{Cluster, Config, Listener, Transport};
use crate::recorder::Place;

/// A cluster, for as long as there is one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterId(u64);

/// An endpoint, for as long as its cluster has one of its name at its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndpointId(u64);

/// A listener, for as long as there is one on its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(u64);

/// All ids of one configuration, in its order.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    pub(super) listeners: Vec<ListenerId>,
    pub(super) clusters: Vec<ClusterIds>,
    /// The number that the next newcomer gets.
    next: u64,
}

#[derive(Clone, Debug)]
pub(super) struct ClusterIds {
    pub(super) id: ClusterId,
    pub(super) endpoints: Vec<EndpointId>,
}

impl Ids {
    /// Everybody is new.
    pub(super) fn first(config: &Config) -> Self {
        let nobody = Self {
            listeners: Vec::new(),
            clusters: Vec::new(),
            next: 1,
        };
        let empty = Config {
            listeners: Vec::new(),
            clusters: Vec::new(),
            ..config.clone()
        };
        nobody.next(&empty, config)
    }

    /// The ids of `after`, when these are those of `before`.
    pub(super) fn next(&self, before: &Config, after: &Config) -> Self {
        let mut next = self.next;
        let mut fresh = || {
            next += 1;
            next - 1
        };
        // What is accepted as HTTP and what is only carried are served by different loops: one that changes is another.
        let known: HashMap<_, ListenerId> = before
            .listeners
            .iter()
            .map(served)
            .zip(self.listeners.iter().copied())
            .collect();
        let listeners = after
            .listeners
            .iter()
            .map(|l| {
                known
                    .get(&served(l))
                    .copied()
                    .unwrap_or_else(|| ListenerId(fresh()))
            })
            .collect();
        let known: HashMap<_, _> = before
            .clusters
            .iter()
            .zip(&self.clusters)
            .map(|(c, ids)| (&c.name, (c, ids)))
            .collect();
        let clusters = after
            .clusters
            .iter()
            .map(|c| next_cluster(known.get(&c.name).copied(), c, &mut fresh))
            .collect();
        Self {
            listeners,
            clusters,
            next,
        }
    }

    /// Where each endpoint is.
    pub(super) fn places(&self) -> HashMap<EndpointId, Place> {
        let by_cluster = |(cluster, ids): (usize, &ClusterIds)| {
            let ids = ids.endpoints.clone().into_iter().enumerate();
            ids.map(move |(endpoint, id)| (id, Place { cluster, endpoint }))
        };
        self.clusters.iter().enumerate().flat_map(by_cluster).collect()
    }
}

/// Where a listener listens, and what its loop accepts there.
fn served(listener: &Listener) -> (SocketAddr, Transport, bool) {
    (listener.address, listener.transport(), listener.is_http())
}

fn next_cluster(
    before: Option<(&Cluster, &ClusterIds)>,
    after: &Cluster,
    fresh: &mut impl FnMut() -> u64,
) -> ClusterIds {
    let id = before.map_or_else(|| ClusterId(fresh()), |(_, ids)| ids.id);
    let known: HashMap<_, EndpointId> = before
        .iter()
        .flat_map(|(cluster, ids)| cluster.endpoints.iter().zip(&ids.endpoints))
        .map(|(e, id)| ((&e.name, e.address), *id))
        .collect();
    let endpoints = after.endpoints.iter().map(|e| {
        let id = known.get(&(&e.name, e.address)).copied();
        id.unwrap_or_else(|| EndpointId(fresh()))
    });
    ClusterIds {
        id,
        endpoints: endpoints.collect(),
    }
}
