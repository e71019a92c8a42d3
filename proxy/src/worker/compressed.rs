//! Answers that are compressed, counted.

use std::io;

use super::Worker;
use crate::policy::compress::{Coding, Effort, Encoder};

impl Worker {
    /// What compresses an answer; `None` where too many are being compressed.
    ///
    /// # Errors
    /// The codec has no memory.
    pub fn encoder(&mut self, coding: Coding, effort: Effort) -> io::Result<Option<Encoder>> {
        let encoder = Encoder::new(coding, effort, &self.encoders)?;
        let label = encoder
            .as_ref()
            .map_or("busy", |encoder| encoder.coding().label());
        self.policed.compressed.add(label, 1);
        Ok(encoder)
    }

    /// The body of an answer has been compressed to its end: bytes as they came, and as they went.
    pub fn compressed(&mut self, counts: (u64, u64)) {
        self.policed.compressed(counts);
    }
}
