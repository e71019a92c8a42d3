//! What does not change between two reloads: routers, clusters and endpoints, as the configuration has them, and who
//! they are.
//!
//! A request finds its listener, cluster and endpoint by index, because that costs nothing. An index means something in
//! one *generation* only; so each of them also has an id, given when it first appears and kept for as long as it stays:
//! a cluster by its name, an endpoint by its name and address within its cluster, a listener by its address. Ids are
//! never used twice in the life of the process, so whoever holds one finds what it meant, or finds that it is gone.

pub mod descent;
pub mod ids;

use std::collections::HashMap;
use std::sync::Arc;

use foreshade_engine::spec::{ClusterSpec, EndpointSpec, HealthPolicy};

use self::ids::{ClusterId, EndpointId, Ids, ListenerId};
use crate::config::{Cluster, Config, Endpoint, Listener};
use crate::policy::jwks::remote::Remote;
use crate::policy::{Policy, carry_over, issuers, share_keys};
use crate::recorder::Place;
use crate::route::{Route, Router};
use crate::tcp;
use crate::upstream::connect::To;

/// A checked configuration, made ready for requests. Shared by all workers, never changed.
#[derive(Debug)]
pub struct Topology {
    config: Config,
    routers: Vec<Router>,
    /// 1 at the start, one more with each configuration that was taken over.
    generation: u64,
    ids: Ids,
    places: HashMap<EndpointId, Place>,
    /// By listener: a policy there counts or changes something, or endpoints are asked in HTTP/2, so that a request may be
    /// one for the full path.
    policed: Vec<bool>,
}

impl Topology {
    /// Prepares the configuration that the process starts with.
    pub fn new(mut config: Config) -> Arc<Self> {
        share_keys(Vec::new(), &mut config);
        let ids = Ids::first(&config);
        Self::assemble(config, 1, ids)
    }

    /// Prepares a configuration that shall follow this one.
    pub fn next(&self, mut config: Config) -> Arc<Self> {
        carry_over(&self.config, &mut config);
        let ids = self.ids.next(&self.config, &config);
        Self::assemble(config, self.generation + 1, ids)
    }

    fn assemble(config: Config, generation: u64, ids: Ids) -> Arc<Self> {
        let routers = config.listeners.iter().map(|l| Router::new(&l.routes)).collect();
        let places = ids.places();
        let sticky = config
            .clusters
            .iter()
            .filter_map(|cluster| cluster.sticky.as_ref());
        sticky.for_each(|sticky| sticky.read_keys());
        issuers(&config).for_each(Remote::begin);
        Arc::new(Self {
            policed: config
                .listeners
                .iter()
                .map(|l| is_policed(l, &config.clusters))
                .collect(),
            config,
            routers,
            generation,
            ids,
            places,
        })
    }

    /// The configuration itself.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Which configuration of this process it is, counted from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a policy of this listener, or of a route of it, counts or changes anything, compresses, or a cluster of it is
    /// asked in HTTP/2; also of one that is gone.
    pub fn is_policed(&self, id: ListenerId) -> bool {
        let index = self.ids.listeners.iter().position(|l| *l == id);
        index
            .and_then(|index| self.policed.get(index))
            .copied()
            .unwrap_or(true)
    }

    /// A listener and its routes.
    pub fn listener(&self, id: ListenerId) -> Option<(&Listener, &Router)> {
        // A handful at most: walking them beats hashing.
        let index = self.ids.listeners.iter().position(|l| *l == id)?;
        self.config.listeners.get(index).zip(self.routers.get(index))
    }

    /// All listeners.
    pub fn listeners(&self) -> impl Iterator<Item = (ListenerId, &Listener)> {
        self.ids.listeners.iter().copied().zip(&self.config.listeners)
    }

    /// A cluster by index.
    pub fn cluster(&self, index: usize) -> Option<&Cluster> {
        self.config.clusters.get(index)
    }

    /// Who the cluster at this index is.
    pub fn cluster_id(&self, index: usize) -> Option<ClusterId> {
        self.ids.clusters.get(index).map(|c| c.id)
    }

