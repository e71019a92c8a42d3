//! A cluster gets another shape while it runs: what stays goes on as if nothing had happened, what comes starts afresh.
//!
//! An endpoint that stays keeps everything that was learnt of it: baselines, risk, capacity, history, overrides and
//! advisories. The cluster keeps what belongs to it: common cause, panic, time. A newcomer is unknown, and its weight
//! grows over the slow start, because it has cold caches.
//!
//! A shift leads to a *particular* shadow, and ends with it:
//!
//! - the primary has the same shadow as before: the shift goes on;
//! - it has another one: its users are its own again at once, because the new shadow has proven nothing and may not even
//!   be warm. What was held against the primary stands, so the episode goes on with a canary at the new shadow in the
//!   very next tick, and a primary that is gone fails over to it in that tick;
//! - it has none any more, or is a shadow itself now: nothing is left of the shift.

use super::reach::SlowStart;
use super::{ClusterEngine, Member, Override, Pair};
use crate::assessment::Assessment;
use crate::lineage::Lineage;
use crate::moment::Moment;
use crate::spec::{ClusterSpec, EndpointSpec, Role};

impl ClusterEngine {
    /// Goes on with another set of endpoints or another policy; the next tick decides for it. `lineage` says which
    /// endpoint of `spec` was which before. Gives back the overrides that cannot be carried out any more.
    pub fn reshape(&mut self, spec: ClusterSpec, lineage: &Lineage) -> Vec<Override> {
        self.assessor.reshape(&spec, lineage);
        let seen = std::mem::take(&mut self.assessment.endpoints);
        self.assessment.endpoints = lineage.carry(seen, |_| Assessment::unknown());
        let members = std::mem::take(&mut self.members);
        self.members = lineage
            .carry(members.into_iter().map(Some).collect(), |_| None)
            .into_iter()
            .zip(&spec.endpoints)
            .map(|(member, endpoint)| match member {
                Some(member) => member.adopted(endpoint, lineage, self.time),
                None => Member::new(endpoint, SlowStart::newcomer()),
            })
            .collect();
        let dropped = self.overrides.reshape(&spec, lineage);
        self.spec = spec;
        dropped
    }
}

impl Member {
    /// The same endpoint under another configuration.
    fn adopted(mut self, endpoint: &EndpointSpec, lineage: &Lineage, now: Moment) -> Self {
        self.is_shadow = endpoint.role == Role::Shadow;
        self.capacity.adopt(endpoint.capacity_rps);
        self.shift = endpoint.shadow().map(|shadow| match self.shift.take() {
            Some(pair) => pair.adopted(shadow, lineage, now),
            None => Pair::new(shadow),
        });
        self
    }
}

