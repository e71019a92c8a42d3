//! How many requests an endpoint works on at once: a fixed number of cores and a bounded queue before them, first
//! come, first served. Whoever finds the queue full is turned away.
//!
//! This is what makes an overloaded endpoint slow for everybody, as real ones are; with independent service times
//! alone, load would cost nothing. A request whose client has left keeps its place and is worked on, because servers
//! seldom notice: that wasted work is how retries turn an overload into an outage.
//!
//! One thread owns all of it. A place is given back when it is dropped, so a connection that is cut frees what it held.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// Over how long the utilisation that a load report states is averaged: what an operating system calls "now".
const REPORTED_OVER: Duration = Duration::from_secs(1);

/// The cores of one endpoint and the queue before them.
#[derive(Debug)]
pub(crate) struct Cores {
    /// `None`: as many as there are requests.
    all: Option<usize>,
    /// Of these, usable now.
    usable: Cell<usize>,
    busy: Cell<usize>,
    queue_max: usize,
    queue: RefCell<VecDeque<oneshot::Sender<()>>>,
    /// Mean of busy cores per usable core, up to the moment beside it.
    utilisation: Cell<(f64, Instant)>,
}

/// A request's claim: a core, or a place in the queue.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    cores: &'a Cores,
    /// Until it is called; `None` once it has its core.
    called: Option<oneshot::Receiver<()>>,
}

impl Cores {
    pub(crate) fn new(all: Option<usize>, queue_max: usize) -> Self {
        Self {
            all,
            usable: Cell::new(all.unwrap_or(usize::MAX)),
            busy: Cell::new(0),
            queue_max,
            queue: RefCell::default(),
            utilisation: Cell::new((0.0, Instant::now())),
        }
    }

    /// A core, or the last place in the queue; `None` where the queue is full.
    pub(crate) fn claim(&self) -> Option<Place<'_>> {
        let mut queue = self.queue.borrow_mut();
        if self.busy.get() < self.usable.get() && queue.is_empty() {
            self.set_busy(self.busy.get() + 1);
            return Some(Place {
                cores: self,
                called: None,
            });
        }
        if queue.len() >= self.queue_max {
            // Places of connections that were cut are still in it.
            queue.retain(|call| !call.is_closed());
        }
        (queue.len() < self.queue_max).then(|| {
            let (call, called) = oneshot::channel();
            queue.push_back(call);
            Place {
                cores: self,
                called: Some(called),
            }
        })
    }

    /// Leaves this part of the cores usable, rounded to whole ones. Nobody is thrown out: while more are busy, nobody
    /// comes in.
    pub(crate) fn set_left(&self, left: f64) {
        let Some(all) = self.all else { return };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a number of cores is a number of cores"
        )]
        let usable = (all as f64 * left).round() as usize;
        self.settle();
        self.usable.set(usable);
        self.call();
    }

    /// Busy cores per usable core, averaged over about a second. May exceed 1 for a while after cores were lost.
    pub(crate) fn utilisation(&self) -> f64 {
        self.settle();
        self.utilisation.get().0
    }

    /// Gives free cores to those who wait.
    fn call(&self) {
        while self.busy.get() < self.usable.get() {
            let Some(call) = self.queue.borrow_mut().pop_front() else {
                return;
            };
            if call.send(()).is_ok() {
                self.set_busy(self.busy.get() + 1);
            }
        }
    }

    fn leave(&self) {
        self.set_busy(self.busy.get() - 1);
        self.call();
    }

    fn set_busy(&self, busy: usize) {
        self.settle();
        self.busy.set(busy);
    }

    /// Brings the mean up to now: what was before counts less with every second, as e^-t. Without a number of cores
    /// there is none, and no look at the clock.
    fn settle(&self) {
        if self.all.is_none() {
            return;
        }
        let now = Instant::now();
        let (mean, until) = self.utilisation.get();
        let busy = self.busy.get() as f64 / self.usable.get().max(1) as f64;
        let age = now.saturating_duration_since(until).as_secs_f64() / REPORTED_OVER.as_secs_f64();
        self.utilisation
            .set((busy + (mean - busy) * (-age).exp(), until.max(now)));
    }
}

