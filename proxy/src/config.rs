//! The configuration, checked: what the rest of the proxy is built from.
//!
//! From text to these types in three steps: [`foreshade_settings`] makes a tree that knows its places, and typed values out
//! of it by the declarations in `raw`; `check` (and `cluster`) decide what needs more than one value.
//! Each step goes on after a mistake, so the result is a [`Config`] or *all* [`Mistakes`], each with its place. Nothing
//! behind this door looks at text again: names of clusters exist, shadows are not their own primaries, and names of hosts
//! have the addresses that whoever loads the file has learnt of them.

mod text;

mod raw;

mod limits;

mod operations;

mod error_pages;
mod trace;

mod shown;

mod check;

mod cluster;

mod compress;

mod follow;

mod dns;
mod route;

mod edits;

mod http2;

mod mirror;

mod policy;

mod sticky;

mod tcp;

mod udp;

mod tls;

mod secured;

mod acme;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use foreshade_contract::{Name, Share};
use foreshade_engine::spec::{BalancePolicy, Role, ShiftPolicy};
use foreshade_settings::{Read as _, text_of, yaml};
use http::HeaderName;

pub use foreshade_settings::{Admin, AdminAddress, Mistake, Mistakes, Place, Resolve, WithoutToken};

use crate::framing::Limits;

use self::check::World;
pub(crate) use self::check::overlap;
pub use self::dns::{ADDRESSES_MAX, Answers, DnsName, Found};
pub use self::follow::{Controller, ControllerTls};
pub use self::http2::Http2;
pub use self::mirror::{Mirror, MirrorTarget};
pub use self::operations::{AccessLog, Format, RequestIds, Sink};
pub use self::shown::Source;
pub use self::trace::{TraceExport, TraceMode, Traces};
pub use self::udp::Datagrams;
use crate::acme::{Authority, Wanted};
use crate::client::Trust;
use crate::path::PathPolicy;
use crate::policy::pages::{self, Page};
use crate::policy::sticky::Sticky;
use crate::policy::{Gate, Policy};
use crate::proxy_protocol::{ProxyProtocol, Version};
use crate::route::Route;
use crate::tcp::ServerNames;
use crate::tls::origination::{self, Destination, Origination};
use crate::tls::{Settings, Termination};
use crate::upstream::connect::To;

/// How long a connection rests between two requests where nothing is said: as long as browsers keep one.
const IDLE_HTTP: Duration = Duration::from_secs(60);

/// How long a connection that is only carried rests where nothing is said: pools of databases keep theirs for as long as
/// they are let, and expect no less from a network.
const IDLE_TCP: Duration = Duration::from_secs(3600);

/// How long a session of datagrams rests where nothing is said: longer than clients wait before they ask again, and no
/// longer, because nobody says that he is done.
const IDLE_UDP: Duration = Duration::from_secs(60);

/// Reads and checks a file. Names of endpoints stand for what `answers` says; host names of listeners are resolved by the
/// system, which may block.
///
/// # Errors
/// Everything that is wrong with the file, or that it cannot be read.
pub fn load(path: &Path, answers: &Answers) -> Result<Config, Mistakes> {
    let text = text_of(path)?;
    let origin = path.display().to_string();
    parse_answered(&text, &origin, answers)
}

/// Checks a text, and the certificates that it names. `origin` stands before each place in messages. Host names of
/// listeners are resolved by the system; names of endpoints have no addresses yet.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse(text: &str, origin: &str) -> Result<Config, Mistakes> {
    parse_answered(text, origin, &Answers::default())
}

/// Like [`parse`], where names of endpoints stand for what `answers` says.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse_answered(text: &str, origin: &str, answers: &Answers) -> Result<Config, Mistakes> {
    parse_with(text, origin, &by_system, answers)
}

/// The text of `config` once more, where names of endpoints stand for what `answers` says now. Its certificates and pages
/// are those that it has: one that has expired meanwhile, or is just being renewed, must not keep endpoints from being
/// found.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse_again(config: &Config, answers: &Answers) -> Result<Config, Mistakes> {
    let source = &config.source;
    let known = |settings: &Settings| match config.terminations().find(|known| known.settings() == settings) {
        Some(known) => Ok(known.clone()),
        None => Termination::load(settings, SystemTime::now()),
    };
    let known_outside = |settings: &origination::Settings| {
        let known = config.originations().find(|known| known.settings() == settings);
        known.map_or_else(
            || Origination::load(settings, SystemTime::now()),
            |known| Ok(known.clone()),
        )
    };
    let known_page = |path: &Path| {
        let known = config.pages().find(|page| page.file.as_deref() == Some(path));
        known.map_or_else(|| pages::read(path), |page| Ok(page.shown.body.clone()))
    };
    let world = World {
        resolve: &by_system,
        answers,
        terminate: &known,
        originate: &known_outside,
        page: &known_page,
    };
    read(&source.text, &source.origin, &world)
}

