//! What no value can know alone: that names exist, addresses are free, and nothing leads back to itself.
//!
//! Runs also after mistakes of reading, on whatever was understood, and is careful not to report what only follows
//! from an earlier mistake: a name is "unknown" only where all names could be read. `None` for a part means that
//! something is wrong with it, and reported.

use std::net::SocketAddr;
use std::sync::Arc;

use foreshade_settings::{At, List, Mistake, Mistakes, Names, Resolve, address, quoted};

use super::acme::Orders;
use super::dns::Answers;
use super::error_pages::ReadPage;
use super::mirror::Clusters;
use super::text::route::Network;
use super::tls::{Originate, Terminate, termination};
use super::{
    Admin, AdminAddress, Cluster, Config, IDLE_HTTP, IDLE_TCP, IDLE_UDP, Listener, Source, Transport,
    cluster, follow, policy, raw, route, sticky, tcp, trace, udp,
};
use crate::client::{ToldBy, Trust};
use crate::path::PathPolicy;
use crate::tls::Termination;

/// What a file does not say itself.
pub(super) struct World<'a> {
    /// How host names of listeners become addresses.
    pub(super) resolve: &'a Resolve<'a>,
    /// What names of endpoints stand for.
    pub(super) answers: &'a Answers,
    /// How files of certificates become what TLS is spoken with.
    pub(super) terminate: &'a Terminate<'a>,
    /// The same, for what is spoken with endpoints.
    pub(super) originate: &'a Originate<'a>,
    /// How files become pages for errors.
    pub(super) page: &'a ReadPage<'a>,
}

/// What a listener needs beside its keys. `None` for what is wrong, and reported.
struct Entrance {
    address: Option<SocketAddr>,
    tls: Option<Option<Arc<Termination>>>,
}

/// Checks a file as a whole.
pub(super) fn config(
    file: raw::File,
    source: Arc<Source>,
    world: &World<'_>,
    mistakes: &mut Mistakes,
) -> Option<Config> {
    let clusters = file.clusters.unwrap_or_else(List::unread);
    let mut listeners = file.listeners.unwrap_or_else(List::unread);
    let names = Names::collect(
        "cluster",
        clusters.items.iter().map(|cluster| cluster.name.as_ref()),
        clusters.whole,
        mistakes,
    );
    // Nothing refers to a listener by its name, but metrics and logs tell them apart by it.
    Names::collect(
        "listener",
        listeners.items.iter().map(|listener| listener.name.as_ref()),
        listeners.whole,
        mistakes,
    );

    for listener in &listeners.items {
        tcp::check_effect(listener, mistakes);
    }
    let admin = foreshade_settings::admin(file.admin.into(), world.resolve, mistakes);
    let mut taken: Vec<_> = admin.iter().filter_map(taken_by).collect();
    let mut orders = Orders::of(file.acme, mistakes);
    let entrances: Vec<_> = listeners
        .items
        .iter_mut()
        .map(|listener| entrance(listener, (&mut taken, &mut orders), world, mistakes))
        .collect();
    let known = known(&names, &clusters.items, world);
    let whole = (file.relay, listeners.sound);
    let mut listeners: Vec<_> = listeners
        .items
        .into_iter()
        .zip(entrances)
        .map(|(raw, entrance)| listener(raw, entrance, whole, &known, mistakes))
        .collect();
    let acme = orders.end(&mut listeners, mistakes);
    tcp::check_announced(&clusters.items, &listeners, mistakes);
    sticky::check(&clusters.items, &listeners, mistakes);
    udp::check(&clusters.items, &listeners, mistakes);
    let (follows, listening) = (file.follow.is_some(), listening(taken));
    let clusters = checked(clusters.items, &listeners, (&listening, follows), world, mistakes);
    let servers = file.dns.servers.items.iter();
    let servers = servers.map(|server| Some(address(Some(server), world.resolve, mistakes)?.value));
    let servers: Vec<_> = servers.collect();
    let traces = trace::traces(file.trace, mistakes);
    // The only version there is; a second one needs a second reader.
    let raw::ApiVersion = file.api_version?;
    let traces = traces?;
    Some(Config {
        admin: admin?,
        controller: match file.follow {
            Some(keys) => Some(follow::controller(keys, mistakes)?),
            None => None,
        },
        acme: acme?,
        access_log: file.access_log.into(),
        request_ids: file.request_id.into(),
        traces: traces.0,
        trace_export: traces.1,
        source,
        workers: file
            .workers
            .map_or_else(one_per_core, |workers| usize::try_from(workers.0).unwrap_or(1)),
        listeners: listeners.into_iter().collect::<Option<_>>()?,
        clusters: clusters.into_iter().collect::<Option<_>>()?,
        grace: file.grace.0,
        upgrade_socket: file.upgrade.socket.map(|socket| socket.0),
        name_servers: servers.into_iter().collect::<Option<_>>()?,
        // The text is not seen from here.
    })
}

