//! Every key of the format: its name, type, default and meaning. Each is declared here and nowhere else.
//!
//! These are the types between the text and the checked ones of [`super`]: what one value alone can tell about itself
//! is known, what needs a second one (does the cluster exist? is the address free?) is not; `check` decides that.

mod http2;
mod mirror;
mod policy;
mod route;
mod tcp;
mod udp;

use foreshade_contract::Name;
use foreshade_engine::spec::{BalancePolicy, HealthPolicy, ShiftPolicy};
use foreshade_settings::{
    Address, At, Choice, Count, Elsewhere, Lasting, Level, List, Mistake, Mistakes, Node, Part, Rate, Read,
    Reference, Section, Shown, Value, Weight, millis, scalar, seconds, section, unexpected, word,
};
use serde_json::{Value as Json, json};

use super::acme::Acme;
use super::compress::Written as Compression;
pub(super) use super::error_pages::ErrorPage;
use super::follow::ControllerKeys as Controller;
use super::limits::Limits;
use super::operations::{
    AccessLogKeys as AccessLog, AdminKeys as Admin, RequestIdKeys as RequestId, UpgradeKeys as Upgrade,
};
use super::text::route::Network;
use super::text::{Authority, Content, Cookie, Header, Host, Origin, Target};
use super::tls::{ClusterTls, ListenerTls};
use super::trace::TraceKeys as Trace;
use crate::client::ToldBy;

use self::route::Paths;
pub(super) use self::route::{
    HeaderCondition, HeaderEdit, HeaderEdits, Match, Part as ClusterPart, PathMatch, QueryCondition,
    Redirect, Respond, Rewrite, Route,
};

pub(super) use self::http2::{EndpointHttp2, GrpcProbe, Spoken};
pub(super) use self::mirror::{Mirror, Noise};
pub(super) use self::policy::{
    Access, Adaptive, Authorize, BURST_MAX, BasicAuth, Claim, Class, ClientCertificate, Concurrency, Cors,
    Faults, Jwt, LimitKey, Maintenance, RateLimit, Sticky,
};

pub(super) use self::tcp::{Announce, Life, Patience, Protocol, ProxyProtocol, ServerNames};
pub(super) use self::udp::UdpProbe;

/// A limit for something that users wait for.
type Limit = Lasting<1, 3_600_000>;
/// A span that may be nothing.
type Span = Lasting<0, 3_600_000>;

section! {
    /// The whole file.
    File "the file":
    /// Version of this format.
    api_version "apiVersion": required ApiVersion;
    /// Where operators look and act.
    admin "admin": nested Admin;
    /// The controller whose plans this proxy follows. It decides alone where left out.
    follow "follow": optional Controller;
    /// A line per request: off, stdout, or a mapping.
    access_log "accessLog": default AccessLog = AccessLog::Off;
    /// Names for requests, by which their traces are found in the logs of others.
    request_id "requestId": nested RequestId;
    /// The proxy's part in distributed traces (W3C Trace Context).
    trace "trace": nested Trace;
    /// Worker threads; one per core where left out.
    workers "workers": optional Count<1, 256>;
    /// Whether the relay serves plain HTTP/1.1 requests; all others are served by the full path.
    relay "relay": default bool = true;
    /// How long requests in flight may take after SIGTERM, or once a new process has taken over.
    grace "grace": default Span = seconds(30);
    /// How a new process takes over from this one.
    upgrade "upgrade": nested Upgrade;
    /// How names of endpoints become addresses.
    dns "dns": nested Dns;
    /// The authority that certificates of listeners are ordered from; none where left out.
    acme "acme": optional At<Acme>;
    /// The controller's; known here, and checked by foreshade-controller.
    _controller "controller": optional Elsewhere;
    /// Where users connect.
    listeners "listeners": required List<Listener, 1>;
    /// Where requests go.
    clusters "clusters": required List<Cluster, 1>;
}

/// The versions of the format that this program reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct ApiVersion;

impl Choice for ApiVersion {
    const ALL: &'static [(&'static str, Self)] = &[("foreshade/v1", Self)];
}

section! {
    /// Name resolution.
    Dns "the dns section":
    /// Name servers to ask, instead of those of this machine; hosts of /etc/hosts are known anyway.
    servers "servers": list List<At<Address>, 0>;
}

