//! How one attempt at an endpoint ended, in the classes that the risk model counts.
//!
//! A retry is an attempt of its own, counted against the endpoint that served it. What a *client* did wrong (4xx) or
//! chose (going away) is never held against an endpoint: otherwise one bad client could eject a fleet.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The class of an attempt's end. The order is the order of the counters in an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Class {
    /// Answered below 400, or a protocol upgrade.
    Ok,
    /// Answered 4xx (429 aside): the client's mistake, a healthy endpoint.
    ClientError,
    /// Answered 429, or 503 with `Retry-After`: the endpoint says that it is full. Evidence on capacity, not on health.
    Shed,
    /// Answered 500, 501, 505 and above: the application failed.
    AppError,
    /// Answered 502, 503 or 504: something behind the endpoint failed.
    GatewayError,
    /// Gave no answer within the time of the attempt; its latency is a lower bound.
    Timeout,
    /// The connection broke after the request was sent.
    Reset,
    /// No connection came about: timed out, unreachable, TLS failure.
    ConnectFailed,
    /// The connection was refused: nobody listens.
    Refused,
    /// The client went away before the answer; its latency is a lower bound, and nobody's fault.
    Cancelled,
}

impl Class {
    /// How many classes there are.
    pub const COUNT: usize = 10;

    /// All classes, in the order of their counters.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Ok,
        Self::ClientError,
        Self::Shed,
        Self::AppError,
        Self::GatewayError,
        Self::Timeout,
        Self::Reset,
        Self::ConnectFailed,
        Self::Refused,
        Self::Cancelled,
    ];

    /// The class of an answer. `retry_after` says whether the answer carried a `Retry-After` header.
    pub fn of_status(status: u16, retry_after: bool) -> Self {
        match status {
            429 => Self::Shed,
            503 if retry_after => Self::Shed,
            502..=504 => Self::GatewayError,
            500.. => Self::AppError,
            400.. => Self::ClientError,
            _ => Self::Ok,
        }
    }

    /// Whether this end counts as a failure of the endpoint.
    pub fn is_bad(self) -> bool {
        use Class::{AppError, ConnectFailed, GatewayError, Refused, Reset, Timeout};
        matches!(
            self,
            AppError | GatewayError | Timeout | Reset | ConnectFailed | Refused
        )
    }

    /// Whether the latency is only a lower bound, because the answer was not waited for.
    pub fn is_censored(self) -> bool {
        matches!(self, Self::Timeout | Self::Cancelled)
    }

    /// Whether the attempt got an answer whose latency says how fast the endpoint *serves*. Errors do not: a failing
    /// endpoint often answers fastest of all, and would look like the best one.
    pub fn is_served(self) -> bool {
        matches!(self, Self::Ok | Self::ClientError)
    }

    /// The label in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "client_error",
            Self::Shed => "shed",
            Self::AppError => "app_error",
            Self::GatewayError => "gateway_error",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::ConnectFailed => "connect_failed",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How many route classes an endpoint is judged by. Bounded, because each one costs a histogram per endpoint and worker.
pub const ROUTE_CLASSES: usize = 16;

/// A hashed class of requests (route, kind of method, first path segment), so that one sick path can be told from a sick
/// endpoint. Collisions merge classes and only blur that distinction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RouteClass(u8);

impl RouteClass {
    /// The class that a hash falls into.
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 16")]
    pub const fn of_hash(hash: u64) -> Self {
        Self((hash % ROUTE_CLASSES as u64) as u8)
    }

    /// The class's place in arrays of [`ROUTE_CLASSES`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One finished attempt.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// How it ended.
    pub class: Class,
    /// From the start of the attempt to the first byte of the answer, or to the end where none came.
    pub latency: Duration,
    /// Which kind of request it was.
    pub route_class: RouteClass,
    /// Requests that this worker had in flight at the endpoint when this one started, itself not counted.
    pub in_flight_at_start: u32,
}
