//! What limits of concurrency see of a request: when an endpoint is waited for, and how long that took.
//!
//! A limit that is found follows what endpoints take, so what a client takes to say what he wants is none of it: neither
//! as time nor as a place. What failed at once says nothing of how fast an endpoint can be, and neither does a refusal:
//! an endpoint that is full says so in no time, and would look like one that has become faster.

use foreshade_engine::moment::Moment;
use foreshade_engine::outcome::Class;

use super::{Flow, Worker};
use crate::outcome::Failure;

impl Worker {
    /// The request's body is waited for, and no endpoint is asked before it is here.
    pub fn body_awaited(&mut self, flow: &mut Flow) {
        flow.granted.rests();
    }

    /// The request's body is here, and was waited for: what the client took for it is not an endpoint's fault.
    pub fn body_taken(&mut self, flow: &mut Flow) {
        let now = self.now();
        (flow.ready, flow.said, flow.limit) = (now, now, now + flow.timeout);
        flow.granted.waits();
    }
}

impl Flow {
    /// An answer of this class begins that the user sees.
    pub(super) fn answer_begins(&mut self, now: Moment, class: Class) {
        match class.is_served() {
            true => self.granted.sample(now, now.since(self.said), false),
            false => self.granted.rests(),
        }
    }

    /// There is none, or only its beginning: a body that rests for too long says nothing of how late its head was.
    pub(super) fn answer_fails(&mut self, now: Moment, failure: Failure) {
        if self.first_byte.is_some() {
            return;
        }
        let waited = now.since(self.said);
        match failure {
            Failure::ClientGone | Failure::Deadline => self.granted.abandoned(now, waited),
            _ if failure.consequence().class == Class::Timeout => self.granted.sample(now, waited, true),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Admission;
    use super::super::stream::{Terms, Whose};
    use super::*;
    use crate::clock::Clock;
    use crate::config;
    use crate::policy::Gate;
    use crate::request::RequestView;
    use crate::scorer::Scorer;
    use crate::topology::Topology;
    use std::sync::Arc;

    const CONFIG: &str = "
apiVersion: foreshade/v1
listeners: [{ name: web, address: 127.0.0.1:8080, routes: [{ match: { path: { prefix: / } }, cluster: shop }] }]
clusters:
  - name: shop
    concurrency: { limit: 100, adaptive: { start: 40 } }
    endpoints: [{ name: a, address: 127.0.0.1:9001 }]
";

    fn worker() -> Worker {
        let config = config::parse(CONFIG, "test").expect("the test's configuration is well");
        let clock = Clock::start();
        let (_, table) = Scorer::new(clock, Topology::new(config));
        Worker::new(clock, table, 1)
    }

    fn gate(worker: &Worker) -> Arc<Gate> {
        let cluster = worker.topology.cluster(0).unwrap();
        cluster.gate.clone().unwrap()
    }

    /// A request that is on its way to the endpoint since a second of its own.
    fn sent(worker: &mut Worker, second: u64) -> Flow {
        let headers = http::HeaderMap::new();
        let (listener, _) = worker.topology.listeners().next().unwrap();
        let Admission::Forward(mut flow) = worker.admit(listener, &RequestView::of("POST", &headers)) else {
            panic!("it is not forwarded");
        };
        worker.start(&mut flow).unwrap();
        worker.sent(&mut flow, -1, true);
        (flow.arrived, flow.ready, flow.said) = (at(second), at(second), at(second));
        flow
    }

    fn at(second: u64) -> Moment {
        Moment::from_micros(second * 1_000_000)
    }

    /// The limit, after what a hundred requests take has been learnt, and a hundred others ended so.
    fn limit_after(end: impl Fn(&mut Flow, Moment)) -> (u32, u32) {
        let mut worker = worker();
        for second in 0..100 {
            sent(&mut worker, second).answer_begins(at(second + 1), Class::Ok);
        }
        let before = gate(&worker).limit_now();
        for second in 100..200 {
            end(&mut sent(&mut worker, second), at(second + 60));
        }
        (before, gate(&worker).limit_now())
    }

    #[test]
    fn a_refusal_is_no_fast_answer() {
        for (status, is_sample) in [(200, true), (404, true), (429, false), (503, false)] {
            let mut worker = worker();
            for second in 0..100 {
                let class = Class::of_status(status, false);
                sent(&mut worker, second).answer_begins(at(second + 1), class);
            }
            assert_eq!(gate(&worker).base().is_some(), is_sample, "{status}");
        }
    }

    #[test]
    fn whoever_runs_out_of_patience_says_that_it_was_too_late() {
        for failure in [Failure::RouteTimeout, Failure::Deadline, Failure::ClientGone] {
            let (before, after) = limit_after(|flow, now| flow.answer_fails(now, failure));
            assert!(after < before, "{failure:?}: {after} of {before}");
        }
        let (before, after) = limit_after(|flow, now| {
            flow.first_byte = Some(now);
            flow.answer_fails(now, Failure::ClientGone);
        });
        assert_eq!(before, after, "it had begun");
    }

    #[test]
    fn on_a_stream_time_counts_from_the_clients_last_word() {
        let mut worker = worker();
        let mut flow = sent(&mut worker, 0);
        let cut = Arc::default();
        worker.sent_on(&mut flow, &cut, Terms::default(), (false, true));
        worker.turn(&mut flow, Whose::Client);
        assert_eq!(flow.said, at(0));
        worker.turn(&mut flow, Whose::Endpoint);
        assert!(flow.said > at(0));
    }

    #[test]
    fn what_a_client_takes_to_send_his_body_is_no_time_of_an_endpoint() {
        let mut worker = worker();
        for says in [Worker::body_taken, Worker::progress] {
            let mut flow = sent(&mut worker, 0);
            says(&mut worker, &mut flow);
            assert!(flow.said > at(0));
        }
    }
}
