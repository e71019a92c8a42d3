//! One fetch of keys: whom it asks, on which thread, and what the answer says of how long they are good.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{ACCEPT, CACHE_CONTROL, USER_AGENT};
use http::{HeaderMap, Request, Uri};
use tokio::sync::mpsc::{Sender, channel};

use super::{FILE_BYTES_MAX, Keys, KeysError};
use crate::fetch::{self, Bounds};
use crate::tls::origination::Origination;

/// What an issuer may take.
const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(5),
    bytes: FILE_BYTES_MAX,
};

/// Fetches that wait for the thread to take them: one of each set of keys at most.
const JOBS_MAX: usize = 256;

/// Where keys are.
#[derive(Clone, Debug)]
pub struct Place {
    /// `http` or `https`, with a host.
    pub url: Uri,
    /// What TLS is spoken with; in the clear where `None`.
    pub tls: Option<Arc<Origination>>,
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        let alike = match (&self.tls, &other.tls) {
            (Some(one), Some(other)) => one.is_same_as(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.url == other.url && alike
    }
}

impl Eq for Place {}

/// Keys, and how long they are good as the issuer says.
pub(super) type Fetched = Result<(Keys, Option<Duration>), FetchError>;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no answer.
    #[error("{0}")]
    Unanswered(#[from] fetch::FetchError),
    /// It was answered with this status.
    #[error("answered with {0}")]
    Status(u16),
    /// We have broken off ourselves.
    #[error("the fetch has broken off")]
    Broken,
    /// The answer is no set of keys.
    #[error("the answer is no set of keys")]
    Keys(#[from] KeysError),
}

/// Runs a fetch on the thread that is there for that. False where there is no room.
pub(super) fn beside(job: impl Future<Output = ()> + Send + 'static) -> bool {
    type Job = Pin<Box<dyn Future<Output = ()> + Send>>;
    static THREAD: OnceLock<Option<Sender<Job>>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (send, mut jobs) = channel::<Job>(JOBS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .ok()?;
        let work = move || {
            runtime.block_on(async move {
                while let Some(job) = jobs.recv().await {
                    // Bounded in time by itself, and one of each set.
                    tokio::spawn(job);
                }
            });
        };
        let started = std::thread::Builder::new().name("keys".to_owned()).spawn(work);
        started.ok().map(|_| send)
    });
    thread
        .as_ref()
        .is_some_and(|thread| thread.try_send(Box::pin(job)).is_ok())
}

/// Fetches keys.
pub(super) async fn fetch(place: &Place) -> Fetched {
    let question = Request::get(&place.url)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(USER_AGENT, concat!("foreshade-proxy/", env!("CARGO_PKG_VERSION")))
        .body(String::new());
    let question = question.map_err(|_| fetch::FetchError::Url("no target"))?;
    let answer = fetch::fetch(question, place.tls.as_ref(), BOUNDS).await?;
    if answer.status() != 200 {
        return Err(FetchError::Status(answer.status().as_u16()));
    }
    let (keys, broken) = Keys::parse_sound(answer.body())?;
    if broken > 0 {
        tracing::warn!(
            broken,
            "keys of an issuer are broken or too many: they are passed over"
        );
    }
    Ok((keys, max_age(answer.headers())))
}

/// How long an answer is good, as it says. Source: RFC 9111 section 5.2.2.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut age = None;
    for directive in values.flat_map(|value| value.split(',')).map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.to_ascii_lowercase().as_str() {
            // Whatever else is said, and wherever it stands: the strictest counts (section 4.2.1).
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            "max-age" => age = age.or_else(|| value.trim_matches('"').parse().ok().map(Duration::from_secs)),
            _ => {}
        }
    }
    age
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_an_issuer_says_of_how_long_its_keys_are_good_is_read() {
        for (said, seconds) in [
            ("max-age=300", Some(300)),
            ("public, Max-Age=\"7\"", Some(7)),
            ("no-store", Some(0)),
            ("no-cache, max-age=300", Some(0)),
            ("max-age=300, no-store", Some(0)),
            ("max-age=300, max-age=7", Some(300)),
            ("public", None),
            ("max-age=soon", None),
            ("s-maxage=5", None),
        ] {
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(said))]);
            assert_eq!(max_age(&headers), seconds.map(Duration::from_secs), "{said}");
        }
        assert_eq!(max_age(&HeaderMap::new()), None);
    }
}
