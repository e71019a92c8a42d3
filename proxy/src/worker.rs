//! One worker's state, and the life of a request in it: route, pick, attempt, outcome, and on to the next attempt.
//!
//! This is the policy's side of the request path. It knows nothing of pingora, so that a second, leaner engine can call
//! the same steps. Nothing in here is shared between threads: the worker's thread owns it, and the only thing it reads
//! from outside is the snapshot, which it takes over between two requests.
//!
//! Steps, in the order of a request: [`Worker::admit`], [`Worker::body_awaited`] and [`Worker::body_taken`], then per
//! attempt [`Worker::start`], [`Worker::sent`], [`Worker::first_byte`], [`Worker::progress`] for each piece of a body, and
//! [`Worker::end`] or [`Worker::fail`], and at last [`Worker::answered`]. Of a connection that is only carried some steps
//! are others: [`carried`]. Between any two of them the configuration may have been replaced: see [`takeover`].

mod admission;
mod carried;
mod compressed;
mod copies;
pub(crate) mod datagrams;
mod drawn;
mod failover;
mod limited;
mod spoils;
mod sticking;
pub(crate) mod stream;
mod takeover;
mod told;
mod traced;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use foreshade_engine::balance::{Loads, Pick, Request, Tried};
use foreshade_engine::budget::RetryBudget;
use foreshade_engine::failover::{ATTEMPTS_MAX_NEVER_SENT, is_failure};
use foreshade_engine::moment::Moment;
use foreshade_engine::outcome::{Class, Outcome};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::acme::challenges::Challenges;
use crate::clock::Clock;
use crate::framing::Refusal;
use crate::ledger::{Drawn, Ledger};
use crate::mirror::Rule;
use crate::outcome::Failure;
use crate::policy::Policed;
use crate::recorder::{Place, Recorded, Recorder};
use crate::table::{Snapshot, Table};
use crate::tally::{Counts, Tally};
use crate::topology::Topology;
use crate::topology::ids::{ClusterId, EndpointId, ListenerId};
use crate::trace::attempts::Attempts;
use crate::upstream::cut::Line;
use crate::upstream::deadline::{Armed, Deadlines, Ended, Entry};

use self::admission::Granted;
pub use self::admission::{Admission, Changes};
pub use self::carried::Carriage;
pub(crate) use self::carried::SERVED;
use self::carried::{First, Talk};
use self::failover::attempts;
pub use self::spoils::Spoils;
use self::sticking::Stuck;
use self::stream::Turn;
use self::waiting::Waiting;

/// Most endpoints that one request can be sent to.
const TRIED_MAX: usize = ATTEMPTS_MAX_NEVER_SENT as usize;

/// The status of an answer after which bytes of another protocol follow.
const SWITCHING_PROTOCOLS: u16 = 101;

/// An answer may pause this long between two pieces of its body.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Everything one worker owns.
#[derive(Debug)]
pub struct Worker {
    clock: Clock,
    topology: Arc<Topology>,
    /// Of the topology: what the indices in here and in a flow mean.
    generation: u64,
    /// Listeners that the topology does not have any more, whose last requests are still served, by the topology that
    /// had them. Bounded by the accept loops that are not done yet.
    retired: Vec<(ListenerId, Arc<Topology>)>,
    table: Arc<Table>,
    snapshot: Arc<Snapshot>,
    /// How many workers share the retry budgets.
    workers: usize,
    /// By cluster index.
    clusters: Vec<ClusterState>,
    recorder: Recorder,
    /// How requests ended at pairs that are under analysis.
    ledger: Ledger,
    deadlines: Deadlines<Waiting>,
    rng: SmallRng,
    unrouted: u64,
    refused: Counts,
    /// Requests that no endpoint saw, by why.
    answered_here: Counts,
    challenges: Arc<Challenges>,
    policed: Policed,
    /// Answers that are being compressed: each holds it.
    encoders: Arc<()>,
    latest: Moment,
}

#[derive(Debug)]
struct ClusterState {
    loads: Loads,
    budget: RetryBudget,
    tally: Tally,
    /// Who spoke first on the last connection that was only carried; `None` while nobody has answered on one.
    first: Option<First>,
}

