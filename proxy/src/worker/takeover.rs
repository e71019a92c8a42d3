//! A worker takes a new configuration over, in the middle of whatever its requests are doing.
//!
//! Everything that is kept by index is carried over by who stays, in one go, between two steps of two requests; so there
//! is never a state that is half old. What nobody can list are the requests themselves, each held by its connection's
//! task: a [`Flow`] therefore knows the generation of its indices, and finds itself again at its next step, by id. That
//! costs a request one comparison per step, and a search only for those that were under way.
//!
//! Who finds that his cluster or endpoint is gone has [`Place::GONE`] for an index, at which nothing is found: his request
//! goes on to its end, and nobody's figures are changed by it.
//!
//! A listener that is gone may still have the head of a request in its buffers. Its routes are kept until its last
//! connection is closed, so that such a request is answered, by what there is now of the cluster that it was for.

use std::sync::Arc;
use std::time::Duration;

use foreshade_engine::balance::Pick;

use super::{ClusterState, Flow, Worker};
use crate::config::Listener;
use crate::framing::Limits;
use crate::recorder::Place;
use crate::request::RequestView;
use crate::route::Route;
use crate::topology::Topology;
use crate::topology::descent::Descent;
use crate::topology::ids::ListenerId;

impl Worker {
    /// Takes the newest snapshot over, for all attempts to come. Says what became of whom if its configuration is another
    /// one.
    pub fn refresh(&mut self) -> Option<Descent> {
        self.snapshot = self.table.newest();
        if self.snapshot.topology.generation() == self.generation {
            return None;
        }
        let before = std::mem::replace(&mut self.topology, self.snapshot.topology.clone());
        self.generation = self.topology.generation();
        let descent = Descent::between(&before, &self.topology);
        self.retire(&before);
        self.recorder.reshape(&descent);
        self.ledger.reshape(&descent);
        self.carry_clusters(&descent);
        for entry in self.deadlines.entries() {
            let waiting = &mut entry.what;
            if let Some(pick) = &mut waiting.moved {
                *pick = pick_again(&descent, waiting.cluster, *pick);
            }
            let place = place_again(&descent, waiting.cluster, waiting.endpoint);
            waiting.endpoint = place.endpoint;
            waiting.cluster = descent.clusters.after(waiting.cluster).unwrap_or(Place::GONE);
        }
        Some(descent)
    }

    fn carry_clusters(&mut self, descent: &Descent) {
        let now = self.clock.now();
        let sizes = self.topology.sizes();
        let before = std::mem::take(&mut self.clusters).into_iter().map(Some).collect();
        let carried = descent.clusters.carry(before, |_| None);
        self.clusters = carried
            .into_iter()
            .zip(&descent.endpoints)
            .zip(sizes)
            .map(|((state, lineage), size)| match state {
                Some(mut state) => {
                    state.loads.reshape(lineage);
                    state
                }
                None => ClusterState::new(size, self.workers, now),
            })
            .collect();
    }

    /// Remembers the routes of the listeners that are gone.
    fn retire(&mut self, before: &Arc<Topology>) {
        let gone = before.listeners().map(|(id, _)| id);
        let gone = gone.filter(|id| self.topology.listener(*id).is_none());
        self.retired.extend(gone.map(|id| (id, before.clone())));
    }

    /// The last connection of a listener that is gone has been closed.
    pub fn forget_listener(&mut self, listener: ListenerId) {
        self.retired.retain(|(id, _)| *id != listener);
    }

    /// A route of a listener that is gone, and the configuration that had it.
    pub(super) fn route_of_the_retired(
        &self,
        listener: ListenerId,
        view: &RequestView<'_>,
    ) -> Option<(&Route, &Topology)> {
        let before = self.retired_with(listener)?;
        Some((before.listener(listener)?.1.route(view)?, before))
    }

