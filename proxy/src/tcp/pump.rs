//! Bytes of both directions, from each socket to the other.
//!
//! Each direction reads only when everything it has read before is with the other side's kernel: that is the back-pressure,
//! and it bounds what we hold to one buffer or one pipe per direction, held only while the other side does not take it. A
//! side that ends is half-closed: its end is passed on behind its last byte, and the other direction goes on.
//!
//! What is sealed or opened on its way, because TLS is spoken with the endpoint, has to pass through this process; the rest
//! need not. So there are two ways to move bytes, and one of them is [`Way::poll_copied`].
//!
//! Both directions are polled by one task, and each yields by tokio's own budget, so that a large transfer leaves room for
//! everybody else on the thread.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::lend::{self, COPY_BYTES, Pipe, is_to_wait};
use crate::upstream::connect::Socket;

/// A direction that moves less than this at once is not large any more, and copies.
const SMALL_BYTES: usize = 8 * 1024;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// Read, and not taken by the other side yet; empty and without memory but then.
    pub(super) left: Vec<u8>,
    /// The same in the kernel, of what is large.
    pipe: Option<Pipe>,
    /// The last read filled all there was for it.
    large: bool,
    /// The side that is read from has said everything.
    pub(super) said: bool,
    /// And the other one has been told so.
    pub(super) done: bool,
    /// Bytes that the other side's kernel has taken.
    pub(super) moved: u64,
}

/// Which side broke the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broke {
    /// The one that is read from.
    From,
    /// The one that is written to.
    To,
}

impl Way {
    /// A direction that begins with bytes that have been read already.
    pub(super) fn beginning_with(left: Vec<u8>) -> Self {
        Self {
            left,
            ..Self::default()
        }
    }

    /// Bytes that the other side's kernel has taken.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Whether its side has said everything, and the other one knows.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// What was read and not sent, of a direction of which nothing was: for another try.
    pub(super) fn into_left(self) -> Vec<u8> {
        self.left
    }

    /// Moves what there is. Ready when the direction is done.
    fn poll(&mut self, from: &TcpStream, to: &TcpStream, cx: &mut Context<'_>) -> Poll<Result<(), Broke>> {
        loop {
            ready!(self.poll_drain(to, cx)).map_err(|_| Broke::To)?;
            if self.done {
                return Poll::Ready(Ok(()));
            }
            if self.said {
                // Whoever has gone meanwhile needs no end.
                let _ = SockRef::from(to).shutdown(std::net::Shutdown::Write);
                self.rest();
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            if from.poll_read_ready(cx).map_err(|_| Broke::From)?.is_pending() {
                self.rest();
                return Poll::Pending;
            }
            match self.fill(from, to) {
                Ok(0) => self.said = true,
                Ok(_) => {}
                Err((_, error)) if is_to_wait(&error) => {}
                Err((broke, _)) => return Poll::Ready(Err(broke)),
            }
        }
    }

    /// Nothing is on the way: gives back what was lent.
    fn rest(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            pipe.give_back();
        }
    }

