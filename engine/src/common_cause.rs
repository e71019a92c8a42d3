//! Did most endpoints get worse together? Then the cause is none of them, and moving traffic would not help.
//!
//! Two answers. The *reference*, on every tick: an endpoint is judged against the median of the others, itself left out,
//! so that what happens to all cancels out even while it grows slowly. The lower median where there are two middles:
//! when in doubt, the one that got worse is held responsible. And the *verdict* ([`CommonCause`]): a jump of most
//! endpoints within [`TOGETHER`], which freezes shifts.
//!
//! Nobody may stand out: if one is far worse than the rest, the rest suffers *from it* (its traffic has moved to them),
//! and that is exactly the moment to act on it. With one endpoint there is no common cause; with two or three, all (or
//! two of three) have to jump together, and equally.

use std::time::Duration;

use crate::lineage::Lineage;
use crate::moment::Moment;

/// Share of the endpoints with traffic that has to be worse.
const SHARE: f64 = 0.6;

/// Within which time they have to have become worse: two ticks, and one for the phase of sampling.
const TOGETHER: Duration = Duration::from_millis(300);

/// Logarithm of how much worse than the median the worst may be: 2.5 times. Beyond that it stands out.
const STANDS_OUT: f64 = 0.92;

/// What one endpoint adds to the verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Vote {
    /// Whether it has traffic at all, or may be counted as well for another reason.
    pub counts: bool,
    /// How much worse than its own baseline, as a logarithm, if it clearly is.
    pub worse_by: Option<f64>,
}

/// Whether a common cause is at work.
#[derive(Clone, Debug)]
pub struct CommonCause {
    /// When each endpoint became worse.
    since: Vec<Option<Moment>>,
    active: bool,
    scratch: Vec<f64>,
}

impl CommonCause {
    /// For a cluster of so many endpoints.
    pub fn new(endpoints: usize) -> Self {
        Self {
            since: vec![None; endpoints],
            active: false,
            scratch: Vec::with_capacity(endpoints),
        }
    }

    /// Takes a tick's votes and says whether a common cause is at work. It begins with a jump of most endpoints, and
    /// lasts for as long as most are worse and none stands out.
    pub fn handle(&mut self, now: Moment, votes: &[Vote]) -> bool {
        for (since, vote) in self.since.iter_mut().zip(votes) {
            *since = vote.worse_by.and(since.or(Some(now)));
        }
        let voters = votes.iter().filter(|vote| vote.counts).count();
        self.scratch.clear();
        self.scratch.extend(
            votes
                .iter()
                .filter(|vote| vote.counts)
                .filter_map(|vote| vote.worse_by),
        );
        let worse = self.scratch.len();
        if voters < 2 || worse < 2 || (worse as f64) < SHARE * voters as f64 {
            self.active = false;
            return false;
        }
        self.scratch.sort_unstable_by(f64::total_cmp);
        let median = self.scratch.get((worse - 1) / 2).copied().unwrap_or(0.0);
        let worst = self.scratch.last().copied().unwrap_or(0.0);
        let together = self.jumped_together(votes) as f64 >= SHARE * voters as f64;
        self.active = worst - median <= STANDS_OUT && (self.active || together);
        self.active
    }

    /// Goes on with another set of endpoints. Newcomers have not become worse yet.
    pub fn reshape(&mut self, lineage: &Lineage) {
        self.since = lineage.carry(std::mem::take(&mut self.since), |_| None);
    }

    /// Forgets, after a gap in time.
    pub fn reset(&mut self) {
        self.since.fill(None);
        self.active = false;
    }

    /// The largest number of endpoints that became worse within [`TOGETHER`] of each other.
    fn jumped_together(&self, votes: &[Vote]) -> usize {
        let jumps = || {
            self.since
                .iter()
                .zip(votes)
                .filter_map(|(since, vote)| since.filter(|_| vote.counts))
        };
        // Only the newest jump can complete a group that was not complete before.
        let newest = jumps().max();
        jumps()
            .filter(|&at| newest.is_some_and(|newest| newest.since(at) <= TOGETHER))
            .count()
    }
}

