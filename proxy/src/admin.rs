//! Where operators look and act: health, metrics, what is believed of each endpoint and why, warnings and overrides.
//!
//! It runs beside the workers, on a runtime that serves no user, so that a large scrape never delays a request, and a
//! wedged worker does not silence the place where one would look for the reason. It holds no state: every question goes
//! to the scorer as a [`Command`] and is given up after [`PATIENCE`].
//!
//! It listens on loopback or on a socket, or else asks for a token ([`foreshade_door`]). A browser on the same machine is a
//! stranger all the same: orders need a JSON content type and must not carry an `Origin`, so that no page can give them.
//! Clients are bounded in number, in bytes, and in time.
//!
//! Every error is JSON with the one key `error`, and `choices` where there is something to choose from.

mod controller;
mod endpoints;
mod explain;
mod mirror;
mod orders;
mod place;
mod refusal;
mod reload;
mod running;

#[cfg(test)]
pub(crate) mod fixture;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{CONTENT_TYPE, VARY, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use foreshade_door::{BEARER, Door, Keys, Limits, TOKEN_NEEDED, WEB_PAGE, is_web_page};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use self::refusal::Refusal;
use crate::access_log::Writing;
use crate::acme;
use crate::command::Command;
use crate::config::{Config, Listener};
use crate::health::Dropped;
use crate::link::view::Viewed;
use crate::metrics::{self, Extra, Form, Process};
use crate::mirror::Questions;
use crate::reload::Desk;
use crate::server::connections::Connections;
use crate::tls::Certificate;
use crate::topology::Topology;
use crate::trace::export::Exporting;
use crate::upgrade::start::Upgrades;
use crate::verbosity::Verbosity;

/// How long the scorer may take to answer. It ticks every 100 ms; twenty ticks late means that it is stuck.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Connections at a time. A scraper, a dashboard and a few operators; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection may last, from accept to the last byte of its answer.
const LIFE_MAX: Duration = Duration::from_secs(30);

/// Longest body of a request. Orders have a few hundred bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Whether users may be sent here. All clones speak of the same proxy. Starts as not yet.
#[derive(Clone, Debug, Default)]
pub struct Readiness(watch::Sender<Stage>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Starting,
    Serving,
    Draining,
}

impl Readiness {
    /// The listeners are open.
    pub fn serving(&self) {
        self.0.send_replace(Stage::Serving);
    }

    /// Requests in flight are finished, new ones should go elsewhere.
    pub fn draining(&self) {
        self.0.send_replace(Stage::Draining);
    }

    fn stage(&self) -> Stage {
        *self.0.borrow()
    }
}

/// What the admin interface is connected to.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The way to the scorer.
    pub commands: mpsc::Sender<Command>,
    /// The configuration that runs, and how to replace it.
    pub reload: Desk,
    /// Whether users may be sent here.
    pub readiness: Readiness,
    /// Results of probes that the scorer did not collect.
    pub probes_dropped: Dropped,
    /// Who may ask.
    pub keys: Keys,
    /// What the proxy logs of itself.
    pub verbosity: Verbosity,
    /// The access log, where there is one.
    pub access_log: Option<Writing>,
    /// The export of spans, where there is one.
    pub traces: Option<Exporting>,
    /// Who is connected.
    pub connections: Connections,
    /// The way to the mirror.
    pub mirror: Questions,
    /// The link to the controller.
    pub link: Viewed,
    /// Upgrades since the first process.
    pub upgrades: Upgrades,
    /// Certificates that are ordered.
    pub ordered: watch::Receiver<Vec<acme::Row>>,
}

/// Serves the admin interface until `end`, or until it is dropped: it says that the proxy drains for as long as it does.
///
/// # Errors
/// When the listener cannot be registered with this runtime.
pub async fn serve(door: Door, admin: Admin, end: impl Future<Output = ()>) -> io::Result<()> {
    let limits = Limits {
        connections_max: CONNECTIONS_MAX,
        life: LIFE_MAX,
    };
    foreshade_door::serve(door.register()?, &router(admin), limits, end).await;
    Ok(())
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .route("/v1/endpoints", get(endpoints::list))
        .route("/v1/explain/{endpoint}", get(explain::by_endpoint))
        .route("/v1/explain/{cluster}/{endpoint}", get(explain::by_cluster))
        .route("/v1/mirror", get(mirror::show))
        .route("/v1/controller", get(controller::show))
        .route("/v1/advisories", post(orders::advise))
        .route("/v1/overrides", post(orders::overrule))
        .route("/v1/overrides/{cluster}/{endpoint}", delete(orders::clear))
        .route("/v1/names", get(reload::names))
        .route("/v1/reload", get(reload::status).post(reload::now))
        .route("/v1/config", get(running::config))
        .route("/v1/log", get(running::log).put(running::set_log))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(no_browsers))
        .layer(from_fn_with_state(admin.keys.clone(), token_required))
        .layer(from_fn(errors_as_json))
        .with_state(admin)
}

/// The page at the root.
const INDEX: &str = "\
foreshade-proxy, admin interface

