//! The way in: from a socket that was accepted to a client who is known, counted, and let in; or is refused.
//!
//! In two steps, because of balancers that tell of the client in a header of their own ([`crate::proxy_protocol`]): the
//! first asks for nothing but the address that has connected, and is made in the accept loop; the second waits for the
//! header where there is to be one, and is the connection's own. Until he is named, a client counts among all, and after
//! that among his own, too.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::door::{Door, Visit};
use super::local;
use crate::framing::{Limits, Refusal};
use crate::proxy_protocol::ProxyProtocol;
use crate::topology::ids::ListenerId;

/// Somebody who has connected.
#[derive(Debug)]
pub(crate) struct Entrant {
    tcp: TcpStream,
    peer: SocketAddr,
    visit: Option<Visit>,
    /// Who he is, he will be told of.
    announced: Option<Arc<ProxyProtocol>>,
}

/// A client who is let in.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) tcp: TcpStream,
    pub(crate) client: SocketAddr,
    /// What he has connected to, where somebody has said so.
    pub(crate) server: Option<SocketAddr>,
    /// He has left when it is dropped.
    pub(crate) visit: Option<Visit>,
}

/// Where somebody was refused: his connection, who he is as far as that is known, and why.
pub(crate) type Refused = (TcpStream, SocketAddr, Refusal);

impl Entrant {
    /// Somebody at a listener that counts nobody and is told of nobody.
    pub(crate) fn at_no_door(tcp: TcpStream, peer: SocketAddr) -> Self {
        Self {
            tcp,
            peer,
            visit: None,
            announced: None,
        }
    }

    /// Somebody at the door of a listener.
    ///
    /// # Errors
    /// Why he is not let in, and his connection.
    pub(crate) fn at(
        listener: ListenerId,
        (tcp, peer): (TcpStream, SocketAddr),
        door: &Arc<Door>,
        limits: &Limits,
    ) -> Result<Self, Box<Refused>> {
        let announced = local::with(|l| l.worker.listener(listener)?.proxy_protocol.clone()).flatten();
        let entered = match &announced {
            None => door.enter(peer.ip(), limits),
            Some(settings) if settings.trusts(peer) => door.enter_unnamed(limits),
            Some(_) => Err(Refusal::ProxyUntrusted),
        };
        match entered {
            Ok(visit) => Ok(Self {
                tcp,
                peer,
                visit: Some(visit),
                announced,
            }),
            Err(refusal) => Err(Box::new((tcp, peer, refusal))),
        }
    }

    /// Finds out who the client is, and lets him in.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn introduced(self, limits: &Limits) -> Result<Guest, Box<Refused>> {
        let mut guest = Guest {
            tcp: self.tcp,
            client: self.peer,
            server: None,
            visit: self.visit,
        };
        let Some(settings) = self.announced else {
            return Ok(guest);
        };
        // Boxed: most connections have no such header, and need no room for it.
        match Box::pin(settings.take(&guest.tcp)).await {
            Ok(Some(ends)) => (guest.client, guest.server) = (ends.client, Some(ends.server)),
            Ok(None) => {}
            Err(refusal) => return Err(Box::new((guest.tcp, guest.client, refusal))),
        }
        let named = guest
            .visit
            .as_mut()
            .map_or(Ok(()), |visit| visit.name(guest.client.ip(), limits));
        match named {
            Ok(()) => Ok(guest),
            Err(refusal) => Err(Box::new((guest.tcp, guest.client, refusal))),
        }
    }
}
