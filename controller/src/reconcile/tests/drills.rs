//! Drills as they are written down: each with a number of its own, begun once, and ended.

use foreshade_engine::lifecycle::drill::Scenario;
use foreshade_engine::lifecycle::policy::{Policy, Times};

use super::*;
use crate::journal::DrillRecord;

/// A drill that ends at its first tick: nothing is reached in it.
fn short() -> Spec {
    let mut spec = spec();
    let times = Times {
        drill_max: Duration::from_millis(1),
        ..Times::default()
    };
    spec.pairs[0].policy = Arc::new(Policy {
        times,
        ..Policy::default()
    });
    spec
}

fn drill(key: &str) -> Order {
    Order {
        command: Command::Drill {
            scenario: Scenario::ShadowWorse,
        },
        ..order(key)
    }
}

async fn warm(spec: Spec) -> Play {
    let mut play = Play::of(spec).await;
    play.until(((250, 1), (0, 0)), 200, |state| matches!(state, State::Warm(_)))
        .await;
    play
}

/// Gives orders, and ticks until they are answered and what they began has ended.
async fn give(play: &mut Play, orders: &[Order]) {
    for order in orders {
        play.reconciler.order(&play.id, order.clone()).unwrap();
    }
    for _ in 0..4 {
        play.tick((250, 1), (0, 0)).await;
    }
}

fn drills(play: &Play) -> Vec<DrillRecord> {
    play.view().drills.iter().cloned().collect()
}

#[tokio::test]
async fn two_drills_that_find_the_same_both_end() {
    let mut play = warm(short()).await;
    for key in ["k1", "k2"] {
        give(&mut play, &[drill(key)]).await;
    }
    let reports: Vec<_> = drills(&play)
        .into_iter()
        .map(|drill| drill.ended.map(|(_, report)| report))
        .collect();
    let [Some(first), Some(second)] = reports.as_slice() else {
        panic!("{reports:?}")
    };
    assert_eq!(first, second, "they would not have been mistaken for each other");
}

#[tokio::test]
async fn an_order_that_is_answered_again_begins_no_drill() {
    let mut play = warm(short()).await;
    give(&mut play, &[drill("k1")]).await;
    let before = drills(&play);
    assert_eq!(before.len(), 1);
    give(&mut play, &[drill("k1")]).await;
    assert_eq!(drills(&play), before);
    // Nor does it lend its name to the one that another order begins in the same step.
    let other = Order {
        actor: "she".to_owned(),
        ..drill("k2")
    };
    give(&mut play, &[drill("k1"), other]).await;
    let actors: Vec<_> = drills(&play).into_iter().map(|drill| drill.actor).collect();
    assert_eq!(actors, ["me", "she"]);
}

#[tokio::test]
async fn drills_of_one_tick_have_numbers_of_their_own_and_a_restart_goes_on_from_them() {
    let mut spec = short();
    let mut second = spec.pairs[0].clone();
    second.id.primary = name("b");
    second.shadow = Some(name("b-standby"));
    spec.pairs.push(second.clone());
    let mut play = warm(spec).await;
    // Nobody reports on the second; it is warm as its store says.
    let mut warm = play.view().pair.clone();
    (warm.id, warm.shadow) = (second.id.clone(), second.shadow.clone());
    play.reconciler.pairs.get_mut(&second.id).unwrap().kept.pair = warm;
    for id in [pair(), second.id.clone()] {
        play.reconciler.order(&id, drill("k1")).unwrap();
    }
    play.tick((250, 1), (0, 0)).await;
    let first = drills(&play)[0].id;
    let other = play.reconciler.view(&second.id).unwrap().drills[0].id;
    assert_eq!(other, first + 1);
    give(&mut play, &[]).await;
    play.crash().await;
    // The wall has been set back meanwhile.
    play.tick -= 5;
    give(&mut play, &[drill("k2")]).await;
    assert!(drills(&play)[1].id > other, "{:?}", drills(&play));
}
