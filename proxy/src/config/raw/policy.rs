//! The keys of a policy, of routes and most of them of listeners, too: who is let in, how often, how many at once, by whose
//! pages, with which password, and with whose token.

use foreshade_contract::Name;
use foreshade_settings::{
    AbsolutePath, Address, At, Choice, Count, Json, Lasting, List, Mistake, Mistakes, Node, Part, Rate, Read,
    Shown, Value, scalar, seconds, section, word,
};
use serde_json::json;

use crate::config::text::origin::OriginPattern;
use crate::config::text::route::{
    CertificateUri, CookiePath, HostPattern, MediaType, Method, Network, Realm, Text, Written,
};
use crate::config::text::{Cookie, Header, KeysUrl, Target};
use crate::policy::Priority;
use crate::policy::authorize::OnFailure;
use crate::policy::gate::ROOM_MAX;
use crate::policy::sticky::SameSite;

/// Largest burst: more at once than any proxy serves in a second.
pub(in crate::config) const BURST_MAX: u32 = 1_000_000;

section! {
    /// Whose requests are let in, by the client's address as trusted proxies tell it.
    AccessSection "an access section":
    /// Only these addresses and networks; everybody where left out.
    allow "allow": optional At<List<At<Network>, 1>>;
    /// Never these, whatever allow says.
    deny "deny": optional At<List<At<Network>, 1>>;
}

/// An [`AccessSection`] with at least one list.
#[derive(Debug)]
pub(in crate::config) struct Access(pub(in crate::config) AccessSection);

impl Read for Access {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let before = mistakes.count();
        let section = AccessSection::read(node, key, mistakes)?;
        let none = section.allow.is_none() && section.deny.is_none();
        if none && mistakes.count() == before {
            let what = "access lets everybody in";
            mistakes.add(Mistake::at(node.place, what).expected("allow, deny, or both"));
        }
        Some(Self(section))
    }

    fn title() -> String {
        AccessSection::title()
    }

    fn schema() -> Json {
        AccessSection::schema()
    }
}

section! {
    /// So many requests, and no more.
    RateLimit "a rate limit":
    /// Name, which clients are told; unique in its list.
    name "name": required At<Name>;
    /// Requests per second in the long run. Beyond: 429.
    rate "rate": required Rate;
    /// Requests at once, saved up while there are fewer; what a second brings where left out.
    burst "burst": optional Count<1, BURST_MAX>;
    /// Whose requests are counted together: a client's (an IPv4 address, or an IPv6 /64), those with the same value of a
    /// header (a client's where it is absent), or everybody's.
    key "key": default LimitKey = LimitKey::Client;
    /// Keys that are told apart at a time, 16 bytes each. Of more, those are forgotten that have asked least.
    keys "keys": default Count<64, 16_777_216> = Count(65_536);
    /// Whether it only counts what it would refuse.
    dry_run "dryRun": default bool = false;
    /// Whether clients are told what is left, in RateLimit and RateLimit-Policy.
    headers "headers": default bool = true;
}

/// Whose requests are counted together.
#[derive(Debug)]
pub(in crate::config) enum LimitKey {
    Client,
    Everybody,
    Header(Header),
}

#[derive(Clone, Copy, Debug)]
enum LimitWord {
    Client,
    Everybody,
}

impl Choice for LimitWord {
    const ALL: &'static [(&'static str, Self)] = &[("client", Self::Client), ("everybody", Self::Everybody)];
}

section! {
    /// The long form of [`LimitKey`].
    LimitKeySection "a key":
    /// Name of the header whose values are told apart.
    header "header": required Header;
}

impl Read for LimitKey {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return LimitKeySection::read(node, key, mistakes)?
                .header
                .map(Self::Header);
        }
        scalar(node, key, &Self::title(), mistakes).map(|word| match word {
            LimitWord::Client => Self::Client,
            LimitWord::Everybody => Self::Everybody,
        })
    }

    fn title() -> String {
        "client, everybody, or a mapping with the key header".to_owned()
    }

    fn schema() -> Json {
        json!({ "anyOf": [<LimitWord as Read>::schema(), LimitKeySection::schema()] })
    }
}

impl Shown for LimitKey {
    fn shown(&self) -> Json {
        match self {
            Self::Client => "client".into(),
            Self::Everybody => "everybody".into(),
            Self::Header(name) => json!({ "header": name.0.as_str() }),
        }
    }
}

section! {
    /// How many requests are under way at a time.
    Concurrency "a concurrency section":
    /// Requests under way at a time, to the last byte of their answers, in all workers together; with adaptive at most.
    limit "limit": required At<Count<1, 1_000_000>>;
    /// A limit that follows what requests take, between its min and limit; fixed where left out.
    adaptive "adaptive": optional At<Adaptive>;
    /// Requests that may wait for a place. Beyond: 503.
    queue "queue": default Count<0, ROOM_MAX> = Count(0);
    /// How long one may wait. Beyond: 503.
    wait "wait": default Lasting<1, 60_000> = seconds(1);
}

