//! Ten minutes without a controller, or without a place to write: whatever a pair was doing, the proxies go on as they were
//! told, and whoever leads afterwards takes nothing back that was done.

use foreshade_contract::Arm;
use foreshade_engine::lifecycle::state::{State, Warm};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::matrix::{ALONE, PROMOTE, WELL};
use super::world::{Weather, World};

/// Ten minutes.
const OUTAGE: u64 = 10 * 60 * 4;

/// Ticks in which a promotion comes to its end, twice over.
const LIFE: u64 = 400;

/// The outage comes at a tick that the seed draws: before the shift, in any part of it, or after it.
async fn live(seed: u64, is_full: bool) -> (State, State) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(ALONE, None).await;
    world.failing = WELL;
    let pair = world.pairs().remove(0);
    let (mut is_ordered, begins) = (false, rng.random_range(1..120));
    let mut during = None;
    for tick in 0..LIFE {
        world.tick(Weather::default).await;
        if world.state(&pair) == State::Warm(Warm::Idle) && !is_ordered {
            is_ordered = true;
            world.order(&pair, PROMOTE, "the order");
        }
        if tick != begins {
            continue;
        }
        let before = world.reign.reconciler.view(&pair).unwrap().pair.clone();
        during = Some(before.state);
        if is_full {
            world.with_a_full_disk(OUTAGE).await;
        } else {
            world.without_a_leader(OUTAGE).await;
        }
        // What was told to nobody yet may be told now. Nothing is taken back.
        for _ in 0..8 {
            world.tick(Weather::default).await;
            let after = world.reign.reconciler.view(&pair).unwrap().pair.clone();
            let is_demoted = before.serving == Arm::Shadow && after.serving == Arm::Primary;
            assert!(!is_demoted, "seed {seed}: demoted");
            let share = |pair: &foreshade_engine::lifecycle::Pair| match pair.serving {
                Arm::Shadow => 1.0,
                Arm::Primary => pair.share.fraction(),
            };
            assert!(
                share(&after) >= share(&before) - 1e-9,
                "seed {seed}: {} to {} in {}, after {}",
                share(&before),
                share(&after),
                after.state,
                before.state
            );
        }
    }
    assert!(world.orders.is_empty(), "seed {seed}: an order was lost");
    (during.unwrap(), world.state(&pair))
}

async fn live_all(is_full: bool, seeds: u64, least: usize) {
    let mut states = std::collections::BTreeSet::new();
    for seed in 0..seeds {
        let (during, end) = live(seed, is_full).await;
        states.insert(during.to_string());
        assert_eq!(end, State::Committed, "seed {seed}, in {during}");
    }
    // It came in all that takes time.
    assert!(states.len() >= least, "{states:?}");
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_without_a_controller_demote_nobody_and_lose_nothing() {
    live_all(false, 32, 4).await;
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_with_a_full_disk_demote_nobody_and_lose_nothing() {
    live_all(true, 8, 3).await;
}
