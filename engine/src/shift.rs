//! How much of a primary's traffic its shadow serves: the state machine of one pair, one step per tick.
//!
//! ```text
//! Normal -> Prepare            risk is rising, or somebody says so: nothing moves yet
//!        -> Canary             risk was at the threshold for two ticks: a few users try the shadow
//!        -> Ramp -> Shifted    the shadow has proven itself: the share doubles until it is where the risk wants it
//!        -> FailOver           the primary is gone: everything at once, proven or not, as far as the shadow can carry
//!        it; or it fails every third request and a few samples show that the shadow does not -> Return -> Normal
//!        the primary has proven itself on a few users: the share goes back as proof comes in
//! ```
//!
//! Fast in, slow out. While an episode lasts the share wanted is the largest that the risk asked for in it, and it is
//! held against the primary's *worst* risk: the risk of a drained primary falls or holds for lack of traffic, not
//! because it is well, and following it would pull everybody back at once. Only proof brings traffic back
//! (`recovery`), and the users that bring the proof are sent to the primary as if it were an average endpoint, because
//! balancing would starve it otherwise. That is what `EndpointDecision::trial` is for.
//!
//! Each law is a small function in a file of its own: `latch` (when it begins), `canary` (is the shadow better?),
//! `ramp` (how fast), `cap` (how far at most), `recovery` (what brings it back), `memory` (how long to wait, and what
//! was learnt), `class` (one route class alone), `loss` (the measure that they share).
//!
//! In common cause and in panic shares stay as they are, except that the users of a primary that is gone still move
//! to a shadow that is not: that cannot make anything worse. In panic others, too, may still move to a shadow that
//! is well, as far as it can carry them: where too little is left, what is left is to be used. No traffic: nothing
//! moves and nothing returns. A pause of the whole process is no evidence; the caller's time stands still in it.
//!
//! A controller's plan (`cluster::Guidance`) may bound the share, keep it, or set it. What is set holds instead of all the
//! above but one: the users of a primary that is gone fail over, and come back to what is set on proof.
// Concept: endpoint-gradual-shift

mod canary;
mod cap;
mod class;
mod episode;
mod latch;
mod loss;
mod memory;
mod publish;
mod ramp;
mod reach;
mod recovery;

use foreshade_contract::Share;
use rand::Rng;
use serde::{Deserialize, Serialize};

use self::canary::{Canary, Proof};
use self::cap::{Cap, Limits};
use self::class::ClassShift;
use self::episode::Episode;
use self::latch::Latch;
pub(crate) use self::loss::Reference;
use self::memory::Memory;
pub(crate) use self::recovery::hearsay;
use self::recovery::{Progress, Recovery};
use crate::ablation::{Ablations, Part};
use crate::assessment::Assessment;
use crate::cluster::Guidance;
use crate::decision::{Bound, Phase, ShiftDecision};
use crate::moment::Moment;
use crate::spec::ShiftPolicy;

/// Share of requests that fail, for certain, from which on a primary is not left gradually.
const FAILING: f64 = 1.0 / 3.0;

/// All that a pair sees in a tick.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight<'a> {
    /// The time that holds are counted in.
    pub(crate) now: Moment,
    /// Seconds since the previous tick.
    pub(crate) dt: f64,
    pub(crate) primary: &'a Assessment,
    pub(crate) shadow: &'a Assessment,
    /// The shadow may be chosen at all.
    pub(crate) shadow_available: bool,
    /// Active probes of the primary have been seen lately.
    pub(crate) probed: bool,
    /// How well the primary did while it was well.
    pub(crate) reference: Reference,
    /// Requests per second that the pair is asked for.
    pub(crate) demand_rps: f64,
    /// The part of that which fits the shadow.
    pub(crate) capacity: Share,
    /// The part that the operator's number for the shadow allows, whatever is seen of it.
    pub(crate) granted: Share,
    /// Shares stay as they are.
    pub(crate) frozen: bool,
    /// They stay for want of capacity alone: who is well may still be given more, be it a shadow or a primary that
    /// proves itself.
    pub(crate) in_panic: bool,
    /// What the controller's plan says.
    pub(crate) guidance: Guidance,
    pub(crate) policy: &'a ShiftPolicy,
    pub(crate) ablations: Ablations,
}

