//! Reports as messages, and what has to hold of each part of one that comes in.

use std::collections::HashSet;

use bytes::Bytes;
use prost::Message as _;

use super::{WireError, arm, at_most, encoded, four, proto};
use crate::histogram::Histogram;
use crate::pair::{Arm, PairId, Round};
use crate::plan::PAIRS_MAX;
use crate::report::{
    ArmCounters, Compared, Health, Mirrored, Network, PairReport, Report, SEGMENTS_MAX, Segment,
};
use crate::units::{Risk, Share};

/// A report as bytes.
pub fn encode_report(report: &Report) -> Bytes {
    encoded(&proto::Report {
        sequence: report.sequence,
        complete: report.complete,
        pairs: report.pairs.iter().map(Into::into).collect(),
    })
}

/// How long a message with reports gets before the next one begins. Whoever hears a thousand proxies at once holds a
/// message of each.
pub const PIECE_BYTES: usize = 64 * 1024;

/// A probability of one, in millionths.
const MILLION: u32 = 1_000_000;

/// What a field costs beside its value: a key and a length.
const FIELD_BYTES: usize = 8;

/// A report as messages of about [`PIECE_BYTES`] at most, or of one pair that has more. At least one.
pub fn report_pieces(report: &Report) -> Vec<proto::Up> {
    let (mut pieces, mut piece, mut bytes) = (Vec::new(), Vec::new(), 0);
    for pair in report.pairs.iter().map(proto::PairReport::from) {
        let more = pair.encoded_len() + FIELD_BYTES;
        if bytes + more > PIECE_BYTES && !piece.is_empty() {
            pieces.push(std::mem::take(&mut piece));
            bytes = 0;
        }
        bytes += more;
        piece.push(pair);
    }
    pieces.push(piece);
    let message = |pairs| proto::Up {
        body: Some(proto::up::Body::Report(encoded(&proto::Report {
            sequence: report.sequence,
            complete: report.complete,
            pairs,
        }))),
    };
    pieces.into_iter().map(message).collect()
}

impl TryFrom<proto::Report> for Report {
    type Error = WireError;

    fn try_from(report: proto::Report) -> Result<Self, WireError> {
        at_most("report.pairs", PAIRS_MAX, report.pairs.len())?;
        let pairs = report.pairs.into_iter().map(PairReport::try_from);
        let pairs: Vec<PairReport> = pairs.collect::<Result<_, _>>()?;
        let distinct: HashSet<&PairId> = pairs.iter().map(|pair| &pair.pair).collect();
        if distinct.len() < pairs.len() {
            return Err(WireError::Twice("a pair of the report"));
        }
        Ok(Self {
            sequence: report.sequence,
            complete: report.complete,
            pairs,
        })
    }
}

impl From<&PairReport> for proto::PairReport {
    fn from(report: &PairReport) -> Self {
        let [primary, shadow] = Arm::ALL.map(|arm| arm_report(report, arm));
        Self {
            pair: Some((&report.pair).into()),
            round: report.round.0,
            serving: proto::Arm::from(report.serving).into(),
            share: report.share.value(),
            primary: Some(primary),
            shadow: Some(shadow),
            segments: report.segments.iter().map(Into::into).collect(),
        }
    }
}

fn arm_report(report: &PairReport, arm: Arm) -> proto::ArmReport {
    fn of<T>([primary, shadow]: &[T; 2], arm: Arm) -> &T {
        match arm {
            Arm::Primary => primary,
            Arm::Shadow => shadow,
        }
    }
    let health = match of(&report.health, arm) {
        Health::Unknown => proto::Health::Unknown,
        Health::Up => proto::Health::Up,
        Health::Down => proto::Health::Down,
    };
    let network = of(&report.network, arm);
    let (bucket, count) = of(&report.latency, arm)
        .buckets()
        .map(|(bucket, count)| (u32::from(bucket), count))
        .unzip();
    proto::ArmReport {
        risk: of(&report.risk, arm).map(Risk::value),
        health: health.into(),
        counters: Some(of(&report.arms, arm).into()),
        latency: Some(proto::Histogram { bucket, count }),
        network: Some(proto::Network {
            samples: network.samples,
            rtt_us: network.rtt_us,
            rtt_var_us: network.rtt_var_us,
            segments_out: network.segments_out,
            retransmits: network.retransmits,
        }),
        mirrored: Some(of(&report.mirrored, arm))
            .filter(|mirrored| !mirrored.is_zero())
            .map(Into::into),
    }
}

impl From<&Mirrored> for proto::Mirrored {
    fn from(mirrored: &Mirrored) -> Self {
        let compared = |of: &Compared| proto::Compared {
            answers: of.answers,
            differed: of.differed,
            slower: of.slower,
        };
        Self {
            both_good: mirrored.both_good,
            copy_bad: mirrored.copy_bad,
            user_bad: mirrored.user_bad,
            both_bad: mirrored.both_bad,
            copies: Some(compared(&mirrored.copies)),
            controls: Some(compared(&mirrored.controls)),
            control_millionths: mirrored.control_millionths,
        }
    }
}

impl TryFrom<proto::Mirrored> for Mirrored {
    type Error = WireError;

