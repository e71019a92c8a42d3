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
use http::{Request, StatusCode, response};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use super::schedule::ASKED_PAUSE_MAX;
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

    /// Takes note of what an answer says about it, and leaves there what the library can reckon with: it adds to the time
    /// whatever is said.
    fn hear(&self, response: &mut response::Parts) {
        let Some(said) = response.headers.remove(RETRY_AFTER) else {
            return;
        };
        let Some(pause) = pause(&said).map(|pause| pause.min(ASKED_PAUSE_MAX)) else {
            return;
        };
        let value = HeaderValue::from(pause.as_secs());
        response.headers.insert(RETRY_AFTER, value);
        if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&response.status) {
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
    /// Asks whom `tls` can prove to be meant, and notes in `rest` what is said about being left alone.
    pub(super) fn new(tls: Arc<Origination>, rest: Rest) -> Self {
        Self { tls, rest }
    }

    async fn ask(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let answered = fetch(request, Some(&self.tls), BOUNDS).await;
        let (mut parts, body) = answered
            .map_err(|error| Error::Other(Box::new(error)))?
            .into_parts();
        self.rest.hear(&mut parts);
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

    #[test]
    fn no_answer_asks_the_library_for_more_than_it_can_reckon_with() {
        let heard = |status: StatusCode, said: &'static str| {
            let answer = http::Response::builder().status(status).header(RETRY_AFTER, said);
            let (mut parts, ()) = answer.body(()).unwrap().into_parts();
            let rest = Rest::default();
            rest.hear(&mut parts);
            let left = parts
                .headers
                .get(RETRY_AFTER)
                .map(|value| value.to_str().unwrap().to_owned());
            (left, rest.asked())
        };
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        let day = Some("86400".to_owned());
        assert_eq!(
            heard(busy, "18446744073709551615"),
            (day.clone(), Some(ASKED_PAUSE_MAX))
        );
        assert_eq!(
            heard(busy, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (day, Some(ASKED_PAUSE_MAX))
        );
        assert_eq!(heard(StatusCode::OK, "3"), (Some("3".to_owned()), None));
        assert_eq!(heard(busy, "Wed, 01 Jan 2020 00:00:00 GMT"), (None, None));
    }
}
