//! What one proxy says of one pair: its present opinion, and how far its sums have been counted.

use std::time::Duration;

use foreshade_contract::histogram::Histogram;
use foreshade_contract::report::{ArmCounters, BootId, Health, PairReport, Segment};
use foreshade_contract::{Arm, Risk, Round, Share};
use foreshade_engine::lifecycle::sight::{ArmHealth, Votes};

use super::Batch;

/// What one proxy says of one pair. Small where there is no traffic: most proxies see most pairs idle.
#[derive(Clone, Debug, Default)]
pub(super) struct Voice {
    share: Share,
    risk: [Option<Risk>; 2],
    health: [Health; 2],
    /// The round that it speaks of.
    pub(super) round: Round,
    /// Mean round trip to each arm in this round, in microseconds.
    rtt_us: [Option<u64>; 2],
    /// Requests in its last report, of both arms: how much its opinion weighs.
    requests: u64,
    counted: Option<Box<Counted>>,
}

/// Sums that have been counted already.
#[derive(Clone, Debug)]
struct Counted {
    boot: BootId,
    round: Round,
    arms: [ArmCounters; 2],
    segments: Vec<Segment>,
    latency: [Histogram; 2],
}

/// What a report says more than the one before.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct More {
    /// By arm.
    pub(super) arms: [ArmCounters; 2],
    /// By the probability of the draw.
    pub(super) batches: Vec<Batch>,
    /// Latencies, by arm.
    pub(super) latency: [Histogram; 2],
    /// Which arm the proxy takes for the one that serves.
    pub(super) serving: Option<Arm>,
}

impl Voice {
    /// Takes a report, and says what is new in it. Of a round that is resumed, the first one says nothing new.
    pub(super) fn hear(&mut self, (boot, is_resumed): (BootId, bool), said: &PairReport) -> More {
        (self.share, self.risk, self.health) = (said.share, said.risk, said.health);
        self.round = said.round;
        self.rtt_us = said.network.map(|of| of.rtt_us.checked_div(of.samples));
        let before = self.counted.as_deref();
        let before = before.filter(|counted| counted.boot == boot && counted.round == said.round);
        let more = if is_resumed && self.counted.is_none() {
            More::default()
        } else {
            More::since(before, said)
        };
        self.requests = more.requests();
        let is_silent = said.arms.iter().all(ArmCounters::is_zero);
        self.counted = (!is_silent).then(|| {
            Box::new(Counted {
                boot,
                round: said.round,
                arms: said.arms,
                segments: said.segments.clone(),
                latency: said.latency.clone(),
            })
        });
        more
    }
}

impl More {
    fn since(before: Option<&Counted>, said: &PairReport) -> Self {
        let Some(before) = before else {
            let batch = |segment: &Segment| Batch {
                share: segment.share,
                arms: segment.arms,
            };
            return Self {
                arms: said.arms,
                batches: said.segments.iter().map(batch).filter(Batch::is_some).collect(),
                latency: said.latency.clone(),
                serving: Some(said.serving),
            };
        };
        let batch = |segment: &Segment| {
            let known = before.segments.iter().find(|known| known.share == segment.share);
            Batch {
                share: segment.share,
                // A segment that was forgotten by the proxy begins anew.
                arms: known.map_or(segment.arms, |known| less_all(segment.arms, known.arms)),
            }
        };
        let [primary, shadow] = &said.latency;
        let [primary_before, shadow_before] = &before.latency;
        Self {
            arms: less_all(said.arms, before.arms),
            batches: said.segments.iter().map(batch).filter(Batch::is_some).collect(),
            latency: [primary.since(primary_before), shadow.since(shadow_before)],
            serving: Some(said.serving),
        }
    }

    /// Of both arms.
    pub(super) fn requests(&self) -> u64 {
        self.arms
            .iter()
            .map(|arm| arm.requests)
            .fold(0, u64::saturating_add)
    }
}

impl Batch {
    fn is_some(&self) -> bool {
        !self.arms.iter().all(ArmCounters::is_zero)
    }
}

fn less_all(
    [primary, shadow]: [ArmCounters; 2],
    [primary_before, shadow_before]: [ArmCounters; 2],
) -> [ArmCounters; 2] {
    [primary.since(&primary_before), shadow.since(&shadow_before)]
}

/// What most proxies think of an arm, and how many of those who can see it take it for dead.
pub(super) fn health<'a>(voices: impl Iterator<Item = &'a Voice>, arm: Arm) -> (ArmHealth, Votes) {
    let mut votes = Votes::default();
    for voice in voices {
        match voice.health.get(arm.index()) {
            Some(Health::Down) => (votes.down, votes.of) = (votes.down + 1, votes.of + 1),
            Some(Health::Up) => votes.of += 1,
            Some(Health::Unknown) | None => {}
        }
    }
    let health = match votes {
        Votes { of: 0, .. } => ArmHealth::Unknown,
        votes if votes.are_enough() => ArmHealth::Sick,
        _ => ArmHealth::Well,
    };
    (health, votes)
}

/// The risk of an arm over all proxies, each counting by its traffic: who sees little of it knows little of it.
pub(super) fn risk<'a>(voices: impl Iterator<Item = &'a Voice>, arm: Arm) -> Option<Risk> {
    let said = voices.filter_map(|voice| Some((voice, (*voice.risk.get(arm.index())?)?.value())));
    mean(said).map(Risk::clamped)
}

/// The share of the arm that does not serve.
pub(super) fn share<'a>(voices: impl Iterator<Item = &'a Voice>) -> Option<f64> {
    mean(voices.map(|voice| (voice, voice.share.value())))
}

/// The round trip to an arm.
pub(super) fn rtt<'a>(voices: impl Iterator<Item = &'a Voice>, arm: Arm) -> Option<Duration> {
    let said = voices.filter_map(|voice| Some((voice, (*voice.rtt_us.get(arm.index())?)? as f64)));
    mean(said).map(|us| Duration::from_secs_f64(us / 1e6))
}

fn mean<'a>(said: impl Iterator<Item = (&'a Voice, f64)>) -> Option<f64> {
    let (mut sum, mut weights) = (0.0, 0.0);
    for (voice, value) in said {
        // Without traffic an opinion still weighs something: nobody may have any.
        let weight = 1.0 + voice.requests as f64;
        (sum, weights) = (sum + weight * value, weights + weight);
    }
    (weights > 0.0).then(|| sum / weights)
}
