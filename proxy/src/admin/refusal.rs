//! Why the admin interface does not do what it was asked, in the one shape that all its errors have.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An error for a client.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: Body,
}

#[derive(Debug, Serialize)]
struct Body {
    error: String,
    /// What could have been meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    choices: Vec<String>,
    /// What is wrong with a configuration, all of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mistakes: Vec<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            body: Body {
                error: error.into(),
                choices: Vec::new(),
                mistakes: Vec::new(),
            },
        }
    }

    /// The request was understood, and asks for what cannot be.
    pub(super) fn unprocessable(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error)
    }

    pub(super) fn mistakes(mut self, mistakes: Vec<String>) -> Self {
        self.body.mistakes = mistakes;
        self
    }

    pub(super) fn choices(mut self, choices: Vec<String>) -> Self {
        self.body.choices = choices;
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}
