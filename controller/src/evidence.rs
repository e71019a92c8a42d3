//! From what proxies counted to what the judge says: one pair's evidence, in its present round.
//!
//! The judge compares the arm that does not serve with the one that does, whichever of the two the configuration calls the
//! primary. A new round begins with a new judge; a larger share is another step before the same one. After a promotion
//! nobody is left to compare with, and a detector of change takes over, with what the judge has learned for its ceilings.

use foreshade_contract::report::ArmCounters;
use foreshade_contract::{Arm, Round};
use foreshade_engine::lifecycle::Pair;
use foreshade_engine::lifecycle::points::BasisPoints;
use foreshade_engine::lifecycle::sight::{Bake as BakeSight, Finding, Opinion};
use foreshade_engine::lifecycle::state::State;
use foreshade_engine::moment::Moment;
use foreshade_engine::verdict::bake::{Bake, BakePolicy, BakeState};
use foreshade_engine::verdict::{
    Explanation, Interval, Judge, JudgePolicy, Metric, PolicyError, State as JudgeState, Verdict,
};

use crate::fleet::Batch;

/// What is known for and against one shadow.
#[derive(Clone, Debug)]
pub struct Evidence {
    judge: Judge,
    round: Round,
    step: usize,
    bake: Option<Bake>,
    /// Requests that a promoted arm has served since it is watched.
    served: u64,
    /// Something was counted since it was last written down.
    unsaved: bool,
}

impl Evidence {
    /// Nothing yet.
    ///
    /// # Errors
    /// When the policy cannot be followed.
    pub fn new(policy: &JudgePolicy, pair: &Pair) -> Result<Self, PolicyError> {
        Ok(Self {
            judge: Judge::new(policy)?,
            round: pair.round,
            step: pair.course.step,
            bake: None,
            served: 0,
            unsaved: false,
        })
    }

    /// Goes on from what was written down. What does not fit the policy any more is left out, and said so: evidence that was
    /// counted under other tolerances proves nothing under these.
    ///
    /// # Errors
    /// When the policy cannot be followed.
    pub fn resume(
        policy: &JudgePolicy,
        pair: &Pair,
        judge: Option<JudgeState>,
        bake: Option<(BakePolicy, BakeState)>,
    ) -> Result<Self, PolicyError> {
        let mut evidence = Self::new(policy, pair)?;
        if let Some(state) = judge {
            match Judge::resume(policy, state) {
                Ok(judge) => evidence.judge = judge,
                Err(error) => {
                    tracing::warn!(pair = %pair.id, %error, "the evidence of this round begins anew")
                }
            }
        }
        if let Some((policy, state)) = bake {
            match Bake::resume(policy, state) {
                Ok(bake) => evidence.bake = Some(bake),
                Err(error) => {
                    tracing::warn!(pair = %pair.id, %error, "the watch after the promotion begins anew")
                }
            }
        }
        Ok(evidence)
    }

    /// Takes what was counted since the last tick.
    pub fn learn(&mut self, pair: &Pair, batches: &[Batch], now: Moment) {
        self.follow(pair);
        for batch in batches {
            self.unsaved = true;
            let arms = in_order(pair.serving, &batch.arms);
            if is_watched(pair) {
                let [serving, _] = arms;
                self.served = self.served.saturating_add(serving.requests);
                let Some(bake) = &mut self.bake else { continue };
                let events: Vec<_> = metrics(&self.judge)
                    .map(|metric| events_of(serving, metric))
                    .collect();
                if let Err(error) = bake.observe(serving.requests, &events) {
                    tracing::warn!(pair = %pair.id, %error, "an interval contradicts itself");
                }
                continue;
            }
            let events: Vec<_> = metrics(&self.judge)
                .map(|metric| arms.map(|counters| events_of(counters, metric)))
                .collect();
            let interval = Interval {
                at: now,
                weight: batch.share.value(),
                exposures: arms.map(|counters| counters.requests),
                events: &events,
            };
            if let Err(error) = self.judge.observe(&interval) {
                tracing::debug!(pair = %pair.id, %error, "an interval is not counted");
            }
        }
    }

    /// Another round is another judge; another step is one more before the same.
    fn follow(&mut self, pair: &Pair) {
        let watches = is_watched(pair);
        if watches && self.bake.is_none() && self.served == 0 {
            // Without a primary that served anything there is nothing to be as good as; then nothing is watched.
            self.bake = BakePolicy::after(&self.judge).and_then(|policy| Bake::new(policy).ok());
            self.unsaved = true;
        } else if !watches {
            self.unsaved |= self.bake.take().is_some();
            self.served = 0;
        }
        if self.round != pair.round {
            self.round = pair.round;
            if !watches && let Ok(judge) = Judge::new(self.judge.policy()) {
                self.judge = judge;
            }
            self.unsaved = true;
        }
        if self.step != pair.course.step {
            self.step = pair.course.step;
            // With everybody on the shadow there is nobody left to compare it with: what was proven before has to stand.
            if pair.share < BasisPoints::ALL {
                self.judge.next_step();
            }
            self.unsaved = true;
        }
    }

