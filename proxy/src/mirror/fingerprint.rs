//! What is kept of an answer: enough to tell whether another one is the same, and no more.
//!
//! Status, a hash per header, length and digest of the body (XXH3, 64 bits: chance collisions do not matter here, and
//! nobody gains by a made one). Bodies in JSON that are small enough are held until the comparison, so that it can name
//! the fields that differ; they never leave it.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, StatusCode};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::limits::{Held, Limits};

/// Longest JSON body that is compared by field. Longer ones are compared as a whole.
const JSON_BYTES_MAX: usize = 64 * 1024;

/// Headers of an answer that are compared.
const HEADERS_MAX: usize = 64;

/// An answer that passes.
pub(super) struct Recording {
    status: StatusCode,
    headers: Vec<(HeaderName, u64)>,
    retry_after: bool,
    bytes: u64,
    digest: Xxh3Default,
    json: Option<Vec<Held>>,
    limits: Arc<Limits>,
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording")
            .field("status", &self.status)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// An answer that has passed.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Whether it said when to come again.
    pub(super) retry_after: bool,
    /// By name, each once.
    pub(super) headers: Vec<(HeaderName, u64)>,
    pub(super) bytes: u64,
    pub(super) digest: u64,
    json: Option<Vec<Held>>,
}

impl Recording {
    pub(super) fn new(status: StatusCode, headers: &HeaderMap, limits: &Arc<Limits>) -> Self {
        let mut kept: Vec<(HeaderName, u64)> = Vec::with_capacity(headers.keys_len().min(HEADERS_MAX));
        for (name, value) in headers {
            let hash = xxh3_64(value.as_bytes());
            // All values of one name stand together.
            if let Some((_, so_far)) = kept.last_mut().filter(|(last, _)| last == name) {
                *so_far = so_far.rotate_left(1) ^ hash;
            } else if kept.len() < HEADERS_MAX {
                kept.push((name.clone(), hash));
            }
        }
        Self {
            status,
            headers: kept,
            retry_after: headers.contains_key(RETRY_AFTER),
            bytes: 0,
            digest: Xxh3Default::new(),
            json: is_plain_json(headers).then(Vec::new),
            limits: limits.clone(),
        }
    }

    /// A piece of the body passes.
    pub(super) fn piece(&mut self, piece: &Bytes) {
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        self.digest.update(piece);
        if let Some(pieces) = &mut self.json {
            let held = (self.bytes <= JSON_BYTES_MAX as u64)
                .then(|| Held::new(piece.clone(), &self.limits))
                .flatten();
            match held {
                Some(held) => pieces.push(held),
                None => self.json = None,
            }
        }
    }

    /// The answer is complete.
    pub(super) fn finish(mut self) -> Answer {
        self.headers.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        Answer {
            status: self.status.as_u16(),
            retry_after: self.retry_after,
            headers: self.headers,
            bytes: self.bytes,
            digest: self.digest.digest(),
            json: self.json,
        }
    }
}

impl Answer {
    /// The body as JSON, if it is, and was small enough.
    pub(super) fn json(&self) -> Option<serde_json::Value> {
        let mut text = Vec::new();
        self.json
            .as_ref()?
            .iter()
            .for_each(|piece| text.extend_from_slice(piece.chunk()));
        serde_json::from_slice(&text).ok()
    }
}

/// Source of the suffix: RFC 6839 section 3.1.
fn is_plain_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    essence.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json") || kind.ends_with("+json"))
        && !headers.contains_key(CONTENT_ENCODING)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::mirror) fn answer(status: u16, headers: &[(&str, &str)], pieces: &[&str]) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let mut recording = Recording::new(status, &map, &Arc::default());
        pieces
            .iter()
            .for_each(|piece| recording.piece(&Bytes::copy_from_slice(piece.as_bytes())));
        recording.finish()
    }

    #[test]
    fn the_same_bytes_have_the_same_digest_however_they_come() {
        let whole = answer(200, &[], &["abcdef"]);
        let parts = answer(200, &[], &["ab", "", "cdef"]);
        assert_eq!((whole.bytes, whole.digest), (parts.bytes, parts.digest));
        assert_ne!(whole.digest, answer(200, &[], &["abcdeg"]).digest);
    }

    #[test]
    fn all_values_of_a_header_count_in_their_order() {
        let of = |headers: &[(&str, &str)]| answer(200, headers, &[]).headers;
        let both = of(&[("x-a", "1"), ("b", "0"), ("x-a", "2")]);
        assert_eq!(both.len(), 2);
        assert_ne!(both, of(&[("x-a", "2"), ("b", "0"), ("x-a", "1")]));
        assert_eq!(both, of(&[("b", "0"), ("x-a", "1"), ("x-a", "2")]));
    }

    #[test]
    fn json_is_kept_if_it_is_plain_and_small_and_there_is_room() {
        let json = ("Content-Type", "application/json; charset=utf-8");
        assert!(answer(200, &[json], &["{\"a\":", "1}"]).json().is_some());
        assert!(
            answer(200, &[("content-type", "application/problem+json")], &["1"])
                .json()
                .is_some()
        );
        assert!(answer(200, &[json], &["{"]).json().is_none());
        assert!(
            answer(200, &[("content-type", "text/html")], &["1"])
                .json()
                .is_none()
        );
        assert!(
            answer(200, &[json, ("content-encoding", "gzip")], &["1"])
                .json()
                .is_none()
        );
        let long = format!("\"{}\"", "x".repeat(JSON_BYTES_MAX));
        assert!(answer(200, &[json], &[&long]).json().is_none());
    }
}
