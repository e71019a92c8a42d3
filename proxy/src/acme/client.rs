//! How the authority is spoken to: HTTP/1.1 over TLS, one connection per request.
//!
//! An order is a dozen requests, once in two months, so nothing is pooled. `instant-acme` would bring a client of its own
//! with a second way to trust; this one believes whom the configuration names, or whom the machine trusts, takes no longer
//! than [`PATIENCE`] and no more than [`ANSWER_BYTES_MAX`], and follows no redirect.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HOST, HeaderValue, RETRY_AFTER};
use http::{Request, StatusCode, Uri};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::tls::profile::Profile;

/// How long one request may take. Authorities that are busy take some seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest answer: a chain of certificates has a few kilobytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Somebody who asks the authority.
#[derive(Clone, Debug)]
pub(super) struct Client {
    tls: Arc<ClientConfig>,
    rest: Rest,
}

/// How long the authority wants to be left alone, as it said last.
#[derive(Clone, Debug, Default)]
pub(super) struct Rest(Arc<Mutex<Option<Duration>>>);

impl Rest {
    pub(super) fn asked(&self) -> Option<Duration> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, response: &http::response::Parts) {
        let is_shut_out = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        let said = response
            .headers
            .get(RETRY_AFTER)
            .filter(|_| is_shut_out.contains(&response.status));
        if let Some(pause) = said.and_then(pause) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(pause);
        }
    }
}

/// Seconds, or a date. Source: RFC 9110 section 10.2.3.
fn pause(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(std::time::SystemTime::now())
            .ok(),
    }
}

impl Client {
    /// Believes these authorities of the directory's own certificate.
    pub(super) fn new(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let profile = Profile::Intermediate;
        let tls = ClientConfig::builder_with_provider(profile.provider().clone())
            .with_protocol_versions(profile.versions())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: Arc::new(tls),
            rest: Rest::default(),
        })
    }

    /// What the authority says about being left alone.
    pub(super) fn rest(&self) -> Rest {
        self.rest.clone()
    }

    async fn ask(self, mut request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let uri = std::mem::take(request.uri_mut());
        let authority = uri.authority().ok_or(Error::Str("a URL without a host"))?;
        if uri.scheme_str() != Some("https") {
            return Err(Error::Str("a URL that is not https"));
        }
        let host = authority.host().trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(other)?;
        let tcp = TcpStream::connect((host, authority.port_u16().unwrap_or(443)));
        let tcp = tcp.await.map_err(other)?;
        let tls = TlsConnector::from(self.tls)
            .connect(name, tcp)
            .await
            .map_err(other)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await.map_err(other)?;
        let value = HeaderValue::try_from(authority.as_str()).map_err(other)?;
        request.headers_mut().insert(HOST, value);
        *request.uri_mut() = uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
            .parse::<Uri>()?;
        let mut connection = pin!(connection);
        let exchange = async {
            let (parts, body) = sender.send_request(request).await.map_err(other)?.into_parts();
            Ok::<_, Error>((parts, whole(body).await?))
        };
        let mut exchange = pin!(exchange);
        let (parts, body) = tokio::select! {
            biased;
            answered = &mut exchange => answered?,
            // Its end is told to the exchange, too, which may have all that it needs.
            _ = &mut connection => exchange.await?,
        };
        self.rest.hear(&parts);
        Ok(BytesResponse {
            parts,
            body: Box::new(body),
        })
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            match timeout(PATIENCE, client.ask(request)).await {
                Ok(answered) => answered,
                Err(_) => Err(other(io::Error::from(io::ErrorKind::TimedOut))),
            }
        })
    }
}

async fn whole(body: Incoming) -> Result<Bytes, Error> {
    let mut body = pin!(body);
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(data) = frame.map_err(other)?.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > ANSWER_BYTES_MAX {
            return Err(Error::Str("an answer that is too long"));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_in_both_ways() {
        let pause = |text: &'static str| pause(&HeaderValue::from_static(text));
        assert_eq!(pause("120"), Some(Duration::from_secs(120)));
        let late = pause("Wed, 01 Jan 2200 00:00:00 GMT").unwrap();
        assert!(late > Duration::from_secs(3600), "{late:?}");
        assert_eq!(pause("Wed, 01 Jan 2020 00:00:00 GMT"), None);
        assert_eq!(pause("soon"), None);
    }
}
