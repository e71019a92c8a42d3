//! Listening sockets that several workers share: each worker has its own, the kernel spreads connections over them.
//!
//! `SO_REUSEPORT` also lets a second *process* of the same user bind the same port, so a port in use would go unnoticed
//! and half of the connections would vanish into the other process. Therefore each address is first claimed without the
//! option: if anybody else listens there, that fails as everybody expects.
//!
//! Each of these sockets has a queue of its own, of connections that the kernel has accepted already, and closing it resets
//! them. A process that takes over from another one therefore takes every socket, whatever the number of its workers.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::ServerError;
use super::door::Door;
use crate::config::{Listener, overlap};
use crate::topology::Topology;
use crate::topology::ids::ListenerId;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
pub(super) const BACKLOG: usize = 4096;

/// The listening sockets of one worker.
pub(crate) type Sockets = Vec<Listening>;

/// What one worker accepts from at one listener.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) listener: ListenerId,
    /// One, unless a process with more workers has left some.
    pub(crate) sockets: Vec<TcpListener>,
    /// Shared with the other workers.
    pub(crate) door: Arc<Door>,
}

/// What is listened on already, by this process or by the one before it.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// On these addresses.
    pub(crate) addresses: Vec<SocketAddr>,
    /// With these sockets, which are to be taken over.
    pub(crate) sockets: HashMap<SocketAddr, Vec<TcpListener>>,
}

/// Opens the listeners of `topology` that `running` does not have: a list of sockets for each of `workers` workers. All of
/// them or none.
///
/// # Errors
/// The first address that cannot be listened on, and whose it is.
pub(crate) fn open_new(
    topology: &Topology,
    running: &Topology,
    workers: usize,
) -> Result<Vec<Sockets>, ServerError> {
    let before = Before {
        addresses: running
            .listeners()
            .map(|(_, listener)| listener.address)
            .collect(),
        ..Before::default()
    };
    let is_new = |id| running.listener(id).is_none();
    let opened = open(topology, is_new, before, workers)?;
    begin(topology, &opened)?;
    Ok(opened)
}

/// Has the kernel let clients in by these sockets; those that were left by another process do so already.
///
/// # Errors
/// What `listen` says, and of whose address.
pub(crate) fn begin(topology: &Topology, opened: &[Sockets]) -> Result<(), ServerError> {
    for listening in opened.iter().flatten() {
        for socket in &listening.sockets {
            listen(socket).map_err(|error| match topology.listener(listening.listener) {
                Some((listener, _)) => refused(listener, error),
                None => ServerError::Resources(error),
            })?;
        }
    }
    Ok(())
}

/// Opens all listeners of `topology`, and takes over what a process before this one has left. Nobody is let in by the new
/// sockets before [`begin`]: should this process not serve after all, there is nobody whom it would turn away.
///
/// # Errors
/// The first address that cannot be listened on, and whose it is.
pub(crate) fn open_all(
    topology: &Topology,
    before: Before,
    workers: usize,
) -> Result<Vec<Sockets>, ServerError> {
    open(topology, |_| true, before, workers)
}

fn open(
    topology: &Topology,
    is_new: impl Fn(ListenerId) -> bool,
    mut before: Before,
    workers: usize,
) -> Result<Vec<Sockets>, ServerError> {
    let new: Vec<_> = topology.listeners().filter(|(id, _)| is_new(*id)).collect();
    for (_, listener) in &new {
        // Between two listeners of our own, one of which is about to go, the kernel sees no conflict.
        if !before.addresses.iter().any(|own| overlap(*own, listener.address)) {
            claim(listener.address).map_err(|e| refused(listener, e))?;
        }
    }
    let mut all: Vec<Sockets> = (0..workers).map(|_| Vec::new()).collect();
    for (id, listener) in new {
        let left = before.sockets.remove(&listener.address).unwrap_or_default();
        let dealt = deal(left, listener.address, workers).map_err(|e| refused(listener, e))?;
        let door = Arc::<Door>::default();
        for (worker, sockets) in all.iter_mut().zip(dealt) {
            worker.push(Listening {
                listener: id,
                sockets,
                door: door.clone(),
            });
        }
    }
    Ok(all)
}

