//! What the proxy answers by itself: redirects, texts, refusals, and failures of endpoints. Each answer says when it was
//! given, once; and which request it answers, where clients are to know.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::time::{SystemTime, UNIX_EPOCH};

use foreshade_tests::proxy::{Proxy, free_address, preamble};
use foreshade_tests::wire::{Scripted, connect, exchange};

/// One way to an answer of each kind: what is asked, and the status.
const ASKED: [(&str, u16); 5] = [
    ("GET /text", 200),
    ("GET /moved", 307),
    ("GET /elsewhere", 404),
    ("GET /a/%2e%2e;/b", 400),
    ("GET /dead", 502),
];

/// A proxy with one endpoint that lives, below `/shop`, and one that does not, below `/dead`.
fn proxy(alive: &str, listener: &str, more: &str) -> Proxy {
    let dead = free_address();
    Proxy::start_with(|users, admin| {
        format!(
            "{}{more}\nlisteners:\n  - name: web\n    address: {users}\n{listener}    routes:\n      \
             - {{ match: {{ path: {{ exact: /text }} }}, respond: {{ status: 200, body: hello }} }}\n      \
             - {{ match: {{ path: {{ exact: /moved }} }}, redirect: {{ path: /text }},\n          \
             responseHeaders: {{ add: [{{ name: date, value: yesterday }}] }} }}\n      \
             - {{ match: {{ path: {{ prefix: /shop }} }}, cluster: shop }}\n      \
             - {{ match: {{ path: {{ prefix: /dead }} }}, cluster: dead }}\n\
             clusters:\n  - name: shop\n    health: off\n    endpoints: [{{ name: a, address: \"{alive}\" }}]\n  \
             - name: dead\n    health: off\n    endpoints: [{{ name: a, address: \"{dead}\" }}]\n",
            preamble(admin)
        )
    })
}

fn ask(proxy: &Proxy, asked: &str, headers: &str) -> String {
    let request = format!("{asked} HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n");
    exchange(proxy.users, request.as_bytes())
}

fn status(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).unwrap_or_default();
    status.parse().unwrap_or_else(|_| panic!("no answer: {answer:?}"))
}

/// The values of a header.
fn values<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Seconds since 1970 of an `IMF-fixdate`, the only form that may be written. Source: RFC 9110 section 5.6.7.
fn seconds(date: &str) -> u64 {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const DAYS: &str = "ThuFriSatSunMonTueWed";
    let words: Vec<&str> = date.split([' ', ':']).collect();
    let number = |index: usize| words[index].parse::<u64>().unwrap();
    assert_eq!((words.len(), date.len(), words[7]), (8, 29, "GMT"), "{date}");
    let month = MONTHS.find(words[2]).unwrap() as u64 / 3;
    // Years begin in March here, so that the leap day is the last one.
    let (year, month) = if month < 2 {
        (number(3) - 1, month + 10)
    } else {
        (number(3), month - 2)
    };
    let days =
        year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + number(1) - 1 - 719_468;
    assert_eq!(DAYS.find(&words[0][..3]), Some((days % 7) as usize * 3), "{date}");
    ((days * 24 + number(4)) * 60 + number(5)) * 60 + number(6)
}

/// Asks, and holds the answer's date to the clock.
fn dated(what: &str, ask: impl FnOnce() -> String) -> String {
    let before = now();
    let answer = ask();
    let dates = values(&answer, "date");
    assert_eq!(dates.len(), 1, "{what}: {answer}");
    assert!((before..=now()).contains(&seconds(dates[0])), "{what}: {answer}");
    answer
}

#[test]
fn every_answer_says_once_when_it_was_given() {
    let endpoint = Scripted::start(|stream| {
        let answer = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\
            Connection: close\r\n\r\n";
        std::io::Write::write_all(stream, answer.as_bytes()).unwrap();
    });
    let proxy = proxy(&endpoint.address.to_string(), "", "");
    for (asked, expected) in ASKED.into_iter().chain([("GET /shop", 200)]) {
        let answer = dated(asked, || ask(&proxy, asked, ""));
        assert_eq!(status(&answer), expected, "{answer}");
    }
    // Before any engine saw them.
    for (asked, expected) in [
        ("GET /text HTTP/1.1\r\n\r\n", 400),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ] {
        let answer = dated(asked, || exchange(proxy.users, asked.as_bytes()));
        assert_eq!(status(&answer), expected, "{answer}");
    }
}

#[test]
fn who_is_not_let_in_is_told_when() {
    let limits = "    limits: { connections: 1 }\n";
    let mut proxy = proxy(&free_address().to_string(), limits, "");
    let _first = connect(proxy.users);
    proxy.wait_until("holding the first connection", |p| {
        p.metric("foreshade_connections_open") == Some(1.0)
    });
    let answer = dated("a second connection", || exchange(proxy.users, b""));
    assert_eq!(status(&answer), 503, "{answer}");
}

#[test]
fn every_answer_to_a_request_that_was_read_names_it_where_clients_are_to_know() {
    let more = "requestId: { make: true, toClient: true }";
    let proxy = proxy(&free_address().to_string(), "", more);
    for (asked, expected) in ASKED {
        let answer = ask(&proxy, asked, "X-Request-Id: mine-1\r\n");
        assert_eq!(status(&answer), expected, "{answer}");
        assert_eq!(values(&answer, "x-request-id"), ["mine-1"], "{answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(
            values(&answer, "content-length"),
            [body.len().to_string()],
            "{answer}"
        );

        let answer = ask(&proxy, asked, "");
        let made = values(&answer, "x-request-id");
        assert!(made.len() == 1 && made[0].len() == 32, "{answer}");
        if expected >= 400 {
            assert!(answer.ends_with(&format!(" (request {})\n", made[0])), "{answer}");
        }
    }
}

#[test]
fn no_answer_names_a_request_where_nobody_asked_for_it() {
    let proxy = proxy(&free_address().to_string(), "", "requestId: { make: true }");
    for (asked, _) in ASKED {
        let answer = ask(&proxy, asked, "X-Request-Id: mine-1\r\n");
        assert!(
            !answer.contains("mine-1") && !answer.contains("(request"),
            "{answer}"
        );
    }
}
