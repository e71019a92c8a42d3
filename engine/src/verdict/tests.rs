//! The judge as a whole, tick by tick. What it promises on average is in `engine/tests/verdict`.

use super::*;

const TICK: Duration = Duration::from_millis(100);

/// Failures alone, without a warm-up.
fn failures() -> JudgePolicy {
    let mut policy = JudgePolicy::default();
    policy.metrics.truncate(1);
    policy
}

/// A judge, and the time.
struct Bench {
    judge: Judge,
    now: Moment,
}

impl Bench {
    fn new(policy: &JudgePolicy) -> Self {
        Self {
            judge: Judge::new(policy).unwrap(),
            now: Moment::ZERO,
        }
    }

    fn tick(&mut self, weight: f64, exposures: [u64; 2], events: &[[u64; 2]]) -> Verdict {
        self.now = self.now + TICK;
        self.judge
            .observe(self.now, &interval(weight, exposures, events))
            .unwrap();
        self.judge.verdict()
    }
}

fn interval(weight: f64, exposures: [u64; 2], events: &[[u64; 2]]) -> Interval<'_> {
    Interval {
        weight: WeightRange::exactly(weight),
        is_of_step: true,
        exposures,
        events,
    }
}

fn refused(interval: &Interval<'_>) -> IntervalError {
    let mut judge = Judge::new(&failures()).unwrap();
    let error = judge.observe(Moment::ZERO, interval).unwrap_err();
    let mut state = judge.state().clone();
    assert_eq!(std::mem::take(&mut state.refused), 1);
    assert_eq!(
        &state,
        Judge::new(&failures()).unwrap().state(),
        "a refused interval left something"
    );
    error
}

#[test]
fn no_data_is_no_evidence() {
    let mut bench = Bench::new(&JudgePolicy::default());
    assert_eq!(bench.judge.verdict(), Verdict::Undecided);
    for _ in 0..1000 {
        assert_eq!(bench.tick(0.05, [0, 0], &[[0, 0]; 5]), Verdict::Undecided);
    }
}

#[test]
fn what_contradicts_itself_is_not_counted() {
    assert!(matches!(
        refused(&interval(f64::NAN, [1, 1], &[[0, 0]])),
        IntervalError::Weight(_)
    ));
    assert!(matches!(
        refused(&interval(1.5, [1, 1], &[[0, 0]])),
        IntervalError::Weight(_)
    ));
    assert_eq!(
        refused(&interval(0.0, [1, 1], &[[0, 0]])),
        IntervalError::Excluded(0.0)
    );
    assert_eq!(
        refused(&interval(1.0, [1, 1], &[[0, 0]])),
        IntervalError::Excluded(1.0)
    );
    assert_eq!(
        refused(&interval(0.5, [1, 1], &[[0, 2]])),
        IntervalError::Events(Metric::Failures)
    );
    let metrics = IntervalError::Metrics { given: 0, wanted: 1 };
    assert_eq!(refused(&interval(0.5, [1, 1], &[])), metrics);
}

#[test]
fn the_largest_counts_are_survived() {
    let mut bench = Bench::new(&failures());
    for _ in 0..5 {
        bench.tick(0.5, [u64::MAX, u64::MAX], &[[u64::MAX, u64::MAX]]);
    }
    let explanation = bench.judge.explain();
    assert!(explanation.metrics[0].worse.e.is_finite());
    assert!(serde_json::to_string(&explanation).is_ok());
}

#[test]
fn one_tick_convinces_nobody_and_three_do() {
    let mut bench = Bench::new(&failures());
    assert_eq!(bench.tick(0.05, [1000, 60], &[[1, 50]]), Verdict::Undecided);
    assert_eq!(bench.tick(0.05, [1000, 60], &[[1, 1]]), Verdict::Undecided);
    assert_eq!(bench.tick(0.05, [1000, 60], &[[1, 1]]), Verdict::Worse);
}

