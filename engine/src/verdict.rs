//! Is the shadow worse than its primary? Worse, not worse, or not yet known, with a stated probability of being wrong.
//!
//! The router knows with which probability `w` it sent a request to the shadow. So of everything that goes wrong on
//! either arm, a fraction is known to be the shadow's *if it is no worse*: whatever the base rate, the hour, an outage
//! that both share, and however often somebody looks. That is the whole test ([`mixture`]): integers per metric and
//! weight ([`tally`]), from which two e-values follow. No baseline is learned, no window has to be chosen, one event
//! is enough to be allowed to judge, and `w` may depend on everything seen so far. Fixed thresholds on a scraped
//! average, as canary tools have them, know neither their false alarms nor what they miss; `foreshade-bench judge`
//! counts both.
//!
//! - **Worse** when `sum_m weight_m E_worse,m >= 1/alpha`: an average of e-values is one under any dependence, so
//!   there is one alpha for all metrics, ticks and steps of the analysis. P(ever | within every tolerance) <= alpha
//!   (Ville). It stays.
//! - **Not worse** when every metric that needs a proof has `E_ok,m >= 1/beta` since the last step. P(ever | beyond
//!   the margin of one) <= beta: all must be wrong for the answer to be, so nothing is divided among them. While a
//!   metric leans towards "worse" it does not pass: a failure rate that is low and rising is a case for waiting.
//! - **Undecided** otherwise: no data is no evidence, in either direction.
//!
//! **Which weight.** The coin's probability, where the router draws it; or, over a short interval, the shadow's
//! fraction of the requests, where something else decides (balancing by load). Both are valid. For the coin each
//! event's arm is a Bernoulli draw. For the fraction, let the interval have `N` requests, `wN` on the shadow, with
//! mean failure probabilities `p_s <= r_0 p_p`; an event multiplies the e-value by `a = r_j / (r_0 c)` on the shadow
//! and `b = 1/c` on the primary, `c = (1 + (r_j-1) w) / (1 + (r_0-1) w)`. By `1 + x <= e^x` the mean of the product is
//! at most `exp(N p_p (w r_0 (a-1) + (1-w)(b-1)))`, and that exponent is zero. (At `r_0 = 1` this is Hoeffding 1963:
//! the hypergeometric is below the binomial in convex order.) It asks that failures of one interval do not cause each
//! other; bursts are in [`burst`]. And it asks that they do not move the fraction: where they may, a [`WeightRange`] says
//! between which numbers the weight lies, and each test takes the end at which it finds less ([`tally`]).
//!
//! **Cold start**: undecided; metrics of latency skip a warm-up. **Idle**: nothing changes. **Burst**: three ticks
//! must have events of the shadow, and what many saw in one moment is one of them; `robust` makes one
//! event of a burst. **Restart**: [`State`] is all there is to
//! keep. **Everything on the shadow** (`w = 1`): the ratio rests, the absolute route goes on, and [`bake`] watches.

pub mod absolute;
pub mod bake;
pub mod burst;
pub mod explain;
pub mod mirror;
pub mod mixture;
pub mod policy;
pub mod tally;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::explain::Explanation;
pub use self::policy::{JudgePolicy, Metric, MetricPolicy, PolicyError, Proof, WarmUp};

use self::burst::{Outage, Window};
use self::mixture::{Level, Ratio, log_weighted_sum};
use self::tally::{EVENT, Tally, Weight};
use crate::moment::Moment;

/// The three answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Roll back: the shadow is worse than tolerable.
    Worse,
    /// Nothing stands against a promotion: the shadow is better than every margin.
    NotWorse,
    /// Hold: neither is known.
    Undecided,
}

/// What happened since the last interval. Arms are `[primary, shadow]`; first attempts only, by the arm that was drawn.
#[derive(Clone, Copy, Debug)]
pub struct Interval<'a> {
    /// With which probability a request of it was sent to the shadow.
    pub weight: WeightRange,
    /// Whether it was sent under the share of this step. What an earlier one sent is no proof of this one.
    pub is_of_step: bool,
    /// Requests that ended, or met their deadline.
    pub exposures: [u64; 2],
    /// Those of them that were events, for each metric of the policy in its order.
    pub events: &'a [[u64; 2]],
}

