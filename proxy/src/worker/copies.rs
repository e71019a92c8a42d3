//! Where the copy of a request goes, if there is one: the worker's part of mirroring.
//!
//! A shadow gets copies only while it serves no user: what it can carry is theirs, and by copies nobody is served. An
//! endpoint that serves users itself and is somebody's shadow beside gets none at all, because a copy of a write would be
//! one write too many there. Another cluster is chosen in like a user's request would be, but counted in none of its
//! numbers.
// Concept: store-stream

use arrayvec::ArrayVec;
use foreshade_engine::moment::Moment;
use foreshade_engine::spec::Role;
use rand::RngExt;

use super::{Flow, Worker};
use crate::config::{Cluster, Endpoint, MirrorTarget};
use crate::mirror::{Errand, LaneKey, Reason, Rule, Sample, Target};
use crate::recorder::Place;

/// Primaries that are looked at for one that another primary's answer is compared with.
const OTHERS_MAX: usize = 16;

impl Worker {
    /// The errand of a request that is to be copied, once: the attempt that asks first has it. `None` also where there is no
    /// target; that is counted. Only what `is_safe` may go to a primary a second time.
    pub fn errand(&mut self, flow: &mut Flow, is_safe: bool) -> Option<Errand> {
        let rule = flow.mirror.take()?;
        self.find_again(flow);
        let place = flow.attempt.as_ref()?.place;
        let now = self.clock.now();
        let destination = self.destination(flow, place, &rule, now);
        let (lane, target) = match destination {
            Ok(found) => found,
            Err(reason) => {
                self.unmirrored(flow, reason);
                return None;
            }
        };
        let noise = rule.policy().noise.value();
        let control = is_safe && self.rng.random::<f64>() < noise;
        let primary = control.then(|| self.other_primary(place)).flatten();
        // A control that found no primary, or a write, which never is one, is where it is by no coin.
        let by_chance = is_safe && control == primary.is_some();
        Some(Errand {
            sample: Sample {
                round: self.snapshot.round(place.cluster, place.endpoint),
                coin: by_chance.then(|| millionths(noise)),
            },
            rule,
            lane,
            control: primary.is_some(),
            target: primary.unwrap_or(target),
            now,
        })
    }

    /// A copy of this request was not made, or was given up.
    pub fn unmirrored(&mut self, flow: &mut Flow, reason: Reason) {
        self.find_again(flow);
        if let Some(state) = self.clusters.get_mut(flow.cluster) {
            state.tally.unmirrored.add(reason.label(), 1);
        }
    }

    fn destination(
        &mut self,
        flow: &Flow,
        place: Place,
        rule: &Rule,
        now: Moment,
    ) -> Result<(LaneKey, Target), Reason> {
        let own = self.topology.cluster(place.cluster).ok_or(Reason::NoTarget)?;
        let (primary, cluster, endpoint) = match &rule.policy().target {
            MirrorTarget::Shadow => (Some(place.endpoint), place.cluster, self.idle_shadow(own, place)?),
            MirrorTarget::Cluster(name) => {
                let clusters = &self.topology.config().clusters;
                let cluster = clusters.iter().position(|cluster| cluster.name == *name);
                let cluster = cluster.ok_or(Reason::NoTarget)?;
                let table = self.snapshot.clusters.get(cluster).ok_or(Reason::NoTarget)?;
                let loads = &self.clusters.get(cluster).ok_or(Reason::NoTarget)?.loads;
                let pick = table
                    .pick(&flow.request, loads, &mut self.rng, now)
                    .ok_or(Reason::NoTarget)?;
                (None, cluster, pick.endpoint)
            }
        };
        let other = self.topology.cluster(cluster).ok_or(Reason::NoTarget)?;
        let target = other.endpoints.get(endpoint).ok_or(Reason::NoTarget)?;
        let name = |index: usize| own.endpoints.get(index).map(|endpoint| endpoint.name.clone());
        let lane = LaneKey {
            cluster: own.name.clone(),
            primary: primary.and_then(name),
            target: if primary.is_some() {
                &target.name
            } else {
                &other.name
            }
            .clone(),
        };
        Ok((lane, reached(other, target)))
    }

    /// The shadow of an endpoint, if it has a standby that may be chosen and serves nobody.
    fn idle_shadow(&self, cluster: &Cluster, place: Place) -> Result<usize, Reason> {
        let shadow = match cluster
            .endpoints
            .get(place.endpoint)
            .map(|endpoint| endpoint.role)
        {
            Some(Role::Primary { shadow: Some(shadow) }) => shadow,
            Some(Role::Shadow) => return Err(Reason::ShadowServes),
            _ => return Err(Reason::NoTarget),
        };
        let standby = cluster.endpoints.get(shadow).map(|endpoint| endpoint.role) == Some(Role::Shadow);
        let table = self.snapshot.clusters.get(place.cluster);
        match table.filter(|table| standby && table.is_available(shadow)) {
            Some(table) if table.is_idle(shadow) => Ok(shadow),
            Some(_) => Err(Reason::ShadowServes),
            None => Err(Reason::NoTarget),
        }
    }

    /// A primary beside the one that serves the request, so that what differs from host to host is learned as well; the
    /// same one where it is alone.
    fn other_primary(&mut self, place: Place) -> Option<Target> {
        let cluster = self.topology.cluster(place.cluster)?;
        let table = self.snapshot.clusters.get(place.cluster)?;
        let serves =
            |index: usize, role: Role| matches!(role, Role::Primary { .. }) && table.is_available(index);
        let endpoints = cluster.endpoints.iter().enumerate();
        let mut primaries: ArrayVec<_, OTHERS_MAX> = ArrayVec::new();
        for (index, endpoint) in endpoints.filter(|(index, endpoint)| serves(*index, endpoint.role)) {
            if index != place.endpoint && primaries.try_push(endpoint).is_err() {
                break;
            }
        }
        let other = match primaries.len() {
            0 => cluster
                .endpoints
                .get(place.endpoint)
                .filter(|own| serves(place.endpoint, own.role)),
            count => primaries.get(self.rng.random_range(0..count)).copied(),
        };
        Some(reached(cluster, other?))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share is 0 to 1"
)]
fn millionths(share: f64) -> u32 {
    (share * 1e6).round() as u32
}

/// How an endpoint is reached.
fn reached(cluster: &Cluster, endpoint: &Endpoint) -> Target {
    Target {
        to: cluster.to(endpoint),
        idle_timeout: cluster.idle_timeout,
    }
}
