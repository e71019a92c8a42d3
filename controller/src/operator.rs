//! What operators may ask and order: the seam between the API and whatever keeps the pairs.
//!
//! The API knows HTTP and nothing of pairs; who implements [`Operator`] knows pairs and nothing of HTTP. What crosses
//! here is checked already: names are names, a share lies between 0 and 1, an order has somebody who gave it and a
//! reason. Whether it can be carried out now is for the other side to say, in one [`Fault`] that has one status.
//!
//! The types of the answers are in [`view`]. They are what the wire has, on purpose apart from the engine's: an
//! operator's script must not break because a state machine was tidied up. The command's words are theirs, with hyphens.

pub mod events;
pub mod simulation;
pub mod view;

use std::fmt;

use async_trait::async_trait;
use clap::ValueEnum;
use foreshade_contract::{Generation, PairId};
use foreshade_engine::lifecycle::command::{self, Command, Refusal, TEXT_BYTES_MAX};
use foreshade_engine::lifecycle::safety::SafetyRule;
use foreshade_engine::lifecycle::simulate::Question;
use foreshade_engine::lifecycle::{drill, overrides};
use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use self::events::EventLog;
use self::simulation::Simulation;
use self::view::{Analysis, AuditEntry, Change, Drill, Outcome, PairDetail, PairSummary};

/// Longest name of whoever gives an order.
pub const ACTOR_CHARS_MAX: usize = 64;

/// Longest reason: what the lifecycle keeps in any script, and one line of a log.
pub const REASON_CHARS_MAX: usize = TEXT_BYTES_MAX / char::MAX.len_utf8();

/// One line without spaces around it, as a regular expression.
const LINE: &str = r"^[!-~\u00a1-\u167f]([ -~\u00a1-\u167f]*[!-~\u00a1-\u167f])?$";

/// Whoever keeps the pairs, as operators see it.
#[async_trait]
pub trait Operator: Send + Sync + 'static {
    /// All pairs, ordered by name.
    async fn pairs(&self) -> Result<Vec<PairSummary>, Fault>;

    /// One pair.
    async fn pair(&self, pair: &PairId) -> Result<PairDetail, Fault>;

    /// What became of a pair, the newest first.
    async fn history(&self, pair: &PairId, page: Page) -> Result<Vec<Change>, Fault>;

    /// What the judge says of a pair, and why; `None` where nothing is being judged.
    async fn analysis(&self, pair: &PairId) -> Result<Option<Analysis>, Fault>;

    /// What would become of a pair; nothing is changed by it.
    async fn simulate(&self, pair: &PairId, question: Question) -> Result<Simulation, Fault>;

    /// Carries an order out, or says what would come of it. Accepted means written down: it survives a crash.
    async fn command(&self, order: Order) -> Result<Outcome, Fault>;

    /// Drills that run or have run, the newest first.
    async fn drills(&self, page: Page) -> Result<Vec<Drill>, Fault>;

    /// One drill.
    async fn drill(&self, id: u64) -> Result<Drill, Fault>;

    /// Who ordered what, the newest first.
    async fn audit(&self, page: Page) -> Result<Vec<AuditEntry>, Fault>;

    /// What happens, as it happens.
    fn events(&self) -> &EventLog;

    /// Whether it can carry orders out now.
    fn standing(&self) -> Standing;

    /// Its own metrics, in the text format of Prometheus.
    fn metrics(&self) -> String;
}

/// A part of a long list, the newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Only what is older than this number; everything where `None`.
    pub before: Option<u64>,
    /// So many at most.
    pub limit: usize,
}

/// Whether orders can be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They can.
    Leading,
    /// The state is still being read.
    Starting,
    /// Another controller acts; this one would, if it were gone.
    Following {
        /// Who acts, where that is known.
        leader: Option<String>,
    },
    /// What happens can be shown, and nothing can be written.
    ReadOnly {
        /// Why.
        why: String,
    },
}

/// An order, and everything that stands beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Whom it concerns.
    pub pair: PairId,
    /// What is to be done.
    pub command: Command,
    /// Who says so.
    pub actor: Actor,
    /// Why.
    pub reason: Reason,
    /// Names this order: one that comes twice is carried out once. Made here where the client named none.
    pub key: String,
    /// The generation that the operator saw; where it is not the one at which the order is obeyed, nothing happens.
    pub expected: Option<Generation>,
    /// Of an undo: the generation to whose roles the pair is to go back; to those before its last promotion where `None`.
    pub to: Option<Generation>,
    /// Only say what would happen.
    pub dry_run: bool,
}

impl Order {
    /// As the lifecycle takes it.
    pub fn for_lifecycle(&self) -> command::Order {
        command::Order {
            command: self.command.clone(),
            actor: self.actor.to_string(),
            reason: self.reason.to_string(),
            key: self.key.clone(),
            expected: self.expected,
        }
    }
}

/// What can be set by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The share that the shadow serves.
    #[value(name = "weight", alias = "share")]
    Share,
    /// The most that the proxies may shift by themselves.
    Ceiling,
    /// The least risk of the arm that serves.
    Risk,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Share => "share",
            Self::Ceiling => "ceiling",
            Self::Risk => "risk",
        })
    }
}

impl From<What> for overrides::What {
    fn from(what: What) -> Self {
        match what {
            What::Share => Self::Share,
            What::Ceiling => Self::Ceiling,
            What::Risk => Self::Risk,
        }
    }
}

