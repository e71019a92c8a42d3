//! How orders are obeyed: one small function per verb, each of which says in which states it means something.

use super::command::{Answer, Command, Order, Outcome, Refusal, TEXT_BYTES_MAX, Verb};
use super::drill::Drill;
use super::guards::{LAG_KNOWN, NOT_BLOCKED};
use super::overrides::{OVERRIDE_MAX, Setting};
use super::points::BasisPoints;
use super::retreating::{again, goes_on_in};
use super::rollback::way_back;
use super::safety;
use super::sight::Opinion;
use super::state::{Promoting, Retreat, Shifting, State, Warm};
use super::view::{Seen, View};
use super::{Alert, Course, Mode, Pair, Trigger};
use foreshade_contract::{Arm, Name};

/// The state after it; nothing, where nothing changed.
type Obeyed = Result<Option<State>, Refusal>;

/// What an order is answered that was given for another generation. Asked after the look-up by key: an order that was
/// obeyed has moved its own pair on.
pub(super) fn stale(pair: &Pair, order: &Order) -> Option<Answer> {
    let current = pair.generation;
    let expected = order.expected.filter(|expected| *expected != current)?;
    Some(Answer {
        key: order.key.clone(),
        outcome: Outcome::Refused(Refusal::Stale { expected, current }),
    })
}

/// Obeys an order.
pub(super) fn obey(pair: &mut Pair, order: &Order, seen: Seen<'_>) -> Obeyed {
    let complete = |text: &str| !text.trim().is_empty() && text.len() <= TEXT_BYTES_MAX;
    if ![&order.actor, &order.reason, &order.key]
        .into_iter()
        .all(|text| complete(text))
    {
        return Err(Refusal::Incomplete);
    }
    match &order.command {
        Command::Promote { full } => promote(pair, *full),
        Command::Abort => abort(pair, seen),
        Command::Pause => pause(pair, seen),
        Command::Resume => Ok(resume(pair)),
        Command::Retry => Ok(retry(pair, seen)),
        Command::Undo => undo(pair, seen),
        Command::UndoTo { serving, .. } => undo_to(pair, *serving, seen),
        Command::Freeze => freeze(pair),
        Command::Unfreeze => Ok(unfreeze(pair)),
        Command::Override { setting, until_ms } => set(pair, order, (*setting, *until_ms), seen),
        Command::ClearOverride { what } => {
            let cleared = pair.overrides.clear(*what);
            Ok(cleared.then_some(pair.state))
        }
        Command::Approve { gate } => say(pair, order, (gate, true), seen),
        Command::Deny { gate } => say(pair, order, (gate, false), seen),
        Command::Drill { scenario } => {
            let refused = wrong(pair, Verb::Drill);
            if pair.drill.is_some() {
                return Err(Refusal::DrillUnderWay);
            }
            if !matches!(pair.state, State::Warm(Warm::Idle | Warm::Mirroring)) || pair.mode != Mode::Live {
                return refused;
            }
            (NOT_BLOCKED.ask)(&View::new(pair, seen)).map_err(Refusal::Obstacle)?;
            pair.drill = Some(Box::new(Drill::new(pair, *scenario, seen.policy)));
            Ok(Some(pair.state))
        }
        Command::CancelDrill => {
            let report = pair.drill.take().map(|drill| drill.interrupted());
            let cancelled = report.is_some();
            pair.last_drill = report.or(pair.last_drill.take());
            Ok(cancelled.then_some(pair.state))
        }
    }
}

fn wrong(pair: &Pair, verb: Verb) -> Obeyed {
    let state = pair.state;
    Err(Refusal::WrongState { verb, state })
}

fn promote(pair: &mut Pair, full: bool) -> Obeyed {
    let course = &mut pair.course;
    match pair.state {
        State::Unassigned | State::Provisioning | State::Syncing | State::Warm(_) => {
            if course.trigger == Some(Trigger::Rollout) && course.full == full {
                return Ok(None);
            }
            *course = Course {
                trigger: Some(Trigger::Rollout),
                full,
                ..Course::default()
            };
            is_taken_note_of(pair);
            Ok(Some(pair.state))
        }
        State::Shifting(stage) => {
            let before = (course.full, course.waiver, stage);
            course.full |= full;
            course.waiver = true;
            let after = (course.full, course.waiver, Shifting::Advancing);
            Ok((before != after).then_some(State::Shifting(Shifting::Advancing)))
        }
        State::Promoting(_) | State::Baking | State::Committed => Ok(None),
        State::RollingBack(_) | State::FailedOver | State::Failed | State::Frozen | State::Retired => {
            wrong(pair, Verb::Promote)
        }
    }
}

