//! What the worker's steps leave for the spans of a request, where those are reported. Nothing in here decides.

use foreshade_engine::balance::Pick;
use foreshade_engine::moment::Moment;
use foreshade_engine::outcome::Class;
use rand::Rng as _;

use super::{Flow, Worker};
use crate::recorder::Place;
use crate::trace::TraceContext;
use crate::trace::attempts::{Attempt, Attempts};

impl Flow {
    /// Its attempts are to be reported, as children of this span.
    pub(crate) fn trace(&mut self, span: TraceContext) {
        self.traced = Some(Box::new(Attempts::of(span)));
    }

    /// What is remembered of its attempts; `None` for most.
    pub(crate) fn traced(&self) -> Option<&Attempts> {
        self.traced.as_deref()
    }

    /// The request's head goes out.
    pub(super) fn trace_sent(&mut self, now: Moment) {
        if let Some(attempt) = self.traced.as_mut().and_then(|traced| traced.current()) {
            attempt.sent = Some(now);
        }
    }

    /// The head of an answer is there, and says nothing yet of how it ends.
    pub(super) fn trace_head(&mut self, now: Moment) {
        if let Some(attempt) = self.traced.as_mut().and_then(|traced| traced.current()) {
            attempt.answered = Some(now);
        }
    }

    /// The attempt counts so; as an answer with this status, where it is one.
    pub(super) fn trace_outcome(&mut self, class: Class, status: Option<u16>, now: Moment) {
        if let Some(attempt) = self.traced.as_mut().and_then(|traced| traced.current()) {
            attempt.class = Some(class);
            attempt.status = attempt.status.or(status);
            attempt.answered = attempt.answered.or(status.and(Some(now)));
        }
    }

    /// The attempt has ended, and its place is known no longer.
    pub(super) fn trace_end(&mut self, now: Moment) {
        let failure = self.failure;
        if let Some(attempt) = self.traced.as_mut().and_then(|traced| traced.current()) {
            attempt.failure = failure;
            attempt.ended = Some(now);
        }
    }
}

impl Worker {
    /// An attempt has begun at a place.
    pub(super) fn trace_start(&mut self, flow: &mut Flow, pick: &Pick, now: Moment) {
        let Some(traced) = flow.traced.as_mut() else {
            return;
        };
        let place = Place {
            cluster: flow.cluster,
            endpoint: pick.endpoint,
        };
        let (Some(cluster), Some(endpoint)) = (
            self.topology.cluster(place.cluster),
            self.topology.endpoint(place),
        ) else {
            return;
        };
        let table = self.snapshot.clusters.get(flow.cluster);
        let segment = flow.request.segment.and_then(|index| cluster.segments.get(index));
        traced.begin(Attempt {
            span: traced.trace.child(self.rng.next_u64().max(1)),
            cluster: cluster.name.clone(),
            endpoint: endpoint.name.clone(),
            address: endpoint.address,
            http2: cluster.http2.is_some(),
            side: pick.side,
            why: pick.why,
            draw: table.and_then(|table| table.draw(pick.primary, &flow.request)),
            segment: segment.map(|segment| segment.name.clone()),
            started: now,
            sent: None,
            answered: None,
            ended: None,
            status: None,
            class: None,
            failure: None,
        });
    }
}
