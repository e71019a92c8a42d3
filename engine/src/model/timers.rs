//! What happens at a known moment: ticks, probes, edges of faults, timeouts.
//!
//! Arrivals and ends of requests are not in here: there is one next arrival, and one next end per endpoint, and
//! looking at nine numbers is faster than any queue. Timeouts are never taken back, they are found stale when they are
//! due: nearly all requests end in time, and removing their timeouts would cost more than letting them pass.

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
    limit_us: u64,
}

impl Timers {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            mixed: BinaryHeap::with_capacity(4096),
            limits: VecDeque::with_capacity(32_768),
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

    /// When the next one is due.
    pub(super) fn due(&self) -> u64 {
        let mixed = self.mixed.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
        self.limits.front().map_or(mixed, |(at, _)| mixed.min(*at))
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
        self.mixed.pop().map(|Reverse(next)| next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_in_the_order_in_which_they_are_due() {
        let ticket = Ticket {
            flight: 0,
            attempt: 1,
            proxy: 0,
        };
        let mut timers = Timers::new(Duration::from_micros(50));
        timers.at(70, Timer::Look);
        timers.limit(10, ticket);
        timers.at(20, Timer::Edge(3));
        let order: Vec<_> = std::iter::from_fn(|| timers.pop()).collect();
        assert_eq!(
            order,
            [
                (20, Timer::Edge(3)),
                (60, Timer::Limit(ticket)),
                (70, Timer::Look)
            ]
        );
        assert_eq!(timers.due(), u64::MAX);
    }
}
