//! The idle connections to endpoints that one worker keeps, by whose they are.
//!
//! Last in, first out: the connection that was used last is the one whose buffers are warm and whose endpoint is the least
//! likely to have given it up, and those that are not needed any more come of age. Before use each is asked whether
//! something has come unasked: an end, or bytes that belong to nothing. That costs no system call, since the runtime knows;
//! of a session of TLS also what it has opened already. One that was agreed on by other authorities, another name or
//! another certificate than the configuration has by now is not used again either.
//! With each tick the pool is tidied: what is too old, has ended, or belongs to an endpoint that is gone is closed.
//!
//! The pool belongs to one thread; its lock is there because streams have to be able to travel, and is never contended.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foreshade_engine::moment::Moment;

use super::connect::{Socket, To};
use crate::topology::ids::EndpointId;

/// Idle connections of one worker, over all endpoints. Beyond it the oldest goes.
const IDLE_MAX: usize = 1024;

/// The idle connections of one worker.
#[derive(Debug, Default)]
pub struct Pool(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Oldest first.
    by_endpoint: HashMap<EndpointId, VecDeque<Idle>>,
    /// How many there are in all.
    count: usize,
    /// When it was tidied last: what time it is, near enough.
    now: Moment,
}

#[derive(Debug)]
struct Idle {
    socket: Socket,
    /// At most a tick too early.
    since: Moment,
}

impl Pool {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to the endpoint, which is reached by `to`, on which nothing is under way.
    pub(crate) fn take(&self, endpoint: EndpointId, to: &To) -> Option<Socket> {
        let kept = &mut *self.kept();
        let idle = kept.by_endpoint.get_mut(&endpoint)?;
        loop {
            let mut socket = idle.pop_back()?.socket;
            kept.count -= 1;
            if socket.leads(to) && socket.is_quiet() {
                return Some(socket);
            }
        }
    }

    /// Keeps a connection on which everything has been answered.
    pub(crate) fn put(&self, endpoint: EndpointId, socket: Socket) {
        let kept = &mut *self.kept();
        if kept.count >= IDLE_MAX {
            kept.drop_oldest();
        }
        let since = kept.now;
        kept.count += 1;
        kept.by_endpoint
            .entry(endpoint)
            .or_default()
            .push_back(Idle { socket, since });
    }

    /// Closes the connections to an endpoint that has just given one of them up: they have rested even longer.
    pub(crate) fn forget(&self, endpoint: EndpointId) {
        let kept = &mut *self.kept();
        kept.count -= kept.by_endpoint.remove(&endpoint).map_or(0, |idle| idle.len());
    }

    /// Closes what will not be used again. `patience` is how long connections to an endpoint may idle; `None` for one that
    /// is gone.
    pub fn tidy(&self, now: Moment, patience: impl Fn(EndpointId) -> Option<Duration>) {
        let kept = &mut *self.kept();
        kept.now = now;
        kept.by_endpoint.retain(|endpoint, idle| {
            let patience = patience(*endpoint);
            idle.retain_mut(|one| {
                let stays =
                    patience.is_some_and(|patience| now.since(one.since) < patience) && one.socket.is_quiet();
                if !stays {
                    one.socket.part();
                }
                stays
            });
            !idle.is_empty()
        });
        kept.count = kept.by_endpoint.values().map(VecDeque::len).sum();
    }
}

