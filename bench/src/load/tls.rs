//! How the load makes sure of whom it talks to over TLS: the authorities of the system, those of a file, or nobody.
//!
//! rustls with the aws-lc-rs provider, named explicitly: which provider is the process's default is pingora's to say in
//! other commands of the bench.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Whose signature on the server's certificate counts.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// That of the authorities that the system trusts.
    System,
    /// That of the authorities in this file (PEM).
    File(&'a Path),
    /// Nobody's: the server may be anybody.
    Anybody,
}

/// TLS as a client, towards one server.
#[derive(Clone, Debug)]
pub struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of authorities cannot be read, or is not PEM.
    #[error("cannot read the certificates of {path}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// There is no certificate in the file.
    #[error("there is no certificate in {0}")]
    Empty(String),
    /// The system's authorities cannot be read.
    #[error("cannot read the authorities that the system trusts; name a file with --ca, or use --insecure")]
    System(#[source] std::io::Error),
    /// rustls refuses.
    #[error("cannot set TLS up")]
    Config(#[from] rustls::Error),
    /// The server's name is neither a host name nor an address.
    #[error("{name:?} is not a name that a certificate can have")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: InvalidDnsNameError,
    },
}

impl Tls {
    /// Towards the server of this name, offering HTTP/2 or HTTP/1.1.
    ///
    /// # Errors
    /// When the authorities cannot be read, or the name is none.
    pub fn new(server: &str, trust: Trust<'_>, http2: bool) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let mut config = match trust {
            Trust::Anybody => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
                .with_no_client_auth(),
            trust => builder
                .with_root_certificates(roots(trust)?)
                .with_no_client_auth(),
        };
        config.alpn_protocols = vec![if http2 {
            b"h2".to_vec()
        } else {
            b"http/1.1".to_vec()
        }];
        let name = ServerName::try_from(server.to_owned()).map_err(|source| TlsError::Name {
            name: server.to_owned(),
            source,
        })?;
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }
}

fn roots(trust: Trust<'_>) -> Result<RootCertStore, TlsError> {
    let certificates = match trust {
        Trust::File(path) => {
            let file = path.display().to_string();
            let broken = |source| TlsError::File {
                path: file.clone(),
                source,
            };
            let certificates = CertificateDer::pem_file_iter(path)
                .map_err(broken)?
                .collect::<Result<Vec<_>, _>>()
                .map_err(broken)?;
            if certificates.is_empty() {
                return Err(TlsError::Empty(file));
            }
            certificates
        }
        Trust::System | Trust::Anybody => {
            rustls_native_certs::load_native_certs().map_err(TlsError::System)?
        }
    };
    let mut roots = RootCertStore::empty();
    // Of a system's authorities some are older than the rules of today; those are left out.
    roots.add_parsable_certificates(certificates);
    Ok(roots)
}

/// Accepts every certificate; signatures of the handshake are checked all the same, or it would not be TLS.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
