//! What one proxy says of one pair: its present opinion, and how far its sums have been counted.
//!
//! What is handed to the judge are requests of one proxy, of few moments, and drawn with one probability, since either
//! weight that they may be given is one of such requests alone. Balancing by load compares targets after each user was
//! resolved to his, so the probability of the draw is not that of the requests that reach the pair; and it takes requests
//! from an arm that fails, so the fraction that the arm had is a consequence of what is to be weighed by it.
//! `crate::evidence` takes, for each answer, the one that says less.
//!
//! Of few requests a fraction says little, so a segment is counted once [`REQUESTS_MIN`] have gathered, or have waited for
//! [`WAIT_MAX`]. One that is not drawn with any more, and has not grown since the last report, is complete: it is counted
//! at once, before the proxy forgets it, and before a next step could take it for its own.

use std::num::NonZeroU32;
use std::time::Duration;

use foreshade_contract::histogram::Histogram;
use foreshade_contract::report::{ArmCounters, BootId, Health, Mirrored, Network, PairReport, Segment};
use foreshade_contract::{Arm, Risk, Round, Share};
use foreshade_engine::lifecycle::sight::{ArmHealth, Votes};
use foreshade_engine::moment::Moment;

use super::Batch;

/// Requests of which the fraction is worth something: one arm's single request among these is three per cent.
const REQUESTS_MIN: u64 = 32;

/// How long fewer are waited for, since the first of them. The longer, the more a fraction has to do with what failed
/// meanwhile; and two reports are a second or two.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// Nearer than this two probabilities are one: proxies draw among 2^32 positions.
const SHARE_GRAIN: f64 = 1e-6;

/// A risk is kept in so many parts of one: a voice has room for no more digits, and nobody has use for them.
const RISK_PARTS: f64 = 5e4;

/// Where no risk is known.
const NO_RISK: u16 = u16::MAX;

/// A mean of risks or shares is told to so many parts of one: beyond them are the roundings of its parts.
const MEAN_PARTS: f64 = 1e6;

/// What one proxy says of one pair. Small where there is no traffic: most proxies see most pairs idle, and a thousand of
/// them see ten thousand pairs, so that each byte here is ten megabytes there.
#[derive(Clone, Debug)]
pub(super) struct Voice {
    share: f32,
    /// In parts of [`RISK_PARTS`], or [`NO_RISK`].
    risk: [u16; 2],
    /// The round that it speaks of. A controller does not live to see the last of these.
    round: u32,
    health: [Health; 2],
    has_spoken: bool,
    /// What there is only where something passes.
    busy: Option<Box<Busy>>,
}

/// What a proxy says of a pair to which it has connections.
#[derive(Clone, Debug, Default)]
struct Busy {
    /// Mean round trip to each arm in this round, in microseconds. None is shorter than one.
    rtt_us: [Option<NonZeroU32>; 2],
    /// Requests in its last report, of both arms: how much its opinion weighs.
    requests: u32,
    counted: Option<Counted>,
}

impl Default for Voice {
    fn default() -> Self {
        Self {
            share: 0.0,
            risk: [NO_RISK; 2],
            round: 0,
            health: Default::default(),
            has_spoken: false,
            busy: None,
        }
    }
}

/// Sums that have been counted already.
#[derive(Clone, Debug)]
struct Counted {
    boot: BootId,
    round: Round,
    arms: [ArmCounters; 2],
    segments: Vec<Gathered>,
    latency: [Histogram; 2],
    /// Only where there were any: most pairs have no mirror.
    mirrored: Option<Box<[Mirrored; 2]>>,
}

/// How far a segment has been handed on.
#[derive(Clone, Copy, Debug)]
struct Gathered {
    /// As of when it was handed on last.
    handed_on: Segment,
    /// Requests that it had in the last report.
    requests: u64,
    /// When the first of what waits in it came.
    since: Option<Moment>,
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
    /// Copies, by the arm that they went to.
    pub(super) mirrored: [Mirrored; 2],
}

