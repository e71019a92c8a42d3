//! The same attempts by HTTP/2, which frames a message by itself: what would have been a second message in HTTP/1.1, or
//! another framing, reaches the endpoint as one honest request, or not at all.
//!
//! Heads are written by hand, literal by literal, because every library refuses to write most of them. Each case has a
//! connection of its own, and behind it one good request on another, so that what a bad one left at the endpoint would
//! show there. Source: RFC 9113 section 10.3; PortSwigger, "HTTP/2: The Sequel is Always Worse".

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

use foreshade_bench::client;
use foreshade_tests::proxy::{Proxy, preamble};
use foreshade_tests::recording::{Received, Recording, requests};
use foreshade_tests::wire::connect;

/// Preface and empty settings.
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What an attacker would like to hide.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

type Line = (&'static str, &'static str);

/// A request: its pseudo-headers and headers in this order, its body, and what may come of it.
struct Case {
    name: &'static str,
    lines: Vec<Line>,
    body: Option<String>,
    ends: Ends,
}

enum Ends {
    /// Nothing reaches the endpoint.
    Refused,
    /// One request does, with this line, these headers among others, and the body that was sent.
    Arrives(&'static str, &'static [Line]),
}

use Ends::{Arrives, Refused};

fn case(name: &'static str, lines: &[Line], body: Option<&str>, ends: Ends) -> Case {
    Case {
        name,
        lines: lines.to_vec(),
        body: body.map(str::to_owned),
        ends,
    }
}

/// A sound request with these headers behind it.
fn with(method: &'static str, fields: &[Line]) -> Vec<Line> {
    let pseudo = [
        (":method", method),
        (":scheme", "http"),
        (":path", "/one"),
        (":authority", "a"),
    ];
    [&pseudo, fields].concat()
}

/// A sound GET, of which one pseudo-header has another value.
fn but(name: &'static str, value: &'static str) -> Vec<Line> {
    let mut lines = with("GET", &[]);
    for line in lines.iter_mut().filter(|line| line.0 == name) {
        line.1 = value;
    }
    lines
}

