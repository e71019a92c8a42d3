//! One fetch of keys over HTTP/1.1, with a bound on everything: time, bytes, and where it leads.
//!
//! No redirect is followed: keys come from where the configuration says, or not at all. TLS is verified as it is with
//! endpoints; there is no way not to.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use http::header::{ACCEPT, CACHE_CONTROL, HOST, USER_AGENT};
use http::{HeaderMap, Request, Response, Uri};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::timeout;

use super::{FILE_BYTES_MAX, Keys, KeysError};
use crate::tls::origination::{Destination, Origination};
use crate::upstream::connect::{Socket, To};

/// For one connection, and once more for the handshake.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// For all of it.
const FETCH_TIME: Duration = Duration::from_secs(5);

/// Bytes that a connection buffers: a head has to fit into it.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Fetches that wait for the thread to take them: one of each set of keys at most.
const JOBS_MAX: usize = 256;

/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;

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
    /// It took too long.
    #[error("no answer within {FETCH_TIME:?}")]
    Slow,
    /// The host has no address.
    #[error("the host is not known")]
    Host(#[source] io::Error),
    /// There is no connection, for this reason.
    #[error("no connection: {0}")]
    Connect(&'static str),
    /// The connection broke, or what came is no HTTP.
    #[error("no answer")]
    Http(#[from] hyper::Error),
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
    let fetching = async {
        let socket = place.connect().await?;
        let handshake = Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .handshake(TokioIo::new(socket));
        let (mut sender, driver) = handshake.await?;
        let driver = tokio::spawn(driver);
        let fetched = match sender.send_request(place.question()?).await {
            Ok(answer) => read(answer).await,
            Err(error) => Err(error.into()),
        };
        driver.abort();
        fetched
    };
    let fetched = timeout(FETCH_TIME, fetching).await;
    fetched.unwrap_or(Err(FetchError::Slow))
}

impl Place {
    /// A connection to the first of its addresses that takes one.
    async fn connect(&self) -> Result<Socket, FetchError> {
        let host = self.host();
        let addresses = tokio::net::lookup_host((host, self.port())).await;
        let tls = match &self.tls {
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned());
                let name = name.map_err(|_| FetchError::Connect("no name for a certificate"))?;
                Some(Arc::new(Destination::new(tls, name)))
            }
            None => None,
        };
        let mut why = "no address";
        for address in addresses.map_err(FetchError::Host)?.take(ADDRESSES_MAX) {
            let to = To {
                address,
                limit: CONNECT_TIME,
                tls: tls.clone(),
            };
            match to.connect(&[]).await {
                Ok(socket) => return Ok(socket),
                Err(failure) => why = failure.consequence().reason,
            }
        }
        Err(FetchError::Connect(why))
    }

    /// Without the brackets of an address.
    fn host(&self) -> &str {
        let host = self.url.host().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        bare.unwrap_or(host)
    }

    fn port(&self) -> u16 {
        let usual = if self.tls.is_some() { 443 } else { 80 };
        self.url.port_u16().unwrap_or(usual)
    }

    fn question(&self) -> Result<Request<String>, FetchError> {
        let target = self.url.path_and_query().map_or("/", |target| target.as_str());
        let host = self.url.authority().map_or("", |authority| authority.as_str());
        let request = Request::get(target)
            .header(HOST, host)
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, concat!("foreshade-proxy/", env!("CARGO_PKG_VERSION")))
            .body(String::new());
        request.map_err(|_| FetchError::Connect("no target"))
    }
}

async fn read(answer: Response<Incoming>) -> Fetched {
    let (head, mut body) = answer.into_parts();
    if head.status != 200 {
        return Err(FetchError::Status(head.status.as_u16()));
    }
    let mut all = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let piece = frame?.into_data().unwrap_or_default();
        if (all.len() + piece.len()) as u64 > FILE_BYTES_MAX {
            return Err(KeysError::Long.into());
        }
        all.extend_from_slice(&piece);
    }
    let (keys, broken) = Keys::parse_sound(&all)?;
    if broken > 0 {
        tracing::warn!(
            broken,
            "keys of an issuer are broken or too many: they are passed over"
        );
    }
    Ok((keys, max_age(&head.headers)))
}

/// How long an answer is good, as it says. Source: RFC 9111 section 5.2.2.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut directives = values.flat_map(|value| value.split(',')).map(str::trim);
    directives.find_map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => Some(Duration::ZERO),
            "max-age" => value.trim_matches('"').parse().ok().map(Duration::from_secs),
            _ => None,
        }
    })
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
