//! The life of a connection whose bytes are carried and not read: a request that is one connection long.
//!
//! It goes through the steps of a request ([`Worker::start`], [`Worker::fail`], [`Worker::answered`]), with others for what
//! HTTP says by itself: that something was asked, and that an answer has begun. A connection may rest for hours, and a
//! rest is nobody's slowness; so its time stands still from when there is a connection to an endpoint until the client has
//! said something. What is measured is the time to connect and from the client's first byte to the endpoint's; or to the
//! endpoint's first byte alone, where it is the endpoint that speaks first.
//!
//! Whether silence is a failure depends on the protocol: a log server never says a word. It is learnt: of a cluster whose
//! endpoints have answered, an answer is expected, and a connection without one counts as waiting, like a request does.
//!
//! It may move to another endpoint until a byte of it has been sent, and never again.

use std::net::IpAddr;
use std::time::Duration;

use arrayvec::ArrayVec;
use foreshade_engine::balance::Request;
use foreshade_engine::moment::Moment;
use foreshade_engine::outcome::{Class, RouteClass};
use xxhash_rust::xxh3::xxh3_64;

use super::admission::Granted;
use super::{Flow, Next, Worker};
use crate::cohort;
use crate::config::Protocol;
use crate::framing::Refusal;
use crate::outcome::Failure;
use crate::topology::Topology;
use crate::topology::ids::ListenerId;

/// Time for finding an endpoint, tries at several of them included.
const REACH_MAX: Duration = Duration::from_secs(10);

/// What is told of a connection that was served, where requests tell their status.
pub(crate) const SERVED: u16 = 200;

/// Who speaks first on the connections of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// The client asks, as in HTTP, TLS and Redis.
    Client,
    /// The endpoint greets, as in SMTP, MySQL and SSH.
    Endpoint,
}

/// How far the conversation on an attempt's connection has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Talk {
    /// There is a connection since then.
    connected: Moment,
    /// How long that took.
    connecting: Duration,
    /// The client has said something.
    asked: bool,
    /// Nobody waits for the endpoint: time does not count.
    rests: bool,
}

impl Talk {
    /// Something was sent without a connection.
    pub(super) fn without_connection(now: Moment, rests: bool) -> Self {
        Self {
            connected: now,
            connecting: Duration::ZERO,
            asked: true,
            rests,
        }
    }

    /// What the attempt took so far, where that is not all of its time.
    pub(super) fn latency(&self) -> Option<Duration> {
        self.rests.then_some(self.connecting)
    }
}

impl Flow {
    /// For so long nobody waited for the endpoint: all that lies before happened that much later, so that no phase has the
    /// rest in it.
    fn rested(&mut self, rest: Duration) {
        self.arrived = self.arrived + rest;
        self.ready = self.ready + rest;
        self.started = self.started.map(|at| at + rest);
        self.sent = self.sent.map(|at| at + rest);
    }

    /// The same, of all the time since something could be sent.
    fn rested_until(&mut self, now: Moment) {
        if let Some(sent) = self.sent {
            self.rested(now.since(sent));
        }
    }
}

/// What becomes of a connection.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every connection is served, and a box would be one more allocation for each"
)]
pub enum Carriage {
    /// A cluster serves it.
    Forward(Flow),
    /// Nobody serves the name that is asked for.
    Refused(Refusal),
    /// The cluster that served it is gone.
    Unrouted,
}

impl Worker {
    /// Finds out who serves a connection of this client, who asks for the server `name`, if the listener wants to know.
    pub fn carry(&mut self, listener: ListenerId, name: Option<&str>, client: IpAddr) -> Carriage {
        let index = match self.bound_for(listener, name) {
            Some(Ok(index)) => index,
            Some(Err(refusal)) => return Carriage::Refused(refusal),
            None => {
                self.unrouted += 1;
                return Carriage::Unrouted;
            }
        };
        // A name that fails can be told from an endpoint that does.
        let class = name.map_or(RouteClass::default(), |name| {
            RouteClass::of_hash(xxh3_64(name.as_bytes()))
        });
        Carriage::Forward(self.flow_to(index, cohort::connection(client, class)))
    }

