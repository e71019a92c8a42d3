//! What happens, as it happens: server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! A stream begins where the listener was (`Last-Event-ID`), or now. It ends after [`STREAM_LIFE`], or when the
//! listener no longer reads, and the listener comes back; so nothing is held for somebody who is gone. Events that are
//! no longer remembered are told as one event `gap`: then the whole state has to be looked at again.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use foreshade_door::Life;
use futures_util::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout_at};

use super::Api;
use super::body::{OfPair, PairPath};
use super::problem::Problem;
use crate::operator::events::Event;

/// How long a stream lasts.
const STREAM_LIFE: Duration = Duration::from_secs(15 * 60);

/// Beyond the stream's own end, for its last bytes.
const STREAM_GRACE: Duration = Duration::from_secs(10);

/// A sign of life when nothing happens: proxies on the way close what is silent for longer, and a listener that is
/// gone is found out.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Where a stream begins.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read from the header itself; this is its declaration")]
pub(super) struct Resume {
    /// The number of the last event that the listener had; those after it come first. Where left out, what happens
    /// from now on.
    #[param(rename = "Last-Event-ID", value_type = String, required = false, pattern = "^[0-9]{1,19}$")]
    last_event_id: Option<String>,
}

/// What happens to a pair, as it happens
#[utoipa::path(
    get, path = "/v1/pairs/{cluster}/{primary}/events", tag = "pairs", params(PairPath, Resume),
    responses((status = 200, content_type = "text/event-stream", body = String))
)]
pub(super) async fn of_pair(
    State(api): State<Api>,
    OfPair(pair): OfPair,
    life: Option<Extension<Life>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // So that a name that was misspelt is not listened to for ever.
    api.operator.pair(&pair).await?;
    api.stream(Some(pair.to_string()), life, &headers)
}

/// What happens, as it happens
#[utoipa::path(
    get, path = "/v1/events", tag = "pairs", params(Resume),
    responses((status = 200, content_type = "text/event-stream", body = String))
)]
pub(super) async fn of_all(
    State(api): State<Api>,
    life: Option<Extension<Life>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.stream(None, life, &headers)
}

struct Listener {
    api: Api,
    pair: Option<String>,
    /// The number of the last event that was looked at.
    seen: u64,
    waiting: VecDeque<Event>,
    woken: watch::Receiver<u64>,
    until: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Api {
    fn stream(
        &self,
        pair: Option<String>,
        life: Option<Extension<Life>>,
        headers: &HeaderMap,
    ) -> Result<Response, Problem> {
        let Ok(permit) = Arc::clone(&self.streams).try_acquire_owned() else {
            let why = "as many listen as may; ask for the state itself, or come back later";
            return Err(Problem::of_kind(
                "urn:foreshade:busy",
                StatusCode::TOO_MANY_REQUESTS,
                why,
            ));
        };
        let log = self.operator.events();
        let woken = log.watch();
        let seen = match headers
            .get("last-event-id")
            .map(|value| value.to_str().unwrap_or_default().parse())
        {
            None => log.newest(),
            Some(Ok(seq)) => seq,
            Some(Err(_)) => {
                let why = "Last-Event-ID: the number of an event";
                return Err(Problem::of_kind(
                    "urn:foreshade:invalid",
                    StatusCode::BAD_REQUEST,
                    why,
                ));
            }
        };
        if let Some(Extension(life)) = life {
            life.extend(STREAM_LIFE + STREAM_GRACE);
        }
        let listener = Listener {
            api: self.clone(),
            pair,
            seen,
            waiting: VecDeque::new(),
            woken,
            until: Instant::now() + STREAM_LIFE,
            _permit: permit,
        };
        let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
        Ok(Sse::new(listener.events()).keep_alive(keep_alive).into_response())
    }
}

impl Listener {
    fn events(self) -> impl Stream<Item = Result<sse::Event, Infallible>> {
        stream::unfold(self, |mut listener| async move {
            let event = listener.next().await?;
            Some((Ok(event), listener))
        })
    }

    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.api.counts.events.fetch_add(1, Ordering::Relaxed);
                return Some(written(&event));
            }
            let log = self.api.operator.events();
            self.woken.borrow_and_update();
            let missed = log.since(self.seen);
            if let Some(last) = missed.events.last() {
                self.seen = last.seq;
            } else if missed.gap {
                self.seen = log.newest();
            }
            let wanted = |event: &Event| self.pair.as_ref().is_none_or(|pair| *pair == event.pair);
            self.waiting.extend(missed.events.into_iter().filter(wanted));
            if missed.gap {
                self.api.counts.gaps.fetch_add(1, Ordering::Relaxed);
                let said = "something happened that is no longer remembered: look at the whole state again";
                return Some(sse::Event::default().event("gap").data(said));
            }
            if self.waiting.is_empty() {
                timeout_at(self.until, self.woken.changed()).await.ok()?.ok()?;
            }
        }
    }
}

fn written(event: &Event) -> sse::Event {
    // An event is numbers and strings, and those are JSON.
    let data = serde_json::to_string(event).unwrap_or_default();
    sse::Event::default()
        .id(event.seq.to_string())
        .event(event.kind.as_str())
        .data(data)
}
