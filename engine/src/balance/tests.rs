//! The table as a whole: who is sent where.

use foreshade_contract::{Name, Risk, Share};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::cohort::{segment_share, threshold};
use crate::decision::{Bound, EndpointDecision, Phase, ShiftDecision};
use crate::failover::ATTEMPTS_MAX_NEVER_SENT;
use crate::outcome::{Class, Outcome, ROUTE_CLASSES};
use crate::panic;
use crate::spec::{EndpointSpec, HealthPolicy, ShiftPolicy};

pub(super) const NOW: Moment = Moment::from_micros(1_000_000);

/// `primaries` primaries, each with a shadow of its own behind them: primary 0 has shadow `primaries`, and so on.
pub(super) fn spec(primaries: usize) -> ClusterSpec {
    let endpoint = |index: usize, role| EndpointSpec {
        name: format!("e{index}").parse::<Name>().unwrap(),
        role,
        weight: 1.0,
        capacity_rps: None,
        region: None,
    };
    let front = (0..primaries).map(|i| {
        endpoint(
            i,
            Role::Primary {
                shadow: Some(primaries + i),
            },
        )
    });
    let back = (primaries..2 * primaries).map(|i| endpoint(i, Role::Shadow));
    ClusterSpec {
        name: "shop".parse().unwrap(),
        endpoints: front.chain(back).collect(),
        shift: ShiftPolicy::default(),
        attempt_timeout: Duration::from_secs(15),
        balance: BalancePolicy::LeastLoad,
        health: Some(HealthPolicy::default()),
        slow_start: Duration::from_secs(10),
        segments: Vec::new(),
    }
}

pub(super) fn decision(spec: &ClusterSpec) -> ClusterDecision {
    let endpoints = spec
        .endpoints
        .iter()
        .map(|endpoint| EndpointDecision {
            risk: Risk::ZERO,
            top_group: None,
            available: true,
            weight: 1.0,
            attempt_timeout: Duration::from_millis(70),
            accepts_failover: true,
            typical_us: 5_000.0,
            trial: Share::ZERO,
            shift: matches!(endpoint.role, Role::Primary { .. }).then(|| shift(0.0)),
        })
        .collect();
    ClusterDecision {
        at: NOW,
        mode: Mode::Normal,
        retries: true,
        alive: true,
        endpoints,
    }
}

pub(super) fn shift(share: f64) -> ShiftDecision {
    ShiftDecision {
        phase: Phase::Normal,
        share: Share::clamped(share),
        wanted: Share::clamped(share),
        cap: Share::ONE,
        bound: Bound::None,
        failover: true,
        class_shares: [Share::clamped(share); ROUTE_CLASSES],
        salt: 11,
        reason: "".into(),
    }
}

pub(super) fn request(user: u64) -> Request {
    Request {
        cohort: Cohort::of_key(&user.to_le_bytes()),
        class: RouteClass::of_hash(user),
        segment: None,
        repeatable: true,
        attempts_max: ATTEMPTS_MAX_NEVER_SENT,
        retry_on: ServerErrors::NONE,
        stick: None,
    }
}

fn answered(ms: u64) -> Outcome {
    Outcome {
        class: Class::Ok,
        latency: Duration::from_millis(ms),
        route_class: RouteClass::default(),
        in_flight_at_start: 0,
    }
}

/// How many of `n` users are picked for each endpoint, when all answer alike and at once.
fn picked(table: &ClusterTable, endpoints: usize, n: u64) -> Vec<u64> {
    let mut rng = StdRng::seed_from_u64(1);
    let loads = Loads::new(endpoints);
    let mut counts = vec![0; endpoints];
    for user in 0..n {
        let pick = table.pick(&request(user), &loads, &mut rng, NOW).unwrap();
        counts[pick.endpoint] += 1;
    }
    counts
}

fn near(count: u64, expected: f64) -> bool {
    (count as f64 - expected).abs() <= 5.0 * expected.sqrt().max(1.0)
}

