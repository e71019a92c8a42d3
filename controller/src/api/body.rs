//! What arrives, checked: bodies, queries, paths and conditions. What is wrong is said in a problem, with what would
//! be right.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use foreshade_contract::{Generation, Name, PairId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use crate::operator::{Actor, Page, Reason};

/// Entries of a page, where the request does not say.
const PAGE: usize = 100;

/// Most entries of a page.
const PAGE_MAX: usize = 500;

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let parsed = axum::Json::<T>::from_request(request, state).await;
        parsed.map(|json| Self(json.0)).map_err(|rejection| {
            let status = rejection.status();
            match rejection {
                JsonRejection::MissingJsonContentType(_) => {
                    Problem::new(status, "an order is JSON: content-type: application/json")
                }
                other => Problem::of_kind("urn:foreshade:invalid", status, other.body_text()),
            }
        })
    }
}

/// A query.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let parsed = Query::<T>::from_request_parts(parts, state).await;
        parsed
            .map(|query| Self(query.0))
            .map_err(|rejection: QueryRejection| {
                Problem::of_kind("urn:foreshade:invalid", rejection.status(), rejection.body_text())
            })
    }
}

/// Parts of the path that are names.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct PairPath {
    /// Name of the cluster.
    #[param(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    cluster: Name,
    /// Name of the primary.
    #[param(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    primary: Name,
}

/// A pair, out of the path.
pub(super) struct OfPair(pub(super) PairId);

impl<S: Send + Sync> FromRequestParts<S> for OfPair {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let PairPath { cluster, primary } = At::from_request_parts(parts, state).await?.0;
        Ok(Self(PairId { cluster, primary }))
    }
}

/// Any parts of the path.
pub(super) struct At<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let parsed = Path::<T>::from_request_parts(parts, state).await;
        parsed.map(|path| Self(path.0)).map_err(|rejection| {
            Problem::of_kind(
                "urn:foreshade:invalid",
                StatusCode::BAD_REQUEST,
                rejection.body_text(),
            )
        })
    }
}

/// Which part of a long list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Only what is older than this number: the smallest `seq` or `id` of the page before.
    before: Option<u64>,
    /// So many at most, 100 where left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

impl PageQuery {
    pub(super) fn page(&self) -> Result<Page, Problem> {
        let limit = self.limit.unwrap_or(PAGE);
        if !(1..=PAGE_MAX).contains(&limit) {
            let why = format!("limit: {limit} is not from 1 to {PAGE_MAX}");
            return Err(Problem::of_kind(
                "urn:foreshade:invalid",
                StatusCode::BAD_REQUEST,
                why,
            ));
        }
        if self.before.is_some_and(|before| i64::try_from(before).is_err()) {
            let why = "before: a number that no entry has";
            return Err(Problem::of_kind(
                "urn:foreshade:invalid",
                StatusCode::BAD_REQUEST,
                why,
            ));
        }
        Ok(Page {
            before: self.before,
            limit,
        })
    }
}

/// Whether a change is only tried out.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Trial {
    /// 1 to learn what would happen, and change nothing.
    #[serde(default, deserialize_with = "flag")]
    #[param(value_type = Option<u8>, minimum = 0, maximum = 1)]
    pub(super) dry_run: bool,
}

/// Who says so, and why, where there is no body.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SaidInQuery {
    /// Who gives the order.
    #[param(inline)]
    pub(super) actor: Actor,
    /// Why.
    #[param(inline)]
    pub(super) reason: Reason,
    /// 1 to learn what would happen, and change nothing.
    #[serde(default, deserialize_with = "flag")]
    #[param(value_type = Option<u8>, minimum = 0, maximum = 1)]
    pub(super) dry_run: bool,
}

fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        other => Err(serde::de::Error::custom(format!(
            "dry_run: {other:?} is neither 0 nor 1"
        ))),
    }
}

/// Who says so, and why: all that most orders need.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    /// Who gives the order.
    pub(super) actor: Actor,
    /// Why.
    pub(super) reason: Reason,
}

/// Headers that condition a change.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(
    dead_code,
    reason = "read from the headers themselves; this is their declaration"
)]
pub(super) struct Conditions {
    /// The generation that the order was decided on, as the entity tag that the pair was shown with. Another one is a
    /// 412.
    #[param(rename = "If-Match", value_type = String, required = false, pattern = "^(\"[0-9]{1,19}\"|[0-9]{1,19}|\\*)$")]
    if_match: Option<String>,
    /// Names this order: one that comes twice is carried out once and answered twice. With another order, a 422.
    #[param(rename = "Idempotency-Key", value_type = String, required = false, pattern = "^[!-~]{1,128}$")]
    idempotency_key: Option<String>,
}

/// The generation that `If-Match` names.
pub(super) fn expected(headers: &HeaderMap) -> Result<Option<Generation>, Problem> {
    let Some(value) = headers.get(IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let digits = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        // Without the quotes that an entity tag has there is still only one thing that it can mean.
        .unwrap_or(text);
    let number = digits
        .parse()
        .ok()
        .filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
    number.map(|number| Some(Generation(number))).ok_or_else(|| {
        let why = "If-Match: one generation in quotes, as the pair was shown with, or *";
        Problem::of_kind("urn:foreshade:invalid", StatusCode::BAD_REQUEST, why)
    })
}
