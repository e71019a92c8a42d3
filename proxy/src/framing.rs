//! Whether the bytes of a client are one HTTP/1.1 message, and where it ends: decided before anything else looks at them.
//!
//! A request can only be smuggled past a proxy whose reading of it differs from that of the server behind. So nothing here
//! repairs, guesses or tolerates: what RFC 9112 does not clearly allow, and what is known to be read in two ways, is a
//! [`Refusal`]. What passes is a subset of what any careful parser takes, with the same meaning in each.
//!
//! Pure: bytes in, verdict out; no IO, no clock, no allocation, and no knowledge of who reads the socket. [`HeadCheck`]
//! takes the head as it grows, line by line and each byte once; [`Body`] then follows the bytes of the body, so that
//! whoever feeds a parser knows which bytes belong to this message and which to the next one.

mod bytes;

mod refusal;

mod head;

mod target;

mod fields;

mod body;

mod chunked;

mod http2;

use std::time::Duration;

pub use self::body::Body;
pub use self::head::{Head, HeadCheck};
pub use self::http2::translate;
pub use self::refusal::Refusal;

/// How the end of a message's body is found. Source: RFC 9112 section 6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// It has this many bytes.
    Length(u64),
    /// It is chunked.
    Chunked,
}

/// How much a client may ask for, and how long he may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, from the request line to the empty line.
    pub head_bytes: usize,
    /// Header lines of a head, and trailer lines of a body.
    pub fields: u32,
    /// Bytes of a request target.
    pub target_bytes: usize,
    /// Bytes of a body; any number where `None`. Bodies are streamed, so a large one costs the proxy no memory.
    pub body_bytes: Option<u64>,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// Waiting for a client's next bytes of a body, summed up, until the bytes that came meanwhile are held against
    /// [`Limits::rate`].
    pub body_timeout: Duration,
    /// The same for a client that does not take his answer.
    pub answer_timeout: Duration,
    /// Bytes per second that a client has to move while he is waited for.
    pub rate: u64,
    /// Requests of one connection; its last answer says that it closes.
    pub requests: u32,
    /// Connections at one time, in all workers.
    pub connections: u32,
    /// Connections in their TLS handshake.
    pub handshakes: u32,
    /// Connections from one address (IPv6: from one /64).
    pub connections_per_client: u32,
    /// Whether [`Limits::connections_per_client`] is not for loopback, private and link-local addresses: behind those
    /// there usually is a load balancer with many users.
    pub exempt_private: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            fields: 100,
            target_bytes: 8 * 1024,
            body_bytes: None,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(60),
            rate: 500,
            requests: 10_000,
            connections: 50_000,
            handshakes: 5_000,
            connections_per_client: 1_000,
            exempt_private: true,
        }
    }
}

#[cfg(test)]
mod tests;
