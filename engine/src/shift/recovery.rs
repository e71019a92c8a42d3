//! How traffic returns: on proof, and only as fast as proof comes in.
//!
//! A drained primary produces no evidence, so its risk holds and time alone proves nothing. After the hold a few users
//! try it: the *contact*, some requests per second. They are sent to it as if it were an average
//! endpoint (`EndpointDecision::trial`); otherwise balancing, which avoids risk, would keep the proof from ever
//! coming. From then on the evidence of this contact alone counts:
//!
//! - an endpoint's contact is not widened before its evidence could have shown the failures that were found before it:
//!   ten clean answers say nothing about a fault that fails one in twenty. No more than twenty are waited for, in which
//!   such a fault still goes unseen 36 times in a hundred. Nothing is known so well of one route class, and its contact
//!   is widened by what follows alone. A contact that brings too few requests is widened in any case (`reach`);
//! - then the returned part grows with what has been proven: never more than what would harm one request in a hundred
//!   if the failures were as frequent as the evidence still allows (ten clean samples: 5 %, from seventy on: a
//!   quarter);
//! - after about 130 clean samples (upper bound of failures within 2 %, or thrice the baseline, and the last twenty no
//!   slower than 1.25 times) it has proven itself, and returns at the policy's pace;
//! - if it shows failures or slowness before the proof, all that had returned moves back at once. Such a failed
//!   contact cost some users one request, and the next one comes soon: a fault that has just healed must not wait for
//!   a long hold. After the proof it is a relapse: the share grows again from where it is, and the next hold is twice
//!   as long.
//!
//! What requests cannot prove (a forecast, an advisory, a full machine that says so) has to be withdrawn by its source
//! first. And where load was the cause, the return goes no further than eight tenths of the load that was too much,
//! a bound that grows by a tenth per second: the cure of an overload looks like its end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Sight;
use super::loss::Evidence;
use super::reach::Reach;
use crate::assessment::{Assessment, Group, TickEvidence};
use crate::moment::Moment;

/// Requests per second that a contact aims at. A few clean seconds widen it, and five slow answers close it; of 1200
/// requests per second it is less than half a percent, so that a fault that has not healed does not show in the users'
/// 99th percentile (a contact of 5 % does: in the closed loop it was the fault's second coming).
const CONTACT_RPS: f64 = 5.0;

/// A contact that brings fewer is widened: half of what it aims at may be its part, and chance may give it users who
/// seldom ask.
const CONTACT_LEAST_RPS: f64 = 2.0;

/// Largest part of the traffic that a contact takes.
const CONTACT_MAX: f64 = 0.50;

/// Requests per second below which a contact would bring no proof, only silence at the primary.
const DEMAND_MIN_RPS: f64 = 0.5;

/// Requests of the returned part that may fail at worst, while nothing is proven.
const HARM: f64 = 0.01;

/// The most that returns before the proof.
const UNPROVEN_MAX: f64 = 0.25;

/// Failures that a recovered primary may show, if its baseline is not worse.
const BAD_MAX: f64 = 0.02;

/// Slowdown that a recovered primary may show.
const SLOW_MAX: f64 = 1.25;

/// Served samples without which slowness is not said to be gone.
const SERVED_MIN: f64 = 8.0;

/// Served samples that may refute by their slowness: the evidence is looked at in every tick, and one or two requests
/// are often slow by chance. Three that are all ten times slower are not.
const SERVED_REFUTING: f64 = 3.0;

/// Served samples, fast by and large, after which a contact doubles.
const SERVED_WIDER: f64 = 5.0;

/// Served samples by which its pace is judged: a contact that has lasted since before a fault healed must not be held
/// back by how slow it was then.
const PACE_SAMPLES: f64 = 20.0;

/// Failures that were to be expected by now, were the fault still what it was: while they are fewer, none seen say
/// nothing yet. Where this many are to be expected, one time in five none is seen; where the samples that are waited for
/// end before ([`SHOWN_SAMPLES_MAX`]), more often.
const SHOWN_MIN: f64 = 1.5;

/// No more samples than this are waited for: what is so rare that it does not show in them harms few meanwhile. A fault
/// that fails one in twenty goes unseen in them 36 times in a hundred, one that fails one in thirteen one time in five.
const SHOWN_SAMPLES_MAX: f64 = 20.0;

/// More failures than this refute; a single one, faded or not, is chance.
const FAILURES_MIN: f64 = 1.5;

/// One-sided 99 % of the normal distribution.
const Z99: f64 = 2.33;

/// Time constant of the evidence by which a relapse is seen: older successes must not hide new failures.
const RECENT: Duration = Duration::from_secs(2);

/// What is left of the pace where a return has failed before. An overload is seen one or two seconds after it began;
/// at full pace a tenth of the traffic has followed by then, and what was slow fails.
const CAUTIOUS: f64 = 0.2;

