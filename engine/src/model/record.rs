//! What a simulated run was like for its users, and what the engine did meanwhile.
//!
//! Every request and every tick is kept, none is averaged away: windows slide over the real requests, so a quantile is
//! the quantile of what users saw, counted at the moment when they asked. A request that never got its answer counts
//! with the time that it waited until the end.

use std::ops::Range;
use std::time::Duration;

use super::load::Arrival;
use crate::assessment::{Assessment, ClusterAssessment, Group, Standing};
use crate::decision::{Bound, ClusterDecision, EndpointDecision, Mode, Phase, ShiftDecision};
use crate::moment::Moment;
use crate::observation::Observation;
use crate::outcome::Class;

/// Least move of a share that is a turn of the loop. What a canary or a contact tries (5 % at most) is a question, not
/// an answer.
pub const SWING: f64 = 0.10;

/// A run, from the first request to the last tick.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Users' requests, in the order in which they came.
    pub requests: Vec<UserRequest>,
    /// The ticks of the (first) proxy's engine.
    pub ticks: Vec<Tick>,
    /// Those of the other proxies, where there are several.
    pub other_ticks: Vec<Vec<Tick>>,
    /// What the endpoints had got, every [`super::TICK`].
    pub looks: Vec<Look>,
    /// When the run ended.
    pub end: Moment,
    /// Attempts at any endpoint, probes not counted.
    pub attempts: u64,
    /// Attempts that repeated a request which had been sent before.
    pub retries: u64,
    /// Attempts after a failure before anything was sent.
    pub moves: u64,
    /// Requests that must not be repeated and reached two endpoints. Has to be zero.
    pub repeated_posts: u64,
    /// How often each pair of user and primary changed sides, over all paths; index `user * endpoints + primary`.
    pub switches: Vec<u8>,
    /// Requests by users who had been at the same primary's slot before; each could have been a change of sides.
    pub revisits: u64,
}

/// Paths that endpoints count apart; all others share the last place.
pub const PATHS_SEEN: usize = 6;

/// What the endpoints had got by a moment, from all proxies.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// When.
    pub at: Moment,
    /// By endpoint index.
    pub endpoints: Vec<Seen>,
}

/// What an endpoint has got since the start of the run. Probes do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests that were not refused, by path.
    pub by_path: [u64; PATHS_SEEN],
    /// Of them, those that must not be repeated.
    pub posts: u64,
    /// Requests that were answered with a status of failure.
    pub errors: u64,
    /// Requests that must not be repeated and were lost: nobody can answer them.
    pub posts_lost: u64,
}

/// A request as its user saw it.
#[derive(Clone, Copy, Debug)]
pub struct UserRequest {
    /// When the user asked.
    pub arrived: Moment,
    /// Until the first byte of the answer, or until it failed, or until the end of the run.
    pub latency: Duration,
    /// How it ended; `None` where it had not.
    pub end: Option<Class>,
    /// How many endpoints were tried.
    pub attempts: u8,
    /// The endpoint tried last.
    pub endpoint: u8,
    /// What was asked for.
    pub path: u8,
    /// Whether it must not be repeated.
    pub post: bool,
}

/// What the engine saw and decided at one tick.
#[derive(Clone, Debug)]
pub struct Tick {
    /// When.
    pub at: Moment,
    /// The cluster's mode.
    pub mode: Mode,
    /// Whether failed requests may be tried again.
    pub retries: bool,
    /// Whether the risk model blamed a common cause.
    pub common_cause: bool,
    /// By endpoint index.
    pub endpoints: Vec<EndpointTick>,
}

