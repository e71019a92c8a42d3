//! An answer's head as the relay reads and writes it, and how its body ends.
//!
//! Read with httparse, which takes what RFC 9112 allows a recipient to take; judged here: what would make two readers
//! disagree on where the body ends is no answer at all. Written line by line, without what belongs to the endpoint's
//! connection or is meant for this proxy.

use std::mem::MaybeUninit;

use foreshade_engine::observation::ResourceReport;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::{ParserConfig, Response, Status};

use super::written::Written;
use crate::edit::{Facts, Head, HeaderEdits};
use crate::fields::{Fields, Line, Lines, write_line};
use crate::framing::Framing;
use crate::orca;
use crate::policy::compress::Change;
use crate::policy::marks::Marks;
use crate::report::SERVER_TIMING;
use crate::trace::REQUEST_ID;

/// Largest head of an answer. What is larger is no answer but a download.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most lines of a head: as many as pingora takes.
const LINES_MAX: usize = 256;

/// What belongs to one connection, beside `Connection` itself, and has no constant.
const HOP_BY_HOP: [&[u8]; 2] = [b"keep-alive", b"proxy-connection"];

/// How the end of an answer's body is found. Source: RFC 9112 section 6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By what the head says.
    Framed(Framing),
    /// With the connection. The client gets chunks instead, so that his can live on, and a cut is not taken for an end.
    Close,
}

/// What a head says, besides its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Bytes of the head.
    pub(super) length: usize,
    pub(super) status: u16,
    pub(super) end: End,
    /// The endpoint keeps its connection open, and nothing about the message says that it should not be used again.
    pub(super) keeps_alive: bool,
    /// It is a 503 that says when to come back.
    pub(super) retry_after: bool,
    /// Whether a line is meant for this proxy.
    reports: bool,
    /// Whether `Connection` names other lines.
    nominates: bool,
}

/// What is said to the client beside what the endpoint says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing<'a> {
    /// His connection ends with this answer.
    pub(super) close: bool,
    /// What time it is.
    pub(super) date: &'a HeaderValue,
    /// What the route changes, and what its variables stand for.
    pub(super) edits: Option<(&'a HeaderEdits, Facts<'a>)>,
    /// What policies change.
    pub(super) marks: Option<&'a Marks>,
    /// The request's name, where he is to know it.
    pub(super) request_id: Option<&'a [u8]>,
    /// There are others of it, in fewer bytes.
    pub(super) varies: bool,
    /// Where the time went, where he is to know it.
    pub(super) server_timing: Option<&'a HeaderValue>,
}

/// It is no answer that could be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbage;

/// What the lines say about the message.
#[derive(Debug, Default)]
struct Said {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    retry_after: bool,
    reports: bool,
    nominates: bool,
}

