//! The connections of a load: dialled, counted, and with TLS or without.
//!
//! An enum and not a box: which of the two it is costs a branch per read that is always predicted, and the usual case,
//! plain TCP, goes to the socket without a detour.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::load::tls::Tls;

/// Opens connections to one target and knows how many there are.
pub(crate) struct Dialler {
    target: SocketAddr,
    tls: Option<Tls>,
    gauge: Rc<Gauge>,
}

#[derive(Default)]
struct Gauge {
    open: Cell<usize>,
    peak: Cell<usize>,
    opened: Cell<u64>,
}

impl Dialler {
    pub(crate) fn new(target: SocketAddr, tls: Option<Tls>) -> Self {
        Self {
            target,
            tls,
            gauge: Rc::default(),
        }
    }

    /// Most connections at the same time so far.
    pub(crate) fn peak(&self) -> usize {
        self.gauge.peak.get()
    }

    /// Connections opened so far.
    pub(crate) fn opened(&self) -> u64 {
        self.gauge.opened.get()
    }

    /// A new connection, over which requests can be sent at once.
    pub(crate) async fn dial(&self) -> io::Result<Stream> {
        let counted = Counted::new(&self.gauge);
        let plain = TcpStream::connect(self.target).await?;
        plain.set_nodelay(true)?;
        let transport = match &self.tls {
            None => Transport::Plain(plain),
            Some(tls) => {
                let connector = TlsConnector::from(tls.config.clone());
                let stream = connector.connect(tls.name.clone(), plain).await?;
                let (wanted, agreed) = (&tls.config.alpn_protocols, stream.get_ref().1.alpn_protocol());
                let http2 = |protocol: &[u8]| protocol == b"h2";
                if wanted.iter().any(|protocol| http2(protocol)) && !agreed.is_some_and(http2) {
                    return Err(io::Error::other("the server does not speak HTTP/2 over TLS"));
                }
                Transport::Tls(Box::new(stream))
            }
        };
        self.gauge.opened.set(self.gauge.opened.get() + 1);
        Ok(Stream {
            transport,
            _counted: counted,
        })
    }
}

/// Counts a connection from its first packet on, since that is when it takes a place at both ends.
struct Counted(Rc<Gauge>);

impl Counted {
    fn new(gauge: &Rc<Gauge>) -> Self {
        gauge.open.set(gauge.open.get() + 1);
        gauge.peak.set(gauge.peak.get().max(gauge.open.get()));
        Self(Rc::clone(gauge))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

/// One connection.
pub(crate) struct Stream {
    transport: Transport,
    _counted: Counted,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Ready when an idle connection is of no more use: its peer has closed it, or says what nobody asked for. Costs no
    /// system call as long as nothing has arrived.
    pub(crate) fn poll_spoiled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut byte = [0];
        Pin::new(self)
            .poll_read(cx, &mut ReadBuf::new(&mut byte))
            .map(drop)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
