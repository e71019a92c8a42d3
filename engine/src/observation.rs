//! What one tick saw of one endpoint: the buffer that a worker fills and the engine reads.
//!
//! The same type is filled on the request path (one per worker and endpoint, owned by the worker, no lock, no atomic, no
//! allocation once a route class has been seen), merged over the workers, and filled again by the simulator. Latency is
//! kept per route class, never as one mean per endpoint: a mean hides one request in a hundred that takes ten seconds,
//! and a change in the mix of requests would look like a change in the endpoint.

use std::time::Duration;

use crate::in_flight::Ages;
pub use crate::latencies::LATENCY_MAX_US;
use crate::latencies::Latencies;
use crate::outcome::{Class, Outcome, ROUTE_CLASSES, RouteClass};

/// Octaves of in-flight requests by which latency is told apart: 0, 1, 2-3, 4-7, 8-15, 16-31, 32-63, 64 and more.
pub const LOAD_OCTAVES: usize = 8;

/// Latencies and failures of one route class at one endpoint.
#[derive(Clone, Debug, Default)]
pub struct ClassTally {
    /// Attempts that were answered, or failed; cancelled ones not counted.
    pub total: u32,
    /// Those of them that failed.
    pub bad: u32,
    /// Microseconds to the first byte of those that were served. 16 buckets per octave.
    pub latency: Latencies,
}

/// Latency by the load that the request met, to tell "slow because loaded" from "slow because sick".
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadTally {
    /// Requests that were served.
    pub served: u32,
    /// Sum over them of the natural logarithm of their latency in microseconds.
    pub sum_ln_us: f64,
}

/// Answers to active probes (health checks) since the last tick.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProbeTally {
    /// Probes that passed.
    pub passed: u32,
    /// Probes that failed.
    pub failed: u32,
}

/// What `TCP_INFO` said of the sampled connections to one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetworkTally {
    /// Connections sampled.
    pub connections: u32,
    /// Sum of smoothed round-trip times, microseconds.
    pub rtt_us: u64,
    /// Sum of round-trip time variations, microseconds.
    pub rtt_var_us: u64,
    /// Segments sent since the connections' previous samples.
    pub segments_out: u64,
    /// Segments sent again since the connections' previous samples.
    pub retransmits: u64,
}

/// What the endpoint said of itself in an ORCA load report. Fractions may exceed 1 where the endpoint is overcommitted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ResourceReport {
    /// CPU or application utilisation, 1 = full.
    pub utilization: Option<f64>,
    /// Memory utilisation, 1 = full.
    pub memory: Option<f64>,
    /// Requests per second that the endpoint serves.
    pub rps: Option<f64>,
    /// Errors per second that the endpoint counts.
    pub eps: Option<f64>,
}

/// One endpoint, one tick.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// Ends of attempts, by [`Class`] in the order of [`Class::ALL`].
    pub counts: [u32; Class::COUNT],
    /// Per route class; `None` until its first request.
    pub classes: [Option<Box<ClassTally>>; ROUTE_CLASSES],
    /// Per octave of in-flight requests at the start.
    pub loads: [LoadTally; LOAD_OCTAVES],
    /// Attempts begun.
    pub started: u32,
    /// Attempts in flight at the end of the tick, until the last byte.
    pub in_flight: u32,
    /// Attempts that wait for their first byte at the end of the tick, by age.
    pub ages: Ages,
    /// Active probes.
    pub probes: ProbeTally,
    /// Network samples.
    pub network: NetworkTally,
    /// The newest report of the endpoint about itself, if one came in this tick.
    pub resource: Option<ResourceReport>,
}

impl Observation {
    /// Counts one finished attempt.
    #[expect(
        clippy::indexing_slicing,
        reason = "each index is below the length of its array by its type"
    )]
    pub fn record(&mut self, outcome: &Outcome) {
        self.counts[outcome.class as usize] += 1;
        if outcome.class == Class::Cancelled {
            return;
        }
        let tally = self.classes[outcome.route_class.index()].get_or_insert_with(Box::default);
        tally.total += 1;
        tally.bad += u32::from(outcome.class.is_bad());
        if outcome.class.is_served() {
            let us = micros(outcome.latency);
            tally.latency.record(us);
            let load = &mut self.loads[load_octave(outcome.in_flight_at_start)];
            load.served += 1;
            load.sum_ln_us += (us as f64).ln();
        }
    }

    /// The tally of a route class, if the class has been seen.
    #[expect(clippy::indexing_slicing, reason = "a class's index is below their number")]
    pub fn class(&self, class: RouteClass) -> Option<&ClassTally> {
        self.classes[class.index()].as_deref()
    }

    /// How many attempts ended in `class`.
    #[expect(clippy::indexing_slicing, reason = "a class is below their number")]
    pub fn count(&self, class: Class) -> u32 {
        self.counts[class as usize]
    }

    /// Adds what another worker saw of the same endpoint in the same tick.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            if let Some(theirs) = theirs.as_deref().filter(|t| t.total > 0) {
                mine.get_or_insert_with(Box::default).merge(theirs);
            }
        }
        for (mine, theirs) in self.loads.iter_mut().zip(other.loads) {
            mine.served += theirs.served;
            mine.sum_ln_us += theirs.sum_ln_us;
        }
        self.started += other.started;
        self.in_flight += other.in_flight;
        self.ages.merge(&other.ages);
        self.probes.passed += other.probes.passed;
        self.probes.failed += other.probes.failed;
        self.network.merge(&other.network);
        self.resource = other.resource.or(self.resource);
    }

    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        // By name, so that nothing that is added is forgotten here.
        let Self {
            counts,
            classes,
            loads,
            started,
            in_flight,
            ages,
            probes,
            network,
            resource,
        } = self;
        let used = classes.iter_mut().flatten().filter(|tally| tally.total > 0);
        used.for_each(|tally| tally.clear());
        *counts = Default::default();
        *loads = Default::default();
        (*started, *in_flight) = (0, 0);
        *ages = Ages::default();
        *probes = ProbeTally::default();
        *network = NetworkTally::default();
        *resource = None;
    }
}

impl ClassTally {
    fn merge(&mut self, other: &Self) {
        self.total += other.total;
        self.bad += other.bad;
        self.latency.merge(&other.latency);
    }

    fn clear(&mut self) {
        self.total = 0;
        self.bad = 0;
        self.latency.clear();
    }
}

impl NetworkTally {
    /// Adds other samples.
    pub fn merge(&mut self, other: &Self) {
        self.connections += other.connections;
        self.rtt_us += other.rtt_us;
        self.rtt_var_us += other.rtt_var_us;
        self.segments_out += other.segments_out;
        self.retransmits += other.retransmits;
    }
}

/// A latency in whole microseconds, 1 to [`LATENCY_MAX_US`].
fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros())
        .unwrap_or(LATENCY_MAX_US)
        .clamp(1, LATENCY_MAX_US)
}

/// 0 for none in flight, then one more per doubling.
fn load_octave(in_flight: u32) -> usize {
    ((u32::BITS - in_flight.leading_zeros()) as usize).min(LOAD_OCTAVES - 1)
}
