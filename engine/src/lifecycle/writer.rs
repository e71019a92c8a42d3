//! Who of a pair may write, and since which term.
//!
//! Terms only grow. Each one has at most one arm that is told to stop and one that is told to begin, and an arm obeys no
//! term below the highest it has heard of. So two arms never write in the same term, whatever is delayed or repeated;
//! and because the old one's stop is confirmed before the new one begins, two never write at all, save where the old
//! one was gone: then the proxies, which own the way to it, send it nothing.

use std::fmt;

use foreshade_contract::Arm;
use serde::{Deserialize, Serialize};

/// Order of the changes of the writer of one pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The writer of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Writer {
    /// The arm that writes, or that was the last to while nobody does.
    pub arm: Arm,
    /// Since which term.
    pub term: Term,
    /// It has been told to stop, and nobody has been told to begin.
    pub fenced: bool,
    /// There is something to write. Once seen it stays, so that a silent replication is not taken for none.
    pub stateful: bool,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            arm: Arm::Primary,
            term: Term::default(),
            fenced: false,
            stateful: false,
        }
    }
}

impl Writer {
    /// The writer has to stop, in a term of its own.
    pub(super) fn fence(&mut self) {
        self.term = Term(self.term.0.saturating_add(1));
        self.fenced = true;
    }

    /// Who was waited for begins, in the term in which the other one stopped.
    pub(super) fn grant(&mut self, arm: Arm) {
        self.arm = arm;
        self.fenced = false;
    }

    /// This arm writes from here on, in a term of its own; whoever wrote before has to hear of it.
    pub(super) fn seize(&mut self, arm: Arm) {
        self.fence();
        self.grant(arm);
    }
}
