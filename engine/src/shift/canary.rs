//! Whether the shadow has proven itself on a small share of the same traffic, before more of it follows.
//!
//! A shadow that passes its probes may still fail users (a stale schema, a cold cache, a missing secret). So a small
//! share of users tries it, and their loss there is held against what the primary's users lost *when the shift was
//! engaged*: the drained primary of now looks better than it is.
//!
//! - better: at least 25 live samples (five where the primary fails most requests), and the shadow's upper bound
//!   clearly below the primary's lower bound;
//! - worse: its lower bound above the primary's loss at any time, or two seconds without that proof although there
//!   were samples enough, or the few look no more than half as good as they should. The share goes to nothing, and the
//!   next try waits, twice as long each time, unless the primary becomes clearly worse than it was when that was said;
//! - shunned: samples enough were on offer and balancing, which sees each answer at once, sent most of them elsewhere.
//!   That is a verdict too, and the same as worse;
//! - unclear, for lack of samples: it stays at the canary, and says so.

use std::time::Duration;

use foreshade_contract::Share;
use serde::{Deserialize, Serialize};

use super::Sight;
use super::loss::{Evidence, Loss};
use crate::moment::Moment;

/// Live samples that a proof needs. A shadow that fails one in five passes 25 without a failure once in 260 times.
const SAMPLES: f64 = 25.0;

/// What the shadow's loss has to be below, in terms of the primary's. The primary's bound is taken at the moment when
/// its errors stood out most, which chance has a part in: without a margin a shadow three times slower is now and then
/// preferred to a primary that fails one in twenty.
const CLEARLY: f64 = 0.8;

/// The same where the primary fails every third request: a shadow that fails half of its own passes five by luck once
/// in thirty times, and its risk says so a few ticks later.
const SAMPLES_URGENT: f64 = 5.0;

/// Samples that a condemnation needs: at least two failures lie behind it then, or five slow answers.
const SAMPLES_WORSE: f64 = 5.0;

/// The part of the requests on offer that balancing leaves to a shadow that is no worse than the cluster's others.
const SHUNNED: f64 = 0.5;

/// Longest time for which a shadow that is no better may keep its canary.
const PATIENCE: Duration = Duration::from_secs(2);

/// Wait before the next try with a shadow that was worse; doubled each time. What makes a shadow worse (a cold cache, a
/// stale schema) takes longer to go than most faults of a primary last, and each try costs users.
const BACK_OFF: Duration = Duration::from_secs(20);

/// What is known of the shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Proof {
    /// Nothing yet.
    Open,
    /// It is better than the primary.
    Better,
    /// It is not; try again later.
    Worse,
}

/// A shadow's trial with a small share of users.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Canary {
    proof: Proof,
    began: Option<Moment>,
    evidence: Evidence,
    /// Requests that its share of the pair's would have been.
    offered: f64,
    /// No try before.
    not_before: Moment,
    /// Tries that went wrong since the last that went well.
    failed: u32,
}

impl Canary {
    /// An unproven shadow.
    pub(super) fn new() -> Self {
        Self {
            proof: Proof::Open,
            began: None,
            evidence: Evidence::default(),
            offered: 0.0,
            not_before: Moment::ZERO,
            failed: 0,
        }
    }

    /// A new episode has to prove it again; what went wrong is not forgotten.
    pub(super) fn restart(&mut self) {
        self.proof = Proof::Open;
        self.began = None;
        self.evidence = Evidence::default();
        self.offered = 0.0;
    }

    /// Nearly everybody has been there for long enough, by somebody else's decision.
    pub(super) fn trust(&mut self) {
        self.proof = Proof::Better;
        self.not_before = Moment::ZERO;
    }

    /// Takes a tick's evidence, given that users are sent to the shadow now. `primary` is the primary's latched loss;
    /// `urgent` says that waiting costs more than a rash proof.
    pub(super) fn step(&mut self, sight: &Sight<'_>, share: Share, primary: Loss, urgent: bool) -> Proof {
        let clearly_better =
            |evidence: &Evidence| evidence.loss(sight.reference).upper < CLEARLY * primary.lower;
        if sight.now < self.not_before {
            // What was seen of it may prove it against a primary that is worse than it was then; nobody has to try
            // again.
            if self.evidence.total >= SAMPLES && clearly_better(&self.evidence) {
                self.not_before = sight.now;
                self.proof = Proof::Better;
                self.failed = 0;
            }
            return self.proof;
        }
        if self.proof == Proof::Worse {
            self.restart();
        }
        // Once proven, its own risk speaks for it.
        if self.proof == Proof::Better || share.value() <= 0.0 {
            return self.proof;
        }
        let began = *self.began.get_or_insert(sight.now);
        self.evidence.add(&sight.shadow.tick);
        let shadow = self.evidence.loss(sight.reference);
        let n = self.evidence.total;
        self.offered += share.value() * sight.demand_rps * sight.dt;
        let shunned = self.offered >= SAMPLES && n < SHUNNED * self.offered;
        // Users have been there for a tick before the first evidence comes in.
        let patient = sight.now.seconds_since(began) + sight.dt < PATIENCE.as_secs_f64() - 1e-9;
        let needed = if urgent { SAMPLES_URGENT } else { SAMPLES };
        if n >= needed && clearly_better(&self.evidence) {
            self.proof = Proof::Better;
            self.failed = 0;
        } else if (shunned && !patient)
            || n >= SAMPLES_WORSE
                && (shadow.lower > primary.mean
                    || (!patient
                        && (n >= SAMPLES || self.evidence.bad >= 1.0 || shadow.mean >= 0.5 * primary.mean)))
        {
            self.proof = Proof::Worse;
            let wait = BACK_OFF.saturating_mul(1 << self.failed.min(10));
            self.not_before = sight.now + wait.min(sight.policy.hold_max);
            self.failed = self.failed.saturating_add(1);
        }
        self.proof
    }

