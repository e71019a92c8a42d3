//! Certificates made for one test, and clients that speak TLS: with rustls, byte by byte, to see what no tool shows.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::wire::connect;

/// A folder of files, removed when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

/// Who vouches for certificates.
#[derive(Debug)]
pub struct Authority {
    /// Its own certificate.
    pub file: PathBuf,
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Files {
    /// An entry of `certificates`.
    pub fn as_yaml(&self) -> String {
        format!(
            "{{ certFile: {}, keyFile: {} }}",
            self.certificate.display(),
            self.key.display()
        )
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Folder {
    /// A new one.
    ///
    /// # Panics
    /// When the system's temporary folder is full.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("foreshade-tls-{}-{n}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder is writable");
        Self(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that only its owner may read.
    ///
    /// # Panics
    /// When the system's temporary folder is full.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        write(&self.0, name, text.as_ref())
    }

    /// An authority whose certificate lies here as `name.pem`.
    ///
    /// # Panics
    /// When no key can be made.
    pub fn authority(&self, name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names are fine");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority {
            file: self.file(&format!("{name}.pem"), pem),
            folder: self.0.clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// An example of the repository, whose files of certificates and pages are here: what it names below `/etc/foreshade/tls`
    /// and `/etc/foreshade/pages`.
    pub fn furnish(&self, example: &str) -> String {
        let authority = self.authority("clients");
        authority.issue("shop.example", &["shop.example", "*.shop.example"]);
        authority.issue("api.example", &["api.example"]);
        authority.issue_client("proxy");
        self.authority("endpoints");
        // An OCSP response that says that all is well, and of nobody.
        self.file("shop.example.ocsp", [0x30, 0x03, 0x0a, 0x01, 0x00]);
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

impl Authority {
    /// A server's certificate for these hosts, as `name.pem` and `name.key`. Issued again it replaces them.
    ///
    /// # Panics
    /// When one of them is no host.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> Files {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let params = CertificateParams::new(hosts).expect("names of hosts");
        self.sign(name, &params)
    }

    /// The same, of which the time is over.
    ///
    /// # Panics
    /// When one of them is no host.
    pub fn issue_expired(&self, name: &str, hosts: &[&str]) -> Files {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names of hosts");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        self.sign(name, &params)
    }

    /// The same, so many days ago and for so many to come.
    ///
    /// # Panics
    /// When one of them is no host.
    pub fn issue_aged(&self, name: &str, hosts: &[&str], old_days: u32, left_days: u32) -> Files {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names of hosts");
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a clock that is set");
        let now = rcgen::date_time_ymd(1970, 1, 1) + now;
        params.not_before = now - DAY * old_days;
        params.not_after = now + DAY * left_days;
        self.sign(name, &params)
    }

    /// A client's certificate.
    ///
    /// # Panics
    /// When no key can be made.
    pub fn issue_client(&self, name: &str) -> Files {
        self.issue_client_as(name, &[])
    }

    /// The same, with URIs beside its name.
    ///
    /// # Panics
    /// When one of them is none.
    pub fn issue_client_as(&self, name: &str, uris: &[&str]) -> Files {
        let mut params = CertificateParams::new(vec![format!("{name}.clients.example")]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let uris = uris.iter().map(|uri| Ia5String::try_from(*uri).expect("a URI"));
        params.subject_alt_names.extend(uris.map(SanType::URI));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(name, &params)
    }

    fn sign(&self, name: &str, params: &CertificateParams) -> Files {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        // The key first: a certificate that is new before its key is would be refused for a moment.
        Files {
            key: write(
                &self.folder,
                &format!("{name}.key"),
                key.serialize_pem().as_bytes(),
            ),
            certificate: write(&self.folder, &format!("{name}.pem"), certificate.pem().as_bytes()),
        }
    }

    /// A client that trusts this authority, and shows `own` if it has a certificate.
    ///
    /// # Panics
    /// When a file is not what it should be.
    pub fn client(&self, own: Option<&Files>, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        client(&self.file, own, protocols)
    }
}

/// A client that trusts the authority in this file, and shows `own` if it has a certificate.
///
/// # Panics
/// When a file is not what it should be.
pub fn client(authority: &Path, own: Option<&Files>, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(authority).expect("the authority's file"))
        .expect("an authority");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let chain = CertificateDer::pem_file_iter(&files.certificate).expect("a file");
            let chain = chain.map(|der| der.expect("a certificate")).collect();
            let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// A connection over TLS.
pub type Secure = StreamOwned<ClientConnection, TcpStream>;

/// Connects to `to` and asks for `name`; the handshake is over when this returns.
///
/// # Errors
/// What became of the handshake.
///
/// # Panics
/// When nobody listens, or `name` is none.
pub fn secure(to: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> std::io::Result<Secure> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut tcp = connect(to);
    let mut connection = ClientConnection::new(config.clone(), name).expect("a connection");
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(connection, tcp))
}

/// Sends a request and reads an answer that has a length.
///
/// # Panics
/// When the connection ends before.
pub fn ask(stream: &mut Secure, request: &str) -> String {
    stream.write_all(request.as_bytes()).expect("it is sent");
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        assert_eq!(
            stream.read(&mut byte).expect("an answer comes"),
            1,
            "the stream ended"
        );
        answer.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
    stream.read_exact(&mut body).expect("the body comes");
    answer.extend_from_slice(&body);
    String::from_utf8_lossy(&answer).into_owned()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
    fs::write(&new, bytes).expect("the temporary folder is writable");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("it is ours");
    fs::rename(&new, &path).expect("in the same folder");
    path
}
