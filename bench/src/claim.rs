//! What a scenario can claim: the requirements on the product, as data. How each is judged is in [`crate::verdict`].

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::quantity::written::{duration, share};
use crate::run::Run;
use crate::scenario::users::path;
use crate::verdict::Verdict;

/// One requirement. In a scenario file: `nothing_fails`, `back_within: 30s`, `p99_back: { times: 1.3, within: 4s }`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Claim {
    /// Users' p99 falls under `times` the healthy one within `within` of the onset and stays there.
    #[serde(rename = "p99_back")]
    P99Back {
        /// Multiple of the healthy p99.
        times: f64,
        /// From the onset.
        #[serde(deserialize_with = "duration")]
        within: Duration,
    },
    /// Users' p99 never exceeds `times` the healthy one, from the onset to the end.
    #[serde(rename = "p99_never_above")]
    P99NeverAbove {
        /// Multiple of the healthy p99.
        times: f64,
    },
    /// No GET fails.
    NoGetFails,
    /// No GET takes longer.
    NoGetLongerThan(#[serde(deserialize_with = "duration")] Duration),
    /// No request fails.
    NothingFails,
    /// At least `share` of the requests that are begun during the fault, from `after` its onset, is answered: where not all
    /// can be.
    Answered {
        /// 0 to 1.
        #[serde(deserialize_with = "share")]
        share: f64,
        /// From the onset.
        #[serde(deserialize_with = "duration")]
        after: Duration,
    },
    /// No request fails but POSTs that the endpoint had read and lost: nobody could have saved those.
    OnlyLostPostsFail,
    /// Less than `share` of its usual traffic reaches the faulty endpoint, within `within` of the onset and until the
    /// end of the fault.
    TrafficUnder {
        /// 0 to 1.
        #[serde(deserialize_with = "share")]
        share: f64,
        /// From the onset.
        #[serde(deserialize_with = "duration")]
        within: Duration,
    },
    /// Requests for this path (index in the endpoints' counts) move to the shadow, requests for others stay.
    OnlyPathMoves(#[serde(deserialize_with = "path")] usize),
    /// Nothing is shifted, ever.
    NoShift,
    /// No endpoint is left out or starved, ever.
    NoEjection,
    /// The shadow gets a canary of at most `share`, for at most `lasting`, then nothing more until the end of the
    /// fault.
    CanaryAtMost {
        /// 0 to 1.
        #[serde(deserialize_with = "share")]
        share: f64,
        /// From its first request to its last.
        #[serde(deserialize_with = "duration")]
        lasting: Duration,
    },
    /// After healing, the primary carries its traffic again and the shadow none.
    BackWithin(#[serde(deserialize_with = "duration")] Duration),
    /// No POST took effect twice, and every answered POST took effect.
    NoPostTwice,
    /// The harness kept its own schedule, so that the rest means anything.
    HarnessOnTime,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Tenths of a percent: 0.55 is 55 %, and not 55.00000000000001.
        let percent = |share: f64| format!("{} %", (share * 1e3).round() / 10.0);
        match self {
            Self::P99Back { times, within } => write!(f, "p99 under {times} x healthy within {within:?}"),
            Self::P99NeverAbove { times } => write!(f, "p99 never above {times} x healthy"),
            Self::NoGetFails => f.write_str("no GET fails"),
            Self::NoGetLongerThan(limit) => write!(f, "no GET waits more than {limit:?}"),
            Self::NothingFails => f.write_str("no request fails"),
            Self::Answered { share, after } => {
                write!(
                    f,
                    "{} answered from {after:?} after the onset to the end of the fault",
                    percent(*share)
                )
            }
            Self::OnlyLostPostsFail => f.write_str("nothing fails but POSTs that died with the endpoint"),
            Self::TrafficUnder { share, within } => {
                write!(
                    f,
                    "under {} of its traffic on it within {within:?}",
                    percent(*share)
                )
            }
            Self::OnlyPathMoves(_) => f.write_str("only that path moves"),
            Self::NoShift => f.write_str("no shift"),
            Self::NoEjection => f.write_str("no ejection"),
            Self::CanaryAtMost { share, lasting } => {
                write!(
                    f,
                    "at most a {} canary for {lasting:?}, then none",
                    percent(*share)
                )
            }
            Self::BackWithin(limit) => write!(f, "traffic back within {limit:?} of healing"),
            Self::NoPostTwice => f.write_str("no POST reaches two endpoints"),
            Self::HarnessOnTime => f.write_str("the harness keeps its schedule"),
        }
    }
}

/// Judges one claim.
pub fn judge(claim: &Claim, run: &Run) -> Verdict {
    match claim {
        Claim::P99Back { times, within } => run.p99_back(*times, *within),
        Claim::P99NeverAbove { times } => run.p99_never_above(*times),
        Claim::NoGetFails => run.fails(|record| !record.post, 0),
        Claim::NoGetLongerThan(limit) => run.no_get_longer_than(*limit),
        Claim::NothingFails => run.fails(|_| true, 0),
        Claim::Answered { share, after } => run.answered(*share, *after),
        Claim::OnlyLostPostsFail => run.only_lost_posts_fail(),
        Claim::TrafficUnder { share, within } => run.traffic_under(*share, *within),
        Claim::OnlyPathMoves(path) => run.only_path_moves(*path),
        Claim::NoShift => run.no_shift(),
        Claim::NoEjection => run.no_ejection(),
        Claim::CanaryAtMost { share, lasting } => run.canary_at_most(*share, *lasting),
        Claim::BackWithin(limit) => run.back_within(*limit),
        Claim::NoPostTwice => run.no_post_twice(),
        Claim::HarnessOnTime => run.harness_on_time(),
    }
}
