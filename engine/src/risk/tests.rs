//! Scenarios: four primaries and their idle shadows in virtual time, at the traffic of a small service, one fault each.
//!
//! Requests arrive at random, take a log-normal time, and end in the tick in which they end, so that slow ones are late
//! as evidence, too, and hanging ones never come.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use foreshade_contract::{Risk, Share};

use super::*;
use crate::assessment::{Assessment, Group, Standing};
use crate::in_flight::{InFlight, Started};
use crate::observation::{NetworkTally, ResourceReport};
use crate::outcome::{Class, Outcome, RouteClass};
use crate::spec::{BalancePolicy, EndpointSpec, HealthPolicy, Role, ShiftPolicy};

const PRIMARIES: usize = 4;
const RPS: f64 = 300.0;

/// How an endpoint behaves.
#[derive(Clone, Debug)]
struct Manner {
    rps: f64,
    median_us: f64,
    sigma: f64,
    slow: f64,
    errors: f64,
    hangs: f64,
    /// Share of requests that take thirty times as long.
    tail: f64,
    refuses: bool,
    /// A class that is slower than `slow` says, or fails, by itself: class, factor, share of errors.
    class: Option<(u64, f64, f64)>,
    classes: u64,
    /// Latency grows with what is in flight, as under processor sharing.
    sharing: bool,
    probe: Option<bool>,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            rps: RPS,
            median_us: 5000.0,
            sigma: 0.5,
            slow: 1.0,
            errors: 0.0,
            hangs: 0.0,
            tail: 0.0,
            refuses: false,
            class: None,
            classes: 1,
            sharing: false,
            probe: None,
        }
    }
}

impl Manner {
    fn idle() -> Self {
        Self {
            rps: 0.0,
            ..Self::default()
        }
    }
}

struct Pending {
    ends: u64,
    started: Started,
    outcome: Outcome,
}

struct Backend {
    in_flight: InFlight,
    pending: Vec<Pending>,
}

/// A cluster in virtual time.
struct Scene {
    assessor: Assessor,
    rng: StdRng,
    tick: u64,
    manners: Vec<Manner>,
    backends: Vec<Backend>,
    lag: Duration,
}

fn spec(primaries: usize) -> ClusterSpec {
    let endpoint = |index: usize| EndpointSpec {
        name: format!("e{index}").parse().unwrap(),
        role: if index < primaries {
            Role::Primary {
                shadow: Some(primaries + index),
            }
        } else {
            Role::Shadow
        },
        weight: 1.0,
        capacity_rps: None,
        region: None,
    };
    ClusterSpec {
        name: "shop".parse().unwrap(),
        endpoints: (0..2 * primaries).map(endpoint).collect(),
        shift: ShiftPolicy::default(),
        attempt_timeout: Duration::from_secs(15),
        balance: BalancePolicy::default(),
        health: Some(HealthPolicy::default()),
        slow_start: Duration::from_secs(10),
        segments: Vec::<Share>::new(),
    }
}

