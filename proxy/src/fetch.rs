//! One request to whom a URL names, over HTTP/1.1 on a connection of its own: for what is asked once in minutes or in
//! months, as an issuer's keys or a certificate, where a pool would only grow old.
//!
//! Everything has a bound: time, bytes, addresses that are tried. No redirect is followed, so that what is asked leads
//! where the configuration says, or nowhere. TLS is verified as it is with endpoints; there is no way not to.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::time::timeout;

use crate::tls::origination::{Destination, Origination};
use crate::upstream::connect::{Socket, To};

/// For a connection to one address, and once more for the handshake. Short: the next address may be the one that answers.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// Bytes that a connection buffers: a head has to fit into it.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;

/// What an answer may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// From the name to the last byte.
    pub(crate) time: Duration,
    /// Of its body.
    pub(crate) bytes: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It took too long.
    #[error("no answer within {0:?}")]
    Slow(Duration),
    /// It is not one that can be asked.
    #[error("no URL to be asked: {0}")]
    Url(&'static str),
    /// The host has no address.
    #[error("the host is not known")]
    Host(#[source] io::Error),
    /// There is no connection, for this reason.
    #[error("no connection: {0}")]
    Connect(&'static str),
    /// The connection broke, or what came is no HTTP.
    #[error("no answer")]
    Http(#[from] hyper::Error),
    /// The answer is too long.
    #[error("an answer of more than {0} bytes")]
    Long(usize),
}

/// Sends a request to the host of its URL, which is asked by `tls`, or in the clear where `None`, and reads the answer to
/// its end.
///
/// # Errors
/// Why there is none.
pub(crate) async fn fetch<B>(
    request: Request<B>,
    tls: Option<&Arc<Origination>>,
    bounds: Bounds,
) -> Result<Response<Bytes>, FetchError>
where
    B: Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let fetched = timeout(bounds.time, exchange(request, tls, bounds.bytes)).await;
    fetched.unwrap_or(Err(FetchError::Slow(bounds.time)))
}

async fn exchange<B>(
    mut request: Request<B>,
    tls: Option<&Arc<Origination>>,
    bytes_max: usize,
) -> Result<Response<Bytes>, FetchError>
where
    B: Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let url = std::mem::take(request.uri_mut());
    let wanted = if tls.is_some() {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    };
    if url.scheme() != Some(&wanted) {
        return Err(FetchError::Url("another scheme"));
    }
    let authority = url.authority().ok_or(FetchError::Url("no host"))?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| FetchError::Url("no host"))?;
    request.headers_mut().insert(HOST, host);
    let target = url.path_and_query().cloned();
    *request.uri_mut() = Uri::from(target.unwrap_or(PathAndQuery::from_static("/")));
    let socket = connect(&url, tls).await?;
    let handshake = Builder::new()
        .max_buf_size(BUFFER_BYTES_MAX)
        .handshake(TokioIo::new(socket));
    let (mut sender, connection) = handshake.await?;
    let mut connection = pin!(connection);
    let mut answered = pin!(async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        Ok(Response::from_parts(head, whole(body, bytes_max).await?))
    });
    tokio::select! {
        biased;
        answer = &mut answered => answer,
        // Its end is told to who waits for an answer, too, and that may be there already.
        _ = &mut connection => answered.await,
    }
}

/// A connection to the first of the host's addresses that takes one.
async fn connect(url: &Uri, tls: Option<&Arc<Origination>>) -> Result<Socket, FetchError> {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let usual = if tls.is_some() { 443 } else { 80 };
    let addresses = tokio::net::lookup_host((host, url.port_u16().unwrap_or(usual))).await;
    let destination = tls.map(|tls| {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| FetchError::Url("no name for a certificate"))?;
        Ok::<_, FetchError>(Arc::new(Destination::new(tls, name)))
    });
    let destination = destination.transpose()?;
    let mut why = "no address";
    for address in addresses.map_err(FetchError::Host)?.take(ADDRESSES_MAX) {
        let to = To {
            address,
            limit: CONNECT_TIME,
            tls: destination.clone(),
        };
        match to.connect(&[]).await {
            Ok(socket) => return Ok(socket),
            Err(failure) => why = failure.consequence().reason,
        }
    }
    Err(FetchError::Connect(why))
}

async fn whole(body: Incoming, bytes_max: usize) -> Result<Bytes, FetchError> {
    let mut body = pin!(body);
    let mut all = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let piece = frame?.into_data().unwrap_or_default();
        if all.len() + piece.len() > bytes_max {
            return Err(FetchError::Long(bytes_max));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}