section! {
    /// A limit of concurrency that follows what requests take.
    Adaptive "an adaptive section":
    /// Requests under way that are let through in any case.
    min "min": default Count<1, 1_000_000> = Count(5);
    /// Where it starts.
    start "start": default Count<1, 1_000_000> = Count(20);
    /// How often at least is measured what requests take when nothing waits: with a part of them, for some hundred.
    recheck "recheck": default Lasting<1000, 3_600_000> = seconds(30);
}

/// How much requests matter where a limit of concurrency is reached.
#[derive(Debug)]
pub(in crate::config) enum Class {
    Fixed(Priority),
    Header(Header),
}

impl Choice for Priority {
    const ALL: &'static [(&'static str, Self)] =
        &[("low", Self::Low), ("normal", Self::Normal), ("high", Self::High)];
}

section! {
    /// The long form of [`Class`].
    ClassSection "a priority":
    /// Name of the header that says low, normal or high; normal where it says anything else.
    header "header": required Header;
}

impl Read for Class {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return ClassSection::read(node, key, mistakes)?.header.map(Self::Header);
        }
        scalar(node, key, &Self::title(), mistakes).map(Self::Fixed)
    }

    fn title() -> String {
        "low, normal, high, or a mapping with the key header".to_owned()
    }

    fn schema() -> Json {
        json!({ "anyOf": [<Priority as Read>::schema(), ClassSection::schema()] })
    }
}

impl Shown for Class {
    fn shown(&self) -> Json {
        match self {
            Self::Fixed(priority) => word(*priority).into(),
            Self::Header(name) => json!({ "header": name.0.as_str() }),
        }
    }
}

section! {
    /// Which other sites' pages may read the answers. Source: the Fetch standard.
    Cors "a cors section":
    /// Origins of those pages: https://shop.example, https://*.shop.example for all hosts below, or '*' for every site.
    origins "origins": required At<List<At<OriginPattern>, 1>>;
    /// Methods that they may use, beside GET, HEAD and POST.
    methods "methods": list List<Method, 0>;
    /// Headers that they may send, beside those that every form may send.
    allow_headers "allowHeaders": list List<Header, 0>;
    /// Headers of answers that they may read, beside the few that every page may read.
    expose_headers "exposeHeaders": list List<Header, 0>;
    /// Whether browsers send cookies and credentials along. Not with '*'.
    credentials "credentials": default At<bool> = false;
    /// How long browsers may remember a preflight.
    max_age "maxAge": default Lasting<0, 86_400_000> = seconds(600);
}

section! {
    /// Whose certificates are let in: everybody's where no name is listed, else those that bear one of these.
    ClientCertificate "a clientCertificate section":
    /// URIs that a certificate may bear, as spiffe://shop.example/till; with * at the end all that begin so.
    uris "uris": list List<At<CertificateUri>, 0>;
    /// DNS names that a certificate may bear, or all below a domain: *.clients.example.
    hosts "dnsNames": list List<At<HostPattern>, 0>;
    /// Subjects of certificates, as openssl x509 -subject -nameopt RFC2253 writes them: CN=till-7,O=Shop.
    subjects "subjects": list List<At<Written>, 0>;
}

section! {
    /// Users with names and passwords.
    BasicAuth "a basicAuth section":
    /// File with a line for each user, as foreshade-proxy password writes it. Others may not read it. Read again when it
    /// changes; who is known already may come in for up to a minute.
    users_file "usersFile": required AbsolutePath;
    /// What browsers show when they ask.
    realm "realm": default Realm = Realm("restricted".to_owned());
    /// Name of the header that tells endpoints the user's name. What a client sends in it is taken out.
    user_header "userHeader": optional At<Header>;
}

section! {
    /// Tokens that somebody else has signed, as Authorization: Bearer.
    JwtSection "a jwt section":
    /// File with the public keys of those who sign, a JSON Web Key Set. Read again when it changes.
    keys_file "keysFile": optional At<AbsolutePath>;
    /// URL of the same, instead of a file. Fetched at the start, and again as its Cache-Control says.
    keys_url "keysUrl": optional At<KeysUrl>;
    /// File with the authorities that vouch for who answers there, in PEM; those that this machine trusts where left out.
    keys_ca_file "keysCaFile": optional At<AbsolutePath>;
    /// What a token has to say of who issued it (iss).
    issuer "issuer": required Written;
    /// One of these a token has to be meant for (aud).
    audiences "audiences": required List<Written, 1>;
    /// How far clocks may differ when a token begins or expires.
    leeway "leeway": default Lasting<0, 300_000> = seconds(30);
    /// Claims that endpoints are told, each in a header. What a client sends in one of these is taken out.
    claims "claims": list List<Claim, 0>;
}

/// A [`JwtSection`] with keys.
#[derive(Debug)]
pub(in crate::config) struct Jwt(pub(in crate::config) JwtSection);