impl Voice {
    /// Whether anything was ever said.
    pub(super) fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    /// Whether it speaks of this round, or of a later one.
    pub(super) fn is_of(&self, round: Round) -> bool {
        self.round >= rounded(round)
    }

    /// Takes a report, and says what is new in it. Of a round that is resumed, the first one says nothing new; neither does
    /// one that comes after a later one, as what a link had under way may when the proxy has another link already. Its
    /// lower sums would make everything after them new once more.
    pub(super) fn hear(
        &mut self,
        (boot, is_resumed): (BootId, bool),
        said: &PairReport,
        now: Moment,
    ) -> More {
        let before = self.busy.as_deref().and_then(|busy| busy.counted.as_ref());
        if before.is_some_and(|counted| counted.has_overtaken(boot, said)) {
            return More::default();
        }
        (self.share, self.health, self.has_spoken) = (coarse(said.share), said.health, true);
        self.risk = said.risk.map(|risk| risk.map_or(NO_RISK, parts));
        self.round = rounded(said.round);
        let before = self.busy.take().and_then(|busy| busy.counted);
        let is_known = before.is_some();
        let before = before.filter(|counted| counted.boot == boot && counted.round == said.round);
        let (more, segments) = if is_resumed && !is_known {
            let segments = said.segments.iter().map(Gathered::all);
            (More::default(), segments.collect())
        } else {
            let mut more = More::since(before.as_ref(), said);
            let known = before.map(|before| before.segments).unwrap_or_default();
            let segments = more.take_ripe(&known, said, now);
            (more, segments)
        };
        let busy = Busy {
            rtt_us: said.network.map(mean_rtt),
            requests: u32::try_from(more.requests()).unwrap_or(u32::MAX),
            counted: Counted::of(boot, said, segments),
        };
        self.busy = (!busy.is_empty()).then(|| Box::new(busy));
        more
    }

    fn risk(&self, arm: Arm) -> Option<f64> {
        let parts = self.risk.get(arm.index()).filter(|parts| **parts != NO_RISK)?;
        Some(f64::from(*parts) / RISK_PARTS)
    }

    fn rtt_us(&self, arm: Arm) -> Option<f64> {
        let rtt_us = *self.busy.as_ref()?.rtt_us.get(arm.index())?;
        rtt_us.map(|us| f64::from(us.get()))
    }

    fn requests(&self) -> u32 {
        self.busy.as_ref().map_or(0, |busy| busy.requests)
    }
}

impl Busy {
    fn is_empty(&self) -> bool {
        self.counted.is_none() && self.requests == 0 && self.rtt_us == [None; 2]
    }
}

fn rounded(round: Round) -> u32 {
    u32::try_from(round.0).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "a share lies between 0 and 1")]
fn coarse(share: Share) -> f32 {
    share.value() as f32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a risk lies between 0 and 1"
)]
fn parts(risk: Risk) -> u16 {
    (risk.value() * RISK_PARTS).round() as u16
}

fn mean_rtt(of: Network) -> Option<NonZeroU32> {
    let us = of.rtt_us.checked_div(of.samples)?.max(1);
    NonZeroU32::new(u32::try_from(us).unwrap_or(u32::MAX))
}

impl Gathered {
    /// All of it has been handed on.
    fn all(segment: &Segment) -> Self {
        Self {
            handed_on: *segment,
            requests: requests_of(&segment.arms),
            since: None,
        }
    }

    /// Nothing of it has.
    fn nothing(share: Share) -> Self {
        let arms = Default::default();
        Self::all(&Segment { share, arms })
    }
}

impl Counted {
    /// What a report says; nothing where it says that nothing has passed.
    fn of(boot: BootId, said: &PairReport, segments: Vec<Gathered>) -> Option<Self> {
        let has_copies = !said.mirrored.iter().all(Mirrored::is_zero);
        let is_silent = said.arms.iter().all(ArmCounters::is_zero) && !has_copies;
        (!is_silent).then(|| Self {
            boot,
            round: said.round,
            arms: said.arms,
            segments,
            latency: said.latency.clone(),
            mirrored: has_copies.then(|| Box::new(said.mirrored)),
        })
    }

