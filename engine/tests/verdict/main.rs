//! What the verdict promises, checked twice: exactly, by dynamic programming over all ways in which events can fall
//! ([`tables`]), and by ten thousand simulated rollouts each where the world is not as simple as that ([`runs`]).
//!
//! The oracle walks through the product's own e-values, so what it computes are the product's operating
//! characteristics, not those of a copy. That the e-values are the right ones is checked where they are made, against
//! plain products of probabilities.
#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "counts of a simulation are small, and a test that cannot go on has failed"
)]

mod chance;
mod oracle;
mod runs;
mod tables;
mod world;