fn abort(pair: &mut Pair, seen: Seen<'_>) -> Obeyed {
    let under_way = pair.state.is_active() || (pair.state == State::Frozen && pair.rollback_target.is_some());
    if under_way {
        let (to, act) = way_back(&View::new(pair, seen)).map_err(|blocked| match blocked {
            None => Refusal::NoWayBack,
            Some(obstacle) => Refusal::Obstacle(obstacle),
        })?;
        act(pair, seen);
        return Ok(Some(to));
    }
    let waiting = pair.course.trigger.is_some() && !matches!(pair.state, State::RollingBack(_));
    if waiting {
        pair.course = Course::default();
        pair.gates.forget_all();
    }
    let noted = is_taken_note_of(pair);
    let validating = pair.state == State::Warm(Warm::Validating);
    let after = if validating {
        State::Warm(Warm::Mirroring)
    } else {
        pair.state
    };
    Ok((waiting || validating || noted).then_some(after))
}

/// That an earlier order was given up needs to be said no longer, if it had to be.
fn is_taken_note_of(pair: &mut Pair) -> bool {
    let given_up = pair.alert == Some(Alert::GivenUp);
    if given_up {
        pair.alert = None;
    }
    given_up
}

fn pause(pair: &mut Pair, seen: Seen<'_>) -> Obeyed {
    match pair.state {
        State::Shifting(Shifting::Paused) | State::Frozen | State::Retired => Ok(None),
        State::Shifting(_) => Ok(Some(State::Shifting(Shifting::Paused))),
        _ if is_writer_moving(pair) => Err(Refusal::WriterStopped),
        _ if pair.suspended.is_some() => Ok(None),
        state => {
            pair.suspended = Some(seen.policy.times.pause_max);
            Ok(Some(state))
        }
    }
}

fn resume(pair: &mut Pair) -> Option<State> {
    match (pair.state, pair.suspended.take()) {
        (State::Shifting(Shifting::Paused), _) => Some(State::Shifting(Shifting::Advancing)),
        (state, Some(_)) => Some(state),
        (_, None) => None,
    }
}

fn retry(pair: &mut Pair, seen: Seen<'_>) -> Option<State> {
    let to = match pair.state {
        State::Failed => goes_on_in(pair),
        State::Retired => State::Unassigned,
        State::Warm(_) if seen.sight.mirror == Some(Opinion::Worse) => {
            // It was mended, says who orders this: what it answered before is no evidence any more.
            pair.new_round(seen);
            return Some(pair.state);
        }
        _ => return None,
    };
    pair.flap.rested();
    again(pair, seen);
    Some(to)
}

fn undo(pair: &mut Pair, seen: Seen<'_>) -> Obeyed {
    let trigger = match pair.state {
        State::Committed => Trigger::Undo,
        // The old primary is a shadow as any other by now, and has to prove itself as one.
        State::Warm(_) | State::Syncing if pair.serving == Arm::Shadow => Trigger::Rollout,
        State::Promoting(_) | State::Baking => return abort(pair, seen),
        _ => return Ok(None),
    };
    if pair.course.trigger == Some(trigger) {
        return Ok(None);
    }
    if trigger == Trigger::Undo {
        (LAG_KNOWN.ask)(&View::new(pair, seen)).map_err(Refusal::Obstacle)?;
    }
    is_taken_note_of(pair);
    pair.course = Course {
        trigger: Some(trigger),
        ..Course::default()
    };
    Ok(Some(pair.state))
}

