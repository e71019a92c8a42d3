//! An endpoint's queue: processor sharing over a number of cores.
//!
//! Up to `cores` requests run at full speed, more share the processor evenly. That is what a threaded or evented
//! application does, and unlike a plain delay it punishes whoever sends it more than it can carry: the loop "shift,
//! the sick one recovers, return, it falls ill again" only exists in a model with a queue. A fault that makes requests
//! *wait* (for a lock, a disk, something further behind) costs no processor, so that the wait follows the work.
//!
//! All running requests have the same speed, so one virtual clock per endpoint is enough: a request that arrives at
//! virtual time v with work w leaves at v + w, whatever comes or goes meanwhile. Each event costs one heap operation.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::fault::{Failure, Release};

/// Which attempt of which request: its proxy, its place in the proxy's table and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    pub(super) flight: u32,
    /// Counted over the life of the place, and around: a place sees fewer attempts than this can tell apart within the
    /// longest time that anything waits.
    pub(super) attempt: u16,
    pub(super) proxy: u16,
}

/// A request at the endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) ticket: Ticket,
    pub(super) post: bool,
    pub(super) answer: Answer,
    /// Microseconds that it waits for something else after its work.
    pub(super) wait_us: u64,
}

/// How the endpoint ended a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    /// Its last byte comes so many microseconds after its first.
    Ok {
        body_us: u32,
    },
    Failed(Failure),
    Refused,
}

impl Answer {
    pub(super) const AT_ONCE: Self = Self::Ok { body_us: 0 };
}

/// A request that is worked on. The one that ends first is the greatest, because heaps have that on top.
struct Running {
    /// Virtual time of its end. The bits of floats that are not negative are in the order of the floats.
    end: u64,
    job: Job,
}

impl Ord for Running {
    fn cmp(&self, other: &Self) -> Ordering {
        // No two have the same ticket.
        let ties = || other.job.ticket.cmp(&self.job.ticket);
        other.end.cmp(&self.end).then_with(ties)
    }
}

impl PartialOrd for Running {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Running {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Running {}

pub(super) struct Server {
    cores: f64,
    /// Share of the cores that is left, 0 while paused.
    capacity: f64,
    /// Microseconds of work that each running request has been given since the start of the simulation.
    virtual_us: f64,
    updated_us: u64,
    running: BinaryHeap<Running>,
    /// What hangs, and whether it must not be repeated.
    hung: Vec<(Ticket, bool)>,
}

impl Server {
    pub(super) fn new(cores: f64) -> Self {
        Self {
            cores,
            capacity: 1.0,
            virtual_us: 0.0,
            updated_us: 0,
            running: BinaryHeap::with_capacity(256),
            hung: Vec::new(),
        }
    }

    /// Starts on a request that needs `work_us`.
    pub(super) fn accept(&mut self, now_us: u64, work_us: f64, job: Job) {
        self.advance(now_us);
        let end = (self.virtual_us + work_us.max(0.0)).to_bits();
        self.running.push(Running { end, job });
    }

    /// Accepts a request and lets it hang.
    pub(super) fn hang(&mut self, ticket: Ticket, post: bool) {
        self.hung.push((ticket, post));
    }

    /// Lets everything hang that is being worked on.
    pub(super) fn hang_all(&mut self, now_us: u64) {
        for job in self.drop_all(now_us) {
            self.hung.push((job.ticket, job.post));
        }
    }

    /// Takes away what is being worked on.
    pub(super) fn drop_all(&mut self, now_us: u64) -> Vec<Job> {
        self.advance(now_us);
        self.running.drain().map(|running| running.job).collect()
    }

    /// Requests that are being worked on.
    pub(super) fn crowd(&self) -> usize {
        self.running.len()
    }

    /// Requests that are being worked on, for each core that is left.
    pub(super) fn crowding(&self) -> f64 {
        self.running.len() as f64 / (self.cores * self.capacity).max(f64::MIN_POSITIVE)
    }

