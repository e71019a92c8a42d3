//! What operators and other systems tell the engine: warnings, which may prepare, and overrides, which command.
//!
//! Both must say until when. An order that is forgotten is the next outage: an endpoint held at "no risk" by somebody who
//! went home. The limits are part of the types, so that what gets past the parser can be carried out.

use std::fmt;
use std::time::Duration;

use axum::Json;
use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use foreshade_contract::{Name, Risk, Share};
use foreshade_engine::cluster::{OVERRIDE_MAX, Setting};
use serde::de::{DeserializeOwned, Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::place::Found;
use super::refusal::Refusal;
use super::{Admin, BODY_BYTES_MAX, place};
use crate::command::{Advice, Command, Order};

/// Shortest life of an order: a few ticks, so that it takes effect at all.
const TTL_MS_MIN: u64 = 1_000;

/// Longest life of an order: what the engine grants an override, and no longer than somebody remembers it. Whoever knows
/// more can say it again.
#[expect(clippy::cast_possible_truncation, reason = "a day")]
const TTL_MS_MAX: u64 = OVERRIDE_MAX.as_millis() as u64;

/// The engine counts from its last tick, so a whole day from now is a moment more than it grants.
const OVERRIDE_TTL_MAX: Duration = OVERRIDE_MAX.saturating_sub(Duration::from_secs(1));

/// Longest name of a source: the engine keeps one advisory per source.
const SOURCE_BYTES_MAX: usize = 64;

/// Longest reason: one line in a log and in an explanation, and what the engine keeps.
const REASON_BYTES_MAX: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdviceBody {
    cluster: Option<String>,
    endpoint: String,
    source: Line<SOURCE_BYTES_MAX>,
    reason: Line<REASON_BYTES_MAX>,
    risk: Risk,
    trust: f64,
    /// Absent: it keeps its weight until it expires.
    half_life: Option<Span<TTL_MS_MIN, TTL_MS_MAX>>,
    ttl: Span<TTL_MS_MIN, TTL_MS_MAX>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OverrideBody {
    cluster: Option<String>,
    endpoint: String,
    share: Option<Share>,
    risk: Option<Risk>,
    reason: Line<REASON_BYTES_MAX>,
    ttl: Span<TTL_MS_MIN, TTL_MS_MAX>,
}

/// What was accepted, as it was understood.
#[derive(Debug, Serialize)]
pub(super) struct Accepted {
    cluster: Name,
    endpoint: Name,
    ttl_seconds: f64,
}

// Concept: endpoint-external
pub(super) async fn advise(
    State(admin): State<Admin>,
    Body(body): Body<AdviceBody>,
) -> Result<Json<Accepted>, Refusal> {
    let topology = admin.topology();
    let found = place::find(&topology, body.cluster.as_deref(), &body.endpoint)?;
    if !(0.0..=1.0).contains(&body.trust) {
        return Err(Refusal::unprocessable(format!(
            "trust lies between 0 and 1, not at {}",
            body.trust
        )));
    }
    let advice = Advice {
        endpoint: found.id,
        source: body.source.0,
        reason: body.reason.0,
        value: body.risk,
        trust: body.trust,
        half_life: body.half_life.map_or(Duration::ZERO, |span| span.0),
        ttl: body.ttl.0,
    };
    let Advice {
        source,
        reason,
        trust,
        half_life,
        ttl,
        ..
    } = &advice;
    let risk = body.risk.value();
    let Found {
        cluster, endpoint, ..
    } = found;
    tracing::info!(%cluster, %endpoint, source, reason, risk, trust, ?half_life, ?ttl, "advisory given");
    let taken = admin.ask(|to| Command::Advise(advice, to)).await?;
    taken.map_err(Refusal::unprocessable)?;
    Ok(accepted(found, body.ttl.0))
}

pub(super) async fn overrule(
    State(admin): State<Admin>,
    Body(body): Body<OverrideBody>,
) -> Result<Json<Accepted>, Refusal> {
    let topology = admin.topology();
    let found = place::find(&topology, body.cluster.as_deref(), &body.endpoint)?;
    let setting = match (body.share, body.risk) {
        (Some(share), None) => Setting::Share(share),
        (None, Some(risk)) => Setting::Risk(risk),
        _ => return Err(Refusal::unprocessable("an override sets either share or risk")),
    };
    let (reason, ttl) = (body.reason.0, body.ttl.0.min(OVERRIDE_TTL_MAX));
    let (share, risk) = (body.share.map(Share::value), body.risk.map(Risk::value));
    let Found {
        id,
        cluster,
        endpoint,
    } = found;
    tracing::info!(%cluster, %endpoint, share, risk, reason, ?ttl, "override given");
    let order = Order {
        endpoint: id,
        setting,
        reason,
        ttl,
    };
    let taken = admin.ask(|to| Command::Override(order, to)).await?;
    // The engine knows endpoints by number only.
    taken.map_err(|why| Refusal::unprocessable(format!("{cluster}/{endpoint}: {why}")))?;
    Ok(accepted(found, ttl))
}

pub(super) async fn clear(
    State(admin): State<Admin>,
    Path((cluster, endpoint)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let topology = admin.topology();
    let found = place::find(&topology, Some(&cluster), &endpoint)?;
    tracing::info!(cluster, endpoint, "override taken back");
    let cleared = admin.ask(|to| Command::ClearOverride(found.id, to)).await?;
    cleared.map_err(|why| Refusal::new(StatusCode::NOT_FOUND, why))?;
    Ok(StatusCode::NO_CONTENT)
}

fn accepted(found: Found<'_>, ttl: Duration) -> Json<Accepted> {
    Json(Accepted {
        cluster: found.cluster.clone(),
        endpoint: found.endpoint.clone(),
        ttl_seconds: ttl.as_secs_f64(),
    })
}

/// A JSON body. The content type is demanded, because a browser sends any other one without asking the server first.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let content_type = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            let error = "the body has to be JSON, with content-type: application/json";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error).into_response());
        }
        // Said ahead where it can be: after the fact, the client would find its connection reset and not the answer.
        if request.body().size_hint().lower() > BODY_BYTES_MAX as u64 {
            let error = format!("a body has at most {BODY_BYTES_MAX} bytes");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error).into_response());
        }
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(IntoResponse::into_response)?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let status = match error.classify() {
                serde_json::error::Category::Data => StatusCode::UNPROCESSABLE_ENTITY,
                _ => StatusCode::BAD_REQUEST,
            };
            Refusal::new(status, error.to_string()).into_response()
        })
    }
}

