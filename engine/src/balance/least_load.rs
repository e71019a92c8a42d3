//! Power of two choices over slots: two at random, each resolved for this user, the cheaper target wins.

use rand::Rng;

use super::{Candidate, ClusterTable, Loads, Request, Why, index_below};
use crate::moment::Moment;

/// One request in a hundred goes to its first choice whatever that costs. With four endpoints a sick one then gets one
/// request in four hundred: enough to see that it has healed, too little to be seen in the users' 99th percentile.
const EXPLORED: u32 = u32::MAX / 100;

impl ClusterTable {
    pub(super) fn least_load(
        &self,
        request: &Request,
        loads: &Loads,
        rng: &mut (impl Rng + ?Sized),
        now: Moment,
    ) -> Option<Candidate> {
        let slots = self.slots.len();
        if slots < 2 {
            return self.resolve(0, request);
        }
        let i = index_below(rng.next_u32(), slots);
        // Among the others, so that the two differ.
        let j = (i + 1 + index_below(rng.next_u32(), slots - 1)) % slots;
        match (self.resolve(i, request), self.resolve(j, request)) {
            (Some(first), Some(second)) => {
                if self.cost(first, request.class, loads, now) <= self.cost(second, request.class, loads, now)
                {
                    Some(first)
                } else if request.repeatable && rng.next_u32() < EXPLORED {
                    let mut explored = first;
                    explored.pick.why = Why::Explored;
                    Some(explored)
                } else {
                    Some(second)
                }
            }
            (Some(one), None) | (None, Some(one)) => Some(one),
            // Both primaries are gone and have no room left for this user: whoever has.
            (None, None) => self.slot_or_next(i, request),
        }
    }
}
