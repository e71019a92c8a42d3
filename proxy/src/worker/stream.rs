//! The life of a request on a stream of HTTP/2: whose turn it is, while both sides may speak for hours.
//!
//! A request of HTTP/1.1 is said, and then answered. On a stream a client may say something, read, and say more; he may
//! open it and say nothing until somebody else has; and so may the endpoint. Silence is then nobody's slowness. So each
//! attempt knows whose *turn* it is. While the client is waited for, time stands still for the endpoint: the attempt does
//! not count as waiting, and no timeout of the route runs. While the proxy holds something that the endpoint has not
//! taken, or the request is whole, it is the endpoint's turn, and everything is as for any other request. What is measured
//! is the time from the client's last word to the first byte of the answer.
//!
//! A *call* (of gRPC) may rest for as long as its cluster allows, and no longer in both directions together; it may last
//! for as long as its client allows. Neither end is held against the endpoint. How it ended stands behind its messages, so
//! that its outcome is counted then, with the latency of its head.

use std::sync::Arc;
use std::time::Duration;

use foreshade_engine::moment::Moment;
use foreshade_engine::outcome::Class;

use super::failover::attempts;
use super::waiting::Waiting;
use super::{BODY_PAUSE_MAX, Flow, Worker};
use crate::config::Http2;
use crate::outcome::Failure;
use crate::upstream::cut::{Cut, Line};
use crate::upstream::deadline::Entry;

/// How long a client is waited for whose pace is watched elsewhere: longer than any such limit.
const WATCHED_ELSEWHERE: Duration = Duration::from_secs(24 * 3600);

/// Who has to speak, or to take what was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// More of the request is waited for.
    Client,
    /// Something lies here for the endpoint, or it has everything.
    Endpoint,
}

/// How a request may use its stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    /// How long a call may rest; `None` for what is none.
    pub(crate) rest: Option<Duration>,
    /// How long its client lets it take, from when it came.
    pub(crate) lasts: Option<Duration>,
}

/// Where the conversation on a stream stands.
#[derive(Debug)]
pub(super) struct Turn {
    cut: Arc<Cut>,
    whose: Whose,
    rest: Option<Duration>,
    deadline: Option<Moment>,
    /// What the head of the answer took, where the attempt's outcome is still to come.
    heard: Option<Duration>,
}

impl Turn {
    /// What the attempt took, where that is not all of its time.
    pub(super) fn latency(&self) -> Option<Duration> {
        self.heard
    }

    fn bounded(&self, at: Moment) -> Moment {
        self.deadline.map_or(at, |deadline| at.min(deadline))
    }
}

impl Worker {
    /// How the endpoints of the request's cluster are asked, where that is HTTP/2.
    pub(crate) fn http2(&self, flow: &Flow) -> Option<Http2> {
        // Before its first step, so that its indices are of this generation.
        self.topology.cluster(flow.cluster)?.http2
    }

    /// The attempt's request goes out on a stream, which `cut` gives up. It is `whole`, or its client may say more.
    pub(crate) fn sent_on(
        &mut self,
        flow: &mut Flow,
        cut: &Arc<Cut>,
        terms: Terms,
        (whole, replayable): (bool, bool),
    ) {
        let deadline = terms.lasts.map(|lasts| flow.arrived + lasts);
        flow.limit = deadline.map_or(flow.limit, |deadline| flow.limit.min(deadline));
        self.sent(flow, Line::Stream(cut.clone()), replayable && whole);
        flow.granted.waits();
        if let Some(attempt) = flow.attempt.as_mut() {
            attempt.turn = Some(Turn {
                cut: cut.clone(),
                whose: Whose::Endpoint,
                rest: terms.rest,
                deadline,
                heard: None,
            });
        }
    }

