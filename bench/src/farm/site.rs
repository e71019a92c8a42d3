//! One endpoint as the farm's own thread sees it: what is wrong with it right now, its cores, and its open connections.
//!
//! Faults are set from other threads; here they are taken over, and their edges are kept. Whoever serves a request
//! first compares one number, so a fault holds for every request that arrives after it was set, however busy the
//! thread is; and [`Site::direct`] wakes at every edge for the sake of what is waiting. Both settle the same
//! [`Condition`], so it does not matter who is first.
//!
//! What must end because the endpoint goes away is ended from here, connection by connection: a connection that would
//! itself watch for that would pay for it with every request.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use rand::Rng;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::farm::cores::Cores;
use crate::farm::endpoint::{Endpoint, Shared, Standing};
use crate::farm::fault::{self, Asked, Condition, Treatment};
use crate::farm::ledger::Ledger;

/// See the header of this file.
pub(crate) struct Site {
    shared: Arc<Shared>,
    pub(crate) index: usize,
    pub(crate) cores: Cores,
    faults: RefCell<Vec<Standing>>,
    /// Of the faults that were taken over.
    generation: Cell<u64>,
    condition: Cell<Condition>,
    /// When the condition may change by itself.
    next_edge: Cell<Option<Instant>>,
    /// The condition has changed.
    pub(crate) changed: Notify,
    connections: RefCell<BTreeMap<u64, Connection>>,
    next_connection: Cell<u64>,
}

struct Connection {
    /// A request of it is being worked on.
    busy: Rc<Cell<bool>>,
    task: AbortHandle,
}

/// An open connection.
pub(crate) struct Kept<'a> {
    site: &'a Site,
    number: u64,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.site.connections.borrow_mut().remove(&self.number);
    }
}

impl Site {
    pub(crate) fn new(shared: Arc<Shared>, index: usize, cores: Cores) -> Self {
        Self {
            shared,
            index,
            cores,
            faults: RefCell::default(),
            generation: Cell::new(0),
            condition: Cell::new(fault::condition([])),
            next_edge: Cell::new(None),
            changed: Notify::new(),
            connections: RefCell::default(),
            next_connection: Cell::new(0),
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        self.shared.endpoint(self.index)
    }

    /// Wakes at every edge of the faults, for as long as it is polled.
    pub(crate) async fn direct(&self) {
        loop {
            // Registered before the look, so that nothing set between the two is missed.
            let told = self.endpoint().changed.notified();
            self.condition();
            match self.next_edge.get() {
                None => told.await,
                Some(edge) => tokio::select! {
                    () = told => {}
                    () = tokio::time::sleep_until(edge) => {}
                },
            }
        }
    }

    /// How the process is now.
    pub(crate) fn condition(&self) -> Condition {
        let generation = self.endpoint().generation.load(Ordering::Acquire);
        if generation != self.generation.get() {
            self.generation.set(generation);
            *self.faults.borrow_mut() = self.endpoint().standing();
            self.settle();
        } else if self.next_edge.get().is_some_and(|edge| edge <= Instant::now()) {
            self.settle();
        }
        self.condition.get()
    }

    /// What becomes of a request that arrives now.
    pub(crate) fn treat(&self, asked: Asked<'_>, rng: &mut impl Rng) -> Treatment {
        let faults = self.faults.borrow();
        if faults.is_empty() {
            return fault::treat([], asked, rng);
        }
        let now = Instant::now();
        fault::treat(faults.iter().map(|standing| standing.aged(now)), asked, rng)
    }

    /// Waits until the condition is as it should be.
    pub(crate) async fn wait_until(&self, fits: impl Fn(Condition) -> bool) {
        loop {
            let changed = self.changed.notified();
            if fits(self.condition()) {
                return;
            }
            changed.await;
        }
    }

    /// Keeps a connection, so that it ends with the endpoint. `start` gets its number, for [`Self::until_dropped`],
    /// and a flag to raise while a request of it is being worked on.
    pub(crate) fn keep(&self, start: impl FnOnce(u64, Rc<Cell<bool>>) -> AbortHandle) {
        let number = self.next_connection.replace(self.next_connection.get() + 1);
        let busy = Rc::new(Cell::new(false));
        let task = start(number, Rc::clone(&busy));
        self.connections
            .borrow_mut()
            .insert(number, Connection { busy, task });
    }

    /// Forgets a connection when it is dropped.
    pub(crate) fn until_dropped(&self, number: u64) -> Kept<'_> {
        Kept { site: self, number }
    }

    /// How many are open.
    pub(crate) fn connections(&self) -> usize {
        self.connections.borrow().len()
    }

