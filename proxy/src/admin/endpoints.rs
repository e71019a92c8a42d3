//! Every endpoint as the scorer sees it: what is believed, on what evidence, and what was decided.
//!
//! The order of clusters and endpoints is that of the configuration. What is not known yet (a new endpoint's baseline) is
//! null; the keys of a shift stand only at primaries that have a shadow.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use foreshade_contract::{Name, Risk, Share};
use foreshade_engine::assessment::{Group, Standing, Term};
use foreshade_engine::decision::{Bound, Mode, Phase, ShiftDecision};
use foreshade_engine::outcome::{Class, ROUTE_CLASSES};
use foreshade_engine::spec::Role;
use serde::Serialize;

use super::Admin;
use super::refusal::Refusal;
use crate::command::{ClusterView, Command, EndpointView};
use crate::config::{Cluster, Endpoint};

#[derive(Debug, Serialize)]
pub(super) struct Listing {
    clusters: Vec<ClusterRow>,
}

#[derive(Debug, Serialize)]
struct ClusterRow {
    name: Name,
    mode: Mode,
    endpoints: Vec<EndpointRow>,
}

#[derive(Debug, Serialize)]
struct EndpointRow {
    name: Name,
    address: SocketAddr,
    region: Option<Name>,
    role: &'static str,
    shadow: Option<Name>,
    risk: Risk,
    raw: Risk,
    standing: Standing,
    confidence: f64,
    top_group: Option<Group>,
    terms: Vec<Term>,
    #[serde(flatten)]
    shift: Option<ShiftRow>,
    rps: f64,
    p50_us: u64,
    p99_us: u64,
    p999_baseline_us: Option<u64>,
    in_flight: u32,
    slowdown: f64,
    available: bool,
    weight: f64,
    attempt_timeout_us: u64,
    eta_seconds: Option<f64>,
    counts: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
struct ShiftRow {
    share: Share,
    wanted: Share,
    cap: Share,
    bound: Bound,
    phase: Phase,
    reason: Cow<'static, str>,
    /// By route class; larger than `share` where a class is sick by itself.
    class_shares: [Share; ROUTE_CLASSES],
}

pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<Listing>, Refusal> {
    let view = admin.ask(Command::View).await?;
    let clusters = view.topology.config().clusters.iter().zip(view.clusters);
    Ok(Json(Listing {
        clusters: clusters
            .map(|(cluster, seen)| cluster_row(cluster, seen))
            .collect(),
    }))
}

fn cluster_row(cluster: &Cluster, seen: ClusterView) -> ClusterRow {
    let endpoints = cluster.endpoints.iter().zip(seen.endpoints);
    ClusterRow {
        name: cluster.name.clone(),
        mode: seen.mode,
        endpoints: endpoints
            .map(|(endpoint, seen)| endpoint_row(cluster, endpoint, seen))
            .collect(),
    }
}

fn endpoint_row(cluster: &Cluster, endpoint: &Endpoint, seen: EndpointView) -> EndpointRow {
    let EndpointView {
        assessment,
        decision,
        counts,
    } = seen;
    let (role, shadow) = match endpoint.role {
        Role::Primary { shadow } => ("primary", shadow.and_then(|index| cluster.endpoints.get(index))),
        Role::Shadow => ("shadow", None),
    };
    EndpointRow {
        name: endpoint.name.clone(),
        address: endpoint.address,
        region: endpoint.region.clone(),
        role,
        shadow: shadow.map(|s| s.name.clone()),
        risk: assessment.risk,
        raw: assessment.raw,
        standing: assessment.standing,
        confidence: assessment.confidence,
        top_group: decision.top_group,
        terms: assessment.terms,
        shift: decision.shift.map(shift_row),
        rps: assessment.rps,
        p50_us: assessment.p50_us,
        p99_us: assessment.p99_us,
        p999_baseline_us: assessment.p999_baseline.map(micros),
        in_flight: assessment.in_flight,
        slowdown: assessment.slowdown,
        available: decision.available,
        weight: decision.weight,
        attempt_timeout_us: micros(decision.attempt_timeout),
        eta_seconds: assessment.eta_seconds,
        counts: Class::ALL.iter().map(|class| class.label()).zip(counts).collect(),
    }
}

fn shift_row(shift: ShiftDecision) -> ShiftRow {
    ShiftRow {
        share: shift.share,
        wanted: shift.wanted,
        cap: shift.cap,
        bound: shift.bound,
        phase: shift.phase,
        reason: shift.reason,
        class_shares: shift.class_shares,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
