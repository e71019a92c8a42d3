//! Replacing the configuration, what became of the last attempt, and what its names stand for.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use tokio::time::timeout;

use super::Admin;
use super::refusal::Refusal;
use crate::names;
use crate::reload::Outcome;
use crate::reload::outcome::{Change, Changes, Refused, label};

/// How long an operator waits. Reading and checking takes milliseconds, the swap a tick or two; only a name server that
/// does not answer takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What runs after a reload.
#[derive(Debug, Serialize)]
pub(super) struct Reloaded {
    result: &'static str,
    generation: u64,
    hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<ChangesRow>,
}

#[derive(Debug, Serialize)]
struct ChangesRow {
    listeners: ChangeRow,
    clusters: ChangeRow,
    endpoints: ChangeRow,
}

#[derive(Debug, Serialize)]
struct ChangeRow {
    added: usize,
    removed: usize,
}

/// What the names of endpoints stand for.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    names: Vec<NameRow>,
}

#[derive(Debug, Serialize)]
struct NameRow {
    name: String,
    addresses: Vec<SocketAddr>,
    /// Since the last good answer; null before the first.
    age_seconds: Option<f64>,
    ok: u64,
    failed: u64,
    error: Option<String>,
}

/// What runs, and what was tried last.
#[derive(Debug, Serialize)]
pub(super) struct StatusRow {
    generation: u64,
    hash: String,
    last: Option<LastRow>,
}

#[derive(Debug, Serialize)]
struct LastRow {
    result: &'static str,
    seconds_ago: f64,
    error: Option<String>,
    mistakes: Vec<String>,
}

pub(super) async fn now(State(admin): State<Admin>) -> Result<Json<Reloaded>, Refusal> {
    let unavailable = |why: &str| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why);
    let outcome = timeout(PATIENCE, admin.reload.ask())
        .await
        .map_err(|_| unavailable("the reload takes long; GET /v1/reload will tell what became of it"))?
        .ok_or_else(|| unavailable("too many reloads wait, or the proxy is about to stop"))?;
    match &*outcome {
        Ok(applied) => Ok(Json(Reloaded {
            result: label(&outcome),
            generation: applied.generation,
            hash: hex(applied.hash),
            changes: applied.changes.map(changes_row),
        })),
        Err(refused) => {
            let refusal = Refusal::new(status_of(refused), in_one_line(refused));
            Err(refusal.mistakes(refused.mistakes()))
        }
    }
}

pub(super) async fn status(State(admin): State<Admin>) -> Json<StatusRow> {
    let status = admin.reload.status.borrow().clone();
    Json(StatusRow {
        generation: status.generation,
        hash: hex(status.hash),
        last: status.last.map(|(at, outcome)| last_row(at.elapsed(), &outcome)),
    })
}

pub(super) async fn names(State(admin): State<Admin>) -> Json<Listing> {
    let known = admin.reload.names.borrow().clone();
    let row = |row: &names::NameRow| NameRow {
        name: row.name.to_string(),
        addresses: row.addresses.clone(),
        age_seconds: row.answered.map(|at| at.elapsed().as_secs_f64()),
        ok: row.ok,
        failed: row.failed,
        error: row.error.clone(),
    };
    Json(Listing {
        names: known.rows.iter().map(row).collect(),
    })
}

fn last_row(ago: Duration, outcome: &Outcome) -> LastRow {
    let refused = outcome.as_ref().err();
    LastRow {
        result: label(outcome),
        seconds_ago: ago.as_secs_f64(),
        error: refused.map(in_one_line),
        mistakes: refused.map(Refused::mistakes).unwrap_or_default(),
    }
}

fn status_of(refused: &Refused) -> StatusCode {
    match refused {
        Refused::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::NeedsRestart(_) | Refused::Listen(_) => StatusCode::CONFLICT,
        Refused::NotReady(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The mistakes of a file are listed apart.
fn in_one_line(refused: &Refused) -> String {
    match refused {
        Refused::Invalid(mistakes) => format!("the file has mistakes: {}", mistakes.count()),
        _ => refused.to_string(),
    }
}

fn changes_row(changes: Changes) -> ChangesRow {
    let row = |change: Change| ChangeRow {
        added: change.added,
        removed: change.removed,
    };
    ChangesRow {
        listeners: row(changes.listeners),
        clusters: row(changes.clusters),
        endpoints: row(changes.endpoints),
    }
}

/// As the metrics write it.
fn hex(hash: u64) -> String {
    format!("{hash:016x}")
}
