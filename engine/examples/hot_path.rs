//! What one request costs the policy: pick an endpoint, count it in, record its end. `scripts/hot-path` counts it.
//!
//! The loop is the request path of one worker, without sockets: a cohort and a class that change per request, a table
//! of four pairs with one of them half shifted, latencies that vary. Run it under callgrind with two different counts;
//! the difference is the cost of the loop's body alone, exact to the instruction.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a program for measuring")]

use std::time::{Duration, Instant};

use foreshade_contract::{Risk, Share};
use foreshade_engine::balance::{ClusterTable, Loads, Request};
use foreshade_engine::cohort::Cohort;
use foreshade_engine::decision::{Bound, ClusterDecision, EndpointDecision, Mode, Phase, ShiftDecision};
use foreshade_engine::failover::{ATTEMPTS_MAX_NEVER_SENT, ServerErrors};
use foreshade_engine::in_flight::InFlight;
use foreshade_engine::moment::Moment;
use foreshade_engine::observation::Observation;
use foreshade_engine::outcome::{Class, Outcome, ROUTE_CLASSES, RouteClass};
use foreshade_engine::spec::{BalancePolicy, ClusterSpec, EndpointSpec, HealthPolicy, Role, ShiftPolicy};
use rand::SeedableRng;
use rand::rngs::SmallRng;

const PAIRS: usize = 4;

fn main() {
    let requests: u64 = std::env::args()
        .nth(1)
        .map_or(1_000_000, |n| n.parse().expect("a number of requests"));
    let table = table();
    let mut worker = Worker {
        loads: Loads::new(2 * PAIRS),
        waiting: vec![InFlight::default(); 2 * PAIRS],
        seen: vec![Observation::default(); 2 * PAIRS],
        rng: SmallRng::seed_from_u64(1),
    };
    let begun = Instant::now();
    let mut at_shadow = 0;
    for n in 0..requests {
        at_shadow += u64::from(worker.serve(&table, n) >= PAIRS);
    }
    let ns = begun.elapsed().as_nanos() as f64 / requests.max(1) as f64;
    println!("{requests} requests, {ns:.1} ns each, {at_shadow} at a shadow");
}

struct Worker {
    loads: Loads,
    waiting: Vec<InFlight>,
    seen: Vec<Observation>,
    rng: SmallRng,
}

impl Worker {
    /// One request, from its cohort to its recorded end. Returns the endpoint.
    #[inline(never)]
    fn serve(&mut self, table: &ClusterTable, n: u64) -> usize {
        let now = Moment::from_micros(n * 800);
        let request = Request {
            cohort: Cohort::of_key(&(n % 10_000).to_le_bytes()),
            class: RouteClass::of_hash(n % 5),
            segment: None,
            repeatable: !n.is_multiple_of(10),
            attempts_max: ATTEMPTS_MAX_NEVER_SENT,
            retry_on: ServerErrors::NONE,
            stick: None,
        };
        let pick = table
            .pick(&request, &self.loads, &mut self.rng, now)
            .expect("somebody serves");
        let in_flight_at_start = self.loads.in_flight(pick.endpoint);
        self.loads.begin(pick.endpoint);
        let started = self.waiting[pick.endpoint].begin(now);
        let latency = Duration::from_micros(3_000 + n * 7919 % 4_000);
        let outcome = Outcome {
            class: Class::Ok,
            latency,
            route_class: request.class,
            in_flight_at_start,
        };
        self.waiting[pick.endpoint].end(started);
        self.loads.end(pick.endpoint, &outcome, now + latency);
        self.seen[pick.endpoint].record(&outcome);
        pick.endpoint
    }
}

fn table() -> ClusterTable {
    let endpoint = |index: usize| EndpointSpec {
        name: format!("e{index}").parse().expect("a name"),
        role: if index < PAIRS {
            Role::Primary {
                shadow: Some(index + PAIRS),
            }
        } else {
            Role::Shadow
        },
        weight: 1.0,
        capacity_rps: None,
        region: None,
    };
    let spec = ClusterSpec {
        name: "shop".parse().expect("a name"),
        endpoints: (0..2 * PAIRS).map(endpoint).collect(),
        shift: ShiftPolicy::default(),
        attempt_timeout: Duration::from_secs(15),
        balance: BalancePolicy::LeastLoad,
        health: Some(HealthPolicy::default()),
        slow_start: Duration::ZERO,
        segments: Vec::new(),
    };
    ClusterTable::new(&spec, &decision())
}

fn decision() -> ClusterDecision {
    let shift = |share: Share| ShiftDecision {
        phase: Phase::Ramp,
        share,
        wanted: Share::ONE,
        cap: Share::ONE,
        bound: Bound::Ramp,
        failover: true,
        class_shares: [share; ROUTE_CLASSES],
        salt: 7,
        reason: "".into(),
    };
    let endpoint = |index: usize| EndpointDecision {
        risk: Risk::clamped(if index == 0 { 0.6 } else { 0.0 }),
        top_group: None,
        available: true,
        weight: 1.0,
        attempt_timeout: Duration::from_millis(70),
        accepts_failover: index != 0,
        typical_us: 5_000.0,
        trial: Share::ZERO,
        shift: (index < PAIRS).then(|| shift(Share::clamped(if index == 0 { 0.5 } else { 0.0 }))),
    };
    ClusterDecision {
        at: Moment::ZERO,
        mode: Mode::Normal,
        retries: true,
        alive: true,
        endpoints: (0..2 * PAIRS).map(endpoint).collect(),
    }
}
