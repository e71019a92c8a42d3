//! A run in the numbers of the requirement: how bad it got for users, and how soon it was over.
//!
//! Windows are one second wide. At 1200 requests per second the 99th percentile of a healthy one lies within 5.4 % of
//! the true one (one standard deviation), so 1.3 times healthy is five of them away: no seed fails by chance.

use std::ops::Range;
use std::time::Duration;

use super::record::{Record, SWING, UserRequest};
use super::scenario::{HEALED_S, ONSET_S};
use crate::decision::Phase;
use crate::moment::Moment;

/// Width of the windows.
pub const WINDOW: Duration = Duration::from_secs(1);

/// What one endpoint's fault did to the users.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Users' 99th percentile before the fault, milliseconds.
    pub healthy_p99_ms: f64,
    /// Worst 99th percentile of a window during the fault, as a multiple of the healthy one.
    pub worst_p99: f64,
    /// How long after the onset the 99th percentile stays below 1.3 times healthy until the fault ends.
    pub back_after: Option<Duration>,
    /// Longest wait of a request that may be repeated, during the fault, milliseconds.
    pub longest_get_ms: f64,
    /// Failed requests that may be repeated.
    pub failed_gets: usize,
    /// Failed requests that must not be.
    pub failed_posts: usize,
    /// How long after the onset less than 5 % of its normal traffic reaches the endpoint, until the fault ends.
    pub clear_after: Option<Duration>,
    /// Requests that failed while the endpoint was tried again, before it was healed.
    pub failed_trying: usize,
    /// Largest share of its traffic that was shifted.
    pub share_max: f64,
    /// How long after the end of the fault the share is zero for good and traffic at 80 % of normal or more.
    pub returned_after: Option<Duration>,
    /// Turns of the share.
    pub reversals: usize,
}

/// Before the fault. The first two seconds are left out: nothing is known of anybody then.
pub fn before() -> Range<Moment> {
    at(2)..at(ONSET_S)
}

/// During the fault.
pub fn during() -> Range<Moment> {
    at(ONSET_S)..at(HEALED_S)
}

/// A second of the run.
pub fn at(second: u64) -> Moment {
    Moment::from_micros(second * 1_000_000)
}

impl Figures {
    /// The figures of a run in which `endpoint` was faulty from [`ONSET_S`] to [`HEALED_S`].
    pub fn of(record: &Record, endpoint: usize) -> Self {
        let healthy_p99_ms = record.latency_ms(before(), 0.99).unwrap_or(f64::NAN);
        let failed = |post| {
            record
                .requests
                .iter()
                .filter(|r| r.is_failed() && r.post == post)
                .count()
        };
        let gets = || record.within(during()).iter().filter(|r| !r.post);
        let end = record.ticks.last().map_or(Moment::ZERO, |t| t.at);
        Self {
            healthy_p99_ms,
            worst_p99: record.worst_p99(during(), WINDOW) / healthy_p99_ms,
            back_after: record.time_below(during(), WINDOW, 1.3 * healthy_p99_ms),
            longest_get_ms: gets().map(wait_ms).fold(0.0, f64::max),
            failed_gets: failed(false),
            failed_posts: failed(true),
            clear_after: clear_after(record, endpoint, 0.05),
            failed_trying: first_return(record, endpoint)
                .map_or(0, |tried| record.failed(tried..at(HEALED_S))),
            share_max: record
                .shift_within(endpoint, Moment::ZERO..end)
                .map(|(_, s)| s.share)
                .fold(0.0, f64::max),
            returned_after: returned_after(record, endpoint, end),
            reversals: record.reversals(endpoint, Moment::ZERO..end, SWING),
        }
    }
}

/// How long after the onset less than `part` of its normal traffic reaches the endpoint in every window, until the
/// fault ends or a return is tried. (A hold of ten seconds ends before the fault does, and who never tries never finds
/// out. What the attempt may cost is judged by itself: see [`Figures::failed_trying`].)
pub fn clear_after(record: &Record, endpoint: usize, part: f64) -> Option<Duration> {
    let limit = part * record.attempts_per_s(endpoint, before());
    let tried = first_return(record, endpoint).unwrap_or(at(HEALED_S));
    let mut clear_since = None;
    let mut from = at(ONSET_S);
    while from + WINDOW <= tried {
        if record.attempts_per_s(endpoint, from..from + WINDOW) >= limit {
            clear_since = None;
        } else if clear_since.is_none() {
            clear_since = Some(from.since(at(ONSET_S)));
        }
        from = from + super::TICK;
    }
    clear_since
}

/// When the endpoint was first tried again during its fault.
fn first_return(record: &Record, endpoint: usize) -> Option<Moment> {
    record
        .shift_within(endpoint, during())
        .find(|(_, shift)| shift.phase == Phase::Return)
        .map(|(when, _)| when)
}

fn returned_after(record: &Record, endpoint: usize, end: Moment) -> Option<Duration> {
    let healed = at(HEALED_S);
    let normal = record.attempts_per_s(endpoint, before());
    let last_shifted = record
        .shift_within(endpoint, healed..end)
        .filter(|(_, s)| s.class_share > 0.0)
        .map(|(at, _)| at)
        .last();
    let mut from = last_shifted.unwrap_or(healed);
    while from + WINDOW * 2 <= end {
        if record.attempts_per_s(endpoint, from..from + WINDOW * 2) >= 0.8 * normal {
            return Some(from.since(healed));
        }
        from = from + super::TICK;
    }
    None
}

fn wait_ms(request: &UserRequest) -> f64 {
    request.latency.as_secs_f64() * 1e3
}
