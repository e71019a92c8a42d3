//! The relay and the full path are one proxy: whatever is sent through both, the endpoint receives the same, the client
//! receives the same, and the same is counted.
//!
//! What differs on purpose is taken out by [`normal`], and listed there: nothing else may.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod answers;
#[path = "../smuggling/passed.rs"]
#[expect(dead_code, reason = "here, only the bytes count")]
mod passed;
#[path = "../smuggling/refused.rs"]
#[expect(dead_code, reason = "here, only the bytes count")]
mod refused;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foreshade_bench::client;
use foreshade_tests::proxy::{PATIENCE, Proxy, preamble};
use foreshade_tests::wire::connect;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use answers::{ANSWERS, Answer};

/// An endpoint that keeps what it is sent, and answers by number: `/3/...` gets the answer with the index 3.
#[derive(Clone, Debug)]
struct Endpoint {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Endpoint {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
        };
        let serving = endpoint.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        endpoint
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut pending = Vec::new();
        let mut buffer = [0; 65_536];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            pending.extend_from_slice(&buffer[..n]);
            while let Some((head, length)) = whole(&pending) {
                let message: Vec<u8> = pending.drain(..length).collect();
                self.seen.lock().unwrap().extend(message);
                let answer = chosen(&head);
                // A HEAD is answered with a head, or what follows would be taken for another answer.
                let mut end = 0;
                while let Some(at) = find(&answer.bytes[end..], b"\r\n\r\n") {
                    let announces = answer.bytes[end..].starts_with(b"HTTP/1.1 1");
                    end += at + 4;
                    if !announces {
                        break;
                    }
                }
                let end = if end == 0 { answer.bytes.len() } else { end };
                let bytes = if head.starts_with("HEAD ") {
                    &answer.bytes[..end]
                } else {
                    answer.bytes
                };
                if stream.write_all(bytes).is_err() || answer.close {
                    return;
                }
            }
        }
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn chosen(head: &str) -> Answer {
    let number = head
        .split('/')
        .nth(1)
        .and_then(|rest| rest.split([' ', '?']).next());
    let number = number.and_then(|number| number.parse::<usize>().ok());
    ANSWERS[number.unwrap_or(0)]
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The head of the first message, and the length of all of it.
fn whole(bytes: &[u8]) -> Option<(String, usize)> {
    let end = find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let field = |name: &str| {
        let line = head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(name))?;
        Some(line[name.len()..].trim().to_owned())
    };
    let body = match (field("transfer-encoding:"), field("content-length:")) {
        (Some(_), _) => unchunked(&bytes[end..])?.1,
        (None, length) => length.map_or(0, |length| length.parse().unwrap()),
    };
    (bytes.len() >= end + body).then_some((head, end + body))
}

/// One of the two paths, with an endpoint of its own.
struct Side {
    endpoint: Endpoint,
    proxy: Proxy,
}

impl Side {
    fn start(relay: bool) -> Self {
        let endpoint = Endpoint::start();
        let proxy = Proxy::start_with(|users, admin| {
            format!(
                "{}listeners:\n  - name: web\n    address: {users}\n    relay: {relay}\n    routes:\n      \
                 - {{ cluster: shop }}\nclusters:\n  - name: shop\n    health: off\n    shift: {{ enabled: false }}\n    \
                 endpoints:\n      - {{ name: a, address: \"{}\" }}\n",
                preamble(admin),
                endpoint.address
            )
        });
        Self { endpoint, proxy }
    }

