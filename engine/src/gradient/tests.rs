//! The closed loop in virtual time: a service of so many places, users who never stop asking, and the limit between them.

#![expect(
    clippy::cast_possible_truncation,
    reason = "times and places of a test are small"
)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::*;

const BOUNDS: Bounds = Bounds {
    min: 4,
    max: 2000,
    start: 20,
    recheck: Duration::from_secs(30),
};

/// How long services take for a request, spread around the same mean.
#[derive(Clone, Copy, Debug)]
enum Spread {
    Constant,
    Exponential,
    /// Nine of ten fast, one ten times slower.
    Bimodal,
}

/// A service of `places`; what is beyond waits in it in the order of arrival.
struct Service {
    places: usize,
    mean_s: f64,
    spread: Spread,
    rng: SmallRng,
    busy: usize,
    waiting: VecDeque<u64>,
    /// When who is served is done, and when he came.
    done: BinaryHeap<Reverse<(u64, u64)>>,
}

/// What was seen in a time.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    served: u32,
    latency_s: f64,
    limit_max: u32,
    limit_min: u32,
}

struct Loop {
    gradient: Gradient,
    service: Service,
    under_way: u32,
    now: u64,
}

impl Service {
    fn takes_us(&mut self) -> u64 {
        let factor = match self.spread {
            Spread::Constant => 1.0,
            Spread::Exponential => -(1.0 - self.rng.random::<f64>()).ln(),
            Spread::Bimodal if self.rng.random::<f64>() < 0.9 => 1.0 / 1.9,
            Spread::Bimodal => 10.0 / 1.9,
        };
        (factor * self.mean_s * 1e6) as u64 + 1
    }

    fn arrive(&mut self, now: u64) {
        self.waiting.push_back(now);
        self.fill(now);
    }

    fn fill(&mut self, now: u64) {
        while self.busy < self.places {
            let Some(came) = self.waiting.pop_front() else {
                return;
            };
            self.busy += 1;
            let takes = self.takes_us();
            self.done.push(Reverse((now + takes, came)));
        }
    }
}

impl Loop {
    fn new(places: usize, mean_s: f64, spread: Spread, seed: u64) -> Self {
        Self {
            gradient: Gradient::new(BOUNDS),
            service: Service {
                places,
                mean_s,
                spread,
                rng: SmallRng::seed_from_u64(seed),
                busy: 0,
                waiting: VecDeque::new(),
                done: BinaryHeap::new(),
            },
            under_way: 0,
            now: 0,
        }
    }

    /// Lets in whoever finds a place; never more than `demand` at a time.
    fn admit(&mut self, demand: u32) {
        while self.under_way < self.gradient.limit().min(demand) {
            self.under_way += 1;
            self.service.arrive(self.now);
        }
    }

    /// Goes on for so long.
    fn run(&mut self, seconds: f64, demand: u32) -> Seen {
        let end = self.now + (seconds * 1e6) as u64;
        let mut seen = Seen {
            limit_min: u32::MAX,
            ..Seen::default()
        };
        self.admit(demand);
        while let Some(Reverse((at, came))) = self.service.done.pop() {
            if at >= end {
                self.service.done.push(Reverse((at, came)));
                break;
            }
            self.now = at;
            self.service.busy -= 1;
            self.service.fill(at);
            let latency = Duration::from_micros(at - came);
            self.gradient
                .sample(Moment::from_micros(at), latency, self.under_way, false);
            self.under_way -= 1;
            seen.served += 1;
            seen.latency_s += latency.as_secs_f64();
            let limit = self.gradient.limit();
            (seen.limit_min, seen.limit_max) = (seen.limit_min.min(limit), seen.limit_max.max(limit));
            self.admit(demand);
        }
        self.now = end;
        seen.latency_s /= f64::from(seen.served.max(1));
        seen
    }

    /// Whether nearly all of the service is used, and nobody waits for long in it.
    fn assert_at_the_knee(&mut self, seconds: f64) {
        let (places, mean_s) = (self.service.places as f64, self.service.mean_s);
        let seen = self.run(seconds, u32::MAX);
        let share = f64::from(seen.served) / (seconds * places / mean_s);
        let slower = seen.latency_s / mean_s;
        let about = format!(
            "{places} places of {mean_s} s, {:?}: {share:.3} of the throughput, {slower:.2} times the latency, {seen:?}",
            self.service.spread
        );
        assert!(share >= 0.95, "{about}");
        // The tolerance, the queue of a square root, and the noise of few places.
        let allowed = TOLERANCE + 3.0 / places.sqrt() + 0.3;
        assert!(slower <= allowed, "{about}, allowed {allowed:.2}");
    }
}

