//! Is the endpoint slow? Against its own baseline, in its far tail, by its queue, and, until it has a baseline, against
//! its peers.
//!
//! All but the last hold an endpoint against itself, class by class, at equal load, and take off what its peers have in
//! common with it: hardware, distance and the mix of requests differ between endpoints without anybody being sick. That
//! is why a comparison with peers in absolute terms is believed by half, and only until there is a baseline.

use crate::cusum::ramp;

use super::combine::Finding;
use super::gray::Classes;
use super::recent::{Now, Sums};
use super::watch::{Expected, Mix, SlowWatch, Slowdown, slowness_effect};

/// Samples in the last half second from which on they count beside those since the change.
const NOW_MIN: f64 = 20.0;

/// Standard errors by which the last moments are believed less. More than the one of what is measured since the change,
/// because risk keeps the largest of many such moments.
const NOW_Z: f64 = 1.5;

/// Standard deviations (Poisson) between which a queue is believed: what waits is one number, not a sample of
/// many, and a healthy queue wanders more than chance alone would have it.
const QUEUE_Z: (f64, f64) = (8.0, 12.0);

/// How many times longer than Little's law lets expect a queue begins to matter, and matters in full.
const QUEUE: (f64, f64) = (2.0, 6.0);

/// How many times slower than its peers an endpoint without a baseline begins to be suspect, and is.
const PEERS: (f64, f64) = (2.0, 6.0);

/// The most that an absolute comparison with peers counts: a distant endpoint is slower and well.
const PEERS_TRUST: f64 = 0.5;

/// Peers with a baseline for such a comparison.
const PEERS_MIN: usize = 3;

/// The level of the peers in absolute terms.
#[derive(Clone, Copy, Debug)]
pub struct Usual {
    /// Median of the logarithms of their latencies.
    pub middle: f64,
    /// Median absolute deviation.
    pub deviation: f64,
    /// How many they are.
    pub peers: usize,
}

/// What the classes' baselines let expect of a mix of samples, as ratios.
pub fn expected(mix: &Mix, classes: &Classes) -> Expected {
    let mut expected = Expected::default();
    let mut weight = 0.0;
    for (count, class) in mix.by_class().zip(classes) {
        let Some(class) = class.as_deref().filter(|_| count > 0.0) else {
            continue;
        };
        let Some(reference) = class.baseline.reference() else {
            continue;
        };
        let latency = class.baseline.latency();
        let scale = f64::from(count) / latency.total().max(1.0);
        expected.ratios.add_shifted(latency, reference.shift, scale);
        expected.deviation += reference.deviation * f64::from(count);
        expected.samples += reference.samples;
        weight += f64::from(count);
    }
    expected.deviation /= f64::max(weight, 1e-9);
    expected
}

/// Slower than its own baseline. `now` is given where the watch is the endpoint's; `peers` is the logarithm by which the
/// peers are slower as well.
pub fn own_latency(
    watch: &SlowWatch,
    now: Option<&Now>,
    classes: &Classes,
    peers: f64,
    threshold: f64,
) -> Finding {
    let evidence = watch.evidence(threshold);
    if evidence <= 0.0 {
        return Finding::default();
    }
    let (since, mix) = watch.since();
    let changed = Slowdown::between(since, &expected(mix, classes));
    // What grows is worse now than since it began; what ended is worse since it began than now.
    let mut current = None;
    if let Some(now) = now.filter(|now| now.ratios.total() >= NOW_MIN) {
        current = Slowdown::between(&now.ratios, &expected(&now.mix, classes)).map(|slowdown| Slowdown {
            ln: slowdown.ln - peers,
            ..slowdown
        });
    }
    let candidates = [(changed, 1.0), (current, NOW_Z)];
    let worst = candidates
        .into_iter()
        .filter_map(|(slowdown, z)| slowdown.map(|slowdown| (slowdown.lower(z), slowdown)))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    worst.map_or_else(Finding::default, |(lower, slowdown)| Finding {
        effect: slowness_effect(lower),
        evidence,
        observed: slowdown.ln.exp(),
        baseline: 1.0,
        samples: slowdown.samples,
    })
}

