//! How many failed attempts may be repeated: a token bucket that fills with success.
//!
//! Retries are what turns a slow cluster into a dead one (Huang et al., *Metastable Failures in the Wild*, OSDI '22:
//! retries sustain more than half of them). So a retry has to be earned: a tenth of a token per success, plus a small
//! reserve per second so that a cluster with little traffic can fail over at all. Failures earn nothing: the worse it
//! gets, the fewer retries there are. In any span of T seconds at most `0.1 successes + 10 T + 100` whole tokens are
//! spent, whatever fails.
//!
//! Workers share nothing, so each has its own bucket with its part of reserve and cap. It starts full; idle time fills
//! it to its cap and no further, so that a quiet hour does not save up a storm.

use crate::failover::Cost;
use crate::moment::Moment;

/// Tokens that a success earns: ten successes pay one retry.
const PER_SUCCESS: f64 = 0.1;

/// Tokens per second, over all workers: enough for a cluster of a few requests per second, and lost in the noise of a
/// busy one.
const RESERVE_PER_SECOND: f64 = 10.0;

/// Most tokens, over all workers: ten seconds of the reserve, or what a thousand successes earn.
const CAP: f64 = 100.0;

/// The retry budget of one cluster at one worker.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    tokens: f64,
    cap: f64,
    per_second: f64,
    filled_at: Moment,
}

impl RetryBudget {
    /// A full budget, for one of `workers` workers. Zero counts as one.
    pub fn new(workers: usize, now: Moment) -> Self {
        let part = 1.0 / workers.max(1) as f64;
        // Not below one token: with a hundred workers nobody could ever pay for a single retry.
        let cap = (CAP * part).max(1.0);
        Self {
            tokens: cap,
            cap,
            per_second: RESERVE_PER_SECOND * part,
            filled_at: now,
        }
    }

    /// An attempt succeeded.
    pub fn earn(&mut self) {
        self.tokens = (self.tokens + PER_SUCCESS).min(self.cap);
    }

    /// Takes what a retry costs, and says whether it was there. Nothing is taken where it was not.
    #[must_use = "a retry that was not paid for must not be made"]
    pub fn try_spend(&mut self, cost: Cost, now: Moment) -> bool {
        self.tokens = self.available(now);
        self.filled_at = self.filled_at.max(now);
        let price = price(cost);
        if self.tokens < price {
            return false;
        }
        self.tokens -= price;
        true
    }

    /// Whether a retry of this price could be paid now. An attempt should only be cut short by its adaptive timeout when
    /// this holds: without a retry, waiting on is the user's better chance.
    pub fn can_spend(&self, cost: Cost, now: Moment) -> bool {
        self.available(now) >= price(cost)
    }

    /// The tokens there are, for metrics.
    pub fn available(&self, now: Moment) -> f64 {
        (self.tokens + self.per_second * now.seconds_since(self.filled_at)).min(self.cap)
    }
}

fn price(cost: Cost) -> f64 {
    match cost {
        Cost::Full => 1.0,
        Cost::Half => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_budget_pays_a_hundred_retries_and_no_more() {
        let mut budget = RetryBudget::new(1, Moment::ZERO);
        let paid = (0..500)
            .filter(|_| budget.try_spend(Cost::Full, Moment::ZERO))
            .count();
        assert_eq!(paid, 100);
        let later = Moment::ZERO + Duration::from_millis(100);
        assert!(!budget.can_spend(Cost::Half, Moment::ZERO) && budget.can_spend(Cost::Full, later));
        assert!(budget.try_spend(Cost::Full, later));
    }

    #[test]
    fn what_was_never_sent_costs_half() {
        let mut budget = RetryBudget::new(1, Moment::ZERO);
        let paid = (0..500)
            .filter(|_| budget.try_spend(Cost::Half, Moment::ZERO))
            .count();
        assert_eq!(paid, 200);
    }

    #[test]
    fn ten_successes_earn_one_retry() {
        let mut budget = RetryBudget::new(1, Moment::ZERO);
        while budget.try_spend(Cost::Half, Moment::ZERO) {}
        (0..9).for_each(|_| budget.earn());
        assert!(!budget.try_spend(Cost::Full, Moment::ZERO));
        (0..2).for_each(|_| budget.earn());
        assert!(budget.try_spend(Cost::Full, Moment::ZERO));
    }

    #[test]
    fn a_clock_that_goes_back_earns_nothing() {
        let late = Moment::ZERO + Duration::from_secs(10);
        let mut budget = RetryBudget::new(1, late);
        while budget.try_spend(Cost::Full, late) {}
        assert!(!budget.try_spend(Cost::Full, Moment::ZERO));
        assert!(!budget.try_spend(Cost::Full, late));
    }

    #[test]
    fn many_workers_together_have_one_budget() {
        let mut paid = 0;
        for _ in 0..4 {
            let mut budget = RetryBudget::new(4, Moment::ZERO);
            paid += (0..500)
                .filter(|_| budget.try_spend(Cost::Full, Moment::ZERO))
                .count();
        }
        assert_eq!(paid, 100);
    }

    proptest! {
        // Invariant 14: for every pattern of failures, retries stay within a tenth of the requests and the reserve.
        #[test]
        fn retries_stay_within_the_budget_for_every_pattern(
            events in prop::collection::vec((any::<bool>(), 0u64..50_000, any::<bool>()), 1..3000),
        ) {
            let mut budget = RetryBudget::new(1, Moment::ZERO);
            let (mut now, mut requests, mut full, mut half) = (Moment::ZERO, 0.0, 0.0, 0.0);
            for (fails, gap_us, never_sent) in events {
                now = now + Duration::from_micros(gap_us);
                requests += 1.0;
                if !fails {
                    budget.earn();
                } else if never_sent {
                    half += f64::from(u8::from(budget.try_spend(Cost::Half, now)));
                } else {
                    full += f64::from(u8::from(budget.try_spend(Cost::Full, now)));
                }
            }
            let seconds = now.seconds_since(Moment::ZERO);
            let allowed = 0.1 * requests + 10.0 * seconds + 100.0 + 1e-6;
            prop_assert!(full + 0.5 * half <= allowed);
            prop_assert!(full + half <= 2.0 * allowed);
        }
    }
}
