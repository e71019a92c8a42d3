//! A pair's state as the decision that is published, with its reason in words.

use foreshade_contract::Share;

use super::{Shift, Shifted, Sight};
use crate::decision::{Bound, Phase, ShiftDecision};
use crate::outcome::ROUTE_CLASSES;

impl Shift {
    pub(super) fn publish(&self, sight: &Sight<'_>, phase: Phase, cap: Share, bound: Bound) -> Shifted {
        let share = self.share();
        let bound = match bound {
            Bound::Mode if sight.guidance.frozen => Bound::Plan,
            bound => bound,
        };
        let mut class_shares = [share; ROUTE_CLASSES];
        for class in &self.classes {
            if let Some(own) = class_shares.get_mut(class.class().index())
                && class.share() > *own
            {
                *own = class.share();
            }
        }
        let recovery = self
            .episode
            .as_ref()
            .and_then(|episode| episode.recovery.as_ref());
        let wanted = match &self.episode {
            Some(episode) => episode.wanted,
            None => Share::ZERO,
        };
        Shifted {
            trial: Share::clamped(recovery.map_or(0.0, |recovery| recovery.trial(self.share))),
            decision: ShiftDecision {
                phase,
                share,
                wanted,
                cap,
                bound,
                failover: sight.guidance.failover,
                class_shares,
                salt: self.salt,
                reason: self.reason(sight, phase, bound),
            },
        }
    }

    fn reason(&self, sight: &Sight<'_>, phase: Phase, bound: Bound) -> String {
        let Some(episode) = &self.episode else {
            return match phase {
                Phase::Override => "an operator set the share".to_owned(),
                Phase::Directed => "the controller's plan sets the share".to_owned(),
                Phase::Prepare => "risk is rising, nothing moves yet".to_owned(),
                _ if !sight.policy.enabled => "shifting is switched off".to_owned(),
                _ => "no reason to move anybody".to_owned(),
            };
        };
        if let Some(recovery) = &episode.recovery {
            return recovery.state();
        }
        match (phase, bound) {
            (Phase::FailOver, _) if sight.primary.is_dead() => "primary is gone".to_owned(),
            (Phase::FailOver, _) => "primary fails most requests, shadow does not".to_owned(),
            (_, Bound::Unproven | Bound::ShadowRisk) => self.canary.state(sight.now),
            (_, Bound::Plan) if sight.guidance.frozen => {
                "the controller's plan keeps shares as they are".to_owned()
            }
            (_, Bound::Mode) => "most endpoints are in trouble together, shares stay".to_owned(),
            _ => format!(
                "worst risk {} since engaged wants {}",
                episode.worst, episode.wanted
            ),
        }
    }
}