section! {
    /// One address on which users connect.
    Listener "a listener":
    /// Name, unique among listeners.
    name "name": required At<Name>;
    /// Address to listen on.
    address "address": required At<Address>;
    /// What is spoken.
    protocol "protocol": default Protocol = Protocol::Http;
    /// TLS: whose certificates clients are shown, and what they have to show. In the clear where left out.
    tls "tls": optional ListenerTls;
    /// HTTP/2, beside HTTP/1.1.
    http2 "http2": nested Http2;
    /// How long a connection may stay idle: between two requests, 60s where left out; of tcp and tls-passthrough without a
    /// byte in either direction, 1h where left out; a session of udp without a datagram, 60s where left out.
    idle_timeout "idleTimeout": optional Patience;
    /// Longest life of a connection of tcp or tls-passthrough, or of a session of udp; any where left out.
    lifetime "lifetime": optional At<Life>;
    /// The PROXY protocol: a balancer before this proxy tells who the client is before anything else. Not spoken where left
    /// out.
    proxy_protocol "proxyProtocol": optional ProxyProtocol;
    /// How much clients may ask for, and how long they may take. The defaults are meant for the open internet.
    limits "limits": nested Limits;
    /// Proxies before this one whose word on who the client is counts: addresses and networks, as 10.0.0.0/8.
    trusted_proxies "trustedProxies": list List<At<Network>, 0>;
    /// The header that tells who the client is: read from trusted proxies, and written for endpoints.
    forwarded "forwarded": default At<ToldBy> = ToldBy::XForwardedFor;
    /// What is done about spellings of paths that endpoints read differently.
    path "path": nested Paths;
    /// Whether the relay serves plain requests; as the whole file says where left out.
    relay "relay": optional bool;
    /// Whose requests are let in; everybody's where left out. Holds for all routes, and for requests without one.
    access "access": optional Access;
    /// How many requests, of all that it hears; asked in their order, before those of a route.
    rate_limits "rateLimits": list List<At<RateLimit>, 0>;
    /// Closed for a while: what users get instead of being served.
    maintenance "maintenance": optional Maintenance;
    /// Users who may come in, with names and passwords. Holds for all routes, and for requests without one.
    basic_auth "basicAuth": optional BasicAuth;
    /// Whose tokens have to come with a request. Holds for all routes, and for requests without one.
    jwt "jwt": optional At<Jwt>;
    /// Somebody else who is asked whether a request may go on, before its route's; nobody where left out.
    authorize "authorize": optional Authorize;
    /// Compression of answers, of all routes that say nothing of it; none where left out.
    compression "compression": optional Compression;
    /// Pages for errors, of all routes that have none of their own for them, and of requests without a route.
    error_pages "errorPages": list List<At<ErrorPage>, 0>;
    /// Name of the cluster that all connections of tcp and datagrams of udp go to, and those of tls-passthrough that ask for
    /// no other name.
    cluster "cluster": optional At<Reference>;
    /// Of udp: how many answers each datagram gets, 0 for none. Where left out, whether there is one is learnt.
    responses "responses": optional At<Count<0, 1000>>;
    /// Of udp: how many bytes a client may get for each byte of his; any number where left out. Beyond: dropped.
    amplification "amplification": optional At<Count<1, 1000>>;
    /// Of tls-passthrough: who serves which name that clients ask for.
    server_names "serverNames": list List<At<ServerNames>, 0>;
    /// Of http: rules from requests to clusters. The most specific match wins, whatever the order.
    routes "routes": optional At<List<At<Route>, 1>>;
}

/// Requests of one HTTP/2 connection that may be under way where nothing is said.
const STREAMS: u32 = 128;

section! {
    /// HTTP/2 with clients.
    Http2 "an http2 section":
    /// Whether it is spoken. Where left out: over TLS, and not in the clear, where clients have to know beforehand.
    enabled "enabled": optional bool;
    /// Requests of one connection that may be under way at a time, 128 where left out. Beyond: refused, to be sent again.
    streams "streams": optional Count<1, 1000>;
}

impl Http2 {
    /// How many requests of one connection may be under way; `None` where it is not spoken.
    pub(super) fn streams(&self, over_tls: bool) -> Option<u32> {
        self.enabled
            .unwrap_or(over_tls)
            .then(|| self.streams.as_ref().map_or(STREAMS, |count| count.0))
    }
}