/// Between which numbers a probability lies, 0 to 1. Either test uses the end at which it finds less. At 0, or at 1, the
/// ratio learns nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightRange {
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

/// Why an interval is not counted. It is evidence of nothing.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum IntervalError {
    /// A weight that is no probability.
    #[error("a weight lies between 0 and 1, not at {0}")]
    Weight(f64),
    /// As many events as metrics.
    #[error("events of {given} metrics; the policy has {wanted}")]
    Metrics {
        /// Reported.
        given: usize,
        /// Judged.
        wanted: usize,
    },
    /// An arm with more events than requests.
    #[error("more events of {0} than requests")]
    Events(Metric),
    /// Traffic on an arm that cannot have had any.
    #[error("a weight of {0}, and traffic on the arm that it excludes")]
    Excluded(f64),
}

/// Why a judge cannot go on from a state.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ResumeError {
    /// The policy itself is wrong.
    #[error("the policy cannot be followed")]
    Policy(#[from] PolicyError),
    /// It was kept under a policy with other metrics.
    #[error("a state of {given} metrics; the policy has {wanted}")]
    Metrics {
        /// Kept.
        given: usize,
        /// Judged.
        wanted: usize,
    },
    /// Another metric stood in this place.
    #[error("the state counts {given} where the policy has {wanted}")]
    Order {
        /// Kept.
        given: Metric,
        /// Judged.
        wanted: Metric,
    },
}

/// What a judge knows. Written down, it can be gone on from as if nothing had happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    metrics: Vec<Counts>,
    /// Since the beginning, `[primary, shadow]`.
    requests: [u64; 2],
    /// Since the step began.
    step_requests: [u64; 2],
    /// Since the step began.
    step_age: Duration,
    steps: u32,
    /// Of the larger part of the last tick.
    weight: Option<Weight>,
    outage: Outage,
    window: Window,
    /// "Worse" is an answer that stays: what was a rare event once does not become likely by waiting.
    worse: bool,
    /// Intervals that were not counted.
    refused: u64,
}

/// Counts of one metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    metric: Metric,
    /// Since the beginning, each event under the highest weight that it may have had: what can roll back.
    whole: Tally,
    /// The same under the lowest: how much worse than the primary it can be.
    #[serde(default)]
    whole_least: Tally,
    /// Since the step began, under the lowest: what can promote. A small share is no proof of what a large one will do.
    step: Tally,
    /// Since the beginning, `[primary, shadow]`, where the tally has them.
    events: [u64; 2],
    /// Since the step began, where the tally has them: events and requests of the shadow, and of the primary.
    step_events: [u64; 2],
    step_requests: [u64; 2],
    /// Ticks with events of the shadow.
    ticks: u32,
}

/// Judges one shadow against its primary.
#[derive(Clone, Debug)]
pub struct Judge {
    policy: JudgePolicy,
    state: State,
    last: Option<Moment>,
    /// Evidence of being worse, by metric: it follows from the state, and is asked for more often than it changes.
    worse: Vec<f64>,
}

impl Judge {
    /// A judge who knows nothing yet.
    ///
    /// # Errors
    /// When the policy cannot be followed.
    pub fn new(policy: &JudgePolicy) -> Result<Self, PolicyError> {
        policy.check()?;
        let metrics = policy.metrics.iter().map(|metric| Counts::of(metric.metric));
        let state = State {
            metrics: metrics.collect(),
            requests: [0; 2],
            step_requests: [0; 2],
            step_age: Duration::ZERO,
            steps: 1,
            weight: None,
            outage: Outage::default(),
            window: Window::default(),
            worse: false,
            refused: 0,
        };
        Ok(Self::from(policy, state))
    }

    /// Goes on from what was written down. The policy should be the one that it was counted under: tolerances that are
    /// chosen after the counts are no longer covered by alpha.
    ///
    /// # Errors
    /// When the policy cannot be followed, or has other metrics.
    pub fn resume(policy: &JudgePolicy, state: State) -> Result<Self, ResumeError> {
        policy.check()?;
        let (given, wanted) = (state.metrics.len(), policy.metrics.len());
        if given != wanted {
            return Err(ResumeError::Metrics { given, wanted });
        }
        for (counts, policy) in state.metrics.iter().zip(&policy.metrics) {
            let (given, wanted) = (counts.metric, policy.metric);
            if given != wanted {
                return Err(ResumeError::Order { given, wanted });
            }
        }
        Ok(Self::from(policy, state))
    }

