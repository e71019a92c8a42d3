//! Where proxies connect: the socket, TLS, and how many there may be.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::{LINKS_MAX, Links};

/// Connections at a time: more than links, because one that has just broken may not be noticed yet. Others wait in the
/// kernel's queue.
const CONNECTIONS_MAX: usize = LINKS_MAX + 256;

/// Calls on one connection: a proxy makes one.
const CALLS_MAX: u32 = 4;

/// Between two pings, and how long the answer to one may take.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How long a TLS handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);

/// What a proxy may send before it is read: two pieces of a report. Of all proxies together, a quarter of a gigabyte at
/// worst.
const WINDOW_BYTES: u32 = 128 * 1024;

/// After a failed accept, usually for want of file descriptors: trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the two ends prove who they are, as PEM.
#[derive(Clone)]
pub struct Tls {
    /// The controller's certificate, and those above it.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
    /// The authorities that vouch for proxies; without them a proxy needs no certificate.
    pub client_authority: Option<Vec<u8>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(hidden)")
    }
}

/// Why the link cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A certificate or a key is none, or the transport gave up.
    #[error("the link cannot be served")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves the links on this socket until `stop` is done and they are closed.
///
/// # Errors
/// When a certificate or a key is none.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    links: &Links,
    stop: impl Future<Output = ()>,
) -> Result<(), LinkError> {
    serve_on(accepted(listener), tls, links, stop).await
}

/// The same on connections from anywhere.
///
/// # Errors
/// When a certificate or a key is none.
pub async fn serve_on<IO>(
    connections: impl Stream<Item = io::Result<IO>>,
    tls: Option<Tls>,
    links: &Links,
    stop: impl Future<Output = ()>,
) -> Result<(), LinkError>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let mut server = Server::builder()
        .max_concurrent_streams(CALLS_MAX)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    if let Some(tls) = tls {
        // Whoever came first has decided; where nobody has, the transport would panic over the choice.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut config = ServerTlsConfig::new()
            .identity(Identity::from_pem(tls.certificate, tls.key))
            .timeout(HANDSHAKE_PATIENCE);
        if let Some(authority) = tls.client_authority {
            config = config.client_ca_root(Certificate::from_pem(authority));
        }
        server = server.tls_config(config)?;
    }
    let ending = async {
        stop.await;
        // They have no end of their own.
        links.registry.end_all();
    };
    Ok(server
        .serve_with_incoming_shutdown(links.service(), connections, ending)
        .await?)
}

/// Connections as they come, as many at a time as there may be.
fn accepted(listener: TcpListener) -> impl Stream<Item = io::Result<Conn>> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    stream::unfold((listener, room), |(listener, room)| async {
        let permit = room.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((tcp, _)) => {
                    // Plans are waited for.
                    let _ = tcp.set_nodelay(true);
                    let conn = Conn { tcp, _place: permit };
                    return Some((Ok(conn), (listener, room)));
                }
                Err(error) => {
                    tracing::debug!(%error, "link not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

/// A connection that gives its place back when it is dropped.
struct Conn {
    tcp: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl Connected for Conn {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.tcp.connect_info()
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}
