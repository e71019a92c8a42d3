//! Connections that are carried and not read: TCP, and TLS by the name that is asked for.
//!
//! A connection is one request, to the policy: it is admitted, picked a place by the same table, counted in flight, and
//! charged to its endpoint as it ends ([`crate::worker`]). What stands here instead of `http` and `route` is how bytes
//! come across. Read in this order:
//!
//! - [`mod@serve`]: from an accepted socket to a client who is let in and known, and of TLS to the name he asks for
//!   ([`hello`], [`names`]);
//! - [`carry`]: attempts, until there is a connection to an endpoint, and what the policy is told from there on;
//! - [`pump`]: both directions, with back-pressure, and half-closed where one side has said everything;
//! - [`sealed`]: one direction where TLS is spoken with the endpoint;
//! - [`lend`](crate::lend): what bytes pass through: a buffer, or a pipe in the kernel for what is large. Both are the
//!   worker's, and borrowed while bytes move: a connection that rests holds none.
//!
//! A connection stays with its endpoint once a byte of it has been sent. So a shift moves those that come, and those that
//! are there end in their own time; nothing is cut to move it.

mod carry;
pub mod hello;
mod names;
mod pump;
mod sealed;
mod serve;
mod told;

use std::time::Duration;

pub use self::names::ServerNames;
pub(crate) use self::serve::serve;

/// What the engine takes for the longest time that a first byte may take where nobody sets one.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(15);