/// How much slower than its baseline, as a logarithm: now if there are samples, else since the change.
pub fn slowdown(watch: &SlowWatch, now: &Now, classes: &Classes, peers: f64) -> Option<f64> {
    if now.ratios.total() >= NOW_MIN {
        return Slowdown::between(&now.ratios, &expected(&now.mix, classes)).map(|slowdown| slowdown.ln);
    }
    let (since, mix) = watch.since();
    Slowdown::between(since, &expected(mix, classes)).map(|slowdown| slowdown.ln + peers)
}

/// The point of a trend: logarithm of p90 over its baseline.
pub fn trend_point(now: &Now, classes: &Classes) -> Option<f64> {
    if now.ratios.total() < NOW_MIN / 2.0 {
        return None;
    }
    let live = now.ratios.quantile(0.9)?;
    let usual = expected(&now.mix, classes).ratios.quantile(0.9)?;
    Some((live - usual) * crate::spectrum::LN_BUCKET)
}

/// What waits, the least of the last three ticks, against what Little's law lets expect.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queue {
    last: [f64; 3],
    expected: f64,
}

impl Queue {
    /// Takes a tick: requests that wait, their arrivals per second, and the healthy mean latency if it is known.
    pub fn handle(&mut self, waiting: f64, rps: f64, mean_us: Option<f64>) {
        self.last = [waiting, self.last[0], self.last[1]];
        self.expected = mean_us.map_or(f64::INFINITY, |us| rps * us / 1e6);
    }

    /// How many times longer than expected, where something is known. A burst is gone within three ticks.
    pub fn ratio(&self) -> Option<f64> {
        let least = self.last.into_iter().fold(f64::INFINITY, f64::min);
        // Half a request more on either side: next to nothing against next to nothing is no ratio.
        (self.expected.is_finite()).then(|| (least + 0.5) / (self.expected + 0.5))
    }

    /// Longer than load explains. `peers` is the ratio at the others.
    pub fn finding(&self, peers: f64) -> Finding {
        let Some(ratio) = self.ratio() else {
            return Finding::default();
        };
        let expected = (self.expected + 0.5) * peers.max(1.0);
        let least = ratio * (self.expected + 0.5);
        let z = (least - expected) / (expected + 0.5).sqrt();
        Finding {
            effect: ramp((least / expected).ln(), QUEUE.0.ln(), QUEUE.1.ln()),
            evidence: ramp(z, QUEUE_Z.0, QUEUE_Z.1),
            observed: least,
            baseline: expected,
            samples: 3.0,
        }
    }

    /// Forgets.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Slower than its peers, for an endpoint without a baseline. `own` are logarithms of its latencies.
pub fn peers(own: &Sums, usual: Usual) -> Finding {
    if own.n < NOW_MIN || usual.peers < PEERS_MIN {
        return Finding::default();
    }
    let distance = own.mean() - usual.middle;
    let z = distance / (1.48 * usual.deviation + 0.05);
    Finding {
        effect: PEERS_TRUST * ramp(z, 3.0, 8.0) * ramp(distance, PEERS.0.ln(), PEERS.1.ln()),
        evidence: ramp(distance / own.error().max(1e-3), 5.0, 8.0),
        observed: own.mean().exp(),
        baseline: usual.middle.exp(),
        samples: own.n,
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "nothing and everything are exact")]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_no_queue_and_a_queue_is() {
        let mut queue = Queue::default();
        queue.handle(2.0, 300.0, Some(5600.0));
        queue.handle(2.0, 300.0, Some(5600.0));
        queue.handle(60.0, 300.0, Some(5600.0));
        assert_eq!(queue.finding(1.0).effect, 0.0);
        queue.handle(60.0, 300.0, Some(5600.0));
        queue.handle(60.0, 300.0, Some(5600.0));
        let finding = queue.finding(1.0);
        assert_eq!((finding.effect, finding.evidence), (1.0, 1.0));
        assert_eq!(queue.finding(30.0).effect, 0.0, "all wait as long");
    }

    #[test]
    fn a_distant_endpoint_is_suspect_by_half_at_most() {
        let mut own = Sums::default();
        own.add(100_000f64.ln(), 500.0);
        own.add(101_000f64.ln(), 500.0);
        let usual = Usual {
            middle: 5000f64.ln(),
            deviation: 0.05,
            peers: 3,
        };
        assert_eq!(peers(&own, usual).effect, 0.5);
        assert_eq!(peers(&own, Usual { peers: 2, ..usual }).effect, 0.0);
    }
}
