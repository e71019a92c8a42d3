//! Whether the head of an HTTP/2 request says one thing only, also when it is said again in HTTP/1.1.
//!
//! HTTP/2 frames a message by itself, so nobody can smuggle a second one into it; but endpoints are asked in HTTP/1.1, and
//! there a header that was harmless may frame the body, and a path with a space in it end the request line. So what the
//! library lets pass is held to the rules of [`super::HeadCheck`], as far as they apply, with the same refusals. What it
//! does not let pass (capitals, unknown pseudo-headers, pieces in the wrong order) has been answered by a reset. Source:
//! RFC 9113 section 8.

use http::header::{CONNECTION, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use super::fields::Fields;
use super::head::{self, METHOD_MAX};
use super::target::{Form, form, is_host};
use super::{Limits, Refusal};

/// What is about one connection of HTTP/1.1, and has no constant. Source: RFC 9113 section 8.2.2.
const CONNECTION_FIELDS: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];

/// Brings a head to the form in which HTTP/1.1 would have said it, if there is one.
///
/// # Errors
/// What is wrong with it.
pub fn translate(head: &mut Parts, limits: &Limits) -> Result<(), Refusal> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::MethodRefused);
    }
    if head.method.as_str().len() > METHOD_MAX {
        return Err(Refusal::Method);
    }
    let scheme = head.uri.scheme().map(Scheme::as_str);
    // Where there is no `:authority`, but `Host` alone, the library has looked at the scheme and dropped it.
    if !matches!(scheme, Some("http" | "https") | None) {
        return Err(Refusal::Target);
    }
    let target = target(head, limits)?;
    check_fields(&head.headers, limits)?;
    let host = host(head)?;
    head.headers.insert(HOST, host);
    join_cookies(&mut head.headers);
    head.headers.remove(TE);
    head.uri = Uri::from(target);
    head.version = Version::HTTP_11;
    Ok(())
}

/// A path with its query, or the server as a whole.
fn target(head: &Parts, limits: &Limits) -> Result<PathAndQuery, Refusal> {
    let target = head.uri.path_and_query().ok_or(Refusal::Target)?;
    if target.as_str().len() > limits.target_bytes {
        return Err(Refusal::TargetTooLong);
    }
    match form(target.as_str().as_bytes()) {
        Some(Form::Origin) => Ok(target.clone()),
        Some(Form::Asterisk) if head.method == Method::OPTIONS => Ok(target.clone()),
        _ => Err(Refusal::Target),
    }
}

fn check_fields(headers: &HeaderMap, limits: &Limits) -> Result<(), Refusal> {
    if headers.len() > usize::try_from(limits.fields).unwrap_or(usize::MAX) {
        return Err(Refusal::FieldsTooMany);
    }
    let mut said = Fields::default();
    let mut bytes = 0;
    for (name, value) in headers {
        let (text, value) = (name.as_str(), value.as_bytes());
        // As lines of HTTP/1.1 would count: with colon, space and their end.
        bytes += text.len() + value.len() + 4;
        if is_of_a_connection(name) || (*name == TE && !value.eq_ignore_ascii_case(b"trailers")) {
            return Err(Refusal::ConnectionField);
        }
        if value.trim_ascii().len() != value.len() {
            return Err(Refusal::FieldValue);
        }
        said.note(text.as_bytes(), value, 0)?;
    }
    if bytes > limits.head_bytes {
        return Err(Refusal::HeadTooLarge);
    }
    said.framing(head::Version::Http11, limits).map(drop)
}

fn is_of_a_connection(name: &HeaderName) -> bool {
    [CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(name) || CONNECTION_FIELDS.contains(&name.as_str())
}

/// The host that is asked for: what `:authority` and `Host` say, if both do the same to the byte.
fn host(head: &Parts) -> Result<HeaderValue, Refusal> {
    let told = head.headers.get(HOST);
    let Some(authority) = head.uri.authority() else {
        return told.cloned().ok_or(Refusal::HostMissing);
    };
    if !is_host(authority.as_str().as_bytes()) {
        return Err(Refusal::HostMalformed);
    }
    match told {
        Some(told) if told.as_bytes() != authority.as_str().as_bytes() => Err(Refusal::HostConflict),
        Some(told) => Ok(told.clone()),
        None => HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::HostMalformed),
    }
}