    /// All clusters.
    pub fn cluster_ids(&self) -> impl Iterator<Item = ClusterId> {
        self.ids.clusters.iter().map(|c| c.id)
    }

    /// All endpoints, in no order.
    pub fn endpoint_ids(&self) -> impl Iterator<Item = EndpointId> {
        self.places.keys().copied()
    }

    /// Where a cluster is, if it is still there. Walks them all: not for every request.
    pub fn cluster_index(&self, id: ClusterId) -> Option<usize> {
        self.ids.clusters.iter().position(|c| c.id == id)
    }

    /// An endpoint by its place.
    pub fn endpoint(&self, place: Place) -> Option<&Endpoint> {
        self.cluster(place.cluster)?.endpoints.get(place.endpoint)
    }

    /// The way to an endpoint.
    pub fn to(&self, place: Place) -> Option<To> {
        let (cluster, endpoint) = (self.cluster(place.cluster)?, self.endpoint(place)?);
        Some(cluster.to(endpoint))
    }

    /// Who the endpoint at this place is.
    pub fn endpoint_id(&self, place: Place) -> Option<EndpointId> {
        let cluster = self.ids.clusters.get(place.cluster)?;
        cluster.endpoints.get(place.endpoint).copied()
    }

    /// Where an endpoint is, if it is still there.
    pub fn place(&self, id: EndpointId) -> Option<Place> {
        self.places.get(&id).copied()
    }

    /// How many endpoints each cluster has.
    pub fn sizes(&self) -> Vec<usize> {
        self.config.clusters.iter().map(|c| c.endpoints.len()).collect()
    }

    /// The clusters as the engine wants them.
    pub fn specs(&self) -> Vec<ClusterSpec> {
        self.config
            .clusters
            .iter()
            .enumerate()
            .map(|(index, cluster)| self.spec(index, cluster))
            .collect()
    }

    fn spec(&self, index: usize, cluster: &Cluster) -> ClusterSpec {
        let listeners = self.config.listeners.iter();
        let carries = listeners
            .clone()
            .any(|l| !l.is_http() && l.clusters().contains(&index));
        let routes = listeners
            .flat_map(|l| &l.routes)
            .filter(|r| r.clusters().any(|cluster| cluster == index));
        let longest = routes.map(|r| r.timeout).max().unwrap_or_default();
        // Nobody gives up waiting for the first byte of what is only carried.
        let longest = if carries {
            longest.max(tcp::ANSWER_TIME)
        } else {
            longest
        };
        ClusterSpec {
            name: cluster.name.clone(),
            endpoints: cluster.endpoints.iter().map(endpoint_spec).collect(),
            shift: cluster.shift.clone(),
            attempt_timeout: longest,
            balance: cluster.balance,
            health: cluster.health.as_ref().map(|h| HealthPolicy {
                rise: h.rise,
                fall: h.fall,
            }),
            slow_start: cluster.slow_start,
            segments: cluster.segments.iter().map(|s| s.part).collect(),
        }
    }
}

fn endpoint_spec(endpoint: &Endpoint) -> EndpointSpec {
    EndpointSpec {
        name: endpoint.name.clone(),
        role: endpoint.role,
        weight: endpoint.weight,
        capacity_rps: endpoint.capacity_rps,
        region: endpoint.region.clone(),
    }
}

fn is_policed(listener: &Listener, clusters: &[Cluster]) -> bool {
    let is_gated = |index: usize| {
        let cluster = clusters.get(index);
        cluster.is_some_and(|cluster| cluster.gate.is_some() || cluster.http2.is_some())
    };
    let asks = |policy: &Option<Arc<Policy>>| {
        policy
            .as_ref()
            .is_some_and(|policy| !policy.is_plain() || policy.compress.is_some())
    };
    let is_asked = |route: &Route| asks(&route.policy) || route.clusters().any(is_gated);
    asks(&listener.policy) || listener.routes.iter().any(is_asked)
}
