//! The product: `engine::verdict`, told of every tick, and the lifecycle's least stay in a step.

use std::time::Duration;

use foreshade_engine::moment::Moment;
use foreshade_engine::verdict::{Interval, Judge as Engine, JudgePolicy, Verdict, WeightRange};

use super::stream::Tick;
use super::{Decision, Judge};

/// No step is shorter than this, however good the evidence.
const DWELL_S: f64 = 10.0;

/// The engine's judge.
#[derive(Debug)]
pub struct Ours {
    /// None where the policy cannot be followed: then it never decides.
    engine: Option<Engine>,
}

impl Ours {
    /// As it ships.
    pub fn shipped() -> Self {
        Self::under(&JudgePolicy::default())
    }

    /// With bursts collapsed.
    pub fn robust() -> Self {
        Self::under(&JudgePolicy::default().robust())
    }

    fn under(policy: &JudgePolicy) -> Self {
        Self {
            engine: Engine::new(policy).ok(),
        }
    }
}

impl Judge for Ours {
    fn observe(&mut self, tick: &Tick) -> Option<Decision> {
        let engine = self.engine.as_mut()?;
        let [p50, p90, p99, p999, _] = tick.over;
        let at = Moment::ZERO + Duration::from_secs_f64(tick.at_s);
        let interval = Interval {
            weight: WeightRange::exactly(tick.share),
            is_of_step: true,
            exposures: tick.requests,
            events: &[tick.failures, p50, p90, p99, p999],
        };
        engine.observe(at, &interval).ok()?;
        match engine.verdict() {
            Verdict::Worse => Some(Decision::RollBack),
            Verdict::NotWorse if tick.at_s >= DWELL_S => Some(Decision::Promote),
            Verdict::NotWorse | Verdict::Undecided => None,
        }
    }
}
