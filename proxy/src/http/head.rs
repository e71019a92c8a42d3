//! Heads of messages, as the policy wants them: a view to decide by, a path in its normal form, headers to edit.

use http::header::{CONNECTION, EXPECT, HOST, TE};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version};
use pingora_error::{ErrorType, OrErr};
use pingora_http::authority::{RawTargetAuthority, raw_target_authority};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::client::Client;
use crate::edit::{Facts, Head};
use crate::fields::Fields;
use crate::framing::Refusal;
use crate::path::{PathPolicy, escaped, normal};
use crate::request::RequestView;
use crate::upstream::connect::To;
use crate::upstream::is_hop_by_hop;
use crate::worker::Changes;

/// What the policy sees of a request.
pub(super) fn view<'a>(head: &'a RequestHeader, client: &Client) -> RequestView<'a> {
    RequestView {
        method: head.method.as_str(),
        host: host(head),
        path: head.uri.path(),
        query: head.uri.query(),
        scheme: client.scheme(),
        headers: Fields::from(&head.headers),
        client: client.address,
        tls: None,
        made_id: None,
    }
}

fn host(head: &RequestHeader) -> &str {
    let named = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    named.unwrap_or_default()
}

/// Brings the target of a request to the form in which it is matched and sent: a path in its normal form, and its query.
/// A URL (RFC 9112 section 3.2.2) becomes a path, and its host the `Host`.
pub(super) fn normalise(head: &mut RequestHeader, policy: PathPolicy) -> Result<(), Refusal> {
    let target = head.raw_path();
    match target.first() {
        Some(b'/') => {}
        Some(b'*') if target.len() == 1 => return Ok(()),
        _ => {
            let RawTargetAuthority::Absolute { authority, .. } = raw_target_authority(target) else {
                return Err(Refusal::Target);
            };
            let host = HeaderValue::from_bytes(authority).map_err(|_| Refusal::Target)?;
            // Where both are there they are the same, or the request would have been refused.
            if !head.headers.contains_key(HOST) {
                head.insert_header(HOST, host).map_err(|_| Refusal::Target)?;
            }
            head.set_uri(head.uri.clone());
        }
    }
    let target = head.raw_path();
    let end = target.iter().position(|b| *b == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    let path = match normal(path, policy)? {
        None if head.raw_path_is_utf8() => return Ok(()),
        None => path.to_vec(),
        Some(path) => path.into_bytes(),
    };
    let target = [path.as_slice(), escaped(query).as_bytes()].concat();
    head.set_raw_path(&target).map_err(|_| Refusal::Target)
}

/// Tells the endpoint who the client is, and makes the route's changes, by their facts. `head` is what will be sent,
/// `came` what came, `target` what is asked for instead.
pub(super) fn prepare(
    head: &mut RequestHeader,
    came: &RequestHeader,
    client: &Client,
    changes: Option<(&Changes, Facts<'_>)>,
    target: Option<&str>,
) -> pingora_error::Result<()> {
    with_headers(head, |headers| client.tell(headers, &came.headers));
    let Some((changes, facts)) = changes else {
        return Ok(());
    };
    changes.edits.request.apply(head, &facts);
    if let Some(target) = target {
        head.set_raw_path(target.as_bytes())?;
    }
    if let Some(host) = &changes.edits.rewrite.host {
        head.insert_header(HOST, host.as_str())?;
    }
    Ok(())
}

/// Forgets what is about the client's connection alone, and what his `Connection` calls so; not what tells where a request
/// goes, or who sent it. What he is told to go on, he has been told here.
pub(super) fn forget_connection(head: &mut RequestHeader) {
    let named: Vec<HeaderName> = head
        .headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| *name != HOST)
        .collect();
    with_headers(head, |headers| {
        let own: Vec<HeaderName> = headers
            .keys()
            .filter(|name| is_hop_by_hop(name))
            .cloned()
            .collect();
        for name in named.iter().chain(&own).chain([&EXPECT]) {
            headers.remove(name);
        }
    });
}

/// A head as HTTP/2 says it, for the endpoint at this address; `is_call` for one of gRPC, which has to say that it takes
/// trailers.
///
/// # Errors
/// A route has named a host that is none.
pub(super) fn for_http2(head: &RequestHeader, to: &To, is_call: bool) -> pingora_error::Result<Request<()>> {
    let host = head.headers.get(HOST).map(HeaderValue::as_bytes);
    let authority = match host {
        Some(host) => Authority::try_from(host),
        None => Authority::try_from(to.address.to_string()),
    };
    let mut uri = head.uri.clone().into_parts();
    uri.scheme = Some(to.scheme());
    uri.authority = Some(authority.or_err(ErrorType::InvalidHTTPHeader, "a host that is none")?);
    let uri = Uri::from_parts(uri).or_err(ErrorType::InvalidHTTPHeader, "a target that is none")?;
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = head.headers.clone();
    request.headers_mut().remove(HOST);
    if is_call {
        request
            .headers_mut()
            .insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(request)
}

/// Forgets in which letters the names of headers were written.
///
/// Names have no case (RFC 9110 section 5.1). pingora keeps the letters in a second map, which is copied with each head
/// and has to be kept in step: three more headers cost two to three times as much in that way.
pub(super) fn forget_letters(head: &mut RequestHeader) {
    with_headers(head, |_| {});
}

/// Changes the headers of a head whose letters nobody needs any more. pingora's own insertion copies each name twice and
/// parses it again, which costs more than the rest of it.
fn with_headers(head: &mut RequestHeader, change: impl FnOnce(&mut HeaderMap)) {
    let nobody = RequestHeader::from(Request::new(()).into_parts().0);
    let mut parts = Parts::from(std::mem::replace(head, nobody));
    change(&mut parts.headers);
    *head = RequestHeader::from(parts);
}

impl Head for RequestHeader {
    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }

    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        // A name and a value that are both checked fit into any head; only its size is bounded.
        let _ = self.insert_header(name, value);
    }

    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        let _ = self.append_header(name, value);
    }
}

