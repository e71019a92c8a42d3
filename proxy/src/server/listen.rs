//! Listening sockets that several workers share: each worker has its own, the kernel spreads connections over them.
//!
//! `SO_REUSEPORT` also lets a second *process* of the same user bind the same port, so a port in use would go unnoticed
//! and half of the connections would vanish into the other process. Therefore each address is first claimed without the
//! option: if anybody else listens there, that fails as everybody expects.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use super::ServerError;
use super::door::Door;
use crate::config::overlap;
use crate::topology::Topology;
use crate::topology::ids::ListenerId;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
pub(super) const BACKLOG: usize = 4096;

/// The listening sockets of one worker, each with the door that it shares with those of the other workers.
pub(crate) type Sockets = Vec<(ListenerId, std::net::TcpListener, Arc<Door>)>;

/// Opens the listeners of `topology` that `before` does not have: a list of sockets for each of `workers` workers. All of
/// them or none.
///
/// # Errors
/// The first address that cannot be listened on, and whose it is.
pub(crate) fn open(
    topology: &Topology,
    before: Option<&Topology>,
    workers: usize,
) -> Result<Vec<Sockets>, ServerError> {
    let ours: Vec<_> = before
        .iter()
        .flat_map(|t| t.listeners())
        .map(|(id, l)| (id, l.address))
        .collect();
    let new: Vec<_> = topology
        .listeners()
        .filter(|(id, _)| ours.iter().all(|(own, _)| own != id))
        .map(|(id, listener)| (id, listener.name.as_str(), listener.address, Arc::default()))
        .collect();
    for (_, name, address, _) in &new {
        // Between two listeners of our own, one of which is about to go, the kernel sees no conflict.
        if !ours.iter().any(|(_, own)| overlap(*own, *address)) {
            claim(*address).map_err(|e| ServerError::refused(name, *address, e))?;
        }
    }
    let each = |(id, name, address, door): &(ListenerId, &str, SocketAddr, Arc<Door>)| {
        let socket = shared(*address).map_err(|e| ServerError::refused(name, *address, e))?;
        Ok((*id, socket, door.clone()))
    };
    (0..workers).map(|_| new.iter().map(each).collect()).collect()
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
pub fn shared(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    // Accepted connections inherit it.
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
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
        let unsent = socket2::SockRef::from(&accepted).tcp_notsent_lowat().unwrap();
        assert_eq!(unsent, UNSENT_BYTES_MAX);
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
