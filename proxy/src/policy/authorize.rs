//! Whether a request may go on, as somebody else says: a service that is asked before any endpoint.
//!
//! The question is a GET that tells of the request in `X-Forwarded-Method`, `-Uri`, `-Host`, `-Proto` and `-For` and shows
//! some of its headers, never its body: as Traefik's `forwardAuth` and Caddy's `forward_auth` ask, so that what answers
//! them answers here. A 2xx lets the request on, and chosen headers of it are told to endpoints, which hear them from
//! nobody else. Any other answer below 500 is the client's, whole: a login page, a redirect, a 403. A 5xx, an answer that
//! is none or too large, and silence are failures of the service, and it is configured what they mean; it is never the
//! client's fault, and never an endpoint's.
//!
//! The question is asked by the worker's own task, which waits for it as for a socket. So that a slow service holds up
//! nobody else, it has a timeout and so many questions at a time; what is beyond fails at once. Yes can be remembered,
//! where that is asked for, for the very same question: all that the service was told.

mod ask;
mod known;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{Digest, SHA256, digest};
use foreshade_engine::moment::Moment;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::ask::{Asked, Pool};
use self::known::Known;
use super::marks::Marks;
use super::{Denial, Reason};
use crate::fields::Fields;
use crate::request::RequestView;

/// Headers that are shown where nothing is said: what most services decide by.
pub const SHOWN: [HeaderName; 2] = [AUTHORIZATION, COOKIE];

/// How the service is told of the request.
static METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
static URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
static HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What becomes of requests when the service fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// They are refused.
    Refuse,
    /// They go on.
    Allow,
}

/// Who is asked, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Host and port.
    pub address: String,
    /// The target of the question.
    pub path: String,
    /// Headers of the request that are shown.
    pub headers: Vec<HeaderName>,
    /// Headers of a yes that endpoints are told.
    pub answer_headers: Vec<HeaderName>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// What a failure means.
    pub on_failure: OnFailure,
    /// Questions at a time.
    pub concurrency: usize,
    /// How long a yes is remembered.
    pub cache: Option<Duration>,
}

/// What endpoints are told of a request that may go on.
pub(crate) type Grant = Arc<HeaderMap>;

/// Asks.
#[derive(Debug)]
pub struct Authorize {
    settings: Settings,
    /// Questions that may still be asked.
    places: Arc<Semaphore>,
    pool: Pool,
    /// What was said.
    known: Mutex<Known>,
}

/// What is known at once.
#[derive(Debug)]
pub(crate) enum Word {
    /// It may go on.
    Known(Grant),
    /// It has to be asked.
    Waits(Box<Question>),
}

/// A question that is to be asked.
#[derive(Debug)]
pub struct Question {
    by: Arc<Authorize>,
    headers: HeaderMap,
    digest: Option<Digest>,
    asked: Moment,
    /// `None` where too many are asked already.
    place: Option<OwnedSemaphorePermit>,
}

/// What was said.
#[derive(Debug)]
pub(crate) struct Said {
    /// Under which label it counts.
    pub(crate) label: &'static str,
    /// What endpoints are told, or why the request does not go on.
    pub(crate) grant: Result<Grant, Box<Denial>>,
}

