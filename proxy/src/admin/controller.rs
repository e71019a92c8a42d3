//! The link to the controller: whether it is there, which plan is in force, and which pairs cannot be carried out.

use axum::Json;
use axum::extract::State;
use foreshade_contract::PlanId;
use foreshade_contract::report::{Reason, Refused};
use serde::Serialize;

use super::Admin;
use crate::link::view::View;

#[derive(Debug, Serialize)]
pub(super) struct Listing {
    /// Null where none is configured: the proxy decides alone.
    controller: Option<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    address: String,
    connected: bool,
    version: Option<String>,
    epoch: Option<u64>,
    /// 0 while it is there.
    alone_for_seconds: f64,
    /// Why the last connection ended, while there is none.
    error: Option<String>,
    dials: u64,
    plan: Option<PlanRow>,
    last_refused: Option<RefusedRow>,
    unapplied: Vec<UnappliedRow>,
    unapplied_total: usize,
    reports: u64,
    reports_dropped: u64,
}

#[derive(Debug, Serialize)]
struct PlanRow {
    #[serde(flatten)]
    id: PlanId,
    pairs: usize,
    /// Whether a restart begins with it.
    persisted: bool,
}

#[derive(Debug, Serialize)]
struct RefusedRow {
    plan: Option<PlanId>,
    reason: Reason,
    detail: String,
}

#[derive(Debug, Serialize)]
struct UnappliedRow {
    pair: String,
    why: String,
}

pub(super) async fn show(State(admin): State<Admin>) -> Json<Listing> {
    Json(Listing {
        controller: admin.link.as_ref().map(|link| row(link.borrow().clone())),
    })
}

fn row(view: View) -> Row {
    Row {
        connected: view.is_connected(),
        alone_for_seconds: view.alone_for().as_secs_f64(),
        version: view.controller.as_ref().map(|c| c.version.clone()),
        epoch: view.controller.as_ref().map(|c| c.epoch.0),
        address: view.address,
        error: view.error,
        dials: view.dials,
        plan: view.plan.map(|id| PlanRow {
            id,
            pairs: view.pairs,
            persisted: view.persisted,
        }),
        last_refused: view
            .last_refused
            .map(|Refused { plan, reason, detail }| RefusedRow { plan, reason, detail }),
        unapplied: view
            .unapplied
            .into_iter()
            .map(|one| UnappliedRow {
                pair: one.pair.to_string(),
                why: one.why,
            })
            .collect(),
        unapplied_total: view.unapplied_total,
        reports: view.reports,
        reports_dropped: view.reports_dropped,
    }
}
