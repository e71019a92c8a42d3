//! Causes and obstacles as sentences: what a journal, a page and `explain` show.

use std::fmt;

use super::cause::{Cause, Obstacle};
use super::{Arm, Transition};

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pair, self.from)?;
        if self.to != self.from {
            write!(f, " -> {}", self.to)?;
        }
        write!(f, ": {}", self.cause)?;
        if let Some(order) = &self.order {
            write!(f, " ({}: {})", order.actor, order.reason)?;
        }
        for (arm, (before, after)) in Arm::ALL.into_iter().zip(self.before.iter().zip(&self.after)) {
            if before != after {
                write!(f, "; {arm} {before} -> {after}")?;
            }
        }
        Ok(())
    }
}

/// Milliseconds as people read them.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms @ 0..10_000 => write!(f, "{ms} ms"),
            ms @ 10_000..120_000 => write!(f, "{} s", ms / 1000),
            ms => write!(f, "{} min", ms / 60_000),
        }
    }
}

impl fmt::Display for Cause {
    #[expect(clippy::too_many_lines, reason = "a table with one row per cause")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlwaysWarm => f.write_str("a shadow is always kept warm"),
            Self::GrowthForeseen => f.write_str("more load is foreseen than the primary carries"),
            Self::Ordered { verb } => write!(f, "an operator ordered: {verb}"),
            Self::RiskAt { risk, mark } => write!(f, "risk {risk:.2} is at or above {mark:.2}"),
            Self::RiskGone { mark, for_ms } => {
                write!(f, "risk has been below {mark:.2} for {}", Span(*for_ms))
            }
            Self::PlacementChanged { from: Some(from), to } => {
                write!(f, "{to} is a better shadow than {from}")
            }
            Self::PlacementChanged { from: None, to } => write!(f, "{to} is the best shadow"),
            Self::ShadowWell { looks } => write!(f, "the shadow was well {looks} times in a row"),
            Self::ShadowUnwell { health, looks } => {
                write!(f, "the shadow was {} {looks} times in a row", health.label())
            }
            Self::NothingToSync => f.write_str("there is no state to replicate"),
            Self::InSync { lag_ms, max_ms } => {
                write!(
                    f,
                    "the shadow is verified and {} behind, at most {} is fine",
                    Span(*lag_ms),
                    Span(*max_ms)
                )
            }
            Self::OutOfSync { obstacle } => write!(f, "the shadow fell out of sync: {obstacle}"),
            Self::MirrorWanted => f.write_str("the policy wants requests mirrored"),
            Self::MirrorUnwanted => f.write_str("the policy wants no requests mirrored"),
            Self::MirrorWorse => f.write_str("the shadow answers mirrored requests worse"),
            Self::MirrorNotWorse => f.write_str("the shadow answers mirrored requests as well"),
            Self::StepProven { e_worse, e_ok } => {
                write!(
                    f,
                    "the step is proven (E worse {e_worse:.2}, E not worse {e_ok:.2})"
                )
            }
            Self::SevereRisk { risk, mark } => {
                write!(
                    f,
                    "risk {risk:.2} of what serves is at or above {mark:.2}: no time for evidence"
                )
            }
            Self::Waived => f.write_str("an operator goes on without evidence"),
            Self::Released => {
                f.write_str("everybody has moved by risk alone: the proxies try the primary and bring users back on proof")
            }
            Self::Missing { obstacle } => write!(f, "held: {obstacle}"),
            Self::Cleared => f.write_str("what was missing is there"),
            Self::NotWorse { e_ok, e_worse } => {
                write!(
                    f,
                    "the shadow is not worse (E not worse {e_ok:.1}, E worse {e_worse:.2})"
                )
            }
            Self::Worse { e_worse, e_ok } => {
                write!(
                    f,
                    "the shadow is worse (E worse {e_worse:.1}, E not worse {e_ok:.2})"
                )
            }
            Self::ArmGone {
                arm, severe: true, ..
            } => write!(f, "nothing gets through to the {arm}"),
            Self::ArmGone { arm, down, of, .. } => {
                write!(f, "{down} of {of} proxies take the {arm} for dead")
            }
            Self::Inconclusive { after_ms } => write!(f, "nothing was decided within {}", Span(*after_ms)),
            Self::Deadline { state, after_ms } => {
                write!(f, "{state} was not done within {}", Span(*after_ms))
            }
            Self::Fenced { term } => write!(f, "the writer has stopped for term {term}"),
            Self::CaughtUp { term } => write!(f, "all that was written before term {term} has arrived"),
            Self::Granted { arm, term } => write!(f, "the {arm} writes since term {term}"),
            Self::Acknowledged { generation } => write!(f, "the proxies follow generation {generation}"),
            Self::BakeAlarm { requests } => write!(f, "the detector went off after {requests} requests"),
            Self::Baked { requests, for_ms } => {
                write!(f, "{requests} requests and {} without an alarm", Span(*for_ms))
            }
            Self::Retained { for_ms } => write!(f, "the old primary was kept for {}", Span(*for_ms)),
            Self::CooledDown { for_ms, failures } => {
                write!(f, "{} of rest after failure {failures}", Span(*for_ms))
            }
            Self::Carries { share } => write!(f, "where users go back to, all but {share} fits"),
            Self::FlapBudgetSpent { changes, max } => {
                write!(
                    f,
                    "the roles changed {changes} times within the window, {max} are allowed"
                )
            }
            Self::RollbackBlocked { obstacle } => write!(f, "going back is blocked: {obstacle}"),
            Self::RollbackForbidden => f.write_str("the policy forbids going back by itself"),
            Self::NoWayBack => f.write_str("past the point of no return, there is nothing to go back to"),
            Self::OverrideEnded { what } => write!(f, "the override of {what} ended"),
            Self::SuspensionEnded => f.write_str("the pause ended by itself"),
            Self::MemberFell { member } => write!(f, "{member} of the same group rolls back"),
            Self::DrillEnded { end } => write!(f, "the drill ended: {end:?}"),
            Self::CompanyMoves => f.write_str("another pair of the same group moves"),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPlacement => f.write_str("no candidate fits as a shadow"),
            Self::ArmUnfit { arm, gone: true, .. } => write!(f, "the {arm} is gone"),
            Self::ArmUnfit { arm, health, .. } => write!(f, "the {arm} is {}", health.label()),
            Self::LagUnknown => f.write_str("how far the shadow is behind is not known"),
            Self::Lag { lag_ms, max_ms } => {
                write!(
                    f,
                    "the shadow is {} behind, at most {} is fine",
                    Span(*lag_ms),
                    Span(*max_ms)
                )
            }
            Self::Unverified => f.write_str("the shadow's content is not verified"),
            Self::Incompatible => f.write_str("the shadow does not understand what the primary writes"),
            Self::Capacity {
                arm,
                needs_rps,
                has_rps,
            } => {
                write!(
                    f,
                    "the {arm} carries {has_rps:.0} requests/s and would need {needs_rps:.0}"
                )
            }
            Self::MirrorWorse => f.write_str("the shadow answers mirrored requests worse"),
            Self::MirrorUndecided => f.write_str("mirrored requests have not decided yet"),
            Self::Blocked { window } => write!(f, "blocked by the window {window}"),
            Self::GateClosed { gate } => write!(f, "gate {gate} is closed"),
            Self::GateDenied { gate } => write!(f, "gate {gate} was denied"),
            Self::FlapBudget { changes, max } => {
                write!(
                    f,
                    "the roles changed {changes} times within the window, {max} are allowed"
                )
            }
            Self::Dwell { left_ms } => write!(f, "the direction changed lately, {} are left", Span(*left_ms)),
            Self::Unconfirmed {
                generation,
                acknowledged,
            } => {
                write!(
                    f,
                    "the proxies follow generation {acknowledged}, not {generation} yet"
                )
            }
            Self::Evidence {
                e_ok,
                e_worse,
                needed,
            } => {
                write!(
                    f,
                    "evidence is missing (E not worse {e_ok:.2}, E worse {e_worse:.2}"
                )?;
                match needed {
                    Some(needed) => write!(f, ", about {needed} requests more)"),
                    None => f.write_str(")"),
                }
            }
            Self::NoEvidence => f.write_str("there is no evidence in this round"),
            Self::Unsafe { rule } => write!(f, "safety rule {rule} forbids it"),
            Self::Company => f.write_str("other pairs of the group are not ready"),
            Self::CatchingUp { term } => write!(f, "not all that was written before term {term} has arrived"),
            Self::Unfenced { term } => write!(f, "the writer has not stopped for term {term}"),
            Self::Ungranted { term } => write!(f, "nobody writes in term {term} yet"),
            Self::Suspended => f.write_str("paused by an operator"),
        }
    }
}
