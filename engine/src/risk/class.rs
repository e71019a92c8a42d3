//! What is kept of one route class at one endpoint.

use crate::baseline::Baseline;
use crate::cusum::Batch;
use crate::moment::Moment;

use super::memory::Memory;
use super::watch::{FailureWatch, SlowTick, SlowWatch};

/// Risk from which on nothing is learned.
const RELEASE: f64 = 0.15;

/// One route class at one endpoint.
#[derive(Debug)]
pub struct ClassState {
    /// Its healthy days.
    pub baseline: Baseline,
    /// Its failures.
    pub failures: FailureWatch,
    /// Its slowness.
    pub slow: SlowWatch,
    /// Its own risk, believed only while it is sick alone.
    pub memory: Memory,
    /// Whether it is sick by itself, and so left out of the endpoint's judgement.
    pub alone: bool,
    /// This tick's attempts.
    pub attempts: Batch,
    /// This tick's latencies against the baseline.
    pub tick: SlowTick,
    /// Attempts and latencies since somebody at this endpoint became suspect, fading.
    pub inquest: Inquest,
}

/// Counts for the question whether a class is as sick as another one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inquest {
    /// Attempts, and those that failed.
    pub attempts: Batch,
    /// Served, and those in the slow tail.
    pub near: Batch,
    /// How many of them were to be expected there.
    pub near_expected: f64,
}

impl ClassState {
    /// A class that was never seen before.
    pub fn new(now: Moment) -> Self {
        Self {
            baseline: Baseline::default(),
            failures: FailureWatch::default(),
            slow: SlowWatch::default(),
            memory: Memory::new(now),
            alone: false,
            attempts: Batch::default(),
            tick: SlowTick::default(),
            inquest: Inquest::default(),
        }
    }

    /// The larger of the sums of its detectors, nats.
    pub fn score(&self) -> f64 {
        self.failures.score().max(self.slow.score())
    }

    /// Whether what it does now may be learned.
    pub fn is_well(&self) -> bool {
        !self.alone && self.memory.risk() <= RELEASE
    }

    /// Forgets what is going on, not what is usual.
    pub fn reset(&mut self) {
        self.failures.reset();
        self.slow.reset();
        self.inquest = Inquest::default();
    }
}

impl Inquest {
    /// Lets time pass and adds a tick.
    pub fn add(&mut self, keep: f64, attempts: Batch, tick: &SlowTick) {
        self.attempts.decay(keep);
        self.near.decay(keep);
        self.near_expected *= keep;
        self.attempts.add(attempts);
        self.near.add(tick.near);
        self.near_expected += tick.near_expected;
    }
}
