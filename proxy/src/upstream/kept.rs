//! Which upstream connections belong to which endpoint, so that those of an endpoint that is gone can be closed.
//!
//! pingora keeps idle connections by itself and lets nobody look into its pool; it closes one when it reads its end. So
//! a connection that is to go is shut down by its descriptor, as the deadlines do it. A descriptor may long name
//! another connection, possibly another worker's; the kernel's cookie of the socket, which is unique until the machine
//! restarts, says whether it is still the one. If it is, this worker's pool holds it open, and nobody else closes it.
//!
//! Connections that carry a request are left alone until it is done. Which ones do is known from the deadlines, which begin
//! when a request is sent; one that has just taken its connection out of the pool has none yet. So nothing is closed for
//! [`GRACE_TICKS`] after a configuration was taken over: then every request from before has been sent, or never will be.

use std::collections::{HashMap, HashSet};
use std::os::fd::RawFd;

use crate::topology::Topology;
use crate::topology::ids::EndpointId;

/// Ticks between a takeover and the first look, and between two looks at what was busy: about a second.
const GRACE_TICKS: u32 = 10;

/// The upstream connections that one worker has opened.
#[derive(Debug, Default)]
pub struct Kept {
    /// Ticks until the next look; `None` where there is nothing to close.
    due: Option<u32>,
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

    /// Some endpoints are gone, or a connection to one that is has just been opened.
    pub fn expect_gone(&mut self) {
        self.due.get_or_insert(GRACE_TICKS);
    }

    /// Takes a tick. True when it is time to look for connections of who is gone.
    pub fn is_due(&mut self) -> bool {
        let Some(ticks) = &mut self.due else { return false };
        *ticks = ticks.saturating_sub(1);
        *ticks == 0
    }

    /// Shuts down the idle connections to endpoints that `topology` does not have. Says how many.
    pub fn close_of_the_gone(&mut self, topology: &Topology, busy: &HashSet<RawFd>) -> usize {
        let (mut closed, mut left) = (0, false);
        self.by_socket.retain(|socket, connection| {
            if topology.place(connection.endpoint).is_some() {
                return true;
            }
            let is_it = foreshade_sys::cookie(*socket).ok() == Some(connection.cookie);
            let waits = is_it && busy.contains(socket);
            if is_it && !waits {
                closed += usize::from(foreshade_sys::shutdown(*socket).is_ok());
            }
            left |= waits;
            waits
        });
        self.due = left.then_some(GRACE_TICKS);
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
        kept.expect_gone();
        let ticks = (1..).find(|_| kept.is_due());
        assert_eq!(ticks, Some(GRACE_TICKS), "not at once");
        assert_eq!(kept.close_of_the_gone(&after, &HashSet::from([sockets[1]])), 1);
        for (index, (_, server)) in pairs.iter().enumerate() {
            server.set_nonblocking(true).unwrap();
            let ended = matches!((&*server).read(&mut [0]), Ok(0));
            assert_eq!(ended, index == 0, "connection {index}");
        }
        assert!(
            (1..=GRACE_TICKS).any(|_| kept.is_due()),
            "the busy one is looked at again"
        );
        assert_eq!(kept.close_of_the_gone(&after, &HashSet::new()), 1);
        assert!(!(0..100).any(|_| kept.is_due()), "nothing is left to close");
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
