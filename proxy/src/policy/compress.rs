//! Answers of endpoints in fewer bytes, for clients that say that they can read them (RFC 9110 section 12.5.3).
//!
//! Decided in two steps. When the request is admitted it is known which coding it would get: the client's highest quality,
//! and of equals the one that is named first here. When the answer's head is there it is known whether the answer is worth
//! it, and whether it may be touched at all: never what is encoded already, a part of something, signed by a digest, or
//! marked `no-transform`. That answer is told from others by `Vary`, also where this client gets it as it is: a cache in
//! between has to know that there are several. A strong validator becomes a weak one, because it stood for other bytes.
//!
//! pingora brings a module for this; it ignores qualities, so that `gzip;q=0` gets gzip, holds back what an endpoint sends
//! piece by piece until there is enough of it, and does not end a stream of brotli. So only the codecs are taken, which are
//! in the tree with it.

mod accept;
mod encoder;

use std::sync::Arc;

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, RANGE, VARY,
};
use http::{HeaderName, HeaderValue};

pub use self::encoder::{ENCODERS_MAX, Encoder};
use crate::edit::Head;
use crate::fields::Fields;
use crate::policy::Policy;
use crate::request::RequestView;

/// Most kinds of answers that may be listed: a list is walked for each answer.
pub const TYPES_MAX: usize = 64;

/// What is compressed where no types are named: text in all of its forms, and the few other formats that are not packed
/// already.
pub const TYPES: [&str; 13] = [
    "text/*",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/wasm",
    "application/manifest+json",
    "application/vnd.ms-fontobject",
    "*+json",
    "*+xml",
    "font/ttf",
    "font/otf",
    "image/bmp",
    "image/x-icon",
];

/// What gRPC and its variant for browsers begin with.
const GRPC: &str = "application/grpc";

/// Digests of the very bytes: to change these is to break them (RFC 9530, and what came before it).
pub(super) const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// How an answer can be written in fewer bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952: every client can read it.
    Gzip,
    /// RFC 7932: smaller than gzip at the same price.
    Brotli,
    /// RFC 8878: faster than both.
    Zstd,
}

impl Coding {
    /// Its name in `Content-Encoding`, and the label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// How much is done for fewer bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// As little as makes a difference.
    Fast,
    /// What each codec's authors take for the middle, or a step below it.
    Balanced,
    /// Several times as much, for a tenth less.
    Small,
}

/// Which kinds of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeRule {
    /// Exactly this one, in lower case.
    Exact(String),
    /// All that begin so: `text/`.
    Family(String),
    /// All that are written so: `+json`.
    Suffix(String),
}

impl TypeRule {
    fn takes(&self, kind: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.eq_ignore_ascii_case(kind),
            Self::Family(family) => kind
                .get(..family.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(family)),
            Self::Suffix(suffix) => kind
                .len()
                .checked_sub(suffix.len())
                .and_then(|at| kind.get(at..))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix)),
        }
    }
}

/// What is compressed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// What is offered, the best first: of those that a client likes equally, the first is taken.
    pub codings: Vec<Coding>,
    /// How much is done.
    pub effort: Effort,
    /// Shorter answers are left as they are.
    pub bytes_min: u64,
    /// Which kinds of answers.
    pub types: Vec<TypeRule>,
}

/// Whether a listener or a route compresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compress {
    /// Not here, whatever the listener says.
    Off,
    /// So.
    By(Arc<Compression>),
}

/// What a request's answer is to become.
#[derive(Clone, Debug)]
pub struct Compressing {
    /// By which rule.
    pub by: Arc<Compression>,
    /// What the client gets it in; as it is where `None`.
    pub coding: Option<Coding>,
}

/// By which rule a route's answers are compressed: its own, or the listener's.
pub fn rule<'a>(listener: Option<&'a Policy>, route: Option<&'a Policy>) -> Option<&'a Arc<Compression>> {
    let says = |policy: &'a Policy| policy.compress.as_ref();
    match route.and_then(says).or_else(|| listener.and_then(says))? {
        Compress::Off => None,
        Compress::By(rule) => Some(rule),
    }
}

impl Compressing {
    /// What a request's answer is to become; `None` where answers are not compressed.
    pub fn of(listener: Option<&Policy>, route: Option<&Policy>, view: &RequestView<'_>) -> Option<Self> {
        let by = rule(listener, route)?;
        Some(Self {
            by: by.clone(),
            coding: by.coding(view),
        })
    }
}

impl Compression {
    /// What the answer to a request would be encoded with.
    pub fn coding(&self, view: &RequestView<'_>) -> Option<Coding> {
        // Who asks for a part of something means its bytes.
        if view.headers.contains(&RANGE) {
            return None;
        }
        accept::best(&self.codings, view.headers)
    }

    /// Whether an answer is one that clients get in different codings.
    pub fn varies(&self, status: u16, head: Fields<'_>) -> bool {
        // A page that has not changed is one of several, too; what it is, only the first answer has said.
        status == 304 || self.suits(status, head)
    }

