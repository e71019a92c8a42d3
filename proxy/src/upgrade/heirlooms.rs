//! What the engines have learnt, from one process to the next: by the names of clusters, and by name *and* address of
//! endpoints, because another machine under an old name has none of the old one's history (as in `topology::ids`).
//!
//! An engine's part that this version cannot read begins anew, and the log says which: the others are of use without
//! it.

use std::collections::BTreeMap;

use foreshade_engine::cluster::Heirloom;
use foreshade_engine::moment::Moment;
use foreshade_engine::spec::Role;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::words::State;
use crate::config::{Cluster, Endpoint};
use crate::scorer::Scorer;

/// Where the engine's time is.
const TIME: &str = "time";

/// Where the endpoints are.
const ENDPOINTS: &str = "endpoints";

/// Which shadow an endpoint had.
const SHADOW: &str = "shadow";

impl Scorer {
    /// What a successor has to know.
    pub(crate) fn bequeath(&self) -> State {
        let clusters = self.clusters.iter().zip(&self.topology.config().clusters);
        let known = clusters.map(|(score, cluster)| {
            let endpoints = cluster
                .endpoints
                .iter()
                .enumerate()
                .filter_map(|(index, endpoint)| {
                    let mut left = json!(score.engine.bequeath(index)?);
                    let shadow = json!(shadow(cluster, endpoint));
                    left.as_object_mut()?.insert(SHADOW.to_owned(), shadow);
                    Some((identity(endpoint), left))
                });
            let endpoints: Map<String, Value> = endpoints.collect();
            let known = json!({ TIME: score.engine.time(), ENDPOINTS: endpoints });
            (cluster.name.to_string(), known)
        });
        State {
            now_us: self.now().as_micros(),
            plan: self.followed.plan_id(),
            clusters: known.collect(),
            ..State::default()
        }
    }

    /// Begins with what another process has learnt of the endpoints that are still there, before anybody is served.
    pub(crate) fn inherit(&mut self, known: &BTreeMap<String, Value>) {
        if known.is_empty() {
            return;
        }
        let topology = self.topology.clone();
        let mut endpoints = 0;
        for (score, cluster) in self.clusters.iter_mut().zip(&topology.config().clusters) {
            let Some(left) = known.get(cluster.name.as_str()) else {
                continue;
            };
            if let Some(time) = part::<Moment>(left, TIME, cluster.name.as_str()) {
                score.engine.go_on_at(time);
            }
            for (index, endpoint) in cluster.endpoints.iter().enumerate() {
                let Some(left) = left.get(ENDPOINTS).and_then(|all| all.get(identity(endpoint))) else {
                    continue;
                };
                let name = endpoint.name.as_str();
                let heirloom = Heirloom {
                    belief: part(left, "belief", name),
                    shift: part(left, "shift", name),
                    strength: part(left, "strength", name),
                    set: part(left, "set", name),
                };
                let same_shadow = left.get(SHADOW) == Some(&json!(shadow(cluster, endpoint)));
                score.engine.inherit(index, heirloom, same_shadow);
                endpoints += 1;
            }
        }
        tracing::info!(endpoints, "what was learnt is carried over");
        self.tick();
    }
}

/// What stays the same for as long as an endpoint is the same.
fn identity(endpoint: &Endpoint) -> String {
    format!("{} {}", endpoint.name, endpoint.address)
}

fn shadow(cluster: &Cluster, endpoint: &Endpoint) -> Option<String> {
    match endpoint.role {
        Role::Primary { shadow } => cluster.endpoints.get(shadow?).map(identity),
        Role::Shadow => None,
    }
}

/// A part of what was left, where there is one that can be read.
fn part<T: DeserializeOwned>(left: &Value, key: &str, of: &str) -> Option<T> {
    let part = left.get(key).filter(|part| !part.is_null())?;
    let read = T::deserialize(part);
    read.inspect_err(
        |error| tracing::warn!(of, part = key, %error, "what was learnt cannot be read, and is learnt anew"),
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::config;
    use crate::topology::Topology;
    use foreshade_contract::Share;
    use foreshade_engine::cluster::{Override, Setting};
    use std::time::Duration;

    fn topology(b: u16) -> Arc<Topology> {
        let text = format!(
            "apiVersion: foreshade/v1\nlisteners: [{{ name: web, address: \"127.0.0.1:8080\", routes: [{{ cluster: shop }}] }}]\n\
             clusters:\n  - name: shop\n    endpoints:\n      - {{ name: a, address: \"127.0.0.1:9001\", shadow: s }}\n      \
             - {{ name: b, address: \"127.0.0.1:{b}\", shadow: s }}\n    shadows: [{{ name: s, address: \"127.0.0.1:9003\" }}]\n"
        );
        Topology::new(config::parse(&text, "test").unwrap())
    }

    fn share(scorer: &Scorer, endpoint: usize) -> f64 {
        let decided = &scorer.clusters[0].decision.endpoints[endpoint];
        decided.shift.as_ref().unwrap().share.value()
    }

    /// A scorer that has been told to move half of everybody, as text.
    fn told() -> BTreeMap<String, Value> {
        let (mut scorer, _table) = Scorer::new(Clock::start(), topology(9002));
        for endpoint in 0..2 {
            let order = Override {
                endpoint,
                setting: Setting::Share(Share::clamped(0.5)),
                reason: "test".to_owned(),
                expires: scorer.now() + Duration::from_secs(3600),
            };
            scorer.clusters[0].engine.handle_override(order).unwrap();
        }
        scorer.tick();
        let text = serde_json::to_string(&scorer.bequeath()).unwrap();
        serde_json::from_str::<State>(&text).unwrap().clusters
    }

    #[test]
    fn who_is_the_same_keeps_what_was_learnt_and_who_is_at_another_address_does_not() {
        let (mut scorer, _table) = Scorer::new(Clock::start(), topology(9004));
        scorer.inherit(&told());
        assert!((share(&scorer, 0) - 0.5).abs() < 1e-9);
        assert!(share(&scorer, 1).abs() < 1e-9, "b is another machine");
    }

    #[test]
    fn a_part_that_cannot_be_read_does_not_keep_the_others_from_it() {
        let mut left = told();
        let a = &mut left.get_mut("shop").unwrap()[ENDPOINTS]["a 127.0.0.1:9001"];
        a["belief"] = json!({ "from": "the future" });
        a["strength"] = json!(7);
        let (mut scorer, _table) = Scorer::new(Clock::start(), topology(9002));
        scorer.inherit(&left);
        assert!((share(&scorer, 0) - 0.5).abs() < 1e-9);
    }
}