section! {
    /// A set of endpoints that serve the same thing, and their shadows.
    Cluster "a cluster":
    /// Name, unique among clusters.
    name "name": required At<Name>;
    /// What its endpoints are asked in: http1, or http2, which gRPC needs. In the clear without asking first, over TLS by ALPN.
    protocol "protocol": default Spoken = Spoken::Http1;
    /// Bounds of HTTP/2 to its endpoints; with protocol: http2 only.
    http2 "http2": optional At<EndpointHttp2>;
    /// The endpoints that serve users.
    endpoints "endpoints": required List<Endpoint, 1>;
    /// Standbys that serve nobody until a shift.
    shadows "shadows": list List<Shadow, 0>;
    /// How to choose among endpoints: a policy, or a mapping with the key policy.
    balance "balance": default Balance = Balance(BalancePolicy::default());
    /// What a user is recognised by, so that a shift moves users and not single requests.
    cohort "cohort": default Cohort = Cohort::ClientAddress;
    /// Users who move first in a shift, in this order; everybody else follows.
    segments "segments": list List<Segment, 0>;
    /// Active health checks.
    health "health": default At<Health> = Health::On(Box::new(Probes::unwritten()));
    /// How traffic moves to shadows. The defaults are meant to fit.
    shift "shift": nested Shift;
    /// Time to establish a connection. More than any round trip on earth, less than the second after which a lost SYN
    /// is sent again: a connection that takes longer goes to another endpoint. A handshake of TLS has as much once more.
    connect_timeout "connectTimeout": default Limit = millis(500);
    /// Ramp of a new or returning endpoint; 0s for none.
    slow_start "slowStart": default Span = seconds(10);
    /// Idle connections to endpoints are closed after this. Stay below what the endpoints grant.
    idle_timeout "idleTimeout": default Limit = seconds(50);
    /// How many requests its endpoints have to serve at a time, and what becomes of more; any number where left out.
    concurrency "concurrency": optional At<Concurrency>;
    /// Whether users stay with the endpoint, or its shadow, that has answered them first; they do not where left out.
    sticky "sticky": optional At<Sticky>;
    /// The PROXY protocol by which its endpoints are told who the client is: v1 or v2. Of clusters that serve tcp or
    /// tls-passthrough only.
    proxy_protocol "proxyProtocol": default At<Announce> = Announce::Off;
    /// TLS with its endpoints, shadows and health checks included. In the clear where left out.
    tls "tls": optional At<ClusterTls>;
}

section! {
    /// An endpoint that serves users.
    Endpoint "an endpoint":
    /// Name, unique among the endpoints and shadows of the cluster.
    name "name": required At<Name>;
    /// Where it is. Each address of a name is an endpoint of its own, for as long as the name has it.
    address "address": required At<Origin>;
    /// Name that its certificate has to bear, where that is not the cluster's tls.serverName.
    server_name "serverName": optional At<Host>;
    /// Name of the shadow that takes over, or of another endpoint of the cluster.
    shadow "shadow": optional At<Reference>;
    /// Region, shown to operators.
    region "region": optional Name;
    /// Relative weight.
    weight "weight": default Weight = Weight(1.0);
    /// What it can carry, where known.
    capacity "capacity": optional Rate;
}

section! {
    /// A standby.
    Shadow "a shadow":
    /// Name, unique among the endpoints and shadows of the cluster.
    name "name": required At<Name>;
    /// Where it is. Each address of a name is an endpoint of its own, for as long as the name has it.
    address "address": required At<Origin>;
    /// Name that its certificate has to bear, where that is not the cluster's tls.serverName.
    server_name "serverName": optional At<Host>;
    /// Region, shown to operators.
    region "region": optional Name;
    /// Relative weight.
    weight "weight": default Weight = Weight(1.0);
    /// What it can carry, where known; a shift never asks more of it.
    capacity "capacity": optional Rate;
}

impl From<Shadow> for Endpoint {
    fn from(shadow: Shadow) -> Self {
        let Shadow {
            name,
            address,
            server_name,
            region,
            weight,
            capacity,
        } = shadow;
        Self {
            name,
            address,
            server_name,
            shadow: None,
            region,
            weight,
            capacity,
        }
    }
}

/// How to choose among endpoints.
#[derive(Debug)]
pub(super) struct Balance(pub(super) BalancePolicy);

section! {
    /// The long form of [`Balance`].
    BalanceSection "a balance section":
    /// The policy.
    policy "policy": required BalanceWord;
}

/// The word for a policy of the engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct BalanceWord(BalancePolicy);

impl Choice for BalanceWord {
    const ALL: &'static [(&'static str, Self)] = &[
        ("least-load", Self(BalancePolicy::LeastLoad)),
        ("weighted-random", Self(BalancePolicy::WeightedRandom)),
        ("round-robin", Self(BalancePolicy::RoundRobin)),
        ("consistent-hash", Self(BalancePolicy::ConsistentHash)),
    ];
}

