//! A client's connection, message by message: whoever reads from it gets the bytes of one request, and not one more.
//!
//! The reader behind it (pingora, or a leaner engine) believes that it owns a socket. It cannot: a body that it ends one
//! byte too early or too late turns the rest into somebody else's request. So this file counts along. It knows how
//! the body of the current message ends, checks it as it passes, keeps what follows for the next turn, and gives a client
//! up who is too slow. Knows nothing of pingora.
//!
//! Small writes leave together, see [`gather`]. They also leave when the reader turns to reading, as it does whenever it
//! has nothing more to write: so an answer that pauses after its first bytes delivers them. Buffers exist only while there
//! is something in them: an idle connection holds none.

mod pipe;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::accept::count;
use super::leave::LEFT_OVER_BYTES_MAX;
use super::local;
use super::pace::{Floor, Pace};
use crate::framing::{Body, Head, Limits, Refusal};
use crate::gather::{self, Gather};
use crate::socket::Socket;
use crate::tls::Agreed;

/// Read at once of what follows a message while its answer is on the way; what is more waits in the kernel.
const AHEAD_BYTES: usize = 4 * 1024;

/// A client's connection.
#[derive(Debug)]
pub struct Conn {
    socket: Socket<Arc<Agreed>>,
    client: SocketAddr,
    gather: Gather,
    message: Message,
    /// Read from the socket, and not passed on yet.
    ahead: BytesMut,
    /// How much of `ahead` belongs to the message's body.
    mine: usize,
    /// The message asks for another protocol, and has not been answered.
    may_switch: bool,
    received: u64,
    written: u64,
    reading: Pace,
    writing: Pace,
    floors: Option<(Floor, Floor)>,
    refusal: Option<Refusal>,
}

/// What is being read.
#[derive(Debug)]
enum Message {
    /// Anything: nobody counts along.
    Raw,
    /// Frames of many messages, which others count.
    Frames,
    /// A body.
    Body(Body),
}

