//! What operators may suppose, and what they are told would come of it.

use std::fmt;

use clap::ValueEnum;
use foreshade_engine::lifecycle::command::{Command, Outcome};
use foreshade_engine::lifecycle::drill;
use foreshade_engine::lifecycle::simulate::{Foretold, Suppose};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::view::Side;

/// What is supposed to be so from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Supposed {
    /// Everything stays as it is seen now; nothing more is learned of the shadow.
    #[default]
    AsNow,
    /// The shadow proves to be as good as what serves.
    ShadowProven,
    /// What serves is gone.
    PrimaryGone,
    /// What serves is at severe risk, and the standby is not.
    PrimaryAtRisk,
    /// What serves is at risk, and the standby is worse.
    ShadowWorse,
}

impl fmt::Display for Supposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsNow => "as_now",
            Self::ShadowProven => "shadow_proven",
            Self::PrimaryGone => "primary_gone",
            Self::PrimaryAtRisk => "primary_at_risk",
            Self::ShadowWorse => "shadow_worse",
        })
    }
}

impl From<Supposed> for Suppose {
    fn from(supposed: Supposed) -> Self {
        match supposed {
            Supposed::AsNow => Self::AsNow,
            Supposed::ShadowProven => Self::ShadowProven,
            Supposed::PrimaryGone => Self::Failure(drill::Scenario::PrimaryGone),
            Supposed::PrimaryAtRisk => Self::Failure(drill::Scenario::PrimaryAtRisk),
            Supposed::ShadowWorse => Self::Failure(drill::Scenario::ShadowWorse),
        }
    }
}

/// What can be ordered in a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the orders of the same names")]
pub enum Ordered {
    Promote,
    PromoteFull,
    Abort,
    Pause,
    Resume,
    Retry,
    Undo,
    Freeze,
    Unfreeze,
}

impl fmt::Display for Ordered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promote => "promote",
            Self::PromoteFull => "promote_full",
            Self::Abort => "abort",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::Undo => "undo",
            Self::Freeze => "freeze",
            Self::Unfreeze => "unfreeze",
        })
    }
}

impl From<Ordered> for Command {
    fn from(ordered: Ordered) -> Self {
        match ordered {
            Ordered::Promote => Self::Promote { full: false },
            Ordered::PromoteFull => Self::Promote { full: true },
            Ordered::Abort => Self::Abort,
            Ordered::Pause => Self::Pause,
            Ordered::Resume => Self::Resume,
            Ordered::Retry => Self::Retry,
            Ordered::Undo => Self::Undo,
            Ordered::Freeze => Self::Freeze,
            Ordered::Unfreeze => Self::Unfreeze,
        }
    }
}

/// What would become of a pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Simulation {
    /// The pair.
    pub pair: String,
    /// What the order would be answered; absent where none was given, or where something more urgent came first.
    pub answer: Option<String>,
    /// What would happen, the first first; 64 changes at most.
    pub told: Vec<Foreseen>,
    /// Where it would stand then.
    pub state: String,
    /// Who would be the primary.
    pub serving: Side,
    /// The share that the shadow would serve.
    pub share: f64,
    /// What would stand in the way of the next step, each in one sentence.
    pub obstacles: Vec<String>,
    /// How far was looked, in milliseconds.
    pub looked_ms: u64,
}

/// Something that would happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Foreseen {
    /// How long from now, in milliseconds.
    pub after_ms: u64,
    /// Where the pair would stand.
    pub from: String,
    /// Where it would stand since.
    pub to: String,
    /// The share that the shadow would serve since.
    pub share: f64,
    /// Why, in one sentence.
    pub cause: String,
}

impl From<Foretold> for Simulation {
    fn from(foretold: Foretold) -> Self {
        let ms = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let [_, share] = foretold.pair.weights();
        let told = foretold.told.iter().map(|(after, transition)| {
            let [_, share] = transition.after;
            Foreseen {
                after_ms: ms(*after),
                from: transition.from.to_string(),
                to: transition.to.to_string(),
                share: share.fraction(),
                cause: transition.cause.to_string(),
            }
        });
        Self {
            pair: foretold.pair.id.to_string(),
            answer: foretold.answer.map(|answer| match answer {
                Outcome::Done => "done".to_owned(),
                Outcome::Unchanged => "nothing to change".to_owned(),
                Outcome::Refused(refusal) => format!("refused: {refusal}"),
            }),
            told: told.collect(),
            state: foretold.pair.state.to_string(),
            serving: foretold.pair.serving.into(),
            share: share.fraction(),
            obstacles: foretold.waiting.iter().map(ToString::to_string).collect(),
            looked_ms: ms(foretold.looked),
        }
    }
}