/// Checks the clusters. `listening` are the addresses of this proxy and whose they are; `follows` says that a controller
/// leads it.
fn checked(
    clusters: Vec<raw::Cluster>,
    listeners: &[Option<Listener>],
    (listening, follows): (&[(SocketAddr, String)], bool),
    world: &World<'_>,
    mistakes: &mut Mistakes,
) -> Vec<Option<Cluster>> {
    let mut checked = Vec::new();
    for (index, raw) in clusters.into_iter().enumerate() {
        let around = cluster::Around {
            listening,
            follows,
            is_udp: udp::alone(listeners, index),
        };
        checked.push(cluster::cluster(raw, around, world, mistakes));
    }
    checked
}

/// What routes have to know of clusters.
fn known<'a>(names: &'a Names, clusters: &[raw::Cluster], world: &'a World<'a>) -> Clusters<'a> {
    let is_shadowed = |cluster: &raw::Cluster| !cluster.shadows.items.is_empty() || !cluster.shadows.whole;
    Clusters {
        names,
        shadowed: clusters.iter().map(is_shadowed).collect(),
        http2: clusters
            .iter()
            .map(|cluster| cluster.protocol == raw::Spoken::Http2)
            .collect(),
        world,
    }
}

/// An address that somebody listens on already.
struct Taken {
    address: SocketAddr,
    transport: Transport,
    by: String,
}

/// All of them, and whose they are.
fn listening(taken: Vec<Taken>) -> Vec<(SocketAddr, String)> {
    taken.into_iter().map(|taken| (taken.address, taken.by)).collect()
}

/// The address that the admin interface takes, if it takes one.
fn taken_by(admin: &Admin) -> Option<Taken> {
    match admin.address {
        AdminAddress::Tcp(address) => Some(Taken {
            address,
            transport: Transport::Tcp,
            by: "the admin interface".to_owned(),
        }),
        AdminAddress::Unix { .. } => None,
    }
}

fn one_per_core() -> usize {
    // The range of the key holds for the machine, too.
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(256))
}

/// The address of a listener, provided that nobody listens there yet.
fn bind(
    listener: &raw::Listener,
    taken: &mut Vec<Taken>,
    resolve: &Resolve<'_>,
    mistakes: &mut Mistakes,
) -> Option<SocketAddr> {
    let address = address(listener.address.as_ref(), resolve, mistakes)?;
    let transport = match listener.protocol {
        raw::Protocol::Udp => Transport::Udp,
        raw::Protocol::Http | raw::Protocol::Tcp | raw::Protocol::TlsPassthrough => Transport::Tcp,
    };
    let is_same = |other: &&Taken| other.transport == transport && overlap(other.address, address.value);
    if let Some(Taken { by, .. }) = taken.iter().find(is_same) {
        let what = format!("address: {} is taken by {by}", address.value);
        mistakes.add(Mistake::at(address.place(), what).expected("an address of its own"));
    }
    let name = listener
        .name
        .as_ref()
        .map_or("another listener".to_owned(), |name| {
            format!("the listener {}", quoted(name.value.as_str()))
        });
    taken.push(Taken {
        address: address.value,
        transport,
        by: name,
    });
    Some(address.value)
}

