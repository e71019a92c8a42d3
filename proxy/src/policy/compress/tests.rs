//! What is worth it, what is told of it, and that any decoder gets back what the endpoint said, whatever the pieces.

use std::io::Read as _;

use http::HeaderMap;
use http::header::CACHE_CONTROL;
use proptest::prelude::*;

use super::*;

const CODINGS: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

fn rule() -> Compression {
    Compression {
        codings: CODINGS.to_vec(),
        effort: Effort::Balanced,
        bytes_min: 100,
        types: vec![
            TypeRule::Family("text/".to_owned()),
            TypeRule::Exact("application/json".to_owned()),
            TypeRule::Suffix("+json".to_owned()),
        ],
    }
}

fn head(lines: &[(HeaderName, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(name, HeaderValue::from_static(value));
    }
    map
}

fn suits(status: u16, lines: &[(HeaderName, &'static str)]) -> bool {
    rule().suits(status, Fields::from(&head(lines)))
}

#[test]
fn only_what_is_text_and_long_and_nobodys_to_keep_is_worth_it() {
    let html = (CONTENT_TYPE, "Text/HTML; charset=utf-8");
    assert!(suits(200, std::slice::from_ref(&html)), "of unknown length");
    assert!(suits(404, &[html.clone(), (CONTENT_LENGTH, "100")]));
    for (kind, listed) in [
        ("application/json", true),
        ("application/ld+json;a=b", true),
        ("application/jsonp", false),
        ("image/png", false),
        ("application/grpc+json", false),
        ("json", false),
        ("", false),
    ] {
        assert_eq!(suits(200, &[(CONTENT_TYPE, kind)]), listed, "{kind}");
    }
    for (name, value) in [
        (CONTENT_LENGTH, "99"),
        (CONTENT_LENGTH, "0"),
        (CONTENT_LENGTH, "x"),
        (CONTENT_ENCODING, "gzip"),
        (CONTENT_ENCODING, "identity"),
        (CONTENT_RANGE, "bytes 0-1/2"),
        (CACHE_CONTROL, "public, No-Transform"),
        (DIGESTS[0].clone(), "sha-256=:x:"),
        (CONTENT_TYPE, "text/plain"),
    ] {
        assert!(
            !suits(200, &[html.clone(), (name.clone(), value)]),
            "{name}: {value}"
        );
    }
    for status in [100, 101, 204, 205, 206, 304] {
        assert!(!suits(status, std::slice::from_ref(&html)), "{status}");
    }
}

#[test]
fn an_encoded_answer_says_so_and_promises_nothing_of_other_bytes() {
    let came = head(&[
        (CONTENT_TYPE, "text/html"),
        (CONTENT_LENGTH, "1000"),
        (ACCEPT_RANGES, "bytes"),
        (ETAG, "\"a\""),
        (VARY, "Origin"),
    ]);
    let mut told = came.clone();
    Change::Encoded(Coding::Brotli).make(200, Fields::from(&came), &mut told);
    let expected = head(&[
        (CONTENT_TYPE, "text/html"),
        (CONTENT_ENCODING, "br"),
        (ETAG, "W/\"a\""),
        (VARY, "Origin"),
        (VARY, "accept-encoding"),
    ]);
    assert_eq!(told, expected);
    let mut plain = came.clone();
    Change::Varies.make(200, Fields::from(&came), &mut plain);
    let mut expected = came.clone();
    expected.append(VARY, HeaderValue::from_static("accept-encoding"));
    assert_eq!(plain, expected, "who gets it as it is gets it as it is");
}

#[test]
fn what_has_not_changed_is_known_by_the_validator_that_the_client_has() {
    let came = head(&[(ETAG, "\"a\""), (VARY, "accept-ENCODING, cookie")]);
    let mut told = came.clone();
    Change::Encoded(Coding::Gzip).make(304, Fields::from(&came), &mut told);
    assert_eq!(
        told,
        head(&[(ETAG, "W/\"a\""), (VARY, "accept-ENCODING, cookie")])
    );
    for (tag, weak) in [
        ("W/\"a\"", Some("W/\"a\"")),
        ("a", None),
        ("\"", None),
        ("w/\"a\"", None),
    ] {
        assert_eq!(
            weakened(tag.as_bytes()),
            weak.map(HeaderValue::from_static),
            "{tag}"
        );
    }
}

#[test]
fn only_who_names_the_validator_of_the_encoded_form_means_that() {
    for (named, is_meant) in [
        ("W/\"a\"", true),
        ("\"b\", W/\"a\"", true),
        ("\"a\"", false),
        ("*", false),
        ("W/\"ab\"", false),
    ] {
        let request = head(&[(IF_NONE_MATCH, named)]);
        let answer = head(&[(ETAG, "\"a\"")]);
        let known = knows_encoded(Fields::from(&request), Fields::from(&answer));
        assert_eq!(known, is_meant, "{named}");
        assert!(!knows_encoded(Fields::from(&request), Fields::from(&head(&[]))));
    }
}

fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Coding::Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap()),
        Coding::Brotli => drop(
            brotli::Decompressor::new(bytes, 4096)
                .read_to_end(&mut out)
                .unwrap(),
        ),
        Coding::Zstd => out = zstd::decode_all(bytes).unwrap(),
    }
    out
}