impl Head for ResponseHeader {
    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }

    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        let _ = self.insert_header(name, value);
    }

    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        let _ = self.append_header(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &[u8], host: Option<&str>) -> RequestHeader {
        let mut head = RequestHeader::build("GET", target, None).unwrap();
        if let Some(host) = host {
            head.insert_header(HOST, host).unwrap();
        }
        head
    }

    #[test]
    fn every_target_is_sent_as_it_was_matched() {
        for (target, path, sent) in [
            (&b"/a/../b?x=%2e/../"[..], "/b", &b"/b?x=%2e/../"[..]),
            (b"/plain?x", "/plain", b"/plain?x"),
            (b"http://a.example/%61?q", "/a", b"/a?q"),
            (b"http://a.example", "/", b"/"),
            (b"http://a.example?q", "/", b"/?q"),
            (b"/\xff?\xff", "/%FF", b"/%FF?%FF"),
            (b"/a?\xc3\xa9", "/a", b"/a?\xc3\xa9"),
            (b"*", "*", b"*"),
        ] {
            let mut head = request(target, Some("a.example"));
            normalise(&mut head, PathPolicy::default()).unwrap();
            assert_eq!((head.uri.path(), head.raw_path()), (path, sent));
        }
    }

    #[test]
    fn the_host_of_a_url_is_the_host() {
        let mut head = request(b"http://b.example:81/x", None);
        normalise(&mut head, PathPolicy::default()).unwrap();
        assert_eq!(view(&head, &Client::default()).host, "b.example:81");
    }

    #[test]
    fn what_is_neither_path_nor_url_is_refused() {
        for target in [&b"foo:bar"[..], b"http:/\\a/b", b"a/b", b"?q", b"**"] {
            let mut head = request(target, Some("a"));
            assert_eq!(
                normalise(&mut head, PathPolicy::default()),
                Err(Refusal::Target),
                "{}",
                target.escape_ascii()
            );
        }
    }
}
