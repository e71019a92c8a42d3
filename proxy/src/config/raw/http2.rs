//! The keys of HTTP/2 to endpoints: that it is spoken, within which bounds, and how its servers are asked for their health.

use foreshade_settings::{Count, Lasting, choice, seconds, section};

use crate::config::text::{Authority, Content};

/// What endpoints are asked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Spoken {
    Http1,
    Http2,
}

choice!(Spoken: "http1" Http1, "http2" Http2);

section! {
    /// HTTP/2 to the endpoints of a cluster.
    EndpointHttp2 "an http2 section of a cluster":
    /// Requests of one connection that may be under way at a time; fewer where the endpoint says so. Beyond: another
    /// connection.
    streams "streams": default Count<1, 1000> = Count(100);
    /// How long a call of gRPC may rest: without a message in either direction, and without an end.
    rest "streamIdleTimeout": default Lasting<1_000, 86_400_000> = seconds(300);
}

section! {
    /// A probe by the health service of gRPC.
    GrpcProbe "a grpc probe":
    /// The service that is asked for; the server as a whole where left out.
    service "service": optional Content;
    /// Value of :authority; the endpoint's address where left out.
    host "host": optional Authority;
}
