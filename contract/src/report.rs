//! What a proxy tells its controller: who it is, what it saw, and what became of plans.
//!
//! Counters are cumulative since the round of their pair began in this boot of the proxy, so a report that is lost, or
//! comes twice, does no harm. They count first attempts only, under the arm that the router *drew*, whoever served in the
//! end: the draw is independent of how the request ends, and that is all that the verdict's guarantee rests on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::name::Name;
use crate::pair::{Arm, PairId, Round};
use crate::plan::PlanId;
use crate::units::{Risk, Share};

/// Most probabilities of one pair and round that are counted apart. A doubling ramp has a dozen; the router's segments and
/// route classes have some of their own.
pub const SEGMENTS_MAX: usize = 64;

/// Most pairs that a status names as not carried out. Enough to see why.
pub const UNAPPLIED_MAX: usize = 64;

/// Longest version, in bytes.
pub const VERSION_BYTES_MAX: usize = 64;

/// Longest explanation of a refusal, in bytes.
pub const DETAIL_BYTES_MAX: usize = 512;

/// Longest explanation of a pair that is not carried out, in bytes.
pub const WHY_BYTES_MAX: usize = 128;

/// One start of one proxy: counters of another boot started at 0. Random, and not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub u64);

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// This start of it.
    pub boot: BootId,
    /// Its name, unique among the proxies of a controller.
    pub proxy: Name,
    /// The version of its program; at most [`VERSION_BYTES_MAX`].
    pub version: String,
    /// The plan in force.
    pub plan: Option<PlanId>,
    /// It takes plans in pieces.
    pub pieces: bool,
}

/// First attempts of requests that the router drew to one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmCounters {
    /// All of them.
    pub requests: u64,
    /// No connection came about.
    pub connect: u64,
    /// No answer within the time for it; counted at the deadline.
    pub timeout: u64,
    /// The connection broke, before the answer or within it.
    pub reset: u64,
    /// Answered 5xx, or with what is no HTTP.
    pub status_5xx: u64,
    /// Slower than each of the plan's thresholds, timeouts included.
    pub over: [u64; 4],
    /// Went on to another endpoint.
    pub retries: u64,
    /// Bytes of answers' bodies that clients were sent.
    pub bytes: u64,
}

impl ArmCounters {
    /// Requests that failed, by whatever.
    pub fn errors(&self) -> u64 {
        let sums = [self.connect, self.timeout, self.reset, self.status_5xx];
        sums.into_iter().fold(0, u64::saturating_add)
    }

    /// What has been counted since `before`: nothing of what is less now than it was then.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut over = self.over;
        for (over, before) in over.iter_mut().zip(before.over) {
            *over = over.saturating_sub(before);
        }
        Self {
            requests: self.requests.saturating_sub(before.requests),
            connect: self.connect.saturating_sub(before.connect),
            timeout: self.timeout.saturating_sub(before.timeout),
            reset: self.reset.saturating_sub(before.reset),
            status_5xx: self.status_5xx.saturating_sub(before.status_5xx),
            over,
            retries: self.retries.saturating_sub(before.retries),
            bytes: self.bytes.saturating_sub(before.bytes),
        }
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        let mine = [
            &mut self.requests,
            &mut self.connect,
            &mut self.timeout,
            &mut self.reset,
            &mut self.status_5xx,
            &mut self.retries,
            &mut self.bytes,
        ];
        let theirs = [
            other.requests,
            other.connect,
            other.timeout,
            other.reset,
            other.status_5xx,
            other.retries,
            other.bytes,
        ];
        for (mine, theirs) in mine.into_iter().zip(theirs) {
            *mine = mine.saturating_add(theirs);
        }
        for (mine, theirs) in self.over.iter_mut().zip(other.over) {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// Counts as one of these what took `latency`, against the plan's thresholds.
    pub fn count_over(&mut self, latency: Duration, thresholds: &[Duration; 4]) {
        for (over, threshold) in self.over.iter_mut().zip(thresholds) {
            *over = over.saturating_add(u64::from(latency > *threshold));
        }
    }

    /// Whether nothing was counted.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// What TCP said of sampled connections to one endpoint: sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// How many samples.
    pub samples: u64,
    /// Smoothed round-trip times, microseconds.
    pub rtt_us: u64,
    /// Their variations, microseconds.
    pub rtt_var_us: u64,
    /// Segments sent.
    pub segments_out: u64,
    /// Segments sent again.
    pub retransmits: u64,
}

/// Whether an endpoint is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nothing has been seen of it.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It is gone.
    Down,
}

/// Counters under one probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// The probability with which the router drew the arm that does not serve.
    pub share: Share,
    /// By arm.
    pub arms: [ArmCounters; 2],
}

/// How one side answered copies of requests that the other one answered for users. Both saw the same requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirrored {
    /// Both answers were good.
    pub both_good: u64,
    /// Only the copy's was bad, or there was none.
    pub copy_bad: u64,
    /// Only the user's was.
    pub user_bad: u64,
    /// Both were.
    pub both_bad: u64,
    /// Of copies that might as well have been controls.
    pub copies: Compared,
    /// Of copies that went to another primary: by chance alone, so that they are of the same requests on average.
    pub controls: Compared,
    /// The probability with which that was drawn, in millionths. No sum: the last one.
    pub control_millionths: u32,
}

/// Answers to copies that were compared with those that users got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// All of them.
    pub answers: u64,
    /// Those that differed in something that was not known to differ among primaries as well.
    pub differed: u64,
    /// Those that took a quarter longer.
    pub slower: u64,
}