fn refused(listener: &Listener, error: io::Error) -> ServerError {
    ServerError::refused(listener.name.as_str(), listener.address, error)
}

/// Gives each worker a socket on `address`: one that was left, or a new one. What is left over is accepted from by all
/// workers, each as it has time: to close a socket would reset who waits in its queue, and to give it to one worker would
/// give that one twice the work.
fn deal(left: Vec<TcpListener>, address: SocketAddr, workers: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let mut left = left.into_iter();
    let own = (0..workers).map(|_| left.next().map_or_else(|| bound(address), Ok));
    let mut dealt: Vec<_> = own
        .map(|own| own.map(|own| vec![own]))
        .collect::<io::Result<_>>()?;
    for over in left {
        for sockets in &mut dealt {
            sockets.push(over.try_clone()?);
        }
    }
    Ok(dealt)
}

/// Bytes of an answer that the kernel takes beyond what it can send now. By itself it takes megabytes for each connection,
/// and a thousand clients that read slowly fill the memory that all connections share. Enough for the next round trip
/// of a fast line.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// Fails as a plain bind does when another process listens on `address`.
///
/// # Errors
/// What `bind` says: the address is in use, not of this host, or needs privileges.
pub fn claim(address: SocketAddr) -> io::Result<()> {
    socket(address)?.bind(&address.into())
}

/// One of several listening sockets on `address`, ready for tokio.
///
/// # Errors
/// What `bind` or `listen` says.
pub fn shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address)?;
    listen(&socket)?;
    Ok(socket)
}

fn listen(socket: &TcpListener) -> io::Result<()> {
    SockRef::from(socket).listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))
}

/// The same, before it listens.
fn bound(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    // Accepted connections inherit it.
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    // Connections of a predecessor in TIME_WAIT must not keep its successor from starting.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_little_more_than_it_can_send() {
        let listener = shared("127.0.0.1:0".parse().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let unsent = SockRef::from(&accepted).tcp_notsent_lowat().unwrap();
        assert_eq!(unsent, UNSENT_BYTES_MAX);
    }

    #[test]
    fn every_socket_that_was_left_is_accepted_from_whatever_the_number_of_workers() {
        for workers in 1..=5 {
            let first = shared("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = first.local_addr().unwrap();
            let left = vec![first, shared(address).unwrap(), shared(address).unwrap()];
            let _waiting: Vec<_> = (0..30)
                .map(|_| std::net::TcpStream::connect(address).unwrap())
                .collect();
            let dealt = deal(left, address, workers).unwrap();
            assert_eq!(dealt.len(), workers);
            // Nobody comes to a new one before it is known that this process serves.
            let idle = dealt
                .iter()
                .flatten()
                .filter(|s| !SockRef::from(s).is_listener().unwrap());
            assert_eq!(idle.count(), workers.saturating_sub(3));
            dealt.iter().flatten().for_each(|s| listen(s).unwrap());
            // A worker with none would idle; what three had is accepted whoever comes first.
            assert!(
                dealt
                    .iter()
                    .all(|sockets| sockets.len() == 1 + 3usize.saturating_sub(workers))
            );
            let accepted = dealt
                .iter()
                .flatten()
                .map(|s| std::iter::from_fn(|| s.accept().ok()).count());
            assert_eq!(accepted.sum::<usize>(), 30);
        }
    }

    #[test]
    fn workers_share_a_port_but_strangers_are_refused() {
        let first = shared("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let _second = shared(address).unwrap();
        assert_eq!(claim(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop((first, _second));
        claim(address).unwrap();
    }
}
