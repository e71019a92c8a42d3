//! What a listener and a route ask of requests holds over real sockets, whichever engine serves them: who is let in,
//! how often, and how many at once.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod access;
mod gate;
mod rate;
mod stand;
