//! Users who stay with their slot: which one they had when they came, and what they are told when they are answered.
//!
//! The cookie goes with the answer of an endpoint, and names the slot whose endpoint that was: whoever has answered a user
//! knows him from then on. Answers of our own have none; so a slot that is gone for a moment loses only those of its users
//! whom another one has served meanwhile.

use std::sync::Arc;
use std::time::SystemTime;

use foreshade_engine::moment::Moment;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, SET_COOKIE};

use super::{Flow, Worker};
use crate::config::Cluster;
use crate::policy::sticky::{Came, Slot, Sticky};
use crate::request::RequestView;

/// A user's slot, as he came and as he is served.
#[derive(Debug)]
pub(super) struct Stuck {
    by: Arc<Sticky>,
    came: Came,
    /// Whose endpoint was asked last.
    served: Option<Slot>,
}

impl Stuck {
    /// What a request says.
    pub(super) fn new(by: &Arc<Sticky>, view: &RequestView<'_>, now: Moment) -> Self {
        Self {
            by: by.clone(),
            came: by.came(view, now, unix_s()),
            served: None,
        }
    }

    /// Where the endpoint is that the user's slot is called by; `None` where he has none, or it is gone.
    pub(super) fn place(&self, cluster: &Cluster) -> Option<usize> {
        let Came::Slot { slot, .. } = self.came else {
            return None;
        };
        let mut endpoints = cluster.endpoints.iter();
        endpoints.position(|endpoint| Slot::of(&endpoint.name) == slot)
    }

    /// An endpoint of this primary's slot is asked.
    pub(super) fn is_served_by(&mut self, cluster: Option<&Cluster>, primary: usize) {
        let endpoint = cluster.and_then(|cluster| cluster.endpoints.get(primary));
        self.served = endpoint.map(|endpoint| Slot::of(&endpoint.name));
    }

    /// What became of the user, and the cookie that he is to have instead of his; `None` where his is good.
    fn conclusion(&self, is_there: bool) -> (&'static str, Option<HeaderValue>) {
        let label = match self.came {
            Came::Nothing => "new",
            Came::Slot { slot, fresh } if self.served == Some(slot) => {
                if fresh {
                    return ("stayed", None);
                }
                "renewed"
            }
            Came::Slot { .. } if is_there => "moved",
            Came::Slot { .. } => "gone",
            Came::Invalid => "invalid",
            Came::Expired => "expired",
            Came::Unreadable => "unreadable",
        };
        (label, self.served.and_then(|slot| self.by.cookie(slot, unix_s())))
    }
}

impl Worker {
    /// An endpoint has answered, and the user sees it: he is told his slot, if he does not know it.
    pub(super) fn tell_slot(&mut self, flow: &mut Flow) {
        let Some(stuck) = flow.stuck.take() else {
            return;
        };
        let (label, cookie) = stuck.conclusion(flow.request.stick.is_some());
        if let Some(state) = self.clusters.get_mut(flow.cluster) {
            state.tally.stuck.add(label, 1);
        }
        if let Some(cookie) = cookie {
            let marks = flow.granted.marks_mut();
            marks.add(SET_COOKIE, cookie);
            // A cache that gave it to others would send them all to one slot.
            marks.add(CACHE_CONTROL, HeaderValue::from_static("private"));
        }
    }
}

/// A clock that fails ends no cookie.
fn unix_s() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
