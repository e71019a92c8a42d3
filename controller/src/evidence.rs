//! From what proxies counted to what the judge says: one pair's evidence, in its present round.
//!
//! The judge compares the arm that does not serve with the one that does, whichever of the two the configuration calls
//! the primary. A new round begins with a new judge; a larger share is another step before the same one. After a
//! promotion nobody is left to compare with, and a detector of change takes over, with what the judge has learned for
//! its ceilings.
//!
//! **The weight of a batch** lies between two numbers: the probability with which its proxy drew, and the fraction of
//! its requests that the other arm had. Neither is right by itself. Balancing by load decides after the draw, so a
//! healthy shadow with a tenth of the users had three quarters of the requests while its primary was sick, and would
//! have been guilty by the probability. And it reacts to what fails within the batch: a failure of the shadow makes
//! its fraction small, and would weigh the more for it; failures of the primary send requests to a shadow that is
//! worse, and would excuse it. So "worse" takes the higher of the two, and "not worse" the lower. Assumed is that what
//! reacts within a batch of a second or three moves the fraction towards one side of what was drawn. It costs time,
//! and never an answer, where the two are far apart; with a fraction of 0 or 1 the ratio rests. A batch that was drawn
//! with the share of a step that is over stands against the shadow, and proves nothing of this step.

use foreshade_contract::report::{ArmCounters, Mirrored};
use foreshade_contract::{Arm, Round};
use foreshade_engine::lifecycle::Pair;
use foreshade_engine::lifecycle::points::BasisPoints;
use foreshade_engine::lifecycle::sight::{Bake as BakeSight, Finding, Opinion};
use foreshade_engine::lifecycle::state::State;
use foreshade_engine::moment::Moment;
use foreshade_engine::verdict::bake::{Bake, BakePolicy, BakeState};
use foreshade_engine::verdict::mirror::{Explanation as MirrorExplanation, State as MirrorState};
use foreshade_engine::verdict::{
    Explanation, Interval, Judge, JudgePolicy, Metric, PolicyError, State as JudgeState, Verdict, WeightRange,
};

use crate::fleet::Batch;

/// Nearer than this two shares are one: proxies draw among 2^32 positions.
const SHARE_GRAIN: f64 = 1e-6;

/// What has to be written down of it: the judge's counts, those of the watch after a promotion, and those of mirrors.
pub type Saved = (
    Option<JudgeState>,
    Option<(BakePolicy, BakeState)>,
    Option<MirrorState>,
);

