//! What client and proxy have agreed on.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};

use super::identity::Identity;

/// The header that tells an endpoint of a client's verified certificate.
pub static CLIENT_CERTIFICATE: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 1.2, of 2008.
    Tls12,
    /// 1.3, of 2018.
    Tls13,
}

/// What a handshake has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The version that is spoken.
    pub version: Version,
    /// Whether a session from before goes on.
    pub resumed: bool,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// What the client has proven of himself, where clients are asked for certificates and he showed one.
    pub identity: Option<Box<Identity>>,
    /// The name that he asked for (SNI), in lower case, where clients are asked for certificates.
    pub server_name: Option<Box<str>>,
}

impl Agreed {
    /// With a client of whom nothing is known.
    pub fn anonymous() -> Self {
        Self {
            version: Version::Tls13,
            resumed: false,
            http2: false,
            identity: None,
            server_name: None,
        }
    }

    /// What this connection has agreed on, once its handshake is over. Who the client is is found out only where `asked`.
    pub fn of(connection: &ServerConnection, asked: bool) -> Arc<Self> {
        let certificates = connection.peer_certificates().filter(|_| asked);
        let server_name = connection.server_name().filter(|_| asked);
        Arc::new(Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => Version::Tls13,
                _ => Version::Tls12,
            },
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            http2: connection.alpn_protocol() == Some(super::HTTP2),
            identity: certificates.and_then(|chain| Identity::of(chain.first()?).map(Box::new)),
            server_name: server_name.map(|name| name.to_ascii_lowercase().into()),
        })
    }

    /// The client's verified certificate, as an endpoint is told of it; `None` where he showed none.
    pub fn certificate(&self) -> Option<&HeaderValue> {
        self.identity.as_deref().map(|identity| &identity.told)
    }
}
