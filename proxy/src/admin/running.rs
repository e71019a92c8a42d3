//! What runs: the configuration as it was read, and what the proxy logs of itself; and how the latter is changed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Admin;
use super::orders::{Body, Span};
use super::refusal::Refusal;
use crate::config::Source;
use crate::verbosity::Standing;

/// Shortest time that a filter can hold: long enough to see something.
const TTL_MS_MIN: u64 = 1_000;

/// Longest time: a day. For longer, leave the time out.
const TTL_MS_MAX: u64 = 86_400_000;

#[derive(Debug, Serialize)]
pub(super) struct Running {
    /// The file.
    origin: String,
    /// As `sha256sum` prints it.
    sha256: String,
    /// Seconds since 1970.
    loaded_at: u64,
    /// What is not as it should be: drills, and keys that others can read.
    warnings: Vec<String>,
    /// As written, without defaults and without secrets.
    config: Value,
}

pub(super) async fn config(State(admin): State<Admin>) -> Json<Running> {
    let topology = admin.reload.topology();
    let Source {
        origin,
        sha256,
        loaded,
        shown,
        ..
    } = &*topology.config().source;
    Json(Running {
        origin: origin.clone(),
        sha256: sha256.clone(),
        loaded_at: seconds_since_1970(*loaded),
        warnings: topology.config().warnings().map(String::from).collect(),
        config: Value::clone(shown),
    })
}

fn seconds_since_1970(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogBody {
    filter: String,
    /// Absent: it holds until it is changed again.
    ttl: Option<Span<TTL_MS_MIN, TTL_MS_MAX>>,
}

#[derive(Debug, Serialize)]
pub(super) struct LogRow {
    filter: String,
    usual: String,
    falls_back_in_seconds: Option<f64>,
}

impl From<Standing> for LogRow {
    fn from(standing: Standing) -> Self {
        Self {
            filter: standing.filter,
            usual: standing.usual,
            falls_back_in_seconds: standing.falls_back_in.as_ref().map(Duration::as_secs_f64),
        }
    }
}

pub(super) async fn log(State(admin): State<Admin>) -> Json<LogRow> {
    Json(admin.verbosity.standing().into())
}

pub(super) async fn set_log(
    State(admin): State<Admin>,
    Body(body): Body<LogBody>,
) -> Result<Json<LogRow>, Refusal> {
    let ttl = body.ttl.map(|span| span.0);
    let set = admin.verbosity.set(&body.filter, ttl);
    set.map_err(|why| Refusal::unprocessable(format!("filter: {why}")))?;
    tracing::info!(filter = body.filter, ?ttl, "log filter changed");
    Ok(Json(admin.verbosity.standing().into()))
}
