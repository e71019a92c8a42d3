//! An order that comes twice is carried out once: what was answered to an `Idempotency-Key` is answered again.
//!
//! For clients that did not get the answer: they send the same order with the same key. Another order under the same
//! key is a mistake of theirs, and a 422; one that comes while the first is still under way waits for nobody, and is a
//! 409. Only what was accepted is remembered: a refusal has changed nothing, and may be different the next time. The
//! memory is bounded in number, bytes and time, and is this process's; behind it the lifecycle knows the keys of the
//! orders that it has written down, so that a controller that restarts does not promote twice.
//! (draft-ietf-httpapi-idempotency-key-header,
//! <https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>)

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::IF_MATCH;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use utoipa::openapi::OpenApi;
use xxhash_rust::xxh3::Xxh3;

use super::body::expected;
use super::problem::Problem;
use super::{Api, BODY_BYTES_MAX};

/// The header.
const KEY: &str = "idempotency-key";

/// Says that an answer is one from before.
const REPLAYED: &str = "idempotency-replayed";

/// Longest key: a UUID has 36 characters.
const KEY_CHARS_MAX: usize = 128;

/// How long an answer is remembered: a pipeline that was down over night may ask again.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// Answers that are remembered; beyond, the oldest is forgotten.
const ANSWERS_MAX: usize = 4096;

/// Largest answer that is remembered: that of an order has a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// The key of a request, if it has one.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(KEY) else {
        return Ok(None);
    };
    let sound =
        |text: &&str| (1..=KEY_CHARS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    value.to_str().ok().filter(sound).map(Some).ok_or_else(|| {
        let why = format!("Idempotency-Key: 1 to {KEY_CHARS_MAX} visible characters");
        Problem::of_kind("urn:foreshade:invalid", StatusCode::BAD_REQUEST, why)
    })
}

/// What was answered to which key.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    by_key: HashMap<String, Seen>,
    /// Keys in the order in which they came; each as often as it came anew.
    order: VecDeque<(String, Instant)>,
}

#[derive(Debug)]
struct Seen {
    came: Instant,
    /// Of method, path, condition and body.
    print: u128,
    /// `None` while the first request is under way.
    answer: Option<Answer>,
}

#[derive(Clone, Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// What is known of a key.
enum Found {
    /// Nothing: the request is the first, and this one's to carry out.
    New,
    UnderWay,
    Another,
    Answered(Answer),
}

impl Repeats {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, key: &str, print: u128, now: Instant) -> Found {
        let mut known = self.known();
        known.forget(now);
        if let Some(seen) = known.by_key.get(key) {
            return match &seen.answer {
                _ if seen.print != print => Found::Another,
                None => Found::UnderWay,
                Some(answer) => Found::Answered(answer.clone()),
            };
        }
        known.order.push_back((key.to_owned(), now));
        let seen = Seen {
            came: now,
            print,
            answer: None,
        };
        known.by_key.insert(key.to_owned(), seen);
        Found::New
    }

    fn end(&self, key: &str, answer: Option<Answer>) {
        let mut known = self.known();
        match (answer, known.by_key.get_mut(key)) {
            (Some(answer), Some(seen)) => seen.answer = Some(answer),
            // What was refused, and what is too large to be remembered.
            (None, Some(_)) => drop(known.by_key.remove(key)),
            (_, None) => {}
        }
    }
}

impl Known {
    /// Forgets what is too old or too much.
    fn forget(&mut self, now: Instant) {
        while let Some((key, came)) = self.order.front() {
            if self.order.len() < ANSWERS_MAX && now.duration_since(*came) < LIFE {
                return;
            }
            // A key that was refused and came again has a younger entry.
            if self.by_key.get(key).is_some_and(|seen| seen.came == *came) {
                self.by_key.remove(key);
            }
            self.order.pop_front();
        }
    }
}

/// Ends a request that nobody waits for any more: its key is free again.
struct UnderWay<'a> {
    repeats: &'a Repeats,
    key: &'a str,
    answer: Option<Answer>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.repeats.end(self.key, self.answer.take());
    }
}

/// What the API offers: paths as they are declared, with the methods that change something there.
#[derive(Debug)]
pub(super) struct Orders(HashSet<(Method, String)>);

impl Orders {
    /// Of a document.
    pub(super) fn of(document: &OpenApi) -> Self {
        let paths = document.paths.paths.iter();
        let orders = paths.flat_map(|(path, item)| {
            let offered = [(Method::POST, &item.post), (Method::DELETE, &item.delete)];
            let offered = offered.into_iter().filter(|(_, operation)| operation.is_some());
            offered.map(|(method, _)| (method, path.clone()))
        });
        Self(orders.collect())
    }

    /// Whether this request is an order. What the path does not take is none, and is told so, whatever its key.
    fn has(&self, request: &Request) -> bool {
        let path = request.extensions().get::<MatchedPath>();
        path.is_some_and(|path| {
            self.0
                .contains(&(request.method().clone(), path.as_str().to_owned()))
        })
    }
}

