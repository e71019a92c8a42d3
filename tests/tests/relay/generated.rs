//! Requests that nobody thought of.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::side::Case;

/// So many connections with one to three requests each, below one of these `roots`.
pub(crate) fn connections(
    seed: u64,
    count: usize,
    roots: &'static [&'static str],
) -> impl Iterator<Item = Case> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..count).map(move |number| {
        let requests = rng.random_range(1..4);
        let mut bytes: Vec<u8> = (1..requests)
            .flat_map(|_| generated(&mut rng, roots, false))
            .collect();
        bytes.extend(generated(&mut rng, roots, true));
        // An answer of the proxy's own closes where the end of the chunks has not come yet, which a cut leaves to chance.
        let is_chunked = foreshade_tests::wire::find(&bytes, b"chunked").is_some();
        let cuts = match rng.random_range(0..3) {
            0 if !is_chunked => vec![rng.random_range(1..bytes.len())],
            _ => Vec::new(),
        };
        (format!("generated {number}"), bytes, cuts)
    })
}

fn generated(rng: &mut StdRng, roots: &[&str], is_last: bool) -> Vec<u8> {
    let root = *roots.choose(rng).unwrap();
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
    let mut head = format!("{method} {root}/{number}{path} {version}\r\nHost: shop.example:8080\r\n");
    for _ in 0..rng.random_range(0..6) {
        head.push_str(FIELDS.choose(rng).unwrap());
        head.push_str("\r\n");
    }
    // Now and then more than is kept for another attempt.
    let most = if rng.random_bool(0.02) { 20_000 } else { 30 };
    let body = "0123456789".repeat(rng.random_range(0..most));
    let has_body = matches!(method, "POST" | "PUT") || rng.random_bool(0.05);
    let chunked = has_body && version == "HTTP/1.1" && rng.random_bool(0.2);
    let body = match (has_body, chunked) {
        (false, _) => String::new(),
        (true, true) => {
            head.push_str("Transfer-Encoding: chunked\r\n");
            let (size, extension) = (body.len() + 1, *["", ";a", ";b=\"c\""].choose(rng).unwrap());
            let trailers = *["", "", "X-Sum: 1\r\n"].choose(rng).unwrap();
            format!("1{extension}\r\n-\r\n{size:x}\r\nx{body}\r\n0\r\n{trailers}\r\n")
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