/// Part of its capacity to which a primary that was overloaded is filled.
const FILL: f64 = 0.8;

/// How fast a known capacity may be exceeded, per second.
const PROBE_PER_SECOND: f64 = 0.10;

/// How a recovery goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More evidence is needed, or more time.
    Going,
    /// All traffic is back and the risk is gone.
    Done,
    /// The first users found it as bad as ever.
    Failed,
    /// It had proven itself, and then failed again.
    Relapsed,
}

/// A primary on its way back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Recovery {
    /// The share from which it started.
    from: f64,
    contact: Reach,
    /// Share of requests that failed before it, as far as it was certain.
    known_bad: f64,
    all: Evidence,
    recent: Evidence,
    pace: Pace,
    proven: bool,
    /// It was taken for dead when the contact began, and has not been revived yet.
    dead: bool,
    /// Failures that may still come in from attempts begun before the contact: whoever died by hanging has some left,
    /// and they say nothing about now.
    old_failures: u32,
    /// Requests per second that it can carry, where load was the cause.
    capacity_rps: Option<f64>,
}

/// How fast a primary on trial is: the last [`PACE_SAMPLES`] served, older ones faded.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Pace {
    served: f64,
    sum_ln_ratio: f64,
}

impl Recovery {
    /// The first contact, at this share, after so many of its requests had failed.
    pub(super) fn open(
        sight: &Sight<'_>,
        share: f64,
        known_bad: f64,
        overloaded_at_rps: Option<f64>,
    ) -> Self {
        let aimed = CONTACT_RPS / sight.demand_rps.max(1e-3);
        Self {
            from: share,
            contact: Reach::new(aimed.min(CONTACT_MAX)),
            known_bad,
            all: Evidence::default(),
            recent: Evidence::default(),
            pace: Pace::default(),
            proven: false,
            dead: sight.primary.is_dead(),
            old_failures: 0,
            capacity_rps: overloaded_at_rps,
        }
    }

    /// A return that needs no proof, because nothing had been held against the primary: an operator had moved its
    /// users.
    pub(super) fn unchallenged(sight: &Sight<'_>, share: f64) -> Self {
        Self {
            contact: Reach::new(0.0),
            proven: true,
            ..Self::open(sight, share, 0.0, None)
        }
    }

    /// The same, for a primary that has been dead: what is in flight now does not count.
    pub(super) fn forgiving(self, sight: &Sight<'_>) -> Self {
        Self {
            old_failures: sight.primary.in_flight,
            ..self
        }
    }

    /// Takes a tick's evidence and says how it goes, and which share follows from it.
    /// `floor` is the share below which it does not go, `caution` the one from which on it goes slowly.
    pub(super) fn step(
        &mut self,
        sight: &Sight<'_>,
        share: f64,
        floor: f64,
        caution: f64,
    ) -> (Progress, f64) {
        self.recent.fade((-sight.dt / RECENT.as_secs_f64()).exp());
        let mut tick = sight.primary.tick;
        let old = tick.bad.min(self.old_failures);
        self.old_failures -= old;
        tick.bad -= old;
        tick.total = tick.total.saturating_sub(old);
        self.recent.add(&tick);
        self.all.add(&tick);
        self.pace.add(&tick);
        // Once more has returned than the contact, proof leads: a lull is no reason to bring users back faster.
        if self.from - share <= self.contact.width() + 1e-9 {
            self.contact
                .step(sight, sight.primary, self.from - share, CONTACT_LEAST_RPS);
        }
        self.dead &= sight.primary.is_dead();
        let limit = BAD_MAX.max(3.0 * sight.reference.bad);
        if self.is_refuted(sight, limit) {
            let progress = if self.proven {
                Progress::Relapsed
            } else {
                Progress::Failed
            };
            // At once: the shadow carried it a moment ago, or it was a canary's share.
            return (progress, self.restored(share));
        }
        self.proven |= self.is_proof(limit);
        let allowed = self.allowed();
        let slowly = if share <= caution { CAUTIOUS } else { 1.0 };
        let pace = sight.policy.return_per_second * slowly * sight.dt;
        // The contact itself is one step; from there on the pace binds.
        let paced = (share - pace).min(self.from - self.contact.width());
        let by_load = match &mut self.capacity_rps {
            Some(capacity) => {
                *capacity *= 1.0 + PROBE_PER_SECOND * sight.dt;
                1.0 - FILL * *capacity / sight.demand_rps.max(1e-3)
            }
            None => 0.0,
        };
        let lowest = floor.max(by_load).max(self.from - allowed).max(0.0);
        let next = paced.max(lowest).min(share);
        let gone = sight.primary.risk.value() < sight.policy.engage && !sight.primary.is_dead();
        if self.proven && next <= 0.0 && gone {
            (Progress::Done, 0.0)
        } else {
            (Progress::Going, next)
        }
    }

