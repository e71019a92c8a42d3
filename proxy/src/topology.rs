//! What does not change between two ticks: routers, clusters and endpoints, as the configuration has them.

use std::sync::Arc;

use foreshade_engine::spec::{ClusterSpec, EndpointSpec, HealthPolicy};

use crate::config::{Cluster, Config, Endpoint, Listener};
use crate::recorder::Place;
use crate::route::Router;

/// A checked configuration, made ready for requests. Shared by all workers, never changed.
#[derive(Debug)]
pub struct Topology {
    config: Config,
    routers: Vec<Router>,
}

impl Topology {
    /// Prepares a configuration.
    pub fn new(config: Config) -> Arc<Self> {
        let routers = config.listeners.iter().map(Router::new).collect();
        Arc::new(Self { config, routers })
    }

    /// The configuration itself.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A listener and its routes, by index.
    pub fn listener(&self, index: usize) -> Option<(&Listener, &Router)> {
        self.config.listeners.get(index).zip(self.routers.get(index))
    }

    /// A cluster by index.
    pub fn cluster(&self, index: usize) -> Option<&Cluster> {
        self.config.clusters.get(index)
    }

    /// An endpoint by its place.
    pub fn endpoint(&self, place: Place) -> Option<&Endpoint> {
        self.cluster(place.cluster)?.endpoints.get(place.endpoint)
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
        let routes = self
            .config
            .listeners
            .iter()
            .flat_map(|l| &l.routes)
            .filter(|r| r.cluster == index);
        let longest = routes.map(|r| r.timeout).max().unwrap_or_default();
        ClusterSpec {
            name: cluster.name.clone(),
            endpoints: cluster.endpoints.iter().map(endpoint_spec).collect(),
            shift: cluster.shift.clone(),
            attempt_timeout: longest,
            balance: cluster.balance,
            health: cluster
                .health
                .as_ref()
                .map_or_else(HealthPolicy::default, |h| HealthPolicy {
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
