//! What happens, kept for those who listen: the last events in a ring, each with a number that only grows.
//!
//! Listeners have no queue of their own. Each remembers the number of the last event it was given, and is woken when
//! there is a newer one; so a thousand of them cost no more memory than one, and none can hold back whoever reports. A
//! listener that was away for longer than the ring remembers is told that something is missing, and looks at the whole
//! state again.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use foreshade_contract::PairId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use utoipa::ToSchema;

/// Events that are remembered: with 10,000 pairs and an incident, half a minute; in quiet times, days.
const EVENTS_MAX: usize = 4096;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number; each is higher than those before. Numbers begin anew when the controller does.
    pub seq: u64,
    /// When, in milliseconds of Unix time.
    pub at_ms: u64,
    /// To which pair.
    pub pair: String,
    /// What kind of thing: transition, command, gate, drill, override.
    pub kind: String,
    /// The generation of the pair after it.
    pub generation: u64,
    /// In one sentence.
    pub sentence: String,
}

/// What is reported; the log gives it its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// When, in milliseconds of Unix time.
    pub at_ms: u64,
    /// To which pair.
    pub pair: PairId,
    /// What kind of thing.
    pub kind: &'static str,
    /// The generation of the pair after it.
    pub generation: u64,
    /// In one sentence.
    pub sentence: String,
}

/// The last events.
#[derive(Debug)]
pub struct EventLog {
    ring: Mutex<VecDeque<Event>>,
    last: watch::Sender<u64>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self {
            ring: Mutex::default(),
            last: watch::Sender::new(0),
        }
    }
}

/// What a listener has missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Events after the one that the listener had last, in order.
    pub events: Vec<Event>,
    /// Whether there were more that are forgotten.
    pub gap: bool,
}

impl EventLog {
    /// Something happened. Returns its number.
    pub fn report(&self, report: Report) -> u64 {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = ring.back().map_or(0, |last| last.seq) + 1;
        if ring.len() == EVENTS_MAX {
            ring.pop_front();
        }
        ring.push_back(Event {
            seq,
            at_ms: report.at_ms,
            pair: report.pair.to_string(),
            kind: report.kind.to_owned(),
            generation: report.generation,
            sentence: report.sentence,
        });
        // With the ring locked, so that numbers are announced in order.
        self.last.send_replace(seq);
        seq
    }

    /// What happened after the event of this number. A number that is still to come means that the controller began
    /// anew, so everything that is remembered is new to the listener.
    pub fn since(&self, seq: u64) -> Missed {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = ring.back().map_or(0, |event| event.seq);
        let began_anew = seq > newest;
        let after = if began_anew { 0 } else { seq };
        let oldest = ring.front().map_or(1, |event| event.seq);
        Missed {
            events: ring.iter().filter(|event| event.seq > after).cloned().collect(),
            gap: began_anew || oldest > after + 1,
        }
    }

    /// The number of the last event.
    pub fn newest(&self) -> u64 {
        *self.last.borrow()
    }

    /// Wakes whoever waits for more.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(sentence: &str) -> Report {
        Report {
            at_ms: 1,
            pair: PairId {
                cluster: "shop".parse().unwrap(),
                primary: "a".parse().unwrap(),
            },
            kind: "transition",
            generation: 1,
            sentence: sentence.to_owned(),
        }
    }

    #[test]
    fn a_listener_gets_each_event_once_and_in_order() {
        let log = EventLog::default();
        assert_eq!(
            log.since(0),
            Missed {
                events: vec![],
                gap: false
            }
        );
        for number in 1..=3 {
            assert_eq!(log.report(report("x")), number);
        }
        let missed = log.since(1);
        assert_eq!(
            missed.events.iter().map(|event| event.seq).collect::<Vec<_>>(),
            [2, 3]
        );
        assert!(!missed.gap);
        assert_eq!((log.newest(), *log.watch().borrow()), (3, 3));
    }

    #[test]
    fn who_was_away_too_long_is_told_so_and_the_ring_does_not_grow() {
        let log = EventLog::default();
        for _ in 0..EVENTS_MAX + 5 {
            log.report(report("x"));
        }
        let missed = log.since(4);
        assert_eq!((missed.events.len(), missed.gap), (EVENTS_MAX, true));
        assert!(!log.since(5).gap);
    }

    #[test]
    fn a_number_that_is_still_to_come_means_that_the_controller_began_anew() {
        let log = EventLog::default();
        log.report(report("x"));
        let missed = log.since(77);
        assert_eq!((missed.events.len(), missed.gap), (1, true));
    }
}
