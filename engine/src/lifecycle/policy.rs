//! The numbers of a lifecycle, each with its argument.
//!
//! One default has to serve every pair. Sources: the comparison of progressive delivery tools in `docs/concepts.md`; where
//! a number is theirs, its reason is that operators know it.

use std::time::Duration;

use foreshade_contract::{Name, Risk};
use serde::{Deserialize, Serialize};

use super::points::BasisPoints;

/// Most gates of one policy.
pub const GATES_MAX: usize = 16;

/// Most steps of a shift.
pub const STEPS_MAX: usize = 100;

/// How a pair is led through its life.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// A shadow is kept warm even while nothing is wrong.
    pub always_warm: bool,
    /// Risk alone may begin a shift; otherwise an operator has to.
    pub automatic: bool,
    /// The proxies may fail over by themselves.
    pub failover: bool,
    /// The most that the proxies' own risk may shift.
    pub ceiling: BasisPoints,
    /// What mirrored answers are good for.
    pub mirror: MirrorUse,
    /// What a verdict against the shadow does.
    pub rollback: RollbackPolicy,
    /// What ends a hold that nothing else has ended.
    pub on_inconclusive: Inconclusive,
    /// What becomes of the old primary after a promotion.
    pub old_primary: OldPrimary,
    /// The marks of risk.
    pub risk: RiskMarks,
    /// The shares of a shift, one after the other.
    pub steps: Steps,
    /// Who has to agree, and to what.
    pub gates: Vec<Gate>,
    /// Every deadline.
    pub times: Times,
    /// What keeps a pair from going back and forth.
    pub flap: FlapPolicy,
    /// What counts as in sync.
    pub sync: SyncPolicy,
    /// What every change of weights has to respect.
    pub safety: SafetyPolicy,
    /// Looks in a row at a shadow's health until it is believed, for better or worse. Three, as for probes.
    pub health_looks: u32,
    /// Requests that a promoted arm has to serve before it is committed.
    pub bake_requests: u64,
}

/// What mirrored answers are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorUse {
    /// Nothing is mirrored.
    Off,
    /// A shadow that answers worse gets no users.
    Watch,
    /// A shadow that has not been shown to answer as well gets no users.
    Required,
}

/// What a verdict against the shadow does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollbackPolicy {
    /// It rolls back.
    Auto,
    /// It freezes: going back would do more harm, for instance under a schema that has moved on.
    Freeze,
    /// It holds, and calls somebody.
    Manual,
}

/// What ends a hold that nothing else has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inconclusive {
    /// No proof is no success.
    Rollback,
    /// No proof of harm is good enough, where nothing else stands in the way.
    Promote,
}

/// What becomes of the old primary after a promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldPrimary {
    /// It becomes the shadow.
    Shadow,
    /// It goes, and the pair with it.
    Retire,
}

/// The marks of risk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RiskMarks {
    /// From here on a shadow is brought up.
    pub prepare_at: Risk,
    /// From here on users are led to it.
    pub shift_at: Risk,
    /// This far below, for as long as a change of direction takes, they are led back.
    pub hysteresis: f64,
    /// From here on steps are taken without waiting for evidence: unproven is better than certainly bad.
    pub severe_at: Risk,
}

/// A point at which somebody may have to agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// Before the first user moves.
    Shift,
    /// Before each larger share; asked anew each time.
    Increase,
    /// Before the roles change.
    Promote,
}

/// Somebody who has to agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Its name.
    pub name: Name,
    /// When it is asked.
    pub point: Point,
}

/// Every deadline, and the times in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// A shadow has to be up.
    pub provisioning: Duration,
    /// It has to be in sync.
    pub syncing: Duration,
    /// The comparison of mirrored answers has to decide.
    pub validating: Duration,
    /// No step is shorter: what is slow only when cold is not yet slow.
    pub step_min: Duration,
    /// No step waits longer for its evidence.
    pub step_max: Duration,
    /// Nothing is held longer.
    pub hold_max: Duration,
    /// Nothing is paused longer.
    pub pause_max: Duration,
    /// Each part of a promotion has to be done.
    pub promoting: Duration,
    /// Each part of a rollback has to be done.
    pub rolling_back: Duration,
    /// The proxies have to have followed a failover.
    pub failed_over: Duration,
    /// A promoted arm is watched this long before it is committed.
    pub bake: Duration,
    /// It is watched no longer.
    pub bake_max: Duration,
    /// The old primary is kept this long for a quick undo.
    pub retain_old: Duration,
    /// No drill lasts longer.
    pub drill_max: Duration,
    /// The most that one step of the controller counts for.
    pub tick_max: Duration,
}

/// What keeps a pair from going back and forth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlapPolicy {
    /// Changes of roles within the window; whoever would make one more freezes the pair. At most
    /// [`super::flap::CHANGES_MAX`].
    pub changes: usize,
    /// The window.
    pub window: Duration,
    /// Between a shift in one direction and one in the other.
    pub dwell: Duration,
    /// Rest after a failure; doubled by each further one.
    pub cooldown: Duration,
    /// Longest rest.
    pub cooldown_max: Duration,
}

/// What counts as in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncPolicy {
    /// A warm shadow is no further behind.
    pub lag_warm: Duration,
    /// Nor is one that is about to be promoted.
    pub lag_promote: Duration,
    /// The old primary follows the new one after a promotion, so that there is a way back.
    pub reverse: bool,
}

