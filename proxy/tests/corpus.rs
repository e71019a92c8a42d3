//! The fuzzers' corpus, and a few thousand seeded edits of each of its files: what the fuzz targets do for hours, for a
//! second, without a tool. A crash that fuzzing finds becomes a file of the corpus, and then fails here, too.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod oracles;

use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Edits of each file.
const EDITS: usize = 2_000;

/// The files of one target.
fn files(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 4, "{target} has hardly any seeds");
    paths
        .into_iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// Changes a few bytes, or moves in a part of another file.
fn edited(file: &[u8], other: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..=bytes.len());
        let end = rng.random_range(at..=bytes.len().min(at + 8));
        match rng.random_range(0..4) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.insert(at, rng.random()),
            2 => bytes.insert(at, *b"\r\n\t :;0,/\0".get(rng.random_range(0..10)).unwrap()),
            _ => {
                let from = rng.random_range(0..=other.len());
                let to = rng.random_range(from..=other.len().min(from + 40));
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
        }
    }
    bytes
}

fn holds(target: &str, edits: usize, oracle: fn(&[u8])) {
    let files = files(target);
    let mut rng = StdRng::seed_from_u64(11);
    for file in &files {
        oracle(file);
        for _ in 0..edits {
            let other = &files[rng.random_range(0..files.len())];
            oracle(&edited(file, other, &mut rng));
        }
    }
}

#[test]
fn heads_get_one_verdict() {
    holds("framing_head", EDITS, oracles::framing_head);
}

#[test]
fn chunked_bodies_get_one_verdict() {
    holds("framing_chunked", EDITS, oracles::framing_chunked);
}

#[test]
fn configurations_are_whole_or_have_mistakes() {
    // Each costs a hundred times as much as one of the others.
    holds("config", EDITS / 40, oracles::config);
}

#[test]
fn load_reports_can_be_believed() {
    holds("orca", EDITS, oracles::orca);
}

#[test]
fn proxy_headers_get_one_verdict_and_are_told_as_they_were() {
    holds("proxy_protocol", EDITS, oracles::proxy_protocol);
}

#[test]
fn beginnings_of_tls_get_one_verdict_and_name_whom_a_server_would_see() {
    holds("client_hello", EDITS, oracles::client_hello);
}

#[test]
fn routes_are_found_as_by_walking() {
    // Many files, which fuzzing has found: an edit of each is an edit of nearly the same.
    holds("routing", EDITS / 200, oracles::routing);
}

#[test]
fn edited_heads_frame_as_before() {
    holds("edits", EDITS / 200, oracles::edits);
}

#[test]
fn relayed_requests_are_what_came() {
    holds("relay_request", EDITS, oracles::relay_request);
}

#[test]
fn relayed_answers_are_what_came() {
    holds("relay_answer", EDITS, oracles::relay_answer);
}
