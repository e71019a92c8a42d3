//! What happens at a known moment: ticks, probes, edges of faults, timeouts.
//!
//! Arrivals and ends of requests are not in here: there is one next arrival, and one next end per endpoint, and
//! looking at nine numbers is faster than any queue. A timeout is not looked for when its attempt ends: nearly all
//! requests end in time, and finding their timeouts would cost more than letting them pass. Those that have come to stand
//! first in their queue are forgotten in passing ([`Timers::forget`]), the others are found stale when they are due.
//!
//! Most timers are timeouts, and nearly all of those are set in the order in which they are due: limits always, patience
//! wherever it has not just become shorter. Each kind waits in a queue, and only what is out of order in the heap.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::server::{Answer, Ticket};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The tick of this proxy's engine.
    Tick(u16),
    /// A look at the endpoints.
    Look,
    /// A probe of this endpoint by this proxy is due.
    Probe(u16, u16),
    /// The answer of this endpoint to a probe of this proxy, or its absence.
    ProbeEnd(u16, u16, bool),
    /// A fault of this endpoint comes or goes.
    Edge(u16),
    /// An attempt has waited for as long as an attempt that may be repeated should.
    Patience(Ticket),
    /// An attempt has waited for as long as any may.
    Limit(Ticket),
    /// An endpoint ends a request without working on it.
    End(Ticket, Answer),
    /// An endpoint has waited for something else long enough, and ends a request.
    Waited(Waited),
}

/// A request that waits at an endpoint after the work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waited {
    pub(super) endpoint: u16,
    /// How often the endpoint had lost what it was working on.
    pub(super) lives: u16,
    pub(super) post: bool,
    pub(super) ticket: Ticket,
    pub(super) answer: Answer,
}

pub(super) struct Timers {
    mixed: BinaryHeap<Reverse<(u64, Timer)>>,
    /// Limits, which are all equally long and so come in the order in which they are due.
    limits: VecDeque<(u64, Ticket)>,
    /// Patience by endpoint, as far as it comes in the order in which it is due.
    patience: Vec<VecDeque<(u64, Ticket)>>,
    /// When the first of those is due, and at which endpoint. Kept, because it is asked at every event.
    next_patience: (u64, usize),
    limit_us: u64,
}

/// Nobody waits.
const NO_PATIENCE: (u64, usize) = (u64::MAX, 0);