fn spread() -> impl Strategy<Value = Spread> {
    prop::sample::select(vec![Spread::Constant, Spread::Exponential, Spread::Bimodal])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn it_finds_the_knee_and_stays_there(
        places in 16_usize..200,
        mean_ms in 20_u32..100,
        spread in spread(),
        seed in any::<u64>(),
    ) {
        let mut all = Loop::new(places, f64::from(mean_ms) / 1e3, spread, seed);
        all.run(40.0, u32::MAX);
        all.assert_at_the_knee(60.0);
    }

    #[test]
    fn it_follows_a_service_that_halves_or_doubles(
        places in 20_usize..200,
        mean_ms in 20_u32..50,
        spread in spread(),
        seed in any::<u64>(),
    ) {
        let mut all = Loop::new(places, f64::from(mean_ms) / 1e3, spread, seed);
        all.run(40.0, u32::MAX);
        for factor in [0.5, 2.0] {
            all.service.places = (all.service.places as f64 * factor) as usize;
            all.run(20.0, u32::MAX);
            all.assert_at_the_knee(60.0);
        }
    }

    #[test]
    fn it_does_not_take_a_slower_service_for_a_longer_queue(
        places in 20_usize..200,
        spread in spread(),
        seed in any::<u64>(),
    ) {
        let mut all = Loop::new(places, 0.02, spread, seed);
        all.run(40.0, u32::MAX);
        for mean_s in [0.06, 0.02] {
            all.service.mean_s = mean_s;
            all.run(40.0, u32::MAX);
            all.assert_at_the_knee(60.0);
        }
    }

    #[test]
    fn whatever_it_sees_it_stays_within_its_bounds(
        samples in prop::collection::vec((0_u64..2_000_000, 0_u64..100_000_000, 0_u32..5000), 0..2000),
        min in 1_u32..50,
        more in 0_u32..500,
        start in 0_u32..1000,
    ) {
        let bounds = Bounds { min, max: min + more, start, recheck: Duration::from_secs(5) };
        let mut gradient = Gradient::new(bounds);
        let mut now = 0;
        for (pause, latency, under_way) in samples {
            now += pause;
            let late = latency > 50_000_000;
            gradient.sample(Moment::from_micros(now), Duration::from_micros(latency), under_way, late);
            prop_assert!((min..=min + more).contains(&gradient.limit()));
        }
    }
}

#[test]
fn who_asks_little_proves_nothing_and_a_burst_after_it_finds_the_knee() {
    let mut all = Loop::new(50, 0.02, Spread::Exponential, 7);
    let seen = all.run(60.0, 5);
    assert!(
        seen.limit_max <= BOUNDS.start,
        "{seen:?}: five at a time are no reason for more"
    );
    all.run(20.0, u32::MAX);
    all.assert_at_the_knee(60.0);
}

#[test]
fn a_measurement_costs_little() {
    let mut all = Loop::new(100, 0.02, Spread::Exponential, 3);
    all.run(100.0, u32::MAX);
    let seen = all.run(60.0, u32::MAX);
    let share = f64::from(seen.served) / (60.0 * 100.0 / 0.02);
    assert!(share >= 0.97, "{share} with {seen:?}");
    assert!(
        seen.limit_min < 100 && seen.limit_max > 100,
        "{seen:?}: it was measured meanwhile"
    );
}

#[test]
fn a_first_impression_under_load_is_corrected() {
    // Four places: the first window, at twenty, is five times slower than it need be.
    let mut all = Loop::new(4, 0.02, Spread::Constant, 1);
    all.run(30.0, u32::MAX);
    let seen = all.run(60.0, u32::MAX);
    assert!(seen.latency_s < 0.02 * 3.0, "{seen:?}");
    assert!(f64::from(seen.served) / (60.0 * 4.0 / 0.02) >= 0.95, "{seen:?}");
}

/// So many rounds of as many requests as the limit lets in, each of which takes `latency`.
fn rounds(gradient: &mut Gradient, now: &mut Moment, count: u32, latency: Duration, late: bool) {
    for _ in 0..count {
        *now = *now + latency;
        let many = gradient.limit();
        (0..many).for_each(|_| gradient.sample(*now, latency, many, late));
    }
}