impl Sight<'_> {
    /// The primary is gone, the shadow is not, and nobody forbids it.
    fn fails_over(&self) -> bool {
        self.primary.is_dead() && self.shadow_available && self.guidance.failover
    }

    fn is_held(&self) -> bool {
        self.frozen && !(self.in_panic && self.shadow.risk.value() < self.policy.engage)
    }

    /// Nobody is brought back to the primary, and nobody asks it.
    fn holds_returns(&self) -> bool {
        self.frozen && !self.in_panic
    }
}

/// A decision on a pair.
#[derive(Clone, Debug)]
pub(crate) struct Shifted {
    pub(crate) decision: ShiftDecision,
    /// See `EndpointDecision::trial`.
    pub(crate) trial: Share,
}

/// The shift of one primary.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Shift {
    latch: Latch,
    canary: Canary,
    cap: Cap,
    memory: Memory,
    classes: Vec<ClassShift>,
    episode: Option<Episode>,
    share: f64,
    salt: u64,
}

impl Shift {
    pub(crate) fn new() -> Self {
        Self {
            latch: Latch::default(),
            canary: Canary::new(),
            cap: Cap::new(),
            memory: Memory::default(),
            classes: Vec::new(),
            episode: None,
            share: 0.0,
            salt: 0,
        }
    }

    /// The share now.
    pub(crate) fn share(&self) -> Share {
        Share::clamped(self.share)
    }

    /// Whether the primary is on trial, so that it has to be reachable even if it is taken for dead.
    pub(crate) fn is_recovering(&self) -> bool {
        self.episode
            .as_ref()
            .is_some_and(|episode| episode.recovery.is_some())
    }

    /// The shadow is another one from here on: nobody is at it, and nothing is known of it. What is known of the primary
    /// stays: an episode goes on, from its canary, with the share that its worst risk wants; a return that was under way
    /// has to be proven anew.
    pub(crate) fn change_shadow(&mut self, now: Moment) {
        self.share = 0.0;
        self.cap = Cap::new();
        self.canary = Canary::new();
        self.classes.clear();
        if let Some(episode) = &mut self.episode {
            episode.recovery = None;
            episode.contact_at = now + episode.hold;
        }
    }

    /// Decides one tick. `forced` is the share that an operator has set.
    pub(crate) fn step(
        &mut self,
        sight: &Sight<'_>,
        forced: Option<Share>,
        rng: &mut (impl Rng + ?Sized),
    ) -> Shifted {
        let (phase, cap, bound) = if let Some(share) = forced {
            // What is set hides no risk from whoever decides once it is not.
            self.latch.step(sight);
            self.force(share, rng)
        } else if let Some(share) = sight.guidance.directed.filter(|_| sight.policy.enabled) {
            self.follow(sight, share, rng)
        } else if sight.policy.enabled {
            self.decide(sight, rng)
        } else {
            *self = Self {
                salt: self.salt,
                ..Self::new()
            };
            (Phase::Normal, Share::ZERO, Bound::Policy)
        };
        let is_set = forced.is_some() || phase == Phase::Directed;
        let by_class_cap = if is_set { self.share() } else { cap };
        self.step_classes(sight, by_class_cap, rng);
        self.publish(sight, phase, cap, bound)
    }

    fn force(&mut self, share: Share, rng: &mut (impl Rng + ?Sized)) -> (Phase, Share, Bound) {
        if self.nobody_moved() {
            self.salt = rng.next_u64();
        }
        self.share = share.value();
        self.episode = None;
        (Phase::Override, share, Bound::Policy)
    }

    /// The share that the plan sets, unless the primary is gone, or has been and is not proven yet.
    fn follow(
        &mut self,
        sight: &Sight<'_>,
        directed: Share,
        rng: &mut (impl Rng + ?Sized),
    ) -> (Phase, Share, Bound) {
        let away = self.episode.as_ref().is_some_and(|episode| episode.died);
        if sight.fails_over() || away {
            let decided = self.decide(sight, rng);
            if !self.is_recovering() || self.share > directed.value() {
                self.share = self.share.max(directed.value());
                return decided;
            }
        } else {
            self.latch.step(sight);
        }
        if self.nobody_moved() {
            self.salt = rng.next_u64();
        }
        self.episode = None;
        // Whether the shadow is well is what the controller has to find out, at a share that does not waver meanwhile.
        self.share = directed.value().min(sight.granted.value());
        let bound = if sight.granted < directed {
            Bound::ShadowCapacity
        } else {
            Bound::None
        };
        (Phase::Directed, sight.granted, bound)
    }

