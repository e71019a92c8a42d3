//! The newest plan, encoded once, and the few before it, from which differences are made.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use foreshade_contract::wire::proto::{Down, down};
use foreshade_contract::wire::{encode_delta, encode_plan};
use foreshade_contract::{Epoch, Plan, PlanId};
use tokio::sync::watch;

/// Plans that are kept to make differences from. At ten plans a second a proxy may lag by more than a second; beyond that
/// it gets the whole plan. Each has some megabytes.
const HISTORY_MAX: usize = 16;

/// A plan that was published is not to be replaced by this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNewer {
    /// It is not higher than the last one.
    #[error("the plan {plan} is not newer than {published}")]
    Generation {
        /// What was to be published.
        plan: PlanId,
        /// What is.
        published: PlanId,
    },
    /// It was made in another epoch than this controller's.
    #[error("the plan {plan} is not of this controller's epoch, {epoch}")]
    Epoch {
        /// What was to be published.
        plan: PlanId,
        /// In which epoch this controller writes.
        epoch: Epoch,
    },
}

/// Where the newest plan hangs.
#[derive(Debug)]
pub(super) struct Board {
    newest: watch::Sender<Option<Arc<Published>>>,
    history: Mutex<VecDeque<Arc<Plan>>>,
}

/// A plan, and how it is sent.
#[derive(Debug)]
pub(super) struct Published {
    plan: Arc<Plan>,
    whole: OnceLock<Bytes>,
    /// By the plan that they apply to; at most as many as there are plans in the history.
    differences: Mutex<Vec<(PlanId, Bytes)>>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            newest: watch::Sender::new(None),
            history: Mutex::default(),
        }
    }
}

impl Board {
    pub(super) fn publish(&self, plan: Arc<Plan>, epoch: Epoch) -> Result<(), NotNewer> {
        let id = plan.id();
        if id.epoch != epoch {
            return Err(NotNewer::Epoch { plan: id, epoch });
        }
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(published) = history
            .back()
            .map(|newest| newest.id())
            .filter(|newest| id <= *newest)
        {
            return Err(NotNewer::Generation { plan: id, published });
        }
        if history.len() >= HISTORY_MAX {
            history.pop_front();
        }
        history.push_back(plan.clone());
        drop(history);
        self.newest.send_replace(Some(Arc::new(Published {
            plan,
            whole: OnceLock::new(),
            differences: Mutex::default(),
        })));
        Ok(())
    }

    pub(super) fn newest(&self) -> Option<Arc<Published>> {
        self.newest.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.newest.subscribe()
    }

    /// The message that brings a proxy which has the plan `base`, or none, to this plan: the difference where it can be
    /// made and is worth it, else the whole.
    pub(super) fn message(&self, to: &Published, base: Option<PlanId>) -> Down {
        let difference = base.and_then(|base| self.difference(to, base));
        let whole = to.whole();
        let body = match difference.filter(|difference| difference.len() < whole.len()) {
            Some(difference) => down::Body::Delta(difference),
            None => down::Body::Plan(whole),
        };
        Down { body: Some(body) }
    }

    fn difference(&self, to: &Published, base: PlanId) -> Option<Bytes> {
        // Held while it is made, so that it is made once and not by each of a thousand links.
        let mut made = to.differences.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = made.iter().find(|(of, _)| *of == base) {
            return Some(bytes.clone());
        }
        let before = {
            let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            history.iter().find(|plan| plan.id() == base).cloned()?
        };
        let bytes = encode_delta(&to.plan.since(&before));
        made.push((base, bytes.clone()));
        Some(bytes)
    }
}

impl Published {
    pub(super) fn id(&self) -> PlanId {
        self.plan.id()
    }

    fn whole(&self) -> Bytes {
        self.whole.get_or_init(|| encode_plan(&self.plan)).clone()
    }
}