    /// The part of the traffic that may return on the evidence so far.
    fn allowed(&self) -> f64 {
        if self.proven {
            return 1.0;
        }
        // What a recovered primary may show was not what ailed it. Half the contact, because power of two choices sends
        // twice his part to whoever has nothing else in flight.
        let telling = (SHOWN_MIN / self.known_bad.max(1e-3)).min(SHOWN_SAMPLES_MAX);
        let contact = self.contact.width();
        if self.known_bad > BAD_MAX && self.all.total < telling {
            // Who has to go to everybody to meet somebody must not stop half way.
            return if contact < 1.0 { contact / 2.0 } else { contact };
        }
        // What answers slowly may answer without a failure for ever.
        if !self.looks_fast() {
            return contact;
        }
        // A handful of fast answers are no proof, but twice the contact is then no risk to anybody's p99.
        let wider = if self.all.served() >= SERVED_WIDER {
            2.0
        } else {
            1.0
        };
        (contact * wider).max((HARM / self.all.bad_share().1).min(UNPROVEN_MAX))
    }

    /// Width of the trial above the share: what has returned, and everybody once it has proven itself.
    pub(super) fn trial(&self, share: f64) -> f64 {
        if self.proven {
            1.0
        } else {
            self.contact.width().max(self.from - share)
        }
    }

    /// In words.
    pub(super) fn state(&self) -> String {
        let upper = self.all.bad_share().1 * 100.0;
        let slow = self.pace.ln_slowdown().map_or(1.0, f64::exp);
        let stage = if self.proven { "proven" } else { "on trial" };
        format!(
            "primary {stage}: {:.0} samples, at most {upper:.1}% bad, {slow:.2} times as slow",
            self.all.total
        )
    }

    fn is_proof(&self, limit: f64) -> bool {
        self.all.bad_share().1 <= limit && self.looks_fast() && self.all.served() >= SERVED_MIN
    }

    fn looks_fast(&self) -> bool {
        self.pace.ln_slowdown().is_some_and(|ln| ln <= SLOW_MAX.ln())
    }

    fn restored(&self, share: f64) -> f64 {
        if self.proven { share } else { self.from.max(share) }
    }

    fn is_refuted(&self, sight: &Sight<'_>, limit: f64) -> bool {
        if sight.primary.is_dead() && !self.dead {
            return true;
        }
        if hearsay(sight.primary) >= sight.policy.engage {
            return true;
        }
        let slow = |evidence: &Evidence| {
            evidence.served() >= SERVED_REFUTING
                && evidence
                    .ln_slowdown()
                    .is_some_and(|(mean, error)| mean - Z99 * error > SLOW_MAX.ln())
        };
        let bad = |evidence: &Evidence| evidence.bad > FAILURES_MIN && evidence.bad_share().0 > limit;
        // All of it decides before the proof, so that rare failures add up; the recent part decides after it.
        let evidence = if self.proven { &self.recent } else { &self.all };
        bad(evidence) || slow(evidence)
    }
}

impl Pace {
    fn add(&mut self, tick: &TickEvidence) {
        self.served += f64::from(tick.served);
        self.sum_ln_ratio += tick.sum_ln_ratio;
        let kept = (PACE_SAMPLES / self.served).min(1.0);
        self.served *= kept;
        self.sum_ln_ratio *= kept;
    }

    /// Mean logarithm of the slowdown against its own baseline.
    fn ln_slowdown(&self) -> Option<f64> {
        (self.served >= 1.0).then(|| self.sum_ln_ratio / self.served)
    }
}

/// Risk that no request can prove or refute: what somebody says, the endpoint itself included.
pub(crate) fn hearsay(primary: &Assessment) -> f64 {
    let hazard: f64 = primary
        .terms
        .iter()
        .filter(|term| matches!(term.group, Group::Resource | Group::Trend | Group::External))
        .map(|term| term.hazard)
        .sum();
    1.0 - (-hazard).exp()
}

/// Wait before the next contact after `failed` ones: soon at first, half as long again each time.
pub(super) fn next_contact(hold: Duration, failed: u32, longest: Duration) -> Duration {
    hold.mul_f64(0.4 * 1.5f64.powi(i32::try_from(failed.min(32)).unwrap_or(32)))
        .min(longest)
}

/// When a contact may be made at all.
pub(super) fn may_contact(sight: &Sight<'_>, not_before: Moment) -> bool {
    sight.now >= not_before
        && sight.demand_rps >= DEMAND_MIN_RPS
        && hearsay(sight.primary) < sight.policy.release
        // Probes say for free what a contact would cost users.
        && !(sight.primary.is_dead() && sight.probed)
}
