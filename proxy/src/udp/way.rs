//! The way to an endpoint: who is picked, a socket to him, and what its errors mean.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::session::Key;
use crate::framing::Refusal;
use crate::outcome::Failure;
use crate::server::local;
use crate::topology::ids::{EndpointId, ListenerId};
use crate::worker::datagrams::Seat;
use crate::worker::{Carriage, Flow, Next, Worker};

/// What became of a datagram that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// It is too long for this way.
    TooLong,
    /// This machine has no room, port or file left: nobody's fault but its own.
    NoRoom,
    /// The endpoint cannot be reached, or says that nobody listens: what it says may be of a datagram before.
    Unreached(Failure),
}

impl Unsent {
    /// As it is counted where nobody else is asked.
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::TooLong => Refusal::DatagramTooLong,
            Self::NoRoom | Self::Unreached(_) => Refusal::DatagramUnsent,
        }
    }
}

/// A socket that hears nobody but this endpoint.
pub(super) fn to(endpoint: SocketAddr) -> Result<UdpSocket, Unsent> {
    let kind = Type::DGRAM.nonblocking();
    let socket = Socket::new(Domain::for_address(endpoint), kind, Some(Protocol::UDP));
    let socket = socket.map_err(|_| Unsent::NoRoom)?;
    // It gets its port with its other end: one that is bound before would take what strangers send there meanwhile.
    socket
        .connect(&endpoint.into())
        .map_err(|error| meaning(&error))?;
    Ok(socket.into())
}

/// Sends a datagram.
pub(super) fn send(socket: &UdpSocket, bytes: &[u8]) -> Result<(), Unsent> {
    // Nothing of a datagram is sent, or all of it.
    socket.send(bytes).map(drop).map_err(|error| meaning(&error))
}

/// What the error of a socket to an endpoint means.
pub(super) fn meaning(error: &io::Error) -> Unsent {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MSGSIZE) => Unsent::TooLong,
        Some(
            Errno::AGAIN
            | Errno::ADDRINUSE
            | Errno::ADDRNOTAVAIL
            | Errno::INTR
            | Errno::MFILE
            | Errno::NFILE
            | Errno::NOBUFS
            | Errno::NOMEM,
        ) => Unsent::NoRoom,
        Some(Errno::CONNREFUSED) => Unsent::Unreached(Failure::Refused),
        _ => Unsent::Unreached(Failure::ConnectFailed),
    }
}

/// Where a datagram was taken.
#[derive(Debug)]
pub(super) struct Reached {
    /// `None` where that is the session's own, as before.
    pub(super) socket: Option<UdpSocket>,
    pub(super) seat: Seat,
    /// How many endpoints were asked.
    pub(super) places: u32,
}

/// Sends a datagram to who is picked for it, and on to others where he cannot be reached; by the session's socket where it
/// is its own endpoint that is picked. `None` where nobody takes it: then all is counted.
pub(super) fn reach(flow: &mut Flow, bytes: &[u8], own: Option<(EndpointId, &UdpSocket)>) -> Option<Reached> {
    let mut places = 0;
    loop {
        let picked = local::with(|l| {
            let place = l.worker.start(flow)?;
            Some((l.worker.topology().endpoint(place)?.address, l.worker.seat(flow)?))
        });
        let failure = match picked.flatten() {
            None => Failure::NobodyLeft,
            Some((address, seat)) => {
                places += 1;
                let own = own.filter(|(endpoint, _)| *endpoint == seat.endpoint());
                let socket = match own {
                    Some((_, socket)) => send(socket, bytes).map(|()| None),
                    None => to(address).and_then(|socket| {
                        send(&socket, bytes)?;
                        Ok(Some(socket))
                    }),
                };
                match socket {
                    Ok(socket) => return Some(Reached { socket, seat, places }),
                    Err(Unsent::Unreached(failure)) => failure,
                    Err(unsent) => {
                        refuse(unsent.refusal());
                        with_worker(|worker| worker.cut(flow));
                        return None;
                    }
                }
            }
        };
        if with_worker(|worker| worker.unreached(flow, failure)) != Some(Next::Elsewhere) {
            with_worker(|worker| worker.answered(flow, 0));
            return None;
        }
    }
}

/// The flow of a client's next exchange, wherever it goes.
pub(super) fn carry(listener: ListenerId, (client, _): Key) -> Option<Flow> {
    match with_worker(|worker| worker.carry(listener, None, client.ip()))? {
        Carriage::Forward(flow) => Some(flow),
        Carriage::Refused(_) | Carriage::Unrouted => None,
    }
}

pub(super) fn refuse(refusal: Refusal) {
    with_worker(|worker| worker.refuse(refusal));
}

pub(super) fn with_worker<R>(f: impl FnOnce(&mut Worker) -> R) -> Option<R> {
    local::with(|l| f(&mut l.worker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nobody_listens_the_next_call_says_so() {
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = to(nobody).unwrap();
        send(&socket, b"?").unwrap();
        // Loopback tells at once, but nobody promises it.
        let error = loop {
            match socket.recv(&mut [0; 9]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => break other.unwrap_err(),
            }
        };
        assert_eq!(meaning(&error), Unsent::Unreached(Failure::Refused));
        assert_eq!(send(&socket, &[0; 65_508]), Err(Unsent::TooLong));
    }
}
