//! What is in the files: certificates, keys, authorities, staples, and whatever is wrong with them.
//!
//! Reading goes on after a fault, as everywhere in a configuration, so that an operator sees all of them at once. Each
//! has the file's name: of three files that are to be renewed together, it is one that was forgotten.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::{Certificate, CertificateFiles};

/// Largest file: a bundle of all public authorities has a quarter of a megabyte.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What is blamed where there is no file: whom this machine trusts.
pub const SYSTEM_AUTHORITIES: &str = "the store of authorities that this machine trusts";

/// Permission bits that nobody but the owner and the group should have on a key.
const OTHERS: u32 = 0o007;

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which one.
    pub file: PathBuf,
    /// As a predicate: `holds no certificate`.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Fault {
    fn at(file: &Path, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            what: what.into(),
            hint: None,
        }
    }

    /// What only shows when everything is put together.
    pub(super) fn of_all(file: &Path, error: &Error) -> Self {
        Self::at(file, format!("cannot be used: {error}"))
    }
}

/// A certificate that has been read.
pub(super) struct Readied {
    pub(super) shown: Certificate,
    pub(super) key: Arc<CertifiedKey>,
    pub(super) source: Source,
}

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Files of the operator's.
    Files,
    /// The authority that was asked for it.
    Issued,
    /// It stands in for one that is to be issued: made here, or issued for other names, or for a time that is over.
    StandIn,
}

/// Files that are being read.
pub(super) struct Reading {
    now_s: i64,
    digest: Context,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

/// The authorities that this machine trusts, for whoever reads nothing else.
///
/// # Errors
/// Why there are none.
pub(crate) fn system_authorities() -> Result<RootCertStore, String> {
    let mut reading = Reading::begin(SystemTime::now());
    let roots = reading.system_authorities();
    roots.ok_or_else(|| reading.faults.iter().map(|fault| fault.what.as_str()).collect())
}

impl Reading {
    pub(super) fn begin(now: SystemTime) -> Self {
        let now_s = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self {
            now_s: i64::try_from(now_s).unwrap_or(i64::MAX),
            digest: Context::new(&SHA256),
            faults: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// A digest of all that was read, and what is to be said of it.
    pub(super) fn end(self) -> Result<([u8; 32], Vec<String>), Vec<Fault>> {
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(self.digest.finish().as_ref());
        Ok((digest, self.warnings))
    }

    pub(super) fn now_s(&self) -> i64 {
        self.now_s
    }

    pub(super) fn warn(&mut self, what: String) {
        self.warnings.push(what);
    }

    /// Takes bytes into the digest, with their length, so that no two sets of files look the same.
    pub(super) fn note(&mut self, bytes: &[u8]) {
        self.digest.update(&bytes.len().to_be_bytes());
        self.digest.update(bytes);
    }

    pub(super) fn fault(&mut self, file: &Path, what: impl Into<String>) {
        self.faults.push(Fault::at(file, what));
    }

    /// A certificate with its key and its staple, if nothing is wrong with them.
    pub(super) fn certificate(
        &mut self,
        files: &CertificateFiles,
        provider: &CryptoProvider,
    ) -> Option<Readied> {
        if let Some(wanted) = &files.wanted {
            return self.issued(wanted);
        }
        let chain = self.chain(&files.certificate);
        let key = self.key(&files.key);
        let staple = files.staple.as_ref().map(|file| self.staple(file));
        let (chain, key) = (chain?, key?);
        let shown = self.shown(&files.certificate, chain.first()?)?;
        let mut certified = match CertifiedKey::from_der(chain, key, provider) {
            Ok(certified) => certified,
            Err(error) => {
                self.faults.push(unsuited(files, &error));
                return None;
            }
        };
        certified.ocsp = match staple {
            Some(staple) => Some(staple?),
            None => None,
        };
        Some(Readied {
            shown,
            key: Arc::new(certified),
            source: Source::Files,
        })
    }

    /// The authorities in a file.
    pub(super) fn authorities(&mut self, file: &Path) -> Option<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for authority in self.chain(file)? {
            if let Err(error) = roots.add(authority) {
                self.fault(
                    file,
                    format!("holds a certificate that is no authority's: {error}"),
                );
                return None;
            }
        }
        Some(roots)
    }

    /// The authorities that this machine trusts. Those that rustls cannot read are left out: a store has a hundred and more,
    /// and some are as old as the web.
    pub(super) fn system_authorities(&mut self) -> Option<RootCertStore> {
        let store = Path::new(SYSTEM_AUTHORITIES);
        let found = match rustls_native_certs::load_native_certs() {
            Ok(found) => found,
            Err(error) => {
                self.fault(store, format!("cannot be read: {error}"));
                return None;
            }
        };
        let mut roots = RootCertStore::empty();
        for authority in &found {
            self.digest.update(authority);
        }
        if roots.add_parsable_certificates(found).0 == 0 {
            self.fault(store, "is empty");
            return None;
        }
        Some(roots)
    }

    fn chain(&mut self, file: &Path) -> Option<Vec<CertificateDer<'static>>> {
        let bytes = self.read(file)?.0;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => Some(chain),
            Ok(_) => {
                self.fault(file, "holds no certificate in PEM");
                None
            }
            Err(error) => {
                self.fault(file, format!("is not PEM: {error}"));
                None
            }
        }
    }