/// For every endpoint the lower median of the others; `None` where there are no others.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    sorted: Vec<f64>,
}

impl Reference {
    /// Takes the values of all endpoints that may serve as a reference.
    pub fn fill(&mut self, values: impl Iterator<Item = f64>) {
        self.sorted.clear();
        self.sorted.extend(values.filter(|value| value.is_finite()));
        self.sorted.sort_unstable_by(f64::total_cmp);
    }

    /// The lower median, leaving out `own` once if it is one of the values.
    pub fn without(&self, own: Option<f64>) -> Option<f64> {
        let place = own.and_then(|own| self.sorted.binary_search_by(|value| value.total_cmp(&own)).ok());
        let others = self.sorted.len() - usize::from(place.is_some());
        let middle = others.checked_sub(1)? / 2;
        let skipped = place.is_some_and(|place| place <= middle);
        self.sorted.get(middle + usize::from(skipped)).copied()
    }

    /// How many values there are besides `own`.
    pub fn others(&self, own: Option<f64>) -> usize {
        let has_own = own.is_some_and(|own| {
            self.sorted
                .binary_search_by(|value| value.total_cmp(&own))
                .is_ok()
        });
        self.sorted.len() - usize::from(has_own)
    }

    /// Median absolute deviation from `middle`.
    pub fn deviation(&self, middle: f64) -> f64 {
        let mut distances: Vec<f64> = self.sorted.iter().map(|value| (value - middle).abs()).collect();
        distances.sort_unstable_by(f64::total_cmp);
        distances.get(distances.len() / 2).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Vote = Vote {
        counts: true,
        worse_by: None,
    };
    const IDLE: Vote = Vote {
        counts: false,
        worse_by: None,
    };

    fn worse(by: f64) -> Vote {
        Vote {
            counts: true,
            worse_by: Some(by),
        }
    }

    fn tick(n: u64) -> Moment {
        Moment::from_micros(n * 100_000)
    }

    #[test]
    fn most_endpoints_that_jump_together_are_a_common_cause() {
        let mut cause = CommonCause::new(5);
        assert!(!cause.handle(tick(0), &[WELL, WELL, WELL, WELL, IDLE]));
        assert!(!cause.handle(tick(1), &[worse(1.0), worse(1.0), WELL, WELL, IDLE]));
        assert!(cause.handle(tick(2), &[worse(1.0), worse(1.1), worse(1.2), WELL, IDLE]));
        assert!(cause.handle(tick(60), &[worse(1.0), worse(1.1), worse(1.2), WELL, IDLE]));
        assert!(!cause.handle(tick(61), &[worse(1.0), WELL, WELL, WELL, IDLE]));
    }

    #[test]
    fn one_endpoint_has_nothing_in_common_with_anybody() {
        let mut cause = CommonCause::new(2);
        assert!(!cause.handle(tick(1), &[worse(2.0), IDLE]));
    }

    #[test]
    fn who_stands_out_is_the_cause_himself() {
        let mut cause = CommonCause::new(3);
        assert!(!cause.handle(tick(1), &[worse(2.3), worse(0.4), worse(0.3)]));
    }

    #[test]
    fn what_grew_worse_one_after_the_other_is_not_common() {
        let mut cause = CommonCause::new(3);
        cause.handle(tick(1), &[worse(1.0), WELL, WELL]);
        assert!(!cause.handle(tick(20), &[worse(1.0), worse(1.0), WELL]));
        assert!(!cause.handle(tick(40), &[worse(1.0), worse(1.0), worse(1.0)]));
    }

    #[test]
    fn nobody_is_his_own_reference() {
        let mut reference = Reference::default();
        reference.fill([1.0, 1.0, 9.0, 2.0].into_iter());
        assert_eq!(reference.without(Some(9.0)), Some(1.0));
        assert_eq!(reference.without(Some(1.0)), Some(2.0));
        assert_eq!(reference.without(None), Some(1.0));
        reference.fill([5.0].into_iter());
        assert_eq!(reference.without(Some(5.0)), None);
    }
}
