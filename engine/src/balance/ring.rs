//! Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016): a user stays with a slot while
//! slots come and go, and walks on to the next one where the load would exceed 1.25 times the fair part.

use super::{Candidate, ClusterTable, Loads, Request};
use crate::cohort::mix;

/// Points per slot of average weight: keeps the largest slot within about 20 % of its fair part.
const POINTS: f64 = 64.0;

/// Most points of one slot, however large its weight.
const POINTS_MAX: f64 = 1024.0;

/// How far above its fair part a slot may be loaded, when all are equal.
const LOAD_BOUND: f64 = 1.25;

/// Slots on a ring of hashes.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    /// Point and slot, by point.
    points: Vec<(u64, usize)>,
}

impl Ring {
    /// The ring of slots given by identity and weight. A slot's points depend on nothing but these, so that another
    /// slot's coming or going moves nobody else.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 1..=1024 before"
    )]
    pub(super) fn new(slots: impl Iterator<Item = (usize, f64)>) -> Self {
        let mut points: Vec<(u64, usize)> = slots
            .enumerate()
            .flat_map(|(slot, (identity, weight))| {
                let count = (POINTS * weight).round().clamp(1.0, POINTS_MAX) as u64;
                (0..count).map(move |n| (point(identity, n), slot))
            })
            .collect();
        points.sort_unstable();
        Self { points }
    }

    /// The slots clockwise from a hash; a slot comes up once per point.
    fn walk(&self, hash: u64) -> impl Iterator<Item = usize> {
        let start = self.points.partition_point(|(point, _)| *point < hash);
        let (before, after) = self.points.split_at(start);
        after.iter().chain(before).map(|(_, slot)| *slot)
    }
}

fn point(identity: usize, n: u64) -> u64 {
    mix(mix(identity as u64) ^ n)
}

impl ClusterTable {
    pub(super) fn by_hash(&self, ring: &Ring, request: &Request, loads: &Loads) -> Option<Candidate> {
        let total: f64 = self.slots.iter().map(|slot| slot.weight).sum();
        let in_flight = f64::from(loads.total_in_flight() + 1);
        let has_room = |slot: usize, candidate: &Candidate| {
            let fair = in_flight * self.slots.get(slot).map_or(0.0, |slot| slot.weight) / total;
            f64::from(loads.in_flight(candidate.pick.endpoint)) < (LOAD_BOUND * fair).ceil()
        };
        // Another mix than the shift's, so that a slot's users are spread over the order of its shift.
        let hash = mix(request.cohort.hash());
        let mut first = None;
        for slot in ring.walk(hash) {
            if let Some(candidate) = self.resolve(slot, request) {
                if has_room(slot, &candidate) {
                    return Some(candidate);
                }
                first = first.or(Some(candidate));
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(ring: &Ring, hash: u64) -> usize {
        ring.walk(hash).next().unwrap()
    }

    #[test]
    fn a_slot_that_goes_moves_only_its_own_users() {
        let all = Ring::new([(10, 1.0), (11, 1.0), (12, 1.0)].into_iter());
        let rest = Ring::new([(10, 1.0), (12, 1.0)].into_iter());
        let name = |slot: usize, of: [usize; 3]| of[slot];
        for n in 0..2000 {
            let hash = mix(n);
            let before = name(owner(&all, hash), [10, 11, 12]);
            let after = name(owner(&rest, hash), [10, 12, 0]);
            assert!(before == 11 || before == after);
        }
    }

    #[test]
    fn slots_are_served_by_weight() {
        let ring = Ring::new([(0, 1.0), (1, 3.0)].into_iter());
        let second = (0..10_000).filter(|n| owner(&ring, mix(*n)) == 1).count();
        assert!((6500..8500).contains(&second), "{second}");
    }
}
