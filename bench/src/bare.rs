//! The yardstick: a bare pingora-proxy that only balances round robin, in the same worker layout as ours.
//!
//! Same layout means: per worker one thread, one `current_thread` runtime, one `SO_REUSEPORT` listener and one `HttpProxy`
//! with its own pool, and the very accept loop and stream of `foreshade-proxy`. So what is left between the two is what
//! foreshade adds to a request, and not a difference in how threads share sockets or how writes are gathered.
//!
//! The same server, told beforehand what is wrong with whom, is the [`oracle`]: how well anybody could do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use foreshade_proxy::server::{accept, listen};
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{HttpProxy, ProxyHttp, Session};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::bare::oracle::{Mind, Oracle, OracleOptions};
use crate::farm::EndpointSpec;

pub mod oracle;

/// What the proxy grants by default.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Idle upstream connections per worker; as many as ours keeps.
const KEPT_CONNECTIONS_MAX: usize = 1_024;

/// What to serve.
#[derive(Clone, Debug)]
pub struct BareOptions {
    /// Where users connect.
    pub listen: SocketAddr,
    /// Endpoints, used in turn; at least one. Only the oracle needs their names.
    pub upstreams: Vec<EndpointSpec>,
    /// Threads.
    pub workers: usize,
    /// What makes it an oracle.
    pub oracle: Option<OracleOptions>,
}

/// Serves until the process ends; fails when the address is taken or a thread cannot be made.
pub fn run(options: &BareOptions) -> io::Result<()> {
    listen::claim(options.listen)?;
    let mind = match &options.oracle {
        Some(oracle) => Some(Mind::awake(&options.upstreams, oracle)?),
        None => None,
    };
    let workers: Vec<_> = (0..options.workers.max(1))
        .map(|index| {
            let listener = listen::shared(options.listen)?;
            let (upstreams, mind) = (options.upstreams.clone(), mind.clone());
            std::thread::Builder::new()
                .name(format!("bare-{index}"))
                .spawn(move || match mind {
                    Some(mind) => work(listener, Oracle(mind)),
                    None => work(listener, RoundRobin::new(&upstreams)),
                })
        })
        .collect::<io::Result<_>>()?;
    for worker in workers {
        worker.join().map_err(|_| io::Error::other("a worker died"))??;
    }
    Ok(())
}

fn work<P>(listener: std::net::TcpListener, inner: P) -> io::Result<()>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: KEPT_CONNECTIONS_MAX,
        ..ServerConf::default()
    };
    let mut proxy = HttpProxy::new(inner, Arc::new(conf));
    proxy.handle_init_modules();
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        // Nobody asks it to stop: it is killed when the measurement ends.
        let (_running, stopped) = watch::channel(false);
        // No guard: what foreshade asks of a request is part of what it adds.
        let terms = || accept::Terms {
            idle_timeout: IDLE_TIMEOUT,
            guard: None,
        };
        accept::serve(listener, Arc::new(proxy), stopped, terms).await;
        Ok(())
    })
}

/// Picks upstreams in turn, and does nothing else.
struct RoundRobin {
    peers: Vec<HttpPeer>,
    /// Not contended: each worker has its own.
    turn: AtomicUsize,
}

impl RoundRobin {
    fn new(upstreams: &[EndpointSpec]) -> Self {
        let peer = |spec: &EndpointSpec| HttpPeer::new(spec.address, false, String::new());
        Self {
            peers: upstreams.iter().map(peer).collect(),
            turn: AtomicUsize::new(0),
        }
    }
}

#[async_trait]
impl ProxyHttp for RoundRobin {
    type CTX = ();

    fn new_ctx(&self) {}

    /// Without the compression module that the default would install: ours has none either.
    fn init_downstream_modules(&self, _: &mut pingora_core::modules::http::HttpModules) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora_core::Result<Box<HttpPeer>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let peer = self.peers.get(turn % self.peers.len().max(1));
        peer.map(|peer| Box::new(peer.clone())).ok_or_else(|| {
            pingora_core::Error::explain(pingora_core::ErrorType::ConnectNoRoute, "no upstream")
        })
    }
}