/// What is known for and against one shadow.
#[derive(Clone, Debug)]
pub struct Evidence {
    judge: Judge,
    round: Round,
    step: usize,
    /// Of this step, and of the one before it where that is known.
    share: BasisPoints,
    share_before: Option<BasisPoints>,
    bake: Option<Bake>,
    /// What it answered to copies, of requests that the other arm served.
    mirror: MirrorState,
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
            share: pair.share,
            share_before: None,
            bake: None,
            mirror: MirrorState::default(),
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
        (judge, bake, mirror): Saved,
    ) -> Result<Self, PolicyError> {
        let mut evidence = Self::new(policy, pair)?;
        evidence.mirror = mirror.unwrap_or_default();
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

    /// Takes what copies to the arm that does not serve came to since the last tick.
    pub fn compare(&mut self, pair: &Pair, mirrored: &[(Arm, Mirrored)], now: Moment) {
        self.follow(pair);
        let standby = pair.serving.other();
        let news = mirrored.iter().filter(|(arm, _)| *arm == standby);
        let news: Vec<_> = news.map(|(_, news)| *news).collect();
        if !news.is_empty() {
            self.mirror.observe(&news, now);
            self.unsaved = true;
        }
    }

    /// Takes what was counted since the last tick: all of it is one.
    pub fn learn(&mut self, pair: &Pair, batches: &[Batch], now: Moment) {
        self.follow(pair);
        if batches.is_empty() {
            return;
        }
        self.unsaved = true;
        if is_watched(pair) {
            self.watch(pair, batches);
            return;
        }
        let arms = batches.iter().map(|batch| in_order(pair.serving, &batch.arms));
        let arms: Vec<_> = arms.collect();
        let events = arms.iter().map(|arms| {
            let of = |metric| arms.map(|counters| events_of(counters, metric));
            metrics(&self.judge).map(of).collect::<Vec<_>>()
        });
        let events: Vec<_> = events.collect();
        let intervals = batches.iter().zip(&arms).zip(&events);
        let intervals: Vec<_> = intervals
            .map(|((batch, arms), events)| {
                let drawn = drawn(pair, batch);
                let exposures = arms.map(|counters| counters.requests);
                Interval {
                    weight: weight(drawn, exposures),
                    is_of_step: self.is_of_step(drawn),
                    exposures,
                    events,
                }
            })
            .collect();
        if let Err(error) = self.judge.observe_tick(now, &intervals) {
            tracing::debug!(pair = %pair.id, %error, "an interval is not counted");
        }
    }

    fn watch(&mut self, pair: &Pair, batches: &[Batch]) {
        let mut served = ArmCounters::default();
        for batch in batches {
            let [serving, _] = in_order(pair.serving, &batch.arms);
            served.add(&serving);
        }
        self.served = self.served.saturating_add(served.requests);
        let Some(bake) = &mut self.bake else { return };
        let events: Vec<_> = metrics(&self.judge)
            .map(|metric| events_of(served, metric))
            .collect();
        if let Err(error) = bake.observe(served.requests, &events) {
            tracing::warn!(pair = %pair.id, %error, "an interval contradicts itself");
        }
    }

    /// Whether a draw is of this step, and not of a smaller share that proxies had not left yet.
    fn is_of_step(&self, drawn: f64) -> bool {
        let before = self.share_before.filter(|before| *before < self.share);
        before.is_none_or(|before| drawn > before.fraction() + SHARE_GRAIN)
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
            self.share_before = None;
            self.mirror = MirrorState::default();
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
                self.share_before = Some(self.share);
            }
            self.unsaved = true;
        }
        self.share = pair.share;
    }

    /// What the judge says.
    pub fn finding(&self) -> Finding {
        let verdict = self.judge.verdict();
        Finding {
            round: self.round,
            opinion: opinion(verdict),
            step_enough: verdict == Verdict::NotWorse,
            e_worse: self.judge.worse_nats().exp(),
            e_ok: self.judge.pass_nats().exp(),
            needed: None,
        }
    }

    /// What mirrors say of the arm that does not serve; nothing where they have seen nothing.
    pub fn mirror(&self) -> Option<Opinion> {
        (!self.mirror.is_empty()).then(|| opinion(self.mirror.verdict()))
    }

    /// The same for people.
    pub fn explain_mirror(&self) -> Option<MirrorExplanation> {
        (!self.mirror.is_empty()).then(|| self.mirror.explain())
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
    pub fn save(&self, next: &Pair) -> Saved {
        if self.is_followed(next) {
            return self.saved_as_is();
        }
        let mut ahead = self.clone();
        ahead.follow(next);
        ahead.saved_as_is()
    }

    /// Whether nothing begins or ends with the pair as it will be then.
    fn is_followed(&self, next: &Pair) -> bool {
        let is_watching = self.bake.is_some() || self.served > 0;
        self.round == next.round && self.step == next.course.step && is_watched(next) == is_watching
    }

    fn saved_as_is(&self) -> Saved {
        let bake = self.bake.as_ref();
        let bake = bake.map(|bake| (bake.policy().clone(), bake.state().clone()));
        let mirror = (!self.mirror.is_empty()).then(|| self.mirror.clone());
        (Some(self.judge.state().clone()), bake, mirror)
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

fn opinion(verdict: Verdict) -> Opinion {
    match verdict {
        Verdict::Worse => Opinion::Worse,
        Verdict::NotWorse => Opinion::NotWorse,
        Verdict::Undecided => Opinion::Undecided,
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

/// The probability with which the arm was drawn that does not serve, whichever of the two the proxy took for it.
fn drawn(pair: &Pair, batch: &Batch) -> f64 {
    if batch.serving == pair.serving {
        batch.drawn.value()
    } else {
        1.0 - batch.drawn.value()
    }
}

/// Between what was drawn and what came of it.
fn weight(drawn: f64, [serving, other]: [u64; 2]) -> WeightRange {
    if serving == 0 || other == 0 {
        return WeightRange::exactly(f64::from(u8::from(other > 0)));
    }
    let fraction = other as f64 / (serving as f64 + other as f64);
    WeightRange {
        low: drawn.min(fraction),
        high: drawn.max(fraction),
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
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

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
            serving: Arm::Primary,
            drawn: Share::clamped(0.5),
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

    #[test]
    fn what_proxies_still_draw_with_the_last_share_proves_nothing_of_the_next() {
        let (mut pair, mut evidence) = shifting();
        pair.share = BasisPoints::percent(5);
        evidence.learn(&pair, &[], Moment::from_micros(2));
        (pair.course.step, pair.share) = (pair.course.step + 1, BasisPoints::percent(10));
        let arm = |requests| ArmCounters {
            requests,
            ..ArmCounters::default()
        };
        let batch = |drawn, requests| Batch {
            serving: Arm::Primary,
            drawn: Share::clamped(drawn),
            arms: [arm(100), arm(requests)],
        };
        let batches = [batch(0.05, 6), batch(0.1, 11)];
        evidence.learn(&pair, &batches, Moment::from_micros(3));
        assert_eq!(counted(&pair, &evidence), (517, 11));
    }

    #[test]
    fn a_weight_lies_between_what_was_drawn_and_what_came_of_it_in_the_order_of_the_pair() {
        let (mut pair, _) = shifting();
        let batch = |serving, drawn| Batch {
            serving,
            drawn: Share::clamped(drawn),
            arms: Default::default(),
        };
        let between = |low, high| WeightRange { low, high };
        assert_eq!(weight(0.1, [23, 77]), between(0.1, 0.77));
        assert_eq!(weight(0.5, [80, 20]), between(0.2, 0.5));
        assert_eq!(weight(0.5, [9, 0]), WeightRange::exactly(0.0));
        assert_eq!(weight(0.5, [0, 9]), WeightRange::exactly(1.0));
        assert!((drawn(&pair, &batch(Arm::Primary, 0.25)) - 0.25).abs() < 1e-12);
        // The proxy has not heard yet that the shadow serves.
        pair.serving = Arm::Shadow;
        assert!((drawn(&pair, &batch(Arm::Primary, 0.25)) - 0.75).abs() < 1e-12);
    }

    /// What the shadow does: its failures, and what is slow, as so many times those of the primary.
    struct Rollout {
        failing: f64,
        slow: f64,
        drawn: f64,
        /// Whether the judge is told the fraction alone.
        by_fraction: bool,
    }

    impl Rollout {
        /// A batch of one proxy, request by request. Balancing turns away from an arm that has just failed, and less so
        /// from one that was slow.
        fn batch(&self, rng: &mut StdRng) -> Batch {
            const DECAY: f64 = 0.97;
            let (mut arms, mut lean) = (
                [ArmCounters::default(); 2],
                (self.drawn / (1.0 - self.drawn)).ln(),
            );
            let usual = lean;
            for _ in 0..40 {
                let is_shadow = rng.random_bool(1.0 / (1.0 + (-lean).exp()));
                let (away, times) = if is_shadow {
                    (-1.0, [self.failing, self.slow])
                } else {
                    (1.0, [1.0; 2])
                };
                let is_failed = rng.random_bool(0.02 * times[0]);
                let place = rng.random::<f64>() / times[1];
                let is_slow = u64::from(place < 0.1);
                arms[usize::from(is_shadow)].add(&ArmCounters {
                    requests: 1,
                    status_5xx: u64::from(is_failed),
                    over: [0, is_slow, 0, 0],
                    ..ArmCounters::default()
                });
                let turn = 3.0 * f64::from(u8::from(is_failed)) + 0.2 * is_slow as f64;
                lean = usual + DECAY * (lean - usual) + away * turn;
            }
            let [primary, shadow] = arms.map(|arm| arm.requests as f64);
            let fraction = shadow / (primary + shadow);
            Batch {
                serving: Arm::Primary,
                drawn: Share::clamped(if self.by_fraction { fraction } else { self.drawn }),
                arms,
            }
        }

        /// How many of so many rollouts of fifty ticks at five proxies ever came to an answer.
        fn ever(&self, opinion: Opinion, rollouts: u64) -> u64 {
            let (pair, _) = shifting();
            let mut policy = JudgePolicy::default();
            let judged = [Metric::Failures, Metric::OverP90];
            policy.metrics.retain(|policy| judged.contains(&policy.metric));
            let is_reached = |seed: &u64| {
                let mut rng = StdRng::seed_from_u64(*seed);
                let mut evidence = Evidence::new(&policy, &pair).unwrap();
                (1..=50).any(|tick| {
                    let batches: Vec<_> = (0..5).map(|_| self.batch(&mut rng)).collect();
                    evidence.learn(&pair, &batches, Moment::from_micros(tick * 3_000_000));
                    evidence.finding().opinion == opinion
                })
            };
            (0..rollouts).filter(is_reached).count() as u64
        }
    }

    /// The promise, and three standard deviations of chance.
    fn at_most(promised: f64, rollouts: u64) -> u64 {
        let rollouts = rollouts as f64;
        let most = promised * rollouts + 3.0 * (promised * (1.0 - promised) * rollouts).sqrt();
        (0u64..)
            .take_while(|count| (*count as f64) <= most)
            .last()
            .unwrap_or(0)
    }

    #[test]
    fn balancing_that_reacts_to_what_fails_and_is_slow_makes_no_answer_wrong_more_often() {
        const ROLLOUTS: u64 = 60;
        for drawn in [0.1, 0.5] {
            let tolerable = Rollout {
                failing: 1.25,
                slow: 1.5,
                drawn,
                by_fraction: false,
            };
            let worse = tolerable.ever(Opinion::Worse, ROLLOUTS);
            assert!(worse <= at_most(0.01, ROLLOUTS), "{worse} worse at {drawn}");
            let at_margin = Rollout {
                failing: 1.5,
                slow: 1.0,
                drawn,
                by_fraction: false,
            };
            let passed = at_margin.ever(Opinion::NotWorse, ROLLOUTS);
            assert!(passed <= at_most(0.05, ROLLOUTS), "{passed} not worse at {drawn}");
        }
        // And this is why: a shadow that is worse has what the primary's failures send to it for an excuse.
        let excused = Rollout {
            failing: 1.5,
            slow: 1.0,
            drawn: 0.1,
            by_fraction: true,
        };
        let passed = excused.ever(Opinion::NotWorse, ROLLOUTS);
        assert!(passed > ROLLOUTS / 4, "{passed} of {ROLLOUTS}");
    }
}
