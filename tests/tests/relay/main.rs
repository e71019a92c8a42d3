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
mod both_directions;
mod endpoint;
mod everything;
mod generated;
mod large;
mod normal;
#[path = "../smuggling/passed.rs"]
#[expect(dead_code, reason = "here, only the bytes count")]
mod passed;
#[path = "../smuggling/refused.rs"]
#[expect(dead_code, reason = "here, only the bytes count")]
mod refused;
mod side;

use answers::ANSWERS;
use generated::connections;
use side::{Case, PLAIN, Side, same};

/// The last request of a connection.
fn last(line: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n{body}").into_bytes()
}

/// Every answer to a GET, a HEAD, a POST, and a POST in chunks, whose path begins with `before`.
fn every_answer(before: &str) -> impl Iterator<Item = Case> {
    let answers = ANSWERS.iter().enumerate();
    let answers = answers.filter(|(_, answer)| answer.name != STRICTER);
    answers.flat_map(move |(number, answer)| {
        let chunked = "Transfer-Encoding: chunked\r\n";
        [
            ("GET", "", ""),
            ("HEAD", "", ""),
            ("POST", "Content-Length: 5\r\n", "hello"),
            ("POST", chunked, "5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
        ]
        .map(|(method, fields, body)| {
            let bytes = last(&format!("{method} {before}/{number}"), fields, body);
            (
                format!("{} to {method} {fields:?}", answer.name),
                bytes,
                Vec::new(),
            )
        })
    })
}

#[test]
fn every_answer_is_passed_on_as_the_full_path_does() {
    same(PLAIN, every_answer(""));
}

/// An answer in a coding that nobody has asked for: the full path passes its head on, the relay takes it for no answer.
const STRICTER: &str = "unknown_coding";

#[test]
fn an_answer_whose_end_is_unclear_is_none_to_the_relay() {
    let number = ANSWERS.iter().position(|answer| answer.name == STRICTER).unwrap();
    let (_, answer) = Side::start(true, PLAIN).exchange(&last(&format!("GET /{number}"), "", ""), &[]);
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[test]
fn a_kept_connection_goes_on_behind_every_answer() {
    // An endpoint that closes unannounced races with the next request, on either path.
    let kept = ANSWERS.iter().enumerate().filter(|(_, answer)| !answer.close);
    same(
        PLAIN,
        kept.map(|(number, answer)| {
            let first = format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
            let both = [first, last("GET /0", "", "")].concat();
            (answer.name.to_owned(), both, Vec::new())
        }),
    );
}

#[test]
fn legal_requests_arrive_alike_in_whatever_pieces() {
    let cases = passed::passed().into_iter().flat_map(|case| {
        let bytes = case.bytes.into_bytes();
        let all = (1..bytes.len()).collect();
        [Vec::new(), vec![bytes.len() / 2], all].map(|cuts| (case.name.to_owned(), bytes.clone(), cuts))
    });
    same(PLAIN, cases);
}

#[test]
fn what_is_refused_is_refused_alike() {
    same(PLAIN, smuggled());
}

/// Every request of the corpus that must not pass.
fn smuggled() -> impl Iterator<Item = Case> {
    refused::refused()
        .into_iter()
        .map(|case| (case.name, case.bytes, Vec::new()))
}

/// Thousands of requests that nobody thought of, a few per connection.
#[test]
fn generated_requests_arrive_and_are_answered_alike() {
    same(PLAIN, connections(0x0e1a, 1_500, &[""]));
}
