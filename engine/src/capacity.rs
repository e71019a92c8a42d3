//! How much an endpoint can carry: so that a shift never melts the shadow it moves to.
//!
//! Where the operator knows, his number counts, filled to the policy's part. Where nobody knows, a standby is presumed
//! to carry what one of its primaries carries, because that is what it was built for; beyond that it may carry a tenth
//! more than it has been seen to carry well. Either number is pulled down by what is seen: an endpoint that says "I am
//! full" or becomes half as slow again loses three tenths of what it carries now, and regains a tenth per second
//! (additive increase in share, multiplicative decrease, as congestion control has it). As there, one loss is one cut:
//! what was begun before a cut says nothing about the load after it, however late it comes back, and while the queue at
//! the endpoint shrinks the cut was deep enough (RFC 6582, the "recover" point of NewReno).
//!
//! Cold: the presumption. Idle: the highest load seen well is forgotten with a half-life of an hour. Burst: a cut
//! needs two cuts' time to show its effect, so there is one per half second at most.

use std::time::Duration;

use foreshade_contract::Share;
use serde::{Deserialize, Serialize};

use crate::assessment::{Assessment, TickEvidence};
use crate::moment::Moment;
use crate::spec::ShiftPolicy;

/// Half-life of the highest load that was carried well.
const HALF_LIFE: Duration = Duration::from_secs(3600);

/// How far an endpoint may be loaded beyond what it has carried well.
const BEYOND: f64 = 1.1;

/// What is left of the load after a cut.
const CUT: f64 = 0.7;

/// Least time between two cuts.
const CUT_EVERY: Duration = Duration::from_millis(500);

/// How long the answers to what was begun before a cut are waited for: some may never come.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// What may be left of the queue, after one round of it, for the cut to have been deep enough.
const SHRUNK: f64 = 0.9;

/// How fast a cut is regained, per second.
const REGAIN: f64 = 0.10;

/// Part of answers that say "I am full" above which it is believed.
const SHED: f64 = 0.02;

/// Slowdown in one tick that counts as full.
const SLOW: f64 = 1.5;

/// Spread of the logarithm of latency that is assumed at least: that of a quiet service.
const LN_SPREAD_MIN: f64 = 0.5;

/// Served samples in a tick without which nothing is said about its slowness.
const SERVED_MIN: u32 = 5;

/// Requests per second below which no cut goes.
const LEAST_RPS: f64 = 1.0;

/// What is known of one endpoint's capacity.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Capacity {
    configured_rps: Option<f64>,
    known_good_rps: f64,
    /// What a cut has left, until it is regained.
    ceiling_rps: Option<f64>,
    cut: Option<Cut>,
}

/// The last cut, while its effect is not seen yet.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Cut {
    at: Moment,
    /// Since when the answers of this round are awaited.
    round_at: Moment,
    /// What was in flight then.
    queue: u32,
    /// How many of those are not answered yet, if they are answered in turn.
    awaited: u32,
}

impl Cut {
    fn new(now: Moment, seen: &Assessment) -> Self {
        Self {
            at: now,
            round_at: now,
            queue: seen.in_flight,
            awaited: seen.in_flight,
        }
    }

    /// Takes a tick. Says whether what is seen now is an effect of the cut: all that was begun before it is back, and yet
    /// the queue has not become shorter.
    fn step(&mut self, now: Moment, seen: &Assessment) -> bool {
        self.awaited = self.awaited.saturating_sub(seen.tick.total);
        if self.awaited > 0 && now.since(self.round_at) < DRAIN_MAX {
            return false;
        }
        if f64::from(seen.in_flight) < SHRUNK * f64::from(self.queue) {
            *self = Self {
                at: self.at,
                ..Self::new(now, seen)
            };
            return false;
        }
        now.since(self.at) >= CUT_EVERY
    }
}

impl Capacity {
    /// `configured_rps` is the operator's number, if there is one.
    pub(crate) fn new(configured_rps: Option<f64>) -> Self {
        Self {
            configured_rps,
            known_good_rps: 0.0,
            ceiling_rps: None,
            cut: None,
        }
    }

    /// The operator's number has changed. What was seen stands.
    pub(crate) fn adopt(&mut self, configured_rps: Option<f64>) {
        self.configured_rps = configured_rps;
    }

