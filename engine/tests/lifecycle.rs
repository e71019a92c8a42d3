//! The life of a pair from outside: what a controller does with it, in as little as it takes.
//!
//! What the laws promise is tested beside them; this is about what can be said and read from another crate.
// Concept: endpoint-shadow-choice, topo-switchover
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use foreshade_contract::{Arm, Epoch, Name, PairId, Share};
use foreshade_engine::lifecycle::command::{Command, Order, Outcome};
use foreshade_engine::lifecycle::effect::Effect;
use foreshade_engine::lifecycle::health::Health;
use foreshade_engine::lifecycle::policy::Policy;
use foreshade_engine::lifecycle::sight::{Acks, ArmHealth, ArmSight, Bake, Finding, Opinion, Sight};
use foreshade_engine::lifecycle::state::State;
use foreshade_engine::lifecycle::{Mode, Pair, Step};
use foreshade_engine::placement::{Candidate, Need, Place, PlacementPolicy, Site, choose};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn candidate(text: &str, latitude: f64, longitude: f64) -> Candidate {
    Candidate {
        name: name(text),
        place: Place {
            site: Some(Site::new(latitude, longitude).unwrap()),
            ..Place::default()
        },
        latency: None,
        spare_rps: None,
        cost: None,
        fit: true,
        taken_by: None,
    }
}

fn choose_shadow() -> Name {
    let primary = Place {
        site: Some(Site::new(53.35, -6.26).unwrap()),
        ..Place::default()
    };
    let need = Need {
        primary: &primary,
        name: &name("a"),
        demand_rps: 500.0,
        current: None,
    };
    let candidates = [candidate("near", 53.4, -6.2), candidate("far", 59.33, 18.07)];
    choose(&need, &candidates, &PlacementPolicy::default())
        .shadow
        .unwrap()
}

/// What the controller would gather: the chosen shadow, two healthy arms, a judge who has nothing against it.
fn sight(shadow: &Name, pair: &Pair, acks: Acks) -> Sight {
    let well = ArmSight {
        health: ArmHealth::Well,
        ..ArmSight::default()
    };
    Sight {
        epoch: Epoch(1),
        placement: Some(shadow.clone()),
        arms: [well; 2],
        acks,
        bake: Bake {
            alarm: false,
            requests: 10_000,
        },
        finding: Some(Finding {
            round: pair.round,
            opinion: Opinion::NotWorse,
            step_enough: true,
            ..Finding::default()
        }),
        ..Sight::default()
    }
}

#[test]
fn a_chosen_shadow_is_promoted_through_a_restart_after_every_step() {
    let shadow = choose_shadow();
    assert_eq!(shadow, name("far"));
    let id = PairId {
        cluster: name("shop"),
        primary: name("a"),
    };
    let order = Order {
        command: Command::Promote { full: false },
        actor: "ada".to_owned(),
        reason: "release 7".to_owned(),
        key: "one".to_owned(),
        expected: None,
    };
    let policy = Policy::default();
    let mut kept = serde_json::to_string(&Pair::new(id, Mode::Live)).unwrap();
    let mut acks = Acks::default();
    let mut journal = Vec::new();
    let mut orders = Vec::new();
    for now_s in 0u64.. {
        let pair: Pair = serde_json::from_str(&kept).unwrap();
        if pair.state == State::Committed {
            break;
        }
        let Step {
            pair,
            transition,
            effects,
            plan,
            answers,
            ..
        } = pair.step(&sight(&shadow, &pair, acks), &orders, &policy, now_s * 1000);
        kept = serde_json::to_string(&pair).unwrap();
        journal.extend(transition);
        if let [answer] = answers.as_slice() {
            assert_eq!(answer.outcome, Outcome::Done);
        }
        orders = if now_s == 10 {
            vec![order.clone()]
        } else {
            Vec::new()
        };
        for effect in effects {
            if let Effect::Publish { generation } = effect {
                assert!(plan.as_ref().is_some_and(|plan| plan.shadow == shadow));
                acks = Acks {
                    quorum: generation,
                    all: generation,
                };
            }
        }
        assert!(now_s < 10_000, "stuck in {}", pair.state);
    }
    let pair: Pair = serde_json::from_str(&kept).unwrap();
    assert_eq!((pair.serving, pair.health()), (Arm::Shadow, Health::Healthy));
    assert_eq!(pair.plan(&policy).unwrap().ceiling, Share::ONE);
    let last = journal.last().unwrap().to_string();
    assert_eq!(
        last,
        "shop/a Baking -> Committed: 10000 requests and 10 min without an alarm"
    );
}