    /// What the judge says.
    pub fn finding(&self) -> Finding {
        let verdict = self.judge.verdict();
        Finding {
            round: self.round,
            opinion: match verdict {
                Verdict::Worse => Opinion::Worse,
                Verdict::NotWorse => Opinion::NotWorse,
                Verdict::Undecided => Opinion::Undecided,
            },
            step_enough: verdict == Verdict::NotWorse,
            e_worse: self.judge.worse_nats().exp(),
            e_ok: self.judge.pass_nats().exp(),
            needed: None,
        }
    }

    /// What is seen of an arm that has been promoted.
    pub fn bake(&self) -> BakeSight {
        let seen = self
            .bake
            .as_ref()
            .map_or((false, 0), |bake| (bake.alarm(), bake.requests()));
        BakeSight {
            alarm: seen.0,
            requests: seen.1.max(self.served),
        }
    }

    /// Everything that the judge has to say, for people.
    pub fn explain(&self) -> Explanation {
        self.judge.explain()
    }

    /// What has to be written down beside the pair as it will be then. Where a round or a step begins with it, that has to
    /// begin in what is written down, too: whoever reads it next cannot know that it was counted before.
    pub fn save(&self, next: &Pair) -> (Option<JudgeState>, Option<(BakePolicy, BakeState)>) {
        let mut ahead = self.clone();
        ahead.follow(next);
        let bake = ahead
            .bake
            .as_ref()
            .map(|bake| (bake.policy().clone(), bake.state().clone()));
        (Some(ahead.judge.state().clone()), bake)
    }

    /// It was written down.
    pub fn saved(&mut self) {
        self.unsaved = false;
    }

    /// Whether something was counted since it was last written down.
    pub fn is_unsaved(&self) -> bool {
        self.unsaved
    }
}

/// Its new primary is watched: there is nobody left to compare it with.
fn is_watched(pair: &Pair) -> bool {
    matches!(pair.state, State::Baking | State::FailedOver)
}

fn metrics(judge: &Judge) -> impl Iterator<Item = Metric> + '_ {
    judge.policy().metrics.iter().map(|policy| policy.metric)
}

/// The arm that serves first.
fn in_order(serving: Arm, [primary, shadow]: &[ArmCounters; 2]) -> [ArmCounters; 2] {
    match serving {
        Arm::Primary => [*primary, *shadow],
        Arm::Shadow => [*shadow, *primary],
    }
}

fn events_of(counters: ArmCounters, metric: Metric) -> u64 {
    let [p50, p90, p99, p999] = counters.over;
    match metric {
        Metric::Failures => counters.errors(),
        Metric::OverP50 => p50,
        Metric::OverP90 => p90,
        Metric::OverP99 => p99,
        Metric::OverP999 => p999,
    }
}

#[cfg(test)]
mod tests {
    use foreshade_contract::{PairId, Share};
    use foreshade_engine::lifecycle::Mode;
    use foreshade_engine::lifecycle::state::Shifting;

    use super::*;

    /// A shift under way, and evidence of a thousand requests.
    fn shifting() -> (Pair, Evidence) {
        let name = |text: &str| text.parse().unwrap();
        let (cluster, primary) = (name("shop"), name("a"));
        let mut pair = Pair::new(PairId { cluster, primary }, Mode::Live);
        pair.state = State::Shifting(Shifting::Advancing);
        let mut evidence = Evidence::new(&JudgePolicy::default(), &pair).unwrap();
        let arm = ArmCounters {
            requests: 500,
            status_5xx: 5,
            ..ArmCounters::default()
        };
        let batch = Batch {
            share: Share::clamped(0.5),
            arms: [arm; 2],
        };
        evidence.learn(&pair, &[batch], Moment::from_micros(1));
        (pair, evidence)
    }

    fn counted(pair: &Pair, evidence: &Evidence) -> (u64, u64) {
        let kept = serde_json::to_value(evidence.save(pair).0).unwrap();
        let of = |key: &str| kept[key][1].as_u64().unwrap();
        (of("requests"), of("step_requests"))
    }

    #[test]
    fn what_is_written_down_with_a_new_round_has_no_evidence_of_the_last_one() {
        let (mut pair, evidence) = shifting();
        assert_eq!(counted(&pair, &evidence), (500, 500));
        pair.round = pair.round.next();
        assert_eq!(counted(&pair, &evidence), (0, 0));
    }

    #[test]
    fn what_is_written_down_with_a_new_step_has_to_prove_that_step() {
        let (mut pair, evidence) = shifting();
        pair.course.step += 1;
        assert_eq!(counted(&pair, &evidence), (500, 0));
    }
}