impl Authorize {
    /// Nobody has been asked yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            places: Arc::new(Semaphore::new(settings.concurrency)),
            settings,
            pool: Pool::default(),
            known: Mutex::default(),
        }
    }

    /// Whether a request may go on, or what has to be asked.
    pub(crate) fn ask(self: &Arc<Self>, view: &RequestView<'_>, now: Moment) -> Word {
        let headers = self.question(view);
        let digest = self.settings.cache.map(|_| digest_of(&headers));
        if let Some(grant) = digest.as_ref().and_then(|digest| self.remembered(digest, now)) {
            return Word::Known(grant);
        }
        Word::Waits(Box::new(Question {
            headers,
            digest,
            asked: now,
            place: self.places.clone().try_acquire_owned().ok(),
            by: self.clone(),
        }))
    }

    /// All that the service is told.
    fn question(&self, view: &RequestView<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in &self.settings.headers {
            for value in view.headers.all(name) {
                // A value that has come through a request is one.
                headers.extend(
                    HeaderValue::from_bytes(value)
                        .ok()
                        .map(|value| (name.clone(), value)),
                );
            }
        }
        let query = view.query.map(|query| format!("?{query}")).unwrap_or_default();
        let client = view.client.map(|client| client.to_string()).unwrap_or_default();
        // Last, so that nobody shows another request than his own.
        for (name, text) in [
            (&METHOD, view.method),
            (&URI, &format!("{}{query}", view.path)),
            (&HOST, view.host),
            (&PROTO, view.scheme),
            (&FOR, &client),
        ] {
            headers.remove(name);
            let value = HeaderValue::from_bytes(text.as_bytes()).ok();
            headers.extend(value.map(|value| (name.clone(), value)));
        }
        headers
    }

    /// What endpoints are told, and that nobody else tells them.
    pub(crate) fn mark(&self, grant: &Grant, came: Fields<'_>, marks: &mut Marks) {
        for name in &self.settings.answer_headers {
            marks.replace(name, came, grant.get(name).cloned());
        }
    }

    fn remembered(&self, digest: &Digest, now: Moment) -> Option<Grant> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(digest.as_ref(), now)
    }

    /// Remembers a yes, where that is asked for.
    fn remember(&self, question: &Question, grant: &Grant) {
        let (Some(digest), Some(ttl)) = (&question.digest, self.settings.cache) else {
            return;
        };
        let Ok(key) = <[u8; 32]>::try_from(digest.as_ref()) else {
            return;
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // From when it was asked on: what is said is as old as that.
        known.insert(key, question.asked, question.asked + ttl, grant.clone());
    }

    /// What a failure of the service means.
    fn failed(&self, label: &'static str, reason: Reason) -> Said {
        let grant = match self.settings.on_failure {
            OnFailure::Refuse => Err(Box::new(Denial::of(reason).come_back_in(1))),
            OnFailure::Allow => Ok(Grant::default()),
        };
        Said { label, grant }
    }

    /// In a line.
    pub fn in_words(&self) -> String {
        let Settings { address, path, .. } = &self.settings;
        let without = match self.settings.on_failure {
            OnFailure::Refuse => "refused",
            OnFailure::Allow => "allowed",
        };
        format!("asks http://{address}{path} whether it may go on; without an answer it is {without}")
    }
}

impl Question {
    /// Asks it.
    pub(crate) async fn answer(self) -> (Arc<Authorize>, Said) {
        let by = self.by.clone();
        if self.place.is_none() {
            return (by.clone(), by.failed("busy", Reason::AuthorizationBusy));
        }
        let settings = &by.settings;
        let asking = by.pool.ask(&settings.address, &settings.path, &self.headers);
        let asked = match tokio::time::timeout(settings.timeout, asking).await {
            Ok(asked) => asked,
            Err(_) => Err("timeout"),
        };
        let said = match asked {
            Ok(Asked { status, headers, .. }) if (200..300).contains(&status) => {
                let mut grant = HeaderMap::new();
                for name in &settings.answer_headers {
                    grant.extend(headers.get(name).map(|value| (name.clone(), value.clone())));
                }
                let grant = Arc::new(grant);
                by.remember(&self, &grant);
                Said {
                    label: "allowed",
                    grant: Ok(grant),
                }
            }
            Ok(answer) if answer.status < 500 => Said {
                label: "refused",
                grant: Err(Box::new(answer.denial())),
            },
            Ok(_) => by.failed("error", Reason::AuthorizationUnavailable),
            Err(label) => by.failed(label, Reason::AuthorizationUnavailable),
        };
        (by, said)
    }
}

impl PartialEq for Authorize {
    /// Equal where they ask the same, whatever they know.
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

/// A question by all of its headers, each with its length, so that no two questions have the same bytes.
fn digest_of(headers: &HeaderMap) -> Digest {
    let mut bytes = Vec::new();
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), value.as_bytes()] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
    }
    digest(&SHA256, &bytes)
}
