//! The line between two processes: messages with their length before them, and descriptors.
//!
//! Blocking, with a deadline for each message: both sides have nothing else to do on the thread that waits. A message
//! is read to its last byte and no further, because descriptors come with the very byte that they were sent with, and
//! are lost where that is read as anything else.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg, sockopt,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message: what is known of some ten thousand endpoints.
const MESSAGE_BYTES_MAX: u32 = 256 * 1024 * 1024;

/// Descriptors that travel at once; the kernel allows 253.
const AT_ONCE: usize = 64;

/// What is sent along with descriptors.
const ALONG: [u8; 1] = *b"s";

/// Why nothing was said, or nothing heard.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The other side is gone.
    #[error("the other process has gone; its log says why")]
    Gone,
    /// It is there and says nothing.
    #[error("the other process did not answer in time")]
    Silent,
    /// It speaks another language.
    #[error("the other process says what cannot be understood: {0}")]
    Garbled(String),
    /// The line itself.
    #[error("the socket between the processes")]
    Io(#[source] io::Error),
}

impl From<io::Error> for LineError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Self::Gone,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Silent,
            _ => Self::Io(error),
        }
    }
}

/// Who is at the other end, by the kernel's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process.
    pub pid: u32,
    /// Whose process that is.
    pub uid: u32,
}

impl Peer {
    /// Whether it is this user, or root.
    pub fn is_trusted(self) -> bool {
        self.uid == 0 || self.uid == rustix::process::geteuid().as_raw()
    }
}

/// One end of the line.
#[derive(Debug)]
pub struct Line(UnixStream);

