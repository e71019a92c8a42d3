//! The harness of the whole-system tests: real processes, real sockets, fakes named after the real things.
//!
//! Tests are one file per promise, in `tests/tests`. None of them judges by the clock: a test waits for something to
//! become true, with a limit that only a broken build reaches.

#![expect(
    clippy::expect_used,
    reason = "a harness that cannot start has to fail its test, and to say at what"
)]

pub mod certificates;
pub mod collector;
pub mod controller;
pub mod datagrams;
pub mod dns;
pub mod http2;
pub mod nginx;
pub mod pebble;
pub mod prometheus;
pub mod promtool;
pub mod proxy;
pub mod recording;
pub mod strangers;
pub mod tidy;
pub mod tls_server;
pub mod wire;
