//! How an attempt can fail, and all that follows from it: in one table.
//!
//! A failure decides four things: what the endpoint is charged with, at which stage the request was (and so whether it
//! may go elsewhere), what the client is told if it may not, and under which label it is counted. One exhaustive match
//! keeps them together, so that a new failure cannot be forgotten in one of them.

use foreshade_engine::failover::Stage;
use foreshade_engine::outcome::Class;

use crate::framing::Refusal;
use crate::tls::handshakes::HandshakeFailure;

/// Why an attempt brought no answer, or an answer that is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens at the endpoint.
    Refused,
    /// No connection within the time for it, or no way there.
    ConnectFailed,
    /// A connection, and no TLS on it.
    Handshake(HandshakeFailure),
    /// A kept connection was dead, and not one byte of an answer came.
    StaleConnection,
    /// The connection broke before the answer's head was complete.
    Reset,
    /// The connection broke before anything was sent on it.
    ResetUnused,
    /// The endpoint refused the stream, and says that it has done nothing with it.
    RefusedStream,
    /// The endpoint takes no more on this connection, and says that it has done nothing with the stream.
    GoneAway,
    /// As many streams are under way at the endpoint as there may be.
    NoStream,
    /// The endpoint sent what is no HTTP.
    Garbage,
    /// No first byte within the endpoint's usual time, and another endpoint was willing.
    AttemptTimeout,
    /// No first byte within the route's time.
    RouteTimeout,
    /// No answer within the time that the client himself grants.
    Deadline,
    /// The answer's status asks for another try.
    Status(u16, /* Retry-After given */ bool),
    /// The answer broke off after its head.
    Truncated,
    /// The client went away.
    ClientGone,
    /// The client's request broke the rules after its head.
    ClientBroke,
    /// The client's body was refused while it came, or his answer given up.
    ClientRefused(Refusal),
    /// The client did not send its request's body in time.
    ClientSlow,
    /// No endpoint is left to serve.
    NobodyLeft,
    /// A carried connection, or a call, has rested for too long.
    Idle,
    /// A carried connection has lived for as long as one may.
    Lifetime,
    /// We broke a rule of our own.
    Internal,
}

/// What a client is told of a status that no endpoint gave.
pub fn sentence(status: u16) -> &'static str {
    match status {
        400 => "the request breaks the rules of HTTP",
        404 => "no route for this request",
        408 => "the request did not arrive in time",
        502 => "the endpoint did not answer",
        503 => "no endpoint is left to serve this request",
        504 => "the endpoint did not answer in time",
        _ => "the request could not be served",
    }
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// What the endpoint is charged with.
    pub class: Class,
    /// At which stage the request was; `None` where going elsewhere is out of the question.
    pub stage: Option<Stage>,
    /// What the client is told where the request cannot go elsewhere; 0 where there is nobody to tell.
    pub status: u16,
    /// The label in metrics and logs.
    pub reason: &'static str,
}

impl Failure {
    /// What follows.
    pub fn consequence(self) -> Consequence {
        use Failure::{
            AttemptTimeout, ClientBroke, ClientGone, ClientRefused, ClientSlow, ConnectFailed, Deadline,
            Garbage, GoneAway, Handshake, Idle, Internal, Lifetime, NoStream, NobodyLeft, Refused,
            RefusedStream, Reset, ResetUnused, RouteTimeout, StaleConnection, Status, Truncated,
        };
        let sent = Some(Stage::Sent);
        let (class, stage, status, reason) = match self {
            Refused => (Class::Refused, Some(Stage::NeverSent), 502, "refused"),
            ConnectFailed => (
                Class::ConnectFailed,
                Some(Stage::NeverSent),
                502,
                "connect_failed",
            ),
            Handshake(_) => (
                Class::ConnectFailed,
                Some(Stage::NeverSent),
                502,
                "handshake_failed",
            ),
            // Bytes may have been written before the end was seen, so the careful reading applies.
            StaleConnection => (
                Class::Reset,
                Some(Stage::StaleConnection { written: true }),
                502,
                "stale_connection",
            ),
            Reset => (Class::Reset, sent, 502, "reset"),
            ResetUnused => (Class::Reset, Some(Stage::NeverSent), 502, "reset_unused"),
            // It says that it is full, as with 429.
            RefusedStream => (Class::Shed, Some(Stage::NeverSent), 503, "refused_stream"),
            NoStream => (Class::Shed, Some(Stage::NeverSent), 503, "no_stream"),
            // An endpoint that is restarted in good order has failed nobody; the next connection may be to the same.
            GoneAway => (
                Class::Cancelled,
                Some(Stage::StaleConnection { written: false }),
                503,
                "gone_away",
            ),
            Garbage => (Class::AppError, sent, 502, "garbage"),
            AttemptTimeout => (Class::Timeout, sent, 504, "attempt_timeout"),
            RouteTimeout => (Class::Timeout, None, 504, "timeout"),
            // His to choose: that it was not met shows in the latency.
            Deadline => (Class::Cancelled, None, 504, "deadline"),
            Status(code, retry_after) => (
                Class::of_status(code, retry_after),
                Some(Stage::Status {
                    code,
                    marked_unprocessed: false,
                }),
                code,
                "status",
            ),
            Truncated => (Class::Reset, Some(Stage::BodyStarted), 0, "truncated"),
            ClientGone => (Class::Cancelled, None, 0, "client_gone"),
            ClientBroke => (Class::Cancelled, None, 400, "client_broke"),
            ClientRefused(refusal) => (Class::Cancelled, None, refusal.status(), "client_refused"),
            ClientSlow => (Class::Cancelled, None, 408, "client_slow"),
            Idle => (Class::Cancelled, None, 0, "idle"),
            Lifetime => (Class::Cancelled, None, 0, "lifetime"),
            Internal => (Class::Cancelled, None, 500, "internal"),
            NobodyLeft => (Class::Cancelled, None, 503, "nobody_left"),
        };
        Consequence {
            class,
            stage,
            status,
            reason,
        }
    }
}
