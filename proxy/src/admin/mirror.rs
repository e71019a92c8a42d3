//! The mirror as its thread and the workers see it: how copies ended, why there were none, and where answers differ.
//!
//! Names of fields and shapes of paths, no values: what users sent and got stays with them.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use foreshade_contract::Name;
use serde::Serialize;
use tokio::time::timeout;

use super::refusal::Refusal;
use super::{Admin, PATIENCE};
use crate::command::Command;
use crate::mirror::{HELD_BYTES_MAX, View};

#[derive(Debug, Serialize)]
pub(super) struct Listing {
    held_bytes_max: usize,
    /// By cluster, copies that were not made or were given up.
    dropped: Vec<Dropped>,
    #[serde(flatten)]
    view: View,
}

#[derive(Debug, Serialize)]
struct Dropped {
    cluster: Name,
    reasons: BTreeMap<&'static str, u64>,
}

pub(super) async fn show(State(admin): State<Admin>) -> Result<Json<Listing>, Refusal> {
    let seen = admin.ask(Command::View).await?;
    let clusters = seen.topology.config().clusters.iter().zip(seen.clusters);
    let dropped = clusters.map(|(cluster, seen)| Dropped {
        cluster: cluster.name.clone(),
        reasons: seen.total.unmirrored.iter().collect(),
    });
    Ok(Json(Listing {
        held_bytes_max: HELD_BYTES_MAX,
        dropped: dropped.collect(),
        view: view(&admin).await?,
    }))
}

/// Asks the mirror and waits for its answer, but not for ever.
pub(super) async fn view(admin: &Admin) -> Result<View, Refusal> {
    match timeout(PATIENCE, admin.mirror.view()).await {
        Ok(Some(view)) => Ok(view),
        _ => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the mirror does not answer",
        )),
    }
}
