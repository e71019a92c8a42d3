//! A pair beside what is seen of it: the questions that guards and laws ask.
//!
//! A rehearsal asks the same questions. Only what the world would have to answer (have the proxies followed, has the
//! writer stopped) is taken as given there, because nothing was sent.

use std::time::Duration;

use foreshade_contract::{Arm, PairId, Risk};

use super::cause::{Obstacle, ms};
use super::points::BasisPoints;
use super::policy::Policy;
use super::safety::Change;
use super::sight::{ArmSight, Finding, Opinion, Sight, Sync};
use super::state::State;
use super::{Mode, Pair};

/// What a step is made from, besides the pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) sight: &'a Sight,
    pub(super) policy: &'a Policy,
    /// What the wall shows.
    pub(super) now_ms: u64,
    /// The other pairs of the group, if it is in one.
    pub(super) company: Company<'a>,
}

/// What the other pairs of a group are up to. Alone, nothing stands in the way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Company<'a> {
    /// One of them goes back, so this one has to as well; and whether it does so for no failure.
    pub(super) fallen: Option<(&'a PairId, bool)>,
    /// They are not as far as this one yet.
    pub(super) is_behind: bool,
    /// It is not this one's turn to go back.
    pub(super) goes_first: bool,
}

/// A pair beside what is seen of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) pair: &'a Pair,
    pub(super) sight: &'a Sight,
    pub(super) policy: &'a Policy,
    pub(super) company: Company<'a>,
}

impl<'a> View<'a> {
    pub(super) fn new(pair: &'a Pair, seen: Seen<'a>) -> Self {
        Self {
            pair,
            sight: seen.sight,
            policy: seen.policy,
            company: seen.company,
        }
    }

    /// The arm that does not serve, or not by itself yet.
    pub(super) fn standby(&self) -> Arm {
        self.pair.serving.other()
    }

    pub(super) fn standby_sight(&self) -> &ArmSight {
        self.sight.arm(self.standby())
    }

    pub(super) fn serving_sight(&self) -> &ArmSight {
        self.sight.arm(self.pair.serving)
    }

    /// The risk of what serves: what is seen, or what an operator says where that is more.
    pub(super) fn risk(&self) -> Risk {
        let seen = self.serving_sight().risk.unwrap_or_default();
        match self.pair.overrides.risk() {
            Some(least) if least > seen => least,
            _ => seen,
        }
    }

    /// Nothing is sent in this mode, so nothing can be answered.
    pub(super) fn is_rehearsal(&self) -> bool {
        self.pair.mode != Mode::Live
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.is_rehearsal() || self.sight.acks.quorum >= self.pair.generation
    }

    pub(super) fn is_confirmed_by_all(&self) -> bool {
        self.is_rehearsal() || self.sight.acks.all >= self.pair.generation
    }

    /// There is state to replicate, whether or not anything is known of it now.
    pub(super) fn is_stateful(&self) -> bool {
        self.pair.writer.stateful
    }

    /// How far the arm that does not write is behind, and whether it understands the other one.
    pub(super) fn in_sync(&self, lag_max: Duration) -> Result<Option<Duration>, Obstacle> {
        match self.sight.sync {
            _ if !self.is_stateful() => Ok(None),
            Sync::Nothing | Sync::Unknown => Err(Obstacle::LagUnknown),
            Sync::Known { lag, .. } if lag > lag_max => Err(Obstacle::Lag {
                lag_ms: ms(lag),
                max_ms: ms(lag_max),
            }),
            Sync::Known { verified: false, .. } => Err(Obstacle::Unverified),
            Sync::Known {
                compatible: false, ..
            } => Err(Obstacle::Incompatible),
            Sync::Known { lag, .. } => Ok(Some(lag)),
        }
    }

    /// All that was written before the last fence has arrived.
    pub(super) fn is_caught_up(&self) -> bool {
        let term = self.pair.writer.term;
        let arrived = matches!(self.sight.sync, Sync::Known { caught_up: Some(until), .. } if until == term);
        !self.is_stateful() || self.is_rehearsal() || arrived
    }

    pub(super) fn is_fenced(&self) -> bool {
        let stopped = self.sight.writer.fenced == Some(self.pair.writer.term);
        !self.is_stateful() || self.is_rehearsal() || stopped
    }

    pub(super) fn is_granted(&self) -> bool {
        let begun = self.sight.writer.granted == Some(self.pair.writer.term);
        !self.is_stateful() || self.is_rehearsal() || begun
    }

    /// Whether the arm carries this part of the demand. What nobody has measured is left to the proxies, which see it.
    pub(super) fn carries(&self, arm: Arm, weight: BasisPoints) -> Result<(), Obstacle> {
        let needs_rps = self.sight.demand_rps * weight.fraction();
        match self.sight.arm(arm).capacity_rps {
            Some(has_rps) if has_rps < needs_rps => Err(Obstacle::Capacity {
                arm,
                needs_rps,
                has_rps,
            }),
            _ => Ok(()),
        }
    }

    /// The largest part of the demand that the arm carries.
    pub(super) fn carried_by(&self, arm: Arm) -> BasisPoints {
        match self.sight.arm(arm).capacity_rps {
            Some(has_rps) if has_rps < self.sight.demand_rps => {
                BasisPoints::at_most(has_rps / self.sight.demand_rps)
            }
            _ => BasisPoints::ALL,
        }
    }

    pub(super) fn fit(&self, arm: Arm) -> Result<(), Obstacle> {
        let seen = self.sight.arm(arm);
        if seen.is_well() {
            return Ok(());
        }
        Err(Obstacle::ArmUnfit {
            arm,
            health: seen.health,
            gone: seen.is_gone(),
        })
    }

    /// What the judge found in this round; what was found in another one is no evidence.
    pub(super) fn finding(&self) -> Option<&'a Finding> {
        let finding = self.sight.finding.as_ref();
        finding.filter(|finding| finding.round == self.pair.round)
    }

    pub(super) fn opinion(&self) -> Opinion {
        self.finding()
            .map_or(Opinion::Undecided, |finding| finding.opinion)
    }

    /// The change from the present weights to ones in which the standby has `share`. While nothing is under way the
    /// proxies shift by themselves, so whom they have moved is there already.
    pub(super) fn change_to(&self, share: BasisPoints, proven: bool) -> Change {
        let set = self.pair.effective_share();
        let present = match self.pair.state {
            State::Warm(_) => set.max(BasisPoints::at_most(self.sight.share)),
            _ => set,
        };
        Change {
            before: Pair::weights_of(self.pair.serving, present),
            after: Pair::weights_of(self.pair.serving, share),
            proven,
        }
    }
}
