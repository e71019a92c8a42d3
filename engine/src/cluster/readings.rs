//! What a tick's decisions are held against: demand, presumptions, references and medians, read off the cluster.

use super::{ClusterEngine, Tick};
use crate::assessment::Assessment;
use crate::shift::Reference;

/// Least requests per second that an unknown endpoint is presumed to carry.
const PRESUMED_RPS: f64 = 1.0;

/// Endpoints that must have been measured before their median stands for the cluster.
const MEASURED_MIN: usize = 3;

impl ClusterEngine {
    /// Requests per second that a primary's slot is asked for: its part of the cluster's demand, because its own rate
    /// falls with every user that avoids it.
    pub(super) fn demand_of(&self, index: usize, tick: &Tick) -> f64 {
        let weight = self
            .spec
            .endpoints
            .get(index)
            .map_or(0.0, |endpoint| endpoint.weight);
        tick.demand_rps * weight / tick.weight.max(f64::MIN_POSITIVE)
    }

    /// What an endpoint is presumed to carry: a primary its part of the demand, a shadow the largest of its primaries'.
    pub(super) fn presumed_rps(&self, index: usize, tick: &Tick) -> f64 {
        let of_its_primaries = self
            .primaries()
            .filter(|(primary, _)| *primary == index || self.shadow_of(*primary) == Some(index))
            .map(|(primary, _)| self.demand_of(primary, tick));
        of_its_primaries.fold(PRESUMED_RPS, f64::max)
    }

    /// What other primaries have at the shadow. To a primary that is gone only others that are gone count: the rest still
    /// have a primary, and their caps follow.
    pub(super) fn taken_rps(&self, index: usize, shadow: usize, tick: &Tick) -> f64 {
        let is_dead = |index: usize| self.seen(index).is_some_and(Assessment::is_dead);
        self.members
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index && (is_dead(*other) || !is_dead(index)))
            .filter_map(|(other, member)| member.shift.as_ref().map(|pair| (other, pair)))
            .filter(|(_, pair)| pair.shadow == shadow)
            .map(|(other, pair)| pair.shift.share().value() * self.demand_of(other, tick))
            .sum()
    }

    /// How well a primary did while it was well; its peers where it never was.
    pub(super) fn reference(&self, index: usize) -> Reference {
        let own = self.members.get(index).and_then(|member| member.wellness.ln_us());
        let peers = || {
            let known: Vec<f64> = self
                .primaries()
                .filter_map(|(peer, _)| self.members.get(peer)?.wellness.ln_us())
                .collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        Reference {
            bad: self.seen(index).map_or(0.0, |seen| seen.bad_baseline),
            ln_us: own.or_else(peers),
        }
    }

    /// How much slower the cluster is in common: the median of what has been measured.
    pub(super) fn common_slowdown(&self) -> f64 {
        let measured = |seen: &&Assessment| seen.p50_us > 0;
        let slowdowns = self
            .assessment
            .endpoints
            .iter()
            .filter(measured)
            .map(|seen| seen.slowdown);
        let slowdowns: Vec<f64> = slowdowns.collect();
        if self.assessment.common_cause || slowdowns.len() >= MEASURED_MIN {
            lower_median(slowdowns).unwrap_or(1.0)
        } else {
            1.0
        }
    }

    /// The median endpoint's median latency, of those that are well; of all where none is.
    pub(super) fn typical_us(&self) -> f64 {
        let of = |well: bool| {
            let known = self.assessment.endpoints.iter().filter(|seen| seen.p50_us > 0);
            let chosen = known.filter(|seen| !well || seen.risk.value() < self.spec.shift.engage);
            lower_median(chosen.map(|seen| seen.p50_us as f64).collect())
        };
        of(true).or_else(|| of(false)).unwrap_or(0.0)
    }
}

fn lower_median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}
