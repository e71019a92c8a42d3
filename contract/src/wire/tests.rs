//! What travels arrives as it was sent; what is no message, or breaks a rule, is refused; other versions are understood.

use std::time::Duration;

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::histogram::Histogram;
use crate::pair::Round;
use crate::plan::{PAIRS_MAX, PairPlan, Plan};
use crate::report::*;
use crate::units::{Risk, Share};

fn pair_id() -> impl Strategy<Value = PairId> {
    ("[a-z0-9][a-zA-Z0-9._-]{0,62}", "[a-z0-9][a-z0-9-]{0,8}").prop_map(|(cluster, primary)| PairId {
        cluster: cluster.parse().unwrap(),
        primary: primary.parse().unwrap(),
    })
}

fn share() -> impl Strategy<Value = Share> {
    prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0f64].prop_map(Share::clamped)
}

fn an_arm() -> impl Strategy<Value = Arm> {
    prop_oneof![Just(Arm::Primary), Just(Arm::Shadow)]
}

fn plan_id() -> impl Strategy<Value = PlanId> {
    (any::<u64>(), any::<u64>()).prop_map(|(epoch, generation)| PlanId {
        epoch: Epoch(epoch),
        generation: Generation(generation),
    })
}

fn pair_plan() -> impl Strategy<Value = PairPlan> {
    let thresholds = prop::option::of(prop::array::uniform4(1..900_000_000u64).prop_map(|parts| {
        let mut sum = 0;
        parts.map(|part| {
            sum += part;
            Duration::from_micros(sum)
        })
    }));
    let what = (share(), prop::option::of(share()), any::<bool>(), any::<bool>());
    (pair_id(), any::<u64>(), an_arm(), what, thresholds).prop_map(
        |(pair, round, serving, (ceiling, directed, frozen, failover), thresholds)| PairPlan {
            shadow: format!("{}x", &pair.primary.as_str()[..1]).parse().unwrap(),
            pair,
            round: Round(round),
            serving,
            ceiling,
            directed,
            frozen,
            failover,
            thresholds,
        },
    )
}

fn plan() -> impl Strategy<Value = Plan> {
    let pairs = prop::collection::vec(pair_plan(), 0..12);
    (plan_id(), prop::option::of(plan_id()), pairs).prop_map(|(id, parent, mut pairs)| {
        pairs.retain(|plan| plan.shadow != plan.pair.primary);
        pairs.sort_by(|a, b| a.pair.cmp(&b.pair));
        pairs.dedup_by(|a, b| a.pair == b.pair);
        Plan::new(id, parent, pairs).unwrap()
    })
}

fn counters() -> impl Strategy<Value = ArmCounters> {
    (
        prop::array::uniform4(0..1_000_000u64),
        prop::array::uniform4(0..1_000u64),
        0..1_000u64,
        any::<u64>(),
    )
        .prop_map(|(errors, over, retries, bytes)| {
            let mut sum = 0;
            let mut over = over.map(|n| {
                sum += n;
                sum
            });
            over.reverse();
            let [connect, timeout, reset, status_5xx] = errors;
            ArmCounters {
                requests: errors.iter().sum::<u64>() + sum + retries,
                connect,
                timeout,
                reset,
                status_5xx,
                over,
                retries,
                bytes,
            }
        })
}

fn histogram() -> impl Strategy<Value = Histogram> {
    prop::collection::vec((0..200_000_000u64, 1..1_000u64), 0..20).prop_map(|recorded| {
        let mut histogram = Histogram::default();
        for (us, n) in recorded {
            histogram.record(Duration::from_micros(us), n);
        }
        histogram
    })
}

fn network() -> impl Strategy<Value = Network> {
    any::<[u64; 5]>().prop_map(
        |[samples, rtt_us, rtt_var_us, segments_out, retransmits]| Network {
            samples,
            rtt_us,
            rtt_var_us,
            segments_out,
            retransmits,
        },
    )
}

fn mirrored() -> impl Strategy<Value = Mirrored> {
    (any::<[u32; 10]>(), 0..=1_000_000u32).prop_map(|(counts, control_millionths)| {
        let [both_good, copy_bad, user_bad, both_bad, counts @ ..] = counts.map(u64::from);
        let compared = |[answers, differed, slower]: [u64; 3]| Compared {
            answers,
            differed: differed.min(answers),
            slower: slower.min(answers),
        };
        let [answers, differed, slower, controls @ ..] = counts;
        let pairs = both_good + copy_bad + user_bad + both_bad;
        Mirrored {
            both_good,
            copy_bad,
            user_bad,
            both_bad,
            copies: compared([answers.min(pairs), differed, slower]),
            controls: compared(controls),
            control_millionths,
        }
    })
}

