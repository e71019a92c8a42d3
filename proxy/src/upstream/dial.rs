//! The way of one attempt to its endpoint: a kept connection, or a new one.
//!
//! pingora has a pool of its own, shared between threads; per request it costs a task, a timer, a lock or two and two
//! system calls, more than all of our policy. So it never gets to keep a connection. What it is lent is a socket of our
//! making, and when it is done with a request and asks whether the connection still lives, as it does before it would put
//! it into its pool, it hears that the connection has ended; dropped then, the connection goes into ours ([`Pool`]). Only
//! that question brings it there: a connection that is dropped without it was not fit to be used again. Whoever serves a
//! request without pingora's pipes says so himself ([`Lent::rest`]).

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use pingora_core::connectors::l4::Connect;
use pingora_core::protocols::l4::socket::SocketAddr as Address;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora_error::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::Unreached;
use super::connect::{Socket, To};
use super::pool::Pool;
use crate::gather::{self, Gather};
use crate::outcome::Failure;
use crate::topology::ids::EndpointId;

/// No connection yet.
const NONE: RawFd = -1;

/// One attempt's way to its endpoint. Tells afterwards which connection it was.
#[derive(Debug)]
pub struct Dial {
    endpoint: EndpointId,
    to: Arc<To>,
    pool: Arc<Pool>,
    socket: AtomicI32,
    reused: AtomicBool,
}

impl Dial {
    /// A way to the endpoint by a connection of the pool, or by a new one.
    pub(super) fn new(endpoint: EndpointId, to: Arc<To>, pool: Arc<Pool>) -> Self {
        Self {
            endpoint,
            to,
            pool,
            socket: AtomicI32::new(NONE),
            reused: AtomicBool::new(false),
        }
    }

    /// The connection's descriptor; -1 while there is none.
    pub fn socket(&self) -> RawFd {
        self.socket.load(Ordering::Relaxed)
    }

    /// Whether the connection has served before.
    pub fn is_reused(&self) -> bool {
        self.reused.load(Ordering::Relaxed)
    }

    /// The connection: a kept one where there is one.
    ///
    /// # Errors
    /// Why none could be opened.
    pub(crate) async fn lend(&self) -> Result<Lent, Failure> {
        let kept = self.pool.take(self.endpoint, &self.to);
        let reused = kept.is_some();
        let socket = match kept {
            Some(socket) => socket,
            // Boxed: most attempts find a kept connection, and need no room for what opens one.
            None => Box::pin(self.to.connect(&[])).await?,
        };
        self.socket.store(socket.as_raw_fd(), Ordering::Relaxed);
        self.reused.store(reused, Ordering::Relaxed);
        Ok(Lent {
            socket: Some(socket),
            endpoint: self.endpoint,
            pool: self.pool.clone(),
            gather: Gather::default(),
            new: !reused,
            rests: false,
        })
    }
}

#[async_trait]
impl Connect for Dial {
    /// To where the dial leads, whatever pingora takes for the address.
    async fn connect(&self, _: &Address) -> pingora_error::Result<Stream> {
        let lent = self.lend().await.map_err(|failure| {
            Error::because(
                ErrorType::ConnectError,
                "no connection to the endpoint",
                Unreached(failure),
            )
        })?;
        Ok(VirtualSocketStream::new(Box::new(lent)).into())
    }
}

/// A connection that is lent for one request.
#[derive(Debug)]
pub(crate) struct Lent {
    /// Absent only while it is dropped.
    socket: Option<Socket>,
    endpoint: EndpointId,
    pool: Arc<Pool>,
    gather: Gather,
    /// It has served nobody yet.
    new: bool,
    /// Everything has been answered, and the connection can serve again.
    rests: bool,
}

impl Lent {
    /// Everything has been answered, and nothing is left to be read: the connection can serve again.
    pub(crate) fn rest(&mut self) {
        self.rests = self.gather.is_empty();
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.socket.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        self.gather
            .poll_drain(|rest| Pin::new(&mut *socket).poll_write(cx, rest))
    }

    fn socket(&mut self) -> io::Result<Pin<&mut Socket>> {
        let socket = self.socket.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Pin::new(socket))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (true, Some(socket)) = (self.rests, self.socket.take()) {
            self.pool.put(self.endpoint, socket);
        }
    }
}

/// Whether nobody is there to be woken: then a read is a question that wants its answer at once. Every waker that can
/// wake somebody has to know whom, and has data.
fn nobody_waits(cx: &Context<'_>) -> bool {
    cx.waker().data().is_null()
}

impl AsyncRead for Lent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = self.socket()?.poll_read(cx, buffer);
        if polled.is_pending() && self.gather.is_empty() && nobody_waits(cx) {
            self.rests = true;
            return Poll::Ready(Ok(()));
        }
        if let (true, Poll::Ready(Err(error)), Some(socket)) = (self.new, &polled, &self.socket)
            && let Some(failure) = socket.was_refused(error)
        {
            return Poll::Ready(Err(io::Error::other(Unreached(failure))));
        }
        // An answer has begun: what comes now is not about the handshake.
        self.new &= buffer.filled().len() == before;
        polled
    }
}

impl AsyncWrite for Lent {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.gather.has_room_for(bytes) {
            ready!(self.poll_drain(cx))?;
        }
        if bytes.len() >= gather::BYTES_MAX {
            return self.socket()?.poll_write(cx, bytes);
        }
        self.gather.put(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        self.socket()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        self.socket()?.poll_shutdown(cx)
    }
}

impl VirtualSocket for Lent {
    /// Set when the connection was opened.
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Shutdown for Lent {
    async fn shutdown(&mut self) {
        // The endpoint may be gone, and then there is nobody to tell.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Lent {
    fn id(&self) -> UniqueIDType {
        self.socket.as_ref().map_or(NONE, AsRawFd::as_raw_fd)
    }
}

impl GetSocketDigest for Lent {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }

    fn set_socket_digest(&mut self, _: SocketDigest) {}
}

impl GetTimingDigest for Lent {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Lent {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl Ssl for Lent {}
impl Peek for Lent {}