fn normal(rng: &mut StdRng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

impl Scene {
    fn new(primaries: usize, seed: u64) -> Self {
        let mut manners = vec![Manner::default(); primaries];
        manners.resize(2 * primaries, Manner::idle());
        Self {
            assessor: Assessor::new(&spec(primaries), Moment::ZERO),
            rng: StdRng::seed_from_u64(seed),
            tick: 0,
            backends: (0..2 * primaries)
                .map(|_| Backend {
                    in_flight: InFlight::default(),
                    pending: Vec::new(),
                })
                .collect(),
            manners,
            lag: Duration::ZERO,
        }
    }

    /// After 30 healthy seconds.
    fn warm(seed: u64) -> Self {
        let mut scene = Self::new(PRIMARIES, seed);
        scene.run(300, |_, _| ());
        scene
    }

    fn all(&mut self, change: impl Fn(&mut Manner)) {
        self.manners.iter_mut().filter(|m| m.rps > 0.0).for_each(change);
    }

    fn step(&mut self) -> ClusterAssessment {
        let start = self.tick * 100_000;
        self.tick += 1;
        let seen: Vec<Observation> = (0..self.manners.len())
            .map(|index| self.serve(index, start))
            .collect();
        self.assessor
            .assess(Moment::from_micros(start + 100_000), &seen, self.lag)
    }

    fn serve(&mut self, index: usize, start: u64) -> Observation {
        let manner = &self.manners[index];
        let backend = &mut self.backends[index];
        let mut seen = Observation::default();
        let mut at = start as f64;
        loop {
            at += -1e6 / manner.rps.max(1e-9) * (1.0 - self.rng.random::<f64>()).ln();
            let now = (at as u64).min(start + 100_000);
            let mut place = 0;
            while let Some(request) = backend.pending.get(place) {
                if request.ends <= now {
                    let request = backend.pending.swap_remove(place);
                    backend.in_flight.end(request.started);
                    seen.record(&request.outcome);
                } else {
                    place += 1;
                }
            }
            if at >= (start + 100_000) as f64 {
                break;
            }
            seen.started += 1;
            let request = begin(manner, backend, now, &mut self.rng);
            backend.pending.push(request);
        }
        if let Some(passes) = manner.probe.filter(|_| self.tick.is_multiple_of(10)) {
            seen.probes.passed = u32::from(passes);
            seen.probes.failed = u32::from(!passes);
        }
        seen.in_flight = u32::try_from(backend.pending.len()).unwrap();
        seen.ages = backend.in_flight.ages(Moment::from_micros(start + 100_000));
        seen
    }

    fn run(&mut self, ticks: usize, mut look: impl FnMut(usize, &ClusterAssessment)) {
        for tick in 0..ticks {
            let assessment = self.step();
            look(tick, &assessment);
        }
    }

    /// Ticks until endpoint 0 satisfies something.
    fn until(&mut self, ticks: usize, wanted: impl Fn(&Assessment) -> bool) -> Option<usize> {
        (1..=ticks).find(|_| wanted(&self.step().endpoints[0]))
    }

    /// The largest risk of the chosen endpoints, and whether a common cause was ever seen, over so many ticks.
    fn worst(&mut self, ticks: usize, endpoints: std::ops::Range<usize>) -> (f64, bool) {
        let (mut worst, mut common) = (0.0, false);
        self.run(ticks, |_, assessment| {
            common |= assessment.common_cause;
            for endpoint in &assessment.endpoints[endpoints.clone()] {
                worst = f64::max(worst, endpoint.risk.value());
            }
        });
        (worst, common)
    }
}

fn begin(manner: &Manner, backend: &mut Backend, now: u64, rng: &mut StdRng) -> Pending {
    let class = rng.random_range(0..manner.classes);
    let (factor, class_errors) = match manner.class {
        Some((sick, factor, errors)) if sick == class => (factor, errors),
        _ => (1.0, 0.0),
    };
    let in_flight = u32::try_from(backend.pending.len()).unwrap();
    let shared = if manner.sharing {
        f64::from(in_flight + 1)
    } else {
        1.0
    };
    // Classes differ by nature, too.
    let nature = 1.0 + class as f64;
    let tail = if rng.random_bool(manner.tail) { 30.0 } else { 1.0 };
    let us =
        tail * manner.median_us * nature * manner.slow * factor * shared * (manner.sigma * normal(rng)).exp();
    let class_of = RouteClass::of_hash(class);
    let (end, us) = if manner.refuses {
        (Class::Refused, 100.0)
    } else if rng.random_bool(manner.hangs) {
        (Class::Timeout, 15e6)
    } else if rng.random_bool((manner.errors + class_errors).min(1.0)) {
        (Class::AppError, us)
    } else {
        (Class::Ok, us)
    };
    Pending {
        ends: now + us as u64,
        started: backend.in_flight.begin(Moment::from_micros(now)),
        outcome: Outcome {
            class: end,
            latency: Duration::from_micros(us as u64),
            route_class: class_of,
            in_flight_at_start: in_flight,
        },
    }
}

fn risk_over(limit: f64) -> impl Fn(&Assessment) -> bool {
    move |assessment| assessment.risk.value() >= limit
}

const SEEDS: std::ops::Range<u64> = 0..8;

// Concept: endpoint-risk-score
#[test]
fn ten_times_slower_is_risky_in_half_a_second() {
    for seed in SEEDS {
        let mut scene = Scene::warm(seed);
        scene.manners[0].slow = 10.0;
        assert!(scene.until(5, risk_over(0.8)).is_some(), "seed {seed}");
        let last = scene.step().endpoints[0].clone();
        assert_eq!(last.top_group(), Some(Group::Performance), "{:?}", last.terms);
        assert_eq!(last.standing, Standing::Known);
    }
}

#[test]
fn three_times_slower_is_risky_in_a_second() {
    for seed in SEEDS {
        let mut scene = Scene::warm(seed);
        scene.manners[0].slow = 3.0;
        assert!(scene.until(10, risk_over(0.5)).is_some(), "seed {seed}");
        let (worst, _) = scene.worst(30, 0..1);
        assert!(worst >= 0.8, "seed {seed}: {worst}");
    }
}

#[test]
fn twice_as_slow_is_half_a_risk() {
    for seed in SEEDS {
        let mut scene = Scene::warm(seed);
        scene.manners[0].slow = 2.0;
        assert!(scene.until(15, risk_over(0.35)).is_some(), "seed {seed}");
        let (worst, _) = scene.worst(100, 0..1);
        assert!((0.35..=0.65).contains(&worst), "seed {seed}: {worst}");
        let slowdown = scene.step().endpoints[0].slowdown;
        assert!((1.6..=2.4).contains(&slowdown), "seed {seed}: {slowdown}");
    }
}

#[test]
fn a_third_slower_is_no_risk() {
    for seed in SEEDS {
        let mut scene = Scene::warm(seed);
        scene.manners[0].slow = 1.3;
        let (worst, _) = scene.worst(600, 0..1);
        assert!(worst < 0.15, "seed {seed}: {worst}");
    }
}

#[test]
fn half_of_all_failing_is_risky_in_four_ticks() {
    for seed in SEEDS {
        let mut scene = Scene::warm(seed);
        scene.manners[0].errors = 0.5;
        assert!(scene.until(4, risk_over(0.85)).is_some(), "seed {seed}");
        assert_eq!(scene.step().endpoints[0].top_group(), Some(Group::Hard));
    }
}

#[test]
fn five_percent_failing_is_risky_in_seconds() {
    for seed in SEEDS {
        let mut scene = Scene::warm(seed);
        scene.manners[0].errors = 0.05;
        let engaged = scene.until(20, risk_over(0.6));
        assert!(engaged.is_some(), "seed {seed}");
        // Where a share of 95 % is wanted.
        assert!(scene.until(25, risk_over(0.82)).is_some(), "seed {seed}");
    }
}

#[test]
fn a_fault_five_seconds_after_the_start_is_seen_as_well() {
    for seed in SEEDS {
        for fault in [|m: &mut Manner| m.slow = 10.0, |m: &mut Manner| m.errors = 0.5] {
            let mut scene = Scene::new(PRIMARIES, seed);
            scene.run(50, |_, _| ());
            fault(&mut scene.manners[0]);
            assert!(scene.until(5, risk_over(0.8)).is_some(), "seed {seed}");
        }
    }
}

// Concept: endpoint-failover
#[test]
fn a_hang_is_death_in_three_ticks() {
    for seed in SEEDS {
        let mut scene = Scene::warm(seed);
        scene.manners[0].hangs = 1.0;
        let dead = scene.until(3, Assessment::is_dead);
        assert!(dead.is_some(), "seed {seed}");
        assert!(scene.step().endpoints[0].risk.value() >= 0.98);
    }
}

#[test]
fn a_refusal_is_death_in_two_ticks() {
    for seed in SEEDS {
        let mut scene = Scene::warm(seed);
        scene.manners[0].refuses = true;
        assert!(scene.until(2, Assessment::is_dead).is_some(), "seed {seed}");
    }
}

#[test]
fn the_dead_stay_dead_in_silence_and_live_by_serving() {
    let mut scene = Scene::warm(1);
    scene.manners[0].refuses = true;
    scene.run(5, |_, _| ());
    scene.manners[0] = Manner::idle();
    scene.run(3000, |_, assessment| assert!(assessment.endpoints[0].is_dead()));
    scene.manners[0] = Manner {
        rps: 20.0,
        ..Manner::default()
    };
    assert!(scene.until(10, |assessment| !assessment.is_dead()).is_some());
}

#[test]
fn some_requests_that_hang_are_a_risk_long_before_their_timeout() {
    for seed in SEEDS {
        let mut scene = Scene::warm(seed);
        scene.manners[0].hangs = 0.2;
        assert!(scene.until(15, risk_over(0.6)).is_some(), "seed {seed}");
        assert!(!scene.step().endpoints[0].is_dead());
    }
}

#[test]
fn health_is_never_a_risk() {
    for seed in SEEDS {
        let mut scene = Scene::new(PRIMARIES, seed);
        let (worst, common) = scene.worst(6000, 0..2 * PRIMARIES);
        assert!(worst < 0.15, "seed {seed}: {worst}");
        assert!(!common);
    }
}

#[test]
fn heavy_tails_and_little_traffic_are_no_risk() {
    for seed in SEEDS {
        let mut scene = Scene::new(PRIMARIES, seed);
        scene.all(|m| {
            m.sigma = 1.2;
            m.errors = 0.001;
        });
        scene.manners[1].rps = 5.0;
        scene.manners[2].rps = 0.5;
        let (worst, _) = scene.worst(6000, 0..2 * PRIMARIES);
        assert!(worst < 0.15, "seed {seed}: {worst}");
    }
}

#[test]
fn half_a_percent_of_errors_everywhere_is_no_risk() {
    for seed in SEEDS {
        let mut scene = Scene::new(PRIMARIES, seed);
        scene.all(|m| m.errors = 0.005);
        let (worst, _) = scene.worst(3000, 0..2 * PRIMARIES);
        assert!(worst <= 0.15, "seed {seed}: {worst}");
    }
}

#[test]
fn what_happens_to_all_is_nobodys_risk() {
    for seed in SEEDS {
        for primaries in [2, 3, 4] {
            for fault in [|m: &mut Manner| m.slow = 4.0, |m: &mut Manner| m.errors = 0.3] {
                let mut scene = Scene::new(primaries, seed);
                scene.run(300, |_, _| ());
                scene.all(fault);
                scene.run(100, |tick, assessment| {
                    for (index, endpoint) in assessment.endpoints.iter().enumerate() {
                        let risk = endpoint.risk.value();
                        assert!(
                            risk <= 0.15 || assessment.common_cause,
                            "seed {seed}, {primaries} primaries, tick {tick}, endpoint {index}: {risk} {:?}",
                            endpoint.terms
                        );
                    }
                });
            }
        }
    }
}

#[test]
fn all_hanging_at_once_is_no_death_unless_a_standby_lives() {
    let mut scene = Scene::warm(1);
    scene.all(|m| m.hangs = 1.0);
    let mut common = false;
    scene.run(10, |_, assessment| {
        common |= assessment.common_cause;
        assert!(assessment.endpoints.iter().all(|endpoint| !endpoint.is_dead()));
    });
    assert!(common);

    let mut scene = Scene::new(PRIMARIES, 1);
    scene.manners.iter_mut().for_each(|m| m.probe = Some(true));
    scene.run(300, |_, _| ());
    scene.all(|m| m.hangs = 1.0);
    scene.run(10, |_, _| ());
    assert!(
        scene.step().endpoints[..PRIMARIES]
            .iter()
            .all(Assessment::is_dead)
    );
}

#[test]
fn one_sick_endpoint_of_two_does_not_hide_behind_the_other() {
    for seed in SEEDS {
        let mut scene = Scene::new(2, seed);
        scene.run(300, |_, _| ());
        scene.manners[0].slow = 10.0;
        // Its traffic moves to the other one, which suffers a little.
        scene.manners[1].slow = 1.5;
        let mut seen = false;
        scene.run(10, |_, assessment| {
            seen |= assessment.endpoints[0].risk.value() > 0.8 && !assessment.common_cause;
        });
        assert!(seen, "seed {seed}");
    }
}

#[test]
fn load_that_comes_and_goes_is_no_risk() {
    for (seed, primaries) in [(0, 1), (1, 1), (4, 1), (5, 1), (2, 2), (3, 4)] {
        let mut scene = Scene::new(primaries, seed);
        scene.all(|m| {
            m.sharing = true;
            m.rps = 40.0;
        });
        scene.run(600, |_, _| ());
        for tick in 0..6000 {
            let load = 40.0 * (1.1 * (std::f64::consts::TAU * f64::from(tick) / 6000.0).sin()).exp();
            scene.all(|m| m.rps = load);
            for endpoint in scene.step().endpoints {
                let risk = endpoint.risk.value();
                assert!(
                    risk <= 0.15,
                    "seed {seed}, tick {tick}: {risk} {:?} at {load}",
                    endpoint.terms
                );
            }
        }
    }
}

#[test]
fn a_change_in_the_mix_of_requests_is_no_risk() {
    for seed in SEEDS {
        let mut scene = Scene::new(PRIMARIES, seed);
        scene.all(|m| m.classes = 5);
        scene.run(300, |_, _| ());
        // From classes that take 5 to 25 ms to the fastest one alone, and back.
        scene.manners[0].classes = 1;
        let (worst, _) = scene.worst(200, 0..1);
        scene.manners[0].classes = 5;
        let (again, _) = scene.worst(200, 0..1);
        assert!(worst.max(again) < 0.15, "seed {seed}: {worst} {again}");
    }
}

#[test]
fn one_sick_path_moves_alone() {
    for seed in SEEDS {
        for sick in [(3, 20.0, 0.0), (2, 1.0, 0.5), (1, 1.0, 0.1)] {
            let mut scene = Scene::new(PRIMARIES, seed);
            scene.all(|m| m.classes = 5);
            scene.run(300, |_, _| ());
            scene.manners[0].class = Some(sick);
            let mut found = 0.0;
            scene.run(40, |tick, assessment| {
                let endpoint = &assessment.endpoints[0];
                assert!(
                    endpoint.risk.value() < 0.15,
                    "seed {seed}, tick {tick}, {sick:?}: {} {:?}",
                    endpoint.risk,
                    endpoint.terms
                );
                for class in &endpoint.classes {
                    assert_eq!(class.class, RouteClass::of_hash(sick.0), "seed {seed}");
                    found = f64::max(found, class.risk.value());
                }
            });
            assert!(found >= 0.7, "seed {seed}, {sick:?}: {found}");
        }
    }
}

#[test]
fn a_path_that_is_sick_everywhere_is_nobodys_risk() {
    for seed in SEEDS {
        let mut scene = Scene::new(PRIMARIES, seed);
        scene.all(|m| m.classes = 5);
        scene.run(300, |_, _| ());
        scene.all(|m| m.class = Some((3, 20.0, 0.0)));
        scene.run(50, |tick, assessment| {
            for endpoint in &assessment.endpoints {
                assert!(
                    endpoint.risk.value() < 0.15 || assessment.common_cause,
                    "seed {seed}, tick {tick}"
                );
                let worst = endpoint
                    .classes
                    .iter()
                    .map(|class| class.risk.value())
                    .fold(0.0, f64::max);
                assert!(worst <= 0.15, "seed {seed}, tick {tick}: {worst}");
            }
        });
    }
}

#[test]
fn all_paths_sick_is_a_sick_endpoint() {
    for seed in SEEDS {
        for fault in [|m: &mut Manner| m.slow = 10.0, |m: &mut Manner| m.errors = 0.05] {
            let mut scene = Scene::new(PRIMARIES, seed);
            scene.all(|m| m.classes = 5);
            scene.run(300, |_, _| ());
            fault(&mut scene.manners[0]);
            assert!(scene.until(40, risk_over(0.8)).is_some(), "seed {seed}");
        }
    }
}

#[test]
fn a_slow_tail_alone_is_seen() {
    for seed in SEEDS {
        let mut scene = Scene::warm(seed);
        scene.manners[0].tail = 0.04;
        let seen = scene.until(40, |assessment| {
            assessment
                .terms
                .iter()
                .any(|term| term.component == "tail" && term.hazard > 0.3)
        });
        assert!(seen.is_some(), "seed {seed}");
    }
}

#[test]
fn a_ramp_is_engaged_before_it_triples() {
    let ramps: [fn(f64) -> f64; 2] = [|way| 20f64.powf(way), |way| 1.0 + 19.0 * way];
    for seed in SEEDS {
        for ramp in ramps {
            let mut scene = Scene::warm(seed);
            let engaged = (1..=120).find(|tick| {
                scene.manners[0].slow = ramp(f64::from(*tick) / 120.0);
                scene.step().endpoints[0].risk.value() >= 0.35
            });
            let slow = scene.manners[0].slow;
            assert!(engaged.is_some() && slow < 2.75, "seed {seed}: {slow}");
        }
    }
}

#[test]
fn a_leak_is_foreseen() {
    for seed in 0..3 {
        let mut scene = Scene::warm(seed);
        let mut foreseen = None;
        for tick in 1..=280u32 {
            scene.manners[0].slow = (0.02 * f64::from(tick) / 10.0).exp();
            let assessment = scene.step().endpoints[0].clone();
            if assessment.eta_seconds.is_some() && foreseen.is_none() {
                foreseen = Some(tick);
            }
        }
        assert!(
            foreseen.is_some_and(|tick| tick < 250),
            "seed {seed}: {foreseen:?}"
        );
    }
}

#[test]
fn a_recovered_endpoint_is_believed_in_ten_seconds() {
    for seed in SEEDS {
        for fault in [|m: &mut Manner| m.slow = 10.0, |m: &mut Manner| m.errors = 0.3] {
            let mut scene = Scene::warm(seed);
            fault(&mut scene.manners[0]);
            scene.run(600, |_, _| ());
            scene.manners[0] = Manner::default();
            let back = scene.until(130, |assessment| assessment.risk.value() <= 0.15);
            assert!(back.is_some(), "seed {seed}");
        }
    }
}

#[test]
fn five_percent_on_a_canary_keep_the_risk_up() {
    for seed in SEEDS {
        let mut scene = Scene::warm(seed);
        scene.manners[0].errors = 0.05;
        scene.run(100, |_, _| ());
        scene.manners[0].rps = 15.0;
        scene.run(300, |tick, assessment| {
            let risk = assessment.endpoints[0].risk.value();
            assert!(risk > 0.35, "seed {seed}, tick {tick}: {risk}");
        });
    }
}

#[test]
fn a_slow_start_is_survived() {
    for seed in SEEDS {
        let mut scene = Scene::new(PRIMARIES, seed);
        scene.all(|m| m.slow = 5.0);
        scene.run(40, |_, _| ());
        scene.all(|m| m.slow = 1.0);
        let (worst, _) = scene.worst(300, 0..PRIMARIES);
        assert!(worst < 0.15, "seed {seed}: {worst}");
        scene.manners[0].slow = 3.0;
        assert!(scene.until(15, risk_over(0.5)).is_some(), "seed {seed}");
    }
}

#[test]
fn jumps_of_the_clock_never_trip() {
    for jump in [50, 100_000] {
        let mut scene = Scene::warm(2);
        scene.tick += jump;
        let (worst, common) = scene.worst(100, 0..2 * PRIMARIES);
        assert!(worst < 0.15 && !common, "{worst}");
    }
    let mut scene = Scene::warm(2);
    scene.tick -= 100;
    let (worst, _) = scene.worst(100, 0..PRIMARIES);
    assert!(worst < 0.15, "{worst}");
}

#[test]
fn our_own_lag_is_not_their_slowness() {
    let mut scene = Scene::warm(3);
    scene.lag = Duration::from_millis(50);
    scene.manners[0].slow = 10.0;
    let (worst, _) = scene.worst(20, 0..PRIMARIES);
    assert!(worst < 0.15, "{worst}");
}

#[test]
fn a_drained_endpoint_keeps_its_risk() {
    let mut scene = Scene::warm(4);
    scene.manners[0].slow = 10.0;
    scene.run(20, |_, _| ());
    scene.manners[0] = Manner::idle();
    scene.run(100, |_, _| ());
    let before = scene.step().endpoints[0].risk.value();
    scene.run(5000, |_, _| ());
    let after = scene.step().endpoints[0].clone();
    assert!(after.risk.value() >= before - 0.01 && before > 0.8);
    assert_eq!(after.standing, Standing::Unknown);
}

#[test]
fn probes_that_pass_while_users_fail_corroborate() {
    let mut scene = Scene::new(PRIMARIES, 5);
    scene.manners.iter_mut().for_each(|m| m.probe = Some(true));
    scene.run(300, |_, _| ());
    scene.manners[0].errors = 0.3;
    scene.run(30, |_, _| ());
    let terms = scene.step().endpoints[0].terms.clone();
    assert!(
        terms.iter().any(|term| term.component == "disagreement"),
        "{terms:?}"
    );
}

#[test]
fn failed_probes_kill_and_passed_ones_revive() {
    let mut scene = Scene::new(PRIMARIES, 5);
    scene.manners[4].probe = Some(false);
    assert!(scene.until(1, |_| true).is_some());
    scene.run(40, |_, _| ());
    assert!(scene.step().endpoints[4].is_dead());
    scene.manners[4].probe = Some(true);
    scene.run(30, |_, _| ());
    assert!(!scene.step().endpoints[4].is_dead());
}

// Concept: endpoint-external
#[test]
fn advisories_count_little_and_end() {
    let mut scene = Scene::warm(6);
    scene.assessor.handle_advisory(Advisory {
        endpoint: 0,
        source: "status page".into(),
        reason: "maintenance".into(),
        value: Risk::ONE,
        trust: 1.0,
        half_life: Duration::ZERO,
        at: Moment::from_micros(30_000_000),
        expires: Moment::from_micros(40_000_000),
    });
    scene.run(90, |_, assessment| {
        assert!((assessment.endpoints[0].raw.value() - 0.40).abs() < 1e-9);
    });
    scene.run(20, |_, _| ());
    assert_eq!(scene.step().endpoints[0].raw.value(), 0.0);
}

#[test]
fn what_is_said_of_an_endpoint_is_true() {
    let scene = &mut Scene::warm(7);
    let said = scene.step().endpoints[0].clone();
    assert!((250.0..350.0).contains(&said.rps), "{}", said.rps);
    assert!((4500..5600).contains(&said.p50_us), "{}", said.p50_us);
    assert!((13_000..20_000).contains(&said.p99_us), "{}", said.p99_us);
    let p999 = said.p999_baseline.unwrap().as_micros();
    assert!((18_000..32_000).contains(&p999), "{p999}");
    assert!((0.9..1.12).contains(&said.slowdown), "{}", said.slowdown);
    assert!(said.confidence > 0.9 && said.bad.upper < 0.01);
    assert!(said.tick.total > 10 && said.tick.served == said.tick.total);
    let ln = said.tick.sum_ln_us / f64::from(said.tick.served);
    assert!((ln - 5000f64.ln()).abs() < 0.4);
    assert_eq!(scene.step().endpoints[5].standing, Standing::Unknown);
}

#[test]
fn a_bad_path_is_named() {
    let mut scene = Scene::warm(8);
    let seen = |connections, loss| {
        let mut seen: Vec<Observation> = (0..8).map(|_| Observation::default()).collect();
        seen[0].network = NetworkTally {
            connections,
            rtt_us: u64::from(connections) * 1000,
            rtt_var_us: u64::from(connections) * 200,
            segments_out: 200,
            retransmits: loss,
        };
        seen
    };
    let mut last = None;
    for tick in 0..40u64 {
        let now = Moment::from_micros((scene.tick + tick + 1) * 100_000);
        last = Some(
            scene
                .assessor
                .assess(now, &seen(8, if tick > 20 { 20 } else { 0 }), Duration::ZERO),
        );
    }
    let endpoint = &last.unwrap().endpoints[0];
    assert_eq!(endpoint.top_group(), Some(Group::Network), "{:?}", endpoint.terms);
    assert!(endpoint.risk.value() <= 0.6 + 1e-9);
}

/// A tick with `bad` of `total` attempts failed, all with the healthy median latency.
fn batch(bad: u32, total: u32) -> Observation {
    let mut seen = Observation {
        started: total,
        ..Observation::default()
    };
    for n in 0..total {
        seen.record(&Outcome {
            class: if n < bad { Class::AppError } else { Class::Ok },
            latency: Duration::from_micros(5000),
            route_class: RouteClass::of_hash(0),
            in_flight_at_start: 1,
        });
    }
    seen
}

fn last_of(batches: &[(u32, u32)]) -> Assessment {
    let mut assessor = Assessor::new(&spec(1), Moment::ZERO);
    let mut last = None;
    let healthy = std::iter::repeat_n(&(0, 30), 40);
    for (tick, &(bad, total)) in healthy.chain(batches).enumerate() {
        let now = Moment::from_micros((tick as u64 + 1) * 100_000);
        last = Some(assessor.assess(now, &[batch(bad, total), Observation::default()], Duration::ZERO));
    }
    last.unwrap().endpoints[0].clone()
}

#[test]
fn what_a_rare_path_saw_of_a_fault_that_is_over_is_not_held_against_it() {
    const FAULT: std::ops::Range<u64> = 399..410;
    // Five requests of the rare path, five seconds later: too few to say anything.
    const CHANCE: std::ops::Range<u64> = 459..472;
    let mut assessor = Assessor::new(&spec(1), Moment::ZERO);
    let mut worst = 0.0_f64;
    for tick in 0..485_u64 {
        let mut seen = batch(if FAULT.contains(&tick) { 30 } else { 0 }, 30);
        if tick % 3 == 0 {
            let fails = FAULT.contains(&tick) || CHANCE.contains(&tick);
            seen.record(&Outcome {
                class: if fails { Class::AppError } else { Class::Ok },
                latency: Duration::from_micros(5000),
                route_class: RouteClass::of_hash(1),
                in_flight_at_start: 1,
            });
        }
        let now = Moment::from_micros((tick + 1) * 100_000);
        let assessed = assessor.assess(now, &[seen, Observation::default()], Duration::ZERO);
        let classes = &assessed.endpoints[0].classes;
        worst = classes
            .iter()
            .map(|class| class.risk.value())
            .fold(worst, f64::max);
    }
    assert!(worst < 0.15, "{worst}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn more_failures_never_mean_less_risk(
        history in proptest::collection::vec((0u32..30, 30u32..40), 0..20),
        (bad, total) in (0u32..30, 30u32..40),
    ) {
        let mut less = history.clone();
        less.push((bad, total));
        let mut more = history;
        more.push((bad + 1, total));
        let (less, more) = (last_of(&less), last_of(&more));
        prop_assert!(more.raw.value() >= less.raw.value() - 1e-9, "{:?} {:?}", less, more);
    }

    #[test]
    fn terms_explain_the_risk_to_the_last_digit(
        history in proptest::collection::vec((0u32..30, 30u32..40), 0..20),
    ) {
        let last = last_of(&history);
        let sum: f64 = last.terms.iter().map(|term| term.hazard).sum();
        prop_assert!((last.raw.value() - (1.0 - (-sum).exp())).abs() < 1e-9);
        prop_assert!(last.risk.value() >= last.raw.value() - 1e-12);
    }

    #[test]
    fn without_bad_evidence_there_is_no_risk(
        traffic in proptest::collection::vec(0u32..60, 0..80),
    ) {
        let batches: Vec<(u32, u32)> = traffic.into_iter().map(|total| (0, total)).collect();
        prop_assert!(last_of(&batches).risk.value() <= 0.10);
    }
}

// Concept: endpoint-metrics
#[test]
fn an_endpoint_that_says_it_is_full_is_at_risk_until_it_stops_saying_so() {
    let mut scene = Scene::warm(9);
    let base = scene.tick;
    let mut at = |tick: u64, utilization: Option<f64>| {
        let mut seen: Vec<Observation> = (0..8).map(|_| batch(0, 10)).collect();
        seen[0].resource = utilization.map(|utilization| ResourceReport {
            utilization: Some(utilization),
            ..ResourceReport::default()
        });
        let now = Moment::from_micros((base + tick) * 100_000);
        scene.assessor.assess(now, &seen, Duration::ZERO).endpoints[0].clone()
    };
    let mut last = at(1, Some(1.0));
    for tick in 2..30 {
        last = at(tick, Some(1.0));
    }
    assert_eq!(last.utilization, Some(1.0));
    assert!((last.raw.value() - 0.5).abs() < 1e-9, "{:?}", last.terms);
    for tick in 30..50 {
        last = at(tick, None);
    }
    assert_eq!((last.utilization, last.raw.value()), (None, 0.0));
}