GET    /livez                              200 while the process runs
GET    /readyz                             200 while users may be sent here, else 503 and the reason
GET    /metrics                            Prometheus: text, OpenMetrics or protobuf, by Accept
GET    /v1/endpoints                       every endpoint: risk, share, and the terms behind them
GET    /v1/explain/{endpoint}              what was decided lately, and why
GET    /v1/explain/{cluster}/{endpoint}    the same, where the name alone is ambiguous
GET    /v1/mirror                          copies: how they ended, and where answers differ
GET    /v1/controller                      the link to the controller, and the plan in force
POST   /v1/advisories                      warn of an endpoint:
                                           {cluster?, endpoint, source, reason, risk, trust, half_life?, ttl}
POST   /v1/overrides                       overrule the engine:
                                           {cluster?, endpoint, share or risk, reason, ttl}
DELETE /v1/overrides/{cluster}/{endpoint}  let the engine decide again
POST   /v1/reload                          read the configuration again; 4xx and all mistakes where it is refused
GET    /v1/names                           what the names of endpoints stand for, and how old that is
GET    /v1/reload                          which configuration runs, and what became of the last reload
GET    /v1/config                          the configuration that runs, its digest, and when it was read
GET    /v1/log                             what the proxy logs of itself
PUT    /v1/log                             change that: {filter, ttl?}
";

async fn index() -> &'static str {
    INDEX
}

async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(admin): State<Admin>) -> Result<&'static str, Refusal> {
    let why = match admin.readiness.stage() {
        Stage::Serving => return Ok("ready\n"),
        Stage::Starting => "starting: the listeners are not open yet",
        Stage::Draining => "draining: requests in flight are finished, new ones belong elsewhere",
    };
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why))
}

/// The certificates that clients are shown, and by which listener.
fn certificates(config: &Config) -> Vec<(String, Certificate)> {
    let of = |listener: &Listener| {
        let certificates = listener.tls.iter().flat_map(|tls| tls.certificates());
        let named = certificates.map(|certificate| (listener.name.to_string(), certificate.clone()));
        named.collect::<Vec<_>>()
    };
    config.listeners.iter().flat_map(of).collect()
}

async fn show_metrics(State(admin): State<Admin>, headers: HeaderMap) -> Result<impl IntoResponse, Refusal> {
    let view = admin.ask(Command::View).await?;
    // A mirror that hangs must not take the other numbers with it.
    let mirror = mirror::view(&admin).await.unwrap_or_default();
    let extra = Extra {
        ready: admin.readiness.stage() == Stage::Serving,
        probes_dropped: admin.probes_dropped.count(),
        reload: admin.reload.status.borrow().clone(),
        names: admin.reload.names.borrow().clone(),
        mirror,
        process: Process::read(),
        connections_accepted: admin.connections.accepted(),
        connections_open: admin.connections.open(),
        handshakes: admin.connections.handshakes(),
        handshakes_failed: admin.connections.failed(),
        certificates: certificates(view.topology.config()),
        secured: metrics::tls::secured(view.topology.config()),
        shown: metrics::tls::shown(view.topology.config()),
        access_log: admin.access_log.as_ref().map(Writing::counts).unwrap_or_default(),
        traces: admin.traces.clone().unwrap_or_default(),
        admin_refused: admin.keys.refused(),
        upgrades: admin.upgrades.clone(),
        ordered: admin.ordered.borrow().clone(),
        link: admin.link.as_ref().map(|link| link.borrow().clone()),
    };
    let form = Form::wanted(&headers);
    let page = metrics::render(&view, &extra, form);
    // What another scraper gets is another page.
    Ok(([(CONTENT_TYPE, form.content_type()), (VARY, "accept")], page))
}

impl Admin {
    /// The configuration now.
    fn topology(&self) -> Arc<Topology> {
        self.reload.topology()
    }

    /// Asks the scorer and waits for its answer, but not for ever.
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Refusal> {
        let (to, answer) = oneshot::channel();
        let answered = async {
            self.commands.send(question(to)).await.ok()?;
            answer.await.ok()
        };
        match timeout(PATIENCE, answered).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the scorer has stopped",
            )),
            Err(_) => {
                let why = "the scorer does not answer; if this was an order, it may still be carried out";
                Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why))
            }
        }
    }
}

/// Lets pass who may.
async fn token_required(State(keys): State<Keys>, request: Request, next: Next) -> Response {
    if keys.admit(&request) {
        return next.run(request).await;
    }
    let mut refusal = Refusal::new(StatusCode::UNAUTHORIZED, TOKEN_NEEDED).into_response();
    refusal.headers_mut().insert(WWW_AUTHENTICATE, BEARER);
    refusal
}

async fn no_browsers(request: Request, next: Next) -> Response {
    if is_web_page(&request) {
        return Refusal::new(StatusCode::FORBIDDEN, WEB_PAGE).into_response();
    }
    next.run(request).await
}

/// Errors that axum made itself (no such path, wrong method, body too large) look like ours.
async fn errors_as_json(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_ours = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|v| v == "application/json");
    if is_ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let why = status.canonical_reason().unwrap_or("refused").to_lowercase();
    let mut replaced = Refusal::new(status, why).into_response();
    // The methods that are allowed.
    if let Some(allow) = response.headers().get("allow") {
        replaced.headers_mut().insert("allow", allow.clone());
    }
    replaced
}

#[cfg(test)]
mod tests;
