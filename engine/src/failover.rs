//! Whether a failed attempt may be repeated at another endpoint: the one place where "never twice" is decided.
//!
//! The rule: what the endpoint cannot have seen may always move; what it may have seen moves only if repeating it does no
//! harm; what the user has begun to see never moves. The verdict is a table without state (RFC 9110 §9.2.2 on idempotent
//! methods, RFC 9113 §8.7 on refused streams). The [`crate::budget`] bounds how much of it happens, and the balancing
//! table chooses where to. Attempts are bounded per request as well, because a budget that is full would allow a storm
//! of one request.
// Concept: endpoint-failover

use std::time::Duration;

/// Attempts of one request in all, the first one included, when a failed one had been sent.
pub const ATTEMPTS_MAX: u32 = 2;

/// Attempts in all when the failed ones had never been sent: those cost no endpoint anything.
pub const ATTEMPTS_MAX_NEVER_SENT: u32 = 3;

/// The longest request body that is kept so that it can be sent again, in bytes. Longer ones are not repeated.
pub const REPLAY_BODY_MAX: usize = 64 * 1024;

/// Shortest adaptive attempt timeout: below it the machine's own scheduling would be taken for a hang.
pub const ATTEMPT_TIMEOUT_MIN: Duration = Duration::from_millis(20);

/// Statuses of servers' errors, 500 to 599, as bits: every request carries a copy of its route's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerErrors(u128);

impl ServerErrors {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// Whether this status is one of them.
    pub fn contains(self, status: u16) -> bool {
        Self::bit(status).is_some_and(|bit| self.0 & bit != 0)
    }

    fn bit(status: u16) -> Option<u128> {
        let number = status.checked_sub(500).filter(|number| *number < 100)?;
        Some(1 << number)
    }
}

impl FromIterator<u16> for ServerErrors {
    /// What is no server's error is left out.
    fn from_iter<I: IntoIterator<Item = u16>>(statuses: I) -> Self {
        let bits = statuses.into_iter().filter_map(Self::bit);
        Self(bits.fold(0, |all, bit| all | bit))
    }
}

/// How far an attempt had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing reached the endpoint: refused, connect timed out, no connection free, `REFUSED_STREAM`, `GOAWAY` below
    /// our stream.
    NeverSent,
    /// A reused connection was closed under us before any byte of the answer.
    StaleConnection {
        /// Whether a byte of the request had been written.
        written: bool,
    },
    /// The request was sent, no byte of an answer came: reset, attempt timeout, stall.
    Sent,
    /// The endpoint answered with this status.
    Status {
        /// The status.
        code: u16,
        /// The answer says that the request was not processed.
        marked_unprocessed: bool,
    },
    /// The answer's body had begun.
    BodyStarted,
}

/// What a verdict depends on besides the stage.
#[derive(Clone, Copy, Debug)]
pub struct Attempted {
    /// Repeating the request does no harm: an idempotent method, an `Idempotency-Key`, or the route says so.
    pub repeatable: bool,
    /// Attempts made so far, the failed one included.
    pub attempts: u32,
    /// Attempts in all that its route allows, the first one included. Only ever fewer than without it.
    pub attempts_max: u32,
    /// Statuses that its route takes for failures, beside 502, 503 and 504.
    pub retry_on: ServerErrors,
    /// The request can be sent again: no body, or a body within [`REPLAY_BODY_MAX`] that was kept.
    pub replayable: bool,
    /// Time left until the request's deadline, if it has one.
    pub remaining: Option<Duration>,
    /// Typical latency of the endpoint it would go to.
    pub target_typical: Duration,
    /// The cluster allows retries (see `ClusterDecision::retries`). Never-sent failures move once even if not.
    pub retries: bool,
}

/// What moving draws from the retry budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// A whole token: an endpoint may have worked on it.
    Full,
    /// Half a token: no endpoint has.
    Half,
}

/// Why a failed attempt is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The answer is the application's own and not a sign of a failing endpoint.
    Final,
    /// The endpoint may have acted on it, and acting twice may do harm.
    Unsafe,
    /// The user has begun to see the answer.
    BodyStarted,
    /// The body was too long to be kept.
    NotReplayable,
    /// It has been tried often enough.
    Attempts,
    /// Too little time is left for another attempt.
    Deadline,
    /// The cluster is in panic: more work would make it worse.
    RetriesOff,
}

impl Keep {
    /// The label in metrics and in the `x-failover` header.
    pub fn label(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Unsafe => "unsafe",
            Self::BodyStarted => "body_started",
            Self::NotReplayable => "not_replayable",
            Self::Attempts => "attempts",
            Self::Deadline => "deadline",
            Self::RetriesOff => "retries_off",
        }
    }
}

/// Whether a failed attempt moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try another endpoint, if the budget pays for it.
    Move {
        /// What it draws from the budget.
        cost: Cost,
    },
    /// Let the failure stand.
    Keep(Keep),
}