#[test]
fn equals_share_the_traffic() {
    for balance in [
        BalancePolicy::LeastLoad,
        BalancePolicy::WeightedRandom,
        BalancePolicy::RoundRobin,
    ] {
        let mut spec = spec(4);
        spec.balance = balance;
        let counts = picked(&ClusterTable::new(&spec, &decision(&spec)), 8, 20_000);
        for (endpoint, count) in counts.iter().enumerate() {
            let expected = if endpoint < 4 { 5000.0 } else { 0.0 };
            assert!(near(*count, expected), "{balance:?}: {counts:?}");
        }
    }
}

// Concept: endpoint-gradual-shift
#[test]
fn the_shadow_of_a_sick_primary_gets_its_normal_part() {
    let spec = spec(4);
    let mut decided = decision(&spec);
    decided.endpoints[0].risk = Risk::clamped(0.9);
    decided.endpoints[0].shift = Some(shift(1.0));
    let counts = picked(&ClusterTable::new(&spec, &decided), 8, 20_000);
    assert!(counts[0] == 0 && near(counts[4], 5000.0), "{counts:?}");
    // Half shifted: the other half avoids the primary but for exploration, one in a hundred of one in four.
    decided.endpoints[0].shift = Some(shift(0.5));
    let counts = picked(&ClusterTable::new(&spec, &decided), 8, 80_000);
    assert!(near(counts[4], 10_000.0) && near(counts[0], 100.0), "{counts:?}");
}

#[test]
fn what_may_not_be_repeated_explores_nothing() {
    let spec = spec(4);
    let mut decided = decision(&spec);
    decided.endpoints[0].risk = Risk::clamped(0.9);
    let table = ClusterTable::new(&spec, &decided);
    let mut rng = StdRng::seed_from_u64(1);
    let loads = Loads::new(8);
    for user in 0..20_000 {
        let harmful = Request {
            repeatable: false,
            ..request(user)
        };
        assert_ne!(table.pick(&harmful, &loads, &mut rng, NOW).unwrap().endpoint, 0);
    }
}

#[test]
fn a_primary_on_trial_gets_the_normal_part_of_the_users_that_try_it() {
    let spec = spec(4);
    let mut decided = decision(&spec);
    let mut loads = Loads::new(8);
    // As it was left: at risk, and with a failure as its last measurement.
    let failed = Outcome {
        class: Class::Reset,
        ..answered(1)
    };
    loads.end(0, &failed, NOW);
    for other in 1..4 {
        loads.end(other, &answered(5), NOW);
    }
    decided.endpoints[0].risk = Risk::clamped(0.98);
    decided.endpoints[0].available = false;
    decided.endpoints[0].shift = Some(shift(0.9));
    decided.endpoints[0].trial = Share::clamped(0.1);
    for mode in [Mode::Normal, Mode::Panic] {
        decided.mode = mode;
        if mode == Mode::Panic {
            decided.endpoints[0].weight = panic::remaining(decided.endpoints[0].risk);
        }
        let table = ClusterTable::new(&spec, &decided);
        let mut rng = StdRng::seed_from_u64(1);
        let mut counts = [0u64; 8];
        for user in 0..40_000 {
            counts[table
                .pick(&request(user), &loads, &mut rng, NOW)
                .unwrap()
                .endpoint] += 1;
        }
        // A tenth of a quarter; twice that, because between equals the first choice wins and nothing is in flight here.
        assert!((500..2_500).contains(&counts[0]), "{mode:?} {counts:?}");
    }
}

#[test]
fn in_panic_a_slot_weighs_what_is_left_of_who_serves_it() {
    for balance in [
        BalancePolicy::RoundRobin,
        BalancePolicy::WeightedRandom,
        BalancePolicy::ConsistentHash,
    ] {
        let spec = ClusterSpec { balance, ..spec(2) };
        let mut decided = decision(&spec);
        decided.mode = Mode::Panic;
        let sick = &mut decided.endpoints[0];
        sick.risk = Risk::clamped(0.98);
        sick.weight = panic::remaining(sick.risk);
        let alone = picked(&ClusterTable::new(&spec, &decided), 4, 10_000);
        assert!(alone[0] < 1500, "{balance:?} {alone:?}");
        decided.endpoints[0].shift = Some(shift(1.0));
        let shifted = picked(&ClusterTable::new(&spec, &decided), 4, 10_000);
        assert!((4000..6000).contains(&shifted[2]), "{balance:?} {shifted:?}");
    }
}