impl Answer {
    /// Reads the head of an answer, to a request that wants no more than that or to another, and finds its lines. `None`
    /// while it is not complete.
    pub(super) fn read(
        bytes: &[u8],
        head_only: bool,
        lines: &mut Vec<Line>,
    ) -> Result<Option<Self>, Garbage> {
        let mut room = [const { MaybeUninit::uninit() }; LINES_MAX];
        let mut parsed = Response::new(&mut []);
        let parsing =
            ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, &mut room);
        let length = match parsing {
            Ok(Status::Complete(length)) if length <= HEAD_BYTES_MAX => length,
            Ok(Status::Partial) if bytes.len() <= HEAD_BYTES_MAX => return Ok(None),
            Ok(_) | Err(_) => return Err(Garbage),
        };
        let (status, minor) = (parsed.code.ok_or(Garbage)?, parsed.version.ok_or(Garbage)?);
        lines.clear();
        let mut said = Said::default();
        for header in parsed.headers.iter() {
            let line = place(bytes, header).ok_or(Garbage)?;
            said.note(header.name, line.value_in(bytes))?;
            lines.push(line);
        }
        if !(100..=999).contains(&status) || (said.chunked && minor == 0) {
            return Err(Garbage);
        }
        let end = if head_only || matches!(status, 100..=199 | 204 | 304) {
            End::Framed(Framing::None)
        } else if said.chunked {
            End::Framed(Framing::Chunked)
        } else {
            said.length
                .map_or(End::Close, |length| End::Framed(Framing::Length(length)))
        };
        let by_version = if minor == 0 { said.keep_alive } else { !said.close };
        Ok(Some(Self {
            length,
            status,
            end,
            // Where both were given, somebody before may have read it in the other way.
            keeps_alive: by_version && end != End::Close && !(said.chunked && said.length.is_some()),
            retry_after: said.retry_after && status == 503,
            reports: said.reports,
            nominates: said.nominates,
        }))
    }

    /// Writes the head of an answer that announces another one.
    pub(super) fn write_interim(&self, lines: Lines<'_>, out: &mut Vec<u8>) {
        self.write_lines(lines, out);
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the head for the client.
    pub(super) fn write(&self, lines: Lines<'_>, passing: &Passing<'_>, out: &mut Vec<u8>) {
        let first = self.write_lines(lines, out);
        let is_changed = passing.edits.is_some() || passing.marks.is_some() || passing.varies;
        if is_changed || passing.request_id.is_some() {
            let mut head = Written::new(out, first);
            if let Some((edits, facts)) = &passing.edits {
                edits.apply(&mut head, facts);
                // Not a route's to tell.
                head.remove(&DATE);
            }
            if let Some(marks) = passing.marks {
                marks.apply(&mut head);
            }
            if passing.varies {
                Change::Varies.make(self.status, Fields::Lines(lines), &mut head);
            }
            if let Some(id) = passing.request_id {
                head.put(&REQUEST_ID, id);
            }
        }
        if let Some(told) = passing.server_timing {
            write_line(SERVER_TIMING.as_str().as_bytes(), told.as_bytes(), out);
        }
        if self.end == End::Close {
            write_line(b"Transfer-Encoding", b"chunked", out);
        }
        write_line(b"Date", passing.date.as_bytes(), out);
        write_line(b"Connection", option(passing.close), out);
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the first line and all others that are for the client, and says where those begin.
    fn write_lines(&self, lines: Lines<'_>, out: &mut Vec<u8>) -> usize {
        let Lines { bytes, lines } = lines;
        // The status and its words stand as they came; the version is ours.
        let first = bytes.iter().position(|b| *b == b' ').unwrap_or_default();
        let words = bytes.get(first..).unwrap_or_default();
        let end = words
            .iter()
            .position(|b| matches!(b, b'\r' | b'\n'))
            .unwrap_or_default();
        out.extend_from_slice(b"HTTP/1.1");
        out.extend_from_slice(words.get(..end).unwrap_or_default());
        out.extend_from_slice(b"\r\n");
        let first = out.len();
        for line in lines.iter().filter(|line| self.passes(line, bytes, lines)) {
            write_line(line.name_in(bytes), line.value_in(bytes), out);
        }
        first
    }

    /// Whether a line is for the client.
    fn passes(&self, line: &Line, bytes: &[u8], lines: &[Line]) -> bool {
        let chunked = self.end == End::Framed(Framing::Chunked);
        let reframed = chunked && is(line, bytes, &CONTENT_LENGTH);
        // The client is told when it was given to him, as on the full path.
        let redated = self.status >= 200 && is(line, bytes, &DATE);
        let is_hop_by_hop =
            is(line, bytes, &CONNECTION) || HOP_BY_HOP.iter().any(|name| line.is_named(bytes, name));
        let is_nominated = self.nominates && is_nominated(line, bytes, lines);
        !reframed && !redated && !is_hop_by_hop && !is_nominated && !self.is_for_us(line, bytes)
    }

    /// Whether a line tells this proxy how loaded the endpoint is, which concerns nobody outside.
    fn is_for_us(&self, line: &Line, bytes: &[u8]) -> bool {
        self.reports && orca::HEADERS.iter().any(|name| is(line, bytes, name))
    }

    /// The lines as a map, without those that are meant for this proxy: for whoever keeps a record of the answer.
    pub(super) fn headers(&self, lines: Lines<'_>) -> HeaderMap {
        let Lines { bytes, lines } = lines;
        let field = |line: &Line| {
            let name = HeaderName::from_bytes(line.name_in(bytes)).ok()?;
            Some((name, HeaderValue::from_bytes(line.value_in(bytes)).ok()?))
        };
        let lines = lines.iter().filter(|line| !self.is_for_us(line, bytes));
        let mut map = HeaderMap::new();
        lines.filter_map(field).for_each(|(name, value)| {
            map.append(name, value);
        });
        map
    }

    /// What the endpoint says of its load.
    pub(super) fn report(&self, lines: Lines<'_>) -> Option<ResourceReport> {
        if !self.reports {
            return None;
        }
        let said = |name: &HeaderName| {
            let value = lines.all(name.as_str().as_bytes()).next()?;
            Some((name.clone(), HeaderValue::from_bytes(value).ok()?))
        };
        let map: HeaderMap = orca::HEADERS.iter().filter_map(said).collect();
        orca::parse(&map)
    }
}

impl Said {
    fn note(&mut self, name: &str, value: &[u8]) -> Result<(), Garbage> {
        let is = |wanted: &HeaderName| name.eq_ignore_ascii_case(wanted.as_str());
        // By length first: one comparison for nearly every line.
        match name.len() {
            10 if is(&CONNECTION) => {
                for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                    let close = option.eq_ignore_ascii_case(b"close");
                    let keep_alive = option.eq_ignore_ascii_case(b"keep-alive");
                    self.close |= close;
                    self.keep_alive |= keep_alive;
                    self.nominates |= !close && !keep_alive;
                }
            }
            11 => self.retry_after |= is(&RETRY_AFTER),
            14 if is(&CONTENT_LENGTH) => {
                let length = digits(value).ok_or(Garbage)?;
                if self.length.is_some_and(|before| before != length) {
                    return Err(Garbage);
                }
                self.length = Some(length);
            }
            17 if is(&TRANSFER_ENCODING) => {
                // Twice chunked, or another coding before it: nobody has asked for that.
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Garbage);
                }
                self.chunked = true;
            }
            _ => self.reports |= orca::HEADERS.iter().any(is),
        }
        Ok(())
    }
}

