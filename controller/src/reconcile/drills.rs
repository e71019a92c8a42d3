//! Drills that begin by themselves: who is due is ordered one, as an operator would, and whatever stands in the way of an
//! order stands in the way of this one.

use std::time::Duration;

use foreshade_contract::PairId;
use foreshade_engine::lifecycle::command::{Command, Order};
use foreshade_engine::lifecycle::drill::Scenario;
use foreshade_engine::lifecycle::state::{State, Warm};
use foreshade_engine::lifecycle::{Alert, Mode, Trigger};

use super::{Instant, Reconciler, Tracked, View};
use crate::timetable::Known;

/// How often timetables are looked at: they speak of hours.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Drills of timetables that run at once. Each of them is a few lines in a journal that somebody reads, and a drill of ten
/// seconds leaves room for four hundred thousand in a week.
const AT_ONCE_MAX: usize = 8;

/// Who gives the order.
const ACTOR: &str = "timetable";

impl Reconciler {
    /// Orders the drills that are due, while nothing anywhere is wrong: whoever has to look after that has no eyes for a
    /// rehearsal, and what it says would not be told from it.
    pub(super) fn consult_timetables(&mut self, at: Instant) {
        if self.consulted.is_some_and(|last| at.now.since(last) < LOOK_EVERY) {
            return;
        }
        self.consulted = Some(at.now);
        let has_any = self
            .pairs
            .values()
            .any(|tracked| !tracked.spec.timetable.is_empty());
        if !has_any || self.pairs.values().any(Tracked::is_in_trouble) {
            return;
        }
        let running = self
            .pairs
            .values()
            .filter(|tracked| tracked.is_rehearsing())
            .count();
        let mut room = AT_ONCE_MAX.saturating_sub(running);
        for (id, tracked) in &mut self.pairs {
            if room == 0 {
                return;
            }
            if let Some(order) = tracked.due(id, at.wall_ms) {
                tracked.orders.push_back(order);
                room -= 1;
            }
        }
    }
}

impl Tracked {
    /// Something has gone wrong that nobody ordered.
    fn is_in_trouble(&self) -> bool {
        let pair = &self.kept.pair;
        let is_moved_by_risk = pair.state.is_active() && pair.course.trigger == Some(Trigger::Risk);
        let is_bad = matches!(pair.state, State::RollingBack(_) | State::FailedOver);
        let is_called_for = matches!(pair.alert, Some(Alert::RollbackBlocked | Alert::Verdict));
        is_bad || is_called_for || is_moved_by_risk || self.last.sight.arm(pair.serving).is_gone()
    }

    fn is_rehearsing(&self) -> bool {
        let is_drill = |order: &Order| matches!(order.command, Command::Drill { .. });
        self.kept.pair.is_drilling() || self.orders.iter().any(is_drill)
    }

    /// The order of the drill that is due, if the pair is at rest. What was written down of it may be long past: a leader
    /// that no proxy has told anything of it yet does not know.
    fn due(&self, id: &PairId, wall_ms: u64) -> Option<Order> {
        let pair = &self.kept.pair;
        let is_warm = matches!(pair.state, State::Warm(Warm::Idle | Warm::Mirroring));
        let is_awaited = pair.course.trigger.is_some() || pair.suspended.is_some() || !self.orders.is_empty();
        let is_heard = self.last.share.is_some();
        if !is_warm || !is_heard || is_awaited || pair.mode != Mode::Live || pair.is_drilling() {
            return None;
        }
        let timetable = self.spec.timetable.iter();
        let due = timetable.filter(|entry| {
            let known = Known {
                pair: id,
                drills: self.drilled(),
                blocked: &self.spec.windows,
            };
            entry.is_due(known, wall_ms)
        });
        due.map(|entry| Order {
            command: Command::Drill {
                scenario: entry.scenario,
            },
            actor: ACTOR.to_owned(),
            reason: format!("once in {} h", entry.every.as_secs() / 3600),
            key: format!("timetable-{wall_ms}"),
            expected: None,
        })
        .next()
    }

    fn drilled(&self) -> impl Iterator<Item = (Scenario, u64)> + '_ {
        self.kept
            .drills
            .iter()
            .map(|drill| (drill.scenario, drill.started_ms))
    }
}

impl View<'_> {
    /// Drills that begin by themselves: what is rehearsed, how often, and when next, if the calendar has a moment for it.
    pub fn timetable(&self, wall_ms: u64) -> impl Iterator<Item = (Scenario, Duration, Option<u64>)> + '_ {
        self.spec.timetable.iter().map(move |entry| {
            let known = Known {
                pair: &self.pair.id,
                drills: self.drills.iter().map(|drill| (drill.scenario, drill.started_ms)),
                blocked: &self.spec.windows,
            };
            (entry.scenario, entry.every, entry.next(known, wall_ms))
        })
    }
}