impl Kept {
    fn drop_oldest(&mut self) {
        let oldest = self
            .by_endpoint
            .values_mut()
            .filter(|idle| !idle.is_empty())
            .min_by_key(|idle| idle.front().map(|one| one.since));
        if let Some(mut oldest) = oldest.and_then(VecDeque::pop_front) {
            oldest.socket.part();
            self.count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::recorder::Place;
    use crate::topology::Topology;
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener};
    use std::sync::Arc;
    use tokio::net::TcpStream;

    const PATIENCE: Duration = Duration::from_secs(60);

    struct Bench {
        pool: Pool,
        ids: Vec<EndpointId>,
        listener: TcpListener,
        _topology: Arc<Topology>,
    }

    impl Bench {
        fn new() -> Self {
            let text = "apiVersion: foreshade/v1\nlisteners: [{ name: web, address: 127.0.0.1:8080, routes: [{ cluster: \
                        shop }] }]\nclusters: [{ name: shop, endpoints: [{ name: a, address: 127.0.0.1:1 }, { name: b, \
                        address: 127.0.0.1:2 }] }]\n";
            let topology = Topology::new(config::parse(text, "test").unwrap());
            let id = |endpoint| topology.endpoint_id(Place { cluster: 0, endpoint }).unwrap();
            Self {
                pool: Pool::default(),
                ids: vec![id(0), id(1)],
                listener: TcpListener::bind("127.0.0.1:0").unwrap(),
                _topology: topology,
            }
        }

        /// A connection in the pool, and the endpoint's side of it.
        async fn keep(&self, endpoint: usize) -> (SocketAddr, std::net::TcpStream) {
            let tcp = TcpStream::connect(self.listener.local_addr().unwrap())
                .await
                .unwrap();
            let (server, address) = self.listener.accept().unwrap();
            self.pool.put(self.ids[endpoint], Socket::Plain(tcp));
            (address, server)
        }

        fn take(&self, endpoint: usize) -> Option<SocketAddr> {
            let to = To {
                address: self.listener.local_addr().unwrap(),
                limit: PATIENCE,
                tls: None,
            };
            let socket = self.pool.take(self.ids[endpoint], &to)?;
            Some(socket.tcp().local_addr().unwrap())
        }

        fn tidy(&self, seconds: u64) {
            let now = Moment::ZERO + Duration::from_secs(seconds);
            self.pool.tidy(now, |_| Some(PATIENCE));
        }

        fn count(&self) -> usize {
            self.pool.kept().count
        }
    }

    /// Lets the runtime learn what has happened to its sockets.
    async fn look_around() {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn the_last_one_in_is_the_first_one_out_and_each_endpoint_has_its_own() {
        let bench = Bench::new();
        let (first, _a) = bench.keep(0).await;
        let (second, _b) = bench.keep(0).await;
        let (other, _c) = bench.keep(1).await;
        assert_eq!(bench.take(0), Some(second));
        assert_eq!(bench.take(0), Some(first));
        assert_eq!(bench.take(0), None);
        assert_eq!(bench.take(1), Some(other));
        assert_eq!(bench.count(), 0);
    }

    #[tokio::test]
    async fn a_connection_that_has_ended_or_has_said_something_unasked_is_not_used() {
        let bench = Bench::new();
        let (quiet, _quiet) = bench.keep(0).await;
        let (_, ended) = bench.keep(0).await;
        let (_, mut talks) = bench.keep(0).await;
        drop(ended);
        talks.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").unwrap();
        look_around().await;
        assert_eq!(bench.take(0), Some(quiet));
        assert_eq!(bench.count(), 0);
    }

    #[tokio::test]
    async fn what_is_too_old_has_ended_or_is_whose_endpoint_is_gone_is_closed_without_being_asked_for() {
        let bench = Bench::new();
        let (_, _old) = bench.keep(0).await;
        bench.tidy(30);
        let (_, _ended) = bench.keep(0).await;
        let (young, _young) = bench.keep(0).await;
        let (_, _gone) = bench.keep(1).await;
        drop(_ended);
        look_around().await;
        bench.tidy(60);
        assert_eq!(bench.count(), 2, "one was too old, one has ended");
        let stays = bench.ids[0];
        let now = Moment::ZERO + Duration::from_secs(61);
        bench.pool.tidy(now, |id| (id == stays).then_some(PATIENCE));
        assert_eq!(bench.take(1), None);
        assert_eq!(bench.take(0), Some(young));
    }

    #[tokio::test]
    async fn beyond_the_limit_the_oldest_goes() {
        let bench = Bench::new();
        let (oldest, _server) = bench.keep(1).await;
        bench.tidy(1);
        let mut servers = Vec::new();
        for _ in 0..IDLE_MAX {
            servers.push(bench.keep(0).await);
        }
        assert_eq!(bench.count(), IDLE_MAX);
        assert_eq!(bench.take(1), None, "{oldest} was the oldest");
    }
}
