//! How loaded and how fast each endpoint is, as this worker sees it: the mutable half of balancing.
//!
//! An average of latency per endpoint *and route class*: one average per endpoint would follow the mix of requests (a
//! heavy kind of request would make whoever served it last the worst), and one sick path would drive away all the
//! others.
//!
//! Not a peak average (Finagle's `PeakEwma`), in which a single answer decides for ten seconds: simulated, one failure
//! in 3000 requests took 95 % of its traffic from a healthy endpoint for half a minute, and the others had to carry
//! it. Here an answer counts for a sixteenth, and for at most [`OUTLIER`] times what the pool costs; requests in
//! flight, which count at once, keep the burst away from an endpoint that has just become slow, and what is *evidence*
//! of illness is the business of risk. A failure counts as an outlier, however fast it came (a refusal takes
//! microseconds and would make the broken endpoint the best one). What is not measured fades towards what the pool
//! costs, not towards zero (an idle endpoint is unknown, not fast).

use std::cell::Cell;
use std::time::Duration;

use crate::lineage::Lineage;
use crate::moment::Moment;
use crate::outcome::{Class, Outcome, ROUTE_CLASSES, RouteClass};

/// Time constant in which an average that is not measured any more is forgotten.
const IDLE: Duration = Duration::from_secs(10);

/// Least weight of one answer: an average over some sixteen of them. Fewer, and chance moves the traffic of healthy
/// endpoints; more, and a change is seen too late at ten requests per second.
const WEIGHT: f64 = 1.0 / 16.0;

/// Time constant of the average where answers are rare: what is older than a second says less than the newest one.
const RARE: Duration = Duration::from_secs(1);

/// What one answer counts for at most, and a failure at least, in multiples of what the pool costs. With a sixteenth
/// of the weight a single one adds less than half to the cost, which is within what chance does anyway; two in a row
/// are not.
const OUTLIER: f64 = 8.0;

/// How much one answer moves the pool's cost: an average over some hundred answers.
const POOL_WEIGHT: f64 = 1.0 / 128.0;

/// The loads of one cluster's endpoints at one worker.
#[derive(Clone, Debug)]
pub struct Loads {
    endpoints: Vec<Load>,
    total_in_flight: u32,
    /// What an answer costs on average over the pool, by route class; `None` until the first.
    pool_us: [Option<f64>; ROUTE_CLASSES],
    /// The next turn of a round robin.
    turn: Cell<usize>,
}

#[derive(Clone, Debug, Default)]
struct Load {
    in_flight: u32,
    by_class: [Option<Average>; ROUTE_CLASSES],
}

#[derive(Clone, Copy, Debug)]
struct Average {
    us: f64,
    at: Moment,
}

impl Loads {
    /// Loads of `endpoints` endpoints of which nothing is known.
    pub fn new(endpoints: usize) -> Self {
        Self {
            endpoints: vec![Load::default(); endpoints],
            total_in_flight: 0,
            pool_us: [None; ROUTE_CLASSES],
            turn: Cell::new(0),
        }
    }

    /// Goes on with another set of endpoints. Attempts at those that are gone are in flight nowhere any more.
    pub fn reshape(&mut self, lineage: &Lineage) {
        self.endpoints = lineage.carry(std::mem::take(&mut self.endpoints), |_| Load::default());
        self.total_in_flight = self.endpoints.iter().map(|load| load.in_flight).sum();
    }

    /// An attempt is sent to the endpoint.
    pub fn begin(&mut self, endpoint: usize) {
        if let Some(load) = self.endpoints.get_mut(endpoint) {
            load.in_flight += 1;
            self.total_in_flight += 1;
        }
    }

