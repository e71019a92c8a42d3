//! What becomes of a request that has come, before any endpoint is chosen: a cluster, an answer, or nothing.

use std::sync::Arc;

use arrayvec::ArrayVec;
use foreshade_contract::Name;
use foreshade_engine::balance::Request;

use super::{Flow, Worker};
use crate::cohort;
use crate::config::Cluster;
use crate::edit::{Edits, Facts};
use crate::request::RequestView;
use crate::rewrite::NoPath;
use crate::route::answer::Answer;
use crate::route::split::Split;
use crate::route::{Action, Route};
use crate::topology::Topology;
use crate::topology::ids::ListenerId;

/// What becomes of a request that has come.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every request is forwarded, and a box would be one more allocation for each"
)]
pub enum Admission {
    /// A cluster serves it.
    Forward(Flow),
    /// It is answered here.
    Answer(Answer),
    /// No route matches.
    Unrouted,
}

/// What a request's route changes on the way, and the name of the cluster that it goes to.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The changes.
    pub edits: Arc<Edits>,
    /// The cluster.
    pub cluster: Name,
}

impl Changes {
    /// The path and query that are asked for instead, where the route changes them.
    ///
    /// # Errors
    /// Where the route makes of the path what is none.
    pub fn target(&self, path: &str, query: Option<&str>) -> Result<Option<String>, NoPath> {
        let Some(rewrite) = &self.edits.rewrite.path else {
            return Ok(None);
        };
        Ok(rewrite.apply(path)?.map(|mut target| {
            if let Some(query) = query {
                target.push('?');
                target.push_str(query);
            }
            target
        }))
    }

    /// What variables stand for in a request.
    pub fn facts<'a>(&'a self, view: &RequestView<'a>) -> Facts<'a> {
        Facts {
            route: &self.edits.route,
            cluster: self.cluster.as_str(),
            ..Facts::of(view)
        }
    }
}

impl Flow {
    /// What its route changes on the way; `None` for most.
    pub fn changes(&self) -> Option<&Changes> {
        self.changes.as_ref()
    }
}

impl Worker {
    /// Finds the request's route, and what becomes of it. What is answered here, and what has no route, is counted.
    pub fn admit(&mut self, listener: ListenerId, view: &RequestView<'_>) -> Admission {
        let found = match self.topology.listener(listener) {
            Some((_, router)) => router.route(view).map(|route| (route, None)),
            None => self
                .route_of_the_retired(listener, view)
                .map(|(route, before)| (route, Some(before))),
        };
        let Some((route, before)) = found else {
            self.unrouted += 1;
            return Admission::Unrouted;
        };
        let split = match &route.action {
            Action::Forward(split) => split,
            Action::Redirect(_) | Action::Respond(_) => {
                let answer = Answer::of(route, view);
                self.answered_here.add(answer.reason, 1);
                return Admission::Answer(answer);
            }
        };
        let Some((index, cluster, request)) = self.choose(route, split, before, view) else {
            self.unrouted += 1;
            return Admission::Unrouted;
        };
        let (timeout, mirror) = (route.timeout, route.mirror.clone());
        let changes = route.edits.as_ref().map(|edits| Changes {
            edits: edits.clone(),
            cluster: cluster.name.clone(),
        });
        let arrived = self.now();
        Admission::Forward(Flow {
            generation: self.generation,
            cluster: index,
            cluster_id: self.topology.cluster_id(index),
            request,
            arrived,
            ready: arrived,
            timeout,
            limit: arrived + timeout,
            tried: ArrayVec::new(),
            tried_ids: ArrayVec::new(),
            next: None,
            attempt: None,
            first_byte: None,
            failure: None,
            drawn: None,
            changes,
            mirror: mirror.filter(|rule| rule.wants(view.method, &mut self.rng)),
        })
    }

    /// The cluster that serves a user, and what its engine needs to know of him. The first cluster of a route says how
    /// users are recognised, so that one user has one cluster; within it, its own way counts. The clusters of a route that
    /// is gone are those of the configuration `before`: they are looked for where they are now.
    fn choose(
        &self,
        route: &Route,
        split: &Split,
        before: Option<&Topology>,
        view: &RequestView<'_>,
    ) -> Option<(usize, &Cluster, Request)> {
        let now = |cluster: usize| match before {
            None => Some(cluster),
            Some(before) => self.topology.cluster_index(before.cluster_id(cluster)?),
        };
        let by = |cluster: usize| {
            let index = now(cluster)?;
            let cluster = self.topology.cluster(index)?;
            Some((index, cluster, cohort::request(view, route, cluster)))
        };
        if let Some(only) = split.only() {
            return by(only);
        }
        // Where the first one is gone, whichever is left.
        let (_, _, request) = split.clusters().find_map(by)?;
        by(split.choose(request.cohort, |cluster| {
            let table = now(cluster).and_then(|index| self.snapshot.clusters.get(index));
            table.is_some_and(|table| table.can_serve(&request))
        }))
    }
}
