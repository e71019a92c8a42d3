//! What a listener speaks: whether its keys go together, and which clusters its connections go to.

use std::net::IpAddr;
use std::sync::Arc;

use foreshade_settings::{At, List, Mistake, Mistakes, Names, Place, Reference, quoted};

use super::udp::{self, Datagrams};
use super::{Listener, Protocol, raw};
use crate::proxy_protocol::{ProxyProtocol, Version};
use crate::route::Route;
use crate::tcp::ServerNames;

/// What a listener is asked for, apart from routes.
pub(super) struct Asked {
    pub(super) name: Option<Place>,
    pub(super) protocol: raw::Protocol,
    pub(super) cluster: Option<At<Reference>>,
    pub(super) server_names: List<At<raw::ServerNames>, 0>,
    pub(super) datagrams: Datagrams,
}

impl Asked {
    /// Checks where connections go that are not read. `None` where that is wrong, and reported; `sound` says that no key of
    /// a listener may only be misspelt.
    pub(super) fn protocol(self, clusters: &Names, sound: bool, mistakes: &mut Mistakes) -> Option<Protocol> {
        let before = mistakes.count();
        let cluster = clusters.find("cluster", self.cluster.as_ref(), mistakes);
        match self.protocol {
            raw::Protocol::Http => Some(Protocol::Http),
            raw::Protocol::Tcp | raw::Protocol::Udp => {
                let is_udp = self.protocol == raw::Protocol::Udp;
                if self.cluster.is_none() && sound {
                    let what = match is_udp {
                        true => "cluster is missing: datagrams of udp go to one",
                        false => "cluster is missing: connections of tcp go to one",
                    };
                    mistakes.add(Mistake::at(self.name, what).expected("the name of a cluster"));
                }
                let (cluster, datagrams) = (cluster?, self.datagrams);
                Some(match is_udp {
                    true => Protocol::Udp { cluster, datagrams },
                    false => Protocol::Tcp { cluster },
                })
            }
            raw::Protocol::TlsPassthrough => {
                if self.cluster.is_none() && self.server_names.items.is_empty() && sound {
                    let what = "neither serverNames nor cluster: no connection would go anywhere";
                    mistakes.add(Mistake::at(self.name, what).expected("serverNames, cluster, or both"));
                }
                let names = names(self.server_names, cluster, clusters, mistakes);
                (mistakes.count() == before).then_some(Protocol::TlsPassthrough(Arc::new(names)))
            }
        }
    }
}

fn names(
    entries: List<At<raw::ServerNames>, 0>,
    other: Option<usize>,
    clusters: &Names,
    mistakes: &mut Mistakes,
) -> ServerNames {
    let mut table = ServerNames::new(other);
    for entry in entries.items {
        let cluster = clusters.find("cluster", entry.value.cluster.as_ref(), mistakes);
        for name in entry.value.names.into_iter().flat_map(|names| names.items) {
            let text = name.value.0.as_str();
            if text.starts_with('[') || text.parse::<IpAddr>().is_ok() {
                let what = format!(
                    "names: {} is an address, and no client asks for one",
                    quoted(text)
                );
                mistakes.add(Mistake::at(name.place(), what).expected("a name, or *. and a domain"));
            } else if let Some(cluster) = cluster
                && table.add(text, cluster).is_some()
            {
                let what = format!("names: {} has an entry already", quoted(text));
                mistakes.add(Mistake::at(name.place(), what).expected("each name once in a listener"));
            }
        }
    }
    table
}

/// Keys that mean nothing to what the listener speaks. Each with its place, where it is written.
pub(super) fn check_effect(raw: &raw::Listener, mistakes: &mut Mistakes) {
    let here = raw.name.as_ref().and_then(At::place);
    let of_routes = raw.routes.as_ref().and_then(At::place);
    let of_names = raw.server_names.items.first().and_then(At::place);
    let of_cluster = raw.cluster.as_ref().and_then(At::place);
    let of_http = [
        ("routes", of_routes),
        ("tls", here.filter(|_| raw.tls.is_some())),
        (
            "http2",
            here.filter(|_| raw.http2.enabled == Some(true) || raw.http2.streams.is_some()),
        ),
        (
            "trustedProxies",
            raw.trusted_proxies.items.first().and_then(At::place),
        ),
        ("forwarded", raw.forwarded.place()),
        ("path", here.filter(|_| raw.path.changes_anything())),
        ("relay", here.filter(|_| raw.relay.is_some())),
        ("access", here.filter(|_| raw.access.is_some())),
        ("rateLimits", raw.rate_limits.items.first().and_then(At::place)),
        ("maintenance", here.filter(|_| raw.maintenance.is_some())),
        ("basicAuth", here.filter(|_| raw.basic_auth.is_some())),
        ("jwt", raw.jwt.as_ref().and_then(At::place)),
        ("authorize", here.filter(|_| raw.authorize.is_some())),
        ("compression", here.filter(|_| raw.compression.is_some())),
        ("errorPages", raw.error_pages.items.first().and_then(At::place)),
    ];
    let of_carrying = [
        ("cluster", of_cluster),
        ("lifetime", raw.lifetime.as_ref().and_then(At::place)),
    ];
    let of_names = [("serverNames", of_names)];
    let of_balancers = [("proxyProtocol", here.filter(|_| raw.proxy_protocol.is_some()))];
    let of_udp = udp::keys(raw);
    let (idle, spoken, instead): (&[&[_]], _, _) = match raw.protocol {
        raw::Protocol::Http => (&[&of_names, &of_carrying, &of_udp], "http", "routes"),
        raw::Protocol::Tcp => (&[&of_http, &of_names, &of_udp], "tcp", "cluster"),
        raw::Protocol::TlsPassthrough => (&[&of_http, &of_udp], "tls-passthrough", "serverNames"),
        raw::Protocol::Udp => (&[&of_http, &of_names, &of_balancers], "udp", "cluster"),
    };
    let idle = idle.iter().flat_map(|keys| keys.iter());
    for (key, place) in idle.filter_map(|(key, place)| Some((*key, (*place)?))) {
        let what = format!("{key} has no effect: the listener speaks {spoken}");
        let expected = format!("another protocol, or another key, as {instead}");
        mistakes.add(Mistake::at(Some(place), what).expected(expected));
    }
}

