//! The downstream connection as pingora sees it: a TCP stream whose small writes leave together.
//!
//! pingora writes the head and the body of an answer separately and flushes at its end. On a bare socket these are two
//! TCP segments and two wake-ups of the client; its own listeners therefore wrap sockets in a buffer, but give no way to
//! do that from outside. So this wrapper does: writes gather until a flush or until [`GATHER_BYTES`]; what is larger
//! than that goes straight through. What was gathered also leaves when the proxy turns to reading, as it does whenever it
//! has nothing more to write: so an answer that pauses after its first bytes delivers them. The buffer exists only between
//! a write and its flush, so that an idle connection holds none.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// Writes gather up to this many bytes: a head and a small page; more would only delay the first byte.
const GATHER_BYTES: usize = 16 * 1024;

/// What most answers fit in.
const GATHER_USUAL_BYTES: usize = 2 * 1024;

/// A client's connection.
#[derive(Debug)]
pub struct EdgeStream {
    tcp: TcpStream,
    gathered: Vec<u8>,
    /// How much of `gathered` the kernel has taken already.
    sent: usize,
    digest: Arc<SocketDigest>,
}

impl EdgeStream {
    /// Wraps an accepted connection and turns Nagle's algorithm off, since writes are gathered here.
    ///
    /// # Errors
    /// When the connection is gone already.
    pub fn new(tcp: TcpStream, client: SocketAddr) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        let digest = SocketDigest::from_raw_fd(tcp.as_raw_fd());
        // Known from accept(2), so that asking for it costs no system call.
        let _ = digest.peer_addr.set(Some(client.into()));
        Ok(Self {
            tcp,
            gathered: Vec::new(),
            sent: 0,
            digest: Arc::new(digest),
        })
    }

    /// Waits until the client has sent something, or has gone away. Holds no buffer meanwhile. `first` is a connection
    /// that nothing has been read from: tokio takes it for readable until a read has shown that it is not.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn readable(&self, first: bool) -> io::Result<()> {
        if first {
            return self.tcp.peek(&mut [0]).await.map(drop);
        }
        self.tcp.readable().await
    }

    /// Hands everything gathered to the kernel.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.gathered.get(self.sent..).filter(|r| !r.is_empty()) {
            match ready!(Pin::new(&mut self.tcp).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.sent += taken,
            }
        }
        self.gathered = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for EdgeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.gathered.is_empty() {
            // Whether the kernel takes it all now, later, or never, the next write or flush tells.
            let _ = self.poll_drain(cx);
        }
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for EdgeStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.gathered.len() + bytes.len() > GATHER_BYTES {
            ready!(self.poll_drain(cx))?;
        }
        if bytes.len() >= GATHER_BYTES {
            return Pin::new(&mut self.tcp).poll_write(cx, bytes);
        }
        if self.gathered.is_empty() {
            // Room for a head and a small body: growing in steps would copy.
            self.gathered.reserve(bytes.len().max(GATHER_USUAL_BYTES));
        }
        self.gathered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
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
        self.tcp.as_raw_fd()
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    async fn pair() -> (EdgeStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, address) = listener.accept().await.unwrap();
        (EdgeStream::new(tcp, address).unwrap(), client)
    }

    #[tokio::test]
    async fn head_and_body_arrive_in_one_read() {
        let (mut edge, mut client) = pair().await;
        edge.write_all(b"head ").await.unwrap();
        edge.write_all(b"body").await.unwrap();
        assert_eq!(edge.gathered, b"head body");
        edge.flush().await.unwrap();
        assert_eq!(edge.gathered.capacity(), 0, "an idle connection holds no buffer");
        let mut got = [0; 32];
        let n = client.read(&mut got).await.unwrap();
        assert_eq!(&got[..n], b"head body");
    }

    #[tokio::test]
    async fn what_was_gathered_leaves_when_the_proxy_turns_to_reading() {
        let (mut edge, mut client) = pair().await;
        edge.write_all(b"first").await.unwrap();
        let (mut got, mut nothing) = ([0; 5], [0; 1]);
        tokio::select! {
            _ = edge.read(&mut nothing) => panic!("the client says nothing"),
            read = client.read_exact(&mut got) => assert_eq!(read.unwrap(), 5),
        }
        assert_eq!(&got, b"first");
    }

    #[tokio::test]
    async fn order_survives_writes_of_every_size() {
        let (mut edge, mut client) = pair().await;
        let sizes = [1, GATHER_BYTES - 1, 2, GATHER_BYTES, 5, 3 * GATHER_BYTES, 7];
        let sent: Vec<u8> = (0..=250).cycle().take(sizes.iter().sum()).collect();
        let reader = tokio::spawn(async move {
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            got
        });
        let mut at = 0;
        for size in sizes {
            edge.write_all(&sent[at..at + size]).await.unwrap();
            at += size;
        }
        Shutdown::shutdown(&mut edge).await;
        assert_eq!(reader.await.unwrap(), sent);
    }
}
