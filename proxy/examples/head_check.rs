//! Checks one usual head again and again, for callgrind: see `scripts/head-check`.

use std::hint::black_box;

use foreshade_proxy::framing::{HeadCheck, Limits};

/// Eight headers, 400 bytes: what a browser's request for an interface looks like.
const HEAD: &str = "GET /api/v1/items/4711?fields=name,price&lang=en HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: application/json, text/plain, */*\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://shop.example.com/items/4711\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789\r\n\r\n";

fn main() {
    let rounds: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
    let limits = Limits::default();
    let mut passed = 0;
    for _ in 0..rounds {
        let verdict = HeadCheck::default().advance(black_box(HEAD.as_bytes()), &limits);
        passed += u64::from(matches!(black_box(verdict), Ok(Some(_))));
    }
    assert_eq!(passed, rounds, "the head of {} bytes is well", HEAD.len());
}