#[test]
fn worse_is_an_answer_that_stays() {
    let mut bench = Bench::new(&failures());
    for _ in 0..3 {
        bench.tick(0.05, [1000, 60], &[[1, 20]]);
    }
    for _ in 0..1000 {
        assert_eq!(bench.tick(0.05, [1000, 60], &[[50, 0]]), Verdict::Worse);
    }
    bench.judge.next_step();
    assert_eq!(bench.judge.verdict(), Verdict::Worse);
}

#[test]
fn a_restart_at_any_tick_changes_nothing() {
    let policy = JudgePolicy::default().robust();
    let mut whole = Bench::new(&policy);
    let mut torn = Bench::new(&policy);
    for tick in 0..300u64 {
        let events = [[tick % 3, tick % 2], [50, 3], [10, 1], [1, 0], [0, 0]];
        let weight = if tick < 150 { 0.05 } else { 0.07 };
        for bench in [&mut whole, &mut torn] {
            bench.tick(weight, [100, 6], &events);
        }
        if tick % 7 == 0 {
            let text = serde_json::to_string(torn.judge.state()).unwrap();
            let last = torn.judge.last;
            torn.judge = Judge::resume(&policy, serde_json::from_str(&text).unwrap()).unwrap();
            // A process that starts anew does not know how long it was away; here it was not.
            torn.judge.last = last;
        }
    }
    assert_eq!(whole.judge.state(), torn.judge.state());
    assert_eq!(whole.judge.explain(), torn.judge.explain());
}

#[test]
fn a_state_of_another_policy_is_refused() {
    let state = Judge::new(&failures()).unwrap().state().clone();
    let error = Judge::resume(&JudgePolicy::default(), state.clone()).unwrap_err();
    assert_eq!(error, ResumeError::Metrics { given: 1, wanted: 5 });
    let mut other = failures();
    other.metrics[0] = MetricPolicy::shipped(Metric::OverP90);
    assert!(matches!(
        Judge::resume(&other, state),
        Err(ResumeError::Order { .. })
    ));
}

#[test]
fn a_warming_shadow_may_be_slow_and_must_not_fail() {
    let mut bench = Bench::new(&JudgePolicy::default());
    for _ in 0..4 {
        // Everything on the shadow is slow, and it is cold: 40 requests each of the 200 that it may warm up with.
        let slow = [[0, 0], [500, 40], [100, 40], [10, 40], [1, 40]];
        assert_eq!(bench.tick(0.04, [960, 40], &slow), Verdict::Undecided);
    }
    assert!(bench.judge.is_warming());
    assert_eq!(bench.judge.state().metrics[1].events, [0, 0]);
    let failing = [[0, 20], [0, 0], [0, 0], [0, 0], [0, 0]];
    for _ in 0..3 {
        bench.tick(0.04, [960, 40], &failing);
    }
    assert_eq!(bench.judge.verdict(), Verdict::Worse);
}

#[test]
fn a_step_has_to_be_proven_anew() {
    let mut bench = Bench::new(&JudgePolicy::default());
    let good = [[0, 0], [475, 25], [95, 5], [9, 1], [1, 0]];
    let ticks = (1..1000).find(|_| bench.tick(0.05, [950, 50], &good) == Verdict::NotWorse);
    assert!(ticks.is_some());
    let before = bench.judge.worse_nats();
    bench.judge.next_step();
    assert_eq!(bench.judge.verdict(), Verdict::Undecided);
    assert!(bench.judge.is_warming());
    assert!(
        (bench.judge.worse_nats() - before).abs() < 1e-12,
        "what stands against it was forgotten"
    );
}

#[test]
fn without_a_primary_only_the_ceiling_can_prove_anything() {
    let mut bench = Bench::new(&failures());
    let ticks = (1..100).find(|_| bench.tick(1.0, [0, 50], &[[0, 0]]) == Verdict::NotWorse);
    // Half of beta for each way: 40 instead of 20, so some more than the 3591 of the ceiling alone.
    assert!((72..100).contains(&ticks.unwrap()), "{ticks:?}");
    assert!(bench.judge.state().metrics[0].whole.segments().is_empty());
}

