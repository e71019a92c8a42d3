//! Two clusters, and a view of them in which everything that can be shown is there: for tests of what shows it.

use std::net::TcpListener;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use foreshade_contract::{Risk, Share};
use foreshade_engine::assessment::{Assessment, Group, Standing, Term};
use foreshade_engine::decision::{Bound, EndpointDecision, Mode, Phase, ShiftDecision};
use foreshade_engine::moment::Moment;

use crate::command::{ClusterView, EndpointView, View};
use crate::config;
use crate::mirror;
use crate::policy::gate::Entry;
use crate::policy::{Gate, Policed, Priority, Reason};
use crate::tally::{Counts, Tally};
use crate::topology::Topology;

const CONFIG: &str = "
apiVersion: foreshade/v1
listeners:
  - name: web
    address: 127.0.0.1:8080
    protocol: http
    routes:
      - match: { path: { prefix: / } }
        cluster: shop
      - match: { path: { prefix: /api } }
        cluster: api
      - match: { path: { prefix: /members } }
        cluster: api
        jwt: { keysUrl: 'http://{issuer}/keys', issuer: members, audiences: [api] }
clusters:
  - name: shop
    endpoints:
      - { name: alpha, address: 127.0.0.1:9001, region: eu-west, shadow: standby }
    shadows:
      - { name: standby, address: 127.0.0.1:9101, region: eu-north }
  - name: api
    concurrency: { limit: 7, queue: 3, adaptive: {} }
    endpoints:
      - { name: alpha, address: 127.0.0.1:9002 }
      - { name: beta, address: 127.0.0.1:9003 }
";

/// Keys are fetched as soon as a configuration is there. No answer comes, so nothing is counted while a test looks.
static SILENT_ISSUER: LazyLock<TcpListener> = LazyLock::new(|| TcpListener::bind("127.0.0.1:0").unwrap());

pub(crate) fn topology() -> Arc<Topology> {
    let issuer = SILENT_ISSUER.local_addr().unwrap().to_string();
    let config = config::parse(&CONFIG.replace("{issuer}", &issuer), "fixture").unwrap();
    config
        .clusters
        .iter()
        .filter_map(|cluster| cluster.gate.as_ref())
        .for_each(measured);
    Topology::new(config)
}

/// A limit that has found out what a request takes.
fn measured(gate: &Arc<Gate>) {
    for tick in 0..64 {
        let now = Moment::from_micros(tick * 100_000);
        let Entry::Through(mut pass) = gate.enter(Priority::default(), now) else {
            panic!("nobody else is here");
        };
        pass.sample(now, Duration::from_millis(5), false);
    }
}

/// `shop/alpha` is slow and on its way to its shadow; nobody else has had traffic.
pub(crate) fn view() -> View {
    let mut total = Tally::default();
    for (status, ms) in [(200, 4), (200, 60), (304, 3), (503, 40_000)] {
        total.answered(status, Some(Duration::from_millis(ms)));
    }
    total.answered(0, None);
    total.moved.add("refused", 3);
    total.kept.add("budget", 1);
    total.picked.add("balanced", 7);
    total.stuck.add("stayed", 5);
    let mut refused = Counts::default();
    refused.add("coding_and_length", 3);
    total.unmirrored.add("busy", 9);
    total.carried = (3, 12);
    let mut answered_here = Counts::default();
    answered_here.add("redirect", 2);
    let mut policed = Policed::default();
    policed.refuse(Reason::AddressDenied);
    policed.spared.add(Reason::RateLimited.label(), 4);
    policed.forgotten_keys = 3;
    policed.authorized.add("allowed", 6);
    policed.faults.add("delay", 2);
    policed.compressed.add("br", 5);
    policed.compressed((5000, 1000));
    View {
        topology: topology(),
        answered_here,
        policed,
        clusters: vec![
            ClusterView {
                mode: Mode::Frozen,
                total,
                endpoints: vec![slow(), idle()],
            },
            ClusterView {
                mode: Mode::Normal,
                total: Tally::default(),
                endpoints: vec![idle(), idle()],
            },
        ],
        unrouted: 5,
        refused,
        lag: Duration::from_micros(1500),
        late: 2,
        uncounted: 4,
        forgotten: 6,
    }
}

/// `shop/alpha` is mirrored to its shadow.
pub(crate) fn mirror() -> mirror::View {
    let quantiles = |p99_us| mirror::Quantiles {
        p50_us: 1000,
        p90_us: 5000,
        p99_us,
    };
    mirror::View {
        under_way: 3,
        held_bytes: 4096,
        lanes: vec![mirror::LaneView {
            cluster: "shop".to_owned(),
            primary: Some("alpha".to_owned()),
            target: "standby".to_owned(),
            copies: 9,
            results: [("equal", 6), ("timeout", 2), ("control", 1)].into(),
            pairs: mirror::Pairs {
                both_good: 6,
                target_bad: 2,
                ..Default::default()
            },
            latency: mirror::Sides {
                primary: quantiles(9000),
                target: quantiles(7000),
            },
            slower: mirror::Sides {
                primary: 1,
                target: 0,
            },
            compared: 6,
            controls: 1,
            fields: Vec::new(),
        }],
    }
}

fn slow() -> EndpointView {
    let term = Term {
        group: Group::Performance,
        component: "own_latency",
        effect: 0.8,
        evidence: 1.0,
        hazard: 1.2,
        observed: 4.0,
        baseline: 1.0,
        samples: 900.0,
    };
    let mut class_shares = [Share::clamped(0.25); foreshade_engine::outcome::ROUTE_CLASSES];
    class_shares[3] = Share::ONE;
    let shift = ShiftDecision {
        phase: Phase::Ramp,
        share: Share::clamped(0.25),
        wanted: Share::clamped(0.9),
        cap: Share::clamped(0.5),
        bound: Bound::Ramp,
        failover: true,
        class_shares,
        salt: 7,
        reason: "risk 0.70 (performance)".into(),
    };
    let mut seen = idle();
    seen.assessment = Assessment {
        risk: Risk::clamped(0.7),
        raw: Risk::clamped(0.6),
        terms: vec![term],
        standing: Standing::Known,
        p50_us: 40_000,
        p99_us: 90_000,
        p999_baseline: Some(Duration::from_millis(20)),
        utilization: Some(0.9),
        eta_seconds: Some(12.0),
        in_flight: 17,
        ..Assessment::unknown()
    };
    seen.decision.top_group = Some(Group::Performance);
    seen.decision.shift = Some(shift);
    seen.counts[0] = 100;
    seen.counts[5] = 2;
    seen
}

fn idle() -> EndpointView {
    let decision = EndpointDecision {
        risk: Risk::ZERO,
        top_group: None,
        available: true,
        weight: 1.0,
        attempt_timeout: Duration::from_millis(150),
        accepts_failover: true,
        typical_us: 1000.0,
        trial: Share::ZERO,
        shift: None,
    };
    EndpointView {
        assessment: Assessment::unknown(),
        decision,
        counts: [0; foreshade_engine::outcome::Class::COUNT],
    }
}
