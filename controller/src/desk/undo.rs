//! Undo to a generation: who served then, and what order leads back to it.
//!
//! A pair has two sides, so its history has two roles. What a generation names is the side that served everybody at it; a
//! generation in the middle of a shift names neither. How the pair comes back is the lifecycle's to say: by taking the
//! promotion back while that is possible, and else by a shift that has to prove itself like any other.

use foreshade_contract::{Arm, Generation};
use foreshade_engine::lifecycle::command::Command;
use foreshade_engine::lifecycle::points::BasisPoints;
use foreshade_engine::lifecycle::state::State;
use foreshade_engine::lifecycle::{Pair, Transition};

use crate::operator::Fault;

/// What there is to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Undo {
    /// This.
    Order(Command),
    /// Nothing: it is so already, or on its way.
    Nothing,
}

/// What leads back to the roles of a generation.
///
/// # Errors
/// When nobody remembers who served at it, or both sides did.
pub(crate) fn undo(pair: &Pair, records: &[(u64, Transition)], to: Generation) -> Result<Undo, Fault> {
    let wanted = served_at(pair, records, to)?;
    let is_serving = pair.serving == wanted;
    Ok(match pair.state {
        // On the way from one to the other.
        State::Shifting(_) if is_serving => Undo::Order(Command::Abort),
        State::Shifting(_) => Undo::Nothing,
        _ if is_serving => Undo::Nothing,
        // The lifecycle takes back what leads away from the file's roles; what leads to them is a promotion.
        State::Warm(_) | State::Syncing if pair.serving == Arm::Primary => {
            Undo::Order(Command::Promote { full: false })
        }
        _ => Undo::Order(Command::Undo),
    })
}

/// The arm that served everybody at a generation.
fn served_at(pair: &Pair, records: &[(u64, Transition)], to: Generation) -> Result<Arm, Fault> {
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
    use foreshade_engine::lifecycle::state::{Shifting, Warm};

    use super::*;

    fn pair(serving: Arm, state: State) -> Pair {
        let id = PairId {
            cluster: "shop".parse().unwrap(),
            primary: "a".parse().unwrap(),
        };
        let mut pair = Pair::new(id, Mode::Live);
        (pair.serving, pair.state, pair.generation) = (serving, state, Generation(9));
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
            pair: pair(Arm::Primary, State::Committed).id,
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
    fn the_side_that_served_at_a_generation_is_led_back_to_its_users() {
        let at = |serving, state, to| undo(&pair(serving, state), &records(), Generation(to));
        let warm = State::Warm(Warm::Idle);
        assert_eq!(
            at(Arm::Shadow, State::Committed, 4),
            Ok(Undo::Order(Command::Undo))
        );
        assert_eq!(at(Arm::Shadow, warm, 3), Ok(Undo::Order(Command::Undo)));
        let promote = Command::Promote { full: false };
        assert_eq!(at(Arm::Primary, warm, 8), Ok(Undo::Order(promote)));
        assert_eq!(at(Arm::Shadow, State::Committed, 7), Ok(Undo::Nothing));
        let advancing = State::Shifting(Shifting::Advancing);
        assert_eq!(at(Arm::Primary, advancing, 3), Ok(Undo::Order(Command::Abort)));
        assert_eq!(at(Arm::Primary, advancing, 9), Ok(Undo::Nothing));
    }

    #[test]
    fn a_generation_that_nobody_remembers_or_that_names_both_sides_is_refused() {
        let at = |to| undo(&pair(Arm::Shadow, State::Committed), &records(), Generation(to));
        for forgotten in [0, 2, 10] {
            assert!(matches!(at(forgotten), Err(Fault::Unknown { .. })), "{forgotten}");
        }
        assert!(matches!(at(5), Err(Fault::NotNow(_))));
        assert!(matches!(at(6), Err(Fault::NotNow(_))));
    }
}
