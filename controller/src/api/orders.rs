//! What is to be: orders, each with an actor and a reason.
//!
//! Who gives an order is what he says: the door asks for a token or for the right to a socket, and has no accounts.
//! What is written down is therefore a claim, made by somebody who may give orders.

use axum::Json;
use axum::extract::State;
use axum::http::header::ETAG;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use foreshade_contract::{Name, PairId};
use foreshade_engine::lifecycle::command::Command;
use foreshade_engine::lifecycle::overrides::{OVERRIDE_MAX, Setting};
use foreshade_engine::lifecycle::points::BasisPoints;
use serde::Deserialize;
use serde_json::json;
use std::sync::atomic::Ordering;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

use super::Api;
use super::body::{
    Asked, At, Body, Conditions, OfPair, PageQuery, PairPath, Said, SaidInQuery, Trial, expected,
};
use super::idempotency;
use super::problem::{Problem, etag};
use crate::operator::view::{Drill, Outcome};
use crate::operator::{Actor, Order, Reason, Scenario, What};

/// Shortest life of what is set by hand, in milliseconds: long enough to take effect at all.
const TTL_MS_MIN: u64 = 1_000;

/// Longest life, a day: what nobody remembers is the outage of next month.
#[expect(clippy::cast_possible_truncation, reason = "a day")]
const TTL_MS_MAX: u64 = OVERRIDE_MAX.as_millis() as u64;

/// The lifecycle counts from its own tick, so a whole day from now may be a moment more than it grants.
const TICK_MS: u64 = 1_000;

/// Everything around a command.
pub(super) struct Around {
    pub(super) pair: PairId,
    pub(super) actor: Actor,
    pub(super) reason: Reason,
    pub(super) dry_run: bool,
    pub(super) headers: HeaderMap,
}

impl Around {
    /// The order that it is, with this command.
    pub(super) fn order(self, command: Command) -> Result<Order, Problem> {
        Ok(Order {
            command,
            key: match idempotency::key(&self.headers)? {
                Some(key) => key.to_owned(),
                None => format!("{:032x}", rand::random::<u128>()),
            },
            expected: expected(&self.headers)?,
            pair: self.pair,
            actor: self.actor,
            reason: self.reason,
            to: None,
            dry_run: self.dry_run,
        })
    }
}

impl Api {
    pub(super) async fn order(&self, command: Command, around: Around) -> Result<Response, Problem> {
        self.carry_out(around.order(command)?).await
    }

    /// Hands an order over, and shows what came of it.
    pub(super) async fn carry_out(&self, order: Order) -> Result<Response, Problem> {
        let (pair, verb, actor) = (
            order.pair.to_string(),
            order.command.verb().to_string(),
            order.actor.to_string(),
        );
        let outcome = self.operator.command(order).await?;
        if !outcome.dry_run {
            self.counts.orders.fetch_add(1, Ordering::Relaxed);
            tracing::info!(pair, verb, actor, changed = outcome.changed, "order accepted");
        }
        let tag = etag(outcome.generation)?;
        Ok(([(ETAG, tag)], Json(outcome)).into_response())
    }
}

/// An order that needs no more words.
macro_rules! plain {
    ($(#[doc = $doc:literal])+ $name:ident $path:literal $command:expr) => {
        $(#[doc = $doc])+
        #[utoipa::path(
            post, path = $path, tag = "orders", params(PairPath, Trial, Conditions), request_body = Said,
            responses((status = 200, body = Outcome))
        )]
        pub(super) async fn $name(
            State(api): State<Api>,
            OfPair(pair): OfPair,
            Asked(Trial { dry_run }): Asked<Trial>,
            headers: HeaderMap,
            Body(Said { actor, reason }): Body<Said>,
        ) -> Result<Response, Problem> {
            let around = Around { pair, actor, reason, dry_run, headers };
            api.order($command, around).await
        }
    };
}

plain! {
    /// Back to where the pair came from; where nothing is under way, nothing happens
    abort "/v1/pairs/{cluster}/{primary}/abort" Command::Abort
}

plain! {
    /// Keep the share where it is
    pause "/v1/pairs/{cluster}/{primary}/pause" Command::Pause
}

plain! {
    /// End a pause
    resume "/v1/pairs/{cluster}/{primary}/resume" Command::Resume
}

plain! {
    /// Try again after a failure, without waiting for the rest to end
    retry "/v1/pairs/{cluster}/{primary}/retry" Command::Retry
}

plain! {
    /// No automatic change but what protects users
    freeze "/v1/pairs/{cluster}/{primary}/freeze" Command::Freeze
}

plain! {
    /// End a freeze
    unfreeze "/v1/pairs/{cluster}/{primary}/unfreeze" Command::Unfreeze
}

