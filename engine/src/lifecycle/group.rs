//! Pairs that only make sense together: several services of one release, a service and its cache.
//!
//! They move as one: no member takes a step before all can, the roles change only when all may, and where one goes back
//! all do, the last first, because what stands behind must not be taken away from under what stands before it. That is
//! one verdict without a judge of its own: worse, where any member is; not worse, where every one is.
//!
//! Each member is stepped by itself, and told what the others are up to. So the laws of a pair hold in a group too, and an
//! emergency of one member waits for nobody: the order of going back yields to a member's deadline.

use foreshade_contract::PairId;
use serde::{Deserialize, Serialize};

use super::command::Order;
use super::policy::Policy;
use super::sight::Sight;
use super::state::State;
use super::view::{Company, Seen, View};
use super::{Pair, Step, Trigger, shifting};

/// Most pairs of a group: a release that is larger should be several.
pub const MEMBERS_MAX: usize = 32;

/// Pairs that move together, first those that others stand on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Pair>", into = "Vec<Pair>")]
pub struct Group(Vec<Pair>);

/// Why these pairs are no group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// There are none, or too many.
    #[error("a group has 1 to {MEMBERS_MAX} pairs, not {0}")]
    Count(usize),
    /// One is there twice.
    #[error("the group has the pair {0} twice")]
    Twice(PairId),
}

/// What a member is given for a step.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// What is seen of it.
    pub sight: &'a Sight,
    /// What was ordered of it.
    pub orders: &'a [Order],
    /// Its policy.
    pub policy: &'a Policy,
}

impl Group {
    /// Makes a group, first those that others stand on.
    ///
    /// # Errors
    /// Where there are none or too many, or one is there twice.
    pub fn new(pairs: Vec<Pair>) -> Result<Self, GroupError> {
        if pairs.is_empty() || pairs.len() > MEMBERS_MAX {
            return Err(GroupError::Count(pairs.len()));
        }
        for (index, pair) in pairs.iter().enumerate() {
            if pairs.iter().take(index).any(|other| other.id == pair.id) {
                return Err(GroupError::Twice(pair.id.clone()));
            }
        }
        Ok(Self(pairs))
    }

    /// Its pairs.
    pub fn pairs(&self) -> &[Pair] {
        &self.0
    }

    /// Steps each member, in their order. The given are matched by position; a member without one stands still.
    pub fn step(&mut self, given: &[Given<'_>], now_ms: u64) -> Vec<Step> {
        self.call();
        let others = self.0.clone();
        let is_ready: Vec<bool> = others
            .iter()
            .zip(given)
            .map(|(pair, given)| {
                let alone = Seen {
                    sight: given.sight,
                    policy: given.policy,
                    now_ms,
                    company: Company::default(),
                };
                !matches!(pair.state, State::Shifting(_)) || shifting::is_ready(&View::new(pair, alone))
            })
            .collect();
        let members = self.0.iter_mut().enumerate().zip(given);
        members
            .map(|((index, pair), given)| {
                let company = company(&others, &is_ready, index);
                let step = pair.step_in(given.sight, given.orders, given.policy, now_ms, company);
                *pair = step.pair.clone();
                step
            })
            .collect()
    }

    /// Where one member moves, or is to, the others that could are asked to come along.
    fn call(&mut self) {
        let moves = |pair: &Pair| matches!(pair.state, State::Shifting(_)) || pair.course.trigger.is_some();
        if !self.0.iter().any(moves) || self.0.iter().any(is_back_or_failed) {
            return;
        }
        let undone = self
            .0
            .iter()
            .any(|pair| pair.course.trigger == Some(Trigger::Undo));
        for pair in self.0.iter_mut().filter(|pair| pair.course.trigger.is_none()) {
            match pair.state {
                State::Warm(_) => pair.course.trigger = Some(Trigger::Company),
                State::Committed if undone => pair.course.trigger = Some(Trigger::Undo),
                _ => {}
            }
        }
    }
}

/// What the others are up to, as one member has to know it.
fn company<'a>(pairs: &'a [Pair], is_ready: &[bool], index: usize) -> Company<'a> {
    let Some(pair) = pairs.get(index) else {
        return Company::default();
    };
    let others = || pairs.iter().enumerate().filter(|(other, _)| *other != index);
    let fallen = others()
        .map(|(_, other)| other)
        .find(|other| is_back_or_failed(other));
    Company {
        fallen: fallen.map(|other| (&other.id, other.course.benign)),
        is_behind: others().any(|(other_index, other)| {
            let waits = progress(other) == progress(pair) && is_ready.get(other_index) == Some(&false);
            progress(other) < progress(pair) || waits
        }),
        goes_first: others().any(|(other_index, other)| {
            // Those behind go first; whoever is gone already keeps nobody.
            other_index > index && (other.state.is_active() || is_under_way_back(other))
        }),
    }
}

fn is_back_or_failed(pair: &Pair) -> bool {
    matches!(pair.state, State::RollingBack(_) | State::Failed)
}

fn is_under_way_back(pair: &Pair) -> bool {
    matches!(pair.state, State::RollingBack(_)) && pair.share > super::points::BasisPoints::ZERO
}

/// How far a pair is. Only compared.
fn progress(pair: &Pair) -> usize {
    match pair.state {
        State::Unassigned
        | State::Provisioning
        | State::Syncing
        | State::RollingBack(_)
        | State::Failed
        | State::Frozen
        | State::Retired => 0,
        State::Warm(_) => 1,
        State::Shifting(_) => pair.course.step.saturating_add(2),
        State::Promoting(_) | State::Baking | State::FailedOver | State::Committed => usize::MAX,
    }
}

impl TryFrom<Vec<Pair>> for Group {
    type Error = GroupError;

    fn try_from(pairs: Vec<Pair>) -> Result<Self, GroupError> {
        Self::new(pairs)
    }
}

impl From<Group> for Vec<Pair> {
    fn from(group: Group) -> Self {
        group.0
    }
}