fn by_system(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    (host, port).to_socket_addrs().map(Vec::from_iter)
}

/// Like [`parse_answered`], with another way to resolve the host names of listeners.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse_with(
    text: &str,
    origin: &str,
    resolve: &Resolve<'_>,
    answers: &Answers,
) -> Result<Config, Mistakes> {
    let world = World {
        resolve,
        answers,
        terminate: &|settings| Termination::load(settings, SystemTime::now()),
        originate: &|settings| Origination::load(settings, SystemTime::now()),
        page: &pages::read,
    };
    read(text, origin, &world)
}

fn read(text: &str, origin: &str, world: &World<'_>) -> Result<Config, Mistakes> {
    let mut mistakes = Mistakes::none_yet(origin, text);
    let config = yaml::read(text, &mut mistakes).and_then(|node| {
        let file = raw::File::read(&node, "the file", &mut mistakes)?;
        let source = Arc::new(Source::new(origin, text, &node));
        check::config(file, source, world, &mut mistakes)
    });
    mistakes.or(config)
}

/// The JSON schema (draft 2020-12) of the file, made for editors: each key has its meaning, default and range. The
/// judge is [`parse`], which knows more (do names exist?) and takes a plain `1` for a name, which the schema does not.
pub fn schema() -> serde_json::Value {
    let about = "Configuration of foreshade-proxy, version foreshade/v1.";
    foreshade_settings::schema::<raw::File>(about)
}

/// A whole, consistent configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where operators look and act.
    pub admin: Admin,
    /// Whose plans it follows; nobody's where `None`.
    pub controller: Option<Controller>,
    /// Worker threads; one per core where the file does not say.
    pub workers: usize,
    /// Where users connect.
    pub listeners: Vec<Listener>,
    /// Where requests go.
    pub clusters: Vec<Cluster>,
    /// How long requests in flight may take after SIGTERM, or once a new process has taken over.
    pub grace: Duration,
    /// Where a new process asks for the sockets of this one; it cannot where `None`.
    pub upgrade_socket: Option<PathBuf>,
    /// The authority that certificates are ordered from; none where `None`.
    pub acme: Option<Arc<Authority>>,
    /// Who is asked for the addresses of names; whom this machine asks where empty.
    pub name_servers: Vec<SocketAddr>,
    /// A line per request; none where `None`.
    pub access_log: Option<AccessLog>,
    /// Names for requests.
    pub request_ids: RequestIds,
    /// The proxy's part in distributed traces.
    pub traces: Traces,
    /// Who is told of spans; nobody where `None`.
    pub trace_export: Option<TraceExport>,
    /// What all of this was read from.
    pub source: Arc<Source>,
}

impl Config {
    /// All names that stand for addresses.
    pub fn names(&self) -> BTreeSet<DnsName> {
        self.clusters.iter().flat_map(|c| &c.names).cloned().collect()
    }

    /// What the listeners that speak TLS do it with.
    pub fn terminations(&self) -> impl Iterator<Item = &Arc<Termination>> {
        self.listeners.iter().filter_map(|listener| listener.tls.as_ref())
    }

    /// What the clusters that speak TLS do it with, and what issuers are asked for their keys with.
    pub fn originations(&self) -> impl Iterator<Item = &Arc<Origination>> {
        let clusters = self.clusters.iter().filter_map(|cluster| cluster.tls.as_ref());
        let issuers = self
            .policies()
            .filter_map(|(_, _, policy)| policy.jwt.as_ref()?.origination());
        clusters.chain(issuers)
    }

    /// All policies: each with its listener, and with its route where it is one of those.
    pub fn policies(&self) -> impl Iterator<Item = (&Listener, Option<&Route>, &Policy)> {
        self.listeners.iter().flat_map(|listener| {
            let own = listener
                .policy
                .iter()
                .map(move |policy| (listener, None, &**policy));
            let of_routes = listener
                .routes
                .iter()
                .filter_map(move |route| Some((listener, Some(route), route.policy.as_deref()?)));
            own.chain(of_routes)
        })
    }

    /// All pages for errors.
    pub fn pages(&self) -> impl Iterator<Item = &Page> {
        let pages = self.policies().filter_map(|(_, _, policy)| policy.pages.as_ref());
        pages.flat_map(|pages| &pages.0)
    }

    /// The certificates that an authority issues when it is asked, each once.
    pub fn wanted(&self) -> impl Iterator<Item = &Arc<Wanted>> {
        let all = self.terminations().flat_map(|tls| tls.wanted());
        let by_file: BTreeMap<_, _> = all.map(|wanted| (wanted.file.as_path(), wanted)).collect();
        by_file.into_values()
    }

