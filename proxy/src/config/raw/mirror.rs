//! The keys of a mirror: which requests are copied, where the copies go, and what bounds them.

use foreshade_settings::{At, Count, List, Part, Rate, Reference, Scalar, Shown, Wrong, seconds, section};
use serde_json::{Value as Json, json};

use super::Limit;
use crate::config::limits::Size;
use crate::config::text::Header;

// Concept: store-stream
section! {
    /// Copies of requests whose answers no user sees.
    Mirror "a mirror":
    /// Where the copies go: the name of another cluster, or shadow for the shadow of the endpoint that serves the request.
    target "target": required At<Reference>;
    /// Share of the safe requests (GET, HEAD, OPTIONS) that is copied.
    share "share": required Part;
    /// Most copies per second, writes included; no limit where left out.
    rate "rate": optional Rate;
    /// Copies of requests that write (POST, PUT, PATCH, DELETE); none where left out.
    writes "writes": optional Writes;
    /// Share of the copies of safe requests that goes to a primary of the route's own cluster instead, to learn what
    /// differs between two good answers; off for none.
    noise "noise": default Noise = Noise::Share(Part(0.05));
    /// How long the target may take: for the next piece of a request's body, and from there to the last byte of its answer.
    timeout "timeout": default Limit = seconds(5);
    /// Most copies under way at a time.
    concurrency "concurrency": default Count<1, 1024> = Count(64);
    /// Longest body of a request that is copied. Bodies are streamed, so this does not cost memory.
    body_max "bodyMax": default Size<0, 0x4000_0000> = Size(16 * 1024 * 1024);
    /// Headers that are sent with a copy although they are withheld otherwise: authorization, cookie and their like.
    keep_headers "keepHeaders": list List<Header, 0>;
}

section! {
    /// Copies of requests that write.
    Writes "a writes section":
    /// Share of them that is copied. Each copy has its effect a second time, at the target.
    share "share": required Part;
}

/// Whether noise is learned, and from how much.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) enum Noise {
    Off,
    Share(Part),
}

impl Scalar for Noise {
    fn expected() -> String {
        format!("off, or {}", Part::expected())
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "off" => Ok(Self::Off),
            _ => Part::parse(text).map(Self::Share),
        }
    }

    fn schema() -> Json {
        json!({ "anyOf": [{ "enum": ["off"] }, <Part as Scalar>::schema()] })
    }
}

impl Shown for Noise {
    fn shown(&self) -> Json {
        match self {
            Self::Off => "off".into(),
            Self::Share(part) => part.shown(),
        }
    }
}