    /// The configuration that had a listener that is gone.
    pub(super) fn retired_with(&self, listener: ListenerId) -> Option<&Topology> {
        let (_, before) = self.retired.iter().find(|(id, _)| *id == listener)?;
        Some(before)
    }

    /// How long a connection of this listener may rest between two requests; of a listener that is gone, while it has
    /// connections, too.
    pub fn idle_timeout(&self, listener: ListenerId) -> Option<Duration> {
        Some(self.listener(listener)?.idle_timeout)
    }

    /// What its clients may ask for; of a listener that is gone, while it has connections, too.
    pub fn limits(&self, listener: ListenerId) -> Option<&Limits> {
        self.listener(listener).map(|listener| &listener.limits)
    }

    /// What the configuration says of a listener, also of one that is gone, while it has connections.
    pub fn listener(&self, listener: ListenerId) -> Option<&Listener> {
        let topology = self.retired_with(listener).unwrap_or(&self.topology);
        Some(topology.listener(listener)?.0)
    }

    /// The configuration that requests are served by.
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// Makes sure that the request's indices are of this worker's generation. To be called first in every step.
    #[inline]
    pub(super) fn find_again(&self, flow: &mut Flow) {
        if flow.generation != self.generation {
            self.relocate(flow);
        }
    }

    #[cold]
    fn relocate(&self, flow: &mut Flow) {
        flow.generation = self.generation;
        let cluster = flow.cluster_id.and_then(|id| self.topology.cluster_index(id));
        flow.cluster = cluster.unwrap_or(Place::GONE);
        for (index, id) in flow.tried.iter_mut().zip(&flow.tried_ids) {
            *index = self
                .topology
                .place(*id)
                .map_or(Place::GONE, |place| place.endpoint);
        }
        if let Some(drawn) = &mut flow.drawn {
            drawn.primary = self
                .topology
                .place(drawn.id)
                .map_or(Place::GONE, |place| place.endpoint);
        }
        let here = self.topology.cluster(flow.cluster);
        flow.request.stick = flow
            .stuck
            .as_ref()
            .zip(here)
            .and_then(|(stuck, cluster)| stuck.place(cluster));
        // Decided on a table that does not hold any more; the next attempt asks the new one.
        flow.next = None;
        if let (Some(attempt), Some(endpoint)) = (&mut flow.attempt, flow.tried.last()) {
            attempt.place = Place {
                cluster: flow.cluster,
                endpoint: *endpoint,
            };
        }
    }
}

impl Flow {
    /// Where its attempt is, as of its last step.
    pub fn place(&self) -> Option<Place> {
        self.attempt.as_ref().map(|attempt| attempt.place)
    }
}

fn place_again(descent: &Descent, cluster: usize, endpoint: usize) -> Place {
    let gone = Place {
        cluster: Place::GONE,
        endpoint: Place::GONE,
    };
    descent.place(Place { cluster, endpoint }).unwrap_or(gone)
}