    /// The flow of something that is carried to this cluster, from now on.
    pub(super) fn flow_to(&mut self, cluster: usize, request: Request) -> Flow {
        let arrived = self.now();
        Flow {
            generation: self.generation,
            cluster,
            cluster_id: self.topology.cluster_id(cluster),
            request,
            arrived,
            ready: arrived,
            said: arrived,
            granted: Granted::default(),
            timeout: REACH_MAX,
            limit: arrived + REACH_MAX,
            tried: ArrayVec::new(),
            tried_ids: ArrayVec::new(),
            next: None,
            attempt: None,
            started: None,
            sent: None,
            first_byte: None,
            failure: None,
            changes: None,
            mirror: None,
            drawn: None,
            stuck: None,
            traced: None,
            timed: false,
        }
    }

    /// The index of the cluster that serves a connection now; `None` where it is gone, or the listener carries nothing.
    pub(super) fn bound_for(
        &self,
        listener: ListenerId,
        name: Option<&str>,
    ) -> Option<Result<usize, Refusal>> {
        let of = |topology: &Topology| match &topology.listener(listener)?.0.protocol {
            Protocol::Http => None,
            Protocol::Tcp { cluster } | Protocol::Udp { cluster, .. } => Some(Ok(*cluster)),
            Protocol::TlsPassthrough(names) => Some(names.cluster(name)),
        };
        let Some(before) = self.retired_with(listener) else {
            return of(&self.topology);
        };
        match of(before)? {
            Ok(index) => Some(Ok(self.topology.cluster_index(before.cluster_id(index)?)?)),
            refused => Some(refused),
        }
    }

    /// The attempt has failed before a byte was sent, and so the connection may go on elsewhere, as often as any request may.
    pub fn unreached(&mut self, flow: &mut Flow, failure: Failure) -> Next {
        flow.request.repeatable = true;
        self.rest_unless_owed(flow);
        self.fail(flow, failure, true)
    }

    /// The connection has ended otherwise than it should.
    pub fn broke(&mut self, flow: &mut Flow, failure: Failure) {
        self.rest_unless_owed(flow);
        self.fail(flow, failure, false);
    }

    /// The connection's task was dropped on its way.
    pub fn cut(&mut self, flow: &mut Flow) {
        self.rest_unless_owed(flow);
        self.abandon(flow);
    }

    /// The attempt has a connection. Time stands still until something is asked.
    pub fn connected(&mut self, flow: &mut Flow) {
        self.find_again(flow);
        let now = self.now();
        let greets = self.first_of(flow) == Some(First::Endpoint);
        flow.sent = Some(now);
        let Some(attempt) = flow.attempt.as_mut() else {
            return;
        };
        attempt.talk = Some(Talk {
            connected: now,
            connecting: now.since(attempt.started),
            asked: false,
            rests: true,
        });
        self.recorder.first_byte(attempt.place, &mut attempt.recorded);
        if greets {
            self.recorder.wait(attempt.place, &mut attempt.recorded, now);
        }
    }

    /// The client's first byte has been sent: from here on the connection stays where it is.
    pub fn asked(&mut self, flow: &mut Flow) {
        self.find_again(flow);
        let now = self.now();
        let answers = self.first_of(flow).is_some();
        let spoken = flow.first_byte.is_some();
        let Some(attempt) = flow.attempt.as_mut() else {
            return;
        };
        let Some(talk) = attempt.talk.as_mut().filter(|talk| !talk.asked && !spoken) else {
            return;
        };
        (talk.asked, talk.rests) = (true, false);
        let rest = now.since(talk.connected);
        attempt.started = attempt.started + rest;
        if answers {
            self.recorder.wait(attempt.place, &mut attempt.recorded, now);
        }
        flow.rested(rest);
    }

