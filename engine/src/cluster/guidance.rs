//! What a controller's plan says of a pair: the limits inside which its shift decides, or the share itself.
//!
//! A controller knows what one proxy cannot: whether the shadow is in sync, what other proxies see, what was promised to a
//! rollout. So it may hold a shift back, or set it. It is far away, though, and may be gone: a primary that has died is
//! left at once, whatever the plan says, unless the plan says that even this must not be, because its shadow could not
//! serve rightly. An operator at this very proxy stands above the plan, and the configuration's switch above both.
//!
//! Without a plan nothing is limited. What is set here lasts until it is set anew: the plan is on the proxy's disk, and a
//! guidance that expired when its controller is gone would move users for no reason of theirs.

use foreshade_contract::Share;

use super::ClusterEngine;

/// What a plan says of one pair. By the roles of now: what moves, moves from the primary to its shadow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guidance {
    /// The most that the risk of this proxy may move.
    pub ceiling: Share,
    /// The share that is set, as far as the capacity that is configured for the shadow allows.
    pub directed: Option<Share>,
    /// Shares stay as they are.
    pub frozen: bool,
    /// Whether the users of a primary that is gone, and requests that have failed, may go to the shadow.
    pub failover: bool,
}

impl Guidance {
    /// The proxy decides alone.
    pub const NONE: Self = Self {
        ceiling: Share::ONE,
        directed: None,
        frozen: false,
        failover: true,
    };
}

impl ClusterEngine {
    /// Sets what the plan says of a primary and its shadow, for the ticks to come. False where the endpoint has no shadow.
    pub fn guide(&mut self, endpoint: usize, guidance: Guidance) -> bool {
        let pair = self
            .members
            .get_mut(endpoint)
            .and_then(|member| member.shift.as_mut());
        pair.map(|pair| pair.guidance = guidance).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Rig, share, spec};
    use super::*;
    use crate::assessment::Assessment;
    use crate::decision::{Bound, ClusterDecision, Phase, ShiftDecision};
    use crate::shift::fixture::{known, tick};

    fn shift(decision: &ClusterDecision, endpoint: usize) -> ShiftDecision {
        decision.endpoints[endpoint].shift.clone().unwrap()
    }

    /// The first primary fails half of its requests, and its shadow none.
    fn sicken(rig: &mut Rig) {
        rig.seen[0] = Assessment {
            rps: 100.0,
            tick: tick(10, 5, 1.0),
            ..known(0.9)
        };
        rig.seen[2].tick = tick(5, 0, 1.0);
    }

    fn guided(guidance: Guidance) -> Rig {
        let mut rig = Rig::new(spec(2));
        rig.ticks(10);
        assert!(rig.engine.guide(0, guidance));
        rig
    }

    #[test]
    fn risk_moves_no_more_than_the_ceiling_and_a_death_moves_all() {
        let mut rig = guided(Guidance {
            ceiling: Share::clamped(0.1),
            ..Guidance::NONE
        });
        sicken(&mut rig);
        let decision = rig.ticks(60);
        assert!((share(&decision, 0) - 0.1).abs() < 1e-9);
        let shifted = shift(&decision, 0);
        assert_eq!(shifted.bound, Bound::Plan);
        rig.kill(0);
        assert!(share(&rig.tick(), 0) > 0.9, "a failover stays above it");
        // It lives again, and is not trusted at once: what has failed over comes back on proof alone.
        rig.seen[0] = known(0.0);
        rig.seen[0].tick = tick(10, 0, 1.0);
        assert!(share(&rig.tick(), 0) > 0.9);
    }

    #[test]
    fn a_share_that_is_set_holds_whatever_the_risk_says() {
        let mut rig = guided(Guidance {
            directed: Some(Share::clamped(0.05)),
            ..Guidance::NONE
        });
        let decision = rig.tick();
        assert!((share(&decision, 0) - 0.05).abs() < 1e-9);
        assert_eq!(shift(&decision, 0).phase, Phase::Directed);
        assert!(
            share(&decision, 1).abs() < 1e-9,
            "the other pair is none of its business"
        );
        sicken(&mut rig);
        assert!((share(&rig.ticks(60), 0) - 0.05).abs() < 1e-9);
        rig.engine.guide(
            0,
            Guidance {
                directed: Some(Share::ZERO),
                ..Guidance::NONE
            },
        );
        assert!(
            share(&rig.tick(), 0).abs() < 1e-9,
            "a rollback is done in one tick"
        );
    }

    #[test]
    fn users_stay_away_from_a_sick_primary_whose_share_is_set_no_longer_and_come_back_on_proof() {
        let mut rig = guided(Guidance {
            directed: Some(Share::ONE),
            ..Guidance::NONE
        });
        sicken(&mut rig);
        let _ = rig.ticks(60);
        // Without users it shows nothing, and silence is not recovery. The shadow's answers go on.
        rig.seen[0] = Assessment {
            terms: Vec::new(),
            ..known(0.9)
        };
        rig.seen[2].tick = tick(10, 0, 1.0);
        let _ = rig.ticks(60);
        rig.engine.guide(0, Guidance::NONE);
        for _ in 0..30 {
            let decision = rig.tick();
            assert!(share(&decision, 0) > 0.9, "{:?}", shift(&decision, 0));
        }
        let mut tried = false;
        for _ in 0..6000 {
            let decision = rig.tick();
            let back = 1.0 - share(&decision, 0);
            tried |= back > 0.0 && back < 0.5;
            // Whoever comes is served well.
            rig.seen[0] = match back > 0.0 {
                true => Assessment {
                    rps: 100.0 * back,
                    tick: tick(10, 0, 1.0),
                    ..known(0.0)
                },
                false => known(0.9),
            };
            if back >= 1.0 {
                break;
            }
        }
        assert!(tried && share(&rig.tick(), 0) < 0.01);
    }

