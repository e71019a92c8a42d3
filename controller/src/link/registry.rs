//! Who is there, and what each proxy has said of the plan.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foreshade_contract::report::{Reason, Refused};
use foreshade_contract::{BootId, Hello, Name, PlanId, Status as PlanStatus};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

use super::Arrived;

/// A proxy that is there.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Its name.
    pub name: Name,
    /// This start of it.
    pub boot: BootId,
    /// The version of its program.
    pub version: String,
    /// From where it speaks, where that is known.
    pub peer: Option<SocketAddr>,
    /// Since when.
    pub since: Instant,
    /// The plan that was sent to it last.
    pub sent: Option<PlanId>,
    /// The plan in force there: what it has acknowledged.
    pub acknowledged: Option<PlanId>,
    /// Whether it would start with it.
    pub persisted: bool,
    /// The last plan that it refused, since the last one that it took.
    pub refused: Option<Refused>,
    /// Pairs that it cannot carry out.
    pub unapplied: usize,
    /// Reports that came on this link.
    pub reports: u64,
    /// Messages of this link that were refused.
    pub unreadable: u64,
}

/// How far a plan has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Proxies that are there.
    pub proxies: usize,
    /// Of them, those that follow the plan, or a later one of its epoch.
    pub following: usize,
    /// Of the others, those that have refused it.
    pub refusing: usize,
}

impl Acknowledged {
    /// Whether every proxy that is there follows.
    pub fn by_all(&self) -> bool {
        self.following == self.proxies
    }

    /// Whether more than half of them do.
    pub fn by_quorum(&self) -> bool {
        2 * self.following > self.proxies
    }
}

/// One link's place among the others.
#[derive(Debug)]
pub(super) struct Seat {
    name: Name,
    /// Turned true when it has ended.
    ended: watch::Sender<bool>,
    /// What has become of what was sent last: looked at before anything else is sent.
    pub(super) answer: watch::Sender<Option<Refused>>,
}

/// All links.
#[derive(Debug)]
pub(super) struct Registry {
    most: usize,
    links: Mutex<BTreeMap<Name, (Arc<Seat>, Proxy)>>,
    changes: watch::Sender<u64>,
}

impl Seat {
    /// Ends the link.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        // The sender lives as long as this does.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

impl Registry {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            links: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<Name, (Arc<Seat>, Proxy)>> {
        // Held for a look or a few stores, never across an await.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Takes a place for a proxy. An older link of the same name ends: a proxy that comes back after its network was cut is
    /// not kept out by what is left of it.
    pub(super) fn seat(&self, hello: &Hello, peer: Option<SocketAddr>) -> Result<Arc<Seat>, Status> {
        let mut links = self.links();
        if links.len() >= self.most && !links.contains_key(&hello.proxy) {
            return Err(Status::resource_exhausted("too many proxies"));
        }
        let seat = Arc::new(Seat {
            name: hello.proxy.clone(),
            ended: watch::Sender::new(false),
            answer: watch::Sender::new(None),
        });
        let proxy = Proxy {
            name: hello.proxy.clone(),
            boot: hello.boot,
            version: hello.version.clone(),
            peer,
            since: Instant::now(),
            sent: None,
            acknowledged: hello.plan,
            persisted: false,
            refused: None,
            unapplied: 0,
            reports: 0,
            unreadable: 0,
        };
        if let Some((older, _)) = links.insert(hello.proxy.clone(), (seat.clone(), proxy)) {
            older.end();
        }
        drop(links);
        self.changed();
        Ok(seat)
    }

    /// Gives the place back, if nobody else has taken it.
    pub(super) fn leave(&self, seat: &Arc<Seat>) {
        let mut links = self.links();
        let is_its = links
            .get(&seat.name)
            .is_some_and(|(holder, _)| Arc::ptr_eq(holder, seat));
        if is_its {
            links.remove(&seat.name);
        }
        drop(links);
        self.changed();
    }

    /// Ends all links.
    pub(super) fn end_all(&self) {
        self.links().values().for_each(|(seat, _)| seat.end());
    }

    fn update(&self, seat: &Arc<Seat>, change: impl FnOnce(&mut Proxy)) {
        let mut links = self.links();
        let held = links.get_mut(&seat.name);
        if let Some((_, proxy)) = held.filter(|(holder, _)| Arc::ptr_eq(holder, seat)) {
            change(proxy);
        }
    }

    /// A plan is on its way.
    pub(super) fn sent(&self, seat: &Arc<Seat>, plan: PlanId) {
        self.update(seat, |proxy| proxy.sent = Some(plan));
    }

    /// What has become of plans.
    pub(super) fn heard(&self, seat: &Arc<Seat>, status: &PlanStatus) {
        self.update(seat, |proxy| {
            proxy.acknowledged = status.plan;
            proxy.persisted = status.persisted;
            proxy.refused = status.refused.clone();
            proxy.unapplied = status.unapplied_total;
        });
        seat.answer.send_if_modified(|answer| {
            let is_news = *answer != status.refused;
            answer.clone_from(&status.refused);
            is_news
        });
        self.changed();
    }

    /// Something sound has come.
    pub(super) fn noted(&self, seat: &Arc<Seat>, what: &Arrived) {
        if matches!(what, Arrived::Report(_)) {
            self.update(seat, |proxy| proxy.reports += 1);
        }
    }

    /// Something has come that cannot be read.
    pub(super) fn unreadable(&self, seat: &Arc<Seat>) {
        self.update(seat, |proxy| proxy.unreadable += 1);
    }

    pub(super) fn proxies(&self) -> Vec<Proxy> {
        self.links().values().map(|(_, proxy)| proxy.clone()).collect()
    }

    pub(super) fn acknowledged(&self, plan: PlanId) -> Acknowledged {
        let links = self.links();
        // A plan of a later epoch is another controller's: whoever follows that one does not follow this.
        let follows = |proxy: &Proxy| {
            let now = proxy.acknowledged;
            now.is_some_and(|now| now.epoch == plan.epoch && now.generation >= plan.generation)
        };
        let refuses = |proxy: &Proxy| {
            let refused = proxy.refused.as_ref();
            // A difference that did not fit is followed by the whole plan.
            refused.is_some_and(|refused| refused.plan == Some(plan) && refused.reason != Reason::WrongBase)
        };
        let proxies = || links.values().map(|(_, proxy)| proxy);
        Acknowledged {
            proxies: links.len(),
            following: proxies().filter(|proxy| follows(proxy)).count(),
            refusing: proxies()
                .filter(|proxy| !follows(proxy) && refuses(proxy))
                .count(),
        }
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