impl Line {
    /// To whoever waits at this socket.
    ///
    /// # Errors
    /// Nobody does, or it may not be asked.
    pub fn to(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).map(Self)
    }

    /// With whoever has connected.
    ///
    /// # Errors
    /// What the system says.
    pub fn with(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        Ok(Self(stream))
    }

    /// Who the other one is.
    ///
    /// # Errors
    /// What the system says.
    pub fn peer(&self) -> io::Result<Peer> {
        let told = sockopt::socket_peercred(&self.0)?;
        Ok(Peer {
            pid: told.pid.as_raw_nonzero().get().unsigned_abs(),
            uid: told.uid.as_raw(),
        })
    }

    /// Says something.
    ///
    /// # Errors
    /// The other one is gone, or does not listen.
    pub fn say(&mut self, message: &impl Serialize, patience: Duration) -> Result<(), LineError> {
        let body = serde_json::to_vec(message).map_err(|error| LineError::Garbled(error.to_string()))?;
        let length = u32::try_from(body.len())
            .ok()
            .filter(|length| *length <= MESSAGE_BYTES_MAX);
        let length = length.ok_or_else(|| LineError::Garbled("a message that is too long".to_owned()))?;
        self.0.set_write_timeout(Some(patience))?;
        self.0.write_all(&length.to_be_bytes())?;
        Ok(self.0.write_all(&body)?)
    }

    /// Hears something.
    ///
    /// # Errors
    /// The other one is gone, says nothing in time, or nothing that could be understood.
    pub fn hear<T: DeserializeOwned>(&mut self, patience: Duration) -> Result<T, LineError> {
        let deadline = Instant::now() + patience;
        let mut length = [0; 4];
        self.read(&mut length, deadline)?;
        let length = u32::from_be_bytes(length);
        if length > MESSAGE_BYTES_MAX {
            return Err(LineError::Garbled(format!("a message of {length} bytes")));
        }
        let mut body = Vec::new();
        let mut left = usize::try_from(length).unwrap_or(usize::MAX);
        // Piece by piece: a length alone buys no memory.
        let mut piece = [0; 16 * 1024];
        while left > 0 {
            let room = left.min(piece.len());
            let piece = piece.get_mut(..room).unwrap_or_default();
            self.read(piece, deadline)?;
            body.extend_from_slice(piece);
            left -= room;
        }
        serde_json::from_slice(&body).map_err(|error| LineError::Garbled(error.to_string()))
    }

    fn read(&mut self, bytes: &mut [u8], deadline: Instant) -> Result<(), LineError> {
        let mut filled = 0;
        while let Some(room @ [_, ..]) = bytes.get_mut(filled..) {
            self.0.set_read_timeout(Some(left_until(deadline)?))?;
            match self.0.read(room) {
                Ok(0) => return Err(LineError::Gone),
                Ok(n) => filled += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends descriptors; whoever takes them knows how many there are.
    ///
    /// # Errors
    /// The other one is gone, or does not take them.
    pub fn send(&mut self, sockets: &[BorrowedFd<'_>], patience: Duration) -> Result<(), LineError> {
        self.0.set_write_timeout(Some(patience))?;
        for some in sockets.chunks(AT_ONCE) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut along = SendAncillaryBuffer::new(&mut space);
            if !along.push(SendAncillaryMessage::ScmRights(some)) {
                return Err(LineError::Garbled(
                    "more descriptors than there is room for".to_owned(),
                ));
            }
            sendmsg(&self.0, &[IoSlice::new(&ALONG)], &mut along, SendFlags::NOSIGNAL)
                .map_err(io::Error::from)?;
        }
        Ok(())
    }

    /// Takes as many descriptors as were sent.
    ///
    /// # Errors
    /// The other one is gone, sends nothing in time, or something else.
    pub fn take(&mut self, count: usize, patience: Duration) -> Result<Vec<OwnedFd>, LineError> {
        let deadline = Instant::now() + patience;
        let mut taken = Vec::new();
        while taken.len() < count {
            self.0.set_read_timeout(Some(left_until(deadline)?))?;
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut along = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0; 1];
            let mut bytes = [IoSliceMut::new(&mut byte)];
            let came =
                recvmsg(&self.0, &mut bytes, &mut along, RecvFlags::CMSG_CLOEXEC).map_err(io::Error::from)?;
            if came.bytes == 0 {
                return Err(LineError::Gone);
            }
            let before = taken.len();
            for message in along.drain() {
                if let RecvAncillaryMessage::ScmRights(sockets) = message {
                    taken.extend(sockets);
                }
            }
            if taken.len() == before {
                // The kernel drops what this process may not have open.
                return Err(LineError::Garbled("fewer sockets than were announced".to_owned()));
            }
        }
        Ok(taken)
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What is left of the time, where anything is.
fn left_until(deadline: Instant) -> Result<Duration, LineError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(LineError::Silent)
    } else {
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade::words::{Answer, Said};
    use std::net::TcpListener;

    const SOON: Duration = Duration::from_secs(5);

    fn line() -> (Line, Line) {
        let (a, b) = UnixStream::pair().unwrap();
        (Line::with(a).unwrap(), Line::with(b).unwrap())
    }

    #[test]
    fn descriptors_arrive_in_their_order_between_messages() {
        let (mut giver, mut taker) = line();
        let sockets: Vec<_> = (0..AT_ONCE + 6)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let lent: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        giver.say(&Said::Prepared, SOON).unwrap();
        giver.send(&lent, SOON).unwrap();
        giver.say(&Said::Serving, SOON).unwrap();
        assert!(matches!(taker.hear(SOON), Ok(Said::Prepared)));
        let taken = taker.take(sockets.len(), SOON).unwrap();
        let ports: Vec<_> = taken
            .into_iter()
            .map(|fd| TcpListener::from(fd).local_addr().unwrap())
            .collect();
        assert_eq!(
            ports,
            sockets
                .iter()
                .map(|s| s.local_addr().unwrap())
                .collect::<Vec<_>>()
        );
        assert!(matches!(taker.hear(SOON), Ok(Said::Serving)));
        drop(giver);
        assert!(matches!(taker.hear::<Said>(SOON), Err(LineError::Gone)));
    }

    #[test]
    fn what_is_no_message_is_told_from_silence() {
        let (giver, mut taker) = line();
        (&giver.0).write_all(&[0, 0, 0, 2, b'[', b']']).unwrap();
        assert!(matches!(taker.hear::<Answer>(SOON), Err(LineError::Garbled(_))));
        (&giver.0).write_all(&[0xff; 4]).unwrap();
        assert!(matches!(taker.hear::<Answer>(SOON), Err(LineError::Garbled(_))));
        assert!(matches!(
            taker.hear::<Answer>(Duration::from_millis(20)),
            Err(LineError::Silent)
        ));
    }

    #[test]
    fn a_byte_without_a_descriptor_is_no_socket() {
        let (giver, mut taker) = line();
        (&giver.0).write_all(b"s").unwrap();
        assert!(matches!(taker.take(1, SOON), Err(LineError::Garbled(_))));
    }

    #[test]
    fn the_other_end_is_this_process_of_this_user() {
        let (a, _b) = line();
        let peer = a.peer().unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert!(peer.is_trusted());
        let me = rustix::process::geteuid().as_raw();
        assert!(!Peer { uid: me + 1, ..peer }.is_trusted());
    }
}