impl Read for Balance {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return BalanceSection::read(node, key, mistakes)?
                .policy
                .map(|word| Self(word.0));
        }
        scalar(node, key, &Self::title(), mistakes).map(|word: BalanceWord| Self(word.0))
    }

    fn title() -> String {
        <BalanceWord as Read>::title()
    }

    fn schema() -> Json {
        json!({ "anyOf": [<BalanceWord as Read>::schema(), BalanceSection::schema()] })
    }
}

impl Shown for Balance {
    fn shown(&self) -> Json {
        word(BalanceWord(self.0)).into()
    }
}

/// What a user is recognised by.
#[derive(Debug)]
pub(super) enum Cohort {
    ClientAddress,
    Header(Header),
    Cookie(Cookie),
}

#[derive(Clone, Copy, Debug)]
struct ClientAddress;

impl Choice for ClientAddress {
    const ALL: &'static [(&'static str, Self)] = &[("client-address", Self)];
}

section! {
    /// The long form of [`Cohort`].
    CohortSection "a cohort":
    /// Name of the header that names the user.
    header "header": optional Header;
    /// Name of the cookie that names the user.
    cookie "cookie": optional Cookie;
}

impl Read for Cohort {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        if !matches!(node.value, Value::Map(_)) {
            let word: Option<ClientAddress> = scalar(node, key, &Self::title(), mistakes);
            return word.map(|_| Self::ClientAddress);
        }
        let before = mistakes.count();
        let section = CohortSection::read(node, key, mistakes)?;
        match (section.header, section.cookie) {
            (Some(header), None) => Some(Self::Header(header)),
            (None, Some(cookie)) => Some(Self::Cookie(cookie)),
            // What was meant is wrong already.
            (None, None) if mistakes.count() > before => None,
            _ => {
                let what = "a user is recognised by one thing";
                mistakes.add(Mistake::at(node.place, what).expected("either header or cookie"));
                None
            }
        }
    }

    fn title() -> String {
        "client-address, or a mapping with the key header or cookie".to_owned()
    }

    fn schema() -> Json {
        json!({ "anyOf": [<ClientAddress as Read>::schema(), CohortSection::schema()] })
    }
}

impl Shown for Cohort {
    fn shown(&self) -> Json {
        // Only the first is a default.
        match self {
            Self::ClientAddress => "client-address".into(),
            Self::Header(name) => json!({ "header": name.0.as_str() }),
            Self::Cookie(name) => json!({ "cookie": name.0 }),
        }
    }
}

// Concept: endpoint-shift-groups
section! {
    /// Some of the users.
    Segment "a segment":
    /// Name, unique among the segments of the cluster.
    name "name": required At<Name>;
    /// Who belongs to it: all rules have to hold, and there has to be one.
    matches "match": required Rules;
    /// How much of the way of a shift this segment takes. Something has to be left for everybody else.
    part "part": required At<Part>;
}

section! {
    /// Who belongs to a segment.
    SegmentMatch "a segment's match":
    /// A header has a value.
    header "header": optional HeaderRule;
    /// A cookie has a value.
    cookie "cookie": optional CookieRule;
}

/// A [`SegmentMatch`] with at least one rule.
#[derive(Debug)]
pub(super) struct Rules(pub(super) SegmentMatch);

impl Read for Rules {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let before = mistakes.count();
        let section = SegmentMatch::read(node, key, mistakes)?;
        let none = section.header.is_none() && section.cookie.is_none();
        if none && mistakes.count() == before {
            mistakes.add(
                Mistake::at(node.place, "a segment of nobody in particular")
                    .expected("header, cookie, or both"),
            );
        }
        Some(Self(section))
    }

    fn title() -> String {
        SegmentMatch::title()
    }

    fn schema() -> Json {
        SegmentMatch::schema()
    }
}

section! {
    /// A header has a value.
    HeaderRule "a header rule":
    /// Name of the header.
    name "name": required Header;
    /// Its exact value.
    value "value": required Content;
}

section! {
    /// A cookie has a value.
    CookieRule "a cookie rule":
    /// Name of the cookie.
    name "name": required Cookie;
    /// Its exact value.
    value "value": required Content;
}

/// Active health checks, or none.
#[derive(Debug)]
pub(super) enum Health {
    Off,
    On(Box<Probes>),
}

#[derive(Clone, Copy, Debug)]
enum HealthWord {
    Tcp,
    Off,
}

