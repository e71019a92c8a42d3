//! The head of a copy: what the endpoint got, without what belongs to its connection and without what lets its bearer act
//! as a user, and with a mark.
//!
//! The host stays as it was: a target that is to answer like the original has to be asked like it. (Envoy appends
//! `-shadow` by default, to many people's surprise.)

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

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

/// The head of a copy.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) headers: HeaderMap,
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
        let target = request.uri.path_and_query().cloned().ok_or(Reason::Unsuited)?;
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok())
            .filter(|_| has_body);
        if length.is_some_and(|length| length > rule.policy().body_bytes_max) {
            return Err(Reason::TooLarge);
        }
        let mut head = Self {
            method: request.method.clone(),
            target,
            headers: HeaderMap::with_capacity(headers.len() + 1),
            length,
            anonymous: false,
        };
        for (name, value) in headers {
            if rule.withholds(name) {
                head.anonymous = true;
            } else if !OF_THE_CONNECTION.contains(name) && !is_nominated(name, headers) {
                head.headers.append(name, value.clone());
            }
        }
        head.headers.insert(MARKER, HeaderValue::from_static("1"));
        Ok(head)
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
        let mut request = http::Request::get("http://elsewhere.example/a?b=c");
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
        let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["host", "accept", "x-foreshade-mirror"]);
        assert_eq!(head.headers.get_all("accept").iter().count(), 2);
        assert_eq!((head.target.as_str(), head.anonymous), ("/a?b=c", true));
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
