//! The endpoints' part of the page, and their shifts'.

use std::time::Duration;

use foreshade_engine::assessment::{Group, Standing};
use foreshade_engine::decision::{Bound, Phase, ShiftDecision};
use foreshade_engine::outcome::Class;
use foreshade_engine::spec::Role;

use super::page::{Kind, Page};
use crate::command::EndpointView;
use crate::config::{Cluster, Endpoint};

pub(super) const STANDINGS: [(Standing, &str); 3] = [
    (Standing::Unknown, "unknown"),
    (Standing::Known, "known"),
    (Standing::Dead, "dead"),
];

pub(super) const PHASES: [Phase; 9] = [
    Phase::Normal,
    Phase::Prepare,
    Phase::Canary,
    Phase::Ramp,
    Phase::Shifted,
    Phase::Return,
    Phase::FailOver,
    Phase::Override,
    Phase::Directed,
];

pub(super) const BOUNDS: [Bound; 9] = [
    Bound::None,
    Bound::ShadowCapacity,
    Bound::ShadowRisk,
    Bound::Authority,
    Bound::Policy,
    Bound::Unproven,
    Bound::Ramp,
    Bound::Mode,
    Bound::Plan,
];

/// A gauge: name, help, and where its value comes from; no sample where there is none.
type Gauge<T> = (&'static str, &'static str, fn(&T) -> Option<f64>);

const ENDPOINT_GAUGES: [Gauge<EndpointView>; 12] = [
    (
        "foreshade_endpoint_risk_ratio",
        "How likely the endpoint breaks its objective now or soon.",
        |e| Some(e.assessment.risk.value()),
    ),
    (
        "foreshade_endpoint_raw_risk_ratio",
        "The same by the newest evidence alone.",
        |e| Some(e.assessment.raw.value()),
    ),
    (
        "foreshade_endpoint_confidence_ratio",
        "How much traffic stands behind the risk.",
        |e| Some(e.assessment.confidence),
    ),
    (
        "foreshade_endpoint_slowdown_ratio",
        "Latency against the endpoint's own baseline; 1 is as ever.",
        |e| Some(e.assessment.slowdown),
    ),
    (
        "foreshade_endpoint_latency_p50_seconds",
        "Median time to the first byte over the last seconds.",
        |e| seconds_of_us(e.assessment.p50_us),
    ),
    (
        "foreshade_endpoint_latency_p99_seconds",
        "99th percentile of the same.",
        |e| seconds_of_us(e.assessment.p99_us),
    ),
    (
        "foreshade_endpoint_latency_baseline_p999_seconds",
        "99.9th percentile while it was healthy.",
        |e| e.assessment.p999_baseline.map(|d| d.as_secs_f64()),
    ),
    (
        "foreshade_endpoint_in_flight_requests",
        "Attempts in flight.",
        |e| Some(f64::from(e.assessment.in_flight)),
    ),
    (
        "foreshade_endpoint_utilization_ratio",
        "Utilisation by the endpoint's own report; 1 is full.",
        |e| e.assessment.utilization,
    ),
    (
        "foreshade_endpoint_available",
        "Whether the endpoint may be chosen.",
        |e| Some(f64::from(u8::from(e.decision.available))),
    ),
    (
        "foreshade_endpoint_weight",
        "Weight in balancing, slow start and panic applied.",
        |e| Some(e.decision.weight),
    ),
    (
        "foreshade_endpoint_attempt_timeout_seconds",
        "How long a repeatable attempt waits for its first byte.",
        |e| Some(e.decision.attempt_timeout.as_secs_f64()),
    ),
];

const SHIFT_GAUGES: [Gauge<ShiftDecision>; 3] = [
    (
        "foreshade_shift_share_ratio",
        "Part of the primary's traffic that its shadow serves.",
        |s| Some(s.share.value()),
    ),
    (
        "foreshade_shift_wanted_ratio",
        "The part that the risk alone asks for.",
        |s| Some(s.wanted.value()),
    ),
    ("foreshade_shift_cap_ratio", "The most that may move now.", |s| {
        Some(s.cap.value())
    }),
];

/// One endpoint, with its names at hand.
pub(super) struct Row<'a> {
    cluster: &'a str,
    name: &'a str,
    role: &'static str,
    shadow: &'a str,
    endpoint: &'a Endpoint,
    seen: &'a EndpointView,
}