/// One endpoint at one tick.
#[derive(Clone, Debug)]
pub struct EndpointTick {
    /// Its risk.
    pub risk: f64,
    /// Its risk by this tick alone.
    pub raw: f64,
    /// The largest risk of a route class that is sick by itself.
    pub class_risk: f64,
    /// Hazard by group, in the order of [`Group::ALL`].
    pub hazards: [f64; Group::ALL.len()],
    /// Where it stands.
    pub standing: Standing,
    /// How much slower than ever it serves.
    pub slowdown: f64,
    /// Whether it may be chosen.
    pub available: bool,
    /// Its weight in balancing.
    pub weight: f64,
    /// How long an attempt that may be repeated waits.
    pub attempt_timeout: Duration,
    /// Share of users that try it again.
    pub trial: f64,
    /// Attempts begun since the tick before.
    pub started: u32,
    /// Attempts that failed since the tick before.
    pub bad: u32,
    /// Attempts in flight.
    pub in_flight: u32,
    /// The shift of a primary with a shadow.
    pub shift: Option<ShiftTick>,
}

/// A shift at one tick.
#[derive(Clone, Copy, Debug)]
pub struct ShiftTick {
    /// Where it stands.
    pub phase: Phase,
    /// Share on the shadow.
    pub share: f64,
    /// Largest share of any route class.
    pub class_share: f64,
    /// Share that the risk asks for.
    pub wanted: f64,
    /// The most that may move.
    pub cap: f64,
    /// What binds.
    pub bound: Bound,
}

impl Tick {
    /// What was seen, believed and decided at one tick.
    pub(super) fn new(
        at: Moment,
        decision: &ClusterDecision,
        assessment: &ClusterAssessment,
        observed: &[Observation],
    ) -> Self {
        let endpoints = decision.endpoints.iter().zip(&assessment.endpoints).zip(observed);
        Self {
            at,
            mode: decision.mode,
            retries: decision.retries,
            common_cause: assessment.common_cause,
            endpoints: endpoints
                .map(|((decided, assessed), observed)| EndpointTick::new(decided, assessed, observed))
                .collect(),
        }
    }
}

impl EndpointTick {
    fn new(decided: &EndpointDecision, assessed: &Assessment, observed: &Observation) -> Self {
        let hazard = |group: Group| {
            assessed
                .terms
                .iter()
                .filter(|t| t.group == group)
                .map(|t| t.hazard)
                .sum()
        };
        Self {
            risk: assessed.risk.value(),
            raw: assessed.raw.value(),
            class_risk: assessed
                .classes
                .iter()
                .map(|c| c.risk.value())
                .fold(0.0, f64::max),
            hazards: Group::ALL.map(hazard),
            standing: assessed.standing,
            slowdown: assessed.slowdown,
            available: decided.available,
            weight: decided.weight,
            attempt_timeout: decided.attempt_timeout,
            trial: decided.trial.value(),
            started: observed.started,
            bad: Class::ALL
                .iter()
                .filter(|c| c.is_bad())
                .map(|c| observed.count(*c))
                .sum(),
            in_flight: observed.in_flight,
            shift: decided.shift.as_ref().map(ShiftTick::new),
        }
    }
}

impl ShiftTick {
    fn new(shift: &ShiftDecision) -> Self {
        let largest = shift.class_shares.iter().map(|s| s.value()).fold(0.0, f64::max);
        Self {
            phase: shift.phase,
            share: shift.share.value(),
            class_share: largest,
            wanted: shift.wanted.value(),
            cap: shift.cap.value(),
            bound: shift.bound,
        }
    }
}

impl UserRequest {
    /// A request that has just been made.
    pub(super) fn new(arrival: &Arrival) -> Self {
        Self {
            arrived: Moment::from_micros(arrival.at_us),
            latency: Duration::ZERO,
            end: None,
            attempts: 0,
            endpoint: 0,
            path: u8::try_from(arrival.path).unwrap_or(u8::MAX),
            post: arrival.post,
        }
    }

    /// Whether the user got what it asked for, or was told that it asked wrongly.
    pub fn is_served(&self) -> bool {
        self.end.is_some_and(Class::is_served)
    }

    /// Whether the user got an error.
    pub fn is_failed(&self) -> bool {
        self.end.is_some_and(|end| !end.is_served())
    }
}

