//! What policies did, counted: a worker's part of it, and the sum.

use super::{Findings, Reason};
use crate::tally::Counts;

/// What policies did since it was counted last.
#[derive(Clone, Debug, Default)]
pub struct Policed {
    /// Requests that were refused, by why.
    pub refused: Counts,
    /// Requests that would have been refused if it had not only been counted, by why.
    pub spared: Counts,
    /// Keys that limits of rates had to forget because too many were in use.
    pub forgotten_keys: u64,
    /// What was said by those who are asked whether a request may go on.
    pub authorized: Counts,
    /// Faults that were made on purpose, by which.
    pub faults: Counts,
    /// Answers that were compressed, by their coding; `busy` for those that were not, because there were too many.
    pub compressed: Counts,
    /// Bytes of those, as they came and as they went.
    pub compressed_bytes: [u64; 2],
}

impl Policed {
    /// A request was refused.
    pub fn refuse(&mut self, reason: Reason) {
        self.refused.add(reason.label(), 1);
    }

    /// Takes note of what was found out about a request.
    pub fn note(&mut self, findings: &Findings) {
        if findings.spared > 0 {
            self.spared.add(Reason::RateLimited.label(), findings.spared);
        }
        self.forgotten_keys += findings.forgotten_keys;
        for said in &findings.authorized {
            self.authorized.add(said, 1);
        }
        for fault in &findings.faults {
            self.faults.add(fault, 1);
        }
    }

    /// The body of an answer is compressed to its end: bytes as they came, and as they went.
    pub fn compressed(&mut self, (came, went): (u64, u64)) {
        for (sum, bytes) in self.compressed_bytes.iter_mut().zip([came, went]) {
            *sum += bytes;
        }
    }

    /// Adds what others counted.
    pub fn merge(&mut self, other: &Self) {
        self.refused.merge(&other.refused);
        self.spared.merge(&other.spared);
        self.forgotten_keys += other.forgotten_keys;
        self.authorized.merge(&other.authorized);
        self.faults.merge(&other.faults);
        self.compressed.merge(&other.compressed);
        self.compressed(other.compressed_bytes.into());
    }

    /// Sets everything to zero and keeps its memory.
    pub fn clear(&mut self) {
        self.refused.clear();
        self.spared.clear();
        self.forgotten_keys = 0;
        self.authorized.clear();
        self.faults.clear();
        self.compressed.clear();
        self.compressed_bytes = [0; 2];
    }
}
