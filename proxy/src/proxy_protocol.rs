//! The PROXY protocol, versions 1 and 2: who the client is by the word of the balancer that connects in his name.
//!
//! Where a listener asks for it, every connection begins with the header, and only networks that are named may say it: the
//! specification forbids to guess whether there is one, and whoever could say it himself could be anybody. From the socket
//! are taken the bytes of the header and not one more: what follows is looked at first and read only as far as it belongs
//! to the header. So whatever serves the connection finds it as if nothing had been before.
//!
//! Source: HAProxy, "The PROXY protocol, versions 1 & 2", section 2.

mod crc32c;
mod header;
mod write;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cidr::{Cidr, any_contains};
use crate::framing::Refusal;

pub use self::header::{HEADER_BYTES_MAX, Header, HeaderReader};
pub use self::write::write;

/// Looked at at once. Most headers are shorter.
const LOOK_BYTES: usize = 256;

/// What a listener asks for before the first byte of each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Who says it. Everybody else is refused.
    pub from: Vec<Cidr>,
    /// How long its header may take.
    pub timeout: Duration,
}

/// The version in which an endpoint is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub client: SocketAddr,
    /// What he has connected to.
    pub server: SocketAddr,
}

impl ProxyProtocol {
    /// Whether the word of this peer counts.
    pub fn trusts(&self, peer: SocketAddr) -> bool {
        any_contains(&self.from, peer.ip())
    }

    /// Takes the header from the beginning of a connection: the ends that it names, if it names any.
    ///
    /// # Errors
    /// Where there is no header, none in time, or one that breaks the rules.
    pub(crate) async fn take(&self, tcp: &TcpStream) -> Result<Option<Ends>, Refusal> {
        match timeout(self.timeout, header(tcp)).await {
            Ok(header) => header.map(|header| header.ends),
            Err(_) => Err(Refusal::ProxySlow),
        }
    }
}

async fn header(tcp: &TcpStream) -> Result<Header, Refusal> {
    let mut reader = HeaderReader::default();
    let mut bytes = [0; LOOK_BYTES];
    loop {
        let seen = tcp.peek(&mut bytes).await.map_err(|_| Refusal::ProxyHeader)?;
        if seen == 0 {
            return Err(Refusal::ProxyHeader);
        }
        let (taken, header) = reader.take(bytes.get(..seen).unwrap_or_default())?;
        // They are there, so one read takes them all.
        let read = tcp.try_read(bytes.get_mut(..taken).unwrap_or_default());
        if read.ok() != Some(taken) {
            return Err(Refusal::ProxyHeader);
        }
        if let Some(header) = header {
            return Ok(header);
        }
    }
}

#[cfg(test)]
mod tests;
