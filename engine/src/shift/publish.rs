//! A pair's state as the decision that is published, with its reason in words.

use std::borrow::Cow;

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

    fn reason(&self, sight: &Sight<'_>, phase: Phase, bound: Bound) -> Cow<'static, str> {
        let Some(episode) = &self.episode else {
            return match phase {
                Phase::Override => "an operator set the share".into(),
                Phase::Directed => "the controller's plan sets the share".into(),
                Phase::Prepare => "risk is rising, nothing moves yet".into(),
                _ if !sight.policy.enabled => "shifting is switched off".into(),
                _ => "no reason to move anybody".into(),
            };
        };
        if let Some(recovery) = &episode.recovery {
            return recovery.state().into();
        }
        match (phase, bound) {
            (Phase::FailOver, _) if sight.primary.is_dead() => "primary is gone".into(),
            (Phase::FailOver, _) => "primary fails most requests, shadow does not".into(),
            (_, Bound::Unproven | Bound::ShadowRisk) => self.canary.state(sight.now).into(),
            (_, Bound::Plan) if sight.guidance.frozen => {
                "the controller's plan keeps shares as they are".into()
            }
            (_, Bound::Mode) => "most endpoints are in trouble together, shares stay".into(),
            _ => format!(
                "worst risk {} since engaged wants {}",
                episode.worst, episode.wanted
            )
            .into(),
        }
    }
}
