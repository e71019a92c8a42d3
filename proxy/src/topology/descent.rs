//! What became of every cluster and endpoint between two configurations, so that whatever is kept by index (loads,
//! observations, counters, engines) is carried over in the same way everywhere.

use foreshade_engine::lineage::Lineage;

use super::Topology;
use crate::recorder::Place;

/// From the indices of one generation to those of another, not necessarily the next.
#[derive(Clone, Debug)]
pub struct Descent {
    /// Of the clusters.
    pub clusters: Lineage,
    /// Of the endpoints, by the index that their cluster has now.
    pub endpoints: Vec<Lineage>,
}

impl Descent {
    /// From `before` to `after`.
    pub fn between(before: &Topology, after: &Topology) -> Self {
        let clusters = Lineage::new(after.ids.clusters.iter().map(|c| before.cluster_index(c.id)));
        let endpoints = after.ids.clusters.iter().map(|c| {
            let places = c.endpoints.iter().map(|id| before.place(*id));
            // An endpoint never changes its cluster: its id was given within it.
            Lineage::new(places.map(|place| place.map(|p| p.endpoint)))
        });
        Self {
            endpoints: endpoints.collect(),
            clusters,
        }
    }

    /// Where an endpoint is now.
    pub fn place(&self, before: Place) -> Option<Place> {
        let cluster = self.clusters.after(before.cluster)?;
        let endpoint = self.endpoints.get(cluster)?.after(before.endpoint)?;
        Some(Place { cluster, endpoint })
    }

    /// Carries over what is kept by cluster and endpoint.
    pub fn carry<T>(&self, before: Vec<Vec<T>>, mut fresh: impl FnMut() -> T) -> Vec<Vec<T>> {
        let carried = self.clusters.carry(before, |_| Vec::new());
        let both = carried.into_iter().zip(&self.endpoints);
        both.map(|(list, lineage)| lineage.carry(list, |_| fresh()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::topology::ids::{EndpointId, ListenerId};
    use std::sync::Arc;

    fn config(listener: &str, clusters: &[(&str, &[(&str, u16)])]) -> config::Config {
        let mut text = format!(
            "apiVersion: foreshade/v1\nlisteners:\n  - name: {listener}\n    address: 127.0.0.1:8080\n    routes: \
             [{{ match: {{ path: {{ prefix: / }} }}, cluster: {} }}]\nclusters:\n",
            clusters[0].0
        );
        for (name, endpoints) in clusters {
            text += &format!("  - name: {name}\n    endpoints:\n");
            for (name, port) in *endpoints {
                text += &format!("      - {{ name: {name}, address: 127.0.0.1:{port} }}\n");
            }
        }
        config::parse(&text, "test").unwrap()
    }

    fn ids(topology: &Topology, cluster: usize) -> Vec<EndpointId> {
        let count = topology.cluster(cluster).unwrap().endpoints.len();
        let places = (0..count).map(|endpoint| Place { cluster, endpoint });
        places.filter_map(|p| topology.endpoint_id(p)).collect()
    }

    fn listener(topology: &Arc<Topology>) -> ListenerId {
        topology.listeners().next().unwrap().0
    }

    #[test]
    fn who_keeps_his_name_and_address_keeps_his_id_wherever_he_stands() {
        let first = Topology::new(config(
            "web",
            &[("shop", &[("a", 1), ("b", 2)]), ("api", &[("a", 1)])],
        ));
        let next = first.next(config(
            "www",
            &[("api", &[("c", 3), ("a", 1)]), ("shop", &[("b", 9), ("a", 1)])],
        ));
        assert_eq!((first.generation(), next.generation()), (1, 2));
        assert_eq!(listener(&first), listener(&next), "a listener is its address");
        assert_eq!(next.cluster_id(0), first.cluster_id(1));
        assert_eq!(ids(&next, 1)[1], ids(&first, 0)[0]);
        assert_eq!(ids(&next, 0)[1], ids(&first, 1)[0]);
        assert!(
            !ids(&first, 0).contains(&ids(&next, 1)[0]),
            "another address is another endpoint"
        );
        let descent = Descent::between(&first, &next);
        let place = |cluster, endpoint| Place { cluster, endpoint };
        assert_eq!(descent.place(place(0, 0)), Some(place(1, 1)));
        assert_eq!(descent.place(place(0, 1)), None);
        let carried = descent.carry(vec![vec!["shop/a", "shop/b"], vec!["api/a"]], || "new");
        assert_eq!(carried, [["new", "api/a"], ["new", "shop/a"]]);
    }

    #[test]
    fn an_id_is_never_used_twice() {
        let first = Topology::new(config("web", &[("shop", &[("a", 1), ("b", 2)])]));
        let without = first.next(config("web", &[("shop", &[("a", 1)])]));
        let again = without.next(config("web", &[("shop", &[("a", 1), ("b", 2)])]));
        assert_eq!(ids(&first, 0)[0], ids(&again, 0)[0]);
        assert_ne!(ids(&first, 0)[1], ids(&again, 0)[1]);
        assert_eq!(again.place(ids(&first, 0)[1]), None);
        // A worker that slept through a generation sees that the endpoint is another one.
        assert_eq!(Descent::between(&first, &again).endpoints[0].before(1), None);
    }
}
