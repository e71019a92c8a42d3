//! What the proxies are told: the plan of a pair, derived from where it stands.
//!
//! Only from the pair and the policy, never from what is seen: two controllers with the same journal say the same, and
//! a plan changes with a transition that says why, or when it turns out that there is state to replicate.

use foreshade_contract::{PairPlan, Share};

use super::points::BasisPoints;
use super::policy::Policy;
use super::state::{Shifting, State};
use super::{Mode, Pair};

impl Pair {
    /// What the proxies are told; nothing, before there has been a shadow.
    pub fn plan(&self, policy: &Policy) -> Option<PairPlan> {
        let live = self.mode == Mode::Live;
        let ceiling = match self.overrides.ceiling() {
            Some(ceiling) => ceiling,
            // They keep what was led there, whatever they may move by themselves.
            None if live && self.is_released() => BasisPoints::ALL,
            None if self.may_share() || !live => policy.ceiling,
            None => BasisPoints::ZERO,
        };
        Some(PairPlan {
            pair: self.id.clone(),
            shadow: self.shadow.clone()?,
            round: self.round,
            serving: self.serving,
            ceiling: ceiling.share(),
            directed: if live { self.directed() } else { None },
            frozen: live && (self.state == State::Frozen || self.is_paused() && self.is_released()),
            failover: policy.failover && (self.may_fail_over() || !live),
            thresholds: self.thresholds,
        })
    }

    /// The share that is set; nothing, where the proxies decide by themselves, or keep what they have. A stop sets no share
    /// that was not set before it: who stops everything wants nobody moved.
    fn directed(&self) -> Option<Share> {
        let at = self.stands();
        let set = self.overrides.share().is_some();
        let back = matches!(at, State::RollingBack(_)) && !self.is_led_back_gently();
        let led = at.is_active() && !self.is_released();
        let moving = led || back || at == State::FailedOver;
        let unknown = at == State::Frozen;
        (set || moving || unknown).then(|| self.effective_share().share())
    }

    /// Where it stands; where it is frozen, where it stood before.
    fn stands(&self) -> State {
        let before = self.resume.filter(|_| self.state == State::Frozen);
        before.unwrap_or(self.state)
    }

    fn is_paused(&self) -> bool {
        self.state == State::Shifting(Shifting::Paused)
    }

    /// Risk alone has moved everybody: how long they stay is the proxies' to say, who see the primary. Also in a pause and
    /// in a freeze, where the proxies keep what they have: some of the users may be back, on proof, and the share that
    /// stands here is still everybody.
    fn is_released(&self) -> bool {
        matches!(self.stands(), State::Shifting(_)) && self.course.released && self.overrides.risk().is_none()
    }

    /// Nothing has failed and nothing keeps users at the standby: the proxies bring them back as the primary proves itself
    /// on a few of them. Everybody at once would be too much for one that has just got well.
    fn is_led_back_gently(&self) -> bool {
        matches!(self.stands(), State::RollingBack(_)) && self.course.benign
    }

    /// The proxies may lead users to the standby by themselves: it is ready, and its state is as good.
    fn may_share(&self) -> bool {
        match self.state {
            State::RollingBack(_) => self.is_led_back_gently(),
            State::Unassigned | State::Failed | State::Retired => false,
            // Nothing is known against it, and it has no state that could be missing.
            State::Provisioning | State::Syncing => !self.writer.stateful,
            State::Promoting(_) | State::Baking | State::FailedOver | State::Committed => {
                self.rollback_target.is_some()
            }
            State::Frozen => !self.ponr,
            State::Warm(_) | State::Shifting(_) => true,
        }
    }

    /// The proxies may send users of a primary that is gone to the standby: it need not be good, but must not be wrong.
    fn may_fail_over(&self) -> bool {
        match self.state {
            State::Unassigned | State::Retired => false,
            State::Failed | State::RollingBack(_) => !self.ponr,
            _ => self.may_share(),
        }
    }
}
