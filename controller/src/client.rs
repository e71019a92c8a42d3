//! One request, one answer, over TCP, TLS or a socket: for webhooks, and for the operator's command.
//!
//! A connection per call: both call rarely, and a connection that is kept is one more thing that may have died in the
//! meantime. Everything is bounded, by one time limit per call and by the bytes of an answer. No redirects are
//! followed: who is asked for a decision is named in the configuration, and by nobody else.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, Response, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Largest answer that is read whole: a page of the audit log has a tenth of it.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Who is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A host and a port, in the clear.
    Tcp(String, u16),
    /// The same, over TLS.
    Tls(String, u16),
    /// A socket of this machine.
    Unix(PathBuf),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Tls(host, port) => write!(f, "{host}:{port} (TLS)"),
            Self::Unix(path) => write!(f, "the socket {}", path.display()),
        }
    }
}

impl Target {
    /// Whom a URL means; `None` for what is neither `http` nor `https`.
    pub fn of(uri: &Uri) -> Option<Self> {
        let host = uri
            .host()?
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        match uri.scheme_str()? {
            "http" => Some(Self::Tcp(host, uri.port_u16().unwrap_or(80))),
            "https" => Some(Self::Tls(host, uri.port_u16().unwrap_or(443))),
            _ => None,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody is there.
    #[error("cannot connect to {0}")]
    Connect(Target, #[source] std::io::Error),
    /// The authorities that this machine trusts, or the name of the server, are no use.
    #[error("cannot speak TLS to {0}")]
    Tls(Target, #[source] rustls::Error),
    /// The conversation broke off.
    #[error("{0} broke off")]
    Broken(Target, #[source] hyper::Error),
    /// The body of the answer broke off, or is longer than what is read.
    #[error("the answer of {0} cannot be read")]
    Body(Target, #[source] axum::Error),
    /// It took too long.
    #[error("{0} did not answer within {1:?}")]
    Late(Target, Duration),
}

/// Sends a request and reads the whole answer, all within `patience`.
///
/// # Errors
/// When there is no answer, or not in time.
pub async fn call(
    target: &Target,
    request: Request<Body>,
    patience: Duration,
) -> Result<Response<Bytes>, CallError> {
    let whole = async {
        let (head, body) = open(target, request).await?.into_parts();
        let body = to_bytes(body, ANSWER_BYTES_MAX).await;
        let body = body.map_err(|error| CallError::Body(target.clone(), error))?;
        Ok(Response::from_parts(head, body))
    };
    let late = || CallError::Late(target.clone(), patience);
    timeout(patience, whole).await.unwrap_or_else(|_| Err(late()))
}

/// Sends a request and returns the answer as soon as its head is there: for answers that do not end.
///
/// # Errors
/// When there is no answer.
pub async fn open(target: &Target, request: Request<Body>) -> Result<Response<Body>, CallError> {
    let no_way = |error| CallError::Connect(target.clone(), error);
    match target {
        Target::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(no_way)?;
            converse(target, stream, request).await
        }
        Target::Tcp(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(no_way)?;
            converse(target, stream, request).await
        }
        Target::Tls(host, port) => {
            let config = trusting().map_err(|error| CallError::Tls(target.clone(), error))?;
            let name = ServerName::try_from(host.clone());
            let name = name.map_err(|_| no_way(std::io::ErrorKind::InvalidInput.into()))?;
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(no_way)?;
            let stream = TlsConnector::from(config)
                .connect(name, stream)
                .await
                .map_err(no_way)?;
            converse(target, stream, request).await
        }
    }
}

async fn converse(
    target: &Target,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Body>,
) -> Result<Response<Body>, CallError> {
    let broken = |error| CallError::Broken(target.clone(), error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends with the answer, or when the answer is dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "call broke off");
        }
    });
    sender
        .send_request(request)
        .await
        .map(|answer| answer.map(Body::new))
        .map_err(broken)
}

/// Whoever the authorities of this machine vouch for. Read per call: calls are rare, and authorities change.
fn trusting() -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    if let Ok(found) = rustls_native_certs::load_native_certs() {
        roots.add_parsable_certificates(found);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}
