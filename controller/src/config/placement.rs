//! Which endpoints could be the shadow of which, and by which policy one of them is chosen.
//!
//! Candidates are the standbys of the pair's cluster. An endpoint that serves is none: it has a place in balancing of
//! its own, and would lose it to the pair at a promotion. Where the file has no clusters, candidates are the endpoints
//! that `placement` knows, save those that are primaries.

use std::sync::Arc;

use foreshade_contract::{Name, PairId};
use foreshade_engine::placement::{Candidate, Diversity, Place, PlacementPolicy};
use foreshade_settings::{At, Mistake, Mistakes, Reference, quoted};

use super::clusters::{Cluster, Clusters, Member};
use super::{Pair, keys};

/// How shadows are chosen, and out of whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// What a shadow has to be like.
    pub policy: Arc<PlacementPolicy>,
    /// Whether a standby may be the shadow of several pairs.
    pub shared: bool,
    /// What is known of endpoints, by cluster.
    pub known: Vec<(Name, Candidate)>,
}

/// What the shadow of one pair is chosen from.
#[derive(Clone, Debug, PartialEq)]
pub struct Ground {
    /// What it has to be like.
    pub policy: Arc<PlacementPolicy>,
    /// Whether it may be the shadow of others, too.
    pub shared: bool,
    /// Where the primary stands.
    pub primary: Place,
    /// Who could be it, before anybody has looked at them.
    pub candidates: Vec<Candidate>,
}

impl Placement {
    /// What the shadow of this pair is chosen from. `primaries` are those of all pairs.
    pub fn ground(&self, pair: &PairId, is_primary: impl Fn(&PairId) -> bool) -> Ground {
        let of_cluster = || {
            let known = self.known.iter().filter(|(cluster, _)| *cluster == pair.cluster);
            known.map(|(_, candidate)| candidate)
        };
        let is_free = |candidate: &&Candidate| {
            !is_primary(&PairId {
                cluster: pair.cluster.clone(),
                primary: candidate.name.clone(),
            })
        };
        let primary = of_cluster().find(|known| known.name == pair.primary);
        Ground {
            policy: self.policy.clone(),
            shared: self.shared,
            primary: primary.map(|known| known.place.clone()).unwrap_or_default(),
            candidates: of_cluster()
                .filter(|known| known.fit)
                .filter(is_free)
                .cloned()
                .collect(),
        }
    }
}

/// Checks the section. A candidate that is not `fit` is one that serves: known, and never chosen.
pub(super) fn placement(written: keys::Placement, clusters: &Clusters, mistakes: &mut Mistakes) -> Placement {
    let members: Vec<_> = clusters
        .known
        .iter()
        .flat_map(Cluster::members)
        .map(Name::as_str)
        .collect();
    for name in &written.exclude.items {
        let word = name.value.as_str();
        if !members.is_empty() && !members.contains(&word) {
            let hint = mistakes.did_you_mean(word, members.iter().copied());
            mistakes.add(Mistake::at(name.place(), format!("unknown endpoint {}", quoted(word))).hint(hint));
        }
    }
    let known = written.endpoints.items.iter();
    let known = known
        .filter_map(|known| endpoint(known, clusters, mistakes))
        .collect();
    let known = with_clusters(clusters, known);
    let users = written.users.items.iter();
    let users = users.filter_map(|users| Some((users.site?.0, users.part.0)));
    let may = |same: bool| match same {
        true => Diversity::Preferred,
        false => Diversity::Required,
    };
    let distance_min_km = f64::from(written.distance_min.0);
    let policy = PlacementPolicy {
        distance_min_km,
        distance_wanted_km: f64::from(written.distance_wanted.0).max(distance_min_km),
        zone: may(written.same_zone),
        region: may(written.same_region),
        latency_max: written.latency_max.map(|most| most.0),
        latency_wanted: written.latency_wanted.0,
        fill_max: written.fill_max.0,
        cost_max: written.cost_max.map(|most| most.0),
        users: users.collect(),
        margin: written.margin.0,
        excluded: written.exclude.items.into_iter().map(|name| name.value).collect(),
        ..PlacementPolicy::default()
    };
    Placement {
        policy: Arc::new(policy),
        shared: written.shared,
        known,
    }
}

