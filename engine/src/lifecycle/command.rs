//! What operators can order, and what they are answered.
//!
//! An order carries who gave it, why, and a key. The same key is obeyed once: whoever is not sure that an order arrived
//! sends it again and gets the same answer. And an order that asks for what is so already is no mistake but changes
//! nothing (Argo Rollouts #1292: an abort with nothing to abort scaled the stable set to zero).

use std::collections::VecDeque;
use std::fmt;

use foreshade_contract::{Arm, Generation, Name};
use serde::{Deserialize, Serialize};

use super::cause::Obstacle;
use super::drill::Scenario;
use super::overrides::{Setting, What};
use super::state::State;

/// Answers that are kept for repeated orders. Who repeats an order does so within seconds, and nobody gives dozens in them.
pub const ANSWERS_MAX: usize = 64;

/// The longest reason, key or actor that is kept, in bytes: a line of 256 characters in any script.
pub const TEXT_BYTES_MAX: usize = 1024;

/// An order with who, why and which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// What is ordered.
    pub command: Command,
    /// By whom.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// Which one it is: the same key is obeyed once.
    pub key: String,
    /// The generation that whoever ordered it saw; at any other it is refused. Compared when it is obeyed, for the pair moves
    /// on while an order waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Generation>,
}

/// What can be ordered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Lead users to the shadow and make it the primary. Given again while that is under way: take the next step without
    /// waiting for evidence; `full`: all of them.
    Promote {
        /// Skip evidence and waiting, not the guards.
        full: bool,
    },
    /// Go back.
    Abort,
    /// Stop where it is, for a while. The severe lane stays open.
    Pause,
    /// Go on.
    Resume,
    /// Try again without the rest that follows a failure.
    Retry,
    /// Make the old primary the primary again.
    Undo,
    /// Lead users back to the arm that served them at a generation, from wherever the pair stands when this is obeyed.
    UndoTo {
        /// The generation, as it was ordered.
        generation: Generation,
        /// The arm that served everybody then.
        serving: Arm,
    },
    /// Move nothing until somebody says so, not even in an emergency.
    Freeze,
    /// Go on from where it was frozen.
    Unfreeze,
    /// Set something by hand, for a while.
    Override {
        /// What, and to what.
        setting: Setting,
        /// Until when, in milliseconds since 1970.
        until_ms: u64,
    },
    /// Unset it.
    ClearOverride {
        /// What.
        what: What,
    },
    /// Agree at a gate.
    Approve {
        /// Which.
        gate: Name,
    },
    /// Disagree at a gate.
    Deny {
        /// Which.
        gate: Name,
    },
    /// Rehearse a failure without touching any traffic.
    Drill {
        /// Which failure.
        scenario: Scenario,
    },
    /// End the rehearsal.
    CancelDrill,
}

/// The name of a command, without its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "see the command of the same name")]
pub enum Verb {
    Promote,
    Abort,
    Pause,
    Resume,
    Retry,
    Undo,
    Freeze,
    Unfreeze,
    Override,
    ClearOverride,
    Approve,
    Deny,
    Drill,
    CancelDrill,
}

impl Command {
    /// Its name.
    pub const fn verb(&self) -> Verb {
        match self {
            Self::Promote { .. } => Verb::Promote,
            Self::Abort => Verb::Abort,
            Self::Pause => Verb::Pause,
            Self::Resume => Verb::Resume,
            Self::Retry => Verb::Retry,
            Self::Undo | Self::UndoTo { .. } => Verb::Undo,
            Self::Freeze => Verb::Freeze,
            Self::Unfreeze => Verb::Unfreeze,
            Self::Override { .. } => Verb::Override,
            Self::ClearOverride { .. } => Verb::ClearOverride,
            Self::Approve { .. } => Verb::Approve,
            Self::Deny { .. } => Verb::Deny,
            Self::Drill { .. } => Verb::Drill,
            Self::CancelDrill => Verb::CancelDrill,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::Undo => "undo",
            Self::Freeze => "freeze",
            Self::Unfreeze => "unfreeze",
            Self::Override => "override",
            Self::ClearOverride => "clear-override",
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Drill => "drill",
            Self::CancelDrill => "cancel-drill",
        })
    }
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was obeyed.
    Done,
    /// It is so already.
    Unchanged,
    /// It cannot be.
    Refused(Refusal),
}

/// Why an order was not obeyed. Always the order's fault or the moment's, never an error of the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The order is not complete.
    #[error("an order needs an actor, a reason and a key of 1 to {TEXT_BYTES_MAX} bytes each")]
    Incomplete,
    /// The pair has moved on since whoever ordered it looked. Not remembered: nothing was decided about the order itself.
    #[error("the pair is at generation {current}, not at {expected}")]
    Stale {
        /// What was seen.
        expected: Generation,
        /// What it is.
        current: Generation,
    },
    /// Not in this state.
    #[error("{verb} is not possible in {state}")]
    WrongState {
        /// What was ordered.
        verb: Verb,
        /// Where the pair stands.
        state: State,
    },
    /// There is nothing to go back to.
    #[error("past the point of no return: there is no healthy copy to go back to")]
    NoWayBack,
    /// Something stands in the way.
    #[error("{0}")]
    Obstacle(Obstacle),
    /// It would have ended already, or would last too long.
    #[error("an override ends in the future, and within 24 hours")]
    Until,
    /// The policy has no such gate.
    #[error("there is no gate {0}")]
    UnknownGate(Name),
    /// Nobody may write just now, so this is no moment to stop in.
    #[error("the writer is stopped just now; abort instead, or wait")]
    WriterStopped,
    /// One at a time.
    #[error("a drill is under way")]
    DrillUnderWay,
}

/// What an order is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The order's key.
    pub key: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// The last answers, for orders that are sent again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Answered(VecDeque<Answer>);

impl Answered {
    pub(super) fn to(&self, key: &str) -> Option<&Answer> {
        self.0.iter().find(|answer| answer.key == key)
    }

    pub(super) fn remember(&mut self, answer: Answer) {
        if self.0.len() >= ANSWERS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(answer);
    }
}
