//! Listening sockets that several workers share: each worker has its own, the kernel spreads connections over them, and
//! datagrams, those of one client always to the same one.
//!
//! `SO_REUSEPORT` also lets a second *process* of the same user bind the same port, so a port in use would go unnoticed
//! and half of the connections would vanish into the other process. Therefore each address is first claimed without the
//! option: if anybody else listens there, that fails as everybody expects.
//!
//! Each of these sockets has a queue of its own, of connections that the kernel has accepted already, and closing it resets
//! them. A process that takes over from another one therefore takes every socket, whatever the number of its workers.
//! With datagrams it is the number of sockets that decides whose client somebody is.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use super::ServerError;
use super::door::Door;
use crate::config::{Listener, Transport, overlap};
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
    pub(crate) sockets: Vec<Socket>,
    /// Shared with the other workers.
    pub(crate) door: Arc<Door>,
}

/// What is listened on already, by this process or by the one before it.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// On these addresses.
    pub(crate) addresses: Vec<Spot>,
    /// With these sockets, which are to be taken over.
    pub(crate) sockets: HashMap<Spot, Vec<Socket>>,
}

impl Before {
    pub(crate) fn new(addresses: Vec<Spot>, sockets: HashMap<Spot, Vec<Socket>>) -> Self {
        Self { addresses, sockets }
    }
}

/// What a socket listens on, and for what.
pub(crate) type Spot = (Transport, SocketAddr);

