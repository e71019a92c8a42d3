//! A request's head as the relay reads and writes it: lines found once, kept where they stand, written in one pass.
//!
//! The head has passed [`crate::framing`], so every line ends with CR LF and every name is a token: finding the lines
//! needs no second parser. What the relay would have to change beyond leaving lines out and adding its own is not for it:
//! [`read`] says so, and the full path serves the request.

use http::HeaderName;
use http::header::{
    CONNECTION, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use crate::client::Client;
use crate::cohort::ATTEMPT_HEADER;
use crate::fields::{Fields, Line, Lines};
use crate::framing::{Framing, Head};
use crate::path::{PathPolicy, normal};
use crate::request::RequestView;

/// The end of the request line of a version that the relay speaks.
const VERSION: &[u8] = b" HTTP/1.1\r\n";

/// What belongs to one connection and asks for more than being left out, beside `Connection` itself. A request that has one
/// of them is for the full path. Sources: RFC 9110 section 7.6.1; pingora-proxy 0.9.1, `proxy_common.rs`.
const UNUSUAL: [HeaderName; 7] = [
    EXPECT,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
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
    host: &'a str,
    lines: Lines<'a>,
}

/// Finds the lines of a head that has passed, and says whether the relay can serve it. `None` where the full path has to.
pub(super) fn read<'a>(
    bytes: &'a [u8],
    head: &Head,
    policy: PathPolicy,
    lines: &'a mut Vec<Line>,
) -> Option<Request<'a>> {
    if head.upgrade || head.expect || head.framing == Framing::Chunked {
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
    let path = target.iter().position(|b| *b == b'?').unwrap_or(target.len());
    if !matches!(normal(target.get(..path)?, policy), Ok(None)) {
        return None;
    }
    find_lines(bytes, rest + VERSION.len(), lines)?;
    let lines = Lines { bytes, lines };
    let host = lines.all(b"host").next()?;
    Some(Request {
        method: std::str::from_utf8(method).ok()?,
        target: std::str::from_utf8(target).ok()?,
        host: std::str::from_utf8(host).ok()?,
        lines,
    })
}

/// Finds all lines from `at` on. `None` where one of them is not for the relay.
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
        if !is_usual(&line, bytes) {
            return None;
        }
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

    /// What the policy sees of it.
    pub(super) fn view(&self, client: &Client) -> RequestView<'a> {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target, None),
        };
        RequestView {
            method: self.method,
            host: self.host,
            path,
            query,
            scheme: client.scheme(),
            headers: self.fields(),
            client: client.address,
            made_id: None,
        }
    }

    /// Whether its answer has no body, whatever that says of one.
    pub(super) fn wants_head_only(&self) -> bool {
        self.method == "HEAD"
    }

    /// Writes the head for an endpoint. `attempt` counts from 1.
    pub(super) fn write(&self, client: &Client, attempt: u32, out: &mut Vec<u8>) {
        let Lines { bytes, lines } = self.lines;
        for part in [self.method, " ", self.target] {
            out.extend_from_slice(part.as_bytes());
        }
        out.extend_from_slice(VERSION);
        for line in lines {
            let name = line.name_in(bytes);
            if client.replaces(name) || line.is_named(bytes, CONNECTION.as_str().as_bytes()) {
                continue;
            }
            write_line(name, line.value_in(bytes), out);
        }
        client.write_lines(self.fields(), out);
        if attempt > 1 {
            let mut digits = itoa::Buffer::new();
            write_line(
                ATTEMPT_HEADER.as_str().as_bytes(),
                digits.format(attempt).as_bytes(),
                out,
            );
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// One line of a head.
pub(super) fn write_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
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
        request.write(&client(request.fields()), attempt, &mut out);
        Some(String::from_utf8(out).unwrap())
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
            "Transfer-Encoding: chunked",
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
