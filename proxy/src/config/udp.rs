//! Clusters that datagrams are sent to: what means nothing to them, and what is asked of their health.

use foreshade_settings::{At, Mistake, Mistakes, Place};

use super::tcp::announced;
use super::{Listener, Protocol, raw};

/// What a listener of UDP does beside carrying.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    /// Answers to each datagram, 0 for none; whether there is one is learnt where `None`.
    pub responses: Option<u32>,
    /// How many bytes may go to a client for each that has come from him; any number where `None`.
    pub amplification: Option<u32>,
}

impl Datagrams {
    /// What the keys of a listener say.
    pub(super) fn of(raw: &raw::Listener) -> Self {
        Self {
            responses: raw.responses.as_ref().map(|responses| responses.value.0),
            amplification: raw.amplification.as_ref().map(|factor| factor.value.0),
        }
    }
}

/// Which clusters datagrams are sent to, and which nothing else.
pub(super) fn alone(listeners: &[Option<Listener>], cluster: usize) -> bool {
    let mut of_it = listeners
        .iter()
        .flatten()
        .filter(|l| l.clusters().contains(&cluster));
    // Who serves nobody is served by whatever it is asked for.
    let first = of_it.next();
    first.is_some_and(is_udp) && of_it.all(is_udp)
}

fn is_udp(listener: &Listener) -> bool {
    matches!(listener.protocol, Protocol::Udp { .. })
}

/// What has no meaning for datagrams.
pub(super) fn check(clusters: &[raw::Cluster], listeners: &[Option<Listener>], mistakes: &mut Mistakes) {
    let served: Vec<usize> = listeners
        .iter()
        .flatten()
        .filter(|l| is_udp(l))
        .flat_map(Listener::clusters)
        .collect();
    for (index, cluster) in clusters.iter().enumerate() {
        if !served.contains(&index) {
            continue;
        }
        let told = cluster.proxy_protocol.place();
        let told = announced(cluster.proxy_protocol.value).is_some().then_some(told);
        let tls = cluster.tls.as_ref().map(At::place);
        for (key, place) in [("proxyProtocol", told), ("tls", tls)] {
            if let Some(place) = place {
                let what = format!("{key}: a listener of udp goes to this cluster, and datagrams have none");
                mistakes.add(Mistake::at(place, what).expected("a cluster of its own for udp"));
            }
        }
    }
}

/// Keys of datagrams, with their places.
pub(super) fn keys(raw: &raw::Listener) -> [(&'static str, Option<Place>); 2] {
    [
        ("responses", raw.responses.as_ref().and_then(At::place)),
        ("amplification", raw.amplification.as_ref().and_then(At::place)),
    ]
}
