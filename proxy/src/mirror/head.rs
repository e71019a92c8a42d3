//! The head of a copy: what the endpoint got, without what belongs to its connection and without what lets its bearer act
//! as a user, and with a mark.
//!
//! The host stays as it was: a target that is to answer like the original has to be asked like it. (Envoy appends
//! `-shadow` by default, to many people's surprise.)
//!
//! The worker copies what it lets pass into one buffer, and the mirror's thread makes a head out of it. Sharing the bytes
//! instead would look cheaper, but it would keep the worker's own buffer from being used again while it is still in the
//! processor's cache, for every copy that is under way.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use super::rule::{Reason, Rule};

/// Marks a copy, so that its target can tell it from a user's request, and the next mirror leaves it alone.
pub(super) const MARKER: HeaderName = HeaderName::from_static("x-foreshade-mirror");

/// What concerns one connection or the framing on it (RFC 9110 section 7.6.1). The copy is framed anew.
const OF_THE_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Room for the values of a usual head; longer ones take another allocation.
const BYTES_USUAL: usize = 512;

/// The head of a copy.
#[derive(Debug)]
pub(super) struct Head {
    method: Method,
    /// Path and query, then the values, one after the other.
    bytes: Vec<u8>,
    target_bytes: usize,
    /// Names, each with the length of its value.
    names: Vec<(HeaderName, usize)>,
    /// Length of the body where it is known.
    pub(super) length: Option<u64>,
    /// Credentials were left out, so that another answer is to be expected.
    pub(super) anonymous: bool,
}

impl Head {
    /// The copy of a head, as the rule allows it.
    pub(super) fn of(request: &http::request::Parts, rule: &Rule, has_body: bool) -> Result<Self, Reason> {
        let headers = &request.headers;
        if headers.contains_key(UPGRADE) || headers.contains_key(MARKER) {
            return Err(Reason::Unsuited);
        }
        let target = request.uri.path_and_query().ok_or(Reason::Unsuited)?.as_str();
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok())
            .filter(|_| has_body);
        if length.is_some_and(|length| length > rule.policy().body_bytes_max) {
            return Err(Reason::TooLarge);
        }
        let mut head = Self {
            method: request.method.clone(),
            bytes: Vec::with_capacity(target.len() + BYTES_USUAL),
            target_bytes: target.len(),
            names: Vec::with_capacity(headers.len()),
            length,
            anonymous: false,
        };
        head.bytes.extend_from_slice(target.as_bytes());
        for (name, value) in headers {
            if rule.withholds(name) {
                head.anonymous = true;
            } else if !OF_THE_CONNECTION.contains(name) && !is_nominated(name, headers) {
                head.names.push((name.clone(), value.len()));
                head.bytes.extend_from_slice(value.as_bytes());
            }
        }
        Ok(head)
    }

    /// The path of the request, without its query.
    pub(super) fn path(&self) -> &str {
        let target = self.bytes.get(..self.target_bytes).unwrap_or_default();
        let target = std::str::from_utf8(target).unwrap_or_default();
        target.split('?').next().unwrap_or_default()
    }

    /// The request that its target gets. `None` if what was a head before were none any more.
    pub(super) fn request<B>(self, body: B) -> Option<Request<B>> {
        let mut bytes = Bytes::from(self.bytes);
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = Uri::from_maybe_shared(bytes.split_to(self.target_bytes)).ok()?;
        let headers = request.headers_mut();
        headers.reserve(self.names.len() + 1);
        for (name, length) in self.names {
            headers.append(name, HeaderValue::from_maybe_shared(bytes.split_to(length)).ok()?);
        }
        headers.insert(MARKER, HeaderValue::from_static("1"));
        Some(request)
    }
}

/// Whether the `Connection` header names another one as its own.
fn is_nominated(name: &HeaderName, headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().any(|line| {
        let mut names = line.as_bytes().split(|byte| *byte == b',');
        names.any(|named| named.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::super::rule::tests::policy;
    use super::*;

    fn of(headers: &[(&str, &str)], has_body: bool) -> Result<Head, Reason> {
        let mut request = Request::get("http://elsewhere.example/a?b=c");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Head::of(
            &request.body(()).unwrap().into_parts().0,
            &Rule::new(policy()),
            has_body,
        )
    }

    #[test]
    fn what_belongs_to_the_connection_and_to_the_user_stays_behind_and_the_mark_is_set() {
        let head = of(
            &[
                ("Host", "shop.example"),
                ("Connection", "keep-alive, X-Hop"),
                ("X-Hop", "1"),
                ("Keep-Alive", "timeout=5"),
                ("TE", "trailers"),
                ("Expect", "100-continue"),
                ("Transfer-Encoding", "chunked"),
                ("Authorization", "Bearer secret"),
                ("Cookie", "sid=1"),
                ("Accept", "a"),
                ("Accept", "b"),
            ],
            true,
        )
        .unwrap();
        assert_eq!((head.path(), head.anonymous), ("/a", true));
        let copy = head.request(()).unwrap();
        assert_eq!(copy.uri(), "/a?b=c");
        let lines = copy
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        let expected = [
            ("host", "shop.example"),
            ("accept", "a"),
            ("accept", "b"),
            ("x-foreshade-mirror", "1"),
        ];
        assert_eq!(lines.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn upgrades_copies_and_bodies_that_are_too_long_are_left_alone() {
        assert_eq!(
            of(&[("Upgrade", "websocket")], false).unwrap_err(),
            Reason::Unsuited
        );
        assert_eq!(
            of(&[(MARKER.as_str(), "1")], false).unwrap_err(),
            Reason::Unsuited
        );
        assert_eq!(
            of(&[("Content-Length", "1001")], true).unwrap_err(),
            Reason::TooLarge
        );
        let head = of(&[("Content-Length", "1000")], true).unwrap();
        assert_eq!((head.length, head.anonymous), (Some(1000), false));
    }
}