/// A rule that every change of shares respects, and that an operator may waive for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Arms that are well keep the floor, or get more than they had.
    HealthyFloor,
    /// Traffic never moves while both arms are being taken out of service.
    BothDraining,
    /// No more moves at once towards an unproven arm than the policy allows.
    Delta,
    /// No arm is given more than it carries.
    Capacity,
    /// Users leave an arm that is gone at once, whatever else is stopped.
    SevereLane,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HealthyFloor => "healthy_floor",
            Self::BothDraining => "both_draining",
            Self::Delta => "delta",
            Self::Capacity => "capacity",
            Self::SevereLane => "severe_lane",
        })
    }
}

impl From<Rule> for SafetyRule {
    fn from(rule: Rule) -> Self {
        match rule {
            Rule::HealthyFloor => Self::HealthyFloor,
            Rule::BothDraining => Self::BothDraining,
            Rule::Delta => Self::Delta,
            Rule::Capacity => Self::Capacity,
            Rule::SevereLane => Self::SevereLane,
        }
    }
}

impl From<SafetyRule> for Rule {
    fn from(rule: SafetyRule) -> Self {
        match rule {
            SafetyRule::HealthyFloor => Self::HealthyFloor,
            SafetyRule::BothDraining => Self::BothDraining,
            SafetyRule::Delta => Self::Delta,
            SafetyRule::Capacity => Self::Capacity,
            SafetyRule::SevereLane => Self::SevereLane,
        }
    }
}

/// What fails in a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// What serves is gone: everything has to go to the standby.
    PrimaryGone,
    /// What serves is at severe risk and the standby is not: it has to be promoted.
    PrimaryAtRisk,
    /// What serves is at risk and the standby is worse: users have to go back.
    ShadowWorse,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PrimaryGone => "primary_gone",
            Self::PrimaryAtRisk => "primary_at_risk",
            Self::ShadowWorse => "shadow_worse",
        })
    }
}

impl From<Scenario> for drill::Scenario {
    fn from(scenario: Scenario) -> Self {
        match scenario {
            Scenario::PrimaryGone => Self::PrimaryGone,
            Scenario::PrimaryAtRisk => Self::PrimaryAtRisk,
            Scenario::ShadowWorse => Self::ShadowWorse,
        }
    }
}

impl From<drill::Scenario> for Scenario {
    fn from(scenario: drill::Scenario) -> Self {
        match scenario {
            drill::Scenario::PrimaryGone => Self::PrimaryGone,
            drill::Scenario::PrimaryAtRisk => Self::PrimaryAtRisk,
            drill::Scenario::ShadowWorse => Self::ShadowWorse,
        }
    }
}

/// Why something was not done, or cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no such pair.
    #[error("there is no pair {0}")]
    UnknownPair(PairId),
    /// There is no such gate, drill or override.
    #[error("there is no {what} {name}")]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// How it was called.
        name: String,
    },
    /// The pair has moved on since the operator looked.
    #[error("the pair is at generation {current}, not at {expected}: look again, and decide anew")]
    Stale {
        /// What the operator saw.
        expected: Generation,
        /// What it is.
        current: Generation,
    },
    /// It cannot be done in the present state.
    #[error("{0}")]
    NotNow(String),
    /// It makes no sense, now or later.
    #[error("{0}")]
    Invalid(String),
    /// Another controller acts.
    #[error("another controller acts{}", leader.as_ref().map(|leader| format!(": {leader}")).unwrap_or_default())]
    NotLeading {
        /// Who, where that is known.
        leader: Option<String>,
    },
    /// What is ordered cannot be written down, so it is not done.
    #[error("nothing can be written down now, so nothing is done: {0}")]
    ReadOnly(String),
    /// Too much at once.
    #[error("too much at once; try again")]
    Busy,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownGate(name) => Self::Unknown {
                what: "gate",
                name: name.to_string(),
            },
            Refusal::Stale { expected, current } => Self::Stale { expected, current },
            Refusal::Incomplete | Refusal::Until => Self::Invalid(refusal.to_string()),
            Refusal::WrongState { .. }
            | Refusal::NoWayBack
            | Refusal::Obstacle(_)
            | Refusal::WriterStopped
            | Refusal::DrillUnderWay => Self::NotNow(refusal.to_string()),
        }
    }
}

/// Why a text is no name of an actor, or no reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is one line of 1 to {most} characters")]
pub struct NotALine {
    what: &'static str,
    most: usize,
}

macro_rules! line {
    ($(#[doc = $doc:literal])+ $Name:ident, $what:literal, $most:expr) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $Name(String);

        impl PartialSchema for $Name {
            fn schema() -> RefOr<Schema> {
                let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(LINE));
                text.min_length(Some(1)).max_length(Some($most)).into()
            }
        }

        impl ToSchema for $Name {}

        impl $Name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $Name {
            type Error = NotALine;

            fn try_from(text: String) -> Result<Self, NotALine> {
                let is_short = text.chars().count() <= $most;
                let sound = text.trim() == text && !text.is_empty() && is_short;
                if sound && !text.contains(char::is_control) {
                    Ok(Self(text))
                } else {
                    Err(NotALine { what: $what, most: $most })
                }
            }
        }

        impl From<$Name> for String {
            fn from(line: $Name) -> Self {
                line.0
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

line! {
    /// Whoever gives an order: a person, a pipeline, a hook.
    Actor, "an actor", ACTOR_CHARS_MAX
}

line! {
    /// Why it is given.
    Reason, "a reason", REASON_CHARS_MAX
}