fn pick_again(descent: &Descent, cluster: usize, pick: Pick) -> Pick {
    Pick {
        endpoint: place_again(descent, cluster, pick.endpoint).endpoint,
        primary: place_again(descent, cluster, pick.primary).endpoint,
        ..pick
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config;
    use crate::outcome::Failure;
    use crate::scorer::Scorer;
    use crate::table::{Snapshot, Table};
    use crate::worker::Admission;
    use crate::worker::{Next, Spoils};
    use foreshade_engine::outcome::Class;
    use http::HeaderMap;

    const A: &str = "{ name: a, address: 127.0.0.1:9001 }";
    const B: &str = "{ name: b, address: 127.0.0.1:9002 }";
    const C: &str = "{ name: c, address: 127.0.0.1:9003 }";

    /// One listener with its name for a path, and clusters with their endpoints.
    fn config(listener: u16, clusters: &[(&str, &[&str])]) -> config::Config {
        let mut text = format!(
            "apiVersion: foreshade/v1\nlisteners:\n  - name: web\n    address: 127.0.0.1:{listener}\n    routes:\n"
        );
        for (name, _) in clusters {
            text += &format!("      - {{ match: {{ path: {{ prefix: /{name} }} }}, cluster: {name} }}\n");
        }
        text += "clusters:\n";
        for (name, endpoints) in clusters {
            text += &format!("  - {{ name: {name}, endpoints: [{}] }}\n", endpoints.join(", "));
        }
        config::parse(&text, "test").unwrap()
    }

    struct Stand {
        worker: Worker,
        table: Arc<Table>,
        clock: Clock,
        topology: Arc<Topology>,
    }

    impl Stand {
        fn new(config: config::Config) -> Self {
            let (clock, topology) = (Clock::start(), Topology::new(config));
            let (_, table) = Scorer::new(clock, topology.clone());
            Self {
                worker: Worker::new(clock, table.clone(), 1),
                table,
                clock,
                topology,
            }
        }

        /// Publishes another configuration. The worker takes it over when it is told to.
        fn publish(&mut self, config: config::Config) {
            self.topology = self.topology.next(config);
            let (_, table) = Scorer::new(self.clock, self.topology.clone());
            let clusters = table.newest().clusters.clone();
            let topology = self.topology.clone();
            self.table.publish(Snapshot {
                topology,
                clusters,
                trials: Arc::default(),
            });
        }

        fn reload(&mut self, config: config::Config) {
            self.publish(config);
            assert!(self.worker.refresh().is_some());
        }

        fn admit_at(&mut self, listener: ListenerId, path: &str) -> Option<Flow> {
            let headers = HeaderMap::new();
            let view = RequestView {
                path,
                ..RequestView::of("GET", &headers)
            };
            match self.worker.admit(listener, &view) {
                Admission::Forward(flow) => Some(flow),
                Admission::Answer(_) | Admission::Unrouted | Admission::Wait(_) => None,
            }
        }

        fn listener(&self) -> ListenerId {
            self.topology.listeners().next().unwrap().0
        }

        fn begin(&mut self, path: &str) -> Flow {
            let mut flow = self.admit_at(self.listener(), path).unwrap();
            self.worker.start(&mut flow).unwrap();
            self.worker.sent(&mut flow, -1, true);
            flow
        }

        /// In flight and well served, by endpoint of a cluster of the newest configuration.
        fn seen(&mut self, cluster: usize) -> Vec<(u32, u32)> {
            let mut spoils = Spoils::empty(&self.topology);
            self.worker.harvest(&mut spoils);
            let seen = spoils.endpoints[cluster].iter();
            seen.map(|o| (o.in_flight, o.count(Class::Ok))).collect()
        }
    }

    #[test]
    fn a_request_under_way_is_counted_where_its_endpoint_is_now() {
        let mut stand = Stand::new(config(80, &[("shop", &[A]), ("api", &[B])]));
        let mut flow = stand.begin("/shop");
        stand.reload(config(80, &[("api", &[B]), ("shop", &[C, A])]));
        assert_eq!(stand.seen(1), [(0, 0), (1, 0)]);
        stand.worker.first_byte(&mut flow, 200, false, true);
        stand.worker.answered(&mut flow, 200);
        assert_eq!(stand.seen(1), [(0, 0), (0, 1)]);
        assert_eq!(stand.seen(0), [(0, 0)]);
        assert!(!stand.worker.has_deadlines());
    }

    #[test]
    fn a_request_at_an_endpoint_that_is_gone_ends_and_changes_nobodys_figures() {
        for gone in ["endpoint", "cluster"] {
            let mut stand = Stand::new(config(80, &[("shop", &[A]), ("api", &[B])]));
            let mut flow = stand.begin("/shop");
            if gone == "endpoint" {
                stand.reload(config(80, &[("shop", &[C]), ("api", &[B])]));
            } else {
                stand.reload(config(80, &[("api", &[B])]));
            }
            assert!(
                !stand.worker.first_byte(&mut flow, 200, false, true),
                "it is shown to its user"
            );
            stand.worker.answered(&mut flow, 200);
            assert!(!stand.worker.has_deadlines());
            assert_eq!(stand.seen(0), [(0, 0)], "{gone}");
        }
    }

    #[test]
    fn a_request_sent_to_who_is_gone_still_has_its_deadline() {
        let mut stand = Stand::new(config(80, &[("shop", &[A]), ("api", &[B])]));
        let mut flow = stand.admit_at(stand.listener(), "/shop").unwrap();
        stand.worker.start(&mut flow).unwrap();
        stand.reload(config(80, &[("api", &[B])]));
        stand.worker.sent(&mut flow, -1, true);
        assert!(stand.worker.has_deadlines());
        assert_eq!(
            stand.worker.fail(&mut flow, Failure::Reset, true),
            Next::Answer(502)
        );
    }

    #[test]
    fn a_failed_request_goes_on_to_an_endpoint_that_there_is() {
        let mut stand = Stand::new(config(80, &[("shop", &[A, B])]));
        let mut flow = stand.begin("/shop");
        assert_eq!(
            stand.worker.fail(&mut flow, Failure::Refused, true),
            Next::Elsewhere
        );
        // Both that were known are gone before the next attempt starts.
        stand.reload(config(80, &[("shop", &[C])]));
        let place = stand.worker.start(&mut flow).unwrap();
        let name = |place| stand.topology.endpoint(place).unwrap().name.as_str().to_owned();
        assert_eq!(name(place), "c");
        assert_eq!(flow.tried_ids.last().copied(), stand.topology.endpoint_id(place));
    }

    #[test]
    fn several_configurations_at_once_are_one_step() {
        let mut stand = Stand::new(config(80, &[("shop", &[A, B])]));
        let mut flow = stand.begin("/shop");
        stand.publish(config(80, &[("api", &[C])]));
        stand.publish(config(80, &[("api", &[C]), ("shop", &[B, A])]));
        assert!(stand.worker.refresh().is_some());
        // A cluster that was gone for a generation is another one.
        stand.worker.answered(&mut flow, 200);
        assert_eq!(stand.seen(1), [(0, 0), (0, 0)]);
        assert!(stand.worker.refresh().is_none());
    }

    #[test]
    fn the_last_requests_of_a_listener_that_is_gone_are_served() {
        let mut stand = Stand::new(config(80, &[("shop", &[A]), ("api", &[B])]));
        let old = stand.listener();
        stand.reload(config(81, &[("api", &[B])]));
        assert_eq!(stand.worker.idle_timeout(old), Some(Duration::from_secs(60)));
        let mut flow = stand.admit_at(old, "/api/1").unwrap();
        assert!(stand.worker.start(&mut flow).is_some());
        assert!(stand.admit_at(old, "/shop").is_none(), "its cluster is gone, too");
        stand.worker.forget_listener(old);
        assert_eq!(stand.worker.idle_timeout(old), None);
        assert!(stand.admit_at(old, "/api/1").is_none());
    }

    #[test]
    fn buffers_of_another_configuration_are_exchanged_and_lose_nothing() {
        let mut stand = Stand::new(config(80, &[("shop", &[A])]));
        let before = stand.topology.clone();
        let mut flow = stand.begin("/shop");
        stand.worker.first_byte(&mut flow, 200, false, true);
        stand.worker.answered(&mut flow, 200);
        stand.reload(config(80, &[("shop", &[B, A])]));
        let mut spoils = Spoils::empty(&before);
        stand.worker.harvest(&mut spoils);
        assert_eq!(spoils.topology.generation(), 2);
        assert_eq!(spoils.endpoints[0][1].count(Class::Ok), 1);
        assert_eq!(spoils.clusters[0].answers[2], 1);
    }
}
