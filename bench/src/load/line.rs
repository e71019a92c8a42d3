//! What one user of the load does with a request, by protocol: the only part of the load that knows protocols.
//!
//! A [`Line`] carries one request at a time. It opens its connection when it needs one, keeps it while it may, and says how
//! each request ended; schedule, deadlines and records are the engine's. Over HTTP/1.1 and raw TCP a line is a connection,
//! over HTTP/2 it is one of the streams of a connection that lines share.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use nix::errno::Errno;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use crate::load::answer::Answer;
use crate::load::http2::{Http2, Shared};
use crate::load::mix::Draw;
use crate::load::record::Outcome;
use crate::load::request::Requests;
use crate::load::stream::{Dialler, Stream};

/// What is read at once. One buffer for all connections, as nothing of an answer is kept: it stays in the cache.
const READ_BYTES: usize = 64 * 1024;

/// Bodies up to this are copied behind their head, so that both leave in one packet.
const COPIED_BODY_MAX: usize = 8 * 1024;

/// How requests are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// HTTP/1.1, one request at a time on each connection.
    Http1,
    /// HTTP/2; without TLS with prior knowledge (RFC 9113 section 3.3).
    Http2 {
        /// Requests at the same time on each connection.
        streams: usize,
    },
    /// Bytes: the body of the mix, answered by as many bytes as said here, or as were sent.
    Tcp {
        /// Bytes of each answer; those of an echo where absent.
        answer_bytes: Option<u32>,
    },
}

/// What the lines of one load have in common.
pub(crate) struct Desk {
    pub(crate) dialler: Dialler,
    pub(crate) requests: Requests,
    pub(crate) dialect: Dialect,
    /// Whether connections are used again.
    pub(crate) keep_alive: bool,
    pub(crate) connections_max: usize,
    buffer: RefCell<Box<[u8]>>,
    shared: Shared,
}

impl Desk {
    pub(crate) fn new(
        dialler: Dialler,
        requests: Requests,
        dialect: Dialect,
        connections_max: usize,
    ) -> Self {
        Self {
            dialler,
            requests,
            dialect,
            keep_alive: true,
            connections_max,
            buffer: RefCell::new(vec![0; READ_BYTES].into_boxed_slice()),
            shared: Shared::new(connections_max),
        }
    }

    /// Requests that can be under way at once.
    pub(crate) fn lines_max(&self) -> usize {
        match self.dialect {
            Dialect::Http1 | Dialect::Tcp { .. } => self.connections_max,
            Dialect::Http2 { streams } => self.connections_max.saturating_mul(streams),
        }
    }

    /// Reads what has arrived and has `take` look at it. Nothing read means that the peer has closed.
    fn poll_read<T>(
        &self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        let mut buffer = self.buffer.borrow_mut();
        let mut buffer = ReadBuf::new(&mut buffer);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(take(buffer.filled())))
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) body_bytes: u64,
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            body_bytes: 0,
        }
    }
}

/// One user's way to the target.
pub(crate) enum Line {
    Http1(Http1),
    Http2(Http2),
    Tcp(Tcp),
}

impl Line {
    /// The line of this number; not connected yet.
    pub(crate) fn new(desk: &Rc<Desk>, number: usize) -> Self {
        match desk.dialect {
            Dialect::Http1 => Self::Http1(Http1::default()),
            Dialect::Http2 { .. } => Self::Http2(Http2::new(desk.shared.place(number))),
            Dialect::Tcp { answer_bytes } => Self::Tcp(Tcp {
                answer_bytes,
                connection: None,
            }),
        }
    }

    /// Makes one request. Dropped half way, it leaves nothing of that request behind.
    pub(crate) async fn exchange(&mut self, desk: &Desk, draw: Draw, number: u64) -> Ended {
        let ended = match self {
            Self::Http1(line) => line.exchange(desk, draw, number).await,
            Self::Http2(line) => line.exchange(desk, draw, number).await,
            Self::Tcp(line) => line.exchange(desk, draw).await,
        };
        if !desk.keep_alive {
            self.hang_up();
        }
        ended
    }

    /// Watches the connection while nothing is asked, and drops one that is of no more use.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) {
        let spoiled = match self {
            Self::Http1(Http1 {
                connection: Some(connection),
            }) => connection.stream.poll_spoiled(cx),
            Self::Tcp(Tcp {
                connection: Some(stream),
                ..
            }) => stream.poll_spoiled(cx),
            // An HTTP/2 connection is watched by its own task.
            _ => return,
        };
        if spoiled.is_ready() {
            self.hang_up();
        }
    }

    fn hang_up(&mut self) {
        match self {
            Self::Http1(line) => line.connection = None,
            Self::Http2(line) => line.hang_up(),
            Self::Tcp(line) => line.connection = None,
        }
    }
}