    fn decide(&mut self, sight: &Sight<'_>, rng: &mut (impl Rng + ?Sized)) -> (Phase, Share, Bound) {
        let engaged = self.latch.step(sight);
        if self.episode.is_none() && (engaged || self.share > 0.0) {
            self.begin(sight, rng);
            self.take_over(sight, engaged);
        }
        let Some(mut episode) = self.episode.take() else {
            let limits = Limits {
                authority: Share::ONE,
                ceiling: sight.guidance.ceiling,
            };
            let (cap, bound) = Cap::new().step(sight, limits, sight.primary.risk);
            return (idle_phase(sight), cap, bound);
        };
        let before = self.share;
        let (phase, cap, bound) = match episode.recovery {
            Some(_) => self.go_back(sight, &mut episode, rng),
            None => self.advance(sight, &mut episode),
        };
        let over = phase == Phase::Normal;
        self.share = self.share.min(cap.value()).clamp(0.0, 1.0);
        if before > 0.0 && self.nobody_moved() && !over {
            // Nobody is left at the shadow; should it be tried again, then by other users.
            self.salt = rng.next_u64();
        }
        if over {
            self.memory.released(sight.now);
        } else {
            self.episode = Some(episode);
        }
        (phase, cap, bound)
    }

    fn begin(&mut self, sight: &Sight<'_>, rng: &mut (impl Rng + ?Sized)) {
        self.memory.engaged(sight.now);
        self.cap = Cap::new();
        self.canary.restart();
        if self.nobody_moved() {
            self.salt = rng.next_u64();
        }
        let hold = self.memory.hold(sight.now, sight.policy, rng);
        self.episode = Some(Episode::new(sight, hold));
    }

    /// An operator or a plan may have moved users, and has let go of them. Whoever is there was led there with a right to it:
    /// they stay for as long as the primary is at risk, and else come back at once. More go there once a canary has found the
    /// shadow better, as always. Only where the primary has been left with fewer than a canary's users is the shadow trusted
    /// without one: there is nothing any more that it could be compared with.
    fn take_over(&mut self, sight: &Sight<'_>, engaged: bool) {
        let Some(episode) = self.episode.as_mut().filter(|_| self.share > 0.0) else {
            return;
        };
        episode.authority = Share::ONE;
        if !engaged {
            episode.recovery = Some(Recovery::unchallenged(sight, self.share));
        } else if 1.0 - self.share < sight.policy.canary.value() {
            self.canary.trust();
        }
    }

    /// Fast in: towards the share that the risk asks for.
    fn advance(&mut self, sight: &Sight<'_>, episode: &mut Episode) -> (Phase, Share, Bound) {
        episode.latch_worst(sight);
        let (cap, cap_bound) = self.cap.step(sight, episode.limits(sight), episode.worst);
        if !sight.shadow_available {
            self.canary.restart();
        }
        let target = episode.wanted.value().min(cap.value());
        if sight.fails_over() {
            // Unproven is better than certainly broken.
            self.share = self.share.max(target);
            episode.consider_contact(sight, self.share);
            return (
                Phase::FailOver,
                cap,
                if cap.value() < 1.0 { cap_bound } else { Bound::None },
            );
        }
        let worth = ramp::is_worth_it(sight.shadow.risk, episode.worst);
        let failing = episode.worst_bad >= FAILING;
        let given_up = self.canary.is_given_up();
        let (phase, bound) = match self.canary.step(sight, self.share(), episode.loss, failing) {
            // Shares stay, unless the shadow is found to be worse now: of what was said before, who has failed over since
            // knows better.
            proof if sight.is_held() && (given_up || proof != Proof::Worse) => {
                return (self.phase(), cap, Bound::Mode);
            }
            Proof::Worse => {
                self.share = 0.0;
                (Phase::Canary, Bound::ShadowRisk)
            }
            _ if !worth => (self.phase(), Bound::ShadowRisk),
            Proof::Open => {
                let width = self.canary.width(sight.policy);
                let step = ramp::growth(self.share(), episode.worst, sight.dt, sight.policy);
                self.share = self.share.max(target.min(width).min(self.share + step));
                (Phase::Canary, Bound::Unproven)
            }
            Proof::Better if failing && self.share < target && sight.guidance.failover => {
                // A ramp would protect a shadow that is better already, at the price of every third request.
                self.share = target;
                (
                    Phase::FailOver,
                    if cap.value() < 1.0 { cap_bound } else { Bound::None },
                )
            }
            // What is left to it does it no harm: more would move users for what is over, and who has lost half its
            // cores is well with half its load. What has no traffic keeps the evidence of when it had, and so goes on.
            Proof::Better if sight.primary.raw.value() < sight.policy.release => {
                (Phase::Shifted, Bound::None)
            }
            Proof::Better => {
                let step = ramp::growth(self.share(), episode.worst, sight.dt, sight.policy);
                self.share = self.share.max(target.min(self.share + step));
                if self.share + 1e-9 < target {
                    // Until it is where it should be there is nothing to bring back.
                    return (Phase::Ramp, cap, Bound::Ramp);
                }
                let bound = if target < episode.wanted.value() {
                    cap_bound
                } else {
                    Bound::None
                };
                (Phase::Shifted, bound)
            }
        };
        episode.consider_contact(sight, self.share);
        (phase, cap, bound)
    }