#[test]
fn an_outage_at_a_large_share_takes_no_twelve_events() {
    let mut policy = failures();
    policy.alpha = 1e-9;
    let mut bench = Bench::new(&policy);
    let mut ticks = 0;
    while bench.tick(0.5, [4, 4], &[[0, 4]]) != Verdict::Worse {
        ticks += 1;
        assert!(ticks < 10);
    }
    assert_eq!(ticks, 2);
    let explanation = bench.judge.explain();
    assert!(!explanation.worse.suffices());
    assert_eq!(
        explanation.sentence,
        "the shadow is worse: all of its last 12 requests failed, in 3 ticks"
    );
}

#[test]
fn an_undecided_judge_says_what_is_missing() {
    let mut bench = Bench::new(&failures());
    bench.tick(0.05, [950, 50], &[[2, 0]]);
    bench.tick(0.05, [950, 50], &[[2, 0]]);
    let explanation = bench.judge.explain();
    assert_eq!(
        (explanation.verdict, explanation.requests),
        (Verdict::Undecided, [1900, 100])
    );
    let needed = explanation.metrics[0].needed.unwrap();
    assert!((100_000..600_000).contains(&needed.requests), "{needed:?}");
    // Two ticks, of which the first one's length is not known: 20,000 requests a second.
    assert_eq!(
        needed.eta.unwrap().as_millis() / 10,
        u128::from(needed.requests) / 200
    );
    assert!(
        explanation
            .sentence
            .starts_with("undecided: failures: 0 of 4 on the shadow, any number of times")
    );
    assert!(
        explanation.sentence.contains("more requests"),
        "{}",
        explanation.sentence
    );
}

#[test]
fn what_is_missing_comes_true_if_the_shadow_is_as_good() {
    let policy = JudgePolicy::default();
    let mut bench = Bench::new(&policy);
    // One failure in a thousand requests on either arm, and likewise with what is slow.
    let tick = |bench: &mut Bench, tick: u32| {
        let rare = u64::from(tick.is_multiple_of(20));
        let now = [[1 - rare, rare], [475, 25], [95, 5], [9 + rare, 1 - rare], [1, 0]];
        bench.tick(0.05, [950, 50], &now)
    };
    for at in 1..=20 {
        tick(&mut bench, at);
    }
    let lacking = bench.judge.explain().metrics;
    let needed = lacking
        .iter()
        .filter_map(|metric| metric.needed)
        .map(|needed| needed.requests)
        .max();
    let needed = needed.unwrap() as f64 / 1000.0;
    let more = (1..5000)
        .find(|at| tick(&mut bench, *at) == Verdict::NotWorse)
        .unwrap();
    assert!(
        (f64::from(more) / needed - 1.0).abs() < 0.5,
        "{more} ticks instead of {needed}"
    );
}

#[test]
fn a_verdict_says_how_often_it_is_wrong() {
    let mut bench = Bench::new(&failures());
    for _ in 0..3 {
        bench.tick(0.05, [1000, 60], &[[1, 20]]);
    }
    let sentence = bench.judge.explain().sentence;
    assert!(
        sentence.contains("failures: 60 of 63 on the shadow"),
        "{sentence}"
    );
    assert!(
        sentence.ends_with("said of a good one with probability 1 % at most"),
        "{sentence}"
    );
}