/// Decides whether a failed attempt may move.
pub fn verdict(stage: Stage, request: &Attempted) -> Verdict {
    let (attempts_max, cost) = match may_move(stage, request) {
        Ok(cost @ Cost::Half) if !request.retries => (ATTEMPTS_MAX, cost),
        Ok(_) if !request.retries => return Verdict::Keep(Keep::RetriesOff),
        // Twice for what may be repeated, once for what may not: a wrong "never sent" then costs one copy at most.
        Ok(cost @ Cost::Half) if request.repeatable => (ATTEMPTS_MAX_NEVER_SENT, cost),
        Ok(cost) => (ATTEMPTS_MAX, cost),
        Err(keep) => return Verdict::Keep(keep),
    };
    if request.attempts >= attempts_max.min(request.attempts_max) {
        Verdict::Keep(Keep::Attempts)
    } else if !request.replayable {
        Verdict::Keep(Keep::NotReplayable)
    } else if request
        .remaining
        .is_some_and(|left| left <= request.target_typical)
    {
        Verdict::Keep(Keep::Deadline)
    } else {
        Verdict::Move { cost }
    }
}

/// Whether a status says that the endpoint failed, and not what the application has to say. A 500 may be either: its route
/// knows.
pub fn is_failure(status: u16, retry_on: ServerErrors) -> bool {
    matches!(status, 502..=504) || retry_on.contains(status)
}

/// The table itself.
fn may_move(stage: Stage, request: &Attempted) -> Result<Cost, Keep> {
    match (stage, request.repeatable) {
        (Stage::NeverSent | Stage::StaleConnection { written: false }, _) => Ok(Cost::Half),
        (Stage::StaleConnection { written: true } | Stage::Sent, true) => Ok(Cost::Full),
        (Stage::StaleConnection { written: true } | Stage::Sent, false) => Err(Keep::Unsafe),
        (Stage::Status { code, .. }, _) if !is_failure(code, request.retry_on) => Err(Keep::Final),
        (Stage::Status { .. }, true) => Ok(Cost::Full),
        (
            Stage::Status {
                code: 503,
                marked_unprocessed: true,
            },
            false,
        ) => Ok(Cost::Full),
        (Stage::Status { .. }, false) => Err(Keep::Unsafe),
        (Stage::BodyStarted, _) => Err(Keep::BodyStarted),
    }
}

/// Whether a method is idempotent by RFC 9110 §9.2.2. Methods are case-sensitive.
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