/// A duration, as `"10m"` or as a number of seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<const MS_MIN: u64, const MS_MAX: u64>(pub(super) Duration);

impl<'de, const MS_MIN: u64, const MS_MAX: u64> Deserialize<'de> for Span<MS_MIN, MS_MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

struct SpanVisitor<const MS_MIN: u64, const MS_MAX: u64>;

impl<const MS_MIN: u64, const MS_MAX: u64> Visitor<'_> for SpanVisitor<MS_MIN, MS_MAX> {
    type Value = Span<MS_MIN, MS_MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration: \"10m\", or a number of seconds")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        foreshade_settings::duration::<MS_MIN, MS_MAX>(text)
            .map(Span)
            .map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Self::Value, E> {
        self.visit_str(&format!("{seconds}s"))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Self::Value, E> {
        self.visit_str(&format!("{seconds}s"))
    }
}

/// A line of text that may stand in a log: not empty, not endless, no control characters.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Line<const BYTES_MAX: usize>(String);

impl<const BYTES_MAX: usize> TryFrom<String> for Line<BYTES_MAX> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("source and reason must not be empty".to_owned());
        }
        if text.len() > BYTES_MAX || text.chars().any(char::is_control) {
            return Err(format!("expected one line of at most {BYTES_MAX} bytes"));
        }
        Ok(Self(text))
    }
}