fn two<T: std::fmt::Debug>(one: impl Strategy<Value = T> + Clone) -> impl Strategy<Value = [T; 2]> {
    (one.clone(), one).prop_map(|(a, b)| [a, b])
}

fn pair_report() -> impl Strategy<Value = PairReport> {
    let health = prop_oneof![Just(Health::Unknown), Just(Health::Up), Just(Health::Down)];
    let risk = || prop::option::of((0.0..=1.0f64).prop_map(Risk::clamped));
    let segments = prop::collection::btree_map(0..=1_000u32, (counters(), counters()), 0..6);
    let seen = ((risk(), risk()), two(health), (counters(), counters()));
    let more = (
        segments,
        (histogram(), histogram()),
        (network(), network()),
        (mirrored(), mirrored()),
    );
    (pair_id(), any::<u64>(), an_arm(), share(), seen, more).prop_map(
        |(pair, round, serving, share, (risk, health, arms), (segments, latency, network, mirrored))| {
            PairReport {
                pair,
                round: Round(round),
                serving,
                share,
                risk: risk.into(),
                health,
                arms: arms.into(),
                segments: segments
                    .into_iter()
                    .map(|(mille, arms)| Segment {
                        share: Share::clamped(f64::from(mille) / 1e3),
                        arms: arms.into(),
                    })
                    .collect(),
                latency: latency.into(),
                network: network.into(),
                mirrored: mirrored.into(),
            }
        },
    )
}

fn upward() -> impl Strategy<Value = Upward> {
    let plan = prop::option::of(plan_id());
    let hello = (1..u64::MAX, pair_id(), "[ -~]{0,64}", plan, any::<bool>());
    let hello = hello.prop_map(|(boot, name, version, plan, pieces)| {
        Upward::Hello(Hello {
            boot: BootId(boot),
            proxy: name.primary,
            version,
            plan,
            pieces,
        })
    });
    let report = (
        any::<u64>(),
        any::<bool>(),
        prop::collection::vec(pair_report(), 0..5),
    );
    let report = report.prop_map(|(sequence, complete, mut pairs)| {
        pairs.sort_by(|a, b| a.pair.cmp(&b.pair));
        pairs.dedup_by(|a, b| a.pair == b.pair);
        Upward::Report(Report {
            sequence,
            complete,
            pairs,
        })
    });
    let refused = (prop::option::of(plan_id()), 0..Reason::ALL.len(), ".{0,100}");
    let refused = refused.prop_map(|(plan, reason, detail)| Refused {
        plan,
        reason: Reason::ALL[reason],
        detail,
    });
    let unapplied = prop::collection::vec((pair_id(), "[ -~]{0,128}"), 0..5);
    let status = (
        prop::option::of(plan_id()),
        any::<bool>(),
        prop::option::of(refused),
        unapplied,
    );
    let status = status.prop_map(|(plan, persisted, refused, unapplied)| {
        Upward::Status(Status {
            plan,
            persisted,
            refused,
            unapplied_total: unapplied.len() + 3,
            unapplied: unapplied
                .into_iter()
                .map(|(pair, why)| Unapplied { pair, why })
                .collect(),
        })
    });
    prop_oneof![hello, report, status]
}

fn downward() -> impl Strategy<Value = Downward> {
    let welcome = ("[ -~]{0,64}", any::<u64>()).prop_map(|(version, epoch)| {
        Downward::Welcome(Welcome {
            version,
            epoch: Epoch(epoch),
        })
    });
    let delta = (plan(), plan()).prop_map(|(a, b)| Downward::Delta(a.since(&b)));
    prop_oneof![welcome, plan().prop_map(Downward::Plan), delta]
}