    /// Slow out: as far as the primary has proven itself.
    fn go_back(
        &mut self,
        sight: &Sight<'_>,
        episode: &mut Episode,
        rng: &mut (impl Rng + ?Sized),
    ) -> (Phase, Share, Bound) {
        let (cap, cap_bound) = self.cap.step(sight, episode.limits(sight), episode.worst);
        let bound = if cap.value() < 1.0 { cap_bound } else { Bound::None };
        let Some(recovery) = &mut episode.recovery else {
            return (Phase::Return, cap, bound);
        };
        if sight.holds_returns() {
            return (Phase::Return, cap, Bound::Mode);
        }
        let floor = self.memory.floor(sight.now, sight.policy).min(cap.value());
        let (progress, share) = recovery.step(sight, self.share, floor, self.memory.caution(sight.now));
        self.share = share;
        match progress {
            Progress::Going => (Phase::Return, cap, bound),
            Progress::Done => (Phase::Normal, cap, bound),
            Progress::Failed => {
                episode.recovery = None;
                let longest = sight.policy.hold_max;
                let wait = recovery::next_contact(episode.hold, episode.contacts_failed, longest);
                episode.contact_at = sight.now + wait;
                episode.contacts_failed = episode.contacts_failed.saturating_add(1);
                episode.latch_worst(sight);
                (Phase::Shifted, cap, bound)
            }
            Progress::Relapsed => {
                episode.recovery = None;
                if !sight.ablations.has(Part::NoHysteresis) {
                    self.memory.relapsed(sight.now, share);
                }
                episode.hold = self.memory.hold(sight.now, sight.policy, rng);
                episode.contact_at = sight.now + episode.hold;
                episode.relapse(sight, share);
                (Phase::Ramp, cap, bound)
            }
        }
    }

    fn step_classes(&mut self, sight: &Sight<'_>, cap: Share, rng: &mut (impl Rng + ?Sized)) {
        let quiet = self.nobody_moved();
        for sick in &sight.primary.classes {
            let tracked = self.classes.iter().any(|shift| shift.class() == sick.class);
            // Bounded by the number of classes, each of which comes up once.
            if !tracked && sick.risk.value() >= sight.policy.engage && sight.policy.enabled {
                self.classes.push(ClassShift::new(sick.class));
            }
        }
        if quiet && !self.classes.is_empty() {
            self.salt = rng.next_u64();
        }
        for class in &mut self.classes {
            class.step(sight, cap, rng);
        }
        let (share, sick) = (self.share(), &sight.primary.classes);
        self.classes.retain(|class| {
            // What began as one class's illness has become the endpoint's: its share returns by the endpoint's proof.
            let taken_over = share > Share::ZERO
                && class.share() <= share
                && !sick.iter().any(|sick| sick.class == class.class());
            !taken_over && !class.is_idle(sight.now)
        });
    }

    /// Whether another salt would move no user from one side to the other.
    fn nobody_moved(&self) -> bool {
        self.share <= 0.0 && self.classes.iter().all(|class| class.share() == Share::ZERO)
    }

    fn phase(&self) -> Phase {
        if self.share > 0.0 {
            Phase::Shifted
        } else {
            Phase::Canary
        }
    }
}

fn idle_phase(sight: &Sight<'_>) -> Phase {
    let risky = sight.primary.risk.value() >= sight.policy.release;
    if risky || sight.primary.eta_seconds.is_some() || hearsay(sight.primary) >= sight.policy.release {
        Phase::Prepare
    } else {
        Phase::Normal
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