/// What is known of one endpoint, checked against the clusters of the file, where it has some.
fn endpoint(known: &keys::Known, clusters: &Clusters, mistakes: &mut Mistakes) -> Option<(Name, Candidate)> {
    let (cluster, name) = (known.cluster.as_ref()?, known.name.as_ref()?);
    let found = match clusters.known.is_empty() {
        true => None,
        false => Some(clusters.find(cluster, mistakes)?),
    };
    if let Some(found) = found {
        found.expect(name, mistakes)?;
    }
    let candidate = Candidate {
        name: name.value.0.parse().ok()?,
        place: Place {
            site: known.site.map(|site| site.0),
            zone: known.zone.clone(),
            region: known.region.clone(),
        },
        latency: known.latency.map(|latency| latency.0),
        spare_rps: known.capacity.map(|capacity| capacity.0),
        cost: known.cost.map(|cost| cost.0),
        fit: found.is_none_or(|found| {
            found
                .shadows
                .iter()
                .any(|shadow| shadow.name.as_str() == name.value.0)
        }),
        taken_by: None,
    };
    Some((cluster.value.0.parse().ok()?, candidate))
}

/// Everybody in the clusters, with what the clusters say of them where `placement` says nothing.
fn with_clusters(clusters: &Clusters, mut known: Vec<(Name, Candidate)>) -> Vec<(Name, Candidate)> {
    for cluster in &clusters.known {
        let endpoints = cluster.endpoints.iter().map(|(member, _)| (member, false));
        let members = endpoints.chain(cluster.shadows.iter().map(|standby| (standby, true)));
        for (member, fit) in members {
            let is_it =
                |(of, known): &&mut (Name, Candidate)| *of == cluster.name && known.name == member.name;
            if let Some((_, known)) = known.iter_mut().find(is_it) {
                known.place.region = known.place.region.take().or_else(|| member.region.clone());
                known.spare_rps = known.spare_rps.or(member.capacity_rps);
                continue;
            }
            known.push((cluster.name.clone(), of_cluster(member, fit)));
        }
    }
    known
}

fn of_cluster(member: &Member, fit: bool) -> Candidate {
    Candidate {
        name: member.name.clone(),
        place: Place {
            region: member.region.clone(),
            ..Place::default()
        },
        latency: None,
        spare_rps: member.capacity_rps,
        cost: None,
        fit,
        taken_by: None,
    }
}

/// A standby that nobody names and nobody can be given: its owner believes to be protected, and is not.
pub(super) fn check_idle(clusters: &Clusters, pairs: &[Pair], mistakes: &mut Mistakes) {
    for cluster in &clusters.known {
        let of_cluster = || pairs.iter().filter(|pair| pair.id.cluster == cluster.name);
        if of_cluster().any(|pair| pair.shadow.is_none()) {
            continue;
        }
        for standby in &cluster.shadows {
            let named = cluster
                .endpoints
                .iter()
                .any(|(_, shadow)| shadow.as_ref() == Some(&standby.name));
            let kept = of_cluster().any(|pair| pair.shadow.as_ref() == Some(&standby.name));
            if named || kept {
                continue;
            }
            let what = format!("no endpoint has the shadow {}", quoted(standby.name.as_str()));
            let hint = format!(
                "write shadow: {} at an endpoint, or a pair without a shadow under controller.pairs",
                standby.name
            );
            mistakes.add(
                Mistake::at(standby.place, what)
                    .expected("a shadow that an endpoint names, or that placement may choose")
                    .hint(hint),
            );
        }
    }
}

impl Clusters {
    /// The cluster of this name; else a mistake.
    pub(super) fn find(&self, named: &At<Reference>, mistakes: &mut Mistakes) -> Option<&Cluster> {
        let word = named.value.0.as_str();
        let found = self.known.iter().find(|known| known.name.as_str() == word);
        if found.is_none() {
            let hint = mistakes.did_you_mean(word, self.known.iter().map(|known| known.name.as_str()));
            mistakes.add(Mistake::at(named.place(), format!("unknown cluster {}", quoted(word))).hint(hint));
        }
        found
    }
}

impl Cluster {
    /// It has a member of this name; else that is a mistake.
    pub(super) fn expect(&self, named: &At<Reference>, mistakes: &mut Mistakes) -> Option<()> {
        let word = named.value.0.as_str();
        if self.has(word) {
            return Some(());
        }
        let what = format!("the cluster {} has no endpoint {}", self.name, quoted(word));
        let hint = mistakes.did_you_mean(word, self.members().map(Name::as_str));
        mistakes.add(Mistake::at(named.place(), what).hint(hint));
        None
    }
}
