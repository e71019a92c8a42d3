//! The keys of a route: which requests it takes, what becomes of them, what is changed on the way.

use foreshade_settings::{At, Choice, Count, List, Reference, Shown, Weight, seconds, section, word};
use serde_json::Value as Json;

use foreshade_contract::Name;
use foreshade_engine::failover::ATTEMPTS_MAX_NEVER_SENT;

use crate::client::ToldBy;
use crate::config::text::route::{
    Exact, HostPattern, MediaType, Method, Network, NewTarget, Prefix, Replacement, Text, Written,
};
use crate::config::text::{Authority, Header, Host};
use crate::path::{DuplicateSlashes, EncodedSlashes};
use crate::policy::Priority;
use crate::route::answer::Scheme;

use super::{
    Access, Authorize, BasicAuth, Class, ClientCertificate, Compression, Concurrency, Cors, ErrorPage,
    Faults, Jwt, Limit, Maintenance, Mirror, RateLimit,
};

/// How often one request is sent at most: what failover never exceeds is the most that can be allowed.
type Attempts = Count<1, ATTEMPTS_MAX_NEVER_SENT>;

section! {
    /// A rule from a request to what becomes of it: cluster, clusters, redirect or respond.
    Route "a route":
    /// Name, for logs, explanations and the variable route; its line in the file where left out.
    name "name": optional At<Name>;
    /// Which requests; all where left out.
    matches "match": nested Match;
    /// Name of the cluster that serves them.
    cluster "cluster": optional At<Reference>;
    /// Clusters that share the users by weight. A user stays with his; where nobody is left, the others take over.
    clusters "clusters": optional At<List<At<Part>, 1>>;
    /// Where the client is sent instead.
    redirect "redirect": optional At<Redirect>;
    /// What is answered here.
    respond "respond": optional At<Respond>;
    /// What an endpoint is asked for instead of what the user asked for.
    rewrite "rewrite": optional At<Rewrite>;
    /// Changes of the request's headers, before it is sent.
    request_headers "requestHeaders": optional At<HeaderEdits>;
    /// Changes of the answer's headers, before the user sees it.
    response_headers "responseHeaders": nested HeaderEdits;
    /// Time from the last byte of a request to the first byte of its answer, retries included.
    timeout "timeout": default At<Limit> = seconds(15);
    /// Attempts in all for a request, the first one included; 1 sends nothing twice, not even what reached nobody.
    attempts "attempts": default At<Attempts> = Count(ATTEMPTS_MAX_NEVER_SENT);
    /// Statuses after which a request that may be sent twice is sent elsewhere, beside 502, 503 and 504. The user sees the
    /// last answer.
    retry_on "retryOn": list List<Count<500, 599>, 0>;
    /// Vouches that every request of this route may be sent twice, POST included.
    idempotent "idempotent": default At<bool> = false;
    /// Copies of its requests, sent elsewhere; none where left out.
    mirror "mirror": optional At<Mirror>;
    /// Whose requests are let in, beside what the listener says; everybody's where left out.
    access "access": optional Access;
    /// How many requests, beside what the listener says; asked in their order.
    rate_limits "rateLimits": list List<At<RateLimit>, 0>;
    /// How many of its requests may be under way at a time, and what becomes of more; any number where left out.
    concurrency "concurrency": optional At<Concurrency>;
    /// How much its requests matter where a limit of concurrency is reached, its own or its cluster's: who matters more goes
    /// first, and who matters less is refused first.
    priority "priority": default At<Class> = Class::Fixed(Priority::Normal);
    /// Closed for a while: what users get instead of being served.
    maintenance "maintenance": optional Maintenance;
    /// Which other sites' pages may read the answers. Where left out, endpoints decide.
    cors "cors": optional At<Cors>;
    /// Clients who may come in, by their certificates; tls.clientCertificates of the listener asks for those.
    client_certificate "clientCertificate": optional ClientCertificate;
    /// Users who may come in, with names and passwords.
    basic_auth "basicAuth": optional BasicAuth;
    /// Whose tokens have to come with a request.
    jwt "jwt": optional At<Jwt>;
    /// Somebody else who is asked whether a request may go on; nobody where left out.
    authorize "authorize": optional Authorize;
    /// Faults made on purpose, for a drill; none where left out. Told of wherever somebody looks.
    faults "faults": optional At<Faults>;
    /// Compression of its answers; as the listener says where left out.
    compression "compression": optional At<Compression>;
    /// Pages for errors, before those of the listener.
    error_pages "errorPages": list List<At<ErrorPage>, 0>;
    /// Whether clients are told where the time of an endpoint's answer went, in Server-Timing. Strangers learn from it how
    /// busy you are.
    server_timing "serverTiming": default At<bool> = false;
}

section! {
    /// Which requests a route takes: all conditions have to hold.
    Match "a match":
    /// Host, without port, or all hosts below a domain: *.shop.example; any where left out.
    host "host": optional HostPattern;
    /// The path.
    path "path": nested PathMatch;
    /// One of these methods; any where left out.
    methods "methods": list List<Method, 0>;
    /// Each of these headers.
    headers "headers": list List<HeaderCondition, 0>;
    /// Each of these query parameters.
    query "query": list List<QueryCondition, 0>;
    /// The client's address lies in one of these networks; anywhere where left out.
    source "source": list List<Network, 0>;
}

section! {
    /// Which paths a route takes: one of three. The path is compared in its normal form, without query.
    PathMatch "a path match":
    /// Exactly this path.
    exact "exact": optional At<Exact>;
    /// Prefix in whole segments: /a matches /a and /a/b, not /ab.
    prefix "prefix": default At<Prefix> = Prefix("/".to_owned());
    /// Regular expression that the whole path fits.
    regex "regex": optional At<Text>;
}