/// What becomes of the client's connection. Who speaks HTTP/1.1 knows that it lives on; some who say so do not.
pub(super) fn option(close: bool) -> &'static [u8] {
    if close { b"close" } else { b"keep-alive" }
}

/// Where a header stands in `bytes`.
fn place(bytes: &[u8], header: &httparse::Header<'_>) -> Option<Line> {
    let start = bytes.as_ptr().addr();
    let at = |part: &[u8]| u32::try_from(part.as_ptr().addr().checked_sub(start)?).ok();
    let value = header.value.trim_ascii();
    let (name, value_at) = (at(header.name.as_bytes())?, at(value)?);
    Some(Line {
        name,
        name_end: name + u32::try_from(header.name.len()).ok()?,
        value: value_at,
        value_end: value_at + u32::try_from(value.len()).ok()?,
    })
}

fn is(line: &Line, bytes: &[u8], name: &HeaderName) -> bool {
    line.is_named(bytes, name.as_str().as_bytes())
}

/// Whether `Connection` names a line as the endpoint's connection's own. What frames the body is not its to name.
fn is_nominated(line: &Line, bytes: &[u8], lines: &[Line]) -> bool {
    let connection = Lines { bytes, lines }.all(CONNECTION.as_str().as_bytes());
    connection
        .flat_map(|value| value.split(|b| *b == b','))
        .any(|option| line.is_named(bytes, option.trim_ascii()))
        && ![&TRANSFER_ENCODING, &CONTENT_LENGTH]
            .iter()
            .any(|name| is(line, bytes, name))
}

