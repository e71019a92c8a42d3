//! What a row of the table of transitions is, and how rows are read.
//!
//! `from`, `to`, what sets it off, what has to hold, what it does. Rows of a state are asked in order, and the first one
//! that is set off and not in the way of a guard is taken. A row that is set off and stopped is remembered with its
//! obstacle: that is the answer to "what is it waiting for?".

use std::fmt;

use super::Pair;
use super::cause::{Cause, Obstacle};
use super::state::State;
use super::view::{Seen, View};

/// What sets a transition off.
pub(super) struct When {
    /// In words, for the table.
    pub(super) says: &'static str,
    pub(super) ask: fn(&View<'_>) -> Option<Cause>,
}

/// What has to hold for it.
pub(super) struct Guard {
    /// In words, for the table.
    pub(super) says: &'static str,
    pub(super) ask: fn(&View<'_>) -> Result<(), Obstacle>,
}

/// What it does to the pair, besides its state.
pub(super) type Act = fn(&mut Pair, Seen<'_>);

/// It does nothing besides.
pub(super) const NOTHING: Act = |_, _| {};

/// A row of the table of transitions.
pub(super) struct Rule {
    pub(super) from: State,
    pub(super) to: State,
    pub(super) when: When,
    pub(super) guards: &'static [&'static Guard],
    pub(super) act: Act,
}

/// A transition that will be made.
pub(super) struct Move {
    pub(super) to: State,
    pub(super) cause: Cause,
    pub(super) act: Act,
}

impl Move {
    pub(super) const fn new(to: State, cause: Cause, act: Act) -> Self {
        Self { to, cause, act }
    }
}

/// The first row that may be taken; what stands in the way of those before it goes to `waiting`.
pub(super) fn first(rules: &[Rule], view: &View<'_>, waiting: &mut Vec<Obstacle>) -> Option<Move> {
    for rule in rules.iter().filter(|rule| rule.from == view.pair.state) {
        let Some(cause) = (rule.when.ask)(view) else {
            continue;
        };
        let before = waiting.len();
        waiting.extend(rule.guards.iter().filter_map(|guard| (guard.ask)(view).err()));
        if waiting.len() == before {
            return Some(Move::new(rule.to, cause, rule.act));
        }
    }
    None
}

/// The first guard that does not hold.
pub(super) fn missing(guards: &[&Guard], view: &View<'_>) -> Option<Obstacle> {
    guards.iter().find_map(|guard| (guard.ask)(view).err())
}

/// A row as people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it starts.
    pub from: State,
    /// Where it ends.
    pub to: State,
    /// What sets it off.
    pub when: &'static str,
    /// What has to hold.
    pub guards: Vec<&'static str>,
}

impl From<&Rule> for Row {
    fn from(rule: &Rule) -> Self {
        Self {
            from: rule.from,
            to: rule.to,
            when: rule.when.says,
            guards: rule.guards.iter().map(|guard| guard.says).collect(),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}: {}", self.from, self.to, self.when)?;
        for guard in &self.guards {
            write!(f, "\n    if {guard}")?;
        }
        Ok(())
    }
}
