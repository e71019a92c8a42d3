//! Which upstream connections belong to which endpoint, so that those of an endpoint that is gone can be closed.
//!
//! pingora keeps idle connections by itself and lets nobody look into its pool; it closes one when it reads its end. So
//! a connection that is to go is shut down by its descriptor, as the deadlines do it. A descriptor may long name
//! another connection, possibly another worker's; the kernel's cookie of the socket, which is unique until the machine
//! restarts, says whether it is still the one. If it is, this worker's pool holds it open, and nobody else closes it.
//!
//! Connections that carry a request are left alone. They are closed by the pool when they have rested for the cluster's
//! `idleTimeout`.

use std::collections::{HashMap, HashSet};
use std::os::fd::RawFd;

use crate::topology::Topology;
use crate::topology::ids::EndpointId;

/// The upstream connections that one worker has opened.
#[derive(Debug, Default)]
pub struct Kept {
    /// The newest one of each descriptor: bounded by the descriptors that the process may have.
    by_socket: HashMap<RawFd, Connection>,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    endpoint: EndpointId,
    cookie: u64,
}

impl Kept {
    /// A connection to the endpoint has been opened.
    pub fn opened(&mut self, socket: RawFd, endpoint: EndpointId) {
        // Without a cookie it could be taken for another one later: then it is closed by its idle timeout only.
        match foreshade_sys::cookie(socket) {
            Ok(cookie) => drop(self.by_socket.insert(socket, Connection { endpoint, cookie })),
            Err(_) => drop(self.by_socket.remove(&socket)),
        }
    }

    /// The connection will not come back to the pool: it speaks another protocol from here on.
    pub fn given_away(&mut self, socket: RawFd) {
        self.by_socket.remove(&socket);
    }

    /// Shuts down all idle connections to endpoints that `topology` does not have. Says how many.
    pub fn close_of_the_gone(&mut self, topology: &Topology, busy: &HashSet<RawFd>) -> usize {
        let mut closed = 0;
        self.by_socket.retain(|socket, connection| {
            let stays = topology.place(connection.endpoint).is_some();
            if !stays
                && !busy.contains(socket)
                && foreshade_sys::cookie(*socket).ok() == Some(connection.cookie)
            {
                closed += usize::from(foreshade_sys::shutdown(*socket).is_ok());
            }
            stays
        });
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::recorder::Place;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn config(endpoints: &str) -> config::Config {
        let text = format!(
            "apiVersion: foreshade/v1\nlisteners:\n  - name: web\n    address: 127.0.0.1:8080\n    routes: [{{ match: \
             {{ path: {{ prefix: / }} }}, cluster: shop }}]\nclusters:\n  - {{ name: shop, endpoints: [{endpoints}] }}\n"
        );
        config::parse(&text, "test").unwrap()
    }

    #[test]
    fn only_idle_connections_of_who_is_gone_are_closed() {
        let (a, b) = (
            "{ name: a, address: 127.0.0.1:1 }",
            "{ name: b, address: 127.0.0.1:2 }",
        );
        let before = Topology::new(config(&format!("{a}, {b}")));
        let after = before.next(config(b));
        let id = |endpoint| before.endpoint_id(Place { cluster: 0, endpoint }).unwrap();
        let pairs: Vec<_> = (0..4).map(|_| pair()).collect();
        let sockets: Vec<_> = pairs.iter().map(|(client, _)| client.as_raw_fd()).collect();
        let mut kept = Kept::default();
        for (socket, endpoint) in sockets.iter().zip([0, 0, 0, 1]) {
            kept.opened(*socket, id(endpoint));
        }
        kept.given_away(sockets[2]);
        assert_eq!(kept.close_of_the_gone(&after, &HashSet::from([sockets[1]])), 1);
        for (index, (_, server)) in pairs.iter().enumerate() {
            server.set_nonblocking(true).unwrap();
            let ended = matches!((&*server).read(&mut [0]), Ok(0));
            assert_eq!(ended, index == 0, "connection {index}");
        }
    }

    #[test]
    fn a_descriptor_that_names_another_connection_now_is_left_alone() {
        let before = Topology::new(config("{ name: a, address: 127.0.0.1:1 }"));
        let after = before.next(config("{ name: b, address: 127.0.0.1:2 }"));
        let (client, mut server) = pair();
        let mut kept = Kept::default();
        let endpoint = before
            .endpoint_id(Place {
                cluster: 0,
                endpoint: 0,
            })
            .unwrap();
        let stale = Connection {
            endpoint,
            cookie: foreshade_sys::cookie(client.as_raw_fd()).unwrap() + 1,
        };
        kept.by_socket.insert(client.as_raw_fd(), stale);
        assert_eq!(kept.close_of_the_gone(&after, &HashSet::new()), 0);
        server.set_nonblocking(true).unwrap();
        assert!(server.read(&mut [0]).is_err(), "nothing to read, and no end");
    }
}
