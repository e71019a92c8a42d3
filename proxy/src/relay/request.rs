//! A request's head as the relay reads and writes it: lines found once, kept where they stand, written in one pass.
//!
//! The head has passed [`crate::framing`], so every line ends with CR LF and every name is a token: finding the lines
//! needs no second parser. What the relay would have to understand beyond leaving lines out and adding its own is not for
//! it: [`read`] says so, and the full path serves the request.

use http::header::{
    CONNECTION, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::written::Written;
use crate::client::Client;
use crate::cohort::ATTEMPT_HEADER;
use crate::edit::Facts;
use crate::fields::{Fields, Line, Lines, write_line};
use crate::framing::Head;
use crate::path::{PathPolicy, normal};
use crate::report::Asked;
use crate::request::RequestView;
use crate::trace::Named;
use crate::worker::Changes;

/// The end of the request line of a version that the relay speaks.
const VERSION: &[u8] = b" HTTP/1.1\r\n";

/// What belongs to one connection and asks for more than being left out, beside `Connection` itself. A request that has one
/// of them is for the full path. Sources: RFC 9110 section 7.6.1; pingora-proxy 0.9.1, `proxy_common.rs`.
const UNUSUAL: [HeaderName; 6] = [
    EXPECT,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    UPGRADE,
];

/// The same, of those that have no constant.
const UNUSUAL_BY_NAME: [&[u8]; 3] = [b"http2-settings", b"keep-alive", b"proxy-connection"];

/// A request that the relay can serve.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    method: &'a str,
    /// Path and query, as they are matched and sent.
    target: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    host: &'a str,
    lines: Lines<'a>,
}

/// What is said to an endpoint beside what the client has said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Telling<'a> {
    /// Who the client is.
    pub(super) client: &'a Client,
    /// What the request is called, where names are made or changed.
    pub(super) named: Option<&'a Named>,
    /// What the route changes, and what its variables stand for.
    pub(super) changes: Option<(&'a Changes, Facts<'a>)>,
    /// What is asked for instead of the client's target.
    pub(super) target: Option<&'a str>,
    /// Which attempt it is, from 1 on.
    pub(super) attempt: u32,
}

/// Finds the lines of a head that has passed, and says whether the relay can serve it. `None` where the full path has to.
pub(super) fn read<'a>(
    bytes: &'a [u8],
    head: &Head,
    policy: PathPolicy,
    lines: &'a mut Vec<Line>,
) -> Option<Request<'a>> {
    if head.upgrade || head.expect {
        return None;
    }
    // The ranges count from what came before the head, too.
    let before = head.place.start;
    let part = |range: &std::ops::Range<usize>| bytes.get(range.start - before..range.end - before);
    let (method, target) = (part(&head.method)?, part(&head.target)?);
    let rest = head.target.end - before;
    if !bytes.get(rest..)?.starts_with(VERSION) || target.first() != Some(&b'/') || !target.is_ascii() {
        return None;
    }
    let target = std::str::from_utf8(target).ok()?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    if !matches!(normal(path.as_bytes(), policy), Ok(None)) {
        return None;
    }
    find_lines(bytes, rest + VERSION.len(), lines)?;
    let lines = Lines { bytes, lines };
    if !lines.lines.iter().all(|line| is_usual(line, bytes)) {
        return None;
    }
    let host = lines.all(b"host").next()?;
    Some(Request {
        method: std::str::from_utf8(method).ok()?,
        target,
        path,
        query,
        host: std::str::from_utf8(host).ok()?,
        lines,
    })
}

/// Finds all lines from `at` on. `None` where they are none.
fn find_lines(bytes: &[u8], mut at: usize, lines: &mut Vec<Line>) -> Option<()> {
    lines.clear();
    loop {
        let rest = bytes.get(at..)?;
        if rest.starts_with(b"\r\n") {
            return Some(());
        }
        let end = memchr::memchr(b'\n', rest)?;
        let text = rest.get(..end.checked_sub(1)?)?;
        let colon = memchr::memchr(b':', text)?;
        let value = text.get(colon + 1..)?;
        let lead = value.len() - value.trim_ascii_start().len();
        let place = |offset: usize| u32::try_from(at + offset).ok();
        let line = Line {
            name: place(0)?,
            name_end: place(colon)?,
            value: place(colon + 1 + lead)?,
            value_end: place(colon + 1 + lead + value.trim_ascii().len())?,
        };
        lines.push(line);
        at += end + 1;
    }
}

