//! What client and proxy have agreed on, and who the client is by his certificate.
//!
//! Endpoints are told of a verified certificate in `X-Forwarded-Client-Cert`, in Envoy's notation, because that is what
//! frameworks and meshes read already: its SHA-256, its subject, and the names that it bears. Who may write that header
//! is decided where all headers about the client are: see [`crate::client`].

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};
use x509_parser::extensions::GeneralName;

use super::files::parse;

/// The header that tells an endpoint of a client's verified certificate.
pub static CLIENT_CERTIFICATE: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Longest value of it. Names for which there is no room are left out.
const VALUE_BYTES_MAX: usize = 4 * 1024;

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
    /// The client's verified certificate, as an endpoint is told of it; `None` where he showed none.
    pub certificate: Option<HeaderValue>,
}

impl Agreed {
    /// With a client of whom nothing is known.
    pub fn anonymous() -> Self {
        Self {
            version: Version::Tls13,
            resumed: false,
            http2: false,
            certificate: None,
        }
    }

    /// What this connection has agreed on, once its handshake is over.
    pub fn of(connection: &ServerConnection) -> Arc<Self> {
        let certificates = connection.peer_certificates();
        Arc::new(Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => Version::Tls13,
                _ => Version::Tls12,
            },
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            http2: connection.alpn_protocol() == Some(super::HTTP2),
            certificate: certificates.and_then(|chain| told(chain.first()?)),
        })
    }
}

/// A certificate in Envoy's notation. What cannot be written there, which no verified certificate has, is left out.
fn told(der: &CertificateDer<'_>) -> Option<HeaderValue> {
    let mut value = "Hash=".to_owned();
    for byte in digest(&SHA256, der).as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(value, "{byte:02x}");
    }
    let Some(parsed) = parse(der) else {
        return HeaderValue::try_from(value).ok();
    };
    push(&mut value, "Subject", &parsed.subject().to_string(), true);
    let alternatives = parsed.subject_alternative_name().ok().flatten();
    for name in alternatives.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) => push(&mut value, "URI", uri, false),
            GeneralName::DNSName(host) => push(&mut value, "DNS", host, false),
            _ => {}
        }
    }
    HeaderValue::try_from(value).ok()
}

/// Adds a part, quoted where it has to be: an author of certificates must not be able to write parts of his own.
fn push(value: &mut String, key: &str, text: &str, always_quoted: bool) {
    let is_visible = text.bytes().all(|b| matches!(b, b' '..=b'~'));
    if !is_visible || value.len() + key.len() + 2 * text.len() > VALUE_BYTES_MAX {
        return;
    }
    let _ = write!(value, ";{key}=");
    if !always_quoted && !text.contains([',', ';', '=', '"', '\\']) {
        value.push_str(text);
        return;
    }
    value.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            value.push('\\');
        }
        value.push(character);
    }
    value.push('"');
}