/// Where a listener listens.
pub(crate) fn spot(listener: &Listener) -> Spot {
    (listener.transport(), listener.address)
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
        addresses: running.listeners().map(|(_, listener)| spot(listener)).collect(),
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
/// What `listen` or `bind` says, and of whose address.
pub(crate) fn begin(topology: &Topology, opened: &[Sockets]) -> Result<(), ServerError> {
    for listening in opened.iter().flatten() {
        let Some((listener, _)) = topology.listener(listening.listener) else {
            continue;
        };
        for socket in &listening.sockets {
            let begun = match listener.transport() {
                Transport::Tcp => listen(socket),
                Transport::Udp => begin_to_hear(socket, listener.address),
            };
            begun.map_err(|error| refused(listener, error))?;
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
        let (transport, address) = spot(listener);
        let is_own = |own: &Spot| own.0 == transport && overlap(own.1, address);
        if !before.addresses.iter().any(is_own) {
            claim_for(transport, address).map_err(|e| refused(listener, e))?;
        }
    }
    let mut all: Vec<Sockets> = (0..workers).map(|_| Vec::new()).collect();
    for (id, listener) in new {
        let left = before.sockets.remove(&spot(listener)).unwrap_or_default();
        let dealt = deal(left, spot(listener), workers).map_err(|e| refused(listener, e))?;
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

/// Gives each worker a socket: one that was left, or a new one. What is left over of connections is accepted from by all
/// workers, each as it has time: to close a socket would reset who waits in its queue, and to give it to one worker would
/// give that one twice the work. Of datagrams it is given to one all the same: a client's session is one worker's.
fn deal(left: Vec<Socket>, (transport, address): Spot, workers: usize) -> io::Result<Vec<Vec<Socket>>> {
    let mut left = left.into_iter();
    let new = || match transport {
        Transport::Tcp => bound(address),
        Transport::Udp => for_datagrams(address),
    };
    let own = (0..workers).map(|_| left.next().map_or_else(new, Ok));
    let mut dealt: Vec<_> = own
        .map(|own| own.map(|own| vec![own]))
        .collect::<io::Result<_>>()?;
    for (index, over) in left.enumerate() {
        if transport == Transport::Udp {
            if let Some(sockets) = dealt.get_mut(index % workers.max(1)) {
                sockets.push(over);
            }
            continue;
        }
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
    claim_for(Transport::Tcp, address)
}

fn claim_for(transport: Transport, address: SocketAddr) -> io::Result<()> {
    let socket = match transport {
        Transport::Tcp => socket(address)?,
        Transport::Udp => datagrams(address)?,
    };
    socket.bind(&address.into())
}

/// One of several listening sockets on `address`, ready for tokio.
///
/// # Errors
/// What `bind` or `listen` says.
pub fn shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address)?;
    listen(&socket)?;
    Ok(socket.into())
}

fn listen(socket: &Socket) -> io::Result<()> {
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))
}

/// The same, before it listens.
fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    // Accepted connections inherit it.
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// One of several sockets for the datagrams to `address`, which hears none before [`begin_to_hear`]: the kernel deals
/// clients to whoever is bound, and whom it deals to a socket that nobody reads yet is not heard.
fn for_datagrams(address: SocketAddr) -> io::Result<Socket> {
    let socket = datagrams(address)?;
    socket.set_reuse_port(true)?;
    // What comes while a worker does something else waits here. The kernel caps it at `net.core.rmem_max`.
    socket.set_recv_buffer_size(WAITING_BYTES)?;
    if address.ip().is_unspecified() {
        foreshade_sys::datagrams::tell_addresses(socket.as_raw_fd(), address.is_ipv6())?;
    }
    Ok(socket)
}

/// Bytes of datagrams that may wait to be read at one socket, with what the kernel counts for keeping them: a few thousand
/// small ones, and less than a megabyte of anybody's memory per worker.
const WAITING_BYTES: usize = 1024 * 1024;

/// Where a predecessor has left the socket, it hears already.
fn begin_to_hear(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let own = socket.local_addr()?.as_socket();
    match own.is_some_and(|own| own.port() != 0) {
        true => Ok(()),
        false => socket.bind(&address.into()),
    }
}

fn datagrams(address: SocketAddr) -> io::Result<Socket> {
    // Without SO_REUSEADDR, by which two may have the same address, and one of them hears nothing.
    Socket::new(
        Domain::for_address(address),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )
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
    use socket2::SockRef;

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
            let left = [first, shared(address).unwrap(), shared(address).unwrap()];
            let left = left.into_iter().map(Socket::from).collect();
            let _waiting: Vec<_> = (0..30)
                .map(|_| std::net::TcpStream::connect(address).unwrap())
                .collect();
            let dealt = deal(left, (Transport::Tcp, address), workers).unwrap();
            assert_eq!(dealt.len(), workers);
            // Nobody comes to a new one before it is known that this process serves.
            let idle = dealt.iter().flatten().filter(|s| !s.is_listener().unwrap());
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
    fn a_client_is_one_workers_and_no_datagram_comes_to_whom_nobody_reads() {
        for workers in 1..=5 {
            let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
            let first = for_datagrams(address).unwrap();
            begin_to_hear(&first, address).unwrap();
            let address = first.local_addr().unwrap().as_socket().unwrap();
            let mut left = vec![first];
            for _ in 0..2 {
                let socket = for_datagrams(address).unwrap();
                begin_to_hear(&socket, address).unwrap();
                left.push(socket);
            }
            let dealt = deal(left, (Transport::Udp, address), workers).unwrap();
            assert_eq!(dealt.len(), workers);
            assert_eq!(dealt.iter().map(Vec::len).sum::<usize>(), workers.max(3));
            assert!(dealt.iter().all(|sockets| !sockets.is_empty()));
            let users: Vec<_> = (0..30)
                .map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap())
                .collect();
            users
                .iter()
                .for_each(|user| assert_eq!(user.send_to(b"?", address).unwrap(), 1));
            let mut buffer = [std::mem::MaybeUninit::uninit(); 8];
            let mut heard = || {
                let all = dealt.iter().flatten();
                all.map(|s| std::iter::from_fn(|| s.recv(&mut buffer).ok()).count())
                    .collect::<Vec<_>>()
            };
            assert_eq!(heard().iter().sum::<usize>(), 30);
            dealt
                .iter()
                .flatten()
                .for_each(|s| begin_to_hear(s, address).unwrap());
            for _ in 0..3 {
                users.first().unwrap().send_to(b"?", address).unwrap();
            }
            assert!(heard().contains(&3), "one client, several sockets");
        }
    }

    #[test]
    fn strangers_are_refused_the_address_of_datagrams() {
        let first = for_datagrams("127.0.0.1:0".parse().unwrap()).unwrap();
        begin_to_hear(&first, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap().as_socket().unwrap();
        let refused = claim_for(Transport::Udp, address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        claim_for(Transport::Tcp, address).unwrap();
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