/// Whether a line can be passed on or left out as it is.
fn is_usual(line: &Line, bytes: &[u8]) -> bool {
    let name = line.name_in(bytes);
    // Nearly every name ends here.
    if !matches!(
        name.first().map(u8::to_ascii_lowercase),
        Some(b'c' | b'e' | b'h' | b'k' | b'p' | b't' | b'u')
    ) {
        return true;
    }
    if line.is_named(bytes, CONNECTION.as_str().as_bytes()) {
        // Whether the client stays is known from the check; more options name other lines that would have to go.
        let value = line.value_in(bytes);
        return value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close");
    }
    !UNUSUAL
        .iter()
        .any(|unusual| line.is_named(bytes, unusual.as_str().as_bytes()))
        && !UNUSUAL_BY_NAME
            .iter()
            .any(|unusual| line.is_named(bytes, unusual))
}

impl<'a> Request<'a> {
    /// All of its headers.
    pub(super) fn fields(&self) -> Fields<'a> {
        Fields::Lines(self.lines)
    }

    /// What the policy sees of it. `named` is what it is called.
    pub(super) fn view(&self, client: &Client, named: Option<&'a Named>) -> RequestView<'a> {
        RequestView {
            method: self.method,
            host: self.host,
            path: self.path,
            query: self.query,
            scheme: client.scheme(),
            headers: self.fields(),
            client: client.address,
            tls: None,
            made_id: named.and_then(|named| named.made.as_ref()),
        }
    }

    /// What its line in the access log tells of it.
    pub(super) fn asked(&self) -> Asked<'a> {
        Asked {
            method: self.method.as_bytes(),
            target: self.target.as_bytes(),
            protocol: "HTTP/1.1",
            fields: self.fields(),
        }
    }

    /// Path and query.
    pub(super) fn path_and_query(&self) -> (&'a str, Option<&'a str>) {
        (self.path, self.query)
    }

    /// Whether its answer has no body, whatever that says of one.
    pub(super) fn wants_head_only(&self) -> bool {
        self.method == "HEAD"
    }

    /// Writes the head for an endpoint.
    pub(super) fn write(&self, telling: &Telling<'_>, out: &mut Vec<u8>) {
        let Lines { bytes, lines } = self.lines;
        for part in [self.method, " ", telling.target.unwrap_or(self.target)] {
            out.extend_from_slice(part.as_bytes());
        }
        out.extend_from_slice(VERSION);
        let first = out.len();
        for line in lines {
            let name = line.name_in(bytes);
            if line.is_named(bytes, TRANSFER_ENCODING.as_str().as_bytes()) {
                // In whatever letters it came: the chunks are made anew.
                write_line(name, b"chunked", out);
            } else if !telling.replaces(name) {
                write_line(name, line.value_in(bytes), out);
            }
        }
        telling.client.write_lines(self.fields(), out);
        if let Some(named) = telling.named {
            named.write_lines(out);
        }
        if telling.attempt > 1 {
            let mut digits = itoa::Buffer::new();
            let attempt = digits.format(telling.attempt);
            write_line(ATTEMPT_HEADER.as_str().as_bytes(), attempt.as_bytes(), out);
        }
        if let Some((changes, facts)) = &telling.changes {
            let mut head = Written::new(out, first);
            changes.edits.request.apply(&mut head, facts);
            if let Some(host) = &changes.edits.rewrite.host {
                head.put(&HOST, host.as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl Telling<'_> {
    /// Whether a line of the client's does not go on.
    fn replaces(&self, name: &[u8]) -> bool {
        let is = |header: &HeaderName| name.eq_ignore_ascii_case(header.as_str().as_bytes());
        self.client.replaces(name)
            || is(&CONNECTION)
            || self.named.is_some_and(|named| named.replaces(name))
            || (self.attempt > 1 && is(&ATTEMPT_HEADER))
    }
}

/// A head that has been [written](Request::write), for whoever keeps a copy of it. `None` where a target is no URI.
pub(super) fn parts(head: &[u8]) -> Option<http::request::Parts> {
    let first = memchr::memchr(b'\n', head)?;
    let mut words = head.get(..first)?.split(|b| *b == b' ');
    let (method, target) = (words.next()?, words.next()?);
    let mut lines = Vec::new();
    find_lines(head, first + 1, &mut lines)?;
    let mut headers = HeaderMap::with_capacity(lines.len());
    for line in &lines {
        let name = HeaderName::from_bytes(line.name_in(head)).ok()?;
        headers.append(name, HeaderValue::from_bytes(line.value_in(head)).ok()?);
    }
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = Method::from_bytes(method).ok()?;
    parts.uri = Uri::try_from(target).ok()?;
    parts.headers = headers;
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{ToldBy, Trust};
    use crate::framing::{HeadCheck, Limits};

    fn client(lines: Fields<'_>) -> Client {
        let trust = Trust {
            proxies: Vec::new(),
            told_by: ToldBy::XForwardedFor,
        };
        Client::of(&trust, Some("192.0.2.7".parse().unwrap()), lines)
    }

    /// What is sent for this head, if the relay serves it.
    fn sent(text: &str, attempt: u32) -> Option<String> {
        let head = HeadCheck::default()
            .advance(text.as_bytes(), &Limits::default())
            .unwrap()
            .unwrap();
        let mut lines = Vec::new();
        let bytes = &text.as_bytes()[head.place.clone()];
        let request = read(bytes, &head, PathPolicy::default(), &mut lines)?;
        let mut out = Vec::new();
        let client = client(request.fields());
        request.write(&telling(&client, attempt), &mut out);
        Some(String::from_utf8(out).unwrap())
    }

    fn telling(client: &Client, attempt: u32) -> Telling<'_> {
        Telling {
            client,
            named: None,
            changes: None,
            target: None,
            attempt,
        }
    }

    #[test]
    fn lines_go_on_as_they_came_but_for_what_is_ours() {
        let text = "GET /a?b=c HTTP/1.1\r\nHost: x\r\nConnection: Keep-Alive\r\nX-Forwarded-For: 6.6.6.6\r\n\
                    x_real_ip: 6.6.6.6\r\nX-Odd:  spaced out \t\r\nX-Empty:\r\n\r\n";
        assert_eq!(
            sent(text, 1).unwrap(),
            "GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-Odd: spaced out\r\nX-Empty: \r\nx-forwarded-for: 192.0.2.7\r\n\
             x-forwarded-proto: http\r\nx-forwarded-host: x\r\n\r\n"
        );
        assert!(sent(text, 3).unwrap().ends_with("x-foreshade-attempt: 3\r\n\r\n"));
    }

    #[test]
    fn an_attempt_is_numbered_by_this_proxy_alone() {
        let text = "GET / HTTP/1.1\r\nHost: x\r\nX-Foreshade-Attempt: 7\r\n\r\n";
        assert!(sent(text, 1).unwrap().contains("X-Foreshade-Attempt: 7\r\n"));
        let second = sent(text, 2).unwrap();
        assert!(
            !second.contains("X-Foreshade") && second.contains("x-foreshade-attempt: 2\r\n"),
            "{second}"
        );
    }

    #[test]
    fn a_written_head_can_be_read_as_parts() {
        let text = "PUT /a?b=c HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a:  2 \r\n\r\n";
        let head = sent(text, 1).unwrap();
        let parts = parts(head.as_bytes()).unwrap();
        assert_eq!(
            (parts.method.as_str(), parts.uri.to_string()),
            ("PUT", "/a?b=c".to_owned())
        );
        let values: Vec<_> = parts.headers.get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(parts.headers["x-forwarded-for"], "192.0.2.7");
    }

    #[test]
    fn an_empty_line_before_the_head_is_no_part_of_it() {
        let sent = sent("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 1).unwrap();
        assert!(sent.starts_with("GET / HTTP/1.1\r\nHost: x\r\n"), "{sent}");
    }

    #[test]
    fn whatever_is_the_least_unusual_is_for_the_full_path() {
        for line in [
            "Connection: close, x-a",
            "connection: upgrade",
            "TE: trailers",
            "Trailer: x",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic eA==",
            "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
            "Upgrade: h2c",
            "Expect: 100-continue",
        ] {
            let text = format!("POST / HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n");
            assert_eq!(sent(&text, 1), None, "{line}");
        }
        for line in [
            "GET http://x/ HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "GET / HTTP/1.0",
            "GET /a/../b HTTP/1.1",
            "GET /%61 HTTP/1.1",
            "GET //a HTTP/1.1",
        ] {
            let text = format!("{line}\r\nHost: x\r\n\r\n");
            assert_eq!(sent(&text, 1), None, "{line}");
        }
    }

    #[test]
    fn names_that_only_begin_like_the_unusual_ones_pass() {
        let text =
            "GET / HTTP/1.1\r\nHost: x\r\nTest: 1\r\nKeep-Alive2: 1\r\nUpgrade-Insecure-Requests: 1\r\n\r\n";
        let sent = sent(text, 1).unwrap();
        for name in ["Test", "Keep-Alive2", "Upgrade-Insecure-Requests"] {
            assert!(sent.contains(&format!("\r\n{name}: 1\r\n")), "{sent}");
        }
    }
}