impl Place<'_> {
    /// Waits for the core. Safe to cancel.
    pub(crate) async fn reach(&mut self) {
        if let Some(called) = &mut self.called {
            // The queue lives as long as the place; a call that is dropped unsent cannot come from it.
            let _ = called.await;
            self.called = None;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let has_core = self.called.as_mut().is_none_or(|called| {
            called.close();
            called.try_recv().is_ok()
        });
        if has_core {
            self.cores.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn cores(all: usize, queue_max: usize) -> Cores {
        Cores::new(Some(all), queue_max)
    }

    fn has_core(place: &mut Place<'_>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(place.reach()).poll(&mut context) == Poll::Ready(())
    }

    #[test]
    fn whoever_came_first_is_served_first() {
        let cores = cores(1, 8);
        let mut places: Vec<_> = (0..4).map(|_| cores.claim().unwrap()).collect();
        for turn in 0..4 {
            let served: Vec<_> = places.iter_mut().map(has_core).collect();
            let expected: Vec<_> = (turn..4).map(|place| place == turn).collect();
            assert_eq!(served, expected);
            drop(places.remove(0));
        }
    }

    #[test]
    fn a_full_queue_turns_away_and_a_free_place_takes_again() {
        let cores = cores(2, 1);
        let mut places: Vec<_> = (0..3).map(|_| cores.claim().unwrap()).collect();
        assert!(cores.claim().is_none());
        drop(places.remove(0));
        assert!(has_core(&mut places[1]));
        assert!(cores.claim().is_some());
    }

    #[test]
    fn nobody_overtakes_the_queue() {
        let cores = cores(1, 8);
        let first = cores.claim().unwrap();
        let mut second = cores.claim().unwrap();
        drop(first);
        // The core is free for the second, who has not looked yet.
        let mut third = cores.claim().unwrap();
        assert!(!has_core(&mut third) && has_core(&mut second));
    }

    #[test]
    fn who_leaves_the_queue_frees_the_place_and_loses_no_core() {
        let cores = cores(1, 2);
        let first = cores.claim().unwrap();
        let (left, mut stays) = (cores.claim().unwrap(), cores.claim().unwrap());
        drop(left);
        let last = cores.claim().unwrap();
        drop(first);
        assert!(has_core(&mut stays));
        // Called, but gone before it looked: the core goes on to nobody, and is free.
        drop(stays);
        drop(last);
        assert_eq!((cores.busy.get(), cores.queue.borrow().len()), (0, 0));
        assert!(has_core(&mut cores.claim().unwrap()));
    }

    #[test]
    fn lost_capacity_throws_nobody_out_and_comes_back() {
        let cores = cores(4, 8);
        let mut working: Vec<_> = (0..4).map(|_| cores.claim().unwrap()).collect();
        cores.set_left(0.5);
        let mut waiting = cores.claim().unwrap();
        working.truncate(2);
        assert!(!has_core(&mut waiting), "two of two are busy");
        working.truncate(1);
        assert!(has_core(&mut waiting));
        cores.set_left(0.0);
        drop((working, waiting));
        let mut late = cores.claim().unwrap();
        assert!(!has_core(&mut late));
        cores.set_left(1.0);
        assert!(has_core(&mut late));
    }

    #[test]
    fn without_a_number_of_cores_nobody_waits() {
        let cores = Cores::new(None, 0);
        cores.set_left(0.1);
        let mut places: Vec<_> = (0..10_000).map(|_| cores.claim().unwrap()).collect();
        assert!(places.iter_mut().all(has_core));
    }

    #[tokio::test(start_paused = true)]
    async fn the_utilisation_is_that_of_the_last_second_or_so() {
        let cores = cores(4, 8);
        assert!(cores.utilisation().abs() < 1e-9);
        let places: Vec<_> = (0..2).map(|_| cores.claim().unwrap()).collect();
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!((cores.utilisation() - 0.5).abs() < 1e-3);
        drop(places);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!((cores.utilisation() - 0.5 / std::f64::consts::E).abs() < 1e-3);
        cores.set_left(0.25);
        let _all_that_is_left = cores.claim().unwrap();
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!((cores.utilisation() - 1.0).abs() < 1e-3);
    }
}