#[test]
fn what_five_proxies_see_in_one_moment_is_one_tick() {
    // The shadow restarts: for a moment all of its requests fail, at each of five proxies that had a fraction of its own.
    let mut judge = Judge::new(&failures()).unwrap();
    let parts = [0.04, 0.045, 0.05, 0.055, 0.06].map(|weight| interval(weight, [200, 10], &[[1, 10]]));
    let at = Moment::ZERO + TICK;
    judge.observe_tick(at, &parts).unwrap();
    assert_eq!(
        judge.verdict(),
        Verdict::Undecided,
        "{}",
        judge.explain().sentence
    );
    assert_eq!(
        judge.state().outage,
        Outage {
            ticks: 1,
            requests: 50
        }
    );
    assert_eq!(judge.state().metrics[0].ticks, 1);
    assert_eq!(
        judge.state().metrics[0].whole.segments().len(),
        5,
        "each under its own"
    );
    for tick in 2..4 {
        judge.observe_tick(Moment::ZERO + TICK * tick, &parts).unwrap();
    }
    assert_eq!(judge.verdict(), Verdict::Worse);
}

#[test]
fn of_a_tick_what_contradicts_itself_is_left_out_and_the_rest_is_counted() {
    let mut judge = Judge::new(&failures()).unwrap();
    let parts = [interval(0.5, [1, 1], &[[0, 2]]), interval(0.5, [3, 4], &[[0, 1]])];
    let refused = judge.observe_tick(Moment::ZERO, &parts);
    assert_eq!(refused, Err(IntervalError::Events(Metric::Failures)));
    assert_eq!((judge.state().requests, judge.state().refused), ([3, 4], 1));
}

#[test]
fn a_burst_that_many_proxies_see_is_one_event_under_the_widest_weight() {
    let mut policy = failures().robust();
    policy.burst = TICK;
    let mut judge = Judge::new(&policy).unwrap();
    let parts = [0.04, 0.06].map(|weight| interval(weight, [200, 10], &[[0, 10]]));
    judge.observe_tick(Moment::ZERO, &parts).unwrap();
    judge.observe_tick(Moment::ZERO + TICK, &parts).unwrap();
    let counts = &judge.state().metrics[0];
    let (worse, least) = (counts.whole.segments(), counts.whole_least.segments());
    assert_eq!((worse.len(), worse[0].events, least.len()), (1, EVENT, 1));
    assert_eq!((least[0].low, worse[0].high), (40_000_000, 60_000_000));
}

#[test]
fn where_a_weight_is_not_known_either_test_takes_the_end_at_which_it_finds_less() {
    let nats = |low: f64, high: f64| {
        let mut judge = Judge::new(&JudgePolicy::default()).unwrap();
        judge.state.step_requests = [0, 1_000];
        for tick in 0..4 {
            let events = [[9, 2], [500, 50], [90, 20], [9, 2], [1, 1]];
            let part = Interval {
                weight: WeightRange { low, high },
                ..interval(0.0, [1000, 100], &events)
            };
            judge.observe(Moment::ZERO + TICK * tick, &part).unwrap();
        }
        let each = judge.each().map(|weighed| {
            let policy = weighed.policy;
            let ratio = Ratio::below(2.0).nats(weighed.counts.step.for_not_worse());
            (weighed.counts.worse_nats(policy, 3), ratio)
        });
        each.collect::<Vec<_>>()
    };
    let wide = nats(0.05, 0.2);
    for known in [0.05, 0.1, 0.2] {
        for (metric, (wide, exact)) in wide.iter().zip(nats(known, known)).enumerate() {
            assert!(wide.0 <= exact.0 + 1e-9, "worse, metric {metric} at {known}");
            assert!(wide.1 <= exact.1 + 1e-9, "not worse, metric {metric} at {known}");
        }
    }
}

#[test]
fn what_an_earlier_step_sent_stands_against_the_shadow_and_is_no_proof_of_this_one() {
    let mut judge = Judge::new(&failures()).unwrap();
    let late = Interval {
        is_of_step: false,
        ..interval(0.5, [5000, 5000], &[[100, 100]])
    };
    judge.observe(Moment::ZERO, &late).unwrap();
    let (pass, worse) = (judge.pass_nats(), judge.state().metrics[0].whole.segments().len());
    assert_eq!((judge.state().step_requests, worse), ([0, 0], 1));
    assert!(pass.abs() < 1e-9, "{pass}");
}
