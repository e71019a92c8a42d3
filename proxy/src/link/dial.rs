//! The way to the controller: address, TLS, token, keep-alive.
//!
//! Files are read at each try, so that a certificate or a token that was renewed needs no restart. A connection on which
//! nothing is said is asked every few seconds whether it is there (an HTTP/2 ping): a controller whose machine has
//! vanished says nothing, and silence must not look like peace.

use std::path::{Path, PathBuf};
use std::time::Duration;

use foreshade_contract::wire::MESSAGE_BYTES_MAX;
use foreshade_contract::wire::proto::link_client::LinkClient;
use foreshade_contract::wire::proto::{Down, Up};
use futures_util::Stream;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Streaming};

use crate::config::{Controller, ControllerTls};
use foreshade_door::{TokenError, read_token};

/// Between two pings, and how long the answer to one may take: a controller that is gone is noticed within twice that.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Largest file of certificates: a bundle of all public authorities has a quarter of a megabyte.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// A file is not what it should be.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// The token's file.
    #[error("{}: {source}", path.display())]
    Token { path: PathBuf, source: TokenError },
    /// The authorities that this machine trusts.
    #[error("the authorities that this machine trusts: {0}")]
    Authorities(String),
    /// The address, the certificates, or the connection itself.
    #[error("{}", chain(.0))]
    Transport(#[from] tonic::transport::Error),
    /// The controller does not want this proxy.
    #[error("{}: {}", .0.code(), .0.message())]
    Refused(Box<tonic::Status>),
}

/// Connects, and opens the stream.
pub(super) async fn join(
    settings: &Controller,
    outgoing: impl Stream<Item = Up> + Send + 'static,
) -> Result<Streaming<Down>, DialError> {
    let channel = endpoint(settings)?.connect().await?;
    let mut request = Request::new(outgoing);
    if let Some(path) = &settings.token_file {
        request.metadata_mut().insert("authorization", credentials(path)?);
    }
    let mut client = LinkClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let joined = client.join(request).await;
    joined
        .map(tonic::Response::into_inner)
        .map_err(|status| DialError::Refused(Box::new(status)))
}

/// What is said with the token in a file.
pub(crate) fn credentials(path: &Path) -> Result<AsciiMetadataValue, DialError> {
    let refused = |source| DialError::Token {
        path: path.to_owned(),
        source,
    };
    let token = read_token(path).map_err(refused)?;
    let bearer = [b"Bearer ", &token[..]].concat();
    let mut value = AsciiMetadataValue::try_from(&bearer[..]).map_err(|_| refused(TokenError::Content))?;
    value.set_sensitive(true);
    Ok(value)
}

fn endpoint(settings: &Controller) -> Result<Endpoint, DialError> {
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", settings.address))?
        .user_agent(concat!("foreshade-proxy/", env!("CARGO_PKG_VERSION")))?
        .connect_timeout(super::DIAL_PATIENCE)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    match &settings.tls {
        Some(tls) => Ok(endpoint.tls_config(certificates(tls)?)?),
        None => Ok(endpoint),
    }
}

/// What a section of TLS stands for, with its files read.
pub(crate) fn certificates(tls: &ControllerTls) -> Result<ClientTlsConfig, DialError> {
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem(&tls.ca_file)?));
    if let Some((cert, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(pem(cert)?, pem(key)?));
    }
    if let Some(name) = &tls.server_name {
        config = config.domain_name(name);
    }
    Ok(config)
}

fn pem(path: &Path) -> Result<Vec<u8>, DialError> {
    let read = || {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        if file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes)? as u64 > PEM_BYTES_MAX {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    };
    let path = path.to_owned();
    read().map_err(|source| DialError::File { path, source })
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
