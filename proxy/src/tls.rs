//! TLS for clients: which certificates a listener shows, to whom, and what it asks of whoever connects. Towards endpoints
//! it is [`origination`].
//!
//! A [`Termination`] is made out of files once, when a configuration is read, and shared by all workers; nothing in it
//! ever changes but the keys of its tickets. So a certificate that is renewed makes another termination: who connects
//! from then on sees it, and who is connected keeps what he has agreed on. Whatever can be wrong with the files is found
//! here, before anybody connects.
//!
//! What may be agreed on has one name ([`profile`]). Sessions are resumed by tickets alone, so a client that is gone
//! costs no memory; their keys are exchanged every six hours, belong to one termination, and end with it: a ticket of
//! one listener, or of one that knew other authorities, opens nothing. Early data (0-RTT) is never taken: whoever saw
//! it once can send it again.

mod agreed;

mod files;

mod names;

pub mod origination;

pub mod handshakes;

pub mod profile;

mod issued;

pub mod identity;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

pub use self::agreed::{Agreed, CLIENT_CERTIFICATE, Version};
use self::files::Reading;
pub(crate) use self::files::system_authorities;
pub use self::files::{Fault, SYSTEM_AUTHORITIES};
pub(crate) use self::issued::{check_issued, kept};
use self::names::Names;
use self::profile::Profile;
use crate::acme::{Proof, Wanted};

/// The provider of all cryptography, whatever the process's default is.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// How HTTP/2 is called where it is agreed on (ALPN).
pub(crate) const HTTP2: &[u8] = b"h2";

/// What TLS seals ahead of a kernel that takes no more, per connection.
pub const SEALED_BYTES_MAX: usize = 64 * 1024;

/// What a listener speaks TLS with, as the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What clients are shown, by the names that each bears; the first one also to others.
    pub certificates: Vec<CertificateFiles>,
    /// The versions, suites and groups that are spoken.
    pub profile: Profile,
    /// Whether clients that ask for a name that no certificate bears, or for none, are refused.
    pub refuse_unknown_names: bool,
    /// What clients have to show; nothing where `None`.
    pub clients: Option<ClientCertificates>,
    /// Whether HTTP/2 is offered, before HTTP/1.1.
    pub http2: bool,
}

impl Settings {
    /// What is blamed for a fault that only shows when everything is put together.
    fn first(&self) -> &Path {
        let first = self.certificates.first();
        first.map_or(Path::new(""), |files| &files.certificate)
    }
}

/// Where a certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// It and those above it, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
    /// What its authority says of it now: an OCSP response, in DER.
    pub staple: Option<PathBuf>,
    /// An authority issues it when it is asked, and certificate and key are in one file; `None` where somebody else sees to it.
    pub wanted: Option<Arc<Wanted>>,
}

/// What clients have to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The authorities that vouch for them, in PEM.
    pub ca_file: PathBuf,
    /// Whether who has no certificate is refused; one that is shown is always verified.
    pub required: bool,
}

/// A certificate, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its file.
    pub file: PathBuf,
    /// The names that it bears.
    pub names: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub expires_s: i64,
}

/// Everything that a listener needs to speak TLS.
pub struct Termination {
    settings: Settings,
    certificates: Vec<Certificate>,
    names: Arc<Names>,
    config: Arc<ServerConfig>,
    /// Of all that was in the files.
    digest: [u8; 32],
    warnings: Vec<String>,
}

impl Termination {
    /// Reads the files that `settings` names, and holds them against the time.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(settings: &Settings, now: SystemTime) -> Result<Arc<Self>, Vec<Fault>> {
        let mut reading = Reading::begin(now);
        let certificates: Vec<_> = settings
            .certificates
            .iter()
            .filter_map(|files| reading.certificate(files, &PROVIDER))
            .collect();
        let roots = settings
            .clients
            .as_ref()
            .and_then(|clients| reading.authorities(&clients.ca_file));
        // With one of them missing, nobody can say whose names are left.
        let names = (certificates.len() == settings.certificates.len())
            .then(|| Names::of(&certificates, settings.refuse_unknown_names, &mut reading))
            .flatten();
        let (digest, warnings) = reading.end()?;
        let names = Arc::new(names.ok_or_else(Vec::new)?);
        let config =
            config(settings, roots, &names).map_err(|error| vec![Fault::of_all(settings.first(), &error)])?;
        Ok(Arc::new(Self {
            settings: settings.clone(),
            certificates: certificates.into_iter().map(|read| read.shown).collect(),
            names,
            config: Arc::new(config),
            digest,
            warnings,
        }))
    }

    /// What the configuration says of it.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What clients are shown.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// What is not wrong, and not as it should be.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// For rustls.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// The certificates that an authority issues when it is asked.
    pub fn wanted(&self) -> impl Iterator<Item = &Arc<Wanted>> {
        self.settings
            .certificates
            .iter()
            .filter_map(|files| files.wanted.as_ref())
    }

    /// Whether an authority may ask here, in a handshake, whether a name leads here.
    pub fn proves(&self) -> bool {
        self.wanted().any(|wanted| wanted.proof == Proof::TlsAlpn)
    }

    /// Whether clients are asked for certificates.
    pub fn asks(&self) -> bool {
        self.settings.clients.is_some()
    }

    /// Whether a client that asks for this name, or for none, is to be served.
    pub fn knows(&self, name: Option<&str>) -> bool {
        self.names.knows(name)
    }

    /// Whether it was made by the same settings out of the same bytes.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.settings == other.settings && self.digest == other.digest
    }

    /// All of its files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let certificates = self.settings.certificates.iter();
        let certificates = certificates.flat_map(|files| {
            [Some(&files.certificate), Some(&files.key), files.staple.as_ref()]
                .into_iter()
                .flatten()
        });
        let authorities = self.settings.clients.iter().map(|clients| &clients.ca_file);
        certificates.chain(authorities).map(PathBuf::as_path)
    }
}

/// Without the keys.
impl fmt::Debug for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Termination")
            .field("certificates", &self.certificates)
            .finish_non_exhaustive()
    }
}

fn config(
    settings: &Settings,
    roots: Option<RootCertStore>,
    names: &Arc<Names>,
) -> Result<ServerConfig, rustls::Error> {
    let profile = settings.profile;
    let builder = ServerConfig::builder_with_provider(profile.provider().clone())
        .with_protocol_versions(profile.versions())?;
    let builder = match (&settings.clients, roots) {
        (Some(clients), Some(roots)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), PROVIDER.clone());
            let verifier = match clients.required {
                true => verifier,
                false => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build();
            builder.with_client_cert_verifier(
                verifier.map_err(|error| rustls::Error::General(error.to_string()))?,
            )
        }
        _ => builder.with_client_cert_verifier(Arc::new(NoClientAuth)),
    };
    let mut config = builder.with_cert_resolver(names.clone());
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    let http2 = settings.http2.then(|| HTTP2.to_vec());
    config.alpn_protocols = http2.into_iter().chain([b"http/1.1".to_vec()]).collect();
    Ok(config)
}

#[cfg(test)]
mod tests;
