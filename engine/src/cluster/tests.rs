//! The loop as a whole, on scripted assessments.

use foreshade_contract::{Name, Risk};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::assessment::{Group, Standing};
use crate::decision::{Bound, Phase};
use crate::shift::fixture::{known, term, tick};
use crate::spec::{BalancePolicy, HealthPolicy, ShiftPolicy};

/// Primaries 0 to `primaries`, and one shadow that all of them share, last.
pub(super) fn spec(primaries: usize) -> ClusterSpec {
    let endpoint = |index: usize, role| EndpointSpec {
        name: format!("e{index}").parse::<Name>().unwrap(),
        role,
        weight: 1.0,
        capacity_rps: None,
        region: None,
    };
    let shared = Role::Primary {
        shadow: Some(primaries),
    };
    let front = (0..primaries).map(|index| endpoint(index, shared));
    ClusterSpec {
        name: "shop".parse().unwrap(),
        endpoints: front.chain([endpoint(primaries, Role::Shadow)]).collect(),
        shift: ShiftPolicy::default(),
        attempt_timeout: Duration::from_secs(15),
        balance: BalancePolicy::LeastLoad,
        health: Some(HealthPolicy::default()),
        slow_start: Duration::from_secs(10),
        segments: Vec::new(),
    }
}

pub(super) struct Rig {
    pub(super) engine: ClusterEngine,
    now: Moment,
    rng: StdRng,
    pub(super) seen: Vec<Assessment>,
    common_cause: bool,
}

impl Rig {
    pub(super) fn new(spec: ClusterSpec) -> Self {
        let seen = spec
            .endpoints
            .iter()
            .map(|endpoint| {
                let mut seen = known(0.0);
                if endpoint.role != Role::Shadow {
                    seen.rps = 100.0;
                    seen.p50_us = 5_000;
                    seen.p999_baseline = Some(Duration::from_millis(20));
                    seen.tick = tick(10, 0, 1.0);
                }
                seen
            })
            .collect();
        Self {
            engine: ClusterEngine::new(spec, Moment::ZERO),
            now: Moment::ZERO,
            rng: StdRng::seed_from_u64(1),
            seen,
            common_cause: false,
        }
    }

    pub(super) fn tick(&mut self) -> ClusterDecision {
        self.after(Duration::from_millis(100))
    }

    fn after(&mut self, pause: Duration) -> ClusterDecision {
        self.now = self.now + pause;
        let assessment = ClusterAssessment {
            endpoints: self.seen.clone(),
            common_cause: self.common_cause,
        };
        self.engine.decide(self.now, assessment, &mut self.rng)
    }

    pub(super) fn ticks(&mut self, n: usize) -> ClusterDecision {
        for _ in 1..n {
            self.tick();
        }
        self.tick()
    }

    pub(super) fn kill(&mut self, endpoint: usize) {
        self.seen[endpoint].standing = Standing::Dead;
        self.seen[endpoint].risk = Risk::clamped(0.98);
    }
}

pub(super) fn share(decision: &ClusterDecision, primary: usize) -> f64 {
    decision.endpoints[primary].shift.as_ref().unwrap().share.value()
}

#[test]
fn a_healthy_cluster_is_left_alone() {
    let decision = Rig::new(spec(3)).ticks(100);
    assert_eq!((decision.mode, decision.retries), (Mode::Normal, true));
    for (index, endpoint) in decision.endpoints.iter().enumerate() {
        assert!(endpoint.available && endpoint.accepts_failover);
        assert!((endpoint.weight - 1.0).abs() < 1e-9 && (endpoint.typical_us - 5_000.0).abs() < 1e-9);
        assert_eq!(endpoint.attempt_timeout, Duration::from_millis(60));
        assert!(index == 3 || share(&decision, index).abs() < f64::EPSILON);
    }
}

// Concept: endpoint-failover
#[test]
fn a_shadow_is_never_given_more_than_it_is_presumed_to_carry() {
    let mut rig = Rig::new(spec(3));
    rig.ticks(10);
    rig.kill(0);
    rig.kill(1);
    let decision = rig.tick();
    let moved: f64 = (0..3).map(|primary| share(&decision, primary) * 100.0).sum();
    assert!(moved <= 100.0 + 1e-6, "{moved} of 100 requests per second");
    assert!((share(&decision, 0) - 1.0).abs() < 1e-9);
    let second = decision.endpoints[1].shift.as_ref().unwrap();
    assert_eq!(
        (second.bound, second.phase),
        (Bound::ShadowCapacity, Phase::FailOver)
    );
    // It carries a hundred well, so it may carry a tenth more. What did not fit went to the third primary.
    for (endpoint, rps) in [(0, 0.0), (1, 0.0), (2, 200.0), (3, 100.0)] {
        rig.seen[endpoint].rps = rps;
    }
    rig.seen[3].tick = tick(10, 0, 1.0);
    let decision = rig.ticks(50);
    assert!(share(&decision, 1) > 0.05);
}