    /// Lets go of what hangs, as `release` says.
    pub(super) fn release(
        &mut self,
        now_us: u64,
        release: Release,
        mut work_us: impl FnMut() -> f64,
        mut reset: impl FnMut(Ticket, bool),
    ) {
        for (ticket, post) in std::mem::take(&mut self.hung) {
            match release {
                Release::Answered => {
                    let job = Job {
                        ticket,
                        post,
                        answer: Answer::AT_ONCE,
                        wait_us: 0,
                    };
                    self.accept(now_us, work_us(), job);
                }
                Release::Reset => reset(ticket, post),
            }
        }
    }

    /// Changes the share of the cores that is left.
    pub(super) fn set_capacity(&mut self, now_us: u64, capacity: f64) {
        self.advance(now_us);
        self.capacity = capacity;
    }

    /// When the next request ends, if nothing else happens before.
    pub(super) fn due(&self) -> u64 {
        let Some(Running { end, .. }) = self.running.peek() else {
            return u64::MAX;
        };
        let speed = self.speed();
        if speed <= 0.0 {
            return u64::MAX;
        }
        let wait_us = ((f64::from_bits(*end) - self.virtual_us) / speed).max(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to zero, and simulations last minutes"
        )]
        let whole_us = wait_us as u64;
        // Rounded up, without a call for it.
        let begun_us = u64::from((whole_us as f64) < wait_us);
        self.updated_us.saturating_add(whole_us).saturating_add(begun_us)
    }

    /// Takes the request whose work ends at `now_us`, which is [`Server::due`].
    pub(super) fn finish(&mut self, now_us: u64) -> Option<Job> {
        self.advance(now_us);
        self.running.pop().map(|running| running.job)
    }

    fn advance(&mut self, now_us: u64) {
        let passed = now_us.saturating_sub(self.updated_us);
        self.virtual_us += passed as f64 * self.speed();
        self.updated_us = self.updated_us.max(now_us);
    }

    /// Work per microsecond that each running request gets.
    fn speed(&self) -> f64 {
        let (cores, running) = (self.cores * self.capacity, self.running.len() as f64);
        // Mostly there are enough, and nothing has to be divided.
        if cores >= running.max(1.0) {
            1.0
        } else {
            (cores / running.max(1.0)).min(1.0)
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

    fn job(flight: u32) -> Job {
        Job {
            ticket: ticket(flight),
            post: false,
            answer: Answer::AT_ONCE,
            wait_us: 0,
        }
    }

    fn drain(server: &mut Server) -> Vec<(u64, u32)> {
        let mut ends = Vec::new();
        while server.due() < u64::MAX {
            let at = server.due();
            ends.push((at, server.finish(at).unwrap().ticket.flight));
        }
        ends
    }

    #[test]
    fn requests_within_the_cores_do_not_meet() {
        let mut server = Server::new(2.0);
        server.accept(0, 1000.0, job(1));
        server.accept(500, 1000.0, job(2));
        assert_eq!(drain(&mut server), [(1000, 1), (1500, 2)]);
    }

    #[test]
    fn more_requests_than_cores_share_them_evenly() {
        let mut server = Server::new(1.0);
        server.accept(0, 1000.0, job(1));
        server.accept(0, 2000.0, job(2));
        // Both at half speed until 2000, then the second alone.
        assert_eq!(drain(&mut server), [(2000, 1), (3000, 2)]);
    }

    #[test]
    fn a_pause_delays_what_had_begun_and_a_lost_core_slows_it() {
        let mut server = Server::new(1.0);
        server.accept(0, 1000.0, job(1));
        server.set_capacity(400, 0.0);
        assert_eq!(server.due(), u64::MAX);
        server.set_capacity(5_000, 0.5);
        assert_eq!(drain(&mut server), [(6_200, 1)]);
    }

    #[test]
    fn the_hung_are_served_or_reset_when_released() {
        let mut server = Server::new(4.0);
        server.hang(ticket(1), false);
        assert_eq!(server.due(), u64::MAX);
        server.release(9_000, Release::Answered, || 1000.0, |_, _| unreachable!());
        assert_eq!(drain(&mut server), [(10_000, 1)]);
        server.hang(ticket(2), true);
        let mut reset = Vec::new();
        server.release(
            20_000,
            Release::Reset,
            || 1000.0,
            |t, post| reset.push((t.flight, post)),
        );
        assert_eq!(reset, [(2, true)]);
    }
}