    /// All files that were read with it: certificates, keys, authorities, and pages.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let inside = self.terminations().flat_map(|tls| tls.files());
        let outside = self.originations().flat_map(|tls| tls.files());
        let pages = self.pages().filter_map(|page| page.file.as_deref());
        inside.chain(outside).chain(pages)
    }

    /// What is not wrong, and not as it should be.
    pub fn warnings(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let inside = self.terminations().flat_map(|tls| tls.warnings());
        let outside = self.originations().flat_map(|tls| tls.warnings());
        let of_files = inside.chain(outside).map(|warning| Cow::from(warning.as_str()));
        of_files.chain(self.drills()).chain(self.unreported())
    }

    /// Spans that nobody is told of for now.
    fn unreported(&self) -> Option<Cow<'_, str>> {
        let silent = self.trace_export.is_some() && self.traces.mode == TraceMode::Pass;
        silent.then(|| "trace.export: nothing is reported while trace.mode is pass".into())
    }

    /// Routes on which faults are made on purpose.
    fn drills(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let routes = self
            .listeners
            .iter()
            .flat_map(|listener| listener.routes.iter().map(move |route| (listener, route)));
        routes.filter_map(|(listener, route)| {
            let faults = route.policy.as_ref()?.faults.as_ref()?;
            let (listener, route) = (&listener.name, route.called());
            Some(format!("listener {listener}, route {route}: {}", faults.in_words()).into())
        })
    }

    /// The same, where certificates that are those of `before` are the very same object: with it stay the keys of its
    /// tickets, so that clients of before need no whole handshake; and of an endpoint its tickets and connections.
    #[must_use]
    pub fn keeping(mut self, before: &Self) -> Self {
        for tls in self
            .listeners
            .iter_mut()
            .filter_map(|listener| listener.tls.as_mut())
        {
            if let Some(same) = before.terminations().find(|known| known.is_same_as(tls)) {
                *tls = same.clone();
            }
        }
        for cluster in &mut self.clusters {
            if let Some(known) = before.clusters.iter().find(|known| known.name == cluster.name) {
                cluster.keep(known);
            }
        }
        self
    }
}

/// One address on which users connect.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name.
    pub name: Name,
    /// Where it listens.
    pub address: SocketAddr,
    /// What is spoken there, and where what is not read goes.
    pub protocol: Protocol,
    /// What it speaks TLS with; in the clear where `None`.
    pub tls: Option<Arc<Termination>>,
    /// How many requests of one HTTP/2 connection may be under way; `None` where only HTTP/1.1 is spoken.
    pub http2: Option<u32>,
    /// Routes, in the order of the file; the most specific match wins, see `route`. None but of http.
    pub routes: Vec<Route>,
    /// How long a connection may stay idle: between requests, or without a byte in either direction.
    pub idle_timeout: Duration,
    /// How long a connection that is only carried may live.
    pub lifetime: Option<Duration>,
    /// Who tells of clients before anything else; nobody where `None`.
    pub proxy_protocol: Option<Arc<ProxyProtocol>>,
    /// How much clients may ask for, and how long they may take.
    pub limits: Limits,
    /// Whose word on who the client is counts.
    pub trust: Trust,
    /// What is done about spellings of paths that endpoints read differently.
    pub path: PathPolicy,
    /// Whether plain requests are served by the relay.
    pub relay: bool,
    /// What is asked of its requests before they go anywhere; `None` for nothing.
    pub policy: Option<Arc<Policy>>,
    /// Whether an authority may ask here whether a name leads here.
    pub answers_challenges: bool,
}

/// What is spoken at a listener.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// HTTP, by routes.
    Http,
    /// Anything: bytes are carried and not read.
    Tcp {
        /// Who serves it.
        cluster: usize,
    },
    /// TLS, carried to who serves the name that is asked for, and not opened.
    TlsPassthrough(Arc<ServerNames>),
    /// Datagrams of anything.
    Udp {
        /// Who serves them.
        cluster: usize,
        /// How they are answered.
        datagrams: Datagrams,
    },
}

/// What a listener's socket is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Listener {
    /// The clusters that its users are served by.
    pub fn clusters(&self) -> Vec<usize> {
        match &self.protocol {
            Protocol::Http => self.routes.iter().flat_map(Route::clusters).collect(),
            Protocol::Tcp { cluster } | Protocol::Udp { cluster, .. } => vec![*cluster],
            Protocol::TlsPassthrough(names) => names.clusters().collect(),
        }
    }

    /// What its socket is made for.
    pub fn transport(&self) -> Transport {
        match self.protocol {
            Protocol::Udp { .. } => Transport::Udp,
            Protocol::Http | Protocol::Tcp { .. } | Protocol::TlsPassthrough(_) => Transport::Tcp,
        }
    }

    /// Whether requests are read here, and not only bytes carried.
    pub fn is_http(&self) -> bool {
        matches!(self.protocol, Protocol::Http)
    }
}

