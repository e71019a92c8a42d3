//! What happens on both arms, tick by tick: counts, drawn from a scenario and a seed.
//!
//! Counts, not requests: with three hours of 1000 requests per second nothing else would end. Each count is an exact
//! binomial draw. Latencies are log-normal (median 100 ms, p99 320 ms) and come as counts over five limits, as buckets
//! of a histogram do; what is over one limit is over all below it.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::scenario::{Scenario, Weather};

/// Median of the primary's latencies, milliseconds.
const MEDIAN_MS: f64 = 100.0;

/// Their spread, as a standard deviation of logarithms.
const SIGMA: f64 = 0.5;

/// Where latencies are counted, milliseconds: the primary's p50, p90, p99 and p99.9, and Flagger's limit.
pub const LIMITS_MS: [f64; 5] = [100.0, 189.8, 320.0, 468.9, 500.0];

/// Requests of one connection that dies.
const BURST: u64 = 20;

/// Such connections per second.
const BURSTS_PER_S: f64 = 1.0 / 6.0;

/// Requests per second from which on ticks are a tenth of a second, and not a whole one, where somebody looks.
const BUSY: f64 = 100.0;

/// Bits of a probability.
const BITS: u32 = 53;

/// What happened in a tick. Arms are `[primary, canary]`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tick {
    /// When it ended, seconds.
    pub at_s: f64,
    /// How long it was, seconds.
    pub span_s: f64,
    /// Probability with which requests were sent to the canary.
    pub share: f64,
    /// Requests.
    pub requests: [u64; 2],
    /// Those that failed.
    pub failures: [u64; 2],
    /// Those slower than each of [`LIMITS_MS`].
    pub over: [[u64; 2]; LIMITS_MS.len()],
}

/// Ticks of one run.
#[derive(Debug)]
pub struct Stream {
    scenario: Scenario,
    share: f64,
    rng: StdRng,
    /// Tenths of a second.
    at: u64,
    /// For each limit, the share of requests beyond it.
    over: [[f64; 2]; LIMITS_MS.len()],
}

impl Stream {
    /// The stream of a scenario and a seed, with this share for the canary.
    pub fn new(scenario: &Scenario, share: f64, seed: u64) -> Self {
        let beyond = |limit: f64, slower: f64| upper_tail((limit / (MEDIAN_MS * slower)).ln() / SIGMA);
        Self {
            scenario: *scenario,
            share,
            rng: StdRng::seed_from_u64(seed),
            at: 0,
            over: LIMITS_MS.map(|limit| [beyond(limit, 1.0), beyond(limit, scenario.slower)]),
        }
    }

    /// How much has passed.
    pub fn seconds(&self) -> f64 {
        self.at as f64 / 10.0
    }

    /// The next tick: a tenth of a second, then a second, where somebody is `quick`; else up to the next full ten
    /// seconds.
    pub fn next(&mut self, quick: bool) -> Tick {
        let span = match (quick, self.scenario.rate >= BUSY) {
            (true, true) => 1,
            (true, false) => 10,
            (false, _) => 100 - self.at % 100,
        };
        let span_s = span as f64 / 10.0;
        let mut tick = Tick {
            at_s: (self.at + span) as f64 / 10.0,
            span_s,
            share: self.share,
            ..Tick::default()
        };
        let arrivals = self.scenario.rate * span_s;
        // Four times as many trials as are expected: nearly Poisson, and bounded.
        let trials = (4.0 * arrivals).ceil();
        let all = binomial(&mut self.rng, whole(trials), arrivals / trials);
        let canary = binomial(&mut self.rng, all, self.share);
        tick.requests = [all - canary, canary];
        let base = self.base();
        for (arm, factor) in [1.0, self.scenario.failing].into_iter().enumerate() {
            self.fill(&mut tick, arm, (base * factor).min(1.0));
        }
        if self.scenario.weather == Weather::Bursts {
            self.burst(&mut tick);
        }
        self.at += span;
        tick
    }

    /// Share of requests that fail now on the primary.
    fn base(&self) -> f64 {
        let second = self.at / 10;
        match self.scenario.weather {
            Weather::Drift if second >= 120 => self.scenario.failures * 20.0,
            Weather::SharedOutages if second % 300 >= 290 => 0.33,
            _ => self.scenario.failures,
        }
    }

    fn fill(&mut self, tick: &mut Tick, arm: usize, failures: f64) {
        let Some(requests) = tick.requests.get(arm).copied() else {
            return;
        };
        if let Some(failed) = tick.failures.get_mut(arm) {
            *failed = binomial(&mut self.rng, requests, failures);
        }
        let (mut slow, mut before) = (requests, 1.0);
        for (counts, shares) in tick.over.iter_mut().zip(&self.over) {
            if let (Some(count), Some(share)) = (counts.get_mut(arm), shares.get(arm)) {
                slow = binomial(&mut self.rng, slow, share / before);
                (*count, before) = (slow, *share);
            }
        }
    }

    fn burst(&mut self, tick: &mut Tick) {
        let trials = (tick.span_s * 10.0).round();
        let bursts = binomial(&mut self.rng, whole(trials), BURSTS_PER_S * tick.span_s / trials);
        let canary = binomial(&mut self.rng, bursts, self.share);
        for (arm, bursts) in [bursts - canary, canary].into_iter().enumerate() {
            for counts in [&mut tick.requests, &mut tick.failures] {
                if let Some(count) = counts.get_mut(arm) {
                    *count += bursts * BURST;
                }
            }
        }
    }
}

