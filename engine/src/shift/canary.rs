//! Whether the shadow has proven itself on a small share of the same traffic, before more of it follows.
//!
//! A shadow that passes its probes may still fail users (a stale schema, a cold cache, a missing secret). So a small
//! share of users tries it, and their loss there is held against what the primary's users lost *when the shift was
//! engaged*: the drained primary of now looks better than it is.
//!
//! - better: at least 25 live samples (five where the primary fails most requests; down to eight where they are slow to
//!   come), and the shadow's upper bound clearly below the primary's lower bound;
//! - worse: its lower bound above the primary's loss at any time, or two seconds without that proof although there
//!   were samples enough, or the few look no more than half as good as they should. The share goes to nothing, and the
//!   next try waits, twice as long each time, unless the primary becomes clearly worse than it was when that was said;
//! - shunned: samples enough were on offer and balancing, which sees each answer at once, sent most of them elsewhere,
//!   and the few look no more than half as good as they should. That is a verdict too, and the same as worse;
//! - unclear, for lack of samples: it stays at the canary, says so, and takes more users where those that it has ask too
//!   seldom (`reach`).
//!
//! Where shares are held, only a shadow that is worse for certain is left.

use std::time::Duration;

use foreshade_contract::Share;
use serde::{Deserialize, Serialize};

use super::Sight;
use super::loss::{Evidence, Loss};
use super::reach::Reach;
use crate::moment::Moment;
use crate::spec::ShiftPolicy;

/// Live samples that a proof needs. A shadow that fails one in five passes 25 without a failure once in 260 times.
const SAMPLES: f64 = 25.0;

/// The fewest that a proof needs where they are slow to come and the primary is plainly worse than most shadows could
/// be ([`PLAIN`]). One that fails one in five passes eight without a failure once in six times: against a primary that
/// fails one in twenty that would be a bad bargain.
const SAMPLES_LATE: f64 = 8.0;

/// Loss of a primary that fails one in ten, or is more than three times as slow.
const PLAIN: f64 = 1.0;

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

/// The part of the primary's loss from which on a shadow does not seem to be better, while little is known.
const SEEMS_WORSE: f64 = 0.5;

