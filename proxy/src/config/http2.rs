//! A cluster whose endpoints are asked in HTTP/2: within which bounds, and what must not ask them otherwise.

use std::time::Duration;

use foreshade_settings::{Mistake, Mistakes, Section as _};

use super::raw;

/// How endpoints are asked in HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2 {
    /// Most requests of one connection that are under way at a time.
    pub streams: usize,
    /// How long a call of gRPC may rest.
    pub rest: Duration,
}

/// How the endpoints of a cluster are asked; `None` for HTTP/1.1.
pub(super) fn http2(raw: &raw::Cluster, mistakes: &mut Mistakes) -> Option<Http2> {
    if raw.protocol == raw::Spoken::Http2 {
        let unwritten = raw::EndpointHttp2::unwritten();
        let keys = raw.http2.as_ref().map_or(&unwritten, |keys| &keys.value);
        return Some(Http2 {
            streams: usize::try_from(keys.streams.0).unwrap_or(usize::MAX),
            rest: keys.rest.0,
        });
    }
    if let Some(keys) = &raw.http2 {
        let what = "http2: the endpoints of this cluster are asked in HTTP/1.1";
        mistakes
            .add(Mistake::at(keys.place(), what).expected("protocol: http2 beside it, or no http2 section"));
    }
    if let raw::Health::On(probes) = &raw.health.value
        && let Some(probe) = &probes.grpc
    {
        let what = "grpc: the endpoints of this cluster are asked in HTTP/1.1, which gRPC does not speak";
        mistakes.add(
            Mistake::at(probe.place(), what).expected("protocol: http2 in the cluster, or another probe"),
        );
    }
    None
}