/// Cookies that came in crumbs, for better compression, are one line again. Source: RFC 9113 section 8.2.3.
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs = headers.get_all(COOKIE);
    if crumbs.iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = crumbs.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str, lines: &[(&'static str, &'static str)]) -> Parts {
        let mut request = http::Request::builder()
            .method(method)
            .uri(uri)
            .version(Version::HTTP_2);
        for (name, value) in lines {
            request = request.header(*name, HeaderValue::from_static(value));
        }
        request.body(()).unwrap().into_parts().0
    }

    fn translated(method: &str, uri: &str, lines: &[(&'static str, &'static str)]) -> Result<Parts, Refusal> {
        let mut head = request(method, uri, lines);
        translate(&mut head, &Limits::default()).map(|()| head)
    }

    #[test]
    fn a_sound_head_is_one_of_http_1() {
        let lines = [
            ("cookie", "a=1"),
            ("x-a", "1"),
            ("cookie", "b=2"),
            ("te", "trailers"),
        ];
        let head = translated("POST", "https://shop.example:8443/a/b?c=d", &lines).unwrap();
        assert_eq!(
            (head.uri.to_string(), head.version),
            ("/a/b?c=d".to_owned(), Version::HTTP_11)
        );
        assert_eq!(head.headers[HOST], "shop.example:8443");
        assert_eq!(head.headers[COOKIE], "a=1; b=2");
        assert_eq!((head.headers.len(), head.headers.contains_key(TE)), (3, false));
        // As intermediaries tell what came in HTTP/1.1. Source: RFC 7540 section 8.1.2.3.
        let head = translated("GET", "/a", &[("host", "a.example")]).unwrap();
        assert_eq!(
            (head.uri.path(), &head.headers[HOST]),
            ("/a", &HeaderValue::from_static("a.example"))
        );
        let star = request("OPTIONS", "https://a.example/", &[]);
        let mut parts = star.uri.into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static("*"));
        let mut star = request("OPTIONS", "/", &[]);
        star.uri = Uri::from_parts(parts).unwrap();
        translate(&mut star, &Limits::default()).unwrap();
        assert_eq!(star.uri.path(), "*");
    }

    #[test]
    fn what_http_1_could_read_in_two_ways_is_refused_as_it_is_there() {
        let url = "https://a.example/";
        for (method, uri, lines, refusal) in [
            ("CONNECT", url, &[][..], Refusal::MethodRefused),
            ("TRACE", url, &[], Refusal::MethodRefused),
            ("GET", "/", &[], Refusal::HostMissing),
            ("GET", "ftp://a.example/", &[], Refusal::Target),
            ("GET", "https://a@a.example/", &[], Refusal::HostMalformed),
            ("GET", url, &[("host", "b.example")], Refusal::HostConflict),
            ("GET", url, &[("host", "A.example")], Refusal::HostConflict),
            (
                "GET",
                url,
                &[("host", "a.example"), ("host", "a.example")],
                Refusal::HostRepeated,
            ),
            (
                "POST",
                url,
                &[("content-length", "1"), ("content-length", "1")],
                Refusal::LengthRepeated,
            ),
            ("POST", url, &[("content-length", "+1")], Refusal::LengthMalformed),
            ("POST", url, &[("content_length", "1")], Refusal::LookAlike),
            (
                "POST",
                url,
                &[("transfer_encoding", "chunked")],
                Refusal::LookAlike,
            ),
            (
                "POST",
                url,
                &[("transfer-encoding", "chunked")],
                Refusal::ConnectionField,
            ),
            ("GET", url, &[("connection", "close")], Refusal::ConnectionField),
            ("GET", url, &[("upgrade", "x")], Refusal::ConnectionField),
            ("GET", url, &[("keep-alive", "1")], Refusal::ConnectionField),
            ("GET", url, &[("te", "gzip")], Refusal::ConnectionField),
            ("GET", url, &[("expect", "200-ok")], Refusal::Expectation),
            ("GET", url, &[("x-a", " 1")], Refusal::FieldValue),
            ("GET", url, &[("x-a", "1\t")], Refusal::FieldValue),
        ] {
            assert_eq!(
                translated(method, uri, lines).unwrap_err(),
                refusal,
                "{method} {uri} {lines:?}"
            );
        }
    }

    #[test]
    fn sizes_have_the_limits_of_http_1() {
        let limits = Limits {
            fields: 2,
            head_bytes: 1024,
            target_bytes: 100,
            body_bytes: Some(10),
            ..Limits::default()
        };
        let refused = |method: &str, uri: &str, lines: &[(&'static str, &'static str)]| {
            translate(&mut request(method, uri, lines), &limits).unwrap_err()
        };
        let long = format!("https://a.example/{}", "a".repeat(100));
        assert_eq!(refused("GET", &long, &[]), Refusal::TargetTooLong);
        let three = [("a", "1"), ("b", "2"), ("c", "3")];
        assert_eq!(
            refused("GET", "https://a.example/", &three),
            Refusal::FieldsTooMany
        );
        let much: &'static str = Box::leak("x".repeat(1100).into_boxed_str());
        assert_eq!(
            refused("GET", "https://a.example/", &[("a", much)]),
            Refusal::HeadTooLarge
        );
        let body = [("content-length", "11")];
        assert_eq!(
            refused("POST", "https://a.example/", &body),
            Refusal::BodyTooLarge
        );
        let method = "A".repeat(METHOD_MAX + 1);
        assert_eq!(refused(&method, "https://a.example/", &[]), Refusal::Method);
    }
}