#[test]
fn a_service_that_hangs_teaches_nothing_of_its_latency_without_a_queue() {
    let (mut gradient, mut now) = (Gradient::new(BOUNDS), Moment::ZERO);
    rounds(&mut gradient, &mut now, 400, Duration::from_millis(10), false);
    rounds(&mut gradient, &mut now, 180, Duration::from_secs(1), true);
    let base = gradient.base();
    assert!(
        base.is_some_and(|base| base < Duration::from_millis(15)),
        "{base:?}"
    );
    assert!(gradient.limit() < BOUNDS.start, "{}", gradient.limit());
}

#[test]
fn a_hang_begins_no_measurement_that_outlasts_it() {
    let (mut gradient, mut now) = (Gradient::new(BOUNDS), Moment::ZERO);
    rounds(&mut gradient, &mut now, 400, Duration::from_millis(10), false);
    let before = gradient.limit;
    rounds(&mut gradient, &mut now, 4, Duration::from_secs(15), true);
    assert_eq!(gradient.phase, Phase::Steady);
    let hung = gradient.limit;
    assert!(hung < before, "{hung} of {before}");
    rounds(&mut gradient, &mut now, 50, Duration::from_millis(10), false);
    assert!(gradient.limit > hung, "half a second later it rises again");
}

#[test]
fn answers_that_have_waited_for_a_stall_begin_no_measurement_that_outlasts_it() {
    let (mut gradient, mut now) = (Gradient::new(BOUNDS), Moment::ZERO);
    rounds(&mut gradient, &mut now, 400, Duration::from_millis(10), false);
    let until = loop {
        rounds(&mut gradient, &mut now, 1, Duration::from_secs(14), false);
        match gradient.phase {
            // Because of what these take.
            Phase::Draining(until) if gradient.recent_s > 1.0 => break until,
            _ => {}
        }
    };
    assert!(until.since(gradient.probed) <= MEASURED_MAX);
}

#[test]
fn one_endpoint_of_ten_that_hangs_is_not_the_service() {
    let bounds = Bounds { max: 200, ..BOUNDS };
    let (mut gradient, mut now) = (Gradient::new(bounds), Moment::ZERO);
    let usual = Duration::from_millis(10);
    rounds(&mut gradient, &mut now, 400, usual, false);
    let (before, base) = (gradient.limit, gradient.base());
    for _ in 0..3000 {
        now = now + usual;
        let many = gradient.limit();
        for nth in 0..many {
            match nth % 10 {
                0 => gradient.sample(now, Duration::from_secs(15), many, true),
                _ => gradient.sample(now, usual, many, false),
            }
        }
    }
    assert!(gradient.limit >= before, "{} of {before}", gradient.limit);
    assert_eq!(gradient.base(), base);
}

#[test]
fn clients_who_go_away_say_that_a_service_hangs_once_they_have_waited_for_long() {
    let (mut gradient, mut now) = (Gradient::new(BOUNDS), Moment::ZERO);
    let leave = |gradient: &mut Gradient, now: &mut Moment, waited: Duration| {
        for _ in 0..1000 {
            *now = *now + Duration::from_millis(1);
            gradient.abandoned(*now, waited, 20);
        }
    };
    leave(&mut gradient, &mut now, Duration::from_secs(1));
    assert_eq!(gradient.limit(), BOUNDS.start, "nobody knows what is usual");
    rounds(&mut gradient, &mut now, 50, Duration::from_millis(10), false);
    let before = gradient.limit;
    leave(&mut gradient, &mut now, Duration::from_millis(30));
    assert!(gradient.limit >= before, "they had their own reasons");
    leave(&mut gradient, &mut now, Duration::from_secs(1));
    assert!(gradient.limit < before, "{} of {before}", gradient.limit);
}

#[test]
fn a_measurement_that_gets_no_samples_is_given_up() {
    let (mut gradient, mut now) = (Gradient::new(BOUNDS), Moment::ZERO);
    while gradient.phase == Phase::Steady {
        rounds(&mut gradient, &mut now, 1, Duration::from_millis(10), false);
    }
    let probed = gradient.limit();
    gradient.look(now + Duration::from_secs(1));
    assert_eq!(gradient.limit(), probed, "it may come to something yet");
    gradient.look(now + Duration::from_secs(60));
    assert_eq!(gradient.phase, Phase::Steady);
    assert!(gradient.limit() > probed);
}
