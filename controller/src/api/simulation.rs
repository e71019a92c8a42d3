//! What would become of a pair. A question, though a long one: nothing is changed by it, so it needs no actor.

use axum::Json;
use axum::extract::State;
use foreshade_engine::lifecycle::simulate::Question;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

use super::Api;
use super::body::{Asked, OfPair, PairPath};
use super::problem::Problem;
use crate::operator::simulation::{Ordered, Simulation, Supposed};

/// Shortest look: one tick.
const WITHIN_MS_MIN: u64 = 1_000;

/// Longest look: what the engine follows at most.
const WITHIN_MS_MAX: u64 = 7_200_000;

/// How far is looked where the question does not say: the stages of an ordinary shift.
const WITHIN: Duration = Duration::from_secs(600);

/// How far to look: a number and a unit, ms, s, m or h; from 1s to 2h.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Within(Duration);

impl utoipa::PartialSchema for Within {
    fn schema() -> RefOr<Schema> {
        // Only whole ones of those that are taken: a pattern cannot say all that is read.
        let pattern = "^([1-9][0-9]{0,2}s|[1-9][0-9]?m|[12]h)$";
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(pattern))
            .examples([json!("10m")])
            .into()
    }
}

impl utoipa::ToSchema for Within {}

impl TryFrom<String> for Within {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        foreshade_settings::duration::<WITHIN_MS_MIN, WITHIN_MS_MAX>(&text).map(Self)
    }
}

/// What is supposed, what is ordered, and how far to look.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SimulationQuery {
    /// What is supposed to be so from now on; as_now where left out.
    #[serde(default)]
    #[param(inline)]
    suppose: Supposed,
    /// What is ordered at the beginning; nothing where left out.
    #[param(inline)]
    order: Option<Ordered>,
    /// How far to look, 10m where left out.
    #[param(inline)]
    within: Option<Within>,
}

/// What would become of a pair, if this were so and that were ordered; nothing is changed
#[utoipa::path(
    get, path = "/v1/pairs/{cluster}/{primary}/simulation", tag = "pairs", params(PairPath, SimulationQuery),
    responses((status = 200, body = Simulation))
)]
pub(super) async fn simulate(
    State(api): State<Api>,
    OfPair(pair): OfPair,
    Asked(query): Asked<SimulationQuery>,
) -> Result<Json<Simulation>, Problem> {
    let question = Question {
        suppose: query.suppose.into(),
        order: query.order.map(Into::into),
        within: query.within.map_or(WITHIN, |within| within.0),
    };
    Ok(Json(api.operator.simulate(&pair, question).await?))
}