impl Conn {
    /// Takes an accepted connection, and turns Nagle's algorithm off, since writes are gathered here. Until a message
    /// begins, bytes pass as they are.
    ///
    /// # Errors
    /// When the connection is gone already.
    pub fn new(tcp: TcpStream, client: SocketAddr) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        Ok(Self::over(Socket::Plain(tcp), client))
    }

    /// The same, over a socket that is ready.
    pub(super) fn over(socket: Socket<Arc<Agreed>>, client: SocketAddr) -> Self {
        Self {
            socket,
            client,
            gather: Gather::default(),
            message: Message::Raw,
            ahead: BytesMut::new(),
            mine: 0,
            may_switch: false,
            received: 0,
            written: 0,
            reading: Pace::default(),
            writing: Pace::default(),
            floors: None,
            refusal: None,
        }
    }

    /// What client and proxy have agreed on; `None` in the clear.
    pub(crate) fn agreed(&self) -> Option<&Arc<Agreed>> {
        self.socket.agreed()
    }

    /// Where it comes from.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Its descriptor.
    pub fn socket(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Whether bytes of the next message are here already.
    pub fn has_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// The bytes that are here already.
    pub(super) fn take_ahead(&mut self) -> BytesMut {
        std::mem::take(&mut self.ahead)
    }

    /// Waits until the client has sent something, or has gone away. Holds no buffer meanwhile. `first` is a connection
    /// that nothing has been read from.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn readable(&mut self, first: bool) -> io::Result<()> {
        self.socket.readable(first).await
    }

    /// Waits until the client's side takes something.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.socket.tcp().writable().await
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is nothing, and those of the socket.
    pub(super) fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        self.socket.try_read(into)
    }

    /// Writes what is taken without waiting.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.try_write(bytes)
    }

    /// Puts back what is to be read once more.
    pub(super) fn put_ahead(&mut self, bytes: BytesMut) {
        self.ahead = bytes;
    }

    /// From here on it carries frames of many messages: nobody counts along, and only a client who does not take what is
    /// sent is given up.
    pub(super) fn carry_frames(&mut self, limits: &Limits) {
        self.message = Message::Frames;
        self.floors = Some((
            Floor::new(limits.body_timeout, limits.rate),
            Floor::new(limits.answer_timeout, limits.rate),
        ));
    }

    /// A message begins, whose head has been read and `ahead` of what follows it.
    ///
    /// # Errors
    /// What is wrong with the part of the body that is here already.
    pub fn begin(&mut self, head: &Head, ahead: BytesMut, limits: &Limits) -> Result<(), Refusal> {
        let mut body = Body::new(head.framing, limits.body_bytes);
        self.mine = body.take(&ahead)?;
        self.ahead = ahead;
        self.message = Message::Body(body);
        self.may_switch = head.upgrade;
        if self.floors.is_none() {
            self.floors = Some((
                Floor::new(limits.body_timeout, limits.rate),
                Floor::new(limits.answer_timeout, limits.rate),
            ));
        }
        Ok(())
    }

    /// Whether all of the message has been passed on.
    pub fn is_between_messages(&self) -> bool {
        matches!(&self.message, Message::Body(body) if body.is_done() && self.mine == 0)
    }

    /// Drops what is here already of a message that nobody wants to read.
    pub(super) fn skip_mine(&mut self) {
        self.ahead.advance(self.mine.min(self.ahead.len()));
        self.mine = 0;
    }

    /// Moves the part of the message's body that is here already to the end of `into`.
    pub(crate) fn take_here(&mut self, into: &mut Vec<u8>) {
        let here = self.mine.min(self.ahead.len());
        into.extend_from_slice(self.ahead.get(..here).unwrap_or_default());
        self.skip_mine();
        if self.ahead.is_empty() {
            local::keep_head_room(std::mem::take(&mut self.ahead));
        }
    }

    /// Whether so little of the message is left that reading it costs less than a new connection.
    pub(crate) fn is_nearly_read(&self) -> bool {
        match &self.message {
            Message::Body(body) => body.left().is_some_and(|left| left <= LEFT_OVER_BYTES_MAX),
            Message::Raw | Message::Frames => false,
        }
    }

    /// Hands the beginning of two pieces to the kernel, past what is gathered: for a writer that gathers by itself. Says how
    /// many bytes it took, which are some.
    ///
    /// # Errors
    /// When the connection is broken, or its client does not take them.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, pieces: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        let socket = Pin::new(&mut self.socket);
        let polled = match pieces {
            [piece, []] | [[], piece] => socket.poll_write(cx, piece),
            pieces => socket.poll_write_vectored(cx, &pieces.map(IoSlice::new)),
        };
        match ready!(self.paced(cx, polled))? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            taken => Poll::Ready(Ok(taken)),
        }
    }

    /// Nothing has come of the body: gives the client up who is too slow.
    fn poll_body_slow(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some((floor, _)) = &self.floors else {
            return Poll::Pending;
        };
        let received = self.received;
        ready!(self.reading.poll_too_slow(cx, floor, || received));
        Poll::Ready(self.refuse(Refusal::BodySlow))
    }

    /// Hands `bytes` to the kernel, past what is gathered.
    ///
    /// # Errors
    /// When the connection is broken, or its client does not take them.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        poll_fn(|cx| {
            while !rest.is_empty() {
                let taken = ready!(self.poll_send(cx, [rest, &[]]))?;
                rest = rest.get(taken..).unwrap_or_default();
            }
            self.poll_sent(cx)
        })
        .await
    }

    /// The message is over: what was waited for is, too.
    pub(super) fn rest(&mut self) {
        (self.reading, self.writing) = (Pace::default(), Pace::default());
    }

    /// Why the message broke off, if it is the client's doing.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// Nothing is under way, and nothing more will be.
    pub(super) fn part(&mut self) {
        self.socket.part();
    }

    /// Makes closing it a reset: for who does not take what was sent, so that the kernel need not keep it for him.
    pub(super) fn abort(self) {
        self.close_by_reset();
    }

    fn close_by_reset(&self) {
        // If it fails, the connection closes as any other.
        let _ = socket2::SockRef::from(self.socket.tcp()).set_linger(Some(std::time::Duration::ZERO));
    }

    fn refuse(&mut self, refusal: Refusal) -> io::Error {
        let is_first = self.refusal.replace(refusal).is_none();
        if matches!(self.message, Message::Frames) && is_first {
            // Nobody gets this connection back who could ask.
            count(refusal);
            self.close_by_reset();
        }
        io::Error::other(refusal)
    }

    /// Hands everything gathered to the kernel.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gather = std::mem::take(&mut self.gather);
        let polled = gather.poll_drain(|rest| {
            let polled = Pin::new(&mut self.socket).poll_write(cx, rest);
            self.paced(cx, polled)
        });
        self.gather = gather;
        ready!(polled)?;
        self.poll_sent(cx)
    }

    /// Hands to the kernel what TLS has sealed and not sent yet.
    ///
    /// # Errors
    /// When the connection is broken, or its client does not take it.
    pub(crate) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.socket.has_unsent() {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.socket).poll_flush(cx).map_ok(|()| 0);
        self.paced(cx, polled).map_ok(drop)
    }

    /// Counts what was written, and gives a client up who does not take it.
    fn paced(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Ok(taken)) => {
                self.written += taken as u64;
                self.writing.moved();
            }
            Poll::Pending => {
                let Some((_, floor)) = &self.floors else {
                    return polled;
                };
                let (written, socket) = (self.written, self.socket.as_raw_fd());
                // What lies in our kernel's buffer has not reached him, and may be megabytes.
                let arrived = || written - foreshade_sys::unacknowledged(socket).unwrap_or(0).min(written);
                ready!(self.writing.poll_too_slow(cx, floor, arrived));
                return Poll::Ready(Err(self.refuse(Refusal::AnswerSlow)));
            }
            Poll::Ready(Err(_)) => {}
        }
        polled
    }

    /// Reads a part of the body that has not come with the head.
    fn poll_body(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let room = match &self.message {
            Message::Body(body) => body
                .left()
                .map_or(usize::MAX, |l| usize::try_from(l).unwrap_or(usize::MAX)),
            Message::Raw | Message::Frames => usize::MAX,
        };
        let polled = if buffer.remaining() <= room {
            Pin::new(&mut self.socket).poll_read(cx, buffer)
        } else {
            // A reader that asks for more than there is of this message.
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
            let polled = Pin::new(&mut self.socket).poll_read(cx, &mut part);
            let filled = part.filled().len();
            buffer.advance(filled);
            polled
        };
        if polled.is_pending() {
            return self.poll_body_slow(cx).map(Err);
        }
        ready!(polled)?;
        let came = buffer.filled().get(before..).unwrap_or_default();
        self.received += came.len() as u64;
        self.reading.moved();
        let Message::Body(body) = &mut self.message else {
            return Poll::Ready(Ok(()));
        };
        match body.take(came) {
            Ok(taken) => {
                self.ahead
                    .extend_from_slice(came.get(taken..).unwrap_or_default());
                buffer.set_filled(before + taken);
                Poll::Ready(Ok(()))
            }
            Err(refusal) => {
                buffer.set_filled(before);
                Poll::Ready(Err(self.refuse(refusal)))
            }
        }
    }

    /// Watches a client whose message is complete: ready when he ends his side, and with an error when he is gone. What
    /// he sends belongs to the next message and is kept.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.ahead.is_empty() {
                // Enough to know; whether he is still there, the answer will show.
                return Poll::Pending;
            }
            ready!(self.socket.poll_readable(cx))?;
            self.ahead.reserve(AHEAD_BYTES);
            match self.socket.try_read(&mut self.ahead) {
                Ok(0) => {
                    self.ahead = BytesMut::new();
                    return Poll::Ready(Ok(()));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ahead = BytesMut::new(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Passes on what is here already.
    fn give(&mut self, most: usize, buffer: &mut ReadBuf<'_>) -> usize {
        let taken = most.min(self.ahead.len()).min(buffer.remaining());
        buffer.put_slice(self.ahead.get(..taken).unwrap_or_default());
        self.ahead.advance(taken);
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        taken
    }

    /// An answer to a request for another protocol: 101 makes a pipe of the connection, any other final one does not.
    /// Heads are written at once, so each starts a write. Source: RFC 9110 section 7.8.
    #[cold]
    fn note_answer(&mut self, bytes: &[u8]) {
        if bytes.starts_with(b"HTTP/1.1 101") {
            self.message = Message::Raw;
            self.may_switch = false;
        } else if bytes.starts_with(b"HTTP/1.1 ") && !bytes.starts_with(b"HTTP/1.1 1") {
            self.may_switch = false;
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.gather.is_empty() || self.socket.has_unsent() {
            // Whether the kernel takes it all now, later, or never, the next write or flush tells.
            let _ = self.poll_drain(cx);
        }
        match &self.message {
            Message::Raw | Message::Frames if self.ahead.is_empty() => {
                Pin::new(&mut self.socket).poll_read(cx, buffer)
            }
            Message::Raw | Message::Frames => {
                self.give(usize::MAX, buffer);
                Poll::Ready(Ok(()))
            }
            Message::Body(_) if self.mine > 0 => {
                let most = self.mine;
                self.mine -= self.give(most, buffer);
                Poll::Ready(Ok(()))
            }
            Message::Body(body) if body.is_done() => self.poll_end(cx),
            Message::Body(_) => self.poll_body(cx, buffer),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.gather.has_room_for(bytes) {
            ready!(self.poll_drain(cx))?;
        }
        if self.may_switch {
            self.note_answer(bytes);
        }
        if bytes.len() >= gather::BYTES_MAX {
            let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
            return self.paced(cx, polled);
        }
        self.gather.put(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        let polled = Pin::new(&mut self.socket).poll_shutdown(cx).map_ok(|()| 0);
        self.paced(cx, polled).map_ok(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::HeadCheck;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (Conn, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, address) = listener.accept().await.unwrap();
        (Conn::new(tcp, address).unwrap(), client)
    }

    /// Begins a message with these fields, of which `ahead` has come with the head.
    fn begin(conn: &mut Conn, fields: &str, ahead: &str) -> Result<(), Refusal> {
        let (text, limits) = (
            format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"),
            Limits::default(),
        );
        let head = HeadCheck::default()
            .advance(text.as_bytes(), &limits)
            .unwrap()
            .unwrap();
        conn.begin(&head, BytesMut::from(ahead), &limits)
    }

    async fn read(conn: &mut Conn, most: usize) -> io::Result<String> {
        let mut buffer = vec![0; most];
        let n = conn.read(&mut buffer).await?;
        Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
    }

    #[tokio::test]
    async fn head_and_body_arrive_in_one_read() {
        let (mut conn, mut client) = pair().await;
        conn.write_all(b"head ").await.unwrap();
        conn.write_all(b"body").await.unwrap();
        assert!(!conn.gather.is_empty());
        conn.flush().await.unwrap();
        let mut got = [0; 32];
        let n = client.read(&mut got).await.unwrap();
        assert_eq!(&got[..n], b"head body");
    }

    #[tokio::test]
    async fn what_was_gathered_leaves_when_the_proxy_turns_to_reading() {
        let (mut conn, mut client) = pair().await;
        conn.write_all(b"first").await.unwrap();
        let (mut got, mut nothing) = ([0; 5], [0; 1]);
        tokio::select! {
            _ = conn.read(&mut nothing) => panic!("the client says nothing"),
            read = client.read_exact(&mut got) => assert_eq!(read.unwrap(), 5),
        }
        assert_eq!(&got, b"first");
    }

    #[tokio::test]
    async fn order_survives_writes_of_every_size() {
        let (mut conn, mut client) = pair().await;
        let sizes = [
            1,
            gather::BYTES_MAX - 1,
            2,
            gather::BYTES_MAX,
            5,
            3 * gather::BYTES_MAX,
            7,
        ];
        let sent: Vec<u8> = (0..=250).cycle().take(sizes.iter().sum()).collect();
        let reader = tokio::spawn(async move {
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            got
        });
        let mut at = 0;
        for size in sizes {
            conn.write_all(&sent[at..at + size]).await.unwrap();
            at += size;
        }
        conn.shutdown().await.unwrap();
        assert_eq!(reader.await.unwrap(), sent);
    }

    #[tokio::test]
    async fn a_reader_that_asks_for_more_gets_this_message_and_not_the_next() {
        let (mut conn, mut client) = pair().await;
        begin(&mut conn, "Content-Length: 10", "hello").unwrap();
        assert_eq!(read(&mut conn, 3).await.unwrap(), "hel");
        assert_eq!(read(&mut conn, 100).await.unwrap(), "lo");
        client.write_all(b"worldGET /").await.unwrap();
        assert_eq!(read(&mut conn, 100).await.unwrap(), "world");
        assert!(conn.is_between_messages());
        // The kernel still has them.
        assert!(!conn.has_ahead());
    }

    #[tokio::test]
    async fn what_follows_a_chunked_body_is_kept_for_the_next_turn() {
        let (mut conn, mut client) = pair().await;
        begin(&mut conn, "Transfer-Encoding: chunked", "").unwrap();
        client.write_all(b"1\r\nx\r\n0\r\n\r\nGET /").await.unwrap();
        let mut came = String::new();
        while !conn.is_between_messages() {
            came += &read(&mut conn, 100).await.unwrap();
        }
        assert_eq!(came, "1\r\nx\r\n0\r\n\r\n");
        assert!(conn.has_ahead());
        assert_eq!(&conn.take_ahead()[..], b"GET /");
    }

    #[tokio::test]
    async fn a_bad_chunk_is_an_error_and_passes_not_even_in_part() {
        let (mut conn, mut client) = pair().await;
        begin(&mut conn, "Transfer-Encoding: chunked", "").unwrap();
        client.write_all(b"1\r\nx\r\n+1\r\n").await.unwrap();
        let error = loop {
            match read(&mut conn, 100).await {
                Ok(part) => assert!("1\r\nx\r\n".contains(&part), "{part}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.to_string(), Refusal::ChunkSize.sentence());
        assert_eq!(conn.refusal(), Some(Refusal::ChunkSize));
        let refused = begin(&mut conn, "Transfer-Encoding: chunked", "1\r\nxx");
        assert_eq!(refused, Err(Refusal::ChunkEnd));
    }

    #[tokio::test]
    async fn between_messages_a_reader_sees_the_end_and_nothing_else() {
        let (mut conn, mut client) = pair().await;
        begin(&mut conn, "Content-Length: 0", "").unwrap();
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(20), read(&mut conn, 9));
        assert!(waiting.await.is_err());
        client.shutdown().await.unwrap();
        assert_eq!(read(&mut conn, 9).await.unwrap(), "");
        let (mut conn, mut client) = pair().await;
        begin(&mut conn, "Content-Length: 0", "").unwrap();
        client.write_all(b"GET /").await.unwrap();
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(20), read(&mut conn, 9));
        assert!(waiting.await.is_err(), "the next request is nobody's body");
        assert_eq!(&conn.take_ahead()[..], b"GET /");
    }

    #[tokio::test]
    async fn another_protocol_is_passed_on_once_it_is_agreed_on() {
        let (mut conn, _client) = pair().await;
        begin(&mut conn, "Upgrade: x", "early").unwrap();
        conn.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.unwrap();
        assert!(conn.may_switch);
        conn.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(read(&mut conn, 9).await.unwrap(), "early");
        begin(&mut conn, "Upgrade: x", "next").unwrap();
        conn.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        conn.write_all(b"HTTP/1.1 101 in a body").await.unwrap();
        assert!(conn.is_between_messages() && conn.has_ahead());
    }
}