fn read_up(bytes: &[u8]) -> Result<Upward, WireError> {
    Upward::read(proto::Up::decode(bytes)?)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_travels_up_arrives_as_it_was_sent(sent in upward()) {
        let bytes = sent.message().encode_to_vec();
        prop_assert_eq!(read_up(&bytes), Ok(sent));
    }

    #[test]
    fn what_travels_down_arrives_as_it_was_sent(sent in downward()) {
        prop_assert_eq!(Downward::read_bytes(&sent.bytes()), Ok(sent));
    }

    // Neither panics, nor takes memory that nobody sent; what is understood can be said again.
    #[test]
    fn any_bytes_are_refused_or_understood(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(up) = read_up(&bytes) {
            prop_assert_eq!(read_up(&up.message().encode_to_vec()), Ok(up));
        }
        if let Ok(down) = Downward::read_bytes(&bytes) {
            prop_assert_eq!(Downward::read_bytes(&down.bytes()), Ok(down));
        }
        let _ = decode_plan(&bytes);
    }

    #[test]
    fn a_message_with_a_few_other_bytes_is_refused_or_understood(
        up in upward(),
        down in downward(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut_at in prop::option::of(any::<prop::sample::Index>()),
    ) {
        for mut bytes in [up.message().encode_to_vec(), down.bytes().to_vec()] {
            for (at, byte) in &changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
            }
            if let Some(at) = cut_at.filter(|_| !bytes.is_empty()) {
                bytes.truncate(at.index(bytes.len()));
            }
            if let Ok(up) = read_up(&bytes) {
                prop_assert_eq!(read_up(&up.message().encode_to_vec()), Ok(up));
            }
            if let Ok(down) = Downward::read_bytes(&bytes) {
                prop_assert_eq!(Downward::read_bytes(&down.bytes()), Ok(down));
            }
        }
    }
}

fn good() -> proto::PairPlan {
    proto::PairPlan {
        pair: Some(proto::PairId {
            cluster: "shop".to_owned(),
            primary: "a".to_owned(),
        }),
        shadow: "b".to_owned(),
        serving: proto::Arm::Primary.into(),
        ceiling: 0.5,
        ..Default::default()
    }
}

#[test]
fn every_rule_of_a_pairs_plan_is_checked() {
    let refused = |change: fn(&mut proto::PairPlan)| {
        let mut pair = good();
        change(&mut pair);
        let plan = proto::Plan {
            id: Some(proto::PlanId::default()),
            parent: None,
            pairs: vec![pair],
        };
        Plan::try_from(plan).err()
    };
    assert_eq!(refused(|_| {}), None);
    assert_eq!(refused(|p| p.pair = None), Some(WireError::Missing("pair")));
    assert_eq!(refused(|p| p.serving = 0), Some(WireError::Missing("serving")));
    assert_eq!(refused(|p| p.serving = 7), Some(WireError::Range("serving")));
    assert_eq!(
        refused(|p| p.thresholds_us = vec![1, 2, 3]),
        Some(WireError::Range("thresholds_us"))
    );
    for (change, what) in [
        ((|p| p.shadow = String::new()) as fn(&mut proto::PairPlan), "name"),
        (|p| p.shadow = "a b".to_owned(), "name"),
        (|p| p.ceiling = 1.5, "fraction"),
        (|p| p.ceiling = f64::NAN, "fraction"),
        (|p| p.directed = Some(-0.1), "fraction"),
        (|p| p.shadow = "a".to_owned(), "plan"),
        (|p| p.thresholds_us = vec![4, 3, 2, 1], "plan"),
        (|p| p.thresholds_us = vec![1, 2, 3, u64::MAX], "plan"),
    ] {
        let error = refused(change).unwrap();
        let kind = match error {
            WireError::Name { .. } => "name",
            WireError::Unit(_) => "fraction",
            WireError::Plan(_) => "plan",
            other => panic!("{other}"),
        };
        assert_eq!(kind, what);
    }
}

#[test]
fn limits_are_looked_at_before_the_work() {
    let plan = proto::Plan {
        id: Some(proto::PlanId::default()),
        parent: None,
        // Not even names.
        pairs: vec![proto::PairPlan::default(); PAIRS_MAX + 1],
    };
    assert_eq!(
        Plan::try_from(plan),
        Err(WireError::Plan(PlanError::TooMany(PAIRS_MAX + 1)))
    );
    let report = proto::PairReport {
        pair: good().pair,
        serving: proto::Arm::Shadow.into(),
        segments: vec![proto::Segment::default(); SEGMENTS_MAX + 1],
        ..Default::default()
    };
    assert!(matches!(
        PairReport::try_from(report.clone()),
        Err(WireError::TooMany {
            field: "segments",
            ..
        })
    ));
    let twice = proto::PairReport {
        segments: vec![proto::Segment::default(); 2],
        ..report.clone()
    };
    assert_eq!(
        PairReport::try_from(twice),
        Err(WireError::Twice("a segment's share"))
    );
    let pair = proto::PairReport {
        segments: Vec::new(),
        ..report
    };
    let twice = proto::Report {
        pairs: vec![pair; 2],
        ..Default::default()
    };
    assert_eq!(
        Report::try_from(twice),
        Err(WireError::Twice("a pair of the report"))
    );
}

