//! Exact probabilities of a sequential test of one weight: all numbers of events on the shadow, with what they weigh.

use foreshade_engine::verdict::mixture::{Counted, Ratio};

/// Weights below this are not followed: together they are less than a billionth.
const NEGLIGIBLE: f64 = 1e-16;

/// For each number of events, with which numbers of the shadow's a test stops.
pub(crate) struct Boundary {
    stops: Vec<Option<u64>>,
    upwards: bool,
}

/// Probability of stopping with each number of events, from one on.
pub(crate) struct Stops(Vec<f64>);

/// The probability that an event is the shadow's.
pub(crate) fn on_shadow(ratio: f64, weight: f64) -> f64 {
    ratio * weight / (ratio * weight + 1.0 - weight)
}

impl Boundary {
    /// Of "worse": stops with this many events of the shadow or more.
    pub(crate) fn above(test: Ratio, weight: f64, limit: f64, horizon: u64) -> Self {
        let mut least = 0;
        let stops = (1..=horizon).map(|events| {
            while least <= events && nats(test, weight, events, least) < limit {
                least += 1;
            }
            (least <= events).then_some(least)
        });
        Self {
            stops: stops.collect(),
            upwards: true,
        }
    }

    /// Of "not worse": stops with this many events of the shadow or fewer.
    pub(crate) fn below(test: Ratio, weight: f64, limit: f64, horizon: u64) -> Self {
        let mut most = None;
        let stops = (1..=horizon).map(|events| {
            let next = |most: Option<u64>| most.map_or(0, |most| most + 1);
            while nats(test, weight, events, next(most)) >= limit {
                most = Some(next(most));
            }
            most
        });
        Self {
            stops: stops.collect(),
            upwards: false,
        }
    }

    /// When it stops if each event is the shadow's with probability `chance`.
    pub(crate) fn walk(&self, chance: f64) -> Stops {
        // States by the shadow's events; those that have stopped are taken out.
        let (mut first, mut alive) = (0u64, vec![1.0]);
        let mut stopped = Vec::with_capacity(self.stops.len());
        for stop in &self.stops {
            let mut next = vec![0.0; alive.len() + 1];
            for (index, weight) in alive.iter().enumerate() {
                next[index] += weight * (1.0 - chance);
                next[index + 1] += weight * chance;
            }
            let mut gone = 0.0;
            for (shadow, weight) in (first..).zip(next.iter_mut()) {
                let stops = stop.is_some_and(|stop| {
                    if self.upwards {
                        shadow >= stop
                    } else {
                        shadow <= stop
                    }
                });
                if stops {
                    gone += std::mem::take(weight);
                }
            }
            stopped.push(gone);
            let leading = next.iter().take_while(|weight| **weight < NEGLIGIBLE).count();
            let trailing = next
                .iter()
                .rev()
                .take_while(|weight| **weight < NEGLIGIBLE)
                .count();
            if leading == next.len() {
                break;
            }
            first += leading as u64;
            alive = next[leading..next.len() - trailing].to_vec();
        }
        Stops(stopped)
    }
}

impl Stops {
    /// Probability that it ever stops within the horizon.
    pub(crate) fn ever(&self) -> f64 {
        self.0.iter().sum()
    }

    /// The number of events by which this share of all runs has stopped; none within the horizon.
    pub(crate) fn quantile(&self, share: f64) -> Option<u64> {
        let mut sum = 0.0;
        let stopped = self.0.iter().position(|gone| {
            sum += gone;
            sum >= share
        });
        stopped.map(|index| index as u64 + 1)
    }
}

fn nats(test: Ratio, weight: f64, events: u64, shadow: u64) -> f64 {
    test.nats(std::iter::once(Counted {
        weight,
        events: events as f64,
        shadow: shadow as f64,
    }))
}