    fn copied(&self) -> [Mirrored; 2] {
        self.mirrored.as_deref().copied().unwrap_or_default()
    }

    /// Sums only grow, and so does the number of the round.
    fn has_overtaken(&self, boot: BootId, said: &PairReport) -> bool {
        let copies = |of: &[Mirrored; 2]| of.iter().map(Mirrored::pairs).fold(0, u64::saturating_add);
        let fewer_copies = copies(&said.mirrored) < copies(&self.copied());
        let fewer = requests_of(&said.arms) < requests_of(&self.arms);
        let is_earlier = said.round == self.round && (fewer || fewer_copies);
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
        let copied = before.map(Counted::copied).unwrap_or_default();
        let [primary, shadow] = &said.mirrored;
        let [primary_before, shadow_before] = &copied;
        Self {
            arms,
            batches: Vec::new(),
            latency,
            serving: Some(said.serving),
            mirrored: [primary.since(primary_before), shadow.since(shadow_before)],
        }
    }

    /// Takes what has gathered in each segment, where it is enough, and says how far each has been handed on.
    fn take_ripe(&mut self, known: &[Gathered], said: &PairReport, now: Moment) -> Vec<Gathered> {
        let mut gathered = Vec::with_capacity(said.segments.len());
        for segment in &said.segments {
            let all = Gathered::all(segment);
            // With less than before it was forgotten by the proxy, and begins anew.
            let before = known
                .iter()
                .find(|known| known.handed_on.share == segment.share && known.requests <= all.requests)
                .copied()
                .unwrap_or_else(|| Gathered::nothing(segment.share));
            let arms = less_all(segment.arms, before.handed_on.arms);
            let waiting = requests_of(&arms);
            let since = (waiting > 0).then(|| before.since.unwrap_or(now));
            let is_old = since.is_some_and(|since| now.since(since) >= WAIT_MAX);
            let is_drawn_with = (segment.share.value() - said.share.value()).abs() < SHARE_GRAIN;
            let is_complete = !is_drawn_with && all.requests == before.requests;
            if waiting < REQUESTS_MIN && !is_old && !is_complete {
                let requests = all.requests;
                gathered.push(Gathered {
                    requests,
                    since,
                    ..before
                });
                continue;
            }
            gathered.push(all);
            if waiting > 0 {
                self.batches.push(Batch {
                    serving: said.serving,
                    drawn: segment.share,
                    arms,
                });
            }
        }
        gathered
    }

    /// Of both arms.
    pub(super) fn requests(&self) -> u64 {
        requests_of(&self.arms)
    }
}

fn requests_of(arms: &[ArmCounters; 2]) -> u64 {
    arms.iter().map(|arm| arm.requests).fold(0, u64::saturating_add)
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
    let said = voices.filter_map(|voice| Some((voice, voice.risk(arm)?)));
    mean(said).map(|mean| Risk::clamped((mean * MEAN_PARTS).round() / MEAN_PARTS))
}

/// The share of the arm that does not serve.
pub(super) fn share<'a>(voices: impl Iterator<Item = &'a Voice>) -> Option<f64> {
    let mean = mean(voices.map(|voice| (voice, f64::from(voice.share))))?;
    Some((mean * MEAN_PARTS).round() / MEAN_PARTS)
}

/// The round trip to an arm.
pub(super) fn rtt<'a>(voices: impl Iterator<Item = &'a Voice>, arm: Arm) -> Option<Duration> {
    let said = voices.filter_map(|voice| Some((voice, voice.rtt_us(arm)?)));
    mean(said).map(|us| Duration::from_secs_f64(us / 1e6))
}

