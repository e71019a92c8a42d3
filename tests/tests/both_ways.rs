//! A plain request takes a shorter way through the full path than one that is not; nobody outside can tell which it was.
//!
//! Each case is asked twice, of two proxies that have seen nothing else: once plain, and once with a header that belongs
//! to the connection and is not passed on, which alone sends it the long way. The relay, which would serve the plain one,
//! is off; `relay` compares it with both.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write;
use std::net::Shutdown;

use foreshade_tests::proxy::Proxy;
use foreshade_tests::wire::{Scripted, exchange};

/// Not passed on, and not for the short way.
const LONG: &str = "TE: trailers\r\n";

/// What the endpoint was asked in each of its connections, and what the client was told, without the time of day.
fn asked(method: &str, answer: &'static str, more: &str) -> (Vec<Vec<String>>, Vec<String>) {
    let endpoint = Scripted::start(move |stream| {
        // A client that was given up may have closed.
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
    });
    let proxy = Proxy::start(&format!(
        "relay: false\nclusters:\n  - name: shop\n    health: off\n    endpoints:\n      - {{ name: a, address: \"{}\" }}\n",
        endpoint.address
    ));
    let request = format!("{method} /a?b=c HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nConnection: close\r\n{more}\r\n");
    let told = exchange(proxy.users, request.as_bytes());
    let heads = std::iter::from_fn(|| endpoint.head_so_far());
    (heads.map(|head| lines(&head)).collect(), lines(&told))
}

/// Sorted, because taking a header out moves another one into its place.
fn lines(text: &str) -> Vec<String> {
    let lines = text.split("\r\n").filter(|line| !line.starts_with("Date: "));
    let mut lines: Vec<_> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The status that both ways led to.
fn both(method: &str, answer: &'static str) -> String {
    let (short, long) = (asked(method, answer, ""), asked(method, answer, LONG));
    assert_eq!(short, long, "{method} {answer:?}");
    let told = short.1.iter().find(|line| line.starts_with("HTTP/1.1 "));
    told.map(|line| line[9..12].to_owned()).unwrap_or_default()
}

#[test]
fn a_sound_answer_is_the_same_however_it_is_framed() {
    for (method, answer, status) in [
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-B: 2\r\n\r\ndone",
            "200",
        ),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200"),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndone\r\n0\r\n\r\n",
            "200",
        ),
        ("GET", "HTTP/1.1 200 OK\r\n\r\nuntil the end", "200"),
        ("GET", "HTTP/1.0 200 OK\r\n\r\nuntil the end", "200"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "200"),
        ("OPTIONS", "HTTP/1.1 204 No Content\r\n\r\n", "204"),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n",
            "304",
        ),
        (
            "DELETE",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone",
            "404",
        ),
    ] {
        assert_eq!(both(method, answer), status, "{method} {answer:?}");
    }
}

#[test]
fn what_comes_before_an_answer_passes_both_ways() {
    let hints =
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone";
    let (_, told) = asked("GET", hints, "");
    assert!(told.contains(&"HTTP/1.1 103 Early Hints".to_owned()), "{told:?}");
    assert!(told.contains(&"done".to_owned()), "{told:?}");
    assert_eq!(both("GET", hints), "103");
}

#[test]
fn an_answer_that_is_none_fails_both_ways_alike() {
    for answer in [
        "",
        "HTTP/1.1 200 O",
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\ndone!",
    ] {
        assert_eq!(both("GET", answer), "502", "{answer:?}");
    }
}

/// pingora's way passes it on, and its client waits for what never comes.
#[test]
fn an_upgrade_that_nobody_asked_for_is_no_answer_on_the_short_way() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (_, told) = asked("GET", answer, "");
    assert!(
        told.iter().any(|line| line.starts_with("HTTP/1.1 502 ")),
        "{told:?}"
    );
}

#[test]
fn an_answer_that_breaks_off_breaks_off_both_ways() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        assert_eq!(both("GET", answer), "200", "{answer:?}");
        let (_, told) = asked("GET", answer, "");
        assert!(told.contains(&"half".to_owned()), "{told:?}");
        assert!(!told.contains(&"0".to_owned()), "{told:?} has no end");
    }
}