impl Timers {
    /// For as many endpoints, with this limit.
    pub(super) fn new(limit: Duration, endpoints: usize) -> Self {
        Self {
            mixed: BinaryHeap::with_capacity(4096),
            limits: VecDeque::with_capacity(4096),
            patience: vec![VecDeque::with_capacity(256); endpoints],
            next_patience: NO_PATIENCE,
            limit_us: u64::try_from(limit.as_micros()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn at(&mut self, at_us: u64, timer: Timer) {
        self.mixed.push(Reverse((at_us, timer)));
    }

    pub(super) fn limit(&mut self, now_us: u64, ticket: Ticket) {
        self.limits
            .push_back((now_us.saturating_add(self.limit_us), ticket));
    }

    /// An attempt at `endpoint` is not waited for any longer from `at_us` on, if somebody else can take it.
    pub(super) fn patience(&mut self, at_us: u64, endpoint: usize, ticket: Ticket) {
        let queue = self.patience.get_mut(endpoint);
        let in_order =
            |queue: &&mut VecDeque<(u64, Ticket)>| queue.back().is_none_or(|(last, _)| *last <= at_us);
        match queue.filter(in_order) {
            Some(queue) => {
                queue.push_back((at_us, ticket));
                if queue.len() == 1 {
                    self.look_for_patience();
                }
            }
            None => self.at(at_us, Timer::Patience(ticket)),
        }
    }

    /// Forgets limits, and patience with `endpoint`, of attempts that are over: those that would be next.
    pub(super) fn forget(&mut self, endpoint: usize, is_over: impl Fn(Ticket) -> bool) {
        while self.limits.front().is_some_and(|(_, ticket)| is_over(*ticket)) {
            self.limits.pop_front();
        }
        let Some(queue) = self.patience.get_mut(endpoint) else {
            return;
        };
        let before = queue.len();
        while queue.front().is_some_and(|(_, ticket)| is_over(*ticket)) {
            queue.pop_front();
        }
        if queue.len() < before {
            self.look_for_patience();
        }
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> u64 {
        let mixed = self.mixed.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
        let next = mixed.min(self.next_patience.0);
        self.limits.front().map_or(next, |(at, _)| next.min(*at))
    }

    /// Takes the next one.
    pub(super) fn pop(&mut self) -> Option<(u64, Timer)> {
        let due = self.due();
        if self.limits.front().is_some_and(|(at, _)| *at == due) {
            return self
                .limits
                .pop_front()
                .map(|(at, ticket)| (at, Timer::Limit(ticket)));
        }
        let (at_us, endpoint) = self.next_patience;
        let queue = self.patience.get_mut(endpoint).filter(|_| at_us == due);
        if let Some(queue) = queue
            && let Some((at, ticket)) = queue.front().copied()
        {
            let next = (at, Timer::Patience(ticket));
            if self.mixed.peek().is_none_or(|Reverse(other)| next < *other) {
                queue.pop_front();
                self.look_for_patience();
                return Some(next);
            }
        }
        self.mixed.pop().map(|Reverse(next)| next)
    }

    /// Finds the patience that ends first.
    fn look_for_patience(&mut self) {
        self.next_patience = NO_PATIENCE;
        for (endpoint, queue) in self.patience.iter().enumerate() {
            if let Some((at, _)) = queue.front().filter(|(at, _)| *at < self.next_patience.0) {
                self.next_patience = (*at, endpoint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(flight: u32) -> Ticket {
        Ticket {
            flight,
            attempt: 1,
            proxy: 0,
        }
    }

    fn order(timers: &mut Timers) -> Vec<(u64, Timer)> {
        std::iter::from_fn(|| timers.pop()).collect()
    }

    #[test]
    fn patience_that_became_shorter_ends_before_that_which_was_longer() {
        let mut timers = Timers::new(Duration::from_secs(1), 2);
        timers.patience(50, 0, ticket(1));
        timers.patience(90, 1, ticket(2));
        timers.patience(40, 0, ticket(3));
        timers.patience(60, 0, ticket(4));
        timers.at(55, Timer::Look);
        assert_eq!(timers.due(), 40);
        assert_eq!(
            order(&mut timers),
            [
                (40, Timer::Patience(ticket(3))),
                (50, Timer::Patience(ticket(1))),
                (55, Timer::Look),
                (60, Timer::Patience(ticket(4))),
                (90, Timer::Patience(ticket(2))),
            ]
        );
    }

    #[test]
    fn what_is_over_is_forgotten_and_what_is_not_stays() {
        let mut timers = Timers::new(Duration::from_micros(100), 2);
        for flight in 1..=3 {
            timers.limit(u64::from(flight), ticket(flight));
            timers.patience(10 + u64::from(flight), 0, ticket(flight));
        }
        timers.patience(5, 1, ticket(1));
        timers.forget(0, |ticket| ticket.flight != 2);
        assert_eq!(
            order(&mut timers),
            [
                (5, Timer::Patience(ticket(1))),
                (12, Timer::Patience(ticket(2))),
                (13, Timer::Patience(ticket(3))),
                (102, Timer::Limit(ticket(2))),
                (103, Timer::Limit(ticket(3))),
            ],
            "another endpoint's, and what stands behind what is not over"
        );
    }

    #[test]
    fn timers_come_in_the_order_in_which_they_are_due() {
        let ticket = ticket(0);
        let mut timers = Timers::new(Duration::from_micros(50), 1);
        timers.at(70, Timer::Look);
        timers.limit(10, ticket);
        timers.at(20, Timer::Edge(3));
        assert_eq!(
            order(&mut timers),
            [
                (20, Timer::Edge(3)),
                (60, Timer::Limit(ticket)),
                (70, Timer::Look)
            ]
        );
        assert_eq!(timers.due(), u64::MAX);
    }
}