/// What stands for routes that are not there; `None` where the listener needs some.
pub(super) fn without_routes(
    spoken: raw::Protocol,
    name: Option<Place>,
    sound: bool,
    mistakes: &mut Mistakes,
) -> Option<Vec<Route>> {
    if spoken != raw::Protocol::Http {
        return Some(Vec::new());
    }
    if sound {
        let what = "routes is missing: requests of http go where it says";
        mistakes.add(Mistake::at(name, what).expected("a list, not empty"));
    }
    None
}

/// Who tells a listener of clients.
pub(super) fn proxy_protocol(raw: raw::ProxyProtocol) -> Option<ProxyProtocol> {
    let from = raw.from?;
    let networks = from.items.into_iter().map(|network| network.0).collect();
    from.whole.then_some(ProxyProtocol {
        from: networks,
        timeout: raw.timeout.0,
    })
}

/// How endpoints are told of clients.
pub(super) fn announced(raw: raw::Announce) -> Option<Version> {
    match raw {
        raw::Announce::Off => None,
        raw::Announce::V1 => Some(Version::V1),
        raw::Announce::V2 => Some(Version::V2),
    }
}

/// Requests of many clients share a connection to an endpoint, and a header before its first byte could speak of one only.
pub(super) fn check_announced(
    clusters: &[raw::Cluster],
    listeners: &[Option<Listener>],
    mistakes: &mut Mistakes,
) {
    let routed = listeners.iter().flatten().flat_map(|listener| &listener.routes);
    let routed: Vec<usize> = routed.flat_map(Route::clusters).collect();
    for (index, cluster) in clusters.iter().enumerate() {
        if let Some(gate) = &cluster.concurrency {
            check_gate(index, gate, listeners, mistakes);
        }
        if let Some(tls) = &cluster.tls {
            check_sealed_once(index, tls.place(), listeners, mistakes);
        }
        if announced(cluster.proxy_protocol.value).is_some() && routed.contains(&index) {
            let what =
                "proxyProtocol: a route of http goes to this cluster, whose connections many clients share";
            let hint = "endpoints learn of clients of http in X-Forwarded-For or Forwarded".to_owned();
            mistakes.add(
                Mistake::at(cluster.proxy_protocol.place(), what)
                    .expected("off")
                    .hint(hint),
            );
        }
    }
}

/// What a client has sealed for the endpoint itself is not sealed once more.
fn check_sealed_once(
    index: usize,
    tls: Option<Place>,
    listeners: &[Option<Listener>],
    mistakes: &mut Mistakes,
) {
    let mut known = listeners.iter().flatten();
    let passes =
        |l: &Listener| matches!(l.protocol, Protocol::TlsPassthrough(_)) && l.clusters().contains(&index);
    if known.any(passes) {
        let what = "tls: a listener of tls-passthrough goes to this cluster, whose clients speak TLS with it themselves";
        mistakes
            .add(Mistake::at(tls, what).expected("no tls here, or a listener that opens what clients send"));
    }
}

/// A cluster's gate is for requests, and a wait before it has to leave them time for an answer.
fn check_gate(
    index: usize,
    gate: &At<raw::Concurrency>,
    listeners: &[Option<Listener>],
    mistakes: &mut Mistakes,
) {
    let mut known = listeners.iter().flatten();
    if known.any(|listener| !listener.is_http() && listener.clusters().contains(&index)) {
        let what = "concurrency: connections that are carried go to this cluster, and pass no gate";
        mistakes.add(Mistake::at(gate.place(), what).expected("limits.connections of the listener"));
    }
    let routes = listeners.iter().flatten().flat_map(|listener| &listener.routes);
    let mut to_it = routes.filter(|route| route.clusters().any(|cluster| cluster == index));
    if gate.value.queue.0 > 0 && to_it.any(|route| gate.value.wait.0 >= route.timeout) {
        let what = "wait is not below the timeout of a route to this cluster";
        mistakes.add(Mistake::at(gate.place(), what).expected("a wait that leaves time for an answer"));
    }
}