impl Record {
    /// The requests that came within `span`.
    pub fn within(&self, span: Range<Moment>) -> &[UserRequest] {
        let first = self.requests.partition_point(|r| r.arrived < span.start);
        let end = self.requests.partition_point(|r| r.arrived < span.end);
        self.requests.get(first..end).unwrap_or_default()
    }

    /// A quantile of the users' latency within `span`, milliseconds; `None` where nobody asked.
    pub fn latency_ms(&self, span: Range<Moment>, quantile: f64) -> Option<f64> {
        let mut waits: Vec<Duration> = self.within(span).iter().map(|r| r.latency).collect();
        let last = waits.len().checked_sub(1)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within the length of a slice"
        )]
        let rank = (last as f64 * quantile.clamp(0.0, 1.0)).round() as usize;
        let (_, wait, _) = waits.select_nth_unstable(rank.min(last));
        Some(wait.as_secs_f64() * 1e3)
    }

    /// The 99th percentile in windows of `width` that slide by a fifth of it: the window's start, milliseconds.
    pub fn p99_windows(
        &self,
        span: Range<Moment>,
        width: Duration,
    ) -> impl Iterator<Item = (Moment, f64)> + '_ {
        let step = (width / 5).max(Duration::from_millis(1));
        std::iter::successors(Some(span.start), move |at| Some(*at + step))
            .take_while(move |at| *at + width <= span.end)
            .filter_map(move |at| Some((at, self.latency_ms(at..at + width, 0.99)?)))
    }

    /// How long after the start of `span` the 99th percentile of every window of `width` stays below `limit_ms` until
    /// the span's end; `None` where the last window does not.
    pub fn time_below(&self, span: Range<Moment>, width: Duration, limit_ms: f64) -> Option<Duration> {
        let mut below_since = None;
        for (at, p99) in self.p99_windows(span.clone(), width) {
            if p99 >= limit_ms {
                below_since = None;
            } else if below_since.is_none() {
                below_since = Some(at.since(span.start));
            }
        }
        below_since
    }

    /// The largest 99th percentile of any window of `width`, milliseconds.
    pub fn worst_p99(&self, span: Range<Moment>, width: Duration) -> f64 {
        self.p99_windows(span, width)
            .map(|(_, p99)| p99)
            .fold(0.0, f64::max)
    }

    /// The ticks that saw what happened within `span`.
    pub fn ticks_within(&self, span: Range<Moment>) -> &[Tick] {
        let first = self.ticks.partition_point(|t| t.at <= span.start);
        let end = self.ticks.partition_point(|t| t.at <= span.end);
        self.ticks.get(first..end).unwrap_or_default()
    }

    /// Attempts per second at `endpoint` within `span`.
    pub fn attempts_per_s(&self, endpoint: usize, span: Range<Moment>) -> f64 {
        let begun: u32 = self
            .endpoint_within(endpoint, span.clone())
            .map(|(_, e)| e.started)
            .sum();
        f64::from(begun) / span.end.seconds_since(span.start)
    }

    /// An endpoint at the ticks within `span`.
    pub fn endpoint_within(
        &self,
        endpoint: usize,
        span: Range<Moment>,
    ) -> impl Iterator<Item = (Moment, &EndpointTick)> {
        self.ticks_within(span)
            .iter()
            .filter_map(move |t| Some((t.at, t.endpoints.get(endpoint)?)))
    }

    /// The shift of `primary` at the ticks within `span`.
    pub fn shift_within(
        &self,
        primary: usize,
        span: Range<Moment>,
    ) -> impl Iterator<Item = (Moment, ShiftTick)> {
        self.endpoint_within(primary, span)
            .filter_map(|(at, e)| Some((at, e.shift?)))
    }

    /// How often the share of `primary` turned within `span`; see [`turns`].
    pub fn reversals(&self, primary: usize, span: Range<Moment>, swing: f64) -> usize {
        turns(self.ticks_within(span), primary, swing)
    }

    /// How many requests within `span` ended in an error.
    pub fn failed(&self, span: Range<Moment>) -> usize {
        self.within(span).iter().filter(|r| r.is_failed()).count()
    }
}