/// Names and values that would end a line of HTTP/1.1, begin another, or be another's name.
const FIELDS: [Line; 36] = [
    ("x\r\nsmuggled", "1"),
    ("x: 1\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\ny", "1"),
    ("x\nsmuggled", "1"),
    ("x\rsmuggled", "1"),
    ("x\0", "1"),
    ("x:", "1"),
    ("x:y", "1"),
    ("x y", "1"),
    ("x\t", "1"),
    (" x", "1"),
    ("x ", "1"),
    ("", "1"),
    ("X-Capital", "1"),
    ("transfer-encoding: chunked\r\nx", "1"),
    ("transfer-encoding ", "chunked"),
    ("transfer-encoding:", "chunked"),
    ("\u{7f}x", "1"),
    ("x\u{e9}", "1"),
    ("x", "1\r\nsmuggled: 1"),
    ("x", "1\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("x", "1\r\ntransfer-encoding: chunked"),
    ("x", "1\nsmuggled: 1"),
    ("x", "1\rsmuggled: 1"),
    ("x", "1\0"),
    ("x", "\r\n"),
    ("x", " 1"),
    ("x", "1 "),
    ("x", "\t1"),
    ("cookie", "a=1\r\nsmuggled: 1"),
    ("host", "a\r\nsmuggled: 1"),
    ("host", "b"),
    ("host", "a, b"),
    ("host", ""),
    ("expect", "something"),
    (":smuggled", "1"),
    (":status", "200"),
];

/// What frames a message or is about a connection, and in HTTP/2 neither.
const FRAMING: [Line; 29] = [
    ("transfer-encoding", "chunked"),
    ("transfer-encoding", "identity"),
    ("transfer-encoding", ""),
    ("transfer-encoding", "gzip, chunked"),
    ("transfer_encoding", "chunked"),
    ("Transfer-Encoding", "chunked"),
    ("connection", "keep-alive"),
    ("connection", "transfer-encoding"),
    ("connection", "content-length"),
    ("connection", "upgrade"),
    ("proxy-connection", "keep-alive"),
    ("keep-alive", "timeout=5"),
    ("upgrade", "websocket"),
    ("upgrade", "h2c"),
    ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
    ("te", "chunked"),
    ("te", "trailers, chunked"),
    ("content_length", "0"),
    ("content-length", "+6"),
    ("content-length", "-1"),
    ("content-length", "06"),
    ("content-length", "0x6"),
    ("content-length", "6, 6"),
    ("content-length", "6,7"),
    ("content-length", ""),
    ("content-length", "six"),
    ("content-length", "18446744073709551622"),
    ("content-length", "4"),
    ("content-length", "60"),
];

/// Pseudo-headers that would make another request line, or another host, of it.
const PSEUDO: [Line; 33] = [
    (":method", "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\nGET"),
    (":method", "GET /smuggled"),
    (":method", "GET\r\n"),
    (":method", "GET\0"),
    (":method", ""),
    (":method", " GET"),
    (":method", "CONNECT"),
    (":method", "TRACE"),
    (":path", "/ HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled"),
    (":path", "/one /smuggled"),
    (":path", "/one HTTP/1.1"),
    (":path", "/one\t"),
    (":path", "/one\r\nsmuggled: 1"),
    (":path", "/one\nsmuggled: 1"),
    (":path", "/one\0"),
    (":path", ""),
    (":path", "one"),
    (":path", "*"),
    (":path", "b:80"),
    (":path", "http://b/one"),
    (":path", " /one"),
    (":path", "/../one\\..\\..\r"),
    (":authority", "a\r\nsmuggled: 1"),
    (":authority", "a b"),
    (":authority", "user@a"),
    (":authority", "a/smuggled"),
    (":authority", "a,b"),
    (":authority", "a\0"),
    (":authority", "[::1"),
    (":authority", "a:port"),
    (":scheme", "http://b/smuggled?"),
    (":scheme", "http\r\nsmuggled: 1"),
    (":scheme", "ftp"),
];

/// What is legal, some of it odd: it arrives as one request that says the same.
fn legal() -> Vec<Case> {
    vec![
        case(
            "body without a length",
            &with("POST", &[]),
            Some(SMUGGLED),
            Arrives("POST /one HTTP/1.1", &[]),
        ),
        case(
            "body with its length",
            &with("POST", &[("content-length", "6")]),
            Some("foobar"),
            Arrives("POST /one HTTP/1.1", &[("content-length", "6")]),
        ),
        case(
            "body that ends a chunked one",
            &with("POST", &[]),
            Some("0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
            Arrives("POST /one HTTP/1.1", &[]),
        ),
        case(
            "body of a get",
            &with("GET", &[]),
            Some(SMUGGLED),
            Arrives("GET /one HTTP/1.1", &[]),
        ),
        case(
            "te of trailers",
            &with("GET", &[("te", "trailers")]),
            None,
            Arrives("GET /one HTTP/1.1", &[]),
        ),
        case(
            "host and authority alike",
            &with("GET", &[("host", "a")]),
            None,
            Arrives("GET /one HTTP/1.1", &[("host", "a")]),
        ),
        case(
            "host alone",
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/one"),
                ("host", "b"),
            ],
            None,
            Arrives("GET /one HTTP/1.1", &[("host", "b")]),
        ),
        case(
            "crumbs of cookies",
            &with("GET", &[("cookie", "a=1"), ("cookie", "b=2")]),
            None,
            Arrives("GET /one HTTP/1.1", &[("cookie", "a=1; b=2")]),
        ),
    ]
}

fn cases() -> Vec<Case> {
    let named = |line: &Line| -> &'static str {
        format!("{}: {}", line.0.escape_debug(), line.1.escape_debug()).leak()
    };
    let fields = FIELDS
        .iter()
        .map(|line| case(named(line), &with("GET", &[*line]), None, Refused));
    let framing = FRAMING
        .iter()
        .map(|line| case(named(line), &with("POST", &[*line]), Some("foobar"), Refused));
    let pseudo = PSEUDO
        .iter()
        .map(|line| case(named(line), &but(line.0, line.1), None, Refused));
    let repeated = [
        (
            "two lengths",
            with("POST", &[("content-length", "6"), ("content-length", "6")]),
        ),
        (
            "two paths",
            [vec![(":path", "/smuggled")], with("GET", &[])].concat(),
        ),
        (
            "two methods",
            [vec![(":method", "POST")], with("GET", &[])].concat(),
        ),
        (
            "two authorities",
            [vec![(":authority", "b")], with("GET", &[])].concat(),
        ),
        ("two hosts", with("GET", &[("host", "a"), ("host", "b")])),
        (
            "a path behind the headers",
            with("GET", &[("x", "1"), (":path", "/smuggled")]),
        ),
        (
            "a protocol to extend CONNECT with",
            with("GET", &[(":protocol", "websocket")]),
        ),
        ("no authority and no host", with("GET", &[])[..3].to_vec()),
    ];
    let repeated = repeated
        .into_iter()
        .map(|(name, lines)| case(name, &lines, Some("foobar"), Refused));
    fields
        .chain(framing)
        .chain(pseudo)
        .chain(repeated)
        .chain(legal())
        .collect()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A text without Huffman's code. Source: RFC 7541 sections 5.1 and 5.2.
fn text(value: &str) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    let length = match length.checked_sub(127) {
        None => vec![length],
        Some(rest) => vec![127, rest],
    };
    [length, value.as_bytes().to_vec()].concat()
}