    /// The endpoint's first byte is there.
    pub fn spoke(&mut self, flow: &mut Flow) {
        self.find_again(flow);
        let talk = flow.attempt.as_mut().and_then(|attempt| attempt.talk.as_mut());
        let Some(talk) = talk else { return };
        talk.rests = false;
        if let Some(state) = self.clusters.get_mut(flow.cluster) {
            state.first = Some(if talk.asked {
                First::Client
            } else {
                First::Endpoint
            });
        }
        self.first_byte(flow, SERVED, false, false);
    }

    /// Whether the connection's endpoint owes an answer: something was asked, nothing was said, and others have answered.
    pub fn is_owed_an_answer(&mut self, flow: &mut Flow) -> bool {
        self.find_again(flow);
        let talk = flow.attempt.as_ref().and_then(|attempt| attempt.talk);
        talk.is_some_and(|talk| talk.asked) && flow.first_byte.is_none() && self.first_of(flow).is_some()
    }

    /// Where nobody waited for a word of the endpoint, what was measured of it is how fast it took the connection.
    fn rest_unless_owed(&mut self, flow: &mut Flow) {
        let owed = self.is_owed_an_answer(flow);
        let now = self.now();
        if let (Some(talk), None, false) = (
            flow.attempt.as_mut().and_then(|attempt| attempt.talk.as_mut()),
            flow.first_byte,
            owed,
        ) {
            talk.rests = true;
            flow.rested_until(now);
        }
    }

    /// The connection has ended in order. An endpoint that was asked and has not said anything has served in silence.
    pub fn closed(&mut self, flow: &mut Flow) {
        let owed = self.is_owed_an_answer(flow);
        let now = self.now();
        let talk = flow.attempt.as_mut().and_then(|attempt| attempt.talk.as_mut());
        if let (Some(talk), None) = (talk, flow.first_byte) {
            talk.rests = true;
            if talk.asked {
                self.count(flow, Class::Ok, Some(SERVED), now);
            }
            if !owed {
                flow.rested_until(now);
            }
        }
        self.answered(flow, SERVED);
    }

    /// Bytes have been carried: from the client, and to him.
    pub fn carried(&mut self, flow: &mut Flow, up: u64, down: u64) {
        self.find_again(flow);
        if let Some(state) = self.clusters.get_mut(flow.cluster) {
            state.tally.carried.0 += up;
            state.tally.carried.1 += down;
        }
    }

    pub(super) fn first_of(&self, flow: &Flow) -> Option<First> {
        self.clusters.get(flow.cluster)?.first
    }
}

#[cfg(test)]
mod tests {
    use foreshade_engine::outcome::Class;

    use super::*;
    use crate::clock::Clock;
    use crate::config;
    use crate::recorder::Place;
    use crate::scorer::Scorer;
    use crate::worker::Spoils;

    const CONFIG: &str = "
apiVersion: foreshade/v1
listeners:
  - { name: db, address: '127.0.0.1:8080', protocol: tcp, cluster: db }
  - name: tls
    address: 127.0.0.1:8443
    protocol: tls-passthrough
    serverNames: [{ names: [db.example], cluster: db }]
clusters:
  - name: db
    endpoints:
      - { name: a, address: 127.0.0.1:9001, shadow: s }
      - { name: b, address: 127.0.0.1:9002 }
    shadows: [{ name: s, address: 127.0.0.1:9101 }]
";

    fn worker() -> Worker {
        let topology =
            Topology::new(config::parse(CONFIG, "test").expect("the test's configuration is well"));
        let clock = Clock::start();
        let (_, table) = Scorer::new(clock, topology);
        Worker::new(clock, table, 1)
    }