    /// Takes a tick of the endpoint.
    pub(crate) fn step(&mut self, now: Moment, dt: f64, seen: &Assessment, policy: &ShiftPolicy) {
        self.known_good_rps *= (-dt / HALF_LIFE.as_secs_f64()).exp2();
        let shows = self.cut.as_mut().is_none_or(|cut| cut.step(now, seen));
        if is_full(&seen.tick) {
            if shows {
                let carried = self
                    .ceiling_rps
                    .unwrap_or(f64::INFINITY)
                    .min(carried_rps(seen, dt));
                self.ceiling_rps = Some((carried * CUT).max(LEAST_RPS));
                self.cut = Some(Cut::new(now, seen));
            }
            return;
        }
        if let Some(ceiling) = &mut self.ceiling_rps {
            *ceiling *= 1.0 + REGAIN * dt;
        }
        if seen.risk.value() < policy.release {
            self.known_good_rps = self.known_good_rps.max(seen.rps);
        }
    }

    /// Requests per second that it may be given. `presumed_rps` counts where nothing is known or configured.
    pub(crate) fn room_rps(&mut self, presumed_rps: f64, policy: &ShiftPolicy) -> f64 {
        let room = match self.configured_rps {
            Some(rps) => rps * policy.capacity_fill,
            None => (self.known_good_rps * BEYOND).max(presumed_rps),
        };
        match self.ceiling_rps {
            Some(ceiling) if ceiling < room => ceiling,
            Some(_) => {
                self.ceiling_rps = None;
                room
            }
            None => room,
        }
    }

    /// What the operator's number allows; `None` where there is none.
    pub(crate) fn granted_rps(&self, policy: &ShiftPolicy) -> Option<f64> {
        self.configured_rps.map(|rps| rps * policy.capacity_fill)
    }

    /// Requests per second that it can carry when it is well, for the sum of what is left in a cluster.
    pub(crate) fn total_rps(&self, presumed_rps: f64) -> f64 {
        self.configured_rps
            .unwrap_or(self.known_good_rps.max(presumed_rps))
    }
}

/// The part of a pair's demand that fits: what is left of the room after all others have taken theirs.
pub(crate) fn fitting(room_rps: f64, taken_rps: f64, demand_rps: f64) -> Share {
    let left = room_rps - taken_rps;
    if left <= 0.0 {
        Share::ZERO
    } else if demand_rps <= left {
        Share::ONE
    } else {
        Share::clamped(left / demand_rps)
    }
}

/// What an endpoint that is full carries: what it answers. The mean over some seconds lags where users have just been
/// moved, so that what it served in this tick counts where it is more.
fn carried_rps(seen: &Assessment, dt: f64) -> f64 {
    seen.rps
        .max(f64::from(seen.tick.served) / dt.max(f64::MIN_POSITIVE))
}

fn is_full(tick: &TickEvidence) -> bool {
    let shed = tick.shed >= 2 && f64::from(tick.shed) > SHED * f64::from(tick.total.max(tick.shed));
    shed || (tick.served >= SERVED_MIN && least_ln_ratio(tick) > SLOW.ln())
}