    fn from(policy: &JudgePolicy, state: State) -> Self {
        let mut judge = Self {
            policy: policy.clone(),
            state,
            last: None,
            worse: Vec::new(),
        };
        judge.weigh();
        judge
    }

    /// All that has to be kept.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What it was asked.
    pub fn policy(&self) -> &JudgePolicy {
        &self.policy
    }

    /// Begins another step: the shadow warms up again, and has to prove itself under the new share. What stands
    /// against it stays.
    pub fn next_step(&mut self) {
        let state = &mut self.state;
        state.steps = state.steps.saturating_add(1);
        (state.step_age, state.step_requests) = (Duration::ZERO, [0; 2]);
        for counts in &mut state.metrics {
            counts.step = Tally::default();
            (counts.step_events, counts.step_requests) = ([0; 2], [0; 2]);
        }
        state.window.grow_old();
    }

    /// Takes a tick of one interval.
    ///
    /// # Errors
    /// When it contradicts itself; then nothing of it is counted.
    pub fn observe(&mut self, at: Moment, interval: &Interval<'_>) -> Result<(), IntervalError> {
        self.observe_tick(at, std::slice::from_ref(interval))
    }

    /// Takes what was seen up to a moment by several who had different weights: each part is counted under its own, and all
    /// of them are one tick. What happens in one moment is one occurrence, however many have seen it.
    ///
    /// # Errors
    /// The first of those that contradict themselves. Of these nothing is counted; the others are.
    pub fn observe_tick(&mut self, at: Moment, intervals: &[Interval<'_>]) -> Result<(), IntervalError> {
        let (mut sound, mut contradiction) = (Vec::with_capacity(intervals.len()), Ok(()));
        for interval in intervals {
            match self.check(interval) {
                Ok(()) => sound.push(interval),
                Err(error) => {
                    self.state.refused = self.state.refused.saturating_add(1);
                    contradiction = contradiction.and(Err(error));
                }
            }
        }
        if !sound.is_empty() {
            self.count(at, &sound);
        }
        contradiction
    }

    fn count(&mut self, at: Moment, intervals: &[&Interval<'_>]) {
        let span = self.last.map_or(Duration::ZERO, |last| at.since(last));
        self.last = Some(at);
        // What is left out depends on the past alone, or leaving it out would be a choice among results.
        let warming = self.is_warming();
        let state = &mut self.state;
        let largest = intervals.iter().max_by_key(|interval| interval.requests());
        state.weight = largest.and_then(|interval| interval.weight());
        let metrics = state.metrics.iter_mut().zip(&self.policy.metrics);
        for (index, (counts, policy)) in metrics.enumerate() {
            let is_failures = policy.metric == Metric::Failures;
            if is_failures {
                let (requests, failures) = sums(intervals, index);
                state.outage.observe(requests, failures);
            }
            if policy.warms_up && warming {
                continue;
            }
            for interval in intervals {
                counts.count(interval, interval.events_of(index));
            }
            if is_failures && !self.policy.burst.is_zero() {
                let window = &mut state.window;
                counts.add_bursts(window, intervals, index, (span, self.policy.burst));
            } else {
                counts.add_tick(intervals, index);
            }
        }
        for interval in intervals {
            add(&mut state.requests, interval.exposures);
            if interval.is_of_step {
                add(&mut state.step_requests, interval.exposures);
            }
        }
        if intervals.iter().any(|interval| interval.is_of_step) {
            state.step_age = state.step_age.saturating_add(span);
        }
        self.weigh();
        let is_worse = self.worse_nats() >= self.policy.worse_limit() || self.state.outage.is_severe();
        self.state.worse |= is_worse;
    }

    fn weigh(&mut self) {
        let ticks_min = self.policy.ticks_min;
        let each = self.state.metrics.iter().zip(&self.policy.metrics);
        self.worse.clear();
        self.worse
            .extend(each.map(|(counts, policy)| counts.worse_nats(policy, ticks_min)));
    }

    fn check(&self, interval: &Interval<'_>) -> Result<(), IntervalError> {
        let WeightRange { low, high } = interval.weight;
        if !(0.0..=1.0).contains(&low) {
            return Err(IntervalError::Weight(low));
        }
        if !(low..=1.0).contains(&high) {
            return Err(IntervalError::Weight(high));
        }
        let [primary, shadow] = interval.exposures;
        if (high <= 0.0 && shadow > 0) || (low >= 1.0 && primary > 0) {
            return Err(IntervalError::Excluded(high));
        }
        let (given, wanted) = (interval.events.len(), self.policy.metrics.len());
        if given != wanted {
            return Err(IntervalError::Metrics { given, wanted });
        }
        for (events, policy) in interval.events.iter().zip(&self.policy.metrics) {
            let [primary_events, shadow_events] = *events;
            if primary_events > primary || shadow_events > shadow {
                return Err(IntervalError::Events(policy.metric));
            }
        }
        Ok(())
    }

    /// Whether metrics that warm up are left out now.
    pub fn is_warming(&self) -> bool {
        let [_, shadow] = self.state.step_requests;
        self.state.step_age < self.policy.warm_up.span && shadow < self.policy.warm_up.requests
    }

    /// The answer, as of the last interval.
    pub fn verdict(&self) -> Verdict {
        if self.state.worse {
            return Verdict::Worse;
        }
        let mut proofs = self
            .each()
            .filter(|weighed| weighed.policy.proof != Proof::Nothing)
            .peekable();
        if proofs.peek().is_some() && proofs.all(|weighed| self.passes(weighed)) {
            Verdict::NotWorse
        } else {
            Verdict::Undecided
        }
    }

    /// Whether a metric is shown to be good enough, and does not lean the other way.
    fn passes(&self, weighed: Weighed<'_>) -> bool {
        let limit = self.policy.pass_limit();
        let shown = weighed.counts.pass_nats(weighed.policy);
        shown.is_some_and(|nats| nats >= limit) && weighed.worse_nats <= 0.0
    }

    /// Nats of evidence over all metrics that the shadow is worse; negative infinity before enough ticks had any.
    pub fn worse_nats(&self) -> f64 {
        let each = self
            .each()
            .map(|weighed| (weighed.policy.weight, weighed.worse_nats));
        log_weighted_sum(each).unwrap_or(f64::NEG_INFINITY)
    }

    /// Nats of evidence that it is not, in this step: those of the metric that has least, of those that need a proof.
    /// Negative infinity where none does.
    pub fn pass_nats(&self) -> f64 {
        let needed = self
            .each()
            .filter(|weighed| weighed.policy.proof != Proof::Nothing);
        let nats = needed.map(|weighed| {
            weighed
                .counts
                .pass_nats(weighed.policy)
                .unwrap_or(f64::NEG_INFINITY)
        });
        nats.min_by(f64::total_cmp).unwrap_or(f64::NEG_INFINITY)
    }

    fn each(&self) -> impl Iterator<Item = Weighed<'_>> + Clone {
        let metrics = self.state.metrics.iter().zip(&self.policy.metrics);
        metrics
            .zip(&self.worse)
            .map(|((counts, policy), worse_nats)| Weighed {
                counts,
                policy,
                worse_nats: *worse_nats,
            })
    }
}

/// A metric: what was counted, how it is judged, and what speaks against the shadow.
#[derive(Clone, Copy)]
struct Weighed<'a> {
    counts: &'a Counts,
    policy: &'a MetricPolicy,
    worse_nats: f64,
}