section! {
    /// A header that a request has to have: with any value, or with one that fits.
    HeaderCondition "a header condition":
    /// Name of the header.
    name "name": required Header;
    /// Its exact value.
    exact "exact": optional At<Written>;
    /// What its value begins with.
    prefix "prefix": optional At<Written>;
    /// Regular expression that its whole value fits.
    regex "regex": optional At<Text>;
    /// Turns the condition around: the request must not have such a header.
    not "not": default bool = false;
}

section! {
    /// A query parameter that a request has to have: with any value, or with one that fits.
    QueryCondition "a query condition":
    /// Name of the parameter, decoded.
    name "name": required Written;
    /// Its exact value, decoded.
    exact "exact": optional At<Written>;
    /// What its value begins with, decoded.
    prefix "prefix": optional At<Written>;
    /// Regular expression that its whole value fits, decoded.
    regex "regex": optional At<Text>;
    /// Turns the condition around: the request must not have such a parameter.
    not "not": default bool = false;
}

section! {
    /// A cluster and its part of the users.
    Part "a weighted cluster":
    /// Name of the cluster.
    cluster "name": required At<Reference>;
    /// Relative weight.
    weight "weight": default Weight = Weight(1.0);
}

section! {
    /// Where the client is sent: what is left out stays as it was asked for.
    Redirect "a redirect":
    /// Status: 301 and 308 for good, 302, 303 and 307 for now; 307 and 308 keep the method.
    status "status": default At<Count<301, 308>> = Count(307);
    /// Scheme.
    scheme "scheme": optional Scheme;
    /// Host, without port.
    host "host": optional Host;
    /// Port; the scheme's own where scheme or host is given and this is not.
    port "port": optional Count<1, 65535>;
    /// Whole path, and the query too if it has one.
    path "path": optional At<NewTarget>;
    /// What stands in place of the prefix that the route matched.
    prefix "prefix": optional At<Prefix>;
}

impl Choice for Scheme {
    const ALL: &'static [(&'static str, Self)] = &[("http", Self::Http), ("https", Self::Https)];
}

section! {
    /// What is answered here.
    Respond "an answer":
    /// Status.
    status "status": required Count<200, 599>;
    /// Body, at most 16 KiB.
    body "body": default At<Text> = Text(String::new());
    /// Media type of the body.
    content_type "contentType": default MediaType = MediaType("text/plain; charset=utf-8".to_owned());
}

section! {
    /// What an endpoint is asked for.
    Rewrite "a rewrite":
    /// What stands in place of the prefix that the route matched.
    prefix "prefix": optional At<Prefix>;
    /// The first part of the path that fits a regular expression is replaced.
    regex "regex": optional At<RegexRewrite>;
    /// Value of the Host header.
    host "host": optional Authority;
}

section! {
    /// A replacement by pattern.
    RegexRewrite "a regex rewrite":
    /// Regular expression; it may fit any part of the path.
    pattern "pattern": required At<Text>;
    /// What stands there instead: $1 or ${name} is what a group took, $$ a dollar.
    replacement "replacement": required At<Replacement>;
}

section! {
    /// Changes of headers, made in the order remove, set, add.
    HeaderEdits "header edits":
    /// Headers that are taken out.
    remove "remove": list List<At<Header>, 0>;
    /// Headers that have this value and no other.
    set "set": list List<HeaderEdit, 0>;
    /// Headers that have this value, too.
    add "add": list List<HeaderEdit, 0>;
}

section! {
    /// A header and its value.
    HeaderEdit "a header edit":
    /// Name of the header.
    name "name": required At<Header>;
    /// Its value, maybe with {client_ip}, {host}, {path}, {method}, {scheme}, {route}, {cluster} and {request_id}.
    value "value": required At<Text>;
}

section! {
    /// What is done about spellings of paths that endpoints read differently.
    Paths "a path policy":
    /// Escaped slashes, %2F and %5C: refuse them with 400, keep them as characters of their segment, or decode %2F.
    encoded_slashes "encodedSlashes": default EncodedSlashes = EncodedSlashes::Refuse;
    /// Slashes that follow each other: merge them to one, or keep them.
    duplicate_slashes "duplicateSlashes": default DuplicateSlashes = DuplicateSlashes::Merge;
}

impl Paths {
    /// Whether it says anything else than what holds anyway.
    pub(in crate::config) fn changes_anything(&self) -> bool {
        self.encoded_slashes != EncodedSlashes::Refuse || self.duplicate_slashes != DuplicateSlashes::Merge
    }
}

impl Choice for EncodedSlashes {
    const ALL: &'static [(&'static str, Self)] = &[
        ("refuse", Self::Refuse),
        ("keep", Self::Keep),
        ("decode", Self::Decode),
    ];
}

impl Shown for EncodedSlashes {
    fn shown(&self) -> Json {
        word(*self).into()
    }
}

impl Choice for DuplicateSlashes {
    const ALL: &'static [(&'static str, Self)] = &[("merge", Self::Merge), ("keep", Self::Keep)];
}

impl Shown for DuplicateSlashes {
    fn shown(&self) -> Json {
        word(*self).into()
    }
}

impl Choice for ToldBy {
    const ALL: &'static [(&'static str, Self)] = &[
        ("x-forwarded-for", Self::XForwardedFor),
        ("forwarded", Self::Forwarded),
        ("off", Self::Nothing),
    ];
}

impl Shown for ToldBy {
    fn shown(&self) -> Json {
        word(*self).into()
    }
}
