//! What a listener and a route ask of requests holds over real sockets, whichever engine serves them: who is let in,
//! how often, how many at once, by whose pages, with which password, and with whose token.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod access;
mod authorize;
mod basic;
mod compress;
mod cors;
mod faults;
mod gate;
mod jwt;
mod maintenance;
mod pages;
mod rate;
mod stand;
mod sticky;
mod ways;
