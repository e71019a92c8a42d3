//! Why something was not done, in the one shape that all errors of the API have: a problem of RFC 9457.
//!
//! The table from a [`Fault`] to its status stands here and nowhere else. `type` names the kind of problem for
//! programs, so that they need not read sentences.

use axum::Json;
use axum::extract::Request;
use axum::http::header::{ALLOW, CONTENT_TYPE, ETAG, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::openapi::{Content, OpenApi, Ref, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};

use crate::operator::Fault;

const PROBLEM_JSON: &str = "application/problem+json";

/// Seconds after which it may help to ask again.
const RETRY_SECONDS: u16 = 2;

/// An error for a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Problem {
    /// What kind of problem, as urn:foreshade:stale.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// What is wrong with this request, and what to do.
    pub detail: String,
    /// The generation of the pair, where the one that was expected has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
}

impl Problem {
    /// A problem without a kind of its own.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::of_kind("about:blank", status, detail)
    }

    pub(super) fn of_kind(kind: &str, status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            generation: None,
        }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let (kind, status) = match &fault {
            Fault::UnknownPair(_) => ("urn:foreshade:unknown-pair", StatusCode::NOT_FOUND),
            Fault::Unknown { .. } => ("urn:foreshade:unknown", StatusCode::NOT_FOUND),
            Fault::Stale { .. } => ("urn:foreshade:stale", StatusCode::PRECONDITION_FAILED),
            Fault::NotNow(_) => ("urn:foreshade:not-now", StatusCode::CONFLICT),
            Fault::Invalid(_) => ("urn:foreshade:invalid", StatusCode::UNPROCESSABLE_ENTITY),
            Fault::NotLeading { .. } => ("urn:foreshade:not-leading", StatusCode::SERVICE_UNAVAILABLE),
            Fault::ReadOnly(_) => ("urn:foreshade:read-only", StatusCode::SERVICE_UNAVAILABLE),
            Fault::Busy => ("urn:foreshade:busy", StatusCode::TOO_MANY_REQUESTS),
        };
        let mut problem = Self::of_kind(kind, status, fault.to_string());
        if let Fault::Stale { current, .. } = fault {
            problem.generation = Some(current.0);
        }
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let again = matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        );
        let current = self.generation.and_then(|generation| etag(generation).ok());
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if again {
            headers.insert(RETRY_AFTER, RETRY_SECONDS.into());
        }
        if let Some(current) = current {
            headers.insert(ETAG, current);
        }
        response
    }
}

/// A generation as the entity tag that `If-Match` wants.
pub(super) fn etag(generation: u64) -> Result<HeaderValue, Problem> {
    let value = HeaderValue::try_from(format!("\"{generation}\""));
    value.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a generation is no header"))
}

/// Errors that axum made itself (no such path, wrong method, body too large) look like ours.
pub(super) async fn errors_as_problems(request: Request, next: Next) -> Response {
    let is_pair = request.uri().path().starts_with("/v1/pairs/");
    let response = next.run(request).await;
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE);
    let is_ours = kind.is_some_and(|kind| kind == PROBLEM_JSON || kind.as_bytes().starts_with(b"text/html"));
    if is_ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let why = match status {
        StatusCode::METHOD_NOT_ALLOWED if is_pair => {
            "this path does not take this method; pairs and policies are those of the configuration: change the file and \
             start the controller anew, or set something for a while (POST .../override)"
        }
        StatusCode::METHOD_NOT_ALLOWED => "this path does not take this method",
        StatusCode::PAYLOAD_TOO_LARGE => "the body is longer than any order",
        _ => "refused",
    };
    let mut replaced = Problem::new(status, why).into_response();
    // The methods that are allowed.
    if let Some(allow) = response.headers().get(ALLOW) {
        replaced.headers_mut().insert(ALLOW, allow.clone());
    }
    replaced
}

/// Says in the document that every error of every operation is a problem.
pub(super) fn describe(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    components
        .schemas
        .insert(Problem::name().into_owned(), Problem::schema());
    let response = |description: &str| {
        let content = Content::new(Some(Ref::from_schema_name(Problem::name())));
        ResponseBuilder::new()
            .description(description)
            .content(PROBLEM_JSON, content)
            .build()
    };
    for path in document.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.delete];
        for operation in operations.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            responses.insert(
                "4XX".to_owned(),
                response("The request is not carried out, and nothing has changed").into(),
            );
            responses.insert(
                "5XX".to_owned(),
                response("It cannot be carried out now; nothing has changed").into(),
            );
        }
    }
}