// Concept: endpoint-failover
#[test]
fn users_of_a_dead_primary_go_to_its_shadow_or_where_there_is_room() {
    let spec = spec(2);
    let mut decided = decision(&spec);
    decided.endpoints[0].available = false;
    decided.endpoints[0].shift = Some(shift(1.0));
    let counts = picked(&ClusterTable::new(&spec, &decided), 4, 10_000);
    assert!(counts[0] == 0 && near(counts[2], 5000.0), "{counts:?}");
    // Its shadow carries three tenths: the rest goes to the other primary.
    let mut full = shift(0.3);
    full.bound = Bound::ShadowCapacity;
    decided.endpoints[0].shift = Some(full);
    let counts = picked(&ClusterTable::new(&spec, &decided), 4, 10_000);
    assert!(counts[0] == 0 && near(counts[2], 1500.0), "{counts:?}");
}

#[test]
fn what_does_not_fit_a_full_shadow_is_shed_and_what_is_only_unproven_is_not() {
    let spec = spec(1);
    let mut decided = decision(&spec);
    decided.endpoints[0].available = false;
    for (bound, served) in [(Bound::ShadowCapacity, false), (Bound::Policy, true)] {
        let mut partly = shift(0.5);
        partly.bound = bound;
        decided.endpoints[0].shift = Some(partly);
        let table = ClusterTable::new(&spec, &decided);
        let mut rng = StdRng::seed_from_u64(1);
        let picks = (0..2000).filter_map(|user| table.pick(&request(user), &Loads::new(2), &mut rng, NOW));
        let count = picks.count() as u64;
        assert!(
            if served {
                count == 2000
            } else {
                near(count, 1000.0)
            },
            "{count}"
        );
    }
}

#[test]
fn a_slow_endpoint_is_avoided_before_any_tick_sees_it() {
    let spec = spec(4);
    let table = ClusterTable::new(&spec, &decision(&spec));
    let mut loads = Loads::new(8);
    for endpoint in 0..4 {
        for class in 0..ROUTE_CLASSES as u64 {
            let outcome = Outcome {
                route_class: RouteClass::of_hash(class),
                ..answered(if endpoint == 0 { 50 } else { 5 })
            };
            loads.end(endpoint, &outcome, NOW);
        }
    }
    let mut rng = StdRng::seed_from_u64(1);
    let slow = (0..10_000)
        .filter(|user| {
            table
                .pick(&request(*user), &loads, &mut rng, NOW)
                .unwrap()
                .endpoint
                == 0
        })
        .count();
    assert!((5..60).contains(&slow), "{slow} of 10,000");
}

#[test]
fn a_sick_route_class_moves_without_the_others() {
    let spec = spec(2);
    let mut decided = decision(&spec);
    let mut own = shift(0.0);
    own.class_shares[5] = Share::ONE;
    decided.endpoints[0].shift = Some(own);
    let table = ClusterTable::new(&spec, &decided);
    let mut rng = StdRng::seed_from_u64(1);
    for user in 0..2000 {
        let request = request(user);
        let pick = table.pick(&request, &Loads::new(4), &mut rng, NOW).unwrap();
        if pick.primary == 0 {
            assert_eq!(pick.side == Side::Shadow, request.class.index() == 5);
        }
    }
}

#[test]
fn consistent_hashing_keeps_users_and_bounds_the_load() {
    let mut spec = spec(4);
    spec.balance = BalancePolicy::ConsistentHash;
    let table = ClusterTable::new(&spec, &decision(&spec));
    let mut rng = StdRng::seed_from_u64(1);
    let mut loads = Loads::new(8);
    let first = table.pick(&request(7), &loads, &mut rng, NOW).unwrap();
    for _ in 0..10 {
        assert_eq!(table.pick(&request(7), &loads, &mut rng, NOW), Some(first));
    }
    for _ in 0..100 {
        let pick = table.pick(&request(7), &loads, &mut rng, NOW).unwrap();
        loads.begin(pick.endpoint);
    }
    for endpoint in 0..4 {
        assert!(
            loads.in_flight(endpoint) <= 32,
            "a quarter of 100 times 1.25, rounded up"
        );
    }
}