/// Back to an arm: by an abort of what leads away from it, by a promotion to it, or by taking back the last one.
fn undo_to(pair: &mut Pair, wanted: Arm, seen: Seen<'_>) -> Obeyed {
    let is_serving = pair.serving == wanted;
    match pair.state {
        State::Shifting(_) | State::Promoting(Promoting::Fence | Promoting::CatchUp | Promoting::Flip) => {
            if is_serving {
                abort(pair, seen)
            } else {
                Ok(None)
            }
        }
        // Of what is only wanted there may be something to take back.
        State::Syncing | State::Warm(_) | State::Committed if is_serving => abort(pair, seen),
        State::Promoting(Promoting::Cutover) | State::Baking if is_serving => Ok(None),
        State::Syncing | State::Warm(_) if pair.serving == Arm::Primary => promote(pair, false),
        State::Syncing
        | State::Warm(_)
        | State::Promoting(Promoting::Cutover)
        | State::Baking
        | State::Committed => undo(pair, seen),
        State::Unassigned
        | State::Provisioning
        | State::RollingBack(_)
        | State::FailedOver
        | State::Failed
        | State::Frozen
        | State::Retired => wrong(pair, Verb::Undo),
    }
}

fn freeze(pair: &Pair) -> Obeyed {
    match pair.state {
        State::Frozen | State::Retired => Ok(None),
        _ if is_writer_moving(pair) => Err(Refusal::WriterStopped),
        _ => Ok(Some(State::Frozen)),
    }
}

/// Back to where it was frozen; or to where it came from, if the writer was on its way then.
fn unfreeze(pair: &Pair) -> Option<State> {
    if pair.state != State::Frozen {
        return None;
    }
    let before_cutover = pair.rollback_target == Some(pair.serving);
    Some(match pair.resume {
        Some(State::Promoting(Promoting::Fence | Promoting::CatchUp)) => State::Shifting(Shifting::Holding),
        Some(State::RollingBack(Retreat::Fence | Retreat::CatchUp)) if before_cutover => {
            State::Promoting(Promoting::Flip)
        }
        Some(State::RollingBack(Retreat::Fence | Retreat::CatchUp)) => State::Baking,
        Some(state) => state,
        None => State::Syncing,
    })
}

fn set(pair: &mut Pair, order: &Order, (setting, until_ms): (Setting, u64), seen: Seen<'_>) -> Obeyed {
    let span_ms = until_ms.saturating_sub(seen.now_ms);
    if span_ms == 0 || u128::from(span_ms) > OVERRIDE_MAX.as_millis() {
        return Err(Refusal::Until);
    }
    let mut after = pair.state;
    if let Setting::Share(share) = setting {
        let settled = matches!(pair.state, State::Warm(_) | State::Shifting(_) | State::Frozen);
        if !settled || pair.shadow.is_none() {
            return wrong(pair, Verb::Override);
        }
        let view = View::new(pair, seen);
        safety::check(&view.change_to(share, false), &view).map_err(Refusal::Obstacle)?;
        if matches!(pair.state, State::Shifting(_)) {
            after = State::Shifting(Shifting::Paused);
        }
    }
    let same = |set: &super::overrides::Override| set.setting == setting && set.until_ms == until_ms;
    if pair.overrides.iter().any(same) {
        return Ok(None);
    }
    pair.overrides.set(setting, order, (seen.now_ms, until_ms));
    Ok(Some(after))
}

fn say(pair: &mut Pair, order: &Order, (gate, open): (&Name, bool), seen: Seen<'_>) -> Obeyed {
    if !seen.policy.gates.iter().any(|known| known.name == *gate) {
        return Err(Refusal::UnknownGate(gate.clone()));
    }
    if pair.gates.said(gate) == Some(open) {
        return Ok(None);
    }
    pair.gates.say(gate.clone(), open, order);
    Ok(Some(pair.state))
}

/// The writer is stopped, or about to change: stopping here would leave nobody to write.
fn is_writer_moving(pair: &Pair) -> bool {
    let moving = matches!(
        pair.state,
        State::Promoting(Promoting::Fence | Promoting::CatchUp | Promoting::Flip)
            | State::RollingBack(Retreat::Fence | Retreat::CatchUp | Retreat::Grant)
    );
    pair.writer.stateful && (moving || pair.writer.fenced)
}

impl Pair {
    /// Whether a drill is under way.
    pub const fn is_drilling(&self) -> bool {
        self.drill.is_some()
    }

    /// The share that the standby really has: an operator's, where one is set.
    pub(super) fn effective_share(&self) -> BasisPoints {
        self.overrides.share().unwrap_or(self.share)
    }
}
