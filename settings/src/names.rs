//! The names of one kind of thing in a file: told apart, and found again where something refers to them.
//!
//! A name is "unknown" only where all names could be read: whoever misspelt one key has one mistake, not two.

use std::collections::HashMap;

use foreshade_contract::Name;

use crate::mistake::{Mistake, Mistakes, quoted};
use crate::read::At;
use crate::scalar::Reference;

/// The names of one kind of thing, each with the position of the first that bears it.
pub struct Names {
    positions: HashMap<Name, usize>,
    in_order: Vec<Name>,
    /// Whether every name could be read.
    whole: bool,
    /// Whether no name occurs twice.
    pub unique: bool,
}

impl Names {
    /// Collects the names and reports those that occur twice.
    pub fn collect<'a>(
        kind: &str,
        names: impl IntoIterator<Item = Option<&'a At<Name>>>,
        whole: bool,
        mistakes: &mut Mistakes,
    ) -> Self {
        let mut all = Self {
            positions: HashMap::new(),
            in_order: Vec::new(),
            whole,
            unique: true,
        };
        let mut lines = Vec::new();
        for (position, name) in names.into_iter().enumerate() {
            lines.push(name.and_then(At::place).map(|place| place.line));
            let Some(name) = name else {
                all.whole = false;
                continue;
            };
            let first = *all.positions.entry(name.value.clone()).or_insert(position);
            if first == position {
                all.in_order.push(name.value.clone());
            } else {
                all.unique = false;
                let what = format!("duplicate {kind} name {}", quoted(name.value.as_str()));
                let line = lines.get(first).copied().flatten();
                mistakes.add(
                    Mistake::at(name.place(), what)
                        .expected(format!("a name that no other {kind} has"))
                        .hint(line.map(|line| format!("line {line} has the same name"))),
                );
            }
        }
        all
    }

    /// The name at a position, where all names are distinct.
    pub fn name(&self, position: usize) -> Option<Name> {
        self.in_order.get(position).cloned()
    }

    /// The position of the first that bears this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(name).copied()
    }

    /// Whether something bears this name.
    pub fn has(&self, name: &str) -> bool {
        self.positions.contains_key(name)
    }

    /// The position of what a reference names. `wanted` says what kind of thing that should be.
    pub fn find(
        &self,
        wanted: &str,
        reference: Option<&At<Reference>>,
        mistakes: &mut Mistakes,
    ) -> Option<usize> {
        let reference = reference?;
        let word = reference.value.0.as_str();
        let position = self.positions.get(word).copied();
        if position.is_none() && self.whole {
            let what = format!("unknown {wanted} {}", quoted(word));
            let hint = mistakes.did_you_mean(word, self.in_order.iter().map(Name::as_str));
            mistakes.add(
                Mistake::at(reference.place(), what)
                    .expected(self.listed())
                    .hint(hint),
            );
        }
        position
    }

    /// Some of the names, for a message.
    fn listed(&self) -> String {
        const SHOWN_MAX: usize = 10;
        let shown: Vec<_> = self.in_order.iter().take(SHOWN_MAX).map(Name::as_str).collect();
        let shown = shown.join(", ");
        match self.in_order.len().saturating_sub(SHOWN_MAX) {
            0 => format!("one of {shown}"),
            more => format!("one of {shown} and {more} more"),
        }
    }
}