/// What a client can read of the beginning of a body.
fn readable(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut piece = [0; 256];
    let mut reader: Box<dyn std::io::Read> = match coding {
        Coding::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
        Coding::Brotli => Box::new(brotli::Decompressor::new(bytes, 4096)),
        Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
    };
    while let Ok(n @ 1..) = reader.read(&mut piece) {
        out.extend_from_slice(&piece[..n]);
    }
    out
}

#[test]
fn what_was_flushed_can_be_read_before_the_end_comes() {
    for coding in CODINGS {
        let mut encoder = Encoder::new(coding, Effort::Small, &Arc::new(()))
            .unwrap()
            .unwrap();
        let mut sent = Vec::new();
        let mut said = Vec::new();
        for event in ["data: one\n\n", "data: two\n\n"] {
            sent.extend_from_slice(&encoder.encode(event.as_bytes()).unwrap());
            assert!(encoder.holds());
            sent.extend_from_slice(&encoder.flush().unwrap());
            assert!(!encoder.holds());
            said.extend_from_slice(event.as_bytes());
            assert_eq!(readable(coding, &sent), said, "{coding:?}");
        }
    }
}

#[test]
fn there_are_no_more_encoders_than_there_may_be() {
    let places = Arc::new(());
    let begin = || Encoder::new(Coding::Gzip, Effort::Fast, &places).unwrap();
    let mut all: Vec<_> = (0..ENCODERS_MAX).map(|_| begin().unwrap()).collect();
    assert!(begin().is_none());
    all.pop();
    assert!(begin().is_some());
}

proptest! {
    #[test]
    fn an_independent_decoder_gets_what_the_endpoint_said(
        pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..3000), any::<bool>()), 0..8),
        coding in prop::sample::select(CODINGS.to_vec()),
        effort in prop::sample::select(vec![Effort::Fast, Effort::Balanced, Effort::Small]),
    ) {
        let mut encoder = Encoder::new(coding, effort, &Arc::new(())).unwrap().unwrap();
        let (mut said, mut sent) = (Vec::new(), Vec::new());
        for (piece, flushed) in &pieces {
            said.extend_from_slice(piece);
            sent.extend_from_slice(&encoder.encode(piece).unwrap());
            if *flushed {
                sent.extend_from_slice(&encoder.flush().unwrap());
            }
        }
        let (last, counts) = encoder.finish().unwrap();
        sent.extend_from_slice(&last);
        prop_assert_eq!(counts, (said.len() as u64, sent.len() as u64));
        prop_assert_eq!(decoded(coding, &sent), said);
    }
}