    /// Hands on what was read before.
    fn poll_drain(&mut self, to: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let written = match &mut self.pipe {
                Some(pipe) if !pipe.is_empty() => ready!(pipe.poll_drain(to, cx)),
                _ if !self.left.is_empty() => {
                    ready!(to.poll_write_ready(cx))?;
                    to.try_write(&self.left).inspect(|taken| {
                        self.left.drain(..*taken);
                    })
                }
                _ => return Poll::Ready(Ok(())),
            };
            match written {
                Ok(0) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Ok(taken) => {
                    self.moved += taken as u64;
                    if self.left.is_empty() {
                        self.left = Vec::new();
                    }
                }
                Err(error) if is_to_wait(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Reads once: how much has come, or which side is broken.
    fn fill(&mut self, from: &TcpStream, to: &TcpStream) -> Result<usize, (Broke, io::Error)> {
        if self.large && self.pipe.is_none() {
            self.pipe = Pipe::borrow();
        }
        if let Some(pipe) = &mut self.pipe {
            let moved = pipe
                .try_fill(from, usize::MAX)
                .map_err(|error| (Broke::From, error))?;
            self.large = moved >= SMALL_BYTES;
            return Ok(moved);
        }
        lend::with_buffer(|buffer| {
            let read = from.try_read(buffer).map_err(|error| (Broke::From, error))?;
            self.large = read == COPY_BYTES;
            let piece = buffer.get(..read).unwrap_or_default();
            let taken = match to.try_write(piece) {
                Ok(taken) => taken,
                Err(error) if is_to_wait(&error) => 0,
                Err(error) => {
                    self.left = piece.to_vec();
                    return Err((Broke::To, error));
                }
            };
            self.moved += taken as u64;
            self.left = piece.get(taken..).unwrap_or_default().to_vec();
            Ok(read)
        })
    }
}

/// Both directions.
#[derive(Debug)]
pub(super) struct Pump {
    pub(super) client: TcpStream,
    pub(super) endpoint: Socket,
    /// From the client to the endpoint.
    pub(super) up: Way,
    /// From the endpoint to the client.
    pub(super) down: Way,
}

/// What has become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Bytes have moved, or the end of one side, and more may.
    Moved,
    /// Both sides have said everything.
    Done,
    /// The client's side broke.
    ClientBroke,
    /// The endpoint's side broke.
    EndpointBroke,
}

impl Pump {
    /// Waits until bytes have moved, or for the end. Nothing is lost where the waiting is given up.
    pub(super) async fn turn(&mut self) -> Turn {
        poll_fn(|cx| self.poll_turn(cx)).await
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let before = self.progress();
        let (down, up) = match &mut self.endpoint {
            Socket::Plain(endpoint) => (
                self.down.poll(endpoint, &self.client, cx),
                self.up.poll(&self.client, endpoint, cx),
            ),
            // Whoever has heard the client out may leave without a word.
            sealed => (
                self.down.poll_copied(sealed, &mut self.client, self.up.done, cx),
                self.up.poll_copied(&mut self.client, sealed, false, cx),
            ),
        };
        match (down, up) {
            (Poll::Ready(Err(Broke::From)), _) | (_, Poll::Ready(Err(Broke::To))) => {
                Poll::Ready(Turn::EndpointBroke)
            }
            (Poll::Ready(Err(Broke::To)), _) | (_, Poll::Ready(Err(Broke::From))) => {
                Poll::Ready(Turn::ClientBroke)
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Turn::Done),
            _ if self.progress() != before => Poll::Ready(Turn::Moved),
            _ => Poll::Pending,
        }
    }

    fn progress(&self) -> (u64, bool, bool) {
        (self.up.moved + self.down.moved, self.up.done, self.down.done)
    }
}

/// Makes closing a connection a reset: what was to be said was not said, and must not look as if it had been.
pub(super) fn abort(tcp: &TcpStream) {
    // If it fails, the connection closes as any other.
    let _ = SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A pump, and the two that it is between.
    async fn between() -> (Pump, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let user = TcpStream::connect(address).await.unwrap();
        let client = listener.accept().await.unwrap().0;
        let endpoint = TcpStream::connect(address).await.unwrap();
        let server = listener.accept().await.unwrap().0;
        let pump = Pump {
            client,
            endpoint: Socket::Plain(endpoint),
            up: Way::default(),
            down: Way::default(),
        };
        (pump, user, server)
    }

    #[tokio::test]
    async fn what_is_small_is_copied_and_leaves_nothing_behind() {
        let (mut pump, mut user, mut server) = between().await;
        user.write_all(b"hello").await.unwrap();
        assert_eq!(pump.turn().await, Turn::Moved);
        let mut got = [0; 5];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!((&got, pump.up.moved()), (b"hello", 5));
        assert_eq!(pump.up.left.capacity(), 0);
        assert!(pump.up.pipe.is_none() && !pump.up.large);
    }

    #[tokio::test]
    async fn what_is_large_goes_through_a_pipe_which_comes_back() {
        const BYTES: usize = 8 * 1024 * 1024;
        let (mut pump, user, mut server) = between().await;
        let (mut reader, mut writer) = user.into_split();
        let sent: Vec<u8> = (0..=250).cycle().take(BYTES).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move { writer.write_all(&sent).await.unwrap() });
        let receiving = tokio::spawn(async move {
            let mut got = vec![0; BYTES];
            server.read_exact(&mut got).await.unwrap();
            server.write_all(b"got it").await.unwrap();
            got
        });
        let mut piped = false;
        while pump.turn().await == Turn::Moved {
            piped |= pump.up.large;
        }
        sending.await.unwrap();
        assert!(piped, "all of it was copied");
        assert!(receiving.await.unwrap() == expected);
        assert_eq!(pump.up.moved(), BYTES as u64);
        reader.read_exact(&mut [0; 6]).await.unwrap();
        assert!(pump.up.pipe.is_none(), "a connection that rests holds no pipe");
    }

    #[tokio::test]
    async fn who_takes_nothing_holds_the_other_back_with_one_buffer() {
        let (mut pump, user, server) = between().await;
        let (mut sent, mut stalled) = (0, 0);
        // Nothing moves any more, and the user can write no more.
        while stalled < 3 {
            if let Ok(n) = user.try_write(&[7; 65536]) {
                (sent, stalled) = (sent + n, 0);
            }
            let turn = tokio::time::timeout(std::time::Duration::from_millis(100), pump.turn());
            if turn.await.is_err() {
                stalled += 1;
            }
        }
        assert!(pump.up.moved() < sent as u64, "something is on the way");
        assert!(pump.up.left.len() <= COPY_BYTES);
        drop((user, server));
    }

    #[tokio::test]
    async fn what_could_not_be_sent_is_kept_for_another_try() {
        let (mut pump, mut user, server) = between().await;
        let socket = SockRef::from(&server);
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(server);
        pump.endpoint.tcp().readable().await.unwrap();
        user.write_all(b"once").await.unwrap();
        pump.client.readable().await.unwrap();
        assert_eq!(pump.turn().await, Turn::EndpointBroke);
        assert_eq!(pump.up.moved(), 0);
        let left = pump.up.into_left();
        let mut rest = vec![0; 4 - left.len()];
        pump.client.try_read(&mut rest).unwrap_or_default();
        assert_eq!([left, rest].concat(), b"once");
    }

    #[tokio::test]
    async fn each_end_is_passed_on_behind_the_last_byte() {
        let (mut pump, mut user, mut server) = between().await;
        user.write_all(b"all").await.unwrap();
        user.shutdown().await.unwrap();
        let pumping = tokio::spawn(async move {
            loop {
                match pump.turn().await {
                    Turn::Moved => {}
                    turn => return (turn, pump.up.moved(), pump.down.moved()),
                }
            }
        });
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        server.write_all(b"well").await.unwrap();
        drop(server);
        let mut answer = String::new();
        user.read_to_string(&mut answer).await.unwrap();
        assert_eq!((text.as_str(), answer.as_str()), ("all", "well"));
        assert_eq!(pumping.await.unwrap(), (Turn::Done, 3, 4));
    }
}