    /// What the endpoint and the client receive when these bytes are sent, in pieces that end at `cuts`, and nothing more.
    fn exchange(&self, bytes: &[u8], cuts: &[usize]) -> (String, String) {
        let mut stream = connect(self.proxy.users);
        stream.set_nodelay(true).unwrap();
        let mut from = 0;
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            if stream.write_all(&bytes[from..cut]).is_err() {
                break;
            }
            from = cut;
        }
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        // A reset ends it as well as an end does; what came before counts.
        let _ = stream.read_to_end(&mut answer);
        (normal(&self.endpoint.take()), normal(&answer))
    }

    /// What is counted of attempts and answers.
    fn counted(&self) -> Vec<String> {
        let (_, page) = client::request(self.proxy.admin, "GET", "/metrics", "").unwrap();
        let counts = [
            "foreshade_endpoint_attempts_total{",
            "foreshade_cluster_requests_total{",
            "foreshade_refused_total{",
        ];
        let lines = page
            .lines()
            .filter(|line| counts.iter().any(|name| line.starts_with(name)));
        // Their order is that in which they were first counted, by one worker or the other.
        let mut lines: Vec<_> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

/// Messages without what may differ between the paths:
/// - letters and order of header lines, which mean nothing (RFC 9110 section 5.1, 5.3); lines of one name keep theirs;
/// - spaces around values;
/// - `Date`: pingora writes its own over the endpoint's, the relay only where there is none;
/// - `Connection: keep-alive`, which says what HTTP/1.1 means anyway;
/// - how an answer without a length is delimited: pingora makes chunks of it, the relay closes;
/// - the words behind a status, which nobody reads (RFC 9112 section 4): pingora writes the usual ones.
fn normal(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut rest = bytes;
    while let Some(end) = find(rest, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let (first, lines) = head.split_once("\r\n").unwrap_or((&head, ""));
        let mut fields: Vec<(String, String)> = lines
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let chunked = fields.iter().any(|(name, _)| name == "transfer-encoding");
        let length = fields.iter().find(|(name, _)| name == "content-length");
        let length = length.and_then(|(_, value)| value.parse::<usize>().ok());
        let answers = first.starts_with("HTTP/");
        let status = first.split(' ').nth(1).unwrap_or_default();
        fields.retain(|(name, value)| {
            name != "date" && !(name == "connection" && value.eq_ignore_ascii_case("keep-alive"))
        });
        rest = &rest[end + 4..];
        let bodiless = answers && (status.starts_with('1') || matches!(status, "204" | "304"));
        let body = if bodiless {
            Vec::new()
        } else if chunked {
            let (body, length) = unchunked(rest).unwrap_or_else(|| (rest.to_vec(), rest.len()));
            rest = &rest[length..];
            body
        } else if let (true, None) = (answers, length) {
            std::mem::take(&mut rest).to_vec()
        } else {
            let length = length.unwrap_or(0).min(rest.len());
            let (body, after) = rest.split_at(length);
            rest = after;
            body.to_vec()
        };
        if answers && (chunked || length.is_none()) {
            fields.retain(|(name, value)| {
                name != "transfer-encoding" && !(name == "connection" && value == "close")
            });
        }
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        let first = if answers {
            format!("HTTP/1.1 {status}")
        } else {
            first.to_owned()
        };
        out.push_str(&format!(
            "{first} {fields:?} {}\n",
            String::from_utf8_lossy(&body)
        ));
    }
    out.push_str(&String::from_utf8_lossy(rest));
    out
}

/// The data of a chunked body, and its length with all that frames it; `None` where it has no end.
fn unchunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = find(bytes.get(at..)?, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[at..at + line]).ok()?, 16).ok()?;
        at += line + 2;
        body.extend_from_slice(bytes.get(at..at + size)?);
        at += size + 2;
        if size == 0 {
            return (at <= bytes.len()).then_some((body, at));
        }
    }
}

/// Sends everything through both paths, and wants the same of both.
fn same(cases: impl Iterator<Item = (String, Vec<u8>, Vec<usize>)>) {
    let (relay, full) = (Side::start(true), Side::start(false));
    let unused = relay.counted();
    let mut differences = String::new();
    for (name, bytes, cuts) in cases {
        let (relayed, passed) = (relay.exchange(&bytes, &cuts), full.exchange(&bytes, &cuts));
        if relayed != passed {
            let sent = bytes.escape_ascii();
            differences += &format!("{name}: {sent}\n  relay {relayed:?}\n  full  {passed:?}\n");
        }
    }
    assert!(differences.is_empty(), "{differences}");
    // Counters are read by a tick, and by none yet both are equal.
    let begun = Instant::now();
    let (mut relayed, mut passed) = (relay.counted(), full.counted());
    while (relayed != passed || relayed == unused) && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
        (relayed, passed) = (relay.counted(), full.counted());
    }
    assert_eq!(relayed, passed);
    assert_ne!(relayed, unused);
}

fn last(line: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n{body}").into_bytes()
}

#[test]
fn every_answer_is_passed_on_as_the_full_path_does() {
    let cases = ANSWERS.iter().enumerate().flat_map(|(number, answer)| {
        let line = |method: &str| format!("{method} /{number}");
        [
            (answer.name.to_owned(), last(&line("GET"), "", ""), Vec::new()),
            (
                format!("{} to HEAD", answer.name),
                last(&line("HEAD"), "", ""),
                Vec::new(),
            ),
            (
                format!("{} to POST", answer.name),
                last(&line("POST"), "Content-Length: 5\r\n", "hello"),
                Vec::new(),
            ),
        ]
    });
    same(cases.filter(|(name, ..)| !name.starts_with(STRICTER)));
}

