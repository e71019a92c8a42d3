//! Upstream connections as pingora wants them: peers, and what its errors mean.

pub(crate) mod connect;
pub mod cut;
pub mod deadline;
pub mod dial;
pub(crate) mod http2;
pub mod network;
pub mod pool;

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora_error::{Error, ErrorSource, ErrorType};

use crate::framing::Refusal;
use crate::outcome::Failure;
use crate::recorder::Place;
use crate::topology::Topology;
use crate::topology::ids::EndpointId;

use self::connect::{Socket, To};
use self::dial::Dial;
use self::pool::Pool;

/// The mark of an error by which an answer is dropped because its request goes elsewhere.
pub(crate) const ELSEWHERE: ErrorType = ErrorType::Custom("Elsewhere");

/// One ready-made way per endpoint. pingora wants a fresh box per attempt; copying a template is the cheapest one.
#[derive(Debug)]
pub struct Peers {
    clusters: Vec<Vec<Way>>,
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Way {
    endpoint: EndpointId,
    /// Counted by one worker, so that lending it touches nothing that others write.
    to: Arc<To>,
    peer: HttpPeer,
}

/// One attempt's way without pingora.
#[derive(Debug)]
pub(crate) struct Reached {
    /// The endpoint.
    pub(crate) endpoint: EndpointId,
    /// A connection on which nothing is under way, or where one can be had.
    pub(crate) socket: Result<Socket, Arc<To>>,
}

/// Why there is no connection, where pingora carries it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.consequence().reason)]
pub(crate) struct Unreached(pub(crate) Failure);

impl Peers {
    /// Peers for all endpoints of a topology, with the connections of a pool.
    pub fn new(topology: &Topology, pool: &Arc<Pool>) -> Self {
        let way = |place| {
            let to = topology.to(place)?;
            Some(Way {
                endpoint: topology.endpoint_id(place)?,
                // In the clear, as far as pingora knows: what it is lent has been secured.
                //
                // Without any timeouts: pingora's hold for every single call and cost a timer each; ours are in
                // `deadline` and `dial`.
                peer: HttpPeer::new(to.address, false, String::new()),
                to: Arc::new(to),
            })
        };
        let sizes = topology.sizes().into_iter().enumerate();
        let ways = |(cluster, endpoints)| {
            (0..endpoints).filter_map(move |endpoint| way(Place { cluster, endpoint }))
        };
        Self {
            clusters: sizes.map(|sized| ways(sized).collect()).collect(),
            pool: pool.clone(),
        }
    }

    /// The way of one attempt to an endpoint.
    pub fn dial(&self, place: Place) -> Option<Dial> {
        self.way(place).map(|way| self.dial_by(way))
    }

    /// A kept connection to an endpoint, or where a new one can be had.
    pub(crate) fn reach(&self, place: Place) -> Option<Reached> {
        let way = self.way(place)?;
        let kept = self.pool.take(way.endpoint, &way.to);
        Some(Reached {
            endpoint: way.endpoint,
            socket: kept.ok_or_else(|| way.to.clone()),
        })
    }

    /// Which endpoint it is, and where it is.
    pub(crate) fn to(&self, place: Place) -> Option<(EndpointId, Arc<To>)> {
        self.way(place).map(|way| (way.endpoint, way.to.clone()))
    }

    fn way(&self, place: Place) -> Option<&Way> {
        self.clusters.get(place.cluster)?.get(place.endpoint)
    }

    fn dial_by(&self, way: &Way) -> Dial {
        Dial::new(way.endpoint, way.to.clone(), self.pool.clone())
    }

    /// A box for one attempt of a request with these headers, and what will tell which connection it got.
    pub fn peer(&self, place: Place, headers: &HeaderMap) -> Option<(Box<HttpPeer>, Arc<Dial>)> {
        let way = self.way(place)?;
        let dial = Arc::new(self.dial_by(way));
        let mut peer = Box::new(way.peer.clone());
        peer.options.custom_l4 = Some(dial.clone());
        if !headers.keys().any(is_hop_by_hop) {
            // Nothing to strip, so what looks for it thirteen times over, in a copy of the head, can be spared.
            peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
        }
        Some((peer, dial))
    }
}

/// Whether pingora would strip a header of this name, or act on it, before a request goes on to an endpoint: what belongs
/// to one connection, and what names such headers. Sources: RFC 9110 section 7.6.1; pingora-proxy 0.9.1, `proxy_common.rs`.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// What it means that no connection came about.
pub(crate) fn connect_failure(error: &Error) -> Failure {
    let cause = error.cause.as_deref();
    let told = cause.and_then(|cause| cause.downcast_ref::<Unreached>());
    told.map_or(Failure::ConnectFailed, |told| told.0)
}

/// Why the client's body was refused, if that is what broke the exchange off.
pub(crate) fn refusal(error: &Error) -> Option<Refusal> {
    let cause = error.cause.as_deref()?.downcast_ref::<std::io::Error>()?;
    cause.get_ref()?.downcast_ref().copied()
}

/// What it means that an exchange broke off. `reused` says whether the connection had served before, `answered` whether
/// the head of an answer had come.
pub(crate) fn exchange_failure(error: &Error, reused: bool, answered: bool) -> Failure {
    use ErrorType::{ConnectionClosed, H1Error, InvalidHTTPHeader, ReadError, WriteError};
    if let Some(refusal) = refusal(error) {
        return Failure::ClientRefused(refusal);
    }
    let told = || {
        let cause = error.cause.as_deref()?.downcast_ref::<std::io::Error>()?;
        Some(cause.get_ref()?.downcast_ref::<Unreached>()?.0)
    };
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
        (ErrorSource::Upstream, _) => told().unwrap_or(Failure::Reset),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Failure::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_a_connection_has_to_be_looked_for() {
        for name in [
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ] {
            assert!(is_hop_by_hop(&HeaderName::from_static(name)), "{name}");
        }
        for name in [
            "host",
            "content-length",
            "content-type",
            "x-te",
            "proxy",
            "keep-alive2",
        ] {
            assert!(!is_hop_by_hop(&HeaderName::from_static(name)), "{name}");
        }
    }
}
