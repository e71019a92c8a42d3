//! What a shift remembers between episodes, so that it does not move users back and forth for ever.
//!
//! Overload is the dangerous case: moving traffic away cures the symptom, the risk falls, traffic returns, the
//! overload returns. Each relapse doubles the hold before the next return, so that reversals in a time T grow with log
//! T. And the share at which the relapse came is remembered (as TCP remembers `ssthresh`): the next return stops short
//! of it, stays there for some minutes, and feels its way down while the memory fades.

use std::time::Duration;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::moment::Moment;
use crate::spec::ShiftPolicy;

/// A relapse within this time after a return counts as one, and is forgotten in as much time again.
const RELAPSE_WINDOW: Duration = Duration::from_secs(600);

/// Doublings of the hold that are counted; `hold_max` binds long before.
const RELAPSES_MAX: u32 = 16;

/// How far above the share of the relapse the next return stops: a relapse is seen one or two seconds late.
pub(super) const MARGIN: f64 = 0.10;

/// How long the remembered share stays as it is: what has lost capacity rarely finds it again within minutes, and each
/// try takes users there and back.
const FLOOR_KEPT: Duration = Duration::from_secs(300);

/// Time in which it loses half of itself then.
const FLOOR_HALF_LIFE: Duration = Duration::from_secs(60);

/// The memory of one shift.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    relapses: u32,
    /// From when on the relapses are forgotten.
    counted_at: Moment,
    released: Option<Moment>,
    floor: f64,
    floor_at: Moment,
}

impl Memory {
    /// An episode begins. Soon after the last one it is a relapse.
    pub(super) fn engaged(&mut self, now: Moment) {
        if self.released.is_some_and(|at| now.since(at) < RELAPSE_WINDOW) {
            self.count(now);
        }
    }

    /// All traffic is back.
    pub(super) fn released(&mut self, now: Moment) {
        self.released = Some(now);
    }

    /// The primary failed again on its way back, at this share.
    pub(super) fn relapsed(&mut self, now: Moment, share: f64) {
        self.count(now);
        self.floor = (share + MARGIN).min(1.0);
        self.floor_at = now;
    }

    /// How long to wait before traffic is tried on the primary again: doubled per relapse, and spread by a fifth, so
    /// that many proxies do not try at once.
    pub(super) fn hold(&self, now: Moment, policy: &ShiftPolicy, rng: &mut (impl Rng + ?Sized)) -> Duration {
        let doubled = policy.hold.as_secs_f64() * f64::from(self.relapses(now)).exp2();
        let hold = doubled.min(policy.hold_max.as_secs_f64());
        Duration::from_secs_f64(hold * rng.random_range(0.8..1.2))
    }

    /// The share below which a return does not go for now.
    pub(super) fn floor(&self, now: Moment, policy: &ShiftPolicy) -> f64 {
        let fading = now.since(self.floor_at).saturating_sub(FLOOR_KEPT);
        let age = fading.as_secs_f64() / FLOOR_HALF_LIFE.as_secs_f64();
        let floor = self.floor * (-age).exp2();
        if floor < policy.canary.value() { 0.0 } else { floor }
    }

    /// The share at and below which the next return goes slowly, because it failed near there before.
    pub(super) fn caution(&self, now: Moment) -> f64 {
        if self.relapses(now) > 0 { self.floor } else { 0.0 }
    }

    /// Whether there is nothing left to remember.
    pub(super) fn is_blank(&self, now: Moment) -> bool {
        let over = |at: Moment| now.since(at) >= RELAPSE_WINDOW;
        self.relapses(now) == 0 && self.released.is_none_or(over)
    }

    fn relapses(&self, now: Moment) -> u32 {
        let forgotten = now.since(self.counted_at).as_secs() / RELAPSE_WINDOW.as_secs();
        self.relapses
            .saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }

    fn count(&mut self, now: Moment) {
        self.relapses = (self.relapses(now) + 1).min(RELAPSES_MAX);
        self.counted_at = now;
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn each_relapse_doubles_the_hold_up_to_its_limit() {
        let policy = ShiftPolicy::default();
        let mut rng = StdRng::seed_from_u64(1);
        let mut memory = Memory::default();
        for expected in [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0] {
            let hold = memory.hold(at(0), &policy, &mut rng).as_secs_f64();
            assert!(
                (0.8 * expected..1.2 * expected).contains(&hold),
                "{hold} for {expected}"
            );
            memory.relapsed(at(0), 0.5);
        }
    }

    #[test]
    fn relapses_are_forgotten_one_by_one() {
        let mut memory = Memory::default();
        memory.engaged(at(0));
        assert_eq!(memory.relapses(at(0)), 0);
        memory.released(at(10));
        memory.engaged(at(100));
        memory.released(at(110));
        memory.engaged(at(200));
        assert_eq!(memory.relapses(at(200)), 2);
        assert_eq!(memory.relapses(at(801)), 1);
        assert_eq!(memory.relapses(at(5000)), 0);
    }

    #[test]
    fn the_share_of_a_relapse_is_kept_and_then_fades() {
        let policy = ShiftPolicy::default();
        let mut memory = Memory::default();
        memory.relapsed(at(0), 0.35);
        for (second, floor) in [(0, 0.45), (300, 0.45), (360, 0.225), (600, 0.0)] {
            let found = memory.floor(at(second), &policy);
            assert!((found - floor).abs() < 1e-9, "{found} after {second} s");
        }
    }
}
