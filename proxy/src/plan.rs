//! The controller's plan in this proxy: which one is taken, where it is kept, and what it means here.
//!
//! A plan is taken only if it is higher than the one in force, by epoch and then by generation, and if no higher epoch
//! has been seen: a controller that has been replaced and does not know it yet changes nothing here. The same plan
//! again is none of that: messages come twice, and the answer is the same. What is taken is kept on disk, so that a
//! proxy that starts without its controller starts with the limits that it was last granted; where the disk is full it
//! is taken all the same, and said not to be kept. Whoever carries it out is the scorer ([`follow`]) and, for roles,
//! the reload ([`roles`]).

pub mod file;
pub(crate) mod follow;
pub mod roles;

use std::sync::Arc;

use foreshade_contract::plan::DeltaError;
use foreshade_contract::report::{Reason, Refused};
use foreshade_contract::wire::Downward;
use foreshade_contract::{Delta, Epoch, Plan, PlanId};

use self::file::{FileError, PlanFile};

/// Keeps the plan that is in force.
#[derive(Debug)]
pub struct Keeper {
    file: PlanFile,
    in_force: Option<Arc<Plan>>,
    /// The highest epoch that was heard of.
    epoch: Epoch,
    /// Why it is not on disk.
    unkept: Option<FileError>,
}