    /// An attempt ended. To be called once for each [`Self::begin`].
    pub fn end(&mut self, endpoint: usize, outcome: &Outcome, now: Moment) {
        let Some(load) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        if load.in_flight > 0 {
            load.in_flight -= 1;
            self.total_in_flight = self.total_in_flight.saturating_sub(1);
        }
        let class = outcome.route_class.index();
        let (Some(average), Some(pool_us)) = (load.by_class.get_mut(class), self.pool_us.get_mut(class))
        else {
            return;
        };
        let elapsed_us = (outcome.latency.as_secs_f64() * 1e6).max(1.0);
        let pool = pool_us.unwrap_or(elapsed_us);
        let before = average.map_or(pool, |average| average.faded(pool, now));
        let us = if outcome.class.is_served() {
            elapsed_us.min(OUTLIER * pool)
        } else if outcome.class == Class::Cancelled {
            // Only a lower bound: it can make the endpoint look slower, never faster.
            elapsed_us.clamp(before, before.max(OUTLIER * pool))
        } else {
            OUTLIER * pool
        };
        let since = average.map_or(IDLE, |average| now.since(average.at));
        let weight = WEIGHT.max(1.0 - fade(since, RARE));
        let us = before + (us - before) * weight;
        *average = Some(Average { us, at: now });
        if outcome.class.is_served() {
            *pool_us = Some(pool + (elapsed_us.min(OUTLIER * pool) - pool) * POOL_WEIGHT);
        }
    }

    /// Attempts in flight at the endpoint.
    pub fn in_flight(&self, endpoint: usize) -> u32 {
        self.endpoints.get(endpoint).map_or(0, |load| load.in_flight)
    }

    /// Attempts in flight at all endpoints.
    pub fn total_in_flight(&self) -> u32 {
        self.total_in_flight
    }

    /// The average latency of the endpoint for requests of this class now, microseconds. What is not known costs what
    /// the pool costs, or `typical_us` where that is not known either.
    pub fn latency_us(&self, endpoint: usize, class: RouteClass, typical_us: f64, now: Moment) -> f64 {
        let pool_us = self.pool_us(class, typical_us);
        self.endpoints
            .get(endpoint)
            .and_then(|load| load.by_class.get(class.index()).copied().flatten())
            .map_or(pool_us, |average| average.faded(pool_us, now))
    }

    /// What an answer to a request of this class costs over the pool, `typical_us` where that is not known, and above
    /// zero.
    pub fn pool_us(&self, class: RouteClass, typical_us: f64) -> f64 {
        let known = self.pool_us.get(class.index()).copied().flatten();
        known.unwrap_or(typical_us).max(1.0)
    }

    /// The turn of a round robin, counted on.
    pub fn next_turn(&self) -> usize {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        turn
    }
}

impl Average {
    /// The average now, faded towards the pool's cost.
    fn faded(self, pool_us: f64, now: Moment) -> f64 {
        pool_us + (self.us - pool_us) * fade(now.since(self.at), IDLE)
    }
}