/// The mean logarithm of the slowdown, less twice its standard error: of five samples one tick in thirty has a mean of
/// 1.5 times without anything being wrong.
fn least_ln_ratio(tick: &TickEvidence) -> f64 {
    let n = f64::from(tick.served);
    let mean = tick.sum_ln_ratio / n;
    let variance = (tick.sum_sq_ln_ratio / n - mean * mean).max(LN_SPREAD_MIN * LN_SPREAD_MIN);
    mean - 2.0 * (variance / n).sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shift::fixture::{known, tick};

    fn at(ms: u64) -> Moment {
        Moment::from_micros(ms * 1000)
    }

    #[test]
    fn the_operators_number_is_filled_to_the_policys_part() {
        let policy = ShiftPolicy::default();
        let mut capacity = Capacity::new(Some(100.0));
        assert!((capacity.room_rps(500.0, &policy) - 80.0).abs() < 1e-9);
        assert!((fitting(80.0, 0.0, 160.0).value() - 0.5).abs() < 1e-9);
        assert_eq!(fitting(0.0, 0.0, 0.0), Share::ZERO);
    }

    #[test]
    fn an_unknown_standby_is_presumed_to_carry_one_primary_and_proves_more_step_by_step() {
        let policy = ShiftPolicy::default();
        let mut capacity = Capacity::new(None);
        assert!((capacity.room_rps(100.0, &policy) - 100.0).abs() < 1e-9);
        let mut seen = known(0.0);
        seen.rps = 100.0;
        capacity.step(at(0), 0.1, &seen, &policy);
        assert!((capacity.room_rps(100.0, &policy) - 110.0).abs() < 1e-9);
    }

    #[test]
    fn an_endpoint_that_is_full_is_relieved_and_regains_slowly() {
        let policy = ShiftPolicy::default();
        let mut capacity = Capacity::new(Some(1000.0));
        let mut seen = known(0.0);
        seen.rps = 200.0;
        seen.tick = tick(20, 0, 3.0);
        for n in 0..5 {
            capacity.step(at(n * 100), 0.1, &seen, &policy);
        }
        assert!(
            (capacity.room_rps(0.0, &policy) - 140.0).abs() < 1e-9,
            "one cut in half a second"
        );
        seen.tick = tick(20, 0, 1.0);
        for n in 5..15 {
            capacity.step(at(n * 100), 0.1, &seen, &policy);
        }
        let regained = capacity.room_rps(0.0, &policy);
        assert!((150.0..160.0).contains(&regained), "{regained}");
        for n in 15..1000 {
            capacity.step(at(n * 100), 0.1, &seen, &policy);
        }
        assert!((capacity.room_rps(0.0, &policy) - 800.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_begun_before_a_cut_is_no_reason_for_another() {
        let policy = ShiftPolicy::default();
        let mut capacity = Capacity::new(Some(1000.0));
        let mut seen = known(0.0);
        (seen.rps, seen.in_flight) = (200.0, 300);
        seen.tick = tick(20, 0, 3.0);
        let mut after = |seen: &Assessment, from_ms: u64, ticks: u64| {
            for n in 0..ticks {
                capacity.step(at(from_ms + n * 100), 0.1, seen, &policy);
            }
            capacity.room_rps(0.0, &policy)
        };
        assert!(
            (after(&seen, 0, 15) - 140.0).abs() < 1e-9,
            "15 ticks of 20 answers are one round"
        );
        assert!(
            (after(&seen, 1_500, 2) - 98.0).abs() < 1e-9,
            "and the queue is as long as it was"
        );
        seen.in_flight = 200;
        assert!(
            (after(&seen, 1_700, 17) - 98.0).abs() < 1e-9,
            "here it has become shorter"
        );
        seen.in_flight = 199;
        assert!(
            (after(&seen, 3_400, 12) - 68.6).abs() < 1e-9,
            "and here it has not"
        );
        seen.tick.total = 0;
        assert!((after(&seen, 4_600, 20) - 68.6).abs() < 1e-9);
        seen.tick.served = 20;
        assert!(
            after(&seen, 6_600, 60) < 68.0,
            "what never comes back is not awaited for ever"
        );
    }

    #[test]
    fn a_burst_is_measured_by_itself_and_not_by_the_seconds_before_it() {
        let policy = ShiftPolicy::default();
        let mut capacity = Capacity::new(None);
        let mut seen = known(0.0);
        seen.rps = 50.0;
        seen.tick = tick(40, 0, 3.0);
        capacity.step(at(0), 0.1, &seen, &policy);
        let room = capacity.room_rps(1000.0, &policy);
        assert!((room - 280.0).abs() < 1e-9, "it answers 400 per second: {room}");
    }

    #[test]
    fn shedding_is_believed() {
        let mut full = tick(100, 0, 1.0);
        full.shed = 1;
        assert!(!is_full(&full));
        full.shed = 5;
        assert!(is_full(&full));
    }

    proptest! {
        // Invariant 6: what is moved, and what the others have, fits the room.
        #[test]
        fn what_fits_never_exceeds_the_room(room in 0.0..1e4f64, taken in 0.0..1e4f64, demand in 0.0..1e4f64) {
            let share = fitting(room, taken, demand).value();
            prop_assert!(share * demand <= (room - taken).max(0.0) + 1e-6);
        }
    }
}
