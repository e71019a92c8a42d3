//! What one process leaves to the next, when it takes its place: of each endpoint, and of the cluster's time.
//!
//! In parts, so that a version that has changed one of them can still read the others: a shift that is under way has
//! to survive an upgrade whatever else does. Moments are those of the clock that both go by. Nothing that is left is
//! trusted to fit: a shadow that is another one is given nobody, and what is set by hand is checked anew.

use serde::{Deserialize, Serialize};

use super::overrides::Override;
use super::reach::HalfOpen;
use super::wellness::Wellness;
use super::{ClusterEngine, Member};
use crate::capacity::Capacity;
use crate::moment::Moment;
pub use crate::risk::heirloom::Belief;
use crate::shift::Shift;

/// What is left of one endpoint. What could not be read is `None`, and begins anew.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Heirloom {
    /// What is believed of it.
    pub belief: Option<Belief>,
    /// Where its users are; of a primary with a shadow.
    pub shift: Option<Moved>,
    /// What it can carry, and how fast it is while it is well.
    pub strength: Option<Strength>,
    /// What an operator has set.
    pub set: Option<Override>,
}

/// A shift, wherever it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moved(Shift);

/// What an endpoint can do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Strength {
    capacity: Capacity,
    wellness: Wellness,
    half_open: HalfOpen,
}

impl ClusterEngine {
    /// What is left of an endpoint; `None` of one that does not exist.
    pub fn bequeath(&self, endpoint: usize) -> Option<Heirloom> {
        let member = self.members.get(endpoint)?;
        Some(Heirloom {
            belief: self.assessor.bequeath(endpoint),
            shift: member.shift.as_ref().map(|pair| Moved(pair.shift.clone())),
            strength: Some(Strength {
                capacity: member.capacity,
                wellness: member.wellness,
                half_open: member.half_open,
            }),
            set: self.overrides().find(|order| order.endpoint == endpoint).cloned(),
        })
    }

    /// The engine's own time, by which holds are counted.
    pub fn time(&self) -> Moment {
        self.time
    }

    /// Goes on at this time, where another process has stopped. Before anything is inherited.
    pub fn go_on_at(&mut self, time: Moment) {
        self.time = time.min(self.last);
    }

    /// Goes on with what another process has left of an endpoint. `same_shadow` says whether its shadow is the one
    /// that it had there. The next tick decides by it.
    pub fn inherit(&mut self, endpoint: usize, heirloom: Heirloom, same_shadow: bool) {
        let (Some(member), Some(spec)) = (self.members.get_mut(endpoint), self.spec.endpoints.get(endpoint))
        else {
            return;
        };
        if let Some(strength) = heirloom.strength {
            member.inherit(strength, spec.capacity_rps);
        }
        if let (Some(pair), Some(Moved(shift))) = (&mut member.shift, heirloom.shift) {
            pair.shift = shift;
            if !same_shadow {
                pair.shift.change_shadow(self.time);
            }
        }
        if let Some(belief) = heirloom.belief {
            self.assessor.inherit(endpoint, belief, self.spec.health);
        }
        if let Some(order) = heirloom.set {
            // What cannot be carried out any more, or is over, is not.
            let _ = self.handle_override(Override { endpoint, ..order });
        }
    }
}

