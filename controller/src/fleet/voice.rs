//! What one proxy says of one pair: its present opinion, and how far its sums have been counted.
//!
//! What is handed to the judge is weighed by the *fraction* of the requests that the other arm had, and not by the
//! probability that the proxy was told. Balancing by load compares targets after each user was resolved to his, so a
//! sick primary's slot is chosen for the users of its shadow more often than for its own: the draw is fair among users, and
//! not among the requests that reach the pair. The fraction is valid for either (see `engine::verdict`), if it is that of
//! one proxy, and of few moments. Of few requests it says little, so a segment is counted once [`REQUESTS_MIN`] have
//! gathered, or [`WAIT_MAX`] is over: the sums are cumulative, and waiting loses nothing.

use std::time::Duration;

use foreshade_contract::histogram::Histogram;
use foreshade_contract::report::{ArmCounters, BootId, Health, PairReport, Segment};
use foreshade_contract::{Arm, Risk, Round, Share};
use foreshade_engine::lifecycle::sight::{ArmHealth, Votes};
use foreshade_engine::moment::Moment;

use super::Batch;

/// Requests of which the fraction is worth something: one arm's single request among these is three per cent.
const REQUESTS_MIN: u64 = 32;

/// How long fewer are waited for. What differs between the arms' moments by then differs by the hour.
const WAIT_MAX: Duration = Duration::from_secs(30);

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
    /// As of when each was handed on last.
    segments: Vec<(Segment, Moment)>,
    latency: [Histogram; 2],
}

/// What a report says more than the one before.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct More {
    /// By arm.
    pub(super) arms: [ArmCounters; 2],
    /// For the judge.
    pub(super) batches: Vec<Batch>,
    /// Latencies, by arm.
    pub(super) latency: [Histogram; 2],
    /// Which arm the proxy takes for the one that serves.
    pub(super) serving: Option<Arm>,
}

impl Voice {
    /// Takes a report, and says what is new in it. Of a round that is resumed, the first one says nothing new; neither does
    /// one that comes after a later one, as what a link had under way may when the proxy has another link already. Its
    /// lower sums would make everything after them new once more.
    pub(super) fn hear(
        &mut self,
        (boot, is_resumed): (BootId, bool),
        said: &PairReport,
        now: Moment,
    ) -> More {
        if self
            .counted
            .as_deref()
            .is_some_and(|counted| counted.has_overtaken(boot, said))
        {
            return More::default();
        }
        (self.share, self.risk, self.health) = (said.share, said.risk, said.health);
        self.round = said.round;
        self.rtt_us = said.network.map(|of| of.rtt_us.checked_div(of.samples));
        let is_known = self.counted.is_some();
        let before = self.counted.take();
        let before = before.filter(|counted| counted.boot == boot && counted.round == said.round);
        let (more, segments) = if is_resumed && !is_known {
            let segments = said.segments.iter().map(|segment| (*segment, now));
            (More::default(), segments.collect())
        } else {
            let mut more = More::since(before.as_deref(), said);
            let known = before.map(|before| before.segments).unwrap_or_default();
            let segments = more.take_ripe(&known, said, now);
            (more, segments)
        };
        self.requests = more.requests();
        let is_silent = said.arms.iter().all(ArmCounters::is_zero);
        self.counted = (!is_silent).then(|| {
            Box::new(Counted {
                boot,
                round: said.round,
                arms: said.arms,
                segments,
                latency: said.latency.clone(),
            })
        });
        more
    }
}

impl Counted {
    /// Sums only grow, and so does the number of the round.
    fn has_overtaken(&self, boot: BootId, said: &PairReport) -> bool {
        let requests = |arms: &[ArmCounters; 2]| arms.map(|arm| arm.requests).iter().sum::<u64>();
        let is_earlier = said.round == self.round && requests(&said.arms) < requests(&self.arms);
        self.boot == boot && (said.round < self.round || is_earlier)
    }
}

impl More {
    fn since(before: Option<&Counted>, said: &PairReport) -> Self {
        let (arms, latency) = match before {
            None => (said.arms, said.latency.clone()),
            Some(before) => {
                let [primary, shadow] = &said.latency;
                let [primary_before, shadow_before] = &before.latency;
                let latency = [primary.since(primary_before), shadow.since(shadow_before)];
                (less_all(said.arms, before.arms), latency)
            }
        };
        Self {
            arms,
            batches: Vec::new(),
            latency,
            serving: Some(said.serving),
        }
    }

