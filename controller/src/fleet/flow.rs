//! The traffic of one pair over all proxies: what the judge has not had yet, how much there is, and how fast it is served.

use std::collections::BTreeMap;
use std::time::Duration;

use foreshade_contract::histogram::Histogram;
use foreshade_contract::report::{ArmCounters, Mirrored};
use foreshade_contract::{Arm, Share};
use foreshade_engine::moment::Moment;
use foreshade_engine::verdict::burst::Outage;

use super::voice::More;
use super::{Batch, STALE};

/// Over which time requests are counted for a rate. Reports come once a second or less, so a shorter one would see them
/// come in lumps.
const RATE_WINDOW: Duration = Duration::from_secs(2);

/// In which the highest rate seen loses half of itself: a minute after a peak it may well come again.
const PEAK_HALF_LIFE_S: f64 = 30.0;

/// How long latencies are kept: one window whole, and the next as far as it is.
const LATENCY_WINDOW: Duration = Duration::from_secs(60);

/// Requests before a quantile is one: of fewer, one in a thousand is a guess.
const QUANTILE_REQUESTS_MIN: u64 = 200;

/// The quantiles that a plan has thresholds for.
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// Most fractions that are counted apart between two looks: two of each proxy that reports, and thousands report.
const BATCHES_MAX: usize = 4096;

/// Most coins that are counted apart: proxies of one configuration have one.
const COINS_MAX: usize = 16;

/// What flows through one pair.
#[derive(Debug, Default)]
pub(super) struct Flow {
    batches: BTreeMap<Alike, [ArmCounters; 2]>,
    demand: Demand,
    latency: [Recent; 2],
    /// By arm, and when it last had traffic.
    outages: [(Outage, Moment); 2],
    /// Requests and failures since the last look, by arm. What many proxies see in one moment is one tick of an outage.
    unseen: [(u64, u64); 2],
    /// Copies since the last look, by the arm that they went to: what each report brought, which may have been drawn by
    /// another coin than those of another proxy.
    mirrored: Vec<(Arm, Mirrored)>,
    dropped: u64,
}

/// What batches have in common that may be added up: one sum of others would have another part of its failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    serving: Arm,
    /// The probability of the draw, to the bit.
    drawn: u64,
    /// The fraction of the shadow, in parts of [`SHARE_PARTS`].
    fraction: u32,
}

/// Fractions are told apart to a ten-millionth, so that none is rounded by a thousandth of itself.
const SHARE_PARTS: f64 = 1e7;

impl Flow {
    /// Takes what a report brings. Only what belongs to the round at hand is evidence; all of it is demand.
    pub(super) fn take(&mut self, more: &More, is_current: bool, now: Moment) {
        self.demand.add(more.requests(), now);
        for ((recent, latency), arm) in self.latency.iter_mut().zip(&more.latency).zip(Arm::ALL) {
            // Of an arm that only gets a part of the users only what it did as the primary says what is usual.
            if more.serving == Some(arm) {
                recent.add(latency, now);
            }
        }
        for ((requests, errors), arm) in self.unseen.iter_mut().zip(&more.arms) {
            *requests = requests.saturating_add(arm.requests);
            *errors = errors.saturating_add(arm.errors());
        }
        if is_current {
            for batch in &more.batches {
                self.add(batch);
            }
            for (arm, copies) in Arm::ALL.into_iter().zip(&more.mirrored) {
                self.copied(arm, copies);
            }
        }
    }

    /// Somebody looks: what came since the last time is one tick.
    pub(super) fn look(&mut self, now: Moment) {
        let [primary, shadow] = std::mem::take(&mut self.unseen);
        let sides = [(primary, shadow), (shadow, primary)];
        for ((outage, seen), (this, other)) in self.outages.iter_mut().zip(sides) {
            if this.0 > 0 {
                if now.since(*seen) > STALE {
                    *outage = Outage::default();
                }
                outage.observe([other.0, this.0], [other.1, this.1]);
                *seen = now;
            }
        }
    }

