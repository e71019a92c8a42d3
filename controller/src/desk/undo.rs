//! Undo to a generation: who served everybody then.
//!
//! A pair has two sides, so its history has two roles. What a generation names is the side that served everybody at it; a
//! generation in the middle of a shift names neither. How the pair comes back to that side is the lifecycle's to say, and
//! only when it obeys: between an order and its turn the pair may have moved on.

use foreshade_contract::{Arm, Generation};
use foreshade_engine::lifecycle::points::BasisPoints;
use foreshade_engine::lifecycle::{Pair, Transition};

use crate::operator::Fault;

/// The arm that served everybody at a generation.
///
/// # Errors
/// When nobody remembers who served at it, or both sides did.
pub(crate) fn served_at(pair: &Pair, records: &[(u64, Transition)], to: Generation) -> Result<Arm, Fault> {
    let unknown = || Fault::Unknown {
        what: "remembered generation",
        name: to.to_string(),
    };
    if to > pair.generation {
        return Err(unknown());
    }
    let before = |(_, transition): &&(u64, Transition)| transition.generation <= to;
    let (_, transition) = records.iter().rev().find(before).ok_or_else(unknown)?;
    match transition.after {
        [BasisPoints::ALL, _] => Ok(Arm::Primary),
        [_, BasisPoints::ALL] => Ok(Arm::Shadow),
        _ => Err(Fault::NotNow(format!(
            "at generation {to} both sides served; name one at which one did (see its history)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use foreshade_contract::{Epoch, PairId, Round};
    use foreshade_engine::lifecycle::Mode;
    use foreshade_engine::lifecycle::cause::Cause;
    use foreshade_engine::lifecycle::state::State;

    use super::*;

    fn pair() -> Pair {
        let id = PairId {
            cluster: "shop".parse().unwrap(),
            primary: "a".parse().unwrap(),
        };
        let mut pair = Pair::new(id, Mode::Live);
        pair.generation = Generation(9);
        pair
    }

    /// Generation 3: everybody at the primary; 5: half; 7: everybody at the shadow.
    fn records() -> Vec<(u64, Transition)> {
        let half = BasisPoints::percent(50);
        let after = [
            (3, [BasisPoints::ALL, BasisPoints::ZERO]),
            (5, [half, half]),
            (7, [BasisPoints::ZERO, BasisPoints::ALL]),
        ];
        let record = |(generation, after): (u64, [BasisPoints; 2])| Transition {
            pair: pair().id,
            epoch: Epoch(1),
            generation: Generation(generation),
            round: Round(0),
            from: State::Committed,
            to: State::Committed,
            cause: Cause::Waived,
            order: None,
            before: after,
            after,
            rollback_target: None,
            ponr: false,
            at_ms: 0,
        };
        (1..).zip(after.map(record)).collect()
    }

    #[test]
    fn a_generation_names_the_side_that_served_everybody_at_it() {
        let at = |to| served_at(&pair(), &records(), Generation(to));
        for (to, served) in [
            (3, Arm::Primary),
            (4, Arm::Primary),
            (7, Arm::Shadow),
            (9, Arm::Shadow),
        ] {
            assert_eq!(at(to), Ok(served), "{to}");
        }
    }

    #[test]
    fn a_generation_that_nobody_remembers_or_that_names_both_sides_is_refused() {
        let at = |to| served_at(&pair(), &records(), Generation(to));
        for forgotten in [0, 2, 10] {
            assert!(matches!(at(forgotten), Err(Fault::Unknown { .. })), "{forgotten}");
        }
        assert!(matches!(at(5), Err(Fault::NotNow(_))));
        assert!(matches!(at(6), Err(Fault::NotNow(_))));
    }
}