/// How many of `trials` happen, each with this probability. Exact: each trial's uniform number is compared with the
/// probability bit by bit from the top, for all trials that are still tied at once; half of them leave at each bit.
pub fn binomial(rng: &mut StdRng, trials: u64, probability: f64) -> u64 {
    if probability >= 1.0 {
        return trials;
    }
    let mut digits = whole(probability.max(0.0) * (1u64 << BITS) as f64);
    let (mut tied, mut happened) = (trials, 0);
    let mut bit = 1u64 << (BITS - 1);
    while tied > 0 && digits != 0 {
        let zeros = heads(rng, tied);
        if digits & bit == 0 {
            tied = zeros;
        } else {
            happened += zeros;
            tied -= zeros;
            digits &= !bit;
        }
        bit >>= 1;
    }
    happened
}

/// A number that is none below zero and far below the largest of its kind.
#[expect(clippy::cast_possible_truncation, reason = "cut off on purpose")]
fn whole(number: f64) -> u64 {
    number as u64
}

fn heads(rng: &mut StdRng, coins: u64) -> u64 {
    let whole: u64 = (0..coins / 64)
        .map(|_| u64::from(rng.random::<u64>().count_ones()))
        .sum();
    let rest = coins % 64;
    if rest == 0 {
        return whole;
    }
    whole + u64::from((rng.random::<u64>() >> (64 - rest)).count_ones())
}

/// Share of a standard normal distribution above `z` (Abramowitz and Stegun 26.2.17, error below 7.5e-8).
fn upper_tail(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - upper_tail(-z);
    }
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let factors = [
        1.330_274_429,
        -1.821_255_978,
        1.781_477_937,
        -0.356_563_782,
        0.319_381_530,
    ];
    let polynomial = factors.iter().fold(0.0, |sum: f64, factor| (sum + factor) * t);
    (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * polynomial
}

#[cfg(test)]
mod tests {
    use super::super::scenario::SCENARIOS;
    use super::*;

    fn scenario(name: &str) -> &'static Scenario {
        SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap()
    }

    /// All ticks of so many seconds as one.
    fn total(name: &str, seconds: f64) -> Tick {
        let mut stream = Stream::new(scenario(name), 0.05, 7);
        let mut total = Tick::default();
        while stream.seconds() < seconds {
            let tick = stream.next(false);
            let pairs = [
                (&mut total.requests, tick.requests),
                (&mut total.failures, tick.failures),
            ];
            let pairs = pairs.into_iter().chain(total.over.iter_mut().zip(tick.over));
            for (sums, counts) in pairs {
                *sums = [sums[0] + counts[0], sums[1] + counts[1]];
            }
        }
        total
    }

    fn near(count: u64, of: u64, share: f64) -> bool {
        let expected = of as f64 * share;
        (count as f64 - expected).abs() < 5.0 * expected.sqrt()
    }

    #[test]
    fn counts_are_those_of_the_scenario() {
        let total = total("failing-10x", 200.0);
        let [primary, canary] = total.requests;
        assert!(near(primary + canary, 200_000, 1.0));
        assert!(near(canary, primary + canary, 0.05));
        assert!(near(total.failures[0], primary, 0.002) && near(total.failures[1], canary, 0.02));
        for (counts, share) in total.over.iter().zip([0.5, 0.1, 0.01, 0.001]) {
            assert!(near(counts[0], primary, share), "{counts:?} {share}");
        }
    }

    #[test]
    fn a_slower_canary_is_over_the_same_limits_more_often() {
        let total = total("slower-3x", 100.0);
        assert!(near(total.over[1][0], total.requests[0], 0.1));
        assert!(total.over[1][1] * 2 > total.requests[1]);
    }

    #[test]
    fn bursts_fall_on_both_arms_by_the_coin() {
        let mut stream = Stream::new(scenario("bursts"), 0.5, 3);
        let mut canary = 0;
        for _ in 0..600 {
            canary += stream.next(false).failures[1];
        }
        // Six thousand seconds: a thousand bursts, half of them here, and the usual failures.
        let expected = 6000.0 * 500.0 * 0.002 + 500.0 * 20.0;
        assert!(
            (canary as f64 / expected - 1.0).abs() < 0.1,
            "{canary} {expected}"
        );
    }

    #[test]
    fn ticks_meet_every_full_ten_seconds() {
        let ends = |name| {
            let mut stream = Stream::new(scenario(name), 0.05, 1);
            let ticks = [true, false, false].map(|quick| stream.next(quick));
            ticks.map(|tick| tick.at_s.to_string())
        };
        assert_eq!(ends("equal-1000"), ["0.1", "10", "20"]);
        assert_eq!(ends("equal-10"), ["1", "10", "20"]);
    }

    #[test]
    fn the_normal_tail_is_right_where_it_is_used() {
        for (z, share) in [
            (0.0, 0.5),
            (1.281_552, 0.1),
            (2.326_348, 0.01),
            (3.090_232, 0.001),
            (-1.281_552, 0.9),
        ] {
            assert!((upper_tail(z) - share).abs() < 1e-6, "{z}");
        }
    }
}
