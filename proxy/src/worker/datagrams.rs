//! The life of a session of datagrams: a place that is picked once, and exchanges at it, each of which is a request.
//!
//! What a connection tells by itself, datagrams do not: when somebody is there, and when he has gone. So the unit that is
//! measured is the *exchange*, a datagram and what answers it. It goes through the steps of a connection
//! ([`super::carried`]), whose time begins with the datagram. A session says only where its exchanges go. Of a pair under
//! analysis the first one counts alone: the others go where that was sent, and not by chance.

use std::time::Duration;

use foreshade_engine::balance::{Pick, Request, Side, Why};
use foreshade_engine::moment::Moment;

use super::carried::{First, Talk};
use super::{Flow, SERVED, Worker};
use crate::outcome::Failure;
use crate::recorder::Place;
use crate::tcp::ANSWER_TIME;
use crate::topology::ids::{EndpointId, ListenerId};

/// How long a datagram that nobody answers may take to be refused: what is not refused within it has been served. Longer
/// than a round trip on earth, so that who refuses is known.
const SILENCE: Duration = Duration::from_millis(300);

/// Where the datagrams of a session go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    generation: u64,
    place: Place,
    endpoint: EndpointId,
    request: Request,
}

impl Seat {
    /// Who serves the session.
    pub(crate) fn endpoint(&self) -> EndpointId {
        self.endpoint
    }
}

impl Worker {
    /// The seat of a session whose exchange has been started there.
    pub(crate) fn seat(&self, flow: &Flow) -> Option<Seat> {
        Some(Seat {
            generation: flow.generation,
            place: flow.place()?,
            endpoint: flow.asked_last()?,
            request: flow.request,
        })
    }

    /// Whether the seat's endpoint serves still: it is there, its listener sends datagrams to its cluster, and it has not
    /// failed over.
    pub(crate) fn serves(&self, listener: ListenerId, seat: &mut Seat) -> bool {
        let Some(place) = self.place_of(seat) else {
            return false;
        };
        let table = self.snapshot.clusters.get(place.cluster);
        table.is_some_and(|table| table.is_available(place.endpoint))
            && matches!(self.bound_for(listener, None), Some(Ok(cluster)) if cluster == place.cluster)
    }

    /// Another exchange, started at the seat.
    pub(crate) fn follow(&mut self, seat: &mut Seat) -> Option<Flow> {
        let place = self.place_of(seat)?;
        let mut flow = self.flow_to(place.cluster, seat.request);
        flow.next = Some(Pick {
            endpoint: place.endpoint,
            primary: place.endpoint,
            side: Side::Primary,
            why: Why::Stuck,
        });
        self.start(&mut flow)?;
        flow.drawn = None;
        Some(flow)
    }

    /// The exchange's datagram has been sent, and `responses` are expected: to be learnt where `None`. Until when, and whether
    /// one is owed.
    pub(crate) fn datagram_sent(&mut self, flow: &mut Flow, responses: Option<u32>) -> (Moment, bool) {
        self.find_again(flow);
        let now = self.latest;
        if responses.is_some_and(|responses| responses > 0)
            && let Some(state) = self.clusters.get_mut(flow.cluster)
        {
            state.first = Some(First::Client);
        }
        let owed = responses != Some(0) && self.first_of(flow).is_some();
        let Some(attempt) = flow.attempt.as_mut() else {
            return (now, owed);
        };
        attempt.talk = Some(Talk::without_connection(now, !owed));
        flow.sent = Some(now);
        if !owed {
            self.recorder.first_byte(attempt.place, &mut attempt.recorded);
        }
        let endpoint = attempt.place.endpoint;
        let patience = match (responses, owed) {
            (Some(0), _) => SILENCE,
            (_, false) => ANSWER_TIME,
            (_, true) => self.patience(flow.cluster, endpoint),
        };
        (now + patience, owed)
    }

    /// An answer has come, and another one is to. Until when.
    pub(crate) fn more_to_come(&mut self, flow: &Flow) -> Moment {
        let endpoint = flow.place().map_or(Place::GONE, |place| place.endpoint);
        self.now() + self.patience(flow.cluster, endpoint)
    }

    /// How long an answer of this endpoint is waited for: by its own history, as requests are that can go elsewhere.
    fn patience(&self, cluster: usize, endpoint: usize) -> Duration {
        let table = self.snapshot.clusters.get(cluster);
        let usual = table.and_then(|table| table.attempt_timeout(endpoint));
        usual.unwrap_or(ANSWER_TIME)
    }

    /// The exchange is waited for no longer. Whether it was owed something: then its endpoint is charged.
    pub(crate) fn given_up(&mut self, flow: &mut Flow, responses: Option<u32>) -> bool {
        let owed = match responses {
            Some(responses) => responses > 0,
            None => self.is_owed_an_answer(flow),
        };
        if owed {
            self.broke(flow, Failure::RouteTimeout);
            self.answered(flow, if flow.first_byte.is_some() { SERVED } else { 0 });
        } else {
            self.closed(flow);
        }
        owed
    }

