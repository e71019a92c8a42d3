//! Nothing that can be read in two ways reaches an endpoint, however it is cut; what is legal does, one request after the
//! other, whole and alone.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod http2;
mod passed;
mod refused;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::SocketAddr;

use foreshade_bench::client;
use foreshade_tests::proxy::Proxy;
use foreshade_tests::recording::{Recording, requests};
use foreshade_tests::wire::connect;

use foreshade_proxy::framing::Refusal;
use passed::passed;
use refused::{Refused, refused};

/// Shown in `limits`, `tls` and `http2`: what is refused for its time, its size, its neighbours, its port or its protocol.
const ELSEWHERE: [Refusal; 20] = [
    Refusal::Base64,
    Refusal::ConnectionField,
    Refusal::FieldValue,
    Refusal::Http2Protocol,
    Refusal::Http2Flood,
    Refusal::PlainHttp,
    Refusal::HeadSlow,
    Refusal::BodySlow,
    Refusal::AnswerSlow,
    Refusal::BodyTooLarge,
    Refusal::TargetTooLong,
    Refusal::HeadTooLarge,
    Refusal::FieldsTooMany,
    Refusal::ConnectionsTooMany,
    Refusal::ClientConnectionsTooMany,
    Refusal::PathEscape,
    Refusal::PathNul,
    Refusal::PathEncodedSlash,
    Refusal::PathDots,
    Refusal::PathRewrite,
];

/// Sends `bytes` in pieces that end at `cuts`, and reads to the end of the connection, which has to be an orderly one.
fn exchange(to: SocketAddr, bytes: &[u8], cuts: &[usize]) -> String {
    let mut stream = connect(to);
    stream.set_nodelay(true).unwrap();
    let mut from = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        // The answer may be there before everything is sent.
        if stream.write_all(&bytes[from..cut]).is_err() {
            break;
        }
        from = cut;
    }
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .expect("the connection is closed, and not reset");
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
}

/// Sends each case, cut as `cuts` says, and shows what arrived at the endpoint to `arrived`.
fn all_are_refused(cuts: impl Fn(&Refused) -> Vec<usize>, arrived: impl Fn(&Refused, &[u8])) {
    let endpoint = Recording::start();
    let mut proxy = Proxy::start(&endpoint.clusters());
    let mut reasons: HashMap<String, u64> = HashMap::new();
    for case in refused() {
        let answer = exchange(proxy.users, &case.bytes, &cuts(&case));
        assert_eq!(
            status(&answer),
            case.status,
            "{} was answered {answer:?}",
            case.name
        );
        assert!(
            answer.contains("\r\nConnection: close\r\n"),
            "{}: {answer}",
            case.name
        );
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1 + usize::from(case.status == 505),
            "{}: {answer}",
            case.name
        );
        for connection in endpoint.take_whole() {
            arrived(&case, &connection);
        }
        *reasons.entry(case.reason).or_default() += 1;
    }
    assert_eq!(client::request(proxy.users, "GET", "/last", "").unwrap().0, 200);
    let bytes = endpoint.take();
    let (seen, rest) = requests(&bytes);
    assert_eq!((seen.len(), rest.len()), (1, 0), "only the good one arrives");
    proxy.wait_until("aware of all refusals", |p| {
        reasons.iter().all(|(reason, n)| p.refused(reason) == *n)
    });
}

#[test]
fn there_are_more_than_a_hundred_and_twenty_cases_of_every_reason() {
    let cases = refused();
    assert!(cases.len() >= 120, "{}", cases.len());
    let names: std::collections::HashSet<_> = cases.iter().map(|c| &c.name).collect();
    assert_eq!(names.len(), cases.len(), "each has a name of its own");
    // What nobody is told in HTTP is no request's fault.
    let told = Refusal::ALL.iter().filter(|refusal| refusal.status() > 0);
    for refusal in told.filter(|refusal| !ELSEWHERE.contains(refusal)) {
        let with = cases.iter().filter(|c| c.reason == refusal.label());
        assert!(with.clone().count() > 0, "{} has no case", refusal.label());
        assert!(with.clone().all(|c| c.status == refusal.status()));
    }
}

#[test]
fn what_is_refused_reaches_nobody() {
    all_are_refused(
        |_| Vec::new(),
        |case, arrived| assert_eq!(String::from_utf8_lossy(arrived), "", "{} arrived", case.name),
    );
}

/// In pieces, a bad chunk comes behind a good head, so the head may arrive, and good chunks before it; an end may not.
fn is_harmless(case: &Refused, arrived: &[u8]) {
    let text = String::from_utf8_lossy(arrived);
    assert!(!text.contains("smuggled"), "{}: {text}", case.name);
    let (whole, _) = requests(arrived);
    assert_eq!(whole, [], "{} arrived as whole", case.name);
}

#[test]
fn what_is_refused_is_refused_in_two_halves_too() {
    all_are_refused(|case| vec![case.bytes.len() / 2], is_harmless);
}

#[test]
fn what_is_refused_is_refused_when_each_line_is_cut_between_cr_and_lf() {
    let inside = |case: &Refused| {
        (1..case.bytes.len())
            .filter(|at| case.bytes[at - 1] == b'\r')
            .collect()
    };
    all_are_refused(inside, is_harmless);
}

#[test]
fn what_is_refused_is_refused_byte_by_byte_too() {
    all_are_refused(|case| (1..case.bytes.len()).collect(), is_harmless);
}

#[test]
fn what_is_legal_arrives_as_it_was_meant_and_in_order() {
    let endpoint = Recording::start();
    let proxy = Proxy::start(&endpoint.clusters());
    for case in passed() {
        for cuts in [
            Vec::new(),
            vec![case.bytes.len() / 2],
            (1..case.bytes.len()).collect(),
        ] {
            let answer = exchange(proxy.users, case.bytes.as_bytes(), &cuts);
            let ok = answer.matches("HTTP/1.1 200 ").count();
            assert_eq!(ok, case.requests.len(), "{} was answered {answer:?}", case.name);
            let bytes = endpoint.take();
            let (seen, rest) = requests(&bytes);
            assert!(
                rest.is_empty(),
                "{} left {:?}",
                case.name,
                String::from_utf8_lossy(rest)
            );
            let seen: Vec<_> = seen
                .iter()
                .map(|r| (r.line().to_owned(), String::from_utf8_lossy(&r.body).into_owned()))
                .collect();
            assert_eq!(seen, case.requests, "{}", case.name);
        }
    }
}