impl Member {
    fn inherit(&mut self, strength: Strength, configured_rps: Option<f64>) {
        self.capacity = strength.capacity;
        self.capacity.adopt(configured_rps);
        self.wellness = strength.wellness;
        self.half_open = strength.half_open;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::tests::spec;
    use super::*;
    use crate::cluster::Setting;
    use crate::decision::{ClusterDecision, Phase};
    use crate::observation::Observation;
    use crate::outcome::{Class, Outcome, RouteClass};
    use crate::risk::Advisory;
    use foreshade_contract::{Risk, Share};

    const TICK: Duration = Duration::from_millis(100);

    /// Two primaries and their shadow, each asked so often in a tick; the first fails half of its requests.
    struct Play {
        engine: ClusterEngine,
        rng: StdRng,
        now: Moment,
    }

    impl Play {
        fn new(now: Moment) -> Self {
            Self {
                engine: ClusterEngine::new(spec(2), now),
                rng: StdRng::seed_from_u64(1),
                now,
            }
        }

        fn tick(&mut self, asked: [u32; 3], sick: bool) -> ClusterDecision {
            self.now = self.now + TICK;
            let mut seen = vec![Observation::default(); 3];
            for (index, (seen, asked)) in seen.iter_mut().zip(asked).enumerate() {
                seen.started = asked;
                seen.probes.passed = 1;
                for n in 0..asked {
                    seen.record(&Outcome {
                        class: if sick && index == 0 && n % 2 == 0 {
                            Class::Reset
                        } else {
                            Class::Ok
                        },
                        latency: Duration::from_millis(5 + u64::from(n % 3)),
                        route_class: RouteClass::default(),
                        in_flight_at_start: 1,
                    });
                }
            }
            self.engine.tick(self.now, &seen, Duration::ZERO, &mut self.rng)
        }

        /// The same in another process, by way of text; and without what is left, for comparison.
        fn succeeded(&self, same_shadow: bool) -> [Self; 2] {
            let mut next = Self::new(self.now);
            next.engine.go_on_at(self.engine.time());
            for endpoint in 0..3 {
                let text = serde_json::to_string(&self.engine.bequeath(endpoint).unwrap()).unwrap();
                next.engine
                    .inherit(endpoint, serde_json::from_str(&text).unwrap(), same_shadow);
            }
            [next, Self::new(self.now)]
        }
    }

    fn shifted() -> Play {
        let mut play = Play::new(Moment::from_micros(7_000_000));
        for _ in 0..300 {
            play.tick([20, 20, 2], false);
        }
        for _ in 0..60 {
            play.tick([20, 20, 10], true);
        }
        let share = play.tick([0, 20, 20], true).endpoints[0].shift.clone().unwrap();
        assert!(share.share.value() > 0.9, "{share:?}");
        play
    }

    #[test]
    fn a_shift_under_way_survives_its_process() {
        let play = shifted();
        let before = play.engine.members[0].shift.as_ref().unwrap().shift.share();
        let [mut next, mut ignorant] = play.succeeded(true);
        let decision = next.tick([0, 20, 20], true);
        let shift = decision.endpoints[0].shift.clone().unwrap();
        assert!((shift.share.value() - before.value()).abs() < 1e-9, "{shift:?}");
        assert!(
            decision.endpoints[0].risk.value() > 0.5,
            "{}",
            decision.endpoints[0].risk
        );
        assert_ne!(shift.salt, 0, "the same users are there");
        let forgotten = ignorant.tick([0, 20, 20], true).endpoints[0]
            .shift
            .clone()
            .unwrap();
        assert!(
            forgotten.share.value() < 0.01,
            "or else nothing is shown: {forgotten:?}"
        );
        // Silence is not recovery, in the new process either.
        for _ in 0..50 {
            assert!(
                next.tick([0, 20, 20], true).endpoints[0]
                    .shift
                    .clone()
                    .unwrap()
                    .share
                    .value()
                    > 0.9
            );
        }
    }

    #[test]
    fn healthy_days_are_not_learnt_anew_from_a_sick_endpoint() {
        let mut play = shifted();
        let [mut next, mut ignorant] = play.succeeded(true);
        let known = |play: &mut Play| {
            play.tick([0, 20, 20], true).endpoints[1]
                .attempt_timeout
                .as_secs_f64()
        };
        let (carried, ran_on) = (known(&mut next), known(&mut play));
        assert!((carried / ran_on - 1.0).abs() < 0.02, "{carried} {ran_on}");
        assert!(known(&mut ignorant) > 2.0 * ran_on, "or else nothing is shown");
    }

    #[test]
    fn another_shadow_is_given_nobody_for_what_the_old_one_had_proven() {
        let [mut next, _] = shifted().succeeded(false);
        let shift = next.tick([0, 20, 20], true).endpoints[0].shift.clone().unwrap();
        assert!(shift.share.value() <= 0.05 + 1e-9, "{shift:?}");
        assert_eq!(shift.phase, Phase::Canary);
    }

    #[test]
    fn what_people_have_said_is_carried_over_with_its_end() {
        let mut play = Play::new(Moment::from_micros(5_000_000));
        play.tick([20, 20, 2], false);
        let set = Override {
            endpoint: 0,
            setting: Setting::Share(Share::clamped(0.4)),
            reason: "moving a".to_owned(),
            expires: play.now + Duration::from_secs(60),
        };
        play.engine.handle_override(set).unwrap();
        play.engine.handle_advisory(Advisory {
            endpoint: 1,
            source: "calendar".to_owned(),
            reason: "kernel".to_owned(),
            value: Risk::clamped(0.8),
            trust: 1.0,
            half_life: Duration::ZERO,
            at: play.now,
            expires: play.now + Duration::from_secs(60),
        });
        play.tick([20, 20, 2], false);
        let [mut next, _] = play.succeeded(true);
        let decision = next.tick([20, 20, 2], false);
        assert_eq!(
            decision.endpoints[0].shift.clone().unwrap().phase,
            Phase::Override
        );
        assert!(
            decision.endpoints[1].risk.value() > 0.2,
            "{}",
            decision.endpoints[1].risk
        );
        next.now = next.now + Duration::from_secs(61);
        assert_ne!(
            next.tick([20, 20, 2], false).endpoints[0]
                .shift
                .clone()
                .unwrap()
                .phase,
            Phase::Override
        );
    }
}
