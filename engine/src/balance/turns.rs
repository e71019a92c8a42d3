//! Slots by weight: drawn at random, or in turn.
//!
//! In turn means smooth weighted round robin (nginx, 2012): a slot of weight three among two of weight one is served
//! a-b-a-c-a, not a-a-a-b-c. The order is computed with the table, so a pick reads one entry.

/// Longest round. Weights are rounded to this many parts, so the smallest weight that is told apart is 1/256 of the sum.
const ROUND_MAX: usize = 256;

/// Slots by weight.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    /// Upper end of each slot's range of random numbers.
    ends: Vec<u32>,
    /// Slots in the order of their turns.
    order: Vec<usize>,
}

impl Turns {
    /// To draw at random.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the conversion saturates at both ends, which is what is meant"
    )]
    pub(super) fn cumulative(weights: &[f64]) -> Self {
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let ends = weights
            .iter()
            .map(|weight| {
                sum += weight;
                (sum / total * 4_294_967_296.0).round() as u32
            })
            .collect();
        Self {
            ends,
            order: Vec::new(),
        }
    }

    /// To serve in turn.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a quotient of weights, clamped to the length of a round"
    )]
    pub(super) fn smooth(weights: &[f64]) -> Self {
        let smallest = weights.iter().copied().fold(f64::INFINITY, f64::min);
        let total: f64 = weights.iter().sum();
        // Whole rounds by the smallest weight; where that is too long, the closest that fits.
        let length = ((total / smallest).round() as usize).clamp(weights.len(), ROUND_MAX.max(weights.len()));
        let mut credit = vec![0.0; weights.len()];
        let mut order = Vec::with_capacity(length);
        for _ in 0..length {
            let mut best = 0;
            for (slot, weight) in weights.iter().enumerate() {
                if let Some(own) = credit.get_mut(slot) {
                    *own += weight;
                }
                // A hair's breadth, so that rounding does not disturb the order of equals.
                if credit.get(slot).copied().unwrap_or(0.0) > credit.get(best).copied().unwrap_or(0.0) + 1e-9
                {
                    best = slot;
                }
            }
            if let Some(own) = credit.get_mut(best) {
                *own -= total;
            }
            order.push(best);
        }
        Self {
            ends: Vec::new(),
            order,
        }
    }

    /// The slot that a random number falls on.
    pub(super) fn at(&self, random: u32) -> usize {
        self.ends
            .partition_point(|end| *end <= random)
            .min(self.ends.len().saturating_sub(1))
    }

    /// The slot whose turn it is.
    pub(super) fn turn(&self, turn: usize) -> usize {
        match self.order.len() {
            0 => 0,
            length => self.order.get(turn % length).copied().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_smooth_and_by_weight() {
        let turns = Turns::smooth(&[3.0, 1.0, 1.0]);
        let order: Vec<usize> = (0..10).map(|turn| turns.turn(turn)).collect();
        assert_eq!(order, [0, 1, 0, 2, 0, 0, 1, 0, 2, 0]);
    }

    #[test]
    fn equals_take_turns() {
        let turns = Turns::smooth(&[1.0; 4]);
        assert_eq!(
            (0..8).map(|t| turns.turn(t)).collect::<Vec<_>>(),
            [0, 1, 2, 3, 0, 1, 2, 3]
        );
    }

    #[test]
    fn a_round_is_bounded_and_close_to_the_weights() {
        let turns = Turns::smooth(&[1.0, 0.3, 1e-6]);
        assert_eq!(turns.order.len(), ROUND_MAX);
        let second = turns.order.iter().filter(|slot| **slot == 1).count();
        assert!(second.abs_diff(59) <= 1, "{second}");
        assert_eq!(Turns::smooth(&[]).turn(5), 0);
    }

    #[test]
    fn random_numbers_fall_by_weight() {
        let turns = Turns::cumulative(&[1.0, 3.0]);
        assert_eq!((turns.at(0), turns.at(u32::MAX / 4 - 1)), (0, 0));
        assert_eq!((turns.at(u32::MAX / 4 + 1), turns.at(u32::MAX)), (1, 1));
        assert_eq!(Turns::cumulative(&[]).at(5), 0);
    }
}