impl Counts {
    fn of(metric: Metric) -> Self {
        Self {
            metric,
            whole: Tally::default(),
            whole_least: Tally::default(),
            step: Tally::default(),
            events: [0; 2],
            step_events: [0; 2],
            step_requests: [0; 2],
            ticks: 0,
        }
    }

    fn count(&mut self, interval: &Interval<'_>, events: [u64; 2]) {
        add(&mut self.events, events);
        if interval.is_of_step {
            add(&mut self.step_requests, interval.exposures);
            add(&mut self.step_events, events);
        }
    }

    /// Each event by itself, and all of them as one tick.
    fn add_tick(&mut self, intervals: &[&Interval<'_>], index: usize) {
        let mut is_hit = false;
        for interval in intervals {
            let Some(weight) = interval.weight() else { continue };
            let [primary, shadow] = interval
                .events_of(index)
                .map(|events| events.saturating_mul(EVENT));
            self.add(
                weight,
                (primary.saturating_add(shadow), shadow),
                interval.is_of_step,
            );
            is_hit |= shadow > 0;
        }
        self.ticks = self.ticks.saturating_add(u32::from(is_hit));
    }

    /// All events that come together as one, of which nobody knows which of the weights it had.
    fn add_bursts(
        &mut self,
        window: &mut Window,
        intervals: &[&Interval<'_>],
        index: usize,
        (span, burst): (Duration, Duration),
    ) {
        let weighed = intervals.iter().filter_map(|interval| {
            let events = interval.events_of(index);
            Some((interval, interval.weight()?, events))
        });
        let has_events = |events: [u64; 2]| events.iter().any(|events| *events > 0);
        let with_events = weighed.clone().filter(|(_, _, events)| has_events(*events));
        let weights = with_events.clone().map(|(_, weight, _)| weight);
        let Some(weight) = weights
            .reduce(Weight::union)
            .or_else(|| weighed.map(|(_, weight, _)| weight).reduce(Weight::union))
        else {
            return;
        };
        let (mut events, mut is_earlier) = ([0; 2], false);
        for (interval, _, more) in with_events {
            add(&mut events, more);
            is_earlier |= !interval.is_of_step;
        }
        let before = window.observe(weight, span, events);
        if is_earlier {
            window.grow_old();
        }
        for burst in before.into_iter().chain(window.elapsed(burst)) {
            self.add(burst.weight, (EVENT, burst.shadow), !burst.is_earlier);
            self.ticks = self.ticks.saturating_add(u32::from(burst.shadow > 0));
        }
    }

    fn add(&mut self, weight: Weight, (events, shadow): (u64, u64), is_of_step: bool) {
        self.whole.add(weight.highest(), events, shadow);
        self.whole_least.add(weight.lowest(), events, shadow);
        if is_of_step {
            self.step.add(weight.lowest(), events, shadow);
        }
    }

    /// Evidence of being worse; none before enough ticks had events of the shadow.
    fn worse_nats(&self, policy: &MetricPolicy, ticks_min: u32) -> f64 {
        if self.ticks < ticks_min {
            return f64::NEG_INFINITY;
        }
        Ratio::above(policy.tolerance).nats(self.whole.for_worse())
    }

    /// Evidence of being no worse; none where no proof is wanted.
    fn pass_nats(&self, policy: &MetricPolicy) -> Option<f64> {
        let ratio = |margin| Ratio::below(margin).nats(self.step.for_not_worse());
        let level = |ceiling| {
            let ([_, requests], [_, events]) = (self.step_requests, self.step_events);
            Level::below(ceiling).nats(requests as f64, events as f64)
        };
        absolute::proof_nats(policy.proof, ratio, level)
    }
}

impl WeightRange {
    /// A probability that is known.
    pub const fn exactly(weight: f64) -> Self {
        Self {
            low: weight,
            high: weight,
        }
    }
}

impl Interval<'_> {
    fn weight(&self) -> Option<Weight> {
        Weight::between(self.weight.low, self.weight.high)
    }

    /// Of both arms.
    fn requests(&self) -> u64 {
        self.exposures.iter().copied().fold(0, u64::saturating_add)
    }

    fn events_of(&self, index: usize) -> [u64; 2] {
        self.events.get(index).copied().unwrap_or_default()
    }
}

/// Requests, and events of a metric, of all intervals of a tick.
fn sums(intervals: &[&Interval<'_>], index: usize) -> ([u64; 2], [u64; 2]) {
    let (mut requests, mut events) = ([0; 2], [0; 2]);
    for interval in intervals {
        add(&mut requests, interval.exposures);
        add(&mut events, interval.events_of(index));
    }
    (requests, events)
}

fn add(sums: &mut [u64; 2], more: [u64; 2]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum = sum.saturating_add(more);
    }
}

#[cfg(test)]
mod tests;
