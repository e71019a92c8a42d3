//! TLS to endpoints: whom this proxy believes, what it shows of itself, and what it keeps of each endpoint.
//!
//! An [`Origination`] is made out of a cluster's files once, when a configuration is read, as a [`super::Termination`] is:
//! no connection waits for a key to be parsed, and what is wrong with a file is known before anybody connects. A
//! [`Destination`] is one endpoint of it. Each has tickets of its own: a ticket means something only to whoever gave it,
//! and endpoints that bear one name would use up each other's.
//!
//! Verification cannot be switched off. To encrypt for whoever answers keeps out nobody who can stand in the way, and
//! whoever has certificates of his own making names their authority, which is one line. What can be given up is the
//! *name*, where certificates bear none that could be known beforehand: then that authority has to be one that vouches for
//! these endpoints only.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::files::{Readied, Reading, SYSTEM_AUTHORITIES};
use super::handshakes::Handshakes;
use super::profile::Profile;
use super::{Certificate, CertificateFiles, Fault, PROVIDER};

/// Tickets that are kept of an endpoint: as many as rustls keeps of one server. A handshake uses one and brings some.
const TICKETS_MAX: usize = 8;

/// Names of protocols that are offered (ALPN, RFC 7301).
pub type Protocols = &'static [&'static [u8]];

/// With what a cluster's endpoints are spoken to, as the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The authorities that vouch for endpoints, in PEM; those that this machine trusts where `None`.
    pub authorities: Option<PathBuf>,
    /// What this proxy shows of itself, where it is asked.
    pub own: Option<CertificateFiles>,
    /// The versions, suites and groups that are spoken.
    pub profile: Profile,
    /// What a certificate has to prove.
    pub verify: Verify,
    /// The protocols that are offered (ALPN), the best one first. Without any, a server speaks what it always does.
    pub protocols: Protocols,
}

impl Settings {
    /// For a server that is asked by its name now and then, in HTTP/1.1, and that is shown nothing.
    pub fn of_server(authorities: Option<PathBuf>) -> Self {
        Self {
            authorities,
            own: None,
            profile: Profile::default(),
            verify: Verify::Name,
            protocols: &[b"http/1.1"],
        }
    }
}

/// What an endpoint's certificate has to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// That an authority vouches for the name that the endpoint is known by.
    Name,
    /// That an authority vouches for it, whatever its name is.
    Authority,
}

/// Everything that a cluster needs to speak TLS to its endpoints.
pub struct Origination {
    settings: Settings,
    certificate: Option<Certificate>,
    config: ClientConfig,
    /// Of all that was in the files.
    digest: [u8; 32],
    warnings: Vec<String>,
}

impl Origination {
    /// Reads the files that `settings` names, and holds them against the time.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(settings: &Settings, now: SystemTime) -> Result<Arc<Self>, Vec<Fault>> {
        let mut reading = Reading::begin(now);
        let roots = match &settings.authorities {
            Some(file) => reading.authorities(file),
            None => reading.system_authorities(),
        };
        let own = settings.own.as_ref();
        let own = own.map(|files| reading.certificate(files, &PROVIDER));
        let (digest, warnings) = reading.end()?;
        let (roots, own) = (roots.ok_or_else(Vec::new)?, own.flatten());
        let blamed = settings.authorities.as_deref();
        let config = config(settings, roots, own.as_ref()).map_err(|error| {
            let file = blamed.unwrap_or(Path::new(SYSTEM_AUTHORITIES));
            vec![Fault::of_all(file, &error)]
        })?;
        Ok(Arc::new(Self {
            settings: settings.clone(),
            certificate: own.map(|read| read.shown),
            config,
            digest,
            warnings,
        }))
    }

    /// What the configuration says of it.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What this proxy shows of itself.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// What is not wrong, and not as it should be.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether it was made by the same settings out of the same bytes.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.settings == other.settings && self.digest == other.digest
    }

    /// All of its files. The system's authorities are none of them: they change with the system.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let own = self.settings.own.iter();
        let own = own.flat_map(|files| [&files.certificate, &files.key]);
        own.chain(&self.settings.authorities).map(PathBuf::as_path)
    }
}

/// Without the keys.
impl fmt::Debug for Origination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origination")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// An endpoint that is spoken to in TLS.
#[derive(Debug)]
pub struct Destination {
    by: Arc<Origination>,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    handshakes: Arc<Handshakes>,
}

impl Destination {
    /// An endpoint that has to prove that it is called `name`; it is also asked for under this name (SNI), unless that is an
    /// address.
    pub fn new(by: &Arc<Origination>, name: ServerName<'static>) -> Self {
        let mut config = by.config.clone();
        config.resumption = Resumption::in_memory_sessions(TICKETS_MAX);
        Self {
            by: by.clone(),
            name,
            config: Arc::new(config),
            handshakes: Arc::default(),
        }
    }

    /// The same where `before`, of which something has changed, was counted.
    #[must_use]
    pub fn counted_on(&self, before: &Self) -> Self {
        Self {
            by: self.by.clone(),
            name: self.name.clone(),
            config: self.config.clone(),
            handshakes: before.handshakes.clone(),
        }
    }

    /// What it has to be called.
    pub fn name(&self) -> &ServerName<'static> {
        &self.name
    }

    /// For rustls.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// How its handshakes went.
    pub fn handshakes(&self) -> &Handshakes {
        &self.handshakes
    }
}

/// Whether they ask the same of the same name: what is remembered of either counts for nothing.
impl PartialEq for Destination {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.by.is_same_as(&other.by)
    }
}

fn config(settings: &Settings, roots: RootCertStore, own: Option<&Readied>) -> Result<ClientConfig, Error> {
    let profile = settings.profile;
    let builder = ClientConfig::builder_with_provider(profile.provider().clone())
        .with_protocol_versions(profile.versions())?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), PROVIDER.clone());
    let verifier = verifier
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let verifier: Arc<dyn ServerCertVerifier> = match settings.verify {
        Verify::Name => verifier,
        Verify::Authority => Arc::new(AnyName(verifier)),
    };
    // The crate calls every verifier of one's own dangerous; this one asks rustls's, and overlooks one answer.
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match own {
        Some(own) => {
            let shown = SingleCertAndKey::from(own.key.as_ref().clone());
            builder.with_client_cert_resolver(Arc::new(shown))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = settings.protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// Believes whomever the verifier inside would believe under another name. The name is what it asks last.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
