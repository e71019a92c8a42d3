//! The engine in a closed loop with endpoints that queue and fail, in virtual time.
//!
//! A decision is only right if what it changes makes it stay right: shift, and the sick endpoint looks better; return,
//! and it falls ill again. That loop cannot be tested on recorded observations, and on real machines it can be tested
//! a few times at most. So this is a discrete-event simulation of all of it: users who do not wait for each other
//! ([`load`]), the proxy's request path out of the engine's own parts, endpoints with a queue, and faults ([`fault`])
//! on a schedule. A minute of 1200 requests per second takes tens of milliseconds, and the same [`Scenario`] and seed
//! always give the same [`Record`].
//!
//! What is simplified: no network between proxy and endpoint, no own processor time, no connections and bodies; an
//! endpoint goes on with a request that the proxy has given up. The bench measures those on the real proxy.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use self::plant::Plant;
use self::proxy::{Outside, Proxy};
use self::record::Record;
use self::scenario::Scenario;
use self::timers::{Timer, Timers};
use crate::moment::Moment;

pub mod audit;
pub mod fault;
pub mod figures;
pub mod load;
pub mod record;
pub mod scenario;

mod flight;
mod plant;
mod proxy;
mod server;
mod timers;

/// From one tick of the engine to the next.
pub const TICK: Duration = Duration::from_millis(100);

/// Simulates `scenario` with the chances that `seed` gives.
pub fn run(scenario: &Scenario, seed: u64) -> Record {
    let mut record = Record::default();
    let mut world = World::new(scenario, seed, &mut record);
    world.run(&mut record);
    record
}

struct World<'a> {
    scenario: &'a Scenario,
    plant: Plant,
    proxy: Proxy,
    timers: Timers,
    rng: Xoshiro256PlusPlus,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, seed: u64, record: &mut Record) -> Self {
        let mut timers = Timers::new(scenario.spec.attempt_timeout);
        timers.at(micros(TICK), Timer::Tick);
        for fault in &scenario.faults {
            for edge in fault.edges() {
                timers.at(edge.as_micros(), Timer::Edge(fault.endpoint));
            }
        }
        if let Some(probes) = scenario.probes {
            let count = scenario.spec.endpoints.len();
            for endpoint in 0..count {
                // Spread over the interval, as a proxy does that has many of them.
                let first = micros(probes.interval) * (endpoint as u64 + 1) / (count as u64 + 1);
                timers.at(first, Timer::Probe(endpoint));
            }
        }
        Self {
            scenario,
            plant: Plant::new(scenario, seed),
            proxy: Proxy::new(scenario, seed, record),
            timers,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
        }
    }

    fn run(&mut self, record: &mut Record) {
        let end_us = micros(self.scenario.length);
        let mut arrival = self.scenario.load.next(0, &mut self.rng);
        loop {
            let timer_us = self.timers.due();
            let (done_us, endpoint) = self.plant.due();
            let next_us = arrival.at_us.min(timer_us).min(done_us);
            if next_us > end_us {
                break;
            }
            if next_us == arrival.at_us {
                let (proxy, mut out) = self.outside(record, next_us);
                proxy.arrive(arrival, &mut out);
                arrival = self.scenario.load.next(arrival.at_us, &mut self.rng);
            } else if next_us == timer_us {
                self.handle_timer(record);
            } else if let Some((ticket, answer)) = self.plant.finish(done_us, endpoint, &mut self.timers) {
                let (proxy, mut out) = self.outside(record, done_us);
                proxy.handle_end(ticket, answer, &mut out);
            }
        }
        self.proxy.close(Moment::from_micros(end_us), record);
    }

    fn handle_timer(&mut self, record: &mut Record) {
        let Some((at_us, timer)) = self.timers.pop() else {
            return;
        };
        match timer {
            Timer::Tick => {
                let now_us = self.seen_at(at_us);
                let lag = Duration::from_micros(now_us - at_us);
                let tick = self.proxy.tick(Moment::from_micros(now_us), lag);
                record.ticks.push(tick);
                self.timers.at(now_us + micros(TICK), Timer::Tick);
            }
            Timer::Probe(endpoint) => self.probe(at_us, endpoint),
            Timer::ProbeEnd(endpoint, passed) => self.proxy.handle_probe(endpoint, passed),
            Timer::Edge(endpoint) => self.plant.edge(at_us, endpoint, &mut self.timers),
            Timer::Patience(ticket) => {
                let (proxy, mut out) = self.outside(record, at_us);
                proxy.handle_patience(ticket, &mut out);
            }
            Timer::Limit(ticket) => {
                let (proxy, mut out) = self.outside(record, at_us);
                proxy.handle_limit(ticket, &mut out);
            }
            Timer::End(ticket, answer) => {
                let (proxy, mut out) = self.outside(record, at_us);
                proxy.handle_end(ticket, answer, &mut out);
            }
        }
    }

    fn probe(&mut self, now_us: u64, endpoint: usize) {
        let Some(probes) = self.scenario.probes else {
            return;
        };
        let timeout_us = micros(probes.timeout);
        let (wait_us, passed) = match self.plant.probe(now_us, endpoint) {
            Some(Ok(us)) if us < timeout_us => (us, true),
            Some(Err(us)) => (us, false),
            Some(Ok(_)) | None => (timeout_us, false),
        };
        self.timers
            .at(now_us + wait_us, Timer::ProbeEnd(endpoint, passed));
        self.timers
            .at(now_us + micros(probes.interval), Timer::Probe(endpoint));
    }

    fn outside<'b>(&'b mut self, record: &'b mut Record, at_us: u64) -> (&'b mut Proxy, Outside<'b>) {
        let now_us = self.seen_at(at_us);
        let out = Outside {
            plant: &mut self.plant,
            timers: &mut self.timers,
            record,
            now_us,
        };
        (&mut self.proxy, out)
    }

    /// When the proxy notices something: at once, or when it wakes up.
    fn seen_at(&self, at_us: u64) -> u64 {
        match self.scenario.suspended {
            Some((from, span)) if from.as_micros() <= at_us => at_us.max((from + span).as_micros()),
            Some(_) | None => at_us,
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Class;

    #[test]
    fn the_same_seed_gives_the_same_run_and_another_one_another() {
        let scenario = Scenario::healthy(3);
        let latencies = |seed| {
            let record = run(&scenario, seed);
            let requests = record.requests.iter();
            requests
                .map(|r| (r.arrived, r.latency, r.endpoint))
                .collect::<Vec<_>>()
        };
        assert_eq!(latencies(1), latencies(1));
        assert_ne!(latencies(1), latencies(2));
    }

    #[test]
    fn every_request_of_a_healthy_run_is_served_by_one_attempt() {
        let record = run(&Scenario::healthy(3), 1);
        let waiting = record.requests.iter().filter(|r| r.end.is_none()).count();
        let served = record
            .requests
            .iter()
            .filter(|r| r.end == Some(Class::Ok))
            .count();
        assert!((3300..3900).contains(&served), "{served}");
        assert!(waiting < 30, "{waiting}");
        assert_eq!(record.attempts, record.requests.len() as u64);
    }
}