    /// A datagram has been carried, of so many bytes: up to the endpoint, or down to the client.
    pub(crate) fn datagram(&mut self, seat: &mut Seat, up: Option<usize>, down: Option<usize>) {
        let Some(place) = self.place_of(seat) else { return };
        let Some(state) = self.clusters.get_mut(place.cluster) else {
            return;
        };
        let tally = &mut state.tally;
        for (way, datagrams, bytes) in [
            (up, &mut tally.datagrams.0, &mut tally.carried.0),
            (down, &mut tally.datagrams.1, &mut tally.carried.1),
        ] {
            if let Some(length) = way {
                *datagrams += 1;
                *bytes += length as u64;
            }
        }
    }

    /// Where the seat's endpoint is in this generation; `None` where it is gone.
    fn place_of(&self, seat: &mut Seat) -> Option<Place> {
        if seat.generation != self.generation {
            seat.place = self.topology.place(seat.endpoint)?;
            seat.generation = self.generation;
        }
        Some(seat.place)
    }
}

#[cfg(test)]
mod tests {
    use foreshade_engine::outcome::Class;

    use super::*;
    use crate::clock::Clock;
    use crate::config;
    use crate::scorer::Scorer;
    use crate::topology::Topology;
    use crate::worker::{Carriage, Next, Spoils};

    const CONFIG: &str = "
apiVersion: foreshade/v1
listeners: [{ name: dns, address: '127.0.0.1:5353', protocol: udp, cluster: dns }]
clusters:
  - name: dns
    endpoints: [{ name: a, address: 127.0.0.1:9001, shadow: s }]
    shadows: [{ name: s, address: 127.0.0.1:9101 }]
";

    fn worker() -> Worker {
        let topology =
            Topology::new(config::parse(CONFIG, "test").expect("the test's configuration is well"));
        let clock = Clock::start();
        let (_, table) = Scorer::new(clock, topology);
        Worker::new(clock, table, 1)
    }

    fn begin(worker: &mut Worker) -> Flow {
        let (listener, _) = worker.topology.listeners().next().unwrap();
        let client = "192.0.2.1".parse().unwrap();
        let Carriage::Forward(mut flow) = worker.carry(listener, None, client) else {
            panic!("the cluster is there");
        };
        worker.start(&mut flow).unwrap();
        flow
    }

    fn harvest(worker: &mut Worker) -> Spoils {
        let mut spoils = Spoils::empty(&worker.topology.clone());
        worker.harvest(&mut spoils);
        spoils
    }

    /// Waiting, and how they ended.
    fn seen(worker: &mut Worker) -> (u32, Vec<(Class, u32)>) {
        let spoils = harvest(worker);
        let all = spoils.endpoints[0].iter();
        let waiting = all.clone().map(|o| o.ages.waiting()).sum();
        let count = |class| all.clone().map(|o| o.count(class)).sum();
        let counts = Class::ALL.into_iter().map(|class| (class, count(class)));
        (waiting, counts.filter(|(_, n)| *n > 0).collect())
    }

    #[test]
    fn an_answer_is_learnt_to_be_owed_and_said_to_be() {
        for (responses, owed_at_once) in [(None, false), (Some(1), true), (Some(0), false)] {
            let mut worker = worker();
            let mut first = begin(&mut worker);
            worker.datagram_sent(&mut first, responses);
            assert_eq!(seen(&mut worker).0, u32::from(owed_at_once), "{responses:?}");
            if responses == Some(0) {
                continue;
            }
            worker.spoke(&mut first);
            worker.answered(&mut first, SERVED);
            let other = begin(&mut worker);
            let mut seat = worker.seat(&other).unwrap();
            let mut second = worker.follow(&mut seat).unwrap();
            worker.datagram_sent(&mut second, responses);
            assert!(worker.given_up(&mut second, responses));
            let counts = seen(&mut worker).1;
            assert_eq!(counts, [(Class::Ok, 1), (Class::Timeout, 1)], "{responses:?}");
        }
    }

    #[test]
    fn who_serves_in_silence_serves() {
        for responses in [None, Some(0)] {
            let mut worker = worker();
            let mut flow = begin(&mut worker);
            worker.datagram_sent(&mut flow, responses);
            assert!(!worker.given_up(&mut flow, responses));
            assert_eq!(seen(&mut worker), (0, vec![(Class::Ok, 1)]));
        }
    }

    #[test]
    fn a_refused_first_datagram_goes_to_the_shadow() {
        let mut worker = worker();
        let mut flow = begin(&mut worker);
        worker.datagram_sent(&mut flow, None);
        let first = worker.seat(&flow).unwrap().endpoint();
        assert_eq!(worker.unreached(&mut flow, Failure::Refused), Next::Elsewhere);
        worker.start(&mut flow).unwrap();
        assert_ne!(worker.seat(&flow).unwrap().endpoint(), first);
    }

    #[test]
    fn a_seat_is_held_while_its_endpoint_serves_and_is_counted_at() {
        let mut worker = worker();
        let (listener, _) = worker.topology.listeners().next().unwrap();
        let flow = begin(&mut worker);
        let mut seat = worker.seat(&flow).unwrap();
        assert!(worker.serves(listener, &mut seat));
        worker.datagram(&mut seat, Some(10), None);
        worker.datagram(&mut seat, None, Some(0));
        let tally = harvest(&mut worker).clusters.remove(0);
        assert_eq!((tally.datagrams, tally.carried), ((1, 1), (10, 0)));
        (seat.generation, seat.place.endpoint) = (0, 7);
        assert!(worker.serves(listener, &mut seat), "found again by who it is");
    }
}