/// How long an attempt may wait for its first byte: three times what one in a thousand takes while all is well, within
/// [`ATTEMPT_TIMEOUT_MIN`] and the route's own limit. The route's limit where no baseline is known yet.
///
/// `common_slowdown` (1 = as ever) stretches it while the whole cluster is slow in common. Repeating would then only add
/// load, and a timeout that is tight by yesterday's standard is how a slow cluster becomes a dead one.
pub fn attempt_timeout(p999_baseline: Option<Duration>, route: Duration, common_slowdown: f64) -> Duration {
    let Some(p999) = p999_baseline else {
        return route;
    };
    let stretch = if common_slowdown.is_finite() {
        common_slowdown.clamp(1.0, 1000.0)
    } else {
        1.0
    };
    let seconds = 3.0 * p999.as_secs_f64().min(86_400.0) * stretch;
    Duration::from_secs_f64(seconds)
        .max(ATTEMPT_TIMEOUT_MIN)
        .min(route)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAGES: [Stage; 11] = [
        Stage::NeverSent,
        Stage::StaleConnection { written: false },
        Stage::StaleConnection { written: true },
        Stage::Sent,
        status(502, false),
        status(503, false),
        status(503, true),
        status(504, false),
        status(500, false),
        status(429, false),
        Stage::BodyStarted,
    ];

    const fn status(code: u16, marked_unprocessed: bool) -> Stage {
        Stage::Status {
            code,
            marked_unprocessed,
        }
    }

    fn first(repeatable: bool) -> Attempted {
        Attempted {
            repeatable,
            attempts: 1,
            attempts_max: ATTEMPTS_MAX_NEVER_SENT,
            retry_on: ServerErrors::NONE,
            replayable: true,
            remaining: None,
            target_typical: Duration::from_millis(5),
            retries: true,
        }
    }

    fn moves(stage: Stage, request: Attempted) -> bool {
        matches!(verdict(stage, &request), Verdict::Move { .. })
    }

    // Concept: endpoint-failover
    #[test]
    fn the_table_says_what_moves() {
        let harmless = STAGES.map(|stage| moves(stage, first(true)));
        let harmful = STAGES.map(|stage| moves(stage, first(false)));
        #[rustfmt::skip]
        assert_eq!(harmless, [true, true, true, true, true, true, true, true, false, false, false]);
        #[rustfmt::skip]
        assert_eq!(harmful, [true, true, false, false, false, false, true, false, false, false, false]);
    }

    #[test]
    fn attempts_are_bounded_whatever_happens() {
        for stage in STAGES {
            for repeatable in [false, true] {
                let count = (1..10)
                    .take_while(|attempts| {
                        moves(
                            stage,
                            Attempted {
                                attempts: *attempts,
                                ..first(repeatable)
                            },
                        )
                    })
                    .count();
                let never_sent = matches!(
                    stage,
                    Stage::NeverSent | Stage::StaleConnection { written: false }
                );
                assert!(count <= if never_sent && repeatable { 2 } else { 1 }, "{stage:?}");
            }
        }
    }

    #[test]
    fn a_route_may_take_other_errors_of_servers_for_failures() {
        let retry_on: ServerErrors = [500, 599, 429, 600].into_iter().collect();
        for repeatable in [true, false] {
            let request = Attempted {
                retry_on,
                ..first(repeatable)
            };
            for code in [500, 599] {
                assert_eq!(moves(status(code, false), request), repeatable, "{code}");
            }
            for code in [200, 429, 501, 600] {
                assert_eq!(
                    verdict(status(code, false), &request),
                    Verdict::Keep(Keep::Final),
                    "{code}"
                );
            }
        }
    }

    #[test]
    fn a_route_may_allow_fewer_attempts_and_never_more() {
        for stage in STAGES {
            for attempts in 1..4 {
                let moved = |attempts_max| {
                    let request = Attempted {
                        attempts,
                        attempts_max,
                        ..first(true)
                    };
                    moves(stage, request)
                };
                assert!(!moved(1), "{stage:?}");
                assert!(!moved(2) || attempts == 1, "{stage:?}");
                assert_eq!(moved(ATTEMPTS_MAX_NEVER_SENT), moved(u32::MAX), "{stage:?}");
            }
        }
    }

    #[test]
    fn in_panic_only_what_was_never_sent_moves_and_once() {
        for stage in STAGES {
            let panicking = Attempted {
                retries: false,
                ..first(true)
            };
            let never_sent = matches!(
                stage,
                Stage::NeverSent | Stage::StaleConnection { written: false }
            );
            assert_eq!(moves(stage, panicking), never_sent, "{stage:?}");
            assert!(!moves(
                stage,
                Attempted {
                    attempts: 2,
                    ..panicking
                }
            ));
        }
    }

    #[test]
    fn a_lost_body_or_a_near_deadline_keeps_it() {
        let mut request = first(true);
        request.replayable = false;
        assert_eq!(
            verdict(Stage::NeverSent, &request),
            Verdict::Keep(Keep::NotReplayable)
        );
        request.replayable = true;
        request.remaining = Some(Duration::from_millis(5));
        assert_eq!(verdict(Stage::Sent, &request), Verdict::Keep(Keep::Deadline));
        request.remaining = Some(Duration::from_millis(6));
        assert_eq!(verdict(Stage::Sent, &request), Verdict::Move { cost: Cost::Full });
    }

    #[test]
    fn methods_are_judged_by_the_standard() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(is_idempotent(method));
        }
        for method in ["POST", "PATCH", "CONNECT", "get", ""] {
            assert!(!is_idempotent(method));
        }
    }

    proptest! {
        // Invariant 14, its second half.
        #[test]
        fn nothing_harmful_is_sent_twice_after_a_byte_was_written(
            stage in prop::sample::select(STAGES.to_vec()),
            attempts in 1u32..5,
            replayable: bool,
            retries: bool,
        ) {
            let request = Attempted { attempts, replayable, retries, ..first(false) };
            let unseen = matches!(
                stage,
                Stage::NeverSent
                    | Stage::StaleConnection { written: false }
                    | Stage::Status { code: 503, marked_unprocessed: true }
            );
            prop_assert!(unseen || !moves(stage, request));
        }

        #[test]
        fn an_attempt_timeout_stays_within_its_limits(p999_us in 0u64..100_000_000, slow in -1.0..1e6f64) {
            let route = Duration::from_secs(15);
            let timeout = attempt_timeout(Some(Duration::from_micros(p999_us)), route, slow);
            prop_assert!(timeout >= ATTEMPT_TIMEOUT_MIN && timeout <= route);
            prop_assert!(timeout >= Duration::from_micros(3 * p999_us).min(route).mul_f64(0.999_999));
        }
    }

    #[test]
    fn a_cluster_that_is_slow_in_common_waits_longer() {
        let base = Some(Duration::from_millis(20));
        let route = Duration::from_secs(15);
        assert_eq!(attempt_timeout(base, route, 1.0), Duration::from_millis(60));
        assert_eq!(attempt_timeout(base, route, 5.0), Duration::from_millis(300));
        assert_eq!(
            attempt_timeout(base, route, f64::INFINITY),
            Duration::from_millis(60)
        );
        assert_eq!(attempt_timeout(None, route, 1.0), route);
    }
}
