//! All endpoints of a cluster: their queues, how each is at the moment, and what each has got so far.

#![expect(
    clippy::indexing_slicing,
    reason = "endpoints are those of the scenario that the plant was made for; no traffic comes here"
)]

use super::fault::{self, Condition, Failure, Fault, Kind, Network, PACKETS, RESEND, Release};
use super::load::{Arrival, Chance, Dice, Load};
use super::record::{PATHS_SEEN, Seen};
use super::scenario::Scenario;
use super::server::{Answer, Job, Server, Ticket};
use super::timers::{Timer, Timers, Waited};
use crate::moment::Moment;

/// Microseconds until a refusal is back: a round trip in one zone.
const REFUSAL_US: u64 = 200;

/// Microseconds of work for a probe.
const PROBE_US: f64 = 1_000.0;

/// Losses of one packet that are told apart: after that many the exchange has taken seconds.
const LOSSES_MAX: i32 = 5;

/// What a failure costs, in microseconds of waiting, for who knows everything: a failed request is as bad as five
/// seconds, in the measure of harm by which a run is judged.
const FAILURE_US: f64 = 5e6;

pub(super) struct Plant<'a> {
    servers: Vec<Server>,
    /// When each endpoint's next request ends. Kept, because it is asked at every event and changes at few.
    due_us: Vec<u64>,
    /// The first of those, and where.
    first: (u64, usize),
    faults: Vec<Fault>,
    /// Without a fault of one path or a ramp, an endpoint meets all requests alike until the next edge.
    conditions: Vec<Option<Condition>>,
    /// Whether nothing at all is wrong with an endpoint, until the next edge.
    well: Vec<bool>,
    /// How often an endpoint has lost what it was working on.
    lives: Vec<u16>,
    seen: Vec<Seen>,
    load: Load,
    slow_keeps_core: bool,
    crowd_max: usize,
    chance: Chance<'a>,
}

impl<'a> Plant<'a> {
    pub(super) fn new(scenario: &Scenario, dice: &'a mut Dice) -> Self {
        let count = scenario.cores.len();
        let mut plant = Self {
            servers: scenario.cores.iter().map(|cores| Server::new(*cores)).collect(),
            due_us: vec![u64::MAX; count],
            first: (u64::MAX, 0),
            faults: scenario.faults.clone(),
            conditions: vec![None; count],
            well: vec![true; count],
            lives: vec![0; count],
            seen: vec![Seen::default(); count],
            load: scenario.load.clone(),
            slow_keeps_core: scenario.slow_keeps_core,
            crowd_max: scenario.crowd_max,
            chance: Chance::new(dice),
        };
        for endpoint in 0..count {
            plant.settle(endpoint, Moment::ZERO);
        }
        plant
    }

    /// When the next request ends, and at which endpoint.
    pub(super) fn due(&self) -> (u64, usize) {
        self.first
    }

    /// What an endpoint works on has changed, and so may have who is done next.
    fn reschedule(&mut self, endpoint: usize) {
        let at_us = self.servers[endpoint].due();
        self.due_us[endpoint] = at_us;
        if (at_us, endpoint) <= self.first {
            self.first = (at_us, endpoint);
        } else if endpoint == self.first.1 {
            self.first = (u64::MAX, 0);
            for (endpoint, at_us) in self.due_us.iter().enumerate() {
                if *at_us < self.first.0 {
                    self.first = (*at_us, endpoint);
                }
            }
        }
    }

    /// What the endpoints have got so far.
    pub(super) fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Ends the work that is due. Returns what is over with it.
    pub(super) fn finish(
        &mut self,
        now_us: u64,
        endpoint: usize,
        timers: &mut Timers,
    ) -> Option<(Ticket, Answer)> {
        let job = self.servers[endpoint].finish(now_us);
        self.reschedule(endpoint);
        let Job {
            ticket,
            post,
            answer,
            wait_us,
        } = job?;
        if wait_us > 0 {
            let waited = Waited {
                endpoint: narrow(endpoint),
                lives: self.lives[endpoint],
                post,
                ticket,
                answer,
            };
            timers.at(now_us + wait_us, Timer::Waited(waited));
            return None;
        }
        Some((ticket, answer))
    }

    /// A request has waited for something else long enough. Returns how it ends, if it does: it does not where its
    /// endpoint has begun to hang meanwhile, and badly where the endpoint has lost it.
    pub(super) fn wait_over(&mut self, now_us: u64, waited: Waited) -> Option<Answer> {
        let endpoint = usize::from(waited.endpoint);
        if self.lives[endpoint] == waited.lives {
            return Some(waited.answer);
        }
        let condition = fault::condition(&self.faults, endpoint, None, Moment::from_micros(now_us));
        if condition.hang.is_some() {
            self.servers[endpoint].hang(waited.ticket, waited.post);
            return None;
        }
        self.seen[endpoint].posts_lost += u64::from(waited.post);
        Some(Answer::Failed(Failure::Reset))
    }