/// A promotion.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Promotion {
    /// Who gives the order.
    actor: Actor,
    /// Why.
    reason: Reason,
    /// At once and all the way, without waiting for evidence.
    #[serde(default)]
    full: bool,
}

/// Go on: begin a shift, end a pause, take the next step, promote what waits for it
#[utoipa::path(
    post, path = "/v1/pairs/{cluster}/{primary}/promote", tag = "orders", params(PairPath, Trial, Conditions),
    request_body = Promotion, responses((status = 200, body = Outcome))
)]
pub(super) async fn promote(
    State(api): State<Api>,
    OfPair(pair): OfPair,
    Asked(Trial { dry_run }): Asked<Trial>,
    headers: HeaderMap,
    Body(Promotion { actor, reason, full }): Body<Promotion>,
) -> Result<Response, Problem> {
    let around = Around {
        pair,
        actor,
        reason,
        dry_run,
        headers,
    };
    api.order(Command::Promote { full }, around).await
}

/// How long something holds: a number and a unit, ms, s, m or h; from 1s to 24h.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Ttl(u64);

impl Ttl {
    /// Its end, if it begins now.
    pub(super) fn until_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add(self.0)
    }
}

impl utoipa::PartialSchema for Ttl {
    fn schema() -> RefOr<Schema> {
        // Only whole ones of those that are taken, and no more than a day: a pattern cannot say all that is read.
        let pattern = "^([1-9][0-9]{0,3}s|[1-9][0-9]{0,2}m|[1-9]h)$";
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(pattern))
            .examples([json!("15m")])
            .into()
    }
}

impl utoipa::ToSchema for Ttl {}

impl TryFrom<String> for Ttl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let lasting = foreshade_settings::duration::<TTL_MS_MIN, TTL_MS_MAX>(&text)?;
        let ms = u64::try_from(lasting.as_millis()).unwrap_or(TTL_MS_MAX);
        Ok(Self(ms.min(TTL_MS_MAX - TICK_MS)))
    }
}

/// Something to be set by hand, for a while.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Override {
    /// Who gives the order.
    actor: Actor,
    /// Why.
    reason: Reason,
    /// What is set.
    what: What,
    /// To what, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    value: f64,
    /// For how long; then the controller decides again.
    ttl: Ttl,
}

/// Set something by hand, for a while
#[utoipa::path(
    post, path = "/v1/pairs/{cluster}/{primary}/override", tag = "orders", params(PairPath, Trial, Conditions),
    request_body = Override, responses((status = 200, body = Outcome))
)]
pub(super) async fn set(
    State(api): State<Api>,
    OfPair(pair): OfPair,
    Asked(Trial { dry_run }): Asked<Trial>,
    headers: HeaderMap,
    Body(body): Body<Override>,
) -> Result<Response, Problem> {
    let Override {
        actor,
        reason,
        what,
        value,
        ttl,
    } = body;
    if !(0.0..=1.0).contains(&value) {
        let why = format!("value: {value} is not from 0 to 1");
        return Err(Problem::of_kind(
            "urn:foreshade:invalid",
            StatusCode::UNPROCESSABLE_ENTITY,
            why,
        ));
    }
    let points = BasisPoints::at_most(value);
    let setting = match what {
        What::Share => Setting::Share(points),
        What::Ceiling => Setting::Ceiling(points),
        What::Risk => Setting::Risk(points),
    };
    let until_ms = ttl.until_ms((api.clock)());
    let around = Around {
        pair,
        actor,
        reason,
        dry_run,
        headers,
    };
    api.order(Command::Override { setting, until_ms }, around).await
}

/// What was set by hand.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OverridePath {
    /// Name of the cluster.
    #[param(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    cluster: Name,
    /// Name of the primary.
    #[param(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    primary: Name,
    /// What was set.
    what: What,
}

/// End what was set by hand
#[utoipa::path(
    delete, path = "/v1/pairs/{cluster}/{primary}/override/{what}", tag = "orders",
    params(OverridePath, SaidInQuery, Conditions), responses((status = 200, body = Outcome))
)]
pub(super) async fn clear(
    State(api): State<Api>,
    At(OverridePath {
        cluster,
        primary,
        what,
    }): At<OverridePath>,
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
    api.order(Command::ClearOverride { what: what.into() }, around)
        .await
}

/// A gate of a pair.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct GatePath {
    /// Name of the cluster.
    #[param(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    cluster: Name,
    /// Name of the primary.
    #[param(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    primary: Name,
    /// Name of the gate.
    #[param(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    gate: Name,
}

