//! Orders for the bad night: a promotion that is taken back, and a safety rule that is not asked for a while.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use foreshade_contract::{Generation, Name, PairId};
use foreshade_engine::lifecycle::command::Command;
use foreshade_engine::lifecycle::overrides::{self, Setting};
use serde::Deserialize;

use super::Api;
use super::body::{Asked, At, Body, Conditions, OfPair, PairPath, SaidInQuery, Trial};
use super::orders::{Around, Ttl};
use super::problem::Problem;
use crate::operator::view::Outcome;
use crate::operator::{Actor, Reason, Rule};

/// A promotion to be taken back.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Undoing {
    /// Who gives the order.
    actor: Actor,
    /// Why.
    reason: Reason,
    /// The generation whose roles are wanted back: the side that served everybody then is to serve again. Where left out,
    /// the last promotion is taken back.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    to: Option<Generation>,
}

/// Take the last promotion back, or all of them since a generation
#[utoipa::path(
    post, path = "/v1/pairs/{cluster}/{primary}/undo", tag = "orders", params(PairPath, Trial, Conditions),
    request_body = Undoing, responses((status = 200, body = Outcome))
)]
pub(super) async fn undo(
    State(api): State<Api>,
    OfPair(pair): OfPair,
    Asked(Trial { dry_run }): Asked<Trial>,
    headers: HeaderMap,
    Body(Undoing { actor, reason, to }): Body<Undoing>,
) -> Result<Response, Problem> {
    let around = Around {
        pair,
        actor,
        reason,
        dry_run,
        headers,
    };
    let mut order = around.order(Command::Undo)?;
    order.to = to;
    api.carry_out(order).await
}

/// A safety rule to be waived.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiver {
    /// Who gives the order.
    actor: Actor,
    /// Why.
    reason: Reason,
    /// Which rule.
    rule: Rule,
    /// For how long; then it is asked again.
    ttl: Ttl,
}

/// Waive a safety rule, for a while
#[utoipa::path(
    post, path = "/v1/pairs/{cluster}/{primary}/waive", tag = "orders", params(PairPath, Trial, Conditions),
    request_body = Waiver, responses((status = 200, body = Outcome))
)]
pub(super) async fn waive(
    State(api): State<Api>,
    OfPair(pair): OfPair,
    Asked(Trial { dry_run }): Asked<Trial>,
    headers: HeaderMap,
    Body(body): Body<Waiver>,
) -> Result<Response, Problem> {
    let Waiver {
        actor,
        reason,
        rule,
        ttl,
    } = body;
    let until_ms = ttl.until_ms((api.clock)());
    let setting = Setting::Safety(rule.into());
    let around = Around {
        pair,
        actor,
        reason,
        dry_run,
        headers,
    };
    api.order(Command::Override { setting, until_ms }, around).await
}

/// A safety rule of a pair.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct RulePath {
    /// Name of the cluster.
    #[param(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    cluster: Name,
    /// Name of the primary.
    #[param(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    primary: Name,
    /// Which rule.
    rule: Rule,
}

/// Ask a safety rule again
#[utoipa::path(
    delete, path = "/v1/pairs/{cluster}/{primary}/waive/{rule}", tag = "orders",
    params(RulePath, SaidInQuery, Conditions), responses((status = 200, body = Outcome))
)]
pub(super) async fn restore(
    State(api): State<Api>,
    At(RulePath {
        cluster,
        primary,
        rule,
    }): At<RulePath>,
    Asked(SaidInQuery {
        actor,
        reason,
        dry_run,
    }): Asked<SaidInQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let pair = PairId { cluster, primary };
    let around = Around {
        pair,
        actor,
        reason,
        dry_run,
        headers,
    };
    let what = overrides::What::Safety(rule.into());
    api.order(Command::ClearOverride { what }, around).await
}
