//! How many connections there may be, how many of one client, and how many in their handshake: counted where they are
//! accepted, and nowhere else.
//!
//! Shared by all workers of a listener, because the kernel spreads one client's connections over them. Touched when
//! a connection begins, is named, is greeted and ends, never by a request. An IPv6 client counts by his /64: that is
//! what one subscriber is given.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::framing::{Limits, Refusal};

/// The door of one listener.
#[derive(Debug, Default)]
pub struct Door {
    open: AtomicU32,
    greeted: AtomicU32,
    /// Who has connections open. Bounded by [`Limits::connections`]: who has none is not in it.
    clients: Mutex<HashMap<IpAddr, u32>>,
}

impl Door {
    /// Lets a client in, unless there are too many for `limits`. He has left when the visit is dropped.
    ///
    /// # Errors
    /// Which of the limits is reached.
    pub fn enter(self: &Arc<Self>, client: IpAddr, limits: &Limits) -> Result<Visit, Refusal> {
        let mut visit = self.enter_unnamed(limits)?;
        visit.name(client, limits)?;
        Ok(visit)
    }

    /// Lets somebody in who will be named later, unless there are too many in all.
    ///
    /// # Errors
    /// When there are.
    pub fn enter_unnamed(self: &Arc<Self>, limits: &Limits) -> Result<Visit, Refusal> {
        let visit = Visit {
            door: self.clone(),
            client: None,
        };
        match self.open.fetch_add(1, Ordering::Relaxed) < limits.connections {
            true => Ok(visit),
            false => Err(Refusal::ConnectionsTooMany),
        }
    }

    /// Lets a client begin his handshake, unless too many are in theirs for `limits`. It is over when the greeting is
    /// dropped.
    pub fn greet(self: &Arc<Self>, limits: &Limits) -> Option<Greeting> {
        // Dropped it counts back, also where it is not given out.
        let greeting = Greeting(self.clone());
        (self.greeted.fetch_add(1, Ordering::Relaxed) < limits.handshakes).then_some(greeting)
    }
}

/// A handshake that is under way.
#[derive(Debug)]
pub struct Greeting(Arc<Door>);

impl Drop for Greeting {
    fn drop(&mut self) {
        self.0.greeted.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that was let in.
#[derive(Debug)]
pub struct Visit {
    door: Arc<Door>,
    /// Under whom it is counted, if it is.
    client: Option<IpAddr>,
}

impl Visit {
    /// Says whose connection it is, unless he has too many.
    ///
    /// # Errors
    /// When he has.
    pub fn name(&mut self, client: IpAddr, limits: &Limits) -> Result<(), Refusal> {
        let client = subscriber(client);
        if limits.exempt_private && is_private(client) {
            return Ok(());
        }
        let mut clients = self.door.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let count = clients.entry(client).or_insert(0);
        if *count >= limits.connections_per_client {
            return Err(Refusal::ClientConnectionsTooMany);
        }
        *count += 1;
        self.client = Some(client);
        Ok(())
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.door.open.fetch_sub(1, Ordering::Relaxed);
        let Some(client) = self.client else { return };
        let mut clients = self.door.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = clients.entry(client) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// What stands for one client.
pub(crate) fn subscriber(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

/// Addresses that no stranger has.
fn is_private(client: IpAddr) -> bool {
    match client {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        // `::1` has become `::` by its /64.
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A door and its limits.
    struct Entrance(Arc<Door>, Limits);

    impl Entrance {
        fn enter(&self, client: IpAddr) -> Result<Visit, Refusal> {
            self.0.enter(client, &self.1)
        }
    }

    fn door(connections: u32, connections_per_client: u32) -> Entrance {
        let limits = Limits {
            connections,
            connections_per_client,
            ..Limits::default()
        };
        Entrance(Arc::default(), limits)
    }

    fn client(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_client_has_so_many_connections_and_gets_another_when_one_is_closed() {
        let door = door(100, 2);
        let visits: Vec<_> = (0..2)
            .map(|_| door.enter(client("203.0.113.1")).unwrap())
            .collect();
        let refused = door.enter(client("203.0.113.1")).unwrap_err();
        assert_eq!(refused, Refusal::ClientConnectionsTooMany);
        let other = door.enter(client("203.0.113.2")).unwrap();
        drop(visits);
        let again = door.enter(client("203.0.113.1")).unwrap();
        drop((other, again));
        assert!(
            door.0.clients.lock().unwrap().is_empty(),
            "who has left is forgotten"
        );
        assert_eq!(door.0.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn so_many_handshakes_are_under_way_and_another_when_one_is_over() {
        let (door, limits) = (
            Arc::<Door>::default(),
            Limits {
                handshakes: 2,
                ..Limits::default()
            },
        );
        let (first, second) = (door.greet(&limits), door.greet(&limits));
        assert!(first.is_some() && second.is_some());
        assert!(door.greet(&limits).is_none() && door.greet(&limits).is_none());
        drop(first);
        assert!(door.greet(&limits).is_some());
    }

    #[test]
    fn all_clients_together_have_so_many_connections() {
        let door = door(2, 100);
        let _visits = [
            door.enter(client("203.0.113.1")).unwrap(),
            door.enter(client("127.0.0.1")).unwrap(),
        ];
        assert_eq!(
            door.enter(client("203.0.113.3")).unwrap_err(),
            Refusal::ConnectionsTooMany
        );
        assert_eq!(door.0.open.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_subscriber_is_his_slash_64_and_private_addresses_are_nobodys() {
        let door = door(100, 1);
        let _one = door.enter(client("2001:db8::1")).unwrap();
        assert!(door.enter(client("2001:db8::2")).is_err());
        assert!(door.enter(client("2001:db8:0:1::2")).is_ok());
        let _four = door.enter(client("203.0.113.1")).unwrap();
        assert!(door.enter(client("::ffff:203.0.113.1")).is_err());
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            let (_a, _b) = (
                door.enter(client(private)).unwrap(),
                door.enter(client(private)).unwrap(),
            );
        }
    }
}