impl Pair {
    /// The shift of the same primary, whose shadow is `shadow` from here on.
    fn adopted(mut self, shadow: usize, lineage: &Lineage, now: Moment) -> Self {
        if lineage.after(self.shadow) != Some(shadow) {
            self.shift.change_shadow(now);
        }
        self.shadow = shadow;
        self.shifted = None;
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use foreshade_contract::{Risk, Share};
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::tests::{Rig, share, spec};
    use super::super::{OVERRIDE_MAX, Setting};
    use super::*;
    use crate::assessment::Group;
    use crate::decision::{ClusterDecision, Phase};
    use crate::observation::Observation;
    use crate::outcome::{Class, Outcome, RouteClass};
    use crate::shift::fixture::{known, term, tick};

    fn same(n: usize) -> Lineage {
        Lineage::new((0..n).map(Some))
    }

    /// Two primaries and their shadow; the first primary fails half of its requests, and its shadow has taken over.
    fn shifted() -> Rig {
        let mut rig = Rig::new(spec(2));
        rig.ticks(10);
        rig.seen[0] = Assessment {
            rps: 100.0,
            tick: tick(10, 5, 1.0),
            ..known(0.9)
        };
        rig.seen[2].tick = tick(5, 0, 1.0);
        assert!(share(&rig.ticks(60), 0) > 0.9);
        rig
    }

    /// The same two primaries with the shadow at index 3, and `which` of the two shadows for both.
    fn two_shadows(which: usize) -> ClusterSpec {
        let mut spec = spec(2);
        let mut other = spec.endpoints[2].clone();
        other.name = "other".parse().unwrap();
        spec.endpoints.push(other);
        for primary in &mut spec.endpoints[..2] {
            primary.role = Role::Primary { shadow: Some(which) };
        }
        spec
    }

    #[test]
    fn a_shift_goes_on_when_its_pair_has_moved_to_other_places() {
        let mut rig = shifted();
        let mut spec = spec(2);
        spec.endpoints.swap(0, 2);
        spec.endpoints[0].role = Role::Shadow;
        spec.endpoints[1].role = Role::Primary { shadow: Some(0) };
        spec.endpoints[2].role = Role::Primary { shadow: Some(0) };
        rig.engine
            .reshape(spec, &Lineage::new([Some(2), Some(1), Some(0)]));
        rig.seen.swap(0, 2);
        let decision = rig.tick();
        assert!(share(&decision, 2) > 0.9, "the sick one is the third now");
        assert!(share(&decision, 1).abs() < f64::EPSILON);
        assert!(rig.engine.explain(2).unwrap().changes.len() >= 3);
    }

    // What becomes of a shift whose shadow is another one.
    #[test]
    fn a_new_shadow_is_given_nobody_before_its_canary() {
        let mut rig = shifted();
        rig.engine
            .reshape(two_shadows(3), &Lineage::new([Some(0), Some(1), Some(2), None]));
        rig.seen.push(known(0.0));
        let decision = rig.tick();
        let shift = decision.endpoints[0].shift.clone().unwrap();
        assert_eq!(shift.phase, Phase::Canary);
        assert!((shift.share.value() - 0.05).abs() < 1e-9, "{}", shift.share);
        rig.seen[3].tick = tick(5, 0, 1.0);
        assert!(share(&rig.ticks(60), 0) > 0.9, "by the ordinary rules");
    }

    #[test]
    fn a_primary_that_is_gone_fails_over_to_its_new_shadow_at_once() {
        let mut rig = Rig::new(spec(2));
        rig.ticks(10);
        rig.kill(0);
        assert!(share(&rig.tick(), 0) > 0.9);
        rig.engine
            .reshape(two_shadows(3), &Lineage::new([Some(0), Some(1), Some(2), None]));
        rig.seen.push(known(0.0));
        assert!(share(&rig.tick(), 0) > 0.9);
    }

    #[test]
    fn without_a_shadow_nothing_is_left_of_a_shift() {
        let mut rig = shifted();
        let mut alone = spec(2);
        alone.endpoints.pop();
        for primary in &mut alone.endpoints {
            primary.role = Role::Primary { shadow: None };
        }
        rig.engine.reshape(alone, &same(2));
        rig.seen.pop();
        let decision = rig.tick();
        assert!(
            decision
                .endpoints
                .iter()
                .all(|e| e.shift.is_none() && e.available)
        );
        assert!(
            (decision.endpoints[0].risk.value() - 0.9).abs() < f64::EPSILON,
            "its risk stays"
        );
    }

    #[test]
    fn a_newcomer_starts_slowly_and_whoever_was_there_does_not() {
        let mut rig = Rig::new(spec(2));
        rig.ticks(10);
        let mut grown = spec(3);
        // The newcomer stands between the others.
        grown.endpoints.swap(1, 2);
        rig.engine
            .reshape(grown, &Lineage::new([Some(0), None, Some(1), Some(2)]));
        rig.seen.insert(1, Assessment::unknown());
        let weights: Vec<f64> = rig.tick().endpoints.iter().map(|e| e.weight).collect();
        for (weight, expected) in weights.iter().zip([1.0, 0.1, 1.0]) {
            assert!((weight - expected).abs() < 1e-9, "{weights:?}");
        }
        assert!((rig.ticks(101).endpoints[1].weight - 1.0).abs() < 1e-9);
    }

    #[test]
    fn an_override_follows_its_endpoint_and_a_share_needs_a_shadow_still() {
        let mut rig = Rig::new(spec(2));
        rig.ticks(2);
        let order = |endpoint, setting| Override {
            endpoint,
            setting,
            reason: "kernel update".to_owned(),
            expires: Moment::ZERO + OVERRIDE_MAX / 2,
        };
        rig.engine
            .handle_override(order(0, Setting::Share(Share::ONE)))
            .unwrap();
        rig.engine
            .handle_override(order(1, Setting::Risk(Risk::clamped(0.5))))
            .unwrap();
        let mut alone = spec(2);
        alone.endpoints.pop();
        alone.endpoints.swap(0, 1);
        for primary in &mut alone.endpoints {
            primary.role = Role::Primary { shadow: None };
        }
        let dropped = rig.engine.reshape(alone, &Lineage::new([Some(1), Some(0)]));
        assert_eq!(dropped.iter().map(|o| o.endpoint).collect::<Vec<_>>(), [0]);
        assert_eq!(
            rig.engine.overrides().map(|o| o.endpoint).collect::<Vec<_>>(),
            [0]
        );
        rig.seen.pop();
        assert!((rig.tick().endpoints[0].risk.value() - 0.5).abs() < f64::EPSILON);
    }

    #[test]
    fn whom_only_probes_called_dead_lives_when_there_are_none_any_more() {
        let (mut engine, mut rng) = (
            ClusterEngine::new(spec(2), Moment::ZERO),
            StdRng::seed_from_u64(1),
        );
        let mut seen = vec![Observation::default(); 3];
        seen[0].probes.failed = 1;
        let mut now = Moment::ZERO;
        let mut step = |engine: &mut ClusterEngine, seen: &[Observation]| {
            now = now + Duration::from_millis(100);
            engine.tick(now, seen, Duration::ZERO, &mut rng)
        };
        let dead = (0..10).map(|_| step(&mut engine, &seen)).last().unwrap();
        assert!(!dead.endpoints[0].available);
        seen[0].probes.failed = 0;
        assert!(!step(&mut engine, &seen).endpoints[0].available);
        let mut unprobed = spec(2);
        unprobed.health = None;
        engine.reshape(unprobed, &same(3));
        assert!(step(&mut engine, &seen).endpoints[0].available);
    }

    /// What a tick may bring to one endpoint: attempts, the part of them that fails, and milliseconds.
    fn observation() -> impl Strategy<Value = Observation> {
        (0u32..40, 0u32..10, 1u64..400, 0u32..2).prop_map(|(attempts, failing, ms, probes)| {
            let mut seen = Observation {
                started: attempts,
                ..Observation::default()
            };
            seen.probes.failed = probes;
            for n in 0..attempts {
                seen.record(&Outcome {
                    class: if n % 10 < failing { Class::Reset } else { Class::Ok },
                    latency: Duration::from_millis(ms + u64::from(n % 7)),
                    route_class: RouteClass::of_hash(u64::from(n % 3)),
                    in_flight_at_start: n % 5,
                });
            }
            seen
        })
    }

    fn text(decision: &ClusterDecision) -> String {
        serde_json::to_string(decision).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_same_shape_again_changes_no_decision(
            ticks in prop::collection::vec((prop::collection::vec(observation(), 4), any::<bool>()), 1..80),
            seed: u64,
        ) {
            let mut engines = [(); 2].map(|()| ClusterEngine::new(spec(3), Moment::ZERO));
            let mut rngs = [(); 2].map(|()| StdRng::seed_from_u64(seed));
            let mut now = Moment::ZERO;
            for (seen, reshape) in ticks {
                now = now + Duration::from_millis(100);
                if reshape {
                    let dropped = engines[0].reshape(spec(3), &same(4));
                    prop_assert!(dropped.is_empty());
                }
                let [a, b] = [0, 1].map(|n| engines[n].tick(now, &seen, Duration::ZERO, &mut rngs[n]));
                prop_assert_eq!(text(&a), text(&b));
            }
        }

        // Invariants 6 and 7: what stays is believed to be what it was, and nobody is sent to a shadow that is not his.
        #[test]
        fn any_shape_can_follow_any_other(
            shapes in prop::collection::vec((
                prop::collection::vec((prop::option::of(0usize..8), prop::option::of(0usize..8)), 1..8),
                prop::collection::vec((0.0..=1.0f64, 0..20u32, any::<bool>()), 8),
                1usize..40,
            ), 1..8),
        ) {
            let mut rig = Rig::new(spec(2));
            for (members, seen, n) in shapes {
                let before: Vec<Risk> = rig.engine.assessment().endpoints.iter().map(|a| a.risk).collect();
                let template = spec(1).endpoints[0].clone();
                let count = members.len();
                let endpoints = members.iter().enumerate().map(|(index, (_, shadow))| EndpointSpec {
                    name: format!("e{index}").parse().unwrap(),
                    // The first half are primaries; what the second half is, its index says.
                    role: if index < count.div_ceil(2) {
                        Role::Primary { shadow: shadow.filter(|s| (count.div_ceil(2)..count).contains(s)) }
                    } else {
                        Role::Shadow
                    },
                    ..template.clone()
                });
                let next = ClusterSpec { endpoints: endpoints.collect(), ..spec(1) };
                let lineage = Lineage::new(members.iter().map(|(before, _)| *before));
                let kept_shadow = |engine: &ClusterEngine, index: usize| {
                    let shadow = engine.spec().endpoints[lineage.before(index)?].shadow()?;
                    lineage.after(shadow)
                };
                let same_shadow: Vec<bool> = (0..count)
                    .map(|index| lineage.before(index).is_some_and(|b| b < before.len()))
                    .zip(0..count)
                    .map(|(stays, i)| stays && kept_shadow(&rig.engine, i) == next.endpoints[i].shadow())
                    .collect();
                rig.engine.reshape(next.clone(), &lineage);
                for (index, now) in rig.engine.assessment().endpoints.iter().enumerate() {
                    let was = lineage.before(index).and_then(|b| before.get(b)).copied().unwrap_or(Risk::ZERO);
                    prop_assert_eq!(now.risk.value().to_bits(), was.value().to_bits());
                }
                rig.seen = seen.into_iter().take(count).map(|(risk, odd, dead)| {
                    let mut seen = Assessment { rps: 50.0, tick: tick(odd, odd / 3, 1.0), ..known(risk) };
                    seen.terms = vec![term(Group::Hard, 1.0)];
                    if dead {
                        seen.standing = crate::assessment::Standing::Dead;
                    }
                    seen
                }).collect();
                for step in 0..n {
                    let decision = rig.tick();
                    prop_assert_eq!(decision.endpoints.len(), count);
                    for (index, endpoint) in decision.endpoints.iter().enumerate() {
                        prop_assert_eq!(endpoint.shift.is_some(), next.endpoints[index].shadow().is_some());
                        let Some(shift) = &endpoint.shift else { continue };
                        let gone = rig.seen[index].is_dead();
                        if step == 0 && !same_shadow[index] && !gone {
                            prop_assert!(shift.share.value() <= 0.05 + 1e-9, "{}", shift.share);
                        }
                    }
                }
            }
        }
    }
}
