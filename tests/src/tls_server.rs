//! An endpoint that speaks TLS and HTTP/1.1, byte by byte, and tells how it was spoken to.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::certificates::{Authority, Files};

/// Answers what it is asked for by the path: see [`answer`]. Lives until the process ends.
#[derive(Clone, Debug)]
pub struct TlsServer {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    config: Arc<ServerConfig>,
    visits: Vec<Visit>,
    open: Vec<TcpStream>,
}

/// A connection whose handshake the server has done.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    /// A session from before went on.
    pub resumed: bool,
    /// The name that was asked for.
    pub name: Option<String>,
    /// The client showed a certificate.
    pub certified: bool,
    /// The first lines of its requests.
    pub lines: Vec<String>,
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Both versions.
    Both,
    /// TLS 1.2 only.
    Tls12,
    /// TLS 1.3 only.
    Tls13,
}

/// How a server is set up: its certificate, who vouches for clients if they have to have one, and what is spoken.
///
/// # Panics
/// When a file is not what it should be.
pub fn config(files: &Files, clients: Option<&Authority>, speaks: Speaks) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions: &[_] = match speaks {
        Speaks::Both => &[&TLS12, &TLS13],
        Speaks::Tls12 => &[&TLS12],
        Speaks::Tls13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let der = CertificateDer::from_pem_file(&authority.file).expect("the authority's file");
            roots.add(der).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate).expect("a file");
    let chain = chain.map(|der| der.expect("a certificate")).collect();
    let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
    Arc::new(builder.with_single_cert(chain, key).expect("a pair"))
}

impl TlsServer {
    /// One that shows this certificate.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(files: &Files) -> Self {
        Self::start_with(config(files, None, Speaks::Both))
    }

    /// One that is set up like this.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start_with(config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let server = Self {
            address: listener.local_addr().expect("its address"),
            shared: Arc::new(Mutex::new(Shared {
                config,
                visits: Vec::new(),
                open: Vec::new(),
            })),
        };
        let serving = server.clone();
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let server = serving.clone();
                // What goes wrong is the other side's to notice.
                std::thread::spawn(move || {
                    let own = tcp.try_clone();
                    let _ = server.serve(tcp);
                    // Dropped it would live on: a copy is kept, to be cut off.
                    let _ = own.map(|tcp| tcp.shutdown(Shutdown::Both));
                });
            }
        });
        server
    }

    /// Whoever connects from now on meets this; who is connected is cut off.
    pub fn change(&self, config: Arc<ServerConfig>) {
        let mut shared = self.shared();
        shared.config = config;
        for tcp in shared.open.drain(..) {
            let _ = tcp.shutdown(Shutdown::Both);
        }
    }

    /// All connections so far.
    pub fn visits(&self) -> Vec<Visit> {
        self.shared().visits.clone()
    }

    /// The first lines of all requests so far.
    pub fn lines(&self) -> Vec<String> {
        self.visits().into_iter().flat_map(|visit| visit.lines).collect()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut tcp: TcpStream) -> io::Result<()> {
        let config = {
            let mut shared = self.shared();
            shared.open.push(tcp.try_clone()?);
            shared.config.clone()
        };
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        let visit = {
            let mut shared = self.shared();
            shared.visits.push(Visit {
                resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
                name: tls.server_name().map(str::to_owned),
                certified: tls.peer_certificates().is_some(),
                lines: Vec::new(),
            });
            shared.visits.len() - 1
        };
        let mut stream = StreamOwned::new(tls, tcp);
        while let Some((line, body)) = request(&mut stream)? {
            self.shared().visits[visit].lines.push(line.clone());
            let path = line.split(' ').nth(1).unwrap_or_default();
            if !answer(&mut stream, path, &body)? {
                return Ok(());
            }
        }
        Ok(())
    }
}

type Stream = StreamOwned<ServerConnection, TcpStream>;

/// The first line of the next request, and its body. `None` at the end.
fn request(stream: &mut Stream) -> io::Result<Option<(String, Vec<u8>)>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
    stream.read_exact(&mut body)?;
    let line = head.lines().next().unwrap_or_default().to_owned();
    Ok(Some((line, body)))
}

/// What a body comes to: its length, and a sum over it.
pub fn sum(body: &[u8]) -> String {
    let sum = body
        .iter()
        .zip(1u64..)
        .fold(0u64, |sum, (byte, at)| sum.wrapping_add(u64::from(*byte) * at));
    format!("{} {sum}\n", body.len())
}

/// A body of so many bytes that differ.
pub fn body(bytes: usize) -> Vec<u8> {
    (0..=250).cycle().take(bytes).collect()
}

/// Answers, and says whether the connection lives on.
fn answer(stream: &mut Stream, path: &str, sent: &[u8]) -> io::Result<bool> {
    let answered = match path.strip_prefix("/large/") {
        Some(bytes) => body(bytes.parse().expect("a length")),
        None if sent.is_empty() => b"ok\n".to_vec(),
        None => sum(sent).into_bytes(),
    };
    if path == "/upgrade" {
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        )?;
        let mut buffer = [0; 4096];
        while let n @ 1.. = stream.read(&mut buffer)? {
            stream.write_all(&buffer[..n])?;
        }
        return Ok(false);
    }
    match path {
        "/until-close" | "/cut-off" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            stream.write_all(&answered)?;
        }
        "/close" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")?;
        }
        _ => {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                answered.len()
            )?;
            stream.write_all(&answered)?;
        }
    }
    match path {
        "/until-close" | "/close" | "/goodbye" => {
            stream.conn.send_close_notify();
            stream.flush()?;
            // Not before the other side has gone: only TLS says that it is over.
            while let Ok(1..) = stream.sock.read(&mut [0; 512]) {}
            Ok(false)
        }
        "/cut-off" => Ok(false),
        _ => Ok(true),
    }
}
