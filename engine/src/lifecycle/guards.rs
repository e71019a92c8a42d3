//! Guards: what has to hold before a pair may go on. Each is a question with a yes, or a no that says what is missing.

use super::cause::{Obstacle, ms};
use super::policy::{MirrorUse, Point};
use super::rule::Guard;
use super::safety;
use super::sight::{Opinion, Sync};
use super::state::State;
use super::view::View;
use super::writer::Term;
use super::{Course, Trigger};

pub(super) const PLACED: Guard = Guard {
    says: "there is a candidate",
    ask: |view| match view.sight.placement {
        Some(_) => Ok(()),
        None => Err(Obstacle::NoPlacement),
    },
};

pub(super) const CONFIRMED: Guard = Guard {
    says: "a quorum of proxies follows the last intention",
    ask: |view| {
        if view.is_confirmed() {
            return Ok(());
        }
        Err(Obstacle::Unconfirmed {
            generation: view.pair.generation,
            acknowledged: view.sight.acks.quorum,
        })
    },
};

pub(super) const STANDBY_FIT: Guard = Guard {
    says: "the standby is well",
    ask: |view| view.fit(view.standby()),
};

pub(super) const IN_SYNC: Guard = Guard {
    says: "it is in sync as a warm shadow has to be",
    ask: |view| view.in_sync(view.policy.sync.lag_warm).map(drop),
};

pub(super) const IN_SYNC_TO_PROMOTE: Guard = Guard {
    says: "it is in sync as a new primary has to be",
    ask: |view| view.in_sync(view.policy.sync.lag_promote).map(drop),
};

/// After a failover the old writer could not be asked; it comes back, and must not write beside the new one.
pub(super) const STANDBY_SILENT: Guard = Guard {
    says: "the standby is known not to write",
    ask: |view| {
        let term = view.pair.writer.term;
        if term == Term::default() || view.is_fenced() {
            return Ok(());
        }
        Err(Obstacle::Unfenced { term })
    },
};

/// For an emergency a lag has to be known, so that it is known what is lost; it need not be small.
pub(super) const LAG_KNOWN: Guard = Guard {
    says: "how far it is behind is known",
    ask: |view| match view.sight.sync {
        Sync::Known {
            compatible: false, ..
        } => Err(Obstacle::Incompatible),
        Sync::Nothing | Sync::Unknown if view.is_stateful() => Err(Obstacle::LagUnknown),
        Sync::Nothing | Sync::Unknown | Sync::Known { .. } => Ok(()),
    },
};

pub(super) const CARRIES_NEXT: Guard = Guard {
    says: "it carries the next step",
    ask: |view| view.carries(view.standby(), next_share(view)),
};

pub(super) const CARRIES_ALL: Guard = Guard {
    says: "it carries everything",
    ask: |view| view.carries(view.standby(), super::points::BasisPoints::ALL),
};

pub(super) const SAFE: Guard = Guard {
    says: "no safety rule forbids it",
    ask: |view| {
        let proven = view.pair.course.trigger == Some(Trigger::Undo);
        safety::check(&view.change_to(next_share(view), proven), view)
    },
};

pub(super) const MIRROR: Guard = Guard {
    says: "mirrored answers are not against it",
    ask: |view| match (view.policy.mirror, view.sight.mirror) {
        (MirrorUse::Off, _) => Ok(()),
        (_, Some(Opinion::Worse)) => Err(Obstacle::MirrorWorse),
        (MirrorUse::Required, None | Some(Opinion::Undecided)) if !is_severe(view) => {
            Err(Obstacle::MirrorUndecided)
        }
        (MirrorUse::Watch | MirrorUse::Required, _) => Ok(()),
    },
};

pub(super) const NOT_BLOCKED: Guard = Guard {
    says: "no window blocks it",
    ask: |view| match &view.sight.blocked {
        Some(window) => Err(Obstacle::Blocked {
            window: window.clone(),
        }),
        None => Ok(()),
    },
};