impl ClusterState {
    fn new(endpoints: usize, workers: usize, now: Moment) -> Self {
        Self {
            loads: Loads::new(endpoints),
            budget: RetryBudget::new(workers, now),
            tally: Tally::default(),
            first: None,
        }
    }
}

/// A request on its way: what the policy remembers of it between two steps.
#[derive(Debug)]
pub struct Flow {
    /// The generation that its indices belong to.
    generation: u64,
    cluster: usize,
    cluster_id: Option<ClusterId>,
    request: Request,
    arrived: Moment,
    /// Since when endpoints could be asked: later, where the body was waited for first.
    ready: Moment,
    /// When its client said his last word, as far as that is known: since then an answer is waited for.
    said: Moment,
    granted: Granted,
    /// The route's limit for the first byte, from the last byte of the request.
    timeout: Duration,
    limit: Moment,
    tried: ArrayVec<usize, TRIED_MAX>,
    /// Who they are, for when the indices mean others.
    tried_ids: ArrayVec<EndpointId, TRIED_MAX>,
    /// Where the next attempt goes, decided when the last one failed.
    next: Option<Pick>,
    attempt: Option<Attempt>,
    /// When the last attempt began, and when it had a connection.
    started: Option<Moment>,
    sent: Option<Moment>,
    first_byte: Option<Moment>,
    /// How the last attempt failed; `None` while one is under way, and after one that did not.
    failure: Option<Failure>,
    changes: Option<Changes>,
    /// By which rule a copy of the request is to be made, until it has been.
    mirror: Option<Arc<Rule>>,
    /// To which side of a pair under analysis it was drawn.
    drawn: Option<Drawn>,
    /// The slot that its user had, and has; `None` where nobody stays.
    stuck: Option<Box<Stuck>>,
    /// What is remembered for its spans; `None` where nobody is told of them.
    traced: Option<Box<Attempts>>,
    /// Its client is told where the time went.
    timed: bool,
}

/// One attempt at one endpoint.
#[derive(Debug)]
struct Attempt {
    place: Place,
    started: Moment,
    recorded: Recorded,
    armed: Option<Armed>,
    /// How long its first byte is waited for before the request may go elsewhere; `None` where it may not.
    patience: Option<Duration>,
    /// Its outcome, once there is one.
    outcome: Option<Outcome>,
    /// Of a connection that is only carried: how far it has come.
    talk: Option<Talk>,
    /// Of a request on a stream: whose turn it is, and until when.
    turn: Option<Turn>,
}

/// What becomes of a request whose attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Start another attempt.
    Elsewhere,
    /// Tell the client this status; 0 where there is nobody to tell.
    Answer(u16),
}

impl Flow {
    /// Whether a copy of the request is to be made yet.
    pub fn is_mirrored(&self) -> bool {
        self.mirror.is_some()
    }
}

impl Worker {
    /// The same, where authorities that ask whether a name leads here find the answers in `challenges`.
    #[must_use]
    pub fn answering(mut self, challenges: Arc<Challenges>) -> Self {
        self.challenges = challenges;
        self
    }

    /// What an authority finds that asks whether a name leads here.
    pub(crate) fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// A worker that has not served yet. `workers` is how many share the retry budgets.
    pub fn new(clock: Clock, table: Arc<Table>, workers: usize) -> Self {
        let snapshot = table.newest();
        let topology = snapshot.topology.clone();
        let sizes = topology.sizes();
        let now = clock.now();
        Self {
            clock,
            snapshot,
            table,
            workers,
            clusters: sizes
                .iter()
                .map(|n| ClusterState::new(*n, workers, now))
                .collect(),
            recorder: Recorder::new(&sizes),
            ledger: Ledger::new(&sizes),
            generation: topology.generation(),
            retired: Vec::new(),
            topology,
            deadlines: Deadlines::default(),
            rng: SmallRng::from_rng(&mut rand::rng()),
            unrouted: 0,
            refused: Counts::default(),
            answered_here: Counts::default(),
            challenges: Arc::default(),
            policed: Policed::default(),
            encoders: Arc::default(),
            latest: now,
        }
    }

    /// When the worker last read its clock: now, for whoever comes right after one of its steps.
    pub fn latest(&self) -> Moment {
        self.latest
    }

