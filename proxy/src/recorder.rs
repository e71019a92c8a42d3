//! What one worker saw: per endpoint an observation that fills, and the requests that wait.
//!
//! Owned by its worker and by nobody else, so that recording takes no lock and no atomic. Each tick the filled buffers
//! are swapped for the empty ones that came with the scorer's request, so that nothing is allocated and nothing is copied.

use foreshade_engine::in_flight::{InFlight, Started};
use foreshade_engine::moment::Moment;
use foreshade_engine::observation::{NetworkTally, Observation, ResourceReport};
use foreshade_engine::outcome::Outcome;

use crate::topology::descent::Descent;

/// Observations by cluster and endpoint index.
pub type Harvest = Vec<Vec<Observation>>;

/// Empty observations for clusters of these sizes.
pub fn empty_harvest(sizes: &[usize]) -> Harvest {
    sizes.iter().map(|n| vec![Observation::default(); *n]).collect()
}

/// The recorder of one worker.
#[derive(Debug)]
pub struct Recorder {
    clusters: Vec<Vec<EndpointRecord>>,
}

#[derive(Clone, Debug, Default)]
struct EndpointRecord {
    seen: Observation,
    waiting: InFlight,
    in_flight: u32,
}

/// Where an endpoint is in one generation of the configuration: cluster index, endpoint index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the cluster in the configuration.
    pub cluster: usize,
    /// Index of the endpoint in the cluster.
    pub endpoint: usize,
}

impl Place {
    /// The index of what the configuration does not have any more. Nothing is found at it, so whoever still works
    /// with it changes nothing.
    pub const GONE: usize = usize::MAX;
}

/// A recorded attempt that has not ended. Hand it back to [`Recorder::first_byte`] and [`Recorder::end`].
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// Requests in flight at the endpoint when this one came, itself not counted.
    pub in_flight_at_start: u32,
    waiting: Option<Started>,
}

impl Recorder {
    /// A recorder for clusters of these sizes.
    pub fn new(sizes: &[usize]) -> Self {
        Self {
            clusters: sizes
                .iter()
                .map(|n| vec![EndpointRecord::default(); *n])
                .collect(),
        }
    }

    /// Goes on with other clusters and endpoints. Attempts in flight at those that are gone end unseen.
    pub fn reshape(&mut self, descent: &Descent) {
        let before = std::mem::take(&mut self.clusters);
        self.clusters = descent.carry(before, EndpointRecord::default);
    }

    /// An attempt starts.
    pub fn begin(&mut self, place: Place, now: Moment) -> Recorded {
        let Some(record) = self.record(place) else {
            return Recorded {
                in_flight_at_start: 0,
                waiting: None,
            };
        };
        let in_flight_at_start = record.in_flight;
        record.in_flight += 1;
        record.seen.started += 1;
        Recorded {
            in_flight_at_start,
            waiting: Some(record.waiting.begin(now)),
        }
    }

    /// The attempt waits no longer: its first byte came, or none will. Safe to call twice.
    pub fn first_byte(&mut self, place: Place, recorded: &mut Recorded) {
        if let (Some(started), Some(record)) = (recorded.waiting.take(), self.record(place)) {
            record.waiting.end(started);
        }
    }

    /// The attempt waits for a first byte, again or for the first time, from `now` on. Safe to call twice.
    pub fn wait(&mut self, place: Place, recorded: &mut Recorded, now: Moment) {
        if let (None, Some(record)) = (recorded.waiting, self.record(place)) {
            recorded.waiting = Some(record.waiting.begin(now));
        }
    }

    /// Counts an end. A response that breaks off after its head is a second, bad end of the same attempt.
    pub fn count(&mut self, place: Place, outcome: &Outcome) {
        if let Some(record) = self.record(place) {
            record.seen.record(outcome);
        }
    }

    /// The attempt is over, to its last byte.
    pub fn end(&mut self, place: Place, mut recorded: Recorded) {
        self.first_byte(place, &mut recorded);
        if let Some(record) = self.record(place) {
            record.in_flight = record.in_flight.saturating_sub(1);
        }
    }

    /// Adds a sample of a connection to the endpoint.
    pub fn network(&mut self, place: Place, sample: &NetworkTally) {
        if let Some(record) = self.record(place) {
            record.seen.network.merge(sample);
        }
    }

    /// The endpoint reported on itself.
    pub fn resource(&mut self, place: Place, report: ResourceReport) {
        if let Some(record) = self.record(place) {
            record.seen.resource = Some(report);
        }
    }

    /// Swaps everything seen since the last harvest for the empty buffers in `spare`.
    pub fn harvest(&mut self, spare: &mut Harvest, now: Moment) {
        for (records, spares) in self.clusters.iter_mut().zip(spare) {
            for (record, spare) in records.iter_mut().zip(spares) {
                record.seen.in_flight = record.in_flight;
                record.seen.ages = record.waiting.ages(now);
                std::mem::swap(&mut record.seen, spare);
            }
        }
    }

    fn record(&mut self, place: Place) -> Option<&mut EndpointRecord> {
        self.clusters.get_mut(place.cluster)?.get_mut(place.endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreshade_engine::outcome::{Class, RouteClass};
    use std::time::Duration;

    const PLACE: Place = Place {
        cluster: 1,
        endpoint: 2,
    };

    fn ok(in_flight_at_start: u32) -> Outcome {
        Outcome {
            class: Class::Ok,
            latency: Duration::from_millis(5),
            route_class: RouteClass::default(),
            in_flight_at_start,
        }
    }

    #[test]
    fn a_harvest_takes_what_ended_and_leaves_what_waits() {
        let mut recorder = Recorder::new(&[1, 3]);
        let first = recorder.begin(PLACE, Moment::ZERO);
        let second = recorder.begin(PLACE, Moment::ZERO);
        assert_eq!((first.in_flight_at_start, second.in_flight_at_start), (0, 1));
        recorder.count(PLACE, &ok(0));
        recorder.end(PLACE, first);
        let mut harvest = empty_harvest(&[1, 3]);
        recorder.harvest(&mut harvest, Moment::from_micros(100_000));
        let seen = &harvest[1][2];
        assert_eq!(
            (
                seen.started,
                seen.count(Class::Ok),
                seen.in_flight,
                seen.ages.waiting()
            ),
            (2, 1, 1, 1)
        );
        harvest[1][2].clear();
        recorder.harvest(&mut harvest, Moment::from_micros(200_000));
        let seen = &harvest[1][2];
        assert_eq!(
            (
                seen.started,
                seen.count(Class::Ok),
                seen.in_flight,
                seen.ages.waiting()
            ),
            (0, 0, 1, 1)
        );
    }

    #[test]
    fn a_streaming_answer_is_in_flight_but_waits_no_longer() {
        let mut recorder = Recorder::new(&[1, 3]);
        let mut recorded = recorder.begin(PLACE, Moment::ZERO);
        recorder.first_byte(PLACE, &mut recorded);
        recorder.first_byte(PLACE, &mut recorded);
        let mut harvest = empty_harvest(&[1, 3]);
        recorder.harvest(&mut harvest, Moment::ZERO);
        assert_eq!((harvest[1][2].in_flight, harvest[1][2].ages.waiting()), (1, 0));
        recorder.end(PLACE, recorded);
        harvest[1][2].clear();
        recorder.harvest(&mut harvest, Moment::ZERO);
        assert_eq!(harvest[1][2].in_flight, 0);
    }
}