#[test]
fn the_dead_come_before_the_sick_at_a_shared_shadow() {
    let mut rig = Rig::new(spec(2));
    rig.ticks(10);
    rig.seen[0] = Assessment {
        rps: 100.0,
        tick: tick(10, 5, 1.0),
        ..known(0.9)
    };
    rig.seen[2].tick = tick(5, 0, 1.0);
    assert!(share(&rig.ticks(60), 0) > 0.9);
    rig.kill(1);
    assert!(share(&rig.tick(), 1) > 0.9);
    assert!(share(&rig.ticks(20), 0) < 0.2);
}

// Invariant 15.
#[test]
fn in_panic_nobody_is_left_out_and_nothing_is_repeated() {
    let mut rig = Rig::new(spec(3));
    rig.ticks(10);
    for endpoint in 0..4 {
        rig.kill(endpoint);
    }
    let decision = rig.tick();
    assert_eq!((decision.mode, decision.retries), (Mode::Panic, false));
    assert!(!decision.alive, "panic makes nobody alive");
    assert!(
        decision
            .endpoints
            .iter()
            .all(|e| e.available && e.weight >= 0.05 - 1e-9)
    );
}

#[test]
fn a_cluster_is_alive_as_long_as_a_primary_or_its_shadow_is() {
    for (enabled, alive) in [(true, true), (false, false)] {
        let mut spec = spec(2);
        spec.shift.enabled = enabled;
        let mut rig = Rig::new(spec);
        rig.ticks(10);
        rig.kill(0);
        assert!(rig.tick().alive);
        rig.kill(1);
        assert_eq!(
            rig.tick().alive,
            alive,
            "the shadow counts where users may move to it"
        );
        rig.kill(2);
        assert!(!rig.tick().alive);
    }
}

// Invariant 13.
#[test]
fn a_common_cause_moves_nobody_and_makes_attempts_more_patient() {
    let mut rig = Rig::new(spec(3));
    rig.ticks(10);
    rig.common_cause = true;
    for seen in &mut rig.seen {
        *seen = Assessment {
            risk: Risk::clamped(0.6),
            slowdown: 4.0,
            p50_us: 20_000,
            ..seen.clone()
        };
    }
    let decision = rig.ticks(100);
    assert_eq!(decision.mode, Mode::Frozen);
    for primary in 0..3 {
        assert!(share(&decision, primary).abs() < f64::EPSILON);
        assert_eq!(
            decision.endpoints[primary].attempt_timeout,
            Duration::from_millis(240)
        );
    }
}

// Invariant 16.
#[test]
fn an_override_moves_users_and_ends_by_itself() {
    let mut rig = Rig::new(spec(2));
    rig.ticks(10);
    let order = |setting| Override {
        endpoint: 0,
        setting,
        reason: "kernel update".to_owned(),
        expires: Moment::ZERO + Duration::from_secs(30),
    };
    rig.engine
        .handle_override(order(Setting::Share(Share::clamped(0.5))))
        .unwrap();
    let decision = rig.tick();
    assert!((share(&decision, 0) - 0.5).abs() < 1e-9);
    assert_eq!(rig.engine.overrides().count(), 1);
    assert!(rig.engine.clear_override(0) && !rig.engine.clear_override(0));
    assert!(share(&rig.ticks(150), 0).abs() < f64::EPSILON);

    rig.engine
        .handle_override(order(Setting::Risk(Risk::clamped(0.9))))
        .unwrap();
    rig.seen[2].tick = tick(5, 0, 1.0);
    let decision = rig.ticks(100);
    assert!(share(&decision, 0) > 0.9, "an operator's risk commits");
    assert!(share(&rig.ticks(600), 0).abs() < f64::EPSILON, "until it expires");
}