    /// Why it is not proven, in words.
    pub(super) fn state(&self, now: Moment) -> String {
        if now < self.not_before {
            let left = self.not_before.seconds_since(now);
            format!("shadow was no better, next try in {left:.0} s")
        } else {
            format!(
                "shadow unproven after {:.0} samples ({:.0} bad)",
                self.evidence.total, self.evidence.bad
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Bench, known, tick};
    use super::*;

    /// A primary that fails 5 %.
    const SICK: Loss = Loss {
        lower: 0.7,
        mean: 0.81,
        upper: 0.9,
    };

    fn run(bad_in_ten: u32, slower: f64, primary: Loss, ticks: u32) -> (Proof, u32) {
        let mut bench = Bench::new();
        let mut canary = Canary::new();
        let mut shadow = known(0.0);
        for n in 1..=ticks {
            let bad = u32::from(n % 10 < bad_in_ten);
            shadow.tick = tick(3, bad, slower);
            let proof = canary.step(
                &bench.sight(&known(0.7), &shadow),
                Share::clamped(0.05),
                primary,
                false,
            );
            if proof != Proof::Open {
                return (proof, n);
            }
            bench.advance(100);
        }
        (Proof::Open, ticks)
    }

    #[test]
    fn a_good_shadow_is_proven_by_clean_samples() {
        assert_eq!(run(0, 1.0, SICK, 100), (Proof::Better, 9));
    }

    #[test]
    fn where_the_primary_fails_most_requests_five_samples_prove_the_shadow() {
        let failing = Loss {
            lower: 1.3,
            mean: 1.4,
            upper: 1.5,
        };
        let bench = Bench::new();
        let (primary, mut shadow) = (known(0.98), known(0.0));
        shadow.tick = tick(5, 0, 1.0);
        let sight = bench.sight(&primary, &shadow);
        let share = Share::clamped(0.05);
        assert_eq!(Canary::new().step(&sight, share, failing, false), Proof::Open);
        assert_eq!(Canary::new().step(&sight, share, failing, true), Proof::Better);
        shadow.tick = tick(5, 4, 1.0);
        let sight = bench.sight(&primary, &shadow);
        assert_eq!(Canary::new().step(&sight, share, failing, true), Proof::Open);
    }

    #[test]
    fn a_shadow_that_fails_more_loses_its_canary_within_two_seconds() {
        let (proof, ticks) = run(6, 1.0, SICK, 100);
        assert_eq!(proof, Proof::Worse);
        assert!(ticks <= 21, "{ticks}");
    }

    #[test]
    fn a_shadow_that_is_as_slow_as_the_primary_loses_its_canary() {
        let slow = Loss {
            lower: 0.9,
            mean: 0.9,
            upper: 0.9,
        };
        let (proof, ticks) = run(0, 3.3, slow, 100);
        assert_eq!((proof, ticks <= 21), (Proof::Worse, true));
    }

    #[test]
    fn a_shadow_that_was_worse_waits_longer_each_time() {
        let mut bench = Bench::new();
        let mut canary = Canary::new();
        let mut shadow = known(0.0);
        shadow.tick = tick(10, 5, 1.0);
        let mut tried = 0;
        for _ in 0..700 {
            let share = Share::clamped(0.05);
            if canary.step(&bench.sight(&known(0.7), &shadow), share, SICK, false) == Proof::Worse
                && canary.not_before == bench.now + BACK_OFF * (1 << tried)
            {
                tried += 1;
            }
            bench.advance(100);
        }
        assert_eq!(tried, 3);
    }

    #[test]
    fn where_next_to_nothing_is_on_offer_there_is_no_verdict() {
        let mut bench = Bench::new();
        bench.demand_rps = 20.0;
        let mut canary = Canary::new();
        for _ in 0..100 {
            let proof = canary.step(
                &bench.sight(&known(0.7), &known(0.0)),
                Share::clamped(0.05),
                SICK,
                false,
            );
            assert_eq!(proof, Proof::Open);
            bench.advance(100);
        }
    }

    #[test]
    fn a_shadow_that_balancing_shuns_is_worse_after_two_seconds() {
        let mut bench = Bench::new();
        let mut canary = Canary::new();
        let share = Share::clamped(0.05);
        let mut verdict = || {
            let proof = canary.step(&bench.sight(&known(0.7), &known(0.0)), share, SICK, false);
            bench.advance(100);
            proof
        };
        assert_eq!((1..=100).find(|_| verdict() != Proof::Open), Some(20));
    }
}
