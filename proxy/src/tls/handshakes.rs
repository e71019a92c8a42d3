//! How handshakes with endpoints went: counted by endpoint, by all workers together.
//!
//! Atomics that workers share, because there is a handshake once per connection and not per request. What an endpoint's
//! certificate says of its end is noted, too: that date is known long before it fails anybody.

use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, ClientConnection, Error, HandshakeKind, ProtocolVersion};

use super::files::parse;

/// Why a handshake with an endpoint came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// Its certificate is vouched for by nobody who is believed.
    AuthorityUnknown,
    /// Its certificate is somebody else's.
    NameWrong,
    /// The time of its certificate is over.
    Expired,
    /// The time of its certificate has not begun.
    NotYetValid,
    /// Its certificate is wrong in another way.
    CertificateInvalid,
    /// No version, suite or protocol in common.
    Incompatible,
    /// It sent an alert: it did not like what it was offered, or shown.
    Alerted,
    /// It does not speak TLS, or wrongly.
    NotTls,
    /// It closed the connection.
    Gone,
    /// Not done in time.
    Slow,
}

impl HandshakeFailure {
    /// All of them, in order.
    pub const ALL: [Self; 10] = [
        Self::AuthorityUnknown,
        Self::NameWrong,
        Self::Expired,
        Self::NotYetValid,
        Self::CertificateInvalid,
        Self::Incompatible,
        Self::Alerted,
        Self::NotTls,
        Self::Gone,
        Self::Slow,
    ];

    /// The label in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::AuthorityUnknown => "authority_unknown",
            Self::NameWrong => "name_wrong",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::CertificateInvalid => "certificate_invalid",
            Self::Incompatible => "incompatible",
            Self::Alerted => "alerted",
            Self::NotTls => "not_tls",
            Self::Gone => "gone",
            Self::Slow => "slow",
        }
    }

    /// What has gone wrong in a handshake.
    pub(crate) fn of(error: &io::Error) -> Self {
        use CertificateError::{
            Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
            NotValidYetContext, UnknownIssuer,
        };
        match within(error) {
            Some(Error::InvalidCertificate(why)) => match why {
                UnknownIssuer => Self::AuthorityUnknown,
                NotValidForName | NotValidForNameContext { .. } => Self::NameWrong,
                Expired | ExpiredContext { .. } => Self::Expired,
                NotValidYet | NotValidYetContext { .. } => Self::NotYetValid,
                _ => Self::CertificateInvalid,
            },
            Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => Self::Incompatible,
            Some(Error::AlertReceived(
                AlertDescription::ProtocolVersion | AlertDescription::NoApplicationProtocol,
            )) => Self::Incompatible,
            Some(Error::AlertReceived(_)) => Self::Alerted,
            Some(_) => Self::NotTls,
            // The connection, and not what was said on it.
            None => Self::Gone,
        }
    }

    /// Whether what was read of a new connection, in place of an answer, is that its handshake was refused. In TLS 1.3 a
    /// client is done before its certificate has been looked at; whoever refuses it never gets to the request behind it.
    /// Source: RFC 8446 section 4.4.2.4.
    pub(crate) fn after(error: &io::Error) -> Option<Self> {
        use AlertDescription::{
            AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked,
            CertificateUnknown, DecryptError, HandshakeFailure, UnknownCA, UnsupportedCertificate,
        };
        let Some(Error::AlertReceived(
            AccessDenied
            | BadCertificate
            | CertificateExpired
            | CertificateRequired
            | CertificateRevoked
            | CertificateUnknown
            | DecryptError
            | HandshakeFailure
            | UnknownCA
            | UnsupportedCertificate,
        )) = within(error)
        else {
            return None;
        };
        Some(Self::Alerted)
    }
}

fn within(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// How the handshakes with one endpoint went, since it was first spoken to.
#[derive(Debug, Default)]
pub struct Handshakes {
    /// By version and whether a session from before went on, in the order of [`KINDS`].
    done: [AtomicU64; KINDS.len()],
    failed: [AtomicU64; HandshakeFailure::ALL.len()],
    /// What those that were completed took, in microseconds.
    took_us: AtomicU64,
    /// When the certificate that it showed last ends, in seconds since 1970; 0 before there was one.
    expires_s: AtomicI64,
}

/// Version, and whether a session from before went on.
pub const KINDS: [(&str, &str); 4] = [
    ("1.2", "false"),
    ("1.2", "true"),
    ("1.3", "false"),
    ("1.3", "true"),
];

impl Handshakes {
    /// One is done, and took so long.
    pub(crate) fn done(&self, connection: &ClientConnection, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.took_us.fetch_add(us, Relaxed);
        let is_new = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        count(self.done.get(2 * usize::from(is_new) + usize::from(resumed)));
        if let (false, Some([own, ..])) = (resumed, connection.peer_certificates())
            && let Some(parsed) = parse(own)
        {
            self.expires_s
                .store(parsed.validity().not_after.timestamp(), Relaxed);
        }
    }

    /// One came to nothing.
    pub(crate) fn failed(&self, why: HandshakeFailure) {
        count(self.failed.get(why as usize));
    }

    /// How many are done, by version and whether a session from before went on.
    pub fn all_done(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let counts = KINDS.into_iter().zip(&self.done);
        counts.map(|((version, resumed), n)| (version, resumed, n.load(Relaxed)))
    }

    /// What those that are done took, all together.
    pub fn took(&self) -> Duration {
        Duration::from_micros(self.took_us.load(Relaxed))
    }

    /// How many came to nothing, by why.
    pub fn all_failed(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = HandshakeFailure::ALL.into_iter().zip(&self.failed);
        counts.map(|(why, n)| (why.label(), n.load(Relaxed)))
    }

    /// When the certificate that it showed last ends, in seconds since 1970.
    pub fn expires_s(&self) -> Option<i64> {
        Some(self.expires_s.load(Relaxed)).filter(|at| *at != 0)
    }
}

fn count(counter: Option<&AtomicU64>) {
    if let Some(counter) = counter {
        counter.fetch_add(1, Relaxed);
    }
}