    fn key(&mut self, file: &Path) -> Option<PrivateKeyDer<'static>> {
        let (bytes, mode) = self.read(file)?;
        self.look_at_mode(file, mode);
        if let Ok(key) = PrivateKeyDer::from_pem_slice(&bytes) {
            return Some(key);
        }
        let is_sealed = memchr::memmem::find(&bytes, b"ENCRYPTED").is_some();
        self.faults.push(Fault {
            hint: is_sealed.then(|| "it has a passphrase; take it off with openssl pkey".to_owned()),
            ..Fault::at(file, "holds no private key in PEM")
        });
        None
    }

    /// Who else can read a private key is said.
    pub(super) fn look_at_mode(&mut self, file: &Path, mode: u32) {
        if mode & OTHERS != 0 {
            self.warnings.push(format!(
                "{} is a private key and has the permissions {mode:04o}, so that others can read or change it; run \
                 chmod 0600",
                file.display()
            ));
        }
    }

    /// An OCSP response that says anything at all. Whether it is of this certificate, and of today, clients judge.
    fn staple(&mut self, file: &Path) -> Option<Vec<u8>> {
        let bytes = self.read(file)?.0;
        if is_successful(&bytes) {
            return Some(bytes);
        }
        self.fault(file, "holds no successful OCSP response in DER");
        None
    }

    /// What operators see of a certificate, unless its time is over.
    fn shown(&mut self, file: &Path, der: &CertificateDer<'_>) -> Option<Certificate> {
        let Some(parsed) = parse(der) else {
            self.fault(file, "holds no certificate of X.509");
            return None;
        };
        let validity = parsed.validity();
        if validity.not_after.timestamp() < self.now_s {
            self.fault(file, format!("has expired on {}", validity.not_after));
            return None;
        }
        if validity.not_before.timestamp() > self.now_s {
            self.fault(file, format!("is not valid before {}", validity.not_before));
            return None;
        }
        Some(Certificate {
            file: file.to_owned(),
            names: names(&parsed),
            expires_s: validity.not_after.timestamp(),
        })
    }

    /// The bytes of a file and its permissions.
    fn read(&mut self, file: &Path) -> Option<(Vec<u8>, u32)> {
        match contents(file) {
            Ok((bytes, mode)) => {
                self.note(&bytes);
                Some((bytes, mode))
            }
            Err(error) => {
                self.fault(file, format!("cannot be read: {error}"));
                None
            }
        }
    }
}

pub(super) fn contents(file: &Path) -> io::Result<(Vec<u8>, u32)> {
    // Asked before it is opened: opening a pipe would wait for somebody to write.
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let opened = fs::File::open(file)?;
    let mode = opened.metadata()?.permissions().mode() & 0o7777;
    let mut bytes = Vec::new();
    if opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)? as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok((bytes, mode))
}

/// Why a certificate and a key do not make a pair.
fn unsuited(files: &CertificateFiles, error: &Error) -> Fault {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Fault {
            hint: Some("the certificate of the server itself stands first in its file".to_owned()),
            ..Fault::at(
                &files.key,
                format!(
                    "is not the key of the certificate in {}",
                    files.certificate.display()
                ),
            )
        },
        _ => Fault::at(&files.key, format!("holds a key that cannot be used: {error}")),
    }
}

pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    x509_parser::parse_x509_certificate(der)
        .ok()
        .map(|(_, parsed)| parsed)
}

/// The host names of a certificate, in lower case. What its subject says is no name any more (RFC 9525 section 2).
pub(super) fn names(parsed: &X509Certificate<'_>) -> Vec<String> {
    let alternatives = parsed.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.iter().flat_map(|names| &names.value.general_names);
    let hosts = alternatives.filter_map(|name| match name {
        GeneralName::DNSName(host) => Some(host.to_ascii_lowercase()),
        _ => None,
    });
    hosts.collect()
}

/// `SEQUENCE { ENUMERATED successful, .. }`. Source: RFC 6960 section 4.2.1.
fn is_successful(der: &[u8]) -> bool {
    let [0x30, length, rest @ ..] = der else {
        return false;
    };
    let more = match length {
        ..0x80 => 0,
        0x80.. => usize::from(length & 0x7f),
    };
    rest.get(more..)
        .is_some_and(|inside| inside.starts_with(&[0x0a, 0x01, 0x00]))
}
