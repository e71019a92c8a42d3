//! The HTTP API: what operators, pipelines and the command `foreshade` ask and order.
//!
//! It decides nothing: it checks what arrives, says who said so and why, and hands it to an [`Operator`]. Every change
//! has an actor and a reason, may be tried out (`dry_run=1`), may say which generation it was decided on (`If-Match`,
//! 412 where that has passed), and may be repeated without harm (`Idempotency-Key`). Every error is a problem of RFC
//! 9457. The OpenAPI document comes from the declarations beside the handlers, and so does the router, so that neither
//! has what the other lacks.
//!
//! It listens on loopback or on a socket, or else asks for a token; a browser may look, and may give no orders, but
//! through a link that was signed for one gate ([`links`]). Clients are bounded in number, bytes and time, streams of
//! events too.

mod body;
mod events;
mod exceptions;
mod idempotency;
pub mod links;
mod orders;
mod pairs;
mod problem;
mod service;
mod simulation;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::http::header::WWW_AUTHENTICATE;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use foreshade_door::{BEARER, Door, Keys, Limits, TOKEN_NEEDED, WEB_PAGE, is_web_page, serve};
use tokio::sync::Semaphore;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::idempotency::{Orders, Repeats};
use self::links::Signer;
use self::problem::{Problem, errors_as_problems};
use crate::operator::Operator;

/// Connections at a time: streams of events hold theirs for long.
const CONNECTIONS_MAX: usize = 256;

/// Streams of events at a time. What remains of the connections is for whoever has something to order.
const STREAMS_MAX: usize = 128;

/// How long a connection may last, from accept to the last byte of its answer, but for streams of events.
const LIFE: Duration = Duration::from_secs(30);

/// How long the operator may take to answer: it writes to a disk, or to etcd.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest body of a request. Orders have a few hundred bytes.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

/// Milliseconds of Unix time, now.
pub type Clock = fn() -> u64;

/// What the API is connected to. All clones speak of the same controller.
#[derive(Clone)]
pub struct Api {
    operator: Arc<dyn Operator>,
    keys: Keys,
    links: Option<Arc<Signer>>,
    repeats: Arc<Repeats>,
    streams: Arc<Semaphore>,
    counts: Arc<Counts>,
    clock: Clock,
}

/// What the API has done so far.
#[derive(Debug, Default)]
struct Counts {
    orders: AtomicU64,
    events: AtomicU64,
    gaps: AtomicU64,
}

impl Api {
    /// An API before an operator. `keys` say who may ask, `links` sign what may be opened with one click.
    pub fn new(operator: Arc<dyn Operator>, keys: Keys, links: Option<Signer>) -> Self {
        Self {
            operator,
            keys,
            links: links.map(Arc::new),
            repeats: Arc::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            counts: Arc::default(),
            clock: wall_ms,
        }
    }

    /// With another clock, for tests.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Serves until it is dropped.
    ///
    /// # Errors
    /// When the listener cannot be registered with this runtime.
    pub async fn serve(self, door: Door) -> io::Result<()> {
        let limits = Limits {
            connections_max: CONNECTIONS_MAX,
            life: LIFE,
        };
        serve(door.register()?, &self.router(), limits, std::future::pending()).await;
        Ok(())
    }

    fn router(self) -> Router {
        let (guarded, document) = documented().split_for_parts();
        let orders = Arc::new(Orders::of(&document));
        let guarded = guarded
            .layer(from_fn_with_state((self.clone(), orders), idempotency::once))
            .layer(from_fn(no_browsers))
            .layer(from_fn_with_state(self.clone(), token_required));
        // A link carries its own right, and is followed by a browser.
        let open = Router::new().route("/v1/approve", axum::routing::get(links::page).post(links::follow));
        guarded
            .merge(open)
            .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing here") })
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(from_fn(in_time))
            .layer(from_fn(errors_as_problems))
            .with_state(self)
    }
}

/// The document of what the API offers, in JSON: OpenAPI 3.1.
pub fn openapi() -> String {
    let (_, mut document) = documented().split_for_parts();
    problem::describe(&mut document);
    document.to_pretty_json().unwrap_or_default()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "foreshade-controller",
        description = "Pairs of primaries and shadows: what they do, and what they are to do.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "pairs", description = "What is so"),
        (name = "orders", description = "What is to be; each order has an actor and a reason"),
        (name = "drills", description = "Rehearsals"),
        (name = "service", description = "The controller itself")
    )
)]
struct Document;

/// Every route with its declaration.
fn documented() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(pairs::list))
        .routes(routes!(pairs::show))
        .routes(routes!(pairs::history))
        .routes(routes!(pairs::analysis))
        .routes(routes!(simulation::simulate))
        .routes(routes!(events::of_pair))
        .routes(routes!(events::of_all))
        .routes(routes!(orders::promote))
        .routes(routes!(orders::abort))
        .routes(routes!(orders::pause))
        .routes(routes!(orders::resume))
        .routes(routes!(orders::retry))
        .routes(routes!(exceptions::undo))
        .routes(routes!(orders::freeze))
        .routes(routes!(orders::unfreeze))
        .routes(routes!(orders::set))
        .routes(routes!(orders::clear))
        .routes(routes!(exceptions::waive))
        .routes(routes!(exceptions::restore))
        .routes(routes!(orders::approve))
        .routes(routes!(orders::deny))
        .routes(routes!(orders::drills, orders::drill))
        .routes(routes!(orders::show_drill))
        .routes(routes!(orders::cancel_drill))
        .routes(routes!(pairs::audit))
        .routes(routes!(service::healthz))
        .routes(routes!(service::readyz))
        .routes(routes!(service::metrics))
        .routes(routes!(service::openapi))
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

async fn token_required(State(api): State<Api>, request: Request, next: Next) -> Response {
    if api.keys.admit(&request) {
        return next.run(request).await;
    }
    let mut refusal = Problem::new(StatusCode::UNAUTHORIZED, TOKEN_NEEDED).into_response();
    refusal.headers_mut().insert(WWW_AUTHENTICATE, BEARER);
    refusal
}

async fn no_browsers(request: Request, next: Next) -> Response {
    if is_web_page(&request) {
        return Problem::new(StatusCode::FORBIDDEN, WEB_PAGE).into_response();
    }
    next.run(request).await
}

/// An operator that hangs must not hold its clients. The head of a stream of events is there at once.
async fn in_time(request: Request, next: Next) -> Response {
    let why = "the controller does not answer; if this was an order, it may still be carried out";
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}