// Concept: endpoint-failover
#[test]
fn a_failed_request_goes_to_the_shadow_first_and_never_back() {
    let spec = spec(3);
    let mut decided = decision(&spec);
    decided.endpoints[0].shift = Some(shift(0.1));
    let table = ClusterTable::new(&spec, &decided);
    let (loads, mut rng) = (Loads::new(6), StdRng::seed_from_u64(1));
    let mut next = |tried: &[usize]| {
        let tried = Tried {
            endpoints: tried,
            never_sent: false,
            stale: false,
        };
        table.alternative(&request(1), tried, &loads, &mut rng, NOW)
    };
    let first = next(&[0]).unwrap();
    assert_eq!(
        (first.endpoint, first.side, first.why),
        (3, Side::Shadow, Why::FailedOver)
    );
    assert!([1, 2].contains(&next(&[0, 3]).unwrap().endpoint));
    assert_eq!(next(&[0, 3, 1]).unwrap().endpoint, 4);
    assert_eq!(next(&[0, 3, 1, 4]).unwrap().endpoint, 2);
    assert_eq!(next(&[0, 1, 2, 3, 4, 5]), None);
}

#[test]
fn a_shadow_that_may_not_be_failed_over_to_gets_its_share_and_nothing_else() {
    let spec = spec(1);
    let mut decided = decision(&spec);
    decided.endpoints[0].shift = Some(ShiftDecision {
        failover: false,
        ..shift(0.25)
    });
    let (loads, mut rng) = (Loads::new(2), StdRng::seed_from_u64(1));
    let counts = picked(&ClusterTable::new(&spec, &decided), 2, 8000);
    assert!((1700..2300).contains(&counts[1]), "{counts:?}");
    let unshifted = (0..).map(request).find(|r| {
        let draw = ClusterTable::new(&spec, &decided).draw(0, r);
        draw.is_some_and(|draw| draw.side == Side::Primary)
    });
    let unshifted = unshifted.unwrap();
    for available in [true, false] {
        decided.endpoints[0].available = available;
        let table = ClusterTable::new(&spec, &decided);
        let tried = Tried {
            endpoints: &[0],
            never_sent: true,
            stale: false,
        };
        assert_eq!(table.alternative(&unshifted, tried, &loads, &mut rng, NOW), None);
        let pick = table.pick(&unshifted, &loads, &mut rng, NOW);
        assert_eq!(pick.map(|pick| pick.endpoint), available.then_some(0));
    }
}

#[test]
fn whose_kept_connection_had_ended_is_asked_again_where_nobody_else_is_left() {
    let spec = spec(1);
    let mut decided = decision(&spec);
    let (loads, mut rng) = (Loads::new(2), StdRng::seed_from_u64(1));
    let mut next = |decided: &ClusterDecision, endpoints: &[usize], stale| {
        let tried = Tried {
            endpoints,
            never_sent: false,
            stale,
        };
        let pick = ClusterTable::new(&spec, decided).alternative(&request(1), tried, &loads, &mut rng, NOW);
        pick.map(|pick| (pick.endpoint, pick.side))
    };
    assert_eq!(
        next(&decided, &[0], true),
        Some((1, Side::Shadow)),
        "the shadow is there"
    );
    decided.endpoints[1].available = false;
    assert_eq!(next(&decided, &[0], false), None);
    assert_eq!(next(&decided, &[0], true), Some((0, Side::Primary)));
    decided.endpoints[1].available = true;
    assert_eq!(next(&decided, &[0, 1], true), Some((1, Side::Shadow)));
    decided.endpoints[1].available = false;
    assert_eq!(next(&decided, &[0, 1], true), None, "it is gone itself");
}

