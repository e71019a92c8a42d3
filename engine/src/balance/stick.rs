//! Users who stay with their slot, because what they left off with lies there.
//!
//! Staying chooses among slots and nothing else: within his slot a user is served by the side that every other user of his
//! place in the shift is served by, so a shift, a failover and a return move him as they move all. Where his slot cannot
//! serve him, its shadow takes him in if it has room for those who did not fit its share: what lies with the primary
//! lies with its shadow, too, and with nobody else. Only where there is no such room he is balanced like a newcomer.
//!
//! Neither cost nor risk is asked: a primary that is doubtful is relieved by its shift. So a slot without a shadow keeps
//! its users until it is taken out; that is the price of staying.

use super::{ClusterTable, Pick, Request, Side, Why};

impl ClusterTable {
    /// Where a user goes who is to stay; `None` for one who is balanced.
    pub(super) fn stuck(&self, request: &Request) -> Option<Pick> {
        let endpoint = request.stick?;
        // Of a pair whose roles were swapped, the shadow is what the slot was called by.
        let by_primary = self.slots.iter().position(|slot| slot.primary == endpoint);
        let by_shadow = || self.slots.iter().position(|slot| slot.shadow == Some(endpoint));
        let at = by_primary.or_else(by_shadow)?;
        if let Some(mut candidate) = self.resolve(at, request) {
            if candidate.pick.side == Side::Primary {
                candidate.pick.why = Why::Stuck;
            }
            return Some(candidate.pick);
        }
        let slot = self.slots.get(at).filter(|slot| slot.spills)?;
        slot.lent().filter(|pick| self.is_available(pick.endpoint))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::super::tests::{NOW, decision, request, shift, spec};
    use super::super::{ClusterTable, Loads, Pick, Request, Why};
    use crate::decision::{Bound, ClusterDecision};

    /// Where users go who are to stay at endpoint 0, whose shadow is 2 and whose peer is 1, with shadow 3.
    fn picks(decided: &ClusterDecision, stick: usize) -> Vec<Pick> {
        let table = ClusterTable::new(&spec(2), decided);
        let (mut rng, mut loads) = (StdRng::seed_from_u64(1), Loads::new(4));
        // Busy enough that nobody would be balanced there.
        (0..100).for_each(|_| loads.begin(0));
        let users = (0..2000).map(|user| Request {
            stick: Some(stick),
            ..request(user)
        });
        users
            .filter_map(|user| table.pick(&user, &loads, &mut rng, NOW))
            .collect()
    }

    fn at(picks: &[Pick], endpoint: usize) -> usize {
        picks.iter().filter(|pick| pick.endpoint == endpoint).count()
    }

    #[test]
    fn a_user_stays_whatever_his_slot_costs_and_only_a_shift_moves_him() {
        let mut decided = decision(&spec(2));
        let all = picks(&decided, 0);
        assert_eq!(at(&all, 0), 2000);
        assert!(all.iter().all(|pick| pick.why == Why::Stuck));
        decided.endpoints[0].shift = Some(shift(0.3));
        let shifted = picks(&decided, 0);
        assert!((500..700).contains(&at(&shifted, 2)), "{}", at(&shifted, 2));
        assert_eq!(at(&shifted, 0) + at(&shifted, 2), 2000, "they stay in their slot");
    }

    #[test]
    fn a_user_whose_primary_is_gone_is_his_shadows_and_elsewhere_only_where_that_is_full() {
        let mut decided = decision(&spec(2));
        decided.endpoints[0].available = false;
        decided.endpoints[0].shift = Some(shift(0.5));
        assert_eq!(at(&picks(&decided, 0), 2), 2000);
        let mut full = shift(0.5);
        full.bound = Bound::ShadowCapacity;
        decided.endpoints[0].shift = Some(full);
        let split = picks(&decided, 0);
        assert!((900..1100).contains(&at(&split, 2)) && at(&split, 1) > 800);
        decided.endpoints[2].available = false;
        assert_eq!(at(&picks(&decided, 0), 1), 2000, "nobody is left of his slot");
    }

    #[test]
    fn a_slot_is_found_by_what_was_its_primary_and_one_that_is_gone_binds_nobody() {
        let decided = decision(&spec(2));
        assert_eq!(at(&picks(&decided, 3), 1), 2000);
        assert!(
            at(&picks(&decided, 77), 1) > 1900,
            "balanced, away from the busy one"
        );
    }
}
