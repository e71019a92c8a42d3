//! Upstream connections as pingora wants them: peers, and what its errors mean.

pub mod deadline;
pub mod network;

use std::time::Duration;

use pingora_core::protocols::TcpKeepalive;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorSource, ErrorType};

use crate::config::{Cluster, Endpoint};
use crate::outcome::Failure;
use crate::recorder::Place;
use crate::topology::Topology;

/// When an idle kept connection is asked whether its other end still lives.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(15),
    interval: Duration::from_secs(5),
    count: 3,
    user_timeout: Duration::ZERO,
};

/// The mark of an error by which an answer is dropped because its request goes elsewhere.
pub(crate) const ELSEWHERE: ErrorType = ErrorType::Custom("Elsewhere");

/// One ready-made peer per endpoint. pingora wants a fresh box per attempt; copying a template is the cheapest one.
#[derive(Debug)]
pub struct Peers {
    clusters: Vec<Vec<HttpPeer>>,
}

impl Peers {
    /// Peers for all endpoints of a topology.
    pub fn new(topology: &Topology) -> Self {
        let clusters = topology.config().clusters.iter().enumerate();
        let peers = clusters.map(|(i, c)| c.endpoints.iter().map(|e| peer(i, c, e)).collect());
        Self {
            clusters: peers.collect(),
        }
    }

    /// A box for one attempt.
    pub fn peer(&self, place: Place) -> Option<Box<HttpPeer>> {
        self.clusters
            .get(place.cluster)?
            .get(place.endpoint)
            .cloned()
            .map(Box::new)
    }
}

/// Without timeouts for reading and writing: pingora's hold for every single call and cost a timer each; ours are in
/// [`deadline`].
fn peer(cluster_index: usize, cluster: &Cluster, endpoint: &Endpoint) -> HttpPeer {
    let mut peer = HttpPeer::new(endpoint.address, false, String::new());
    // Two clusters may name one address; their connections must not mix.
    peer.group_key = cluster_index as u64;
    peer.options.connection_timeout = Some(cluster.connect_timeout);
    peer.options.total_connection_timeout = Some(cluster.connect_timeout);
    peer.options.idle_timeout = Some(cluster.idle_timeout);
    peer.options.tcp_keepalive = Some(KEEPALIVE);
    peer
}

/// What it means that no connection came about.
pub(crate) fn connect_failure(error: &Error) -> Failure {
    match error.etype() {
        ErrorType::ConnectRefused => Failure::Refused,
        _ => Failure::ConnectFailed,
    }
}

/// What it means that an exchange broke off. `reused` says whether the connection had served before, `answered` whether
/// the head of an answer had come.
pub(crate) fn exchange_failure(error: &Error, reused: bool, answered: bool) -> Failure {
    use ErrorType::{ConnectionClosed, H1Error, InvalidHTTPHeader, ReadError, WriteError};
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ReadError | WriteError | ConnectionClosed | ErrorType::WriteTimedout) => {
            Failure::ClientGone
        }
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Failure::ClientSlow,
        (ErrorSource::Downstream, _) => Failure::ClientBroke,
        (ErrorSource::Upstream, _) if answered => Failure::Truncated,
        (ErrorSource::Upstream, InvalidHTTPHeader | H1Error) => Failure::Garbage,
        (ErrorSource::Upstream, ConnectionClosed | ReadError | WriteError) if reused => {
            Failure::StaleConnection
        }
        (ErrorSource::Upstream, _) => Failure::Reset,
        (ErrorSource::Internal | ErrorSource::Unset, _) => Failure::Internal,
    }
}