    /// A request reaches an endpoint. Returns whether the endpoint took it: a refused one never got there.
    pub(super) fn accept(
        &mut self,
        now_us: u64,
        endpoint: usize,
        arrival: &Arrival,
        ticket: Ticket,
        timers: &mut Timers,
    ) -> bool {
        if self.well[endpoint] {
            return self.accept_well(now_us, endpoint, arrival, ticket, timers);
        }
        let condition = self.condition(endpoint, arrival.path, now_us);
        if condition.refuse {
            timers.at(now_us + REFUSAL_US, Timer::End(ticket, Answer::Refused));
            return false;
        }
        if self.is_full(now_us, endpoint, ticket, timers) {
            return false;
        }
        self.count(endpoint, arrival);
        if condition.hang.is_some() {
            self.servers[endpoint].hang(ticket, arrival.post);
            return true;
        }
        let chance = &mut self.chance;
        let failing = condition.failing.filter(|failing| chance.falls(failing.share));
        let mut work_us = self.load.work_us(arrival.path, chance);
        let some = condition.slow_some.filter(|(_, share)| chance.falls(*share));
        let (busy, waits) = slowed(
            self.slow_keeps_core,
            condition.slow,
            some.map_or(1.0, |(factor, _)| factor),
        );
        let mut wait_us = work_us * busy * (waits - 1.0);
        work_us *= busy;
        if let Some(network) = condition.network {
            wait_us += network_us(&network, chance);
        }
        let answer = match failing {
            Some(failing) => {
                work_us *= failing.work;
                self.seen[endpoint].errors += u64::from(matches!(failing.how, Failure::Status(_)));
                Answer::Failed(failing.how)
            }
            None => Answer::Ok {
                body_us: u32::try_from(condition.body.as_micros()).unwrap_or(u32::MAX),
            },
        };
        let job = Job {
            ticket,
            post: arrival.post,
            answer,
            wait_us: whole_us(wait_us),
        };
        self.servers[endpoint].accept(now_us, work_us, job);
        self.reschedule(endpoint);
        true
    }

    /// The same where nothing at all is wrong: most requests of most runs.
    fn accept_well(
        &mut self,
        now_us: u64,
        endpoint: usize,
        arrival: &Arrival,
        ticket: Ticket,
        timers: &mut Timers,
    ) -> bool {
        if self.is_full(now_us, endpoint, ticket, timers) {
            return false;
        }
        self.count(endpoint, arrival);
        let job = Job {
            ticket,
            post: arrival.post,
            answer: Answer::AT_ONCE,
            wait_us: 0,
        };
        let work_us = self.load.work_us(arrival.path, &mut self.chance);
        self.servers[endpoint].accept(now_us, work_us, job);
        self.reschedule(endpoint);
        true
    }

    /// Whether an endpoint has as much to do as it takes in. It says so then.
    fn is_full(&self, now_us: u64, endpoint: usize, ticket: Ticket, timers: &mut Timers) -> bool {
        let full = self.servers[endpoint].crowd() >= self.crowd_max;
        if full {
            let away = Timer::End(ticket, Answer::Failed(Failure::Status(503)));
            timers.at(now_us + REFUSAL_US, away);
        }
        full
    }

    fn count(&mut self, endpoint: usize, arrival: &Arrival) {
        let seen = &mut self.seen[endpoint];
        seen.by_path[arrival.path.min(PATHS_SEEN - 1)] += 1;
        seen.posts += u64::from(arrival.post);
    }

    /// How long an answer to a probe takes, microseconds; `None` where there is none, `Some(Err)` where it is refused.
    pub(super) fn probe(&self, now_us: u64, endpoint: usize, connect_only: bool) -> Option<Result<u64, u64>> {
        let condition = fault::condition(&self.faults, endpoint, None, Moment::from_micros(now_us));
        if condition.refuse {
            return Some(Err(REFUSAL_US));
        }
        let network = condition
            .network
            .map_or(0, |n| whole_us(f64::from(PACKETS) * n.delay.as_secs_f64() * 1e6));
        if connect_only {
            return Some(Ok(REFUSAL_US + network));
        }
        let answered = Some(Ok(whole_us(PROBE_US * condition.slow) + network));
        answered.filter(|_| condition.hang.is_none() && condition.capacity > 0.0)
    }

    /// Whether nothing at all is wrong with an endpoint.
    pub(super) fn is_well(&self, endpoint: usize) -> bool {
        self.well[endpoint]
    }

