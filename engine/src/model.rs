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
//! endpoint goes on with a request that the proxy has given up, and what a slow body holds back keeps no place in flight.
//! The bench measures those on the real proxy.

use std::time::Duration;

use self::bare::Bare;
use self::load::{Arrivals, Dice, Draws};
use self::plant::Plant;
use self::proxy::Proxy;
use self::record::{Look, Record};
use self::scenario::Scenario;
use self::timers::{Timer, Timers};
use crate::moment::Moment;

pub mod audit;
pub mod fault;
pub mod figures;
pub mod load;
pub mod record;
pub mod scenario;

mod bare;
mod flight;
mod plant;
mod proxy;
mod server;
mod timers;

/// From one tick of the engine to the next.
pub const TICK: Duration = Duration::from_millis(100);

/// Who stands between users and endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// As many proxies with this engine as the scenario says.
    Foreshade,
    /// Somebody who sends requests in turn and reacts to nothing.
    Nobody,
    /// Somebody who knows every fault in the instant in which it comes.
    Oracle,
}

/// Simulates `scenario` with the chances that `seed` gives.
pub fn run(scenario: &Scenario, seed: u64) -> Record {
    let mut draws = Draws::new(&scenario.load, seed);
    play(scenario, &mut draws, Contender::Foreshade, |_| false)
}

/// The same with any contender and with what chance gives to the scenario's load, until `is_over` says so or the scenario
/// ends. It is asked after each look at the endpoints.
pub fn play(
    scenario: &Scenario,
    draws: &mut Draws,
    contender: Contender,
    is_over: impl FnMut(&Record) -> bool,
) -> Record {
    let mut record = Record::default();
    let mut world = World::new(scenario, (draws.seed, &mut draws.dice), contender, &mut record);
    world.run(&mut draws.arrivals, &mut record, is_over);
    record
}

/// What a contender reaches out to, and where it writes down what happened.
struct Outside<'a, 'p> {
    plant: &'a mut Plant<'p>,
    timers: &'a mut Timers,
    record: &'a mut Record,
    now_us: u64,
}

enum Front {
    Proxies(Vec<Proxy>),
    Bare(Bare),
}

struct World<'a> {
    scenario: &'a Scenario,
    plant: Plant<'a>,
    front: Front,
    timers: Timers,
}