    /// Time has passed since the last step: the attempt had to wait for a connection.
    pub fn waited(&mut self) {
        self.now();
    }

    fn now(&mut self) -> Moment {
        self.latest = self.clock.now();
        self.latest
    }

    /// A client was refused, before or beside all routing.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.refused.add(refusal.label(), 1);
    }

    /// Starts the next attempt and says where. `None` where nobody is left to serve.
    pub fn start(&mut self, flow: &mut Flow) -> Option<Place> {
        self.find_again(flow);
        // The first attempt starts when the request is ready; reading the clock again would tell the same.
        let now = if flow.tried.is_empty() {
            flow.ready
        } else {
            self.now()
        };
        let table = self.snapshot.clusters.get(flow.cluster)?;
        let state = self.clusters.get_mut(flow.cluster)?;
        let pick = match flow.next.take() {
            Some(pick) if pick.endpoint != Place::GONE => pick,
            // What it was to go to has gone meanwhile.
            _ if !flow.tried.is_empty() => {
                let tried = Tried {
                    endpoints: &flow.tried,
                    never_sent: false,
                    stale: false,
                };
                table.alternative(&flow.request, tried, &state.loads, &mut self.rng, now)?
            }
            _ => table.pick(&flow.request, &state.loads, &mut self.rng, now)?,
        };
        let place = Place {
            cluster: flow.cluster,
            endpoint: pick.endpoint,
        };
        // Full only if a caller starts more attempts than `fail` granted; then there is nowhere left to go.
        flow.tried.try_push(pick.endpoint).ok()?;
        flow.tried_ids.try_push(self.topology.endpoint_id(place)?).ok()?;
        if let Some(stuck) = &mut flow.stuck {
            stuck.is_served_by(self.topology.cluster(flow.cluster), pick.primary);
        }
        if flow.tried.len() == 1 {
            flow.drawn = self.snapshot.drawn(flow.cluster, pick.primary, &flow.request);
        }
        state.loads.begin(pick.endpoint);
        state.tally.picked.add(pick.why.label(), 1);
        let recorded = self.recorder.begin(place, now);
        flow.failure = None;
        (flow.started, flow.sent) = (Some(now), None);
        flow.attempt = Some(Attempt {
            place,
            started: now,
            recorded,
            armed: None,
            patience: None,
            outcome: None,
            talk: None,
            turn: None,
        });
        self.trace_start(flow, &pick, now);
        Some(place)
    }

    /// The attempt's request goes out on `line`: from here on its first byte is waited for, no longer than the
    /// endpoint's usual time if the request can go elsewhere, and never longer than the route's.
    pub fn sent(&mut self, flow: &mut Flow, line: impl Into<Line>, replayable: bool) {
        self.find_again(flow);
        // A kept connection is there at once; whoever waited for a new one has said so.
        let now = self.latest;
        flow.sent = Some(now);
        flow.trace_sent(now);
        let Some(attempt) = flow.attempt.as_mut() else {
            return;
        };
        let table = self.snapshot.clusters.get(flow.cluster);
        attempt.patience = table
            .and_then(|table| table.attempt_timeout(attempt.place.endpoint))
            .filter(|_| flow.request.repeatable && replayable);
        let at = attempt.patience.map_or(flow.limit, |p| (now + p).min(flow.limit));
        let what = Waiting {
            cluster: flow.cluster,
            endpoint: attempt.place.endpoint,
            request: flow.request,
            attempts: attempts(&flow.tried),
            replayable,
            limit: flow.limit,
            moved: None,
        };
        let line = line.into();
        attempt.armed = Some(self.deadlines.arm(Entry { line, at, what }));
    }

    /// The head of an answer is there. True where it is not the user's to see, because the request goes elsewhere:
    /// drop the answer and start the next attempt.
    pub fn first_byte(&mut self, flow: &mut Flow, status: u16, retry_after: bool, replayable: bool) -> bool {
        self.find_again(flow);
        let now = self.now();
        let Some(attempt) = flow.attempt.as_mut() else {
            return false;
        };
        if status == SWITCHING_PROTOCOLS
            && let Some(armed) = attempt.armed.take()
        {
            // From here on it is the users' own conversation, which may rest as long as they like.
            self.deadlines.end(armed);
        }
        if let Some(armed) = attempt.armed {
            let pause_ends = now + BODY_PAUSE_MAX;
            self.deadlines
                .renew(armed, pause_ends, |waiting| waiting.limit = pause_ends);
        }
        self.rearm(flow, now);
        let Some(attempt) = flow.attempt.as_mut() else {
            return false;
        };
        self.recorder.first_byte(attempt.place, &mut attempt.recorded);
        self.count(flow, Class::of_status(status, retry_after), Some(status), now);
        if is_failure(status, flow.request.retry_on) {
            let what = Failure::Status(status, retry_after).consequence();
            if let Some(stage) = what.stage
                && self.move_on(flow, stage, what.reason, replayable, now)
            {
                return true;
            }
        }
        flow.answer_begins(now, Class::of_status(status, retry_after));
        flow.first_byte = Some(now);
        self.tell_slot(flow);
        false
    }

    /// A piece of a body has passed, of the request or of the answer: the time for the next one starts anew.
    pub fn progress(&mut self, flow: &mut Flow) {
        if self.passed(flow) {
            return;
        }
        let Some((attempt, armed)) = flow.attempt.as_ref().and_then(|a| Some((a, a.armed?))) else {
            return;
        };
        let now = self.clock.now();
        let (at, limit) = if flow.first_byte.is_some() {
            (now + BODY_PAUSE_MAX, now + BODY_PAUSE_MAX)
        } else {
            (flow.said, flow.limit) = (now, now + flow.timeout);
            (
                attempt.patience.map_or(flow.limit, |p| now + p).min(flow.limit),
                flow.limit,
            )
        };
        self.deadlines.renew(armed, at, |waiting| waiting.limit = limit);
    }

    /// The attempt's answer is complete.
    pub fn end(&mut self, flow: &mut Flow) {
        self.find_again(flow);
        let now = self.clock.now();
        self.release(flow, now);
    }

    /// The attempt failed. Charges the endpoint and decides what becomes of the request.
    pub fn fail(&mut self, flow: &mut Flow, failure: Failure, replayable: bool) -> Next {
        self.find_again(flow);
        let now = self.clock.now();
        let (failure, granted) = self.explain(flow, failure, now);
        let consequence = failure.consequence();
        flow.failure = Some(failure);
        if flow.attempt.is_some() {
            self.count(flow, consequence.class, None, now);
        }
        self.release(flow, now);
        if let Some(pick) = granted {
            flow.next = Some(pick);
            if let Some(state) = self.clusters.get_mut(flow.cluster) {
                state.tally.moved.add(consequence.reason, 1);
            }
            self.retried(flow);
            return Next::Elsewhere;
        }
        match consequence.stage {
            Some(stage) if self.move_on(flow, stage, consequence.reason, replayable, now) => Next::Elsewhere,
            _ => {
                flow.answer_fails(now, failure);
                Next::Answer(consequence.status)
            }
        }
    }

    /// The user has been answered, with `status`; 0 where nothing could be said.
    pub fn answered(&mut self, flow: &mut Flow, status: u16) {
        self.find_again(flow);
        let now = self.clock.now();
        self.release(flow, now);
        flow.granted.release();
        let latency = flow.first_byte.map(|at| at.since(flow.arrived));
        if let Some(state) = self.clusters.get_mut(flow.cluster) {
            state.tally.answered(status, latency);
            state.tally.spent(&flow.trail(None).times(now));
        }
    }

    /// The connection's task was dropped in the middle of a request.
    pub fn abandon(&mut self, flow: &mut Flow) {
        self.find_again(flow);
        let now = self.clock.now();
        self.release(flow, now);
    }

    /// Swaps what was seen since the last harvest for the empty buffers in `spare`.
    pub fn harvest(&mut self, spare: &mut Spoils) {
        if spare.topology.generation() != self.generation {
            // Sized for the configuration before, when the question was asked.
            *spare = Spoils::empty(&self.topology);
        }
        self.recorder.harvest(&mut spare.endpoints, self.clock.now());
        for (state, tally) in self.clusters.iter_mut().zip(&mut spare.clusters) {
            std::mem::swap(&mut state.tally, tally);
        }
        std::mem::swap(&mut self.ledger, &mut spare.ledger);
        spare.unrouted = std::mem::take(&mut self.unrouted);
        std::mem::swap(&mut self.refused, &mut spare.refused);
        std::mem::swap(&mut self.answered_here, &mut spare.answered_here);
        std::mem::swap(&mut self.policed, &mut spare.policed);
    }

    /// The recorder, for samples that come beside the requests.
    pub fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    /// An ended connection may have been ended by us: then it was a timeout, and its way on may be paid for already.
    fn explain(&mut self, flow: &mut Flow, failure: Failure, now: Moment) -> (Failure, Option<Pick>) {
        let armed = flow.attempt.as_mut().and_then(|a| a.armed.take());
        let ended = armed.and_then(|a| self.deadlines.end(a));
        if let (Some(Ended::Reached(_)), Some(failure)) = (&ended, Self::overstayed(flow, now)) {
            return (failure, None);
        }
        match ended {
            // Its user has begun to see the answer: nothing may follow it, whatever was decided meanwhile.
            Some(Ended::Reached(_)) if flow.first_byte.is_some() => (Failure::Truncated, None),
            // Paid for, even if where it was to go has gone meanwhile: `start` then finds another place.
            Some(Ended::Reached(Waiting {
                moved: Some(pick), ..
            })) => (Failure::AttemptTimeout, Some(pick)),
            Some(Ended::Reached(waiting)) if now >= waiting.limit => (Failure::RouteTimeout, None),
            _ => (failure, None),
        }
    }

    /// Counts the attempt's outcome. A second, bad one counts an answer that broke off.
    fn count(&mut self, flow: &mut Flow, class: Class, status: Option<u16>, now: Moment) {
        let Some(attempt) = flow.attempt.as_mut() else {
            return;
        };
        if attempt.outcome.is_some() && !class.is_bad() {
            return;
        }
        let outcome = Outcome {
            class,
            latency: attempt
                .talk
                .and_then(|talk| talk.latency())
                .or_else(|| attempt.turn.as_ref()?.latency())
                .unwrap_or_else(|| now.since(attempt.started)),
            route_class: flow.request.class,
            in_flight_at_start: attempt.recorded.in_flight_at_start,
        };
        attempt.outcome = Some(outcome);
        self.recorder.count(attempt.place, &outcome);
        flow.trace_outcome(class, status, now);
        self.settle(flow, class, status, outcome.latency);
    }

    /// The attempt holds its endpoint no longer.
    fn release(&mut self, flow: &mut Flow, now: Moment) {
        if flow.attempt.as_ref().is_some_and(|a| a.outcome.is_none()) {
            self.count(flow, Class::Cancelled, None, now);
        }
        let Some(Attempt {
            place,
            recorded,
            armed,
            outcome: Some(outcome),
            ..
        }) = flow.attempt.take()
        else {
            return;
        };
        if let Some(armed) = armed {
            self.deadlines.end(armed);
        }
        flow.trace_end(now);
        self.recorder.end(place, recorded);
        if let Some(state) = self.clusters.get_mut(flow.cluster) {
            state.loads.end(place.endpoint, &outcome, now);
            if outcome.class.is_served() {
                state.budget.earn();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::request::RequestView;
    use crate::scorer::Scorer;
    use http::HeaderMap;

    const CONFIG: &str = "
apiVersion: foreshade/v1
listeners:
  - name: web
    address: 127.0.0.1:8080
    routes: [{ match: { path: { prefix: /shop } }, cluster: shop, timeout: 2s }]
clusters:
  - name: shop
    endpoints:
      - { name: a, address: 127.0.0.1:9001, shadow: a-standby }
      - { name: b, address: 127.0.0.1:9002 }
    shadows: [{ name: a-standby, address: 127.0.0.1:9101 }]
";

    fn worker() -> Worker {
        let config = config::parse(CONFIG, "test").expect("the test's configuration is well");
        let topology = Topology::new(config);
        let clock = Clock::start();
        let (_, table) = Scorer::new(clock, topology);
        Worker::new(clock, table, 1)
    }

    fn admit(worker: &mut Worker, method: &str, path: &str) -> Option<Flow> {
        let headers = HeaderMap::new();
        let (listener, _) = worker.topology.listeners().next().unwrap();
        let view = RequestView {
            path,
            ..RequestView::of(method, &headers)
        };
        match worker.admit(listener, &view) {
            Admission::Forward(flow) => Some(flow),
            Admission::Answer(_) | Admission::Unrouted | Admission::Wait(_) => None,
        }
    }

    fn seen(worker: &mut Worker, class: Class) -> u32 {
        let mut spoils = Spoils::empty(&worker.topology.clone());
        worker.harvest(&mut spoils);
        spoils.endpoints[0].iter().map(|o| o.count(class)).sum()
    }

    fn in_flight(worker: &mut Worker) -> u32 {
        let mut spoils = Spoils::empty(&worker.topology.clone());
        worker.harvest(&mut spoils);
        spoils.endpoints[0]
            .iter()
            .map(|o| o.in_flight + o.ages.waiting())
            .sum()
    }

    #[test]
    fn a_request_that_no_route_matches_is_counted_and_goes_nowhere() {
        let mut worker = worker();
        assert!(admit(&mut worker, "GET", "/other").is_none());
        let mut spoils = Spoils::empty(&worker.topology.clone());
        worker.harvest(&mut spoils);
        assert_eq!(spoils.unrouted, 1);
    }

    #[test]
    fn a_refused_request_of_any_method_goes_elsewhere_and_never_to_the_same_endpoint() {
        let mut worker = worker();
        let mut flow = admit(&mut worker, "POST", "/shop").unwrap();
        let first = worker.start(&mut flow).unwrap();
        assert_eq!(worker.fail(&mut flow, Failure::Refused, true), Next::Elsewhere);
        let second = worker.start(&mut flow).unwrap();
        assert_ne!(first, second);
        worker.sent(&mut flow, -1, true);
        assert!(!worker.first_byte(&mut flow, 200, false, true));
        worker.answered(&mut flow, 200);
        assert_eq!(in_flight(&mut worker), 0);
    }

    /// A request whose attempt's time is up, and nobody has looked yet.
    fn overdue(worker: &mut Worker) -> Flow {
        let mut flow = admit(worker, "GET", "/shop").unwrap();
        worker.start(&mut flow).unwrap();
        worker.sent(&mut flow, -1, true);
        let armed = flow.attempt.as_ref().and_then(|attempt| attempt.armed).unwrap();
        let now = worker.clock.now();
        worker.deadlines.renew(armed, now, |_| {});
        flow
    }

    /// The sweep may decide for another endpoint while the answer's head lies in the kernel already.
    #[test]
    fn nothing_follows_an_answer_whose_head_the_user_has_seen() {
        for (seen, next) in [(false, Next::Elsewhere), (true, Next::Answer(0))] {
            let mut worker = worker();
            let mut flow = overdue(&mut worker);
            let mut given_up = 0;
            // Deadlines are filed by slots, and are never reached early.
            while given_up == 0 {
                worker.sweep(|_| false, |_| given_up += 1);
            }
            if seen {
                assert!(!worker.first_byte(&mut flow, 200, false, true));
            }
            assert_eq!(worker.fail(&mut flow, Failure::Truncated, true), next);
        }
    }

    #[test]
    fn an_answer_that_lies_there_unread_is_not_late() {
        let mut worker = worker();
        let mut flow = overdue(&mut worker);
        let asked = std::cell::Cell::new(0);
        while asked.get() < 2 {
            let has_bytes = |_: &Line| {
                asked.set(asked.get() + 1);
                true
            };
            worker.sweep(has_bytes, |_| panic!("it is given up"));
        }
        assert!(!worker.first_byte(&mut flow, 200, false, true));
        worker.answered(&mut flow, 200);
        assert_eq!(seen(&mut worker, Class::Ok), 1);
    }

    #[test]
    fn a_post_that_was_sent_is_never_sent_again_and_a_get_is() {
        for failure in [
            Failure::Reset,
            Failure::StaleConnection,
            Failure::AttemptTimeout,
            Failure::Garbage,
        ] {
            for (method, next) in [("POST", false), ("PATCH", false), ("GET", true), ("DELETE", true)] {
                let mut worker = worker();
                let mut flow = admit(&mut worker, method, "/shop").unwrap();
                worker.start(&mut flow).unwrap();
                worker.sent(&mut flow, -1, true);
                let moved = worker.fail(&mut flow, failure, true) == Next::Elsewhere;
                assert_eq!(moved, next, "{method} after {failure:?}");
                assert!(worker.fail(&mut flow, Failure::Reset, true) != Next::Elsewhere || moved);
            }
        }
    }

    #[test]
    fn what_a_client_takes_to_send_his_body_is_not_an_endpoints_latency() {
        let mut worker = worker();
        let mut flow = admit(&mut worker, "POST", "/shop").unwrap();
        let early = Moment::from_micros(flow.arrived.as_micros().saturating_sub(900_000));
        (flow.arrived, flow.ready) = (early, early);
        worker.body_taken(&mut flow);
        worker.start(&mut flow).unwrap();
        let attempt = flow.attempt.as_ref().unwrap();
        assert_eq!(attempt.started, flow.ready);
        assert!(attempt.started > flow.arrived);
        assert_eq!(flow.limit, flow.ready + flow.timeout);
    }

    #[test]
    fn what_pauses_keeps_its_deadline_and_another_protocol_has_none() {
        for (status, has) in [(200, true), (101, false)] {
            let mut worker = worker();
            let mut flow = admit(&mut worker, "GET", "/shop").unwrap();
            worker.start(&mut flow).unwrap();
            worker.sent(&mut flow, -1, true);
            worker.first_byte(&mut flow, status, false, true);
            worker.progress(&mut flow);
            assert_eq!(worker.has_deadlines(), has, "{status}");
            worker.answered(&mut flow, status);
            assert!(!worker.has_deadlines());
        }
    }

    #[test]
    fn a_truncated_body_stays_with_its_request_and_is_charged_once_more() {
        let mut worker = worker();
        let mut flow = admit(&mut worker, "GET", "/shop").unwrap();
        worker.start(&mut flow).unwrap();
        worker.first_byte(&mut flow, 200, false, true);
        assert_eq!(worker.fail(&mut flow, Failure::Truncated, true), Next::Answer(0));
        let mut spoils = Spoils::empty(&worker.topology.clone());
        worker.harvest(&mut spoils);
        let count = |class| spoils.endpoints[0].iter().map(|o| o.count(class)).sum::<u32>();
        assert_eq!((count(Class::Ok), count(Class::Reset)), (1, 1));
    }

    #[test]
    fn a_gateway_error_is_shown_to_a_post_and_kept_from_a_get() {
        for (method, hidden) in [("POST", false), ("GET", true)] {
            let mut worker = worker();
            let mut flow = admit(&mut worker, method, "/shop").unwrap();
            let first = worker.start(&mut flow).unwrap();
            assert_eq!(worker.first_byte(&mut flow, 502, false, true), hidden);
            worker.end(&mut flow);
            if hidden {
                assert_ne!(worker.start(&mut flow).unwrap(), first);
            }
        }
    }

    #[test]
    fn a_client_that_goes_away_is_not_the_endpoints_fault_and_leaves_nothing_in_flight() {
        let mut worker = worker();
        let mut flow = admit(&mut worker, "GET", "/shop").unwrap();
        worker.start(&mut flow).unwrap();
        worker.sent(&mut flow, -1, true);
        worker.abandon(&mut flow);
        worker.abandon(&mut flow);
        assert!(!worker.has_deadlines());
        assert_eq!(in_flight(&mut worker), 0);
        let mut flow = admit(&mut worker, "GET", "/shop").unwrap();
        worker.start(&mut flow).unwrap();
        assert_eq!(worker.fail(&mut flow, Failure::ClientGone, true), Next::Answer(0));
        assert_eq!(seen(&mut worker, Class::Cancelled), 1);
    }

    #[test]
    fn a_request_is_tried_at_three_endpoints_at_most() {
        let mut worker = worker();
        let mut flow = admit(&mut worker, "GET", "/shop").unwrap();
        let mut places = Vec::new();
        while let Some(place) = worker.start(&mut flow) {
            assert!(!places.contains(&place.endpoint));
            places.push(place.endpoint);
            if worker.fail(&mut flow, Failure::Refused, true) != Next::Elsewhere {
                break;
            }
        }
        assert_eq!(places.len(), 3);
    }
}