    fn add(&mut self, batch: &Batch) {
        let [primary, shadow] = batch.arms.map(|arm| arm.requests);
        let part = shadow as f64 / (primary.saturating_add(shadow)).max(1) as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part lies between 0 and 1"
        )]
        let fraction = (part * SHARE_PARTS).round() as u32;
        let alike = Alike {
            serving: batch.serving,
            drawn: batch.drawn.value().to_bits(),
            fraction,
        };
        if self.batches.len() >= BATCHES_MAX && !self.batches.contains_key(&alike) {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        let sums = self.batches.entry(alike).or_default();
        for (sum, more) in sums.iter_mut().zip(&batch.arms) {
            sum.add(more);
        }
    }

    /// Those that were drawn by the same coin add up.
    fn copied(&mut self, arm: Arm, copies: &Mirrored) {
        if copies.is_zero() {
            return;
        }
        let alike = |(of, known): &&mut (Arm, Mirrored)| {
            *of == arm && known.control_millionths == copies.control_millionths
        };
        if let Some((_, known)) = self.mirrored.iter_mut().find(alike) {
            known.add(copies);
        } else if self.mirrored.len() < COINS_MAX {
            self.mirrored.push((arm, *copies));
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// What copies to an arm came to since the last time.
    pub(super) fn drain_copies(&mut self) -> Vec<(Arm, Mirrored)> {
        std::mem::take(&mut self.mirrored)
    }

    /// What has been gathered since the last time.
    pub(super) fn drain(&mut self) -> Vec<Batch> {
        let batch = |(alike, arms): (Alike, _)| Batch {
            serving: alike.serving,
            drawn: Share::clamped(f64::from_bits(alike.drawn)),
            arms,
        };
        std::mem::take(&mut self.batches).into_iter().map(batch).collect()
    }

    pub(super) fn begin_round(&mut self) {
        self.batches.clear();
        self.outages = Default::default();
        self.unseen = Default::default();
        self.mirrored.clear();
    }

    pub(super) fn demand_rps(&self, now: Moment) -> f64 {
        self.demand.rps(now)
    }

    /// Nothing gets through to an arm. Once its traffic has been taken away nothing could refute that any more, so it is
    /// said for a while only; then probes have the word.
    pub(super) fn is_severe(&self, arm: Arm, now: Moment) -> bool {
        let outage = self.outages.get(arm.index());
        outage.is_some_and(|(outage, seen)| outage.is_severe() && now.since(*seen) <= STALE)
    }

    pub(super) fn thresholds(&mut self, arm: Arm) -> Option<[Duration; 4]> {
        self.latency.get_mut(arm.index())?.thresholds()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// An upper estimate of a rate: the highest of late, slowly forgotten.
#[derive(Clone, Copy, Debug, Default)]
struct Demand {
    since: Moment,
    requests: u64,
    peak_rps: f64,
    peak_at: Moment,
}

impl Demand {
    fn add(&mut self, requests: u64, now: Moment) {
        let elapsed = now.since(self.since);
        if elapsed >= RATE_WINDOW {
            let rps = self.requests as f64 / elapsed.as_secs_f64();
            if rps >= self.rps(now) {
                (self.peak_rps, self.peak_at) = (rps, now);
            }
            (self.since, self.requests) = (now, 0);
        }
        self.requests = self.requests.saturating_add(requests);
    }

    fn rps(&self, now: Moment) -> f64 {
        self.peak_rps * (-now.seconds_since(self.peak_at) / PEAK_HALF_LIFE_S).exp2()
    }
}

/// Latencies of the last minute or two.
#[derive(Clone, Debug, Default)]
struct Recent {
    whole: Histogram,
    begun: Histogram,
    since: Moment,
    /// Of both, as of the last time that anything was added and asked for.
    thresholds: Option<[Duration; 4]>,
    is_new: bool,
}

impl Recent {
    fn add(&mut self, latency: &Histogram, now: Moment) {
        if latency.total() == 0 {
            return;
        }
        self.is_new = true;
        if now.since(self.since) >= LATENCY_WINDOW {
            self.whole = std::mem::take(&mut self.begun);
            self.since = now;
        }
        self.begun.merge(latency);
    }

    fn thresholds(&mut self) -> Option<[Duration; 4]> {
        if std::mem::take(&mut self.is_new) {
            self.thresholds = self.quantiles();
        }
        self.thresholds
    }

    /// At the upper edges of buckets, so that counting above them is exact.
    fn quantiles(&self) -> Option<[Duration; 4]> {
        let mut both = self.whole.clone();
        both.merge(&self.begun);
        if both.total() < QUANTILE_REQUESTS_MIN {
            return None;
        }
        let mut last = Duration::ZERO;
        let mut thresholds = [Duration::ZERO; 4];
        for (threshold, quantile) in thresholds.iter_mut().zip(QUANTILES) {
            last = last.max(both.quantile(quantile)?);
            *threshold = last.max(Duration::from_micros(1));
        }
        Some(thresholds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one proxy says: a hundred requests of the primary, ten of the shadow, and all of these failed.
    fn failing() -> More {
        let arm = |requests, status_5xx| ArmCounters {
            requests,
            status_5xx,
            ..ArmCounters::default()
        };
        More {
            arms: [arm(100, 1), arm(10, 10)],
            ..More::default()
        }
    }

    #[test]
    fn what_five_proxies_see_between_two_looks_is_one_tick_of_an_outage() {
        let mut flow = Flow::default();
        for tick in 1..=3 {
            let now = Moment::from_micros(tick * 250_000);
            for _ in 0..5 {
                flow.take(&failing(), true, now);
            }
            flow.look(now);
            assert_eq!(flow.is_severe(Arm::Shadow, now), tick == 3, "tick {tick}");
            assert!(!flow.is_severe(Arm::Primary, now));
        }
    }
}
