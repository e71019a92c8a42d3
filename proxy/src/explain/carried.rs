//! Explains where a connection goes, or a datagram, that is carried and not read: whom it is for, and who serves it.

use std::fmt;

use foreshade_engine::outcome::RouteClass;
use serde::Serialize;

use super::{Explanation, Question};
use crate::cohort;
use crate::config::{Config, Listener, Protocol};
use crate::route::without_port;

/// Where a connection goes.
#[derive(Debug, Serialize)]
pub struct Carried {
    /// What is spoken: `tcp`, `tls-passthrough` or `udp`.
    pub protocol: &'static str,
    /// The server that the client asks for.
    pub server_name: Option<String>,
    /// Who serves it.
    pub cluster: Option<String>,
    /// Why nobody does.
    pub refused: Option<&'static str>,
    /// The user's hash, which decides when he changes sides; hexadecimal.
    pub cohort: String,
    /// What endpoints are told of the client before the first byte: `v1` or `v2` of the PROXY protocol.
    pub told: Option<String>,
}

impl Carried {
    /// Whether a cluster serves it.
    pub fn is_served(&self) -> bool {
        self.cluster.is_some()
    }
}

/// Sends the connection to where its listener sends it.
pub(super) fn through(
    config: &Config,
    listener: &Listener,
    question: &Question,
    authority: &str,
) -> Explanation {
    let name = Some(without_port(authority).to_ascii_lowercase()).filter(|name| !name.is_empty());
    let (protocol, server_name, found) = match &listener.protocol {
        Protocol::Http => ("http", None, None),
        Protocol::Tcp { cluster } => ("tcp", None, Some(Ok(*cluster))),
        Protocol::Udp { cluster, .. } => ("udp", None, Some(Ok(*cluster))),
        Protocol::TlsPassthrough(names) => {
            let found = names.cluster(name.as_deref());
            ("tls-passthrough", name, Some(found))
        }
    };
    let cluster = found.and_then(|found| config.clusters.get(found.ok()?));
    let request = cohort::connection(question.client, RouteClass::default());
    let carried = Carried {
        protocol,
        server_name,
        cluster: cluster.map(|cluster| cluster.name.to_string()),
        refused: found.and_then(|found| Some(found.err()?.label())),
        cohort: format!("{:016x}", request.cohort.hash()),
        told: cluster.and_then(|cluster| Some(format!("{:?}", cluster.proxy_protocol?).to_lowercase())),
    };
    Explanation {
        listener: listener.name.to_string(),
        path: None,
        refused: None,
        client: Some(question.client),
        route: None,
        runners_up: Vec::new(),
        policies: Vec::new(),
        outcome: None,
        carried: Some(carried),
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "protocol   {}", self.protocol)?;
        if let Some(name) = &self.server_name {
            write!(f, "\nasks for   {name}")?;
        }
        let Some(cluster) = &self.cluster else {
            return write!(f, "\nrefused    {}", self.refused.unwrap_or("unrouted"));
        };
        write!(
            f,
            "\ncluster    {cluster}\ncohort     {}, by client address",
            self.cohort
        )?;
        match &self.told {
            Some(version) => write!(f, "\ntold       PROXY protocol {version}"),
            None => Ok(()),
        }
    }
}