/// Lets each key pass once. What stands beside an order is read before its key is looked up, so that a condition that
/// nobody can read is never answered with what was said to an order without one.
pub(super) async fn once(
    State((api, orders)): State<(Api, Arc<Orders>)>,
    request: Request,
    next: Next,
) -> Response {
    if !orders.has(&request) {
        return next.run(request).await;
    }
    let key = match (key(request.headers()), expected(request.headers())) {
        (Err(problem), _) | (_, Err(problem)) => return problem.into_response(),
        (Ok(None), Ok(_)) => return next.run(request).await,
        (Ok(Some(key)), Ok(_)) => key.to_owned(),
    };
    keyed(&api.repeats, &key, request, next)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn keyed(repeats: &Repeats, key: &str, request: Request, next: Next) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body broke off, or is longer than any order",
        )
    })?;
    let mut print = Xxh3::new();
    for part in [
        parts.method.as_str().as_bytes(),
        parts
            .uri
            .path_and_query()
            .map_or("", |path| path.as_str())
            .as_bytes(),
        parts.headers.get(IF_MATCH).map_or(b"", |value| value.as_bytes()),
        &body,
    ] {
        print.update(part);
        print.update(b"\n");
    }
    match repeats.begin(key, print.digest128(), Instant::now()) {
        Found::New => {}
        Found::UnderWay => {
            let why = "an order with this Idempotency-Key is being carried out; ask again in a moment";
            return Err(Problem::of_kind(
                "urn:foreshade:under-way",
                StatusCode::CONFLICT,
                why,
            ));
        }
        Found::Another => {
            let why = "this Idempotency-Key was another order's; use a new one";
            return Err(Problem::of_kind(
                "urn:foreshade:key-reused",
                StatusCode::UNPROCESSABLE_ENTITY,
                why,
            ));
        }
        Found::Answered(Answer {
            status,
            mut headers,
            body,
        }) => {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
            return Ok((status, headers, body).into_response());
        }
    }
    let mut under_way = UnderWay {
        repeats,
        key,
        answer: None,
    };
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    if !response.status().is_success() {
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    under_way.answer = (body.len() <= ANSWER_BYTES_MAX).then(|| Answer {
        status: head.status,
        headers: head.headers.clone(),
        body: body.clone(),
    });
    Ok(Response::from_parts(head, Body::from(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn a_key_is_one_orders_from_the_first_request_on() {
        let repeats = Repeats::default();
        let now = Instant::now();
        assert!(matches!(repeats.begin("a", 1, now), Found::New));
        assert!(matches!(repeats.begin("a", 1, now), Found::UnderWay));
        assert!(matches!(repeats.begin("a", 2, now), Found::Another));
        repeats.end("a", Some(answer()));
        assert!(matches!(repeats.begin("a", 1, now), Found::Answered(_)));
        assert!(matches!(repeats.begin("a", 2, now), Found::Another));
        assert!(matches!(repeats.begin("b", 2, now), Found::New));
    }

    #[test]
    fn what_was_refused_or_given_up_may_come_again() {
        let repeats = Repeats::default();
        let now = Instant::now();
        assert!(matches!(repeats.begin("a", 1, now), Found::New));
        drop(UnderWay {
            repeats: &repeats,
            key: "a",
            answer: None,
        });
        assert!(matches!(repeats.begin("a", 2, now), Found::New));
    }

    #[test]
    fn the_memory_is_bounded_in_number_and_in_time() {
        let repeats = Repeats::default();
        let now = Instant::now();
        for number in 0..ANSWERS_MAX + 10 {
            repeats.begin(&number.to_string(), 1, now);
            repeats.end(&number.to_string(), Some(answer()));
        }
        let held = |repeats: &Repeats| {
            let known = repeats.known();
            (known.by_key.len(), known.order.len())
        };
        assert_eq!(held(&repeats), (ANSWERS_MAX, ANSWERS_MAX));
        assert!(matches!(repeats.begin("0", 1, now), Found::New));
        assert!(matches!(repeats.begin("x", 1, now + LIFE), Found::New));
        assert_eq!(held(&repeats), (1, 1));
    }

    #[test]
    fn a_key_that_came_anew_is_not_forgotten_with_its_first_coming() {
        let repeats = Repeats::default();
        let now = Instant::now();
        repeats.begin("a", 1, now);
        repeats.end("a", None);
        let later = now + LIFE / 2;
        repeats.begin("a", 2, later);
        repeats.end("a", Some(answer()));
        assert!(matches!(repeats.begin("a", 2, now + LIFE), Found::Answered(_)));
    }

    #[test]
    fn a_key_is_short_and_visible() {
        let with = |value: &'static [u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(KEY, HeaderValue::from_bytes(value).unwrap());
            key(&headers).map(|key| key.map(str::to_owned))
        };
        assert_eq!(with(b"7d9c"), Ok(Some("7d9c".to_owned())));
        assert_eq!(key(&HeaderMap::new()), Ok(None));
        for value in [&b""[..], b"a b", b"\xff", &[b'x'; KEY_CHARS_MAX + 1]] {
            assert!(with(value.to_vec().leak()).is_err(), "{value:?}");
        }
    }
}
