//! Why a request ended: a closed set, so that lines can be counted by it.
//!
//! The failures' words are those of [`crate::outcome`], by which the metrics count, so that a line and a counter speak of
//! the same thing.

use crate::outcome::Failure;

/// Why a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reason {
    /// An endpoint answered, and the client has the whole answer. The status may still be a failure.
    #[default]
    Ok,
    /// The route answered by itself: a redirect, or a text.
    Answered,
    /// The policy of its listener or route refused it.
    Policy,
    /// No route matches.
    NoRoute,
    /// The request breaks a rule, and was refused before it was routed.
    Rejected,
    /// The process ended before the request did.
    Shutdown,
    /// The last attempt failed, or the client.
    Failed(Failure),
}

impl Reason {
    /// Of a request that is dropped on its way: its grace time is over, or a step of it panicked.
    pub(crate) fn of_a_cut() -> Self {
        match std::thread::panicking() {
            true => Self::Failed(Failure::Internal),
            false => Self::Shutdown,
        }
    }

    /// The word in the log.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Answered => "answered",
            Self::Policy => "policy",
            Self::NoRoute => "no_route",
            Self::Rejected => "rejected",
            Self::Shutdown => "shutdown",
            Self::Failed(failure) => failure.consequence().reason,
        }
    }

    /// What is to be said beside it.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Failed(Failure::Handshake(why)) => why.label(),
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::Refusal;
    use crate::tls::handshakes::HandshakeFailure;

    #[test]
    fn every_reason_is_told_of_in_the_document() {
        use Failure::*;
        let failures = [
            Refused,
            ConnectFailed,
            Handshake(HandshakeFailure::Expired),
            StaleConnection,
            Reset,
            ResetUnused,
            RefusedStream,
            GoneAway,
            NoStream,
            Deadline,
            Garbage,
            AttemptTimeout,
            RouteTimeout,
            Truncated,
            ClientGone,
            ClientBroke,
            ClientRefused(Refusal::BodySlow),
            ClientSlow,
            NobodyLeft,
            Idle,
            Lifetime,
            Internal,
        ];
        let others = [
            Reason::Ok,
            Reason::Answered,
            Reason::Policy,
            Reason::NoRoute,
            Reason::Rejected,
            Reason::Shutdown,
        ];
        let document = include_str!("../../../docs/operating.md");
        for reason in failures.map(Reason::Failed).into_iter().chain(others) {
            let row = format!("| `{}` |", reason.label());
            assert!(document.contains(&row), "docs/operating.md has no row {row}");
        }
    }
}