/// What every change of weights has to respect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SafetyPolicy {
    /// Arms that are well keep at least this much together, unless a change brings them more.
    pub healthy_floor: BasisPoints,
    /// No change moves more at once towards an arm that has not been proven.
    pub delta_max: BasisPoints,
}

/// The shares of a shift: growing, and ending at everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps(Vec<BasisPoints>);

/// Why these are no steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepsError {
    /// There are none, or too many.
    #[error("a shift has 1 to {STEPS_MAX} steps, not {0}")]
    Count(usize),
    /// One is not larger than the one before.
    #[error("step {0} is not larger than the one before")]
    Order(usize),
    /// The last one is not everything.
    #[error("the last step is 100%, not {0}")]
    End(BasisPoints),
}

impl Steps {
    /// Checks them.
    ///
    /// # Errors
    /// Where there are none or too many, where one does not grow, or where the last is not everything.
    pub fn new(steps: Vec<BasisPoints>) -> Result<Self, StepsError> {
        if steps.len() > STEPS_MAX {
            return Err(StepsError::Count(steps.len()));
        }
        let mut before = BasisPoints::ZERO;
        for (index, step) in steps.iter().enumerate() {
            if *step <= before {
                return Err(StepsError::Order(index));
            }
            before = *step;
        }
        match steps.last() {
            None => Err(StepsError::Count(0)),
            Some(&last) if last < BasisPoints::ALL => Err(StepsError::End(last)),
            Some(_) => Ok(Self(steps)),
        }
    }

    /// The share of a step; everything beyond the last.
    pub fn share(&self, step: usize) -> BasisPoints {
        self.0.get(step).copied().unwrap_or(BasisPoints::ALL)
    }

    /// Index of the last one.
    pub fn last(&self) -> usize {
        self.0.len().saturating_sub(1)
    }

    /// Index of the first one that takes nobody back who is there already.
    pub fn first_above(&self, share: BasisPoints) -> usize {
        self.0
            .iter()
            .position(|step| *step >= share)
            .unwrap_or(self.last())
    }
}

impl Default for Steps {
    fn default() -> Self {
        // 1 % harms hardly anybody and detects what is three times as bad; evidence grows with the share.
        Self([1, 5, 10, 25, 50, 100].map(BasisPoints::percent).to_vec())
    }
}

impl Default for RiskMarks {
    fn default() -> Self {
        Self {
            prepare_at: Risk::clamped(0.25),
            // As the proxy's own shift: see `ShiftPolicy`.
            shift_at: Risk::clamped(0.35),
            hysteresis: 0.20,
            severe_at: Risk::clamped(0.85),
        }
    }
}

impl Default for Times {
    fn default() -> Self {
        const fn minutes(minutes: u64) -> Duration {
            Duration::from_secs(minutes * 60)
        }
        Self {
            provisioning: minutes(5),
            syncing: minutes(15),
            validating: minutes(10),
            step_min: Duration::from_secs(10),
            // As the progress deadlines of Flagger and Argo Rollouts.
            step_max: minutes(10),
            hold_max: minutes(30),
            pause_max: minutes(60),
            promoting: minutes(2),
            rolling_back: Duration::from_secs(10),
            failed_over: minutes(2),
            bake: minutes(10),
            bake_max: minutes(60),
            retain_old: minutes(30),
            drill_max: minutes(30),
            // Ten ticks of the controller: slower is not alive.
            tick_max: Duration::from_secs(1),
        }
    }
}

impl Default for FlapPolicy {
    fn default() -> Self {
        Self {
            changes: 3,
            window: Duration::from_secs(3600),
            dwell: Duration::from_secs(30),
            cooldown: Duration::from_secs(300),
            cooldown_max: Duration::from_secs(6 * 3600),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            always_warm: true,
            automatic: true,
            failover: true,
            ceiling: BasisPoints::ALL,
            mirror: MirrorUse::Off,
            rollback: RollbackPolicy::Auto,
            on_inconclusive: Inconclusive::Rollback,
            old_primary: OldPrimary::Shadow,
            risk: RiskMarks::default(),
            steps: Steps::default(),
            gates: Vec::new(),
            times: Times::default(),
            flap: FlapPolicy::default(),
            sync: SyncPolicy {
                lag_warm: Duration::from_secs(10),
                lag_promote: Duration::from_secs(1),
                reverse: true,
            },
            safety: SafetyPolicy {
                healthy_floor: BasisPoints::percent(50),
                // The largest of the default steps.
                delta_max: BasisPoints::percent(50),
            },
            health_looks: 3,
            bake_requests: 1000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_and_end_at_everything() {
        let steps = |percent: &[u16]| Steps::new(percent.iter().map(|p| BasisPoints::percent(*p)).collect());
        assert_eq!(steps(&[]), Err(StepsError::Count(0)));
        assert_eq!(steps(&[0, 100]), Err(StepsError::Order(0)));
        assert_eq!(steps(&[5, 5, 100]), Err(StepsError::Order(1)));
        assert_eq!(steps(&[5, 50]), Err(StepsError::End(BasisPoints::percent(50))));
        let steps = steps(&[5, 50, 100]).unwrap();
        assert_eq!(steps.first_above(BasisPoints::percent(20)), 1);
        assert_eq!(steps.share(7), BasisPoints::ALL);
        assert_eq!(steps.last(), Steps::default().last() - 3);
    }
}