    fn admit(worker: &mut Worker, listener: usize, name: Option<&str>) -> Carriage {
        let (listener, _) = worker.topology.listeners().nth(listener).unwrap();
        worker.carry(listener, name, "192.0.2.1".parse().unwrap())
    }

    fn connect(worker: &mut Worker) -> Flow {
        let Carriage::Forward(mut flow) = admit(worker, 0, None) else {
            panic!("the cluster is there");
        };
        worker.start(&mut flow).unwrap();
        worker.connected(&mut flow);
        flow
    }

    fn harvest(worker: &mut Worker) -> Spoils {
        let mut spoils = Spoils::empty(&worker.topology.clone());
        worker.harvest(&mut spoils);
        spoils
    }

    fn waiting(worker: &mut Worker) -> u32 {
        harvest(worker).endpoints[0]
            .iter()
            .map(|o| o.ages.waiting())
            .sum()
    }

    fn counted(worker: &mut Worker) -> Vec<(Class, u32)> {
        let spoils = harvest(worker);
        let count = |class| spoils.endpoints[0].iter().map(|o| o.count(class)).sum();
        let all = Class::ALL.into_iter().map(|class| (class, count(class)));
        all.filter(|(_, n)| *n > 0).collect()
    }

    #[test]
    fn an_answer_is_owed_only_where_answers_are_given() {
        let mut worker = worker();
        let mut first = connect(&mut worker);
        worker.asked(&mut first);
        assert!(!worker.is_owed_an_answer(&mut first), "nobody has answered yet");
        assert_eq!(waiting(&mut worker), 0);
        worker.spoke(&mut first);
        let mut second = connect(&mut worker);
        assert_eq!(waiting(&mut worker), 0, "it rests");
        worker.asked(&mut second);
        assert!(worker.is_owed_an_answer(&mut second));
        assert_eq!(waiting(&mut worker), 1);
        worker.asked(&mut second);
        assert_eq!(waiting(&mut worker), 1);
        worker.spoke(&mut second);
        assert!(!worker.is_owed_an_answer(&mut second));
        assert_eq!(waiting(&mut worker), 0);
    }

    #[test]
    fn where_endpoints_greet_the_greeting_is_waited_for() {
        let mut worker = worker();
        let mut first = connect(&mut worker);
        worker.spoke(&mut first);
        let mut second = connect(&mut worker);
        assert_eq!(waiting(&mut worker), 1);
        worker.spoke(&mut second);
        worker.asked(&mut second);
        assert_eq!(waiting(&mut worker), 0);
    }

    #[test]
    fn a_rest_is_nobodys_slowness() {
        let mut worker = worker();
        let mut flow = connect(&mut worker);
        let begun = worker.latest();
        // As if it had taken five milliseconds to connect, at the origin of time.
        let connecting = Duration::from_millis(5);
        let attempt = flow.attempt.as_mut().unwrap();
        attempt.started = Moment::ZERO;
        let talk = attempt.talk.as_mut().unwrap();
        (talk.connected, talk.connecting) = (Moment::ZERO + connecting, connecting);
        assert_eq!(talk.latency(), Some(connecting));
        worker.asked(&mut flow);
        let attempt = flow.attempt.as_ref().unwrap();
        assert!(attempt.started + connecting >= begun, "{:?}", attempt.started);
        assert_eq!(attempt.talk.unwrap().latency(), None);
    }

