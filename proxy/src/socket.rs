//! A socket, a client's or an endpoint's: in the clear, or with TLS on top.
//!
//! An enum and not a box: which of the two it is costs a branch that is always predicted. What differs for whoever uses
//! it stands here: TLS may hold bytes that the kernel does not know of, read and not taken ([`Socket::readable`]) or
//! sealed and not sent ([`Socket::has_unsent`]).
//!
//! A client that closes without saying so in TLS first (`close_notify`) is taken for one that has closed: where a request
//! ends is known from the request, so nobody can pass a part of it off as the whole. An answer may end with its
//! connection, so an endpoint that closes like this has broken off.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use rustls::ProtocolVersion;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio_rustls::TlsStream;

/// A socket; of one that was secured it is known what was agreed on.
#[derive(Debug)]
pub(crate) enum Socket<A> {
    /// Bytes as they are.
    Plain(TcpStream),
    /// Bytes sealed, after a handshake.
    Tls(Box<Secure<A>>),
}

/// A connection that has been secured.
#[derive(Debug)]
pub(crate) struct Secure<A> {
    stream: TlsStream<TcpStream>,
    agreed: A,
}

impl<A: Unpin> Socket<A> {
    /// A socket whose handshake is over.
    pub(crate) fn secured(stream: impl Into<TlsStream<TcpStream>>, agreed: A) -> Self {
        let stream = stream.into();
        Self::Tls(Box::new(Secure { stream, agreed }))
    }

    /// What was agreed on; `None` in the clear.
    pub(crate) fn agreed(&self) -> Option<&A> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(secure) => Some(&secure.agreed),
        }
    }

    /// The version of TLS that is spoken; `None` in the clear.
    pub(crate) fn version(&self) -> Option<ProtocolVersion> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(secure) => secure.stream.get_ref().1.protocol_version(),
        }
    }

    /// The connection below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(secure) => secure.stream.get_ref().0,
        }
    }

    /// Waits until there is something to read, or the client has gone. `first` is a connection that nothing has been read
    /// from: tokio takes it for readable until a read has shown that it is not.
    pub(crate) async fn readable(&mut self, first: bool) -> io::Result<()> {
        match self {
            Self::Plain(tcp) if first => tcp.peek(&mut [0]).await.map(drop),
            Self::Plain(tcp) => tcp.readable().await,
            Self::Tls(secure) => {
                if first {
                    // The handshake stopped reading when it was over, and not when there was nothing left.
                    secure.open_what_is_there();
                }
                match secure.has_opened() {
                    true => Ok(()),
                    false => secure.stream.get_ref().0.readable().await,
                }
            }
        }
    }

    /// The same, for who polls.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => tcp.poll_read_ready(cx),
            Self::Tls(secure) if secure.has_opened() => Poll::Ready(Ok(())),
            Self::Tls(secure) => secure.stream.get_ref().0.poll_read_ready(cx),
        }
    }

    /// Whether there are bytes of ours that the kernel has not taken yet.
    pub(crate) fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(secure) => secure.stream.get_ref().1.wants_write(),
        }
    }

    /// Reads what is there. A read that is not filled tells the runtime that no more is, which spares a system call that
    /// tokio's own `try_read` would leave to the next reader.
    pub(crate) fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        let read = pin!(unconstrained(self.read_buf(into)));
        match read.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(read) => read,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Whether nothing has come: no bytes, no end, no error. What TLS itself was sent, as tickets are, is taken in. Asks the
    /// kernel only where the runtime does not know better.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        if self.poll_readable(&mut nobody).is_pending() {
            return true;
        }
        let mut byte = [0];
        let read = unconstrained(self.read(&mut byte));
        matches!(pin!(read).poll(&mut nobody), Poll::Pending)
    }

    /// Ends a connection on which nothing is under way: in TLS this is said, so that nobody takes it for cut off. Not to be
    /// called in the middle of an answer, which would look whole by it.
    pub(crate) fn part(&mut self) {
        if let Self::Tls(secure) = self {
            secure.part();
        }
    }

    /// Writes what is taken without waiting.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write(bytes),
            Self::Tls(_) => match Pin::new(self).poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
                Poll::Ready(written) => written,
                Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            },
        }
    }
}

impl<A> Secure<A> {
    /// Says goodbye, if the kernel takes it at once.
    fn part(&mut self) {
        let _ = Pin::new(&mut self.stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }

    /// Whether a client is at the other end.
    fn is_of_client(&self) -> bool {
        matches!(self.stream, TlsStream::Server(_))
    }

    /// Whether something is here to be read, its end included.
    fn has_opened(&self) -> bool {
        !self.stream.get_ref().1.wants_read()
    }

    /// Takes in what has arrived. What is wrong with it shows with the next read.
    fn open_what_is_there(&mut self) {
        let mut nothing = ReadBuf::new(&mut []);
        let _ = Pin::new(&mut self.stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut nothing);
    }
}

/// Whether this is the end of a connection that was not announced in TLS.
pub(crate) fn is_silent_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

impl<A: Unpin> AsRawFd for Socket<A> {
    fn as_raw_fd(&self) -> RawFd {
        self.tcp().as_raw_fd()
    }
}

impl<A: Unpin> AsyncRead for Socket<A> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(secure) => match Pin::new(&mut secure.stream).poll_read(cx, buffer) {
                Poll::Ready(Err(error)) if secure.is_of_client() && is_silent_end(&error) => {
                    Poll::Ready(Ok(()))
                }
                polled => polled,
            },
        }
    }
}

impl<A: Unpin> AsyncWrite for Socket<A> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(secure) => Pin::new(&mut secure.stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, pieces),
            Self::Tls(secure) => Pin::new(&mut secure.stream).poll_write_vectored(cx, pieces),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(secure) => Pin::new(&mut secure.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(secure) => Pin::new(&mut secure.stream).poll_shutdown(cx),
        }
    }
}
