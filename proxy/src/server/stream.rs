//! A client's connection as pingora sees it, and the way home from there.
//!
//! pingora takes the stream of a connection with each request and gives it back only where it believes that another
//! request can follow; after any error of an endpoint it drops it, and with it a client who did nothing wrong. So what
//! pingora gets is a wrapper: dropped, it lays the connection down at its [`Home`], where the accept loop finds it and
//! decides for itself. All else is [`Conn`].

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use foreshade_engine::moment::Moment;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::conn::Conn;

/// Where a connection comes back to. The lock is never contended: connection and home belong to one task.
#[derive(Debug, Default)]
pub(crate) struct Home(Mutex<Option<Box<Returned>>>);

/// A connection that pingora has dropped.
#[derive(Debug)]
pub(crate) struct Returned {
    pub(crate) conn: Conn,
    pub(crate) digest: Arc<SocketDigest>,
    /// Its answer was written whole, and says that another request may follow.
    pub(crate) lives: bool,
}

impl Home {
    /// The connection, if it is here.
    pub(crate) fn take(&self) -> Option<Box<Returned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A client's connection, lent to pingora for one request.
#[derive(Debug)]
pub struct EdgeStream {
    /// Absent only while it is dropped.
    conn: Option<Conn>,
    home: Arc<Home>,
    digest: Arc<SocketDigest>,
    lives: AtomicBool,
    /// When the first byte of the request at hand was there, if somebody wants to know.
    begun: Option<Moment>,
}

impl EdgeStream {
    /// Lends `conn` out; it comes back to `home`.
    pub(crate) fn new(conn: Conn, home: Arc<Home>) -> Self {
        let digest = SocketDigest::from_raw_fd(conn.socket());
        // Known from accept(2), so that asking for it costs no system call.
        let _ = digest.peer_addr.set(Some(conn.client().into()));
        Self {
            conn: Some(conn),
            home,
            digest: Arc::new(digest),
            lives: AtomicBool::new(false),
            begun: None,
        }
    }

    /// Lends it out once more.
    pub(crate) fn again(returned: Returned, home: Arc<Home>) -> Self {
        Self {
            conn: Some(returned.conn),
            home,
            digest: returned.digest,
            lives: AtomicBool::new(false),
            begun: None,
        }
    }

    /// A request begins, its first byte there since `begun`, if anybody looked. What was said of the connection's life with
    /// the answer before holds no longer: pingora may have given the stream back itself.
    pub(super) fn begin(&mut self, begun: Option<Moment>) {
        self.begun = begun;
        *self.lives.get_mut() = false;
    }

    /// When the first byte of the request at hand was there, if anybody looked.
    pub(crate) fn begun(&self) -> Option<Moment> {
        self.begun
    }

    /// The connection behind the stream that pingora speaks to.
    pub(crate) fn behind(stream: &Stream) -> Option<&Self> {
        stream.as_any().downcast_ref()
    }

    /// The answer was written whole, and says that another request may follow: pingora will not say so.
    pub(crate) fn live_on(&self) {
        self.lives.store(true, Ordering::Relaxed);
    }

    /// The connection.
    pub(crate) fn conn(&self) -> Option<&Conn> {
        self.conn.as_ref()
    }

    /// The connection.
    pub(crate) fn conn_mut(&mut self) -> Option<&mut Conn> {
        self.conn.as_mut()
    }

    fn pinned(&mut self) -> io::Result<Pin<&mut Conn>> {
        let conn = self.conn.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Pin::new(conn))
    }
}

impl Drop for EdgeStream {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            let returned = Returned {
                conn,
                digest: self.digest.clone(),
                lives: *self.lives.get_mut(),
            };
            *self.home.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(returned));
        }
    }
}

impl AsyncRead for EdgeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.pinned()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for EdgeStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.pinned()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned()?.poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for EdgeStream {
    async fn shutdown(&mut self) {
        // The client may be gone, and then there is nobody to tell.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for EdgeStream {
    fn id(&self) -> UniqueIDType {
        self.conn.as_ref().map_or(-1, Conn::socket)
    }
}

impl GetSocketDigest for EdgeStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.digest.clone())
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.digest = Arc::new(digest);
    }
}

impl GetTimingDigest for EdgeStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for EdgeStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl Ssl for EdgeStream {}
impl Peek for EdgeStream {}