impl Mirrored {
    /// Requests that both sides saw.
    pub fn pairs(&self) -> u64 {
        let pairs = [self.both_good, self.copy_bad, self.user_bad, self.both_bad];
        pairs.into_iter().fold(0, u64::saturating_add)
    }

    /// Whether nothing was counted.
    pub fn is_zero(&self) -> bool {
        self.pairs() == 0 && self.controls.answers == 0
    }

    /// What has been counted since `before`: nothing of what is less now than it was then.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            control_millionths: self.control_millionths,
            ..self.with(before, u64::saturating_sub)
        }
    }

    /// Adds later ones.
    pub fn add(&mut self, later: &Self) {
        *self = Self {
            control_millionths: later.control_millionths,
            ..self.with(later, u64::saturating_add)
        };
    }

    fn with(&self, other: &Self, of: fn(u64, u64) -> u64) -> Self {
        let compared = |mine: Compared, other: Compared| Compared {
            answers: of(mine.answers, other.answers),
            differed: of(mine.differed, other.differed),
            slower: of(mine.slower, other.slower),
        };
        Self {
            both_good: of(self.both_good, other.both_good),
            copy_bad: of(self.copy_bad, other.copy_bad),
            user_bad: of(self.user_bad, other.user_bad),
            both_bad: of(self.both_bad, other.both_bad),
            copies: compared(self.copies, other.copies),
            controls: compared(self.controls, other.controls),
            control_millionths: 0,
        }
    }
}

/// What a proxy saw of one pair.
#[derive(Clone, Debug, PartialEq)]
pub struct PairReport {
    /// The pair.
    pub pair: PairId,
    /// The round that the counters belong to.
    pub round: Round,
    /// Which of the two is the primary in this proxy now.
    pub serving: Arm,
    /// The share that the other one gets now.
    pub share: Share,
    /// By arm; `None` before anything is known.
    pub risk: [Option<Risk>; 2],
    /// By arm.
    pub health: [Health; 2],
    /// By arm: all of the round.
    pub arms: [ArmCounters; 2],
    /// The same apart, by the probability with which the router chose: each probability once, at most [`SEGMENTS_MAX`].
    /// Those least lately used are forgotten first, so their sums may be less than `arms`.
    pub segments: Vec<Segment>,
    /// By arm: latencies of all attempts that the endpoint served.
    pub latency: [Histogram; 2],
    /// By arm.
    pub network: [Network; 2],
    /// By the arm that copies went to, while the other one served.
    pub mirrored: [Mirrored; 2],
}

/// What a proxy saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Counts the reports of a connection, from 1. A long one comes in several messages of one number.
    pub sequence: u64,
    /// Every pair under the plan is in one of its messages; else those alone of which something has changed.
    pub complete: bool,
    /// Each pair once.
    pub pairs: Vec<PairReport>,
}

/// Why a plan was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A reason that this version does not know.
    Other,
    /// It cannot be read, or breaks a limit.
    Malformed,
    /// Its epoch is lower than one that was seen.
    StaleEpoch,
    /// It is not newer than the plan in force.
    StaleGeneration,
    /// A delta to another plan than the one in force.
    WrongBase,
    /// The proxy could not carry it out now.
    NotReady,
}

impl Reason {
    /// All of them, as labels of metrics have them.
    pub const ALL: [Self; 6] = [
        Self::Malformed,
        Self::StaleEpoch,
        Self::StaleGeneration,
        Self::WrongBase,
        Self::NotReady,
        Self::Other,
    ];

    /// The label in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Malformed => "malformed",
            Self::StaleEpoch => "stale_epoch",
            Self::StaleGeneration => "stale_generation",
            Self::WrongBase => "wrong_base",
            Self::NotReady => "not_ready",
        }
    }
}

/// A plan that was not taken. Nothing was changed by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which, where that could be read.
    pub plan: Option<PlanId>,
    /// Why.
    pub reason: Reason,
    /// The same for people; at most [`DETAIL_BYTES_MAX`].
    pub detail: String,
}

/// A pair that the plan has and the proxy cannot carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unapplied {
    /// The pair.
    pub pair: PairId,
    /// Why, for people; at most [`WHY_BYTES_MAX`].
    pub why: String,
}

/// What became of plans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The plan in force.
    pub plan: Option<PlanId>,
    /// Whether it lies on the proxy's disk.
    pub persisted: bool,
    /// The last one that was refused since the last one that was taken.
    pub refused: Option<Refused>,
    /// Pairs that cannot be carried out; the first [`UNAPPLIED_MAX`].
    pub unapplied: Vec<Unapplied>,
    /// How many there are in all.
    pub unapplied_total: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_field_by_field() {
        let one = ArmCounters {
            requests: 9,
            connect: 1,
            timeout: 2,
            reset: 3,
            status_5xx: 4,
            over: [4, 3, 2, 1],
            retries: 5,
            bytes: 6,
        };
        let mut sum = ArmCounters::default();
        assert!(sum.is_zero());
        sum.add(&one);
        assert_eq!(sum, one);
        sum.add(&one);
        assert_eq!(
            (sum.requests, sum.errors(), sum.over, sum.bytes),
            (18, 20, [8, 6, 4, 2], 12)
        );
    }

    #[test]
    fn a_threshold_itself_is_not_over() {
        let mut counters = ArmCounters::default();
        let thresholds = [1, 2, 3, 4].map(Duration::from_millis);
        counters.count_over(Duration::from_millis(2), &thresholds);
        counters.count_over(Duration::from_millis(9), &thresholds);
        assert_eq!(counters.over, [2, 1, 1, 1]);
    }
}
