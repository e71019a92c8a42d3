//! What a listener and a route ask of requests holds over real sockets, whichever engine serves them: who is let in, and
//! how often.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod access;
mod rate;
mod stand;