/// Longest time for which a shadow that is no better may keep its canary.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a canary may seem to be empty because its users have not asked yet.
const EMPTY: Duration = Duration::from_secs(1);

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
    /// Once it has begun.
    reach: Option<Reach>,
    /// Requests that its share of the pair's would have been, since the first came.
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
            reach: None,
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
        self.reach = None;
        self.offered = 0.0;
    }

    /// The share of users that try it.
    pub(super) fn width(&self, policy: &ShiftPolicy) -> f64 {
        self.reach.map_or(policy.canary.value(), |reach| reach.width())
    }

    /// The last that was said of the shadow is that it is no better.
    pub(super) fn is_given_up(&self) -> bool {
        self.proof == Proof::Worse
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
        self.take(sight, share);
        let shadow = self.evidence.loss(sight.reference);
        let n = self.evidence.total;
        let seems_worse = self.is_waited_for() || shadow.mean >= SEEMS_WORSE * primary.mean;
        if !seems_worse && !sight.is_held() {
            self.widen(sight, share);
        }
        let certainly = n >= SAMPLES_WORSE && shadow.lower > primary.mean;
        if n >= self.needed(sight, primary, urgent) && clearly_better(&self.evidence) {
            self.proof = Proof::Better;
            self.failed = 0;
        } else if certainly || !sight.is_held() && self.is_no_better(sight, seems_worse) {
            self.proof = Proof::Worse;
            let wait = BACK_OFF.saturating_mul(1 << self.failed.min(10));
            self.not_before = sight.now + wait.min(sight.policy.hold_max);
            self.failed = self.failed.saturating_add(1);
        }
        self.proof
    }

    /// Neither the time nor what is on offer counts while nobody is there: among few users a canary may be empty at first.
    fn take(&mut self, sight: &Sight<'_>, share: Share) {
        self.evidence.add(&sight.shadow.tick);
        let asked = sight.shadow.in_flight > 0 || sight.shadow.tick.started > 0;
        let met = asked || self.evidence.total > 0.0 || self.offered > 0.0;
        let began = self.began.get_or_insert(sight.now);
        if met {
            self.offered += share.value() * sight.demand_rps * sight.dt;
        } else if sight.now.since(*began) >= EMPTY {
            *began = sight.now;
        }
    }

    /// Somebody asks it, and nobody has had an answer yet.
    fn is_waited_for(&self) -> bool {
        self.offered > 0.0 && self.evidence.total < 1.0
    }

    /// More users try it where those who do ask too seldom, once all are there who are meant to.
    fn widen(&mut self, sight: &Sight<'_>, share: Share) {
        let reach = self.reach.get_or_insert(Reach::new(sight.policy.canary.value()));
        if share.value() + 1e-9 >= reach.width() {
            reach.step(
                sight,
                sight.shadow,
                share.value(),
                SAMPLES / PATIENCE.as_secs_f64(),
            );
        }
    }

    /// It has had time and samples enough, or balancing would have given it some if it were well.
    fn is_no_better(&self, sight: &Sight<'_>, seems_worse: bool) -> bool {
        let (n, seconds) = (self.evidence.total, self.seconds(sight));
        let shunned = self.offered >= SAMPLES && n < SHUNNED * self.offered && seems_worse;
        let few = n >= SAMPLES_WORSE && (self.evidence.bad >= 1.0 || seems_worse);
        seconds >= PATIENCE.as_secs_f64() - 1e-9 && (shunned || few || n >= SAMPLES)
    }

    /// Samples that a proof needs: the longer they take to come, the fewer.
    fn needed(&self, sight: &Sight<'_>, primary: Loss, urgent: bool) -> f64 {
        if urgent {
            return SAMPLES_URGENT;
        }
        if primary.lower < PLAIN {
            return SAMPLES;
        }
        (SAMPLES * PATIENCE.as_secs_f64() / self.seconds(sight)).clamp(SAMPLES_LATE, SAMPLES)
    }

    /// How long it has lasted. Users have been there for a tick before the first evidence comes in.
    fn seconds(&self, sight: &Sight<'_>) -> f64 {
        self.began
            .map_or(0.0, |began| sight.now.seconds_since(began) + sight.dt)
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
    use crate::assessment::TickEvidence;

    /// A primary that fails 5 %.
    const SICK: Loss = Loss {
        lower: 0.7,
        mean: 0.81,
        upper: 0.9,
    };

    /// One that is three times as slow as it was.
    const SLOW: Loss = Loss {
        lower: 0.9,
        mean: 0.9,
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
        let (proof, ticks) = run(0, 3.3, SLOW, 100);
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

    /// After how many ticks a shadow is given up whose first answer is three times as slow as it should be, or does not come
    /// at all, and who is asked no more.
    fn given_up_after(answers: u32) -> Option<u32> {
        let mut bench = Bench::new();
        let mut canary = Canary::new();
        let mut shadow = known(0.0);
        shadow.tick = tick(answers, 0, 3.0);
        shadow.tick.started = 1;
        (1..=100).find(|_| {
            let proof = canary.step(
                &bench.sight(&known(0.7), &shadow),
                Share::clamped(0.05),
                SICK,
                false,
            );
            shadow.tick = TickEvidence::default();
            bench.advance(100);
            proof != Proof::Open
        })
    }

    #[test]
    fn a_shadow_that_balancing_shuns_is_worse_after_two_seconds() {
        assert_eq!((given_up_after(0), given_up_after(1)), (Some(20), Some(20)));
    }

    /// The width of a canary after some seconds in which the primary is asked so often in each tick, and one of so many ticks
    /// brings the shadow a request that it answers well.
    fn width_after(seconds: u32, primarys: u32, every: Option<u32>) -> f64 {
        let mut bench = Bench::new();
        bench.demand_rps = 40.0;
        let mut canary = Canary::new();
        let (mut primary, mut shadow) = (known(0.7), known(0.0));
        primary.tick = tick(primarys, 0, 1.0);
        let mut width = bench.policy.canary.value();
        for n in 0..seconds * 10 {
            shadow.tick = tick(u32::from(every.is_some_and(|every| n % every == 0)), 0, 1.0);
            let sight = bench.sight(&primary, &shadow);
            assert_eq!(
                canary.step(&sight, Share::clamped(width), SICK, false),
                Proof::Open
            );
            width = canary.width(&bench.policy);
            bench.advance(100);
        }
        width
    }

    #[test]
    fn a_canary_that_brings_few_requests_is_widened_to_half_and_one_that_nobody_meets_to_all() {
        assert!((width_after(1, 4, Some(5)) - 0.1).abs() < 1e-9);
        assert!((width_after(10, 4, Some(5)) - 0.5).abs() < 1e-9);
        assert!((width_after(10, 4, None) - 1.0).abs() < 1e-9);
        // Nobody asks.
        assert!((width_after(10, 0, None) - 0.05).abs() < 1e-9);
    }

    #[test]
    fn a_held_canary_is_left_only_where_it_is_worse_for_certain() {
        let mut bench = Bench::new();
        bench.frozen = true;
        let primary = known(0.7);
        for (bad, proof) in [(0, Proof::Open), (5, Proof::Worse)] {
            let mut canary = Canary::new();
            let mut shadow = known(0.0);
            shadow.tick = tick(10, bad, 3.0);
            for _ in 0..30 {
                let sight = bench.sight(&primary, &shadow);
                canary.step(&sight, Share::clamped(0.05), SLOW, false);
                bench.advance(100);
            }
            assert_eq!(canary.proof, proof, "{bad}");
        }
    }
}