// Invariant 18.
#[test]
fn a_process_that_was_suspended_has_waited_for_nothing() {
    let mut rig = Rig::new(spec(2));
    rig.ticks(10);
    rig.seen[0].risk = Risk::clamped(0.9);
    rig.seen[0].terms = vec![term(Group::Hard, 2.3)];
    rig.seen[2].tick = tick(5, 0, 1.0);
    let before = rig.ticks(60);
    rig.seen[0].tick = tick(0, 0, 1.0);
    let after = rig.after(Duration::from_secs(3600));
    assert!((share(&before, 0) - share(&after, 0)).abs() < 1e-9);
    assert_eq!(after.endpoints[0].shift.as_ref().unwrap().phase, Phase::Shifted);
    let back = rig
        .engine
        .decide(Moment::ZERO, rig.engine.assessment().clone(), &mut rig.rng);
    assert_eq!(back.at, after.at, "time does not go back");
}

#[test]
fn an_endpoint_that_comes_back_without_a_shadow_starts_slowly() {
    let mut spec = spec(2);
    spec.endpoints.remove(2);
    for endpoint in &mut spec.endpoints {
        endpoint.role = Role::Primary { shadow: None };
    }
    let mut rig = Rig::new(spec);
    rig.ticks(10);
    rig.kill(0);
    assert!(!rig.ticks(10).endpoints[0].available);
    rig.seen[0] = rig.seen[1].clone();
    let weight = rig.tick().endpoints[0].weight;
    assert!((weight - 0.1).abs() < 1e-9, "{weight}");
    assert!((rig.ticks(101).endpoints[0].weight - 1.0).abs() < 1e-9);
}

#[test]
fn a_dead_endpoint_that_nobody_probes_is_tried_by_a_few() {
    let mut spec = spec(2);
    spec.shift.enabled = false;
    let mut rig = Rig::new(spec);
    rig.kill(0);
    rig.seen[0].tick = tick(0, 0, 1.0);
    let tried = (0..300)
        .filter(|_| rig.tick().endpoints[0].trial > Share::ZERO)
        .count();
    assert!((10..60).contains(&tried), "{tried} of 300 ticks");
}

#[test]
fn a_decision_can_be_explained_by_what_it_was_made_from() {
    let mut rig = Rig::new(spec(2));
    rig.ticks(100);
    rig.seen[0].risk = Risk::clamped(0.9);
    rig.seen[0].terms = vec![term(Group::Hard, 2.3)];
    rig.ticks(10);
    let explanation = rig.engine.explain(0).unwrap();
    assert_eq!(explanation.records.len(), 60);
    assert!(explanation.changes.len() >= 2, "the start and the canary");
    assert_eq!(
        explanation.line,
        "R=0.90 errors 100% (50.0% of 100, base 0.1%) -> share 5.0% limited by unproven \
         (canary: shadow unproven after 0 samples (0 bad))"
    );
    let text = serde_json::to_string(&explanation).unwrap();
    assert!(text.contains("\"bound\":\"unproven\""));
    assert!(rig.engine.explain(9).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    // Invariants 1, 6 and 15 for the cluster: whatever is seen, what is published can be carried out.
    #[test]
    fn every_decision_can_be_carried_out(
        ticks in prop::collection::vec(
            (prop::collection::vec((0.0..=1.0f64, 0..20u32, 0.0..1e3f64), 4), any::<bool>(), 1usize..30),
            1..20,
        ),
        seed: u64,
    ) {
        let mut rig = Rig::new(spec(3));
        rig.rng = StdRng::seed_from_u64(seed);
        for (ends, common_cause, n) in ticks {
            rig.common_cause = common_cause;
            for (seen, (risk, odd, rps)) in rig.seen.iter_mut().zip(ends) {
                *seen = Assessment { rps, tick: tick(odd, odd / 3, 1.0), ..known(risk) };
                if odd == 0 {
                    seen.standing = Standing::Dead;
                }
            }
            for _ in 0..n {
                let decision = rig.tick();
                prop_assert_eq!(decision.endpoints.len(), 4);
                for endpoint in &decision.endpoints {
                    prop_assert!(endpoint.weight > 0.0 && endpoint.weight.is_finite());
                    prop_assert!(endpoint.attempt_timeout <= Duration::from_secs(15));
                    prop_assert!(endpoint.typical_us.is_finite());
                    prop_assert!(endpoint.available || decision.mode != Mode::Panic);
                    if let Some(shift) = &endpoint.shift {
                        prop_assert!(shift.share.value() <= shift.cap.value() + 1e-12);
                    }
                }
            }
        }
    }
}