fn mean<'a>(said: impl Iterator<Item = (&'a Voice, f64)>) -> Option<f64> {
    let (mut sum, mut weights) = (0.0, 0.0);
    for (voice, value) in said {
        // Without traffic an opinion still weighs something: nobody may have any.
        let weight = 1.0 + f64::from(voice.requests());
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
            mirrored: Default::default(),
        }
    }

    fn at(at_s: u64) -> Moment {
        Moment::from_micros(at_s * 1_000_000)
    }

    /// The batches of a report: the probability of the draw, and the requests of either arm.
    fn take(voice: &mut Voice, said: &PairReport, at_s: u64) -> Vec<(f64, [u64; 2])> {
        let more = voice.hear((BootId(1), false), said, at(at_s));
        let batch = |batch: &Batch| (batch.drawn.value(), batch.arms.map(|arm| arm.requests));
        more.batches.iter().map(batch).collect()
    }

    fn hear(voice: &mut Voice, requests: [u64; 2], at_s: u64) -> Vec<[u64; 2]> {
        let batches = take(voice, &report(requests), at_s);
        batches.into_iter().map(|(_, requests)| requests).collect()
    }

    /// A report of so many requests under a share of a tenth, and so many under a fifth, which is drawn with now.
    fn moved_on(tenth: [u64; 2], fifth: [u64; 2]) -> PairReport {
        let mut said = report(tenth);
        let [more] = report(fifth).segments.try_into().unwrap();
        said.share = Share::clamped(0.2);
        said.segments.push(Segment {
            share: said.share,
            ..more
        });
        for (sum, more) in said.arms.iter_mut().zip(&more.arms) {
            sum.add(more);
        }
        said
    }

    #[test]
    fn a_report_that_was_overtaken_is_not_counted_and_makes_nothing_count_twice() {
        let mut voice = Voice::default();
        assert_eq!(hear(&mut voice, [90, 10], 1), [[90, 10]]);
        assert_eq!(hear(&mut voice, [45, 5], 2), [[0; 2]; 0]);
        assert_eq!(hear(&mut voice, [135, 15], 3), [[45, 5]]);
        let mut earlier = report([450, 50]);
        earlier.round = Round(0);
        assert_eq!(voice.hear((BootId(1), false), &earlier, at(4)), More::default());
        assert_eq!(hear(&mut voice, [180, 20], 5), [[45, 5]]);
    }

    #[test]
    fn a_few_requests_are_kept_until_they_are_enough_or_old_and_none_is_lost() {
        let mut voice = Voice::default();
        assert_eq!(hear(&mut voice, [9, 1], 1), [[0; 2]; 0]);
        assert_eq!(hear(&mut voice, [18, 2], 2), [[0; 2]; 0]);
        assert_eq!(hear(&mut voice, [36, 4], 3), [[36, 4]]);
        // They have waited since they came, and not since others were handed on.
        assert_eq!(hear(&mut voice, [39, 5], 20), [[0; 2]; 0]);
        assert_eq!(hear(&mut voice, [39, 6], 22), [[0; 2]; 0]);
        assert_eq!(hear(&mut voice, [39, 6], 23), [[3, 2]]);
    }

    #[test]
    fn what_is_drawn_with_no_more_and_does_not_grow_is_handed_on_at_once() {
        let mut voice = Voice::default();
        assert_eq!(take(&mut voice, &report([9, 1]), 1), []);
        // Some of it was still under way.
        assert_eq!(take(&mut voice, &moved_on([10, 2], [0, 0]), 2), []);
        assert_eq!(take(&mut voice, &moved_on([10, 2], [4, 1]), 3), [(0.1, [10, 2])]);
        assert_eq!(
            take(&mut voice, &moved_on([10, 2], [40, 10]), 4),
            [(0.2, [40, 10])]
        );
    }

    #[test]
    fn a_segment_that_the_proxy_forgot_begins_anew() {
        let mut voice = Voice::default();
        assert_eq!(
            take(&mut voice, &moved_on([90, 10], [0, 0]), 1),
            [(0.1, [90, 10])]
        );
        let mut anew = moved_on([36, 4], [100, 0]);
        anew.segments.truncate(1);
        assert_eq!(take(&mut voice, &anew, 2), [(0.1, [36, 4])]);
    }
}