/// An answer in a coding that nobody has asked for: the full path passes its head on, the relay takes it for no answer.
const STRICTER: &str = "unknown_coding";

#[test]
fn an_answer_whose_end_is_unclear_is_none_to_the_relay() {
    let number = ANSWERS.iter().position(|answer| answer.name == STRICTER).unwrap();
    let (_, answer) = Side::start(true).exchange(&last(&format!("GET /{number}"), "", ""), &[]);
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[test]
fn a_kept_connection_goes_on_behind_every_answer() {
    // An endpoint that closes unannounced races with the next request, on either path.
    let kept = ANSWERS.iter().enumerate().filter(|(_, answer)| !answer.close);
    same(kept.map(|(number, answer)| {
        let first = format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        let both = [first, last("GET /0", "", "")].concat();
        (answer.name.to_owned(), both, Vec::new())
    }));
}

#[test]
fn legal_requests_arrive_alike_in_whatever_pieces() {
    let cases = passed::passed().into_iter().flat_map(|case| {
        let bytes = case.bytes.into_bytes();
        let all = (1..bytes.len()).collect();
        [Vec::new(), vec![bytes.len() / 2], all].map(|cuts| (case.name.to_owned(), bytes.clone(), cuts))
    });
    same(cases);
}

#[test]
fn what_is_refused_is_refused_alike() {
    same(
        refused::refused()
            .into_iter()
            .map(|case| (case.name, case.bytes, Vec::new())),
    );
}

/// Thousands of requests that nobody thought of, a few per connection.
#[test]
fn generated_requests_arrive_and_are_answered_alike() {
    let mut rng = StdRng::seed_from_u64(0x0e1a);
    let cases = (0..60).map(move |number| {
        let count = rng.random_range(1..4);
        let mut bytes: Vec<u8> = (1..count).flat_map(|_| generated(&mut rng, false)).collect();
        bytes.extend(generated(&mut rng, true));
        let cuts = match rng.random_range(0..3) {
            0 => vec![rng.random_range(1..bytes.len())],
            _ => Vec::new(),
        };
        (format!("generated {number}"), bytes, cuts)
    });
    same(cases);
}

fn generated(rng: &mut StdRng, is_last: bool) -> Vec<u8> {
    let method = *["GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]
        .choose(rng)
        .unwrap();
    // Answers behind which a connection lives on in both paths.
    let number = rng.random_range(0..19);
    let path = *[
        "",
        "?a=b",
        "/a/b",
        "/%20",
        "/a%2Fb",
        "/./a",
        "/a//b",
        "/caf%C3%A9?q=\\",
        "/a;b=c",
    ]
    .choose(rng)
    .unwrap();
    let version = if rng.random_bool(0.03) {
        "HTTP/1.0"
    } else {
        "HTTP/1.1"
    };
    let mut head = format!("{method} /{number}{path} {version}\r\nHost: shop.example:8080\r\n");
    for _ in 0..rng.random_range(0..6) {
        head.push_str(FIELDS.choose(rng).unwrap());
        head.push_str("\r\n");
    }
    let body = "0123456789".repeat(rng.random_range(0..30));
    let has_body = matches!(method, "POST" | "PUT") || rng.random_bool(0.05);
    let chunked = has_body && version == "HTTP/1.1" && rng.random_bool(0.2);
    let body = match (has_body, chunked) {
        (false, _) => String::new(),
        (true, true) => {
            head.push_str("Transfer-Encoding: chunked\r\n");
            format!("{:x}\r\nx{body}\r\n0\r\n\r\n", body.len() + 1)
        }
        (true, false) => {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
            body
        }
    };
    if is_last {
        head.push_str("Connection: close\r\n");
    }
    format!("{head}\r\n{body}").into_bytes()
}

const FIELDS: &[&str] = &[
    "Accept: */*",
    "accept-encoding:gzip, br",
    "Cookie: a=1; b=2",
    "Cookie: c=3",
    "User-Agent:  Mozilla/5.0 (X11; Linux x86_64)  ",
    "X-Forwarded-For: 6.6.6.6",
    "X_Forwarded_Host: evil.example",
    "X-Real-IP: 6.6.6.6",
    "Forwarded: for=6.6.6.6",
    "X-Empty:",
    "x-very-long: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "X-Foreshade-Attempt: 2",
    "Idempotency-Key: 7",
    "TE: trailers",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "Upgrade-Insecure-Requests: 1",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "If-None-Match: \"a\"",
    "Range: bytes=0-1",
    "X-Name: caf\u{e9}",
];
