//! Where a request's time went: the marks that it passes on its way, and the phases between them.
//!
//! The phases add up to the whole: each begins where the one before ends, and the last one that was reached lasts to
//! the end. So a sum over many lines tells what the time of all requests was spent on. The marks of a request are
//! moments that the worker knows anyway, so that its line, its spans, `Server-Timing` and the metrics are told the
//! same, for no reading of the clock more. The choice of an endpoint is no phase: it takes less than a microsecond.

use std::time::Duration;

use foreshade_engine::moment::Moment;

/// The marks. A new attempt forgets those of the one before, whose time counts as `retries`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trail {
    begun: Option<Moment>,
    arrived: Option<Moment>,
    ready: Option<Moment>,
    started: Option<Moment>,
    sent: Option<Moment>,
    first_byte: Option<Moment>,
}

/// The phases, and two sums. `None` for what was not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// From the first byte of the request to the end.
    pub duration: Duration,
    /// From the first byte of the request to the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// The client took this long to send its request's head.
    pub request: Option<Duration>,
    /// Until the first attempt began: a short body, and waits that a policy asked for.
    pub queue: Option<Duration>,
    /// Until the last attempt began: attempts before it.
    pub retries: Option<Duration>,
    /// Until the last attempt had a connection.
    pub connect: Option<Duration>,
    /// From there to the answer's head; the request's body goes out meanwhile.
    pub wait: Option<Duration>,
    /// From there to the end: the answer's body, and a client that reads it.
    pub transfer: Option<Duration>,
}

impl Trail {
    /// The first byte of a request is there, if anybody looked, and no more than that is known of it.
    pub fn begun(at: Option<Moment>) -> Self {
        Self {
            begun: at,
            ..Self::default()
        }
    }

    /// A request's head is there. `begun` is when its first byte was, if anybody looked.
    pub fn arrived(begun: Option<Moment>, at: Moment) -> Self {
        Self {
            begun: begun.or(Some(at)),
            arrived: Some(at),
            ..Self::default()
        }
    }

    /// Its attempts: since when the first one could begin, when the last one did, when that had a connection, and when the
    /// head of its answer was there.
    pub fn attempted(
        mut self,
        (ready, started): (Moment, Moment),
        sent: Option<Moment>,
        first_byte: Option<Moment>,
    ) -> Self {
        (self.ready, self.started) = (Some(ready), Some(started));
        (self.sent, self.first_byte) = (sent, first_byte);
        self
    }

    /// An attempt begins.
    pub fn started(&mut self, at: Moment) {
        self.ready = self.ready.or(Some(at));
        (self.started, self.sent, self.first_byte) = (Some(at), None, None);
    }

    /// The attempt has a connection, and the request's head goes out.
    pub fn sent(&mut self, at: Moment) {
        self.sent = Some(at);
    }

    /// The head of the answer is there.
    pub fn first_byte(&mut self, at: Option<Moment>) {
        self.first_byte = at;
    }

    /// Where the time went until the head of the answer was there, `at` which the client is told: parts, and the whole from
    /// the head of the request on. `None` for what was not reached.
    pub fn until_answered(&self, at: Moment) -> [(&'static str, Option<Duration>); 5] {
        let between = |from: Option<Moment>, to: Option<Moment>| Some(to?.since(from?));
        [
            ("queue", between(self.arrived, self.ready)),
            (
                "retries",
                between(self.ready, self.started).filter(|time| !time.is_zero()),
            ),
            ("connect", between(self.started, self.sent)),
            ("upstream", between(self.sent, Some(at))),
            ("foreshade", between(self.arrived, Some(at))),
        ]
    }

    /// The request is over.
    pub fn times(&self, end: Moment) -> Times {
        let Some(begun) = self.begun else {
            return Times::default();
        };
        let marks = [
            self.begun,
            self.arrived,
            self.ready,
            self.started,
            self.sent,
            self.first_byte,
        ];
        let phase = |index: usize| {
            let from = (*marks.get(index)?)?;
            Some(marks.get(index + 1).copied().flatten().unwrap_or(end).since(from))
        };
        Times {
            duration: end.since(begun),
            first_byte: self.first_byte.map(|at| at.since(begun)),
            request: phase(0),
            queue: phase(1),
            retries: phase(2),
            connect: phase(3),
            wait: phase(4),
            transfer: phase(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(us: u64) -> Moment {
        Moment::from_micros(us)
    }

    #[test]
    fn a_second_attempt_forgets_the_marks_of_the_first() {
        let mut trail = Trail::arrived(Some(at(10)), at(30));
        trail.started(at(30));
        trail.sent(at(40));
        trail.first_byte(Some(at(90)));
        trail.started(at(100));
        let times = trail.times(at(150));
        assert_eq!(times.request, Some(Duration::from_micros(20)));
        assert_eq!(
            (times.queue, times.retries),
            (Some(Duration::ZERO), Some(Duration::from_micros(70)))
        );
        let told = trail.until_answered(at(150));
        assert_eq!(told[1], ("retries", Some(Duration::from_micros(70))));
        assert_eq!(told[4], ("foreshade", Some(Duration::from_micros(120))));
        assert_eq!(times.connect, Some(Duration::from_micros(50)));
        assert_eq!((times.wait, times.transfer, times.first_byte), (None, None, None));
    }

    proptest! {
        #[test]
        fn the_phases_add_up_to_the_whole_wherever_the_request_ended(
            steps in prop::array::uniform6(0u64..1_000_000),
            reached in 0usize..4,
        ) {
            let mut now = 0;
            let mut marks = steps.iter().map(|step| { now += step; at(now) });
            let mut next = || marks.next().unwrap();
            let begun = next();
            let mut trail = Trail::arrived(Some(begun), next());
            if reached > 0 { trail.started(next()); }
            if reached > 1 { trail.sent(next()); }
            if reached > 2 { trail.first_byte(Some(next())); }
            let times = trail.times(next());
            let phases =
                [times.request, times.queue, times.retries, times.connect, times.wait, times.transfer];
            prop_assert_eq!(phases.iter().flatten().sum::<Duration>(), times.duration);
            // The first attempt begins when it can, so that nothing lies between.
            prop_assert_eq!(phases.iter().flatten().count(), if reached > 0 { reached + 3 } else { 2 });
        }
    }
}
