//! What is told of something that happened: to whom, of which kind, and in which words.

use foreshade_contract::Name;
use foreshade_engine::lifecycle::Transition;
use foreshade_engine::lifecycle::cause::Cause;
use foreshade_engine::lifecycle::command::Command;
use foreshade_engine::lifecycle::policy::Point;
use foreshade_engine::lifecycle::state::{Promoting, Shifting, State};

use crate::config::Occasion;
use crate::desk::{self, show};
use crate::operator::events::Report;
use crate::operator::view::Drill;
use crate::reconcile::View;
use crate::webhook::{Payload, Phase};

/// What a transition is for those who are told of it; nothing, where nobody would want to know.
pub(super) fn occasions(transition: &Transition, is_drill: bool) -> Vec<Occasion> {
    let mut occasions: Vec<_> = moved(transition).into_iter().collect();
    if let Some(order) = &transition.order {
        occasions.push(Occasion::Command);
        if matches!(order.command, Command::Approve { .. } | Command::Deny { .. }) {
            occasions.push(Occasion::Gate);
        }
    }
    if is_drill {
        occasions.push(Occasion::Drill);
    }
    occasions
}

fn moved(transition: &Transition) -> Option<Occasion> {
    if transition.from == transition.to && transition.before == transition.after {
        return None;
    }
    Some(match (transition.from, transition.to) {
        (State::Shifting(_), State::Shifting(Shifting::Advancing)) => Occasion::Advance,
        (_, State::Shifting(Shifting::Advancing)) => Occasion::Shift,
        (_, State::Shifting(Shifting::Holding)) => Occasion::Hold,
        (_, State::Promoting(Promoting::Cutover)) => Occasion::Promotion,
        (from, State::RollingBack(_)) if !matches!(from, State::RollingBack(_)) => Occasion::Rollback,
        (_, State::FailedOver) => Occasion::Failover,
        (_, State::Frozen) => Occasion::Frozen,
        _ => return None,
    })
}

/// What kind of event it is.
pub(super) fn kind(transition: &Transition) -> &'static str {
    let command = transition.order.as_ref().map(|order| &order.command);
    match (command, &transition.cause) {
        (Some(Command::Approve { .. } | Command::Deny { .. }), _) => "gate",
        (Some(Command::Drill { .. } | Command::CancelDrill), _) | (_, Cause::DrillEnded { .. }) => "drill",
        (Some(Command::Override { .. } | Command::ClearOverride { .. }), _)
        | (_, Cause::OverrideEnded { .. }) => "override",
        (Some(_), _) => "command",
        (None, _) => "transition",
    }
}

/// The drill that began or ended at this moment, if one did.
pub(super) fn drill(view: &View<'_>, at_ms: u64) -> Option<Drill> {
    let last = view.drills.back()?;
    let ended = last.ended.as_ref().is_some_and(|(at, _)| *at == at_ms);
    (ended || last.started_ms == at_ms).then(|| desk::drill(view, last))
}

/// What is said of a transition, and of the drill that began or ended by it.
pub(super) fn payload(transition: &Transition, drill: Option<&Drill>) -> Payload {
    let phase = match transition.to {
        State::Unassigned | State::Provisioning | State::Syncing => Phase::Initializing,
        State::Warm(_) => Phase::Initialized,
        State::Shifting(Shifting::Advancing) => Phase::Progressing,
        State::Shifting(_) => Phase::Waiting,
        State::Promoting(_) => Phase::Promoting,
        State::Baking | State::FailedOver => Phase::Finalising,
        State::Committed | State::Retired => Phase::Succeeded,
        State::RollingBack(_) | State::Failed | State::Frozen => Phase::Failed,
    };
    let mut payload = Payload::new(&transition.pair, phase, transition.generation, transition.round)
        .with("from", transition.from.to_string())
        .with("to", transition.to.to_string())
        .with("cause", transition.cause.to_string());
    if let Some(order) = &transition.order {
        payload = payload.with("actor", &order.actor).with("reason", &order.reason);
        if let Command::Approve { gate } | Command::Deny { gate } = &order.command {
            payload = payload.with("gate", gate.as_str());
        }
    }
    let Some(drill) = drill else {
        return payload;
    };
    payload = payload
        .with("drill", drill.id.to_string())
        .with("scenario", drill.scenario.to_string())
        .with("result", drill.result.to_string());
    for (key, measured) in [("rto_ms", drill.rto_ms), ("rpo_ms", drill.rpo_ms)] {
        if let Some(ms) = measured {
            payload = payload.with(key, ms.to_string());
        }
    }
    payload
}

/// What a gate is asked, and people are told of it.
pub(super) fn at_gate(view: &View<'_>, gate: &Name) -> Payload {
    let before = before(view, gate);
    let phase = match before {
        Some(Point::Promote) => Phase::WaitingPromotion,
        Some(Point::Shift | Point::Increase) | None => Phase::Waiting,
    };
    let payload = Payload::new(&view.pair.id, phase, view.pair.generation, view.pair.round);
    let payload = payload.with("gate", gate.as_str());
    match before {
        Some(before) => payload.with("before", show::point(before)),
        None => payload,
    }
}

/// An event of a gate.
pub(super) fn of_gate(view: &View<'_>, gate: &Name, what: &str, wall_ms: u64) -> Report {
    let before = before(view, gate).map_or("", show::point);
    Report {
        at_ms: wall_ms,
        pair: view.pair.id.clone(),
        kind: "gate",
        generation: view.pair.generation.0,
        sentence: format!("gate {gate}, before {before}, {what}"),
    }
}

fn before(view: &View<'_>, gate: &Name) -> Option<Point> {
    let gates = &view.spec.policy.gates;
    gates
        .iter()
        .find(|known| known.name == *gate)
        .map(|known| known.point)
}
