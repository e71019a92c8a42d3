//! Which faults each endpoint gets: a scenario's two lists, by endpoint.
//!
//! All of an endpoint's faults are set at once and at the same moment for every contender; when they come and go after
//! that is the farm's business, so that a director who is late by a millisecond is late for all of them alike.

use std::collections::BTreeMap;

use super::At;
use crate::farm::fault::Fault;
use crate::stage::topology::Pair;

/// Faults by the name of the endpoint.
pub type Faults = BTreeMap<String, Vec<Fault>>;

/// Those of `lists`, in their order.
pub fn by_endpoint<'a>(lists: impl IntoIterator<Item = &'a (At, Fault)>, pairs: &[Pair]) -> Faults {
    let mut faults = Faults::new();
    for (at, fault) in lists {
        for name in at.names(pairs) {
            faults.entry(name).or_default().push(fault.clone());
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Site;

    #[test]
    fn every_endpoint_gets_all_that_is_meant_for_it_in_the_order_of_the_file() {
        let lists = [
            (At::Everybody, Fault::slow(2.0)),
            (At::Faulty, Fault::errors(0.5)),
        ];
        let faults = by_endpoint(&lists, &Site::Single.pairs());
        assert_eq!(faults["a"], [Fault::slow(2.0), Fault::errors(0.5)]);
        assert_eq!(faults["a-standby"], [Fault::slow(2.0)]);
    }
}