impl Read for Jwt {
    fn read(node: &Node, key: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let before = mistakes.count();
        let section = JwtSection::read(node, key, mistakes)?;
        let none = section.keys_file.is_none() && section.keys_url.is_none();
        if none && mistakes.count() == before {
            let what = "jwt has no keys to hold signatures against";
            mistakes.add(Mistake::at(node.place, what).expected("keysFile or keysUrl"));
        }
        Some(Self(section))
    }

    fn title() -> String {
        JwtSection::title()
    }

    fn schema() -> Json {
        JwtSection::schema()
    }
}

section! {
    /// A claim and its header.
    Claim "a claim":
    /// Name of the claim; texts, numbers, true and false are told.
    claim "claim": required Written;
    /// Name of the header.
    header "header": required At<Header>;
}

section! {
    /// Somebody else who says whether a request may go on.
    Authorize "an authorize section":
    /// Who is asked, in HTTP/1.1 in the clear. A host is resolved for each connection.
    address "address": required Address;
    /// What he is asked for. The request itself is told in X-Forwarded-Method, -Uri, -Host, -Proto and -For.
    path "path": default Target = Target("/".to_owned());
    /// Headers of the request that he is shown; authorization and cookie where left out.
    headers "headers": list List<At<Header>, 0>;
    /// Headers of his answer that endpoints are told. What a client sends in one of these is taken out.
    answer_headers "answerHeaders": list List<At<Header>, 0>;
    /// How long he may take, connecting included.
    timeout "timeout": default At<Lasting<1, 60_000>> = seconds(1);
    /// What becomes of requests when he cannot be asked, or fails: refuse with 503, or allow.
    on_failure "onFailure": default OnFailure = OnFailure::Refuse;
    /// Questions under way at a time. Beyond, he counts as failed.
    concurrency "concurrency": default Count<1, 10_000> = Count(256);
    /// How long a yes to the very same question is remembered; not at all where left out.
    cache "cache": optional Lasting<1, 3_600_000>;
}

impl Choice for OnFailure {
    const ALL: &'static [(&'static str, Self)] = &[("refuse", Self::Refuse), ("allow", Self::Allow)];
}

impl Shown for OnFailure {
    fn shown(&self) -> Json {
        word(*self).into()
    }
}

section! {
    /// Faults made on purpose, for a drill. They say nothing of endpoints, and move nobody.
    Faults "a faults section":
    /// A part of the requests waits.
    delay "delay": optional FaultDelay;
    /// A part of the requests is answered with an error, and reaches nobody.
    abort "abort": optional FaultAbort;
    /// Only requests that have this header; all where left out.
    header "header": optional Header;
}

section! {
    /// A delay made on purpose.
    FaultDelay "a delay":
    /// How long; below the timeout of the route.
    time "for": required At<Lasting<1, 60_000>>;
    /// How many of them.
    share "share": required Part;
}

section! {
    /// An error made on purpose.
    FaultAbort "an abort":
    /// Its status.
    status "status": default Count<400, 599> = Count(503);
    /// How many of them.
    share "share": required Part;
}

section! {
    /// How users stay with their slot: an endpoint and its shadow.
    Sticky "a sticky section":
    /// File with a key for each line, base64 of at least 32 bytes: the first signs cookies, all are taken. Others may not
    /// read it. Read again when it changes.
    keys_file "keysFile": required AbsolutePath;
    /// Name of the cookie; foreshade- and the cluster's name where left out.
    cookie "cookie": optional At<Cookie>;
    /// How long a cookie lives, renewed at half of it; as long as the browser where left out.
    ttl "ttl": optional Lasting<1000, 31_536_000_000>;
    /// Whether browsers send it over TLS only.
    secure "secure": default At<bool> = true;
    /// Whether it is kept from pages.
    http_only "httpOnly": default bool = true;
    /// With which other sites' requests browsers send it: strict for none, lax for links, none for all.
    same_site "sameSite": default At<SameSite> = SameSite::Lax;
    /// Under which path browsers send it.
    path "path": default At<CookiePath> = CookiePath("/".to_owned());
}

impl Choice for SameSite {
    const ALL: &'static [(&'static str, Self)] =
        &[("strict", Self::Strict), ("lax", Self::Lax), ("none", Self::None)];
}

impl Shown for SameSite {
    fn shown(&self) -> Json {
        word(*self).into()
    }
}

section! {
    /// Closed for a while.
    Maintenance "a maintenance section":
    /// The page that users get with the status 503, at most 16 KiB.
    body "body": default At<Text> = Text("closed for maintenance".to_owned());
    /// Its media type.
    content_type "contentType": default MediaType = MediaType("text/plain; charset=utf-8".to_owned());
    /// When users are told to come back.
    retry_after "retryAfter": default Lasting<1000, 604_800_000> = seconds(300);
    /// Clients who are served all the same, by address or network.
    except "except": list List<Network, 0>;
}
