//! How the authority is spoken to: by one request after the other ([`crate::fetch`]), and how long it wants to be
//! left alone.
//!
//! An order is a dozen requests, once in two months, so nothing is pooled. `instant-acme` would bring a client of its own
//! with a second way to trust; this one believes whom the configuration names, or whom the machine trusts.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER};
use http::{Request, StatusCode};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use crate::fetch::{Bounds, fetch};
use crate::tls::origination::Origination;

/// What one request may take. Authorities that are busy take some seconds; a chain of certificates has a few kilobytes.
const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(30),
    bytes: 256 * 1024,
};

/// Somebody who asks the authority.
#[derive(Clone, Debug)]
pub(super) struct Client {
    tls: Arc<Origination>,
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
    /// Asks whom `tls` can prove to be meant.
    pub(super) fn new(tls: Arc<Origination>) -> Self {
        Self {
            tls,
            rest: Rest::default(),
        }
    }

    /// What the authority says about being left alone.
    pub(super) fn rest(&self) -> Rest {
        self.rest.clone()
    }

    async fn ask(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let answered = fetch(request, Some(&self.tls), BOUNDS).await;
        let (parts, body) = answered
            .map_err(|error| Error::Other(Box::new(error)))?
            .into_parts();
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
        Box::pin(self.clone().ask(request))
    }
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