impl Choice for HealthWord {
    const ALL: &'static [(&'static str, Self)] = &[("tcp", Self::Tcp), ("off", Self::Off)];
}

section! {
    /// Active health checks.
    Probes "a health section":
    /// Ask this over HTTP, as the cluster speaks it; an answer below 400 passes.
    http "http": optional HttpProbe;
    /// Ask the health service of gRPC (grpc.health.v1.Health/Check); SERVING passes. With protocol: http2 only.
    grpc "grpc": optional At<GrpcProbe>;
    /// Open a connection only; so it is where the others are left out, too.
    tcp "tcp": optional At<TcpProbe>;
    /// Send a datagram; an answer passes. What is asked of clusters of udp where nothing is written is nothing.
    udp "udp": optional At<UdpProbe>;
    /// Between two probes of one endpoint.
    interval "interval": default At<Lasting<100, 3_600_000>> = seconds(1);
    /// For one probe; at most the interval.
    timeout "timeout": default At<Limit> = millis(500);
    /// Passes in a row until an endpoint is healthy again.
    rise "rise": default Count<1, 100> = Count(HealthPolicy::default().rise);
    /// Failures in a row until an endpoint is dead.
    fall "fall": default Count<1, 100> = Count(HealthPolicy::default().fall);
}

section! {
    /// A probe over HTTP.
    HttpProbe "an http probe":
    /// Path, with its slash.
    path "path": default Target = Target("/".to_owned());
    /// Value of the Host header; the endpoint's address where left out.
    host "host": optional Authority;
}

/// A probe that needs no more words: `{}` or nothing.
#[derive(Debug)]
pub(super) struct TcpProbe;

impl Read for TcpProbe {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        match &node.value {
            Value::Nothing => Some(Self),
            Value::Map(entries) if entries.is_empty() => Some(Self),
            _ => {
                mistakes.add(unexpected(node, key, Self::title()));
                None
            }
        }
    }

    fn title() -> String {
        "an empty mapping: {}".to_owned()
    }

    fn schema() -> Json {
        json!({ "type": ["object", "null"], "maxProperties": 0 })
    }
}

impl Read for Health {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return Probes::read(node, key, mistakes).map(|probes| Self::On(Box::new(probes)));
        }
        scalar(node, key, &Self::title(), mistakes).map(|word| match word {
            HealthWord::Off => Self::Off,
            HealthWord::Tcp => Self::On(Box::new(Probes::unwritten())),
        })
    }

    fn title() -> String {
        "tcp, off, or a mapping".to_owned()
    }

    fn schema() -> Json {
        json!({ "anyOf": [<HealthWord as Read>::schema(), Probes::schema()] })
    }
}

impl Shown for Health {
    fn shown(&self) -> Json {
        // Only probes as they are unwritten are a default.
        match self {
            Self::Off => "off".into(),
            Self::On(_) => "tcp".into(),
        }
    }
}

section! {
    /// How traffic moves to shadows.
    Shift "a shift section":
    /// Whether traffic may move at all. Where false, risk is computed and shown, and nothing moves.
    enabled "enabled": default bool = ShiftPolicy::default().enabled;
    /// Risk at which a shift is engaged.
    engage "engage": default At<Level> = Level(ShiftPolicy::default().engage);
    /// Risk below which a shift may be released; below engage.
    release "release": default At<Level> = Level(ShiftPolicy::default().release);
    /// Risk at which all traffic is wanted on the shadow; above engage.
    full "full": default At<Level> = Level(ShiftPolicy::default().full);
    /// Largest share that may ever move.
    share_max "shareMax": default At<Part> = Part(ShiftPolicy::default().share_max.value());
    /// Share of the canary, while the shadow is unproven; at most shareMax. It widens where it brings too few requests.
    canary "canary": default At<Part> = Part(ShiftPolicy::default().canary.value());
    /// First hold before a return is tried; doubled per relapse.
    hold "hold": default At<Lasting<1000, 86_400_000>> = Lasting(ShiftPolicy::default().hold);
    /// Longest hold; at least hold.
    hold_max "holdMax": default At<Lasting<1000, 86_400_000>> = Lasting(ShiftPolicy::default().hold_max);
    /// Share per second that returns to an endpoint that has proven itself.
    return_per_second "returnPerSecond": default Part = Part(ShiftPolicy::default().return_per_second);
    /// Part of a shadow's capacity that a shift may fill.
    capacity_fill "capacityFill": default Part = Part(ShiftPolicy::default().capacity_fill);
}
