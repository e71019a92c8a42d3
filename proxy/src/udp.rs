//! Datagrams that are carried and not read, each client's as one session.
//!
//! A session is picked a place once, by the same table as requests, and has a connected socket of its own to it: what the
//! kernel delivers there comes from the endpoint, and goes to the client who has asked and to nobody else. What is counted
//! at the endpoint are its exchanges ([`crate::worker::datagrams`]).
//!
//! All sessions of a listening socket are one future's, and nobody else's: [`mod@serve`] waits for its clients, for its
//! endpoints, and for time, and does a bounded turn of whatever there is; then the other tasks of the worker have theirs.
//! The endpoints' sockets are watched by an event queue of its own, which is one file to the runtime: a session needs no
//! task, no waker, and no memory but its own. Read in this order:
//!
//! - [`mod@table`]: who has a session, and who ends next;
//! - [`mod@serve`]: a listening socket, from its first datagram to its last;
//! - [`sessions`]: what becomes of a datagram, of an answer, and of time that passes;
//! - [`session`]: one session, and what is told of it;
//! - [`terms`]: what the listener's keys say of all of this;
//! - [`way`]: who is picked, a socket to him, and what its errors mean.
//!
//! UDP says nothing of who has sent a datagram: whoever can write another one's address into it gets him an answer that he
//! has not asked for. A proxy can bound that, and no more.

mod serve;
mod session;
mod sessions;
pub mod table;
mod terms;
mod way;

pub(crate) use self::serve::Server;
