//! Certificates and keys for tests, made when they are needed: none lies in the repository.
//!
//! Shared by the unit tests of `tls` and the tests of the configuration.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test uses a part of it; one that cannot set its stage fails"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SignatureAlgorithm};

/// A folder of files, removed when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("foreshade-certificates-{}-{n}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Writes `name.pem` and `name.key`: a certificate for these hosts, and its key.
    pub(crate) fn certificate(&self, name: &str, hosts: &[&str]) -> (PathBuf, PathBuf) {
        self.certificate_of(name, &params(hosts), &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// The same, made to measure.
    pub(crate) fn certificate_of(
        &self,
        name: &str,
        params: &CertificateParams,
        algorithm: &'static SignatureAlgorithm,
    ) -> (PathBuf, PathBuf) {
        let (authority, by) = authority();
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = params.signed_by(&key, &by).unwrap();
        (
            self.file(&format!("{name}.pem"), certificate.pem() + &authority),
            self.file(&format!("{name}.key"), key.serialize_pem()),
        )
    }

    /// Writes an authority's certificate.
    pub(crate) fn authority(&self, name: &str) -> PathBuf {
        self.file(name, authority().0)
    }

    /// Writes what stands where an OCSP response is expected: one that says that all is well, and of nobody.
    pub(crate) fn staple(&self, name: &str) -> PathBuf {
        self.file(name, [0x30, 0x03, 0x0a, 0x01, 0x00])
    }

    /// An example of the repository, whose files of certificates are here: what it names below `/etc/foreshade/tls`.
    pub(crate) fn furnish(&self, example: &str) -> String {
        self.certificate("shop.example", &["shop.example", "*.shop.example"]);
        self.certificate("api.example", &["api.example"]);
        self.authority("clients.pem");
        self.certificate("proxy", &["proxy.example"]);
        self.authority("endpoints.pem");
        self.staple("shop.example.ocsp");
        self.file("page.html", "<h1>Sorry</h1>");
        let folder = self.0.display().to_string();
        ["/etc/foreshade/tls", "/etc/foreshade/pages"]
            .iter()
            .fold(example.to_owned(), |text, there| text.replace(there, &folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn params(hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    CertificateParams::new(hosts).unwrap()
}

fn authority() -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = params(&[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, Issuer::new(params, key))
}
