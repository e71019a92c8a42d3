//! Drills as they are written down: each with a number of its own, begun once, and ended.

use foreshade_engine::lifecycle::drill::Scenario;
use foreshade_engine::lifecycle::policy::{Policy, Times};

use super::*;
use crate::config::window::{Clock, Window};
use crate::journal::{DRILLS_MAX, DrillRecord};
use crate::timetable::Entry;

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

#[tokio::test]
async fn drills_of_one_failure_do_not_push_out_the_last_one_of_another() {
    let mut play = warm(short()).await;
    give(&mut play, &[drill("k0")]).await;
    for n in 1..=2 * DRILLS_MAX {
        let other = Command::Drill {
            scenario: Scenario::PrimaryGone,
        };
        let other = Order {
            command: other,
            ..order(&format!("k{n}"))
        };
        give(&mut play, &[other]).await;
    }
    let drills = drills(&play);
    assert_eq!(drills.len(), DRILLS_MAX);
    assert_eq!(drills[0].scenario, Scenario::ShadowWorse);
    assert!(drills.is_sorted_by_key(|drill| drill.id), "{drills:?}");
    let gone = &drills[1..];
    assert!(
        gone.iter()
            .all(|drill| drill.scenario == Scenario::PrimaryGone && drill.ended.is_some())
    );
}

/// Half an hour of the wall in one tick: what proxies said is said again in each.
async fn half_an_hour(play: &mut Play) {
    play.tick += 7200;
    play.tick((250, 1), (0, 0)).await;
}

/// A pair with a daily drill that may begin from ten to twelve in the morning, and a second one beside it.
async fn daily() -> Play {
    let mut spec = short();
    let hours = |from: u64, to: u64| Window {
        days: Vec::new(),
        dates: Vec::new(),
        from: Clock(60 * from),
        to: Clock(60 * to),
        reason: None,
    };
    let mut second = spec.pairs[0].clone();
    second.id.primary = name("b");
    second.shadow = Some(name("b-standby"));
    let entry = Entry {
        scenario: Scenario::ShadowWorse,
        every: Duration::from_secs(86_400),
        within: vec![hours(10, 12)],
    };
    spec.pairs[0].timetable = Arc::new(vec![entry]);
    spec.pairs[0].windows = vec![hours(11, 13)];
    spec.pairs.push(second);
    warm(spec).await
}

const DAY_MS: u64 = 86_400_000;

/// The tick of the quarter past ten on the first morning.
const MORNING: u64 = (12 * 3600 + 100) * 4;

#[tokio::test]
async fn a_new_leader_drills_no_pair_of_which_it_has_heard_nothing() {
    let mut play = daily().await;
    play.tick = MORNING;
    play.crash().await;
    for _ in 0..20 {
        play.quiet().await;
    }
    assert_eq!(drills(&play), []);
    give(&mut play, &[]).await;
    give(&mut play, &[]).await;
    let [drill] = &drills(&play)[..] else {
        panic!("one drill, and not {:?}", drills(&play))
    };
    assert_eq!(drill.started_ms % DAY_MS / 3_600_000, 10);
}

#[tokio::test]
async fn a_timetable_drills_once_a_day_within_its_hours_and_a_restart_does_not_repeat_it() {
    let mut play = daily().await;
    for half_hour in 0..5 * 48 {
        if half_hour % 31 == 0 {
            play.crash().await;
        }
        half_an_hour(&mut play).await;
        give(&mut play, &[]).await;
    }
    let drills = drills(&play);
    assert!((4..=5).contains(&drills.len()), "{drills:?}");
    for drill in &drills {
        assert_eq!(drill.actor, "timetable");
        // After eleven nothing may begin.
        let hour = drill.started_ms % DAY_MS / 3_600_000;
        assert_eq!(hour, 10, "{drill:?}");
        assert!(drill.ended.is_some());
    }
    let days = drills.iter().map(|drill| drill.started_ms / DAY_MS);
    let days: std::collections::BTreeSet<_> = days.collect();
    assert_eq!(days.len(), drills.len(), "{drills:?}");
    let [(_, _, Some(next))] = play.view().timetable(play.at().wall_ms).collect::<Vec<_>>()[..] else {
        panic!("one entry, and a next time")
    };
    assert_eq!(next % DAY_MS / 3_600_000, 10);
}

#[tokio::test]
async fn no_timetable_drills_while_another_pair_is_in_trouble_or_its_own_is_frozen() {
    let other = |play: &mut Play, state: State| {
        let mut id = pair();
        id.primary = name("b");
        play.reconciler.pairs.get_mut(&id).unwrap().kept.pair.state = state;
    };
    let mut play = daily().await;
    for _ in 0..2 * 48 {
        other(&mut play, State::FailedOver);
        half_an_hour(&mut play).await;
    }
    assert_eq!(drills(&play), []);
    other(&mut play, State::Unassigned);
    let freeze = Order {
        command: Command::Freeze,
        ..order("f1")
    };
    give(&mut play, &[freeze]).await;
    for _ in 0..2 * 48 {
        half_an_hour(&mut play).await;
    }
    assert_eq!(drills(&play), []);
    let unfreeze = Order {
        command: Command::Unfreeze,
        ..order("f2")
    };
    give(&mut play, &[unfreeze]).await;
    for _ in 0..2 * 48 {
        half_an_hour(&mut play).await;
        give(&mut play, &[]).await;
    }
    assert!(!drills(&play).is_empty());
}