#[test]
fn copies_that_cannot_be_are_refused() {
    let compared = |answers, differed, slower| proto::Compared {
        answers,
        differed,
        slower,
    };
    let good = proto::Mirrored {
        both_good: 5,
        copy_bad: 3,
        copies: Some(compared(8, 8, 8)),
        controls: Some(compared(9, 1, 1)),
        control_millionths: 1_000_000,
        ..Default::default()
    };
    assert!(Mirrored::try_from(good).is_ok());
    assert_eq!(
        Mirrored::try_from(proto::Mirrored::default()),
        Ok(Mirrored::default())
    );
    let cannot = [
        proto::Mirrored {
            copies: Some(compared(9, 0, 0)),
            ..good
        },
        proto::Mirrored {
            copies: Some(compared(7, 8, 0)),
            ..good
        },
        proto::Mirrored {
            controls: Some(compared(1, 0, 2)),
            ..good
        },
        proto::Mirrored {
            control_millionths: 1_000_001,
            ..good
        },
    ];
    for counts in cannot {
        let refused = Mirrored::try_from(counts);
        assert_eq!(refused, Err(WireError::Range("mirrored")), "{counts:?}");
    }
}

#[test]
fn counters_that_cannot_be_are_refused() {
    let refused = |change: fn(&mut proto::ArmCounters)| {
        let mut counters = proto::ArmCounters {
            requests: 10,
            over: vec![4, 3, 2, 1],
            ..Default::default()
        };
        change(&mut counters);
        ArmCounters::try_from(counters).is_err()
    };
    assert!(!refused(|_| {}));
    assert!(refused(|c| c.over = vec![1, 2, 3, 4]));
    assert!(refused(|c| c.over = vec![11, 0, 0, 0]));
    assert!(refused(|c| c.retries = 11));
    assert!(refused(|c| c.reset = 21));
}