/// Open a gate
#[utoipa::path(
    post, path = "/v1/pairs/{cluster}/{primary}/gates/{gate}/approve", tag = "orders",
    params(GatePath, Trial, Conditions), request_body = Said, responses((status = 200, body = Outcome))
)]
pub(super) async fn approve(
    State(api): State<Api>,
    At(GatePath {
        cluster,
        primary,
        gate,
    }): At<GatePath>,
    Asked(Trial { dry_run }): Asked<Trial>,
    headers: HeaderMap,
    Body(Said { actor, reason }): Body<Said>,
) -> Result<Response, Problem> {
    let pair = PairId { cluster, primary };
    let around = Around {
        pair,
        actor,
        reason,
        dry_run,
        headers,
    };
    api.order(Command::Approve { gate }, around).await
}

/// Close a gate for this course
#[utoipa::path(
    post, path = "/v1/pairs/{cluster}/{primary}/gates/{gate}/deny", tag = "orders",
    params(GatePath, Trial, Conditions), request_body = Said, responses((status = 200, body = Outcome))
)]
pub(super) async fn deny(
    State(api): State<Api>,
    At(GatePath {
        cluster,
        primary,
        gate,
    }): At<GatePath>,
    Asked(Trial { dry_run }): Asked<Trial>,
    headers: HeaderMap,
    Body(Said { actor, reason }): Body<Said>,
) -> Result<Response, Problem> {
    let pair = PairId { cluster, primary };
    let around = Around {
        pair,
        actor,
        reason,
        dry_run,
        headers,
    };
    api.order(Command::Deny { gate }, around).await
}

/// Which pair.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct PairBody {
    /// Name of the cluster.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    cluster: Name,
    /// Name of the primary.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    primary: Name,
}

/// A drill to begin.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDrill {
    /// Who gives the order.
    actor: Actor,
    /// Why.
    reason: Reason,
    /// Whom it concerns.
    pair: PairBody,
    /// What is to fail.
    scenario: Scenario,
}

/// Rehearse a failure, without touching live traffic
#[utoipa::path(
    post, path = "/v1/drills", tag = "drills", params(Trial, Conditions), request_body = NewDrill,
    responses((status = 200, body = Outcome))
)]
pub(super) async fn drill(
    State(api): State<Api>,
    Asked(Trial { dry_run }): Asked<Trial>,
    headers: HeaderMap,
    Body(body): Body<NewDrill>,
) -> Result<Response, Problem> {
    let NewDrill {
        actor,
        reason,
        pair: PairBody { cluster, primary },
        scenario,
    } = body;
    let scenario = scenario.into();
    let pair = PairId { cluster, primary };
    let around = Around {
        pair,
        actor,
        reason,
        dry_run,
        headers,
    };
    api.order(Command::Drill { scenario }, around).await
}

/// Drills, the newest first
#[utoipa::path(
    get, path = "/v1/drills", tag = "drills", params(PageQuery), responses((status = 200, body = Vec<Drill>))
)]
pub(super) async fn drills(
    State(api): State<Api>,
    Asked(query): Asked<PageQuery>,
) -> Result<Json<Vec<Drill>>, Problem> {
    Ok(Json(api.operator.drills(query.page()?).await?))
}

/// One drill, with its report
#[utoipa::path(
    get, path = "/v1/drills/{id}", tag = "drills", params(("id" = u64, Path, description = "Its number")),
    responses((status = 200, body = Drill))
)]
pub(super) async fn show_drill(State(api): State<Api>, At(id): At<u64>) -> Result<Json<Drill>, Problem> {
    Ok(Json(api.operator.drill(id).await?))
}

/// End a drill
#[utoipa::path(
    post, path = "/v1/drills/{id}/cancel", tag = "drills",
    params(("id" = u64, Path, description = "Its number"), Trial, Conditions), request_body = Said,
    responses((status = 200, body = Outcome))
)]
pub(super) async fn cancel_drill(
    State(api): State<Api>,
    At(id): At<u64>,
    Asked(Trial { dry_run }): Asked<Trial>,
    headers: HeaderMap,
    Body(Said { actor, reason }): Body<Said>,
) -> Result<Response, Problem> {
    let drill = api.operator.drill(id).await?;
    let pair = drill.pair.split_once('/').and_then(|(cluster, primary)| {
        Some(PairId {
            cluster: cluster.parse().ok()?,
            primary: primary.parse().ok()?,
        })
    });
    let Some(pair) = pair else {
        return Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the drill is of a pair without a name",
        ));
    };
    if drill.ended_ms.is_some() {
        let why = format!("drill {id} is over");
        return Err(Problem::of_kind(
            "urn:foreshade:not-now",
            StatusCode::CONFLICT,
            why,
        ));
    }
    let around = Around {
        pair,
        actor,
        reason,
        dry_run,
        headers,
    };
    api.order(Command::CancelDrill, around).await
}