/// Headers that are not indexed. Source: RFC 7541 section 6.2.2.
fn head(lines: &[Line]) -> Vec<u8> {
    let line = |(name, value): &Line| [vec![0], text(name), text(value)].concat();
    lines.iter().flat_map(line).collect()
}

/// Sends a request, and reads until it is answered or reset, or the connection ends.
fn ask(to: SocketAddr, case: &Case) {
    let mut stream = connect(to);
    let end = if case.body.is_some() { 0 } else { END_STREAM };
    let mut bytes = [OPENING, &frame(HEADERS, END_HEADERS | end, 1, &head(&case.lines))].concat();
    if let Some(body) = &case.body {
        bytes.extend(frame(DATA, END_STREAM, 1, body.as_bytes()));
    }
    stream.write_all(&bytes).unwrap();
    while let Some((kind, flags, of)) = next(&mut stream) {
        const RST_STREAM: u8 = 3;
        let whole = [HEADERS, DATA].contains(&kind) && flags & END_STREAM != 0;
        if kind == GOAWAY || (of == 1 && (whole || kind == RST_STREAM)) {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// Kind, flags and stream of the next frame, unless there is none.
fn next(stream: &mut impl Read) -> Option<(u8, u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).ok()?;
    let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some((head[3], head[4], of))
}

fn says(request: &Received, line: &Line) -> bool {
    let mut lines = request.head.lines().filter_map(|line| line.split_once(": "));
    lines.any(|(name, value)| name.eq_ignore_ascii_case(line.0) && value == line.1)
}

#[test]
fn what_comes_by_http_2_is_one_honest_request_at_the_endpoint_or_none() {
    let endpoint = Recording::start();
    let proxy = Proxy::start_with(|users, admin| {
        format!(
            "{}listeners:\n  - name: web\n    address: \"{users}\"\n    http2: {{ enabled: true }}\n    routes: [{{ \
             cluster: shop }}]\n{}",
            preamble(admin),
            endpoint.clusters()
        )
    });
    let all = cases();
    assert!(all.len() >= 110, "{}", all.len());
    for case in &all {
        ask(proxy.users, case);
        assert_eq!(client::request(proxy.users, "GET", "/good", "").unwrap().0, 200);
        let mut arrived = Vec::new();
        for bytes in endpoint.take_each() {
            let said = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            assert!(
                case.body.is_some() || !said.contains("smuggled"),
                "{}: {said}",
                case.name
            );
            let (whole, rest) = requests(&bytes);
            // A body that is not as long as was said may have begun to arrive. It may not end.
            assert!(
                rest.is_empty() || matches!(case.ends, Refused),
                "{} left {said}",
                case.name
            );
            arrived.extend(whole);
        }
        let of_the_case: Vec<_> = arrived
            .iter()
            .filter(|one| one.line() != "GET /good HTTP/1.1")
            .collect();
        match (&case.ends, of_the_case[..].first()) {
            (Refused, None) => {}
            (Arrives(line, lines), Some(one)) => {
                assert_eq!((one.line(), of_the_case.len()), (*line, 1), "{}", case.name);
                assert!(
                    lines.iter().all(|line| says(one, line)),
                    "{}: {}",
                    case.name,
                    one.head
                );
                let body = case.body.as_deref().unwrap_or_default();
                assert_eq!(String::from_utf8_lossy(&one.body), body, "{}", case.name);
            }
            (_, one) => panic!("{}: {one:?} arrived", case.name),
        }
    }
}