impl<'a> World<'a> {
    fn new(
        scenario: &'a Scenario,
        (seed, dice): (u64, &'a mut Dice),
        contender: Contender,
        record: &mut Record,
    ) -> Self {
        let mut timers = Timers::new(scenario.spec.attempt_timeout, scenario.spec.endpoints.len());
        timers.at(micros(TICK), Timer::Look);
        for fault in &scenario.faults {
            for edge in fault.edges() {
                timers.at(edge.as_micros(), Timer::Edge(narrow(fault.endpoint)));
            }
        }
        let count = scenario.spec.endpoints.len();
        let proxies = scenario.proxies.clamp(1, usize::from(u16::MAX));
        let front = match contender {
            Contender::Foreshade => {
                record.switches = vec![0; scenario.load.users as usize * count];
                record.other_ticks = vec![Vec::new(); proxies - 1];
                let proxies: Vec<_> = (0..proxies)
                    .map(|index| Proxy::new(narrow(index), scenario, seed))
                    .collect();
                Self::wake(scenario, proxies.len(), &mut timers);
                Front::Proxies(proxies)
            }
            Contender::Nobody => Front::Bare(Bare::new(scenario, false)),
            Contender::Oracle => Front::Bare(Bare::new(scenario, true)),
        };
        Self {
            scenario,
            plant: Plant::new(scenario, dice),
            front,
            timers,
        }
    }

    /// The first tick of each proxy and its first probe of each endpoint, spread as they are where nobody has arranged them.
    fn wake(scenario: &Scenario, proxies: usize, timers: &mut Timers) {
        let count = scenario.spec.endpoints.len();
        for proxy in 0..proxies {
            let late = micros(TICK) * proxy as u64 / proxies as u64;
            timers.at(micros(TICK) + late, Timer::Tick(narrow(proxy)));
            let Some(probes) = scenario.probes else {
                continue;
            };
            for endpoint in 0..count {
                let first = micros(probes.interval) * (endpoint as u64 + 1) / (count as u64 + 1);
                timers.at(first + late, Timer::Probe(narrow(proxy), narrow(endpoint)));
            }
        }
    }

    fn run(
        &mut self,
        arrivals: &mut Arrivals,
        record: &mut Record,
        mut is_over: impl FnMut(&Record) -> bool,
    ) {
        let end_us = micros(self.scenario.length);
        record.end = Moment::from_micros(end_us);
        let mut turn = 0;
        let mut arrival = arrivals.nth(turn);
        loop {
            let timer_us = self.timers.due();
            let (done_us, endpoint) = self.plant.due();
            let next_us = arrival.at_us.min(timer_us).min(done_us);
            if next_us > end_us {
                break;
            }
            if next_us == arrival.at_us {
                let (front, mut out) = self.outside(record, next_us);
                front.arrive(arrival, &mut out);
                turn += 1;
                arrival = arrivals.nth(turn);
            } else if next_us == timer_us {
                if self.handle_timer(record) && is_over(record) {
                    record.end = Moment::from_micros(timer_us);
                    break;
                }
            } else if let Some((ticket, answer)) = self.plant.finish(done_us, endpoint, &mut self.timers) {
                let (front, mut out) = self.outside(record, done_us);
                front.handle_end(ticket, answer, &mut out);
            }
        }
        self.front.close(record.end, record);
    }

    /// Handles the next timer; returns whether there is something new to look at.
    fn handle_timer(&mut self, record: &mut Record) -> bool {
        let Some((at_us, timer)) = self.timers.pop() else {
            return false;
        };
        match timer {
            Timer::Tick(proxy) => self.tick(at_us, proxy, record),
            Timer::Probe(proxy, endpoint) => self.probe(at_us, proxy, endpoint),
            Timer::Look => {
                record.looks.push(Look {
                    at: Moment::from_micros(at_us),
                    endpoints: self.plant.seen().to_vec(),
                });
                self.timers.at(at_us + micros(TICK), Timer::Look);
                return true;
            }
            Timer::ProbeEnd(proxy, endpoint, passed) => {
                if let Some(proxy) = self.front.proxy(proxy) {
                    proxy.handle_probe(usize::from(endpoint), passed);
                }
            }
            Timer::Edge(endpoint) => {
                self.plant.edge(at_us, usize::from(endpoint), &mut self.timers);
                let (front, mut out) = self.outside(record, at_us);
                if let Front::Bare(bare) = front {
                    bare.handle_edge(usize::from(endpoint), &mut out);
                }
            }
            Timer::Patience(ticket) => {
                let (front, mut out) = self.outside(record, at_us);
                if let Some(proxy) = front.proxy(ticket.proxy) {
                    proxy.handle_patience(ticket, &mut out);
                }
            }
            Timer::Limit(ticket) => {
                let (front, mut out) = self.outside(record, at_us);
                front.handle_limit(ticket, &mut out);
            }
            Timer::End(ticket, answer) => {
                let (front, mut out) = self.outside(record, at_us);
                front.handle_end(ticket, answer, &mut out);
            }
            Timer::Waited(waited) => {
                if let Some(answer) = self.plant.wait_over(at_us, waited) {
                    let (front, mut out) = self.outside(record, at_us);
                    front.handle_end(waited.ticket, answer, &mut out);
                }
            }
        }
        false
    }

    fn tick(&mut self, at_us: u64, index: u16, record: &mut Record) {
        let now_us = self.seen_at(at_us);
        let lag = Duration::from_micros(now_us - at_us);
        let Some(proxy) = self.front.proxy(index) else {
            return;
        };
        let tick = proxy.tick(Moment::from_micros(now_us), lag);
        let ticks = match usize::from(index).checked_sub(1) {
            Some(other) => record.other_ticks.get_mut(other),
            None => Some(&mut record.ticks),
        };
        if let Some(ticks) = ticks {
            ticks.push(tick);
        }
        self.timers.at(now_us + micros(TICK), Timer::Tick(index));
    }

    fn probe(&mut self, now_us: u64, proxy: u16, endpoint: u16) {
        let Some(probes) = self.scenario.probes else {
            return;
        };
        let timeout_us = micros(probes.timeout);
        let (wait_us, passed) = match self
            .plant
            .probe(now_us, usize::from(endpoint), probes.connect_only)
        {
            Some(Ok(us)) if us < timeout_us => (us, true),
            Some(Err(us)) => (us, false),
            Some(Ok(_)) | None => (timeout_us, false),
        };
        self.timers
            .at(now_us + wait_us, Timer::ProbeEnd(proxy, endpoint, passed));
        self.timers
            .at(now_us + micros(probes.interval), Timer::Probe(proxy, endpoint));
    }

    fn outside<'b>(&'b mut self, record: &'b mut Record, at_us: u64) -> (&'b mut Front, Outside<'b, 'a>) {
        let now_us = self.seen_at(at_us);
        let out = Outside {
            plant: &mut self.plant,
            timers: &mut self.timers,
            record,
            now_us,
        };
        (&mut self.front, out)
    }

    /// When the proxy notices something: at once, or when it wakes up.
    fn seen_at(&self, at_us: u64) -> u64 {
        match self.scenario.suspended {
            Some((from, span)) if from.as_micros() <= at_us => at_us.max((from + span).as_micros()),
            Some(_) | None => at_us,
        }
    }
}

impl Front {
    fn proxy(&mut self, index: u16) -> Option<&mut Proxy> {
        match self {
            Self::Proxies(proxies) => proxies.get_mut(usize::from(index)),
            Self::Bare(_) => None,
        }
    }

    fn arrive(&mut self, arrival: load::Arrival, out: &mut Outside<'_, '_>) {
        match self {
            Self::Proxies(proxies) => {
                let index = arrival.user as usize % proxies.len().max(1);
                if let Some(proxy) = proxies.get_mut(index) {
                    proxy.arrive(arrival, out);
                }
            }
            Self::Bare(bare) => bare.arrive(arrival, out),
        }
    }

    fn handle_end(&mut self, ticket: server::Ticket, answer: server::Answer, out: &mut Outside<'_, '_>) {
        match self {
            Self::Proxies(_) => {
                if let Some(proxy) = self.proxy(ticket.proxy) {
                    proxy.handle_end(ticket, answer, out);
                }
            }
            Self::Bare(bare) => bare.handle_end(ticket, answer, out),
        }
    }

    fn handle_limit(&mut self, ticket: server::Ticket, out: &mut Outside<'_, '_>) {
        match self {
            Self::Proxies(_) => {
                if let Some(proxy) = self.proxy(ticket.proxy) {
                    proxy.handle_limit(ticket, out);
                }
            }
            Self::Bare(bare) => bare.handle_limit(ticket, out),
        }
    }

    fn close(&mut self, now: Moment, record: &mut Record) {
        match self {
            Self::Proxies(proxies) => proxies.iter_mut().for_each(|proxy| proxy.close(now, record)),
            Self::Bare(bare) => bare.close(now, record),
        }
    }
}

fn narrow(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
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