    /// Takes what has gathered in each segment, where it is enough, and says how far each has been handed on. A segment
    /// that was forgotten by the proxy begins anew.
    fn take_ripe(
        &mut self,
        known: &[(Segment, Moment)],
        said: &PairReport,
        now: Moment,
    ) -> Vec<(Segment, Moment)> {
        let mut handed_on = Vec::with_capacity(said.segments.len());
        for segment in &said.segments {
            let before = known.iter().find(|(known, _)| known.share == segment.share);
            let nothing = Segment {
                share: segment.share,
                arms: Default::default(),
            };
            let (before, since) = before.copied().unwrap_or((nothing, now));
            let arms = less_all(segment.arms, before.arms);
            let [primary, shadow] = arms.map(|arm| arm.requests);
            let requests = primary.saturating_add(shadow);
            if requests < REQUESTS_MIN && now.since(since) < WAIT_MAX {
                handed_on.push((before, since));
                continue;
            }
            handed_on.push((*segment, now));
            if requests > 0 {
                let other = match said.serving {
                    Arm::Primary => shadow,
                    Arm::Shadow => primary,
                };
                self.batches.push(Batch {
                    share: Share::clamped(other as f64 / requests as f64),
                    arms,
                });
            }
        }
        handed_on
    }

    /// Of both arms.
    pub(super) fn requests(&self) -> u64 {
        self.arms
            .iter()
            .map(|arm| arm.requests)
            .fold(0, u64::saturating_add)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A report of a round in which so many requests were drawn to either arm under a share of a tenth.
    fn report(requests: [u64; 2]) -> PairReport {
        let arms = requests.map(|requests| ArmCounters {
            requests,
            ..ArmCounters::default()
        });
        PairReport {
            pair: foreshade_contract::PairId {
                cluster: "shop".parse().unwrap(),
                primary: "a".parse().unwrap(),
            },
            round: Round(1),
            serving: Arm::Primary,
            share: Share::clamped(0.1),
            risk: [None; 2],
            health: [Health::Up; 2],
            arms,
            segments: vec![Segment {
                share: Share::clamped(0.1),
                arms,
            }],
            latency: Default::default(),
            network: Default::default(),
        }
    }

    fn hear(voice: &mut Voice, requests: [u64; 2], at_s: u64) -> Vec<(f64, [u64; 2])> {
        let now = Moment::from_micros(at_s * 1_000_000);
        let more = voice.hear((BootId(1), false), &report(requests), now);
        let batch = |batch: &Batch| (batch.share.value(), batch.arms.map(|arm| arm.requests));
        more.batches.iter().map(batch).collect()
    }

    #[test]
    fn evidence_is_weighed_by_what_the_arms_had_and_not_by_what_was_meant() {
        let mut voice = Voice::default();
        // Balancing by load keeps users from a slow primary, and not from its shadow.
        assert_eq!(hear(&mut voice, [30, 70], 1), [(0.7, [30, 70])]);
        assert_eq!(hear(&mut voice, [120, 80], 2), [(0.1, [90, 10])]);
        assert_eq!(hear(&mut voice, [120, 80], 3), []);
    }

    #[test]
    fn a_report_that_was_overtaken_is_not_counted_and_makes_nothing_count_twice() {
        let mut voice = Voice::default();
        assert_eq!(hear(&mut voice, [90, 10], 1), [(0.1, [90, 10])]);
        assert_eq!(hear(&mut voice, [45, 5], 2), []);
        assert_eq!(hear(&mut voice, [135, 15], 3), [(0.1, [45, 5])]);
        let mut earlier = report([450, 50]);
        earlier.round = Round(0);
        let now = Moment::from_micros(4_000_000);
        assert_eq!(voice.hear((BootId(1), false), &earlier, now), More::default());
        assert_eq!(hear(&mut voice, [180, 20], 5), [(0.1, [45, 5])]);
    }

    #[test]
    fn a_few_requests_are_kept_until_they_are_enough_or_old_and_none_is_lost() {
        let mut voice = Voice::default();
        assert_eq!(hear(&mut voice, [9, 1], 1), []);
        assert_eq!(hear(&mut voice, [18, 2], 2), []);
        assert_eq!(hear(&mut voice, [36, 4], 3), [(0.1, [36, 4])]);
        assert_eq!(hear(&mut voice, [39, 5], 20), []);
        assert_eq!(hear(&mut voice, [39, 5], 33), [(0.25, [3, 1])]);
    }
}
