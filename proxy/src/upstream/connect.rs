//! A new connection to an endpoint, whoever asks for it: over TCP, and where its cluster speaks TLS, up to the end of
//! the handshake.
//!
//! pingora would do the handshake itself, above the socket that it is lent. Then what is kept would be pingora's, and of
//! no use to the relay, to probes or to bytes that are only carried; and it makes its client anew for each connection
//! that shows a certificate, so that no session is ever resumed. So everybody gets a socket that is ready to be written
//! to.
//!
//! Nothing of a request has been sent when a handshake fails. It is the endpoint's failure like a connection that it
//! refuses, and the request goes elsewhere like there.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::Scheme;
use rustls::ProtocolVersion;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::outcome::Failure;
use crate::socket;
use crate::tls::SEALED_BYTES_MAX;
use crate::tls::handshakes::HandshakeFailure;
use crate::tls::origination::Destination;

/// When an idle connection is asked whether its other end still lives, and when it is given up: after 30 seconds.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// A connection to an endpoint.
pub(crate) type Socket = socket::Socket<Arc<Destination>>;

/// Where an endpoint is, and what is spoken there.
#[derive(Clone, Debug, PartialEq)]
pub struct To {
    /// Its address.
    pub address: SocketAddr,
    /// Time to connect, and once more for the handshake of TLS.
    pub limit: Duration,
    /// How TLS is spoken with it; in the clear where `None`.
    pub tls: Option<Arc<Destination>>,
}

impl To {
    /// The scheme of what is asked there.
    pub(crate) fn scheme(&self) -> Scheme {
        if self.tls.is_some() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        }
    }

    /// Whether a connection that was made for it is as good as one for `other`.
    pub(crate) fn secures_like(&self, other: &Self) -> bool {
        alike(self.tls.as_ref(), other.tls.as_ref())
    }

    /// Connects, and sends `greeting` before anything else.
    ///
    /// # Errors
    /// Why there is no connection. Of a request nothing was sent.
    pub(crate) async fn connect(&self, greeting: &[u8]) -> Result<Socket, Failure> {
        let connected = timeout(self.limit, TcpStream::connect(self.address)).await;
        let tcp = match connected {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(Failure::Refused);
            }
            Ok(Err(_)) | Err(_) => return Err(Failure::ConnectFailed),
        };
        // Writes are gathered before they are made.
        tcp.set_nodelay(true).map_err(|_| Failure::ConnectFailed)?;
        keep_alive(&tcp);
        // A new connection takes so much at once.
        if !greeting.is_empty() && tcp.try_write(greeting).ok() != Some(greeting.len()) {
            return Err(Failure::ConnectFailed);
        }
        let Some(destination) = &self.tls else {
            return Ok(Socket::Plain(tcp));
        };
        self.shake(tcp, destination).await.map_err(|why| {
            destination.handshakes().failed(why);
            Failure::Handshake(why)
        })
    }

    async fn shake(
        &self,
        tcp: TcpStream,
        destination: &Arc<Destination>,
    ) -> Result<Socket, HandshakeFailure> {
        let begun = Instant::now();
        let connector = TlsConnector::from(destination.config().clone());
        let shaken = connector.connect_with(destination.name().clone(), tcp, |connection| {
            connection.set_buffer_limit(Some(SEALED_BYTES_MAX));
        });
        let shaken = timeout(self.limit, shaken).await;
        let stream = shaken.map_err(|_| HandshakeFailure::Slow)?.map_err(|error| {
            tracing::debug!(address = %self.address, name = ?destination.name(), %error, "no TLS with an endpoint");
            HandshakeFailure::of(&error)
        })?;
        destination.handshakes().done(stream.get_ref().1, begun.elapsed());
        Ok(Socket::secured(stream, destination.clone()))
    }
}

impl Socket {
    /// Whether it is as `to` wants it: in the clear, or secured by the same authorities for the same name.
    pub(crate) fn leads(&self, to: &To) -> bool {
        alike(self.agreed(), to.tls.as_ref())
    }

    /// What reading in vain from a new connection says of its handshake, if it does: see [`HandshakeFailure::after`].
    pub(crate) fn was_refused(&self, error: &io::Error) -> Option<Failure> {
        // Before 1.3 whoever is not believed is told in the handshake, and what comes later may be about the request.
        if self.version() != Some(ProtocolVersion::TLSv1_3) {
            return None;
        }
        let why = HandshakeFailure::after(error)?;
        self.agreed()?.handshakes().failed(why);
        Some(Failure::Handshake(why))
    }
}

fn alike(made: Option<&Arc<Destination>>, wanted: Option<&Arc<Destination>>) -> bool {
    match (made, wanted) {
        (Some(made), Some(wanted)) => Arc::ptr_eq(made, wanted),
        (made, wanted) => made.is_none() && wanted.is_none(),
    }
}

/// Has the kernel ask now and then whether the other end still lives. Without it a connection is found dead when it is
/// used.
pub(crate) fn keep_alive(tcp: &TcpStream) {
    let _ = SockRef::from(tcp).set_tcp_keepalive(&KEEPALIVE);
}