    fn try_from(mirrored: proto::Mirrored) -> Result<Self, WireError> {
        let compared = |of: Option<proto::Compared>| {
            let of = of.unwrap_or_default();
            Compared {
                answers: of.answers,
                differed: of.differed,
                slower: of.slower,
            }
        };
        let read = Self {
            both_good: mirrored.both_good,
            copy_bad: mirrored.copy_bad,
            user_bad: mirrored.user_bad,
            both_bad: mirrored.both_bad,
            copies: compared(mirrored.copies),
            controls: compared(mirrored.controls),
            control_millionths: mirrored.control_millionths,
        };
        let is_sound = |of: &Compared| of.differed.max(of.slower) <= of.answers;
        let compared = [read.copies, read.controls].iter().all(is_sound);
        if !compared || read.copies.answers > read.pairs() || read.control_millionths > MILLION {
            return Err(WireError::Range("mirrored"));
        }
        Ok(read)
    }
}

impl From<&Segment> for proto::Segment {
    fn from(segment: &Segment) -> Self {
        let [primary, shadow] = &segment.arms;
        Self {
            share: segment.share.value(),
            primary: Some(primary.into()),
            shadow: Some(shadow.into()),
        }
    }
}

impl From<&ArmCounters> for proto::ArmCounters {
    fn from(counters: &ArmCounters) -> Self {
        Self {
            requests: counters.requests,
            connect: counters.connect,
            timeout: counters.timeout,
            reset: counters.reset,
            status_5xx: counters.status_5xx,
            over: match counters.over {
                [0, ..] => Vec::new(),
                over => over.to_vec(),
            },
            retries: counters.retries,
            bytes: counters.bytes,
        }
    }
}

impl TryFrom<proto::PairReport> for PairReport {
    type Error = WireError;

    fn try_from(report: proto::PairReport) -> Result<Self, WireError> {
        let pair = report.pair.ok_or(WireError::Missing("pair"))?.try_into()?;
        let primary = Side::try_from(report.primary.unwrap_or_default())?;
        let shadow = Side::try_from(report.shadow.unwrap_or_default())?;
        Ok(Self {
            pair,
            round: Round(report.round),
            serving: arm("serving", report.serving)?,
            share: Share::new(report.share)?,
            risk: [primary.risk, shadow.risk],
            health: [primary.health, shadow.health],
            arms: [primary.counters, shadow.counters],
            segments: segments(report.segments)?,
            latency: [primary.latency, shadow.latency],
            network: [primary.network, shadow.network],
            mirrored: [primary.mirrored, shadow.mirrored],
        })
    }
}

fn segments(all: Vec<proto::Segment>) -> Result<Vec<Segment>, WireError> {
    at_most("segments", SEGMENTS_MAX, all.len())?;
    let read = all.into_iter().map(|segment| {
        Ok(Segment {
            share: Share::new(segment.share)?,
            arms: [
                segment.primary.unwrap_or_default().try_into()?,
                segment.shadow.unwrap_or_default().try_into()?,
            ],
        })
    });
    let read: Vec<Segment> = read.collect::<Result<_, WireError>>()?;
    let distinct: HashSet<u64> = read
        .iter()
        .map(|segment| segment.share.value().to_bits())
        .collect();
    if distinct.len() < read.len() {
        return Err(WireError::Twice("a segment's share"));
    }
    Ok(read)
}

/// One arm's part of a report.
struct Side {
    risk: Option<Risk>,
    health: Health,
    counters: ArmCounters,
    latency: Histogram,
    network: Network,
    mirrored: Mirrored,
}

impl TryFrom<proto::ArmReport> for Side {
    type Error = WireError;

    fn try_from(report: proto::ArmReport) -> Result<Self, WireError> {
        // A state that a newer version knows says nothing to this one.
        let health = match proto::Health::try_from(report.health) {
            Ok(proto::Health::Up) => Health::Up,
            Ok(proto::Health::Down) => Health::Down,
            Ok(proto::Health::Unknown) | Err(_) => Health::Unknown,
        };
        let latency = report.latency.unwrap_or_default();
        let network = report.network.unwrap_or_default();
        Ok(Self {
            risk: report.risk.map(Risk::new).transpose()?,
            health,
            counters: report.counters.unwrap_or_default().try_into()?,
            latency: Histogram::new(&latency.bucket, &latency.count)?,
            network: Network {
                samples: network.samples,
                rtt_us: network.rtt_us,
                rtt_var_us: network.rtt_var_us,
                segments_out: network.segments_out,
                retransmits: network.retransmits,
            },
            mirrored: report.mirrored.unwrap_or_default().try_into()?,
        })
    }
}

impl TryFrom<proto::ArmCounters> for ArmCounters {
    type Error = WireError;

    fn try_from(counters: proto::ArmCounters) -> Result<Self, WireError> {
        let over = four("over", &counters.over)?.unwrap_or_default();
        let read = Self {
            requests: counters.requests,
            connect: counters.connect,
            timeout: counters.timeout,
            reset: counters.reset,
            status_5xx: counters.status_5xx,
            over,
            retries: counters.retries,
            bytes: counters.bytes,
        };
        // A request is slower than a threshold if it is slower than the next, and there are no more of either than of all.
        let descends = over.iter().rev().is_sorted() && over.iter().all(|over| *over <= read.requests);
        // An answer that broke off after an error counts as both.
        if !descends || read.errors() > read.requests.saturating_mul(2) || read.retries > read.requests {
            return Err(WireError::Range("counters"));
        }
        Ok(read)
    }
}