/// What a listener needs beside its keys.
fn entrance(
    listener: &mut raw::Listener,
    (taken, orders): (&mut Vec<Taken>, &mut Orders),
    world: &World<'_>,
    mistakes: &mut Mistakes,
) -> Entrance {
    let http2 = listener.http2.streams(true).is_some();
    let is_idle =
        listener.http2.streams.is_some() && listener.http2.streams(listener.tls.is_some()).is_none();
    if is_idle && listener.protocol == raw::Protocol::Http {
        let here = listener.name.as_ref().and_then(At::place);
        let what = "http2: streams has no effect: HTTP/2 is not spoken here";
        mistakes.add(Mistake::at(here, what).expected("enabled: true, or tls"));
    }
    Entrance {
        address: bind(listener, taken, world.resolve, mistakes),
        tls: match listener.tls.take() {
            Some(keys) => termination(keys, http2, (world.terminate, orders), mistakes).map(Some),
            None => Some(None),
        },
    }
}

/// Whether two sockets that listen would get in each other's way: an unspecified address stands for all of them.
pub(crate) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

/// Checks a listener. `whole` says of the file whether the relay serves where nothing is said, and whether all listeners
/// could be read: else what seems to be missing may only be misspelt.
fn listener(
    mut raw: raw::Listener,
    entrance: Entrance,
    (relay, sound): (bool, bool),
    clusters: &Clusters<'_>,
    mistakes: &mut Mistakes,
) -> Option<Listener> {
    let policy = policy::policy(policy::Written::of_listener(&mut raw), clusters.world, mistakes);
    let name = raw.name.as_ref().and_then(At::place);
    let datagrams = udp::Datagrams::of(&raw);
    let routes = match raw.routes {
        Some(routes) => route::routes(routes.value, clusters, mistakes),
        None => tcp::without_routes(raw.protocol, name, sound, mistakes),
    };
    if let (Some(Some(policy)), Some(routes)) = (&policy, &routes) {
        policy::check_logins(policy, routes, name, mistakes);
    }
    if let (Some(tls), Some(routes)) = (&entrance.tls, &routes) {
        let is_asked = tls.as_ref().is_some_and(|tls| tls.asks());
        policy::check_certificates(is_asked, routes, name, mistakes);
    }
    let asked = tcp::Asked {
        datagrams,
        name,
        protocol: raw.protocol,
        cluster: raw.cluster,
        server_names: raw.server_names,
    };
    let protocol = asked.protocol(clusters.names, sound, mistakes);
    let trust = trust(raw.trusted_proxies, &raw.forwarded, mistakes);
    let idle_usual = match raw.protocol {
        raw::Protocol::Http => IDLE_HTTP,
        raw::Protocol::Tcp | raw::Protocol::TlsPassthrough => IDLE_TCP,
        raw::Protocol::Udp => IDLE_UDP,
    };
    Some(Listener {
        name: raw.name?.value,
        address: entrance.address?,
        protocol: protocol?,
        http2: raw
            .http2
            .streams(entrance.tls.as_ref().is_some_and(Option::is_some)),
        tls: entrance.tls?,
        routes: routes?,
        idle_timeout: raw.idle_timeout.map_or(idle_usual, |idle| idle.0),
        lifetime: raw.lifetime.map(|life| life.value.0),
        proxy_protocol: match raw.proxy_protocol {
            Some(raw) => Some(Arc::new(tcp::proxy_protocol(raw)?)),
            None => None,
        },
        limits: raw.limits.checked(),
        trust,
        path: PathPolicy {
            encoded_slashes: raw.path.encoded_slashes,
            duplicate_slashes: raw.path.duplicate_slashes,
        },
        relay: raw.relay.unwrap_or(relay),
        policy: policy?,
        answers_challenges: false,
    })
}

fn trust(proxies: List<At<Network>, 0>, told_by: &At<ToldBy>, mistakes: &mut Mistakes) -> Trust {
    if let (ToldBy::Nothing, Some(first)) = (told_by.value, proxies.items.first()) {
        mistakes.add(
            Mistake::at(first.place(), "trustedProxies has no effect: forwarded is off")
                .expected("a header that trusted proxies tell the client in"),
        );
    }
    Trust {
        proxies: proxies.items.into_iter().map(|network| network.value.0).collect(),
        told_by: told_by.value,
    }
}