pub(super) const GATE_SHIFT: Guard = Guard {
    says: "gates before a shift are open",
    ask: |view| view.pair.gates.open(Point::Shift, view.sight, view.policy),
};

pub(super) const GATE_INCREASE: Guard = Guard {
    says: "gates before an increase are open",
    ask: |view| view.pair.gates.open(Point::Increase, view.sight, view.policy),
};

pub(super) const GATE_PROMOTE: Guard = Guard {
    says: "gates before a promotion are open",
    ask: |view| view.pair.gates.open(Point::Promote, view.sight, view.policy),
};

pub(super) const FLAP_BUDGET: Guard = Guard {
    says: "the budget of role changes is not spent",
    ask: |view| {
        if view.pair.flap.may_change_roles(&view.policy.flap) {
            return Ok(());
        }
        Err(Obstacle::FlapBudget {
            changes: view.pair.flap.changes(),
            max: view.policy.flap.changes,
        })
    },
};

pub(super) const RESTED: Guard = Guard {
    says: "the last direction was kept long enough",
    ask: |view| {
        let left = view.pair.flap.dwell_left().max(view.pair.flap.cooldown_left());
        if left.is_zero() {
            return Ok(());
        }
        Err(Obstacle::Dwell { left_ms: ms(left) })
    },
};

pub(super) const STEP_PROVEN: Guard = Guard {
    says: "the step is proven, or there is no time for proof",
    ask: |view| {
        let Course { full, waiver, .. } = view.pair.course;
        let opinion = view.opinion();
        if opinion != Opinion::Worse && (full || waiver || is_severe(view)) {
            return Ok(());
        }
        match view.finding() {
            None => Err(Obstacle::NoEvidence),
            Some(finding) if finding.step_enough && opinion != Opinion::Worse => Ok(()),
            Some(finding) => Err(Obstacle::Evidence {
                e_ok: finding.e_ok,
                e_worse: finding.e_worse,
                needed: finding.needed,
            }),
        }
    },
};

pub(super) const NOT_WORSE: Guard = Guard {
    says: "the standby has been shown to be not worse",
    ask: |view| {
        let Course { full, trigger, .. } = view.pair.course;
        let opinion = view.opinion();
        // Undo goes back to what has served everybody until a moment ago.
        let waived = full || trigger == Some(Trigger::Undo);
        if opinion == Opinion::NotWorse || (waived && opinion != Opinion::Worse) {
            return Ok(());
        }
        match view.finding() {
            None => Err(Obstacle::NoEvidence),
            Some(finding) => Err(Obstacle::Evidence {
                e_ok: finding.e_ok,
                e_worse: finding.e_worse,
                needed: finding.needed,
            }),
        }
    },
};

pub(super) const COMPANY: Guard = Guard {
    says: "the other pairs of the group can take it too",
    ask: |view| {
        if view.company.is_behind {
            Err(Obstacle::Company)
        } else {
            Ok(())
        }
    },
};

pub(super) const TURN: Guard = Guard {
    says: "it is its turn in the group",
    ask: |view| {
        if view.company.goes_first {
            Err(Obstacle::Company)
        } else {
            Ok(())
        }
    },
};

/// The share that the next step would have.
pub(super) fn next_share(view: &View<'_>) -> super::points::BasisPoints {
    let next = match view.pair.state {
        State::Shifting(_) => view.pair.course.step.saturating_add(1),
        _ => first_step(view),
    };
    view.policy.steps.share(next)
}

/// With which step a shift begins: with one that takes nobody back whom the proxies have moved already.
pub(super) fn first_step(view: &View<'_>) -> usize {
    match view.pair.course.trigger {
        Some(Trigger::Undo) => view.policy.steps.last(),
        _ => view
            .policy
            .steps
            .first_above(super::points::BasisPoints::at_most(view.sight.share)),
    }
}

/// What serves is so bad that unproven is better.
pub(super) fn is_severe(view: &View<'_>) -> bool {
    view.risk() >= view.policy.risk.severe_at
}