    #[test]
    fn a_set_share_gives_way_to_a_failover_and_holds_again_after_the_proof() {
        let mut rig = guided(Guidance {
            directed: Some(Share::clamped(0.3)),
            ..Guidance::NONE
        });
        rig.ticks(5);
        rig.kill(0);
        let decision = rig.tick();
        assert!(share(&decision, 0) > 0.9);
        assert_eq!(shift(&decision, 0).phase, Phase::FailOver);
        // Alive and well, as its probes and a few users find.
        rig.seen[0] = known(0.0);
        rig.seen[0].rps = 100.0;
        rig.seen[0].p50_us = 5_000;
        rig.seen[0].tick = tick(40, 0, 1.0);
        let mut lowest: f64 = 1.0;
        for _ in 0..6_000 {
            let decision = rig.tick();
            lowest = lowest.min(share(&decision, 0));
            if shift(&decision, 0).phase == Phase::Directed {
                assert!((share(&decision, 0) - 0.3).abs() < 1e-9);
                assert!((lowest - 0.3).abs() < 1e-9, "never below what is set: {lowest}");
                return;
            }
        }
        panic!("the failover never ended");
    }

    #[test]
    fn what_is_set_is_bounded_by_the_capacity_that_is_configured() {
        let mut small = spec(2);
        // Filled to eight tenths: 40 of the 100 requests per second.
        small.endpoints[2].capacity_rps = Some(50.0);
        let mut rig = Rig::new(small);
        rig.ticks(10);
        rig.engine.guide(
            0,
            Guidance {
                directed: Some(Share::ONE),
                ..Guidance::NONE
            },
        );
        let decision = rig.tick();
        assert!(
            (share(&decision, 0) - 0.4).abs() < 0.01,
            "{}",
            share(&decision, 0)
        );
        assert_eq!(shift(&decision, 0).bound, Bound::ShadowCapacity);
    }

    #[test]
    fn what_is_set_does_not_waver_when_the_shadow_slows_down() {
        let mut rig = guided(Guidance {
            directed: Some(Share::clamped(0.5)),
            ..Guidance::NONE
        });
        rig.seen[2] = Assessment {
            rps: 50.0,
            tick: tick(20, 0, 3.0),
            ..known(0.4)
        };
        for _ in 0..50 {
            assert!((share(&rig.tick(), 0) - 0.5).abs() < 1e-9);
        }
    }

    #[test]
    fn frozen_shares_stay_and_the_dead_are_left_all_the_same() {
        let mut rig = guided(Guidance {
            frozen: true,
            ..Guidance::NONE
        });
        sicken(&mut rig);
        let decision = rig.ticks(60);
        assert!(share(&decision, 0).abs() < 1e-9, "{}", share(&decision, 0));
        rig.kill(0);
        assert!(share(&rig.tick(), 0) > 0.9);
    }

    #[test]
    fn shares_that_were_moved_before_a_freeze_stay_too() {
        let mut rig = guided(Guidance::NONE);
        sicken(&mut rig);
        let moved = share(&rig.ticks(60), 0);
        assert!(moved > 0.9);
        rig.engine.guide(
            0,
            Guidance {
                frozen: true,
                ..Guidance::NONE
            },
        );
        rig.seen[0] = known(0.0);
        rig.seen[0].tick = tick(10, 0, 1.0);
        let decision = rig.ticks(600);
        assert!((share(&decision, 0) - moved).abs() < 1e-9);
        assert_eq!(shift(&decision, 0).bound, Bound::Plan);
    }

    #[test]
    fn where_failover_is_denied_nobody_goes_to_the_shadow_of_a_dead_primary() {
        let denied = Guidance {
            ceiling: Share::ZERO,
            failover: false,
            ..Guidance::NONE
        };
        let mut rig = guided(denied);
        rig.kill(0);
        let decision = rig.ticks(20);
        assert!(share(&decision, 0).abs() < 1e-9);
        assert!(!shift(&decision, 0).failover);
        rig.engine.guide(0, Guidance::NONE);
        assert!(share(&rig.tick(), 0) > 0.9);
    }

    #[test]
    fn an_operator_at_the_proxy_stands_above_the_plan_and_the_configurations_switch_above_both() {
        let mut off = spec(2);
        off.shift.enabled = false;
        let mut rig = Rig::new(off);
        rig.engine.guide(
            0,
            Guidance {
                directed: Some(Share::ONE),
                ..Guidance::NONE
            },
        );
        assert!(share(&rig.ticks(3), 0).abs() < 1e-9);
        let mut rig = guided(Guidance {
            directed: Some(Share::ONE),
            ..Guidance::NONE
        });
        rig.engine
            .handle_override(super::super::Override {
                endpoint: 0,
                setting: super::super::Setting::Share(Share::clamped(0.2)),
                reason: "by hand".to_owned(),
                expires: crate::moment::Moment::ZERO + super::super::OVERRIDE_MAX,
            })
            .unwrap();
        assert!((share(&rig.tick(), 0) - 0.2).abs() < 1e-9);
    }

    #[test]
    fn only_a_primary_with_a_shadow_can_be_guided() {
        let mut rig = Rig::new(spec(2));
        assert!(!rig.engine.guide(2, Guidance::NONE));
        assert!(!rig.engine.guide(9, Guidance::NONE));
    }
}
