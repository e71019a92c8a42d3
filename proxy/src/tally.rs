//! What users saw, counted per cluster: answers by status, latency, failovers and why requests were not repeated.
//!
//! Filled by a worker beside its recorder and harvested with it. Labels are a closed set in the code, so the number of
//! time series is bounded by the configuration.

use std::time::Duration;

use foreshade_engine::observation::LATENCY_MAX_US;
use hdrhistogram::Histogram;

use crate::access_log::Times;

/// Counters of one cluster.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Answers to users by hundreds of the status; 0 where the user got none.
    pub answers: [u64; 6],
    /// Microseconds from the request's head to the first byte of the answer, as the user saw it.
    pub latency: Histogram<u64>,
    /// Where the time of requests went, in the order of [`PHASES`].
    pub phases: [Duration; PHASES.len()],
    /// Requests that went to another endpoint, by what had failed.
    pub moved: Counts,
    /// Failed requests that stayed failed, by why they did not move.
    pub kept: Counts,
    /// Attempts by why their endpoint was chosen.
    pub picked: Counts,
    /// Answers to users who stay with their slot, by what became of that.
    pub stuck: Counts,
    /// Copies for a mirror that were not made or were given up, by why.
    pub unmirrored: Counts,
    /// Bytes of connections that were only carried: from clients, and to them.
    pub carried: (u64, u64),
    /// Datagrams: from clients, and to them.
    pub datagrams: (u64, u64),
}

/// Phases of a request's time, as lines of the access log have them.
pub const PHASES: [&str; 5] = ["queue", "retries", "connect", "wait", "transfer"];

/// A few counters by label. A vector, because there are about ten labels and a map would cost more.
#[derive(Clone, Debug, Default)]
pub struct Counts(Vec<(&'static str, u64)>);

impl Counts {
    /// Counts one.
    pub fn add(&mut self, label: &'static str, n: u64) {
        match self.0.iter_mut().find(|(l, _)| *l == label) {
            Some((_, count)) => *count += n,
            None => self.0.push((label, n)),
        }
    }

    /// All labels and their counts.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Adds another worker's counts.
    pub fn merge(&mut self, other: &Self) {
        other.iter().for_each(|(label, n)| self.add(label, n));
    }

    /// Sets all counts to zero and keeps their memory.
    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(|(_, n)| *n = 0);
    }
}

impl Default for Tally {
    #[expect(
        clippy::expect_used,
        reason = "the bounds are constants, checked by every test that makes a tally"
    )]
    fn default() -> Self {
        let latency =
            Histogram::new_with_bounds(1, LATENCY_MAX_US, 1).expect("invariant: constant bounds are valid");
        Self {
            answers: [0; 6],
            latency,
            phases: Default::default(),
            moved: Counts::default(),
            kept: Counts::default(),
            picked: Counts::default(),
            stuck: Counts::default(),
            unmirrored: Counts::default(),
            carried: (0, 0),
            datagrams: (0, 0),
        }
    }
}

impl Tally {
    /// A user got an answer, or none (`status` 0).
    pub fn answered(&mut self, status: u16, latency: Option<Duration>) {
        if let Some(count) = self.answers.get_mut(usize::from(status / 100).min(5)) {
            *count += 1;
        }
        if let Some(latency) = latency {
            self.latency
                .saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// A request's time was spent so.
    pub fn spent(&mut self, times: &Times) {
        let spent = [
            times.queue,
            times.retries,
            times.connect,
            times.wait,
            times.transfer,
        ];
        for (sum, time) in self.phases.iter_mut().zip(spent) {
            *sum = sum.saturating_add(time.unwrap_or_default());
        }
    }

    /// Adds another worker's counters.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.phases.iter_mut().zip(other.phases) {
            *mine = mine.saturating_add(theirs);
        }
        for (mine, theirs) in self.answers.iter_mut().zip(other.answers) {
            *mine += theirs;
        }
        // Both histograms have the same constant bounds, so the sum always fits.
        let _ = self.latency.add(&other.latency);
        self.moved.merge(&other.moved);
        self.kept.merge(&other.kept);
        self.picked.merge(&other.picked);
        self.stuck.merge(&other.stuck);
        self.unmirrored.merge(&other.unmirrored);
        self.carried.0 += other.carried.0;
        self.carried.1 += other.carried.1;
        self.datagrams.0 += other.datagrams.0;
        self.datagrams.1 += other.datagrams.1;
    }

    /// Sets all counters to zero and keeps their memory.
    pub fn clear(&mut self) {
        self.answers = [0; 6];
        self.latency.reset();
        self.phases = Default::default();
        self.moved.clear();
        self.kept.clear();
        self.picked.clear();
        self.stuck.clear();
        self.unmirrored.clear();
        self.carried = (0, 0);
        self.datagrams = (0, 0);
    }
}