    /// What a request for `path` costs its user at an endpoint now, for who knows everything: the time that it will
    /// wait, and its part of the failures. `None` where it gets no answer at all.
    pub(super) fn price_us(&self, now_us: u64, endpoint: usize, path: usize) -> Option<f64> {
        let condition = self.condition(endpoint, path, now_us);
        let full = self.servers[endpoint].crowd() >= self.crowd_max;
        if full || condition.refuse || condition.hang.is_some() || condition.capacity <= 0.0 {
            return None;
        }
        let work_us = self.load.median.as_secs_f64() * 1e6;
        let network_us = condition.network.map_or(0.0, |network| {
            let resent = network.loss * RESEND.as_secs_f64();
            f64::from(PACKETS) * (network.delay.as_secs_f64() + resent) * 1e6
        });
        let crowding = self.servers[endpoint].crowding().max(1.0);
        let failing = condition.failing.map_or(0.0, |failing| failing.share);
        let some = condition
            .slow_some
            .map_or(0.0, |(factor, share)| share * (factor - 1.0));
        let (busy, waits) = slowed(self.slow_keeps_core, condition.slow, 1.0 + some);
        Some(
            work_us * busy * (crowding + waits - 1.0)
                + network_us
                + condition.body.as_secs_f64() * 1e6
                + failing * FAILURE_US,
        )
    }

    /// A fault of an endpoint came or went.
    pub(super) fn edge(&mut self, now_us: u64, endpoint: usize, timers: &mut Timers) {
        let now = Moment::from_micros(now_us);
        self.settle(endpoint, now);
        let condition = fault::condition(&self.faults, endpoint, None, now);
        self.servers[endpoint].set_capacity(now_us, condition.capacity);
        if condition.dead {
            self.lives[endpoint] = self.lives[endpoint].wrapping_add(1);
            for job in self.servers[endpoint].drop_all(now_us) {
                self.seen[endpoint].posts_lost += u64::from(job.post);
                timers.at(now_us, Timer::End(job.ticket, Answer::Failed(Failure::Reset)));
            }
        }
        if condition.hang.is_some() {
            self.lives[endpoint] = self.lives[endpoint].wrapping_add(1);
            self.servers[endpoint].hang_all(now_us);
        } else if !self.hangs_somewhere(endpoint, now) {
            let how = self.hang_ended(endpoint, now);
            let (load, chance, lost) = (&self.load, &mut self.chance, &mut self.seen[endpoint].posts_lost);
            self.servers[endpoint].release(
                now_us,
                how,
                || load.work_us(0, chance),
                |ticket, post| {
                    *lost += u64::from(post);
                    timers.at(now_us, Timer::End(ticket, Answer::Failed(Failure::Reset)));
                },
            );
        }
        self.reschedule(endpoint);
    }

    fn condition(&self, endpoint: usize, path: usize, now_us: u64) -> Condition {
        self.conditions[endpoint].unwrap_or_else(|| {
            fault::condition(&self.faults, endpoint, Some(path), Moment::from_micros(now_us))
        })
    }

    /// Finds out what holds until the next edge.
    fn settle(&mut self, endpoint: usize, now: Moment) {
        let active = |f: &&Fault| f.endpoint == endpoint && f.is_active(now);
        let changes = |f: &Fault| f.path.is_some() || matches!(f.kind, Kind::Ramp(_) | Kind::Leak(_));
        let lasts = !self.faults.iter().filter(active).any(changes);
        self.well[endpoint] = !self.faults.iter().any(|f| active(&f));
        self.conditions[endpoint] = lasts.then(|| fault::condition(&self.faults, endpoint, None, now));
    }

    /// Whether requests for any path hang.
    fn hangs_somewhere(&self, endpoint: usize, now: Moment) -> bool {
        let hangs = |f: &Fault| matches!(f.kind, Kind::Hang(_));
        let mut of_it = self
            .faults
            .iter()
            .filter(|f| f.endpoint == endpoint && f.is_active(now));
        of_it.any(hangs)
    }

    /// What becomes of what hangs at `endpoint`, by the hang that ended last.
    fn hang_ended(&self, endpoint: usize, now: Moment) -> Release {
        let hangs = self
            .faults
            .iter()
            .filter(|f| f.endpoint == endpoint && f.from <= now);
        hangs
            .filter_map(|f| match f.kind {
                Kind::Hang(release) => Some((f.from, release)),
                _ => None,
            })
            .max_by_key(|(from, _)| *from)
            .map_or(Release::Answered, |(_, release)| release)
    }
}

/// By how much more work a request is, and by how much longer it takes then, where its endpoint is `slow` and the
/// request itself `waits`.
fn slowed(keeps_core: bool, slow: f64, waits: f64) -> (f64, f64) {
    if keeps_core {
        (slow, waits)
    } else {
        (1.0, waits * slow)
    }
}

/// What the way to an endpoint and back adds to a request.
fn network_us(network: &Network, chance: &mut Chance<'_>) -> f64 {
    let mut seconds = 0.0;
    for _ in 0..PACKETS {
        let losses = (0..LOSSES_MAX).take_while(|_| chance.falls(network.loss)).count();
        let jitter = network.jitter.as_secs_f64() * (2.0 * chance.uniform() - 1.0);
        seconds += (network.delay.as_secs_f64() + jitter).max(0.0);
        seconds += RESEND.as_secs_f64() * f64::from((1u32 << losses) - 1);
    }
    seconds * 1e6
}

fn narrow(endpoint: usize) -> u16 {
    u16::try_from(endpoint).unwrap_or(u16::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, which is what is meant"
)]
fn whole_us(us: f64) -> u64 {
    us.round() as u64
}
