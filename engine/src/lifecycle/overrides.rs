//! What an operator has set by hand, until a moment that has to be named.
//!
//! One of each kind, so that it is clear which one holds. An override ends when the wall shows its moment, or when it has
//! lasted as long as it was given, whichever comes first: a clock that steps back must not keep it alive, and a controller
//! that was down must not either. The state itself cannot be set: that would be a second way around every guard.
// Concept: stats-api

use std::fmt;
use std::time::Duration;

use foreshade_contract::Risk;
use serde::{Deserialize, Serialize};

use super::command::Order;
use super::points::BasisPoints;
use super::safety::SafetyRule;

/// The longest time for which an override may hold: what nobody remembers is the outage of next month.
pub const OVERRIDE_MAX: Duration = Duration::from_secs(24 * 3600);

/// What can be overridden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The share that the standby serves.
    Share,
    /// The most that the proxies may shift by themselves.
    Ceiling,
    /// The least risk of the arm that serves.
    Risk,
    /// A safety rule, which is then not asked.
    Safety(SafetyRule),
}

/// What it is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// See [`What::Share`].
    Share(BasisPoints),
    /// See [`What::Ceiling`].
    Ceiling(BasisPoints),
    /// See [`What::Risk`]; in basis points of 1.
    Risk(BasisPoints),
    /// See [`What::Safety`].
    Safety(SafetyRule),
}

impl Setting {
    /// Its kind.
    pub const fn what(self) -> What {
        match self {
            Self::Share(_) => What::Share,
            Self::Ceiling(_) => What::Ceiling,
            Self::Risk(_) => What::Risk,
            Self::Safety(rule) => What::Safety(rule),
        }
    }
}

/// An operator's word.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Override {
    /// What is set.
    pub setting: Setting,
    /// When it ends, in milliseconds since 1970.
    pub until_ms: u64,
    /// How much longer it may last.
    pub left: Duration,
    /// Who set it; empty where that was not written down yet.
    #[serde(default)]
    pub actor: String,
    /// Why; the same.
    #[serde(default)]
    pub reason: String,
}

/// The overrides of a pair, at most one of each [`What`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Overrides(Vec<Override>);

impl Overrides {
    /// Those that hold.
    pub fn iter(&self) -> impl Iterator<Item = &Override> {
        self.0.iter()
    }

    pub(super) fn set(&mut self, setting: Setting, by: &Order, (now_ms, until_ms): (u64, u64)) {
        self.clear(setting.what());
        self.0.push(Override {
            setting,
            until_ms,
            left: Duration::from_millis(until_ms.saturating_sub(now_ms)),
            actor: by.actor.clone(),
            reason: by.reason.clone(),
        });
        self.0.sort_by_key(|order| order.setting.what());
    }

    pub(super) fn clear(&mut self, what: What) -> bool {
        let before = self.0.len();
        self.0.retain(|order| order.setting.what() != what);
        self.0.len() < before
    }

    pub(super) fn pass(&mut self, dt: Duration) {
        for order in &mut self.0 {
            order.left = order.left.saturating_sub(dt);
        }
    }

    /// One that is over.
    pub(super) fn ended(&self, now_ms: u64) -> Option<What> {
        let over = |order: &&Override| order.left.is_zero() || now_ms >= order.until_ms;
        self.0.iter().find(over).map(|order| order.setting.what())
    }

    /// The share that is set.
    pub fn share(&self) -> Option<BasisPoints> {
        self.find(|setting| match setting {
            Setting::Share(share) => Some(share),
            Setting::Ceiling(_) | Setting::Risk(_) | Setting::Safety(_) => None,
        })
    }

    /// The ceiling that is set.
    pub fn ceiling(&self) -> Option<BasisPoints> {
        self.find(|setting| match setting {
            Setting::Ceiling(ceiling) => Some(ceiling),
            Setting::Share(_) | Setting::Risk(_) | Setting::Safety(_) => None,
        })
    }

    /// The least risk that is set.
    pub fn risk(&self) -> Option<Risk> {
        self.find(|setting| match setting {
            Setting::Risk(least) => Some(Risk::clamped(least.fraction())),
            Setting::Share(_) | Setting::Ceiling(_) | Setting::Safety(_) => None,
        })
    }

    /// Whether this rule is not to be asked.
    pub fn waives(&self, rule: SafetyRule) -> bool {
        self.0.iter().any(|order| order.setting == Setting::Safety(rule))
    }

    fn find<T>(&self, wanted: impl Fn(Setting) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(|order| wanted(order.setting))
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share => f.write_str("the share"),
            Self::Ceiling => f.write_str("the ceiling"),
            Self::Risk => f.write_str("the risk"),
            Self::Safety(rule) => write!(f, "safety rule {rule}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::Command;
    use super::*;

    fn by(actor: &str) -> Order {
        Order {
            command: Command::Abort,
            actor: actor.to_owned(),
            reason: "a test".to_owned(),
            key: "one".to_owned(),
            expected: None,
        }
    }

    #[test]
    fn an_override_ends_by_the_wall_or_by_what_it_was_given() {
        let mut overrides = Overrides::default();
        overrides.set(
            Setting::Share(BasisPoints::percent(5)),
            &by("ada"),
            (1_000, 61_000),
        );
        assert_eq!(overrides.ended(60_999), None);
        assert_eq!(overrides.ended(61_000), Some(What::Share));
        // The wall steps back for ever; its minute is over all the same.
        overrides.pass(Duration::from_secs(59));
        assert_eq!(overrides.ended(0), None);
        overrides.pass(Duration::from_secs(1));
        assert_eq!(overrides.ended(0), Some(What::Share));
    }

    #[test]
    fn of_each_kind_the_last_one_holds() {
        let mut overrides = Overrides::default();
        overrides.set(Setting::Share(BasisPoints::percent(5)), &by("ada"), (0, 9));
        overrides.set(Setting::Share(BasisPoints::percent(7)), &by("bob"), (0, 9));
        overrides.set(Setting::Safety(SafetyRule::Delta), &by("ada"), (0, 9));
        assert_eq!(overrides.share(), Some(BasisPoints::percent(7)));
        let share = overrides
            .iter()
            .find(|set| set.setting.what() == What::Share)
            .unwrap();
        assert_eq!((share.actor.as_str(), share.reason.as_str()), ("bob", "a test"));
        assert!(overrides.waives(SafetyRule::Delta) && !overrides.waives(SafetyRule::Capacity));
        assert!(overrides.clear(What::Share) && !overrides.clear(What::Share));
        assert_eq!(overrides.iter().count(), 1);
    }

    #[test]
    fn what_was_written_down_without_its_author_is_still_read() {
        let left = r#"[{"setting":{"share":500},"until_ms":9,"left":{"secs":1,"nanos":0}}]"#;
        let read: Overrides = serde_json::from_str(left).unwrap();
        assert_eq!(read.share(), Some(BasisPoints::percent(5)));
        assert_eq!(read.iter().next().unwrap().actor, "");
    }
}