/// The plan of a later version: it has fields that this one does not know, in every message and in the envelope.
#[derive(Clone, PartialEq, prost::Message)]
struct LaterPlan {
    #[prost(message, optional, tag = "1")]
    id: Option<proto::PlanId>,
    #[prost(message, repeated, tag = "3")]
    pairs: Vec<LaterPairPlan>,
    #[prost(string, tag = "90")]
    comment: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LaterPairPlan {
    #[prost(message, optional, tag = "1")]
    pair: Option<proto::PairId>,
    #[prost(string, tag = "2")]
    shadow: String,
    #[prost(enumeration = "proto::Arm", tag = "4")]
    serving: i32,
    #[prost(double, tag = "5")]
    ceiling: f64,
    #[prost(uint64, repeated, tag = "77")]
    weights: Vec<u64>,
    #[prost(message, optional, tag = "78")]
    nested: Option<proto::PlanId>,
}

#[test]
fn the_plan_of_a_later_version_is_understood() {
    let later = LaterPlan {
        id: Some(proto::PlanId {
            epoch: 3,
            generation: 4,
        }),
        pairs: vec![LaterPairPlan {
            pair: good().pair,
            shadow: "b".to_owned(),
            serving: proto::Arm::Shadow.into(),
            ceiling: 0.25,
            weights: vec![1, 2, 3],
            nested: Some(proto::PlanId::default()),
        }],
        comment: "what this version does not know".to_owned(),
    };
    let mut envelope = proto::Down {
        body: Some(proto::down::Body::Plan(later.encode_to_vec().into())),
    }
    .encode_to_vec();
    // A field 99 of the envelope, a varint.
    envelope.extend([0x98, 0x06, 0x01]);
    let Ok(Downward::Plan(plan)) = Downward::read_bytes(&envelope) else {
        panic!("a plan")
    };
    assert_eq!(plan.id().generation, Generation(4));
    let [pair] = plan.pairs() else { panic!("one pair") };
    assert_eq!((pair.serving, pair.ceiling), (Arm::Shadow, Share::clamped(0.25)));
}

/// The report of an earlier version: no segments, histograms or network.
#[derive(Clone, PartialEq, prost::Message)]
struct EarlierReport {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(message, repeated, tag = "3")]
    pairs: Vec<EarlierPairReport>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EarlierPairReport {
    #[prost(message, optional, tag = "1")]
    pair: Option<proto::PairId>,
    #[prost(enumeration = "proto::Arm", tag = "3")]
    serving: i32,
}

#[test]
fn the_report_of_an_earlier_version_is_understood_and_the_other_way_round() {
    let earlier = EarlierReport {
        sequence: 9,
        pairs: vec![EarlierPairReport {
            pair: good().pair,
            serving: proto::Arm::Primary.into(),
        }],
    };
    let up = proto::Up {
        body: Some(proto::up::Body::Report(earlier.encode_to_vec().into())),
    };
    let Ok(Upward::Report(report)) = Upward::read(up) else {
        panic!("a report")
    };
    assert_eq!((report.sequence, report.complete), (9, false));
    let [pair] = &report.pairs[..] else {
        panic!("one pair")
    };
    assert_eq!((pair.risk, pair.health), ([None; 2], [Health::Unknown; 2]));
    assert!(pair.segments.is_empty() && pair.arms.iter().all(ArmCounters::is_zero));
    assert!(pair.mirrored.iter().all(Mirrored::is_zero));
    // What this version says to one of before.
    let read = EarlierReport::decode(encode_report(&report)).unwrap();
    assert_eq!(read, earlier);
}

#[test]
fn an_envelope_of_something_new_is_refused_and_says_so() {
    // Field 9 of the envelope: a kind of message that this version does not have.
    let nothing_known = [0x4a, 0x01, 0x00];
    assert_eq!(read_up(&nothing_known), Err(WireError::Missing("body")));
    let refused = Downward::read_bytes(&nothing_known).unwrap_err();
    assert_eq!(refused.source, WireError::Missing("body"));
}

#[test]
fn a_plan_that_breaks_a_rule_is_refused_by_its_name() {
    let plan = proto::Plan {
        id: Some(proto::PlanId {
            epoch: 5,
            generation: 6,
        }),
        parent: None,
        pairs: vec![good(), good()],
    };
    let down = proto::Down {
        body: Some(proto::down::Body::Plan(plan.encode_to_vec().into())),
    };
    let refused = Downward::read(down).unwrap_err();
    assert_eq!(refused.plan.unwrap().to_string(), "5/6");
    assert!(matches!(refused.source, WireError::Plan(PlanError::Twice(_))));
}

#[test]
fn the_largest_plan_fits_a_third_of_the_longest_message() {
    let name = |n: usize| format!("{n:0>63}").parse().unwrap();
    let pairs = (0..PAIRS_MAX).map(|n| PairPlan {
        pair: PairId {
            cluster: name(0),
            primary: name(n),
        },
        shadow: name(n + PAIRS_MAX),
        round: Round(u64::MAX),
        serving: Arm::Shadow,
        ceiling: Share::clamped(0.3),
        directed: Some(Share::clamped(0.3)),
        frozen: true,
        failover: true,
        thresholds: Some([Duration::from_secs(3600); 4]),
    });
    let id = PlanId {
        epoch: Epoch(u64::MAX),
        generation: Generation(u64::MAX),
    };
    let plan = Plan::new(id, Some(id), pairs.collect()).unwrap();
    let bytes = Downward::Plan(plan.clone()).bytes();
    assert!(bytes.len() * 3 < MESSAGE_BYTES_MAX, "{}", bytes.len());
    assert_eq!(Downward::read_bytes(&bytes), Ok(Downward::Plan(plan)));
}

#[test]
fn a_report_in_pieces_is_the_report_and_no_piece_is_long() {
    let pair = |n: usize| PairReport {
        pair: PairId {
            cluster: "shop".parse().unwrap(),
            primary: format!("endpoint-{n}").parse().unwrap(),
        },
        round: Round(1),
        serving: Arm::Primary,
        share: Share::ZERO,
        risk: [None; 2],
        health: [Health::Up; 2],
        arms: Default::default(),
        segments: Vec::new(),
        latency: Default::default(),
        network: [Network {
            samples: u64::MAX,
            ..Network::default()
        }; 2],
        mirrored: Default::default(),
    };
    for n in [0, 1, 2000] {
        let report = Report {
            sequence: 7,
            complete: true,
            pairs: (0..n).map(pair).collect(),
        };
        let pieces = report_pieces(&report);
        assert_eq!(pieces.len() > 1, n > 1, "{n}");
        let mut together = Vec::new();
        for piece in pieces {
            assert!(piece.encoded_len() < PIECE_BYTES + 1024);
            let Ok(Upward::Report(read)) = Upward::read(piece) else {
                panic!("a piece is a report");
            };
            assert_eq!((read.sequence, read.complete), (7, true));
            together.extend(read.pairs);
        }
        assert_eq!(together, report.pairs);
    }
}
