//! Is the way to the endpoint bad? Loss and jitter, from what `TCP_INFO` says of its connections.
//!
//! Loss has an absolute meaning, so retransmitted segments are held against fixed shares, at their lower bound. Round
//! trips have not: they are held against the endpoint's own healthy ones, learned slowly and only while nothing is
//! wrong. And they are not only the network's: an endpoint acknowledges a request together with its answer, or after a
//! delayed acknowledgement's time, so a slow one has long "round trips" on the best of lines. What that can explain is
//! not counted: the slowness itself is, elsewhere. Fewer than four connections are an anecdote. No samples: what is
//! known fades within seconds, because a path is not sick by rumour.

use crate::cusum::{Batch, ramp};
use crate::observation::NetworkTally;

use super::combine::Finding;

/// Connections in a tick from which on their mean counts.
const CONNECTIONS_MIN: u32 = 4;

/// What a slow endpoint alone adds to a round trip, microseconds: Linux delays an acknowledgement by `TCP_DELACK_MIN`
/// when requests and answers alternate.
const DELAYED_ACK_US: f64 = 40_000.0;

/// Time constant of what counts as now, seconds. Connections are sampled rarely.
const NOW_S: f64 = 3.0;

/// Time constant of the baseline, seconds.
const BASELINE_S: f64 = 600.0;

/// Samples of connections until there is a baseline.
const FIT: f64 = 40.0;

/// Connections' samples behind a round trip from which on it counts in full.
const SAMPLES_FULL: f64 = 12.0;

/// A mean that fades, with the weight behind it.
#[derive(Clone, Copy, Debug, Default)]
struct Fading {
    sum: f64,
    weight: f64,
}

/// Watches the path to one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetworkWatch {
    segments: Batch,
    rtt: Fading,
    jitter: Fading,
    usual_rtt: Fading,
    usual_jitter: Fading,
}

impl Fading {
    fn fade(&mut self, keep: f64) {
        self.sum *= keep;
        self.weight *= keep;
    }

    fn add(&mut self, sum: f64, weight: f64) {
        self.sum += sum;
        self.weight += weight;
    }

    fn mean(&self) -> f64 {
        if self.weight > 0.0 {
            self.sum / self.weight
        } else {
            0.0
        }
    }
}

impl NetworkWatch {
    /// Takes a tick of `seconds`.
    pub fn handle(&mut self, tally: &NetworkTally, seconds: f64) {
        let keep = (-seconds / NOW_S).exp();
        self.segments.decay(keep);
        self.rtt.fade(keep);
        self.jitter.fade(keep);
        self.segments.add(Batch {
            bad: tally.retransmits.min(tally.segments_out) as f64,
            total: tally.segments_out as f64,
        });
        if tally.connections > 0 {
            self.rtt.add(tally.rtt_us as f64, f64::from(tally.connections));
            self.jitter
                .add(tally.rtt_var_us as f64, f64::from(tally.connections));
        }
    }

    /// Takes the same tick into the baseline; call it only while the endpoint is well.
    pub fn learn(&mut self, tally: &NetworkTally, seconds: f64) {
        if tally.connections == 0 {
            return;
        }
        let keep = (-seconds / BASELINE_S).exp();
        let weight = f64::from(tally.connections);
        self.usual_rtt.fade(keep);
        self.usual_rtt.add(tally.rtt_us as f64, weight);
        self.usual_jitter.fade(keep);
        self.usual_jitter.add(tally.rtt_var_us as f64, weight);
    }

    /// Segments sent again: 1 % is where throughput begins to suffer, 5 % is a bad line.
    pub fn loss(&self) -> Finding {
        let (lower, _) = self.segments.bounds(1.645);
        Finding {
            effect: ramp(lower, 0.01, 0.05),
            evidence: ramp(self.segments.total, 20.0, 100.0),
            observed: self.segments.share(),
            baseline: 0.01,
            samples: self.segments.total,
        }
    }

    /// Round trips against the endpoint's own healthy ones: twice as long is weather, five times is another route.
    pub fn round_trip(&self) -> Finding {
        self.against(self.rtt, self.usual_rtt, (2.0, 5.0))
    }

    /// Their variation, the kernel's measure of jitter: it doubles by itself, three times is unusual.
    pub fn jitter(&self) -> Finding {
        self.against(self.jitter, self.usual_jitter, (3.0, 10.0))
    }

    fn against(&self, now: Fading, usual: Fading, (begins, full): (f64, f64)) -> Finding {
        if usual.weight < FIT || usual.mean() <= 0.0 {
            return Finding::default();
        }
        // In a rack, microseconds multiply without anybody noticing: a millisecond is the least that counts.
        let ratio = (now.mean() - DELAYED_ACK_US) / usual.mean().max(1000.0);
        Finding {
            effect: ramp(ratio.max(1e-9).ln(), f64::ln(begins), f64::ln(full)),
            evidence: ramp(now.weight, f64::from(CONNECTIONS_MIN) - 1.0, SAMPLES_FULL),
            observed: now.mean(),
            baseline: usual.mean(),
            samples: now.weight,
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "nothing and everything are exact")]
mod tests {
    use super::*;

    fn tally(rtt_us: u64, retransmits: u64) -> NetworkTally {
        NetworkTally {
            connections: 4,
            rtt_us: 4 * rtt_us,
            rtt_var_us: 4 * rtt_us / 2,
            segments_out: 100,
            retransmits,
        }
    }

    fn healthy() -> NetworkWatch {
        let mut watch = NetworkWatch::default();
        for _ in 0..60 {
            watch.handle(&tally(2000, 0), 1.0);
            watch.learn(&tally(2000, 0), 1.0);
        }
        watch
    }

    // Concept: endpoint-network
    #[test]
    fn loss_and_jitter_show_within_seconds() {
        let mut watch = healthy();
        assert_eq!(watch.loss().effect, 0.0);
        assert_eq!(watch.jitter().effect, 0.0);
        for _ in 0..3 {
            watch.handle(&tally(200_000, 8), 1.0);
        }
        assert!(watch.loss().effect > 0.3, "{:?}", watch.loss());
        assert!(watch.jitter().effect > 0.8, "{:?}", watch.jitter());
        assert!(watch.round_trip().effect > 0.8);
    }

    #[test]
    fn a_rack_that_takes_three_times_its_microseconds_is_well() {
        let mut watch = NetworkWatch::default();
        for _ in 0..60 {
            watch.handle(&tally(50, 0), 1.0);
            watch.learn(&tally(50, 0), 1.0);
        }
        watch.handle(&tally(400, 0), 1.0);
        assert_eq!(watch.round_trip().effect, 0.0);
    }

    #[test]
    fn an_endpoint_that_acknowledges_late_because_it_is_slow_has_a_good_line() {
        let mut watch = healthy();
        for _ in 0..10 {
            watch.handle(&tally(40_000, 0), 1.0);
        }
        assert_eq!(watch.round_trip().effect, 0.0);
        assert_eq!(watch.jitter().effect, 0.0);
    }

    #[test]
    fn without_samples_nothing_is_claimed() {
        let mut watch = healthy();
        watch.handle(&tally(200_000, 8), 1.0);
        for _ in 0..60 {
            watch.handle(&NetworkTally::default(), 1.0);
        }
        assert_eq!(watch.loss().evidence, 0.0);
        assert_eq!(watch.jitter().evidence, 0.0);
    }
}