/// What is left of a difference after `span`: close to `e^(-span / tau)`, from above, at a quarter of its price.
fn fade(span: Duration, tau: Duration) -> f64 {
    let x = span.as_secs_f64() / tau.as_secs_f64();
    1.0 / (1.0 + x + 0.5 * x * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome_of(path: u64, class: Class, ms: u64) -> Outcome {
        Outcome {
            class,
            latency: Duration::from_millis(ms),
            route_class: RouteClass::of_hash(path),
            in_flight_at_start: 0,
        }
    }

    fn outcome(class: Class, ms: u64) -> Outcome {
        outcome_of(0, class, ms)
    }

    fn at(ms: u64) -> Moment {
        Moment::from_micros(ms * 1000)
    }

    fn us(loads: &Loads, endpoint: usize, ms: u64) -> f64 {
        loads.latency_us(endpoint, RouteClass::default(), 0.0, at(ms))
    }

    /// Two endpoints that answered in 5 ms, a hundred times each within the first second.
    fn warm() -> Loads {
        let mut loads = Loads::new(2);
        for n in 0..200 {
            loads.end(n % 2, &outcome(Class::Ok, 5), at(n as u64 * 5));
        }
        loads
    }

    #[test]
    fn one_slow_or_failed_answer_moves_little_and_several_much() {
        for class in [
            Class::Ok,
            Class::AppError,
            Class::Reset,
            Class::Timeout,
            Class::Shed,
        ] {
            let mut loads = warm();
            loads.end(0, &outcome(class, 60_000), at(1000));
            assert!(us(&loads, 0, 1000) < 1.5 * us(&loads, 1, 1000), "{class:?}");
            for n in 1..10 {
                loads.end(0, &outcome(class, 60_000), at(1000 + n));
            }
            assert!(us(&loads, 0, 1010) > 3.0 * us(&loads, 1, 1010), "{class:?}");
        }
    }

    #[test]
    fn an_average_follows_in_both_directions() {
        let mut loads = warm();
        for n in 0..100 {
            loads.end(0, &outcome(Class::Ok, 15), at(1000 + n));
        }
        assert!((us(&loads, 0, 1100) - 15_000.0).abs() < 1_000.0);
        for n in 0..100 {
            loads.end(0, &outcome(Class::Ok, 5), at(1100 + n));
        }
        assert!((us(&loads, 0, 1200) - 5_000.0).abs() < 1_000.0);
    }

    #[test]
    fn where_answers_are_rare_the_newest_one_counts() {
        let mut loads = warm();
        for second in 2..5 {
            loads.end(0, &outcome(Class::Ok, 20), at(second * 1000));
        }
        assert!(us(&loads, 0, 4000) > 15_000.0);
    }

    #[test]
    fn a_fast_failure_does_not_look_fast() {
        for class in [Class::Refused, Class::AppError, Class::Reset, Class::Shed] {
            let mut loads = warm();
            for n in 0..10 {
                loads.end(1, &outcome(class, 0), at(1000 + n));
            }
            assert!(us(&loads, 1, 1010) > 3.0 * us(&loads, 0, 1010), "{class:?}");
        }
    }

    #[test]
    fn failures_alone_do_not_blow_up_the_cost() {
        let mut loads = Loads::new(1);
        for n in 0..10_000 {
            loads.end(0, &outcome(Class::Refused, 0), at(n));
        }
        assert!(us(&loads, 0, 10_000) <= 1e6);
    }

    #[test]
    fn a_sick_path_costs_more_and_the_others_do_not() {
        let mut loads = Loads::new(2);
        for n in 0..400 {
            let sick = n % 4 == 0;
            loads.end(
                usize::from(n % 2 == 1),
                &outcome_of(u64::from(sick), Class::Ok, if sick { 100 } else { 5 }),
                at(n),
            );
        }
        let cost = |path| loads.latency_us(0, RouteClass::of_hash(path), 0.0, at(400));
        assert!(cost(1) > 90_000.0 && cost(0) < 6_000.0, "{} {}", cost(1), cost(0));
    }

    #[test]
    fn what_is_unknown_or_idle_costs_what_the_pool_costs() {
        let mut loads = Loads::new(3);
        assert!((loads.latency_us(2, RouteClass::default(), 20_000.0, at(0)) - 20_000.0).abs() < 1.0);
        for n in 0..1000 {
            loads.end(0, &outcome(Class::Ok, 8), at(n));
            loads.end(1, &outcome(Class::Ok, if n < 980 { 8 } else { 20 }), at(n));
        }
        assert!((us(&loads, 2, 1000) - 8_000.0).abs() < 2_500.0);
        assert!(us(&loads, 1, 1000) > 14_000.0);
        assert!(us(&loads, 1, 300_000) < 12_000.0);
    }

    #[test]
    fn a_client_that_goes_away_says_only_how_long_it_waited() {
        let mut loads = warm();
        let before = us(&loads, 0, 1000);
        loads.end(0, &outcome(Class::Cancelled, 1), at(1000));
        assert!((us(&loads, 0, 1000) - before).abs() < 1.0);
        for n in 0..20 {
            loads.end(0, &outcome(Class::Cancelled, 300), at(1000 + n));
        }
        assert!(us(&loads, 0, 1020) > 3.0 * before);
    }

    #[test]
    fn what_begins_is_in_flight_until_it_ends() {
        let mut loads = Loads::new(2);
        loads.begin(0);
        loads.begin(0);
        loads.begin(7);
        loads.end(0, &outcome(Class::Ok, 1), at(0));
        loads.end(1, &outcome(Class::Ok, 1), at(0));
        assert_eq!(
            (loads.in_flight(0), loads.in_flight(1), loads.total_in_flight()),
            (1, 0, 1)
        );
    }

    #[test]
    fn the_fade_stays_near_the_exponential() {
        for tenth in 0..100 {
            let x = f64::from(tenth) / 10.0;
            let faded = fade(IDLE.mul_f64(x), IDLE);
            assert!(faded >= (-x).exp() - 1e-12 && faded - (-x).exp() < 0.09, "{x}");
        }
    }
}
