//! What a request leaves in the ledger of a pair under analysis: how its first attempt ended, and what became of it then.
//!
//! Of the first attempt alone: another one goes where the first has failed, and that is not chance.

use std::time::Duration;

use foreshade_engine::outcome::Class;

use super::{Flow, Worker};
use crate::ledger::Event;

impl Worker {
    /// An attempt has ended so, after this time.
    pub(super) fn settle(&mut self, flow: &mut Flow, class: Class, status: Option<u16>, latency: Duration) {
        let is_first = flow.is_first_attempt();
        if let Some(drawn) = flow.drawn.as_mut().filter(|_| is_first) {
            let thresholds = self.snapshot.thresholds(flow.cluster, drawn.primary);
            let event = Event::of(class, status);
            self.ledger.count(flow.cluster, drawn, event, latency, thresholds);
        }
    }

    /// The request goes on to another endpoint.
    pub(super) fn retried(&mut self, flow: &Flow) {
        if let Some(drawn) = flow.drawn.as_ref().filter(|_| flow.is_first_attempt()) {
            self.ledger.retried(flow.cluster, drawn);
        }
    }

    /// So many bytes of the answer's body have been sent to the user. To be said before [`Self::answered`].
    pub fn delivered(&mut self, flow: &mut Flow, bytes: u64) {
        self.find_again(flow);
        if let Some(drawn) = &flow.drawn {
            self.ledger.sent(flow.cluster, drawn, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use foreshade_contract::{Arm, ArmCounters, PairId, PairPlan, Round, Share};
    use http::HeaderMap;

    use super::*;
    use crate::clock::Clock;
    use crate::config;
    use crate::outcome::Failure;
    use crate::plan::fixture::{id, plan};
    use crate::recorder::Place;
    use crate::request::RequestView;
    use crate::scorer::Scorer;
    use crate::topology::Topology;
    use crate::worker::{Admission, Next, Spoils};

    const CONFIG: &str = "
apiVersion: foreshade/v1
listeners: [{ name: web, address: 127.0.0.1:8080, routes: [{ cluster: shop, timeout: 2s }] }]
clusters:
  - name: shop
    endpoints:
      - { name: a, address: 127.0.0.1:9001, shadow: a-standby }
    shadows: [{ name: a-standby, address: 127.0.0.1:9101 }]
";

    /// A worker under a plan that sends everybody to one side.
    fn worker(share: f64, serving: Arm) -> Worker {
        let plan = plan(
            id(1, 1),
            vec![PairPlan {
                pair: PairId {
                    cluster: "shop".parse().unwrap(),
                    primary: "a".parse().unwrap(),
                },
                shadow: "a-standby".parse().unwrap(),
                round: Round(4),
                serving,
                ceiling: Share::ONE,
                directed: Some(Share::clamped(share)),
                frozen: false,
                failover: true,
                thresholds: Some([1, 2, 3, 4].map(Duration::from_secs)),
            }],
        );
        let roles = crate::plan::roles::Roles::of(&plan);
        let config = roles.applied(config::parse(CONFIG, "test").unwrap());
        let clock = Clock::start();
        let (mut scorer, table) = Scorer::new(clock, Topology::new(config));
        scorer.begin_with(Arc::new(plan));
        Worker::new(clock, table, 1)
    }

    fn begin(worker: &mut Worker, method: &str) -> Flow {
        let headers = HeaderMap::new();
        let (listener, _) = worker.topology.listeners().next().unwrap();
        match worker.admit(listener, &RequestView::of(method, &headers)) {
            Admission::Forward(mut flow) => {
                worker.start(&mut flow).unwrap();
                worker.sent(&mut flow, -1, true);
                flow
            }
            other => panic!("{other:?}"),
        }
    }

    /// The counters of the pair, by arm, whichever side its cells are at.
    fn counted(worker: &mut Worker) -> [ArmCounters; 2] {
        let mut spoils = Spoils::empty(&worker.topology.clone());
        worker.harvest(&mut spoils);
        let mut arms = [ArmCounters::default(); 2];
        for place in [0, 1].map(|endpoint| Place { cluster: 0, endpoint }) {
            for cell in spoils.ledger.cells(place) {
                assert_eq!(cell.round, Round(4));
                for (sum, counted) in arms.iter_mut().zip(&cell.arms) {
                    sum.add(counted);
                }
            }
        }
        arms
    }

    #[test]
    fn a_failed_first_attempt_counts_where_it_was_drawn_and_its_retry_nowhere() {
        let mut worker = worker(0.0, Arm::Primary);
        let mut flow = begin(&mut worker, "GET");
        assert_eq!(worker.fail(&mut flow, Failure::Refused, true), Next::Elsewhere);
        let second = worker.start(&mut flow).unwrap();
        assert_eq!(second.endpoint, 1, "served by the shadow");
        worker.sent(&mut flow, -1, true);
        worker.first_byte(&mut flow, 200, false, true);
        worker.delivered(&mut flow, 10);
        worker.answered(&mut flow, 200);
        let expected = ArmCounters {
            requests: 1,
            connect: 1,
            retries: 1,
            bytes: 10,
            ..ArmCounters::default()
        };
        assert_eq!(counted(&mut worker), [expected, ArmCounters::default()]);
    }

    #[test]
    fn arms_keep_their_names_when_the_shadow_serves() {
        for (share, drawn) in [(0.0, Arm::Shadow), (1.0, Arm::Primary)] {
            let mut worker = worker(share, Arm::Shadow);
            let mut flow = begin(&mut worker, "POST");
            worker.first_byte(&mut flow, 503, true, true);
            worker.answered(&mut flow, 503);
            let arms = counted(&mut worker);
            let seen = arms[drawn.index()];
            assert_eq!(
                (seen.requests, seen.status_5xx, seen.over),
                (1, 1, [0; 4]),
                "{drawn}"
            );
            assert!(arms[drawn.other().index()].is_zero());
        }
    }

    #[test]
    fn every_way_to_end_is_counted_once() {
        let ends = |end: &dyn Fn(&mut Worker, &mut Flow)| {
            let mut worker = worker(0.0, Arm::Primary);
            let mut flow = begin(&mut worker, "POST");
            end(&mut worker, &mut flow);
            worker.abandon(&mut flow);
            let [primary, _] = counted(&mut worker);
            (primary.requests, primary.timeout, primary.reset, primary.over[3])
        };
        let fails = |failure: Failure| {
            ends(&|w, f| {
                let _ = w.fail(f, failure, true);
            })
        };
        assert_eq!(ends(&|_, _| {}), (1, 0, 0, 0), "the client went away");
        assert_eq!(fails(Failure::RouteTimeout), (1, 1, 0, 1));
        assert_eq!(fails(Failure::Reset), (1, 0, 1, 0));
        assert_eq!(
            ends(&|w, f| {
                w.first_byte(f, 200, false, true);
                let _ = w.fail(f, Failure::Truncated, true);
            }),
            (1, 0, 1, 0),
            "once as a request, and as broken off"
        );
    }

    #[test]
    fn without_a_plan_nothing_is_counted() {
        let clock = Clock::start();
        let topology = Topology::new(config::parse(CONFIG, "test").unwrap());
        let (_, table) = Scorer::new(clock, topology);
        let mut worker = Worker::new(clock, table, 1);
        let mut flow = begin(&mut worker, "GET");
        worker.first_byte(&mut flow, 500, false, true);
        worker.answered(&mut flow, 500);
        let mut spoils = Spoils::empty(&worker.topology.clone());
        worker.harvest(&mut spoils);
        assert_eq!((spoils.ledger.places().count(), spoils.ledger.lost), (0, 0));
    }
}