impl Keeper {
    /// Starts with what the file holds: with nothing where there is none, or none that can be trusted; then also with why.
    pub fn start(file: PlanFile) -> (Self, Result<(), FileError>) {
        let (in_force, outcome) = match file.load() {
            Ok(plan) => (plan.map(Arc::new), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let keeper = Self {
            file,
            epoch: in_force.as_ref().map(|plan| plan.id().epoch).unwrap_or_default(),
            in_force,
            unkept: None,
        };
        (keeper, outcome)
    }

    /// The plan in force.
    pub fn in_force(&self) -> Option<&Arc<Plan>> {
        self.in_force.as_ref()
    }

    /// Which plan is in force.
    pub fn id(&self) -> Option<PlanId> {
        self.in_force.as_ref().map(|plan| plan.id())
    }

    /// Whether the plan in force is on disk.
    pub fn is_kept(&self) -> bool {
        self.in_force.is_some() && self.unkept.is_none()
    }

    /// Why it is not.
    pub fn unkept(&self) -> Option<&FileError> {
        self.unkept.as_ref()
    }

    /// A controller writes in this epoch: none of a lower one is obeyed from here on.
    pub fn heard(&mut self, epoch: Epoch) {
        self.epoch = self.epoch.max(epoch);
    }

    /// Whether a plan is to be taken: `None` where it is in force already.
    ///
    /// # Errors
    /// When it is not to be taken.
    pub fn weigh(&self, plan: Plan) -> Result<Option<Arc<Plan>>, Refused> {
        self.weigh_id(plan.id())
            .map(|is_new| is_new.then(|| Arc::new(plan)))
    }

    /// The same for a plan that comes as the difference to the one in force.
    ///
    /// # Errors
    /// When it is not to be taken, or is the difference to another one.
    pub fn weigh_delta(&self, delta: Delta) -> Result<Option<Arc<Plan>>, Refused> {
        let id = delta.id;
        if !self.weigh_id(id)? {
            return Ok(None);
        }
        let Some(before) = &self.in_force else {
            let why = format!(
                "the delta applies to the plan {}, and none is in force",
                delta.base
            );
            return Err(refused(id, Reason::WrongBase, why));
        };
        let made = before.with(delta).map_err(|error| {
            let reason = match error {
                DeltaError::Base { .. } | DeltaError::Count { .. } => Reason::WrongBase,
                DeltaError::Plan(_) => Reason::Malformed,
            };
            refused(id, reason, error.to_string())
        });
        made.map(|plan| Some(Arc::new(plan)))
    }

    /// Whether it is another plan than the one in force, and may follow it.
    fn weigh_id(&self, id: PlanId) -> Result<bool, Refused> {
        if id.epoch < self.epoch {
            let why = format!("epoch {} is over: {} has been seen", id.epoch, self.epoch);
            return Err(refused(id, Reason::StaleEpoch, why));
        }
        match self.id() {
            Some(now) if id == now => Ok(false),
            Some(now) if id < now => {
                let why = format!("{id} is older than {now}, which is in force");
                Err(refused(id, Reason::StaleGeneration, why))
            }
            _ => Ok(true),
        }
    }

    /// The plan is in force from here on, and is written to disk; where it cannot be, it is in force all the same.
    pub fn take(&mut self, plan: Arc<Plan>) {
        self.epoch = self.epoch.max(plan.id().epoch);
        self.unkept = self.file.store(&plan).err();
        self.in_force = Some(plan);
    }

    /// Tries again to write what could not be written. Whether there was anything to write.
    pub fn keep(&mut self) -> bool {
        let (Some(plan), Some(_)) = (&self.in_force, &self.unkept) else {
            return false;
        };
        self.unkept = self.file.store(plan).err();
        true
    }
}

/// A plan that is not taken.
pub(crate) fn refused(id: PlanId, reason: Reason, detail: String) -> Refused {
    Refused {
        plan: Some(id),
        reason,
        detail,
    }
}

/// What the controller sends that is about plans, weighed: the plan to carry out, or `None` where it is in force.
///
/// # Errors
/// When it is not to be taken.
pub fn weighed(keeper: &Keeper, message: Downward) -> Result<Option<Arc<Plan>>, Refused> {
    match message {
        Downward::Plan(plan) => keeper.weigh(plan),
        Downward::Delta(delta) => keeper.weigh_delta(delta),
        Downward::Welcome(_) => Ok(None),
    }
}

#[cfg(test)]
pub(crate) mod fixture;

#[cfg(test)]
mod tests {
    use foreshade_contract::{PairPlan, Share};
    use proptest::prelude::*;

    use super::fixture::{Folder, id, pair, plan};
    use super::*;

    fn keeper(folder: &Folder) -> Keeper {
        Keeper::start(PlanFile::new(folder.file())).0
    }

    fn reason(refused: Result<Option<Arc<Plan>>, Refused>) -> Option<Reason> {
        refused.err().map(|refused| refused.reason)
    }

    // Invariant 4 of ARCHITECTURE.md.
    #[test]
    fn an_older_epoch_or_generation_is_refused_and_the_same_again_is_known() {
        let folder = Folder::new();
        let mut keeper = keeper(&folder);
        keeper.take(keeper.weigh(plan(id(3, 5), vec![pair("a")])).unwrap().unwrap());
        assert_eq!(
            reason(keeper.weigh(plan(id(3, 4), vec![]))),
            Some(Reason::StaleGeneration)
        );
        assert_eq!(
            reason(keeper.weigh(plan(id(2, 9), vec![]))),
            Some(Reason::StaleEpoch)
        );
        assert_eq!(keeper.weigh(plan(id(3, 5), vec![])), Ok(None));
        assert!(keeper.weigh(plan(id(3, 6), vec![])).unwrap().is_some());
        assert!(keeper.weigh(plan(id(4, 1), vec![])).unwrap().is_some());
        keeper.heard(Epoch(4));
        assert_eq!(
            reason(keeper.weigh(plan(id(3, 6), vec![]))),
            Some(Reason::StaleEpoch)
        );
        assert_eq!(keeper.id(), Some(id(3, 5)), "looking changes nothing");
    }

    #[test]
    fn a_delta_to_another_plan_is_refused_so_that_the_whole_one_is_sent() {
        let folder = Folder::new();
        let mut keeper = keeper(&folder);
        let first = plan(id(1, 1), vec![pair("a")]);
        let second = plan(id(1, 2), vec![pair("a"), pair("b")]);
        let delta = second.since(&first);
        assert_eq!(reason(keeper.weigh_delta(delta.clone())), Some(Reason::WrongBase));
        keeper.take(Arc::new(first));
        let made = keeper.weigh_delta(delta.clone()).unwrap().unwrap();
        assert_eq!(*made, second);
        keeper.take(made);
        assert_eq!(keeper.weigh_delta(delta), Ok(None), "it came twice");
        let other = plan(id(1, 4), vec![]).since(&plan(id(1, 3), vec![]));
        assert_eq!(reason(keeper.weigh_delta(other)), Some(Reason::WrongBase));
    }

    #[test]
    fn a_plan_that_cannot_be_written_is_in_force_and_is_written_when_it_can_be() {
        let folder = Folder::new();
        let below = folder.path.join("gone");
        let mut keeper = Keeper::start(PlanFile::new(below.join("plan"))).0;
        keeper.take(Arc::new(plan(id(1, 1), vec![pair("a")])));
        assert_eq!((keeper.id(), keeper.is_kept()), (Some(id(1, 1)), false));
        assert!(keeper.unkept().is_some() && keeper.keep() && !keeper.is_kept());
        std::fs::create_dir(&below).unwrap();
        assert!(keeper.keep() && keeper.is_kept() && !keeper.keep());
        let again = Keeper::start(PlanFile::new(below.join("plan"))).0;
        assert_eq!(again.in_force(), keeper.in_force());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        // Whatever order, however often: what is in force only ever grows, and is the highest that was offered to it.
        #[test]
        fn the_plan_in_force_only_grows(offers in prop::collection::vec((1..4u64, 0..6u64, 0..=10u32), 1..30)) {
            let folder = Folder::new();
            let mut keeper = keeper(&folder);
            let mut highest = None;
            for (epoch, generation, tenths) in offers {
                let pair = PairPlan { ceiling: Share::clamped(f64::from(tenths) / 10.0), ..pair("a") };
                let before = keeper.in_force().cloned();
                let offered = plan(id(epoch, generation), vec![pair]);
                match keeper.weigh(offered) {
                    Ok(Some(plan)) => keeper.take(plan),
                    Ok(None) | Err(_) => prop_assert_eq!(keeper.in_force(), before.as_ref()),
                }
                highest = highest.max(Some(id(epoch, generation)));
                prop_assert_eq!(keeper.id(), highest);
            }
            let restarted = Keeper::start(PlanFile::new(folder.file())).0;
            prop_assert_eq!(restarted.in_force(), keeper.in_force());
        }
    }
}