    /// Whether an answer is worth it, and may be touched.
    fn suits(&self, status: u16, head: Fields<'_>) -> bool {
        let has_body = status >= 200 && !matches!(status, 204 | 205 | 206 | 304);
        let untouchable = |name: &HeaderName| head.contains(name);
        has_body
            && !untouchable(&CONTENT_ENCODING)
            && !untouchable(&CONTENT_RANGE)
            && !DIGESTS.iter().any(untouchable)
            && !head.all(&CACHE_CONTROL).any(says_no_transform)
            && self.is_long(head)
            && head
                .only(&CONTENT_TYPE)
                .is_some_and(|value| self.is_listed(value))
    }

    /// How long an answer is that comes piece by piece nobody knows: it may be worth it.
    fn is_long(&self, head: Fields<'_>) -> bool {
        let length = head.get(&CONTENT_LENGTH).map(std::str::from_utf8);
        let length = length.map(|text| text.ok()?.trim().parse::<u64>().ok());
        length.is_none_or(|length| length.is_some_and(|length| length >= self.bytes_min))
    }

    fn is_listed(&self, value: &[u8]) -> bool {
        let kind = value.split(|byte| *byte == b';').next().unwrap_or_default();
        let Ok(kind) = std::str::from_utf8(kind.trim_ascii()) else {
            return false;
        };
        // Calls say themselves how their messages are packed.
        let is_call = kind
            .get(..GRPC.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(GRPC));
        !is_call && self.types.iter().any(|rule| rule.takes(kind))
    }

    /// In a line.
    pub fn in_words(&self) -> String {
        let codings: Vec<_> = self.codings.iter().map(|coding| coding.label()).collect();
        let effort = match self.effort {
            Effort::Fast => "fast",
            Effort::Balanced => "balanced",
            Effort::Small => "small",
        };
        format!(
            "compresses answers from {} bytes on with {}, {effort}",
            self.bytes_min,
            codings.join(", ")
        )
    }
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is passed on as it is.
    None,
    /// There are others of it.
    Varies,
    /// It is encoded.
    Encoded(Coding),
}

impl Compressing {
    /// What becomes of an answer.
    pub fn change(&self, status: u16, head: Fields<'_>) -> Change {
        match (self.by.varies(status, head), self.coding) {
            (false, _) => Change::None,
            (true, Some(coding)) => Change::Encoded(coding),
            (true, None) => Change::Varies,
        }
    }
}

impl Change {
    /// Makes it in the head of an answer, whose lines are `came`: `Vary` is told, and where it is encoded that and what
    /// follows of it. 304 only has its validator changed: there is no body to be encoded.
    pub fn make(self, status: u16, came: Fields<'_>, head: &mut impl Head) {
        let Self::Encoded(coding) = self else {
            self.vary(came, head);
            return;
        };
        let tag = came.get(&ETAG).map(weakened);
        self.vary(came, head);
        match tag {
            Some(Some(tag)) => head.set(&ETAG, tag),
            // What is no validator stands for nothing.
            Some(None) => head.remove(&ETAG),
            None => {}
        }
        if status != 304 {
            head.remove(&CONTENT_LENGTH);
            head.remove(&ACCEPT_RANGES);
            head.set(&CONTENT_ENCODING, HeaderValue::from_static(coding.label()));
        }
    }

    fn vary(self, came: Fields<'_>, head: &mut impl Head) {
        let is_said = |value: &[u8]| {
            let mut names = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            names.any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"))
        };
        if self != Self::None && !came.all(&VARY).any(is_said) {
            head.add(&VARY, HeaderValue::from_static("accept-encoding"));
        }
    }
}

/// Whether a client that asks whether something has changed means its encoded form: the answer's validator is one
/// that it names, as it was told with that form. Any other stands for the very bytes, and a cache that were told a
/// weak one could resume no download with it any more.
pub fn knows_encoded(request: Fields<'_>, answer: Fields<'_>) -> bool {
    let Some(tag) = answer.get(&ETAG).and_then(weakened) else {
        return false;
    };
    let mut named = request
        .all(&IF_NONE_MATCH)
        .flat_map(|value| value.split(|byte| *byte == b','));
    named.any(|named| named.trim_ascii() == tag.as_bytes())
}

/// The same validator, for another form of the same thing; `None` for what is no validator. Source: RFC 9110 section 8.8.3.
fn weakened(tag: &[u8]) -> Option<HeaderValue> {
    match tag {
        [b'W', b'/', b'"', ..] => HeaderValue::from_bytes(tag).ok(),
        [b'"', .., b'"'] => HeaderValue::from_bytes(&[b"W/", tag].concat()).ok(),
        _ => None,
    }
}

fn says_no_transform(value: &[u8]) -> bool {
    let mut directives = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    directives.any(|directive| directive.eq_ignore_ascii_case(b"no-transform"))
}

#[cfg(test)]
mod tests;