    /// It is somebody's turn from now on.
    pub(crate) fn turn(&mut self, flow: &mut Flow, whose: Whose) {
        self.find_again(flow);
        let answered = flow.first_byte.is_some();
        let Some(attempt) = flow.attempt.as_mut() else {
            return;
        };
        let Some(turn) = attempt.turn.as_mut().filter(|turn| turn.whose != whose) else {
            return;
        };
        turn.whose = whose;
        if answered {
            return;
        }
        let now = self.clock.now();
        let limit = match whose {
            Whose::Client => {
                self.recorder.first_byte(attempt.place, &mut attempt.recorded);
                flow.granted.rests();
                turn.bounded(now + turn.rest.unwrap_or(WATCHED_ELSEWHERE))
            }
            Whose::Endpoint => {
                (attempt.started, flow.said) = (now, now);
                flow.granted.waits();
                self.recorder.wait(attempt.place, &mut attempt.recorded, now);
                turn.bounded(now + flow.timeout)
            }
        };
        flow.limit = limit;
        if let Some(armed) = attempt.armed {
            self.deadlines
                .renew(armed, limit, |waiting| waiting.limit = limit);
        }
    }

    /// Something has passed on the stream, in either direction. True where the attempt has one.
    pub(super) fn passed(&mut self, flow: &mut Flow) -> bool {
        let answered = flow.first_byte.is_some();
        let Some((attempt, turn)) = flow.attempt.as_ref().and_then(|a| Some((a, a.turn.as_ref()?))) else {
            return false;
        };
        let now = self.clock.now();
        let limit = match (answered, turn.whose) {
            (true, _) => now + turn.rest.unwrap_or(BODY_PAUSE_MAX),
            (false, Whose::Client) => now + turn.rest.unwrap_or(WATCHED_ELSEWHERE),
            (false, Whose::Endpoint) => now + flow.timeout,
        };
        let limit = turn.bounded(limit);
        flow.limit = limit;
        if let Some(armed) = attempt.armed {
            self.deadlines
                .renew(armed, limit, |waiting| waiting.limit = limit);
        }
        true
    }

    /// The head of a call's answer is there; how it ended will be said behind it.
    pub(crate) fn head_alone(&mut self, flow: &mut Flow) {
        self.find_again(flow);
        let now = self.now();
        let Some(attempt) = flow.attempt.as_mut() else {
            return;
        };
        self.recorder.first_byte(attempt.place, &mut attempt.recorded);
        if let Some(turn) = attempt.turn.as_mut() {
            turn.heard = Some(now.since(attempt.started));
        }
        flow.answer_begins(now, Class::Ok);
        flow.trace_head(now);
        flow.first_byte = Some(now);
        self.tell_slot(flow);
        self.rearm(flow, now);
    }

    /// The call has said how it ended: as an answer with this status.
    pub(crate) fn concluded(&mut self, flow: &mut Flow, status: u16) {
        self.find_again(flow);
        let now = self.now();
        self.count(flow, Class::of_status(status, false), Some(status), now);
    }

    /// The head of an answer is there. Whatever was decided about its stream meanwhile holds no longer; what may rest from
    /// now on is its body.
    pub(super) fn rearm(&mut self, flow: &mut Flow, now: Moment) {
        let Some(attempt) = flow.attempt.as_mut() else {
            return;
        };
        let Some(turn) = attempt.turn.as_ref() else { return };
        let limit = turn.bounded(now + turn.rest.unwrap_or(BODY_PAUSE_MAX));
        turn.cut.forget();
        let what = Waiting {
            cluster: flow.cluster,
            endpoint: attempt.place.endpoint,
            request: flow.request,
            attempts: attempts(&flow.tried),
            replayable: false,
            limit,
            moved: None,
        };
        if let Some(armed) = attempt.armed.take() {
            self.deadlines.end(armed);
        }
        attempt.armed = Some(self.deadlines.arm(Entry {
            line: Line::Stream(turn.cut.clone()),
            at: limit,
            what,
        }));
    }

    /// Why a stream whose deadline was reached has come to its end, where that is nobody's failure.
    pub(super) fn overstayed(flow: &Flow, now: Moment) -> Option<Failure> {
        let turn = flow.attempt.as_ref()?.turn.as_ref()?;
        if turn.deadline.is_some_and(|deadline| now >= deadline) {
            return Some(Failure::Deadline);
        }
        match (turn.rest.is_some(), turn.whose) {
            (true, Whose::Client) => Some(Failure::Idle),
            (true, Whose::Endpoint) if flow.first_byte.is_some() => Some(Failure::Idle),
            (false, Whose::Client) if flow.first_byte.is_none() => Some(Failure::ClientSlow),
            _ => None,
        }
    }
}