#[test]
fn a_draw_is_what_the_pick_goes_by_while_both_are_there_and_stays_when_one_is_not() {
    let spec = spec(1);
    let mut decided = decision(&spec);
    decided.endpoints[0].shift = Some(shift(0.3));
    let table = ClusterTable::new(&spec, &decided);
    let (loads, mut rng) = (Loads::new(2), StdRng::seed_from_u64(1));
    decided.endpoints[1].available = false;
    let alone = ClusterTable::new(&spec, &decided);
    let mut shifted = 0;
    for user in 0..2000 {
        let request = request(user);
        let draw = table.draw(0, &request).unwrap();
        assert_eq!(draw.limit, threshold(Share::clamped(0.3)));
        let pick = table.pick(&request, &loads, &mut rng, NOW).unwrap();
        assert_eq!(pick.side, draw.side);
        assert_eq!(alone.draw(0, &request), Some(draw));
        let pick = alone.pick(&request, &loads, &mut rng, NOW).unwrap();
        assert_eq!(pick.endpoint, 0);
        shifted += u32::from(draw.side == Side::Shadow);
    }
    assert!((500..700).contains(&shifted), "{shifted}");
    assert_eq!(table.draw(1, &request(1)), None, "a shadow has no slot");
}

#[test]
fn failed_requests_spare_endpoints_at_risk_unless_they_cost_them_nothing() {
    let spec = spec(2);
    let mut decided = decision(&spec);
    for endpoint in &mut decided.endpoints {
        endpoint.accepts_failover = false;
    }
    let table = ClusterTable::new(&spec, &decided);
    let (loads, mut rng) = (Loads::new(4), StdRng::seed_from_u64(1));
    for never_sent in [false, true] {
        let tried = Tried {
            endpoints: &[0],
            never_sent,
            stale: false,
        };
        let pick = table.alternative(&request(1), tried, &loads, &mut rng, NOW);
        assert_eq!(pick.is_some(), never_sent);
    }
}

#[test]
fn a_cluster_of_one_primary_works_and_an_empty_one_sheds() {
    let spec = spec(1);
    let mut decided = decision(&spec);
    decided.endpoints[0].shift = Some(shift(0.25));
    let counts = picked(&ClusterTable::new(&spec, &decided), 2, 8000);
    assert!(near(counts[1], 2000.0), "{counts:?}");
    for endpoint in &mut decided.endpoints {
        endpoint.available = false;
    }
    let table = ClusterTable::new(&spec, &decided);
    let pick = table.pick(&request(1), &Loads::new(2), &mut StdRng::seed_from_u64(1), NOW);
    assert_eq!(pick, None);
}

#[test]
fn with_shifting_switched_off_no_shadow_is_touched() {
    let mut spec = spec(2);
    spec.shift.enabled = false;
    let mut decided = decision(&spec);
    decided.endpoints[0].available = false;
    decided.endpoints[0].shift = Some(shift(1.0));
    assert_eq!(
        picked(&ClusterTable::new(&spec, &decided), 4, 1000),
        [0, 1000, 0, 0]
    );
}

prop_compose! {
    fn any_decision()(
        ends in prop::collection::vec((0.0..=1.0f64, any::<bool>(), 0.0..2.0f64, 0.0..=1.0f64, 0.0..=1.0f64), 6),
        balance in 0..4usize,
        panic: bool,
    ) -> (ClusterSpec, ClusterDecision) {
        let mut spec = spec(3);
        spec.segments = vec![Share::clamped(0.2), Share::clamped(0.3)];
        spec.balance = [
            BalancePolicy::LeastLoad,
            BalancePolicy::WeightedRandom,
            BalancePolicy::RoundRobin,
            BalancePolicy::ConsistentHash,
        ][balance];
        let mut decided = decision(&spec);
        decided.mode = if panic { Mode::Panic } else { Mode::Normal };
        for (endpoint, (risk, available, weight, share, trial)) in decided.endpoints.iter_mut().zip(ends) {
            endpoint.risk = Risk::clamped(risk);
            endpoint.available = available || panic;
            endpoint.weight = weight;
            endpoint.trial = Share::clamped(trial * 0.1);
            endpoint.shift = endpoint.shift.is_some().then(|| shift(share));
        }
        (spec, decided)
    }
}