    /// The writes that took effect, of all endpoints.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger()
    }

    fn settle(&self) {
        let now = Instant::now();
        let faults = self.faults.borrow();
        let condition = fault::condition(faults.iter().map(|standing| standing.aged(now)));
        self.next_edge
            .set(faults.iter().filter_map(|standing| standing.next_edge(now)).min());
        drop(faults);
        let before = self.condition.replace(condition);
        if before == condition {
            return;
        }
        self.cores.set_left(condition.left);
        if let Some(refusal) = condition.refuses {
            for connection in self.connections.borrow().values() {
                if refusal.cut || !connection.busy.get() {
                    connection.task.abort();
                }
            }
        }
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::farm::fault::{Fault, Kind, Times};

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn flapping(kind: Kind, [after, lasting, every]: [u64; 3]) -> Fault {
        let mut fault = Fault::from(kind);
        fault.times = Times {
            after: ms(after),
            lasting: Some(ms(lasting)),
            every: Some(ms(every)),
        };
        fault
    }

    /// Runs `look` beside the site's director, in virtual time.
    fn beside<T>(look: impl AsyncFnOnce(&Shared, &Site) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let shared = Arc::new(Shared::new(["a"], true));
            let site = Site::new(Arc::clone(&shared), 0, Cores::new(Some(4), 0));
            tokio::select! {
                () = site.direct() => panic!("the director has left"),
                value = look(&shared, &site) => value,
            }
        })
    }

    /// When the condition changes, in milliseconds from now, and what `of` makes of it then.
    async fn changes<T: PartialEq>(site: &Site, count: usize, of: impl Fn(Condition) -> T) -> Vec<(u128, T)> {
        let start = Instant::now();
        let mut seen = Vec::new();
        let mut before = of(site.condition());
        for _ in 0..count {
            site.wait_until(|condition| of(condition) != before).await;
            before = of(site.condition());
            seen.push((start.elapsed().as_millis(), of(site.condition())));
        }
        seen
    }

    #[test]
    fn what_waits_is_woken_at_every_edge_and_not_later() {
        let seen = beside(async |shared, site| {
            shared
                .set_faults("a", &[flapping(Kind::Pause, [100, 20, 1_000])])
                .unwrap();
            changes(site, 5, |condition| condition.paused).await
        });
        let edges = [
            (100, true),
            (120, false),
            (1_100, true),
            (1_120, false),
            (2_100, true),
        ];
        assert_eq!(seen, edges);
    }

    #[test]
    fn the_edges_of_several_faults_are_all_kept() {
        let seen = beside(async |shared, site| {
            let refuse = flapping(Kind::Refuse { cut: false }, [30, 10, 50]);
            let pause = flapping(Kind::Pause, [35, 10, 1_000]);
            shared.set_faults("a", &[refuse, pause]).unwrap();
            let of = |condition: Condition| (condition.refuses.is_some(), condition.paused);
            changes(site, 6, of).await
        });
        let edges = [
            (30, (true, false)),
            (35, (true, true)),
            (40, (false, true)),
            (45, (false, false)),
            (80, (true, false)),
            (90, (false, false)),
        ];
        assert_eq!(seen, edges);
    }

    #[test]
    fn a_request_on_the_edge_meets_the_fault_before_anybody_was_woken() {
        beside(async |shared, site| {
            shared
                .set_faults("a", &[flapping(Kind::Pause, [100, 20, 1_000])])
                .unwrap();
            assert!(!site.condition().paused);
            // Time passes and nobody gets a turn: as on a thread that is busy.
            tokio::time::advance(ms(100)).await;
            assert!(site.condition().paused);
        });
    }

    #[test]
    fn capacity_that_is_lost_for_a_while_is_lost_for_that_while() {
        beside(async |shared, site| {
            let claimed = || {
                let places: Vec<_> = std::iter::from_fn(|| site.cores.claim()).take(8).collect();
                places.len()
            };
            let loss = flapping(Kind::Capacity { left: 0.5 }, [10, 10, 1_000]);
            shared.set_faults("a", &[loss]).unwrap();
            let left = |condition: Condition| condition.left.to_bits();
            assert_eq!(claimed(), 4);
            assert_eq!(changes(site, 1, left).await, [(10, 0.5_f64.to_bits())]);
            assert_eq!(claimed(), 2);
            assert_eq!(changes(site, 1, left).await, [(10, 1_f64.to_bits())]);
            assert_eq!(claimed(), 4);
        });
    }

    #[test]
    fn an_endpoint_that_goes_away_ends_what_is_idle_and_a_kill_ends_all() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let shared = Arc::new(Shared::new(["a"], false));
            let site = Rc::new(Site::new(Arc::clone(&shared), 0, Cores::new(None, 0)));
            for is_busy in [true, false] {
                let kept = Rc::clone(&site);
                site.keep(|number, busy| {
                    busy.set(is_busy);
                    tokio::task::spawn_local(async move {
                        let _kept = kept.until_dropped(number);
                        std::future::pending::<()>().await;
                    })
                    .abort_handle()
                });
            }
            tokio::task::yield_now().await;
            assert_eq!(site.connections(), 2);
            for (cut, left) in [(false, 1), (true, 0)] {
                shared.set_faults("a", &[Fault::refuse(cut)]).unwrap();
                site.condition();
                tokio::task::yield_now().await;
                assert_eq!(site.connections(), left, "cut: {cut}");
            }
        });
    }
}
