//! A new process takes the place of this one, and nobody who uses the proxy notices.
//!
//! Both are there for a moment, and the listening sockets are open in both: the *same* sockets, passed as descriptors
//! (`SCM_RIGHTS`), so that a connection that waits to be accepted waits for either. Each worker has a listening
//! socket of its own on each address (`SO_REUSEPORT`), with a queue of its own; to close one of them resets what is
//! in its queue, which is how others lose connections in an upgrade. So none is closed: where the new process has
//! fewer workers, they share what is left over, and where it has more, it opens some ([`crate::server::listen`]).
//!
//! ```text
//! successor                       predecessor
//!    | ---- hello, what it needs ----> |  no reload from here on
//!    | <--- welcome, the sockets ----- |  still serves alone
//!    | ---- prepared ----------------> |  nothing is left that could fail
//!    | <--- state -------------------- |  what is known of the endpoints, as of now
//!    | ---- serving -----------------> |  both accept
//!    | <--- farewell ----------------- |  accepts no more, finishes what it has begun
//! ```
//!
//! Until it says farewell the predecessor has changed nothing: whatever goes wrong before that, it goes on as if
//! nobody had asked. A successor whose line breaks before it goes on alone: the other one has died. One that only
//! hears nothing gives up, because the other one may still serve. Each step has a time limit. Only root and the user
//! of the process itself are listened to.
//!
//! What is carried over is what was learnt: shifts, risks, baselines, overrides and advisories ([`words::State`]).
//! What is not: counters, limits of rate, tickets of TLS, connections. They end with the process that has them.

mod heirlooms;
pub mod line;
pub mod predecessor;
pub mod start;
pub mod successor;
mod talk;
pub mod words;

use std::time::Duration;

/// How long the other side may take for what takes it milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long a new process may take to read its configuration and to prepare, names and certificates included.
pub const PREPARING_MAX: Duration = Duration::from_secs(60);

/// How long all of it may take: what an operator waits for.
pub const UPGRADE_MAX: Duration = Duration::from_secs(100);
