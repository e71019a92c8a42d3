//! What all of them are tried with: an authority, a proxy, and both of its ways to an endpoint.

use std::net::SocketAddr;

use foreshade_bench::client;
use foreshade_tests::certificates::{Authority, Files, Folder};
use foreshade_tests::proxy::{Proxy, preamble};
use foreshade_tests::tls_server::TlsServer;

/// The relay, and the full path.
pub(crate) const BOTH: [bool; 2] = [true, false];

/// The name that endpoints are asked for.
pub(crate) const NAME: &str = "shop.internal";

/// An authority, and a certificate of [`NAME`].
pub(crate) struct Stage {
    pub(crate) folder: Folder,
    pub(crate) authority: Authority,
    pub(crate) shop: Files,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        let authority = folder.authority("ca");
        let shop = authority.issue("shop", &[NAME]);
        Self {
            folder,
            authority,
            shop,
        }
    }

    /// An endpoint that bears [`NAME`].
    pub(crate) fn server(&self) -> TlsServer {
        TlsServer::start(&self.shop)
    }

    /// A `tls` section: the authority, the name, and whatever else.
    pub(crate) fn tls(&self, more: &str) -> String {
        let ca = self.authority.file.display();
        format!("{{ caFile: {ca}, serverName: {NAME}{more} }}")
    }

    /// A proxy before one endpoint.
    pub(crate) fn before(&self, endpoint: SocketAddr, relay: bool) -> Proxy {
        start(relay, &self.tls(""), &one(endpoint))
    }
}

/// One endpoint and no health checks.
pub(crate) fn one(endpoint: SocketAddr) -> String {
    format!("    health: off\n    endpoints: [{{ name: a, address: \"{endpoint}\" }}]\n")
}

/// The file of a proxy whose cluster speaks TLS by `tls`, with the keys of its `cluster`.
pub(crate) fn file(users: SocketAddr, admin: SocketAddr, relay: bool, tls: &str, cluster: &str) -> String {
    format!(
        "{}relay: {relay}\nlisteners:\n  - name: web\n    address: \"{users}\"\n    routes: [{{ cluster: shop, timeout: \
         5s }}]\nclusters:\n  - name: shop\n    tls: {tls}\n{cluster}",
        preamble(admin)
    )
}

pub(crate) fn start(relay: bool, tls: &str, cluster: &str) -> Proxy {
    Proxy::start_with(|users, admin| file(users, admin, relay, tls, cluster))
}

/// Asks as a user does.
pub(crate) fn get(proxy: &Proxy, path: &str) -> (u16, String) {
    client::request(proxy.users, "GET", path, "").expect("an answer")
}

/// How many handshakes with the endpoint `a` came to nothing for this reason.
pub(crate) fn failed(proxy: &Proxy, reason: &str) -> u64 {
    let labels = format!("cluster=\"shop\",endpoint=\"a\",reason=\"{reason}\"");
    let name = format!("foreshade_endpoint_tls_handshakes_failed_total{{{labels}}}");
    counted(proxy, &name).expect("it is counted")
}

/// How many were completed.
pub(crate) fn done(proxy: &Proxy, version: &str, resumed: bool) -> u64 {
    let labels = format!("cluster=\"shop\",endpoint=\"a\",version=\"{version}\",resumed=\"{resumed}\"");
    let name = format!("foreshade_endpoint_tls_handshakes_total{{{labels}}}");
    counted(proxy, &name).expect("it is counted")
}

/// How many attempts at the endpoint `a` ended like this.
pub(crate) fn attempts(proxy: &Proxy, class: &str) -> u64 {
    let labels = format!("cluster=\"shop\",endpoint=\"a\",class=\"{class}\"");
    let name = format!("foreshade_endpoint_attempts_total{{{labels}}}");
    counted(proxy, &name).unwrap_or_default()
}

fn counted(proxy: &Proxy, name: &str) -> Option<u64> {
    let value = proxy.metric(name)?;
    Some(value.to_string().parse().expect("a whole number"))
}
