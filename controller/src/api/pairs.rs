//! What is so: pairs, what became of them, what the judge says, who ordered what.

use axum::Json;
use axum::extract::State;
use axum::http::header::ETAG;
use axum::response::IntoResponse;

use super::Api;
use super::body::{Asked, OfPair, PageQuery, PairPath};
use super::problem::{Problem, etag};
use crate::operator::view::{Analysis, AuditEntry, Change, PairDetail, PairSummary};

/// All pairs, ordered by name
#[utoipa::path(get, path = "/v1/pairs", tag = "pairs", responses((status = 200, body = Vec<PairSummary>)))]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<PairSummary>>, Problem> {
    Ok(Json(api.operator.pairs().await?))
}

/// One pair, with everything that is known of it
#[utoipa::path(
    get, path = "/v1/pairs/{cluster}/{primary}", tag = "pairs", params(PairPath),
    responses(
        (status = 200, body = PairDetail, headers(("etag" = String, description = "its generation, for If-Match")))
    )
)]
pub(super) async fn show(State(api): State<Api>, OfPair(pair): OfPair) -> Result<impl IntoResponse, Problem> {
    let mut detail = api.operator.pair(&pair).await?;
    if let Some(signer) = &api.links {
        signer.sign_waiting(&pair, &mut detail, (api.clock)());
    }
    let tag = etag(detail.summary.generation)?;
    Ok(([(ETAG, tag)], Json(detail)))
}

/// What became of a pair, the newest first
#[utoipa::path(
    get, path = "/v1/pairs/{cluster}/{primary}/history", tag = "pairs", params(PairPath, PageQuery),
    responses((status = 200, body = Vec<Change>))
)]
pub(super) async fn history(
    State(api): State<Api>,
    OfPair(pair): OfPair,
    Asked(query): Asked<PageQuery>,
) -> Result<Json<Vec<Change>>, Problem> {
    Ok(Json(api.operator.history(&pair, query.page()?).await?))
}

/// What the judge says of a pair, and why; null where nothing is being judged
#[utoipa::path(
    get, path = "/v1/pairs/{cluster}/{primary}/analysis", tag = "pairs", params(PairPath),
    responses((status = 200, body = Option<Analysis>))
)]
pub(super) async fn analysis(
    State(api): State<Api>,
    OfPair(pair): OfPair,
) -> Result<Json<Option<Analysis>>, Problem> {
    Ok(Json(api.operator.analysis(&pair).await?))
}

/// Who ordered what, the newest first
#[utoipa::path(
    get, path = "/v1/audit", tag = "orders", params(PageQuery), responses((status = 200, body = Vec<AuditEntry>))
)]
pub(super) async fn audit(
    State(api): State<Api>,
    Asked(query): Asked<PageQuery>,
) -> Result<Json<Vec<AuditEntry>>, Problem> {
    Ok(Json(api.operator.audit(query.page()?).await?))
}