impl<'a> Row<'a> {
    pub(super) fn new(cluster: &'a Cluster, endpoint: &'a Endpoint, seen: &'a EndpointView) -> Self {
        let (role, shadow) = match endpoint.role {
            Role::Primary { shadow } => ("primary", shadow.and_then(|index| cluster.endpoints.get(index))),
            Role::Shadow => ("shadow", None),
        };
        Self {
            cluster: cluster.name.as_str(),
            name: endpoint.name.as_str(),
            role,
            shadow: shadow.map_or("", |s| s.name.as_str()),
            endpoint,
            seen,
        }
    }

    fn labels(&self) -> [(&'static str, &'a str); 2] {
        [("cluster", self.cluster), ("endpoint", self.name)]
    }

    fn labels_and(&self, name: &'static str, value: &'a str) -> [(&'static str, &'a str); 3] {
        [("cluster", self.cluster), ("endpoint", self.name), (name, value)]
    }
}

pub(super) fn write_endpoints(page: &mut Page, rows: &[Row<'_>]) {
    page.family(
        "foreshade_endpoint_info",
        Kind::Gauge,
        "Always 1; what the configuration says is in the labels.",
    );
    for row in rows {
        let address = row.endpoint.address.to_string();
        let region = row.endpoint.region.as_ref().map_or("", |r| r.as_str());
        let [cluster, name] = row.labels();
        let role = ("role", row.role);
        page.sample(
            &[
                cluster,
                name,
                role,
                ("shadow", row.shadow),
                ("region", region),
                ("address", &address),
            ],
            1.0,
        );
    }
    for (name, help, value) in ENDPOINT_GAUGES {
        page.family(name, Kind::Gauge, help);
        for row in rows {
            if let Some(value) = value(row.seen) {
                page.sample(&row.labels(), value);
            }
        }
    }
    page.family(
        "foreshade_endpoint_hazard",
        Kind::Gauge,
        "What each cause adds to the risk: 1 - risk = exp(-sum).",
    );
    for row in rows {
        for group in Group::ALL {
            let terms = row.seen.assessment.terms.iter().filter(|t| t.group == group);
            page.sample(
                &row.labels_and("group", group.label()),
                terms.map(|t| t.hazard).sum(),
            );
        }
    }
    page.family(
        "foreshade_endpoint_standing",
        Kind::Gauge,
        "1 for where the endpoint stands.",
    );
    for row in rows {
        for (standing, label) in STANDINGS {
            let stands = row.seen.assessment.standing == standing;
            page.sample(&row.labels_and("standing", label), f64::from(u8::from(stands)));
        }
    }
    page.family(
        "foreshade_endpoint_attempts_total",
        Kind::Counter,
        "Attempts at the endpoint, by how they ended.",
    );
    for row in rows {
        for (class, n) in Class::ALL.iter().zip(row.seen.counts) {
            page.sample(&row.labels_and("class", class.label()), n as f64);
        }
    }
}

pub(super) fn write_shifts(page: &mut Page, rows: &[Row<'_>]) {
    let shifts = || {
        rows.iter()
            .filter_map(|row| Some((row, row.seen.decision.shift.as_ref()?)))
    };
    for (name, help, value) in SHIFT_GAUGES {
        page.family(name, Kind::Gauge, help);
        for (row, shift) in shifts() {
            if let Some(value) = value(shift) {
                page.sample(&row.labels_and("shadow", row.shadow), value);
            }
        }
    }
    page.family(
        "foreshade_shift_phase",
        Kind::Gauge,
        "1 for where the shift stands.",
    );
    for (row, shift) in shifts() {
        for phase in PHASES {
            page.sample(
                &row.labels_and("phase", phase.label()),
                f64::from(u8::from(shift.phase == phase)),
            );
        }
    }
    page.family(
        "foreshade_shift_bound",
        Kind::Gauge,
        "1 for what keeps the share from being larger.",
    );
    for (row, shift) in shifts() {
        for bound in BOUNDS {
            page.sample(
                &row.labels_and("bound", bound.label()),
                f64::from(u8::from(shift.bound == bound)),
            );
        }
    }
}

/// Zero means that nothing is known.
fn seconds_of_us(us: u64) -> Option<f64> {
    (us > 0).then(|| Duration::from_micros(us).as_secs_f64())
}