/// A set of endpoints that serve the same thing, and their shadows.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name.
    pub name: Name,
    /// Primaries first, shadows after them. Addresses of names are among them as far as they are known.
    pub endpoints: Vec<Endpoint>,
    /// Names that stand for addresses of its members.
    pub names: Vec<DnsName>,
    /// How they are asked in HTTP/2; in HTTP/1.1 where `None`.
    pub http2: Option<Http2>,
    /// How to choose among primaries.
    pub balance: BalancePolicy,
    /// What decides which users move first.
    pub cohort: CohortKey,
    /// Users who move first, in order; everybody else follows.
    pub segments: Vec<Segment>,
    /// Active health checks.
    pub health: Option<HealthCheck>,
    /// Shift policy.
    pub shift: ShiftPolicy,
    /// Time to establish a connection.
    pub connect_timeout: Duration,
    /// Ramp of a new or returning endpoint.
    pub slow_start: Duration,
    /// Idle connections are closed after this; shorter than what servers usually grant.
    pub idle_timeout: Duration,
    /// How many requests may be under way; any number where `None`.
    pub gate: Option<Arc<Gate>>,
    /// How users stay with their slot; they do not where `None`.
    pub sticky: Option<Arc<Sticky>>,
    /// How endpoints are told of clients before the first byte; not at all where `None`.
    pub proxy_protocol: Option<Version>,
    /// What its endpoints are spoken to in TLS with; in the clear where `None`.
    pub tls: Option<Arc<Origination>>,
}

impl Cluster {
    /// The way to one of its endpoints.
    pub fn to(&self, endpoint: &Endpoint) -> To {
        To {
            address: endpoint.address,
            limit: self.connect_timeout,
            tls: endpoint.tls.clone(),
        }
    }

    /// Endpoints of which nothing has changed since `known` keep what is remembered of them; the others their counts.
    fn keep(&mut self, known: &Self) {
        let places: HashMap<_, _> = known
            .endpoints
            .iter()
            .map(|e| ((&e.name, e.address), e))
            .collect();
        for endpoint in &mut self.endpoints {
            let before = places.get(&(&endpoint.name, endpoint.address));
            let before = before.and_then(|before| before.tls.as_ref());
            if let (Some(tls), Some(before)) = (&mut endpoint.tls, before) {
                *tls = match tls == before {
                    true => before.clone(),
                    false => Arc::new(tls.counted_on(before)),
                };
            }
        }
    }
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Its name.
    pub name: Name,
    /// Where it is.
    pub address: SocketAddr,
    /// Primary (with the index of its shadow, if any) or shadow.
    pub role: Role,
    /// Region, shown to operators.
    pub region: Option<Name>,
    /// Relative weight, above 0.
    pub weight: f64,
    /// Requests per second it can carry, where known.
    pub capacity_rps: Option<f64>,
    /// How TLS is spoken with it; in the clear where `None`.
    pub tls: Option<Arc<Destination>>,
}

/// What a user is recognised by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CohortKey {
    /// The client's address. The default.
    ClientAddress,
    /// A header; the client's address where it is absent.
    Header(HeaderName),
    /// A cookie; the client's address where it is absent.
    Cookie(String),
}

/// Some of the users.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Its name.
    pub name: Name,
    /// Who belongs to it: all rules have to hold.
    pub rules: Vec<SegmentRule>,
    /// How much of the shift's way this segment takes.
    pub part: Share,
}

/// One property of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentRule {
    /// A header has this value.
    Header {
        /// Name.
        name: HeaderName,
        /// Exact value.
        value: String,
    },
    /// A cookie has this value.
    Cookie {
        /// Name.
        name: String,
        /// Exact value.
        value: String,
    },
}

/// Active probes.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Between two probes of one endpoint.
    pub interval: Duration,
    /// For one probe.
    pub timeout: Duration,
    /// Passes in a row until it is healthy again.
    pub rise: u32,
    /// Failures in a row until it is dead.
    pub fall: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A connection.
    Tcp,
    /// A datagram.
    Udp {
        /// Its content.
        send: Vec<u8>,
        /// What the answer begins with.
        expect: Vec<u8>,
    },
    /// `GET path`, answered below 400.
    Http {
        /// With its slash.
        path: String,
        /// Value of the `Host` header; the endpoint's address where `None`.
        host: Option<String>,
    },
    /// `grpc.health.v1.Health/Check`, answered SERVING.
    Grpc {
        /// The service that is asked for; empty for the whole server.
        service: String,
        /// Value of `:authority`; the endpoint's address where `None`.
        host: Option<String>,
    },
}
