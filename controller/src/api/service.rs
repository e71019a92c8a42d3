//! The controller itself: whether it lives, whether orders reach anybody, what it counts, and what it offers.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::Api;
use super::problem::Problem;
use crate::operator::Standing;

/// The text format of Prometheus.
const METRICS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// 200 while the process runs
#[utoipa::path(
    get, path = "/healthz", tag = "service",
    responses((status = 200, content_type = "text/plain", body = String))
)]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 while orders can be carried out here, else 503 and the reason
#[utoipa::path(
    get, path = "/readyz", tag = "service",
    responses((status = 200, content_type = "text/plain", body = String))
)]
pub(super) async fn readyz(State(api): State<Api>) -> Result<&'static str, Problem> {
    let why = match api.operator.standing() {
        Standing::Leading => return Ok("leading\n"),
        Standing::Starting => "starting: the state is still being read".to_owned(),
        Standing::Following { leader: Some(leader) } => format!("following: {leader} acts"),
        Standing::Following { leader: None } => "following: another controller acts".to_owned(),
        Standing::ReadOnly { why } => format!("read only: {why}"),
    };
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why))
}

/// Prometheus text format
#[utoipa::path(
    get, path = "/metrics", tag = "service",
    responses((status = 200, content_type = "text/plain", body = String))
)]
pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let mut page = api.operator.metrics();
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let open = super::STREAMS_MAX.saturating_sub(api.streams.available_permits());
    for (name, kind, help, value) in [
        (
            "api_refused_total",
            "counter",
            "Requests without the token.",
            api.keys.refused(),
        ),
        (
            "api_orders_total",
            "counter",
            "Orders that were accepted.",
            count(&api.counts.orders),
        ),
        (
            "api_events_total",
            "counter",
            "Events that were sent to listeners.",
            count(&api.counts.events),
        ),
        (
            "api_event_gaps_total",
            "counter",
            "Listeners that were away for too long.",
            count(&api.counts.gaps),
        ),
        (
            "api_streams",
            "gauge",
            "Listeners now.",
            u64::try_from(open).unwrap_or(u64::MAX),
        ),
    ] {
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "# HELP foreshade_controller_{name} {help}\n# TYPE foreshade_controller_{name} {kind}\n\
             foreshade_controller_{name} {value}\n"
        );
    }
    ([(CONTENT_TYPE, METRICS_TEXT)], page)
}

/// This document
#[utoipa::path(
    get, path = "/openapi.json", tag = "service",
    responses((status = 200, content_type = "application/json", body = Object))
)]
pub(super) async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], super::openapi())
}
