//! A primary and a shadow whose requests end tick by tick, and a judge who is told.

use std::time::Duration;

use foreshade_engine::moment::Moment;
use foreshade_engine::verdict::{Interval, Judge, JudgePolicy, Metric, Verdict, WeightRange};

use crate::chance::Chance;

/// Shares of requests that are events, `[primary, shadow]`, in the order of the shipped metrics. Latencies are nested:
/// what is over the 99th percentile is over the 90th.
#[derive(Clone, Copy)]
pub(crate) struct Shares(pub(crate) [[f64; 2]; 5]);

/// One rollout.
pub(crate) struct World {
    pub(crate) judge: Judge,
    pub(crate) chance: Chance,
    tick: Duration,
    now: Moment,
    whole: Vec<[u64; 2]>,
}

impl Shares {
    /// Equal arms, of which this share fails.
    pub(crate) fn equal(failures: f64) -> Self {
        Self([failures, 0.5, 0.1, 0.01, 0.001].map(|share| [share, share]))
    }

    /// The shadow's share of one metric, `ratio` times the primary's.
    pub(crate) fn with(mut self, metric: usize, ratio: f64) -> Self {
        self.0[metric][1] = self.0[metric][0] * ratio;
        self
    }

    /// The worst that is still tolerated in every metric.
    pub(crate) fn tolerable(failures: f64) -> Self {
        let policy = JudgePolicy::default();
        let metrics = policy.metrics.iter().enumerate();
        metrics.fold(Self::equal(failures), |shares, (index, metric)| {
            shares.with(index, metric.tolerance)
        })
    }
}

impl World {
    pub(crate) fn new(policy: &JudgePolicy, seed: u64, tick: Duration) -> Self {
        Self {
            judge: Judge::new(policy).unwrap(),
            chance: Chance::seeded(seed),
            tick,
            now: Moment::ZERO,
            whole: vec![[0; 2]; policy.metrics.len()],
        }
    }

    /// A tick with so many requests, of which the coin sends each to the shadow with probability `weight`.
    pub(crate) fn tick(&mut self, requests: u64, weight: f64, shares: &Shares) -> Verdict {
        let exposures = self.split(requests, weight);
        self.tick_of(exposures, weight, shares)
    }

    pub(crate) fn split(&mut self, requests: u64, weight: f64) -> [u64; 2] {
        let shadow = self.chance.count(requests, weight);
        [requests - shadow, shadow]
    }

    /// A tick with these requests.
    pub(crate) fn tick_of(&mut self, exposures: [u64; 2], weight: f64, shares: &Shares) -> Verdict {
        let mut events = [[0; 2]; 5];
        for arm in 0..2 {
            events[0][arm] = self.chance.count(exposures[arm], shares.0[0][arm]);
            let (mut slow, mut before) = (exposures[arm], 1.0);
            let metrics = events.iter_mut().zip(&shares.0).take(self.whole.len());
            for (counts, shares) in metrics.skip(1) {
                slow = self.chance.count(slow, shares[arm] / before);
                counts[arm] = slow;
                before = shares[arm];
            }
        }
        self.report(exposures, weight, &events[..self.whole.len()])
    }

    /// A tick with these requests and events.
    pub(crate) fn report(&mut self, exposures: [u64; 2], weight: f64, events: &[[u64; 2]]) -> Verdict {
        self.now = self.now + self.tick;
        for (whole, more) in self.whole.iter_mut().zip(events) {
            *whole = [whole[0] + more[0], whole[1] + more[1]];
        }
        let interval = Interval {
            weight: WeightRange::exactly(weight),
            is_of_step: true,
            exposures,
            events,
        };
        self.judge.observe(self.now, &interval).unwrap();
        self.judge.verdict()
    }

    /// Events of a metric so far, on both arms.
    pub(crate) fn events(&self, metric: usize) -> u64 {
        self.whole[metric].iter().sum()
    }
}

/// The shipped policy with one metric only, that spends all of alpha.
pub(crate) fn only(metric: Metric) -> JudgePolicy {
    let mut policy = JudgePolicy::default();
    policy.metrics.retain(|policy| policy.metric == metric);
    policy
}

/// Asserts that a share of `runs` is at most `probability`, up to three standard deviations of chance. `--no-capture`
/// shows the shares.
#[allow(clippy::print_stdout, reason = "the document has these figures")]
pub(crate) fn at_most(probability: f64, happened: u64, runs: u64, what: &str) {
    let share = happened as f64 / runs as f64;
    let sigma = (probability * (1.0 - probability) / runs as f64).sqrt();
    println!(
        "{what}: {:.2} % of {runs}; {:.0} % promised",
        share * 100.0,
        probability * 100.0
    );
    assert!(
        share <= probability + 3.0 * sigma,
        "{what}: {share} of {runs} runs"
    );
}

/// The middle of what was measured.
pub(crate) fn median(mut measured: Vec<f64>) -> f64 {
    measured.sort_by(f64::total_cmp);
    measured[measured.len() / 2]
}
