//! From a request to its user, its segment and its route class: everything that decides when it changes sides.
//!
//! A user is recognised by a header, a cookie or the address, as the cluster says, so that all requests of one user move
//! together and once. Never by chance per request: that would bounce every user between two sides.

use std::net::IpAddr;

use foreshade_engine::balance::Request;
use foreshade_engine::cohort::Cohort;
use foreshade_engine::failover::{ATTEMPTS_MAX_NEVER_SENT, ServerErrors, is_idempotent};
use foreshade_engine::outcome::RouteClass;
use http::HeaderName;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{Cluster, CohortKey, Segment, SegmentRule};
use crate::request::RequestView;
use crate::route::Route;

/// Tells the next proxy that a request has been tried before.
pub const ATTEMPT_HEADER: HeaderName = HeaderName::from_static("x-foreshade-attempt");

/// Tells a server to act on a request once, however often it comes.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What the engine needs to know of a request to choose its endpoint.
pub fn request(view: &RequestView<'_>, route: &Route, cluster: &Cluster) -> Request {
    Request {
        cohort: cohort(view, &cluster.cohort),
        class: route_class(view),
        segment: segment(view, &cluster.segments),
        repeatable: is_repeatable(view, route),
        attempts_max: route.attempts_max,
        retry_on: route.retry_on,
        stick: None,
    }
}

/// What the engine needs to know of a connection that is only carried. Nothing of it can be read, so its user is his
/// address, in no segment. Doubtful endpoints are not tried with it: where it has begun it stays.
pub fn connection(client: IpAddr, class: RouteClass) -> Request {
    Request {
        cohort: by_address(client.to_canonical()),
        class,
        segment: None,
        repeatable: false,
        attempts_max: ATTEMPTS_MAX_NEVER_SENT,
        retry_on: ServerErrors::NONE,
        stick: None,
    }
}

/// Whether repeating the request does no harm, and is for this proxy to do: a request that a proxy before this one has
/// repeated already is left to it, because retries on two layers multiply. A route that allows one attempt repeats nothing:
/// its requests are no probes of doubtful endpoints, and wait for the route's timeout, not for the endpoint's usual time.
fn is_repeatable(view: &RequestView<'_>, route: &Route) -> bool {
    let harmless = route.idempotent || is_idempotent(view.method) || view.headers.contains(&IDEMPOTENCY_KEY);
    harmless && route.attempts_max > 1 && !view.headers.contains(&ATTEMPT_HEADER)
}

// Concept: endpoint-gradual-shift
fn cohort(view: &RequestView<'_>, key: &CohortKey) -> Cohort {
    let named = match key {
        CohortKey::ClientAddress => None,
        CohortKey::Header(name) => view.header(name),
        CohortKey::Cookie(name) => view.cookie(name),
    };
    match (named, view.client) {
        (Some(bytes), _) => Cohort::of_key(bytes),
        (None, Some(address)) => by_address(address),
        (None, None) => Cohort::of_key(b""),
    }
}

fn by_address(address: IpAddr) -> Cohort {
    match address {
        IpAddr::V4(ip) => Cohort::of_key(&ip.octets()),
        IpAddr::V6(ip) => Cohort::of_key(&ip.octets()),
    }
}

/// Route classes tell first path segments apart. Not methods: writes are few, and a class that sees few requests is
/// judged late.
fn route_class(view: &RequestView<'_>) -> RouteClass {
    // Over bytes: searching for characters costs several times as much.
    let path = view.path.as_bytes();
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
    RouteClass::of_hash(xxh3_64(path.get(..end).unwrap_or_default()))
}

// Concept: endpoint-shift-groups
fn segment(view: &RequestView<'_>, segments: &[Segment]) -> Option<usize> {
    segments
        .iter()
        .position(|s| s.rules.iter().all(|rule| holds(view, rule)))
}

fn holds(view: &RequestView<'_>, rule: &SegmentRule) -> bool {
    match rule {
        SegmentRule::Header { name, value } => view.header(name) == Some(value.as_bytes()),
        SegmentRule::Cookie { name, value } => view.cookie(name) == Some(value.as_bytes()),
    }
}