#[test]
fn a_dead_cluster_serves_only_those_who_try_it() {
    let spec = spec(2);
    let mut decided = decision(&spec);
    let serves = |decided: &ClusterDecision| {
        let table = ClusterTable::new(&spec, decided);
        (0..2000).filter(|user| table.can_serve(&request(*user))).count()
    };
    assert_eq!(serves(&decided), 2000);
    decided.alive = false;
    decided.mode = Mode::Panic;
    assert_eq!(
        serves(&decided),
        0,
        "panic keeps the dead in, and they still serve nobody"
    );
    // Shifted users have a dead shadow; only those beyond them are on trial.
    decided.endpoints[0].shift = Some(shift(0.5));
    decided.endpoints[0].trial = Share::clamped(0.05);
    assert!((60..=140).contains(&serves(&decided)), "{}", serves(&decided));
    decided.alive = true;
    assert_eq!(serves(&decided), 2000);
    decided.endpoints.iter_mut().for_each(|endpoint| {
        endpoint.available = false;
        endpoint.trial = Share::ZERO;
        endpoint.shift = None;
    });
    assert_eq!(serves(&decided), 0, "nobody may be chosen");
}

proptest! {
    // Invariant 1: every request goes to exactly one endpoint that may serve it, on the side that its cohort says.
    #[test]
    fn a_pick_is_always_one_that_may_serve(
        (spec, decided) in any_decision(),
        users in prop::collection::vec((any::<u64>(), prop::option::of(0..4usize)), 1..50),
    ) {
        let table = ClusterTable::new(&spec, &decided);
        let (loads, mut rng) = (Loads::new(6), StdRng::seed_from_u64(1));
        for (user, segment) in users {
            let request = Request { segment, ..request(user) };
            let Some(pick) = table.pick(&request, &loads, &mut rng, NOW) else {
                prop_assert!(decided.mode != Mode::Panic);
                continue;
            };
            let endpoint = &decided.endpoints[pick.endpoint];
            let tried = endpoint.trial > Share::ZERO;
            prop_assert!(endpoint.available || (pick.side == Side::Primary && tried));
            prop_assert_eq!(pick.side == Side::Primary, pick.endpoint == pick.primary);
            let shadow = pick.primary + 3;
            let of_segment = segment.filter(|s| *s < 2);
            let share = decided.endpoints[pick.primary].shift.as_ref().unwrap().share;
            let limit = threshold(segment_share(share, &spec.segments, of_segment));
            if pick.side == Side::Primary && decided.endpoints[shadow].available {
                prop_assert!(request.cohort.position(11) >= limit, "a shifted user stays shifted");
            }
            prop_assert!(pick.side == Side::Primary || pick.endpoint == shadow);
            prop_assert!(pick.why != Why::Explored || request.repeatable);
            let again = table.alternative(
                &request, Tried { endpoints: &[pick.endpoint], never_sent: true, stale: false }, &loads, &mut rng, NOW,
            );
            prop_assert!(again.is_none_or(|next| next.endpoint != pick.endpoint));
            prop_assert!(again.is_none_or(|next| decided.endpoints[next.endpoint].available));
        }
    }
}

#[test]
fn a_shadow_is_idle_while_it_may_be_chosen_and_serves_no_class_of_no_primary() {
    let spec = spec(2);
    let mut decided = decision(&spec);
    let idle =
        |decided: &ClusterDecision| [2, 3].map(|shadow| ClusterTable::new(&spec, decided).is_idle(shadow));
    assert_eq!(idle(&decided), [true, true]);
    decided.endpoints[2].available = false;
    assert_eq!(idle(&decided), [false, true]);
    let mut own = shift(0.0);
    own.class_shares[5] = Share::clamped(0.1);
    decided.endpoints[1].shift = Some(own);
    assert_eq!(idle(&decided), [false, false]);
}