fn digits(value: &[u8]) -> Option<u64> {
    // As many digits as cannot overflow, and nothing else that `parse` would take.
    let sound = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    sound
        .then(|| std::str::from_utf8(value).ok()?.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, head_only: bool) -> Result<Option<Answer>, Garbage> {
        Answer::read(text.as_bytes(), head_only, &mut Vec::new())
    }

    fn end(text: &str) -> End {
        read(text, false).unwrap().unwrap().end
    }

    fn written(text: &str, close: bool) -> String {
        let mut lines = Vec::new();
        let answer = Answer::read(text.as_bytes(), false, &mut lines).unwrap().unwrap();
        let mut out = Vec::new();
        let lines = Lines {
            bytes: text.as_bytes(),
            lines: &lines,
        };
        answer.write(lines, &passing(close), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn passing(close: bool) -> Passing<'static> {
        static TIME: HeaderValue = HeaderValue::from_static("now");
        Passing {
            close,
            date: &TIME,
            edits: None,
            marks: None,
            request_id: None,
            varies: false,
            server_timing: None,
        }
    }

    #[test]
    fn a_body_ends_as_rfc_9112_says() {
        let with = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        assert_eq!(
            end(&with("Content-Length: 5\r\n")),
            End::Framed(Framing::Length(5))
        );
        assert_eq!(
            end(&with("Transfer-Encoding: Chunked\r\n")),
            End::Framed(Framing::Chunked)
        );
        assert_eq!(
            end(&with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
            End::Framed(Framing::Chunked)
        );
        assert_eq!(end(&with("")), End::Close);
        for status in ["204 No Content", "304 Not Modified", "103 Early Hints"] {
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n");
            assert_eq!(end(&text), End::Framed(Framing::None), "{status}");
        }
        let head = read(&with("Content-Length: 5\r\n"), true).unwrap().unwrap();
        assert_eq!(head.end, End::Framed(Framing::None));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_no_answer() {
        for lines in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: \r\n",
            "Content-Length: 9999999999999999999\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "A: 1\r\n B: 2\r\n",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
            assert_eq!(read(&text, false), Err(Garbage), "{lines:?}");
        }
        assert_eq!(
            read("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            Err(Garbage)
        );
        assert_eq!(read("HTTP/2 200\r\n\r\n", false), Err(Garbage));
        assert_eq!(read("SSH-2.0-OpenSSH\r\n", false), Err(Garbage));
        assert_eq!(read("HTTP/1.1 200 OK\r\nA: 1\r\n", false), Ok(None));
    }

    #[test]
    fn a_connection_serves_again_only_where_both_sides_know_where_the_answer_ends() {
        let keeps = |text: &str| read(text, false).unwrap().unwrap().keeps_alive;
        assert!(keeps("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"));
        assert!(!keeps(
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x, Close\r\n\r\n"
        ));
        assert!(!keeps("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n"));
        assert!(keeps(
            "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n"
        ));
        assert!(!keeps("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!keeps(
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
    }

    #[test]
    fn what_belongs_to_the_endpoints_connection_stays_there() {
        let text = "HTTP/1.0 404 Not here\r\nX-A:  1 \r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\
                    Keep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(
            written(text, true),
            "HTTP/1.1 404 Not here\r\nX-A: 1\r\nContent-Length: 0\r\nDate: now\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_length_beside_chunks_is_left_out_and_a_date_is_ours() {
        let text = "HTTP/1.1 200\r\nDate: then\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(
            written(text, false),
            "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nDate: now\r\nConnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn an_answer_that_ends_with_its_connection_gets_chunks() {
        assert_eq!(
            written("HTTP/1.0 200 OK\r\n\r\n", false),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nDate: now\r\nConnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn edits_and_the_requests_name_are_for_the_client_and_framing_is_not_for_them() {
        let text = "HTTP/1.1 200 OK\r\nX-Powered-By: a\r\nDate: then\r\nX-Request-Id: theirs\r\nContent-Length: 0\r\n\r\n";
        let (mut lines, mut out) = (Vec::new(), Vec::new());
        let answer = Answer::read(text.as_bytes(), false, &mut lines).unwrap().unwrap();
        let edits = HeaderEdits {
            remove: vec![DATE, HeaderName::from_static("x-powered-by")],
            set: Vec::new(),
            add: vec![(
                HeaderName::from_static("x-route"),
                crate::edit::Template::parse("{route}").unwrap(),
            )],
        };
        let facts = Facts {
            route: "front",
            ..Facts::default()
        };
        let passing = Passing {
            edits: Some((&edits, facts)),
            request_id: Some(b"ours"),
            server_timing: None,
            ..passing(false)
        };
        let lines = Lines {
            bytes: text.as_bytes(),
            lines: &lines,
        };
        answer.write(lines, &passing, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx-route: front\r\nx-request-id: ours\r\nDate: now\r\n\
             Connection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn what_an_endpoint_says_of_its_load_is_for_the_proxy() {
        let text =
            "HTTP/1.1 200 OK\r\nEndpoint-Load-Metrics: TEXT cpu_utilization=0.5\r\nContent-Length: 0\r\n\r\n";
        let mut lines = Vec::new();
        let answer = Answer::read(text.as_bytes(), false, &mut lines).unwrap().unwrap();
        let lines = Lines {
            bytes: text.as_bytes(),
            lines: &lines,
        };
        assert_eq!(
            answer.report(lines).and_then(|report| report.utilization),
            Some(0.5)
        );
        assert!(!written(text, false).contains("Load"));
    }
}
