//! Why an endpoint is treated as it is: the engine's own record of its last decisions, not a story told afterwards.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use foreshade_contract::Name;
use foreshade_engine::explain::{Explanation, Record};
use serde::Serialize;

use super::refusal::Refusal;
use super::{Admin, place};
use crate::command::Command;

/// An explanation: in words, and behind them the numbers that the words were made from.
#[derive(Debug, Serialize)]
pub(super) struct Explained {
    cluster: Name,
    endpoint: Name,
    /// Where it stands now, and why.
    sentence: String,
    /// What changed, the oldest first.
    decisions: Vec<Decision>,
    /// The last ticks, with their terms.
    records: Vec<Record>,
    /// The ticks of `decisions`, with their terms.
    changes: Vec<Record>,
}

#[derive(Debug, Serialize)]
struct Decision {
    /// Microseconds since the proxy's start.
    at_us: u64,
    sentence: String,
}

pub(super) async fn by_endpoint(
    State(admin): State<Admin>,
    Path(endpoint): Path<String>,
) -> Result<Json<Explained>, Refusal> {
    explain(&admin, None, &endpoint).await
}

pub(super) async fn by_cluster(
    State(admin): State<Admin>,
    Path((cluster, endpoint)): Path<(String, String)>,
) -> Result<Json<Explained>, Refusal> {
    explain(&admin, Some(&cluster), &endpoint).await
}

async fn explain(admin: &Admin, cluster: Option<&str>, endpoint: &str) -> Result<Json<Explained>, Refusal> {
    let topology = admin.topology();
    let found = place::find(&topology, cluster, endpoint)?;
    let explanation = admin.ask(|to| Command::Explain(found.id, to)).await?;
    let Explanation {
        endpoint,
        line,
        records,
        changes,
    } = explanation
        .ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "the engine knows nothing of this endpoint"))?;
    let in_words = |record: &Record| Decision {
        at_us: record.at.as_micros(),
        sentence: record.to_string(),
    };
    Ok(Json(Explained {
        cluster: found.cluster.clone(),
        endpoint,
        sentence: line,
        decisions: changes.iter().map(in_words).collect(),
        records,
        changes,
    }))
}
