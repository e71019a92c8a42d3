//! The leader dies at each write of each life, before it, after it, and once everybody was told; the next one comes to the
//! same end.

use foreshade_contract::Arm;
use foreshade_engine::lifecycle::command::Command;
use foreshade_engine::lifecycle::drill::Scenario;
use foreshade_engine::lifecycle::state::{Shifting, State, Warm};

use super::super::*;
use super::mortal::Dies;
use super::world::{Weather, World};

/// Ticks of a life at most: the longest takes a quarter of these without a crash.
const TICKS_MAX: u64 = 600;

/// Whether a pair stands where the next order is for.
type When = fn(State) -> bool;

/// A story: what is wrong with the shadows, who orders what when, and when it is over.
struct Life {
    config: &'static str,
    /// Failures per thousand requests, by arm.
    failing: [u64; 2],
    /// Each order is given to every pair once all of them are in such a state, after the one before.
    orders: &'static [(When, Command)],
    ends: fn(&Pair) -> bool,
}

/// Short times, so that a life is a hundred ticks; nothing else is unlike what is shipped.
pub(super) const ALONE: &str = "
apiVersion: foreshade/v1
controller:
  policies:
    - name: default
      steps: [10%, 50%, 100%]
      times: { stepMin: 500ms, bake: 2s, bakeMax: 60s, drillMax: 60s }
      flaps: { cooldown: 1h }
      bakeRequests: 1000
      verdict: { failures: { tolerance: 1.25, margin: 2, ceiling: 2%, weight: 0.4 }, warmUp: { requests: 100, span: 1s } }
clusters:
  - name: shop
    endpoints: [{ name: a, address: '127.0.0.1:1', shadow: a-standby }]
    shadows: [{ name: a-standby, address: '127.0.0.1:2' }]
";

const TWO: &str = "
apiVersion: foreshade/v1
controller:
  policies:
    - name: default
      steps: [10%, 50%, 100%]
      times: { stepMin: 500ms, bake: 2s, bakeMax: 60s }
      flaps: { cooldown: 1h }
      bakeRequests: 1000
      verdict: { failures: { tolerance: 1.25, margin: 2, ceiling: 2%, weight: 0.4 }, warmUp: { requests: 100, span: 1s } }
  groups: [{ name: both, pairs: [shop/a, shop/b] }]
clusters:
  - name: shop
    endpoints:
      - { name: a, address: '127.0.0.1:1', shadow: a-standby }
      - { name: b, address: '127.0.0.1:3', shadow: b-standby }
    shadows: [{ name: a-standby, address: '127.0.0.1:2' }, { name: b-standby, address: '127.0.0.1:4' }]
";

pub(super) const WELL: [u64; 2] = [1, 1];
pub(super) const BAD_SHADOW: [u64; 2] = [1, 300];

fn is_warm(state: State) -> bool {
    state == State::Warm(Warm::Idle)
}

fn is_shifting(state: State) -> bool {
    matches!(state, State::Shifting(Shifting::Advancing | Shifting::Holding))
}

fn is_frozen(state: State) -> bool {
    state == State::Frozen
}

pub(super) const PROMOTE: Command = Command::Promote { full: false };
const DRILL: Command = Command::Drill {
    scenario: Scenario::PrimaryGone,
};

impl Life {
    /// Lives it, and says how it ended: for each pair where it stands, who serves, and how it came there.
    async fn live(&self, dies: Option<Dies>) -> (Vec<(State, Arm, Vec<State>)>, u64) {
        let mut world = World::new(self.config, dies).await;
        world.failing = self.failing;
        let (pairs, mut given) = (world.pairs(), 0);
        for _ in 0..TICKS_MAX {
            world.tick(Weather::default).await;
            let stands = |is: fn(State) -> bool| pairs.iter().all(|pair| is(world.state(pair)));
            if let Some((when, command)) = self.orders.get(given)
                && world.orders.is_empty()
                && stands(*when)
            {
                for pair in &pairs {
                    let key = format!("order {given} to {pair}");
                    world.order(pair, command.clone(), &key);
                }
                given += 1;
            }
            let over = |pair| {
                world
                    .reign
                    .reconciler
                    .view(pair)
                    .is_some_and(|view| (self.ends)(view.pair))
            };
            if given == self.orders.len() && world.orders.is_empty() && pairs.iter().all(over) {
                break;
            }
        }
        world.check_audit().await;
        let mut ends = Vec::new();
        for pair in &pairs {
            let view = world.reign.reconciler.view(pair).unwrap().pair;
            assert!((self.ends)(view), "{pair} is {} after all, {dies:?}", view.state);
            ends.push((view.state, view.serving, world.path(pair).await));
        }
        (ends, world.writes())
    }

    async fn dies_at_each_write(&self) {
        let (whole, writes) = self.live(None).await;
        assert!(writes > 3, "{writes}");
        for write in 1..=writes {
            for dies in [Dies::Before(write), Dies::After(write), Dies::Told(write)] {
                let (crashed, _) = self.live(Some(dies)).await;
                assert_eq!(crashed, whole, "{dies:?} of {writes}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_promotion_ends_alike_wherever_the_leader_dies() {
    let life = Life {
        config: ALONE,
        failing: WELL,
        orders: &[(is_warm, PROMOTE)],
        ends: |pair| pair.state == State::Committed,
    };
    life.dies_at_each_write().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_ends_alike_wherever_the_leader_dies() {
    let life = Life {
        config: ALONE,
        failing: BAD_SHADOW,
        orders: &[(is_warm, PROMOTE)],
        ends: |pair| pair.state == State::Failed,
    };
    life.dies_at_each_write().await;
}

#[tokio::test(start_paused = true)]
async fn a_drill_ends_alike_wherever_the_leader_dies() {
    let life = Life {
        config: ALONE,
        failing: WELL,
        orders: &[(is_warm, DRILL)],
        ends: |pair| pair.last_drill.is_some(),
    };
    life.dies_at_each_write().await;
}

#[tokio::test(start_paused = true)]
async fn a_freeze_in_between_ends_alike_wherever_the_leader_dies() {
    let life = Life {
        config: ALONE,
        failing: WELL,
        orders: &[
            (is_warm, PROMOTE),
            (is_shifting, Command::Freeze),
            (is_frozen, Command::Unfreeze),
        ],
        ends: |pair| pair.state == State::Committed,
    };
    life.dies_at_each_write().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_moves_as_one_wherever_the_leader_dies() {
    let life = Life {
        config: TWO,
        failing: WELL,
        orders: &[(is_warm, PROMOTE)],
        ends: |pair| pair.state == State::Committed,
    };
    life.dies_at_each_write().await;
}