/// What it means that no connection could be opened: where this machine has no descriptor or no port left for it, the load
/// has asked for more than it can make, and the target is not to blame.
pub(super) fn no_connection(error: &io::Error) -> Outcome {
    let own = [
        Errno::EMFILE,
        Errno::ENFILE,
        Errno::EADDRNOTAVAIL,
        Errno::ENOBUFS,
        Errno::ENOMEM,
    ];
    if own.iter().any(|own| error.raw_os_error() == Some(*own as i32)) {
        Outcome::OVERRUN
    } else {
        Outcome::CONNECT
    }
}

/// HTTP/1.1.
#[derive(Default)]
pub(crate) struct Http1 {
    connection: Option<Http1Connection>,
}

/// A connection and its buffers, which live as long.
struct Http1Connection {
    stream: Stream,
    request: Vec<u8>,
    answer: Answer,
}

impl Http1 {
    async fn exchange(&mut self, desk: &Desk, draw: Draw, number: u64) -> Ended {
        // Taken out, so that a request that is given up half way takes its connection with it.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match desk.dialler.dial().await {
                Ok(stream) => Http1Connection {
                    stream,
                    request: Vec::with_capacity(256),
                    answer: Answer::default(),
                },
                Err(error) => return no_connection(&error).into(),
            },
        };
        match connection.exchange(desk, draw, number).await {
            Ok(()) => {
                let ended = Ended {
                    outcome: Outcome::status(connection.answer.status),
                    body_bytes: connection.answer.body_bytes,
                };
                if connection.answer.keep_alive {
                    self.connection = Some(connection);
                }
                ended
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Outcome::GARBLED.into(),
            Err(_) => Outcome::CUT.into(),
        }
    }
}

impl Http1Connection {
    async fn exchange(&mut self, desk: &Desk, draw: Draw, number: u64) -> io::Result<()> {
        desk.requests.encode_head(&mut self.request, draw, number);
        let mut body = desk.requests.body(draw);
        if body.len() <= COPIED_BODY_MAX {
            self.request.extend_from_slice(&std::mem::take(&mut body));
        }
        send(&mut self.stream, &self.request, &body).await?;
        let head_only = desk.requests.head_only(draw);
        let (stream, answer) = (&mut self.stream, &mut self.answer);
        answer.begin();
        std::future::poll_fn(|cx| {
            loop {
                let whole = ready!(desk.poll_read(stream, cx, |bytes| match bytes {
                    [] if answer.ended() => Ok(true),
                    [] => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                    bytes => answer.take(bytes, head_only),
                }))??;
                if whole {
                    return Poll::Ready(Ok(()));
                }
            }
        })
        .await
    }
}

async fn send(stream: &mut Stream, head: &[u8], body: &Bytes) -> io::Result<()> {
    stream.write_all(head).await?;
    stream.write_all(body).await?;
    stream.flush().await
}

/// Raw TCP.
pub(crate) struct Tcp {
    answer_bytes: Option<u32>,
    connection: Option<Stream>,
}

impl Tcp {
    async fn exchange(&mut self, desk: &Desk, draw: Draw) -> Ended {
        let mut stream = match self.connection.take() {
            Some(stream) => stream,
            None => match desk.dialler.dial().await {
                Ok(stream) => stream,
                Err(error) => return no_connection(&error).into(),
            },
        };
        let expected = u64::from(self.answer_bytes.unwrap_or(draw.body_bytes));
        match Self::converse(&mut stream, desk, draw, expected).await {
            Ok(body_bytes) if body_bytes == expected => {
                self.connection = Some(stream);
                Ended {
                    outcome: Outcome::status(200),
                    body_bytes,
                }
            }
            // More than was asked for.
            Ok(_) => Outcome::GARBLED.into(),
            Err(_) => Outcome::CUT.into(),
        }
    }

    async fn converse(stream: &mut Stream, desk: &Desk, draw: Draw, expected: u64) -> io::Result<u64> {
        send(stream, &[], &desk.requests.body(draw)).await?;
        let mut arrived = 0;
        std::future::poll_fn(|cx| {
            while arrived < expected {
                match ready!(desk.poll_read(stream, cx, <[u8]>::len))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    bytes => arrived += bytes as u64,
                }
            }
            Poll::Ready(Ok(arrived))
        })
        .await
    }
}