/// How often the share of `primary` turned from growing to shrinking or back, moves below `swing` not counted. One episode
/// of shifting and returning is one turn.
pub fn turns(ticks: &[Tick], primary: usize, swing: f64) -> usize {
    let (mut turn, mut rising, mut turns) = (0.0_f64, None, 0);
    let shifts = ticks.iter().filter_map(|tick| tick.endpoints.get(primary)?.shift);
    for ShiftTick { share, .. } in shifts {
        match rising {
            // The turning point moves along with the share while it goes on in the same direction.
            Some(true) if share >= turn => turn = share,
            Some(false) if share <= turn => turn = share,
            Some(up) if (share - turn).abs() >= swing => {
                turns += 1;
                (turn, rising) = (share, Some(!up));
            }
            None if (share - turn).abs() >= swing => (turn, rising) = (share, Some(share > turn)),
            Some(_) | None => {}
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(at_ms: u64, latency_ms: u64) -> UserRequest {
        UserRequest {
            arrived: Moment::from_micros(at_ms * 1000),
            latency: Duration::from_millis(latency_ms),
            end: Some(Class::Ok),
            attempts: 1,
            endpoint: 0,
            path: 0,
            post: false,
        }
    }

    fn with_shares(shares: &[f64]) -> Record {
        let mut record = Record::default();
        for (i, share) in shares.iter().enumerate() {
            let shift = ShiftTick {
                phase: Phase::Ramp,
                share: *share,
                class_share: *share,
                wanted: 1.0,
                cap: 1.0,
                bound: Bound::None,
            };
            record.ticks.push(Tick {
                at: Moment::from_micros((i as u64 + 1) * 100_000),
                mode: Mode::Normal,
                retries: true,
                common_cause: false,
                endpoints: vec![EndpointTick {
                    risk: 0.0,
                    raw: 0.0,
                    class_risk: 0.0,
                    hazards: [0.0; 7],
                    standing: Standing::Known,
                    slowdown: 1.0,
                    available: true,
                    weight: 1.0,
                    attempt_timeout: Duration::ZERO,
                    trial: 0.0,
                    started: 10,
                    bad: 0,
                    in_flight: 0,
                    shift: Some(shift),
                }],
            });
        }
        record
    }

    #[test]
    fn a_window_counts_requests_at_the_moment_they_were_made() {
        let record = Record {
            requests: (0..4000)
                .map(|i| request(i, if i < 1000 { 50 } else { 5 }))
                .collect(),
            ..Record::default()
        };
        let all = Moment::ZERO..Moment::from_micros(4_000_000);
        assert_eq!(record.latency_ms(all.clone(), 0.5), Some(5.0));
        assert!((record.worst_p99(all.clone(), Duration::from_secs(1)) - 50.0).abs() < 1e-6);
        assert_eq!(
            record.time_below(all, Duration::from_secs(1), 10.0),
            Some(Duration::from_secs(1))
        );
    }

    #[test]
    fn a_relapse_counts_against_the_time_to_get_well() {
        let record = Record {
            requests: (0..4000)
                .map(|i| request(i, if (2900..3000).contains(&i) { 50 } else { 5 }))
                .collect(),
            ..Record::default()
        };
        let all = Moment::ZERO..Moment::from_micros(4_000_000);
        assert_eq!(
            record.time_below(all, Duration::from_secs(1), 10.0),
            Some(Duration::from_secs(3))
        );
    }

    #[test]
    fn there_and_back_is_one_reversal_and_jitter_is_none() {
        let all = Moment::ZERO..Moment::from_micros(60_000_000);
        assert_eq!(
            with_shares(&[0.0, 0.5, 1.0, 1.0, 0.4, 0.0]).reversals(0, all.clone(), 0.05),
            1
        );
        assert_eq!(
            with_shares(&[0.0, 0.5, 0.48, 0.5, 0.48]).reversals(0, all.clone(), 0.05),
            0
        );
        assert_eq!(with_shares(&[0.0, 1.0, 0.0, 1.0, 0.0]).reversals(0, all, 0.05), 3);
    }
}