    #[test]
    fn a_rest_is_in_no_phase() {
        // As if all had happened at the origin of time.
        fn long_ago(flow: &mut Flow) {
            (flow.arrived, flow.ready) = (Moment::ZERO, Moment::ZERO);
            (flow.started, flow.sent) = (Some(Moment::ZERO), Some(Moment::ZERO));
        }
        let steps: [fn(&mut Worker, &mut Flow); 3] = [Worker::asked, Worker::closed, Worker::cut];
        for step in steps {
            let mut worker = worker();
            let mut flow = connect(&mut worker);
            let begun = worker.latest();
            long_ago(&mut flow);
            let talk = flow.attempt.as_mut().unwrap().talk.as_mut().unwrap();
            talk.connected = Moment::ZERO;
            step(&mut worker, &mut flow);
            assert!(flow.arrived >= begun);
            assert_eq!(
                (flow.started, flow.sent),
                (Some(flow.arrived), Some(flow.arrived))
            );
        }
        let mut worker = worker();
        let mut first = connect(&mut worker);
        worker.asked(&mut first);
        worker.spoke(&mut first);
        let mut owed = connect(&mut worker);
        worker.asked(&mut owed);
        long_ago(&mut owed);
        worker.broke(&mut owed, Failure::RouteTimeout);
        assert_eq!(
            owed.sent,
            Some(Moment::ZERO),
            "an answer that was owed was waited for"
        );
    }

    #[test]
    fn whoever_serves_in_silence_serves() {
        let mut worker = worker();
        let mut flow = connect(&mut worker);
        worker.asked(&mut flow);
        worker.closed(&mut flow);
        assert_eq!(counted(&mut worker), [(Class::Ok, 1)]);
    }

    #[test]
    fn whoever_comes_and_goes_without_a_word_is_nobodys_success_and_nobodys_failure() {
        let mut worker = worker();
        let mut flow = connect(&mut worker);
        worker.closed(&mut flow);
        assert_eq!(counted(&mut worker), [(Class::Cancelled, 1)]);
        let mut flow = connect(&mut worker);
        worker.cut(&mut flow);
        assert_eq!(counted(&mut worker), [(Class::Cancelled, 1)]);
    }

    #[test]
    fn a_connection_that_is_not_begun_goes_on_to_everybody_and_one_that_is_to_nobody() {
        let mut worker = worker();
        let Carriage::Forward(mut flow) = admit(&mut worker, 0, None) else {
            panic!("the cluster is there");
        };
        let mut places = Vec::new();
        while let Some(Place { endpoint, .. }) = worker.start(&mut flow) {
            assert!(!places.contains(&endpoint));
            places.push(endpoint);
            worker.connected(&mut flow);
            if worker.unreached(&mut flow, Failure::ResetUnused) != Next::Elsewhere {
                break;
            }
        }
        assert_eq!(places.len(), 3);
        let mut flow = connect(&mut worker);
        worker.asked(&mut flow);
        worker.broke(&mut flow, Failure::Reset);
        assert!(flow.next.is_none());
        assert_eq!(counted(&mut worker), [(Class::Reset, 4)]);
    }

    #[test]
    fn a_broken_stream_is_charged_once_more() {
        let mut worker = worker();
        let mut flow = connect(&mut worker);
        worker.asked(&mut flow);
        worker.spoke(&mut flow);
        worker.broke(&mut flow, Failure::Truncated);
        worker.answered(&mut flow, SERVED);
        assert_eq!(counted(&mut worker), [(Class::Ok, 1), (Class::Reset, 1)]);
    }

    #[test]
    fn the_name_decides_where_it_is_asked_for() {
        let mut worker = worker();
        assert!(matches!(
            admit(&mut worker, 1, Some("db.example")),
            Carriage::Forward(_)
        ));
        for (name, refusal) in [
            (Some("x.example"), Refusal::NameUnknown),
            (None, Refusal::NameMissing),
        ] {
            let carriage = admit(&mut worker, 1, name);
            assert!(
                matches!(carriage, Carriage::Refused(r) if r == refusal),
                "{carriage:?}"
            );
        }
    }

    #[test]
    fn connections_of_a_listener_that_is_gone_go_where_they_would_have() {
        let mut worker = worker();
        let (listener, _) = worker.topology.listeners().next().unwrap();
        let before = worker.topology.clone();
        worker.retired.push((listener, before));
        assert!(matches!(admit(&mut worker, 0, None), Carriage::Forward(_)));
    }
}
